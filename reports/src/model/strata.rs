//! What does happen, fault by fault of a plan.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Behind, CriticalFit, FaultTarget};

/// Outcomes of one fault of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Stratum {
    /// The fault in one line: target, model and what the model takes, such as
    /// `weight_code adjacent bits=3`.
    pub fault: String,
    /// What was struck.
    pub target: FaultTarget,
    /// Which bits flip together, such as `random` or `adjacent`.
    pub model: String,
    /// Number of trials.
    pub trials: u64,
    /// Trials with the same decision.
    pub masked: u64,
    /// Those of `masked` whose logits kept every bit; where no bit flipped at all they did.
    pub identical: u64,
    /// Trials with another decision.
    pub sdc: u64,
    /// Trials that were detected.
    pub due: u64,
    /// `sdc / trials`; null without trials.
    pub sdc_rate: Option<f64>,
    /// Lower end of its exact interval.
    pub sdc_rate_low: f64,
    /// Upper end of its exact interval.
    pub sdc_rate_high: f64,
    /// `due / trials`; null without trials.
    pub due_rate: Option<f64>,
    /// Lower end of its exact interval.
    pub due_rate_low: f64,
    /// Upper end of its exact interval.
    pub due_rate_high: f64,
    /// Bits that flipped, over all trials.
    pub flips: u64,
    /// Expected flips for each bit in a trial, where the fault is drawn by a rate.
    pub bit_error_rate: Option<f64>,
    /// Trials on labelled samples.
    pub labelled: u64,
    /// Those of `labelled` whose decision was right under the fault; a detected fault gives none.
    pub correct: u64,
    /// Those of `labelled` whose clean decision was right.
    pub clean_correct: u64,
    /// `correct / labelled`; null without such trials.
    pub accuracy: Option<f64>,
    /// Lower end of its exact interval.
    pub accuracy_low: f64,
    /// Upper end of its exact interval.
    pub accuracy_high: f64,
    /// Mean change of the negative log-likelihood at the read-out, of the right decision (of the
    /// clean one where none is known), in nats, over the trials that are not `due`; null without.
    pub mean_nll_change: Option<f64>,
    /// Its exponential: by what factor the perplexity of those decisions grows.
    pub perplexity_factor: Option<f64>,
    /// The same of changes that count as at most 8 nats each, up or down: of what has no largest
    /// value no number of trials bounds the mean.
    #[serde(default)]
    pub perplexity_factor_capped: Option<f64>,
    /// Lower end of its interval, by Hoeffding's bound; null without trials that are not `due`.
    #[serde(default)]
    pub perplexity_factor_capped_low: Option<f64>,
    /// Upper end of its interval, likewise.
    #[serde(default)]
    pub perplexity_factor_capped_high: Option<f64>,
    /// What a memory code made of the raw faults; null where the plan has none there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behind: Option<Behind>,
    /// Wrong decisions in 10^9 hours, behind the memory code if there is one; null where the fault
    /// is not drawn by failures in time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub critical_fit: Option<CriticalFit>,
}

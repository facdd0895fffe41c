//! What faults do to texts.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::FaultTarget;

/// Texts under the faults of the trials: each trial also continues the prompt of its sample
/// greedily, and is compared with the clean continuation, place by place. A fault of a weight stays
/// for the whole text; one of the cache falls once, at its own step of the prompt. A text ends
/// early with a token that ends texts, which is the last of it, and breaks off where a logit is NaN
/// or infinite, or where a reader that checks codes refuses the model. Behind its end it has no
/// token, and two texts without a token at a place are the same there. Behind a memory code a text
/// is that of what its decoder left; a trial in which a word was flagged is detected and has none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Generation {
    /// Tokens that each text was to have.
    pub tokens: u32,
    /// What became of the texts, by target.
    pub targets: Vec<GeneratedTarget>,
    /// The same for each fault of the plan behind a memory code, and what the same flips make of
    /// texts without the code; left out where the plan has none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub behind: Vec<GeneratedBehind>,
}

/// Texts under the faults of one target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GeneratedTarget {
    /// What was struck.
    pub target: FaultTarget,
    /// Number of trials, each with a text unless it was `detected`.
    pub trials: u64,
    /// Trials without a text, since a memory code flagged a word; left out where there is none.
    #[serde(default, skip_serializing_if = "none")]
    pub detected: u64,
    /// Texts that are not the clean one.
    pub diverged: u64,
    /// Those of `diverged` that broke off.
    pub broken_off: u64,
    /// Those of `diverged` that are the clean text again, place by place, from its last quarter on:
    /// the last fourth of its tokens, rounded down, but one at least.
    pub recovered: u64,
    /// `diverged / (trials - detected)`; null without texts.
    pub diverged_rate: Option<f64>,
    /// Lower end of its exact interval.
    pub diverged_rate_low: f64,
    /// Upper end of its exact interval.
    pub diverged_rate_high: f64,
    /// `(diverged - recovered) / (trials - detected)`, the share of texts that leave the clean one
    /// and are not the same again at its end; null without texts, and in reports that do not say.
    #[serde(default)]
    pub unrecovered_rate: Option<f64>,
    /// Lower end of its exact interval.
    #[serde(default)]
    pub unrecovered_rate_low: f64,
    /// Upper end of its exact interval.
    #[serde(default = "one")]
    pub unrecovered_rate_high: f64,
    /// Median, over `diverged`, of the first place that differs, from 0; the lower of two. Null
    /// where none diverged.
    pub median_first_divergence: Option<u32>,
    /// Mean number of places that differ, over `diverged`; null where none diverged.
    pub mean_different: Option<f64>,
}

/// Texts under one fault of a plan behind a memory code.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GeneratedBehind {
    /// The fault in one line, as in `faults.strata`.
    pub fault: String,
    /// Number of trials.
    pub trials: u64,
    /// Those without a text behind the code, since it flagged a word.
    pub detected: u64,
    /// The texts of what the decoder left.
    pub residual: Texts,
    /// The texts of the same flips of data without the code, one for each trial.
    pub raw: Texts,
}

/// What some texts came to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Texts {
    /// How many there are.
    pub texts: u64,
    /// Those that are not the clean one.
    pub diverged: u64,
    /// Those of `diverged` that broke off.
    pub broken_off: u64,
    /// Those of `diverged` that are the clean text again in its last quarter.
    pub recovered: u64,
    /// `diverged / texts`; null without texts.
    pub diverged_rate: Option<f64>,
    /// Lower end of its exact interval.
    pub diverged_rate_low: f64,
    /// Upper end of its exact interval.
    pub diverged_rate_high: f64,
    /// `(diverged - recovered) / texts`; null without texts.
    pub unrecovered_rate: Option<f64>,
    /// Lower end of its exact interval.
    pub unrecovered_rate_low: f64,
    /// Upper end of its exact interval.
    pub unrecovered_rate_high: f64,
    /// Median, over `diverged`, of the first place that differs, from 0; the lower of two. Null
    /// where none diverged.
    pub median_first_divergence: Option<u32>,
    /// Mean number of places that differ, over `diverged`; null where none diverged.
    pub mean_different: Option<f64>,
}

impl GeneratedTarget {
    /// Its texts; where trials and what was detected contradict each other, as if there were none.
    pub(crate) fn texts(&self) -> Texts {
        Texts {
            texts: self.trials.saturating_sub(self.detected),
            diverged: self.diverged,
            broken_off: self.broken_off,
            recovered: self.recovered,
            diverged_rate: self.diverged_rate,
            diverged_rate_low: self.diverged_rate_low,
            diverged_rate_high: self.diverged_rate_high,
            unrecovered_rate: self.unrecovered_rate,
            unrecovered_rate_low: self.unrecovered_rate_low,
            unrecovered_rate_high: self.unrecovered_rate_high,
            median_first_divergence: self.median_first_divergence,
            mean_different: self.mean_different,
        }
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it by reference")]
fn none(count: &u64) -> bool {
    *count == 0
}

fn one() -> f64 {
    1.0
}

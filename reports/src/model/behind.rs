//! Faults of a plan behind a memory code: raw and residual outcomes of the same flips.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::MemoryCode;

/// What a memory code made of the raw faults of one fault of a plan, and what would have come of
/// them without it.
///
/// `trials = harmless + detected + residual` and `trials = raw_masked + raw_sdc + raw_due`, with
/// the trials of the fault. Its own `masked`, `sdc` and `due` are behind the code: harmless ones
/// are masked, detected ones due, both without a run of the model.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Behind {
    /// The code.
    pub code: MemoryCode,
    /// Data bits of a word.
    pub word_bits: u64,
    /// Check bits of a word.
    pub check_bits: u64,
    /// Stored bits among which raw faults are drawn.
    pub stored_bits: u64,
    /// Those of them that are check bits; 0 where the fault model strikes data bits alone.
    pub stored_check_bits: u64,
    /// Trials after which the data were right.
    pub harmless: u64,
    /// Those in which the code flagged a word, so that no model ran.
    pub detected: u64,
    /// Those that reached the model unnoticed.
    pub residual: u64,
    /// Residual ones in which a decoder changed a bit that it should not have.
    pub miscorrected: u64,
    /// Share of raw faults that reach the model, `residual / trials`; null without trials.
    pub residual_rate: Option<f64>,
    /// Lower end of its exact interval.
    pub residual_rate_low: f64,
    /// Upper end of its exact interval.
    pub residual_rate_high: f64,
    /// Parameter vulnerability factor, `sdc / residual`; null where nothing was residual.
    pub pvf: Option<f64>,
    /// Lower end of its exact interval.
    pub pvf_low: f64,
    /// Upper end of its exact interval.
    pub pvf_high: f64,
    /// Trials whose flips of data keep the decision without the code.
    pub raw_masked: u64,
    /// Those that change it without the code.
    pub raw_sdc: u64,
    /// Those that the reader of the weights, or the read-out, notices without the code.
    pub raw_due: u64,
    /// `raw_sdc / trials`; null without trials.
    pub raw_sdc_rate: Option<f64>,
    /// Lower end of its exact interval.
    pub raw_sdc_rate_low: f64,
    /// Upper end of its exact interval.
    pub raw_sdc_rate_high: f64,
    /// `raw_due / trials`; null without trials.
    pub raw_due_rate: Option<f64>,
    /// Lower end of its exact interval.
    pub raw_due_rate_low: f64,
    /// Upper end of its exact interval.
    pub raw_due_rate_high: f64,
    /// Wrong decisions in 10^9 hours without the code, from and to, where the fault is drawn by
    /// failures in time; see `critical_fit` of the fault.
    pub raw_critical_fit: Option<CriticalFit>,
}

/// Wrong decisions in 10^9 hours: the share of windows of the plan's hours that end in one, each
/// begun with sound data, over those hours.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CriticalFit {
    /// Hours of a window.
    pub hours: f64,
    /// At least so many, by the exact interval of the share.
    pub low: f64,
    /// At most.
    pub high: f64,
}

//! What faults do to texts.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::FaultTarget;

/// Texts under the faults of the trials: each trial also continues the prompt of its sample
/// greedily, and is compared with the clean continuation, place by place. A fault of a weight stays
/// for the whole text; one of the cache falls once, at its own step of the prompt. A text ends
/// early with a token that ends texts, which is the last of it, and breaks off where a logit is NaN
/// or infinite, or where a reader that checks codes refuses the model. Behind its end it has no
/// token, and two texts without a token at a place are the same there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Generation {
    /// Tokens that each text was to have.
    pub tokens: u32,
    /// What became of the texts, by target.
    pub targets: Vec<GeneratedTarget>,
}

/// Texts under the faults of one target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GeneratedTarget {
    /// What was struck.
    pub target: FaultTarget,
    /// Number of trials, each with a text.
    pub trials: u64,
    /// Texts that are not the clean one.
    pub diverged: u64,
    /// Those of `diverged` that broke off.
    pub broken_off: u64,
    /// Those of `diverged` that are the clean text again, place by place, from its last quarter on:
    /// the last fourth of its tokens, rounded down, but one at least.
    pub recovered: u64,
    /// `diverged / trials`; null without trials.
    pub diverged_rate: Option<f64>,
    /// Lower end of its exact interval.
    pub diverged_rate_low: f64,
    /// Upper end of its exact interval.
    pub diverged_rate_high: f64,
    /// Median, over `diverged`, of the first place that differs, from 0; the lower of two. Null
    /// where none diverged.
    pub median_first_divergence: Option<u32>,
    /// Mean number of places that differ, over `diverged`; null where none diverged.
    pub mean_different: Option<f64>,
}

//! Campaigns that end when they know enough, and intervals that hold then.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a campaign ended because its rates were known closely enough.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UntilPrecision {
    /// The half-width that every interval below was to reach, such as 0.001.
    pub half_width: f64,
    /// Whether all of them did before the trials were used up.
    pub reached: bool,
    /// Rates by fault of the plan, in its order. With the confidence of the report all of them hold
    /// together, whenever the campaign ended.
    pub rates: Vec<AnytimeRate>,
}

/// A silent-corruption rate with an interval that holds at all times.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AnytimeRate {
    /// The fault, as in the plan's outcomes.
    pub fault: String,
    /// Its trials.
    pub trials: u64,
    /// Trials with another decision.
    pub sdc: u64,
    /// `sdc / trials`; null without trials.
    pub sdc_rate: Option<f64>,
    /// Lower end of the interval.
    pub sdc_rate_low: f64,
    /// Upper end of the interval.
    pub sdc_rate_high: f64,
}

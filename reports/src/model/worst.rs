//! The worst case, proven: how many flips provably change no answer.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::RowsLevel;

/// The certified flip budget of a tensor, a layer or the model: the most bits of its 2-bit weight
/// codes that can be flipped at once, anywhere in it, and provably change no answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FlipBudget {
    /// The most flips that were searched: a budget that is as large may be larger in truth.
    pub flips_searched: u32,
    /// The budget of each sample that was tried, the first samples in their order; 0 where not even
    /// one flip is proven harmless.
    pub samples: Vec<u32>,
    /// The smallest.
    pub min: u32,
    /// The median; the lower of two in the middle.
    pub median: u32,
    /// Share of the samples with a budget of 1 or more.
    pub share_at_least_one: f64,
}

/// What is proven of flips anywhere in the weight codes of the model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelFlips {
    /// Number of samples that were tried.
    pub pairs: u64,
    /// What is proven, from few flips to many, which all layers share.
    pub levels: Vec<RowsLevel>,
    /// The certified budget; null where no sample was tried.
    pub budget: Option<FlipBudget>,
    /// Why none was tried.
    pub reason: Option<String>,
}

//! The worst case, proven: how many flips provably change no answer.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{FaultTarget, RowsLevel};

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

/// What the bits of a stored key or value mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CacheBits {
    /// The lower seven bits of an 8-bit code.
    Code,
    /// The mantissa of a float.
    Mantissa,
    /// The exponent of a float: a flip may leave the range of what is bounded.
    Exponent,
    /// The sign, and the highest bit of an 8-bit code.
    Sign,
}

impl CacheBits {
    /// Whether the bit of a storage type, counted from the lowest, is one of these.
    pub(super) fn holds(self, target: FaultTarget, bit: u32) -> bool {
        let (mantissa, exponent) = match target {
            FaultTarget::KvF32 => (23, 31),
            FaultTarget::KvF16 => (10, 15),
            FaultTarget::KvInt8 => return (bit < 7) == (self == Self::Code),
            _ => return self == Self::Sign,
        };
        let of = if bit < mantissa {
            Self::Mantissa
        } else if bit < exponent {
            Self::Exponent
        } else {
            Self::Sign
        };
        self == of
    }
}

/// What is proven about any single flip of a bit of a stored key or value, on some samples,
/// whenever it strikes. What is stored beside the entries, such as the scales of 8-bit codes, is
/// not struck.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CacheProven {
    /// 0-based layer.
    pub layer: u32,
    /// The storage type, as it is struck by the campaign.
    pub target: FaultTarget,
    /// Which bits.
    pub bits: CacheBits,
    /// Number of samples that were tried, the first ones.
    pub samples: u64,
    /// Number of pairs (bit, sample), each for every step at which it can strike.
    pub pairs: u64,
    /// Those that are proven masked.
    pub proven_masked: u64,
    /// Their share; null where none was tried.
    pub proven_masked_share: Option<f64>,
    /// Those of which nothing is known, because what leaves the layer is not finite.
    pub unknown: u64,
    /// No such flip changes any logit at the read-out by more; null where that is not bounded.
    pub logit_change_bound: Option<f64>,
    /// Why the bound is null.
    pub reason: Option<String>,
}

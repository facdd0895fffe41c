//! What does happen: outcomes of bit flips, with exact intervals, and what bounds prove about them.
//!
//! `trials = masked + sdc + due` in every row; `identical` is the part of `masked` whose logits
//! kept every bit. Rates are null where nothing was tried, and their interval is then [0, 1].

use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    CacheProven, Encoding, Exhaustive, FlipBudget, Generation, KvStorage, Method, ModelFlips,
    Protected, StoredBits, Stratum, TritDirection, UntilPrecision, UnusedCode,
};

/// Everything that the fault campaign and its bounds found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Faults {
    /// Seed of the campaign: trial i is a pure function of it, the model, the inputs and i.
    pub seed: u64,
    /// Number of trials over all targets.
    pub trials: u64,
    /// Number of bits flipped together in one trial; 0 where that differs from fault to fault of
    /// the plan.
    pub flips: u32,
    /// Confidence of the intervals, such as 0.99.
    pub confidence: f64,
    /// What the unused code of a 2-bit packing means.
    pub unused_code: UnusedCode,
    /// How the KV cache is stored.
    pub kv: KvStorage,
    /// Outcomes by target.
    pub targets: Vec<Target>,
    /// Outcomes by layer.
    pub layers: Vec<LayerRate>,
    /// Outcomes by bit position.
    pub bits: Vec<BitRate>,
    /// One flip of any stored bit of the model; null where trials flip several bits.
    #[serde(default)]
    pub stored_bits: Option<StoredBits>,
    /// What assignments of 2-bit codes to weights do to single flips, fewest sign flips first.
    #[serde(default)]
    pub encodings: Vec<Encoding>,
    /// What five weights in a byte do to single flips, by direction, beside these assignments.
    #[serde(default)]
    pub trit_bytes: Vec<TritDirection>,
    /// Raw faults of packed weights behind memory codes.
    #[serde(default)]
    pub protection: Vec<Protected>,
    /// The worst faults seen, worst first.
    pub worst: Vec<Worst>,
    /// What is proven about every single fault, layer by layer.
    pub bounds: Vec<Bound>,
    /// Which rows are proven harmless under several flips at once: those of the down projections,
    /// layer by layer, then some of the other tensors.
    #[serde(default)]
    pub rows_proven: Vec<RowsProven>,
    /// Which whole tensors and layers are proven harmless under several flips at once.
    #[serde(default)]
    pub flips_proven: Vec<FlipsProven>,
    /// The same of the whole model, whose layers then share the flips; null where nothing was
    /// proven of faults.
    #[serde(default)]
    pub flips_proven_in_model: Option<ModelFlips>,
    /// What is proven of single flips of stored keys and values, layer by layer.
    #[serde(default)]
    pub cache_proven: Vec<CacheProven>,
    /// Where the campaign ended because its rates were known closely enough; null where the number
    /// of trials was fixed. All other intervals hold for a fixed number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_precision: Option<UntilPrecision>,
    /// The map of every single-bit fault of packed weights; null where faults were drawn. Where it
    /// is there, every rate of `targets`, `layers` and `bits` is exact: both ends of its interval
    /// are the rate itself. Of a part of a map they are what the rate of the whole would be, were
    /// none or all of the other faults such events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exhaustive: Option<Exhaustive>,
    /// What the faults do to texts; null where none were generated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<Generation>,
    /// The plan of a campaign by `faults`, normalised: the TOML that `faults run --plan` reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
    /// Outcomes by fault of that plan, in its order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub strata: Vec<Stratum>,
}

/// What a fault strikes.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum FaultTarget {
    /// The code of a weight.
    WeightCode,
    /// A scale of weights: of a tensor, a row or a block.
    WeightScale,
    /// A gain of a norm.
    Norm,
    /// An embedding.
    Embedding,
    /// A weight of the read-out.
    LmHead,
    /// A weight of a linear layer that is stored as a float.
    WeightFloat,
    /// An entry of a 32-bit float KV cache.
    KvF32,
    /// An entry of a 16-bit float KV cache.
    KvF16,
    /// An entry of an 8-bit KV cache.
    KvInt8,
    /// An entry of a 1-bit KV cache.
    #[serde(rename = "kv_1bit")]
    Kv1bit,
    /// A scale beside the entries of an 8-bit KV cache.
    KvInt8Scale,
    /// A scale beside the entries of a 1-bit KV cache.
    #[serde(rename = "kv_1bit_scale")]
    Kv1bitScale,
}

impl FaultTarget {
    /// Every target, in the order of reports.
    pub const ALL: [Self; 12] = [
        Self::WeightCode,
        Self::WeightScale,
        Self::Norm,
        Self::Embedding,
        Self::LmHead,
        Self::WeightFloat,
        Self::KvF32,
        Self::KvF16,
        Self::KvInt8,
        Self::Kv1bit,
        Self::KvInt8Scale,
        Self::Kv1bitScale,
    ];

    /// The word in the JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::WeightCode => "weight_code",
            Self::WeightScale => "weight_scale",
            Self::Norm => "norm",
            Self::Embedding => "embedding",
            Self::LmHead => "lm_head",
            Self::WeightFloat => "weight_float",
            Self::KvF32 => "kv_f32",
            Self::KvF16 => "kv_f16",
            Self::KvInt8 => "kv_int8",
            Self::Kv1bit => "kv_1bit",
            Self::KvInt8Scale => "kv_int8_scale",
            Self::Kv1bitScale => "kv_1bit_scale",
        }
    }
}

/// A word that names no fault target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown fault target {0:?}")]
pub struct ParseTargetError(pub String);

impl FromStr for FaultTarget {
    type Err = ParseTargetError;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|target| target.name() == word);
        found.ok_or_else(|| ParseTargetError(word.to_owned()))
    }
}

/// What became of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The decision is the same.
    Masked,
    /// Silent data corruption: the decision changed and nothing noticed.
    Sdc,
    /// Detected: NaN or infinity at the read-out, or a detector that was asked for.
    Due,
}

/// Outcomes of one target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// What was struck.
    pub target: FaultTarget,
    /// Number of trials.
    pub trials: u64,
    /// Trials with the same decision.
    pub masked: u64,
    /// Those of `masked` whose logits kept every bit.
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
    /// Trials in which the most likely token changed at any position.
    pub any_token_changes: u64,
    /// Mean Kullback-Leibler divergence from the clean distribution, in nats; over the trials that
    /// are not `due`, as are the three below. Null where there is none.
    pub mean_kl: Option<f64>,
    /// The largest.
    pub max_kl: Option<f64>,
    /// Mean change of the negative log-likelihood of the right decision, in nats.
    pub mean_nll_change: Option<f64>,
    /// Mean loss of margin, in logits.
    pub mean_margin_loss: Option<f64>,
}

/// Outcomes of one target in one layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LayerRate {
    /// 0-based layer; null for what belongs to none.
    pub layer: Option<u32>,
    /// What was struck.
    pub target: FaultTarget,
    /// Number of trials.
    pub trials: u64,
    /// Trials with the same decision.
    pub masked: u64,
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
}

/// Outcomes of one target at one bit position.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BitRate {
    /// What was struck.
    pub target: FaultTarget,
    /// Bit of the stored value; 0 is the lowest.
    pub bit: u32,
    /// Number of trials.
    pub trials: u64,
    /// Trials with the same decision.
    pub masked: u64,
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
}

/// One of the worst faults seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Worst {
    /// 1 is the worst.
    pub rank: u32,
    /// Logical address of the bit, or of the first where several were flipped.
    pub address: String,
    /// What was struck.
    pub target: FaultTarget,
    /// Index of the sample.
    pub sample: u64,
    /// What became of it.
    pub outcome: Outcome,
    /// Largest change of any logit; null where not finite.
    pub max_logit_change: Option<f64>,
    /// Loss of margin, in logits; null where not finite.
    pub margin_loss: Option<f64>,
    /// Kullback-Leibler divergence, in nats; null where not finite.
    pub kl: Option<f64>,
    /// The clean decision.
    pub prediction_before: u32,
    /// The decision under the fault; null where there is none.
    pub prediction_after: Option<u32>,
}

/// What is proven about every fault in one layer, on these inputs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Bound {
    /// 0-based layer.
    pub layer: u32,
    /// Number of weight bits flipped together.
    pub flips: u32,
    /// No flip of any code of the layer changes any logit by more than this; null where the bound
    /// diverged, and where not all of the layer's codes are bounded.
    pub logit_change_bound: Option<f64>,
    /// Share of the pairs (bit, sample) that are proven masked.
    pub proven_masked_share: f64,
    /// Number of those pairs: all bits of codes of the layer, those that are not bounded too.
    pub pairs: u64,
    /// Why the bound is null.
    pub reason: Option<String>,
}

/// Which rows of one tensor are proven harmless, on these inputs, whatever happens in the
/// row. A row under any k flips means: at most k bits of its 2-bit codes flipped, anywhere in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RowsProven {
    /// 0-based layer.
    pub layer: u32,
    /// Tensor whose rows are meant, such as `mlp.down_proj`.
    pub tensor: String,
    /// Number of its rows; 0 where their sums are not integers.
    pub rows_total: u64,
    /// Number of rows that were tried, spread evenly, on each sample that was.
    pub rows_tried: u64,
    /// Number of pairs (row, sample) that were tried.
    pub pairs: u64,
    /// What is proven, from few flips to arbitrary codes.
    pub levels: Vec<RowsLevel>,
    /// Why none was tried.
    pub reason: Option<String>,
}

/// On which samples one tensor, or one layer, is proven harmless whatever so many flips do in it:
/// at most k bits of its 2-bit codes flipped, anywhere in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FlipsProven {
    /// 0-based layer.
    pub layer: u32,
    /// Tensor, such as `mlp.down_proj`; `layer` for all tensors of the layer, which then share the
    /// flips.
    pub tensor: String,
    /// Number of pairs (this tensor or layer, sample) that were tried: of samples.
    pub pairs: u64,
    /// What is proven, from few flips to many.
    pub levels: Vec<RowsLevel>,
    /// The certified budget; null where no sample was tried.
    #[serde(default)]
    pub budget: Option<FlipBudget>,
    /// Why none was tried.
    pub reason: Option<String>,
}

/// What is proven about rows, a tensor or a layer under some number of flips.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RowsLevel {
    /// At most so many bits flipped in the row, tensor or layer; null for arbitrary codes in all of
    /// a row.
    pub flips: Option<u32>,
    /// Number of pairs whose decision provably stays.
    pub proven: u64,
    /// Their share of the pairs; null where none was tried.
    pub proven_share: Option<f64>,
    /// How many of them each method proved.
    pub methods: Vec<RowsMethod>,
    /// No such flips change any logit at the read-out of any sample that was tried by more; null
    /// where that is not bounded, and for rows.
    #[serde(default)]
    pub logit_change_bound: Option<f64>,
}

/// What one method proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RowsMethod {
    /// The method.
    pub method: Method,
    /// Number of pairs.
    pub proven: u64,
}

//! How far answers can move when inputs do, and what makes affine forms wide.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Method;

/// For any two points of a set, `change out <= bound * change in + slack`, the largest change of
/// any value of the residual stream, out and in.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LipschitzBound {
    /// The factor: units of the stream that leaves by units of the one that enters.
    pub bound: f64,
    /// What rounding, and whatever bounds do not follow, may add: units of the stream that leaves.
    pub slack: f64,
    /// How it was computed: of two methods the one that allows less over the whole set.
    pub method: Method,
}

/// The same from the rows that move to the margins of the decision over all other classes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MarginLipschitz {
    /// The factor: logits by units of the input, whose change is measured in `norm` over all rows
    /// that move together. The largest over the samples that are right, on the balls of epsilon.
    pub bound: f64,
    /// What rounding, and whatever bounds do not follow, may add, in logits.
    pub slack: f64,
    /// How it was computed.
    pub method: Method,
    /// A contrast: the power of ten in the product of constants that hold everywhere, one a norm,
    /// layer and head, in the maximum norm and without any rounding; null where it is infinite.
    pub global_product_power: Option<i32>,
}

/// What made the bounds of affine forms at `epsilon` wide, over the samples on which these were
/// tried: of each the set with the least margin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FormsGrowth {
    /// Number of samples on which forms were tried.
    pub samples: u64,
    /// One entry for each step behind which forms were taken, in the order of the walk.
    pub steps: Vec<FormsStep>,
    /// Number of samples with a margin that forms had to bound: those that `sources` speaks of.
    pub margins: u64,
    /// What the uncertainty of the worst margin is made of, the largest share first; the shares
    /// add up to 1.
    pub sources: Vec<MarginSource>,
}

/// Width of affine forms after one step of the walk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FormsStep {
    /// 0-based layer; null for the read-out after the last layer.
    pub layer: Option<u32>,
    /// Step of the walk, as in `growth`.
    pub step: String,
    /// Median over the samples of the median width of all values.
    pub width_median: f64,
    /// Median over the samples of the number of noise symbols that a row has.
    pub symbols_median: f64,
}

/// A part of the radius of the worst margin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MarginSource {
    /// 0-based layer in which it was made; null for the input.
    pub layer: Option<u32>,
    /// Step at which it was made: as in `growth`, codes by the layer that reads them (`qkv_codes`,
    /// `attn_out_codes`, `gate_up_codes`, `down_codes`); null for the input.
    pub step: Option<String>,
    /// Why it was made.
    pub kind: SourceKind,
    /// Mean over the samples of its share of the radius, in [0, 1].
    pub share: f64,
}

/// Why a bound got wider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SourceKind {
    /// The input moves, and the margin with it.
    Input,
    /// Values are rounded to codes.
    Rounding,
    /// A step is not linear, or only known as a box; and what float operations round.
    Remainder,
}

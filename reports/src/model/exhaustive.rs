//! What every single-bit fault of the packed weights does: a map, where nothing is estimated.
//!
//! A fault here is a pair (bit, sample); `decided = masked + sdc + due` in every row.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Every single-bit fault of packed weights, on every sample of the map.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Exhaustive {
    /// The plan of the map, as its journal keeps it.
    pub plan: String,
    /// Samples of the map: the first so many.
    pub samples: u64,
    /// Single-bit faults on each of them: two for each packed weight.
    pub bits: u64,
    /// Pairs (bit, sample): `bits * samples`.
    pub pairs: u64,
    /// Pairs that were decided; fewer than all only where the report is of a part of the map.
    pub decided: u64,
    /// Pairs with the same decision.
    pub masked: u64,
    /// Those of `masked` whose logits kept every bit, as far as they were run.
    pub identical: u64,
    /// Pairs with another decision.
    pub sdc: u64,
    /// Pairs that were detected.
    pub due: u64,
    /// `sdc / decided`, exact: it is no estimate and has no interval. Null where none was decided.
    pub sdc_share: Option<f64>,
    /// How the pairs were decided.
    pub effort: Effort,
    /// Outcomes by bit of the code and by the value it had.
    pub bit_rows: Vec<MapBit>,
    /// Outcomes by tensor, in the order of the walk.
    pub tensors: Vec<MapTensor>,
}

/// How faults were decided; all but `early` add up to the faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Effort {
    /// Run, each for itself: the distinct effects.
    pub executed: u64,
    /// Those of `executed` whose state was the clean one again before the read-out.
    pub early: u64,
    /// Not run, since another fault of the same row changes its sums alike.
    pub collapsed: u64,
    /// Not run, since they change no sum, or a reader that checks codes refuses them.
    pub still: u64,
    /// Not run, since a sound bound keeps the decision.
    pub proven: u64,
}

/// Outcomes of one bit of the codes, flipped in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MapBit {
    /// Bit of the code; 0 is the low one.
    pub bit: u32,
    /// The value that the bit had, 0 or 1, before it was flipped.
    pub from: u32,
    /// Pairs (bit, sample) that were decided.
    pub decided: u64,
    /// Pairs with the same decision.
    pub masked: u64,
    /// Those of `masked` whose logits kept every bit, as far as they were run.
    pub identical: u64,
    /// Pairs with another decision.
    pub sdc: u64,
    /// Pairs that were detected.
    pub due: u64,
    /// `sdc / decided`; null where none was decided.
    pub sdc_share: Option<f64>,
}

/// Outcomes of one tensor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MapTensor {
    /// 0-based layer.
    pub layer: u32,
    /// Tensor, such as `mlp.down_proj`.
    pub tensor: String,
    /// Its rows: outputs.
    pub rows: u64,
    /// Its columns: inputs.
    pub columns: u64,
    /// Pairs (bit, sample) that were decided.
    pub decided: u64,
    /// Pairs with the same decision.
    pub masked: u64,
    /// Those of `masked` whose logits kept every bit, as far as they were run.
    pub identical: u64,
    /// Pairs with another decision.
    pub sdc: u64,
    /// Pairs that were detected.
    pub due: u64,
    /// `sdc / decided`; null where none was decided.
    pub sdc_share: Option<f64>,
    /// Largest change of any logit at a read-out, by faults that were run; null where not finite or
    /// nothing was run.
    pub max_logit_change: Option<f64>,
    /// Largest loss of margin, in logits; 0 where no margin fell, null as above.
    pub max_margin_loss: Option<f64>,
    /// How the pairs were decided.
    pub effort: Effort,
    /// Outcomes by bit of the code and by the value it had.
    pub bit_rows: Vec<MapBit>,
    /// Silent corruption by rows: at most 64 bins that follow one another, all of as many rows but
    /// the last.
    pub bins: Vec<MapBin>,
}

/// Silent corruption in rows that follow one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MapBin {
    /// Its first row.
    pub first_row: u64,
    /// Its rows.
    pub rows: u64,
    /// Pairs (bit, sample) that were decided, by bit of the code, the low one first.
    pub decided: [u64; 2],
    /// Those with another decision, likewise.
    pub sdc: [u64; 2],
}

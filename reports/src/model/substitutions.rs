//! Tokens that stand for others: what is proven for the hull of their embeddings, and what the
//! engine says of real substitutions.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Method, StepAt, Verdict};

/// Everything about substitutions of tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Substitutions {
    /// How many nearest tokens may stand for each; null where a file gives the sets.
    pub subst_nearest: Option<u32>,
    /// Which positions change: `all` at once, `each` alone, or a 0-based one.
    pub subst_scope: String,
    /// Samples whose decision is proven for every point of the hull, so for every substitution.
    pub subst_certified: u64,
    /// Samples of which a substitution that was run decides otherwise, the clean input included.
    pub subst_falsified: u64,
    /// Samples with neither.
    pub subst_unknown: u64,
    /// Samples of which every substitution was run.
    pub subst_exhaustive: u64,
    /// Share certified, of the labelled samples, or of all where none has a label.
    pub subst_cert_acc: f64,
    /// Share of the same samples whose decision no substitution that was run changed.
    pub subst_attacked_acc: f64,
    /// One entry for each sample, in the order of the data.
    pub subst_samples: Vec<SubstSample>,
}

/// One sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SubstSample {
    /// 0-based index in the data.
    pub index: u64,
    /// The verdict on all substitutions.
    pub subst_verdict: Verdict,
    /// The method behind which all was proven; null where the verdict is not certified.
    pub subst_decided_by: Option<Method>,
    /// Lower bound of the margin on the hulls; null where a bound was lost.
    pub subst_margin_lower_bound: Option<f64>,
    /// The step at which the bound was lost; null where it was not.
    pub subst_lost_at: Option<StepAt>,
    /// Positions at which another token may stand.
    pub subst_positions: u64,
    /// Substitutions, the clean input not counted; null beyond 64 bits.
    pub subst_combinations: Option<u64>,
    /// How many of them were run: all, or some that were drawn, with repetition.
    pub subst_tried: u64,
    /// How many of those decide otherwise.
    pub subst_changed: u64,
    /// Whether all were run.
    pub subst_exhaustive: bool,
    /// The first substitution that decides otherwise, where there is one.
    pub subst_witness: Option<SubstWitness>,
}

/// A substitution that decides otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SubstWitness {
    /// All tokens of the changed sample.
    pub input_ids: Vec<u32>,
    /// Its decision; null where a logit is not a number.
    pub prediction: Option<u32>,
}

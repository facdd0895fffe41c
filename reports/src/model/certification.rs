//! What cannot happen: verdicts and radii, sample by sample and layer by layer.
//!
//! A radius that was certified is 0 rather than null where nothing was (0 is what was proven); a
//! radius that was found by attack is null where none was found. A bound that diverged is null and
//! has its reason beside it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    EpsilonRow, EpsilonUnit, FormsGrowth, LipschitzBound, MarginLipschitz, Method, MethodRadius,
    MethodSummary, MethodTry, Norm,
};

/// Everything that certification and attack found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Certification {
    /// The radius that verdicts speak of, as typed: the first where several were.
    pub epsilon: String,
    /// Its value as the engine used it, in `epsilon_unit`.
    pub epsilon_value: f64,
    /// What `epsilon_value` and the epsilons of `curve` are measured in.
    pub epsilon_unit: EpsilonUnit,
    /// The norm that measures it.
    pub norm: Norm,
    /// How many of the last layers the claim speaks of: the residual stream that enters them moves,
    /// and not the embeddings; null for all layers.
    pub suffix: Option<u32>,
    /// Which embeddings move: `all`, `each`, or a 0-based position.
    pub scope: String,
    /// How bounds were computed.
    pub method: Method,
    /// Number of samples with a label.
    pub labelled: u64,
    /// Number of samples without one.
    pub unlabelled: u64,
    /// Share of labelled samples that are right on the clean input; null without labels.
    pub clean_acc: Option<f64>,
    /// Share of labelled samples that are right on the whole ball; null without labels.
    pub cert_acc: Option<f64>,
    /// Number of samples certified at `epsilon`.
    pub certified: u64,
    /// Number of samples with a counter-example, the clean input included.
    pub falsified: u64,
    /// Number of samples with neither.
    pub unknown: u64,
    /// Largest certified radius of any sample.
    pub largest_certified_epsilon: f64,
    /// Median certified radius over all samples.
    pub median_certified_radius: f64,
    /// Median over the samples of the certified radius relative to the root mean square of the rows
    /// that move.
    pub median_certified_radius_rel: f64,
    /// Median attack radius over the samples that have one.
    pub median_attack_radius: Option<f64>,
    /// Median of attack radius by certified radius, over the samples that have both above 0.
    pub median_attack_ratio: Option<f64>,
    /// How many of the last layers hold at `epsilon` when the residual stream that enters them
    /// moves; null where layers were not analysed.
    pub deepest_certified_suffix: Option<u32>,
    /// Radius around the stream that leaves the last layer, so that of the final norm and the head
    /// alone: the minimum over the samples that are right; null where layers were not analysed.
    pub readout_certified_radius: Option<f64>,
    /// The median over the same samples.
    pub readout_certified_radius_median: Option<f64>,
    /// The first step at which the bound at `epsilon` is lost; null where it is not.
    pub first_lost_layer: Option<FirstLost>,
    /// Next-token positions that hold; null unless every position was asked for.
    pub next_token: Option<NextToken>,
    /// One entry for each way to prove that could be tried, cheap ones first.
    pub methods: Vec<MethodSummary>,
    /// One entry for each epsilon that was asked for, in the order typed.
    pub epsilons: Vec<EpsilonRow>,
    /// One entry for each sample, in the order of the data.
    pub samples: Vec<Sample>,
    /// One entry for each layer that the claim speaks of.
    pub layers: Vec<Layer>,
    /// Accuracy against epsilon, in increasing epsilon, in `epsilon_unit`.
    pub curve: Vec<CurvePoint>,
    /// Width of the bounds at `epsilon` after each step of the walk, in the order of the walk.
    pub growth: Vec<Growth>,
    /// The same of affine forms, and what they were made wide by; null where none were tried.
    pub growth_of_forms: Option<FormsGrowth>,
    /// Number of samples that all Lipschitz bounds speak of: the first of those that are right.
    pub lipschitz_samples: u64,
    /// How far the margins of the decision move with the rows; null where layers were not analysed
    /// or the bound was lost.
    pub margin_lipschitz: Option<MarginLipschitz>,
}

/// The first step at which a bound is lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FirstLost {
    /// 0-based layer; null for the read-out after the last layer.
    pub layer: Option<u32>,
    /// Step of the walk, such as `attention`.
    pub step: String,
    /// What happened there.
    pub why: String,
}

/// Next-token positions over all samples.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NextToken {
    /// Number of positions.
    pub positions: u64,
    /// Share of them whose decision holds at epsilon.
    pub certified_share: f64,
}

/// One sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// 0-based index in the data.
    pub index: u64,
    /// The right decision, where known.
    pub label: Option<u32>,
    /// The decision on the clean input.
    pub prediction: u32,
    /// Whether they agree; null without a label.
    pub correct: Option<bool>,
    /// The radius of this sample's ball: `epsilon` in absolute terms.
    pub epsilon_value: f64,
    /// The same relative to `stream_rms`; null where that is 0.
    pub epsilon_rel: Option<f64>,
    /// Root mean square of the clean rows: the embeddings, or the stream that enters the suffix.
    pub stream_rms: f64,
    /// The verdict at epsilon.
    pub verdict: Verdict,
    /// The method behind which all was proven; null where the verdict is not certified.
    pub decided_by: Option<Method>,
    /// What each method that was tried found at epsilon, cheap ones first.
    pub methods: Vec<MethodTry>,
    /// Why it is not certified; null when it is.
    pub why: Option<String>,
    /// Clean margin of the decision over the next class, in logits; null where it is not finite.
    pub margin: Option<f64>,
    /// Lower bound of the margin on the whole ball; null where the bound diverged.
    pub margin_lower_bound: Option<f64>,
    /// Largest epsilon that was certified, 0 where none was.
    pub certified_radius: f64,
    /// The same relative to `stream_rms`; null where that is 0.
    pub certified_radius_rel: Option<f64>,
    /// The largest epsilon that each method proved alone; empty where no radius was searched.
    pub radius_by_method: Vec<MethodRadius>,
    /// Smallest epsilon at which the attack changed the decision; null where it did not.
    pub attack_radius: Option<f64>,
    /// Attack radius by certified radius; null unless both are above 0.
    pub attack_ratio: Option<f64>,
    /// Half the certified margin: the verdict holds for every runtime whose logits stay strictly
    /// closer than this on the whole ball.
    pub runtime_slack: Option<f64>,
    /// Positions that hold; null unless every position was asked for.
    pub positions: Option<PositionCount>,
    /// The counter-example, where there is one.
    pub witness: Option<Witness>,
}

/// The verdict on one sample. Only `certified` is a proof that it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The decision holds on the whole ball.
    Certified,
    /// There is a counter-example in the ball.
    Falsified,
    /// Neither was shown.
    Unknown,
}

/// How many positions of a sample hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PositionCount {
    /// Positions whose decision holds.
    pub certified: u64,
    /// Positions read.
    pub total: u64,
}

/// A counter-example that re-runs bit for bit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Witness {
    /// How it was found.
    pub kind: WitnessKind,
    /// Its distance from the clean input.
    pub epsilon: f64,
    /// The decision there.
    pub prediction: u32,
}

/// How a counter-example was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WitnessKind {
    /// The clean input is wrong already.
    Clean,
    /// A random point of the ball.
    Random,
    /// A corner of the ball.
    Corner,
    /// A descent along a gradient or its estimate.
    Gradient,
}

/// One layer, seen from the residual stream that enters it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Layer {
    /// 0-based layer.
    pub index: u32,
    /// Radius around the stream that enters the layer, all positions at once: the minimum over the
    /// samples that are right.
    pub certified_radius: f64,
    /// The median over the same samples.
    pub certified_radius_median: f64,
    /// `certified_radius` relative to `stream_rms`.
    pub certified_radius_rel: f64,
    /// Root mean square of the stream that enters the layer.
    pub stream_rms: f64,
    /// Local Lipschitz bound of the layer, linf to linf, on the box that epsilon reaches: the
    /// largest over `lipschitz_samples` samples.
    pub lipschitz_bound: Option<f64>,
    /// Additive slack of that bound, from rounding steps that are not Lipschitz.
    pub lipschitz_slack: Option<f64>,
    /// How both were computed: of two methods the one that allows less over the whole box.
    pub lipschitz_method: Option<Method>,
    /// The same from the stream before attention to the stream behind its residual addition; null
    /// where it was lost, and for large models.
    pub attention_lipschitz: Option<LipschitzBound>,
    /// The same from there to the stream behind the feed-forward block.
    pub ffn_lipschitz: Option<LipschitzBound>,
    /// Largest width of the bounds that enter the layer at epsilon.
    pub width_in: Option<f64>,
    /// Largest width of the bounds that leave it.
    pub width_out: Option<f64>,
    /// Why one of the above is null.
    pub reason: Option<String>,
}

/// Accuracy at one epsilon: of labelled samples, or where none has a label, of clean decisions
/// kept.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CurvePoint {
    /// The radius, in `epsilon_unit`.
    pub epsilon: f64,
    /// Share certified there: accuracy cannot be lower.
    pub certified_acc: f64,
    /// Share that the attack did not change there: accuracy cannot be higher; null without attack.
    pub attacked_acc: Option<f64>,
}

/// Width of the bounds after one step of the walk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Growth {
    /// 0-based layer; null for steps before the first and after the last layer.
    pub layer: Option<u32>,
    /// Step of the walk: `input_norm`, `qkv`, `attention`, `attn_out`, `ffn_norm`, `gate`, `down`,
    /// `logits`, and so on.
    pub step: String,
    /// Median width over the components; null where not finite.
    pub width_median: Option<f64>,
    /// Largest width; null where not finite.
    pub width_max: Option<f64>,
    /// Whether any sample's bound diverged here or before.
    pub diverged: bool,
}

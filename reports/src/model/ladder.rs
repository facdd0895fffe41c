//! Which method proved what, and what it cost; and the verdicts at every epsilon asked for.
//!
//! A method here is a rung of a ladder, cheap ones first, and never `auto`: that word only asks for
//! the ladder. What a pass cost in time is part of [`super::Run`], because it may differ.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Method;

/// What an epsilon is measured in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum EpsilonUnit {
    /// The units of the rows that move.
    Absolute,
    /// The root mean square of the sample's own clean rows: 0.01 is one per cent of it.
    RelativeRms,
}

/// What one method found on one sample at epsilon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MethodTry {
    /// The method.
    pub method: Method,
    /// Whether it proved the decision on every set that it was tried on.
    pub proven: bool,
    /// On how many sets it was tried: those that cheaper methods left open.
    pub sets: u64,
    /// Noise symbols of its affine forms, the most over these; null for methods without.
    pub symbols: Option<u64>,
    /// Whether its affine forms gave up symbols because `--max-memory` was too small for them.
    pub order_reduced: bool,
    /// Its least lower bound of the margin over these; null where a bound was lost.
    pub margin_lower_bound: Option<f64>,
    /// The step at which its bounds grew most, on the set with the least margin; null where no
    /// bound grew.
    pub grown_at: Option<GrownAt>,
    /// The step at which its bound was lost; null where it was not.
    pub lost_at: Option<StepAt>,
}

/// A step of the walk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StepAt {
    /// 0-based layer; null for the read-out after the last layer.
    pub layer: Option<u32>,
    /// Step of the walk, as in `growth`.
    pub step: String,
}

/// A step of the walk at which bounds grew.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GrownAt {
    /// 0-based layer; null for the read-out after the last layer.
    pub layer: Option<u32>,
    /// Step of the walk, as in `growth`.
    pub step: String,
    /// Width behind the step by width before it: the largest of boxes, the median of affine forms.
    pub factor: f64,
}

/// The largest epsilon that one method proved alone.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MethodRadius {
    /// The method.
    pub method: Method,
    /// The radius; 0 where it proved none.
    pub certified_radius: f64,
}

/// One method over all samples.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MethodSummary {
    /// The method.
    pub method: Method,
    /// Samples on which it was tried at epsilon.
    pub tried: u64,
    /// Samples that were certified with it as the last method.
    pub decided: u64,
    /// Median over the samples of the radius that it proved alone; null where none was searched.
    pub median_certified_radius: Option<f64>,
}

/// The verdicts at one of the epsilons that were asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EpsilonRow {
    /// As typed.
    pub epsilon: String,
    /// Its value, in its own unit.
    pub epsilon_value: f64,
    /// That unit.
    pub epsilon_unit: EpsilonUnit,
    /// The median over the samples of the absolute radius.
    pub epsilon_absolute_median: f64,
    /// Samples certified there.
    pub certified: u64,
    /// Samples with a counter-example there, a wrong clean input included.
    pub falsified: u64,
    /// Samples with neither.
    pub unknown: u64,
    /// Share certified, of the labelled samples, or of all where none has a label.
    pub cert_acc: f64,
    /// Share that the attack did not change there, of the same samples; null without attack.
    pub attacked_acc: Option<f64>,
}

/// What one method cost at epsilon.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MethodCost {
    /// The method.
    pub method: Method,
    /// Samples on which it was tried.
    pub samples: u64,
    /// Median time that it took on a sample, in seconds.
    pub seconds_median: f64,
    /// Largest time that it took on a sample, in seconds.
    pub seconds_max: f64,
}

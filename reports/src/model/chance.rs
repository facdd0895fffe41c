//! What holds with a confidence, not for certain: statistics of the deployed engine, and a smoothed
//! classifier.
//!
//! Apart from `certification`, because neither is a proof about the deployed engine at every point
//! of a ball. Each object names the classifier that it speaks about. The confidence is that of all
//! its statements together: each is made at a share of what may fail (Bonferroni).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Norm;

/// How likely the deployed engine is to change its decision under uniform noise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Statistical {
    /// The classifier that this speaks about.
    pub classifier: String,
    /// The law of the noise.
    pub noise: String,
    /// Radius of the box, as typed.
    pub epsilon: String,
    /// Which rows move: `all`, `each`, or a 0-based position.
    pub scope: String,
    /// 0-based layer that the moved stream enters; 0 for the embeddings.
    pub entering_layer: u32,
    /// Confidence with which all statements hold together.
    pub confidence: f64,
    /// Number of statements that share what may fail: one for each set of rows of each sample.
    pub statements: u64,
    /// Number of samples with a label.
    pub labelled: u64,
    /// Share of labelled samples that are right on the clean input; null without labels.
    pub clean_acc: Option<f64>,
    /// Trials for each statement.
    pub stat_trials: u64,
    /// What `stat_acc` asks of the bound.
    pub stat_threshold: f64,
    /// Share of labelled samples that are right, and whose probability of a change is at most
    /// `stat_threshold`; null without labels.
    pub stat_acc: Option<f64>,
    /// Trials, over all samples, that decided otherwise than the clean input.
    pub stat_changed: u64,
    /// Upper bound of the probability of a change, of the worst sample.
    pub stat_change_probability_high: f64,
    /// The median over all samples.
    pub stat_change_probability_high_median: f64,
    /// One entry for each sample, in the order of the data.
    pub samples: Vec<StatisticalSample>,
}

/// One sample under uniform noise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StatisticalSample {
    /// 0-based index in the data.
    pub index: u64,
    /// The right decision, where known.
    pub label: Option<u32>,
    /// The decision on the clean input: a change is another one.
    pub prediction: u32,
    /// Whether they agree; null without a label.
    pub correct: Option<bool>,
    /// Radius of this sample's box.
    pub epsilon_value: f64,
    /// Trials over all sets of rows; 0 where a limit came first.
    pub stat_trials: u64,
    /// Those that decided otherwise, or whose logits were not numbers.
    pub stat_changed: u64,
    /// Upper bound of the probability of a change, over the worst set of rows; 1 without trials.
    pub stat_change_probability_high: f64,
}

/// What a smoothed classifier decides on a whole Euclidean ball.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Smoothed {
    /// The classifier that this speaks about: not the deployed engine.
    pub classifier: String,
    /// The law of the noise.
    pub noise: String,
    /// The radius that was asked for, as typed.
    pub epsilon: String,
    /// The norm that measures it; radii here are Euclidean.
    pub norm: Norm,
    /// Which rows move: `all`, `each`, or a 0-based position.
    pub scope: String,
    /// 0-based layer that the moved stream enters; 0 for the embeddings.
    pub entering_layer: u32,
    /// Confidence with which all statements hold together.
    pub confidence: f64,
    /// Number of statements that share what may fail: one for each set of rows of each sample.
    pub statements: u64,
    /// Number of samples with a label.
    pub labelled: u64,
    /// Standard deviation of the noise, in the units of the rows that move.
    pub smoothed_sigma: f64,
    /// Step of the lattice on which it lies.
    pub smoothed_step: f64,
    /// Trials that select the class of a statement.
    pub smoothed_selection_trials: u64,
    /// Trials that bound its probability.
    pub smoothed_trials: u64,
    /// Share of labelled samples that the smoothed classifier gets right and does not abstain on;
    /// null without labels.
    pub smoothed_clean_acc: Option<f64>,
    /// Share of labelled samples that it gets right on the whole ball that was asked for; null
    /// without labels.
    pub smoothed_acc: Option<f64>,
    /// Number of samples on which it abstains.
    pub smoothed_abstained: u64,
    /// Median radius over all samples; 0 where it abstains.
    pub smoothed_radius_median: f64,
    /// Largest radius of any sample.
    pub smoothed_radius_largest: f64,
    /// One entry for each sample, in the order of the data.
    pub samples: Vec<SmoothedSample>,
    /// Accuracy of the smoothed classifier against the Euclidean radius, in increasing radius.
    pub curve: Vec<SmoothedPoint>,
}

/// One sample under the smoothed classifier.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SmoothedSample {
    /// 0-based index in the data.
    pub index: u64,
    /// The right decision, where known.
    pub label: Option<u32>,
    /// The decision of the deployed engine on the clean input, for comparison.
    pub prediction: u32,
    /// The decision of the smoothed classifier; null where it abstains.
    pub smoothed_prediction: Option<u32>,
    /// Whether it abstains, or a limit came first.
    pub smoothed_abstained: bool,
    /// Whether it is right; null without a label.
    pub smoothed_correct: Option<bool>,
    /// Trials over all sets of rows; 0 where a limit came first.
    pub smoothed_trials: u64,
    /// Those that decided for the class.
    pub smoothed_votes: u64,
    /// Lower bound of the probability of the class, over the worst set of rows.
    pub smoothed_p_low: f64,
    /// Euclidean radius within which the smoothed classifier keeps its decision; 0 where it
    /// abstains.
    pub smoothed_radius: f64,
    /// The radius that covers the ball that was asked for.
    pub smoothed_radius_wanted: f64,
}

/// Accuracy of the smoothed classifier at one radius: of labelled samples, or where none has a
/// label, of the engine's clean decisions.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SmoothedPoint {
    /// The Euclidean radius.
    pub radius: f64,
    /// Share that is right there.
    pub smoothed_acc: f64,
}

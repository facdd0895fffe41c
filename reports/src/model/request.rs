//! What was asked: every option after defaults were resolved.
//!
//! A run can be repeated from this object and the two digests alone. What a user typed as an exact
//! decimal (epsilon) is kept as text beside its value, because the text is the claim. Options that
//! cannot change a result (threads, kernels, output files) are not here.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Every resolved option.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The radius of the perturbation, as typed: the first of `epsilons`.
    pub epsilon: String,
    /// Its value as the engine used it, in the unit that its text names.
    pub epsilon_value: f64,
    /// Every radius that was asked for, as typed, in that order.
    pub epsilons: Vec<String>,
    /// The norm that measures the perturbation.
    pub norm: Norm,
    /// How many of the last layers claims speak of; null for all.
    pub suffix: Option<u32>,
    /// Which embeddings move: `all`, `each`, or a 0-based position.
    pub scope: String,
    /// Which tokens may stand for others: so many nearest, or the sets of a file; null for none.
    pub substitutions: Option<String>,
    /// Where decisions are read.
    pub positions: Positions,
    /// How bounds were computed.
    pub method: Method,
    /// Time after which no dearer method is begun on a sample, in seconds.
    pub budget_seconds: f64,
    /// The classes among which decisions are taken; null for the whole vocabulary.
    pub classes: Option<Vec<u32>>,
    /// Number of fault trials over all targets, which are struck in turn.
    pub faults: u64,
    /// Number of bits flipped together in one trial.
    pub flips: u32,
    /// Seed of everything that is drawn.
    pub seed: u64,
    /// Confidence of the intervals, such as 0.99.
    pub confidence: f64,
    /// Trials under noise for each statement; null unless the method draws at random.
    pub noise_trials: Option<u64>,
    /// Standard deviation of the smoothing noise, where one was asked for.
    pub sigma: Option<f64>,
    /// What `stat_acc` asks of a bound; null unless the method is `statistical`.
    pub stat_threshold: Option<f64>,
    /// What the unused code of a 2-bit packing means.
    pub unused_code: UnusedCode,
    /// How the KV cache is stored.
    pub kv: KvStorage,
    /// At most this many samples; null for all.
    pub limit: Option<u64>,
    /// Certification was switched off.
    pub no_certify: bool,
    /// Faults were switched off.
    pub no_faults: bool,
    /// Budget of the attack, in steps for each sample.
    pub attack_steps: u32,
    /// At most this much wall-clock time, in seconds; null for no limit.
    pub time_limit_seconds: Option<f64>,
    /// At most this much memory, in bytes; null for no limit.
    pub max_memory_bytes: Option<u64>,
    /// The thresholds that decide whether the run passes, in the order typed.
    pub gates: Vec<Gate>,
}

/// The norm that measures a perturbation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Norm {
    /// Largest absolute change of any component.
    Linf,
    /// Euclidean norm of the change, over all rows that move together.
    L2,
}

/// Where decisions are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Positions {
    /// At the last position of a sample.
    Last,
    /// At every next-token position.
    All,
}

/// How bounds were computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Intervals carried through every step of the walk.
    IntervalBoundPropagation,
    /// Affine forms beside intervals.
    Zonotope,
    /// The cheapest deterministic method that decides.
    Auto,
    /// Uniform noise on the deployed engine: a probability, with a confidence.
    Statistical,
    /// A smoothed classifier under Gaussian noise: a radius, with a confidence.
    Smoothing,
}

/// What the unused code of a 2-bit packing means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum UnusedCode {
    /// The value that today's readers compute, +2.
    Deployed,
    /// Zero.
    Zero,
    /// A detector stops the run: the outcome is `due`.
    Detect,
}

impl UnusedCode {
    /// The word in the JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Deployed => "deployed",
            Self::Zero => "zero",
            Self::Detect => "detect",
        }
    }
}

/// How the KV cache is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum KvStorage {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
    /// 8-bit integers, one scale for each token and head.
    Int8,
    /// Signs, one scale for each token and head.
    #[serde(rename = "1bit")]
    OneBit,
}

/// A threshold on a named metric; its outcome is computed from the report, never stored in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Gate {
    /// Name of the metric, one of those that `reports::metrics` knows.
    pub metric: String,
    /// On which side of the threshold the gate fails.
    pub kind: GateKind,
    /// The threshold.
    pub threshold: Threshold,
}

/// The value of a threshold and the text that was typed for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Threshold {
    /// As typed.
    pub text: String,
    /// Its value.
    pub value: f64,
}

/// On which side of its threshold a gate fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum GateKind {
    /// The metric may not be below the threshold.
    FailUnder,
    /// The metric may not be above the threshold.
    FailOver,
}

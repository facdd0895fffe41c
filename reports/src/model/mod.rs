//! The contract: every key of `report.json`, with its unit and meaning.
//!
//! Plain data without behaviour, so that a reader in another language can mirror it key by key.
//! Each type refuses unknown keys and each enum is closed: a change of meaning needs a new
//! `schema_version`, never a silent new word. Invariants (checked by [`Report::validate`]): no
//! number is NaN or infinite, shares lie in [0, 1], an interval holds its estimate, counts add up,
//! a certified radius is never negative. Nothing that may not change a result (time, threads,
//! kernel table) is outside [`Run`].

mod behind;
mod certification;
mod chance;
mod change;
mod check;
mod exhaustive;
mod faults;
mod generation;
mod ladder;
mod memory;
mod precision;
mod request;
mod strata;
mod subject;
mod substitutions;
mod worst;

pub use behind::{Behind, CriticalFit};
pub use certification::{
    Certification, CurvePoint, FirstLost, Growth, Layer, NextToken, PositionCount, Sample, Verdict,
    Witness, WitnessKind,
};
pub use chance::{Smoothed, SmoothedPoint, SmoothedSample, Statistical, StatisticalSample};
pub use change::{
    FormsGrowth, FormsStep, LipschitzBound, MarginLipschitz, MarginSource, SourceKind,
};
pub use check::{Violation, finite};
pub use exhaustive::{Effort, Exhaustive, MapBin, MapBit, MapTensor};
pub use faults::{
    BitRate, Bound, FaultTarget, Faults, FlipsProven, LayerRate, Outcome, ParseTargetError,
    RowsLevel, RowsMethod, RowsProven, Target, Worst,
};
pub use generation::{GeneratedBehind, GeneratedTarget, Generation, Texts};
pub use ladder::{
    EpsilonRow, EpsilonUnit, GrownAt, MethodCost, MethodRadius, MethodSummary, MethodTry, StepAt,
};
pub use memory::{
    Encoding, EncodingDirection, FlipDirection, MemoryCode, Protected, StoredBits, TritDirection,
};
pub use precision::{AnytimeRate, UntilPrecision};
pub use request::{
    Gate, GateKind, KvStorage, Method, Norm, Positions, Request, Threshold, UnusedCode,
};
pub use strata::Stratum;
pub use subject::{
    ActivationPolicy, Data, DataSource, GateFunction, HeadForm, InputKind, Model, WeightCounts,
};
pub use substitutions::{SubstSample, SubstWitness, Substitutions};
pub use worst::{CacheBits, CacheProven, FlipBudget, ModelFlips};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The version of the contract that this crate writes and reads.
pub const SCHEMA_VERSION: &str = "1.0";

/// One finished (or partial, see `limits_hit`) analysis of one model on one data set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// Version of this contract, `"1.0"`.
    pub schema_version: String,
    /// The program that wrote the report.
    pub tool: Tool,
    /// The arithmetic that every statement below speaks of.
    pub engine: Engine,
    /// The model that was analysed.
    pub model: Model,
    /// The samples that were analysed.
    pub data: Data,
    /// Every option, after defaults were resolved.
    pub request: Request,
    /// What must be true for the statements to hold, one sentence each.
    pub assumptions: Vec<String>,
    /// The limits that cut the work short; empty when the report is complete.
    pub limits_hit: Vec<LimitHit>,
    /// What cannot happen; null when certification was not asked for or not reached.
    pub certification: Option<Certification>,
    /// What cannot happen when other tokens stand there; null unless it was asked for.
    pub substitutions: Option<Substitutions>,
    /// How likely the deployed engine changes its decision under noise, with a confidence; null
    /// unless the method is `statistical`.
    pub statistical: Option<Statistical>,
    /// What a smoothed classifier, not the deployed engine, keeps, with a confidence; null unless
    /// the method is `smoothing`.
    pub smoothed: Option<Smoothed>,
    /// What does happen; null when no fault was asked for or reached.
    pub faults: Option<Faults>,
    /// Time, threads and memory: never part of a reproducible report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<Run>,
}

/// The program that wrote a report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tool {
    /// Name of the program.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// The arithmetic that was certified: statements hold for it and for no other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Engine {
    /// Identifier of the arithmetic, such as `bca-1`; it changes when any result bit may change.
    pub arithmetic: String,
    /// One sentence for a person.
    pub description: String,
}

/// A limit that was reached before the work was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitHit {
    /// The option that set the limit, such as `time-limit`.
    pub limit: String,
    /// What was left out because of it.
    pub what: String,
}

/// How the run went on the machine; omitted from reproducible reports.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// When the run began, as RFC 3339 text in UTC.
    pub started: String,
    /// Wall-clock time of the whole run, in seconds.
    pub seconds_total: f64,
    /// Wall-clock time of loading the model and the data, in seconds.
    pub seconds_load: Option<f64>,
    /// Wall-clock time of certification and attack, in seconds.
    pub seconds_certify: Option<f64>,
    /// What each method took at epsilon, cheap ones first; empty without certification.
    pub methods: Vec<MethodCost>,
    /// Wall-clock time of the fault campaign and its bounds, in seconds.
    pub seconds_faults: Option<f64>,
    /// Number of worker threads.
    pub threads: u32,
    /// Name of the kernel table, such as `avx2`.
    pub kernels: String,
    /// Peak resident memory in bytes, where the platform tells.
    pub peak_memory_bytes: Option<u64>,
}

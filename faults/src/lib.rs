//! What breaks: bit flips of packed weights and of the KV cache, and their statistics.
//!
//! The route of one bit: an [`Address`] names it, a [`Space`] numbers it, a [`TrialRng`] draws it,
//! a [`Fault`] holds it, [`Faulty`] walks under it, a [`Trial`] judges it against a [`Golden`] run,
//! and a [`Tally`] counts it, with exact intervals ([`clopper_pearson`]).
//!
//! Invariant: what a campaign finds is a pure function of its [`Identity`] and of the number of
//! trials. Nothing here depends on threads, time, kernels, or the platform.

mod address;
mod base3;
mod batch;
mod campaign;
mod check;
mod draw;
mod ecc;
mod encoding;
mod exhaustive;
mod exists;
mod fault;
mod generation;
mod golden;
mod inject;
pub mod journal;
mod matrix;
pub mod mix;
mod outcome;
mod overlay;
mod parse;
pub mod pattern;
mod plan_file;
mod print;
mod record;
mod region;
mod runner;
mod search;
mod simulator;
mod space;
mod stats;
mod stores;
mod tally;
mod trial;

pub use address::{Address, AddressError, AnyAddress, PhysicalAddress};
pub use base3::TritExposure;
pub use campaign::{Campaign, Plan, run};
pub use check::CampaignError;
pub use draw::{FORMAT_VERSION, Identity, TrialRng};
pub use ecc::{
    Behind, BehindTally, Census, Decoded, Drawn, Fit, MBIT, Protection, RawFault, Residual, Shield,
    ShieldTally, Shielded, fault_of, fit_critical, fit_of_windows, tensor_bytes,
};
pub use encoding::{Criterion, Direction, Encoding, EncodingRow, Exposure, Histogram, encodings};
pub use engine::numerics::{MOST_TRIALS, RateInterval, clopper_pearson};
pub use exhaustive::{
    BitEffect, Cell, Cells, FaultMap, MapPlan, Place, Prover, Ranking, RowEntry, Shifts, Strip,
    Sweep, SweepError, TensorMap, swept_bits,
};
pub use fault::{Fault, UnusedCode};
pub use generation::{
    CleanText, Generated, GenerationError, Guarded, MOST_GENERATED, Split, Text, Texts,
    check_generation, generated,
};
pub use golden::{Golden, Input, Sample, SampleError};
pub use inject::{Faulty, Strike, embed_with};
pub use matrix::Matrix;
pub use mix::Mix;
pub use outcome::{Cause, Outcome, Shift};
pub use overlay::Overlay;
pub use pattern::{Image, Pattern};
pub use plan_file::{PlanError, PlanFile};
pub use record::{Draw, Record};
pub use runner::{complete, complete_until, retold};
pub use search::{End, Found, Goal, Search, SearchError, Step, search};
pub use simulator::{Counts, Shortcuts, Simulator};
pub use space::{Space, Target, Tensor};
pub use stats::{
    Decision, FiniteInterval, MOST_FAULTS, Sequential, Stratified, Stratum, bounded_mean,
    finite_population, stratified,
};
pub use tally::{MOST_NLL_CHANGE, Rate, Summary, Tally};
pub use trial::{Effect, EffectError, Trial, effect, effect_on, run_trial};

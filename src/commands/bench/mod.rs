//! `bench`: how fast the engine is beside the limits of the machine, and how fast fault trials run.

pub mod engine;
pub mod faults;
mod model;

use clap::{Args, Subcommand};

use crate::failure::Failure;

/// What to measure: the engine, or a verb.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Bench {
    /// Another measurement.
    #[command(subcommand)]
    pub verb: Option<BenchVerb>,
    /// The engine.
    #[command(flatten)]
    pub engine: engine::EngineArgs,
}

/// Measurements of their own.
#[derive(Debug, Subcommand)]
pub enum BenchVerb {
    /// Single-bit faults of packed weights on one prompt, in trials per second of processor time
    #[command(after_help = "Example:\n  bitnet-certify bench faults --shape small --seconds 10")]
    Faults(faults::BenchArgs),
}

/// Measures.
///
/// # Errors
/// If the words make no sense, or what is measured is wrong.
pub fn run(bench: &Bench) -> Result<(), Failure> {
    match &bench.verb {
        None => engine::run(&bench.engine),
        Some(BenchVerb::Faults(args)) => faults::run(args),
    }
}

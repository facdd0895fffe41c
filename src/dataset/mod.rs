//! `dataset`: bit perturbations of a model as rows that replay bit for bit.
//!
//! Invariant: what is written follows from model, samples and the words typed alone, and a row says
//! all that [`verify`] needs to compute it again.

mod build;
mod replay;
mod verify;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use reports::dataset::Split;

use crate::cli::UnusedArg;
use crate::failure::Failure;
use crate::source;

/// The words behind `dataset`: a verb, or those of `build` alone.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(arg_required_else_help = true)]
pub struct DatasetArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: Option<DatasetCommand>,
    /// Without a verb: what to build.
    #[command(flatten)]
    pub build: Option<BuildArgs>,
}

/// What to do about data sets.
#[derive(Debug, Subcommand)]
pub enum DatasetCommand {
    /// Flip bits, keep hits, near misses and harmless ones, and write them
    #[command(after_help = "Examples:\n  bitnet-certify dataset build @digits --out flips\n  \
        bitnet-certify dataset build path/to/checkpoint --inputs x.jsonl --trials 100000 \
        --transfer @digits-normal --out flips")]
    Build(BuildArgs),
    /// Run every row again and compare
    #[command(after_help = "Example:\n  bitnet-certify dataset verify flips")]
    Verify(VerifyArgs),
    /// Write the checkpoint that a row describes
    #[command(
        after_help = "Example:\n  bitnet-certify dataset apply flips 17 @digits --out broken"
    )]
    Apply(ApplyArgs),
}

/// Options of `dataset build`.
#[derive(Args, Debug)]
pub struct BuildArgs {
    /// Checkpoint folder, GGUF file, or @name of an embedded model
    #[arg(default_value = source::DEFAULT)]
    pub model: String,
    /// Samples [default: those of the embedded model]
    #[arg(long, value_name = "FILE")]
    pub inputs: Option<PathBuf>,
    /// At most this many samples
    #[arg(long, default_value_t = 64)]
    pub limit: usize,
    /// Faults that are drawn and run
    #[arg(long, default_value_t = 20_000)]
    pub trials: u64,
    /// Bits that flip together in each
    #[arg(long, default_value_t = 1, value_name = "K")]
    pub flips: u32,
    /// At most this many rows of each kind: hit, near-miss, benign (proven to be so or not)
    #[arg(long, default_value_t = 1000)]
    pub rows: usize,
    /// What is struck, in turn: weight_code, weight_scale, weight_float, norm, embedding, lm_head
    #[arg(long, value_delimiter = ',', default_value = "weight_code")]
    pub targets: Vec<String>,
    /// Seed of what is drawn
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// What the unused code of 2-bit weights means
    #[arg(long, value_enum)]
    pub unused_code: Option<UnusedArg>,
    /// A second model of the same shapes, on which every row is tried too
    #[arg(long, value_name = "MODEL")]
    pub transfer: Option<String>,
    /// A new folder
    #[arg(long, value_name = "FOLDER")]
    pub out: PathBuf,
    /// No progress bar
    #[arg(long, short)]
    pub quiet: bool,
    /// Worker threads [default: one a processor]
    #[arg(long)]
    pub threads: Option<usize>,
}

/// Options of `dataset verify`.
#[derive(Args, Debug)]
pub struct VerifyArgs {
    /// Folder of the data set
    pub folder: PathBuf,
    /// Where the model is now [default: where it was]
    #[arg(long)]
    pub model: Option<String>,
    /// Where the samples are now [default: where they were]
    #[arg(long, value_name = "FILE")]
    pub inputs: Option<PathBuf>,
    /// Worker threads [default: one a processor]
    #[arg(long)]
    pub threads: Option<usize>,
}

/// Options of `dataset apply`.
#[derive(Args, Debug)]
pub struct ApplyArgs {
    /// Folder of the data set
    pub folder: PathBuf,
    /// Number of the row
    pub row: u64,
    /// The model that the row was made from
    pub model: String,
    /// A new folder, for the checkpoint
    #[arg(long, value_name = "FOLDER")]
    pub out: PathBuf,
}

/// The Parquet file of a split, and its mirror.
fn files_of(split: Split) -> [String; 2] {
    let name = split.name();
    [format!("data/{name}-00000-of-00001.parquet"), format!("data/{name}.jsonl")]
}

/// Runs what was asked of `dataset`.
///
/// # Errors
/// Whatever ended it early.
pub fn run(args: &DatasetArgs) -> Result<(), Failure> {
    match (&args.command, &args.build) {
        (Some(DatasetCommand::Build(args)), _) | (None, Some(args)) => build::build(args),
        (Some(DatasetCommand::Verify(args)), _) => verify::verify(args),
        (Some(DatasetCommand::Apply(args)), _) => verify::apply(args),
        (None, None) => Err(Failure::usage("expected a model, or build, verify or apply")
            .help("bitnet-certify dataset @digits --out flips")),
    }
}

//! The words typed: what clap reads, close to the flags and nothing decided yet.
//!
//! What they mean is decided once, in [`crate::plan`].

#![allow(rustdoc::broken_intra_doc_links, reason = "help texts show defaults in brackets")]

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use crate::campaign::words::FaultsCommand;
pub use crate::flip::FlipArgs;

const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (arithmetic bca-1)");

/// Robustness certification and fault injection for 1-bit and ternary language models.
///
/// Statements speak of the very bits that this program's engine computes, on every machine, with
/// any number of threads and any kernel table.
#[derive(Debug, Parser)]
#[command(name = "bitnet-certify", version = VERSION, max_term_width = 100)]
#[command(arg_required_else_help = true, subcommand_required = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Certify a model, attack it, flip its bits, and report.
    #[command(after_help = ANALYZE_EXAMPLES)]
    Analyze(Box<AnalyzeArgs>),
    /// Show what a checkpoint holds: architecture, bits a tensor, sizes, digest.
    #[command(after_help = "Examples:\n  bitnet-certify inspect path/to/checkpoint\n  \
        bitnet-certify inspect @language --json")]
    Inspect(InspectArgs),
    /// Continue a text greedily; the same bits on every machine.
    #[command(after_help = "Examples:\n  bitnet-certify generate @language --prompt \"And God \
        said\" --max-tokens 24\n  bitnet-certify generate path/to/checkpoint --input-ids 1,2,3")]
    Generate(GenerateArgs),
    /// Make another face of a report.
    #[command(after_help = "Example:\n  bitnet-certify render report.json -o report.html")]
    Render(RenderArgs),
    /// The effect of one flipped bit, and a patched checkpoint.
    #[command(after_help = FLIP_EXAMPLES)]
    Flip(FlipArgs),
    /// Search few bit flips that change the decisions of a model.
    #[command(after_help = ATTACK_EXAMPLES)]
    Attack(crate::attack::AttackArgs),
    /// Fault campaigns that can be interrupted, resumed and shared out.
    #[command(subcommand)]
    Faults(FaultsCommand),
    /// Write a model in another packed form, code by code the same.
    #[command(after_help = crate::commands::convert::EXAMPLES)]
    Convert(crate::commands::convert::ConvertArgs),
    /// Data sets of bit perturbations that replay bit for bit.
    Dataset(Box<crate::dataset::DatasetArgs>),
    /// Measure how fast the engine and its fault trials run, beside the limits of the machine.
    #[command(after_help = "Example:\n  bitnet-certify bench --shape 2b4t --json")]
    Bench(crate::commands::bench::Bench),
    /// Which kernels this processor has, and whether they agree bit for bit.
    Doctor,
    /// Print the JSON schema of reports.
    Schema,
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page.
    Man,
    /// Write a checkpoint with random weights, for scale tests.
    #[command(after_help = "Example:\n  bitnet-certify random-checkpoint --shape 2b4t --out big")]
    RandomCheckpoint(RandomArgs),
}

const ATTACK_EXAMPLES: &str = "\
Examples:
  bitnet-certify attack                                 # half of 16 digits, as few flips as found
  bitnet-certify attack @digits --each --limit 8        # every sample alone
  bitnet-certify attack @digits --toward 7 --share 1
  bitnet-certify attack path/to/checkpoint --inputs x.jsonl --evaluations 100000 --write broken

What is found is an upper bound of the fewest flips. Where every single flip could be run, and none
was enough, two or more are needed, and that is said.";

const ANALYZE_EXAMPLES: &str = "\
Examples:
  bitnet-certify analyze --epsilon 0.01                  # the embedded, trained model
  bitnet-certify analyze path/to/checkpoint --inputs samples.jsonl
  bitnet-certify analyze @language --positions all --kv int8
  bitnet-certify analyze --epsilon 1%rms,0.001,0.01      # verdicts at each, and the curve
  bitnet-certify analyze --norm l2 --scope each --suffix 1
  bitnet-certify analyze @language --substitutions 3 --scope each --limit 20
  bitnet-certify analyze --method statistical --epsilon 0.05 --suffix 1 --no-faults
  bitnet-certify analyze --method smoothing --sigma 0.25 --noise-trials 10000 --no-faults
  bitnet-certify analyze path/to/checkpoint --inputs x.jsonl --fail-under cert_acc=0.8 \\
      --fail-over weight_code.sdc_rate_high=1e-3 -o report.json -o junit.xml

A model is a Hugging Face folder, a GGUF file, or one that comes with the program:
  @digits, @digits-normal, @digits-calm, @digits-shallow, @digits-deep, @digits-six, @pixels,
  @language, @language-robust

Exit codes: 0 done, 1 a gate failed, 2 usage, 3 model or data refused, 4 incomplete,
5 cannot write, 70 a bug";

const FLIP_EXAMPLES: &str = "\
Examples:
  bitnet-certify flip @digits --bit \"model.layers.0.mlp.down_proj.weight[3,7].1\"
  bitnet-certify flip path/to/checkpoint --inputs x.jsonl --bit \"model.norm.weight[5].30\"
  bitnet-certify flip path/to/checkpoint --bit \"model.layers.0.mlp.down_proj.weight@0x1f.4\" \\
      --write patched/";

/// Options of `analyze`.
#[derive(Args, Debug)]
pub struct AnalyzeArgs {
    /// Checkpoint folder, GGUF file, or @name of an embedded model [default: @digits]
    pub model: Option<String>,
    /// Samples: .jsonl with input_ids, text or inputs_embeds a line, or .safetensors
    #[arg(long, value_name = "FILE")]
    pub inputs: Option<PathBuf>,
    /// Radius of the perturbation of the embeddings, absolute (0.01) or relative to the rms of the
    /// sample's own clean ones (1%rms); several, after commas, give a curve
    #[arg(long, default_value = "0.01", allow_hyphen_values = true, value_name = "EPS[,EPS...]")]
    pub epsilon: String,
    /// Norm that measures the perturbation of all rows that move together
    #[arg(long, value_enum, default_value = "linf")]
    pub norm: NormArg,
    /// Which embeddings move: all at once, each alone, or the one at a 0-based position
    #[arg(long, default_value = "all", value_name = "all|each|POSITION")]
    #[arg(allow_hyphen_values = true)]
    pub scope: String,
    /// Only the last L layers: the stream that enters them moves, instead of the embeddings
    #[arg(long, value_name = "L")]
    pub suffix: Option<usize>,
    /// Tokens that may stand for those of --scope: any of so many nearest embeddings, or the sets
    /// of a JSON file such as {"17": [18, 19]}; proven for the hull, and run
    #[arg(long, value_name = "K|FILE", conflicts_with_all = ["suffix", "no_certify"])]
    pub substitutions: Option<String>,
    /// Where decisions are read
    #[arg(long, value_enum, default_value = "last")]
    pub positions: PositionsArg,
    /// Token ids among which the decision is taken, for samples without classes of their own
    #[arg(long, value_delimiter = ',', value_name = "ID,ID,...")]
    pub classes: Option<Vec<u32>>,
    /// How bounds are computed
    #[arg(long, value_enum, default_value = "auto")]
    pub method: MethodArg,
    /// Noise of the methods that draw at random.
    #[command(flatten)]
    pub noise: crate::noise::NoiseArgs,
    /// Begin no dearer method on a sample after this time, such as 10s; the report says where that
    /// left something out (exit 4)
    #[arg(long, value_name = "SECONDS", default_value = "10")]
    pub budget: String,
    /// Fault trials over all targets, in turn [default: 8000; 100 for models above 100 million
    /// weights]
    #[arg(long, value_name = "N")]
    pub faults: Option<u64>,
    /// Bits flipped together in one trial
    #[arg(long, default_value_t = 1, value_name = "K")]
    pub flips: u32,
    /// Seed of everything that is drawn
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Confidence of the intervals
    #[arg(long, default_value_t = 0.99)]
    pub confidence: f64,
    /// What the unused code of 2-bit weights means [default: deployed, and a file that holds one
    /// is refused]
    #[arg(long, value_enum)]
    pub unused_code: Option<UnusedArg>,
    /// How keys and values are stored
    #[arg(long, value_enum, default_value = "f32")]
    pub kv: KvArg,
    /// Evaluations that the attack may spend on a sample [default: by model size]
    #[arg(long, value_name = "N")]
    pub attack_budget: Option<u32>,
    /// Worker threads [default: one a processor]
    #[arg(long)]
    pub threads: Option<usize>,
    /// Kernel table: scalar, avx2, avx512 or neon [default: the fastest; no bit depends on it]
    #[arg(long)]
    pub kernels: Option<String>,
    /// At most this many samples
    #[arg(long)]
    pub limit: Option<usize>,
    /// No fault trials and no fault bounds
    #[arg(long)]
    pub no_faults: bool,
    /// No certificates and no attack
    #[arg(long)]
    pub no_certify: bool,
    /// Stop after this time, such as 90s, 15m or 2h, with a partial report (exit 4)
    #[arg(long, value_name = "TIME")]
    pub time_limit: Option<String>,
    /// Leave out what would need more memory, such as 6GB, with a partial report (exit 4)
    #[arg(long, value_name = "SIZE")]
    pub max_memory: Option<String>,
    /// Predict time and memory, and stop
    #[arg(long)]
    pub dry_run: bool,
    /// Exit 1 if a metric is below a threshold; repeatable
    #[arg(long, value_name = "METRIC=VALUE")]
    pub fail_under: Vec<String>,
    /// Exit 1 if a metric is above a threshold; repeatable
    #[arg(long, value_name = "METRIC=VALUE")]
    pub fail_over: Vec<String>,
    /// Reports to write, by extension: .json, .html, .xml (JUnit), .md, .txt; repeatable
    /// [default: bitnet-certify-report/report.json and .html]
    #[arg(short, long, value_name = "FILE")]
    pub output: Vec<PathBuf>,
    /// Leave out of the report whatever may differ between two runs
    #[arg(long)]
    pub reproducible: bool,
    /// No progress and no summary
    #[arg(short, long)]
    pub quiet: bool,
    /// Map weight files instead of reading them
    #[arg(long)]
    pub mmap: bool,
}

/// Options of `inspect`.
#[derive(Args, Debug)]
pub struct InspectArgs {
    /// Checkpoint folder, GGUF file, or @name of an embedded model
    pub model: String,
    /// As JSON
    #[arg(long)]
    pub json: bool,
    /// What the unused code of 2-bit weights means
    #[arg(long, value_enum)]
    pub unused_code: Option<UnusedArg>,
    /// Map weight files instead of reading them
    #[arg(long)]
    pub mmap: bool,
}

/// Options of `generate`.
#[derive(Args, Debug)]
pub struct GenerateArgs {
    /// Checkpoint folder, GGUF file, or @name of an embedded model
    pub model: String,
    /// The text to continue
    #[arg(long, required_unless_present = "input_ids")]
    pub prompt: Option<String>,
    /// The token ids to continue, instead of a text
    #[arg(long, value_delimiter = ',', conflicts_with = "prompt", value_name = "ID,ID,...")]
    pub input_ids: Option<Vec<u32>>,
    /// How many tokens to add
    #[arg(long, default_value_t = 32)]
    pub max_tokens: usize,
    /// How keys and values are stored
    #[arg(long, value_enum, default_value = "f32")]
    pub kv: KvArg,
    /// Print token ids instead of text
    #[arg(long)]
    pub ids: bool,
    /// Worker threads [default: one a processor]
    #[arg(long)]
    pub threads: Option<usize>,
    /// Kernel table [default: the fastest; no bit depends on it]
    #[arg(long)]
    pub kernels: Option<String>,
    /// Map weight files instead of reading them
    #[arg(long)]
    pub mmap: bool,
}

/// Options of `render`.
#[derive(Args, Debug)]
pub struct RenderArgs {
    /// A report, as JSON
    pub report: PathBuf,
    /// Files to write, by extension [default: a summary on the terminal]
    #[arg(short, long, value_name = "FILE")]
    pub output: Vec<PathBuf>,
}

/// Options of `random-checkpoint`.
#[derive(Args, Debug)]
pub struct RandomArgs {
    /// Shape of the model
    #[arg(long, value_enum)]
    pub shape: ShapeArg,
    /// New folder for the checkpoint, with a file of sample inputs
    #[arg(long, value_name = "FOLDER")]
    pub out: PathBuf,
    /// Seed of the weights
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

/// Shapes of random checkpoints.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum ShapeArg {
    /// 4 layers of width 256
    Small,
    /// 12 layers of width 768
    #[value(name = "125m")]
    Medium,
    /// BitNet b1.58 2B-4T: 30 layers of width 2560
    #[value(name = "2b4t")]
    Large,
}

/// `--norm`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum NormArg {
    /// The largest change of any component
    Linf,
    /// The Euclidean norm of the change, over all rows that move together
    L2,
}

/// `--positions`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PositionsArg {
    /// At the last position
    Last,
    /// Also at every next-token position
    All,
}

/// `--method`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum MethodArg {
    /// Boxes through every step of the walk
    #[value(alias = "ibp")]
    IntervalBoundPropagation,
    /// Affine forms beside the boxes
    Zonotope,
    /// The cheapest of these that decides
    Auto,
    /// The engine under uniform noise: how likely its decision changes
    Statistical,
    /// The majority of the engine's decisions under Gaussian noise: a Euclidean radius
    Smoothing,
}

/// `--unused-code`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum UnusedArg {
    /// +2, as today's readers compute
    Deployed,
    /// 0
    Zero,
    /// A detected fault (DUE)
    Detect,
}

/// `--kv`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum KvArg {
    /// 32-bit floats
    F32,
    /// 16-bit floats
    F16,
    /// 8-bit codes under an absmax scale
    Int8,
    /// Signs under a mean-magnitude scale
    #[value(name = "1bit")]
    OneBit,
}

impl KvArg {
    /// The storage type of the engine.
    #[must_use]
    pub fn kind(self) -> engine::model::KvKind {
        use engine::model::KvKind;
        match self {
            Self::F32 => KvKind::F32,
            Self::F16 => KvKind::F16,
            Self::Int8 => KvKind::Int8,
            Self::OneBit => KvKind::OneBit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_names_the_arithmetic_of_the_engine() {
        assert!(VERSION.ends_with(&format!("(arithmetic {})", engine::ARITHMETIC)));
    }

    #[test]
    fn the_command_line_holds_together() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }
}

//! The words typed behind `faults`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::rank::RankArgs;
use crate::cli::{KvArg, PositionsArg, UnusedArg};

/// What to do about faults.
#[derive(Debug, Subcommand)]
pub enum FaultsCommand {
    /// Run a campaign: draw faults, run each, count what becomes of them
    #[command(after_help = RUN_EXAMPLES)]
    Run(Box<RunArgs>),
    /// Go on with a campaign that was interrupted; of a finished one, only write the reports
    #[command(after_help = "Example:\n  bitnet-certify faults resume night -o report.html")]
    Resume(ResumeArgs),
    /// One report from the journals of all shards
    #[command(after_help = "Example:\n  bitnet-certify faults merge shard0 shard1 shard2 -o \
        report.json")]
    Merge(MergeArgs),
    /// Flip every bit of the packed weights, or of --targets, and put the bits in order, the worst
    /// first
    #[command(after_help = RANK_EXAMPLES)]
    Rank(Box<RankArgs>),
    /// How far a campaign is, and what it has found; loads no model
    Status(StatusArgs),
}

const RUN_EXAMPLES: &str = "\
Examples:
  bitnet-certify faults run @digits --trials 2000
  bitnet-certify faults run path/to/checkpoint --inputs x.jsonl --journal night --trials 1000000
  bitnet-certify faults run @language --targets weight_code,kv_int8 --flips 2 -o report.html
  bitnet-certify faults run path/to/checkpoint --inputs x.jsonl --plan plan.toml --journal night
  bitnet-certify faults run @digits --ber 1e-5..1e-2 -o curve.html
  bitnet-certify faults run @digits --targets weight_code --until-precision 0.2%
  bitnet-certify faults run @language --trials 500 --generate 32
  bitnet-certify faults run @digits --exhaustive -o map.html
  bitnet-certify faults run @digits --shard 0/3 --journal shard0    # and 1/3, 2/3; then merge

Trial i depends on model, samples, plan and i alone: what was interrupted and resumed, dealt to
shards and merged, or run on other threads gives the same report, byte for byte
(--reproducible). A shard gets whole rounds of the plan, in turn.

Exit codes: 0 done, 1 a gate failed, 2 usage, 3 model, data or journal refused, 4 trials missing,
5 cannot write, 130 interrupted (143 terminated): the journal can be resumed";

const RANK_EXAMPLES: &str = "\
Examples:
  bitnet-certify faults rank @digits --top 10 -o bits.csv
  bitnet-certify faults rank @digits --targets weight_scale,norm
  bitnet-certify faults rank path/to/checkpoint --inputs x.jsonl --journal night -o bits.csv
  bitnet-certify faults resume night -o bits.csv
  bitnet-certify faults rank @digits --shard 0/2 --journal s0    # and 1/2; then merge s0 s1

What was interrupted and resumed, or dealt to shards and merged, gives the same files, byte for
byte. Under float activations flips are run one by one, from the layer that they strike: a changed
weight is no exact change of a rounded sum, so trials share little.

Exit codes: 0 done, 2 usage, 3 model, data or journal refused, 4 shards missing, 5 cannot write,
130 interrupted (143 terminated): the journal can be resumed";

/// Options of `faults run`.
#[derive(Args, Debug)]
pub struct RunArgs {
    /// Checkpoint folder, GGUF file, or @name of an embedded model
    pub model: String,
    /// Samples: .jsonl with input_ids, text or inputs_embeds a line, or .safetensors
    #[arg(long, value_name = "FILE")]
    pub inputs: Option<PathBuf>,
    /// The plan, as TOML; what is typed here overrides it
    #[arg(long, value_name = "FILE")]
    pub plan: Option<PathBuf>,
    /// Trials over all faults of the plan, in turn [default: 8000; 100 for models above 100 million
    /// weights]
    #[arg(long, value_name = "N")]
    pub trials: Option<u64>,
    /// Seed of everything that is drawn [default: 0]
    #[arg(long)]
    pub seed: Option<u64>,
    /// Only a share of the trials, such as 0/3, 1/3 and 2/3 on three machines
    #[arg(long, value_name = "I/N")]
    pub shard: Option<String>,
    /// What is struck, in turn: weight_code, weight_scale, weight_float, norm, embedding, lm_head,
    /// kv_f32, kv_f16, kv_int8, kv_1bit, kv_int8_scale, kv_1bit_scale [default: all that the
    /// samples read, but for the last two]
    #[arg(long, value_delimiter = ',', value_name = "NAME,...")]
    pub targets: Option<Vec<String>>,
    /// Bits flipped together in one trial [default: 1]
    #[arg(long, value_name = "K")]
    pub flips: Option<u32>,
    /// Let bits flip by chance, at each of these rates a bit: a list, or a range such as 1e-6..1e-3
    /// in steps of 1, 2 and 5; of weight_code, or of each of --targets
    #[arg(long, value_name = "RATE,...|LOW..HIGH", conflicts_with = "flips")]
    pub ber: Option<String>,
    /// End once the silent-corruption rate of every fault of the plan is known to this half-width,
    /// by intervals that hold whenever that is; --trials is then the most [default: 1000000]
    #[arg(long, value_name = "HALF-WIDTH", conflicts_with = "shard")]
    pub until_precision: Option<String>,
    /// Let each trial also continue its sample greedily by so many tokens, 1 to 4096, and compare
    /// the text with the clean one, behind a memory code of the plan with it and without; the
    /// samples must be input_ids or text
    #[arg(long, value_name = "N")]
    pub generate: Option<u32>,
    /// Flip every bit of every packed weight, one at a time, on every sample: the whole map, where
    /// nothing is drawn or estimated. By default on the first samples that make up to 8388608
    /// faults, one at least
    #[arg(long, conflicts_with_all = ["plan", "trials", "seed", "flips", "ber", "until_precision",
        "confidence", "generate"])]
    pub exhaustive: bool,
    /// Count what bounds prove masked as such, without running it: evidence of another kind, not a
    /// shortcut, for on small models a bound takes longer than the flips it speaks of
    #[arg(long, requires = "exhaustive")]
    pub prove: bool,
    /// Only tensors of these names in every layer, such as mlp.down_proj; of the map
    #[arg(long, value_delimiter = ',', value_name = "NAME,...", requires = "exhaustive")]
    pub tensors: Option<Vec<String>>,
    /// Only these layers, from 0; of the map
    #[arg(long, value_delimiter = ',', value_name = "N,...", requires = "exhaustive")]
    pub layers: Option<Vec<usize>>,
    /// Confidence of the intervals [default: 0.99]
    #[arg(long)]
    pub confidence: Option<f64>,
    /// What the unused code of 2-bit weights means [default: deployed, and a file that holds one
    /// is refused]
    #[arg(long, value_enum)]
    pub unused_code: Option<UnusedArg>,
    /// How keys and values are stored in trials that do not strike them [default: f32]
    #[arg(long, value_enum)]
    pub kv: Option<KvArg>,
    /// Where tokens are compared: at every position, or only where the decision is read
    /// [default: all; last with --exhaustive]
    #[arg(long, value_enum)]
    pub positions: Option<PositionsArg>,
    /// Token ids among which the decision is taken, for samples without classes of their own
    #[arg(long, value_delimiter = ',', value_name = "ID,ID,...")]
    pub classes: Option<Vec<u32>>,
    /// At most this many samples
    #[arg(long)]
    pub limit: Option<usize>,
    /// Folder that keeps what was found, so that the campaign can be resumed; one that has a
    /// journal of the same campaign is gone on with [default: none, and nothing survives an
    /// interruption]
    #[arg(long, value_name = "FOLDER")]
    pub journal: Option<PathBuf>,
    /// How to report.
    #[command(flatten)]
    pub telling: TellingArgs,
}

/// Options of `faults resume`.
#[derive(Args, Debug)]
pub struct ResumeArgs {
    /// Folder of the journal
    pub journal: PathBuf,
    /// Where the files are.
    #[command(flatten)]
    pub moved: MovedArgs,
    /// How to report.
    #[command(flatten)]
    pub telling: TellingArgs,
}

/// Options of `faults merge`.
#[derive(Args, Debug)]
pub struct MergeArgs {
    /// Folders of the journals
    #[arg(required = true)]
    pub journals: Vec<PathBuf>,
    /// Where the files are.
    #[command(flatten)]
    pub moved: MovedArgs,
    /// How to report.
    #[command(flatten)]
    pub telling: TellingArgs,
}

/// Options of `faults status`.
#[derive(Args, Debug)]
pub struct StatusArgs {
    /// Folder of the journal
    pub journal: PathBuf,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// Files that are elsewhere now.
#[derive(Args, Debug)]
pub struct MovedArgs {
    /// The model, if it has moved; it must be the same
    #[arg(long, value_name = "FOLDER|@NAME")]
    pub model: Option<String>,
    /// The samples, if they have moved; they must be the same
    #[arg(long, value_name = "FILE")]
    pub inputs: Option<PathBuf>,
}

/// Options that change no result.
#[derive(Args, Debug)]
pub struct TellingArgs {
    /// Worker threads [default: one a processor]
    #[arg(long)]
    pub threads: Option<usize>,
    /// Kernel table: scalar, avx2, avx512 or neon [default: the fastest; no bit depends on it]
    #[arg(long)]
    pub kernels: Option<String>,
    /// Reports to write, by extension: .json, .html, .xml (JUnit), .md, .txt, of a ranking .jsonl
    /// or .csv; repeatable
    #[arg(short, long, value_name = "FILE")]
    pub output: Vec<PathBuf>,
    /// Exit 1 if a metric of the report is below a threshold; repeatable
    #[arg(long, value_name = "METRIC=VALUE")]
    pub fail_under: Vec<String>,
    /// Exit 1 if a metric of the report, such as weight_code.sdc_rate_high or, of texts,
    /// text_diverged_rate_high or text_unrecovered_rate_high, is above a threshold; repeatable
    #[arg(long, value_name = "METRIC=VALUE")]
    pub fail_over: Vec<String>,
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

//! `faults rank`: the bits of packed weights, or others that are stored, the worst first.
//!
//! Measured is what every flip did on the samples, one by one; proven is a sound bound on any one
//! flip in the row of the bit, so it is never below what was measured; of weight codes alone.

mod bits;

use std::path::{Path, PathBuf};

use clap::Args;
use engine::walk::Read;
use faults::journal::{Found, Shard, Writer};
use faults::{MapPlan, Ranking, Strip, Sweep};

use super::ask::{self, Place};
use super::map::{Seen, ask_of, kept, no_map, of_samples};
use super::signals::Signals;
use super::trouble::{another, interrupted, refused, warn_of_torn};
use super::words::{MergeArgs, ResumeArgs, TellingArgs};
use super::{Subject, complete, place, same_program, together};
use crate::analyze::{self, targets_named};
use crate::cli::{KvArg, UnusedArg};
use crate::failure::Failure;
use crate::{commands, machine, output};
use bits::{Bits, format_of};

/// Bits that are shown where a file has all of them.
const SHOWN: usize = 20;

/// Options of `faults rank`.
#[derive(Args, Debug)]
pub struct RankArgs {
    /// Checkpoint folder, or @name of an embedded model
    pub model: String,
    /// Samples: .jsonl with input_ids, text or inputs_embeds a line, or .safetensors
    #[arg(long, value_name = "FILE")]
    pub inputs: Option<PathBuf>,
    /// How many bits, the worst first; 0 for all of them, which only a file holds
    #[arg(long, default_value_t = SHOWN)]
    pub top: usize,
    /// What is flipped: weight_code, weight_scale, weight_float, norm, embedding, lm_head
    #[arg(long, value_delimiter = ',', default_value = "weight_code", value_name = "NAME,...")]
    pub targets: Vec<String>,
    /// Only tensors of these names in every layer, such as mlp.down_proj
    #[arg(long, value_delimiter = ',', value_name = "NAME,...")]
    pub tensors: Option<Vec<String>>,
    /// Only these layers, from 0
    #[arg(long, value_delimiter = ',', value_name = "N,...")]
    pub layers: Option<Vec<usize>>,
    /// What the unused code of 2-bit weights means [default: deployed]
    #[arg(long, value_enum)]
    pub unused_code: Option<UnusedArg>,
    /// How keys and values are stored
    #[arg(long, value_enum, default_value = "f32")]
    pub kv: KvArg,
    /// Token ids among which the decision is taken, for samples without classes of their own
    #[arg(long, value_delimiter = ',', value_name = "ID,ID,...")]
    pub classes: Option<Vec<u32>>,
    /// At most this many samples [default: as many as make up to 8388608 faults, one at least]
    #[arg(long)]
    pub limit: Option<usize>,
    /// Only a share of the flips, such as 0/3, 1/3 and 2/3 on three machines; `faults merge` of all
    /// their journals ranks
    #[arg(long, value_name = "I/N", requires = "journal", conflicts_with = "output")]
    pub shard: Option<String>,
    /// Folder that keeps what every flip did, about 17 bytes a flip and sample, so that the ranking
    /// can be resumed; one that has a journal of the same ranking is gone on with [default: none,
    /// and nothing survives an interruption]
    #[arg(long, value_name = "FOLDER")]
    pub journal: Option<PathBuf>,
    /// Where to write them: .jsonl or .csv
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Worker threads [default: one a processor]
    #[arg(long)]
    pub threads: Option<usize>,
    /// Kernel table [default: the fastest; no bit depends on it]
    #[arg(long)]
    pub kernels: Option<String>,
    /// No progress and no table
    #[arg(short, long)]
    pub quiet: bool,
    /// Map weight files instead of reading them
    #[arg(long)]
    pub mmap: bool,
}

/// Runs `faults rank`.
///
/// # Errors
/// Whatever ended it early.
pub(super) fn rank(args: &RankArgs) -> Result<(), Failure> {
    let shard = ask::shard(args.shard.as_deref())?;
    if args.top == 0 && args.output.is_none() && args.shard.is_none() {
        let what = "--top 0: all bits are for a file";
        return Err(Failure::usage(what).help("-o bits.csv, or --top 20"));
    }
    let targets = targets_named(&args.targets, false)?;
    let telling = telling(args);
    ready(&telling)?;
    same_program(args.journal.as_deref())?;
    let place = Place {
        model: ask::standing(&args.model)?,
        inputs: args.inputs.as_deref().map(ask::absolute).transpose()?,
        classes: args.classes.clone(),
        limit: args.limit,
        until_precision: None,
        generate: None,
        unused_code: args.unused_code.map(|arg| analyze::unused_code(Some(arg)).name().into()),
        top: Some(args.top),
    };
    machine::pool(args.threads)?.install(|| {
        let subject = Subject::load(&telling, place)?;
        let plan = MapPlan {
            samples: 1,
            unused: analyze::unused_code(args.unused_code),
            kv: args.kv.kind(),
            positions: Read::Last,
            prove: false,
            within: ask_of(&args.layers, &args.tensors),
            ranked: Some(targets),
        };
        let sweep = subject.sweep(of_samples(&subject, args.limit, plan))?;
        let header = subject.map_header(&sweep, shard)?;
        let journal = match args.journal.as_deref() {
            None => None,
            Some(folder) => Some((Writer::begin(folder, &header).map_err(refused)?, folder)),
        };
        work(&subject, &sweep, shard, journal)
    })
}

/// `faults resume` of a ranking.
pub(super) fn resume(args: &ResumeArgs) -> Result<(), Failure> {
    let folder = &args.journal;
    ready(&args.telling)?;
    let (writer, found) = Writer::resume::<Strip>(folder).map_err(refused)?;
    let plan = kept(folder, &found.header)?;
    let place = place(&found.header, &args.moved)?;
    machine::pool(args.telling.threads)?.install(|| {
        let subject = Subject::load(&args.telling, place)?;
        let sweep = subject.sweep(plan)?;
        let shard = found.header.shard;
        let header = subject.map_header(&sweep, shard)?;
        found.header.same_campaign(&header).map_err(another(folder))?;
        work(&subject, &sweep, shard, Some(((writer, found), folder)))
    })
}

/// `faults merge` of a ranking; of one that is not whole nothing is told, for any bit may be worse
/// than those that are there.
pub(super) fn merge(args: &MergeArgs) -> Result<(), Failure> {
    ready(&args.telling)?;
    let (first, strips) = together::<Strip>(&args.journals)?;
    let plan = kept(&args.journals[0], &first)?;
    let place = place(&first, &args.moved)?;
    machine::pool(args.telling.threads)?.install(|| {
        let subject = Subject::load(&args.telling, place)?;
        let sweep = subject.sweep(plan)?;
        let header = subject.map_header(&sweep, first.shard)?;
        first.same_campaign(&header).map_err(another(&args.journals[0]))?;
        sweep.check_strips(&strips).map_err(refused)?;
        complete(strips.len() as u64, sweep.strips(), "strips of rows")?;
        let ranked = sweep.rank(Shard::WHOLE, &strips, None, &|_| (), &|| false);
        let (_, ranking) = ranked.map_err(no_map)?;
        let ranking = ranking.ok_or_else(|| Failure::bug("all strips make a ranking"))?;
        tell(&subject, &sweep, &ranking)
    })
}

fn telling(args: &RankArgs) -> TellingArgs {
    TellingArgs {
        threads: args.threads,
        kernels: args.kernels.clone(),
        output: args.output.iter().cloned().collect(),
        fail_under: Vec::new(),
        fail_over: Vec::new(),
        reproducible: true,
        quiet: args.quiet,
        mmap: args.mmap,
    }
}

/// Checks that the files can be written, before any work; a ranking has no metrics.
fn ready(telling: &TellingArgs) -> Result<(), Failure> {
    if let Some(gate) = telling.fail_under.iter().chain(&telling.fail_over).next() {
        let what = format!("{gate}: a ranking of bits has no metrics");
        return Err(Failure::usage(what).help("gates on faults run --exhaustive"));
    }
    telling.output.iter().try_for_each(|path| format_of(path).map(|_| ()))
}

/// Faults and silent corruptions of some strips.
fn counted(strips: &[Strip]) -> (u64, u64) {
    strips.iter().map(Strip::counts).fold((0, 0), |(all, sdc), of| (all + of.0, sdc + of.1))
}

/// Runs what is missing, and tells the ranking if that is all.
fn work(
    subject: &Subject,
    sweep: &Sweep,
    shard: Shard,
    journal: Option<((Writer, Found<Strip>), &Path)>,
) -> Result<(), Failure> {
    let signals = Signals::listen()?;
    let folder = journal.as_ref().map(|(_, folder)| *folder);
    let (mut writer, present) = match journal {
        None => (None, Vec::new()),
        Some(((writer, found), folder)) => {
            warn_of_torn(&found, folder);
            (Some(writer), found.entries)
        }
    };
    sweep.check_strips(&present).map_err(refused)?;
    let wanted = shard.share_of(sweep.strips());
    let pairs = sweep.bits() * sweep.samples() as u64;
    let show = !subject.telling.quiet;
    if show {
        let (bits, samples, there) = (sweep.bits(), sweep.samples(), present.len());
        eprintln!(
            "{bits} single-bit faults on each of {samples} samples: {pairs} faults, \
             {there} of {wanted} strips of rows done"
        );
    }
    let seen = Seen::new(pairs / shard.of, counted(&present), show);
    let progress = |strips: &[Strip]| seen.add(counted(strips));
    let ranked = sweep.rank(shard, &present, writer.as_mut(), &progress, &|| signals.stop());
    drop(seen);
    let (there, ranking) = ranked.map_err(no_map)?;
    match ranking {
        Some(ranking) => tell(subject, sweep, &ranking),
        None if there == wanted => {
            if show {
                eprintln!("the share is done: bitnet-certify faults merge of all shards ranks");
            }
            Ok(())
        }
        None => {
            let exit = signals.exit().ok_or_else(|| Failure::bug("nothing stopped it"))?;
            Err(interrupted(exit, &format!("{there} of {wanted} strips of rows"), folder))
        }
    }
}

/// Writes and shows the first bits of a ranking, as many as were asked for.
fn tell(subject: &Subject, sweep: &Sweep, ranking: &Ranking) -> Result<(), Failure> {
    let asked = subject.place.top.unwrap_or(SHOWN);
    let top = if asked == 0 { ranking.len() } else { asked.min(ranking.len()) };
    let bits = Bits::new(subject, sweep, ranking, top)?;
    for path in &subject.telling.output {
        output::write(path, bits.file(top, format_of(path)?).as_bytes())?;
    }
    if subject.telling.quiet {
        return Ok(());
    }
    let shown = if asked == 0 { top.min(SHOWN) } else { top };
    commands::tell(bits.table(shown).as_bytes())
}

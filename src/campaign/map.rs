//! `faults run --exhaustive`: every single-bit fault of the packed weights, over a journal of rows.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use engine::model::KvKind;
use engine::walk::Read;
use faults::journal::{Found as Journalled, Header, Shard, Writer};
use faults::mix::Within;
use faults::{
    FaultMap, MapPlan, Mix, Plan as FaultPlan, RowEntry, Sweep, SweepError, Target, swept_bits,
};
use indicatif::HumanDuration;

use super::ask::{self, Place};
use super::progress::Progress;
use super::signals::Signals;
use super::trouble::{another, interrupted, refused, warn_of_torn};
use super::words::{MergeArgs, ResumeArgs, RunArgs};
use super::{Subject, complete, place, ready, same_program, together};
use crate::analyze::{self, Found, Mapped};
use crate::cli::PositionsArg;
use crate::failure::Failure;
use crate::machine;
use crate::plan::Plan;

/// Faults by default, so far as whole samples go.
const MOST: u64 = 1 << 23;
/// After what time the rest is estimated.
const ESTIMATED: Duration = Duration::from_secs(5);

/// `faults run --exhaustive`.
pub(super) fn begin(args: &RunArgs) -> Result<(), Failure> {
    if ask::targets(args)?.is_some_and(|targets| targets != [Target::WeightCode]) {
        let what = "--exhaustive: the map is of weight_code, other bits are drawn";
        return Err(Failure::usage(what).help("--targets weight_code, or no --exhaustive"));
    }
    if args.prove && args.positions == Some(PositionsArg::All) {
        let what = "--prove: the bounds are of the decision, not of tokens at other positions";
        return Err(Failure::usage(what).help("--positions last, or no --prove"));
    }
    let shard = ask::shard(args.shard.as_deref())?;
    let place = Place::of(args, &faults::PlanFile::default())?;
    ready(&args.telling)?;
    same_program(args.journal.as_deref())?;
    machine::pool(args.telling.threads)?.install(|| {
        let subject = Subject::load(&args.telling, place)?;
        let sweep = subject.sweep(subject.map_plan(args))?;
        let header = subject.map_header(&sweep, shard)?;
        let journal = match args.journal.as_deref() {
            None => None,
            Some(folder) => Some((Writer::begin(folder, &header).map_err(refused)?, folder)),
        };
        work(&subject, &sweep, shard, journal)
    })
}

/// `faults resume` of a map.
pub(super) fn resume(args: &ResumeArgs) -> Result<(), Failure> {
    let folder = &args.journal;
    let (writer, found) = Writer::resume::<RowEntry>(folder).map_err(refused)?;
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

/// `faults merge` of a map.
pub(super) fn merge(args: &MergeArgs) -> Result<(), Failure> {
    let (first, entries) = together::<RowEntry>(&args.journals)?;
    let plan = kept(&args.journals[0], &first)?;
    let place = place(&first, &args.moved)?;
    machine::pool(args.telling.threads)?.install(|| {
        let subject = Subject::load(&args.telling, place)?;
        let sweep = subject.sweep(plan)?;
        let header = subject.map_header(&sweep, first.shard)?;
        first.same_campaign(&header).map_err(another(&args.journals[0]))?;
        subject.tell_map(&sweep, &entries, "merge")?;
        complete(entries.len() as u64, sweep.rows(), "rows")
    })
}

/// The plan of a journal of this program.
pub(super) fn kept(folder: &Path, header: &Header) -> Result<MapPlan, Failure> {
    header.same_program().map_err(another(folder))?;
    MapPlan::parse(&header.plan).map_err(|error| {
        Failure::refused(format!("{}: the plan of the journal: {error}", folder.display()))
    })
}

/// A map that cannot be made.
pub(super) fn no_map(error: SweepError) -> Failure {
    match error {
        SweepError::Journal(error) => refused(error),
        SweepError::Others { .. }
        | SweepError::Nothing
        | SweepError::Nowhere { .. }
        | SweepError::Bits { .. } => Failure::usage(error),
        SweepError::Samples { .. } | SweepError::Sample { .. } => Failure::refused(error),
    }
}

impl Subject<'_> {
    /// The plan of a map, with its defaults.
    fn map_plan(&self, args: &RunArgs) -> MapPlan {
        let plan = MapPlan {
            samples: 1,
            unused: analyze::unused_code(args.unused_code),
            kv: args.kv.map_or(KvKind::F32, |arg| arg.kind()),
            positions: match args.positions {
                Some(PositionsArg::All) => Read::All,
                Some(PositionsArg::Last) | None => Read::Last,
            },
            prove: args.prove,
            within: ask_of(&args.layers, &args.tensors),
            ranked: None,
        };
        of_samples(self, args.limit, plan)
    }

    pub(super) fn sweep(&self, plan: MapPlan) -> Result<Sweep<'_>, Failure> {
        let inputs: Vec<_> = self.samples.samples.iter().map(analyze::fault_sample).collect();
        Sweep::new(&self.loaded.model, self.kernels, plan, &inputs).map_err(no_map)
    }

    /// The header of a journal of a map, or of a ranking.
    pub(super) fn map_header(&self, sweep: &Sweep, shard: Shard) -> Result<Header, Failure> {
        let pieces = if sweep.plan().ranked.is_some() { sweep.strips() } else { sweep.rows() };
        self.header_of(&sweep.plan().to_toml(), pieces, shard)
    }

    /// Writes and shows the report of some rows.
    fn tell_map(&self, sweep: &Sweep, rows: &[RowEntry], missing: &str) -> Result<(), Failure> {
        sweep.check(rows).map_err(refused)?;
        let plan = sweep.plan();
        let request = self.map_request(sweep)?;
        let context = self.context(&request);
        let left = sweep.rows() - rows.len() as u64;
        if left > 0 {
            let what = format!("rows of the map: {left} of {}", sweep.rows());
            context.clock.hit(missing, what);
        }
        let map = Mapped {
            plan: plan.clone(),
            map: FaultMap::of(sweep, rows),
            bits: sweep.bits(),
            assignments: analyze::assignments(&context, plan.unused),
        };
        self.report(&context, &Found { map: Some(map), ..Found::default() })
    }

    /// The request of a map as a report shows it.
    pub(super) fn map_request(&self, sweep: &Sweep) -> Result<Plan, Failure> {
        let plan = sweep.plan();
        let pairs = sweep.bits() * plan.samples;
        let shared = FaultPlan {
            seed: 0,
            trials: pairs,
            flips: 1,
            targets: vec![Target::WeightCode],
            unused: plan.unused,
            kv: plan.kv,
            confidence: 0.99,
            positions: plan.positions,
            worst: 0,
        };
        ask::request(&Mix::simple(shared), &self.place, self.telling)
    }
}

/// The part of a model that was typed.
pub(super) fn ask_of(layers: &Option<Vec<usize>>, tensors: &Option<Vec<String>>) -> Within {
    Within { layers: layers.clone(), tensors: tensors.clone(), part: None }
}

/// A plan of as many samples as were asked for, or of the first that make few faults.
pub(super) fn of_samples(subject: &Subject, limit: Option<usize>, plan: MapPlan) -> MapPlan {
    let all = subject.samples.samples.len() as u64;
    let few = || MOST / swept_bits(&subject.loaded.model, &plan).max(1);
    MapPlan { samples: limit.map_or_else(|| all.min(few().max(1)), |_| all), ..plan }
}

/// Faults and silent corruptions of some rows.
fn counted(rows: &[RowEntry]) -> (u64, u64) {
    let count = |(faults, sdc), row: &RowEntry| {
        let total = row.total();
        (faults + total.faults(), sdc + total.sdc)
    };
    rows.iter().fold((0, 0), count)
}

/// Runs what is missing, and tells all of it.
fn work(
    subject: &Subject,
    sweep: &Sweep,
    shard: Shard,
    journal: Option<((Writer, Journalled<RowEntry>), &Path)>,
) -> Result<(), Failure> {
    let signals = Signals::listen()?;
    let (mut journal, folder) = match journal {
        Some((journal, folder)) => (Some(journal), Some(folder)),
        None => (None, None),
    };
    let present = journal.as_mut().map_or(Vec::new(), |(_, found)| {
        warn_of_torn(found, folder.unwrap_or(Path::new("")));
        std::mem::take(&mut found.entries)
    });
    sweep.check(&present).map_err(refused)?;
    let (wanted, there) = (sweep.rows_of(shard), counted(&present));
    let pairs = sweep.bits() * sweep.plan().samples;
    let show = !subject.telling.quiet;
    if show {
        let (bits, samples, rows) = (sweep.bits(), sweep.plan().samples, present.len());
        eprintln!(
            "{bits} single-bit faults on each of {samples} of {} samples: {pairs} faults, \
             {rows} of {wanted} rows done",
            subject.samples.samples.len()
        );
    }
    let seen = Seen::new(pairs / shard.of, there, show);
    let writer = journal.as_mut().map(|(writer, _)| writer);
    let request = subject.map_request(sweep)?;
    let context = subject.context(&request);
    let prover = analyze::Masked::new(&context);
    let show = |rows: &[RowEntry]| seen.add(counted(rows));
    let rows = sweep.run(shard, present, Some(&prover), writer, &show, &|| signals.stop());
    drop(seen);
    let rows = rows.map_err(no_map)?;
    if let Some(exit) = signals.exit().filter(|_| (rows.len() as u64) < wanted) {
        let done = format!("{} of {wanted} rows", rows.len());
        return Err(interrupted(exit, &done, folder));
    }
    subject.tell_map(sweep, &rows, "shard")
}

/// How a map goes: a bar, and once an estimate of the time that is left.
pub(super) struct Seen {
    progress: Progress,
    /// Faults, and those that were there before.
    all: u64,
    there: u64,
    begun: Instant,
    done: AtomicU64,
    estimated: AtomicBool,
}

impl Seen {
    pub(super) fn new(all: u64, there: (u64, u64), show: bool) -> Self {
        let say = |sdc: u64, faults: u64| {
            format!("sdc {:.3} % so far", 100.0 * sdc as f64 / faults.max(1) as f64)
        };
        Self {
            progress: Progress::new(all, there, show, Box::new(say)),
            all,
            there: there.0,
            begun: Instant::now(),
            done: AtomicU64::new(0),
            estimated: AtomicBool::new(!show),
        }
    }

    /// Some faults were decided, so many of them silent corruptions.
    pub(super) fn add(&self, counted: (u64, u64)) {
        self.progress.add(counted);
        let done = self.done.fetch_add(counted.0, Ordering::Relaxed) + counted.0;
        let spent = self.begun.elapsed();
        if spent >= ESTIMATED && !self.estimated.swap(true, Ordering::Relaxed) {
            let rate = done as f64 / spent.as_secs_f64();
            let left = self.all.saturating_sub(self.there + done) as f64 / rate;
            let left = HumanDuration(Duration::try_from_secs_f64(left).unwrap_or(Duration::MAX));
            self.progress.note(&format!("{rate:.0} faults a second: about {left:#} left"));
        }
    }
}

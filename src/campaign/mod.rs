//! `faults`: campaigns that may be longer than a process lives.
//!
//! Invariant: what is reported follows from model, samples, plan and the set of trials alone. A
//! journal is read and held to the request before any model is loaded; everything that is told of
//! trials is told from their entries, whether they were run now, before, or elsewhere.

mod ask;
mod generation;
mod map;
mod precision;
mod progress;
pub mod rank;
mod signals;
mod status;
mod trouble;
pub mod words;

use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use certify::affine::Matrices;
use certify::claim::Deployed;
use engine::formats::Loaded;
use engine::kernels::Kernels;
use faults::journal::{self, Entry, Found as Journalled, Header, Kept, Shard, Writer};
use faults::{Campaign, MapPlan, Mix, PlanFile, complete_until, retold};

use ask::Place;
use progress::{Progress, counted, said};
use signals::Signals;
use trouble::{another, interrupted, refused, warn_of_torn};
use words::{FaultsCommand, MergeArgs, MovedArgs, ResumeArgs, RunArgs, TellingArgs};

use crate::analyze::{self, Campaigned, Clock, Context, Found};
use crate::failure::Failure;
use crate::input::{self, Samples};
use crate::plan::Plan;
use crate::{assemble, machine, output, source};

/// Runs a verb behind `faults`.
///
/// # Errors
/// Whatever ended it early.
pub fn run(command: &FaultsCommand) -> Result<(), Failure> {
    match command {
        FaultsCommand::Run(args) => begin(args),
        FaultsCommand::Resume(args) => resume(args),
        FaultsCommand::Merge(args) => merge(args),
        FaultsCommand::Rank(args) => rank::rank(args),
        FaultsCommand::Status(args) => status::status(args),
    }
}

/// What every verb that loads a model holds on to.
struct Subject<'a> {
    telling: &'a TellingArgs,
    place: Place,
    kernels: &'static Kernels,
    loaded: Loaded,
    samples: Samples,
    begun: (Instant, SystemTime),
}

impl<'a> Subject<'a> {
    fn load(telling: &'a TellingArgs, place: Place) -> Result<Self, Failure> {
        let begun = (Instant::now(), SystemTime::now());
        let kernels = machine::kernels(telling.kernels.as_deref())?;
        let origin = source::resolve(&place.model)?;
        let loaded = source::load_to_strike(&origin, place.unused(), telling.mmap)?;
        source::refuse_faults_on_zeroed(&loaded, place.unused())?;
        let (classes, inputs) = (place.classes.as_deref(), place.inputs.as_deref());
        let samples = input::read(&origin, &loaded, inputs, classes, place.limit)?;
        let subject = Self { telling, place, kernels, loaded, samples, begun };
        generation::check(&subject)?;
        Ok(subject)
    }

    fn context<'c>(&'c self, plan: &'c Plan) -> Context<'c> {
        let model = &self.loaded.model;
        Context {
            plan,
            choices: None,
            deployed: Deployed { model, kernels: self.kernels, kv: plan.kv },
            matrices: Matrices::new(model),
            samples: &self.samples.samples,
            weights: assemble::weight_counts(model).ternary,
            clock: Clock::start(self.begun.0, None, false),
        }
    }

    /// The header of a journal of a plan that can be run as it was asked.
    fn header(&self, mix: &Mix, shard: Shard) -> Result<Header, Failure> {
        self.half_width()?.map_or(Ok(()), |_| precision::check(mix))?;
        self.header_of(&mix.to_toml(), mix.plan.trials, shard)
    }

    /// The header of a journal of some plan.
    fn header_of(&self, plan: &str, trials: u64, shard: Shard) -> Result<Header, Failure> {
        let digests = (&self.loaded.manifest.digest, &self.samples.digest);
        let header = Header::new(digests.0, digests.1, plan, trials, shard);
        let request = serde_json::to_string(&self.place).map_err(Failure::bug)?;
        Ok(Header { request, ..header })
    }

    /// The campaign, its clean runs done.
    fn campaign(&self, mix: &Mix) -> Result<Campaign<'_>, Failure> {
        let inputs: Vec<_> = self.samples.samples.iter().map(analyze::fault_sample).collect();
        let identity = mix.identity(&self.loaded.manifest.digest, &self.samples.digest);
        let model = &self.loaded.model;
        Campaign::mixed(model, self.kernels, mix.clone(), identity, &inputs)
            .map_err(analyze::refusal)
    }

    /// The half-width that the campaign goes on to, if to any.
    fn half_width(&self) -> Result<Option<f64>, Failure> {
        self.place.until_precision.as_deref().map(precision::half_width).transpose()
    }

    /// Writes and shows the report of some trials.
    fn tell(
        &self,
        (campaign, signals): (&Campaign, &Signals),
        entries: &[Entry],
        missing: &str,
    ) -> Result<(), Failure> {
        let tally = retold(campaign, entries).map_err(refused)?;
        let mix = campaign.mix();
        let before = tally.worst.iter().map(|record| campaign.golden(record.target, record.sample));
        let worst_before = before.map(|golden| golden.decision()).collect();
        let plan = ask::request(mix, &self.place, self.telling)?;
        let context = self.context(&plan);
        let until = self.half_width()?.map(|width| precision::told(mix, entries, width));
        let left = mix.plan.trials - tally.trials;
        if left > 0 && !until.as_ref().is_some_and(|until| until.reached) {
            context.clock.hit(missing, format!("fault trials: {left} of {}", mix.plan.trials));
        }
        let faults = Campaigned {
            plan: mix.plan.clone(),
            mix: Some(mix.clone()),
            tally,
            until,
            generation: self.texts(campaign, entries, signals)?,
            stored_bits: None,
            protected: Vec::new(),
            drawn: campaign.drawn(),
            assignments: analyze::assignments(&context, mix.plan.unused),
            worst_before,
        };
        self.report(&context, &Found { faults: Some(faults), ..Found::default() })
    }

    /// Writes and shows the report of what was found.
    fn report(&self, context: &Context, found: &Found) -> Result<(), Failure> {
        let mut run = analyze::empty_run(self.kernels);
        run.started = analyze::rfc3339(self.begun.1);
        run.seconds_total = self.begun.0.elapsed().as_secs_f64();
        let report = analyze::tell(context, &self.loaded, &self.samples, found, run)?;
        analyze::gates_hold(&report)
    }
}

/// `faults run`.
fn begin(args: &RunArgs) -> Result<(), Failure> {
    if args.exhaustive {
        return map::begin(args);
    }
    let telling = &args.telling;
    let file = ask::plan_file(args)?;
    let (shard, rates) = (ask::shard(args.shard.as_deref())?, ask::rates(args.ber.as_deref())?);
    let packed = (!rates.is_empty()).then(|| vec![faults::Target::WeightCode]);
    let targets = ask::targets(args)?.or(packed);
    let place = Place::of(args, &file)?;
    ready(telling)?;
    if place.until_precision.is_some() {
        precision::ungated(telling)?;
    }
    same_program(args.journal.as_deref())?;
    machine::pool(telling.threads)?.install(|| {
        let subject = Subject::load(telling, place)?;
        let (targets, trials) = subject.defaults(&file, targets)?;
        let mix = ask::mix(args, &file, (targets, &rates), trials).map_err(Failure::usage)?;
        let header = subject.header(&mix, shard)?;
        let journal = match args.journal.as_deref() {
            None => None,
            Some(folder) => Some((Writer::begin(folder, &header).map_err(refused)?, folder)),
        };
        work(&subject, &mix, shard, journal)
    })
}

/// Refuses a journal of another program before a model is loaded.
fn same_program(folder: Option<&Path>) -> Result<(), Failure> {
    let there = folder.filter(|folder| journal::exists(folder));
    there.map_or(Ok(()), |folder| {
        journal::header(folder).map_err(refused)?.same_program().map_err(another(folder))
    })
}

impl Subject<'_> {
    /// The targets and the trials of `analyze`, for what was not asked.
    fn defaults(
        &self,
        file: &PlanFile,
        targets: Option<Vec<faults::Target>>,
    ) -> Result<(Vec<faults::Target>, u64), Failure> {
        let bare = ask::bare(file)?;
        let mut plan = ask::request(&bare, &self.place, self.telling)?;
        plan.faults = None;
        let context = self.context(&plan);
        let targets = targets.unwrap_or_else(|| analyze::targets(&context));
        let trials = match self.half_width()? {
            Some(_) => precision::MOST,
            None => analyze::trials(&context),
        };
        Ok((targets, trials))
    }
}

/// Whether a folder has the journal of a ranking, whose files are no reports.
fn ranks(folder: &Path) -> bool {
    journal::header(folder).is_ok_and(|header| MapPlan::ranks(&header.plan))
}

/// `faults resume`.
fn resume(args: &ResumeArgs) -> Result<(), Failure> {
    let folder = &args.journal;
    if ranks(folder) {
        return rank::resume(args);
    }
    ready(&args.telling)?;
    if MapPlan::is_one(&journal::header(folder).map_err(refused)?.plan) {
        return map::resume(args);
    }
    let (writer, found) = Writer::resume(folder).map_err(refused)?;
    let (mix, place) = kept(folder, &found.header, &args.moved)?;
    machine::pool(args.telling.threads)?.install(|| {
        let subject = Subject::load(&args.telling, place)?;
        let shard = found.header.shard;
        let header = subject.header(&mix, shard)?;
        found.header.same_campaign(&header).map_err(another(folder))?;
        work(&subject, &mix, shard, Some(((writer, found), folder)))
    })
}

/// `faults merge`.
fn merge(args: &MergeArgs) -> Result<(), Failure> {
    if args.journals.first().is_some_and(|folder| ranks(folder)) {
        return rank::merge(args);
    }
    ready(&args.telling)?;
    if MapPlan::is_one(&journal::header(&args.journals[0]).map_err(refused)?.plan) {
        return map::merge(args);
    }
    let (first, entries) = together(&args.journals)?;
    let (mix, place) = kept(&args.journals[0], &first, &args.moved)?;
    if place.until_precision.is_some() {
        let what = "a campaign until a precision is in one journal, there is nothing to merge";
        return Err(Failure::usage(what).help("bitnet-certify faults resume FOLDER"));
    }
    machine::pool(args.telling.threads)?.install(|| {
        let subject = Subject::load(&args.telling, place)?;
        let header = subject.header(&mix, first.shard)?;
        first.same_campaign(&header).map_err(another(&args.journals[0]))?;
        // Nobody listens: a signal ends it, and nothing is lost.
        let signals = Signals::default();
        subject.tell((&subject.campaign(&mix)?, &signals), &entries, "merge")?;
        complete(entries.len() as u64, mix.plan.trials, "trials")
    })
}

/// The first header of journals of one campaign, and what is in any of them.
fn together<K: Kept>(folders: &[PathBuf]) -> Result<(Header, Vec<K>), Failure> {
    let (mut first, mut entries): (Option<Header>, Vec<K>) = (None, Vec::new());
    for folder in folders {
        let header = journal::header(folder).map_err(refused)?;
        let first = first.get_or_insert_with(|| header.clone());
        header.same_campaign(first).map_err(another(folder))?;
        generation::same(first, &header)?;
        let found = journal::read::<K>(folder).map_err(refused)?;
        warn_of_torn(&found, folder);
        entries.extend(found.entries);
    }
    let first = first.ok_or_else(|| Failure::usage("no journal to merge"))?;
    Ok((first, journal::merged(entries).map_err(refused)?))
}

/// Whether merged journals have everything.
fn complete(there: u64, wanted: u64, what: &str) -> Result<(), Failure> {
    if there < wanted {
        let what = format!("the journals have {there} of {wanted} {what}");
        return Err(Failure::incomplete(what).help("the other shards, or faults resume"));
    }
    Ok(())
}

/// The plan and the place that a journal keeps.
fn kept(folder: &Path, header: &Header, moved: &MovedArgs) -> Result<(Mix, Place), Failure> {
    header.same_program().map_err(another(folder))?;
    let mix = PlanFile::parse(&header.plan).and_then(|file| file.mix(ask::WORST));
    let mix = mix.map_err(|error| {
        Failure::refused(format!("{}: the plan of the journal: {error}", folder.display()))
    })?;
    Ok((mix, place(header, moved)?))
}

/// The place that a journal keeps, or where the files are now.
fn place(header: &Header, moved: &MovedArgs) -> Result<Place, Failure> {
    let mut place = Place::read(header)?;
    if let Some(model) = &moved.model {
        place.model = ask::standing(model)?;
    }
    if let Some(inputs) = &moved.inputs {
        place.inputs = Some(inputs.clone());
    }
    Ok(place)
}

/// Runs what is missing, and tells all of it.
fn work(
    subject: &Subject,
    mix: &Mix,
    shard: Shard,
    journal: Option<((Writer, Journalled), &Path)>,
) -> Result<(), Failure> {
    let campaign = subject.campaign(mix)?;
    let signals = Signals::listen()?;
    let (mut journal, folder) = match journal {
        Some((journal, folder)) => (Some(journal), Some(folder)),
        None => (None, None),
    };
    let present = journal.as_mut().map_or(Vec::new(), |(_, found)| {
        warn_of_torn(found, folder.unwrap_or(Path::new("")));
        std::mem::take(&mut found.entries)
    });
    let wanted = mix.trials_of(shard);
    let confidence = mix.plan.confidence;
    let say = move |sdc, trials| said(sdc, trials, confidence);
    let progress = Progress::new(wanted, counted(&present), !subject.telling.quiet, Box::new(say));
    let writer = journal.as_mut().map(|(writer, _)| writer);
    let until = subject.half_width()?;
    let mut enough = |entries: &[Entry]| {
        until.is_some_and(|half_width| precision::enough(mix, entries, half_width))
    };
    // Without a precision to reach there is one look, at the end.
    let look = if until.is_some() { precision::LOOK } else { mix.plan.trials };
    let show = |entries: &[Entry]| progress.add(counted(entries));
    let stop = || signals.stop();
    let done = complete_until(&campaign, (shard, look), present, writer, &mut enough, &show, &stop);
    drop(progress);
    let (entries, ended) = done.map_err(refused)?;
    let cut = !ended && (entries.len() as u64) < wanted;
    if let Some(exit) = signals.exit().filter(|_| cut) {
        let done = format!("{} of {wanted} trials", entries.len());
        return Err(interrupted(exit, &done, folder));
    }
    subject.tell((&campaign, &signals), &entries, "shard")
}

/// Checks gates, and that the reports can be written, before any work.
fn ready(telling: &TellingArgs) -> Result<(), Failure> {
    crate::plan::gates(&telling.fail_under, &telling.fail_over)?;
    for path in &telling.output {
        reports::Format::from_path(path)
            .map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
        output::check(path)?;
    }
    Ok(())
}

//! The fault campaign of an analysis: which targets, how many trials, and what came of them.

use engine::formats::Loaded;
use engine::kernels::Kernels;
use engine::model::{KvKind, Model};
use engine::walk::Read;
use faults::{
    Campaign, CampaignError, Drawn, FaultMap, Golden, Input, MapPlan, Mix, Plan as CampaignPlan,
    Sample as FaultSample, SampleError, Space, Tally, Target, UnusedCode, run,
};
use rayon::prelude::*;

use super::context::Context;
use super::protection::{Assignments, Protected, StoredBits, assignments, protected, stored_bits};
use crate::cli::UnusedArg;
use crate::failure::Failure;
use crate::input::{Content, Sample, Samples};

/// Trials by default, over all targets, for models of either size.
const TRIALS: (u64, u64) = (8000, 100);
/// How many of the worst trials are reported.
const WORST: usize = 20;

/// A map of all single-bit faults, or a part of one.
#[derive(Debug)]
pub struct Mapped {
    /// The plan.
    pub plan: MapPlan,
    /// What became of the faults.
    pub map: FaultMap,
    /// Faults on each sample.
    pub bits: u64,
    /// What other codes of the weights would do.
    pub assignments: Assignments,
}

/// A finished campaign, or a prefix of one.
#[derive(Debug)]
pub struct Campaigned {
    /// The plan.
    pub plan: CampaignPlan,
    /// The same with its strata, where they were asked for.
    pub mix: Option<Mix>,
    /// What came of the trials.
    pub tally: Tally,
    /// Where it ended because rates were known closely enough.
    pub until: Option<reports::model::UntilPrecision>,
    /// What the faults do to texts.
    pub generation: Option<reports::model::Generation>,
    /// One flip of any stored bit.
    pub stored_bits: Option<StoredBits>,
    /// Raw faults behind memory codes.
    pub protected: Vec<Protected>,
    /// By stratum: among which stored bits was drawn behind a memory code.
    pub drawn: Vec<Option<Drawn>>,
    /// What other codes of the weights would do.
    pub assignments: Assignments,
    /// The clean decisions of the worst trials, in their order.
    pub worst_before: Vec<u32>,
}

/// Trials over all targets.
pub(crate) fn trials(context: &Context) -> u64 {
    context.plan.faults.unwrap_or(if context.large() { TRIALS.1 } else { TRIALS.0 })
}

/// Every target that the samples read; of the storage types all for small models. Scales beside
/// stored keys and values are struck where that is asked for.
pub(crate) fn targets(context: &Context) -> Vec<Target> {
    let model = context.deployed.model;
    let ids = context.samples.iter().any(|sample| matches!(sample.content, Content::Ids(_)));
    let mut targets =
        vec![Target::WeightCode, Target::WeightScale, Target::Norm, Target::WeightFloat];
    if ids || model.config.tied {
        targets.push(Target::Embedding);
    }
    if !model.config.tied {
        targets.push(Target::LmHead);
    }
    // Some files hold no bit of some of them: most have no linear layers of floats, or no others.
    let space = Space::new(model, context.deployed.kv);
    targets.retain(|&target| space.count(target, 1) > 0);
    if context.large() {
        targets.push(Target::of_kv(context.deployed.kv));
    } else {
        let kinds = [KvKind::F32, KvKind::F16, KvKind::Int8, KvKind::OneBit];
        targets.extend(kinds.map(Target::of_kv));
    }
    targets
}

/// The targets of typed names, each once; those in files alone, or those of the cache too.
///
/// # Errors
/// The first name that is none, or is there twice.
pub(crate) fn targets_named(names: &[String], cache: bool) -> Result<Vec<Target>, Failure> {
    let all: Vec<Target> =
        Target::ALL.into_iter().filter(|target| cache || target.kv().is_none()).collect();
    let mut targets = Vec::with_capacity(names.len());
    for name in names {
        let found = all.iter().find(|target| target.name() == name.as_str());
        let target = *found.ok_or_else(|| {
            let known: Vec<_> = all.iter().map(|target| target.name()).collect();
            let known = known.join(", ");
            Failure::usage(format!("--targets {name}: expected one or more of {known}"))
        })?;
        if targets.contains(&target) {
            let what = format!("--targets: {name} is there twice, expected once");
            return Err(Failure::usage(what));
        }
        targets.push(target);
    }
    Ok(targets)
}

/// Clean runs with keys and values in f32, by sample.
///
/// # Errors
/// The first sample that cannot be run.
pub(crate) fn goldens(
    model: &Model,
    kernels: &'static Kernels,
    read: Read,
    samples: &Samples,
) -> Result<Vec<Golden>, Failure> {
    let clean = samples.samples.par_iter().enumerate().map(|(number, sample)| {
        Golden::new(model, kernels, KvKind::F32, read, fault_sample(sample))
            .map_err(|error| Failure::refused(format!("sample {number}: {error}")))
    });
    // Collected first, so that the first refusal is the first by number.
    clean.collect::<Vec<_>>().into_iter().collect()
}

/// The policy for the unused code: what the user said, else what is deployed.
pub(crate) fn unused_code(plan: Option<UnusedArg>) -> UnusedCode {
    match plan {
        None | Some(UnusedArg::Deployed) => UnusedCode::Deployed,
        Some(UnusedArg::Zero) => UnusedCode::Zero,
        Some(UnusedArg::Detect) => UnusedCode::Detect,
    }
}

/// A sample as the campaign takes it.
pub(crate) fn fault_sample(sample: &Sample) -> FaultSample {
    let classes: Vec<u32> = sample.classes.iter().map(|&class| class as u32).collect();
    let input = match &sample.content {
        Content::Ids(ids) => Input::Ids(ids.clone()),
        Content::Embeddings(rows) => Input::Embedded(rows.clone()),
    };
    FaultSample { input, label: sample.label, classes: (!classes.is_empty()).then_some(classes) }
}

/// The campaign that was asked for.
fn plan(context: &Context) -> CampaignPlan {
    CampaignPlan {
        seed: context.plan.seed,
        trials: trials(context),
        flips: context.plan.flips as usize,
        targets: targets(context),
        unused: unused_code(context.plan.unused),
        kv: context.deployed.kv,
        confidence: context.plan.confidence,
        positions: Read::All,
        worst: WORST,
    }
}

/// Checks the campaign before any work starts.
///
/// # Errors
/// If it cannot be drawn for this model and these samples.
pub(super) fn check(context: &Context) -> Result<(), Failure> {
    let inputs: Vec<FaultSample> = context.samples.iter().map(fault_sample).collect();
    plan(context).check(context.deployed.model, &inputs).map_err(refusal)
}

/// Runs the campaign; `None` if a limit left no room for it.
///
/// # Errors
/// If the plan does not fit the model, or a clean run is not finite.
pub(super) fn campaign(
    context: &Context,
    loaded: &Loaded,
    samples: &Samples,
) -> Result<Option<Campaigned>, Failure> {
    if context.clock.over() {
        context.clock.hit("time-limit", "fault trials and bounds under any flip: all");
        return Ok(None);
    }
    if let Some(limit) = context.plan.max_memory {
        let held = super::predict::current_memory().unwrap_or(0);
        let wanted = held + super::predict::extra_memory(context);
        if wanted > limit {
            let what = format!(
                "fault trials and bounds under any flip: they would take the process to \
                 {wanted} bytes"
            );
            context.clock.hit("max-memory", what);
            return Ok(None);
        }
    }
    let plan = plan(context);
    let identity = plan.identity(&loaded.manifest.digest, &samples.digest);
    let inputs: Vec<FaultSample> = samples.samples.iter().map(fault_sample).collect();
    let deployed = &context.deployed;
    let campaign = Campaign::new(deployed.model, deployed.kernels, plan.clone(), identity, &inputs)
        .map_err(refusal)?;
    let stage = context.clock.stage("fault trials", plan.trials);
    let tally = run(&campaign, &|done| stage.at(done), &|| context.clock.over());
    if tally.trials < plan.trials {
        let what = format!("fault trials: {} of {}", plan.trials - tally.trials, plan.trials);
        context.clock.hit("time-limit", what);
    }
    let before = tally.worst.iter().map(|record| campaign.golden(record.target, record.sample));
    let worst_before = before.map(|golden| golden.decision()).collect();
    let protected = protected(context, &campaign, &tally);
    let stored_bits = stored_bits(&campaign, &tally);
    let assignments = assignments(context, plan.unused);
    Ok(Some(Campaigned {
        plan,
        mix: None,
        tally,
        until: None,
        generation: None,
        stored_bits,
        protected,
        drawn: Vec::new(),
        assignments,
        worst_before,
    }))
}

/// A campaign that cannot be run.
pub(crate) fn refusal(error: CampaignError) -> Failure {
    match error {
        CampaignError::Sample { source: SampleError::NotFinite, .. } => {
            Failure::refused(error).help("another --kv storage type, or --no-faults")
        }
        _ => Failure::usage(error),
    }
}

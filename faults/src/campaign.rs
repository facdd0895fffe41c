//! A campaign: many trials, each a pure function of (identity, number).
//!
//! Trial `i` strikes target `i mod targets` (so every target gets its even share), then draws from
//! its own stream, in this order: the sample; for each flip a number of the target's space, drawn
//! again while its bit was drawn before.
//!
//! Invariant: neither threads, nor blocks, nor where a run was stopped change any trial; what a
//! stopped run returns is a prefix.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use engine::kernels::Kernels;
use engine::model::{KvKind, Model};
use engine::walk::Read;
use rayon::prelude::*;

use crate::draw::{Identity, TrialRng};
use crate::fault::{Fault, UnusedCode};
use crate::golden::{Golden, Sample, SampleError};
use crate::space::{Space, Target};
use crate::tally::Tally;
use crate::trial::{Trial, run_trial};

/// Trials whose records are held at once.
const BLOCK: u64 = 1024;

/// What a campaign does.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Chosen by the user.
    pub seed: u64,
    /// How many trials, over all targets.
    pub trials: u64,
    /// Distinct bits that flip together in one trial.
    pub flips: usize,
    /// What is struck, in turn.
    pub targets: Vec<Target>,
    /// What a reader does with an unused code.
    pub unused: UnusedCode,
    /// How keys and values are stored in trials that do not strike them; those that do bring their
    /// own kind of store, with its own clean run.
    pub kv: KvKind,
    /// Of the intervals, between 0 and 1.
    pub confidence: f64,
    /// Whether all positions are read, which token changes need, or the last alone.
    pub positions: Read,
    /// How many of the worst trials are kept.
    pub worst: usize,
}

impl Plan {
    /// Everything in the plan that a trial depends on, as one line.
    #[must_use]
    pub fn text(&self) -> String {
        let targets: Vec<_> = self.targets.iter().map(|target| target.name()).collect();
        let positions = match self.positions {
            Read::All => "all",
            Read::Last => "last",
        };
        format!(
            "seed={} flips={} targets={} unused_code={} kv={} positions={positions}",
            self.seed,
            self.flips,
            targets.join(","),
            self.unused.name(),
            self.kv.name(),
        )
    }

    /// The identity of the campaign on a model and its inputs. How many trials there are does not
    /// enter it: a longer campaign begins with a shorter one.
    #[must_use]
    pub fn identity(&self, model_digest: &str, inputs_digest: &str) -> Identity {
        Identity::of(&[model_digest, inputs_digest, &self.text()])
    }

    /// Checks that trials can be drawn for a model and samples; runs nothing.
    ///
    /// # Errors
    /// What is wrong with the plan.
    pub fn check(&self, model: &Model, samples: &[Sample]) -> Result<(), CampaignError> {
        check(self, samples)?;
        for &target in &self.targets {
            let space = Space::new(model, target.kv().unwrap_or(self.kv));
            check_bits(self, target, &space, samples)?;
        }
        Ok(())
    }
}

/// Why a campaign cannot be run.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CampaignError {
    /// No samples.
    #[error("there are no samples to run under faults, expected one or more")]
    NoSamples,
    /// No targets, or one twice.
    #[error("the targets are '{targets}', expected one or more, each once")]
    Targets {
        /// Their names.
        targets: String,
    },
    /// A target has fewer bits than flip at once.
    #[error("{target} has {bits} bits for sample {sample}, expected {flips} or more")]
    Bits {
        /// The target.
        target: &'static str,
        /// Its bits.
        bits: u64,
        /// The sample, by its number.
        sample: usize,
        /// The flips of one trial.
        flips: usize,
    },
    /// A trial without flips.
    #[error("a trial flips 0 bits, expected 1 or more")]
    NoFlips,
    /// A confidence that is none.
    #[error("the confidence is {got}, expected 1e-15 to 1 - 1e-15")]
    Confidence {
        /// What it is.
        got: f64,
    },
    /// A sample cannot be run.
    #[error("sample {sample}: {source}")]
    Sample {
        /// Its number.
        sample: usize,
        /// Why not.
        source: SampleError,
    },
}

/// What a trial will do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draw {
    /// What is struck.
    pub target: Target,
    /// The sample, by its number.
    pub sample: usize,
    /// The bits.
    pub fault: Fault,
}

/// What a trial did.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The number of the trial.
    pub index: u64,
    /// What was struck.
    pub target: Target,
    /// The sample, by its number.
    pub sample: usize,
    /// The bits.
    pub fault: Fault,
    /// What came of it.
    pub trial: Trial,
}

/// The clean runs under one kind of store.
#[derive(Debug)]
struct Baseline {
    kv: KvKind,
    space: Space,
    goldens: Vec<Golden>,
}

/// A campaign that is ready to run: its clean runs are done.
#[derive(Debug)]
pub struct Campaign<'a> {
    model: &'a Model,
    kernels: &'static Kernels,
    plan: Plan,
    identity: Identity,
    baselines: Vec<Baseline>,
}

impl<'a> Campaign<'a> {
    /// Checks the plan and runs every sample clean, once for each kind of store in the plan.
    ///
    /// # Errors
    /// What is wrong with the plan, or the first sample that cannot be run.
    pub fn new(
        model: &'a Model,
        kernels: &'static Kernels,
        plan: Plan,
        identity: Identity,
        samples: &[Sample],
    ) -> Result<Self, CampaignError> {
        plan.check(model, samples)?;
        let mut kinds = vec![plan.kv];
        for kind in plan.targets.iter().filter_map(|target| target.kv()) {
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        let baseline = |kv| {
            let goldens = samples.par_iter().enumerate().map(|(sample, given)| {
                Golden::new(model, kernels, kv, plan.positions, given.clone())
                    .map_err(|source| CampaignError::Sample { sample, source })
            });
            // Collected before the first error is looked for, so that it is the first by number.
            let goldens: Vec<_> = goldens.collect();
            Ok(Baseline {
                kv,
                space: Space::new(model, kv),
                goldens: goldens.into_iter().collect::<Result<_, _>>()?,
            })
        };
        let baselines = kinds.into_iter().map(baseline).collect::<Result<_, _>>()?;
        Ok(Self { model, kernels, plan, identity, baselines })
    }

    /// The plan.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The identity.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The clean runs under the plan's own kind of store, by sample.
    #[must_use]
    pub fn goldens(&self) -> &[Golden] {
        &self.baselines[0].goldens
    }

    /// The clean run that trials of a target on a sample are held against.
    #[must_use]
    pub fn golden(&self, target: Target, sample: usize) -> &Golden {
        &self.baseline(target).goldens[sample]
    }

    /// The space in which a target is drawn.
    #[must_use]
    pub fn space(&self, target: Target) -> &Space {
        &self.baseline(target).space
    }

    fn baseline(&self, target: Target) -> &Baseline {
        let kind = target.kv().unwrap_or(self.plan.kv);
        self.baselines.iter().find(|b| b.kv == kind).expect("a clean run for each kind of store")
    }

    /// What trial `index` will do.
    #[must_use]
    pub fn draw(&self, index: u64) -> Draw {
        let targets = &self.plan.targets;
        let target = targets[(index % targets.len() as u64) as usize];
        let Baseline { space, goldens, .. } = self.baseline(target);
        let mut rng = TrialRng::new(&self.identity, index);
        let sample = rng.below(goldens.len() as u64) as usize;
        let tokens = goldens[sample].sample.tokens();
        let count = space.count(target, tokens);
        let (mut flips, mut bits) = (Vec::new(), BTreeSet::new());
        while flips.len() < self.plan.flips {
            let address = space.address(target, tokens, rng.below(count));
            if bits.insert(address.storage()) {
                flips.push(address);
            }
        }
        Draw { target, sample, fault: Fault::new(flips) }
    }

    /// Runs trial `index`.
    #[must_use]
    pub fn trial(&self, index: u64) -> Record {
        let Draw { target, sample, fault } = self.draw(index);
        let golden = &self.baseline(target).goldens[sample];
        let trial = run_trial(self.model, self.kernels, golden, &fault, self.plan.unused);
        Record { index, target, sample, fault, trial }
    }

    /// Runs some trials in parallel; the records of a prefix of them, in order. All of them, unless
    /// `stop` says so, which is asked before each; `done` is told after each.
    #[must_use]
    pub fn records(
        &self,
        range: Range<u64>,
        done: &(dyn Fn() + Sync),
        stop: &(dyn Fn() -> bool + Sync),
    ) -> Vec<Record> {
        let records: Vec<Option<Record>> = range
            .into_par_iter()
            .map(|index| {
                if stop() {
                    return None;
                }
                let record = self.trial(index);
                done();
                Some(record)
            })
            .collect();
        records.into_iter().map_while(|record| record).collect()
    }
}

/// Runs a campaign and tallies it. `progress` is told how many trials are done, `stop` is asked
/// before each; a stopped run returns the tally of a prefix.
#[must_use]
pub fn run(
    campaign: &Campaign,
    progress: &(dyn Fn(u64) + Sync),
    stop: &(dyn Fn() -> bool + Sync),
) -> Tally {
    let count = AtomicU64::new(0);
    let done = || progress(count.fetch_add(1, Ordering::Relaxed) + 1);
    let mut tally = Tally::new(campaign.plan.worst);
    while tally.trials < campaign.plan.trials {
        let left = campaign.plan.trials - tally.trials;
        let end = tally.trials + left.min(BLOCK);
        let records = campaign.records(tally.trials..end, &done, stop);
        tally.absorb(records);
        if tally.trials < end {
            break;
        }
    }
    tally
}

fn check(plan: &Plan, samples: &[Sample]) -> Result<(), CampaignError> {
    if samples.is_empty() {
        return Err(CampaignError::NoSamples);
    }
    if plan.flips == 0 {
        return Err(CampaignError::NoFlips);
    }
    if !(plan.confidence >= 1e-15 && 1.0 - plan.confidence >= 1e-15) {
        return Err(CampaignError::Confidence { got: plan.confidence });
    }
    let distinct: BTreeSet<_> = plan.targets.iter().collect();
    if plan.targets.is_empty() || distinct.len() < plan.targets.len() {
        let targets: Vec<_> = plan.targets.iter().map(|target| target.name()).collect();
        return Err(CampaignError::Targets { targets: targets.join(",") });
    }
    Ok(())
}

fn check_bits(
    plan: &Plan,
    target: Target,
    space: &Space,
    samples: &[Sample],
) -> Result<(), CampaignError> {
    for (sample, given) in samples.iter().enumerate() {
        // A sample without tokens is refused by its clean run, with a better reason.
        let bits = space.bits(target, given.tokens());
        if given.tokens() > 0 && bits < plan.flips as u64 {
            return Err(CampaignError::Bits {
                target: target.name(),
                bits,
                sample,
                flips: plan.flips,
            });
        }
    }
    Ok(())
}

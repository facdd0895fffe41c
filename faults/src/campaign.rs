//! A campaign: many trials, each a pure function of (identity, number).
//!
//! Trial `i` is of the stratum whose turn it is (see [`Mix`]; in a simple plan it strikes target
//! `i mod targets`, so every target gets its even share), then draws from its own stream, in this
//! order: the sample; then what the pattern asks for, such as for each flip a number of the
//! target's space, drawn again while its bit was drawn before.
//! Where there is a memory code, it decodes what was drawn.
//!
//! Invariant: neither threads, nor blocks, nor where a run was stopped change any trial; what a
//! stopped run returns is a prefix.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use engine::kernels::Kernels;
use engine::model::{KvKind, Model};
use engine::walk::Read;
use rayon::prelude::*;

use crate::batch::{Traces, WORTH};
use crate::check::CampaignError;
use crate::draw::{Identity, TrialRng};
use crate::ecc::{Behind, Decoded, Drawn};
use crate::fault::{Fault, UnusedCode};
use crate::golden::{Golden, Sample};
use crate::mix::{Mix, Prepared, Stratum};
use crate::outcome::Outcome;
use crate::pattern::Scene;
use crate::record::{Draw, Record};
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
}

/// The clean runs under one kind of store.
#[derive(Debug)]
struct Baseline {
    kv: KvKind,
    space: Space,
    goldens: Vec<Golden>,
    /// By stratum and number of tokens: what its trials draw with.
    prepared: BTreeMap<(usize, usize), Prepared>,
}

/// A campaign that is ready to run: its clean runs are done.
#[derive(Debug)]
pub struct Campaign<'a> {
    pub(crate) model: &'a Model,
    pub(crate) kernels: &'static Kernels,
    mix: Mix,
    identity: Identity,
    baselines: Vec<Baseline>,
    /// Whether so many trials strike codes that the simulator pays.
    pub(crate) simulates: bool,
    pub(crate) traces: Traces,
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
        Self::ready(model, kernels, Mix::simple(plan), identity, samples)
    }

    /// The same for a plan with strata.
    ///
    /// # Errors
    /// Likewise.
    pub fn mixed(
        model: &'a Model,
        kernels: &'static Kernels,
        mix: Mix,
        identity: Identity,
        samples: &[Sample],
    ) -> Result<Self, CampaignError> {
        mix.check(model, samples)?;
        Self::ready(model, kernels, mix, identity, samples)
    }

    fn ready(
        model: &'a Model,
        kernels: &'static Kernels,
        mix: Mix,
        identity: Identity,
        samples: &[Sample],
    ) -> Result<Self, CampaignError> {
        let plan = &mix.plan;
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
            let goldens = goldens.into_iter().collect::<Result<_, _>>()?;
            let space = Space::new(model, kv);
            let prepared = mix.prepared(model, &space, kv, samples);
            Ok(Baseline { kv, space, goldens, prepared })
        };
        let baselines = kinds.into_iter().map(baseline).collect::<Result<_, _>>()?;
        let coded = mix.strata.iter().filter(|stratum| stratum.target == Target::WeightCode);
        let coded: u64 = coded.map(|stratum| u64::from(stratum.weight)).sum();
        let trials = mix.plan.trials / mix.round() * coded;
        let simulates = trials >= WORTH * samples.len() as u64;
        let traces = Traces::default();
        Ok(Self { model, kernels, mix, identity, baselines, simulates, traces })
    }

    /// The plan.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.mix.plan
    }

    /// The plan with its strata.
    #[must_use]
    pub fn mix(&self) -> &Mix {
        &self.mix
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
        let kind = target.kv().unwrap_or(self.mix.plan.kv);
        self.baselines.iter().find(|b| b.kv == kind).expect("a clean run for each kind of store")
    }

    /// By stratum: among which stored bits is drawn behind a memory code; `None` without one.
    #[must_use]
    pub fn drawn(&self) -> Vec<Option<Drawn>> {
        let drawn = |(number, stratum): (usize, &Stratum)| {
            let mut prepared = self.baseline(stratum.target).prepared.range((number, 0)..);
            let (_, Prepared { reach, words, .. }) = prepared.next()?;
            let checks = words.as_ref()?.checks(&stratum.pattern);
            Some(Drawn { bits: stratum.stored_bits(reach, words.as_ref()), checks })
        };
        self.mix.strata.iter().enumerate().map(drawn).collect()
    }

    /// What trial `index` will do.
    #[must_use]
    pub fn draw(&self, index: u64) -> Draw {
        let stratum = self.mix.turn(index);
        let target = self.mix.strata[stratum].target;
        let Baseline { kv, space, goldens, prepared } = self.baseline(target);
        let mut rng = TrialRng::new(&self.identity, index);
        let sample = rng.below(goldens.len() as u64) as usize;
        let tokens = goldens[sample].sample.tokens();
        let Prepared { reach, poisson, words } = &prepared[&(stratum, tokens)];
        let scene = Scene {
            model: self.model,
            identity: &self.identity,
            space,
            reach,
            poisson: poisson.as_ref(),
            part: self.mix.strata[stratum].within.part,
            target,
            kv: *kv,
            tokens,
        };
        let pattern = &self.mix.strata[stratum].pattern;
        let (fault, behind) = match words {
            None => (Fault::new(pattern.draw(&scene, &mut rng)), None),
            Some(words) => {
                let (fault, behind) = words.strike(pattern, &scene, &mut rng);
                (fault, Some(behind))
            }
        };
        Draw { stratum, target, sample, fault, behind }
    }

    /// Runs trial `index`.
    #[must_use]
    pub fn trial(&self, index: u64) -> Record {
        let draw = self.draw(index);
        let runs: Vec<Trial> = draw.runs().into_iter().map(|run| self.run(&draw, run)).collect();
        self.told(index, draw, &runs)
    }

    /// Runs one of the faults of a trial.
    pub(crate) fn run(&self, draw: &Draw, fault: &Fault) -> Trial {
        let golden = self.golden(draw.target, draw.sample);
        run_trial(self.model, self.kernels, golden, fault, self.mix.plan.unused)
    }

    /// A trial, from what came of all its runs.
    pub(crate) fn told(&self, index: u64, draw: Draw, runs: &[Trial]) -> Record {
        let trial = match &draw.behind {
            Some(Behind { decoded: Decoded::Right, .. }) => {
                Trial::identical(self.golden(draw.target, draw.sample))
            }
            Some(Behind { decoded: Decoded::Flagged, .. }) => Trial::flagged(),
            _ => runs[runs.len() - 1],
        };
        let raw = draw.behind.is_some().then(|| runs[0].outcome);
        self.record(index, draw, trial, raw)
    }

    /// A trial that came to this.
    pub(crate) fn record(
        &self,
        index: u64,
        draw: Draw,
        trial: Trial,
        raw: Option<Outcome>,
    ) -> Record {
        let golden = self.golden(draw.target, draw.sample);
        let (label, before) = (golden.sample.label, golden.decision());
        let Draw { stratum, target, sample, fault, behind } = draw;
        Record { index, stratum, target, sample, fault, behind, raw, label, before, trial }
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
    let mut tally = Tally::new(campaign.plan().worst);
    let trials = campaign.plan().trials;
    while tally.trials < trials {
        let left = trials - tally.trials;
        let end = tally.trials + left.min(BLOCK);
        let records = campaign.records(tally.trials..end, &done, stop);
        tally.absorb(records);
        if tally.trials < end {
            break;
        }
    }
    tally
}

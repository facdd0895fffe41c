//! Many trials at once, each with the very bits of [`run_trial`].
//!
//! A trial that strikes codes of weights is a handful of integer sums that change. The shortcuts
//! are those of the simulators of digital test:
//!
//! | shortcut | what is saved |
//! |---|---|
//! | `late_start` | a trial begins at the output that its fault changes, from the clean steps |
//! | `rank_one` | that output is the clean sum plus `dw q`: no product of a row |
//! | `batch` | the rows of many trials go through one product over the clean weights |
//! | `columns` | a row's sums are the clean ones plus the columns whose codes moved |
//! | `rows` | only tokens that the change can reach are carried |
//! | `drop` | a row that is clean again is dropped; a trial without rows is over |
//! | `margins` | tokens that the change of a row cannot make the best are not computed |
//! | `collapse` | faults with the same effect are run once |
//!
//! Why batching is exact: every step of the engine but attention works on each row alone, and
//! attention on each query and head alone; so which rows stand beside one another changes no bit.
//! What else a fault can strike goes to [`run_trial`] itself.
//!
//! Invariant: the verdicts do not depend on the shortcuts, on the batches, or on the order.

mod attention;
mod counts;
mod ffn;
mod job;
mod prepared;
mod product;
mod read_out;
mod rows;
mod trace;

use std::collections::HashMap;
use std::sync::Arc;

use engine::kernels::Kernels;
use engine::model::{Model, Slot};

use crate::fault::{Fault, UnusedCode};
use crate::golden::Golden;
use crate::trial::{Trial, refused, run_trial};
use attention::Attention;
pub use counts::Counts;
pub(crate) use counts::Way;
use ffn::FeedForward;
use job::Job;
use product::{Clean, Scratch, delta};
use read_out::ReadOuts;
use rows::Rows;
pub(crate) use trace::Trace;

/// Rows that a tile of trials aims at: enough that unpacked weights are shared by many.
const TILE: usize = 256;

/// Which shortcuts are taken; none of them changes a bit of any verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shortcuts {
    /// Trials begin at the faulted output, from the steps of the clean run.
    pub late_start: bool,
    /// A changed weight is an exact change of integer sums.
    pub rank_one: bool,
    /// Trials share products.
    pub batch: bool,
    /// Clean sums are changed by the columns whose codes moved, where those are few.
    pub columns: bool,
    /// Only rows that the change reaches are carried.
    pub rows: bool,
    /// What is clean again is dropped.
    pub drop: bool,
    /// Logits of tokens that cannot become the best are not computed.
    pub margins: bool,
    /// Faults with the same effect are run once.
    pub collapse: bool,
}

impl Shortcuts {
    /// All of them.
    pub const ALL: Self = Self {
        late_start: true,
        rank_one: true,
        batch: true,
        columns: true,
        rows: true,
        drop: true,
        margins: true,
        collapse: true,
    };

    /// None of them: every trial is a whole walk of its own.
    pub const NONE: Self = Self {
        late_start: false,
        rank_one: false,
        batch: false,
        columns: false,
        rows: false,
        drop: false,
        margins: false,
        collapse: false,
    };

    /// Each one alone, with its name.
    #[must_use]
    pub fn each() -> [(&'static str, Self); 8] {
        let none = Self::NONE;
        [
            ("late_start", Self { late_start: true, ..none }),
            ("rank_one", Self { rank_one: true, ..none }),
            ("batch", Self { batch: true, ..none }),
            ("columns", Self { columns: true, ..none }),
            ("rows", Self { rows: true, ..none }),
            ("drop", Self { drop: true, ..none }),
            ("margins", Self { margins: true, ..none }),
            ("collapse", Self { collapse: true, ..none }),
        ]
    }

    /// Whether rows are held against the clean ones wherever that may end them.
    fn checks(&self) -> bool {
        self.rows && self.drop
    }
}

/// Runs trials on one sample. It works on the calling thread: one for each thread, see
/// [`Self::twin`].
#[derive(Debug)]
pub struct Simulator<'a> {
    model: &'a Model,
    kernels: &'static Kernels,
    golden: &'a Golden,
    shortcuts: Shortcuts,
    /// The clean steps; `None` where the model is not ternary throughout.
    trace: Option<Arc<Trace>>,
    buffers: Option<Buffers>,
    counts: Counts,
}

/// What is used again from tile to tile.
#[derive(Debug)]
struct Buffers {
    attention: Attention,
    ffn: FeedForward,
    read_outs: ReadOuts,
    scratch: Scratch,
    stream: Rows,
    middle: Rows,
}

impl<'a> Simulator<'a> {
    /// A simulator of faults under one sample; walks the sample once more to keep its steps.
    #[must_use]
    pub fn new(
        model: &'a Model,
        kernels: &'static Kernels,
        golden: &'a Golden,
        shortcuts: Shortcuts,
    ) -> Self {
        let trace = Trace::new(model, kernels, golden).map(Arc::new);
        Self::over(model, kernels, golden, shortcuts, trace)
    }

    /// A simulator over the clean steps of the sample.
    pub(crate) fn over(
        model: &'a Model,
        kernels: &'static Kernels,
        golden: &'a Golden,
        shortcuts: Shortcuts,
        trace: Option<Arc<Trace>>,
    ) -> Self {
        let counts = Counts::default();
        Self { model, kernels, golden, shortcuts, trace, buffers: None, counts }
    }

    /// Another simulator of the same sample, for another thread; the clean steps are shared.
    #[must_use]
    pub fn twin(&self) -> Self {
        Self { trace: self.trace.clone(), buffers: None, counts: Counts::default(), ..*self }
    }

    /// Bytes of the clean steps, which all twins share.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.trace.as_ref().map_or(0, |trace| trace.bytes())
    }

    /// What became of all faults so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Runs faults; the verdicts in their order, each that of [`run_trial`].
    ///
    /// # Panics
    /// If a bit of a fault does not exist; see [`Fault::check`].
    #[must_use]
    pub fn run(&mut self, faults: &[Fault], unused: UnusedCode) -> Vec<Trial> {
        let trials = self.run_unproven(faults, unused, |_| false);
        trials.into_iter().map(|trial| trial.expect("nothing was proven")).collect()
    }

    /// Runs the faults that are not already known to be masked; `None` for those that are.
    ///
    /// # Panics
    /// If a bit of a fault does not exist; see [`Fault::check`].
    #[must_use]
    pub fn run_unproven(
        &mut self,
        faults: &[Fault],
        unused: UnusedCode,
        proven: impl Fn(&Fault) -> bool,
    ) -> Vec<Option<Trial>> {
        let told = self.told(faults, unused, proven);
        told.into_iter().map(|(trial, _)| trial).collect()
    }

    /// The same, with the way in which each fault was decided.
    pub(crate) fn told(
        &mut self,
        faults: &[Fault],
        unused: UnusedCode,
        proven: impl Fn(&Fault) -> bool,
    ) -> Vec<(Option<Trial>, Way)> {
        let mut told = Vec::with_capacity(faults.len());
        let mut jobs: Vec<(usize, Job)> = Vec::new();
        for (index, fault) in faults.iter().enumerate() {
            told.push(if proven(fault) {
                (None, Way::Proven)
            } else if refused(self.model, fault, unused) {
                (Some(Trial::refused()), Way::Still)
            } else if let Some(job) = self.job(fault, unused) {
                jobs.push((index, job));
                (None, Way::Still)
            } else {
                let trial = run_trial(self.model, self.kernels, self.golden, fault, unused);
                (Some(trial), Way::Alone)
            });
        }
        let all: Vec<&Job> = jobs.iter().map(|(_, job)| job).collect();
        for ((index, _), (trial, way)) in jobs.iter().zip(self.run_jobs(&all)) {
            told[*index] = (Some(trial), way);
        }
        told.iter().for_each(|&(_, way)| self.counts.count(way));
        told
    }

    fn job(&self, fault: &Fault, unused: UnusedCode) -> Option<Job> {
        self.trace.as_ref()?;
        Job::new(self.model, fault, unused)
    }

    /// Runs jobs, those with the same effect once.
    fn run_jobs(&mut self, jobs: &[&Job]) -> Vec<(Trial, Way)> {
        let Some(trace) = self.trace.clone() else { return Vec::new() };
        let (model, kernels, golden) = (self.model, self.kernels, self.golden);
        let clean = Clean { model, kernels, golden, trace: &trace, shortcuts: self.shortcuts };
        let mut of = vec![None; jobs.len()];
        let mut runs: Vec<usize> = Vec::with_capacity(jobs.len());
        let mut seen: HashMap<Effect, usize> = HashMap::new();
        for (index, job) in jobs.iter().enumerate() {
            if job.changes.is_empty() {
                continue;
            }
            let key = self.shortcuts.collapse.then(|| effect(&clean, job)).flatten();
            let run = match key {
                Some(effect) if effect.sums.iter().all(|&sum| sum == 0) => continue,
                Some(effect) => *seen.entry(effect).or_insert(index),
                None => index,
            };
            if run == index {
                runs.push(index);
            }
            of[index] = Some(run);
        }
        runs.sort_by(|&a, &b| jobs[a].changes.cmp(&jobs[b].changes));
        let mut trials = vec![None; jobs.len()];
        let mut rest = &runs[..];
        while !rest.is_empty() {
            let (now, later) = rest.split_at(tile(&clean, jobs, rest));
            let tile: Vec<&Job> = now.iter().map(|&index| jobs[index]).collect();
            let buffers = self.buffers.get_or_insert_with(|| Buffers::new(&clean));
            for (&index, trial) in now.iter().zip(buffers.run(&clean, &tile)) {
                trials[index] = Some(trial);
            }
            rest = later;
        }
        let verdict = |(index, run): (usize, Option<usize>)| {
            let Some(run) = run else { return (Trial::identical(golden), Way::Still) };
            let (trial, early) = trials[run].expect("every run has a verdict");
            (trial, if run == index { Way::Executed { early } } else { Way::Collapsed })
        };
        of.into_iter().enumerate().map(verdict).collect()
    }
}

/// What makes two faults the same: one output, whose sums change alike at every token that counts.
#[derive(PartialEq, Eq, Hash)]
struct Effect {
    site: (usize, Slot, usize),
    sums: Vec<i32>,
}

/// The effect of a job; `None` if it changes more than one output.
fn effect(clean: &Clean, job: &Job) -> Option<Effect> {
    let site = job.only_output()?;
    let (layer, slot, _) = site;
    let codes = clean.layer(layer).codes(slot);
    let padded = clean.ternary(layer, slot).0.padded_columns();
    let change = |token| delta(&job.changes, codes, padded, token);
    Some(Effect { site, sums: clean.span(layer, slot).map(change).collect() })
}

/// How many of the jobs that are left go through one tile.
fn tile(clean: &Clean, jobs: &[&Job], left: &[usize]) -> usize {
    if !clean.shortcuts.batch {
        return 1;
    }
    let rows = |&index: &usize| {
        let change = jobs[index].changes[0];
        clean.span(change.layer, change.slot).len()
    };
    let mut sum = 0;
    let fits = left.iter().take_while(|index| {
        sum += rows(index);
        sum <= TILE
    });
    fits.count().max(1)
}

impl Buffers {
    fn new(clean: &Clean) -> Self {
        Self {
            attention: Attention::new(clean),
            ffn: FeedForward::new(),
            read_outs: ReadOuts::default(),
            scratch: Scratch::default(),
            stream: Rows::default(),
            middle: Rows::default(),
        }
    }

    /// Runs some trials through the layers together, and says of each whether all of its rows were
    /// clean again before the read-out.
    fn run(&mut self, clean: &Clean, jobs: &[&Job]) -> Vec<(Trial, bool)> {
        let layers = clean.model.layers.len();
        let begin = jobs.iter().map(|job| job.first_layer()).min().unwrap_or(layers);
        let end = jobs.iter().map(|job| job.last_layer()).max().unwrap_or(0);
        self.stream.reset(clean.model.config.hidden);
        let begin = if clean.shortcuts.late_start { begin } else { 0 };
        if !clean.shortcuts.late_start {
            for owner in 0..jobs.len() {
                for token in 0..clean.tokens() {
                    self.stream.push(owner, token).copy_from_slice(clean.stream(0, token));
                }
            }
        }
        for layer in begin..layers {
            if layer > end && self.stream.len() == 0 {
                break;
            }
            let (stream, middle) = (&mut self.stream, &mut self.middle);
            self.attention.half(clean, (layer, jobs), stream, &mut self.scratch, middle);
            self.ffn.half(clean, (layer, jobs), middle, &mut self.scratch, stream);
        }
        let early = (0..jobs.len()).map(|owner| self.stream.of(owner).is_empty());
        let early: Vec<bool> = early.collect();
        let trials = self.read_outs.judge(clean, jobs.len(), &self.stream);
        trials.into_iter().zip(early).collect()
    }
}

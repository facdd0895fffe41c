//! What every stage of the work shares: the subject, the clock, the limits and the progress bar.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use certify::affine::Matrices;
use certify::claim::{Decision, Deployed, Scope};
use certify::interval::Margin;
use certify::ladder::Aim;
use certify::region::{Ball, Region};
use engine::walk::Read;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use ndarray::Array2;
use reports::model::{LimitHit, Norm};

use crate::input::Sample;
use crate::plan::{LARGE, Plan};
use crate::substitution::Choices;

/// The subject of an analysis.
#[derive(Debug)]
pub struct Context<'a> {
    /// The request.
    pub plan: &'a Plan,
    /// The deployed program.
    pub deployed: Deployed<'a>,
    /// The samples.
    pub samples: &'a [Sample],
    /// What may stand for their tokens, where that was asked for.
    pub choices: Option<Vec<Choices>>,
    /// The matrices of the model for affine forms, made when they are first needed.
    pub matrices: Matrices<'a>,
    /// Ternary and other weights of the linear layers.
    pub weights: u64,
    /// The clock.
    pub clock: Clock,
}

impl Context<'_> {
    /// Whether the model is so large that defaults shrink and samples go one after another.
    #[must_use]
    pub fn large(&self) -> bool {
        self.weights > LARGE
    }

    /// The layer that the rows that move enter.
    #[must_use]
    pub fn from(&self) -> usize {
        let layers = self.deployed.model.layers.len();
        self.plan.suffix.map_or(0, |suffix| layers.saturating_sub(suffix))
    }

    /// The clean rows that move: the embeddings, or the stream that enters the suffix.
    #[must_use]
    pub fn entering(&self, sample: &Sample) -> Array2<f32> {
        let embedded = sample.embedded(self.deployed.model);
        match self.from() {
            0 => embedded,
            from => self.deployed.streams(&embedded).swap_remove(from),
        }
    }

    /// The sets that a claim at a radius speaks of: one for each set of rows that moves together.
    #[must_use]
    pub fn regions<'x>(&self, clean: &'x Array2<f32>, radius: f64) -> Vec<Region<'x>> {
        let moves = self.plan.scope.moves(clean.nrows()).expect("the position was checked");
        let ball = match self.plan.norm {
            Norm::Linf => Ball::Linf(radius),
            Norm::L2 => Ball::L2(radius),
        };
        moves.into_iter().map(|moved| Region { clean, moved, ball: ball.clone() }).collect()
    }

    /// Whether a search with affine forms is within `--budget`, so far as operations can tell: a
    /// thousand million of them a second, ten passes a search. It speaks of the model, the sample
    /// and the plan alone, so that the same methods are tried on every machine.
    #[must_use]
    pub fn forms_pay(&self, tokens: usize) -> bool {
        let moving = match self.plan.scope {
            Scope::Position(row) => tokens.saturating_sub(row),
            _ => tokens,
        };
        let operations = self.matrices.operations(self.from(), moving);
        !self.large() && operations <= 1e8 * self.plan.budget.as_secs_f64()
    }

    /// What is to be proven of rows that enter a layer.
    #[must_use]
    pub fn aim<'c>(&'c self, from: usize, read: Read, claims: &'c [Margin]) -> Aim<'c> {
        Aim { deployed: &self.deployed, matrices: &self.matrices, from, read, claims }
    }

    /// Runs a function on every sample, in parallel for small models, and gives the results in
    /// order.
    ///
    /// Samples that the time limit leaves no time for give `None`.
    pub fn each<T: Send>(
        &self,
        stage: &Stage,
        run: impl Fn(usize, &Sample) -> T + Sync,
    ) -> Vec<Option<T>> {
        use rayon::prelude::*;
        let one = |(index, sample): (usize, &Sample)| {
            let result = (!self.clock.over()).then(|| run(index, sample));
            stage.step();
            result
        };
        if self.large() {
            self.samples.iter().enumerate().map(one).collect()
        } else {
            self.samples.par_iter().enumerate().map(one).collect()
        }
    }
}

/// The decision that a sample must keep.
#[must_use]
pub(super) fn decision(sample: &Sample, prediction: usize) -> Decision {
    let winner = sample.label.map_or(prediction, |label| label as usize);
    Decision { winner, classes: sample.classes.clone() }
}

/// The clock of a run, and the limits that were hit.
#[derive(Debug)]
pub struct Clock {
    begun: Instant,
    limit: Option<Duration>,
    hits: Mutex<Vec<LimitHit>>,
    show: bool,
}

impl Clock {
    /// Starts the clock.
    #[must_use]
    pub fn start(begun: Instant, limit: Option<Duration>, show: bool) -> Self {
        Self { begun, limit, hits: Mutex::new(Vec::new()), show }
    }

    /// Whether the time limit has passed.
    #[must_use]
    pub fn over(&self) -> bool {
        self.limit.is_some_and(|limit| self.begun.elapsed() >= limit)
    }

    /// Whether the time limit has passed; if so, that it cut this is recorded.
    #[must_use]
    pub fn cuts(&self, what: &str) -> bool {
        let over = self.over();
        if over {
            self.hit("time-limit", what);
        }
        over
    }

    /// Time since the start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Records that a limit cut something.
    pub fn hit(&self, limit: &str, what: impl Into<String>) {
        let hit = LimitHit { limit: limit.into(), what: what.into() };
        let mut hits = self.hits.lock().expect("no holder of the list panics");
        if !hits.contains(&hit) {
            hits.push(hit);
        }
    }

    /// Records how many of the results of a stage the time limit left out.
    pub fn count_missing<T>(&self, stage: &str, results: &[Option<T>]) {
        let missing = results.iter().filter(|result| result.is_none()).count();
        if missing > 0 {
            self.hit("time-limit", format!("{stage}: {missing} of {} samples", results.len()));
        }
    }

    /// The limits that were hit, in the order of the stages.
    #[must_use]
    pub fn hits(&self) -> Vec<LimitHit> {
        self.hits.lock().expect("no holder of the list panics").clone()
    }

    /// A stage with a progress bar of `steps`.
    #[must_use]
    pub fn stage(&self, name: &'static str, steps: u64) -> Stage {
        let bar = ProgressBar::new(steps);
        if !self.show {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        let style = ProgressStyle::with_template("{msg:<28} [{bar:32}] {pos}/{len} {eta}");
        bar.set_style(style.expect("a valid template").progress_chars("=> "));
        bar.set_message(name);
        Stage { bar }
    }
}

/// One stage of the work; its bar vanishes with it.
#[derive(Debug)]
pub struct Stage {
    bar: ProgressBar,
}

impl Stage {
    /// One step is done.
    pub fn step(&self) {
        self.bar.inc(1);
    }

    /// So many steps are done.
    pub fn at(&self, steps: u64) {
        self.bar.set_position(steps);
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

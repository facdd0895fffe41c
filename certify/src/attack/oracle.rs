//! The engine as an attack sees it: a point in, the margin of the claim out, each answer counted.
//!
//! Rows before the first that moves are walked once and stay in the key-value store; every answer
//! walks only the rows behind them. The walk gives the same bits either way.

use engine::walk::{self, Domain, Exact, Read};
use ndarray::{Array2, ArrayView2, s};

use super::{Target, ball};
use crate::claim::{Decision, decide};
use crate::tape::Tape;

/// The decision on one point.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    /// The competing tokens, rising, with their scores.
    scores: Vec<(usize, f32)>,
    /// The winner; `None` where a score is NaN.
    pub(super) prediction: Option<usize>,
    /// The score of the claimed winner less the best other; NaN where there is no winner.
    pub(super) margin: f32,
}

impl Reading {
    pub(super) fn new(claim: &Decision, logits: &[f32]) -> Self {
        let tokens = claim.candidates(logits.len());
        let scores: Vec<(usize, f32)> = tokens.map(|token| (token, logits[token])).collect();
        let prediction = decide(logits, &claim.classes);
        let others = scores.iter().filter(|&&(token, _)| token != claim.winner);
        let best = others.fold(f32::NEG_INFINITY, |b, &(_, s)| if s > b { s } else { b });
        let margin = prediction.map_or(f32::NAN, |_| logits[claim.winner] - best);
        Self { scores, prediction, margin }
    }

    /// The score of one competing token less that of another.
    pub(super) fn over(&self, token: usize, rival: usize) -> f32 {
        let score = |token| self.scores.iter().find(|(own, _)| *own == token).map(|&(_, s)| s);
        let (one, other) = (score(token), score(rival));
        one.expect("a competing token") - other.expect("a competing token")
    }

    /// The best others, best first.
    pub(super) fn rivals(&self, winner: usize, count: usize) -> Vec<usize> {
        let others = self.scores.iter().filter(|&&(token, _)| token != winner);
        let mut others: Vec<(usize, f32)> = others.copied().collect();
        others.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        others.into_iter().map(|(token, _)| token).take(count).collect()
    }
}

/// Rivals with the slopes of the margins over them.
pub(super) type Slopes = Vec<(usize, Array2<f32>)>;

/// Towards which rivals slopes are taken.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rivals {
    /// So many of those that are best at the point, best first.
    Nearest(usize),
    /// This one.
    One(usize),
}

/// The counted engine.
#[derive(Debug)]
pub(super) struct Oracle<'a> {
    target: Target<'a>,
    state: Exact,
    /// The rows that are walked anew, and among them, which come from a point.
    prefix: usize,
    moving: usize,
    /// Evaluations so far.
    pub(super) spent: usize,
    budget: usize,
}

impl<'a> Oracle<'a> {
    pub(super) fn new(target: &Target<'a>, budget: usize) -> Self {
        let moving = ball::moving(target.scope, target.clean.nrows());
        let mut state = Exact::new(target.kernels, target.model, target.kv);
        if moving.start > 0 {
            let last = target.model.layers.len();
            let mut x = target.clean.slice(s![..moving.start, ..]).to_owned();
            for index in target.from..last {
                let read = if index + 1 == last { Read::Last } else { Read::All };
                x = walk::layer(&mut state, target.model, index, &x, 0, read);
            }
        }
        Self {
            target: *target,
            state,
            prefix: moving.start,
            moving: moving.len(),
            spent: 0,
            budget,
        }
    }

    pub(super) fn claim(&self) -> &'a Decision {
        self.target.claim
    }

    pub(super) fn has_gradients(&self) -> bool {
        self.target.weights.is_some()
    }

    /// The shape of the rows that move.
    pub(super) fn shape(&self) -> (usize, usize) {
        (self.moving, self.target.clean.ncols())
    }

    /// The evaluations that are left.
    pub(super) fn left(&self) -> usize {
        if (self.target.stop.0)() { 0 } else { self.budget.saturating_sub(self.spent) }
    }

    /// The rows that are walked anew, for the rows that move.
    fn rows(&self, moved: ArrayView2<'_, f32>) -> Array2<f32> {
        let mut rows = self.target.clean.slice(s![self.prefix.., ..]).to_owned();
        rows.slice_mut(s![..self.moving, ..]).assign(&moved);
        rows
    }

    fn walk<D: Domain>(&self, domain: &mut D, rows: &D::Rows) -> D::Rows {
        let target = &self.target;
        walk::run(domain, target.model, rows, target.from, self.prefix, Read::Last)
    }

    /// The claim on a point; `None` once the budget is spent.
    pub(super) fn read(&mut self, moved: ArrayView2<'_, f32>) -> Option<Reading> {
        if self.left() == 0 {
            return None;
        }
        self.spent += 1;
        for cache in &mut self.state.caches {
            cache.keys.truncate(self.prefix);
            cache.values.truncate(self.prefix);
        }
        let rows = self.rows(moved);
        let (target, prefix) = (self.target, self.prefix);
        let state = &mut self.state;
        let logits = walk::run(state, target.model, &rows, target.from, prefix, Read::Last);
        Some(Reading::new(target.claim, logits.as_slice().expect("one standard row")))
    }

    /// The claim on a point, and the slopes of the margins to rivals.
    ///
    /// `None` once the budget does not hold the passes, or without backward weights.
    pub(super) fn slopes(
        &mut self,
        moved: ArrayView2<'_, f32>,
        rivals: Rivals,
    ) -> Option<(Reading, Slopes)> {
        let weights = self.target.weights?;
        // Read once: the stop may come between two readings.
        let left = self.left();
        if left < 2 {
            return None;
        }
        let mut state = self.state.clone();
        for cache in &mut state.caches {
            cache.keys.truncate(self.prefix);
            cache.values.truncate(self.prefix);
        }
        let mut tape = Tape::new(state, weights);
        let input = tape.input(self.rows(moved));
        let output = self.walk(&mut tape, &input);
        let claim = self.target.claim;
        let reading = Reading::new(claim, output.value.as_slice().expect("one standard row"));
        // Where the decision has fallen, nobody asks for a slope.
        let holds = reading.prediction == Some(claim.winner);
        let rivals = match rivals {
            _ if !holds => Vec::new(),
            Rivals::Nearest(count) => reading.rivals(claim.winner, count.clamp(1, left - 1)),
            Rivals::One(rival) => vec![rival],
        };
        let slopes: Slopes = (rivals.into_iter())
            .map(|rival| {
                let mut seed = Array2::zeros(output.value.raw_dim());
                seed[[0, claim.winner]] += 1.0;
                seed[[0, rival]] -= 1.0;
                let slope = tape.backward(&output, &seed, &input);
                (rival, slope.slice(s![..self.moving, ..]).to_owned())
            })
            .collect();
        self.spent += 1 + slopes.len();
        Some((reading, slopes))
    }
}

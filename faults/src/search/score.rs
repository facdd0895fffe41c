//! How near a fault comes to its goal: samples won, then what the others still resist with.

use std::cmp::Ordering;

use engine::kernels::Kernels;
use engine::model::Model;

use super::Goal;
use crate::fault::{Fault, UnusedCode};
use crate::golden::{Golden, last_row};
use crate::overlay::Overlay;
use crate::trial::{faulty_logits, refused};

/// What a fault comes to on some samples; better ones are less.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Score {
    /// Samples whose decisions are as wanted.
    pub(super) won: u64,
    /// Sum over the samples of the margin against the goal, 0 where it is reached.
    pub(super) resistance: f64,
    /// The same sample by sample.
    pub(super) each: Vec<f64>,
}

impl Score {
    pub(super) fn cmp(&self, other: &Self) -> Ordering {
        other.won.cmp(&self.won).then(self.resistance.total_cmp(&other.resistance))
    }
}

impl PartialOrd for Score {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Runs faults.
pub(super) struct Scorer<'a> {
    pub(super) model: &'a Model,
    pub(super) kernels: &'static Kernels,
    pub(super) goldens: &'a [Golden],
    pub(super) goal: Goal,
    pub(super) unused: UnusedCode,
}

impl Scorer<'_> {
    /// The model as it is.
    pub(super) fn clean(&self) -> Score {
        Score::of(self.goldens.iter().map(|golden| self.resistance(golden, None)).collect())
    }

    /// A fault on some samples.
    pub(super) fn score(&self, fault: &Fault, samples: &[usize]) -> Score {
        let each = samples.iter().map(|&sample| &self.goldens[sample]);
        if refused(self.model, fault, self.unused) {
            return Score::of(each.map(|golden| self.resistance(golden, None)).collect());
        }
        let overlay = Overlay::new(self.model, fault, self.unused);
        let run = |golden: &Golden| {
            let logits = faulty_logits(self.model, self.kernels, golden, &overlay);
            self.resistance(golden, logits.as_ref().map(last_row).as_deref())
        };
        Score::of(each.map(run).collect())
    }

    /// The samples that resist least among those that still do: where progress is seen first.
    pub(super) fn nearest(&self, now: &Score, count: usize) -> Vec<usize> {
        let mut left: Vec<usize> = (0..now.each.len()).filter(|&s| now.each[s] > 0.0).collect();
        left.sort_by(|&a, &b| now.each[a].total_cmp(&now.each[b]).then(a.cmp(&b)));
        left.truncate(count);
        left
    }

    /// The margin against the goal under some logits, those of the clean run for `None`; 0 where
    /// the goal is reached. Logits that are not finite are detected, and so as good as clean ones.
    fn resistance(&self, golden: &Golden, logits: Option<&[f32]>) -> f64 {
        let finite = logits.filter(|logits| logits.iter().all(|x| x.is_finite()));
        golden.read_out.resistance(finite, self.goal)
    }
}

impl Score {
    fn of(each: Vec<f64>) -> Self {
        let won = each.iter().filter(|&&left| left == 0.0).count() as u64;
        Self { won, resistance: each.iter().sum(), each }
    }
}

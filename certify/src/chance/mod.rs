//! What can be said by drawing at random: bounds that hold with a stated confidence, for models
//! that no deterministic bound reaches.
//!
//! Two statements, each about a classifier of its own:
//!
//! - [`statistical`]: the *deployed engine* changes its decision with at most some probability,
//!   when its input moves uniformly in a box. It says nothing of the worst point of the box.
//! - [`smoothing`]: a *smoothed classifier*, the majority of the engine's decisions under Gaussian
//!   noise, keeps its decision on a whole Euclidean ball. It says nothing of the engine alone.
//!
//! Neither is a certificate in the sense of the other methods, and no key of a report mixes them.
//! The arguments are in `SOUNDNESS.md`.
//!
//! Invariants: a count is a function of (classifier, input, source, number of trials), whatever the
//! threads. What a clock cut short gives no statement at all, since how long a trial takes could
//! depend on how it ends.

pub mod noise;
pub mod normal;
pub mod smoothing;
pub mod statistical;

use std::collections::BTreeMap;
use std::ops::Range;

use engine::walk::Read;
use ndarray::Array2;
use rayon::prelude::*;

use crate::attack::Stop;
use crate::claim::{Deployed, decide};
use noise::{Phase, Source};

/// An input whose rows move.
#[derive(Clone, Debug)]
pub struct Around<'a> {
    /// The clean stream, `[tokens, width]`.
    pub clean: &'a Array2<f32>,
    /// The rows that move.
    pub moved: Range<usize>,
}

impl Around<'_> {
    /// How many numbers move.
    #[must_use]
    pub fn dimensions(&self) -> usize {
        self.moved.len() * self.clean.ncols()
    }
}

/// How often each decision was taken; `None` stands for logits that are not numbers.
pub type Votes = BTreeMap<Option<usize>, u64>;

/// The deployed engine as a function from the stream that enters layer `from` to a decision among
/// `classes` (all if there are none) at the last position.
pub fn deployed_decision<'a>(
    deployed: &'a Deployed<'a>,
    from: usize,
    classes: &'a [usize],
) -> impl Fn(&Array2<f32>) -> Option<usize> + Sync + 'a {
    move |stream| {
        let logits = deployed.logits(stream, from, Read::Last);
        decide(logits.as_slice().expect("one row"), classes)
    }
}

/// Decides at the points that trials `0..trials` draw; `None` if stopped before the last.
fn votes(
    around: &Around,
    source: &Source,
    (phase, trials): (Phase, u64),
    classifier: &(impl Fn(&Array2<f32>) -> Option<usize> + Sync),
    point: impl Fn(&mut noise::Numbers, &mut Array2<f32>) + Sync,
    stop: Stop,
) -> Option<Votes> {
    let one = |trial: u64| {
        if (stop.0)() {
            return None;
        }
        let mut stream = around.clean.clone();
        point(&mut source.numbers(phase, trial), &mut stream);
        Some(Votes::from([(classifier(&stream), 1)]))
    };
    let add = |mut all: Votes, more: Votes| {
        for (class, count) in more {
            *all.entry(class).or_default() += count;
        }
        Some(all)
    };
    (0..trials).into_par_iter().map(one).try_reduce(Votes::new, add)
}

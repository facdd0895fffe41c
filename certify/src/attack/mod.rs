//! Attacks: the search for a point of a ball on which the engine decides otherwise.
//!
//! A certificate bounds a radius from below; a [`Witness`] bounds it from above. Nothing here needs
//! to be right for a witness to be: it counts because the engine itself, run again on that point,
//! gives the other decision ([`Witness::verify`]).
//!
//! In one ball the search goes from cheap to dear within a fixed number of forward evaluations: the
//! signs of gradients towards the nearest rivals (Goodfellow et al. 2015), projected descent with
//! momentum (Madry et al. 2018, Dong et al. 2018) from the best corner and from random points,
//! random corners, and greedy flips of blocks of a corner (Moon et al. 2019). For the smallest
//! radius the same signs find a first witness; then walks follow the boundary inwards, plain ones
//! and ones that make for a rival (Pintor et al. 2021), and single coordinates are mirrored where a
//! slope says too little of codes. Without backward weights the slope is measured along random
//! signs instead (SPSA, Spall 1992). Under the Euclidean norm the same methods walk on the sphere:
//! a slope itself takes the place of its signs.
//!
//! Invariant: unless it is stopped, the result is a function of the arguments alone: integer draws
//! of ChaCha, gradients in the kernels' fixed order, no clock, no threads.

mod ball;
mod boundary;
mod draws;
mod methods;
mod mirror;
mod norm;
mod oracle;
mod radius;
mod search;
mod witness;

use engine::kernels::Kernels;
use engine::model::{KvKind, Model};
use ndarray::Array2;

use crate::claim::Decision;
use crate::tape::BackwardWeights;
use ball::Ball;
pub use norm::Norm;
pub use radius::{attack_radius, attack_radius_l2};
use search::Search;
pub use witness::{Refuted, Witness};

/// How much an attack may spend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Forward passes of the model; a backward pass counts as one more.
    ///
    /// On packed backward weights of a large model it takes as long as ten or twenty.
    pub forward_evaluations: usize,
}

/// How to attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attack {
    /// What it may spend in all.
    pub budget: Budget,
    /// Random starting points between two rounds of corners and greedy flips; for the smallest
    /// radius, walks between two rounds of mirrored coordinates.
    pub restarts: usize,
    /// The seed of all draws.
    pub seed: u64,
    /// The stream of draws under the seed: a sample's index, so that samples do not share draws.
    pub stream: u64,
}

/// Which embedded rows move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// All of them at once.
    All,
    /// The row at one 0-based position.
    Position(usize),
}

/// Asked before each evaluation whether to stop; what was found until then stands.
#[derive(Clone, Copy)]
pub struct Stop<'a>(pub &'a (dyn Fn() -> bool + Sync));

impl Stop<'_> {
    /// Never stops: the budget alone ends the attack.
    pub const NEVER: Stop<'static> = Stop(&|| false);
}

impl std::fmt::Debug for Stop<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Stop")
    }
}

/// What is attacked.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The model.
    pub model: &'a Model,
    /// The kernel table that runs it; it changes no bit of any result.
    pub kernels: &'static Kernels,
    /// The storage type of keys and values.
    pub kv: KvKind,
    /// The weights of backward passes; without them slopes are measured along random directions.
    pub weights: Option<&'a BackwardWeights<'a>>,
    /// The layer that the rows enter: 0 for embedded rows.
    pub from: usize,
    /// The clean rows `[tokens, hidden]`; the decision is read at the last one.
    pub clean: &'a Array2<f32>,
    /// Which of them move.
    pub scope: Scope,
    /// The decision under attack, as it is read at the last position.
    pub claim: &'a Decision,
    /// When to stop before the budget is spent.
    pub stop: Stop<'a>,
}

/// The lower and the upper end points, `[tokens, hidden]` each, of the ball of a radius.
pub type BallOf<'a> = dyn Fn(f32) -> (Array2<f32>, Array2<f32>) + 'a;

/// What an attack has come to.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// A witness and its distance to the clean rows, if one was found.
    pub found: Option<(f32, Witness)>,
    /// The evaluations that were spent.
    pub evaluations: usize,
}

impl Attack {
    /// Searches one box, `[tokens, hidden]` each for its lower and upper end points.
    ///
    /// A point is one of the box in exact f32: `lo <= x <= hi`. Where the end points do not enclose
    /// the clean value, the nearer one takes its place.
    ///
    /// # Panics
    /// If shapes differ, or the claim or the scope names what is not there.
    #[must_use]
    pub fn find(&self, target: &Target<'_>, lo: &Array2<f32>, hi: &Array2<f32>) -> Attempt {
        let mut search = Search::new(self, target, Norm::Linf);
        let ball = Ball::new(target, lo, hi);
        let hit = search.clean(&ball).hit().or_else(|| search.assault(&ball));
        let evaluations = search.oracle.spent;
        let found = hit.map(|hit| {
            let witness = hit.witness(target);
            (Norm::Linf.distance(target.clean, &witness.point), witness)
        });
        Attempt { found, evaluations }
    }
}

//! The methods of attack on one ball, from cheap to dear, and their order.
//!
//! All of them move a direction (see [`super::ball`]) and stop at the first hit or at the end of
//! what they may spend.

use ndarray::Array2;

use super::ball::Ball;
use super::oracle::Rivals;
use super::search::{Hit, Outcome, Search};

/// Steps of one descent.
const STEPS: usize = 8;
/// Random corners in one round.
const CORNERS: usize = 4;
/// Evaluations of one round of greedy flips.
const FLIPS: usize = 24;
/// How much of the velocity of a descent outlives a step.
const MOMENTUM: f32 = 0.75;

impl Search<'_> {
    /// Descends from a direction against a velocity, halving the step half way.
    fn descend(
        &mut self,
        ball: &Ball,
        start: Array2<f32>,
        rate: f32,
        kind: &'static str,
    ) -> Outcome<()> {
        let mut direction = start;
        let mut velocity = Array2::<f32>::zeros(self.oracle.shape());
        for step in 0..STEPS {
            let slope = match self.slopes(ball, &direction, Rivals::Nearest(1), kind) {
                Outcome::Miss(slopes) => slopes.into_iter().next(),
                Outcome::Hit(hit) => return Outcome::Hit(hit),
                Outcome::Spent => return Outcome::Spent,
            };
            let Some((_, slope)) = slope else { return Outcome::Miss(()) };
            let size = self.norm.magnitude(&slope);
            if !(size > 0.0 && size.is_finite()) {
                return Outcome::Miss(());
            }
            velocity = velocity * MOMENTUM + slope / size;
            let rate = if step < STEPS / 2 { rate } else { rate / 2.0 };
            direction = self.norm.inside(direction + self.norm.against(&velocity) * rate);
        }
        self.probe(ball, &direction, kind).into_unit()
    }

    /// Flips blocks of a corner, large ones first, and keeps what lowers the margin.
    fn flip_blocks(&mut self, ball: &Ball) -> Outcome<()> {
        let shape = self.oracle.shape();
        let size = shape.0 * shape.1;
        let mut best = match &self.lead {
            Some((_, direction)) => self.norm.corner_of(direction),
            None => self.corner(),
        };
        let mut lowest = match self.probe(ball, &best, "greedy-flips") {
            Outcome::Miss(reading) => reading.margin,
            other => return other.into_unit(),
        };
        for _ in 0..FLIPS.div_ceil(self.blocks) {
            for block in self.draws.order(self.blocks).into_iter().take(FLIPS) {
                let flipped = with_flipped(&best, block, self.blocks);
                match self.probe(ball, &flipped, "greedy-flips") {
                    Outcome::Miss(reading) if reading.margin < lowest => {
                        (best, lowest) = (flipped, reading.margin);
                    }
                    Outcome::Miss(_) => {}
                    other => return other.into_unit(),
                }
            }
        }
        self.blocks = if self.blocks < size { (4 * self.blocks).clamp(4, size) } else { 4 };
        Outcome::Miss(())
    }

    fn random_corners(&mut self, ball: &Ball) -> Outcome<()> {
        for _ in 0..CORNERS {
            let corner = self.corner();
            match self.probe(ball, &corner, "random-corner") {
                Outcome::Miss(_) => {}
                other => return other.into_unit(),
            }
        }
        Outcome::Miss(())
    }

    /// One more round of methods: descents from the lead and from random points, corners, flips.
    fn method(&mut self, ball: &Ball) -> Outcome<()> {
        let gradients = self.oracle.has_gradients();
        let named = |kind| if gradients { kind } else { "spsa" };
        let cycle = 4 + self.restarts;
        let round = self.round % cycle;
        self.round += 1;
        match round {
            0 | 1 => {
                let rate = if round == 0 { 0.5 } else { 0.125 };
                let start = match &self.lead {
                    Some((_, direction)) => direction.clone(),
                    None => Array2::zeros(self.oracle.shape()),
                };
                self.descend(ball, start, rate, named("projected-gradient"))
            }
            _ if round < 2 + self.restarts => {
                let start = self.point();
                self.descend(ball, start, 0.5, named("projected-gradient-restart"))
            }
            _ if round == 2 + self.restarts => self.random_corners(ball),
            _ => self.flip_blocks(ball),
        }
    }

    /// Rounds of methods until a hit, or until about `allowance` evaluations are spent.
    pub(super) fn rounds(&mut self, ball: &Ball, allowance: usize) -> Option<Hit> {
        let end = self.oracle.spent.saturating_add(allowance);
        while self.oracle.spent < end {
            match self.method(ball) {
                Outcome::Hit(hit) => return Some(*hit),
                Outcome::Miss(()) => {}
                Outcome::Spent => return self.last_reads(ball),
            }
        }
        None
    }

    /// A gradient needs two evaluations: one that is left over goes to a random point.
    fn last_reads(&mut self, ball: &Ball) -> Option<Hit> {
        while self.oracle.left() > 0 {
            let point = self.point();
            if let Outcome::Hit(hit) = self.probe(ball, &point, "random-point") {
                return Some(*hit);
            }
        }
        None
    }

    /// Everything, on one ball, until the budget ends.
    pub(super) fn assault(&mut self, ball: &Ball) -> Option<Hit> {
        match self.first_corners(ball) {
            Outcome::Hit(hit) => return Some(*hit),
            Outcome::Spent => return self.last_reads(ball),
            Outcome::Miss(corners) => {
                for (_, corner) in corners {
                    if let Outcome::Hit(hit) = self.probe(ball, &corner, self.corner_kind()) {
                        return Some(*hit);
                    }
                }
            }
        }
        let allowance = self.oracle.left();
        self.rounds(ball, allowance)
    }

    /// The name of the first method.
    pub(super) fn corner_kind(&self) -> &'static str {
        if self.oracle.has_gradients() { "gradient-sign" } else { "spsa" }
    }
}

/// A direction with one of `count` blocks of neighbouring cells mirrored.
fn with_flipped(direction: &Array2<f32>, block: usize, count: usize) -> Array2<f32> {
    let mut flipped = direction.clone();
    let cells = flipped.as_slice_mut().expect("standard rows");
    let span = block * cells.len() / count..(block + 1) * cells.len() / count;
    cells[span].iter_mut().for_each(|u| *u = -*u);
    flipped
}

//! Radii of nets so small that every corner of a ball can be run: what they prove holds there, and
//! they are within a few times of the smallest ball that fails.
//!
//! Bounds of whole last layers can hide a term that was forgotten behind others that were counted
//! twice; beside all corners of the very ball that they prove there is little to hide behind.

mod nets;
mod support;

use std::sync::Arc;

use certify::affine::{Matrices, Proof, prove};
use certify::claim::{Decision, Deployed, clean_margin};
use certify::interval::Margin;
use certify::radius::{Search, search};
use certify::region::{Ball, Region};
use engine::kernels;
use engine::model::{Activations, Float, KvKind, Model};
use engine::walk::Read;
use ndarray::Array2;
use nets::share;
use support::{DIGITS, Draws, Shape, model};

const TOKENS: usize = 4;
const HIDDEN: usize = 8;

const SMALL: Shape = Shape {
    hidden: HIDDEN,
    ffn: 24,
    layers: 1,
    heads: 2,
    kv_heads: 1,
    head_dim: 4,
    vocabulary: 5,
    ..DIGITS
};

/// A decision of a net, one token of which moves.
struct Case<'a> {
    deployed: Deployed<'a>,
    clean: Array2<f32>,
    moved: usize,
    decision: Decision,
}

impl<'a> Case<'a> {
    fn new(deployed: Deployed<'a>, clean: Array2<f32>, moved: usize) -> Self {
        let logits = deployed.logits(&clean, 0, Read::Last);
        let winner = engine::numerics::argmax(logits.as_slice().expect("one row"));
        let decision = Decision { winner: winner.expect("finite"), classes: Vec::new() };
        Self { deployed, clean, moved, decision }
    }

    fn margin(&self, point: &Array2<f32>) -> f64 {
        let logits = self.deployed.logits(point, 0, Read::Last);
        clean_margin(logits.as_slice().expect("one row"), &self.decision)
    }

    /// The least margin over all corners of a ball.
    fn least(&self, radius: f64) -> f64 {
        let mut least = f64::INFINITY;
        for corner in 0..1u32 << HIDDEN {
            let mut point = self.clean.clone();
            for (k, x) in point.row_mut(self.moved).iter_mut().enumerate() {
                let by = if corner >> k & 1 == 1 { radius } else { -radius };
                // Toward the clean value, so that no corner lies outside.
                let there = (f64::from(*x) + by * (1.0 - 1e-6)) as f32;
                *x = there;
            }
            let margin = self.margin(&point);
            least = if margin < least { margin } else { least };
        }
        least
    }

    /// The lower bounds of the margins on a ball, and whether they prove the decision.
    fn prove(&self, matrices: &Matrices<'_>, epsilon: f64) -> Proof {
        let winner = self.decision.winner;
        let rivals = self.decision.classes.iter().copied().filter(|&k| k != winner).collect();
        let claims = [Margin { row: 0, winner, rivals }];
        let (ball, moved) = (Ball::Linf(epsilon), self.moved..self.moved + 1);
        let region = Region { clean: &self.clean, moved, ball };
        prove(&self.deployed, matrices, &region, 0, Read::Last, &claims)
    }

    /// The largest radius that is proven, and its margin.
    fn proven(&self, matrices: &Matrices<'_>) -> (f64, f64) {
        let mut margin = 0.0;
        let proves = |epsilon: f64| {
            let proof = self.prove(matrices, epsilon);
            if proof.certifies() {
                margin = proof.margins[0];
            }
            proof.certifies()
        };
        let radius = search(Search { start: 0.05, least: 1e-4, most: 10.0, ratio: 1.02 }, proves);
        (radius, margin)
    }

    /// About the smallest radius at which a corner fails.
    fn failing(&self) -> f64 {
        search(Search { start: 0.05, least: 1e-4, most: 10.0, ratio: 1.02 }, |radius| {
            self.least(radius) > 0.0
        })
    }
}

#[test]
fn no_corner_of_a_proven_ball_fails_and_most_balls_are_near_the_largest() {
    let mut rng = Draws::new(4001);
    let mut ratios = Vec::new();
    for seed in 0..160 * share() as u64 {
        let layers = 1 + usize::from(seed % 4 == 3);
        let net = model(&Shape { layers, ..SMALL }, seed);
        let matrices = Matrices::new(&net);
        let deployed = Deployed { model: &net, kernels: kernels::best(), kv: KvKind::F32 };
        // The token that decides, or one that it only looks at.
        for moved in [TOKENS - 1, 1] {
            let clean = rng.rows(TOKENS, HIDDEN);
            let case = Case::new(deployed, clean, moved);
            let (radius, margin) = case.proven(&matrices);
            if radius == 0.0 {
                continue;
            }
            let least = case.least(radius);
            assert!(margin <= least, "net {seed}, token {moved}: {margin} > {least} at {radius}");
            if layers == 1 {
                ratios.push(case.failing() / radius);
            }
        }
    }
    ratios.sort_by(f64::total_cmp);
    let median = ratios[ratios.len() / 2];
    println!("{} balls, a corner fails at {median} times the radius in the middle", ratios.len());
    assert!(ratios.len() > 150, "only {} balls", ratios.len());
    assert!(median < 4.5, "a corner fails at {median} times the radius only");
}

/// A head whose first two tokens are level on a row, by the row.
fn level_head(row: &[f32], rng: &mut Draws) -> Float {
    let (first, turn) = (rng.rows(1, HIDDEN), rng.rows(1, HIDDEN));
    let along = |x: &[f32]| -> f32 { x.iter().zip(row).map(|(x, y)| x * y).sum() };
    let turn = turn.as_slice().expect("one row");
    let share = along(turn) / along(row);
    let second = first.iter().zip(turn.iter().zip(row)).map(|(h, (x, y))| h + x - share * y);
    Float::F32 { data: first.iter().copied().chain(second).collect(), columns: HIDDEN }
}

/// Where nothing is rounded to codes, bounds of small balls come near what corners reach, so that
/// little is left to hide behind; a margin of 0 is the same for every scale of the last row.
#[test]
fn no_corner_is_below_the_bound_of_a_level_margin() {
    let shape = Shape { activations: Activations::None, vocabulary: HIDDEN, ..SMALL };
    let mut rng = Draws::new(4003);
    let mut taken = Vec::new();
    for seed in 0..160 * share() as u64 {
        for moved in [TOKENS - 1, 1] {
            let mut net = model(&shape, seed);
            let unit = |k: usize| if k.is_multiple_of(HIDDEN + 1) { 1.0 } else { 0.0 };
            let data = (0..HIDDEN * HIDDEN).map(unit).collect();
            net.head = Arc::new(Float::F32 { data, columns: HIDDEN });
            let clean = rng.rows(TOKENS, HIDDEN);
            let logits = |net: &Model| {
                let deployed = Deployed { model: net, kernels: kernels::best(), kv: KvKind::F32 };
                deployed.logits(&clean, 0, Read::Last)
            };
            let row = logits(&net);
            net.head = Arc::new(level_head(row.as_slice().expect("one row"), &mut rng));
            let matrices = Matrices::new(&net);
            let deployed = Deployed { model: &net, kernels: kernels::best(), kv: KvKind::F32 };
            let decision = Decision { winner: 0, classes: vec![0, 1] };
            let case = Case { deployed, clean, moved, decision };
            let clean = case.margin(&case.clean);
            for epsilon in [0.002, 0.008, 0.032] {
                let (bound, least) =
                    (case.prove(&matrices, epsilon).margins[0], case.least(epsilon));
                let what = format!("net {seed}, token {moved}, ball {epsilon}");
                assert!(bound <= least, "{what}: {bound} > {least}");
                taken.push((clean - least) / (clean - bound));
            }
        }
    }
    taken.sort_by(f64::total_cmp);
    let (middle, most) = (taken[taken.len() / 2], taken[taken.len() * 9 / 10]);
    println!("{} bounds: corners take {middle} of each in the middle, {most} of many", taken.len());
    assert!(middle > 0.7, "corners take {middle} of what is said to be lost");
}

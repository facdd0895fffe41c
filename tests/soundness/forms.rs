//! Attempts to break what affine forms certify: balls of either norm, of all tokens and of one.
//!
//! Forms hold what correlates, so points are drawn where correlations end: corners, sparse moves,
//! and the witness of an attack from outside, scaled into the ball, in part, or with some moves
//! turned round. A point is rounded toward the clean value in every feature, so it lies within the
//! radius over the reals, where the certificate speaks.

use std::ops::Range;

use certify::affine::{Matrices, prove};
use certify::attack::{
    Attack, Attempt, Budget, Scope, Stop, Target as Aim, attack_radius, attack_radius_l2,
};
use certify::claim::{Decision, Deployed, clean_margin, decide};
use certify::interval::{Boxes, Margin};
use certify::radius::{Search, search};
use certify::region::{Ball, Region};
use certify::tape::BackwardWeights;
use engine::kernels;
use engine::model::random::SplitMix;
use engine::walk::Read;
use ndarray::Array2;
use rayon::prelude::*;

use crate::{KINDS, share, subject};

/// How far rows may move, without the radius.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Norm {
    Linf,
    L2,
}

/// A decision on embedded rows, some of which move.
struct Case<'a> {
    deployed: Deployed<'a>,
    matrices: &'a Matrices<'a>,
    weights: &'a BackwardWeights<'a>,
    clean: &'a Array2<f32>,
    scope: Scope,
    norm: Norm,
    decision: Decision,
}

/// A certified region, and what is proven of it.
struct Certified<'a> {
    region: Region<'a>,
    radius: f64,
    margin: f64,
}

impl<'a> Case<'a> {
    fn moved(&self) -> Range<usize> {
        match self.scope {
            Scope::All => 0..self.clean.nrows(),
            Scope::Position(row) => row..row + 1,
        }
    }

    fn region(&self, radius: f64) -> Region<'a> {
        let ball = match self.norm {
            Norm::Linf => Ball::Linf(radius),
            Norm::L2 => Ball::L2(radius),
        };
        Region { clean: self.clean, moved: self.moved(), ball }
    }

    fn margin(&self, radius: f64) -> Option<f64> {
        let Decision { winner, classes } = self.decision.clone();
        let claims = [Margin { row: 0, winner, rivals: classes }];
        let region = self.region(radius);
        let proof = prove(&self.deployed, self.matrices, &region, 0, Read::Last, &claims);
        proof.certifies().then(|| proof.margins[0])
    }

    /// The region at the largest epsilon that forms certify; `None` where none is.
    fn certified(&self) -> Option<Certified<'a>> {
        let settings = Search { start: 4e-3, least: 1e-5, most: 10.0, ratio: 1.02 };
        let radius = search(settings, |epsilon| self.margin(epsilon).is_some());
        let margin = (radius > 0.0).then(|| self.margin(radius)).flatten()?;
        Some(Certified { region: self.region(radius), radius, margin })
    }

    fn check(&self, point: &Array2<f32>, certified: &Certified) {
        assert!(inside(point, &certified.region), "the test left the region");
        let logits = self.deployed.logits(point, 0, Read::Last);
        let row = logits.as_slice().expect("one row");
        let of = (self.scope, self.norm, certified.radius);
        let decided = decide(row, &self.decision.classes);
        assert_eq!(decided, Some(self.decision.winner), "{of:?}: {point:?}");
        let margin = clean_margin(row, &self.decision);
        assert!(margin >= certified.margin, "{of:?}: {margin} < {}", certified.margin);
    }

    /// The direction of the nearest witness that an attack finds, which must lie outside.
    fn attacked(&self, radius: f64, seed: u64) -> Option<Array2<f32>> {
        let aim = Aim {
            model: self.deployed.model,
            kernels: self.deployed.kernels,
            kv: self.deployed.kv,
            weights: Some(self.weights),
            from: 0,
            clean: self.clean,
            scope: self.scope,
            claim: &self.decision,
            stop: Stop::NEVER,
        };
        let budget = Budget { forward_evaluations: 120 };
        let attack = Attack { budget, restarts: 2, seed, stream: 0 };
        let ball = |radius: f32| {
            let Boxes { lo, hi, .. } = self.region(f64::from(radius)).boxes();
            (lo, hi)
        };
        let Attempt { found, .. } = match self.norm {
            Norm::Linf => attack_radius(&attack, &aim, &ball),
            Norm::L2 => attack_radius_l2(&attack, &aim),
        };
        let (distance, witness) = found?;
        assert!(f64::from(distance) > radius, "an attack succeeds within a certified region");
        Some(&witness.point - self.clean)
    }
}

/// Whether a point lies in a ball: distances of floats of like size are exact in f64.
fn inside(point: &Array2<f32>, region: &Region) -> bool {
    let apart = || {
        let pairs = point.iter().zip(region.clean);
        pairs.map(|(&p, &x)| f64::from(p) - f64::from(x))
    };
    let width = point.ncols();
    let still = |at: usize| !region.moved.contains(&(at / width));
    apart().enumerate().all(|(at, d)| d == 0.0 || !still(at))
        && match region.ball {
            Ball::Linf(radius) => apart().all(|d| d.abs() <= radius),
            Ball::L2(radius) => apart().map(|d| d * d).sum::<f64>() <= radius * radius,
            Ball::Hulls(_) | Ball::Boxes { .. } => false,
        }
}

/// A direction by one of six ways, each move in [-1, 1] before the norm.
fn direction(count: usize, witness: Option<&[f64]>, rng: &mut SplitMix) -> Vec<f64> {
    let every = 1 + rng.below(40);
    let scale = [1.0, 1.0, 2.0, 8.0][rng.below(4)];
    let how = rng.below(6);
    let mut one = |at: usize| {
        let end = [-1.0, 1.0][rng.below(2)];
        match (how, witness) {
            (0, _) => f64::from(rng.unit()),
            (1, _) => end,
            (2, _) => end * f64::from(u8::from(rng.below(every) == 0)),
            (3, Some(witness)) => witness[at],
            (4, Some(witness)) if rng.below(every) != 0 => (scale * witness[at]).clamp(-1.0, 1.0),
            (5, Some(witness)) => witness[at] * (rng.below(1025) as f64 / 1024.0),
            _ => end,
        }
    };
    (0..count).map(&mut one).collect()
}

/// A point of a certified region, most often at its border.
fn point(certified: &Certified, witness: Option<&[f64]>, rng: &mut SplitMix) -> Array2<f32> {
    let Certified { region, radius, .. } = certified;
    let mut point = region.clean.clone();
    let moves = direction(region.moved.len() * point.ncols(), witness, rng);
    let norm = match region.ball {
        Ball::L2(_) => moves.iter().map(|m| m * m).sum::<f64>().sqrt(),
        _ => 1.0,
    };
    // A little less, for the rounding of the norm.
    let factor = if norm > 0.0 { radius * (1.0 - 1e-12) / norm } else { 0.0 };
    let rows = point.rows_mut().into_iter().enumerate();
    let cells = rows.filter(|(row, _)| region.moved.contains(row)).flat_map(|(_, row)| row);
    for (x, by) in cells.zip(moves.iter().map(|m| m * factor)) {
        let clean = f64::from(*x);
        let near = (clean + by) as f32;
        let past = (f64::from(near) - clean).abs() > by.abs();
        let toward = if by > 0.0 { near.next_down() } else { near.next_up() };
        *x = if past { toward } else { near };
    }
    point
}

/// Tries points of the region of a case: how many, or `None` where nothing is certified.
fn tried(case: &Case, points: usize, seed: u64) -> Option<usize> {
    let certified = case.certified()?;
    let mut rng = SplitMix(seed);
    let witness = case.attacked(certified.radius, rng.next_u64()).map(|by| {
        let moved = by.rows().into_iter().enumerate().filter(|(row, _)| case.moved().contains(row));
        let by: Vec<f64> = moved.flat_map(|(_, row)| row.to_vec()).map(f64::from).collect();
        let most = by.iter().fold(0.0, |most, x| if x.abs() > most { x.abs() } else { most });
        by.into_iter().map(|x| x / most).collect::<Vec<f64>>()
    });
    for _ in 0..points {
        case.check(&point(&certified, witness.as_deref(), &mut rng), &certified);
    }
    Some(points)
}

#[test]
fn no_point_of_a_region_that_forms_certify_changes_a_decision() {
    let models = [
        ("@digits", 6, 250 * share()),
        ("@digits-deep", 2, 250 * share()),
        ("@digits-normal", 6, 250 * share()),
    ];
    let mut all = 0;
    for (name, limit, points) in models {
        let (model, samples) = subject(name, limit);
        let (matrices, weights) = (Matrices::new(&model), BackwardWeights::dense(&model));
        let jobs: Vec<(usize, usize)> =
            (0..samples.len()).flat_map(|index| (0..4).map(move |way| (index, way))).collect();
        let one = |&(index, way): &(usize, usize)| {
            let sample = &samples[index];
            let seed = (index * 4 + way) as u64;
            let deployed = Deployed {
                model: &model,
                kernels: kernels::best(),
                kv: KINDS[index % KINDS.len()],
            };
            let clean = sample.embedded(&model);
            let logits = deployed.logits(&clean, 0, Read::Last);
            let winner = decide(logits.as_slice().expect("one row"), &sample.classes);
            let decision =
                Decision { winner: winner.expect("a decision"), classes: sample.classes.clone() };
            let row = SplitMix(seed).below(clean.nrows());
            let scope = [Scope::All, Scope::Position(row)][way % 2];
            let norm = [Norm::Linf, Norm::L2][way / 2];
            let (matrices, weights, clean) = (&matrices, &weights, &clean);
            tried(&Case { deployed, matrices, weights, clean, scope, norm, decision }, points, seed)
        };
        let found: Vec<Option<usize>> = jobs.par_iter().map(one).collect();
        let regions = found.iter().flatten().count();
        let tried: usize = found.iter().flatten().sum();
        println!("{name}: {tried} points in {regions} regions of forms, 0 violations");
        assert!(2 * regions > jobs.len(), "{name}: only {regions} of {} certified", jobs.len());
        all += tried;
    }
    println!("{all} points in all");
    assert!(all >= 8_000 * share(), "only {all} points were tried");
}

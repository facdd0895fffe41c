//! What is said with a confidence is wrong at most as often as it may be, over many repetitions.
//!
//! Where the truth has a formula (a half space) it is used; for the engine it is the result of a
//! run a thousand times as long, and a statement counts as wrong if it may be.

mod support;

use certify::attack::Stop;
use certify::chance::noise::{RoundedGaussian, STEPS, Source};
use certify::chance::smoothing::{Anchor, Poll, Smoothing, decides, poll};
use certify::chance::statistical::{Changes, changes};
use certify::chance::{Around, deployed_decision};
use certify::claim::Deployed;
use engine::kernels;
use engine::model::KvKind;
use engine::numerics::{clopper_pearson, one_sided};
use ndarray::Array2;
use support::{DIGITS, Draws, Shape, model};

const ALPHA: f64 = 0.05;
const REPETITIONS: u64 = 2000;

/// Fails if so many failures are not explained by a rate of at most `ALPHA`, nor by bad luck once
/// in a million times.
fn at_most_alpha(what: &str, failures: u64, repetitions: u64) {
    let rate = failures as f64 / repetitions as f64;
    println!("{what}: {failures} of {repetitions} wrong, {rate:.4}; may be {ALPHA}");
    assert!(one_sided(failures, repetitions, 1e-6).low <= ALPHA, "{what}: {failures}");
}

/// Phi(1) to all digits of an f64.
const PHI_ONE: f64 = 0.841_344_746_068_542_9;

fn source(seed: u64) -> Source {
    Source { seed, sample: 0, set: 0 }
}

#[test]
fn bounds_of_a_known_probability_of_change_are_wrong_at_most_alpha_of_the_time() {
    let clean = Array2::zeros((1, 2));
    let around = Around { clean: &clean, moved: 0..1 };
    for (threshold, truth) in [(0.9f32, 0.05), (0.98, 0.01), (0.2, 0.4)] {
        let classifier = |x: &Array2<f32>| Some(usize::from(x[[0, 1]] > threshold));
        let (mut wrong, mut loose) = (0, 0);
        for seed in 0..REPETITIONS {
            let trials = (&source(seed), 200);
            let found = changes(&around, 1.0, trials, 0, &classifier, Stop::NEVER).expect("all");
            wrong += u64::from(found.probability_high(ALPHA) < truth);
            // Without the confidence, the rate itself is wrong far more often.
            loose += u64::from((found.changed as f64 / 200.0) < truth);
        }
        at_most_alpha(&format!("statistical, half space at {threshold}"), wrong, REPETITIONS);
        assert!(one_sided(loose, REPETITIONS, 1e-6).low > ALPHA, "{loose} show nothing");
    }
}

/// A classifier of the second number: 1 above a cell boundary of the lattice.
fn half_space(boundary: f64) -> impl Fn(&Array2<f32>) -> Option<usize> + Sync {
    move |x| Some(usize::from(f64::from(x[[0, 1]]) > boundary))
}

const SIGMA: f64 = 0.5;
const FAMILIES: u64 = 1000;

fn polled(clean: &Array2<f32>, seed: u64, table: &RoundedGaussian) -> (Anchor, Poll) {
    let around = Around { clean, moved: 0..1 };
    let anchor = Anchor::of(&around, SIGMA).expect("a lattice");
    let smoothing = Smoothing { sigma: SIGMA, selection: 20, estimation: 200 };
    // Half a cell off one sigma: the boundary of a cell, so the truth of the rounded classifier.
    let boundary = SIGMA * (1.0 + 0.5 / f64::from(STEPS));
    let found = poll(
        &around,
        (&anchor, table),
        &smoothing,
        &source(seed),
        &half_space(boundary),
        Stop::NEVER,
    );
    (anchor, found.expect("all trials"))
}

#[test]
fn radii_of_a_smoothed_half_space_exceed_the_true_one_at_most_alpha_of_the_time() {
    let (clean, table) = (Array2::zeros((1, 2)), RoundedGaussian::new());
    let truth = SIGMA * (1.0 + 0.5 / f64::from(STEPS));
    let (mut wrong, mut families, mut positive) = (0, 0, 0);
    for family in 0..FAMILIES {
        let mut any = false;
        for member in 0..20 {
            let (anchor, found) = polled(&clean, 20 * family + member, &table);
            let low = found.probability_low(ALPHA, 2);
            let claimed = decides(low) && found.class == Some(0);
            positive += u64::from(claimed);
            wrong += u64::from(decides(low) && found.class != Some(0));
            wrong += u64::from(claimed && anchor.radius(low) > truth);
            // The correction over twenty samples: none of them wrong, at the same confidence.
            any |= anchor.radius(found.probability_low(ALPHA / 20.0, 2)) > truth;
        }
        families += u64::from(any);
    }
    let all = 20 * FAMILIES;
    at_most_alpha("smoothing, half space", wrong, all);
    at_most_alpha("smoothing, families of twenty samples", families, FAMILIES);
    assert!(positive > all * 9 / 10 && wrong > all / 200, "{positive} {wrong}");
}

#[test]
fn the_rounded_noise_has_the_probability_of_the_gaussian() {
    let (clean, table) = (Array2::zeros((1, 2)), RoundedGaussian::new());
    let (votes, trials) = (0..200).fold((0, 0), |(votes, trials), seed| {
        let found = polled(&clean, seed, &table).1;
        (votes + found.votes, trials + found.trials)
    });
    // The boundary lies half a step beyond one sigma.
    let truth = PHI_ONE + 0.5 / f64::from(STEPS) * 0.241_970_724_519_143_4;
    let interval = clopper_pearson(votes, trials, 1e-6);
    assert!(interval.low <= truth && truth <= interval.high, "{interval:?} {truth}");
}

const TINY: Shape = Shape { hidden: 16, ffn: 32, layers: 1, heads: 2, kv_heads: 1, ..DIGITS };

#[test]
fn bounds_of_the_engine_are_wrong_at_most_alpha_of_the_time() {
    let model = model(&TINY, 5);
    let deployed = Deployed { model: &model, kernels: kernels::best(), kv: KvKind::F32 };
    let classifier = deployed_decision(&deployed, 0, &[]);
    let clean = Draws::new(6).rows(2, TINY.hidden);
    let decision = classifier(&clean).expect("a decision");
    let around = Around { clean: &clean, moved: 0..2 };
    let count = |seed, trials| -> Changes {
        let numbers = (&source(seed), trials);
        changes(&around, 0.2, numbers, decision, &classifier, Stop::NEVER).expect("all trials")
    };
    let long = count(u64::MAX, 100 * REPETITIONS);
    let truth = clopper_pearson(long.changed, long.trials, 1e-6);
    println!("engine: {truth:?}");
    assert!(truth.low > 0.005 && truth.high < 0.5, "{truth:?} is no case");
    let wrong =
        (0..REPETITIONS).filter(|&seed| count(seed, 100).probability_high(ALPHA) < truth.low);
    at_most_alpha("statistical, engine", wrong.count() as u64, REPETITIONS);
}

/// A smoothed engine about one input.
struct Case<'a> {
    deployed: &'a Deployed<'a>,
    clean: &'a Array2<f32>,
    table: &'a RoundedGaussian,
}

const ENGINE_SIGMA: f64 = 0.08;

impl Case<'_> {
    fn poll(&self, clean: &Array2<f32>, seed: u64, trials: u64) -> (Anchor, Poll) {
        let around = Around { clean, moved: 0..2 };
        let anchor = Anchor::of(&around, ENGINE_SIGMA).expect("a lattice");
        let smoothing = Smoothing { sigma: ENGINE_SIGMA, selection: 20, estimation: trials };
        let classifier = deployed_decision(self.deployed, 0, &[]);
        let noise = (&anchor, self.table);
        let found = poll(&around, noise, &smoothing, &source(seed), &classifier, Stop::NEVER);
        let found = found.expect("all trials");
        (anchor, found)
    }

    /// An input at a Euclidean distance from the clean one, at most.
    fn at(&self, distance: f64, draws: &mut Draws) -> Array2<f32> {
        let way = draws.rows(2, TINY.hidden).mapv(f64::from);
        let length = way.iter().map(|x| x * x).sum::<f64>().sqrt() * (1.0 + 1e-6);
        let moved = self.clean.mapv(f64::from) + way * (distance / length);
        moved.mapv(|x| x as f32)
    }
}

#[test]
fn probabilities_of_a_smoothed_engine_are_wrong_at_most_alpha_of_the_time() {
    let (model, table) = (model(&TINY, 5), RoundedGaussian::new());
    let deployed = Deployed { model: &model, kernels: kernels::best(), kv: KvKind::F32 };
    let clean = Draws::new(6).rows(2, TINY.hidden);
    let case = Case { deployed: &deployed, clean: &clean, table: &table };
    let long = case.poll(&clean, u64::MAX, 100 * REPETITIONS).1;
    let truth = clopper_pearson(long.votes, long.trials, 1e-6);
    println!("smoothed engine: {truth:?}");
    assert!(truth.low > 0.6 && truth.high < 0.97, "{truth:?} is no case");
    let wrong = (0..REPETITIONS).filter(|&seed| {
        let found = case.poll(&clean, seed, 100).1;
        let low = found.probability_low(ALPHA, 2 * TINY.hidden);
        // Another class than the selected one has a probability below one half.
        if found.class == long.class { low > truth.high } else { decides(low) }
    });
    at_most_alpha("smoothing, engine", wrong.count() as u64, REPETITIONS);
}

#[test]
fn inputs_within_a_radius_keep_the_class_of_the_smoothed_engine() {
    let (model, table) = (model(&TINY, 5), RoundedGaussian::new());
    let deployed = Deployed { model: &model, kernels: kernels::best(), kv: KvKind::F32 };
    let clean = Draws::new(6).rows(2, TINY.hidden);
    let case = Case { deployed: &deployed, clean: &clean, table: &table };
    let (anchor, found) = case.poll(&clean, 0, 20_000);
    let radius = anchor.radius(found.probability_low(1e-6, 2 * TINY.hidden));
    assert!(radius > 0.05, "{radius} is no case");
    let mut draws = Draws::new(8);
    for direction in 0..40 {
        let near = case.poll(&case.at(radius, &mut draws), 1 + direction, 4000).1;
        // The class there is still the one of the majority: its share is not below one half.
        let high = if near.class == found.class { near.votes } else { 4000 - near.votes };
        assert!(one_sided(high, 4000, 1e-6).high >= 0.5, "{direction}: {near:?}");
    }
}

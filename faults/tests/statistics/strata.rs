//! Strata.

use faults::{Stratum, TrialRng, clopper_pearson, stratified};

use super::{binomial, contains, hold, hypergeometric, repetitions, stream};

#[test]
fn coverage_is_at_least_nominal_for_every_pair_of_rates() {
    // Two strata of very different weights, every outcome summed.
    let (first, second, known) = ((30usize, 12usize), (300usize, 9usize), (50u64, 4u64));
    for alpha in [0.2, 0.05] {
        let of = |x: usize, y: usize| {
            let strata = [
                Stratum::repeated(first.0 as u64, first.1 as u64, x as u64),
                Stratum::repeated(second.0 as u64, second.1 as u64, y as u64),
                Stratum::known(known.0, known.1),
            ];
            stratified(&strata, alpha).interval
        };
        let table: Vec<Vec<_>> =
            (0..=first.1).map(|x| (0..=second.1).map(|y| of(x, y)).collect()).collect();
        for i in 0..=24 {
            for j in 0..=24 {
                let (p, q) = (f64::from(i) / 24.0, f64::from(j) / 24.0);
                let events = first.0 as f64 * p + second.0 as f64 * q + known.1 as f64;
                let truth = events / (first.0 + second.0 + known.0 as usize) as f64;
                let (one, two) = (binomial(first.1, p), binomial(second.1, q));
                let covered = covered(&table, &one, &two, truth);
                assert!(covered >= 1.0 - alpha - 1e-12, "{p} {q} at {alpha}: {covered}");
            }
        }
    }
}

#[test]
fn coverage_is_at_least_nominal_for_every_pair_of_finite_strata() {
    let (first, second) = ((14usize, 6usize), (60usize, 8usize));
    let of = |x: usize, y: usize| {
        let strata = [
            Stratum::distinct(first.0 as u64, first.1 as u64, x as u64),
            Stratum::distinct(second.0 as u64, second.1 as u64, y as u64),
        ];
        stratified(&strata, 0.1).interval
    };
    let table: Vec<Vec<_>> =
        (0..=first.1).map(|x| (0..=second.1).map(|y| of(x, y)).collect()).collect();
    for one in 0..=first.0 {
        for two in 0..=second.0 {
            let truth = (one + two) as f64 / (first.0 + second.0) as f64;
            let laws =
                (hypergeometric(first.1, one, first.0), hypergeometric(second.1, two, second.0));
            let covered = covered(&table, &laws.0, &laws.1, truth);
            assert!(covered >= 0.9 - 1e-12, "{one} {two}: {covered}");
        }
    }
}

fn covered(table: &[Vec<faults::RateInterval>], one: &[f64], two: &[f64], truth: f64) -> f64 {
    let mut sum = 0.0;
    for (row, p) in table.iter().zip(one) {
        for (interval, q) in row.iter().zip(two) {
            if contains(*interval, truth) {
                sum += p * q;
            }
        }
    }
    sum
}

#[test]
fn known_strata_add_no_width() {
    let proven = stratified(&[Stratum::known(900, 0), Stratum::distinct(100, 100, 5)], 0.05);
    assert!((proven.interval.low - 0.005).abs() < 1e-12);
    assert!((proven.interval.high - 0.005).abs() < 1e-12);
    let open = Stratum::repeated(1000, 200, 4);
    let alone = stratified(&[open], 0.05).interval;
    let beside = stratified(&[open, Stratum::known(99_000, 0)], 0.05).interval;
    assert!((beside.high * 100.0 / alone.high - 1.0).abs() < 1e-9);
    assert!((beside.low * 100.0 / alone.low - 1.0).abs() < 1e-9);
}

#[test]
fn many_clean_strata_cost_little_more_than_one() {
    // 84 strata without an event: stratum by stratum the end is 84 times as wide.
    let strata: Vec<_> = (0..84).map(|_| Stratum::repeated(100_000, 100, 0)).collect();
    let ours = stratified(&strata, 0.05).interval;
    let pooled = clopper_pearson(0, 8400, 0.05).high;
    assert_eq!(ours.low, 0.0);
    assert!(ours.high / pooled < 1.2, "{} against {pooled}", ours.high);
    // A stratum that nobody sampled may be all events, and no more.
    let blind = [strata, vec![Stratum::repeated(84_000, 0, 0)]].concat();
    let blind = stratified(&blind, 0.05);
    assert!(blind.share.is_none());
    assert!((blind.interval.high - ours.high - 0.01).abs() < 2e-4, "{:?}", blind.interval);
}

#[test]
fn ends_are_ordered_and_hold_the_estimate() {
    let mut rng = stream("ordered", 0);
    for _ in 0..300 {
        let number = 1 + rng.below(6);
        let strata: Vec<_> = (0..number)
            .map(|_| {
                let size = 1 + rng.below(5000);
                let sampled = rng.below(size + 1);
                let events = rng.below(sampled + 1) / (1 + rng.below(9));
                match rng.below(3) {
                    0 => Stratum::known(size, size / 3),
                    1 => Stratum::distinct(size, sampled, events),
                    _ => Stratum::repeated(size, sampled, events),
                }
            })
            .collect();
        let got = stratified(&strata, 0.05);
        assert!(0.0 <= got.interval.low && got.interval.high <= 1.0, "{got:?}");
        assert!(got.interval.low <= got.interval.high, "{got:?}");
        if let Some(share) = got.share {
            let (low, high) = (got.interval.low - 1e-9, got.interval.high + 1e-9);
            assert!(low <= share && share <= high, "{strata:?} {got:?}");
        }
    }
}

/// A binomial count.
fn count(rng: &mut TrialRng, trials: u64, rate: f64) -> u64 {
    (0..trials).filter(|_| super::uniform(rng) < rate).count() as u64
}

#[test]
fn rare_events_in_uneven_strata_are_covered() {
    // Sizes, draws and rates: the mean is about 1.3e-5.
    let rare = [(4_000_000u64, 300u64, 0.0), (900_000, 200, 6e-5), (100_000, 900, 1e-4)];
    let mixed = [(1000u64, 80u64, 0.3), (5000, 60, 0.01), (20_000, 200, 0.001)];
    for (name, design) in [("strata, rare", rare), ("strata, mixed", mixed)] {
        let size: u64 = design.iter().map(|part| part.0).sum();
        let truth = design.iter().map(|part| part.0 as f64 * part.2).sum::<f64>() / size as f64;
        let runs = repetitions(1000);
        let misses = (0..runs).filter(|&run| {
            let mut rng = stream(name, run);
            let strata = design.map(|(size, sampled, rate)| {
                Stratum::repeated(size, sampled, count(&mut rng, sampled, rate))
            });
            !contains(stratified(&strata, 0.05).interval, truth)
        });
        hold(name, misses.count() as u64, runs, 0.05);
    }
}

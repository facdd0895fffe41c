//! Finite populations.

use faults::{FiniteInterval, Stratum, clopper_pearson, finite_population, stratified};

use super::{contains, hold, hypergeometric, repetitions, stream};

/// Made with mpmath at 45 digits: the true ends.
const TABLE: &str = include_str!("hypergeometric.csv");

#[test]
fn ends_enclose_the_true_ones_and_are_hardly_wider() {
    let (mut number, mut exact) = (0, 0);
    for line in TABLE.lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        let count = |i: usize| fields[i].parse::<u64>().expect("a count");
        let (x, sampled, population) = (count(0), count(1), count(2));
        let alpha = fields[3].parse::<f64>().expect("a number");
        let ours = finite_population(x, sampled, population, alpha);
        let truth = FiniteInterval { low: count(4), high: count(5), population };
        let case = format!("{line}: {ours:?}");
        assert!(ours.low <= truth.low && truth.high <= ours.high, "{case}");
        // A tie of tail and level is not excluded; and block sums are too large by 2e-4, which
        // moves an end by less than 1e-4 spreads.
        let slack = ((truth.high - truth.low) / 10_000).max(1);
        assert!(truth.low - ours.low <= slack && ours.high - truth.high <= slack, "{case}");
        number += 1;
        exact += u64::from(ours == truth);
    }
    assert!(number > 400, "{number} cases");
    println!("{exact} of {number} intervals are the true ones to the last fault");
}

#[test]
fn coverage_is_at_least_nominal_for_every_population() {
    for population in [1usize, 2, 5, 13, 40] {
        for sampled in 0..=population {
            for alpha in [0.5, 0.05, 0.001] {
                let intervals: Vec<_> = (0..=sampled as u64)
                    .map(|x| finite_population(x, sampled as u64, population as u64, alpha))
                    .collect();
                for marked in 0..=population {
                    let law = hypergeometric(sampled, marked, population);
                    let inside = |i: &FiniteInterval| (i.low..=i.high).contains(&(marked as u64));
                    let covered: f64 = law
                        .iter()
                        .zip(&intervals)
                        .filter(|(_, interval)| inside(interval))
                        .map(|(probability, _)| probability)
                        .sum();
                    let case = format!("{marked} of {population}, {sampled} drawn, {alpha}");
                    assert!(covered >= 1.0 - alpha - 1e-12, "{case}: {covered}");
                }
            }
        }
    }
}

#[test]
fn a_census_leaves_nothing_open_and_a_small_sample_is_as_if_replaced() {
    let all = finite_population(7, 1000, 1000, 0.01);
    assert_eq!((all.low, all.high), (7, 7));
    let none = finite_population(0, 0, 1000, 0.01);
    assert_eq!((none.low, none.high), (0, 1000));
    let (finite, replaced) =
        (finite_population(30, 1000, 100_000_000, 0.01).rate(), clopper_pearson(30, 1000, 0.01));
    assert!((finite.low / replaced.low - 1.0).abs() < 1e-4);
    assert!((finite.high / replaced.high - 1.0).abs() < 1e-4);
    // Half of the population drawn: the interval is narrower by the root of two.
    let half = finite_population(500, 5000, 10_000, 0.05).rate();
    let replaced = clopper_pearson(500, 5000, 0.05);
    let narrower = (half.high - half.low) / (replaced.high - replaced.low);
    assert!((narrower - 0.5f64.sqrt()).abs() < 0.01, "{narrower}");
}

#[test]
fn rare_events_among_a_million_faults_are_covered() {
    // 10 events in a million, drawn without replacement one in five: rates down to 1e-5.
    for (marked, sampled) in [(10u64, 200_000u64), (100, 20_000), (1000, 5000)] {
        let (population, runs) = (1_000_000, repetitions(4000));
        let name = format!("finite, {marked} of 1e6, {sampled} drawn");
        let misses = (0..runs).filter(|&run| {
            let mut rng = stream(&name, run);
            // Marked faults fall into the sample one after another.
            let mut inside = 0;
            for already in 0..marked {
                inside += u64::from(rng.below(population - already) < sampled - inside);
            }
            let interval = finite_population(inside, sampled, population, 0.05);
            !contains(interval.rate(), marked as f64 / population as f64)
        });
        hold(&name, misses.count() as u64, runs, 0.05);
    }
}

#[test]
fn a_single_stratum_is_the_finite_interval() {
    let one = stratified(&[Stratum::distinct(1000, 100, 3)], 0.05);
    let finite = finite_population(3, 100, 1000, 0.05).rate();
    assert!((one.interval.high - finite.high).abs() < 1e-12);
    assert!((one.interval.low - finite.low).abs() < 1e-12);
    assert_eq!(one.share, Some(0.03));
}

#[test]
fn the_largest_populations_join_the_binomial_and_the_normal_limit() {
    let population = faults::MOST_FAULTS;
    for sampled in [1_000u64, 1_000_000, 1_000_000_000] {
        for events in [0, 1, sampled / 1000, sampled / 2, sampled] {
            for alpha in [0.05, 1e-9] {
                let finite = finite_population(events, sampled, population, alpha).rate();
                let limit = clopper_pearson(events, sampled, alpha);
                let case = format!("{events} of {sampled} at {alpha}: {finite:?} {limit:?}");
                let width = limit.high - limit.low;
                assert!((finite.low - limit.low).abs() < 1e-3 * width, "{case}");
                assert!((finite.high - limit.high).abs() < 1e-3 * width, "{case}");
            }
        }
    }
    // Half of it drawn: a spread of eight million, summed in blocks.
    let half = finite_population(population / 4, population / 2, population, 0.05);
    let spread = (population as f64 / 16.0).sqrt();
    let expected = (population / 2) as f64;
    for end in [half.low, half.high] {
        let off = (end as f64 - expected).abs() / (2.0 * spread);
        assert!((off - 1.96).abs() < 0.001, "{end}: {off} spreads");
    }
}

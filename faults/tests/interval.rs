//! Exact intervals against a table of high precision, and their coverage by exact summation.

mod support;

use faults::{RateInterval, clopper_pearson};
use support::binomial;

/// Made with mpmath at 45 digits: `low` is the largest f64 not above the true lower end, `high` the
/// smallest not below the true upper end.
const TABLE: &str = include_str!("clopper_pearson.csv");

struct Case {
    events: u64,
    trials: u64,
    alpha: f64,
    truth: RateInterval,
}

fn cases() -> impl Iterator<Item = Case> {
    TABLE.lines().skip(1).map(|line| {
        let fields: Vec<&str> = line.split(',').collect();
        let float = |i: usize| fields[i].parse::<f64>().expect("a number");
        let count = |i: usize| fields[i].parse::<u64>().expect("a count");
        let truth = RateInterval { low: float(3), high: float(4) };
        Case { events: count(0), trials: count(1), alpha: float(2), truth }
    })
}

#[test]
fn intervals_enclose_the_true_ones_and_are_hardly_wider() {
    let (mut number, mut slack) = (0, 0.0);
    for Case { events, trials, alpha, truth } in cases() {
        let ours = clopper_pearson(events, trials, alpha);
        let case = format!("{events} of {trials} at {alpha}: {ours:?}, truly {truth:?}");
        assert!(ours.low <= truth.low && truth.high <= ours.high, "{case}");
        let below = if truth.low > 0.0 { 1.0 - ours.low / truth.low } else { -ours.low };
        let above = ours.high / truth.high - 1.0;
        assert!((0.0..=1e-11).contains(&below) && (0.0..=1e-11).contains(&above), "{case}");
        for part in [below, above] {
            slack = if part > slack { part } else { slack };
        }
        number += 1;
    }
    assert!(number > 300, "{number} cases");
    println!("{number} cases, largest relative slack {slack:.1e}");
}

#[test]
fn coverage_is_at_least_nominal_for_every_rate() {
    for n in [1usize, 2, 3, 7, 20, 60] {
        for alpha in [0.5, 0.1, 0.05, 0.01] {
            let intervals: Vec<_> =
                (0..=n).map(|k| clopper_pearson(k as u64, n as u64, alpha)).collect();
            for step in 0..=400 {
                let p = f64::from(step) / 400.0;
                let covered: f64 = binomial(n, p)
                    .iter()
                    .zip(&intervals)
                    .filter(|(_, i)| i.low <= p && p <= i.high)
                    .map(|(probability, _)| probability)
                    .sum();
                assert!(covered >= 1.0 - alpha - 1e-12, "{n} {alpha} {p}: {covered}");
            }
        }
    }
}

#[test]
fn ends_move_with_the_counts_and_stay_within_zero_and_one() {
    for n in [1u64, 2, 5, 50, 20_011, 1_000_000_000_000] {
        let ks: Vec<u64> = (0..=n).step_by((n / 25 + 1) as usize).collect();
        let all: Vec<_> = ks.iter().map(|&k| clopper_pearson(k, n, 0.01)).collect();
        for (i, interval) in all.iter().enumerate() {
            assert!(0.0 <= interval.low && interval.low < interval.high && interval.high <= 1.0);
            let rate = ks[i] as f64 / n as f64;
            assert!(interval.low <= rate && rate <= interval.high);
        }
        assert!(all.windows(2).all(|w| w[0].low < w[1].low && w[0].high <= w[1].high));
    }
    assert_eq!(clopper_pearson(0, 0, 0.05), RateInterval { low: 0.0, high: 1.0 });
    assert_eq!(clopper_pearson(0, 9, 0.05).low, 0.0);
    assert_eq!(clopper_pearson(9, 9, 0.05).high, 1.0);
}

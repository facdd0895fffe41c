//! Means of bounded values.

use engine::numerics::special::exp;
use faults::{bounded_mean, clopper_pearson};

use crate::{contains, hold, repetitions, stream, uniform};

/// Of values that are 0 or 1 the exact interval lies within, since binomial tails are below
/// Hoeffding's bound of them.
#[test]
fn the_exact_interval_of_a_rate_lies_within() {
    for (events, trials) in [(0, 1), (0, 7), (3, 7), (7, 7), (1, 400), (200, 400), (12, 100_000)] {
        for alpha in [0.2, 0.01, 1e-6] {
            let exact = clopper_pearson(events, trials, alpha);
            let found = bounded_mean(events as f64, trials, alpha);
            // Both are rounded outward, and are one where nothing or everything is an event.
            let (low, high) = (found.low - 1e-12, found.high + 1e-12);
            assert!(low <= exact.low && exact.high <= high, "{events} {trials}");
            // Not wider than by the price of the bound, a factor of sqrt(8 n) of the tail.
            let price = alpha / (8.0 * trials as f64).sqrt();
            let wider = clopper_pearson(events, trials, 0.5 * price);
            assert!(wider.low <= found.low + 1e-9 && found.high <= wider.high + 1e-9, "{trials}");
        }
    }
}

#[test]
fn an_end_is_where_the_divergence_says() {
    // Of zeros alone D(0, m) = -ln(1 - m), so the upper end is 1 - (alpha / 2)^(1 / n).
    for n in [1u64, 10, 1000] {
        let found = bounded_mean(0.0, n, 0.02);
        let expected = 1.0 - exp(-4.605_170_185_988_091 / n as f64);
        assert_eq!(found.low, 0.0);
        assert!(found.high >= expected && found.high - expected < 1e-12, "{n}: {found:?}");
        let mirrored = bounded_mean(n as f64, n, 0.02);
        assert!((mirrored.low - (1.0 - expected)).abs() < 1e-10 && mirrored.high == 1.0);
    }
    let none = bounded_mean(0.0, 0, 0.05);
    assert_eq!((none.low, none.high), (0.0, 1.0));
}

#[test]
fn the_mean_is_missed_no_more_often_than_allowed() {
    let alpha = 0.1;
    // Rarely much, and always a little: 0.002 on average of the first, 0.05 of the second.
    for (name, rare, size) in [("rare and whole", 0.002, 0.0), ("rare on top of much", 0.02, 0.5)] {
        let (mut misses, all) = (0, repetitions(4000));
        for repetition in 0..all {
            let rng = &mut stream(name, repetition);
            let mut sum = 0.0;
            for _ in 0..300 {
                let small = size * uniform(rng);
                sum += if uniform(rng) < rare { 1.0 } else { small };
            }
            let truth = rare + (1.0 - rare) * 0.5 * size;
            misses += u64::from(!contains(bounded_mean(sum, 300, alpha), truth));
        }
        hold(name, misses, all, alpha);
    }
}

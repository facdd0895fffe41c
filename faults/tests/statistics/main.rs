//! Intervals and decisions: against tables of high precision, by exact summation, by simulation.
//!
//! Simulations draw from seeded ChaCha streams. `BITNET_STATISTICS=10` repeats them ten times as
//! often; figures are shown with `--nocapture`.

mod finite;
mod mean;
mod sequence;
mod strata;
#[path = "../support/mod.rs"]
mod support;
mod truth;

use faults::{Identity, RateInterval, TrialRng};
use support::binomial;

/// How many repetitions a simulation makes.
fn repetitions(usual: u64) -> u64 {
    let factor = std::env::var("BITNET_STATISTICS").ok().and_then(|text| text.parse().ok());
    usual * factor.unwrap_or(1)
}

/// The stream of one repetition of one simulation.
fn stream(name: &str, repetition: u64) -> TrialRng {
    TrialRng::new(&Identity::of(&["statistics", name]), repetition)
}

/// Fails if so many misses are beyond bad luck of one in a million for an interval at `1 - alpha`.
fn hold(name: &str, misses: u64, repetitions: u64, alpha: f64) {
    let rate = misses as f64 / repetitions as f64;
    println!(
        "{name}: wrong {:.2} % of {repetitions}, allowed {:.0} %",
        100.0 * rate,
        100.0 * alpha
    );
    let surely = engine::numerics::one_sided(misses, repetitions, 1e-6).low;
    assert!(surely <= alpha, "{name}: {misses} of {repetitions}");
}

fn contains(interval: RateInterval, truth: f64) -> bool {
    interval.low <= truth && truth <= interval.high
}

/// The probabilities of 0..=sample marked ones among distinct draws, draw by draw.
fn hypergeometric(sample: usize, marked: usize, population: usize) -> Vec<f64> {
    let mut row = vec![1.0];
    for drawn in 0..sample {
        let left = (population - drawn) as f64;
        let mut next = vec![0.0; row.len() + 1];
        for (k, value) in row.iter().enumerate().filter(|(_, value)| **value > 0.0) {
            let hit = (marked - k) as f64 / left;
            next[k] += value * (1.0 - hit);
            next[k + 1] += value * hit;
        }
        row = next;
    }
    row
}

/// A number in [0, 1), in steps of 2^-53.
fn uniform(rng: &mut TrialRng) -> f64 {
    (rng.word() >> 11) as f64 / (1u64 << 53) as f64
}

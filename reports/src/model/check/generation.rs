//! The rules of texts under faults.

use super::super::Faults;
use super::Check;

/// Each trial has a text, and what is told of places lies within the text.
pub(super) fn check_generation(check: &mut Check, faults: &Faults) {
    let Some(generation) = &faults.generation else { return };
    if faults.exhaustive.is_some() {
        check.add("faults.generation", "is there beside a map, whose faults have no texts");
    }
    if generation.tokens == 0 {
        check.add("faults.generation.tokens", "is 0");
    }
    let told = generation.targets.iter().map(|row| (row.target, row.trials));
    if !told.eq(faults.targets.iter().map(|row| (row.target, row.trials))) {
        check.add("faults.generation.targets", "are not those of faults.targets");
    }
    for (i, row) in generation.targets.iter().enumerate() {
        let key = |key: &str| format!("faults.generation.targets[{i}].{key}");
        if row.diverged > row.trials {
            check.add(key("diverged"), "is above trials");
        }
        if row.broken_off.max(row.recovered) > row.diverged {
            check.add(key("diverged"), "does not count what broke off or recovered");
        }
        let (low, high) = (row.diverged_rate_low, row.diverged_rate_high);
        check.interval(&key("diverged_rate"), row.diverged_rate, low, high);
        let none = row.diverged == 0;
        if row.median_first_divergence.is_none() != none || row.mean_different.is_none() != none {
            check.add(key("mean_different"), "or the median is null beside divergence, or not");
        }
        if row.median_first_divergence.is_some_and(|place| place >= generation.tokens) {
            check.add(key("median_first_divergence"), "is behind the text");
        }
        let places = 1.0..=f64::from(generation.tokens);
        if row.mean_different.is_some_and(|mean| !places.contains(&mean)) {
            check.add(key("mean_different"), "is no mean of numbers of places");
        }
    }
}

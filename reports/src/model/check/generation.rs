//! The rules of texts under faults.

use super::super::{Faults, Generation, Stratum, Texts};
use super::Check;

/// Each trial has a text unless it was detected, and what is told of places lies within the text.
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
        let at = format!("faults.generation.targets[{i}]");
        if row.detected > row.trials {
            check.add(format!("{at}.detected"), "is above trials");
        }
        check_texts(check, &at, &row.texts(), generation.tokens);
    }
    check_behind(check, faults, generation);
}

/// Rows behind memory codes are those of the plan, and flag what that says.
fn check_behind(check: &mut Check, faults: &Faults, generation: &Generation) {
    let behind = |row: &Stratum| {
        let of = row.behind.as_ref()?;
        Some((row.fault.clone(), row.trials, of.detected))
    };
    let told = generation.behind.iter().map(|row| (row.fault.clone(), row.trials, row.detected));
    if !told.eq(faults.strata.iter().filter_map(behind)) {
        check.add("faults.generation.behind", "are not those of faults.strata behind a code");
    }
    let flagged: Vec<u64> = generation.behind.iter().map(|row| row.detected).collect();
    let targets = generation.targets.iter().map(|row| row.detected);
    check.sum("faults.generation.behind", &flagged, targets.fold(0, u64::saturating_add));
    for (i, row) in generation.behind.iter().enumerate() {
        let at = format!("faults.generation.behind[{i}]");
        check.sum(&format!("{at}.residual.texts"), &[row.residual.texts, row.detected], row.trials);
        check.sum(&format!("{at}.raw.texts"), &[row.raw.texts], row.trials);
        check_texts(check, &format!("{at}.residual"), &row.residual, generation.tokens);
        check_texts(check, &format!("{at}.raw"), &row.raw, generation.tokens);
    }
}

fn check_texts(check: &mut Check, at: &str, of: &Texts, tokens: u32) {
    let key = |key: &str| format!("{at}.{key}");
    if of.diverged > of.texts {
        check.add(key("diverged"), "is above the number of texts");
    }
    if of.broken_off.max(of.recovered) > of.diverged {
        check.add(key("diverged"), "does not count what broke off or recovered");
    }
    let (low, high) = (of.diverged_rate_low, of.diverged_rate_high);
    check.interval(&key("diverged_rate"), of.diverged_rate, low, high);
    let (low, high) = (of.unrecovered_rate_low, of.unrecovered_rate_high);
    check.interval(&key("unrecovered_rate"), of.unrecovered_rate, low, high);
    let none = of.diverged == 0;
    if of.median_first_divergence.is_some() == none || of.mean_different.is_some() == none {
        check.add(key("mean_different"), "or the median is null beside divergence, or not");
    }
    if of.median_first_divergence.is_some_and(|place| place >= tokens) {
        check.add(key("median_first_divergence"), "is behind the text");
    }
    let places = 1.0..=f64::from(tokens);
    if of.mean_different.is_some_and(|mean| !places.contains(&mean)) {
        check.add(key("mean_different"), "is no mean of numbers of places");
    }
}

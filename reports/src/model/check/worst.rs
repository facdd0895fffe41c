//! Budgets of flips: they agree with what is proven, and no fault that was seen contradicts them.

use super::{Check, check_proven};
use crate::model::{CacheProven, FaultTarget, Faults, FlipBudget, Outcome, RowsLevel, Worst};

pub(super) fn check_worst_case(check: &mut Check, faults: &Faults) {
    for (i, flips) in faults.flips_proven.iter().enumerate() {
        let key = |key: &str| format!("faults.flips_proven[{i}].{key}");
        check_proven(check, &key, flips.pairs, flips.reason.as_ref(), &flips.levels);
        check_budget(check, &key, flips.pairs, flips.budget.as_ref(), &flips.levels);
        let layer = format!("model.layers.{}.", flips.layer);
        let whole = flips.tensor == "layer";
        let inside = |address: &str| {
            let rest = address.strip_prefix(&layer);
            rest.is_some_and(|rest| whole || rest.starts_with(&format!("{}.", flips.tensor)))
        };
        // Of several flips only the first is named: the others may be elsewhere.
        if faults.flips == 1 {
            check_seen(check, &key, faults, flips.budget.as_ref(), &flips.levels, inside);
        }
    }
    if let Some(model) = &faults.flips_proven_in_model {
        let key = |key: &str| format!("faults.flips_proven_in_model.{key}");
        check_proven(check, &key, model.pairs, model.reason.as_ref(), &model.levels);
        check_budget(check, &key, model.pairs, model.budget.as_ref(), &model.levels);
        check_seen(check, &key, faults, model.budget.as_ref(), &model.levels, |_| true);
    }
    for (i, row) in faults.cache_proven.iter().enumerate() {
        check_cache(check, &format!("faults.cache_proven[{i}]"), row, faults);
    }
}

fn check_budget(
    check: &mut Check,
    key: &impl Fn(&str) -> String,
    pairs: u64,
    budget: Option<&FlipBudget>,
    levels: &[RowsLevel],
) {
    let mut least = 0.0;
    for (k, level) in levels.iter().enumerate() {
        let at = key(&format!("levels[{k}].logit_change_bound"));
        check.not_negative(&at, level.logit_change_bound);
        if let Some(bound) = level.logit_change_bound {
            if bound < least {
                check.add(at, "is below that of fewer flips");
            }
            least = bound;
        }
    }
    let Some(budget) = budget else { return };
    let path = |name: &str| key(&format!("budget.{name}"));
    let samples = &budget.samples;
    check.share(&path("share_at_least_one"), budget.share_at_least_one);
    if samples.is_empty() || samples.len() as u64 != pairs {
        check.add(path("samples"), "are not as many as were tried");
        return;
    }
    let mut sorted = samples.clone();
    sorted.sort_unstable();
    if budget.min != sorted[0] || budget.median != sorted[(sorted.len() - 1) / 2] {
        check.add(path("min"), "or the median is not that of the samples");
    }
    if sorted[sorted.len() - 1] > budget.flips_searched {
        check.add(path("samples"), "have more flips than were searched");
    }
    let any = samples.iter().filter(|&&flips| flips > 0).count() as f64;
    if (any / samples.len() as f64 - budget.share_at_least_one).abs() > 1e-12 {
        check.add(path("share_at_least_one"), "is not that of the samples");
    }
    for level in levels {
        let flips = level.flips.unwrap_or(u32::MAX);
        let within = samples.iter().filter(|&&budget| budget >= flips).count() as u64;
        if within != level.proven {
            check.add(path("samples"), format!("do not agree with what {flips} flips prove"));
        }
    }
}

/// A fault that was seen to change an answer, or a logit, that is proven to stand.
fn check_seen(
    check: &mut Check,
    key: &impl Fn(&str) -> String,
    faults: &Faults,
    budget: Option<&FlipBudget>,
    levels: &[RowsLevel],
    inside: impl Fn(&str) -> bool,
) {
    let Some(budget) = budget else { return };
    let here = |worst: &&Worst| {
        worst.target == FaultTarget::WeightCode && faults.flips > 0 && inside(&worst.address)
    };
    for worst in faults.worst.iter().filter(here) {
        let Some(&proven) = budget.samples.get(worst.sample as usize) else { continue };
        if worst.outcome == Outcome::Sdc && proven >= faults.flips {
            let what = format!("of {proven} flips, but {} changed an answer", worst.address);
            check.add(key("budget.samples"), what);
        }
        let level = levels.iter().find(|level| level.flips >= Some(faults.flips));
        let bound = level.and_then(|level| level.logit_change_bound);
        if let (Some(change), Some(bound)) = (worst.max_logit_change, bound)
            && change > bound
        {
            let what = format!("is below what {} did, {change}", worst.address);
            check.add(key("levels"), what);
        }
    }
}

fn check_cache(check: &mut Check, path: &str, row: &CacheProven, faults: &Faults) {
    let key = |key: &str| format!("{path}.{key}");
    let known = row.proven_masked.checked_add(row.unknown);
    if known.is_none_or(|known| known > row.pairs) {
        check.add(key("proven_masked"), "and what is unknown are more than there are pairs");
    }
    let share = (row.pairs > 0).then(|| row.proven_masked as f64 / row.pairs as f64);
    if share != row.proven_masked_share {
        check.add(key("proven_masked_share"), "is not that of the pairs");
    }
    check.not_negative(&key("logit_change_bound"), row.logit_change_bound);
    if row.logit_change_bound.is_none() != row.reason.is_some() {
        check.add(key("reason"), "is there exactly where the bound is null");
    }
    // Of several flips nothing is said here.
    let layer = format!("kv.layers.{}.", row.layer);
    let here = |worst: &&Worst| {
        let bit = worst.address.rsplit_once("].").and_then(|(_, bit)| {
            let digits = bit.split('@').next()?;
            digits.parse().ok()
        });
        faults.flips == 1
            && worst.target == row.target
            && worst.sample < row.samples
            && worst.address.starts_with(&layer)
            && bit.is_some_and(|bit| row.bits.holds(row.target, bit))
    };
    for worst in faults.worst.iter().filter(here) {
        if worst.outcome == Outcome::Sdc && row.proven_masked == row.pairs {
            let what = format!("is all of them, but {} changed an answer", worst.address);
            check.add(key("proven_masked"), what);
        }
        if let (Some(change), Some(bound)) = (worst.max_logit_change, row.logit_change_bound)
            && change > bound
        {
            let what = format!("is below what {} did, {change}", worst.address);
            check.add(key("logit_change_bound"), what);
        }
    }
}

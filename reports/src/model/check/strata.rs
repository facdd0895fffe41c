//! The rules of a plan of faults and its strata.

use super::super::{CriticalFit, Faults, Stratum, UntilPrecision};
use super::Check;

/// A plan and its strata come together, and every trial is of one of them.
pub(super) fn check_strata(check: &mut Check, faults: &Faults) {
    if faults.plan.is_some() == faults.strata.is_empty() {
        check.add("faults.strata", "are there without a plan, or are missing beside one");
    }
    if faults.plan.is_some() {
        let trials: Vec<u64> = faults.strata.iter().map(|row| row.trials).collect();
        check.sum("faults.trials", &trials, faults.trials);
    }
    if let Some(until) = &faults.until_precision {
        check_precision(check, faults, until);
    }
    for (i, row) in faults.strata.iter().enumerate() {
        let key = |key: &str| format!("faults.strata[{i}].{key}");
        check.sum(&key("trials"), &[row.masked, row.sdc, row.due], row.trials);
        if row.identical > row.masked {
            check.add(key("identical"), "is above masked");
        }
        check.interval(&key("sdc_rate"), row.sdc_rate, row.sdc_rate_low, row.sdc_rate_high);
        check.interval(&key("due_rate"), row.due_rate, row.due_rate_low, row.due_rate_high);
        if row.labelled > row.trials || row.correct.max(row.clean_correct) > row.labelled {
            check.add(key("labelled"), "does not count what is right, or is above trials");
        }
        check.interval(&key("accuracy"), row.accuracy, row.accuracy_low, row.accuracy_high);
        check.finite(&key("mean_nll_change"), row.mean_nll_change);
        check.not_negative(&key("bit_error_rate"), row.bit_error_rate);
        check.not_negative(&key("perplexity_factor"), row.perplexity_factor);
        let (low, high) = (row.perplexity_factor_capped_low, row.perplexity_factor_capped_high);
        check.not_negative(&key("perplexity_factor_capped_low"), low);
        check.finite(&key("perplexity_factor_capped_high"), high);
        let held = match (low, row.perplexity_factor_capped, high) {
            (Some(low), Some(factor), Some(high)) => low <= factor && factor <= high,
            ends => ends == (None, None, None),
        };
        if !held {
            check.add(key("perplexity_factor_capped"), "is outside of its interval");
        }
        if let Some(fit) = &row.critical_fit {
            check_fit(check, &key("critical_fit"), fit);
        }
        check_behind(check, &key("behind"), row);
    }
}

/// Every trial is one of what the memory code made of it, and of what it was without.
fn check_behind(check: &mut Check, at: &str, row: &Stratum) {
    let Some(of) = &row.behind else { return };
    let key = |key: &str| format!("{at}.{key}");
    check.sum(&key("residual"), &[of.harmless, of.detected, of.residual], row.trials);
    check.sum(&key("raw_masked"), &[of.raw_masked, of.raw_sdc, of.raw_due], row.trials);
    if of.miscorrected > of.residual || row.sdc > of.residual {
        check.add(key("residual"), "is below its miscorrected ones, or the sdc of the fault");
    }
    if of.detected > row.due || of.harmless > row.masked {
        check.add(key("detected"), "is above due, or the harmless ones above masked");
    }
    if of.stored_check_bits > of.stored_bits {
        check.add(key("stored_check_bits"), "is above all stored bits");
    }
    if of.pvf.is_some() != (of.residual > 0) {
        check.add(key("pvf"), "is known exactly where a fault was residual");
    }
    for (name, rate, low, high) in [
        ("residual_rate", of.residual_rate, of.residual_rate_low, of.residual_rate_high),
        ("pvf", of.pvf, of.pvf_low, of.pvf_high),
        ("raw_sdc_rate", of.raw_sdc_rate, of.raw_sdc_rate_low, of.raw_sdc_rate_high),
        ("raw_due_rate", of.raw_due_rate, of.raw_due_rate_low, of.raw_due_rate_high),
    ] {
        check.interval(&key(name), rate, low, high);
    }
    if let Some(fit) = &of.raw_critical_fit {
        check_fit(check, &key("raw_critical_fit"), fit);
    }
}

fn check_fit(check: &mut Check, at: &str, fit: &CriticalFit) {
    for (name, value) in [("hours", fit.hours), ("low", fit.low), ("high", fit.high)] {
        check.not_negative(&format!("{at}.{name}"), value);
    }
    if fit.low > fit.high {
        check.add(format!("{at}.low"), "is above its upper end");
    }
}

/// Its rates are those of the plan's faults, in their order, and as narrow as it says.
fn check_precision(check: &mut Check, faults: &Faults, until: &UntilPrecision) {
    let there = until.rates.iter().map(|rate| (&rate.fault, rate.trials, rate.sdc));
    let strata = faults.strata.iter().map(|row| (&row.fault, row.trials, row.sdc));
    if !there.eq(strata) {
        check.add("faults.until_precision.rates", "are not those of faults.strata");
    }
    for (i, rate) in until.rates.iter().enumerate() {
        let key = format!("faults.until_precision.rates[{i}].sdc_rate");
        check.interval(&key, rate.sdc_rate, rate.sdc_rate_low, rate.sdc_rate_high);
        // Both ends are rounded outward.
        let width = rate.sdc_rate_high - rate.sdc_rate_low;
        if until.reached && width > 2.0 * until.half_width * (1.0 + 1e-9) + 1e-12 {
            check.add(key, "is wider than a precision that was reached");
        }
    }
}

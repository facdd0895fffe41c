//! The rules of a plan of faults and its strata.

use super::super::{Faults, UntilPrecision};
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

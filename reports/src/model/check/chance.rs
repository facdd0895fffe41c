//! The rules of what holds with a confidence.

use super::super::{Report, Smoothed, Statistical};
use super::Check;

/// Checks both objects.
pub(super) fn check_chance(check: &mut Check, report: &Report) {
    if let Some(found) = &report.statistical {
        check_statistical(check, found);
    }
    if let Some(found) = &report.smoothed {
        check_smoothed(check, found);
    }
}

fn check_statistical(check: &mut Check, found: &Statistical) {
    let path = |key: &str| format!("statistical.{key}");
    check.share(&path("confidence"), found.confidence);
    check.share(&path("clean_acc"), found.clean_acc);
    check.share(&path("stat_acc"), found.stat_acc);
    check.share(&path("stat_threshold"), found.stat_threshold);
    let (worst, median) =
        (found.stat_change_probability_high, found.stat_change_probability_high_median);
    check.share(&path("stat_change_probability_high"), worst);
    check.share(&path("stat_change_probability_high_median"), median);
    if median > worst {
        check.add(path("stat_change_probability_high"), "is below the median");
    }
    if let (Some(clean), Some(kept)) = (found.clean_acc, found.stat_acc)
        && kept > clean
    {
        check.add(path("stat_acc"), "is above clean_acc");
    }
    let changed: Vec<u64> = found.samples.iter().map(|sample| sample.stat_changed).collect();
    check.sum(&path("stat_changed"), &changed, found.stat_changed);
    for (i, sample) in found.samples.iter().enumerate() {
        let key = |key: &str| format!("statistical.samples[{i}].{key}");
        let high = sample.stat_change_probability_high;
        check.share(&key("stat_change_probability_high"), high);
        check.not_negative(&key("epsilon_value"), sample.epsilon_value);
        if sample.stat_changed > sample.stat_trials {
            check.add(key("stat_changed"), "more changes than trials");
        } else if sample.stat_changed as f64 > high * sample.stat_trials as f64 {
            check.add(key("stat_change_probability_high"), "is below the rate that was seen");
        }
        if high > worst {
            check.add(key("stat_change_probability_high"), "is above the worst");
        }
    }
}

fn check_smoothed(check: &mut Check, found: &Smoothed) {
    let path = |key: &str| format!("smoothed.{key}");
    check.share(&path("confidence"), found.confidence);
    check.share(&path("smoothed_clean_acc"), found.smoothed_clean_acc);
    check.share(&path("smoothed_acc"), found.smoothed_acc);
    for (key, value) in [
        ("smoothed_sigma", found.smoothed_sigma),
        ("smoothed_step", found.smoothed_step),
        ("smoothed_radius_median", found.smoothed_radius_median),
        ("smoothed_radius_largest", found.smoothed_radius_largest),
    ] {
        check.not_negative(&path(key), value);
    }
    if let (Some(clean), Some(kept)) = (found.smoothed_clean_acc, found.smoothed_acc)
        && kept > clean
    {
        check.add(path("smoothed_acc"), "is above smoothed_clean_acc");
    }
    let abstained = found.samples.iter().filter(|sample| sample.smoothed_abstained).count();
    check.sum(&path("smoothed_abstained"), &[abstained as u64], found.smoothed_abstained);
    for (i, sample) in found.samples.iter().enumerate() {
        let key = |key: &str| format!("smoothed.samples[{i}].{key}");
        check.share(&key("smoothed_p_low"), sample.smoothed_p_low);
        check.not_negative(&key("smoothed_radius"), sample.smoothed_radius);
        check.not_negative(&key("smoothed_radius_wanted"), sample.smoothed_radius_wanted);
        if sample.smoothed_votes > sample.smoothed_trials {
            check.add(key("smoothed_votes"), "more votes than trials");
        }
        if sample.smoothed_abstained == sample.smoothed_prediction.is_some() {
            check.add(key("smoothed_prediction"), "is known exactly where it does not abstain");
        }
        if sample.smoothed_abstained && sample.smoothed_radius > 0.0 {
            check.add(key("smoothed_radius"), "is not 0, but the classifier abstains");
        }
        if !sample.smoothed_abstained && sample.smoothed_p_low <= 0.5 {
            check.add(key("smoothed_p_low"), "is no majority, but the classifier decides");
        }
        if sample.smoothed_radius > found.smoothed_radius_largest {
            check.add(key("smoothed_radius"), "is above the largest");
        }
    }
    for (i, point) in found.curve.iter().enumerate() {
        check.share(&path(&format!("curve[{i}].smoothed_acc")), point.smoothed_acc);
        check.not_negative(&path(&format!("curve[{i}].radius")), point.radius);
    }
    let falls = |a: &crate::model::SmoothedPoint, b: &crate::model::SmoothedPoint| {
        a.radius < b.radius && a.smoothed_acc >= b.smoothed_acc
    };
    if !found.curve.is_sorted_by(falls) {
        check.add(path("curve"), "does not fall with an increasing radius");
    }
}

//! What methods say of one sample, and verdicts at several epsilons, must agree with the rest.

use super::{Check, within};
use crate::model::{Certification, Method, Sample, Verdict};

/// Methods of a sample: in order, none of them `auto`, and what they prove is what is claimed.
pub(super) fn check_methods(check: &mut Check, path: &str, sample: &Sample) {
    let key = |key: &str| format!("{path}.{key}");
    check.not_negative(&key("epsilon_value"), sample.epsilon_value);
    check.not_negative(&key("epsilon_rel"), sample.epsilon_rel);
    check.not_negative(&key("stream_rms"), sample.stream_rms);
    check.not_negative(&key("certified_radius_rel"), sample.certified_radius_rel);
    check.not_negative(&key("attack_ratio"), sample.attack_ratio);
    if sample.attack_ratio.is_some_and(|ratio| ratio < 1.0) {
        check.add(key("attack_ratio"), "is below 1");
    }
    if sample.decided_by.is_some() != (sample.verdict == Verdict::Certified) {
        check.add(key("decided_by"), "is known exactly where the verdict is certified");
    }
    for (i, tried) in sample.methods.iter().enumerate() {
        let key = |name: &str| format!("{path}.methods[{i}].{name}");
        check.finite(&key("margin_lower_bound"), tried.margin_lower_bound);
        if tried.method == Method::Auto {
            check.add(key("method"), "names a ladder and not one of its methods");
        }
        if tried.proven && tried.margin_lower_bound.is_none_or(|margin| margin <= 0.0) {
            check.add(key("proven"), "is true without a margin above 0");
        }
        if let Some(grown) = &tried.grown_at {
            check.not_negative(&key("grown_at.factor"), grown.factor);
        }
    }
    let last = sample.methods.last().map(|tried| tried.method);
    let decided = sample.decided_by;
    if decided.is_some() && !sample.methods.iter().any(|tried| Some(tried.method) == decided) {
        check.add(key("decided_by"), format!("was never tried, the last was {last:?}"));
    }
    for (i, of) in sample.radius_by_method.iter().enumerate() {
        let key = format!("{path}.radius_by_method[{i}].certified_radius");
        check.not_negative(&key, of.certified_radius);
        if of.certified_radius > sample.certified_radius {
            check.add(key, "is above the certified radius");
        }
    }
}

/// Verdicts at every epsilon that was asked for; the first are those of the report.
pub(super) fn check_epsilons(check: &mut Check, found: &Certification) {
    let samples = found.samples.len() as u64;
    for (i, row) in found.epsilons.iter().enumerate() {
        let key = |key: &str| format!("certification.epsilons[{i}].{key}");
        check.not_negative(&key("epsilon_value"), row.epsilon_value);
        check.not_negative(&key("epsilon_absolute_median"), row.epsilon_absolute_median);
        check.share(&key("cert_acc"), row.cert_acc);
        check.share(&key("attacked_acc"), row.attacked_acc);
        check.sum(&key("certified"), &[row.certified, row.falsified, row.unknown], samples);
        if row.attacked_acc.is_some_and(|attacked| attacked < row.cert_acc) {
            check.add(key("attacked_acc"), "is below cert_acc");
        }
    }
    let Some(first) = found.epsilons.first() else {
        return check.add("certification.epsilons", "is empty");
    };
    let own = [found.certified, found.falsified, found.unknown];
    if [first.certified, first.falsified, first.unknown] != own {
        check.add("certification.epsilons[0]", "has other verdicts than the samples");
    }
    for (i, of) in found.methods.iter().enumerate() {
        let key = |key: &str| format!("certification.methods[{i}].{key}");
        check.not_negative(&key("median_certified_radius"), of.median_certified_radius);
        if !within(&[of.decided, of.tried, samples]) {
            check.add(key("decided"), "is above those tried, or those above all samples");
        }
    }
    let decided: Vec<u64> = found.methods.iter().map(|of| of.decided).collect();
    check.sum("certification.methods", &decided, found.certified);
}

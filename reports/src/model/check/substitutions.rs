//! Substitutions: counts add up, and nothing proven was seen to fail.

use super::Check;
use crate::model::{SubstSample, Substitutions, Verdict};

/// The section and its samples.
pub(super) fn check_substitutions(check: &mut Check, found: &Substitutions) {
    let path = |key: &str| format!("substitutions.{key}");
    check.share(&path("subst_cert_acc"), found.subst_cert_acc);
    check.share(&path("subst_attacked_acc"), found.subst_attacked_acc);
    if found.subst_attacked_acc < found.subst_cert_acc {
        check.add(path("subst_attacked_acc"), "is below subst_cert_acc");
    }
    for (verdict, count, key) in [
        (Verdict::Certified, found.subst_certified, "subst_certified"),
        (Verdict::Falsified, found.subst_falsified, "subst_falsified"),
        (Verdict::Unknown, found.subst_unknown, "subst_unknown"),
    ] {
        let seen = found.subst_samples.iter().filter(|of| of.subst_verdict == verdict).count();
        check.sum(&path(key), &[seen as u64], count);
    }
    let all = found.subst_samples.iter().filter(|of| of.subst_exhaustive).count() as u64;
    check.sum(&path("subst_exhaustive"), &[all], found.subst_exhaustive);
    for (i, of) in found.subst_samples.iter().enumerate() {
        check_sample(check, &path(&format!("subst_samples[{i}]")), of);
    }
}

fn check_sample(check: &mut Check, path: &str, of: &SubstSample) {
    let key = |key: &str| format!("{path}.{key}");
    check.finite(&key("subst_margin_lower_bound"), of.subst_margin_lower_bound);
    if of.subst_changed > of.subst_tried {
        check.add(key("subst_changed"), "is above subst_tried");
    }
    if of.subst_witness.is_some() != (of.subst_changed > 0) {
        check.add(key("subst_witness"), "exists exactly where a substitution decides otherwise");
    }
    if of.subst_exhaustive && of.subst_combinations != Some(of.subst_tried) {
        check.add(key("subst_exhaustive"), "is true, but not all combinations were run");
    }
    let certified = of.subst_verdict == Verdict::Certified;
    if certified && of.subst_changed > 0 {
        check.add(key("subst_changed"), "is above 0, but the verdict is certified");
    }
    if certified && of.subst_margin_lower_bound.is_none_or(|margin| margin <= 0.0) {
        check.add(key("subst_margin_lower_bound"), "is not above 0, but the verdict is certified");
    }
    if of.subst_decided_by.is_some() != certified {
        check.add(key("subst_decided_by"), "is known exactly where the verdict is certified");
    }
    if of.subst_changed > 0 && of.subst_verdict != Verdict::Falsified {
        check.add(key("subst_verdict"), "is not falsified, but a substitution decides otherwise");
    }
}

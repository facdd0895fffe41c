//! Substitutions of tokens in the words of the contract.

use reports::model as out;

use super::ladder::{lost, word};
use super::{number, scope};
use crate::analyze::{Clean, Context, Substituted};
use crate::substitution::Asked;

pub(super) fn substitutions(
    context: &Context,
    clean: &[Clean],
    found: &[Option<Substituted>],
) -> out::Substitutions {
    let samples: Vec<out::SubstSample> =
        found.iter().enumerate().map(|(index, of)| sample(index, &clean[index], of)).collect();
    let count = |verdict| samples.iter().filter(|of| of.subst_verdict == verdict).count() as u64;
    let any_label = clean.iter().any(|clean| clean.correct.is_some());
    let counted: Vec<&out::SubstSample> = samples
        .iter()
        .zip(clean)
        .filter(|(_, c)| !any_label || c.correct.is_some())
        .map(|(of, _)| of)
        .collect();
    let share = |holds: &dyn Fn(out::Verdict) -> bool| {
        let hits = counted.iter().filter(|of| holds(of.subst_verdict)).count();
        hits as f64 / counted.len() as f64
    };
    out::Substitutions {
        subst_nearest: match context.plan.substitutions {
            Some(Asked::Nearest(count)) => Some(number(count)),
            _ => None,
        },
        subst_scope: scope(context.plan),
        subst_certified: count(out::Verdict::Certified),
        subst_falsified: count(out::Verdict::Falsified),
        subst_unknown: count(out::Verdict::Unknown),
        subst_exhaustive: samples.iter().filter(|of| of.subst_exhaustive).count() as u64,
        subst_cert_acc: share(&|verdict| verdict == out::Verdict::Certified),
        subst_attacked_acc: share(&|verdict| verdict != out::Verdict::Falsified),
        subst_samples: samples,
    }
}

fn sample(index: usize, clean: &Clean, found: &Option<Substituted>) -> out::SubstSample {
    let Some(found) = found else { return unreached(index, clean) };
    let fallen = !clean.holds() || found.changed > 0;
    assert!(!(found.certified && fallen), "sample {index}: certified and changed by a token");
    let verdict = match (fallen, found.certified) {
        (true, _) => out::Verdict::Falsified,
        (false, true) => out::Verdict::Certified,
        (false, false) => out::Verdict::Unknown,
    };
    let witness = |(ids, now): &(Vec<u32>, Option<usize>)| out::SubstWitness {
        input_ids: ids.clone(),
        prediction: now.map(number),
    };
    out::SubstSample {
        index: index as u64,
        subst_verdict: verdict,
        subst_decided_by: found.decided.map(word),
        subst_margin_lower_bound: found.margin,
        subst_lost_at: found.diverged.map(lost),
        subst_positions: found.positions as u64,
        subst_combinations: found.combinations,
        subst_tried: found.tried,
        subst_changed: found.changed,
        subst_exhaustive: found.combinations == Some(found.tried),
        subst_witness: found.witness.as_ref().map(witness),
    }
}

/// A sample that the time limit came before.
fn unreached(index: usize, clean: &Clean) -> out::SubstSample {
    out::SubstSample {
        index: index as u64,
        subst_verdict: if clean.holds() { out::Verdict::Unknown } else { out::Verdict::Falsified },
        subst_decided_by: None,
        subst_margin_lower_bound: None,
        subst_lost_at: None,
        subst_positions: 0,
        subst_combinations: None,
        subst_tried: 0,
        subst_changed: 0,
        subst_exhaustive: false,
        subst_witness: None,
    }
}

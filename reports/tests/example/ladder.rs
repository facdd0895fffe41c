//! What methods of a ladder say, and what came of substitutions, made up.

use super::EPSILON;
use reports::model::*;

pub(super) fn tried(method: Method, margin: Option<f64>) -> MethodTry {
    let lost_at = StepAt { layer: Some(0), step: "attention".to_owned() };
    let grown_at = GrownAt { layer: Some(0), step: "gate".to_owned(), factor: 31.25 };
    MethodTry {
        method,
        proven: margin.is_some_and(|margin| margin > 0.0),
        sets: 1,
        symbols: (method == Method::Zonotope).then_some(1_234),
        order_reduced: false,
        margin_lower_bound: margin,
        grown_at: Some(grown_at),
        lost_at: margin.is_none().then_some(lost_at),
    }
}

pub(super) fn cost(method: Method) -> MethodCost {
    MethodCost { method, samples: 60, seconds_median: 0.012, seconds_max: 0.03 }
}

pub(super) fn summary(method: Method, tried: u64, decided: u64) -> MethodSummary {
    MethodSummary { method, tried, decided, median_certified_radius: Some(1e-4) }
}

pub(super) fn epsilon_row(text: &str, samples: &[Sample]) -> EpsilonRow {
    let count = |verdict| samples.iter().filter(|sample| sample.verdict == verdict).count() as u64;
    let relative = text.ends_with("rms");
    let share = |count: u64| count as f64 / samples.len() as f64;
    // Of twice the radius nothing is proven.
    let certified = if relative { 0 } else { count(Verdict::Certified) };
    let falsified = count(Verdict::Falsified);
    EpsilonRow {
        epsilon: text.to_owned(),
        epsilon_value: if relative { 0.02 } else { EPSILON },
        epsilon_unit: if relative { EpsilonUnit::RelativeRms } else { EpsilonUnit::Absolute },
        epsilon_absolute_median: 0.01,
        certified,
        falsified,
        unknown: samples.len() as u64 - certified - falsified,
        cert_acc: share(certified),
        attacked_acc: Some(share(samples.len() as u64 - falsified)),
    }
}

/// One sample of each verdict.
pub(super) fn substitutions() -> Substitutions {
    let sample = |index: u64, verdict: Verdict| {
        let certified = verdict == Verdict::Certified;
        let changed = u64::from(verdict == Verdict::Falsified);
        let witness = SubstWitness { input_ids: vec![3, 1, 4], prediction: Some(7) };
        SubstSample {
            index,
            subst_verdict: verdict,
            subst_decided_by: certified.then_some(Method::Zonotope),
            subst_margin_lower_bound: certified.then_some(0.25),
            subst_lost_at: (!certified).then(|| StepAt { layer: Some(1), step: "gate".to_owned() }),
            subst_positions: 3,
            subst_combinations: Some(26),
            subst_tried: 26,
            subst_changed: changed,
            subst_exhaustive: true,
            subst_witness: (changed > 0).then_some(witness),
        }
    };
    let verdicts = [Verdict::Certified, Verdict::Falsified, Verdict::Unknown];
    let samples = verdicts.into_iter().zip(0..).map(|(verdict, index)| sample(index, verdict));
    Substitutions {
        subst_nearest: Some(2),
        subst_scope: "all".to_owned(),
        subst_certified: 1,
        subst_falsified: 1,
        subst_unknown: 1,
        subst_exhaustive: 3,
        subst_cert_acc: 1.0 / 3.0,
        subst_attacked_acc: 2.0 / 3.0,
        subst_samples: samples.collect(),
    }
}

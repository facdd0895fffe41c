//! What methods of a ladder say, made up.

use super::EPSILON;
use reports::model::*;

pub(super) fn tried(method: Method, margin: Option<f64>) -> MethodTry {
    let lost_at = StepAt { layer: Some(0), step: "attention".to_owned() };
    let grown_at = GrownAt { layer: Some(0), step: "gate".to_owned(), factor: 31.25 };
    MethodTry {
        method,
        proven: margin.is_some_and(|margin| margin > 0.0),
        sets: 1,
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

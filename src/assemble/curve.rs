//! Accuracy against epsilon: at those that were asked for, and between them from the radii.

use reports::model as out;

use super::median;
use crate::analyze::Certified;
use crate::epsilon::{Epsilon, absolute};
use crate::plan::Plan;

/// Where the curve is drawn, in each decade.
const DECADE: [f64; 8] = [1.0, 1.3, 1.8, 2.4, 3.2, 4.2, 5.6, 7.5];

/// The samples that accuracies count: those with a label, or all where none has one.
fn counted(samples: &[out::Sample]) -> Vec<(usize, &out::Sample)> {
    let any_label = samples.iter().any(|sample| sample.label.is_some());
    let counts = |sample: &out::Sample| !any_label || sample.label.is_some();
    samples.iter().enumerate().filter(|(_, sample)| counts(sample)).collect()
}

fn attacked(found: &Certified) -> bool {
    found.attacks.iter().all(Option::is_some) && !found.attacks.is_empty()
}

/// The verdict on a sample at an absolute epsilon, from its radii.
fn verdict(sample: &out::Sample, epsilon: f64) -> out::Verdict {
    let wrong = sample.attack_radius.is_some_and(|radius| radius <= epsilon);
    // A sample that is wrong on the clean input has attack radius 0.
    match (wrong, sample.certified_radius >= epsilon) {
        (true, _) => out::Verdict::Falsified,
        (false, true) => out::Verdict::Certified,
        (false, false) => out::Verdict::Unknown,
    }
}

/// Eight points a decade, and whatever was asked for in the unit of the first epsilon.
pub(super) fn curve(
    plan: &Plan,
    samples: &[out::Sample],
    found: &Certified,
) -> Vec<out::CurvePoint> {
    let unit = plan.epsilon().unit;
    let asked = plan.epsilons.iter().filter(|epsilon| epsilon.unit == unit);
    let mut points: Vec<f64> = (-8..1)
        .flat_map(|power: i32| {
            let unit: f64 = format!("1e{power}").parse().expect("a power of ten");
            DECADE.map(|digit| digit * unit)
        })
        .chain(asked.map(|epsilon| epsilon.value))
        .collect();
    points.sort_by(f64::total_cmp);
    points.dedup();
    let counted = counted(samples);
    let at = |epsilon: f64| {
        let share = |wanted: &dyn Fn(out::Verdict) -> bool| {
            let of = |s: &out::Sample| verdict(s, absolute(epsilon, unit, s.stream_rms));
            let hits = counted.iter().filter(|(_, sample)| wanted(of(sample))).count();
            hits as f64 / counted.len() as f64
        };
        out::CurvePoint {
            epsilon,
            certified_acc: share(&|verdict| verdict == out::Verdict::Certified),
            attacked_acc: attacked(found)
                .then(|| share(&|verdict| verdict != out::Verdict::Falsified)),
        }
    };
    points.into_iter().map(at).collect()
}

/// The verdicts at every epsilon that was asked for.
pub(super) fn epsilons(
    plan: &Plan,
    samples: &[out::Sample],
    found: &Certified,
) -> Vec<out::EpsilonRow> {
    plan.epsilons.iter().map(|epsilon| row(epsilon, samples, found)).collect()
}

fn row(epsilon: &Epsilon, samples: &[out::Sample], found: &Certified) -> out::EpsilonRow {
    let at = |sample: &out::Sample| epsilon.at(sample.stream_rms);
    let verdicts: Vec<out::Verdict> = samples.iter().map(|s| verdict(s, at(s))).collect();
    let count = |wanted| verdicts.iter().filter(|&&verdict| verdict == wanted).count() as u64;
    let counted = counted(samples);
    let share = |wanted: &dyn Fn(out::Verdict) -> bool| {
        let hits = counted.iter().filter(|(index, _)| wanted(verdicts[*index])).count();
        hits as f64 / counted.len() as f64
    };
    out::EpsilonRow {
        epsilon: epsilon.text.clone(),
        epsilon_value: epsilon.value,
        epsilon_unit: epsilon.unit,
        epsilon_absolute_median: median(samples.iter().map(at).collect()).unwrap_or(0.0),
        certified: count(out::Verdict::Certified),
        falsified: count(out::Verdict::Falsified),
        unknown: count(out::Verdict::Unknown),
        cert_acc: share(&|verdict| verdict == out::Verdict::Certified),
        attacked_acc: attacked(found).then(|| share(&|verdict| verdict != out::Verdict::Falsified)),
    }
}

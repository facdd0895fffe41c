//! What holds with a confidence, in the words of the contract.

use reports::model as out;

use super::{largest, median, number, scope};
use crate::analyze::chance::{Chances, Changed, Kept, selection_trials, statements, step, trials};
use crate::analyze::{Clean, Context};

/// Both objects of the report, at most one of them there.
pub(super) fn chances(
    context: &Context,
    clean: &[Clean],
    found: Option<&Chances>,
) -> (Option<out::Statistical>, Option<out::Smoothed>) {
    match found {
        Some(Chances::Statistical(samples)) => (Some(statistical(context, clean, samples)), None),
        Some(Chances::Smoothing(sigma, samples)) => {
            (None, Some(smoothed(context, clean, *sigma, samples)))
        }
        None => (None, None),
    }
}

/// What must be true for statements with a confidence.
pub(super) fn assumption() -> String {
    "Statements with a confidence hold over the draws of the noise: what may fail is shared evenly \
     by all statements (Bonferroni), so that with this confidence none of them is wrong. The \
     numbers of ChaCha8 are taken as random."
        .into()
}

/// The share of labelled samples for which something holds; `None` without labels.
fn share<T>(
    samples: &[T],
    label: fn(&T) -> Option<u32>,
    holds: impl Fn(&T) -> bool,
) -> Option<f64> {
    let labelled = samples.iter().filter(|sample| label(sample).is_some()).count();
    let hits = samples.iter().filter(|sample| label(sample).is_some() && holds(sample)).count();
    (labelled > 0).then(|| hits as f64 / labelled as f64)
}

fn statistical(context: &Context, clean: &[Clean], found: &[Option<Changed>]) -> out::Statistical {
    let plan = context.plan;
    let samples: Vec<out::StatisticalSample> = (0..clean.len())
        .map(|index| statistical_sample(context, index, &clean[index], found[index]))
        .collect();
    let threshold = super::stat_threshold(plan);
    let bounds = || samples.iter().map(|sample| sample.stat_change_probability_high);
    let label = |sample: &out::StatisticalSample| sample.label;
    let right = |sample: &out::StatisticalSample| sample.correct == Some(true);
    out::Statistical {
        classifier: "The deployed engine at random inputs of the box, not at the worst.".into(),
        noise: "uniform in the linf box: 2^32 even offsets a number, rounded to f32".into(),
        epsilon: plan.epsilon().text.clone(),
        scope: scope(plan),
        entering_layer: number(context.from()),
        confidence: plan.confidence,
        statements: statements(context),
        labelled: samples.iter().filter(|sample| sample.label.is_some()).count() as u64,
        clean_acc: share(&samples, label, right),
        stat_trials: trials(context),
        stat_threshold: threshold,
        stat_acc: share(&samples, label, |sample| {
            right(sample) && sample.stat_change_probability_high <= threshold
        }),
        stat_changed: samples.iter().map(|sample| sample.stat_changed).sum(),
        stat_change_probability_high: largest(bounds()).unwrap_or(1.0),
        stat_change_probability_high_median: median(bounds().collect()).unwrap_or(1.0),
        samples,
    }
}

fn statistical_sample(
    context: &Context,
    index: usize,
    clean: &Clean,
    found: Option<Changed>,
) -> out::StatisticalSample {
    out::StatisticalSample {
        index: index as u64,
        label: context.samples[index].label,
        prediction: number(clean.prediction),
        correct: clean.correct,
        epsilon_value: context.plan.epsilon().at(clean.rms),
        stat_trials: found.map_or(0, |found| found.trials),
        stat_changed: found.map_or(0, |found| found.changed),
        stat_change_probability_high: found.map_or(1.0, |found| found.probability_high),
    }
}

fn smoothed(
    context: &Context,
    clean: &[Clean],
    sigma: f64,
    found: &[Option<Kept>],
) -> out::Smoothed {
    let plan = context.plan;
    let samples: Vec<out::SmoothedSample> = (0..clean.len())
        .map(|index| smoothed_sample(context, index, &clean[index], found[index]))
        .collect();
    let radii = || samples.iter().map(|sample| sample.smoothed_radius);
    let label = |sample: &out::SmoothedSample| sample.label;
    let right = |sample: &out::SmoothedSample| sample.smoothed_correct == Some(true);
    out::Smoothed {
        classifier: "The smoothed classifier, not the deployed engine, which it polls.".into(),
        noise: format!("Gaussian, sigma {sigma}, on a lattice of step sigma / 4096"),
        epsilon: plan.epsilon().text.clone(),
        norm: plan.norm,
        scope: scope(plan),
        entering_layer: number(context.from()),
        confidence: plan.confidence,
        statements: statements(context),
        labelled: samples.iter().filter(|sample| sample.label.is_some()).count() as u64,
        smoothed_sigma: sigma,
        smoothed_step: step(sigma),
        smoothed_selection_trials: selection_trials(context),
        smoothed_trials: trials(context),
        smoothed_clean_acc: share(&samples, label, right),
        smoothed_acc: share(&samples, label, |sample| {
            right(sample) && sample.smoothed_radius >= sample.smoothed_radius_wanted
        }),
        smoothed_abstained: samples.iter().filter(|s| s.smoothed_abstained).count() as u64,
        smoothed_radius_median: median(radii().collect()).unwrap_or(0.0),
        smoothed_radius_largest: largest(radii()).unwrap_or(0.0),
        curve: curve(&samples),
        samples,
    }
}

fn smoothed_sample(
    context: &Context,
    index: usize,
    clean: &Clean,
    found: Option<Kept>,
) -> out::SmoothedSample {
    let label = context.samples[index].label;
    let class = found.and_then(|found| found.class).map(number);
    out::SmoothedSample {
        index: index as u64,
        label,
        prediction: number(clean.prediction),
        smoothed_prediction: class,
        smoothed_abstained: class.is_none(),
        smoothed_correct: label.map(|label| class == Some(label)),
        smoothed_trials: found.map_or(0, |found| found.trials),
        smoothed_votes: found.map_or(0, |found| found.votes),
        smoothed_p_low: found.map_or(0.0, |found| found.probability_low),
        smoothed_radius: found.filter(|_| class.is_some()).map_or(0.0, |found| found.radius),
        smoothed_radius_wanted: found.map_or(0.0, |found| found.wanted),
    }
}

/// Points of the curve.
const POINTS: u32 = 24;

/// Accuracy against the radius, up to the largest radius of any sample.
fn curve(samples: &[out::SmoothedSample]) -> Vec<out::SmoothedPoint> {
    let labelled = samples.iter().any(|sample| sample.label.is_some());
    let counted = || samples.iter().filter(|sample| !labelled || sample.label.is_some());
    let right = |sample: &out::SmoothedSample| match sample.label {
        Some(label) => sample.smoothed_prediction == Some(label),
        None => sample.smoothed_prediction == Some(sample.prediction),
    };
    let most = largest(samples.iter().map(|sample| sample.smoothed_radius)).unwrap_or(0.0);
    let points = if most > 0.0 { POINTS } else { 0 };
    let of = counted().count();
    (0..=points)
        .filter(|_| of > 0)
        .map(|k| {
            let radius = most * (f64::from(k) / f64::from(POINTS));
            let hits = counted().filter(|s| right(s) && s.smoothed_radius >= radius).count();
            out::SmoothedPoint { radius, smoothed_acc: hits as f64 / of as f64 }
        })
        .collect()
}

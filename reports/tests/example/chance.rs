//! The made-up report as it would be had the method drawn at random.

#![allow(dead_code, reason = "not every test binary needs it")]

use reports::model::*;

/// A report of a method that draws, with both of its objects and no certification.
pub(crate) fn by_chance() -> Report {
    let mut report = super::report();
    report.certification = None;
    report.request.method = Method::Smoothing;
    report.request.noise_trials = Some(1000);
    report.request.sigma = Some(0.25);
    report.statistical = Some(statistical(report.data.samples));
    report.smoothed = Some(smoothed(report.data.samples));
    report
}

fn statistical(count: u64) -> Statistical {
    let samples: Vec<StatisticalSample> = (0..count)
        .map(|index| StatisticalSample {
            index,
            label: Some(1),
            prediction: 1,
            correct: Some(true),
            epsilon_value: 0.01,
            stat_trials: 1000,
            stat_changed: index / 10,
            stat_change_probability_high: 0.008 + 0.002 * (index / 10) as f64,
        })
        .collect();
    Statistical {
        classifier: "The deployed engine.".to_owned(),
        noise: "uniform in a box".to_owned(),
        epsilon: "0.01".to_owned(),
        scope: "all".to_owned(),
        entering_layer: 0,
        confidence: 0.99,
        statements: count,
        labelled: count,
        clean_acc: Some(1.0),
        stat_trials: 1000,
        stat_threshold: 0.01,
        stat_acc: Some(0.25),
        stat_changed: samples.iter().map(|sample| sample.stat_changed).sum(),
        stat_change_probability_high: samples
            .last()
            .map_or(1.0, |sample| sample.stat_change_probability_high),
        stat_change_probability_high_median: 0.012,
        samples,
    }
}

fn smoothed(count: u64) -> Smoothed {
    let samples: Vec<SmoothedSample> = (0..count).map(smoothed_sample).collect();
    let abstained = samples.iter().filter(|sample| sample.smoothed_abstained).count() as u64;
    Smoothed {
        classifier: "The smoothed classifier, not the deployed engine.".to_owned(),
        noise: "Gaussian on a lattice".to_owned(),
        epsilon: "0.01".to_owned(),
        norm: Norm::Linf,
        scope: "all".to_owned(),
        entering_layer: 2,
        confidence: 0.99,
        statements: count,
        labelled: count,
        smoothed_sigma: 0.25,
        smoothed_step: 0.25 / 4096.0,
        smoothed_selection_trials: 100,
        smoothed_trials: 1000,
        smoothed_clean_acc: Some(0.8),
        smoothed_acc: Some(0.5),
        smoothed_abstained: abstained,
        smoothed_radius_median: 0.2,
        smoothed_radius_largest: 0.6,
        samples,
        curve: (0..7)
            .map(|k| SmoothedPoint {
                radius: 0.1 * f64::from(k),
                smoothed_acc: 0.8 - 0.1 * f64::from(k),
            })
            .collect(),
    }
}

fn smoothed_sample(index: u64) -> SmoothedSample {
    let abstains = index.is_multiple_of(6);
    SmoothedSample {
        index,
        label: Some(1),
        prediction: 1,
        smoothed_prediction: (!abstains).then_some(1),
        smoothed_abstained: abstains,
        smoothed_correct: Some(!abstains),
        smoothed_trials: 1000,
        smoothed_votes: if abstains { 510 } else { 990 },
        smoothed_p_low: if abstains { 0.45 } else { 0.97 },
        smoothed_radius: if abstains { 0.0 } else { 0.01 * (index % 60) as f64 },
        smoothed_radius_wanted: 0.12,
    }
}

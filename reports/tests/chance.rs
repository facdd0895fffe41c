//! What holds with a confidence: told by every face, gated, and checked.

mod example;

use reports::metrics::{evaluate, is_metric, metric, parse_gate};
use reports::model::{GateKind, Report};
use reports::{Format, render};

fn report() -> Report {
    example::chance::by_chance()
}

#[test]
fn the_example_keeps_the_contract_and_reads_back() {
    let report = report();
    assert_eq!(report.validate(), []);
    let text = render(&report, Format::Json).expect("JSON");
    assert_eq!(serde_json::from_str::<Report>(&text).expect("a report"), report);
}

#[test]
fn every_face_names_the_classifier_and_the_confidence() {
    for format in [Format::Html, Format::Markdown, Format::Text] {
        let page = render(&report(), format).expect("a page");
        for words in ["The deployed engine", "smoothed classifier, not the deployed engine", "99 %"]
        {
            assert!(page.contains(words), "{format:?} does not say {words:?}\n{page}");
        }
    }
    let page = render(&report(), Format::Html).expect("a page");
    assert!(page.contains("Certification was switched off"), "nothing is certified here");
    assert!(page.contains("entering layer 2") && page.contains("<svg"));
}

#[test]
fn metrics_of_chance_have_values_and_gate() {
    let report = report();
    for (name, value) in [
        ("clean_acc", 1.0),
        ("stat_acc", 0.25),
        ("stat_change_probability_high", 0.008 + 0.002 * 5.0),
        ("smoothed_acc", 0.5),
        ("smoothed_clean_acc", 0.8),
        ("smoothed_radius_median", 0.2),
        ("smoothed_abstained_share", 1.0 / 6.0),
    ] {
        assert!(is_metric(name));
        let found = metric(&report, name).expect("a value").value;
        assert!((found - value).abs() < 1e-12, "{name}: {found}");
    }
    let passes = |kind, text| evaluate(&report, &parse_gate(kind, text).expect("a gate")).passed;
    assert!(passes(GateKind::FailUnder, "smoothed_acc=0.5"));
    assert!(!passes(GateKind::FailUnder, "smoothed_acc=0.51"));
    assert!(!passes(GateKind::FailOver, "stat_change_probability_high=0.01"));
    assert!(!passes(GateKind::FailUnder, "cert_acc=0"), "nothing is certified by chance");
}

#[test]
fn contradictions_are_named() {
    type Breaks = fn(&mut Report);
    let cases: [(&str, Breaks); 9] = [
        ("statistical.stat_acc", |report| {
            report.statistical.as_mut().unwrap().clean_acc = Some(0.1);
        }),
        ("statistical.stat_changed", |report| {
            report.statistical.as_mut().unwrap().stat_changed = 0;
        }),
        ("statistical.samples[3].stat_changed", |report| {
            report.statistical.as_mut().unwrap().samples[3].stat_trials = 0;
            report.statistical.as_mut().unwrap().samples[3].stat_changed = 1;
        }),
        ("statistical.samples[30].stat_change_probability_high", |report| {
            report.statistical.as_mut().unwrap().samples[30].stat_change_probability_high = 0.002;
        }),
        ("statistical.samples[0].stat_change_probability_high", |report| {
            report.statistical.as_mut().unwrap().samples[0].stat_change_probability_high = 0.5;
        }),
        ("smoothed.samples[0].smoothed_radius", |report| {
            report.smoothed.as_mut().unwrap().samples[0].smoothed_radius = 0.1;
        }),
        ("smoothed.samples[1].smoothed_p_low", |report| {
            report.smoothed.as_mut().unwrap().samples[1].smoothed_p_low = 0.5;
        }),
        ("smoothed.smoothed_acc", |report| {
            report.smoothed.as_mut().unwrap().smoothed_acc = Some(0.9);
        }),
        ("smoothed.curve", |report| report.smoothed.as_mut().unwrap().curve.reverse()),
    ];
    for (path, break_it) in cases {
        let mut report = report();
        break_it(&mut report);
        let found = report.validate();
        assert!(found.iter().any(|violation| violation.path == path), "{path}: {found:?}");
    }
}

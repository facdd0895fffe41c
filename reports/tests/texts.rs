//! Texts under faults: what contradicts itself is named, every face tells them, and gates judge
//! them.

mod example;

use example::texts::{generated, guarded};
use reports::metrics::{evaluate, metric, parse_gate};
use reports::model::{GateKind, GeneratedBehind, Generation, Report};
use reports::{Format, render};

fn texts(report: &mut Report) -> &mut Generation {
    report.faults.as_mut().and_then(|faults| faults.generation.as_mut()).expect("texts")
}

fn behind(report: &mut Report) -> &mut GeneratedBehind {
    &mut texts(report).behind[0]
}

/// A path, and what breaks the invariant there.
type Break = (&'static str, fn(&mut Report));

fn each_is_named(sound: fn() -> Report, breaks: &[Break]) {
    assert_eq!(sound().validate(), []);
    for (path, spoil) in breaks {
        let mut report = sound();
        spoil(&mut report);
        let found = report.validate();
        assert!(found.iter().any(|violation| violation.path == *path), "{path}: {found:?}");
    }
}

#[test]
fn texts_that_contradict_themselves_are_named() {
    let breaks: [Break; 12] = [
        ("faults.generation.tokens", |report| texts(report).tokens = 0),
        ("faults.generation.targets", |report| texts(report).targets.truncate(1)),
        ("faults.generation.targets", |report| texts(report).targets[0].trials += 1),
        ("faults.generation.targets[0].diverged", |report| {
            texts(report).targets[0].diverged = u64::MAX;
        }),
        ("faults.generation.targets[0].diverged", |report| {
            texts(report).targets[0].recovered = texts(report).targets[0].diverged + 1;
        }),
        ("faults.generation.targets[1].diverged_rate", |report| {
            texts(report).targets[1].diverged_rate_low = 0.3;
        }),
        ("faults.generation.targets[1].unrecovered_rate", |report| {
            texts(report).targets[1].unrecovered_rate_high = 0.0;
        }),
        ("faults.generation.targets[0].median_first_divergence", |report| {
            texts(report).targets[0].median_first_divergence = Some(16);
        }),
        ("faults.generation.targets[0].mean_different", |report| {
            texts(report).targets[0].mean_different = Some(0.5);
        }),
        ("faults.generation.targets[0].mean_different", |report| {
            texts(report).targets[0].mean_different = None;
        }),
        ("faults.generation.targets[0].detected", |report| {
            texts(report).targets[0].detected = u64::MAX;
        }),
        ("faults.generation.behind", |report| texts(report).targets[0].detected = 1),
    ];
    each_is_named(generated, &breaks);
}

#[test]
fn texts_behind_memory_codes_are_those_of_the_plan() {
    let breaks: [Break; 8] = [
        ("faults.generation.behind", |report| texts(report).behind.clear()),
        ("faults.generation.behind", |report| behind(report).detected += 1),
        ("faults.generation.behind", |report| behind(report).fault = "norm".to_owned()),
        ("faults.generation.behind", |report| texts(report).targets[0].detected = 0),
        ("faults.generation.behind[0].residual.texts", |report| behind(report).residual.texts += 1),
        ("faults.generation.behind[0].raw.texts", |report| behind(report).raw.texts -= 1),
        ("faults.generation.behind[0].raw.diverged", |report| {
            behind(report).raw.diverged = u64::MAX;
        }),
        ("faults.generation.behind[0].residual.unrecovered_rate", |report| {
            behind(report).residual.unrecovered_rate = Some(1.0);
        }),
    ];
    each_is_named(guarded, &breaks);
}

#[test]
fn every_face_tells_of_texts_with_a_code_and_without() {
    for format in [Format::Text, Format::Markdown, Format::Html] {
        let face = render(&generated(), format).expect("a face").to_lowercase();
        assert!(face.contains("16 tokens") && !face.contains("texts behind"), "{face}");
        let face = render(&guarded(), format).expect("a face").to_lowercase();
        assert!(face.contains("texts behind"), "{face}");
        if format != Format::Html {
            assert!(face.contains("8 detected; 6 of 32 texts diverged, raw 18 of 40"), "{face}");
        }
    }
    let json = render(&guarded(), Format::Json).expect("JSON");
    assert_eq!(serde_json::from_str::<Report>(&json).expect("a report"), guarded());
}

#[test]
fn reports_that_do_not_say_what_never_recovered_are_read() {
    let json = render(&generated(), Format::Json).expect("JSON");
    let mut told: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    for row in told["faults"]["generation"]["targets"].as_array_mut().expect("targets") {
        row.as_object_mut().expect("a row").retain(|key, _| !key.starts_with("unrecovered"));
    }
    let report: Report = serde_json::from_value(told).expect("a report");
    assert_eq!(report.validate(), []);
    let over = |text: &str| parse_gate(GateKind::FailOver, text).expect("a gate");
    assert!(!evaluate(&report, &over("text_unrecovered_rate_high=1")).passed, "nobody knows");
    assert!(evaluate(&report, &over("text_diverged_rate_high=1")).passed);
}

#[test]
fn gates_judge_texts_at_the_pessimistic_end() {
    let mut report = guarded();
    let row = &texts(&mut report).targets[0];
    let (rate, high) = (row.diverged_rate.expect("texts"), row.diverged_rate_high);
    let lasting = row.unrecovered_rate_high;
    assert!(rate < high && lasting < high);
    let passes = |text: &str| {
        evaluate(&report, &parse_gate(GateKind::FailOver, text).expect("a gate")).passed
    };
    assert!(!passes(&format!("weight_code.text_diverged_rate={rate}")));
    assert!(passes(&format!("weight_code.text_diverged_rate={high}")));
    assert!(passes(&format!("weight_code.text_unrecovered_rate={lasting}")));
    assert!(!passes(&format!("weight_code.text_diverged_rate_high={lasting}")));
    let worst = metric(&report, "text_diverged_rate_high").expect("a value").value;
    let rows = &report.faults.as_ref().and_then(|of| of.generation.as_ref()).expect("texts");
    assert!(rows.targets.iter().all(|row| row.diverged_rate_high <= worst));
    // A target whose trials were all detected has no texts, and passes no gate by that.
    let mut silent = generated();
    let row = &mut texts(&mut silent).targets[0];
    row.detected = row.trials;
    (row.diverged, row.diverged_rate, row.unrecovered_rate) = (0, None, None);
    let gate = parse_gate(GateKind::FailOver, "text_diverged_rate_high=1").expect("a gate");
    assert!(!evaluate(&silent, &gate).passed);
}

#[test]
fn the_case_of_a_target_is_red_where_its_texts_break_a_gate() {
    let mut report = guarded();
    let rows = &texts(&mut report).targets;
    let highs = rows.iter().map(|row| row.diverged_rate_high);
    let worst = highs.max_by(f64::total_cmp).expect("targets");
    let red = |report: &Report| {
        let xml = render(report, Format::Junit).expect("XML");
        assert!(xml.contains("texts: "), "{xml}");
        xml.matches("<failure").count()
    };
    let gate = |text: String| vec![parse_gate(GateKind::FailOver, &text).expect("a gate")];
    report.request.gates = gate(format!("text_diverged_rate_high={worst}"));
    assert_eq!(red(&report), 0);
    report.request.gates = gate("weight_code.text_diverged_rate_high=0".to_owned());
    assert_eq!(red(&report), 2, "the gate and its target");
    report.request.gates = gate("text_unrecovered_rate=0".to_owned());
    assert_eq!(red(&report), 7, "the gate and all six targets");
}

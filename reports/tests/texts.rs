//! Texts under faults: what contradicts itself is named, and every face tells them.

mod example;

use example::texts::{generated, guarded};
use reports::model::{GeneratedBehind, Generation, Report};
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

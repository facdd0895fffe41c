//! The map of all single-bit faults: what contradicts itself is named, and every face tells it.

mod example;

use reports::model::{Exhaustive, Report};
use reports::{Format, render, text};

fn report() -> Report {
    let mut report = example::report();
    example::exhaustive::mapped(&mut report);
    report
}

fn map(report: &mut Report) -> &mut Exhaustive {
    report.faults.as_mut().and_then(|faults| faults.exhaustive.as_mut()).expect("a map")
}

type Break = (&'static str, fn(&mut Exhaustive));

#[test]
fn a_map_that_contradicts_itself_is_named() {
    assert_eq!(report().validate(), []);
    let breaks: [Break; 14] = [
        ("faults.exhaustive.decided", |map| map.sdc += 1),
        ("faults.exhaustive.pairs", |map| map.samples += 1),
        ("faults.exhaustive.bits", |map| map.bits += 1),
        ("faults.trials", |map| map.decided -= 1),
        ("faults.exhaustive.sdc_share", |map| map.sdc_share = None),
        ("faults.exhaustive.identical", |map| map.identical = map.masked + 1),
        ("faults.exhaustive.effort", |map| map.effort.proven += 1),
        ("faults.exhaustive.effort.early", |map| map.effort.early = map.effort.executed + 1),
        ("faults.exhaustive.masked", |map| map.bit_rows[0].masked += 1),
        ("faults.exhaustive.tensors[2].decided", |map| map.tensors[2].bit_rows[0].decided += 1),
        ("faults.exhaustive.tensors[1].sdc_share", |map| map.tensors[1].sdc_share = Some(0.5)),
        ("faults.exhaustive.tensors[0].bins", |map| map.tensors[0].bins[3].rows += 1),
        ("faults.exhaustive.tensors[0].bins[4].first_row", |map| {
            map.tensors[0].bins[4].first_row += 1;
        }),
        ("faults.exhaustive.tensors[3].max_logit_change", |map| {
            map.tensors[3].max_logit_change = Some(-1.0);
        }),
    ];
    for (path, break_it) in breaks {
        let mut report = report();
        break_it(map(&mut report));
        let found = report.validate();
        assert!(found.iter().any(|violation| violation.path == path), "{path}: {found:?}");
    }
}

#[test]
fn every_face_tells_the_map_and_escapes_it() {
    let mut report = report();
    let page = render(&report, Format::Html).unwrap();
    assert!(page.contains("Where do single flips change the decision?"));
    assert_eq!(page.matches("class=\"heat\"").count(), 1 + 28, "the map and its rows");
    assert!(!page.contains("intervals are exact at"), "nothing was estimated");
    let plain = text::summary(&report);
    assert!(plain.contains("exactly (") && !plain.contains('['), "{plain}");
    assert!(render(&report, Format::Markdown).unwrap().contains("| Layer | Tensor |"));
    let hostile = "</text><script>alert(1)</script>";
    map(&mut report).tensors[0].tensor = hostile.to_owned();
    map(&mut report).plan = hostile.to_owned();
    for format in [Format::Html, Format::Markdown] {
        assert!(!render(&report, format).unwrap().contains("<script"), "{format:?}");
    }
}

#[test]
fn the_page_of_a_deep_model_stays_small() {
    let mut report = example::sized(10, 60);
    example::exhaustive::mapped(&mut report);
    assert_eq!(report.validate(), []);
    let page = render(&report, Format::Html).unwrap();
    assert!(page.len() < 2_000_000, "{} bytes", page.len());
    let lines = text::summary(&report).lines().count();
    assert!(lines <= text::MOST_LINES, "{lines} lines");
}

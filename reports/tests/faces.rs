//! Every face of a report: safe with hostile names, small enough, the same bytes each time.

mod example;

use reports::model::{
    GateKind, KvStorage, LimitHit, NextToken, PositionCount, Report, Target, Verdict,
};
use reports::{Format, metrics, render, text};

const FORMATS: [Format; 5] =
    [Format::Json, Format::Html, Format::Junit, Format::Markdown, Format::Text];

const HOSTILE: [&str; 6] = [
    "</text><script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "a\u{2028}b\0c\u{1b}[31m\u{202e}d",
    "]]></system-out>-->",
    "| `x` | [y](javascript:z) \n\n# head",
    "</style><style>*{display:none}",
];

/// The text in every place that a file can fill.
fn poisoned(text: &str) -> Report {
    let mut report = example::report();
    let own = || text.to_owned();
    report.model.name = own();
    report.model.digest = own();
    report.model.architecture = own();
    report.model.warnings = vec![own()];
    report.data.digest = own();
    report.engine.description = own();
    report.request.epsilon = own();
    report.request.scope = own();
    report.assumptions.push(own());
    report.limits_hit.push(LimitHit { limit: own(), what: own() });
    let certification = report.certification.as_mut().unwrap();
    certification.epsilon = own();
    certification.scope = own();
    certification.first_lost_layer.as_mut().unwrap().why = own();
    certification.first_lost_layer.as_mut().unwrap().step = own();
    certification.samples[1].why = Some(own());
    certification.layers[2].reason = Some(own());
    certification.growth.iter_mut().for_each(|step| step.step = own());
    let faults = report.faults.as_mut().unwrap();
    faults.worst[0].address = own();
    faults.bounds[0].reason = Some(own());
    report.run.as_mut().unwrap().kernels = own();
    report
}

fn html(report: &Report) -> String {
    render(report, Format::Html).unwrap()
}

#[test]
fn hostile_names_show_and_do_nothing() {
    let clean = html(&example::report());
    for text in HOSTILE {
        let report = poisoned(text);
        let page = html(&report);
        assert!(!page.contains("<script") && !page.contains("<img"), "{text}");
        assert!(!page.contains(['\0', '\u{1b}', '\u{2028}', '\u{202e}']), "{text}");
        for tag in ["<style", "</style", "<svg", "</svg", "<table", "<section"] {
            assert_eq!(page.matches(tag).count(), clean.matches(tag).count(), "{tag} with {text}");
        }
        let markdown = render(&report, Format::Markdown).unwrap();
        assert!(!markdown.contains("<img") && !markdown.contains("<script"), "{text}");
        assert!(!markdown.contains("](javascript"), "{text}");
        let heads = markdown.lines().filter(|line| line.starts_with('#')).count();
        assert_eq!(heads, 5, "{text}");
        let summary = render(&report, Format::Text).unwrap();
        assert!(!summary.contains(['\u{1b}', '\0', '\u{2028}', '\u{202e}']), "{text}");
        let xml = render(&report, Format::Junit).unwrap();
        assert!(!xml.contains("<script") && !xml.contains("]]></system-out>"), "{text}");
    }
}

#[test]
fn the_same_report_is_the_same_bytes() {
    for format in FORMATS {
        let first = render(&example::report(), format).unwrap();
        assert_eq!(first, render(&example::report(), format).unwrap(), "{format:?}");
        assert!(first.ends_with('\n') || format == Format::Html, "{format:?}");
    }
}

#[test]
fn the_page_needs_nothing_but_itself() {
    let page = html(&example::report());
    assert!(page.starts_with("<!DOCTYPE html><html lang=\"en\">"));
    assert!(page.contains("http-equiv=\"Content-Security-Policy\" content=\"default-src 'none';"));
    for outside in ["http://", "https://", "src=", "href=\"/", "url(", "@import", " onload"] {
        let rest = page.replace("xmlns=\"http://www.w3.org/2000/svg\"", "");
        assert!(!rest.contains(outside), "{outside}");
    }
    for inside in ["prefers-color-scheme: dark", "@media print", "name=\"viewport\"", "#main"] {
        assert!(page.contains(inside), "{inside}");
    }
}

#[test]
fn the_page_has_every_plot_with_its_table() {
    let page = html(&example::report());
    assert_eq!(page.matches("<figure>").count(), 6);
    assert_eq!(page.matches("The numbers behind it").count(), 6);
    // Four plots, four targets with layers, six with bits, and the bar of verdicts.
    assert_eq!(page.matches("<svg ").count(), 4 + 4 + 6 + 1);
    assert_eq!(page.matches("role=\"img\"").count(), 4 + 4 + 6);
    assert!(!page.contains("NaN") && !page.contains("inf\""));
}

#[test]
fn what_figures_of_faults_take_for_granted_is_seen() {
    let page = html(&example::report());
    // `aside` is for readers that speak.
    for text in ["A raw fault strikes bits of one stored word", "stored bits of these parameters"] {
        let (before, _) = page.split_once(text).expect(text);
        let paragraph = before.rfind("<p").expect("a paragraph");
        assert!(page[paragraph..].starts_with("<p class=\"note\">"), "{text}");
    }
}

#[test]
fn headings_never_skip_a_level() {
    let page = html(&example::report());
    let mut last = 0;
    for (at, _) in page.match_indices("<h") {
        let Some(level) = page[at + 2..].chars().next().and_then(|c| c.to_digit(10)) else {
            continue;
        };
        assert!(level <= last + 1, "h{level} after h{last}");
        last = level;
    }
}

#[test]
fn a_page_of_a_big_model_and_many_samples_stays_under_two_megabytes() {
    let mut report = example::sized(20_000, 30);
    for sample in &mut report.certification.as_mut().unwrap().samples {
        sample.why = Some("the bound diverged in a layer with a rather long reason ".repeat(2));
    }
    let page = html(&report);
    assert!(page.len() < 2_000_000, "{} bytes", page.len());
    assert!(page.contains("The first 1,000 of 20,000 rows; all of them are in report.json."));
    let markdown = render(&report, Format::Markdown).unwrap();
    assert!(markdown.len() < 1 << 20 && markdown.contains("more in report.html."));
}

#[test]
fn a_job_summary_of_endless_hostile_text_stays_under_a_mebibyte() {
    let mut report = poisoned(&"|".repeat(10_000));
    report.assumptions = vec!["<".repeat(10_000); 1_000];
    report.limits_hit = vec![report.limits_hit[0].clone(); 1_000];
    let gate = metrics::parse_gate(GateKind::FailUnder, "cert_acc=2").unwrap();
    report.request.gates = vec![gate; 1_000];
    let markdown = render(&report, Format::Markdown).unwrap();
    assert!(markdown.len() < 1 << 20, "{} bytes", markdown.len());
}

#[test]
fn partial_reports_render_in_every_face() {
    let mut reports = vec![example::sized(1, 1)];
    let mut nothing = example::report();
    (nothing.certification, nothing.faults, nothing.run) = (None, None, None);
    reports.push(nothing);
    let mut empty = example::report();
    let certification = empty.certification.as_mut().unwrap();
    certification.samples.clear();
    certification.layers.clear();
    certification.curve.clear();
    certification.growth.clear();
    (certification.certified, certification.falsified, certification.unknown) = (0, 0, 0);
    (certification.clean_acc, certification.cert_acc) = (None, None);
    let faults = empty.faults.as_mut().unwrap();
    faults.targets.clear();
    faults.layers.clear();
    faults.bits.clear();
    faults.worst.clear();
    faults.bounds.clear();
    reports.push(empty);
    for report in reports {
        for format in FORMATS {
            assert!(!render(&report, format).unwrap().is_empty());
        }
    }
}

#[test]
fn numbers_that_break_the_contract_never_reach_a_plot() {
    let mut report = example::report();
    let certification = report.certification.as_mut().unwrap();
    certification.layers[1].certified_radius = f64::NAN;
    certification.layers[2].certified_radius_median = f64::INFINITY;
    certification.growth[3].width_max = Some(f64::INFINITY);
    certification.samples[0].margin = Some(f64::NAN);
    certification.curve[2].certified_acc = f64::NAN;
    report.faults.as_mut().unwrap().layers[0].sdc_rate_high = f64::NAN;
    let page = html(&report);
    for plot in page.split("<svg ").skip(1) {
        let plot = plot.split("</svg>").next().unwrap();
        assert!(!plot.contains("NaN") && !plot.contains("2147483"), "{plot}");
    }
}

#[test]
fn the_terminal_summary_leads_with_what_is_known_and_fits_25_lines() {
    let summary = render(&example::report(), Format::Text).unwrap();
    let known = summary.find("the last 2 layers hold at 0.01").unwrap();
    assert!(known < summary.find("Unknown at 0.01: ").unwrap());
    for words in ["clean accuracy", "certified accuracy", "largest certified epsilon", "attack"] {
        assert!(summary.contains(words), "{words}");
    }
    assert!(summary.contains("bound first lost           layer 2, attention: "));
}

#[test]
fn every_face_for_people_shows_which_method_decided_and_the_accuracy_at_each_epsilon() {
    let report = example::report();
    let found = report.certification.as_ref().unwrap();
    let decided = format!("interval bound propagation 0, zonotope {}", found.certified);
    let told = "1 certified, 1 falsified, 1 unknown; any of the 2 nearest tokens";
    for format in [Format::Text, Format::Markdown] {
        let face = render(&report, format).unwrap();
        assert!(face.contains(&decided), "{face}");
        assert!(face.contains("2%rms"), "{face}");
        assert!(face.contains(told), "{face}");
    }
    let page = html(&report);
    for words in [
        "Method by method",
        "Verdicts by epsilon",
        "2%rms",
        "layer 0, attention",
        "[3, 1, 4] gives 7",
    ] {
        assert!(page.contains(words), "{words}");
    }
}

#[test]
fn the_fullest_summary_still_fits() {
    let mut report = example::report();
    let hit = LimitHit { limit: "time-limit".to_owned(), what: "much ".repeat(100) };
    report.limits_hit = vec![hit; 7];
    for name in metrics::metric_names() {
        let gate = metrics::parse_gate(GateKind::FailUnder, &format!("{name}=1e9")).unwrap();
        report.request.gates.push(gate);
    }
    let certification = report.certification.as_mut().unwrap();
    certification.next_token = Some(NextToken { positions: 960, certified_share: 0.25 });
    let faults = report.faults.as_mut().unwrap();
    faults.kv = KvStorage::OneBit;
    let row: Target = faults.targets[0].clone();
    faults.targets.extend(vec![row; 3]);
    let summary = render(&report, Format::Text).unwrap();
    assert!(summary.lines().count() <= text::MOST_LINES, "{summary}");
    assert!(summary.lines().all(|line| line.chars().count() <= 96), "{summary}");
    assert!(summary.contains("8 more in the report") && summary.contains("more, see the report"));
}

#[test]
fn suffixes_are_told_in_plain_words() {
    let cases = [
        (Some(0), "not even the last layer; the read-out alone to 0.02 (median)"),
        (Some(1), "the last layer holds at 0.01"),
        (Some(3), "the last 3 layers hold at 0.01"),
        (Some(4), "all 4 layers hold at 0.01"),
    ];
    for (depth, words) in cases {
        let mut report = example::report();
        report.certification.as_mut().unwrap().deepest_certified_suffix = depth;
        assert!(render(&report, Format::Text).unwrap().contains(words), "{words}");
        assert!(html(&report).contains(words), "{words}");
    }
}

#[test]
fn junit_is_red_exactly_when_a_gate_failed() {
    let mut report = example::report();
    let calm = render(&report, Format::Junit).unwrap();
    assert!(!calm.contains("<failure"));
    assert!(calm.contains("<testsuite name=\"samples\" tests=\"60\" skipped=\"26\""), "{calm}");

    report.request.gates =
        vec![metrics::parse_gate(GateKind::FailOver, "sdc_rate_high=0.07").unwrap()];
    let faulty = render(&report, Format::Junit).unwrap();
    // The gate, and the targets that break it: weight_scale and norm.
    assert_eq!(faulty.matches("<failure").count(), 1 + 2, "{faulty}");

    report.request.gates = vec![metrics::parse_gate(GateKind::FailUnder, "cert_acc=0.8").unwrap()];
    let falsified = report.certification.as_ref().unwrap().falsified as usize;
    let unproven = render(&report, Format::Junit).unwrap();
    assert_eq!(unproven.matches("<failure").count(), 1 + falsified);
}

#[test]
fn positions_are_shown_where_they_were_asked_for() {
    let mut report = example::report();
    assert!(!html(&report).contains(">positions</th>"));
    let certification = report.certification.as_mut().unwrap();
    certification.samples[0].positions = Some(PositionCount { certified: 7, total: 16 });
    certification.samples[0].verdict = Verdict::Unknown;
    let page = html(&report);
    assert!(page.contains(">positions</th>") && page.contains("7 of 16"));
}

#[test]
fn formats_go_by_their_extension() {
    let formats = [("json", Format::Json), ("HTML", Format::Html), ("xml", Format::Junit)];
    for (extension, format) in formats {
        assert_eq!(Format::from_extension(extension), Ok(format));
        let path = format!("out.d/report.{extension}");
        assert_eq!(Format::from_path(path.as_ref()), Ok(format));
    }
    for path in ["report", "report.pdf", ".json"] {
        assert!(Format::from_path(path.as_ref()).is_err(), "{path}");
    }
    let error = Format::from_extension("pdf").unwrap_err().to_string();
    assert!(error.contains(".html"), "{error}");
}

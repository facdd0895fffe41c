//! A plan of faults in every face: its strata, and the curve of a sweep of bit error rates.

mod example;

use reports::model::{Behind, CriticalFit, FaultTarget, MemoryCode, Stratum};
use reports::{Format, Report, render};

fn stratum(target: FaultTarget, rate: f64, labelled: u64) -> Stratum {
    let sdc = (400.0 * rate) as u64;
    let share = sdc as f64 / 400.0;
    Stratum {
        fault: format!("{} poisson ber={rate:?}", target.name()),
        target,
        model: "poisson".to_owned(),
        trials: 400,
        masked: 400 - sdc,
        identical: 0,
        sdc,
        due: 0,
        sdc_rate: Some(share),
        sdc_rate_low: 0.5 * share,
        sdc_rate_high: 1.0,
        due_rate: Some(0.0),
        due_rate_low: 0.0,
        due_rate_high: 0.1,
        flips: 1200,
        bit_error_rate: Some(rate),
        labelled,
        correct: labelled / 2,
        clean_correct: labelled,
        accuracy: (labelled > 0).then_some(0.5),
        accuracy_low: 0.0,
        accuracy_high: 1.0,
        mean_nll_change: Some(0.25),
        perplexity_factor: Some(1.25),
        perplexity_factor_capped: Some(1.25),
        perplexity_factor_capped_low: Some(1.0),
        perplexity_factor_capped_high: Some(2.0),
        behind: None,
        critical_fit: None,
    }
}

/// A report of a plan with two targets at three rates, one of them without labels.
fn swept() -> Report {
    let mut report = example::report();
    let faults = report.faults.as_mut().expect("faults");
    let rates = [1e-3, 1e-2, 0.1];
    let [packed, kv] = [FaultTarget::WeightCode, FaultTarget::KvInt8];
    faults.strata = (rates.iter().map(|&rate| stratum(packed, rate, 400)))
        .chain(rates.iter().map(|&rate| stratum(kv, rate, 0)))
        .collect();
    faults.plan = Some("seed = 0 # <b>".to_owned());
    faults.flips = 0;
    faults.targets.truncate(1);
    (faults.trials, faults.targets[0].trials) = (2400, 2400);
    faults.targets[0].masked = 2400 - faults.targets[0].sdc - faults.targets[0].due;
    report
}

#[test]
fn a_sweep_has_a_curve_for_each_target_and_every_face_its_strata() {
    let report = swept();
    assert_eq!(report.validate(), []);
    let page = render(&report, Format::Html).expect("a page");
    assert_eq!(page.matches("What is left at each bit error rate of").count(), 2);
    assert!(page.contains("bit error rate of weight_code?"));
    assert_eq!(page.matches("By what factor does the perplexity grow with").count(), 2);
    assert!(page.contains("<pre>seed = 0 # &lt;b&gt;</pre>"));
    assert!(page.contains("Trials flip bits by the plan"));
    assert!(!page.contains("NaN") && !page.contains("inf\""));
    let plain = render(&example::report(), Format::Html).expect("a page");
    assert!(!plain.contains("What is left at each bit error rate"));
    // The words of outcomes are always explained, those of memory codes where there is one.
    let explained = |page: &str, word: &str| page.contains(&format!("<dt>{word}</dt>"));
    assert!(["masked", "identical", "SDC", "DUE"].iter().all(|word| explained(&page, word)));
    let mut bare = report.clone();
    bare.faults.as_mut().expect("faults").protection.clear();
    for coded in [false, true] {
        let row = &mut bare.faults.as_mut().expect("faults").strata[0];
        row.behind = coded.then(|| behind(row));
        let page = render(&bare, Format::Html).expect("a page");
        let words = ["PVF", "residual", "FIT", "SECDED"];
        assert_eq!(words.map(|word| explained(&page, word)), [coded; 4]);
    }
    let text = render(&report, Format::Text).expect("a text");
    assert!(text.contains("bit flips by plan") && text.contains("weight_code poisson ber=0.001"));
    assert!(text.contains("right 50 %"), "{text}");
    let markdown = render(&report, Format::Markdown).expect("a table");
    assert!(markdown.contains("Fault of the plan"), "{markdown}");
}

/// A key and a change that it contradicts.
type Break = (&'static str, fn(&mut Behind));

/// What a code may have made of a stratum without dues.
fn behind(row: &Stratum) -> Behind {
    Behind {
        code: MemoryCode::Secded,
        word_bits: 64,
        check_bits: 8,
        stored_bits: 7200,
        stored_check_bits: 800,
        harmless: row.masked,
        detected: 0,
        residual: row.sdc,
        miscorrected: row.sdc,
        residual_rate: row.sdc_rate,
        residual_rate_low: 0.0,
        residual_rate_high: 1.0,
        pvf: (row.sdc > 0).then_some(1.0),
        pvf_low: 0.0,
        pvf_high: 1.0,
        raw_masked: row.trials - 123,
        raw_sdc: 123,
        raw_due: 0,
        raw_sdc_rate: Some(123.0 / 400.0),
        raw_sdc_rate_low: 0.3,
        raw_sdc_rate_high: 0.35,
        raw_due_rate: Some(0.0),
        raw_due_rate_low: 0.0,
        raw_due_rate_high: 0.01,
        raw_critical_fit: Some(CriticalFit { hours: 24.0, low: 3.0, high: 4.5 }),
    }
}

#[test]
fn memory_codes_stand_beside_the_same_flips_without_and_contradictions_are_named() {
    let mut report = swept();
    for row in report.faults.as_mut().expect("faults").strata.iter_mut().take(2) {
        row.behind = Some(behind(row));
        row.critical_fit = Some(CriticalFit { hours: 24.0, low: 1.5, high: 2.25 });
    }
    assert_eq!(report.validate(), []);
    let text = reports::json::to_string(&report).expect("JSON");
    assert_eq!(serde_json::from_str::<Report>(&text).expect("a report"), report);
    let page = render(&report, Format::Html).expect("a page");
    assert!(page.contains("bit error rate of weight_code behind secded (64)?"));
    assert_eq!(page.matches("What is left at each bit error rate of").count(), 2, "one is alone");
    assert!(page.contains("secded (64 + 8)") && page.contains("1.5 to 2.25"), "{page}");
    let text = render(&report, Format::Text).expect("a text");
    assert!(text.contains(", raw 30.8 %, right 50 %"), "{text}");
    let markdown = render(&report, Format::Markdown).expect("a table");
    assert!(markdown.contains("Behind a memory code"), "{markdown}");
    let breaks: [Break; 8] = [
        ("residual", |of| of.harmless += 1),
        ("raw_masked", |of| of.raw_due += 1),
        ("residual", |of| of.miscorrected += 1),
        ("detected", |of| (of.detected, of.harmless) = (1, of.harmless - 1)),
        ("stored_check_bits", |of| of.stored_check_bits = 7201),
        ("pvf", |of| of.pvf = None),
        ("raw_sdc_rate", |of| of.raw_sdc_rate_low = 0.32),
        ("raw_critical_fit.low", |of| {
            of.raw_critical_fit = Some(CriticalFit { hours: 24.0, low: 5.0, high: 4.5 });
        }),
    ];
    for (key, change) in breaks {
        let mut broken = report.clone();
        let row = &mut broken.faults.as_mut().expect("faults").strata[1];
        change(row.behind.as_mut().expect("a code"));
        let named = broken.validate();
        let expected = format!("faults.strata[1].behind.{key}");
        assert!(named.iter().any(|problem| problem.path == expected), "{expected}: {named:?}");
    }
}

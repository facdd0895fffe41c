//! A plan of faults in every face: its strata, and the curve of a sweep of bit error rates.

mod example;

use reports::model::{FaultTarget, Stratum};
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
    assert!(page.contains("<pre>seed = 0 # &lt;b&gt;</pre>"));
    assert!(page.contains("Trials flip bits by the plan"));
    assert!(!page.contains("NaN") && !page.contains("inf\""));
    let plain = render(&example::report(), Format::Html).expect("a page");
    assert!(!plain.contains("What is left at each bit error rate"));
    let text = render(&report, Format::Text).expect("a text");
    assert!(text.contains("bit flips by plan") && text.contains("weight_code poisson ber=0.001"));
    assert!(text.contains("right 50 %"), "{text}");
    let markdown = render(&report, Format::Markdown).expect("a table");
    assert!(markdown.contains("Fault of the plan"), "{markdown}");
}

//! Gates compare the pessimistic end, and nothing passes by being absent or misspelt.

mod example;

use reports::Report;
use reports::metrics::{
    GateError, evaluate, evaluate_all, is_metric, metric, metric_names, parse_gate,
    target_metric_names,
};
use reports::model::{FaultTarget, GateKind};

fn passes(report: &Report, kind: GateKind, text: &str) -> bool {
    evaluate(report, &parse_gate(kind, text).unwrap()).passed
}

#[test]
fn every_named_metric_has_a_value_where_the_report_does() {
    let mut report = example::report();
    let certification = report.certification.as_mut().unwrap();
    certification.next_token =
        Some(reports::model::NextToken { positions: 8, certified_share: 0.5 });
    for name in metric_names() {
        let found = metric(&report, name).or_else(|| metric(&example::chance::by_chance(), name));
        let found = found.or_else(|| metric(&example::texts::generated(), name));
        let found = found.unwrap_or_else(|| panic!("{name} has no value"));
        assert!(found.low <= found.value && found.value <= found.high, "{name}");
    }
    for rate in target_metric_names() {
        let found = metric(&example::texts::guarded(), &format!("kv_f32.{rate}"));
        assert!(found.is_some(), "{rate}");
    }
}

#[test]
fn a_rate_is_gated_at_its_upper_end_and_not_at_its_estimate() {
    let report = example::report();
    let row = &report.faults.as_ref().unwrap().targets[0];
    assert_eq!(row.target, FaultTarget::WeightCode);
    let (rate, high) = (row.sdc_rate.unwrap(), row.sdc_rate_high);
    assert!(!passes(&report, GateKind::FailOver, &format!("weight_code.sdc_rate={rate}")));
    assert!(passes(&report, GateKind::FailOver, &format!("weight_code.sdc_rate={high}")));
    let low = row.sdc_rate_low;
    assert!(passes(&report, GateKind::FailUnder, &format!("weight_code.sdc_rate={low}")));
    assert!(!passes(&report, GateKind::FailUnder, &format!("weight_code.sdc_rate={rate}")));
}

#[test]
fn a_rate_without_target_is_that_of_the_worst() {
    let report = example::report();
    let worst = metric(&report, "weight_scale.sdc_rate_high").unwrap();
    assert_eq!(metric(&report, "sdc_rate_high"), Some(worst));
}

#[test]
fn thresholds_themselves_pass() {
    let report = example::report();
    let clean = report.certification.as_ref().unwrap().clean_acc.unwrap();
    assert!(passes(&report, GateKind::FailUnder, &format!("clean_acc={clean}")));
    assert!(passes(&report, GateKind::FailOver, &format!("clean_acc={clean}")));
}

#[test]
fn what_was_not_checked_does_not_pass() {
    let mut report = example::report();
    report.certification = None;
    report.substitutions = None;
    report.faults = None;
    for name in metric_names() {
        assert!(!passes(&report, GateKind::FailUnder, &format!("{name}=0")), "{name}");
        assert!(!passes(&report, GateKind::FailOver, &format!("{name}=1e300")), "{name}");
    }
    let mut report = example::report();
    report.faults.as_mut().unwrap().targets.clear();
    assert!(!passes(&report, GateKind::FailOver, "sdc_rate_high=1"));
    assert!(!passes(&report, GateKind::FailOver, "kv_int8.sdc_rate_high=1"));
}

#[test]
fn an_untried_target_does_not_hide_behind_the_others() {
    let mut report = example::report();
    let row = &mut report.faults.as_mut().unwrap().targets[0];
    (row.trials, row.masked, row.identical, row.sdc, row.due) = (0, 0, 0, 0, 0);
    (row.sdc_rate, row.sdc_rate_low, row.sdc_rate_high) = (None, 0.0, 1.0);
    assert!(!passes(&report, GateKind::FailOver, "sdc_rate=0.99"));
    assert!(!passes(&report, GateKind::FailOver, "sdc_rate_high=0.99"));
}

#[test]
fn misspelt_gates_are_errors() {
    let kind = GateKind::FailUnder;
    assert!(matches!(parse_gate(kind, "cert_acc"), Err(GateError::Form(_))));
    assert!(matches!(parse_gate(kind, "cert_ac=0.8"), Err(GateError::Metric { .. })));
    assert!(matches!(parse_gate(kind, "weights.sdc_rate=0.8"), Err(GateError::Metric { .. })));
    assert!(matches!(parse_gate(kind, "weight_code.cert_acc=1"), Err(GateError::Metric { .. })));
    for bad in ["cert_acc=", "cert_acc=nan", "cert_acc=inf", "cert_acc=80%", "cert_acc=1e999"] {
        let error = parse_gate(kind, bad).unwrap_err();
        assert!(matches!(error, GateError::Threshold { .. }), "{bad}: {error}");
    }
    assert!(!is_metric("") && !is_metric(".") && is_metric("kv_1bit.due_rate"));
    let error = parse_gate(kind, "cert=1").unwrap_err().to_string();
    assert!(error.contains("cert_acc") && error.contains("weight_code.sdc_rate_high"), "{error}");
}

#[test]
fn gates_are_evaluated_in_the_order_of_the_request() {
    let mut report = example::report();
    report.request.gates = vec![
        parse_gate(GateKind::FailUnder, " clean_acc = 0.9 ").unwrap(),
        parse_gate(GateKind::FailOver, "sdc_rate_high=1e-3").unwrap(),
    ];
    let results = evaluate_all(&report);
    assert_eq!(results.iter().map(|result| result.passed).collect::<Vec<_>>(), [true, false]);
    assert_eq!(results[1].gate.threshold.text, "1e-3");
}

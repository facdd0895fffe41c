//! JUnit XML, for CI servers that draw it.
//!
//! Three suites. `gates`: one case per gate, a failure where it did not pass. `samples`: certified
//! is a success; unknown and falsified are *skipped* with their reason, because `analyze` without
//! gates judges nothing; once a gate on a certification metric has failed, falsified samples are
//! failures, since they are what to look at. `faults`: one case per target with its rates; a
//! failure where that very target breaks a failed gate. So the file is red exactly when a gate
//! failed.

use quick_junit::{NonSuccessKind, Report as Document, TestCase, TestCaseStatus, TestSuite};

use crate::escape::shown;
use crate::metrics::{GateResult, evaluate, evaluate_all, target_metric_names};
use crate::model::{Certification, Faults, Gate, GeneratedTarget, Report, Sample, Target, Verdict};
use crate::number::{Side, count, number, percent};
use crate::story;

/// The document could not be written.
#[derive(Debug, thiserror::Error)]
#[error("the report cannot be written as JUnit XML: {0}")]
pub struct JunitError(String);

/// The report as JUnit XML.
///
/// # Errors
/// If the XML writer fails, which only a bug can cause.
pub fn to_string(report: &Report) -> Result<String, JunitError> {
    let mut document = Document::new("bitnet-certify");
    let results = evaluate_all(report);
    document.add_test_suite(gates(&results));
    if let Some(found) = &report.certification {
        document.add_test_suite(samples(found, &results));
    }
    if let Some(faults) = &report.faults {
        document.add_test_suite(targets(report, faults, &results));
    }
    document.to_string().map_err(|error| JunitError(error.to_string()))
}

fn skipped(message: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::skipped();
    status.set_message(message);
    status
}

fn failure(message: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
    status.set_message(message);
    status
}

fn gates(results: &[GateResult]) -> TestSuite {
    let mut suite = TestSuite::new("gates");
    for result in results {
        let name = format!("{} {}", shown(&result.gate.metric), story::threshold(&result.gate));
        let status = if result.passed {
            TestCaseStatus::success()
        } else {
            failure(&format!("{}: {}", name, story::compared(result)))
        };
        let mut case = TestCase::new(name, status);
        case.set_classname("gates");
        suite.add_test_case(case);
    }
    suite
}

fn samples(found: &Certification, results: &[GateResult]) -> TestSuite {
    let judged = results.iter().any(|result| !result.passed && !is_fault_gate(&result.gate));
    let mut suite = TestSuite::new("samples");
    for sample in &found.samples {
        let status = sample_status(sample, judged);
        let mut case = TestCase::new(format!("sample {}", sample.index), status);
        case.set_classname("samples");
        let radius = number(sample.certified_radius, Side::Down);
        let attack = sample.attack_radius.map(|radius| number(radius, Side::Up));
        let attack = attack.unwrap_or_else(|| "none found".to_owned());
        case.set_system_out(format!("certified_radius {radius}, attack_radius {attack}"));
        suite.add_test_case(case);
    }
    suite
}

fn sample_status(sample: &Sample, judged: bool) -> TestCaseStatus {
    let why = sample.why.as_deref().map(shown).unwrap_or_default();
    let message = format!("{}: {why}", story::verdict(sample.verdict));
    match sample.verdict {
        Verdict::Certified => TestCaseStatus::success(),
        Verdict::Falsified if judged => failure(&message),
        Verdict::Falsified | Verdict::Unknown => skipped(&message),
    }
}

fn targets(report: &Report, faults: &Faults, results: &[GateResult]) -> TestSuite {
    let mut suite = TestSuite::new("faults");
    for row in &faults.targets {
        let mut case = TestCase::new(row.target.name(), target_status(report, row, results));
        case.set_classname("faults");
        case.set_system_out(rates(row) + &texts(faults, row));
        suite.add_test_case(case);
    }
    suite
}

fn target_status(report: &Report, row: &Target, results: &[GateResult]) -> TestCaseStatus {
    for result in results.iter().filter(|result| !result.passed) {
        let gate = &result.gate;
        let (target, rate) = match gate.metric.split_once('.') {
            Some((target, rate)) => (target, rate),
            None => (row.target.name(), gate.metric.as_str()),
        };
        if target != row.target.name() || !target_metric_names().contains(&rate) {
            continue;
        }
        let own = Gate { metric: format!("{target}.{rate}"), ..gate.clone() };
        let own = evaluate(report, &own);
        if !own.passed {
            let wanted = story::threshold(gate);
            return failure(&format!("{rate} {}, wanted {wanted}", story::compared(&own)));
        }
    }
    TestCaseStatus::success()
}

fn is_fault_gate(gate: &Gate) -> bool {
    let name = gate.metric.rsplit('.').next().unwrap_or(&gate.metric);
    target_metric_names().contains(&name) || name == "proven_masked_share"
}

fn rates(row: &Target) -> String {
    format!(
        "{} trials: {} masked, {} sdc, {} due; sdc rate in [{}, {}]",
        count(row.trials),
        count(row.masked),
        count(row.sdc),
        count(row.due),
        percent(row.sdc_rate_low, Side::Down),
        percent(row.sdc_rate_high, Side::Up)
    )
}

/// What became of the texts of a target, where there are any.
fn texts(faults: &Faults, row: &Target) -> String {
    let told = faults.generation.as_ref().map(|generation| &generation.targets);
    let told = told.and_then(|rows| rows.iter().find(|told| told.target == row.target));
    told.map(GeneratedTarget::texts).map_or_else(String::new, |of| {
        format!(
            "; texts: {} of {} diverged, rate in [{}, {}]; never recovered in [{}, {}]",
            count(of.diverged),
            count(of.texts),
            percent(of.diverged_rate_low, Side::Down),
            percent(of.diverged_rate_high, Side::Up),
            percent(of.unrecovered_rate_low, Side::Down),
            percent(of.unrecovered_rate_high, Side::Up)
        )
    })
}

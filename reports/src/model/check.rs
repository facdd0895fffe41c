//! The invariants of the contract that types cannot carry.
//!
//! A report that violates one is a bug of whoever filled it, so the list names the place by its
//! JSON path and says what is wrong; nothing is repaired here. Two rules are about soundness rather
//! than form: no attack may succeed inside a certified radius, and nothing is falsified without a
//! witness.

mod chance;
mod change;
mod exhaustive;
mod generation;
mod ladder;
mod memory;
mod strata;
mod substitutions;
mod worst;

use super::{Certification, Faults, Report, RowsLevel, Run, Sample, Verdict};
use exhaustive::check_exhaustive;
use generation::check_generation;
use ladder::{check_epsilons, check_methods};
use memory::check_memory;
use strata::check_strata;
use substitutions::check_substitutions;
use worst::check_worst_case;

/// The value where it is finite: the only way by which a measured number enters a report.
#[must_use]
pub fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

/// One violation of the contract.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct Violation {
    /// JSON path of the value.
    pub path: String,
    /// What is wrong with it.
    pub problem: String,
}

impl Report {
    /// Every violation of the contract, in the order of the JSON; empty for a sound report.
    #[must_use]
    pub fn validate(&self) -> Vec<Violation> {
        let mut check = Check::default();
        if self.schema_version != super::SCHEMA_VERSION {
            check.add("schema_version", format!("expected {}", super::SCHEMA_VERSION));
        }
        if self.data.labelled > self.data.samples {
            check.add("data.labelled", "more labels than samples");
        }
        check_request(&mut check, self);
        if let Some(certification) = &self.certification {
            check_certification(&mut check, certification);
        }
        if let Some(substitutions) = &self.substitutions {
            check_substitutions(&mut check, substitutions);
        }
        chance::check_chance(&mut check, self);
        if let Some(faults) = &self.faults {
            check_faults(&mut check, faults);
        }
        if let Some(run) = &self.run {
            check_run(&mut check, run);
        }
        check.found
    }
}

#[derive(Default)]
struct Check {
    found: Vec<Violation>,
}

impl Check {
    fn add(&mut self, path: impl Into<String>, problem: impl Into<String>) {
        self.found.push(Violation { path: path.into(), problem: problem.into() });
    }

    fn finite(&mut self, path: &str, value: impl Into<Option<f64>>) {
        if let Some(value) = value.into()
            && !value.is_finite()
        {
            self.add(path, "is not finite");
        }
    }

    fn not_negative(&mut self, path: &str, value: impl Into<Option<f64>>) {
        let value = value.into();
        self.finite(path, value);
        if value.is_some_and(|value| value < 0.0) {
            self.add(path, "is negative");
        }
    }

    fn share(&mut self, path: &str, value: impl Into<Option<f64>>) {
        let value = value.into();
        self.finite(path, value);
        if value.is_some_and(|value| value.is_finite() && !(0.0..=1.0).contains(&value)) {
            self.add(path, "is outside [0, 1]");
        }
    }

    fn sum(&mut self, path: &str, parts: &[u64], whole: u64) {
        let sum = parts.iter().try_fold(0_u64, |sum, part| sum.checked_add(*part));
        if sum != Some(whole) {
            self.add(path, format!("parts {parts:?} do not add up to {whole}"));
        }
    }

    fn interval(&mut self, path: &str, rate: Option<f64>, low: f64, high: f64) {
        self.share(path, rate);
        self.share(&format!("{path}_low"), low);
        self.share(&format!("{path}_high"), high);
        let rate = rate.unwrap_or(low);
        if low > rate || rate > high {
            self.add(path, format!("[{low}, {high}] does not hold {rate}"));
        }
    }
}

/// Whether each count is at most the next.
fn within(counts: &[u64]) -> bool {
    counts.is_sorted()
}

fn check_request(check: &mut Check, report: &Report) {
    let request = &report.request;
    check.not_negative("request.epsilon_value", request.epsilon_value);
    check.not_negative("request.budget_seconds", request.budget_seconds);
    if request.epsilons.first() != Some(&request.epsilon) {
        check.add("request.epsilons", "does not begin with request.epsilon");
    }
    check.share("request.confidence", request.confidence);
    check.not_negative("request.time_limit_seconds", request.time_limit_seconds);
    for (i, gate) in request.gates.iter().enumerate() {
        check.finite(&format!("request.gates[{i}].threshold.value"), gate.threshold.value);
    }
}

fn check_certification(check: &mut Check, found: &Certification) {
    let path = |key: &str| format!("certification.{key}");
    check.not_negative(&path("epsilon_value"), found.epsilon_value);
    check.share(&path("clean_acc"), found.clean_acc);
    check.share(&path("cert_acc"), found.cert_acc);
    if let (Some(clean), Some(certified)) = (found.clean_acc, found.cert_acc)
        && certified > clean
    {
        check.add(path("cert_acc"), "is above clean_acc");
    }
    check.not_negative(&path("largest_certified_epsilon"), found.largest_certified_epsilon);
    check.not_negative(&path("median_certified_radius"), found.median_certified_radius);
    for (key, radius) in [
        ("readout_certified_radius", found.readout_certified_radius),
        ("readout_certified_radius_median", found.readout_certified_radius_median),
    ] {
        radius.into_iter().for_each(|radius| check.not_negative(&path(key), radius));
    }
    check.not_negative(&path("median_attack_radius"), found.median_attack_radius);
    check.not_negative(&path("median_attack_ratio"), found.median_attack_ratio);
    check.not_negative(&path("median_certified_radius_rel"), found.median_certified_radius_rel);
    let samples = found.samples.len() as u64;
    check.sum(&path("labelled"), &[found.labelled, found.unlabelled], samples);
    check.sum(&path("certified"), &[found.certified, found.falsified, found.unknown], samples);
    let labels = found.samples.iter().filter(|sample| sample.label.is_some()).count() as u64;
    check.sum(&path("labelled"), &[labels], found.labelled);
    for (verdict, count, key) in [
        (Verdict::Certified, found.certified, "certified"),
        (Verdict::Falsified, found.falsified, "falsified"),
        (Verdict::Unknown, found.unknown, "unknown"),
    ] {
        let seen = found.samples.iter().filter(|sample| sample.verdict == verdict).count() as u64;
        check.sum(&path(key), &[seen], count);
    }
    if let Some(next) = found.next_token {
        check.share(&path("next_token.certified_share"), next.certified_share);
    }
    for (i, sample) in found.samples.iter().enumerate() {
        let path = path(&format!("samples[{i}]"));
        check_sample(check, &path, sample);
        check_methods(check, &path, sample);
    }
    check_epsilons(check, found);
    check_layers(check, found);
    change::check_change(check, found);
    check_plots(check, found);
}

fn check_sample(check: &mut Check, path: &str, sample: &Sample) {
    let key = |key: &str| format!("{path}.{key}");
    check.finite(&key("margin"), sample.margin);
    check.finite(&key("margin_lower_bound"), sample.margin_lower_bound);
    check.not_negative(&key("certified_radius"), sample.certified_radius);
    check.not_negative(&key("attack_radius"), sample.attack_radius);
    check.not_negative(&key("runtime_slack"), sample.runtime_slack);
    if let Some(attack) = sample.attack_radius
        && sample.certified_radius > 0.0
        && attack <= sample.certified_radius
    {
        check.add(key("attack_radius"), "a counter-example lies inside the certified radius");
    }
    match sample.verdict {
        Verdict::Certified if sample.certified_radius < sample.epsilon_value => {
            check.add(key("certified_radius"), "is below epsilon, but the verdict is certified");
        }
        Verdict::Falsified if sample.witness.is_none() => {
            check.add(key("witness"), "is missing, but the verdict is falsified");
        }
        Verdict::Certified if sample.witness.is_some() => {
            check.add(key("witness"), "exists, but the verdict is certified");
        }
        _ => {}
    }
    if sample.label.is_some() != sample.correct.is_some() {
        check.add(key("correct"), "is known exactly where a label is");
    }
    let falsified = sample.verdict == Verdict::Falsified && sample.certified_radius == 0.0;
    if sample.correct == Some(false) && !falsified {
        check.add(key("verdict"), "is not falsified with radius 0, but the clean input is wrong");
    }
    if let Some(positions) = sample.positions
        && positions.certified > positions.total
    {
        check.add(key("positions"), "more positions certified than read");
    }
    if let Some(witness) = &sample.witness {
        check.not_negative(&key("witness.epsilon"), witness.epsilon);
    }
}

fn check_layers(check: &mut Check, found: &Certification) {
    for (i, layer) in found.layers.iter().enumerate() {
        let key = |key: &str| format!("certification.layers[{i}].{key}");
        check.not_negative(&key("certified_radius"), layer.certified_radius);
        check.not_negative(&key("certified_radius_median"), layer.certified_radius_median);
        check.not_negative(&key("certified_radius_rel"), layer.certified_radius_rel);
        check.not_negative(&key("stream_rms"), layer.stream_rms);
        let optional = [
            ("lipschitz_bound", layer.lipschitz_bound),
            ("lipschitz_slack", layer.lipschitz_slack),
            ("width_in", layer.width_in),
            ("width_out", layer.width_out),
        ];
        for (name, value) in optional {
            check.not_negative(&key(name), value);
        }
        if optional.iter().any(|(_, value)| value.is_none()) && layer.reason.is_none() {
            check.add(key("reason"), "is missing, but a bound is null");
        }
        if layer.certified_radius > layer.certified_radius_median {
            check.add(key("certified_radius_median"), "is below the minimum");
        }
    }
}

fn check_plots(check: &mut Check, found: &Certification) {
    for (i, point) in found.curve.iter().enumerate() {
        let key = |key: &str| format!("certification.curve[{i}].{key}");
        check.not_negative(&key("epsilon"), point.epsilon);
        check.share(&key("certified_acc"), point.certified_acc);
        check.share(&key("attacked_acc"), point.attacked_acc);
        if point.attacked_acc.is_some_and(|attacked| attacked < point.certified_acc) {
            check.add(key("attacked_acc"), "is below certified_acc");
        }
    }
    if !found.curve.is_sorted_by(|a, b| a.epsilon < b.epsilon) {
        check.add("certification.curve", "epsilon does not increase");
    }
    for (i, step) in found.growth.iter().enumerate() {
        let key = |key: &str| format!("certification.growth[{i}].{key}");
        check.not_negative(&key("width_median"), step.width_median);
        check.not_negative(&key("width_max"), step.width_max);
    }
}

fn check_faults(check: &mut Check, faults: &Faults) {
    check.share("faults.confidence", faults.confidence);
    let trials: Vec<u64> = faults.targets.iter().map(|target| target.trials).collect();
    check.sum("faults.trials", &trials, faults.trials);
    for (i, row) in faults.targets.iter().enumerate() {
        let key = |key: &str| format!("faults.targets[{i}].{key}");
        check.sum(&key("trials"), &[row.masked, row.sdc, row.due], row.trials);
        if row.identical > row.masked {
            check.add(key("identical"), "is above masked");
        }
        check.interval(&key("sdc_rate"), row.sdc_rate, row.sdc_rate_low, row.sdc_rate_high);
        check.interval(&key("due_rate"), row.due_rate, row.due_rate_low, row.due_rate_high);
        check.finite(&key("mean_kl"), row.mean_kl);
        check.finite(&key("max_kl"), row.max_kl);
        check.finite(&key("mean_nll_change"), row.mean_nll_change);
        check.finite(&key("mean_margin_loss"), row.mean_margin_loss);
    }
    check_strata(check, faults);
    check_exhaustive(check, faults);
    check_generation(check, faults);
    for (i, row) in faults.layers.iter().enumerate() {
        let key = |key: &str| format!("faults.layers[{i}].{key}");
        check.sum(&key("trials"), &[row.masked, row.sdc, row.due], row.trials);
        check.interval(&key("sdc_rate"), row.sdc_rate, row.sdc_rate_low, row.sdc_rate_high);
    }
    for (i, row) in faults.bits.iter().enumerate() {
        let key = |key: &str| format!("faults.bits[{i}].{key}");
        check.sum(&key("trials"), &[row.masked, row.sdc, row.due], row.trials);
        check.interval(&key("sdc_rate"), row.sdc_rate, row.sdc_rate_low, row.sdc_rate_high);
    }
    check_memory(check, faults);
    for (i, row) in faults.worst.iter().enumerate() {
        let key = |key: &str| format!("faults.worst[{i}].{key}");
        check.not_negative(&key("max_logit_change"), row.max_logit_change);
        check.finite(&key("margin_loss"), row.margin_loss);
        check.finite(&key("kl"), row.kl);
    }
    for (i, row) in faults.bounds.iter().enumerate() {
        let key = |key: &str| format!("faults.bounds[{i}].{key}");
        check.not_negative(&key("logit_change_bound"), row.logit_change_bound);
        check.share(&key("proven_masked_share"), row.proven_masked_share);
        if row.logit_change_bound.is_none() && row.reason.is_none() {
            check.add(key("reason"), "is missing, but the bound is null");
        }
    }
    for (i, row) in faults.rows_proven.iter().enumerate() {
        let key = |key: &str| format!("faults.rows_proven[{i}].{key}");
        if row.rows_tried > row.rows_total {
            check.add(key("rows_tried"), "is more than there are rows");
        }
        check_proven(check, &key, row.pairs, row.reason.as_ref(), &row.levels);
    }
    check_worst_case(check, faults);
}

/// What is proven of so many pairs, from few flips to many.
fn check_proven(
    check: &mut Check,
    key: &impl Fn(&str) -> String,
    pairs: u64,
    reason: Option<&String>,
    levels: &[RowsLevel],
) {
    if pairs == 0 && reason.is_none() {
        check.add(key("reason"), "is missing, but none was tried");
    }
    let mut before = pairs;
    for (k, level) in levels.iter().enumerate() {
        let at = |name: &str| key(&format!("levels[{k}].{name}"));
        let methods: Vec<u64> = level.methods.iter().map(|of| of.proven).collect();
        check.sum(&at("proven"), &methods, level.proven);
        if level.proven > before {
            check.add(at("proven"), "is more than under fewer flips, or than there are pairs");
        }
        before = level.proven;
        if let Some(share) = level.proven_share {
            check.share(&at("proven_share"), share);
        }
    }
}

fn check_run(check: &mut Check, run: &Run) {
    check.not_negative("run.seconds_total", run.seconds_total);
    check.not_negative("run.seconds_load", run.seconds_load);
    check.not_negative("run.seconds_certify", run.seconds_certify);
    check.not_negative("run.seconds_faults", run.seconds_faults);
    for (i, of) in run.methods.iter().enumerate() {
        let key = |key: &str| format!("run.methods[{i}].{key}");
        check.not_negative(&key("seconds_median"), of.seconds_median);
        check.not_negative(&key("seconds_max"), of.seconds_max);
    }
}

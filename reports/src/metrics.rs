//! Named metrics, and the gates that decide whether a run passes.
//!
//! A gate compares the pessimistic end: `fail-over` looks at the upper end of a metric's interval
//! and `fail-under` at the lower, so that few trials never pass a gate by luck. What has no value
//! (nothing was checked) does not pass. Fault metrics without a target speak of the worst target;
//! with one, `weight_code.sdc_rate_high`, of that target. A name that is not known is an error when
//! the gate is read, long before the work starts: a misspelt gate must not pass in silence.

use crate::chance;
use crate::model::{
    Certification, FaultTarget, Faults, Gate, GateKind, GeneratedTarget, Report, RowsLevel,
    Substitutions, Target, Threshold,
};

/// The value of a metric and the interval it lies in; exact metrics have equal ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Metric {
    /// The value, or the point estimate.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Metric {
    fn exact(value: f64) -> Self {
        Self { value, low: value, high: value }
    }
}

const CERTIFICATION: [&str; 13] = [
    "cert_acc",
    "clean_acc",
    "certified_radius_min",
    "certified_radius_median",
    "largest_certified_epsilon",
    "attack_radius_median",
    "certified_share",
    "unknown_share",
    "falsified_share",
    "next_token_certified_share",
    "certified_radius_rel_median",
    "attack_ratio_median",
    "attacked_acc",
];

const SUBSTITUTIONS: [&str; 5] = [
    "subst_cert_acc",
    "subst_attacked_acc",
    "subst_certified_share",
    "subst_falsified_share",
    "subst_unknown_share",
];

const TARGET: [&str; 6] =
    ["sdc_rate", "sdc_rate_low", "sdc_rate_high", "due_rate", "due_rate_low", "due_rate_high"];

/// Of texts under faults; each of a target too.
const TEXTS: [&str; 6] = [
    "text_diverged_rate",
    "text_diverged_rate_low",
    "text_diverged_rate_high",
    "text_unrecovered_rate",
    "text_unrecovered_rate_low",
    "text_unrecovered_rate_high",
];

const BOUND: &str = "proven_masked_share";

/// The name of every metric without a target. Those of [`target_metric_names`] may also be asked of
/// one target, as in `weight_code.sdc_rate_high`.
#[must_use]
pub fn metric_names() -> Vec<&'static str> {
    let proven = CERTIFICATION.into_iter().chain(SUBSTITUTIONS).chain(chance::METRICS);
    proven.chain(TARGET).chain(TEXTS).chain([BOUND]).collect()
}

/// The name of every metric that a single fault target has.
#[must_use]
pub fn target_metric_names() -> Vec<&'static str> {
    TARGET.into_iter().chain(TEXTS).collect()
}

/// Whether a name is a metric's, with or without a target.
#[must_use]
pub fn is_metric(name: &str) -> bool {
    match name.split_once('.') {
        Some((target, rate)) => {
            target.parse::<FaultTarget>().is_ok() && target_metric_names().contains(&rate)
        }
        None => metric_names().contains(&name),
    }
}

/// The metric of that name; `None` where the name is unknown or the report has no value for it.
#[must_use]
pub fn metric(report: &Report, name: &str) -> Option<Metric> {
    if let Some((target, rate)) = name.split_once('.') {
        let target: FaultTarget = target.parse().ok()?;
        let faults = report.faults.as_ref()?;
        if TEXTS.contains(&rate) {
            let rows = &faults.generation.as_ref()?.targets;
            return text_metric(rows.iter().find(|row| row.target == target)?, rate);
        }
        return target_metric(faults.targets.iter().find(|row| row.target == target)?, rate);
    }
    if TARGET.contains(&name) {
        let rows = report.faults.as_ref()?.targets.iter();
        return worst(rows.map(|row| target_metric(row, name)));
    }
    if TEXTS.contains(&name) {
        let rows = report.faults.as_ref()?.generation.as_ref()?.targets.iter();
        return worst(rows.map(|row| text_metric(row, name)));
    }
    if name == BOUND {
        return report.faults.as_ref().and_then(proven_masked_share).map(Metric::exact);
    }
    if SUBSTITUTIONS.contains(&name) {
        return report.substitutions.as_ref().and_then(|found| substitutions_metric(found, name));
    }
    let found = report.certification.as_ref().and_then(|found| certification_metric(found, name));
    found.or_else(|| chance::metric(report, name).map(Metric::exact))
}

/// Share of the pairs (bit, sample) that are proven masked, over the bounds with the fewest flips;
/// `None` where there is no pair.
#[must_use]
pub fn proven_masked_share(faults: &Faults) -> Option<f64> {
    let fewest = faults.bounds.iter().map(|bound| bound.flips).min()?;
    let (mut pairs, mut proven) = (0.0, 0.0);
    for bound in faults.bounds.iter().filter(|bound| bound.flips == fewest) {
        pairs += bound.pairs as f64;
        proven += bound.pairs as f64 * bound.proven_masked_share;
    }
    (pairs > 0.0).then(|| (proven / pairs).clamp(0.0, 1.0))
}

/// The share of the pairs of a row of a down projection and a sample whose decision provably stays
/// under at most so many flips in the row, over all layers; `None` where none was tried.
#[must_use]
pub fn rows_proven_share(faults: &Faults, flips: Option<u32>) -> Option<f64> {
    let down = faults.rows_proven.iter().filter(|rows| rows.tensor == "mlp.down_proj");
    share_under(down.map(|rows| (rows.pairs, &rows.levels[..])), flips)
}

/// The same of the pairs of a whole layer and a sample, under at most so many flips anywhere in the
/// layer's weights.
#[must_use]
pub fn layers_proven_share(faults: &Faults, flips: u32) -> Option<f64> {
    let layers = faults.flips_proven.iter().filter(|of| of.tensor == "layer");
    share_under(layers.map(|of| (of.pairs, &of.levels[..])), Some(flips))
}

fn share_under<'a>(
    of: impl Iterator<Item = (u64, &'a [RowsLevel])>,
    flips: Option<u32>,
) -> Option<f64> {
    let (mut pairs, mut proven) = (0, 0);
    for (tried, levels) in of {
        if let Some(level) = levels.iter().find(|level| level.flips == flips) {
            pairs += tried;
            proven += level.proven;
        }
    }
    (pairs > 0).then(|| proven as f64 / pairs as f64)
}

fn certification_metric(found: &Certification, name: &str) -> Option<Metric> {
    let samples = found.samples.len();
    let share = |count: u64| (samples > 0).then(|| count as f64 / samples as f64);
    let radii = found.samples.iter().map(|sample| sample.certified_radius);
    let value = match name {
        "cert_acc" => found.cert_acc,
        "clean_acc" => found.clean_acc,
        "certified_radius_min" => radii.min_by(f64::total_cmp),
        "certified_radius_median" => (samples > 0).then_some(found.median_certified_radius),
        "largest_certified_epsilon" => (samples > 0).then_some(found.largest_certified_epsilon),
        "attack_radius_median" => found.median_attack_radius,
        "certified_radius_rel_median" => (samples > 0).then_some(found.median_certified_radius_rel),
        "attack_ratio_median" => found.median_attack_ratio,
        "attacked_acc" => found.epsilons.first().and_then(|row| row.attacked_acc),
        "certified_share" => share(found.certified),
        "unknown_share" => share(found.unknown),
        "falsified_share" => share(found.falsified),
        "next_token_certified_share" => {
            found.next_token.filter(|next| next.positions > 0).map(|next| next.certified_share)
        }
        _ => None,
    };
    value.map(Metric::exact)
}

fn substitutions_metric(found: &Substitutions, name: &str) -> Option<Metric> {
    let samples = found.subst_samples.len();
    let share = |count: u64| (samples > 0).then(|| count as f64 / samples as f64);
    let value = match name {
        "subst_cert_acc" => Some(found.subst_cert_acc),
        "subst_attacked_acc" => Some(found.subst_attacked_acc),
        "subst_certified_share" => share(found.subst_certified),
        "subst_falsified_share" => share(found.subst_falsified),
        "subst_unknown_share" => share(found.subst_unknown),
        _ => None,
    };
    value.map(Metric::exact)
}

fn target_metric(row: &Target, rate: &str) -> Option<Metric> {
    match rate {
        "sdc_rate" => {
            let (low, high) = (row.sdc_rate_low, row.sdc_rate_high);
            row.sdc_rate.map(|value| Metric { value, low, high })
        }
        "sdc_rate_low" => Some(Metric::exact(row.sdc_rate_low)),
        "sdc_rate_high" => Some(Metric::exact(row.sdc_rate_high)),
        "due_rate" => {
            let (low, high) = (row.due_rate_low, row.due_rate_high);
            row.due_rate.map(|value| Metric { value, low, high })
        }
        "due_rate_low" => Some(Metric::exact(row.due_rate_low)),
        "due_rate_high" => Some(Metric::exact(row.due_rate_high)),
        _ => None,
    }
}

/// No text, no rate: what was not generated, or was detected each time, passes no gate by that.
fn text_metric(row: &GeneratedTarget, rate: &str) -> Option<Metric> {
    let of = row.texts();
    let (diverged, low, high) = (of.diverged_rate?, of.diverged_rate_low, of.diverged_rate_high);
    let unrecovered = || Some((of.unrecovered_rate?, of.unrecovered_rate_high));
    match rate {
        "text_diverged_rate" => Some(Metric { value: diverged, low, high }),
        "text_diverged_rate_low" => Some(Metric::exact(low)),
        "text_diverged_rate_high" => Some(Metric::exact(high)),
        "text_unrecovered_rate" => {
            let low = of.unrecovered_rate_low;
            unrecovered().map(|(value, high)| Metric { value, low, high })
        }
        "text_unrecovered_rate_low" => {
            unrecovered().map(|_| Metric::exact(of.unrecovered_rate_low))
        }
        "text_unrecovered_rate_high" => unrecovered().map(|(_, high)| Metric::exact(high)),
        _ => None,
    }
}

/// Each end is that of the worst target, so the interval holds whatever target is meant.
fn worst(rows: impl Iterator<Item = Option<Metric>>) -> Option<Metric> {
    let rows: Vec<Metric> = rows.collect::<Option<_>>()?;
    let largest = |end: fn(&Metric) -> f64| rows.iter().map(end).max_by(f64::total_cmp);
    Some(Metric {
        value: largest(|metric| metric.value)?,
        low: largest(|metric| metric.low)?,
        high: largest(|metric| metric.high)?,
    })
}

/// Why a text is not a gate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GateError {
    /// There is no `=`.
    #[error("expected NAME=VALUE, got {0:?}; for example cert_acc=0.8")]
    Form(String),
    /// No metric has that name.
    #[error(
        "unknown metric {name:?}; known: {known} (a rate of faults or texts also of one target, \
             as in weight_code.sdc_rate_high)"
    )]
    Metric {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// The threshold is not a finite number.
    #[error("the threshold of {name} must be a finite number, got {text:?}")]
    Threshold {
        /// The metric.
        name: String,
        /// What was typed.
        text: String,
    },
}

/// Reads a gate from `NAME=VALUE`.
///
/// # Errors
/// Says what is wrong with the text; an unknown metric is an error.
pub fn parse_gate(kind: GateKind, text: &str) -> Result<Gate, GateError> {
    let (name, typed) = text.split_once('=').ok_or_else(|| GateError::Form(text.to_owned()))?;
    let (name, typed) = (name.trim(), typed.trim());
    if !is_metric(name) {
        let known = metric_names().join(", ");
        return Err(GateError::Metric { name: name.to_owned(), known });
    }
    let bad = || GateError::Threshold { name: name.to_owned(), text: typed.to_owned() };
    let value: f64 = typed.parse().map_err(|_| bad())?;
    if !value.is_finite() {
        return Err(bad());
    }
    let threshold = Threshold { text: typed.to_owned(), value };
    Ok(Gate { metric: name.to_owned(), kind, threshold })
}

/// What a gate found.
#[derive(Clone, Debug, PartialEq)]
pub struct GateResult {
    /// The gate.
    pub gate: Gate,
    /// Whether it passed. What has no value does not.
    pub passed: bool,
    /// The end that was compared.
    pub value: Option<f64>,
}

/// Evaluates one gate.
#[must_use]
pub fn evaluate(report: &Report, gate: &Gate) -> GateResult {
    let metric = metric(report, &gate.metric);
    let (value, passed) = match gate.kind {
        GateKind::FailUnder => {
            let value = metric.map(|metric| metric.low);
            (value, value.is_some_and(|value| value >= gate.threshold.value))
        }
        GateKind::FailOver => {
            let value = metric.map(|metric| metric.high);
            (value, value.is_some_and(|value| value <= gate.threshold.value))
        }
    };
    GateResult { gate: gate.clone(), passed, value }
}

/// Evaluates every gate of the request, in its order.
#[must_use]
pub fn evaluate_all(report: &Report) -> Vec<GateResult> {
    report.request.gates.iter().map(|gate| evaluate(report, gate)).collect()
}

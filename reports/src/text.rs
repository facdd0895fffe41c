//! The summary at the terminal: at most 25 lines, what is known first, what is not after it.
//!
//! Every block has a budget of lines that together stay within the 25; what does not fit is counted
//! ("and 3 more in the report"), never dropped in silence.

use crate::arithmetic;
use crate::chance;
use crate::escape::shown;
use crate::metrics::{
    evaluate_all, layers_proven_share, metric, proven_masked_share, rows_proven_share,
};
use crate::model::{Certification, Exhaustive, Faults, Report, Stratum, Target, Verdict};
use crate::number::{Side, count, number, percent, plural};
use crate::story;

/// No summary has more lines.
pub const MOST_LINES: usize = 25;

/// What the lines before the targets may be without leaving fewer of those.
const USUAL_LINES: usize = 11;
const MOST_TARGETS: usize = 5;
const MOST_LIMITS: usize = 2;
const MOST_GATES: usize = 2;
const WIDTH: usize = 96;

/// The summary, with a newline after each line.
#[must_use]
pub fn summary(report: &Report) -> String {
    let mut lines = head(report);
    if let Some(found) = &report.certification {
        lines.extend(certification(report, found));
    }
    if let Some(found) = &report.substitutions {
        lines.push(fact("substituted tokens", &story::substitutions(found)));
    }
    for told in chance::told(report) {
        lines.push(told.title.to_owned());
        lines.push(fact("classifier", &told.about));
        lines.extend(told.facts.iter().map(|(name, value)| fact(name, value)));
    }
    if let Some(faults) = &report.faults {
        let room = MOST_TARGETS.saturating_sub(lines.len().saturating_sub(USUAL_LINES));
        lines.extend(fault_rates(report, faults, room));
    }
    if let Some(found) = &report.certification {
        lines.extend(unknown(found));
    }
    lines.extend(limits(report));
    lines.extend(gates(report));
    debug_assert!(lines.len() <= MOST_LINES, "{} lines", lines.len());
    lines.iter().map(|line| clipped(line) + "\n").collect()
}

fn clipped(line: &str) -> String {
    if line.chars().count() <= WIDTH {
        return line.to_owned();
    }
    line.chars().take(WIDTH - 1).chain(['…']).collect()
}

fn fact(name: &str, value: &str) -> String {
    format!("  {name:<26} {value}")
}

fn head(report: &Report) -> Vec<String> {
    let model = &report.model;
    let embedded = if model.embedded { " (embedded)" } else { "" };
    let digest: String = shown(&model.digest).chars().take(12).collect();
    vec![
        format!(
            "{}{embedded}: {}, hidden {}, {} ternary weights, digest {digest}",
            shown(&model.name),
            plural(u64::from(model.layers), "layer"),
            model.hidden,
            count(model.weights.ternary),
        ),
        format!(
            "{} ({} labelled), arithmetic {}",
            plural(report.data.samples, "sample"),
            count(report.data.labelled),
            arithmetic::told(report)
        ),
    ]
}

fn certification(report: &Report, found: &Certification) -> Vec<String> {
    let epsilon = shown(&found.epsilon);
    let samples = found.samples.len() as u64;
    let mut lines = vec![format!("What can't happen ({})", story::claim(found))];
    if let (Some(clean), Some(certified)) = (found.clean_acc, found.cert_acc) {
        let labelled = plural(found.labelled, "labelled sample");
        lines
            .push(fact("clean accuracy", &format!("{} of {labelled}", percent(clean, Side::Down))));
        lines.push(fact("certified accuracy", &percent(certified, Side::Down)));
    }
    let counts = format!(
        "{} certified, {} falsified, {} unknown, of {}",
        count(found.certified),
        count(found.falsified),
        count(found.unknown),
        count(samples)
    );
    lines.push(fact("verdicts", &counts));
    if let Some(decided) = story::decided(found) {
        lines.push(fact("decided by", &decided));
    }
    if let Some(epsilons) = story::epsilons(found) {
        lines.push(fact("certified / attacked at", &epsilons));
    }
    if let Some(next) = found.next_token {
        let share = percent(next.certified_share, Side::Down);
        let value = format!("{share} of {} certified", plural(next.positions, "position"));
        lines.push(fact("next-token decisions", &value));
    }
    let radius = format!(
        "{} (median {})",
        number(found.largest_certified_epsilon, Side::Down),
        number(found.median_certified_radius, Side::Down)
    );
    lines.push(fact("largest certified epsilon", &radius));
    lines.push(fact("attack radius", &attack(found)));
    let lost = found.first_lost_layer.as_ref();
    let lost = lost.map_or_else(|| format!("nowhere at {epsilon}"), story::lost);
    lines.push(fact("bound first lost", &lost));
    if let Some(sources) = story::sources(found, 2) {
        lines.push(fact("margin's uncertainty", &sources));
    }
    if let Some(suffix) = story::suffix(report, found) {
        lines.push(fact("deepest certified suffix", &suffix));
    }
    lines
}

fn attack(found: &Certification) -> String {
    let reached = found.samples.iter().filter(|sample| sample.attack_radius.is_some()).count();
    let reached = format!("{} of {}", count(reached as u64), count(found.samples.len() as u64));
    found.median_attack_radius.map_or_else(
        || "no attack succeeded".to_owned(),
        |radius| format!("median {} ({reached} samples)", number(radius, Side::Up)),
    )
}

fn fault_rates(report: &Report, faults: &Faults, room: usize) -> Vec<String> {
    let mut lines = vec![format!("What does happen ({})", story::campaign(faults))];
    if let Some(map) = &faults.exhaustive {
        lines.extend(mapped(map));
        return lines;
    }
    let rows: Vec<String> = match faults.flips {
        0 => faults.strata.iter().map(stratum).collect(),
        _ => faults.targets.iter().map(rates).collect(),
    };
    let behind = faults.generation.as_ref().and_then(story::texts_behind);
    let told = usize::from(faults.generation.is_some()) + usize::from(behind.is_some());
    let room = room.saturating_sub(told);
    let fits = rows.len() <= room + 1;
    let shown = if fits { rows.len() } else { room };
    let rest = rows.len() - shown;
    lines.extend(rows.into_iter().take(shown));
    if !fits {
        let highest = |most: f64, row: &Stratum| match row.sdc_rate_high > most {
            true => row.sdc_rate_high,
            false => most,
        };
        let (what, worst) = match faults.flips {
            0 => ("fault", faults.strata.iter().fold(0.0, highest)),
            _ => ("target", metric(report, "sdc_rate_high").map_or(1.0, |metric| metric.high)),
        };
        let value = format!("{rest} more in the report; sdc of any {what}");
        lines.push(format!("  {value} <= {}", percent(worst, Side::Up)));
    }
    if let Some(until) = &faults.until_precision {
        let highs = until.rates.iter().map(|rate| rate.sdc_rate_high);
        let worst = highs.fold(0.0, |most, high| if high > most { high } else { most });
        let reached = if until.reached { "reached" } else { "not reached" };
        let width = percent(until.half_width, Side::Up);
        let worst = percent(worst, Side::Up);
        let value = format!("{width} {reached}; whenever it ended, sdc of any fault <= {worst}");
        lines.push(fact("until precision", &value));
    }
    if let Some(generation) = &faults.generation {
        let name = format!("texts of {}", plural(u64::from(generation.tokens), "token"));
        lines.push(fact(&name, &story::texts(generation)));
        lines.extend(behind.map(|behind| fact("texts behind codes", &behind)));
    }
    if let Some(share) = proven_masked_share(faults) {
        let rows = rows_proven_share(faults, Some(4)).map_or(String::new(), |rows| {
            format!("; any 4 flips: rows {}", percent(rows, Side::Down))
        });
        let layers = layers_proven_share(faults, 4)
            .map_or(String::new(), |layers| format!(", layers {}", percent(layers, Side::Down)));
        let model = faults.flips_proven_in_model.as_ref().and_then(|of| of.budget.as_ref());
        // A line has no room for a budget of nothing.
        let model = model
            .filter(|budget| budget.min > 0)
            .map_or(String::new(), |budget| format!("; any {} of the model", budget.min));
        let value = format!("{} of (bit, sample){rows}{layers}{model}", percent(share, Side::Down));
        lines.push(fact("proven masked", &value));
    }
    lines
}

/// What a map came to, and where it is worst.
fn mapped(map: &Exhaustive) -> Vec<String> {
    let share = |share: Option<f64>| {
        share.map_or_else(|| "–".to_owned(), |share| percent(share, Side::Nearest))
    };
    let total = format!(
        "sdc {} exactly ({} of {}), {} due",
        share(map.sdc_share),
        count(map.sdc),
        count(map.decided),
        count(map.due)
    );
    let mut lines = vec![fact("weight_code", &total)];
    for (number, line) in story::map_lines(map).iter().enumerate() {
        lines.push(fact(if number == 0 { "decided" } else { "" }, line));
    }
    let worst = story::worst_tensors(map, MOST_TARGETS).into_iter().map(|of| {
        let change = of.max_logit_change.map_or_else(String::new, |change| {
            format!(", logits move by up to {}", number(change, Side::Up))
        });
        let counts = format!("{} of {}", count(of.sdc), count(of.decided));
        let name = format!("layer {} {}", of.layer, shown(&of.tensor));
        fact(&name, &format!("sdc {} ({counts}){change}", share(of.sdc_share)))
    });
    lines.extend(worst);
    lines
}

fn rates(row: &Target) -> String {
    let rate = row.sdc_rate.map_or_else(|| "–".to_owned(), |rate| percent(rate, Side::Nearest));
    let interval = format!(
        "[{}, {}]",
        percent(row.sdc_rate_low, Side::Down),
        percent(row.sdc_rate_high, Side::Up)
    );
    let counts = format!("{} of {}", count(row.sdc), count(row.trials));
    let due = row.due_rate.map_or_else(|| "–".to_owned(), |rate| percent(rate, Side::Nearest));
    fact(row.target.name(), &format!("sdc {rate} {interval} ({counts}), due {due}"))
}

/// A fault of a plan: what it does to decisions, and to their accuracy where that is known.
fn stratum(row: &Stratum) -> String {
    let rate = row.sdc_rate.map_or_else(|| "–".to_owned(), |rate| percent(rate, Side::Nearest));
    let interval = format!(
        "[{}, {}]",
        percent(row.sdc_rate_low, Side::Down),
        percent(row.sdc_rate_high, Side::Up)
    );
    let right = row.accuracy.map_or_else(String::new, |accuracy| {
        format!(", right {}", percent(accuracy, Side::Nearest))
    });
    let raw = row.behind.map_or_else(String::new, |of| {
        let raw = of.raw_sdc_rate.map_or_else(|| "–".to_owned(), |r| percent(r, Side::Nearest));
        format!(", raw {raw}")
    });
    fact(&row.fault, &format!("sdc {rate} {interval}{raw}{right}"))
}

fn unknown(found: &Certification) -> Vec<String> {
    if found.unknown == 0 {
        return Vec::new();
    }
    let reasons = story::reasons(found, Verdict::Unknown);
    let why = reasons.first().map_or("", |(why, _)| why.as_str());
    let others = reasons.len().saturating_sub(1) as u64;
    let more =
        if others == 0 { String::new() } else { format!(" (+ {})", plural(others, "reason")) };
    let epsilon = shown(&found.epsilon);
    let what = plural(found.unknown, "sample");
    vec![format!("Unknown at {epsilon}: {what}, because {why}{more}")]
}

fn limits(report: &Report) -> Vec<String> {
    let hit = &report.limits_hit;
    let mut lines: Vec<String> = hit
        .iter()
        .take(MOST_LIMITS)
        .map(|hit| format!("Limit hit: {}: {}", shown(&hit.limit), shown(&hit.what)))
        .collect();
    if hit.len() > MOST_LIMITS {
        lines.truncate(MOST_LIMITS - 1);
        let rest = (hit.len() - lines.len()) as u64;
        lines.push(format!("Limit hit: {} more, see the report", count(rest)));
    }
    lines
}

fn gates(report: &Report) -> Vec<String> {
    let results = evaluate_all(report);
    if results.is_empty() {
        return Vec::new();
    }
    let failed: Vec<_> = results.iter().filter(|result| !result.passed).collect();
    let mut lines = vec![story::gates(&results)];
    lines.extend(failed.iter().take(MOST_GATES).map(|result| {
        let name = shown(&result.gate.metric);
        let wanted = story::threshold(&result.gate);
        format!("  {name}: {}, wanted {wanted}", story::compared(result))
    }));
    if failed.len() > MOST_GATES {
        lines.truncate(MOST_GATES);
        lines.push(format!("  {} more, see the report", failed.len() + 1 - lines.len()));
    }
    lines
}

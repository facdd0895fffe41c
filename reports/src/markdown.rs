//! GitHub flavoured Markdown for a CI job summary.
//!
//! GitHub drops a summary above 1 MiB, so the long tables are cut to a budget and say how much more
//! is in the HTML report. Everything that came from a file is written in entities and cannot be
//! markup.

mod campaign;

use std::fmt::Write;

use campaign::{mapped, strata, texts};

use crate::arithmetic;
use crate::chance;
use crate::escape::markdown as safe;
use crate::metrics::{
    GateResult, evaluate_all, layers_proven_share, proven_masked_share, rows_proven_share,
};
use crate::model::{Certification, Faults, Report, Sample, Substitutions, Verdict};
use crate::number::{Side, count, number, optional, percent, plural};
use crate::story;

const MOST_ROWS: usize = 50;

/// The report as Markdown.
#[must_use]
pub fn to_string(report: &Report) -> String {
    let mut page = String::new();
    head(&mut page, report);
    gates(&mut page, &evaluate_all(report));
    if let Some(found) = &report.certification {
        certification(&mut page, report, found);
    }
    if let Some(found) = &report.substitutions {
        substitutions(&mut page, found);
    }
    for told in chance::told(report) {
        line(&mut page, format_args!("### {}\n\n{}\n", told.title, safe(&told.about)));
        heading(&mut page, &["", ""]);
        for (name, value) in told.facts {
            row(&mut page, &[name.to_owned(), safe(&value)]);
        }
        page.push('\n');
    }
    if let Some(faults) = &report.faults {
        fault_rates(&mut page, faults);
    }
    if let Some(found) = &report.certification {
        open_samples(&mut page, found);
    }
    list(&mut page, "Assumptions", &report.assumptions);
    page
}

/// Writing to a `String` cannot fail; this keeps that fact in one place.
fn line(page: &mut String, text: std::fmt::Arguments<'_>) {
    page.write_fmt(text).expect("a String takes any text");
    page.push('\n');
}

fn row(page: &mut String, cells: &[String]) {
    line(page, format_args!("| {} |", cells.join(" | ")));
}

fn heading(page: &mut String, titles: &[&str]) {
    let cells: Vec<String> = titles.iter().map(|&title| title.to_owned()).collect();
    row(page, &cells);
    row(page, &vec!["---".to_owned(); titles.len()]);
}

fn head(page: &mut String, report: &Report) {
    let model = &report.model;
    line(page, format_args!("## bitnet-certify: {}\n", safe(&model.name)));
    let embedded = if model.embedded { ", the embedded model" } else { "" };
    line(
        page,
        format_args!(
            "{}, hidden {}, {} ternary weights{embedded}; {}; arithmetic {}; digest {}\n",
            plural(u64::from(model.layers), "layer"),
            model.hidden,
            count(model.weights.ternary),
            plural(report.data.samples, "sample"),
            safe(&arithmetic::told(report)),
            safe(&model.digest),
        ),
    );
    for hit in report.limits_hit.iter().take(MOST_ROWS) {
        line(page, format_args!("> **Limit hit**: {}: {}\n", safe(&hit.limit), safe(&hit.what)));
    }
}

fn gates(page: &mut String, results: &[GateResult]) {
    if results.is_empty() {
        return;
    }
    line(page, format_args!("### {}\n", story::gates(results)));
    heading(page, &["Gate", "Wanted", "Value", "Result"]);
    for result in results.iter().take(MOST_ROWS) {
        row(
            page,
            &[
                safe(&result.gate.metric),
                safe(&story::threshold(&result.gate)),
                story::compared(result),
                if result.passed { "passed".to_owned() } else { "**failed**".to_owned() },
            ],
        );
    }
    more(page, results.len());
}

fn certification(page: &mut String, report: &Report, found: &Certification) {
    let what = safe(&story::claim(found));
    line(page, format_args!("### What can't happen\n\n{what}\n"));
    heading(page, &["", ""]);
    let share = |value: Option<f64>| {
        value.map_or_else(|| "–".to_owned(), |value| percent(value, Side::Down))
    };
    let mut facts = vec![
        ("Clean accuracy", share(found.clean_acc)),
        ("Certified accuracy", share(found.cert_acc)),
        (
            "Verdicts",
            format!(
                "{} certified, {} falsified, {} unknown",
                count(found.certified),
                count(found.falsified),
                count(found.unknown)
            ),
        ),
        ("Largest certified epsilon", number(found.largest_certified_epsilon, Side::Down)),
        ("Median certified radius", number(found.median_certified_radius, Side::Down)),
        ("Median attack radius", optional(found.median_attack_radius, Side::Up)),
    ];
    if let Some(next) = found.next_token {
        facts.push(("Next-token decisions certified", percent(next.certified_share, Side::Down)));
    }
    if let Some(place) = &found.first_lost_layer {
        facts.push(("Bound first lost", safe(&story::lost(place))));
    }
    if let Some(suffix) = story::suffix(report, found) {
        facts.push(("Deepest certified suffix", safe(&suffix)));
    }
    if let Some(decided) = story::decided(found) {
        facts.push(("Decided by", decided));
    }
    if let Some(sources) = story::sources(found, 4) {
        facts.push(("Uncertainty of the worst margin", safe(&sources)));
    }
    if let Some(sentence) = story::margin_lipschitz(found) {
        facts.push(("Change of margins", safe(&sentence)));
    }
    for (name, value) in facts {
        row(page, &[name.to_owned(), value]);
    }
    page.push('\n');
    epsilons(page, found);
}

/// Verdicts at every epsilon, where several were asked for.
fn epsilons(page: &mut String, found: &Certification) {
    if found.epsilons.len() < 2 {
        return;
    }
    heading(
        page,
        &["Epsilon", "Certified accuracy", "Accuracy under attack", "Certified", "Falsified"],
    );
    for at in found.epsilons.iter().take(MOST_ROWS) {
        let attacked = at.attacked_acc.map(|share| percent(share, Side::Up));
        row(
            page,
            &[
                safe(&at.epsilon),
                percent(at.cert_acc, Side::Down),
                attacked.unwrap_or_else(|| "–".to_owned()),
                count(at.certified),
                count(at.falsified),
            ],
        );
    }
    more(page, found.epsilons.len());
}

fn substitutions(page: &mut String, found: &Substitutions) {
    line(page, format_args!("### When other tokens stand there\n"));
    line(page, format_args!("{}.\n", safe(&story::substitutions(found))));
    heading(page, &["Sample", "Verdict", "Substitutions", "Run", "Decide otherwise"]);
    for of in found.subst_samples.iter().take(MOST_ROWS) {
        row(
            page,
            &[
                of.index.to_string(),
                story::verdict(of.subst_verdict).to_owned(),
                of.subst_combinations.map_or_else(|| "beyond 64 bits".to_owned(), count),
                count(of.subst_tried),
                count(of.subst_changed),
            ],
        );
    }
    more(page, found.subst_samples.len());
}

fn fault_rates(page: &mut String, faults: &Faults) {
    line(page, format_args!("### What does happen\n\n{}\n", story::campaign(faults)));
    heading(page, &["Target", "Trials", "Masked", "SDC", "DUE", "SDC rate", "Interval"]);
    for target in faults.targets.iter().take(MOST_ROWS) {
        let rate = target.sdc_rate.map(|rate| percent(rate, Side::Nearest));
        row(
            page,
            &[
                safe(target.target.name()),
                count(target.trials),
                count(target.masked),
                count(target.sdc),
                count(target.due),
                rate.unwrap_or_else(|| "–".to_owned()),
                format!(
                    "{} to {}",
                    percent(target.sdc_rate_low, Side::Down),
                    percent(target.sdc_rate_high, Side::Up)
                ),
            ],
        );
    }
    more(page, faults.targets.len());
    strata(page, faults);
    if let Some(generation) = &faults.generation {
        texts(page, generation);
    }
    if let Some(map) = &faults.exhaustive {
        mapped(page, map);
    }
    if let Some(share) = proven_masked_share(faults) {
        let share = percent(share, Side::Down);
        line(page, format_args!("Proven masked: {share} of all pairs of a bit and a sample.\n"));
    }
    if let Some(share) = rows_proven_share(faults, Some(4)) {
        let share = percent(share, Side::Down);
        let what = "of the pairs of a row and a sample, under any 4 flips in the row";
        line(page, format_args!("Rows proven harmless: {share} {what}.\n"));
    }
    if let Some(share) = layers_proven_share(faults, 4) {
        let share = percent(share, Side::Down);
        let what = "of the pairs of a layer and a sample, under any 4 flips of its weight codes";
        line(page, format_args!("Layers proven harmless: {share} {what}.\n"));
    }
    if let Some(budgets) = story::flip_budgets(faults) {
        line(
            page,
            format_args!("Flips of weight codes that provably change no answer: {budgets}.\n"),
        );
    }
    if let Some(cache) = story::cache_proven(faults) {
        let what = "Single flips of stored keys and values proven masked";
        line(page, format_args!("{what}: {cache}.\n"));
    }
}

fn open_samples(page: &mut String, found: &Certification) {
    let open: Vec<&Sample> =
        found.samples.iter().filter(|sample| sample.verdict != Verdict::Certified).collect();
    if open.is_empty() {
        return;
    }
    line(page, format_args!("### Not certified\n"));
    heading(page, &["Sample", "Verdict", "Why", "Certified radius", "Attack radius"]);
    for sample in open.iter().take(MOST_ROWS) {
        row(
            page,
            &[
                sample.index.to_string(),
                story::verdict(sample.verdict).to_owned(),
                safe(sample.why.as_deref().unwrap_or("")),
                number(sample.certified_radius, Side::Down),
                optional(sample.attack_radius, Side::Up),
            ],
        );
    }
    more(page, open.len());
}

fn more(page: &mut String, all: usize) {
    page.push('\n');
    if all > MOST_ROWS {
        let rest = count((all - MOST_ROWS) as u64);
        line(page, format_args!("{rest} more in report.html.\n"));
    }
}

fn list(page: &mut String, title: &str, sentences: &[String]) {
    if sentences.is_empty() {
        return;
    }
    line(page, format_args!("<details><summary>{title}</summary>\n"));
    for sentence in sentences.iter().take(MOST_ROWS) {
        line(page, format_args!("- {}", safe(sentence)));
    }
    more(page, sentences.len());
    line(page, format_args!("</details>"));
}

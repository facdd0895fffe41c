//! Tables of what a campaign struck: its strata, memory codes, texts and maps.

use super::{MOST_ROWS, heading, line, more, row, safe};
use crate::model::{Behind, Exhaustive, Faults, Generation, Stratum, Texts};
use crate::number::{Side, count, optional, percent, plural};
use crate::story;

pub(super) fn strata(page: &mut String, faults: &Faults) {
    if faults.strata.is_empty() {
        return;
    }
    heading(page, &["Fault of the plan", "Trials", "Masked", "SDC", "DUE", "SDC rate, interval"]);
    for stratum in faults.strata.iter().take(MOST_ROWS) {
        let interval = format!(
            "{} to {}",
            percent(stratum.sdc_rate_low, Side::Down),
            percent(stratum.sdc_rate_high, Side::Up)
        );
        row(
            page,
            &[
                safe(&stratum.fault),
                count(stratum.trials),
                count(stratum.masked),
                count(stratum.sdc),
                count(stratum.due),
                interval,
            ],
        );
    }
    more(page, faults.strata.len());
    behind(page, &faults.strata);
}

/// What memory codes made of them, where there are any.
fn behind(page: &mut String, strata: &[Stratum]) {
    let rows: Vec<(&Stratum, &Behind)> =
        strata.iter().filter_map(|row| Some((row, row.behind.as_ref()?))).collect();
    if rows.is_empty() {
        return;
    }
    heading(
        page,
        &["Behind a memory code", "Harmless", "Detected", "Residual", "SDC rate without the code"],
    );
    for (stratum, of) in rows.iter().take(MOST_ROWS) {
        let interval = format!(
            "{} to {}",
            percent(of.raw_sdc_rate_low, Side::Down),
            percent(of.raw_sdc_rate_high, Side::Up)
        );
        let counts = [of.harmless, of.detected, of.residual].map(count);
        let [harmless, detected, residual] = counts;
        row(page, &[safe(&stratum.fault), harmless, detected, residual, interval]);
    }
    more(page, rows.len());
}

/// What became of texts, by target.
pub(super) fn texts(page: &mut String, generation: &Generation) {
    let tokens = plural(u64::from(generation.tokens), "token");
    line(page, format_args!("Texts of {tokens}: {}.\n", story::texts(generation)));
    heading(page, &[&["Target"], &TEXTS[..]].concat());
    for target in generation.targets.iter().take(MOST_ROWS) {
        row(page, &[&[safe(target.target.name())], &cells(&target.texts())[..]].concat());
    }
    more(page, generation.targets.len());
    let Some(behind) = story::texts_behind(generation) else { return };
    line(page, format_args!("Texts behind memory codes: {behind}.\n"));
    heading(page, &[&["Fault of the plan", "Detected", "Memory code"], &TEXTS[..]].concat());
    for of in generation.behind.iter().take(MOST_ROWS) {
        for (detected, code, texts) in
            [(of.detected, "with", &of.residual), (0, "without", &of.raw)]
        {
            let named = [safe(&of.fault), count(detected), code.to_owned()];
            row(page, &[&named, &cells(texts)[..]].concat());
        }
    }
    more(page, generation.behind.len());
}

const TEXTS: [&str; 7] = [
    "Texts",
    "Diverged",
    "Interval",
    "Median first place",
    "Broke off",
    "Recovered",
    "Never recovered, interval",
];

fn cells(of: &Texts) -> [String; 7] {
    let interval =
        |low, high| format!("{} to {}", percent(low, Side::Down), percent(high, Side::Up));
    let first = of.median_first_divergence.map(|place| place.to_string());
    [
        count(of.texts),
        count(of.diverged),
        interval(of.diverged_rate_low, of.diverged_rate_high),
        first.unwrap_or_else(|| "–".to_owned()),
        count(of.broken_off),
        count(of.recovered),
        interval(of.unrecovered_rate_low, of.unrecovered_rate_high),
    ]
}

/// How the faults of a map were decided, and its worst tensors.
pub(super) fn mapped(page: &mut String, map: &Exhaustive) {
    line(page, format_args!("Faults of the map: {}.\n", story::map_lines(map).join("; ")));
    let worst = story::worst_tensors(map, usize::MAX);
    if worst.is_empty() {
        return;
    }
    heading(page, &["Layer", "Tensor", "Faults", "SDC", "DUE", "SDC share", "Logit change up to"]);
    for of in worst.iter().take(MOST_ROWS) {
        row(
            page,
            &[
                of.layer.to_string(),
                safe(&of.tensor),
                count(of.decided),
                count(of.sdc),
                count(of.due),
                percent(of.sdc_share.unwrap_or(0.0), Side::Nearest),
                optional(of.max_logit_change, Side::Up),
            ],
        );
    }
    more(page, worst.len());
}

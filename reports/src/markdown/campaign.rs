//! Tables of what a campaign struck: its strata, memory codes, texts and maps.

use super::{MOST_ROWS, heading, line, more, row, safe};
use crate::model::{Behind, Exhaustive, Faults, Generation, Stratum};
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
    let columns = ["Texts", "Diverged", "Interval", "Median first place", "Broke off", "Recovered"];
    heading(page, &[&["Target"], &columns[..]].concat());
    for target in generation.targets.iter().take(MOST_ROWS) {
        let interval = format!(
            "{} to {}",
            percent(target.diverged_rate_low, Side::Down),
            percent(target.diverged_rate_high, Side::Up)
        );
        let first = target.median_first_divergence.map(|place| place.to_string());
        row(
            page,
            &[
                safe(target.target.name()),
                count(target.trials),
                count(target.diverged),
                interval,
                first.unwrap_or_else(|| "–".to_owned()),
                count(target.broken_off),
                count(target.recovered),
            ],
        );
    }
    more(page, generation.targets.len());
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

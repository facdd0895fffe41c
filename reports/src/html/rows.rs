//! The tables of rows, tensors and layers that are proven harmless under several flips at once, and
//! of the faults of a plan.

use maud::{Markup, html};

use super::tables::{Table, bounds, interval, maybe, near, share, text};
use crate::model::{
    Faults, FlipBudget, FlipsProven, GeneratedBehind, Generation, ModelFlips, RowsLevel,
    RowsProven, Stratum, Texts, UntilPrecision,
};
use crate::number::{Side, count, number, optional, percent, plural};
use crate::story;

/// All that is proven about faults of weights.
pub(super) fn proven(faults: &Faults) -> Markup {
    html! {
        @if !faults.bounds.is_empty() {
            h3 { "What is proven about weight faults" }
            (bounds(&faults.bounds).render())
        }
        @if !faults.rows_proven.is_empty() {
            h3 { "Rows under several flips at once" }
            (rows(&faults.rows_proven).render())
        }
        @if !faults.flips_proven.is_empty() {
            h3 { "Tensors and layers under several flips at once" }
            (flips_anywhere(&faults.flips_proven).render())
        }
        @if let Some(model) = &faults.flips_proven_in_model {
            h3 { "The model under several flips at once" }
            (flips_in_model(model).render())
        }
        @if !faults.cache_proven.is_empty() {
            h3 { "Stored keys and values under any single flip" }
            (cache(faults).render())
        }
    }
}

/// One line a layer and number of flips; a layer of which nothing was tried has one line.
fn rows(layers: &[RowsProven]) -> Table {
    let columns = [
        "#layer",
        "tensor",
        "flips in a row",
        "#proven",
        "#pairs of row and sample",
        "#rows tried",
        "proven by, or why not tried",
    ];
    let lines = level_by_level(layers, |layer| (layer.pairs, &layer.levels));
    Table::of("Rows proven harmless under any flips in them", &columns, &lines, |(row, level)| {
        let share = level.and_then(|level| level.proven_share);
        vec![
            html! { (row.layer) },
            text(&row.tensor),
            text(&level.map_or_else(|| "–".to_owned(), flips)),
            html! { (share.map_or_else(|| "–".to_owned(), |share| percent(share, Side::Down))) },
            html! { (count(row.pairs)) },
            html! { (count(row.rows_tried)) " of " (count(row.rows_total)) },
            text(&level.map_or_else(|| row.reason.clone().unwrap_or_default(), methods)),
        ]
    })
}

/// One line a tensor or layer and number of flips; one of which nothing was tried has one line.
fn flips_anywhere(targets: &[FlipsProven]) -> Table {
    let lines = level_by_level(targets, |target| (target.pairs, &target.levels));
    let title = "Tensors and layers proven harmless under any flips in them";
    let mut columns = vec!["#layer", "where"];
    columns.extend(FLIPS);
    Table::of(title, &columns, &lines, |(target, level)| {
        let place = if target.tensor == "layer" { "anywhere in the layer" } else { &target.tensor };
        let mut cells = vec![html! { (target.layer) }, text(place)];
        let (budget, reason) = (target.budget.as_ref(), target.reason.as_deref());
        cells.extend(under_flips(target.pairs, *level, budget, reason));
        cells
    })
}

/// One line a number of flips anywhere in the model.
fn flips_in_model(model: &ModelFlips) -> Table {
    let model = std::slice::from_ref(model);
    let lines = level_by_level(model, |model| (model.pairs, &model.levels));
    Table::of("The model under any flips in it", &FLIPS, &lines, |(model, level)| {
        under_flips(model.pairs, *level, model.budget.as_ref(), model.reason.as_deref())
    })
}

/// One line a layer and kind of bits, beside what the campaign saw in that layer.
fn cache(faults: &Faults) -> Table {
    let columns = [
        "#layer",
        "struck",
        "bits",
        "#proven masked",
        "#pairs of bit and sample",
        "#samples tried",
        "#logits change by at most",
        "#SDC seen in the layer",
        "why not bounded",
    ];
    let title = "Stored keys and values under any single flip, whenever it strikes";
    let none = || "–".to_owned();
    Table::of(title, &columns, &faults.cache_proven, |row| {
        let layer =
            faults.layers.iter().find(|of| of.layer == Some(row.layer) && of.target == row.target);
        let seen = layer.map(|of| format!("{} of {}", count(of.sdc), count(of.trials)));
        let share = row.proven_masked_share.map(|share| percent(share, Side::Down));
        let change = row.logit_change_bound.map(|change| number(change, Side::Up));
        vec![
            html! { (row.layer) },
            text(row.target.name()),
            text(story::cache_bits(row.bits)),
            html! { (share.unwrap_or_else(none)) },
            html! { (count(row.pairs)) },
            html! { (count(row.samples)) },
            html! { (change.unwrap_or_else(none)) },
            html! { (seen.unwrap_or_else(none)) },
            text(row.reason.as_deref().unwrap_or_default()),
        ]
    })
}

/// The columns of [`under_flips`].
const FLIPS: [&str; 6] = [
    "flips there",
    "#proven",
    "#samples tried",
    "#certified budget: least, median",
    "#logits change by at most",
    "proven by, or why not tried",
];

fn under_flips(
    pairs: u64,
    level: Option<&RowsLevel>,
    budget: Option<&FlipBudget>,
    reason: Option<&str>,
) -> Vec<Markup> {
    let none = || "–".to_owned();
    let share = level.and_then(|level| level.proven_share);
    let change = level.and_then(|level| level.logit_change_bound);
    let budget = budget.map(|of| format!("{}, {} of {}", of.min, of.median, of.flips_searched));
    vec![
        text(&level.map_or_else(none, flips)),
        html! { (share.map_or_else(none, |share| percent(share, Side::Down))) },
        html! { (count(pairs)) },
        html! { (budget.unwrap_or_else(none)) },
        html! { (change.map_or_else(none, |change| number(change, Side::Up))) },
        text(&level.map_or_else(|| reason.unwrap_or_default().to_owned(), methods)),
    ]
}

/// Rates that hold whenever a campaign ended.
pub(super) fn anytime(until: &UntilPrecision) -> Table {
    let title = "Silent corruption, by intervals that hold whenever the campaign ended";
    let columns = ["fault", "#trials", "#SDC", "#SDC rate", "#interval"];
    Table::of(title, &columns, &until.rates, |row| {
        vec![
            html! { code { (row.fault) } },
            html! { (count(row.trials)) },
            html! { (count(row.sdc)) },
            share(row.sdc_rate),
            interval(row.sdc_rate_low, row.sdc_rate_high),
        ]
    })
}

/// Outcomes by fault of the plan.
pub(super) fn strata(strata: &[Stratum]) -> Table {
    let columns = [
        "fault",
        "#trials",
        "#masked",
        "#identical",
        "#SDC",
        "#DUE",
        "#SDC rate",
        "#interval",
        "#DUE rate",
        "#interval",
        "#flips",
        "#right",
        "#interval",
        "#mean NLL change",
        "#perplexity, times",
        "#at most 8 nats each",
        "#interval",
    ];
    Table::of("Outcomes by fault of the plan", &columns, strata, |row| {
        vec![
            html! { code { (row.fault) } },
            html! { (count(row.trials)) },
            html! { (count(row.masked)) },
            html! { (count(row.identical)) },
            html! { (count(row.sdc)) },
            html! { (count(row.due)) },
            share(row.sdc_rate),
            interval(row.sdc_rate_low, row.sdc_rate_high),
            share(row.due_rate),
            interval(row.due_rate_low, row.due_rate_high),
            html! { (count(row.flips)) },
            share(row.accuracy),
            interval(row.accuracy_low, row.accuracy_high),
            near(row.mean_nll_change),
            near(row.perplexity_factor),
            near(row.perplexity_factor_capped),
            factor(row),
        ]
    })
}

/// Perplexities by bit error rate.
pub(super) fn perplexities(strata: &[Stratum]) -> Table {
    let columns = ["Fault", "#bit error rate", "#perplexity, times", "#interval"];
    Table::of("Perplexity by fault of the plan", &columns, strata, |row| {
        vec![
            html! { code { (row.fault) } },
            near(row.bit_error_rate),
            near(row.perplexity_factor_capped),
            factor(row),
        ]
    })
}

/// The interval of a factor of the perplexity.
fn factor(row: &Stratum) -> Markup {
    let (low, high) = (row.perplexity_factor_capped_low, row.perplexity_factor_capped_high);
    html! { (optional(low, Side::Down)) " to " (optional(high, Side::Up)) }
}

/// What is told of texts, in the order of [`text_cells`].
const TEXTS: [&str; 10] = [
    "#texts",
    "#diverged",
    "#share",
    "#interval",
    "#broke off",
    "#recovered",
    "#never recovered",
    "#interval",
    "#median first place",
    "#mean places that differ",
];

fn text_cells(of: &Texts) -> [Markup; 10] {
    [
        html! { (count(of.texts)) },
        html! { (count(of.diverged)) },
        share(of.diverged_rate),
        interval(of.diverged_rate_low, of.diverged_rate_high),
        html! { (count(of.broken_off)) },
        html! { (count(of.recovered)) },
        share(of.unrecovered_rate),
        interval(of.unrecovered_rate_low, of.unrecovered_rate_high),
        maybe(of.median_first_divergence),
        near(of.mean_different),
    ]
}

/// What became of texts, by target, and behind memory codes.
pub(super) fn texts(generation: &Generation) -> Markup {
    let columns = [&["target"], &TEXTS[..]].concat();
    let table = Table::of("Texts under faults", &columns, &generation.targets, |row| {
        let mut cells = vec![html! { code { (row.target.name()) } }];
        cells.extend(text_cells(&row.texts()));
        cells
    });
    html! {
        h3 { "Texts under faults" }
        p {
            "Each trial also continues its sample greedily by "
            (plural(u64::from(generation.tokens), "token"))
            ". A text recovers where it is the clean one again in its last quarter; places count "
            "from 0."
        }
        (table.render())
        (texts_behind(generation))
    }
}

/// Two lines a fault of the plan behind a memory code: with it and without.
fn texts_behind(generation: &Generation) -> Markup {
    let mut lines: Vec<(&GeneratedBehind, u64, &str, &Texts)> = Vec::new();
    for of in &generation.behind {
        lines.push((of, of.detected, "with", &of.residual));
        lines.push((of, 0, "without", &of.raw));
    }
    let columns = [&["fault", "memory code", "#detected (DUE)"], &TEXTS[..]].concat();
    let name = "Texts behind memory codes, and of the same flips without";
    let table = Table::of(name, &columns, &lines, |(of, detected, code, texts)| {
        let mut cells =
            vec![html! { code { (of.fault) } }, text(code), html! { (count(*detected)) }];
        cells.extend(text_cells(texts));
        cells
    });
    html! { @if !lines.is_empty() { (table.render()) } }
}

/// Each entry with each of its levels, or once with none where no pair was tried.
fn level_by_level<T>(
    entries: &[T],
    of: impl Fn(&T) -> (u64, &Vec<RowsLevel>),
) -> Vec<(&T, Option<&RowsLevel>)> {
    let mut lines = Vec::new();
    for entry in entries {
        match of(entry) {
            (0, _) => lines.push((entry, None)),
            (_, levels) => lines.extend(levels.iter().map(|level| (entry, Some(level)))),
        }
    }
    lines
}

fn flips(level: &RowsLevel) -> String {
    level.flips.map_or_else(|| "any codes".to_owned(), |flips| format!("any {flips}"))
}

fn methods(level: &RowsLevel) -> String {
    let each = level.methods.iter();
    let each = each.map(|of| format!("{} {}", story::method(of.method), count(of.proven)));
    each.collect::<Vec<_>>().join(", ")
}

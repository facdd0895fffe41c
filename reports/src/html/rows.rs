//! The tables of rows, tensors and layers that are proven harmless under several flips at once.

use maud::html;

use super::tables::{Table, text};
use crate::model::{FlipsProven, RowsLevel, RowsProven};
use crate::number::{Side, count, percent};
use crate::story;

/// One line a layer and number of flips; a layer of which nothing was tried has one line.
pub(super) fn rows(layers: &[RowsProven]) -> Table {
    let columns = [
        "#layer",
        "tensor",
        "flips in a row",
        "#proven",
        "#pairs of row and sample",
        "#rows tried",
        "proven by, or why not tried",
    ];
    let lines: Vec<(&RowsProven, Option<&RowsLevel>)> = (layers.iter())
        .flat_map(|layer| {
            let levels = if layer.pairs > 0 { &layer.levels[..] } else { &[] };
            let untried = (layer.pairs == 0).then_some((layer, None));
            levels.iter().map(move |level| (layer, Some(level))).chain(untried)
        })
        .collect();
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
pub(super) fn flips_anywhere(targets: &[FlipsProven]) -> Table {
    let columns = [
        "#layer",
        "where",
        "flips there",
        "#proven",
        "#samples tried",
        "proven by, or why not tried",
    ];
    let lines: Vec<(&FlipsProven, Option<&RowsLevel>)> = (targets.iter())
        .flat_map(|target| {
            let levels = if target.pairs > 0 { &target.levels[..] } else { &[] };
            let untried = (target.pairs == 0).then_some((target, None));
            levels.iter().map(move |level| (target, Some(level))).chain(untried)
        })
        .collect();
    let title = "Tensors and layers proven harmless under any flips in them";
    Table::of(title, &columns, &lines, |(target, level)| {
        let share = level.and_then(|level| level.proven_share);
        let place = if target.tensor == "layer" { "anywhere in the layer" } else { &target.tensor };
        vec![
            html! { (target.layer) },
            text(place),
            text(&level.map_or_else(|| "–".to_owned(), flips)),
            html! { (share.map_or_else(|| "–".to_owned(), |share| percent(share, Side::Down))) },
            html! { (count(target.pairs)) },
            text(&level.map_or_else(|| target.reason.clone().unwrap_or_default(), methods)),
        ]
    })
}

fn flips(level: &RowsLevel) -> String {
    level.flips.map_or_else(|| "any codes".to_owned(), |flips| format!("any {flips}"))
}

fn methods(level: &RowsLevel) -> String {
    let each = level.methods.iter();
    let each = each.map(|of| format!("{} {}", story::method(of.method), count(of.proven)));
    each.collect::<Vec<_>>().join(", ")
}

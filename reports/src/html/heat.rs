//! The map of all single-bit faults: how much of each tensor, and of each of its rows, changes a
//! decision in silence.
//!
//! A cell is as dark as its share is large, beside the largest of its figure; the share stands in
//! the cell or in the table below, so that colour is not needed.

use maud::{Markup, html};

use super::charts::Figure;
use super::tables::{Table, near, share, text};
use crate::model::{Exhaustive, MapBit, MapTensor};
use crate::number::{Side, count, percent, plural};
use crate::story;

/// A cell of the map by tensors, and the room for names, in units of the drawing.
const CELL: (usize, usize) = (104, 36);
const NAMES: usize = 84;
/// A bin of the map by rows.
const BIN: (usize, usize) = (12, 22);
/// The most tensors whose rows are drawn; the worst ones are.
const MOST_TENSORS: usize = 28;

/// What stands in place of the charts of drawn faults.
pub(super) fn section(map: &Exhaustive) -> Markup {
    let lines = story::map_lines(map);
    html! {
        div.stack { (by_tensor(map)) (by_row(map)) }
        h3 { "By bit and direction" }
        (bits(&map.bit_rows).render())
        h3 { "How the faults were decided" }
        ul.prose { @for line in &lines { li { (line) } } }
        details { summary { "The plan of the map" } pre { (map.plan) } }
    }
}

fn darkness(share: Option<f64>, most: f64) -> String {
    let part = share.filter(|_| most > 0.0).map_or(0.0, |share| share / most);
    // Rounded, so that a page does not grow with digits that nobody sees.
    format!("{:.3}", if part > 0.0 { 0.08 + 0.92 * part } else { 0.0 })
}

fn most(shares: impl Iterator<Item = Option<f64>>) -> f64 {
    shares.flatten().fold(0.0, |most, share| if share > most { share } else { most })
}

/// Layers down, tensors across.
fn by_tensor(map: &Exhaustive) -> Markup {
    let names = distinct(map.tensors.iter().map(|of| of.tensor.as_str()));
    let layers = distinct(map.tensors.iter().map(|of| of.layer));
    let most = most(map.tensors.iter().map(|of| of.sdc_share));
    let (width, height) = (NAMES + names.len().max(7) * CELL.0, 30 + layers.len() * CELL.1);
    let place = |of: &MapTensor| {
        let column = names.iter().position(|name| *name == of.tensor).unwrap_or(0);
        let line = layers.iter().position(|layer| *layer == of.layer).unwrap_or(0);
        (NAMES + column * CELL.0, 30 + line * CELL.1)
    };
    let middle = |x: usize| x + CELL.0 / 2;
    let body = html! {
        svg.heat viewBox={ "0 0 " (width) " " (height) } role="img"
            aria-label="Silent corruption by layer and tensor" {
            @for (i, name) in names.iter().enumerate() {
                text x=(middle(NAMES + i * CELL.0)) y="19" text-anchor="middle" {
                    (crate::escape::shown(name.rsplit('.').next().unwrap_or(name)))
                }
            }
            @for (i, layer) in layers.iter().enumerate() {
                text x=(NAMES - 12) y=(30 + i * CELL.1 + 23) text-anchor="end" {
                    "layer " (layer)
                }
            }
            @for of in &map.tensors {
                @let (x, y) = place(of);
                rect.cell x=(x + 1) y=(y + 1) width=(CELL.0 - 2) height=(CELL.1 - 2) rx="3"
                    fill-opacity=(darkness(of.sdc_share, most)) {}
                text.strong[of.sdc_share.is_some_and(|share| share > 0.55 * most)]
                    x=(middle(x)) y=(y + 23) text-anchor="middle" {
                    (share(of.sdc_share))
                }
            }
        }
    };
    Figure {
        title: "Where do single flips change the decision?",
        how: "Share of all single-bit faults of a tensor that change a decision without a sign, \
              over all samples of the map. Each was decided by itself: nothing is estimated.",
        keys: &[("block harm", "the darkest cell has the largest share")],
        body,
        table: tensors(&map.tensors),
    }
    .render()
}

fn distinct<T: PartialEq>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut all = Vec::new();
    for value in values {
        if !all.contains(&value) {
            all.push(value);
        }
    }
    all
}

/// Rows across, the two bits of the codes down; one small map for each of the worst tensors.
fn by_row(map: &Exhaustive) -> Markup {
    let shown = story::worst_tensors(map, MOST_TENSORS);
    let shares = |of: &MapTensor| -> Vec<[Option<f64>; 2]> {
        let bin = |k: usize, sdc: &[u64; 2], decided: &[u64; 2]| {
            (decided[k] > 0).then(|| sdc[k] as f64 / decided[k] as f64)
        };
        of.bins.iter().map(|b| [0, 1].map(|k| bin(k, &b.sdc, &b.decided))).collect()
    };
    let most = most(shown.iter().flat_map(|of| shares(of)).flatten());
    if most == 0.0 {
        return html! {};
    }
    let height = 2 * BIN.1;
    let body = html! {
        div.multiples {
            @for of in &shown {
                @let bins = shares(of);
                div {
                    h4 { "layer " (of.layer) " " (crate::escape::shown(&of.tensor)) }
                    svg.heat viewBox={ "0 0 " (bins.len() * BIN.0) " " (height) }
                        preserveAspectRatio="none" role="img" style="height:44px"
                        aria-label={ "Silent corruption by row of " (of.tensor) } {
                        @for (i, bin) in bins.iter().enumerate() {
                            @for (bit, value) in bin.iter().enumerate() {
                                rect.cell x=(i * BIN.0) y=((1 - bit) * BIN.1) width=(BIN.0)
                                    height=(BIN.1) fill-opacity=(darkness(*value, most)) {}
                            }
                        }
                    }
                    p.note { (plural(of.rows, "row")) ", " (share(of.sdc_share)) " of all" }
                }
            }
        }
    };
    Figure {
        title: "Which rows matter?",
        how: "The same by rows (outputs), left to right, of the tensors with the largest shares: \
              the high bit of the codes above, the low one below. One scale for all of them.",
        keys: &[("block harm", "the darkest has the largest share")],
        body: html! {
            p.note { "Darkest: " (percent(most, Side::Up)) " of the faults of a bin of rows." }
            (body)
        },
        table: worst_bins(&shown),
    }
    .render()
}

fn tensors(tensors: &[MapTensor]) -> Table {
    let columns = [
        "#layer",
        "tensor",
        "#rows",
        "#columns",
        "#faults",
        "#masked",
        "#identical",
        "#SDC",
        "#DUE",
        "#SDC share",
        "#largest logit change",
        "#largest margin loss",
        "#run",
        "#ended early",
        "#collapsed",
        "#no effect",
        "#proven",
    ];
    Table::of("Outcomes by tensor", &columns, tensors, |of| {
        vec![
            html! { (of.layer) },
            text(&of.tensor),
            html! { (count(of.rows)) },
            html! { (count(of.columns)) },
            html! { (count(of.decided)) },
            html! { (count(of.masked)) },
            html! { (count(of.identical)) },
            html! { (count(of.sdc)) },
            html! { (count(of.due)) },
            share(of.sdc_share),
            near(of.max_logit_change),
            near(of.max_margin_loss),
            html! { (count(of.effort.executed)) },
            html! { (count(of.effort.early)) },
            html! { (count(of.effort.collapsed)) },
            html! { (count(of.effort.still)) },
            html! { (count(of.effort.proven)) },
        ]
    })
}

fn bits(rows: &[MapBit]) -> Table {
    let columns =
        ["#bit", "direction", "#faults", "#masked", "#identical", "#SDC", "#DUE", "#SDC share"];
    Table::of("Outcomes by bit of the code and direction", &columns, rows, |row| {
        vec![
            html! { (row.bit) },
            html! { (row.from) " to " (1 - row.from.min(1)) },
            html! { (count(row.decided)) },
            html! { (count(row.masked)) },
            html! { (count(row.identical)) },
            html! { (count(row.sdc)) },
            html! { (count(row.due)) },
            share(row.sdc_share),
        ]
    })
}

/// The bins of rows with the largest shares.
fn worst_bins(tensors: &[&MapTensor]) -> Table {
    let mut bins: Vec<(&MapTensor, crate::model::MapBin, f64)> = Vec::new();
    for of in tensors {
        for bin in &of.bins {
            let decided: u64 = bin.decided.iter().sum();
            if decided > 0 {
                bins.push((of, *bin, bin.sdc.iter().sum::<u64>() as f64 / decided as f64));
            }
        }
    }
    bins.sort_by(|a, b| b.2.total_cmp(&a.2));
    bins.truncate(100);
    let columns = ["#layer", "tensor", "#first row", "#rows", "#faults", "#SDC", "#SDC share"];
    Table::of("The rows with the largest shares", &columns, &bins, |(of, bin, part)| {
        vec![
            html! { (of.layer) },
            text(&of.tensor),
            html! { (count(bin.first_row)) },
            html! { (count(bin.rows)) },
            html! { (count(bin.decided.iter().sum())) },
            html! { (count(bin.sdc.iter().sum())) },
            share(Some(*part)),
        ]
    })
}

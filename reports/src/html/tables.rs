//! Tables: in their own scrolling box, numbers to the right, cut at 1000 rows with a note.
//!
//! The cut keeps the page under 2 MB whatever the data; `report.json` always has every row.

use maud::{Markup, html};

use crate::escape::shown;
use crate::model::{
    BitRate, Bound, CurvePoint, Growth, Layer, LayerRate, Sample, Target, Verdict, Worst,
};
use crate::number::{Side, count, number, optional, percent};
use crate::story;

/// The most rows that a page shows of any table.
pub(super) const MOST_ROWS: usize = 1000;

/// A table by its columns. A column whose title begins with `#` holds numbers.
pub(super) struct Table {
    name: &'static str,
    columns: Vec<&'static str>,
    rows: Vec<Vec<Markup>>,
    all: usize,
}

impl Table {
    pub(super) fn of<T>(
        name: &'static str,
        columns: &[&'static str],
        items: &[T],
        row: impl Fn(&T) -> Vec<Markup>,
    ) -> Self {
        let rows = items.iter().take(MOST_ROWS).map(row).collect();
        Self { name, columns: columns.to_vec(), rows, all: items.len() }
    }

    /// Whether each column has anything to say: those that never do are not shown.
    fn telling(&self) -> Vec<bool> {
        let silent = |cell: &Markup| cell.0.is_empty() || cell.0 == "–";
        (0..self.columns.len()).map(|i| self.rows.iter().any(|row| !silent(&row[i]))).collect()
    }

    /// The table as it stands in the page.
    pub(super) fn render(&self) -> Markup {
        let telling = self.telling();
        let columns = self.columns.iter().zip(&telling).filter(|(_, tells)| **tells);
        let numeric: Vec<bool> = self.columns.iter().map(|title| title.starts_with('#')).collect();
        html! {
            div.scroll role="region" aria-label=(self.name) tabindex="0" {
                table {
                    caption.aside { (self.name) }
                    thead { tr {
                        @for (title, _) in columns {
                            th.n[title.starts_with('#')] scope="col" {
                                (title.trim_start_matches('#'))
                            }
                        }
                    } }
                    tbody {
                        @for row in &self.rows {
                            tr {
                                @for (i, cell) in row.iter().enumerate() {
                                    @if telling[i] { td.n[numeric[i]] { (cell) } }
                                }
                            }
                        }
                    }
                }
            }
            @if self.all > self.rows.len() {
                p.note {
                    "The first " (count(self.rows.len() as u64)) " of " (count(self.all as u64))
                    " rows; all of them are in report.json."
                }
            }
        }
    }
}

pub(super) fn text(text: &str) -> Markup {
    html! { (shown(text)) }
}

pub(super) fn down(value: f64) -> Markup {
    html! { (number(value, Side::Down)) }
}

pub(super) fn near(value: Option<f64>) -> Markup {
    html! { (optional(value, Side::Nearest)) }
}

pub(super) fn share(value: Option<f64>) -> Markup {
    html! { @match value { Some(value) => (percent(value, Side::Nearest)), None => "–" } }
}

pub(super) fn interval(low: f64, high: f64) -> Markup {
    html! { (percent(low, Side::Down)) " to " (percent(high, Side::Up)) }
}

pub(super) fn maybe(value: Option<impl maud::Render>) -> Markup {
    html! { @match value { Some(value) => (value), None => "–" } }
}

/// A verdict as a word with a sign, so that colour is not needed.
pub(super) fn verdict(verdict: Verdict) -> Markup {
    let (class, sign) = match verdict {
        Verdict::Certified => ("certified", "✓"),
        Verdict::Falsified => ("attack", "✕"),
        Verdict::Unknown => ("unknown", "?"),
    };
    html! { span class={ "verdict " (class) } {
        span aria-hidden="true" { (sign) } " " (story::verdict(verdict))
    } }
}

/// Every sample.
pub(super) fn samples(samples: &[Sample]) -> Table {
    let columns = [
        "#sample",
        "#label",
        "#prediction",
        "verdict",
        "decided by",
        "#epsilon",
        "#relative",
        "#certified radius",
        "#relative to rms",
        "#attack radius",
        "#attack / certified",
        "#clean margin",
        "#margin at least",
        "#runtime slack",
        "#positions",
        "why",
    ];
    Table::of("Samples", &columns, samples, |sample| {
        vec![
            html! { (sample.index) },
            maybe(sample.label),
            html! { (sample.prediction) },
            verdict(sample.verdict),
            maybe(sample.decided_by.map(story::method)),
            near(Some(sample.epsilon_value)),
            near(sample.epsilon_rel),
            down(sample.certified_radius),
            html! { (optional(sample.certified_radius_rel, Side::Down)) },
            html! { (optional(sample.attack_radius, Side::Up)) },
            near(sample.attack_ratio),
            near(sample.margin),
            html! { (optional(sample.margin_lower_bound, Side::Down)) },
            html! { (optional(sample.runtime_slack, Side::Down)) },
            maybe(sample.positions.map(|seen| format!("{} of {}", seen.certified, seen.total))),
            why(sample),
        ]
    })
}

fn why(sample: &Sample) -> Markup {
    html! {
        (shown(sample.why.as_deref().unwrap_or("")))
        @if let Some(witness) = &sample.witness {
            " (" (story::witness(witness.kind)) " at " (number(witness.epsilon, Side::Up))
            " gives " (witness.prediction) ")"
        }
    }
}

/// Every layer.
pub(super) fn layers(layers: &[Layer]) -> Table {
    let columns = [
        "#layer",
        "#certified radius",
        "#median",
        "#relative to rms",
        "#stream rms",
        "#width in",
        "#width out",
        "reason",
    ];
    Table::of("Layers", &columns, layers, |layer| {
        vec![
            html! { (layer.index) },
            down(layer.certified_radius),
            down(layer.certified_radius_median),
            down(layer.certified_radius_rel),
            near(Some(layer.stream_rms)),
            html! { (optional(layer.width_in, Side::Up)) },
            html! { (optional(layer.width_out, Side::Up)) },
            text(layer.reason.as_deref().unwrap_or("")),
        ]
    })
}

/// Behind the plot of layer radii.
pub(super) fn layer_radii(layers: &[Layer]) -> Table {
    let columns = ["#layer", "#smallest", "#median"];
    Table::of("Certified radius by layer", &columns, layers, |layer| {
        vec![
            html! { (layer.index) },
            down(layer.certified_radius),
            down(layer.certified_radius_median),
        ]
    })
}

/// Behind the plot of widths.
pub(super) fn growth(steps: &[Growth]) -> Table {
    let columns = ["#layer", "step", "#median width", "#largest width", "bound"];
    Table::of("Width of the bounds by step", &columns, steps, |step| {
        vec![
            maybe(step.layer),
            text(&step.step),
            near(step.width_median),
            html! { (optional(step.width_max, Side::Up)) },
            html! { @if step.diverged { "lost for some sample" } @else { "holds" } },
        ]
    })
}

/// Behind the histogram of margins.
pub(super) fn margins(bins: &[[u64; 3]], low: f64, width: f64) -> Table {
    let columns = ["#from", "#to", "#certified", "#unknown", "#falsified"];
    let bins: Vec<(usize, &[u64; 3])> = bins.iter().enumerate().collect();
    Table::of("Samples by clean margin", &columns, &bins, |(i, bin)| {
        let from = low + width * *i as f64;
        let mut cells = vec![near(Some(from)), near(Some(from + width))];
        cells.extend(bin.iter().map(|value| html! { (value) }));
        cells
    })
}

/// Behind the accuracy curve.
pub(super) fn curve(points: &[CurvePoint]) -> Table {
    let columns = ["#epsilon", "#certified accuracy", "#accuracy left by the attack"];
    Table::of("Accuracy by epsilon", &columns, points, |point| {
        vec![
            near(Some(point.epsilon)),
            html! { (percent(point.certified_acc, Side::Down)) },
            html! { @match point.attacked_acc {
                Some(share) => (percent(share, Side::Up)), None => "–"
            } },
        ]
    })
}

/// Outcomes by target.
pub(super) fn targets(targets: &[Target]) -> Table {
    let columns = [
        "target",
        "#trials",
        "#masked",
        "#identical",
        "#SDC",
        "#DUE",
        "#SDC rate",
        "#interval",
        "#DUE rate",
        "#interval",
        "#any token changed",
        "#mean KL",
        "#largest KL",
        "#mean NLL change",
        "#mean margin loss",
    ];
    Table::of("Outcomes by target", &columns, targets, |row| {
        vec![
            html! { code { (row.target.name()) } },
            html! { (count(row.trials)) },
            html! { (count(row.masked)) },
            html! { (count(row.identical)) },
            html! { (count(row.sdc)) },
            html! { (count(row.due)) },
            share(row.sdc_rate),
            interval(row.sdc_rate_low, row.sdc_rate_high),
            share(row.due_rate),
            interval(row.due_rate_low, row.due_rate_high),
            html! { (count(row.any_token_changes)) },
            near(row.mean_kl),
            near(row.max_kl),
            near(row.mean_nll_change),
            near(row.mean_margin_loss),
        ]
    })
}

const RATE_COLUMNS: [&str; 6] = ["#trials", "#masked", "#SDC", "#DUE", "#SDC rate", "#interval"];

/// Behind the plot by layer.
pub(super) fn sdc_by_layer(rows: &[LayerRate]) -> Table {
    let columns = [&["target", "#layer"], &RATE_COLUMNS[..]].concat();
    Table::of("Outcomes by layer", &columns, rows, |row| {
        vec![
            html! { code { (row.target.name()) } },
            maybe(row.layer),
            html! { (count(row.trials)) },
            html! { (count(row.masked)) },
            html! { (count(row.sdc)) },
            html! { (count(row.due)) },
            share(row.sdc_rate),
            interval(row.sdc_rate_low, row.sdc_rate_high),
        ]
    })
}

/// Behind the plot by bit.
pub(super) fn sdc_by_bit(rows: &[BitRate]) -> Table {
    let columns = [&["target", "#bit"], &RATE_COLUMNS[..]].concat();
    Table::of("Outcomes by bit", &columns, rows, |row| {
        vec![
            html! { code { (row.target.name()) } },
            html! { (row.bit) },
            html! { (count(row.trials)) },
            html! { (count(row.masked)) },
            html! { (count(row.sdc)) },
            html! { (count(row.due)) },
            share(row.sdc_rate),
            interval(row.sdc_rate_low, row.sdc_rate_high),
        ]
    })
}

/// The worst faults seen.
pub(super) fn worst(rows: &[Worst]) -> Table {
    let columns = [
        "#rank",
        "address",
        "target",
        "#sample",
        "outcome",
        "decision",
        "#margin loss",
        "#largest logit change",
        "#KL",
    ];
    Table::of("Worst faults", &columns, rows, |row| {
        vec![
            html! { (row.rank) },
            html! { code { (shown(&row.address)) } },
            html! { code { (row.target.name()) } },
            html! { (row.sample) },
            html! { (story::outcome(row.outcome)) },
            html! { (row.prediction_before) " → " (maybe(row.prediction_after)) },
            near(row.margin_loss),
            near(row.max_logit_change),
            near(row.kl),
        ]
    })
}

/// What is proven about faults.
pub(super) fn bounds(rows: &[Bound]) -> Table {
    let columns = [
        "#layer",
        "#flips",
        "#logits change at most",
        "#proven masked",
        "#pairs of bit and sample",
        "reason",
    ];
    Table::of("Proven bounds on weight faults", &columns, rows, |row| {
        vec![
            html! { (row.layer) },
            html! { (row.flips) },
            html! { (optional(row.logit_change_bound, Side::Up)) },
            html! { (percent(row.proven_masked_share, Side::Down)) },
            html! { (count(row.pairs)) },
            text(row.reason.as_deref().unwrap_or("")),
        ]
    })
}

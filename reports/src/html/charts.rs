//! The plots: what each shows, how to read it, and the table behind it.
//!
//! A plot without data is left out rather than drawn empty. Each plot asks one question in its
//! title; the colours mean the same in all of them (proven, attacked, unknown, harm) and never
//! carry the meaning alone: lines differ in dashes, dots in filling, and the table has every
//! number.

use maud::{Markup, PreEscaped, html};

use super::axis::Axis;
use super::plot::{Ink, Mark, Plot, PlotError, RADIUS};
use super::tables::{self, Table};
use crate::model::{Certification, EpsilonUnit, FaultTarget, Faults, Growth, Sample, Verdict};

/// Sizes in the units of the drawing, shown at about half of it.
pub(super) const WIDE: (u32, u32) = (820, 500);
const SMALL: (u32, u32) = (640, 360);
const BINS: usize = 24;

/// A key of the legend: its style-sheet class and its words.
type Key = (&'static str, &'static str);

/// A plot with its question, how to read it, and its numbers.
pub(super) struct Figure<'a> {
    pub(super) title: &'a str,
    pub(super) how: &'a str,
    pub(super) keys: &'a [Key],
    pub(super) body: Markup,
    pub(super) table: Table,
}

impl Figure<'_> {
    pub(super) fn render(self) -> Markup {
        html! {
            figure {
                figcaption {
                    h3 { (self.title) }
                    p { (self.how) }
                    ul.legend {
                        @for (class, words) in self.keys {
                            li { span class={ "key " (class) } {} (words) }
                        }
                    }
                }
                (self.body)
                details { summary { "The numbers behind it" } (self.table.render()) }
            }
        }
    }
}

pub(super) fn drawn(plot: &Plot) -> Result<Markup, PlotError> {
    plot.svg().map(PreEscaped)
}

/// Certified radius of each layer's stream, smallest and median.
pub(super) fn layer_radii(found: &Certification) -> Result<Markup, PlotError> {
    let layers = &found.layers;
    let radii =
        layers.iter().flat_map(|layer| [layer.certified_radius, layer.certified_radius_median]);
    let Some(y) = Axis::log("", radii.chain([found.epsilon_value])) else {
        return Ok(html! {});
    };
    let count = layers.iter().map(|layer| layer.index + 1).max().unwrap_or(0);
    let x = Axis::index("layer", count);
    let mut marks = Vec::new();
    if let Some(epsilon) = y.place(found.epsilon_value).filter(|_| found.epsilon_value > 0.0) {
        marks.push(Mark::Dashed(vec![(x.low, epsilon), (x.high, epsilon)], Ink::Unknown));
    }
    let least: Vec<(f64, f64)> = layers
        .iter()
        .filter_map(|layer| Some((f64::from(layer.index), y.place(layer.certified_radius)?)))
        .collect();
    let median: Vec<(f64, f64)> = layers
        .iter()
        .filter_map(|layer| Some((f64::from(layer.index), y.place(layer.certified_radius_median)?)))
        .collect();
    marks.extend(median.iter().map(|at| Mark::Ring(*at, Ink::Certified)));
    marks.push(Mark::Line(least.clone(), Ink::Certified));
    marks.extend(least.iter().map(|at| Mark::Dot(*at, Ink::Certified, RADIUS)));
    let label = "Certified radius of the residual stream by layer".to_owned();
    let plot = Plot { x, y, marks, size: WIDE, label };
    let figure = Figure {
        title: "How far may the stream move?",
        how: "Certified radius around the residual stream that enters each layer, for the samples \
              that are right. Logarithmic; what stands on 0 was not certified at all.",
        keys: &[
            ("dot certified", "smallest"),
            ("ring certified", "median"),
            ("dash unknown", "epsilon"),
        ],
        body: drawn(&plot)?,
        table: tables::layer_radii(layers),
    };
    Ok(figure.render())
}

/// Width of the bounds through the walk.
pub(super) fn growth(found: &Certification) -> Result<Markup, PlotError> {
    let steps = &found.growth;
    let widths = steps.iter().flat_map(|step| [step.width_median, step.width_max]).flatten();
    let Some(y) = Axis::log("", widths) else { return Ok(html! {}) };
    let x = Axis::named("layer", steps.len() as u32, layer_starts(steps));
    let series = |width: fn(&Growth) -> Option<f64>| {
        let mut runs = vec![Vec::new()];
        for (i, step) in steps.iter().enumerate() {
            match width(step).and_then(|width| y.place(width)) {
                Some(at) => runs.last_mut().expect("never empty").push((i as f64, at)),
                None => runs.push(Vec::new()),
            }
        }
        runs.retain(|run| !run.is_empty());
        runs
    };
    let mut marks = Vec::new();
    if let Some(lost) = steps.iter().position(|step| step.diverged) {
        let area =
            vec![(lost as f64, y.low), (lost as f64, y.high), (x.high, y.high), (x.high, y.low)];
        marks.push(Mark::Area(area, Ink::Attack));
    }
    marks.extend(series(|step| step.width_median).into_iter().map(|run| dashed(run, Ink::Unknown)));
    marks.extend(
        series(|step| step.width_max).into_iter().map(|run| Mark::Line(run, Ink::Certified)),
    );
    let label = "Width of the bounds after each step of the walk".to_owned();
    let plot = Plot { x, y, marks, size: WIDE, label };
    let figure = Figure {
        title: "Where do the bounds grow?",
        how: "Width of the bounds at epsilon after each step of the walk, in its order. \
              Logarithmic; shaded from where the bound of some sample is lost.",
        keys: &[
            ("line certified", "widest"),
            ("dash unknown", "median"),
            ("area attack", "lost for some sample"),
        ],
        body: drawn(&plot)?,
        table: tables::growth(steps),
    };
    Ok(figure.render())
}

/// A run of one point is a dot: a line of one point would not show.
fn dashed(run: Vec<(f64, f64)>, ink: Ink) -> Mark {
    if run.len() == 1 { Mark::Dot(run[0], ink, RADIUS) } else { Mark::Dashed(run, ink) }
}

fn layer_starts(steps: &[Growth]) -> Vec<(u32, String)> {
    let mut starts = Vec::new();
    let mut last = None;
    for (i, step) in steps.iter().enumerate() {
        if step.layer != last
            && let Some(layer) = step.layer
        {
            starts.push((i as u32, layer.to_string()));
        }
        last = step.layer;
    }
    starts
}

/// Clean margins, by verdict.
pub(super) fn margins(found: &Certification) -> Result<Markup, PlotError> {
    let margins: Vec<(f64, Verdict)> = found
        .samples
        .iter()
        .filter_map(|sample: &Sample| Some((sample.margin?, sample.verdict)))
        .filter(|(margin, _)| margin.is_finite())
        .collect();
    let least = margins.iter().map(|(margin, _)| *margin).min_by(f64::total_cmp);
    let most = margins.iter().map(|(margin, _)| *margin).max_by(f64::total_cmp);
    let (Some(least), Some(most)) = (least, most) else { return Ok(html! {}) };
    let least = if least > 0.0 { 0.0 } else { least };
    let x = Axis::linear("clean margin, in logits", least, most);
    let bins = binned(&margins, x.low, x.high);
    let tallest = bins.iter().map(|bin| bin.iter().sum::<u64>()).max().unwrap_or(0);
    let y = Axis::counts("", tallest);
    let width = (x.high - x.low) / BINS as f64;
    let mut marks = Vec::new();
    for (i, bin) in bins.iter().enumerate() {
        let left = x.low + width * i as f64;
        let mut base = 0;
        for (count, ink) in bin.iter().zip([Ink::Certified, Ink::Unknown, Ink::Attack]) {
            let corners = [(left, base as f64), (left + 0.86 * width, (base + count) as f64)];
            if *count > 0 {
                marks.push(Mark::Bar(corners, ink));
            }
            base += count;
        }
    }
    let label = "Histogram of clean margins by verdict".to_owned();
    let table = tables::margins(&bins, x.low, width);
    let plot = Plot { x, y, marks, size: WIDE, label };
    let figure = Figure {
        title: "Do wide margins get certified?",
        how: "Number of samples by the clean margin of the decision, stacked by verdict, certified \
              at the bottom.",
        keys: &[
            ("block certified", "certified"),
            ("block unknown", "unknown"),
            ("block attack", "falsified"),
        ],
        body: drawn(&plot)?,
        table,
    };
    Ok(figure.render())
}

/// Counts of certified, unknown and falsified samples in equal bins.
fn binned(margins: &[(f64, Verdict)], low: f64, high: f64) -> Vec<[u64; 3]> {
    let mut bins = vec![[0; 3]; BINS];
    for (margin, verdict) in margins {
        let share = (margin - low) / (high - low);
        let bin = ((share * BINS as f64) as usize).clamp(0, BINS - 1);
        let kind = match verdict {
            Verdict::Certified => 0,
            Verdict::Unknown => 1,
            Verdict::Falsified => 2,
        };
        bins[bin][kind] += 1;
    }
    bins
}

/// Accuracy against epsilon, proven and attacked.
pub(super) fn accuracy(found: &Certification) -> Result<Markup, PlotError> {
    let curve = &found.curve;
    let epsilons = curve.iter().map(|point| point.epsilon).chain([found.epsilon_value]);
    let name = match found.epsilon_unit {
        EpsilonUnit::Absolute => "epsilon",
        EpsilonUnit::RelativeRms => "epsilon / rms",
    };
    let Some(x) = Axis::log(name, epsilons) else { return Ok(html! {}) };
    if curve.len() < 2 {
        return Ok(html! {});
    }
    let y = Axis::percent("", 1.0);
    let place = |epsilon: f64, share: f64| Some((x.place(epsilon)?, y.place(share)?));
    let proven: Vec<(f64, f64)> =
        curve.iter().filter_map(|point| place(point.epsilon, point.certified_acc)).collect();
    let attacked: Vec<(f64, f64)> =
        curve.iter().filter_map(|point| place(point.epsilon, point.attacked_acc?)).collect();
    // Between two radii that were tried, the proof of the larger one counts and the attack of the
    // smaller one: the honest sides.
    let proven = stairs(&proven, true);
    let attacked = stairs(&attacked, false);
    let mut marks = vec![area_under(&proven, 0.0, Ink::Certified)];
    let asked = found.epsilons.iter().filter(|row| row.epsilon_unit == found.epsilon_unit);
    let asked = asked.map(|row| row.epsilon_value).filter(|&epsilon| epsilon > 0.0);
    for at in asked.filter_map(|epsilon| x.place(epsilon)) {
        marks.push(Mark::Dashed(vec![(at, y.low), (at, y.high)], Ink::Unknown));
    }
    if !attacked.is_empty() {
        marks.push(Mark::Dashed(attacked, Ink::Attack));
    }
    marks.push(Mark::Line(proven, Ink::Certified));
    let label = "Accuracy against epsilon, certified and attacked".to_owned();
    let plot = Plot { x, y, marks, size: WIDE, label };
    let figure = Figure {
        title: "How much accuracy is left at each epsilon?",
        how: "The truth lies between the lines: below the solid one is proven, above the dashed \
              one is disproven by an attack. Logarithmic in epsilon.",
        keys: &[
            ("line certified", "certified"),
            ("dash attack", "left by the attack"),
            ("dash unknown", "epsilon asked for"),
        ],
        body: drawn(&plot)?,
        table: tables::curve(curve),
    };
    Ok(figure.render())
}

pub(super) fn stairs(points: &[(f64, f64)], drop_first: bool) -> Vec<(f64, f64)> {
    let mut steps = Vec::new();
    for pair in points.windows(2) {
        steps.push(pair[0]);
        steps.push(if drop_first { (pair[0].0, pair[1].1) } else { (pair[1].0, pair[0].1) });
    }
    steps.extend(points.last());
    steps
}

fn area_under(line: &[(f64, f64)], floor: f64, ink: Ink) -> Mark {
    let mut outline = line.to_vec();
    if let (Some(first), Some(last)) = (line.first(), line.last()) {
        outline.extend([(last.0, floor), (first.0, floor)]);
    }
    Mark::Area(outline, ink)
}

/// One rate with its interval, at one place of an axis.
pub(super) struct Rate {
    at: u32,
    rate: Option<f64>,
    low: f64,
    high: f64,
}

/// SDC rate by layer, one small plot per target.
pub(super) fn sdc_by_layer(faults: &Faults) -> Result<Markup, PlotError> {
    let rates = |target: FaultTarget| -> Vec<Rate> {
        let rows = faults.layers.iter().filter(|row| row.target == target && row.trials > 0);
        rows.filter_map(|row| {
            let (rate, low, high) = (row.sdc_rate, row.sdc_rate_low, row.sdc_rate_high);
            row.layer.map(|at| Rate { at, rate, low, high })
        })
        .collect()
    };
    let body = small_multiples("layer", &rates)?;
    let figure = Figure {
        title: "Which layers corrupt in silence?",
        how: "Share of faults that changed the decision unnoticed, with the exact interval. One \
              plot for each target, each on its own scale.",
        keys: &[("dot harm", "rate"), ("bar harm", "interval")],
        body: html! { (body) },
        table: tables::sdc_by_layer(&faults.layers),
    };
    Ok(if faults.layers.is_empty() {
        html! {}
    } else {
        figure.render()
    })
}

/// SDC rate by bit position, one small plot per target.
pub(super) fn sdc_by_bit(faults: &Faults) -> Result<Markup, PlotError> {
    let rates = |target: FaultTarget| -> Vec<Rate> {
        let rows = faults.bits.iter().filter(|row| row.target == target && row.trials > 0);
        rows.map(|row| {
            let (rate, low, high) = (row.sdc_rate, row.sdc_rate_low, row.sdc_rate_high);
            Rate { at: row.bit, rate, low, high }
        })
        .collect()
    };
    let body = small_multiples("bit, 0 is the lowest", &rates)?;
    let figure = Figure {
        title: "Which bits matter?",
        how: "The same by the position of the bit in the stored value.",
        keys: &[("dot harm", "rate"), ("bar harm", "interval")],
        body,
        table: tables::sdc_by_bit(&faults.bits),
    };
    Ok(if faults.bits.is_empty() {
        html! {}
    } else {
        figure.render()
    })
}

fn small_multiples(
    axis: &'static str,
    rates: &dyn Fn(FaultTarget) -> Vec<Rate>,
) -> Result<Markup, PlotError> {
    let mut plots = Vec::new();
    for target in FaultTarget::ALL {
        let rows = rates(target);
        if !rows.is_empty() {
            plots.push((target, drawn(&rate_plot(axis, target, &rows))?));
        }
    }
    Ok(html! {
        div.multiples {
            @for (target, plot) in &plots { div { h4 { (target.name()) } (plot) } }
        }
    })
}

fn rate_plot(axis: &'static str, target: FaultTarget, rows: &[Rate]) -> Plot {
    let count = rows.iter().map(|row| row.at + 1).max().unwrap_or(1);
    let x = Axis::index(axis, count);
    let most = rows.iter().map(|row| row.high).max_by(f64::total_cmp).unwrap_or(1.0);
    let y = Axis::percent("", most);
    let radius = if count > 16 { RADIUS / 2 } else { RADIUS };
    let mut marks = Vec::new();
    for row in rows {
        let at = f64::from(row.at);
        if let (Some(low), Some(high)) = (y.place(row.low), y.place(row.high)) {
            marks.push(Mark::Whisker(at, low, high, Ink::Harm));
        }
        if let Some(rate) = row.rate.and_then(|rate| y.place(rate)) {
            marks.push(Mark::Dot((at, rate), Ink::Harm, radius));
        }
    }
    let label = format!("SDC rate of {} by {axis}", target.name());
    Plot { x, y, marks, size: SMALL, label }
}

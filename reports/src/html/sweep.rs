//! The plan of a campaign, and the plot of a sweep: what is left of the decisions at each bit error
//! rate.

use maud::{Markup, html};

use super::axis::Axis;
use super::charts::{Figure, WIDE, drawn};
use super::plot::{Ink, Mark, Plot, PlotError, RADIUS};
use super::rows;
use crate::model::{FaultTarget, Faults, MemoryCode, Stratum};
use crate::number::{Side, count, percent, plural};
use crate::story;

/// What a campaign came to, and what it was.
pub(super) fn lead(faults: &Faults) -> Markup {
    let sdc: u64 = faults.targets.iter().map(|row| row.sdc).sum();
    html! {
        p.lead {
            (count(sdc)) " of " (plural(faults.trials, "fault trial"))
            " changed a decision without a sign. "
            @if let Some(map) = &faults.exhaustive {
                "They are " (story::map(map)) ": shares are exact, not estimated."
            } @else {
                @match faults.flips {
                    0 => "Trials flip bits by the plan",
                    flips => { "Each trial flips " (plural(u64::from(flips), "bit")) }
                }
                "; intervals are exact at "
                (percent(faults.confidence, Side::Down)) " confidence."
            }
        }
    }
}

/// One plot for each target that was struck at two rates or more, and for each memory code that it
/// lies behind; and the plan in its own words.
pub(super) fn sweeps(faults: &Faults) -> Result<Markup, PlotError> {
    let mut figures = Vec::new();
    for target in FaultTarget::ALL {
        let swept = |row: &&Stratum| row.target == target && row.bit_error_rate.is_some();
        let mut codes: Vec<Option<Code>> = Vec::new();
        for row in faults.strata.iter().filter(swept) {
            if !codes.contains(&code(row)) {
                codes.push(code(row));
            }
        }
        for of in codes {
            let mut rows: Vec<Stratum> =
                faults.strata.iter().filter(swept).filter(|row| code(row) == of).cloned().collect();
            rows.sort_by(|a, b| {
                a.bit_error_rate.unwrap_or(0.0).total_cmp(&b.bit_error_rate.unwrap_or(0.0))
            });
            if rows.len() > 1 {
                let behind = of.map(|(code, bits)| format!(" behind {} ({bits})", code.name()));
                let name = format!("{}{}", target.name(), behind.unwrap_or_default());
                figures.push(sweep(&name, &rows)?);
            }
        }
    }
    Ok(html! {
        @for figure in figures { (figure) }
        @if let Some(plan) = &faults.plan {
            details { summary { "The plan, as faults run reads it" } pre { (plan) } }
        }
    })
}

/// A memory code and the data bits of its words.
type Code = (MemoryCode, u64);

fn code(row: &Stratum) -> Option<Code> {
    row.behind.map(|of| (of.code, of.word_bits))
}

/// A value with the ends of its interval, if a row has one.
type Value = fn(&Stratum) -> Option<[f64; 3]>;

/// The values of rows by their rates, each with its interval.
fn curves((x, y): (&Axis, &Axis), rows: &[Stratum], series: &[(Ink, Value)]) -> Vec<Mark> {
    let mut marks = Vec::new();
    for &(ink, value) in series {
        let mut line = Vec::new();
        for row in rows {
            let Some((rate, [value, low, high])) = row.bit_error_rate.zip(value(row)) else {
                continue;
            };
            let places = (x.place(rate), y.place(value), y.place(low), y.place(high));
            if let (Some(at), Some(value), Some(low), Some(high)) = places {
                marks.push(Mark::Whisker(at, low, high, ink));
                line.push((at, value));
            }
        }
        marks.extend(line.iter().map(|&at| Mark::Dot(at, ink, RADIUS)));
        if line.len() > 1 {
            marks.push(match ink {
                Ink::Certified => Mark::Line(line, ink),
                _ => Mark::Dashed(line, ink),
            });
        }
    }
    marks
}

fn sweep(name: &str, rows: &[Stratum]) -> Result<Markup, PlotError> {
    let rates = || rows.iter().filter_map(|row| row.bit_error_rate);
    let Some(x) = Axis::log("bit error rate", rates()) else { return Ok(html! {}) };
    let y = Axis::percent("", 1.0);
    let right: Value = |row| Some([row.accuracy?, row.accuracy_low, row.accuracy_high]);
    let changed: Value = |row| Some([row.sdc_rate?, row.sdc_rate_low, row.sdc_rate_high]);
    let marks = curves((&x, &y), rows, &[(Ink::Certified, right), (Ink::Harm, changed)]);
    let label = format!("Accuracy and silent corruption of {name} by bit error rate");
    let plot = Plot { x, y, marks, size: WIDE, label };
    let figure = Figure {
        title: &format!("What is left at each bit error rate of {name}?"),
        how: "Share of right decisions on labelled samples, and share of decisions that changed \
              without a sign, with their exact intervals. Every bit flips by itself at the rate.",
        keys: &[("line certified", "right"), ("dash harm", "changed (SDC)")],
        body: drawn(&plot)?,
        table: rows::strata(rows),
    };
    let perplexity = perplexity(name, rows)?;
    Ok(html! { (figure.render()) (perplexity) })
}

fn perplexity(name: &str, rows: &[Stratum]) -> Result<Markup, PlotError> {
    let factor: Value = |row| {
        let (low, high) = (row.perplexity_factor_capped_low, row.perplexity_factor_capped_high);
        Some([row.perplexity_factor_capped?, low?, high?])
    };
    let rates = rows.iter().filter_map(|row| row.bit_error_rate);
    let factors = rows.iter().filter_map(factor).flatten();
    let (Some(x), Some(y)) = (Axis::log("bit error rate", rates), Axis::log("", factors)) else {
        return Ok(html! {});
    };
    let marks = curves((&x, &y), rows, &[(Ink::Harm, factor)]);
    let label = format!("Growth of the perplexity by bit error rate of {name}");
    let plot = Plot { x, y, marks, size: WIDE, label };
    let figure = Figure {
        title: &format!(
            "By what factor does the perplexity grow with the bit error rate of {name}?"
        ),
        how: "Of the right decisions (of the clean ones where none is known), over trials that \
              were not detected, with intervals by Hoeffding's bound. A change counts as at most \
              8 nats.",
        keys: &[("dash harm", "perplexity, times")],
        body: drawn(&plot)?,
        table: rows::perplexities(rows),
    };
    Ok(figure.render())
}

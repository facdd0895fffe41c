//! The section of what holds with a confidence.

use maud::{Markup, html};

use super::axis::Axis;
use super::charts::{Figure, WIDE, drawn, stairs};
use super::plot::{Ink, Mark, Plot, PlotError};
use super::tables::Table;
use crate::chance::told;
use crate::model::{Report, Smoothed, SmoothedPoint, SmoothedSample, StatisticalSample};
use crate::number::{Side, count, number, percent};

/// Nothing, or what was found about the deployed engine or the smoothed classifier.
pub(super) fn section(report: &Report) -> Result<Markup, PlotError> {
    let curve = report.smoothed.as_ref().map(accuracy).transpose()?;
    Ok(html! {
        @for told in told(report) {
            section {
                h2 { (told.title) }
                p.lead { (told.about) }
                dl.facts {
                    @for (name, value) in &told.facts { div { dt { (name) } dd { (value) } } }
                }
                @if let Some(curve) = &curve { div.plots { (curve) } }
                h3 { "Sample by sample" }
                @if let Some(found) = &report.statistical {
                    (statistical(&found.samples).render())
                }
                @if let Some(found) = &report.smoothed { (smoothed(&found.samples).render()) }
            }
        }
    })
}

fn label(label: Option<u32>) -> Markup {
    html! { @match label { Some(label) => (label), None => "–" } }
}

fn statistical(samples: &[StatisticalSample]) -> Table {
    let columns =
        ["#sample", "#label", "#prediction", "#trials", "#changed", "#probability at most"];
    Table::of("Samples under uniform noise", &columns, samples, |sample| {
        vec![
            html! { (sample.index) },
            label(sample.label),
            html! { (sample.prediction) },
            html! { (count(sample.stat_trials)) },
            html! { (count(sample.stat_changed)) },
            html! { (number(sample.stat_change_probability_high, Side::Up)) },
        ]
    })
}

fn smoothed(samples: &[SmoothedSample]) -> Table {
    let columns = [
        "#sample",
        "#label",
        "#engine",
        "#smoothed",
        "#votes",
        "#trials",
        "#probability at least",
        "#radius",
    ];
    Table::of("Samples under the smoothed classifier", &columns, samples, |sample| {
        vec![
            html! { (sample.index) },
            label(sample.label),
            html! { (sample.prediction) },
            html! { @match sample.smoothed_prediction {
                Some(class) => (class), None => "abstains"
            } },
            html! { (count(sample.smoothed_votes)) },
            html! { (count(sample.smoothed_trials)) },
            html! { (percent(sample.smoothed_p_low, Side::Down)) },
            html! { (number(sample.smoothed_radius, Side::Down)) },
        ]
    })
}

/// Accuracy of the smoothed classifier against the radius.
fn accuracy(found: &Smoothed) -> Result<Markup, PlotError> {
    let curve = &found.curve;
    let most = curve.last().map_or(0.0, |point| point.radius);
    if curve.len() < 2 {
        return Ok(html! {});
    }
    let (x, y) = (Axis::linear("radius", 0.0, most), Axis::percent("", 1.0));
    let place =
        |point: &SmoothedPoint| Some((x.place(point.radius)?, y.place(point.smoothed_acc)?));
    let line: Vec<(f64, f64)> = curve.iter().filter_map(place).collect();
    let marks = vec![Mark::Line(stairs(&line, true), Ink::Certified)];
    let label = "Accuracy of the smoothed classifier against the Euclidean radius".to_owned();
    let columns = ["#radius", "#smoothed accuracy"];
    let table = Table::of("Smoothed accuracy by radius", &columns, curve, |point| {
        vec![
            html! { (number(point.radius, Side::Nearest)) },
            html! { (percent(point.smoothed_acc, Side::Down)) },
        ]
    });
    let figure = Figure {
        title: "How much accuracy does the smoothed classifier keep?",
        how: "Share that the smoothed classifier gets right on the whole Euclidean ball of each \
              radius, with the confidence above. It speaks of that classifier, not of the engine.",
        keys: &[("line certified", "smoothed")],
        body: drawn(&Plot { x, y, marks, size: WIDE, label })?,
        table,
    };
    Ok(figure.render())
}

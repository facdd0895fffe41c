//! How far answers move with the input, and what makes affine forms wide.

use maud::{Markup, html};

use super::tables::{Table, near, text};
use crate::model::{Certification, FormsGrowth, Layer, LipschitzBound};
use crate::number::{Side, count, number, optional, percent, plural};
use crate::story;

/// What forms say, if they were tried.
pub(super) fn forms(found: &Certification) -> Markup {
    let Some(forms) = &found.growth_of_forms else { return html! {} };
    html! {
        h3 { "What makes the bounds of forms wide" }
        p {
            "Affine forms on " (plural(forms.samples, "sample")) ", of each the set with the least \
            margin. Forms keep where their width was made: by the input itself, by rounding to \
            codes, or by what is not linear."
        }
        @if forms.margins > 0 { (sources(forms).render()) }
        (steps(forms).render())
    }
}

fn sources(forms: &FormsGrowth) -> Table {
    let columns = ["made at", "by", "#share of the worst margin’s radius"];
    Table::of("What the uncertainty of the margin is made of", &columns, &forms.sources, |source| {
        vec![
            text(&story::source_place(source)),
            text(story::source_kind(source.kind)),
            html! { (percent(source.share, Side::Nearest)) },
        ]
    })
}

fn steps(forms: &FormsGrowth) -> Table {
    let columns = ["step", "#median width", "#symbols"];
    Table::of("Width of forms by step", &columns, &forms.steps, |step| {
        vec![
            text(&story::step(step.layer, &step.step)),
            near(Some(step.width_median)),
            html! { (count(step.symbols_median as u64)) },
        ]
    })
}

/// How far streams and margins move.
pub(super) fn lipschitz(found: &Certification) -> Markup {
    html! {
        @if let Some(sentence) = story::margin_lipschitz(found) { p { (sentence) } }
        (layers(&found.layers).render())
    }
}

fn layers(layers: &[Layer]) -> Table {
    let columns = [
        "#layer",
        "#bound",
        "#slack",
        "by",
        "#attention: bound",
        "#slack of attention",
        "attention by",
        "#feed-forward: bound",
        "#slack of feed-forward",
        "feed-forward by",
    ];
    let part = |of: Option<LipschitzBound>| {
        vec![
            html! { (optional(of.map(|of| of.bound), Side::Up)) },
            html! { (optional(of.map(|of| of.slack), Side::Up)) },
            html! { (of.map_or("–", |of| story::method(of.method))) },
        ]
    };
    Table::of("How far the stream may move with the stream before", &columns, layers, |layer| {
        let whole = (layer.lipschitz_bound.zip(layer.lipschitz_slack).zip(layer.lipschitz_method))
            .map(|((bound, slack), method)| LipschitzBound { bound, slack, method });
        let parts = [whole, layer.attention_lipschitz, layer.ffn_lipschitz];
        let mut cells = vec![html! { (number(f64::from(layer.index), Side::Nearest)) }];
        cells.extend(parts.into_iter().flat_map(part));
        cells
    })
}

//! Tables of methods: which decided, what each found, what it cost; and verdicts at each epsilon.

use maud::html;

use super::tables::{Table, down, maybe, near, share, text};
use crate::model::{EpsilonRow, MethodCost, MethodSummary, MethodTry, Sample};
use crate::number::{Side, count, optional, percent, seconds};
use crate::story;

/// Verdicts at every epsilon that was asked for.
pub(super) fn epsilons(rows: &[EpsilonRow]) -> Table {
    let columns = [
        "#epsilon",
        "#absolute, median",
        "#certified",
        "#falsified",
        "#unknown",
        "#certified accuracy",
        "#accuracy left by the attack",
    ];
    Table::of("Verdicts by epsilon", &columns, rows, |row| {
        vec![
            text(&row.epsilon),
            near(Some(row.epsilon_absolute_median)),
            html! { (count(row.certified)) },
            html! { (count(row.falsified)) },
            html! { (count(row.unknown)) },
            html! { (percent(row.cert_acc, Side::Down)) },
            share(row.attacked_acc),
        ]
    })
}

/// Every method over all samples.
pub(super) fn methods(rows: &[MethodSummary]) -> Table {
    let columns = ["method", "#tried", "#decided", "#median certified radius"];
    Table::of("Methods", &columns, rows, |row| {
        vec![
            html! { (story::method(row.method)) },
            html! { (count(row.tried)) },
            html! { (count(row.decided)) },
            html! { (optional(row.median_certified_radius, Side::Down)) },
        ]
    })
}

/// What each method found on each sample.
pub(super) fn tries(samples: &[Sample]) -> Table {
    let rows: Vec<(&Sample, &MethodTry)> =
        samples.iter().flat_map(|s| s.methods.iter().map(move |of| (s, of))).collect();
    let columns = [
        "#sample",
        "method",
        "proven",
        "#sets tried",
        "#margin at least",
        "#certified radius",
        "grew most at",
        "#by a factor of",
        "lost at",
    ];
    Table::of("Methods by sample", &columns, &rows, |(sample, of)| {
        let radius = sample.radius_by_method.iter().find(|radius| radius.method == of.method);
        let grown = of.grown_at.as_ref();
        vec![
            html! { (sample.index) },
            html! { (story::method(of.method)) },
            html! { @if of.proven { "yes" } @else { "no" } },
            html! { (count(of.sets)) },
            html! { (optional(of.margin_lower_bound, Side::Down)) },
            maybe(radius.map(|radius| down(radius.certified_radius))),
            maybe(grown.map(|at| story::step(at.layer, &at.step))),
            near(grown.map(|at| at.factor)),
            maybe(of.lost_at.as_ref().map(|at| story::step(at.layer, &at.step))),
        ]
    })
}

/// What each method took.
pub(super) fn costs(rows: &[MethodCost]) -> Table {
    let columns = ["method", "#samples", "#median time", "#largest time"];
    Table::of("Time of methods on a sample", &columns, rows, |row| {
        vec![
            html! { (story::method(row.method)) },
            html! { (count(row.samples)) },
            html! { (seconds(row.seconds_median)) },
            html! { (seconds(row.seconds_max)) },
        ]
    })
}

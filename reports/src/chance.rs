//! What holds with a confidence: its metrics, and the facts that every face tells in these words.

use crate::escape::shown;
use crate::model::{Method, Report, Smoothed, Statistical};
use crate::number::{Side, count, number, percent, plural};
use crate::story;

/// Names of metrics.
pub(crate) const METRICS: [&str; 6] = [
    "stat_acc",
    "stat_change_probability_high",
    "smoothed_acc",
    "smoothed_clean_acc",
    "smoothed_radius_median",
    "smoothed_abstained_share",
];

/// The metric of that name; bounds of what is random are their own pessimistic end.
pub(crate) fn metric(report: &Report, name: &str) -> Option<f64> {
    let engine = report.statistical.as_ref().filter(|found| !found.samples.is_empty());
    let smoothed = report.smoothed.as_ref().filter(|found| !found.samples.is_empty());
    match name {
        "clean_acc" => engine?.clean_acc,
        "stat_acc" => engine?.stat_acc,
        "stat_change_probability_high" => Some(engine?.stat_change_probability_high),
        "smoothed_acc" => smoothed?.smoothed_acc,
        "smoothed_clean_acc" => smoothed?.smoothed_clean_acc,
        "smoothed_radius_median" => Some(smoothed?.smoothed_radius_median),
        "smoothed_abstained_share" => {
            let found = smoothed?;
            Some(found.smoothed_abstained as f64 / found.samples.len() as f64)
        }
        _ => None,
    }
}

/// Whether a method draws at random, and so leaves `certification` out.
pub(crate) fn draws(method: Method) -> bool {
    matches!(method, Method::Statistical | Method::Smoothing)
}

/// A title, a sentence that names the classifier, and facts.
pub(crate) struct Told {
    pub(crate) title: &'static str,
    pub(crate) about: String,
    pub(crate) facts: Vec<(&'static str, String)>,
}

/// What there is to tell.
pub(crate) fn told(report: &Report) -> Vec<Told> {
    let engine = report.statistical.as_ref().map(statistical);
    engine.into_iter().chain(report.smoothed.as_ref().map(smoothed)).collect()
}

fn share(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| percent(value, Side::Down))
}

/// The layer that the moved stream enters, where it is not the first.
fn entering(layer: u32) -> String {
    if layer == 0 { String::new() } else { format!(", entering layer {layer}") }
}

fn confidence(confidence: f64, statements: u64) -> String {
    format!(
        "{} for all {} together",
        percent(confidence, Side::Down),
        plural(statements, "statement")
    )
}

fn statistical(found: &Statistical) -> Told {
    let (scope, layer) = (story::scope(&found.scope), entering(found.entering_layer));
    let mut facts = vec![
        ("noise", shown(&found.noise)),
        ("moving", format!("{scope}{layer}")),
        ("confidence", confidence(found.confidence, found.statements)),
        ("trials a statement", count(found.stat_trials)),
    ];
    if found.labelled > 0 {
        let what = format!(
            "{} (right, and a change has a probability of at most {})",
            share(found.stat_acc),
            number(found.stat_threshold, Side::Up)
        );
        facts.push(("clean accuracy", share(found.clean_acc)));
        facts.push(("statistical accuracy", what));
    }
    let high = format!(
        "at most {} in any sample (median {}); {} seen",
        number(found.stat_change_probability_high, Side::Up),
        number(found.stat_change_probability_high_median, Side::Up),
        plural(found.stat_changed, "change")
    );
    facts.push(("probability of a change", high));
    Told { title: "What is unlikely", about: shown(&found.classifier), facts }
}

fn smoothed(found: &Smoothed) -> Told {
    let (scope, layer) = (story::scope(&found.scope), entering(found.entering_layer));
    let mut facts = vec![
        ("noise", shown(&found.noise)),
        ("moving", format!("{scope}{layer}")),
        ("confidence", confidence(found.confidence, found.statements)),
        ("trials a statement", count(found.smoothed_trials)),
    ];
    if found.labelled > 0 {
        let asked = format!(
            "{} (right within {} {})",
            share(found.smoothed_acc),
            story::norm(found.norm),
            shown(&found.epsilon)
        );
        facts.push(("smoothed accuracy", share(found.smoothed_clean_acc)));
        facts.push(("smoothed accuracy in ball", asked));
    }
    let samples = plural(found.samples.len() as u64, "sample");
    facts.push(("abstained", format!("{} of {samples}", count(found.smoothed_abstained))));
    let radius = format!(
        "median {}, largest {}, Euclidean",
        number(found.smoothed_radius_median, Side::Down),
        number(found.smoothed_radius_largest, Side::Down)
    );
    facts.push(("smoothed radius", radius));
    Told { title: "What a smoothed classifier keeps", about: shown(&found.classifier), facts }
}

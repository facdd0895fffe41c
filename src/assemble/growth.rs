//! Where bounds grow, and where they are lost.

use std::collections::BTreeMap;

use engine::model::NormSlot;
use engine::model::Slot;
use engine::walk::{Site, Step};
use reports::model as out;
use reports::model::finite;

use super::{largest, median, number};
use crate::analyze::SampleLayers;

/// The name of a step in reports.
pub(super) fn step_name(step: Step) -> &'static str {
    match step {
        Step::Norm(NormSlot::Input) => "input_norm",
        Step::Norm(NormSlot::AttentionSub) => "attn_sub_norm",
        Step::Norm(NormSlot::Query) => "q_norm",
        Step::Norm(NormSlot::Key) => "k_norm",
        Step::Norm(NormSlot::Post) => "ffn_norm",
        Step::Norm(NormSlot::FfnSub) => "ffn_sub_norm",
        Step::Norm(NormSlot::Inside(_)) => "inner_norm",
        Step::Norm(NormSlot::Final) => "final_norm",
        Step::Prepare(_) | Step::PrepareHead => "codes",
        Step::Linear(Slot::Q) | Step::Rope(Slot::Q) => "q",
        Step::Linear(Slot::K) | Step::Rope(_) => "k",
        Step::Linear(Slot::V) => "v",
        Step::Linear(Slot::O) => "attn_out",
        Step::Linear(Slot::Gate) => "gate_proj",
        Step::Linear(Slot::Up) => "up_proj",
        Step::Linear(Slot::Down) => "down",
        Step::Store => "kv_store",
        Step::Attend => "attention",
        Step::Gate => "gate",
        Step::AddAttention => "attn_add",
        Step::AddFfn => "ffn_add",
        Step::Logits => "logits",
    }
}

/// The place of a step in the order of the walk.
pub(super) fn order(step: Step) -> usize {
    let slot = |slot: Slot| slot as usize;
    match step {
        Step::Norm(NormSlot::Input) => 0,
        Step::Linear(s @ (Slot::Q | Slot::K | Slot::V)) => 1 + slot(s),
        Step::Norm(NormSlot::Query) => 4,
        Step::Norm(NormSlot::Key) => 5,
        Step::Rope(s) => 6 + slot(s),
        Step::Store => 8,
        Step::Attend => 9,
        Step::Norm(NormSlot::AttentionSub) => 10,
        Step::Linear(Slot::O) => 11,
        Step::AddAttention => 12,
        Step::Norm(NormSlot::Post) => 13,
        Step::Linear(Slot::Gate) => 14,
        Step::Linear(Slot::Up) => 15,
        Step::Gate => 16,
        Step::Norm(NormSlot::FfnSub) => 17,
        Step::Linear(Slot::Down) => 18,
        Step::AddFfn => 19,
        Step::Norm(NormSlot::Final) => 20,
        Step::Logits => 21,
        Step::Norm(NormSlot::Inside(_)) | Step::Prepare(_) | Step::PrepareHead => 22,
    }
}

/// Widths behind every step, over all samples that are known.
pub(super) fn growth(found: &[Option<SampleLayers>]) -> Vec<out::Growth> {
    let known: Vec<&SampleLayers> = found.iter().flatten().collect();
    let layers = known.iter().map(|sample| sample.radii.len()).max().unwrap_or(0);
    /// A site with the median and the largest widths of the samples.
    type Widths = (Site, Vec<f64>, Vec<f64>);
    let mut steps: BTreeMap<(usize, usize), Widths> = BTreeMap::new();
    for sample in &known {
        for width in &sample.growth {
            let site = width.site;
            if matches!(site.step, Step::Rope(_) | Step::Norm(NormSlot::Inside(_))) {
                continue;
            }
            let entry = steps
                .entry((site.layer, order(site.step)))
                .or_insert_with(|| (site, Vec::new(), Vec::new()));
            entry.1.push(f64::from(width.median));
            entry.2.push(f64::from(width.most));
        }
    }
    let reached = |site: &Site, count: usize| {
        count < known.len() || known.iter().any(|s| s.diverged.is_some_and(|d| d.site == *site))
    };
    steps
        .into_values()
        .map(|(site, medians, widest)| {
            let diverged = reached(&site, medians.len());
            let layer = (site.layer < layers).then(|| number(site.layer));
            let step = step_name(site.step).to_owned();
            let width_median = median(medians).and_then(finite);
            let width_max = largest(widest.into_iter()).and_then(finite);
            out::Growth { layer, step, width_median, width_max, diverged }
        })
        .collect()
}

/// The first layer behind which fewer than half of the samples can still be certified: the box that
/// leaves it is wider than the certified ball of the layer behind.
pub(super) fn first_lost(
    from: usize,
    epsilon: f64,
    found: &[Option<SampleLayers>],
) -> Option<out::FirstLost> {
    let known: Vec<&SampleLayers> = found.iter().flatten().collect();
    let layers = known.first()?.radii.len();
    let holds = |width: Option<f64>, radius: f64| {
        width.is_some_and(|width| width / 2.0 <= radius * (1.0 + 1e-6))
    };
    let majority = |layer: usize| {
        let entering = |s: &&&SampleLayers| match layer == from {
            true => s.radii[from] >= epsilon,
            false => holds(s.widths[layer], s.radii[layer]),
        };
        2 * known.iter().filter(entering).count() >= known.len()
    };
    if majority(from) {
        return None;
    }
    // The box that enters the first of these layers is the ball itself: the bound is lost in the
    // first layer behind which the box no longer fits, or in the last.
    let lost =
        (from + 1..layers).find(|&layer| !majority(layer)).map_or(layers - 1, |layer| layer - 1);
    let wide = median(known.iter().filter_map(|s| s.widths[lost + 1]).collect());
    let behind = (lost + 1 < layers)
        .then(|| median(known.iter().map(|s| s.radii[lost + 1]).collect()))
        .flatten();
    let why = match (wide, behind) {
        (None, _) => "the bounds are no longer finite".into(),
        (Some(wide), Some(radius)) => format!(
            "the bounds that leave it reach +-{:.2e}, the layers behind hold for +-{radius:.2e}",
            wide / 2.0
        ),
        (Some(wide), None) => format!("the bounds that leave it reach +-{:.2e}", wide / 2.0),
    };
    Some(out::FirstLost { layer: Some(number(lost)), step: worst_step(lost, &known), why })
}

/// The step of a layer at which the median width grows most against the step before it.
fn worst_step(layer: usize, known: &[&SampleLayers]) -> String {
    let mut best = ("input_norm", 0.0);
    for sample in known {
        let widths = sample.growth.iter().filter(|width| width.site.layer == layer);
        let mut before: Option<f32> = None;
        for width in widths {
            if let Some(before) = before.filter(|&before| before > 0.0) {
                let factor = f64::from(width.most / before);
                if factor > best.1 {
                    best = (step_name(width.site.step), factor);
                }
            }
            before = Some(width.most);
        }
    }
    best.0.to_owned()
}

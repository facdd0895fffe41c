//! Rungs in the words of the contract: which decided, what each found, and what it cost.

use certify::interval::Diverged;
use certify::ladder::{Growth, Rung};
use engine::model::NormSlot;
use engine::walk::{Site, Step};
use reports::model as out;
use reports::model::finite;

use super::growth::step_name;
use super::{largest, median, number};
use crate::analyze::{AtEpsilon, Certified, Tried};
use crate::plan::Plan;

/// The word for a rung.
pub(super) fn word(rung: Rung) -> out::Method {
    match rung {
        Rung::Interval => out::Method::IntervalBoundPropagation,
        Rung::Affine => out::Method::Zonotope,
    }
}

/// What each rung found on a sample.
pub(super) fn tries(at: &AtEpsilon) -> Vec<out::MethodTry> {
    at.tried.iter().map(one).collect()
}

fn one(tried: &Tried) -> out::MethodTry {
    out::MethodTry {
        method: word(tried.rung),
        proven: tried.proven,
        sets: tried.sets as u64,
        symbols: tried.symbols.map(|symbols| symbols as u64),
        order_reduced: tried.reduced,
        margin_lower_bound: tried.margin,
        grown_at: grown(&tried.growth),
        lost_at: tried.diverged.map(lost),
    }
}

/// Where a bound was lost.
pub(super) fn lost(diverged: Diverged) -> out::StepAt {
    let (layer, step) = place(diverged.site);
    out::StepAt { layer, step }
}

pub(super) fn place(site: Site) -> (Option<u32>, String) {
    let readout = matches!(site.step, Step::Logits | Step::Norm(NormSlot::Final));
    ((!readout).then(|| number(site.layer)), step_name(site.step).to_owned())
}

/// What a width behind closed gates may be: the engine's errors below its normal range.
const NEARLY_NOTHING: f64 = 1e-30;

/// The step behind which the largest width is the largest multiple of that before it.
///
/// Sums with the stream are passed over: they are wider than what is added to it, and not because a
/// bound was loose. So is what comes behind a step where nearly nothing moves: closed gates.
fn grown(growth: &[Growth]) -> Option<out::GrownAt> {
    let mut worst: Option<(f64, Site)> = None;
    for pair in growth.windows(2) {
        let (before, width) = (&pair[0], &pair[1]);
        let sum = matches!(width.site.step, Step::AddAttention | Step::AddFfn);
        let factor = width.width / before.width;
        let moved = before.width > NEARLY_NOTHING;
        if !sum && moved && factor.is_finite() && worst.is_none_or(|(most, _)| factor > most) {
            worst = Some((factor, width.site));
        }
    }
    worst.map(|(factor, site)| {
        let (layer, step) = place(site);
        out::GrownAt { layer, step, factor }
    })
}

/// Every rung of the ladder over all samples.
pub(super) fn summaries(plan: &Plan, samples: &[out::Sample]) -> Vec<out::MethodSummary> {
    let summary = |&rung: &Rung| {
        let method = word(rung);
        let tried = samples.iter().filter(|s| s.methods.iter().any(|of| of.method == method));
        let radii = samples.iter().flat_map(|sample| &sample.radius_by_method);
        let radii = radii.filter(|of| of.method == method).map(|of| of.certified_radius);
        out::MethodSummary {
            method,
            tried: tried.count() as u64,
            decided: samples.iter().filter(|s| s.decided_by == Some(method)).count() as u64,
            median_certified_radius: median(radii.collect()),
        }
    };
    plan.ladder.rungs().iter().map(summary).collect()
}

/// What each rung took at the first epsilon, over all samples.
pub(crate) fn costs(found: Option<&Certified>) -> Vec<out::MethodCost> {
    let verdicts = found.into_iter().flat_map(|found| found.verdicts.iter().flatten());
    let first: Vec<&AtEpsilon> = verdicts.filter_map(|all| all.first()).collect();
    let mut rungs: Vec<Rung> =
        first.iter().flat_map(|at| at.tried.iter().map(|tried| tried.rung)).collect();
    rungs.sort_unstable();
    rungs.dedup();
    let cost = |rung: Rung| {
        let tried = first.iter().flat_map(|at| &at.tried).filter(|tried| tried.rung == rung);
        let seconds: Vec<f64> = tried.map(|tried| tried.seconds).collect();
        out::MethodCost {
            method: word(rung),
            samples: seconds.len() as u64,
            seconds_max: largest(seconds.iter().copied()).and_then(finite).unwrap_or(0.0),
            seconds_median: median(seconds).unwrap_or(0.0),
        }
    };
    rungs.into_iter().map(cost).collect()
}

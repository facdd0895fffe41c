//! What made affine forms wide: step by step, and by what the worst margin's radius consists of.

use std::collections::BTreeMap;

use certify::affine::{Kind, Share};
use certify::ladder::{Growth, Rung};
use engine::model::Slot;
use engine::walk::Step;
use reports::model as out;

use super::growth::{order, step_name};
use super::ladder::place;
use super::median;
use crate::analyze::{Certified, Tried};

/// Growth of forms at the first epsilon, over the samples on which they were tried.
pub(super) fn forms_growth(found: &Certified) -> Option<out::FormsGrowth> {
    let first = found.verdicts.iter().flatten().filter_map(|all| all.first());
    let tried: Vec<&Tried> =
        first.filter_map(|at| at.tried.iter().find(|of| of.rung == Rung::Affine)).collect();
    if tried.is_empty() {
        return None;
    }
    let bounded: Vec<&[Share]> =
        tried.iter().map(|of| &of.sources[..]).filter(|all| total(all) > 0.0).collect();
    Some(out::FormsGrowth {
        samples: tried.len() as u64,
        steps: steps(&tried),
        margins: bounded.len() as u64,
        sources: sources(&bounded),
    })
}

fn total(shares: &[Share]) -> f64 {
    let sum: f64 = shares.iter().map(|share| share.radius).sum();
    if sum.is_finite() { sum } else { 0.0 }
}

fn steps(tried: &[&Tried]) -> Vec<out::FormsStep> {
    let mut all: BTreeMap<(usize, usize), Vec<Growth>> = BTreeMap::new();
    for &of in tried.iter().flat_map(|tried| &tried.growth) {
        if !matches!(of.site.step, Step::Linear(Slot::Q | Slot::K)) {
            all.entry((of.site.layer, order(of.site.step))).or_default().push(of);
        }
    }
    let step = |of: Vec<Growth>| {
        let (layer, step) = place(of[0].site);
        let finite = of.iter().map(|of| of.width).filter(|width| width.is_finite());
        Some(out::FormsStep {
            layer,
            step,
            width_median: median(finite.collect())?,
            symbols_median: median(
                of.iter().filter_map(|of| of.symbols).map(|n| n as f64).collect(),
            )?,
        })
    };
    all.into_values().filter_map(step).collect()
}

/// The mean over the samples of each part's share of its radius, largest first.
fn sources(bounded: &[&[Share]]) -> Vec<out::MarginSource> {
    let mut sources: Vec<out::MarginSource> = Vec::new();
    for shares in bounded {
        let whole = total(shares) * bounded.len() as f64;
        for of in *shares {
            let layer = of.site.map(|site| super::number(site.layer));
            let step = of.site.map(|site| made_at(site.step).to_owned());
            let (kind, share) = (kind(of.kind), of.radius / whole);
            let same =
                |s: &&mut out::MarginSource| (s.layer, &s.step, s.kind) == (layer, &step, kind);
            match sources.iter_mut().find(same) {
                Some(source) => source.share += share,
                None => sources.push(out::MarginSource { layer, step, kind, share }),
            }
        }
    }
    sources.iter_mut().for_each(|source| source.share = source.share.clamp(0.0, 1.0));
    sources.sort_by(|a, b| b.share.total_cmp(&a.share));
    sources
}

fn kind(kind: Kind) -> out::SourceKind {
    match kind {
        Kind::Input => out::SourceKind::Input,
        Kind::Rounding => out::SourceKind::Rounding,
        Kind::Remainder => out::SourceKind::Remainder,
    }
}

/// The name of a step at which symbols were made: codes by the layers that read them.
fn made_at(step: Step) -> &'static str {
    match step {
        Step::Prepare(Slot::Q | Slot::K | Slot::V) => "qkv_codes",
        Step::Prepare(Slot::O) => "attn_out_codes",
        Step::Prepare(Slot::Gate | Slot::Up) => "gate_up_codes",
        Step::Prepare(Slot::Down) => "down_codes",
        Step::PrepareHead => "head_codes",
        other => step_name(other),
    }
}

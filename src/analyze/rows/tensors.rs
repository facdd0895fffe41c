//! Rows of any tensor, whole tensors and whole layers: which are tried, and what is proven.

use certify::interval::Margin;
use certify::ladder::Rung;
use engine::model::Slot;
use ndarray::Array2;
use rayon::prelude::*;

use super::flips::LEVELS;
use super::proof::{ProvenRow, Prover, bisected};
use super::strike::{Bits, SHARED, Strike};
use super::{Level, PASSES, pass_cost, possible};
use crate::analyze::context::Context;
use crate::analyze::faults::trials;

/// Operations that proofs about rows of other tensors than the down projections may take, for each
/// trial of the campaign beside them, and at most.
const OTHERS_BUDGET: (u64, u64) = (125_000, 1_000_000_000);
/// The same of proofs about whole tensors and layers.
const FLIPS_BUDGET: (u64, u64) = (1_000_000, 8_000_000_000);
/// Rows of each other tensor at most.
const MOST_OTHERS: usize = 4;

/// By which rung each number of shared flips is proven.
pub(super) type ByShared = [Option<Rung>; SHARED.len()];

/// Rows of a tensor that are tried.
pub(super) struct RowTarget {
    pub(super) layer: usize,
    pub(super) slot: Slot,
    /// How many there are.
    pub(super) all: usize,
    pub(super) rows: Vec<usize>,
}

/// A tensor or a layer, and whether it is tried.
#[derive(Clone, Copy)]
pub(super) struct FlipTarget {
    pub(super) layer: usize,
    /// `None` = all tensors of the layer.
    pub(super) slot: Option<Slot>,
    /// Whether there are flips whose effect can be bounded.
    possible: bool,
    pub(super) tried: bool,
}

impl FlipTarget {
    fn slots(&self) -> &[Slot] {
        self.slot.as_ref().map_or(&Slot::ALL, std::slice::from_ref)
    }
}

/// What is proven about flips anywhere in a tensor or a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerFlips {
    /// The layer.
    pub layer: usize,
    /// The tensor; `None` = all tensors of the layer together.
    pub slot: Option<Slot>,
    /// Whether there are flips whose effect can be bounded.
    pub possible: bool,
    /// Samples that were tried.
    pub samples: u64,
    /// Under each number of flips, the samples proven by each rung.
    pub proven: Vec<Level>,
}

impl LayerFlips {
    pub(super) fn untried(target: &FlipTarget) -> Self {
        let FlipTarget { layer, slot, possible, .. } = *target;
        let level = |flips| Level { flips: Some(flips), ..Level::default() };
        Self { layer, slot, possible, samples: 0, proven: SHARED.map(level).to_vec() }
    }

    pub(super) fn merge(&mut self, by: Option<ByShared>) {
        let Some(by) = by else { return };
        self.samples += 1;
        self.proven.iter_mut().zip(by).for_each(|(level, by)| level.count(by));
    }
}

/// Who asks for few trials does not wait long for proofs either.
fn budget(context: &Context, (each, most): (u64, u64)) -> u64 {
    trials(context).saturating_mul(each).min(most)
}

/// The rows of other tensors that are tried, evenly spread; those of the output projections first.
pub(super) fn others(context: &Context, prover: &Prover, samples: usize) -> Vec<RowTarget> {
    let layers = context.deployed.model.layers.len();
    let mut left = budget(context, OTHERS_BUDGET) / (samples as u64 * PASSES);
    let mut targets = Vec::new();
    for slot in [Slot::O, Slot::V, Slot::K, Slot::Q, Slot::Gate, Slot::Up] {
        for layer in (0..layers).rev() {
            let all = possible(prover, layer, slot);
            let cost = pass_cost(context, prover, layers - layer, 1);
            let afforded = usize::try_from(left / cost).unwrap_or(MOST_OTHERS);
            let tried = all.min(MOST_OTHERS).min(afforded);
            left -= tried as u64 * cost;
            let rows = (0..tried).map(|index| index * all / tried).collect();
            targets.push(RowTarget { layer, slot, all, rows });
        }
    }
    targets.sort_by_key(|target| (target.layer, target.slot as usize));
    targets
}

/// The tensors and layers that are tried, what writes into the stream first.
pub(super) fn targets(context: &Context, prover: &Prover, samples: usize) -> Vec<FlipTarget> {
    let layers = context.deployed.model.layers.len();
    let mut left = budget(context, FLIPS_BUDGET) / (samples as u64 * PASSES);
    let mut targets = Vec::new();
    let whole = [Some(Slot::Down), Some(Slot::O), None];
    let inner = [Slot::V, Slot::K, Slot::Q, Slot::Gate, Slot::Up].map(Some);
    for slot in whole.into_iter().chain(inner) {
        for layer in (0..layers).rev() {
            let mut target = FlipTarget { layer, slot, possible: false, tried: false };
            target.possible = target.slots().iter().all(|&slot| prover.speaks_of(layer, slot));
            let rows = target.slots().iter().map(|&slot| prover.rows_of(layer, slot)).sum();
            let cost = pass_cost(context, prover, layers - layer, rows);
            target.tried = target.possible && cost <= left;
            left -= if target.tried { cost } else { 0 };
            targets.push(target);
        }
    }
    let place = |slot: Option<Slot>| slot.map_or(Slot::ALL.len(), |slot| slot as usize);
    targets.sort_by_key(|target| (target.layer, place(target.slot)));
    targets
}

impl Prover<'_> {
    /// Rows of other tensors.
    pub(super) fn others<'s>(
        &self,
        targets: &[RowTarget],
        stream: &(impl Fn(usize) -> &'s Array2<f32> + Sync),
        claim: &Margin,
    ) -> Vec<Vec<ProvenRow>> {
        let row = |target: &RowTarget, row: usize| {
            let RowTarget { layer, slot, .. } = *target;
            let by: [_; LEVELS.len()] = bisected(|level| {
                let strike = Strike { layer, slots: &[slot], bits: Bits::Row(row, level) };
                self.struck(strike, stream(layer), claim)
            });
            ProvenRow { row, by }
        };
        let rows = |target: &RowTarget| target.rows.iter().map(|&of| row(target, of)).collect();
        if self.parallel {
            targets.par_iter().map(rows).collect()
        } else {
            targets.iter().map(rows).collect()
        }
    }

    /// Whole tensors and layers; `None` for what is not tried.
    pub(super) fn flips<'s>(
        &self,
        targets: &[FlipTarget],
        stream: &(impl Fn(usize) -> &'s Array2<f32> + Sync),
        claim: &Margin,
    ) -> Vec<Option<ByShared>> {
        let one = |target: &FlipTarget| {
            target.tried.then(|| {
                bisected(|level| {
                    let bits = Bits::Any(SHARED[level]);
                    let strike = Strike { layer: target.layer, slots: target.slots(), bits };
                    self.struck(strike, stream(target.layer), claim)
                })
            })
        };
        if self.parallel {
            targets.par_iter().map(one).collect()
        } else {
            targets.iter().map(one).collect()
        }
    }
}

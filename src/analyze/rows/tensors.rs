//! Rows of any tensor: which are tried, and what is proven.

use certify::interval::Margin;
use engine::model::Slot;
use ndarray::Array2;
use rayon::prelude::*;

use super::flips::LEVELS;
use super::proof::{ProvenRow, Prover, bisected};
use super::strike::{Bits, Strike};
use super::{PASSES, pass_cost, possible, tokens};
use crate::analyze::context::Context;
use crate::analyze::faults::trials;

/// Operations that proofs about rows of other tensors than the down projections may take, for each
/// trial of the campaign beside them, and at most.
const OTHERS_BUDGET: (u64, u64) = (125_000, 1_000_000_000);
/// Rows of each other tensor at most.
const MOST_OTHERS: usize = 4;

/// Rows of a tensor that are tried.
pub(super) struct RowTarget {
    pub(super) layer: usize,
    pub(super) slot: Slot,
    /// How many there are.
    pub(super) all: usize,
    pub(super) rows: Vec<usize>,
}

/// Who asks for few trials does not wait long for proofs either.
pub(super) fn budget(context: &Context, (each, most): (u64, u64)) -> u64 {
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
            let cost = pass_cost(prover, tokens(context), layers - layer, 1);
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

impl Prover<'_> {
    /// Rows of other tensors.
    pub(super) fn others(
        &self,
        targets: &[RowTarget],
        streams: &[Array2<f32>],
        claim: &Margin,
    ) -> Vec<Vec<ProvenRow>> {
        let row = |target: &RowTarget, row: usize| {
            let RowTarget { layer, slot, .. } = *target;
            let by: [_; LEVELS.len()] = bisected(|level| {
                let slots = [slot];
                let strike = Strike::in_layer(layer, &slots, Bits::Row(row, level));
                self.struck(strike, &streams[layer], claim)
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
}

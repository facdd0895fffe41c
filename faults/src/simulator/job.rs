//! A fault as the simulator runs it: weights that change by small integers.

use engine::model::{Model, Slot, Weights};
use engine::packing::weight_of;

use crate::address::Address;
use crate::fault::{Fault, UnusedCode};
use crate::overlay::flipped;

/// A weight that changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Change {
    pub(super) layer: usize,
    pub(super) slot: Slot,
    pub(super) row: usize,
    pub(super) column: usize,
    /// The new weight less the old one; never 0.
    pub(super) delta: i32,
}

/// The weights that change in one trial, in the order of the walk.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) changes: Vec<Change>,
}

impl Job {
    /// The job of a fault; `None` where it strikes anything else than codes of weights that move
    /// alone, under the scale of their tensor.
    pub(super) fn new(model: &Model, fault: &Fault, unused: UnusedCode) -> Option<Self> {
        let mut changes = Vec::with_capacity(fault.flips().len());
        let mut flips = fault.flips().peekable();
        while let Some(&flip) = flips.next() {
            let Address::Code { layer, slot, row, column, bit } = flip else { return None };
            let weights = &model.layers[layer].linear(slot).weights;
            let Weights::Ternary { rows, .. } = weights else { return None };
            if !weights.moves_alone(row, column) {
                return None;
            }
            let mut mask = 1u8 << bit;
            // Both bits of one code lie behind one another in the order of addresses.
            if let Some(&&Address::Code { layer: l, slot: s, row: r, column: c, bit }) =
                flips.peek()
                && (l, s, r, c) == (layer, slot, row, column)
            {
                mask |= 1 << bit;
                flips.next();
            }
            let before = rows.code(row, column);
            let delta = weight_of(flipped(before, mask, unused)) - weight_of(before);
            if delta != 0 {
                changes.push(Change { layer, slot, row, column, delta });
            }
        }
        Some(Self { changes })
    }

    /// The changes of a linear layer, output by output.
    pub(super) fn at(&self, layer: usize, slot: Slot) -> impl Iterator<Item = &[Change]> {
        let from = self.changes.partition_point(|c| (c.layer, c.slot) < (layer, slot));
        let to = self.changes.partition_point(|c| (c.layer, c.slot) <= (layer, slot));
        self.changes[from..to].chunk_by(|a, b| a.row == b.row)
    }

    /// The first layer that changes.
    pub(super) fn first_layer(&self) -> usize {
        self.changes[0].layer
    }

    /// The last one.
    pub(super) fn last_layer(&self) -> usize {
        self.changes[self.changes.len() - 1].layer
    }

    /// The only linear layer and output that change, if it is one.
    pub(super) fn only_output(&self) -> Option<(usize, Slot, usize)> {
        let site = |change: &Change| (change.layer, change.slot, change.row);
        let first = site(self.changes.first()?);
        self.changes.iter().all(|change| site(change) == first).then_some(first)
    }
}

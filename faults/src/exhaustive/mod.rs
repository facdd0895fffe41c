//! Every single-bit fault of every packed weight, decided: the whole map, not an estimate.
//!
//! The work is cut into rows of a tensor on a sample ([`Sweep`]); what a row came to is a
//! [`RowEntry`], which a journal keeps; a [`FaultMap`] is what all of them come to. A [`Ranking`]
//! needs what every bit did, so its journal keeps rows in [`Strip`]s, which are run the same way.
//!
//! Invariants: an entry depends on the row and the sample alone, for faults that share an effect
//! lie in one row; the map is summed in the order of the rows. So neither threads nor lots nor
//! shards nor interruptions change it.

mod entry;
mod pieces;
mod plan;
mod rank;
mod strip;
mod sweep;

use engine::model::Slot;

pub use entry::{RowEntry, Shifts};
pub use plan::MapPlan;
pub use rank::{BitEffect, Ranking};
pub use strip::Strip;
pub use sweep::{Place, Prover, Sweep, SweepError, swept_bits};

use crate::outcome::Outcome;
use crate::simulator::Counts;

/// Outcomes of some faults, one for each pair of a bit and a sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    /// Those whose decision did not change, the identical ones included.
    pub masked: u64,
    /// Those whose logits are all the same, bit for bit.
    pub identical: u64,
    /// Those whose decision changed.
    pub sdc: u64,
    /// Those that were detected.
    pub due: u64,
}

/// Outcomes by bit of the code, low before high, and by the value that the bit had, 0 before 1.
pub type Cells = [[Cell; 2]; 2];

impl Cell {
    /// All faults.
    #[must_use]
    pub fn faults(&self) -> u64 {
        self.masked + self.sdc + self.due
    }

    /// Adds the outcomes of others.
    pub fn add(&mut self, other: &Self) {
        self.masked += other.masked;
        self.identical += other.identical;
        self.sdc += other.sdc;
        self.due += other.due;
    }

    /// The sum of some.
    #[must_use]
    pub fn total<'a>(cells: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut total = Self::default();
        cells.into_iter().for_each(|cell| total.add(cell));
        total
    }

    fn count(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Masked { identical } => {
                self.masked += 1;
                self.identical += u64::from(identical);
            }
            Outcome::Sdc => self.sdc += 1,
            Outcome::Due(_) => self.due += 1,
        }
    }
}

/// What the faults of one packed tensor come to.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorMap {
    /// The block.
    pub layer: usize,
    /// The linear layer in it.
    pub slot: Slot,
    /// Inputs, so faults of one row, bit and sample.
    pub columns: usize,
    /// For each row (output), the outcomes.
    pub rows: Vec<Cells>,
    /// Faults that changed the best token at some position, where all positions are read.
    pub token_changes: u64,
    /// How the faults were decided.
    pub counts: Counts,
    /// By how much the read-out moved.
    pub shifts: Shifts,
}

impl TensorMap {
    /// The outcomes of the whole tensor.
    #[must_use]
    pub fn total(&self) -> Cell {
        Cell::total(self.rows.iter().flatten().flatten())
    }

    /// The outcomes by bit and by the value it had.
    #[must_use]
    pub fn by_bit(&self) -> Cells {
        let mut sum = Cells::default();
        for row in &self.rows {
            for (cells, more) in sum.iter_mut().flatten().zip(row.iter().flatten()) {
                cells.add(more);
            }
        }
        sum
    }
}

/// The outcomes of single-bit faults of packed weights.
#[derive(Clone, Debug, PartialEq)]
pub struct FaultMap {
    /// By layer and linear layer, in the order of the walk; ternary tensors only.
    pub tensors: Vec<TensorMap>,
}

impl FaultMap {
    /// What some rows come to; those that are missing count nothing.
    ///
    /// # Panics
    /// If a row is not one of the sweep.
    #[must_use]
    pub fn of(sweep: &Sweep, entries: &[RowEntry]) -> Self {
        let tensor = |(layer, slot, rows, columns): (usize, Slot, usize, usize)| TensorMap {
            layer,
            slot,
            columns,
            rows: vec![Cells::default(); rows],
            token_changes: 0,
            counts: Counts::default(),
            shifts: Shifts::default(),
        };
        let mut map = Self { tensors: sweep.tensors().map(tensor).collect() };
        for entry in entries {
            let Place { tensor, row, .. } = sweep.place(entry.number);
            let tensor = &mut map.tensors[tensor];
            let cells = tensor.rows[row].iter_mut().flatten();
            cells.zip(entry.cells.iter().flatten()).for_each(|(cell, more)| cell.add(more));
            tensor.token_changes += entry.token_changes;
            tensor.counts.add(&entry.counts);
            tensor.shifts.add(&entry.shifts);
        }
        map
    }

    /// The outcomes of all tensors.
    #[must_use]
    pub fn total(&self) -> Cell {
        let mut total = Cell::default();
        self.tensors.iter().for_each(|tensor| total.add(&tensor.total()));
        total
    }

    /// How all faults were decided.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        self.tensors.iter().for_each(|tensor| counts.add(&tensor.counts));
        counts
    }
}

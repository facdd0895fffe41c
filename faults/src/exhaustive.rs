//! Every single-bit fault of every packed weight, decided: the whole map, not an estimate.
//!
//! One sample after the other, so that the clean steps of only one are held; within a sample, lots
//! of rows in parallel. Invariants: the map is a sum of integers over lots whose bounds depend on
//! the shape alone, so no thread changes it; a stopped run has whole samples only.

use std::sync::atomic::{AtomicU64, Ordering};

use engine::kernels::Kernels;
use engine::model::{KvKind, Model, Slot, Weights};
use engine::walk::Read;
use rayon::prelude::*;

use crate::address::Address;
use crate::fault::{Fault, UnusedCode};
use crate::golden::{Golden, Sample, SampleError};
use crate::outcome::Outcome;
use crate::simulator::{Counts, Shortcuts, Simulator};

/// Faults of a lot: enough that trials share products, few enough that lots are even.
const LOT: usize = 4096;

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

/// The outcomes of one packed tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorMap {
    /// The block.
    pub layer: usize,
    /// The linear layer in it.
    pub slot: Slot,
    /// Inputs, so faults of one row, bit and sample.
    pub columns: usize,
    /// For each row (output), the outcomes of the low and of the high bits of its codes.
    pub rows: Vec<[Cell; 2]>,
}

impl TensorMap {
    /// The outcomes of the whole tensor.
    #[must_use]
    pub fn total(&self) -> Cell {
        let mut total = Cell::default();
        self.rows.iter().flatten().for_each(|cell| total.add(cell));
        total
    }
}

/// The outcomes of all single-bit faults of packed weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultMap {
    /// By layer and linear layer, in the order of the walk; ternary tensors only.
    pub tensors: Vec<TensorMap>,
    /// The samples decided: all of them, or the first so many of a stopped run.
    pub samples: usize,
    /// How the faults were decided.
    pub counts: Counts,
}

impl FaultMap {
    /// The outcomes of all tensors.
    #[must_use]
    pub fn total(&self) -> Cell {
        let mut total = Cell::default();
        self.tensors.iter().for_each(|tensor| total.add(&tensor.total()));
        total
    }
}

/// Some rows of a tensor.
#[derive(Clone, Copy, Debug)]
struct Lot {
    tensor: usize,
    first: usize,
    rows: usize,
}

/// Decides every single-bit fault of the packed weights of a model under some samples.
///
/// `progress` is told how many pairs of a bit and a sample are decided, and of how many; `stop` is
/// asked before each lot.
///
/// # Errors
/// The number of the first sample that cannot be run, and why.
pub fn exhaust(
    model: &Model,
    kernels: &'static Kernels,
    (kv, read, unused): (KvKind, Read, UnusedCode),
    samples: &[Sample],
    progress: &(dyn Fn(u64, u64) + Sync),
    stop: &(dyn Fn() -> bool + Sync),
) -> Result<FaultMap, (usize, SampleError)> {
    let mut map = FaultMap { tensors: tensors(model), samples: 0, counts: Counts::default() };
    let lots = lots(&map.tensors);
    let bits: u64 = map.tensors.iter().map(|t| 2 * (t.rows.len() * t.columns) as u64).sum();
    let (all, done) = (bits * samples.len() as u64, AtomicU64::new(0));
    for (index, sample) in samples.iter().enumerate() {
        let golden = Golden::new(model, kernels, kv, read, sample.clone());
        let golden = golden.map_err(|error| (index, error))?;
        let first = Simulator::new(model, kernels, &golden, Shortcuts::ALL);
        let run = |simulator: &mut Simulator, lot: &Lot| {
            if stop() {
                return None;
            }
            let tensor = &map.tensors[lot.tensor];
            let before = simulator.counts();
            let cells = decide(simulator, tensor, lot, unused);
            let decided = 2 * (lot.rows * tensor.columns) as u64;
            progress(done.fetch_add(decided, Ordering::Relaxed) + decided, all);
            Some((cells, simulator.counts().since(&before)))
        };
        let found: Vec<_> = lots.par_iter().map_init(|| first.twin(), run).collect();
        let Some(found) = found.into_iter().collect::<Option<Vec<_>>>() else { break };
        for (lot, (cells, counts)) in lots.iter().zip(found) {
            let rows = &mut map.tensors[lot.tensor].rows[lot.first..];
            for (row, cells) in rows.iter_mut().zip(cells) {
                row.iter_mut().zip(&cells).for_each(|(cell, more)| cell.add(more));
            }
            map.counts.add(&counts);
        }
        map.samples += 1;
    }
    Ok(map)
}

/// The ternary tensors of a model, with nothing counted.
fn tensors(model: &Model) -> Vec<TensorMap> {
    let mut tensors = Vec::new();
    for (layer, block) in model.layers.iter().enumerate() {
        for slot in Slot::ALL {
            if let Weights::Ternary { rows, .. } = &block.linear(slot).weights {
                let columns = rows.columns();
                let rows = vec![[Cell::default(); 2]; rows.rows()];
                tensors.push(TensorMap { layer, slot, columns, rows });
            }
        }
    }
    tensors
}

fn lots(tensors: &[TensorMap]) -> Vec<Lot> {
    let mut lots = Vec::new();
    for (tensor, map) in tensors.iter().enumerate() {
        let rows = (LOT / (2 * map.columns)).max(1);
        for first in (0..map.rows.len()).step_by(rows) {
            lots.push(Lot { tensor, first, rows: rows.min(map.rows.len() - first) });
        }
    }
    lots
}

/// The outcomes of the faults of some rows.
fn decide(
    simulator: &mut Simulator,
    tensor: &TensorMap,
    lot: &Lot,
    unused: UnusedCode,
) -> Vec<[Cell; 2]> {
    let (layer, slot) = (tensor.layer, tensor.slot);
    let mut faults = Vec::with_capacity(2 * lot.rows * tensor.columns);
    for row in lot.first..lot.first + lot.rows {
        for column in 0..tensor.columns {
            for bit in 0..2 {
                faults.push(Fault::single(Address::Code { layer, slot, row, column, bit }));
            }
        }
    }
    let trials = simulator.run(&faults, unused);
    let row = |trials: &[crate::trial::Trial]| {
        let mut cells = [Cell::default(); 2];
        for (index, trial) in trials.iter().enumerate() {
            cells[index % 2].count(trial.outcome);
        }
        cells
    };
    trials.chunks_exact(2 * tensor.columns).map(row).collect()
}

//! Running the rows of a map: one sample after the other, so that the clean steps of only one are
//! held; within a sample, lots of rows in parallel.

use std::collections::HashSet;
use std::ops::Range;

use engine::kernels::Kernels;
use engine::model::{Model, Slot, Weights};
use engine::packing::TernaryRows;
use rayon::prelude::*;

use super::entry::RowEntry;
use super::pieces::{Cut, Known, Piece};
use super::plan::{MapPlan, others};
use crate::address::Address;
use crate::exists::has_codes;
use crate::fault::Fault;
use crate::golden::{Golden, Sample, SampleError};
use crate::journal::{self, JournalError, Shard, Writer};
use crate::simulator::Simulator;
use crate::space::{Space, Target, Tensor};

/// The most faults of a lot: enough that trials share products, few enough that lots are even.
pub(super) const LOT: usize = 4096;

/// Why a map cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SweepError {
    /// There is no bit where faults were asked for.
    #[error(
        "there are no such bits there, expected layers and tensors of the model that have some"
    )]
    Nothing,
    /// Some weights there have other codes, which a map would leave out.
    #[error(
        "a map is of codes of two bits under one scale, and {tensor} has others; expected layers \
         and tensors without such"
    )]
    Others {
        /// The first tensor of them.
        tensor: String,
    },
    /// The plan names what the model does not have.
    #[error("the model has no {what}")]
    Nowhere {
        /// What.
        what: String,
    },
    /// There are fewer samples than the plan asks for.
    #[error("{got} samples, the plan is for the first {expected}")]
    Samples {
        /// How many there are.
        got: usize,
        /// How many are needed.
        expected: u64,
    },
    /// A sample cannot be run.
    #[error("sample {sample}: {source}")]
    Sample {
        /// Its number.
        sample: usize,
        /// Why not.
        source: SampleError,
    },
    /// There are too many bits to put them in order.
    #[error("{got} bits to put in order, expected less than 2^32: fewer layers or tensors")]
    Bits {
        /// How many.
        got: u64,
    },
    /// The journal cannot be written any more.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// Whoever knows of faults that they are masked.
pub trait Prover: Sync {
    /// Of each bit of a row (layer, linear layer and row), column by column and the low bit first,
    /// whether its flip provably keeps the decision of a sample.
    fn masked(&self, sample: usize, row: (usize, Slot, usize)) -> Vec<bool>;
}

/// A row of the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The sample.
    pub sample: usize,
    /// The tensor, by its number among those of the sweep.
    pub tensor: usize,
    /// The row of it.
    pub row: usize,
}

/// A tensor of a sweep.
#[derive(Clone, Debug)]
pub(super) enum Swept<'a> {
    /// Codes of two bits under one scale.
    Codes { layer: usize, slot: Slot, rows: &'a TernaryRows },
    /// What else is stored, of a target: these numbers, one row of bits.
    Others { target: Target, numbers: Range<u64> },
}

impl Swept<'_> {
    pub(super) fn rows(&self) -> usize {
        match self {
            Self::Codes { rows, .. } => rows.rows(),
            Self::Others { .. } => 1,
        }
    }

    pub(super) fn row_bits(&self) -> usize {
        match self {
            Self::Codes { rows, .. } => 2 * rows.columns(),
            Self::Others { numbers, .. } => (numbers.end - numbers.start) as usize,
        }
    }

    pub(super) fn bits(&self) -> usize {
        self.rows() * self.row_bits()
    }

    /// A bit of a row.
    pub(super) fn address(&self, space: &Space, row: usize, bit: usize) -> Address {
        match *self {
            Self::Codes { layer, slot, .. } => {
                let (column, bit) = (bit / 2, (bit % 2) as u8);
                Address::Code { layer, slot, row, column, bit }
            }
            Self::Others { target, ref numbers } => {
                space.address(target, 0, numbers.start + bit as u64)
            }
        }
    }

    /// Layer, place in it and codes, of a tensor of a map.
    fn codes(&self) -> (usize, Slot, &TernaryRows) {
        match *self {
            Self::Codes { layer, slot, rows } => (layer, slot, rows),
            Self::Others { .. } => unreachable!("a map is of codes of two bits"),
        }
    }
}

/// A map that is ready to be made.
#[derive(Debug)]
pub struct Sweep<'a> {
    pub(super) model: &'a Model,
    pub(super) kernels: &'static Kernels,
    plan: MapPlan,
    pub(super) samples: Vec<Sample>,
    pub(super) tensors: Vec<Swept<'a>>,
    pub(super) space: Space,
    /// Its rows.
    rows: Cut,
}

impl<'a> Sweep<'a> {
    /// Checks the plan, and that every sample can be run.
    ///
    /// # Errors
    /// What is wrong with the plan, or the first sample that cannot be run.
    pub fn new(
        model: &'a Model,
        kernels: &'static Kernels,
        plan: MapPlan,
        samples: &[Sample],
    ) -> Result<Self, SweepError> {
        let (got, expected) = (samples.len(), plan.samples);
        let first = usize::try_from(expected).ok().filter(|count| (1..=got).contains(count));
        let samples = samples[..first.ok_or(SweepError::Samples { got, expected })?].to_vec();
        let space = Space::new(model, plan.kv);
        if let Some(what) = nowhere(model, &space, &plan) {
            return Err(SweepError::Nowhere { what });
        }
        if let Some(tensor) = others(model, &plan.within).filter(|_| plan.ranked.is_none()) {
            return Err(SweepError::Others { tensor });
        }
        let tensors = swept(model, &space, &plan);
        let rows = Cut::new(&tensors, RowEntry::of_row);
        if rows.all() == 0 {
            return Err(SweepError::Nothing);
        }
        let sweep = Self { model, kernels, plan, samples, tensors, space, rows };
        let clean = (0..sweep.samples.len()).into_par_iter().map(|sample| sweep.clean(sample));
        // Collected first, so that the first refusal is the first by number.
        let clean: Vec<_> = clean.map(|golden| golden.map(|_| ())).collect();
        clean.into_iter().collect::<Result<(), _>>()?;
        Ok(sweep)
    }

    /// The plan.
    #[must_use]
    pub fn plan(&self) -> &MapPlan {
        &self.plan
    }

    /// Layer, place in it, rows and columns of each tensor, in the order of the walk.
    ///
    /// # Panics
    /// Of a ranking of other bits than codes.
    pub fn tensors(&self) -> impl Iterator<Item = (usize, Slot, usize, usize)> {
        let codes = self.tensors.iter().map(Swept::codes);
        codes.map(|(layer, slot, rows)| (layer, slot, rows.rows(), rows.columns()))
    }

    /// Rows of the map, over all samples.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows.all() * self.samples.len() as u64
    }

    /// Rows of a shard.
    #[must_use]
    pub fn rows_of(&self, shard: Shard) -> u64 {
        shard.share_of(self.rows())
    }

    /// The bits that are flipped on each sample.
    #[must_use]
    pub fn bits(&self) -> u64 {
        self.tensors.iter().map(|of| of.bits() as u64).sum()
    }

    /// The samples.
    #[must_use]
    pub fn samples(&self) -> usize {
        self.samples.len()
    }

    /// Which row has a number: samples follow one another, in each the tensors, in each its rows.
    ///
    /// # Panics
    /// Unless the number is below [`Self::rows`].
    #[must_use]
    pub fn place(&self, number: u64) -> Place {
        assert!(number < self.rows(), "{number} is no row of the map");
        self.rows.place(number).0
    }

    /// Checks entries that were read from a journal: whether their rows have these faults.
    ///
    /// # Errors
    /// The first entry that is of no row of this map.
    pub fn check(&self, entries: &[RowEntry]) -> Result<(), JournalError> {
        let wrong = entries.iter().find(|entry| {
            if entry.number >= self.rows() {
                return true;
            }
            let Place { tensor, row, .. } = self.place(entry.number);
            let mut faults = [[0; 2]; 2];
            for code in self.tensors[tensor].codes().2.row(row) {
                for (bit, faults) in faults.iter_mut().enumerate() {
                    faults[usize::from(code >> bit & 1)] += 1;
                }
            }
            entry.cells.map(|cells| cells.map(|cell| cell.faults())) != faults
        });
        let why = "it is of no row of the model";
        wrong.map_or(Ok(()), |&RowEntry { number: index, .. }| {
            Err(JournalError::Contradicts { path: "a journal".into(), index, why })
        })
    }

    /// Runs the rows of a shard that are not there yet, in parallel, and gives all of them in the
    /// order of their numbers; of a run that was stopped, those that are there.
    ///
    /// Rows go to the journal, if there is one, as soon as their lot has ended; `progress` sees
    /// them then. `stop` is asked before each lot.
    ///
    /// # Errors
    /// If the journal cannot be written any more.
    pub fn run(
        &self,
        shard: Shard,
        present: Vec<RowEntry>,
        prover: Option<&dyn Prover>,
        mut journal: Option<&mut Writer>,
        progress: &(dyn Fn(&[RowEntry]) + Sync),
        stop: &(dyn Fn() -> bool + Sync),
    ) -> Result<Vec<RowEntry>, SweepError> {
        let mut all = present.clone();
        let mut there = present.iter().map(|entry| entry.number).peekable();
        let mut size = LOT / 8;
        for sample in 0..self.samples.len() {
            let missing = self.rows.missing(sample, shard, &mut there);
            if missing.is_empty() || stop() {
                continue;
            }
            let into = (journal.as_deref_mut(), &mut size);
            let known = (sample, prover.filter(|_| self.plan.prove));
            all.extend(self.fill(&self.rows, known, &missing, into, progress, stop)?);
        }
        journal.map_or(Ok(()), Writer::finish)?;
        Ok(journal::merged(all)?)
    }

    /// The clean run of a sample.
    ///
    /// # Errors
    /// If it cannot be run.
    pub(super) fn clean(&self, sample: usize) -> Result<Golden, SweepError> {
        let plan = self.plan();
        let input = self.samples[sample].clone();
        Golden::new(self.model, self.kernels, plan.kv, plan.positions, input)
            .map_err(|source| SweepError::Sample { sample, source })
    }
}

impl Piece for RowEntry {
    fn of_row(_bits: usize) -> usize {
        1
    }

    fn faults(&self) -> u64 {
        self.counts.faults
    }

    fn decide(
        sweep: &Sweep,
        cut: &Cut,
        simulator: &mut Simulator,
        (sample, prover): Known,
        lot: &[u64],
    ) -> Vec<Self> {
        let place = |number| cut.place(number).0;
        let (layer, slot, rows) = sweep.tensors[place(lot[0]).tensor].codes();
        let columns = rows.columns();
        let mut faults = Vec::with_capacity(2 * lot.len() * columns);
        let mut masked = HashSet::new();
        for &number in lot {
            let row = place(number).row;
            let known = prover.map_or(Vec::new(), |of| of.masked(sample, (layer, slot, row)));
            let bits = known.iter().enumerate().filter(|(_, known)| **known);
            masked.extend(bits.map(|(bit, _)| (row, bit / 2, (bit % 2) as u8)));
            for column in 0..columns {
                for bit in 0..2 {
                    faults.push(Fault::single(Address::Code { layer, slot, row, column, bit }));
                }
            }
        }
        let proven = |fault: &Fault| match fault.flips().next() {
            Some(&Address::Code { row, column, bit, .. }) => masked.contains(&(row, column, bit)),
            _ => false,
        };
        let told = simulator.told(&faults, sweep.plan.unused, proven);
        let entry =
            |(&number, told): (&u64, _)| Self::of(number, &rows.row(place(number).row), told);
        lot.iter().zip(told.chunks_exact(2 * columns)).map(entry).collect()
    }
}

/// The bits that a plan flips on each sample.
#[must_use]
pub fn swept_bits(model: &Model, plan: &MapPlan) -> u64 {
    let tensors = swept(model, &Space::new(model, plan.kv), plan);
    tensors.iter().map(|of| of.bits() as u64).sum()
}

/// The tensors of a plan: target by target, each in the order of its numbers.
fn swept<'a>(model: &'a Model, space: &Space, plan: &MapPlan) -> Vec<Swept<'a>> {
    let mut tensors = Vec::new();
    for &target in plan.targets() {
        for tensor in space.tensors(target, 0).into_iter().filter(|of| plan.within.has_tensor(of)) {
            match packed(model, target, &tensor) {
                Some(codes) => tensors.push(codes),
                None if plan.ranked.is_none() => {}
                None => tensors.push(Swept::Others { target, numbers: tensor.numbers }),
            }
        }
    }
    tensors
}

/// A tensor as one of codes of two bits under one scale, if it is.
fn packed<'a>(model: &'a Model, target: Target, tensor: &Tensor) -> Option<Swept<'a>> {
    let slot = Slot::ALL.into_iter().find(|slot| slot.name() == tensor.name)?;
    let layer = tensor.layer.filter(|_| target == Target::WeightCode)?;
    let weights = &model.layers[layer].linear(slot).weights;
    match weights {
        Weights::Ternary { rows, .. } if has_codes(weights) => {
            Some(Swept::Codes { layer, slot, rows })
        }
        _ => None,
    }
}

/// What a plan names and the model does not have, if anything.
fn nowhere(model: &Model, space: &Space, plan: &MapPlan) -> Option<String> {
    let layers = plan.within.layers.iter().flatten();
    let layer = layers.copied().find(|&layer| layer >= model.layers.len());
    let stored = || plan.targets().iter().flat_map(|&target| space.tensors(target, 0));
    let known = |name: &str| {
        Slot::ALL.iter().any(|slot| slot.name() == name) || stored().any(|of| of.name == name)
    };
    let tensor = plan.within.tensors.iter().flatten().find(|name| !known(name));
    layer.map(|layer| format!("layer {layer}")).or(tensor.map(|name| format!("tensor {name:?}")))
}

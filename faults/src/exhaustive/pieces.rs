//! The pieces of a sweep that a journal keeps: cut, numbered, and run, whatever they hold.
//!
//! Pieces are numbered sample by sample, tensor by tensor, row by row. Invariant: what a piece
//! holds depends on its bits and the sample alone, so neither threads nor lots nor shards nor
//! interruptions change it.

use std::iter::Peekable;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use rayon::prelude::*;

use super::sweep::{LOT, Place, Prover, Sweep, SweepError, Swept};
use crate::journal::{Kept, Shard, Writer};
use crate::runner::BATCH;
use crate::simulator::{Shortcuts, Simulator};

/// A sample, and who knows faults on it that are masked.
pub(super) type Known<'a> = (usize, Option<&'a dyn Prover>);

/// What every flip of some bits of one row does on one sample.
pub(super) trait Piece: Kept {
    /// Into how many pieces a row of so many bits is cut.
    fn of_row(bits: usize) -> usize;

    /// Its faults.
    fn faults(&self) -> u64;

    /// What the faults of some pieces of one tensor do, in their order.
    fn decide(
        sweep: &Sweep,
        cut: &Cut,
        simulator: &mut Simulator,
        known: Known,
        lot: &[u64],
    ) -> Vec<Self>;
}

/// How the rows of some tensors are cut into pieces.
#[derive(Clone, Debug)]
pub(super) struct Cut {
    /// Of each tensor: pieces of those before it, and pieces of a row.
    tensors: Vec<(u64, usize)>,
    /// Pieces of all of them, on one sample.
    all: u64,
}

impl Cut {
    pub(super) fn new(tensors: &[Swept], of_row: fn(usize) -> usize) -> Self {
        let mut all = 0;
        let one = |of: &Swept| {
            let (before, pieces) = (all, of_row(of.row_bits()));
            all += (of.rows() * pieces) as u64;
            (before, pieces)
        };
        let tensors = tensors.iter().map(one).collect();
        Self { tensors, all }
    }

    /// Pieces of one sample.
    pub(super) fn all(&self) -> u64 {
        self.all
    }

    /// The row of a piece, and which of its pieces it is.
    pub(super) fn place(&self, number: u64) -> (Place, usize) {
        let within = number % self.all;
        let tensor = self.tensors.partition_point(|(before, _)| *before <= within) - 1;
        let (before, pieces) = self.tensors[tensor];
        let within = (within - before) as usize;
        let sample = (number / self.all) as usize;
        (Place { sample, tensor, row: within / pieces }, within % pieces)
    }

    /// The pieces of a shard on a sample that are not there; what is there is in order, and read up
    /// to the end of the sample.
    pub(super) fn missing(
        &self,
        sample: usize,
        shard: Shard,
        there: &mut Peekable<impl Iterator<Item = u64>>,
    ) -> Vec<u64> {
        let numbers = sample as u64 * self.all..(sample as u64 + 1) * self.all;
        let numbers = numbers.filter(|&number| shard.has_round(number));
        let missing = numbers.filter(|number| {
            while there.next_if(|present| present < number).is_some() {}
            there.peek() != Some(number)
        });
        missing.collect()
    }
}

impl Sweep<'_> {
    /// Runs pieces of one sample, in parallel. They go to the journal, if there is one, as soon as
    /// their lot has ended; `progress` sees them then. `stop` is asked before each lot.
    pub(super) fn fill<P: Piece>(
        &self,
        cut: &Cut,
        known: Known,
        missing: &[u64],
        (journal, size): (Option<&mut Writer>, &mut usize),
        progress: &(dyn Fn(&[P]) + Sync),
        stop: &(dyn Fn() -> bool + Sync),
    ) -> Result<Vec<P>, SweepError> {
        let golden = self.clean(known.0)?;
        let first = Simulator::new(self.model, self.kernels, &golden, Shortcuts::ALL);
        let fits = AtomicUsize::new(*size);
        let mut rest = missing;
        let next = || {
            let lot = self.lot::<P>(cut, rest, fits.load(Ordering::Relaxed));
            rest = &rest[lot.len()..];
            (!lot.is_empty()).then_some(lot)
        };
        let shared = Mutex::new((journal, Vec::new(), None));
        let failed = || shared.lock().expect("no holder panics").2.is_some();
        let run = |simulator: &mut Simulator, lot: &[u64]| {
            if stop() || failed() {
                return;
            }
            let begun = Instant::now();
            let entries = P::decide(self, cut, simulator, known, lot);
            let faults: u64 = entries.iter().map(Piece::faults).sum();
            // Which pieces make a lot changes nothing but how much a killed process loses.
            let each = begun.elapsed().as_nanos() / u128::from(faults.max(1));
            let fit = (BATCH.as_nanos() / each.max(1)).min(2 * u128::from(faults)) as usize;
            fits.store(fit.clamp(1, LOT), Ordering::Relaxed);
            let mut shared = shared.lock().expect("no holder panics");
            let (journal, fresh, error) = &mut *shared;
            match journal.as_mut().map_or(Ok(()), |journal| journal.append(&entries)) {
                Ok(()) => {
                    progress(&entries);
                    fresh.extend(entries);
                }
                Err(problem) => *error = Some(problem),
            }
        };
        let lots = std::iter::from_fn(next).par_bridge();
        lots.for_each_init(|| first.twin(), |simulator, lot| run(simulator, lot));
        let (_, fresh, error) = shared.into_inner().expect("no holder panics");
        *size = fits.into_inner();
        error.map_or(Ok(fresh), |error| Err(error.into()))
    }

    /// The first pieces of some that are of one tensor, up to so many faults, or one piece.
    fn lot<'n, P: Piece>(&self, cut: &Cut, pieces: &'n [u64], faults: usize) -> &'n [u64] {
        let Some(&first) = pieces.first() else { return &[] };
        let tensor = |number| cut.place(number).0.tensor;
        let own = tensor(first);
        let bits = self.tensors[own].row_bits();
        let each = bits.div_ceil(P::of_row(bits));
        let most = (faults / each).max(1);
        let same = pieces.iter().take(most).take_while(|&&number| tensor(number) == own);
        &pieces[..same.count()]
    }
}

//! Every bit of packed weights in the order of what its flip does, worst first.
//!
//! Invariant: what is kept of a bit are counts and maxima over samples, so neither threads nor the
//! order of samples change it; equal bits stay in the order of their numbers.

use std::cmp::Ordering;

use rayon::prelude::*;

use super::sweep::{LOT, Sweep, SweepError, Swept};
use crate::address::Address;
use crate::fault::Fault;
use crate::golden::Golden;
use crate::outcome::Outcome;
use crate::simulator::{Shortcuts, Simulator};
use crate::trial::Trial;

/// What the flip of one bit does, over all samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BitEffect {
    /// Samples whose decision changed.
    pub sdc: u32,
    /// Samples in which it was detected.
    pub due: u32,
    /// The sample with the largest loss of margin, or the first with another decision.
    pub sample: u32,
    /// The largest loss of margin, in logits, over the samples in which it was not detected.
    pub margin_loss: f64,
    /// The largest change of a logit at a read-out, likewise.
    pub logit_change: f64,
}

impl BitEffect {
    const NONE: Self = Self {
        sdc: 0,
        due: 0,
        sample: 0,
        margin_loss: f64::NEG_INFINITY,
        logit_change: f64::NEG_INFINITY,
    };

    fn count(&mut self, sample: u32, trial: &Trial) {
        match trial.outcome {
            Outcome::Masked { .. } => {}
            Outcome::Sdc => {
                if self.sdc == 0 {
                    self.sample = sample;
                }
                self.sdc += 1;
            }
            Outcome::Due(_) => self.due += 1,
        }
        let Some(shift) = trial.shift else { return };
        if shift.margin_loss > self.margin_loss {
            self.margin_loss = shift.margin_loss;
            if self.sdc == 0 {
                self.sample = sample;
            }
        }
        if shift.max_logit_change > self.logit_change {
            self.logit_change = shift.max_logit_change;
        }
    }

    /// `Less` where this one is worse: more decisions changed, then more detected, then the larger
    /// loss of margin, then the larger change of a logit.
    fn worse(&self, other: &Self) -> Ordering {
        (other.sdc.cmp(&self.sdc))
            .then(other.due.cmp(&self.due))
            .then(other.margin_loss.total_cmp(&self.margin_loss))
            .then(other.logit_change.total_cmp(&self.logit_change))
    }
}

/// The effects of every bit of a sweep.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranking {
    /// By number: tensors in the order of the walk, their rows, columns and bits.
    effects: Vec<BitEffect>,
    /// The numbers, worst first.
    order: Vec<u32>,
}

impl Ranking {
    /// How many bits there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// The bit of a rank, from 0 for the worst, and what its flip does.
    ///
    /// # Panics
    /// Unless there are so many bits.
    #[must_use]
    pub fn at(&self, sweep: &Sweep, rank: usize) -> (Address, BitEffect) {
        let mut number = self.order[rank] as usize;
        let effect = self.effects[number];
        for of in &sweep.tensors {
            let (layer, slot, columns) = (of.layer, of.slot, of.rows.columns());
            let bits = of.bits();
            if number < bits {
                let (place, bit) = (number / 2, (number % 2) as u8);
                let (row, column) = (place / columns, place % columns);
                return (Address::Code { layer, slot, row, column, bit }, effect);
            }
            number -= bits;
        }
        unreachable!("a number of the sweep");
    }
}

/// Rows of a tensor, and what is known of their bits.
struct Lot<'s, 'e> {
    of: Swept<'s>,
    first: usize,
    effects: &'e mut [BitEffect],
}

impl Sweep<'_> {
    /// Flips every bit on every sample, and orders the bits by what that does. `progress` is told
    /// of faults as they are decided; `None` if `stop`, asked before each lot, said so.
    ///
    /// # Errors
    /// If there are more bits than can be ordered, or a sample cannot be run.
    pub fn rank(
        &self,
        progress: &(dyn Fn(u64, u64) + Sync),
        stop: &(dyn Fn() -> bool + Sync),
    ) -> Result<Option<Ranking>, SweepError> {
        let bits = u32::try_from(self.bits()).map_err(|_| SweepError::Bits { got: self.bits() })?;
        let mut effects = vec![BitEffect::NONE; bits as usize];
        for sample in 0..self.samples() {
            let golden = self.clean(sample)?;
            let lots = self.lots(&mut effects);
            let first = Simulator::new(self.model, self.kernels, &golden, Shortcuts::ALL);
            let run = |simulator: &mut Simulator, lot: Lot| -> Option<()> {
                (!stop()).then(|| self.effects(simulator, sample as u32, lot, progress))
            };
            let done = lots.into_par_iter().map_init(|| first.twin(), run);
            if done.collect::<Option<Vec<()>>>().is_none() {
                return Ok(None);
            }
        }
        let mut order: Vec<u32> = (0..bits).collect();
        order.par_sort_unstable_by(|&a, &b| {
            effects[a as usize].worse(&effects[b as usize]).then(a.cmp(&b))
        });
        Ok(Some(Ranking { effects, order }))
    }

    /// The bits cut into rows that are run together.
    fn lots<'s, 'e>(&'s self, effects: &'e mut [BitEffect]) -> Vec<Lot<'s, 'e>> {
        let (mut lots, mut rest) = (Vec::new(), effects);
        for of in &self.tensors {
            let (now, later) = rest.split_at_mut(of.bits());
            rest = later;
            let columns = of.rows.columns();
            let rows = (LOT / (2 * columns)).max(1);
            for (index, effects) in now.chunks_mut(2 * columns * rows).enumerate() {
                lots.push(Lot { of: *of, first: index * rows, effects });
            }
        }
        lots
    }

    fn effects(
        &self,
        simulator: &mut Simulator,
        sample: u32,
        lot: Lot,
        progress: &(dyn Fn(u64, u64) + Sync),
    ) {
        let Lot { of: Swept { layer, slot, rows, .. }, first, effects } = lot;
        let columns = rows.columns();
        let fault = |index: usize| {
            let (place, bit) = (index / 2, (index % 2) as u8);
            let (row, column) = (first + place / columns, place % columns);
            Fault::single(Address::Code { layer, slot, row, column, bit })
        };
        let faults: Vec<Fault> = (0..effects.len()).map(fault).collect();
        let trials = simulator.run(&faults, self.plan().unused);
        effects.iter_mut().zip(&trials).for_each(|(effect, trial)| effect.count(sample, trial));
        let sdc = trials.iter().filter(|trial| trial.outcome == Outcome::Sdc).count();
        progress(trials.len() as u64, sdc as u64);
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

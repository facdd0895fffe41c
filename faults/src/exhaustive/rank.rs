//! Stored bits in the order of what the flip of each does, worst first.
//!
//! Invariant: what is kept of a bit are counts and maxima over samples, so neither threads nor the
//! order of samples change it; equal bits stay in the order of their numbers.

use std::cmp::Ordering;

use rayon::prelude::*;

use super::pieces::{Cut, Piece};
use super::strip::{Flipped, Strip};
use super::sweep::{LOT, Place, Sweep, SweepError, Swept};
use crate::address::Address;
use crate::journal::{JournalError, Shard, Writer};

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

    fn count(&mut self, sample: u32, flipped: Flipped) {
        if flipped.sdc {
            if self.sdc == 0 {
                self.sample = sample;
            }
            self.sdc += 1;
        }
        let Some((margin_loss, logit_change)) = flipped.moved else {
            self.due += 1;
            return;
        };
        if margin_loss > self.margin_loss {
            self.margin_loss = margin_loss;
            if self.sdc == 0 {
                self.sample = sample;
            }
        }
        if logit_change > self.logit_change {
            self.logit_change = logit_change;
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
    /// By number: tensors in the order of the sweep, their rows and the bits of those.
    effects: Vec<BitEffect>,
    /// The numbers, worst first.
    order: Vec<u32>,
}

impl Ranking {
    /// Puts bits in order: as many as a number of 32 bits counts.
    fn of(effects: Vec<BitEffect>) -> Self {
        let mut order: Vec<u32> = (0..effects.len() as u32).collect();
        order.par_sort_unstable_by(|&a, &b| {
            effects[a as usize].worse(&effects[b as usize]).then(a.cmp(&b))
        });
        Self { effects, order }
    }

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
            if number < of.bits() {
                let (row, bit) = (number / of.row_bits(), number % of.row_bits());
                return (of.address(&sweep.space, row, bit), effect);
            }
            number -= of.bits();
        }
        unreachable!("a number of the sweep");
    }
}

impl Sweep<'_> {
    fn strips_cut(&self) -> Cut {
        Cut::new(&self.tensors, Strip::of_row)
    }

    /// Strips of rows, over all samples: the pieces of a ranking.
    #[must_use]
    pub fn strips(&self) -> u64 {
        self.strips_cut().all() * self.samples() as u64
    }

    /// Checks strips that were read from a journal: whether they have the bits of their rows.
    ///
    /// # Errors
    /// The first one that is of no row of this sweep.
    pub fn check_strips(&self, strips: &[Strip]) -> Result<(), JournalError> {
        let cut = self.strips_cut();
        let all = cut.all() * self.samples() as u64;
        let wrong = strips.iter().find(|strip| {
            if strip.number >= all {
                return true;
            }
            let (place, part) = cut.place(strip.number);
            let bits = self.tensors[place.tensor].row_bits();
            strip.faults() != Strip::span(part, bits).len() as u64
        });
        let why = "it is of no row of the model";
        wrong.map_or(Ok(()), |&Strip { number: index, .. }| {
            Err(JournalError::Contradicts { path: "a journal".into(), index, why })
        })
    }

    /// Flips every bit of a shard on every sample, but for the strips that are there, and orders
    /// the bits by what that does. Says how many strips are there at the end, and the ranking if
    /// those are all.
    ///
    /// Strips go to the journal, if there is one, as soon as their lot has ended; `progress` sees
    /// them then. `stop` is asked before each lot.
    ///
    /// # Errors
    /// If there are more bits than can be ordered, a sample cannot be run, or the journal cannot be
    /// written any more.
    pub fn rank(
        &self,
        shard: Shard,
        present: &[Strip],
        mut journal: Option<&mut Writer>,
        progress: &(dyn Fn(&[Strip]) + Sync),
        stop: &(dyn Fn() -> bool + Sync),
    ) -> Result<(u64, Option<Ranking>), SweepError> {
        let bits = u32::try_from(self.bits()).map_err(|_| SweepError::Bits { got: self.bits() })?;
        let mut effects = vec![BitEffect::NONE; bits as usize];
        let cut = self.strips_cut();
        let mut there = present.iter().map(|strip| strip.number).peekable();
        let (mut rest, mut count, mut size) = (present, 0, LOT / 8);
        for sample in 0..self.samples() {
            let missing = cut.missing(sample, shard, &mut there);
            let fresh = if missing.is_empty() || stop() {
                Vec::new()
            } else {
                let into = (journal.as_deref_mut(), &mut size);
                self.fill(&cut, (sample, None), &missing, into, progress, stop)?
            };
            let end = (sample as u64 + 1) * cut.all();
            let own = rest.partition_point(|strip| strip.number < end);
            let (held, later) = rest.split_at(own);
            rest = later;
            count += (held.len() + fresh.len()) as u64;
            // The bits of a sample are each in one strip, so their order changes nothing.
            held.iter().chain(&fresh).for_each(|strip| self.absorb(&mut effects, &cut, strip));
        }
        journal.map_or(Ok(()), Writer::finish)?;
        let whole = count == self.strips();
        Ok((count, whole.then(|| Ranking::of(effects))))
    }

    fn absorb(&self, effects: &mut [BitEffect], cut: &Cut, strip: &Strip) {
        let (Place { sample, tensor, row }, part) = cut.place(strip.number);
        let bits = self.tensors[tensor].row_bits();
        let before: usize = self.tensors[..tensor].iter().map(Swept::bits).sum();
        let first = before + row * bits + Strip::span(part, bits).start;
        for (effect, flipped) in effects[first..].iter_mut().zip(strip.flips()) {
            effect.count(sample as u32, flipped);
        }
    }
}

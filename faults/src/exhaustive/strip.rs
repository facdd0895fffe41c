//! A strip of a row in a journal: what every flip of its bits does on one sample, bit by bit.
//!
//! | bytes | hold |
//! |---|---|
//! | 0..8 | number of the strip: sample by sample, tensor by tensor, row by row |
//! | 8..16 | its bits: up to 64 of a row, of codes column by column and the low bit first |
//! | 16..24 | the set of those whose flip changes the decision |
//! | 24..32 | the set of those whose flip is detected |
//! | 32..544 | the loss of margin by each, in logits; 0 where it is detected, and behind the last |
//! | 544..1056 | the largest change of a logit at a read-out by each, likewise |
//!
//! Counts and sets are u64, the others the bits of f64, all little-endian; a checksum follows.

use std::ops::Range;

use super::pieces::{Cut, Known, Piece};
use super::plan::MapPlan;
use super::sweep::Sweep;
use crate::fault::Fault;
use crate::journal::{Header, Kept};
use crate::outcome::Outcome;
use crate::simulator::Simulator;
use crate::trial::Trial;

/// Bits of a strip, but for the last of a row.
const BITS: usize = 64;

/// What every flip of the bits of one strip of a row does on one sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Strip {
    /// The number of the strip.
    pub(super) number: u64,
    /// How many bits it has, 1 to 64.
    bits: u64,
    /// Those that change the decision.
    sdc: u64,
    /// Those that are detected.
    due: u64,
    margin_loss: [f64; BITS],
    logit_change: [f64; BITS],
}

/// What the flip of one bit did on one sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Flipped {
    /// The decision changed.
    pub(super) sdc: bool,
    /// The loss of margin and the largest change of a logit; `None` where it was detected.
    pub(super) moved: Option<(f64, f64)>,
}

impl Strip {
    fn of(number: u64, trials: &[Trial]) -> Self {
        let (margin_loss, logit_change) = ([0.0; BITS], [0.0; BITS]);
        let bits = trials.len() as u64;
        let mut strip = Self { number, bits, sdc: 0, due: 0, margin_loss, logit_change };
        for (bit, trial) in trials.iter().enumerate() {
            match trial.outcome {
                Outcome::Masked { .. } => {}
                Outcome::Sdc => strip.sdc |= 1 << bit,
                Outcome::Due(_) => strip.due |= 1 << bit,
            }
            if let Some(shift) = trial.shift {
                strip.margin_loss[bit] = shift.margin_loss;
                strip.logit_change[bit] = shift.max_logit_change;
            }
        }
        strip
    }

    /// What its flips did, bit by bit.
    pub(super) fn flips(&self) -> impl Iterator<Item = Flipped> {
        (0..self.bits as usize).map(|bit| {
            let moved = (self.margin_loss[bit], self.logit_change[bit]);
            let has = |set: u64| set >> bit & 1 == 1;
            Flipped { sdc: has(self.sdc), moved: (!has(self.due)).then_some(moved) }
        })
    }

    /// Faults, those that change the decision, and those that are detected.
    #[must_use]
    pub fn counts(&self) -> (u64, u64, u64) {
        (self.bits, self.sdc.count_ones().into(), self.due.count_ones().into())
    }

    /// The bits of a strip of a row of so many.
    pub(super) fn span(part: usize, bits: usize) -> Range<usize> {
        part * BITS..bits.min((part + 1) * BITS)
    }
}

impl Piece for Strip {
    fn of_row(bits: usize) -> usize {
        bits.div_ceil(BITS)
    }

    fn faults(&self) -> u64 {
        self.bits
    }

    fn decide(
        sweep: &Sweep,
        cut: &Cut,
        simulator: &mut Simulator,
        _: Known,
        lot: &[u64],
    ) -> Vec<Self> {
        let tensor = &sweep.tensors[cut.place(lot[0]).0.tensor];
        let mut faults = Vec::with_capacity(BITS * lot.len());
        for &number in lot {
            let (place, part) = cut.place(number);
            let bits = Self::span(part, tensor.row_bits());
            let fault = |bit| Fault::single(tensor.address(&sweep.space, place.row, bit));
            faults.extend(bits.map(fault));
        }
        let trials = simulator.run(&faults, sweep.plan().unused);
        let mut rest = &trials[..];
        let strip = |&number: &u64| {
            let bits = Self::span(cut.place(number).1, tensor.row_bits()).len();
            let (own, others) = rest.split_at(bits);
            rest = others;
            Self::of(number, own)
        };
        lot.iter().map(strip).collect()
    }
}

impl Kept for Strip {
    const BYTES: usize = 32 + 16 * BITS;

    fn number(&self) -> u64 {
        self.number
    }

    fn write(&self, bytes: &mut Vec<u8>) {
        let Self { number, bits, sdc, due, margin_loss, logit_change } = self;
        for value in [number, bits, sdc, due] {
            bytes.extend(value.to_le_bytes());
        }
        for value in margin_loss.iter().chain(logit_change) {
            bytes.extend(value.to_bits().to_le_bytes());
        }
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let eight = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight"));
        let values = |from: usize| std::array::from_fn(|bit| f64::from_bits(eight(from + 8 * bit)));
        let [number, bits, sdc, due] = [0, 8, 16, 24].map(eight);
        let (margin_loss, logit_change) = (values(32), values(32 + 8 * BITS));
        let outside = if bits < BITS as u64 { u64::MAX << bits } else { 0 };
        let sound = (1..=BITS as u64).contains(&bits) && sdc & due == 0;
        let sound = sound && (sdc | due) & outside == 0;
        sound.then_some(Self { number, bits, sdc, due, margin_loss, logit_change })
    }

    fn is_kept_by(header: &Header) -> bool {
        MapPlan::ranks(&header.plan)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_bit_for_bit() {
        let mut strip = Strip {
            number: u64::MAX - 3,
            bits: 10,
            sdc: 0b10_0000_0001,
            due: 0b100,
            margin_loss: [-0.0; BITS],
            logit_change: [0.0; BITS],
        };
        (strip.margin_loss[3], strip.logit_change[9]) = (f64::MIN_POSITIVE / 3.0, 0.1 + 0.2);
        let mut bytes = Vec::new();
        strip.write(&mut bytes);
        assert_eq!(bytes.len(), Strip::BYTES);
        let back = Strip::read(&bytes).expect("a strip");
        assert_eq!(format!("{back:?}"), format!("{strip:?}"), "the sign of zero too");
        assert_eq!(strip.counts(), (10, 2, 1));
        let flips: Vec<Flipped> = strip.flips().collect();
        assert!(flips.len() == 10 && flips[0].sdc && flips[9].sdc && !flips[2].sdc);
        assert_eq!((flips[2].moved, flips[9].moved), (None, Some((-0.0, 0.1 + 0.2))));
        let spoilt = |at: usize, value: u8| {
            let mut bytes = bytes.clone();
            bytes[at] = value;
            Strip::read(&bytes).is_none()
        };
        assert!(spoilt(8, 0) && spoilt(8, 65), "a number of bits that no strip has");
        assert!(spoilt(24, 0b101), "a bit that is both");
        assert!(spoilt(17, 0b110), "a bit behind the last");
    }
}

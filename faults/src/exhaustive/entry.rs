//! One row of a map in a journal: what every flip of its codes does on one sample.
//!
//! | bytes | hold |
//! |---|---|
//! | 0..8 | number of the row: sample by sample, tensor by tensor |
//! | 8..72 | sixteen counts: for either bit, for either value it had: masked, identical, sdc, due |
//! | 72..76 | faults that changed a token anywhere |
//! | 76..100 | how they were decided: proven, still, alone, collapsed, executed, early |
//! | 100..148 | divergence, likelihood, margin: sums; then the largest of divergence, margin, logit |
//!
//! Counts are u32, the others the bits of f64, all little-endian; a checksum follows.

use super::{Cell, Cells};
use crate::journal::{Header, Kept};
use crate::outcome::Outcome;
use crate::simulator::{Counts, Way};
use crate::trial::Trial;

use super::plan::MapPlan;

/// By how much the faults of a row moved the read-out.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Shifts {
    /// Sum of the divergences, in nats, over the faults that were not detected, as are all sums.
    pub kl_sum: f64,
    /// Sum of the changes of the negative log-likelihood, in nats.
    pub nll_change_sum: f64,
    /// Sum of the losses of margin, in logits.
    pub margin_loss_sum: f64,
    /// The largest divergence, in nats.
    pub kl_max: f64,
    /// The largest loss of margin, in logits; 0 if no margin fell.
    pub margin_loss_max: f64,
    /// The largest change of a logit at a read-out.
    pub logit_change_max: f64,
}

impl Shifts {
    /// Adds those of other faults; sums depend on the order.
    pub fn add(&mut self, other: &Self) {
        self.kl_sum += other.kl_sum;
        self.nll_change_sum += other.nll_change_sum;
        self.margin_loss_sum += other.margin_loss_sum;
        let raise = |top: &mut f64, value: f64| *top = if value > *top { value } else { *top };
        raise(&mut self.kl_max, other.kl_max);
        raise(&mut self.margin_loss_max, other.margin_loss_max);
        raise(&mut self.logit_change_max, other.logit_change_max);
    }
}

/// What every flip of the codes of one row does on one sample.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RowEntry {
    /// The number of the row; see [`super::Sweep::place`].
    pub number: u64,
    /// Outcomes.
    pub cells: Cells,
    /// Faults that changed the best token at some position, where all positions are read.
    pub token_changes: u64,
    /// How they were decided.
    pub counts: Counts,
    /// By how much the read-out moved.
    pub shifts: Shifts,
}

impl RowEntry {
    /// The entry of a row whose codes are given, from the verdicts on their bits in order; those
    /// without a verdict are known to be masked.
    pub(super) fn of(number: u64, codes: &[u8], told: &[(Option<Trial>, Way)]) -> Self {
        let mut entry = Self { number, ..Self::default() };
        for (index, &(trial, way)) in told.iter().enumerate() {
            let (column, bit) = (index / 2, index % 2);
            let from = codes[column] >> bit & 1;
            let outcome = trial.map_or(Outcome::Masked { identical: false }, |of| of.outcome);
            entry.cells[bit][usize::from(from)].count(outcome);
            entry.counts.count(way);
            let Some(trial) = trial else { continue };
            entry.token_changes += u64::from(trial.any_token_change == Some(true));
            if let Some(shift) = trial.shift {
                entry.shifts.add(&Shifts {
                    kl_sum: shift.kl_divergence,
                    nll_change_sum: shift.nll_change,
                    margin_loss_sum: shift.margin_loss,
                    kl_max: shift.kl_divergence,
                    margin_loss_max: shift.margin_loss,
                    logit_change_max: shift.max_logit_change,
                });
            }
        }
        entry
    }

    /// The outcomes of all its faults.
    #[must_use]
    pub fn total(&self) -> Cell {
        Cell::total(self.cells.iter().flatten())
    }
}

impl Kept for RowEntry {
    const BYTES: usize = 148;

    fn number(&self) -> u64 {
        self.number
    }

    fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend(self.number.to_le_bytes());
        let Counts { faults: _, proven, still, alone, collapsed, executed, early } = self.counts;
        let cells = self.cells.iter().flatten();
        let cells = cells.flat_map(|cell| [cell.masked, cell.identical, cell.sdc, cell.due]);
        let ways = [self.token_changes, proven, still, alone, collapsed, executed, early];
        for count in cells.chain(ways) {
            let count = u32::try_from(count).expect("a row has fewer than 2^31 codes");
            bytes.extend(count.to_le_bytes());
        }
        let Shifts { kl_sum, nll_change_sum, margin_loss_sum, .. } = self.shifts;
        let Shifts { kl_max, margin_loss_max, logit_change_max, .. } = self.shifts;
        let sums = [kl_sum, nll_change_sum, margin_loss_sum];
        for value in sums.into_iter().chain([kl_max, margin_loss_max, logit_change_max]) {
            bytes.extend(value.to_bits().to_le_bytes());
        }
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let eight = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight"));
        let count = |place: usize| {
            let at = 8 + 4 * place;
            u64::from(u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four")))
        };
        let cell = |bit: usize, from: usize| {
            let at = 4 * (2 * bit + from);
            let [masked, identical, sdc, due] = [at, at + 1, at + 2, at + 3].map(count);
            Cell { masked, identical, sdc, due }
        };
        let cells = [0, 1].map(|bit| [0, 1].map(|from| cell(bit, from)));
        let [token_changes, proven, still, alone, collapsed, executed, early] =
            [16, 17, 18, 19, 20, 21, 22].map(count);
        let faults = proven + still + alone + collapsed + executed;
        let value = |place: usize| f64::from_bits(eight(100 + 8 * place));
        let entry = Self {
            number: eight(0),
            cells,
            token_changes,
            counts: Counts { faults, proven, still, alone, collapsed, executed, early },
            shifts: Shifts {
                kl_sum: value(0),
                nll_change_sum: value(1),
                margin_loss_sum: value(2),
                kl_max: value(3),
                margin_loss_max: value(4),
                logit_change_max: value(5),
            },
        };
        (entry.total().faults() == faults).then_some(entry)
    }

    fn is_kept_by(header: &Header) -> bool {
        MapPlan::is_one(&header.plan) && !MapPlan::ranks(&header.plan)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_bit_for_bit() {
        let cell = |n: u64| Cell { masked: n + 9, identical: n, sdc: n * n, due: 3 };
        let cells = [[cell(0), cell(1)], [cell(2), cell(3)]];
        let faults = Cell::total(cells.iter().flatten()).faults();
        let entry = RowEntry {
            number: u64::MAX - 3,
            cells,
            token_changes: u32::MAX.into(),
            counts: Counts {
                faults,
                proven: 1,
                still: 2,
                alone: 3,
                collapsed: 4,
                executed: faults - 10,
                early: 5,
            },
            shifts: Shifts {
                kl_sum: 0.1 + 0.2,
                nll_change_sum: -0.0,
                margin_loss_sum: f64::MIN_POSITIVE / 3.0,
                kl_max: f64::MAX,
                margin_loss_max: 0.5,
                logit_change_max: 7.0,
            },
        };
        let mut bytes = Vec::new();
        entry.write(&mut bytes);
        assert_eq!(bytes.len(), RowEntry::BYTES);
        let back = RowEntry::read(&bytes).expect("a row");
        assert_eq!(format!("{back:?}"), format!("{entry:?}"), "the sign of zero too");
        bytes[8] ^= 1;
        assert!(RowEntry::read(&bytes).is_none(), "counts that contradict each other");
    }
}

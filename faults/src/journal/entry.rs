//! One trial in a journal: 64 bytes that say what came of it, down to the last bit, and a checksum.
//!
//! | bytes | hold |
//! |---|---|
//! | 0..8 | number of the trial |
//! | 8..12 | sample |
//! | 12..16 | decision under the fault; 0 where there is none |
//! | 16..20 | bits that were struck |
//! | 20..22 | stratum of the plan |
//! | 22 | outcome: 0 identical, 1 masked, 2 silent corruption, 3 not finite, 4 unused code, |
//! |    | 5 flagged by a memory code |
//! | 23 | flags: 1 a decision, 2 token changes were looked for, 4 one was found, 8 a shift; |
//! |    | 16 times one more than the outcome without the memory code, if there is one |
//! | 24..56 | divergence, likelihood, margin, largest logit change: the bits of four f64 |
//! | 56..64 | the checksum of the others |
//!
//! All little-endian. The drawn bits are not kept: they follow from the number.

use super::{Header, Kept};
use crate::exhaustive::MapPlan;
use crate::outcome::{Cause, Outcome, Shift};
use crate::trial::Trial;

const DECIDED: u8 = 1;
const TOKENS_READ: u8 = 2;
const TOKEN_CHANGED: u8 = 4;
const SHIFTED: u8 = 8;

/// What a journal keeps of a trial.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Entry {
    /// The number of the trial.
    pub index: u64,
    /// Which stratum of the plan it is of.
    pub stratum: u16,
    /// The sample, by its number.
    pub sample: u32,
    /// How many bits were struck.
    pub flips: u32,
    /// What came of it.
    pub trial: Trial,
    /// What would have come of it without the memory code, where there is one.
    pub raw: Option<Outcome>,
}

impl Kept for Entry {
    const BYTES: usize = 56;

    fn number(&self) -> u64 {
        self.index
    }

    fn write(&self, bytes: &mut Vec<u8>) {
        let trial = &self.trial;
        bytes.extend(self.index.to_le_bytes());
        bytes.extend(self.sample.to_le_bytes());
        bytes.extend(trial.decision.unwrap_or(0).to_le_bytes());
        bytes.extend(self.flips.to_le_bytes());
        bytes.extend(self.stratum.to_le_bytes());
        let raw = self.raw.map_or(0, |raw| 1 + code(raw));
        bytes.extend([code(trial.outcome), flags(trial) | raw << 4]);
        let shift = trial.shift.unwrap_or_default();
        for value in
            [shift.kl_divergence, shift.nll_change, shift.margin_loss, shift.max_logit_change]
        {
            bytes.extend(value.to_bits().to_le_bytes());
        }
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let four = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four"));
        let eight = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight"));
        let flags = bytes[23];
        let has = |flag: u8| flags & flag != 0;
        let value = |place: usize| f64::from_bits(eight(24 + 8 * place));
        let raw = match flags >> 4 {
            0 => None,
            raw => Some(outcome(raw - 1)?),
        };
        Some(Self {
            index: eight(0),
            sample: four(8),
            flips: four(16),
            stratum: u16::from_le_bytes([bytes[20], bytes[21]]),
            trial: Trial {
                outcome: outcome(bytes[22])?,
                decision: has(DECIDED).then_some(four(12)),
                any_token_change: has(TOKENS_READ).then_some(has(TOKEN_CHANGED)),
                shift: has(SHIFTED).then(|| Shift {
                    kl_divergence: value(0),
                    nll_change: value(1),
                    margin_loss: value(2),
                    max_logit_change: value(3),
                }),
            },
            raw,
        })
    }

    fn is_kept_by(header: &Header) -> bool {
        !MapPlan::is_one(&header.plan)
    }
}

fn code(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Masked { identical: true } => 0,
        Outcome::Masked { identical: false } => 1,
        Outcome::Sdc => 2,
        Outcome::Due(Cause::NotFinite) => 3,
        Outcome::Due(Cause::UnusedCode) => 4,
        Outcome::Due(Cause::Flagged) => 5,
    }
}

fn outcome(code: u8) -> Option<Outcome> {
    Some(match code {
        0 => Outcome::Masked { identical: true },
        1 => Outcome::Masked { identical: false },
        2 => Outcome::Sdc,
        3 => Outcome::Due(Cause::NotFinite),
        4 => Outcome::Due(Cause::UnusedCode),
        5 => Outcome::Due(Cause::Flagged),
        _ => return None,
    })
}

fn flags(trial: &Trial) -> u8 {
    let tokens = match trial.any_token_change {
        None => 0,
        Some(false) => TOKENS_READ,
        Some(true) => TOKENS_READ | TOKEN_CHANGED,
    };
    let decided = if trial.decision.is_some() { DECIDED } else { 0 };
    let shifted = if trial.shift.is_some() { SHIFTED } else { 0 };
    tokens | decided | shifted
}

#[cfg(test)]
mod tests {
    use super::super::kept::{SUM, decode, encode};
    use super::*;

    const BYTES: usize = Entry::BYTES + SUM;
    const KEY: [u8; 32] = [7; 32];

    fn entries() -> Vec<Entry> {
        let outcomes = (0..6).map(|code| outcome(code).expect("a code"));
        let shift = Shift {
            kl_divergence: 0.1 + 0.2,
            nll_change: -0.0,
            margin_loss: f64::MIN_POSITIVE / 3.0,
            max_logit_change: f64::MAX,
        };
        let entry = |(index, outcome): (usize, Outcome)| Entry {
            index: u64::MAX / 5 * index as u64,
            stratum: 300 * index as u16,
            sample: u32::MAX - index as u32,
            flips: index as u32,
            trial: Trial {
                outcome,
                decision: (index % 2 == 0).then_some(index as u32),
                any_token_change: [None, Some(false), Some(true)][index % 3],
                shift: (index != 2).then_some(shift),
            },
            raw: index.checked_sub(1).and_then(|index| super::outcome(index as u8)),
        };
        outcomes.enumerate().map(entry).collect()
    }

    #[test]
    fn what_is_written_is_read_back_bit_for_bit() {
        for entry in entries() {
            let back = decode::<Entry>(&KEY, &encode(&entry, &KEY)).expect("whole");
            assert_eq!(back, entry);
            let bits = |e: &Entry| e.trial.shift.map(|s| s.nll_change.to_bits());
            assert_eq!(bits(&back), bits(&entry), "the sign of zero too");
        }
        assert!(outcome(6).is_none());
    }

    #[test]
    fn no_flipped_bit_and_no_other_key_goes_unseen() {
        let bytes = encode(&entries()[3], &KEY);
        assert_eq!(bytes.len(), 64, "as the table says");
        for bit in 0..8 * BYTES {
            let mut other = bytes.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(decode::<Entry>(&KEY, &other).is_none(), "bit {bit}");
        }
        assert!(decode::<Entry>(&[8; 32], &bytes).is_none());
        assert!(decode::<Entry>(&KEY, &[0; BYTES]).is_none(), "a page of zeros is no record");
    }
}

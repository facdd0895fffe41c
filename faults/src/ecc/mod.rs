//! Protection: what a memory's code makes of raw bit flips before a model reads them.
//!
//! Stored bytes are cut into words of data bits, in their order; each word has check bits. Faults
//! strike both, so the population of raw faults is *data and check bits*:
//!
//! | numbers of a tensor of n bytes | are |
//! |---|---|
//! | `0 .. 8 n` | data bits: `8 byte + bit`, whatever the protection |
//! | `8 n + r w + c` | check bit c of word w, r check bits a word |
//!
//! The last word may be shorter: what it lacks counts as zeros that are stored nowhere, and a
//! correction that points there is none.
//!
//! | protection | word | what its decoder does |
//! |---|---|---|
//! | none | | nothing |
//! | parity | any to 256 bits + 1 | flags an odd number of flips |
//! | SECDED | 64 + 8, Hsiao 1970 | corrects one flip, flags two, may miscorrect three |
//! | on-die | 128 + 8, shortened Hamming | corrects one flip; two it miscorrects, or passes on; says nothing |
//! | chipkill | 32 + 4 chips of 8 bits, Reed-Solomon | corrects one chip, flags two or three |
//! | checksum | G weights + 2, their sum modulo 4 | flags a changed sum |
//! | crc | G weights + 8, polynomial 0x07 | flags a changed remainder |
//!
//! Every code is executed on the bits themselves: words are encoded, struck, decoded, and compared.
//! A word that is flagged is a detected fault (due) before the model runs.
//!
//! Makers of memory do not publish their on-die codes; ours is stated (`columns.rs`), and has the
//! properties that all such codes share.

mod behind;
mod census;
mod chips;
mod columns;
mod fit;
mod shield;
mod tensor;
mod word;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

pub(crate) use behind::Words;
pub use behind::{Behind, BehindTally, Decoded, Drawn};
pub use census::Census;
pub use fit::{Fit, MBIT, fit_critical, fit_of_windows};
pub use shield::{RawFault, Shield, ShieldTally, Shielded};
pub use tensor::{fault_of, tensor_bytes};

use word::{MOST_DATA, Verdict, Word};

/// A code that protects stored bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protection {
    /// No code.
    None,
    /// A parity bit for so many data bits, 1 to 256.
    Parity {
        /// Data bits of a word.
        bits: u32,
    },
    /// Single error correction, double error detection: Hsiao's (72, 64).
    Secded,
    /// Single error correction within the memory: (136, 128).
    OnDie,
    /// Single chip correction, double and triple chip detection: Reed-Solomon (36, 32) over bytes.
    Chipkill,
    /// The sum of so many 2-bit codes, 1 to 128, modulo 4.
    Checksum {
        /// Weights of a group.
        weights: u32,
    },
    /// A cyclic redundancy check of 8 bits for so many 2-bit codes, 1 to 128.
    Crc {
        /// Weights of a group.
        weights: u32,
    },
}

/// What is left of raw flips behind a decoder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Residual {
    /// Data bits that a reader sees flipped; in words that are flagged, those that were struck.
    pub flips: BTreeSet<u64>,
    /// Words that were flagged.
    pub detected: u64,
    /// Words that were put right.
    pub corrected: u64,
    /// Words in which a bit was changed that should not have been.
    pub miscorrected: u64,
    /// Words with flipped data that were passed on.
    pub missed: u64,
}

impl Residual {
    /// Whether the machine notices, so that the outcome is due and no model runs.
    #[must_use]
    pub fn is_detected(&self) -> bool {
        self.detected > 0
    }

    /// Whether a reader computes with wrong data, unnoticed.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.detected == 0 && !self.flips.is_empty()
    }
}

impl Protection {
    /// Data bits of a word.
    ///
    /// # Panics
    /// If a parameter is out of its range.
    #[must_use]
    pub fn data_bits(&self) -> u64 {
        let within = |bits: u32| {
            assert!((1..=MOST_DATA).contains(&bits), "{bits} data bits a word");
            u64::from(bits)
        };
        match *self {
            Self::None | Self::Secded => 64,
            Self::Parity { bits } => within(bits),
            Self::OnDie => 128,
            Self::Chipkill => 256,
            Self::Checksum { weights } | Self::Crc { weights } => within(weights.saturating_mul(2)),
        }
    }

    /// Check bits of a word.
    #[must_use]
    pub fn check_bits(&self) -> u64 {
        match self {
            Self::None => 0,
            Self::Parity { .. } => 1,
            Self::Checksum { .. } => 2,
            Self::Secded | Self::OnDie | Self::Crc { .. } => 8,
            Self::Chipkill => 32,
        }
    }

    /// The name in plans and reports, without parameters.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Parity { .. } => "parity",
            Self::Secded => "secded",
            Self::OnDie => "on-die",
            Self::Chipkill => "chipkill",
            Self::Checksum { .. } => "checksum",
            Self::Crc { .. } => "crc",
        }
    }

    /// The protection of a text as [`fmt::Display`] writes it: a name, and where a word's size is
    /// free a colon and that size, as in `parity:64`, `checksum:32`, `crc:32`.
    #[must_use]
    pub fn named(text: &str) -> Option<Self> {
        let (name, size) = text.split_once(':').map_or((text, None), |(a, b)| (a, Some(b)));
        let size = |most: u32| size?.parse().ok().filter(|size| (1..=most).contains(size));
        let found = match name {
            "none" => Self::None,
            "parity" => Self::Parity { bits: size(MOST_DATA)? },
            "secded" => Self::Secded,
            "on-die" => Self::OnDie,
            "chipkill" => Self::Chipkill,
            "checksum" => Self::Checksum { weights: size(MOST_DATA / 2)? },
            "crc" => Self::Crc { weights: size(MOST_DATA / 2)? },
            _ => return None,
        };
        // Also refuses sizes where there are none to choose, and other spellings of a number.
        (found.to_string() == text).then_some(found)
    }

    /// The words of so many bytes.
    #[must_use]
    pub fn words(&self, bytes: usize) -> u64 {
        (8 * bytes as u64).div_ceil(self.data_bits())
    }

    /// Bits that faults can strike: data and check bits.
    #[must_use]
    pub fn stored_bits(&self, bytes: usize) -> u64 {
        8 * bytes as u64 + self.words(bytes) * self.check_bits()
    }

    /// The word of a stored bit, and its place in it: data bits first, then check bits.
    ///
    /// # Panics
    /// If there is no such bit.
    #[must_use]
    pub fn place(&self, bytes: usize, number: u64) -> (u64, u64) {
        assert!(number < self.stored_bits(bytes), "{number} is not a stored bit");
        let (data, size) = (self.data_bits(), 8 * bytes as u64);
        if number < size {
            return (number / data, number % data);
        }
        let check = number - size;
        (check / self.check_bits(), data + check % self.check_bits())
    }

    /// The stored bit at a place of a word; `None` where the last word is shorter.
    #[must_use]
    pub fn number(&self, bytes: usize, (word, place): (u64, u64)) -> Option<u64> {
        let (data, size) = (self.data_bits(), 8 * bytes as u64);
        if word >= self.words(bytes) || place >= data + self.check_bits() {
            return None;
        }
        let number = if place < data {
            word * data + place
        } else {
            size + word * self.check_bits() + place - data
        };
        (place >= data || number < size).then_some(number)
    }

    /// What raw flips of stored bits leave behind the decoder. What the bytes are does not matter
    /// but for the checksum; all other codes are linear.
    ///
    /// # Panics
    /// If there is no such bit.
    #[must_use]
    pub fn filter(&self, raw: &BTreeSet<u64>, bytes: &[u8]) -> Residual {
        let set = |bit: u64| bytes[(bit / 8) as usize] >> (bit % 8) & 1 == 1;
        self.filter_stored(raw, bytes.len(), &set)
    }

    /// The same of so many bytes of which only those of struck words are read: `set` says whether a
    /// data bit is.
    ///
    /// # Panics
    /// If there is no such bit.
    #[must_use]
    pub fn filter_stored(
        &self,
        raw: &BTreeSet<u64>,
        bytes: usize,
        set: &dyn Fn(u64) -> bool,
    ) -> Residual {
        let mut words: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for &number in raw {
            let (word, place) = self.place(bytes, number);
            words.entry(word).or_default().push(place);
        }
        let mut residual = Residual::default();
        for (word, places) in words {
            let first = word * self.data_bits();
            let clean = Word::read(self, 8 * bytes as u64, set, first);
            self.filter_word((first, clean), &places, &mut residual);
        }
        residual
    }

    fn filter_word(&self, (first, clean): (u64, Word), places: &[u64], residual: &mut Residual) {
        let mut struck = clean;
        places.iter().for_each(|&place| struck.flip(self.data_bits(), place));
        let (verdict, read) = struck.decode(self);
        // A flagged word is not used; its struck bits are kept for the record.
        let seen = if verdict == Verdict::Flagged { struck.data } else { read };
        let wrong = clean.differing(&seen);
        match verdict {
            Verdict::Flagged => residual.detected += 1,
            Verdict::Corrected if wrong.is_empty() => residual.corrected += 1,
            Verdict::Corrected => residual.miscorrected += 1,
            Verdict::Accepted if wrong.is_empty() => {}
            Verdict::Accepted => residual.missed += 1,
        }
        residual.flips.extend(wrong.into_iter().map(|bit| first + bit));
    }
}

impl fmt::Display for Protection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name())?;
        match self {
            Self::Parity { bits: size }
            | Self::Checksum { weights: size }
            | Self::Crc { weights: size } => write!(f, ":{size}"),
            _ => Ok(()),
        }
    }
}

//! One word: its data and check bits, its encoder and its decoder.

use super::Protection;
use super::chips;
use super::columns::{crc_column, on_die_column, secded_column};

/// The most data bits of a word.
pub(super) const MOST_DATA: u32 = 256;

/// The data bits of a word, lowest first.
pub(super) type Data = [u64; 4];

/// What a decoder says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing.
    Accepted,
    /// It changed something.
    Corrected,
    /// It gives up, and says so.
    Flagged,
}

/// A stored word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) data: Data,
    pub(super) check: u32,
    /// Data bits that are stored: fewer than the code's in a last word.
    stored: u64,
}

impl Word {
    /// The word that begins at one of so many data bits, with the check bits of its data.
    pub(super) fn read(
        protection: &Protection,
        bits: u64,
        set: &dyn Fn(u64) -> bool,
        first: u64,
    ) -> Self {
        let stored = (bits - first).min(protection.data_bits());
        let mut data = [0; 4];
        for bit in 0..stored {
            data[(bit / 64) as usize] |= u64::from(set(first + bit)) << (bit % 64);
        }
        Self { data, check: encode(protection, &data), stored }
    }

    /// Flips the bit at a place: data bits first, then check bits.
    pub(super) fn flip(&mut self, data_bits: u64, place: u64) {
        if place < data_bits {
            assert!(place < self.stored, "{place} is not stored");
            self.data[(place / 64) as usize] ^= 1 << (place % 64);
        } else {
            self.check ^= 1 << (place - data_bits);
        }
    }

    /// The data bits in which the word differs from others.
    pub(super) fn differing(&self, other: &Data) -> Vec<u64> {
        bits_of(&std::array::from_fn(|i| self.data[i] ^ other[i])).collect()
    }

    /// What the decoder says, and the data that it gives out.
    pub(super) fn decode(&self, protection: &Protection) -> (Verdict, Data) {
        let syndrome = encode(protection, &self.data) ^ self.check;
        if syndrome == 0 {
            return (Verdict::Accepted, self.data);
        }
        let found = match protection {
            Protection::Secded => place_of(syndrome, 64, secded_column),
            Protection::OnDie => place_of(syndrome, 128, on_die_column),
            Protection::Chipkill => {
                let Some(data) = chips::correct(&self.data, syndrome) else {
                    return (Verdict::Flagged, self.data);
                };
                return (Verdict::Corrected, data);
            }
            _ => None,
        };
        match found {
            Some(Place::Data(bit)) if bit < self.stored => {
                let mut word = *self;
                word.flip(protection.data_bits(), bit);
                (Verdict::Corrected, word.data)
            }
            Some(Place::Check) => (Verdict::Corrected, self.data),
            _ if *protection == Protection::OnDie => (Verdict::Accepted, self.data),
            _ => (Verdict::Flagged, self.data),
        }
    }
}

/// Where a syndrome points.
enum Place {
    Data(u64),
    Check,
}

/// The bit whose column is the syndrome.
fn place_of(syndrome: u32, data_bits: u64, column: fn(u64) -> u32) -> Option<Place> {
    if syndrome.is_power_of_two() {
        return Some(Place::Check);
    }
    (0..data_bits).find(|&bit| column(bit) == syndrome).map(Place::Data)
}

/// The bits that are set.
fn bits_of(data: &Data) -> impl Iterator<Item = u64> {
    let data = *data;
    (0..4u64).flat_map(move |part| {
        let word = data[part as usize];
        (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| 64 * part + bit)
    })
}

/// The check bits of data.
pub(super) fn encode(protection: &Protection, data: &Data) -> u32 {
    let columns = |column: &dyn Fn(u64) -> u32| bits_of(data).fold(0, |sum, bit| sum ^ column(bit));
    match *protection {
        Protection::None => 0,
        Protection::Parity { .. } => columns(&|_| 1),
        Protection::Secded => columns(&secded_column),
        Protection::OnDie => columns(&on_die_column),
        Protection::Chipkill => chips::encode(data),
        Protection::Checksum { .. } => bits_of(data).fold(0, |sum, bit| sum + (1 << (bit % 2))) % 4,
        Protection::Crc { weights } => columns(&|bit| crc_column(2 * u64::from(weights) - 1 - bit)),
    }
}

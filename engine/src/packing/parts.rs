//! What each stored bit of a block means: a bit of a code, of a scale, or of five trits together.
//!
//! | format | bits of a code | bits of the scale |
//! |---|---|---|
//! | `TQ1_0` | none of its own: five trits share a byte | 16: f16 |
//! | `TQ2_0`, `Q2_0` | 2: `weight + 1` | 16: f16 |
//! | `Q1_0` | 1: the sign | 16: f16 |
//! | `Q8_0` | 8: the integer | 16: f16 |
//! | `Q4_0` | 4: the integer plus 8 | 16: f16 |
//! | `Q4_K` | 4 | 128: f16 scale, f16 minimum, then the bytes of the factors |
//! | `Q6_K` | 6 | 144: f16 scale, then the bytes of the factors |
//!
//! Invariant: every bit of a block is one part, and no two bits are the same.

use half::f16;

use super::blocks::{BlockType, POWERS};
use super::hf::BitPlace;
use super::layout::{model_row, turned_row};

/// What a bit of a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// A bit of the code of a weight.
    Code {
        /// The weight within its block, or its row.
        index: usize,
        /// Lowest = 0.
        bit: u8,
    },
    /// A bit of what the codes of a block are multiplied with.
    Scale {
        /// The block within its row.
        group: usize,
        /// Those of the f16 scale first.
        bit: u8,
    },
    /// A bit of a byte of trits.
    Trits,
}

impl BlockType {
    /// Bits of a code; 0 where codes share bytes.
    #[must_use]
    pub fn code_bits(self) -> u8 {
        match self {
            Self::Tq1 => 0,
            Self::Q1 => 1,
            Self::Tq2 | Self::Q2 | Self::Q2Wide => 2,
            Self::Q4 | Self::Q4K => 4,
            Self::Q6K => 6,
            Self::Q8 => 8,
        }
    }

    /// Bits of what the codes of a block are multiplied with.
    #[must_use]
    pub fn scale_bits(self) -> u8 {
        match self {
            Self::Q4K => 128,
            Self::Q6K => 144,
            _ => 16,
        }
    }

    /// Bytes of a block that hold trits, the first of it; 0 where every code has its own bits.
    #[must_use]
    pub fn trit_bytes(self) -> usize {
        if self == Self::Tq1 { self.scale_at() } else { 0 }
    }

    /// Where in a block a bit of a code stands.
    ///
    /// # Panics
    /// If the format has no such bit.
    #[must_use]
    pub fn code_place(self, index: usize, bit: u8) -> BitPlace {
        assert!(index < self.weights() && bit < self.code_bits(), "no bit of a code");
        let (byte, shift) = match self {
            Self::Q8 => (2 + index, 0),
            Self::Q4 => (2 + index % 16, 4 * (index / 16) as u8),
            Self::Q4K => (16 + index / 64 * 32 + index % 32, 4 * (index / 32 % 2) as u8),
            Self::Q6K => {
                let (half, part, l) = (index / 128, index % 128 / 32, index % 32);
                if bit < 4 {
                    (64 * half + l + 32 * (part % 2), 4 * (part / 2) as u8)
                } else {
                    let place = (128 + 32 * half + l, 2 * part as u8);
                    return BitPlace { byte: place.0, bit: place.1 + bit - 4 };
                }
            }
            _ => self.place(index).expect("a code of its own bits"),
        };
        BitPlace { byte, bit: shift + bit }
    }

    /// Where in a block a bit of its scale stands.
    ///
    /// # Panics
    /// If the format has no such bit.
    #[must_use]
    pub fn scale_place(self, bit: u8) -> BitPlace {
        assert!(bit < self.scale_bits(), "no bit of a scale");
        let byte = usize::from(bit / 8);
        let byte =
            if self == Self::Q6K && byte >= 2 { 192 + byte - 2 } else { self.scale_at() + byte };
        BitPlace { byte, bit: bit % 8 }
    }

    /// What a bit of a block is.
    ///
    /// # Panics
    /// If the block has no such bit.
    #[must_use]
    pub fn part(self, place: BitPlace) -> Part {
        assert!(place.byte < self.bytes() && place.bit < 8, "outside the block");
        if place.byte < self.trit_bytes() {
            return Part::Trits;
        }
        if let Some(bit) = (0..self.scale_bits()).find(|&bit| self.scale_place(bit) == place) {
            return Part::Scale { group: 0, bit };
        }
        let bits = || {
            (0..self.weights()).flat_map(|index| (0..self.code_bits()).map(move |bit| (index, bit)))
        };
        let found = bits().find(|&(index, bit)| self.code_place(index, bit) == place);
        let (index, bit) = found.expect("a bit of a code");
        Part::Code { index, bit }
    }

    /// The block that holds these integers under a scale.
    ///
    /// # Panics
    /// If the format has no integers, or not these.
    #[must_use]
    pub fn encode_integers(self, integers: &[i8], scale: f16) -> Vec<u8> {
        assert!(self.has_integers() && integers.len() == self.weights(), "a whole block");
        if self.has_codes() {
            let codes: Vec<u8> = integers.iter().map(|&integer| (integer + 1) as u8).collect();
            return self.encode(&codes, scale);
        }
        let mut block = vec![0u8; self.bytes()];
        block[..2].copy_from_slice(&scale.to_le_bytes());
        for (index, &integer) in integers.iter().enumerate() {
            let code = if self == Self::Q8 { integer as u8 } else { (integer + 8) as u8 };
            let place = self.code_place(index, 0);
            block[place.byte] |= code << place.bit;
        }
        block
    }

    /// Whether a byte of trits is the one that a writer makes of them: 13 of 256 are not, and more
    /// of the last four, which have one trit less.
    pub(crate) fn is_usual(self, at: usize, byte: u8) -> bool {
        if at >= self.trit_bytes() {
            return true;
        }
        let trits = if at < 48 { 5 } else { 4 };
        let trit = |n: usize| (u16::from(byte.wrapping_mul(POWERS[n])) * 3) >> 8;
        let number: u16 = (0..trits).map(|n| trit(n) * u16::from(POWERS[4 - n])).sum();
        (number * 256).div_ceil(243) == u16::from(byte)
    }
}

/// A matrix `[rows, columns]` of blocks, and where its rows stand in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockShape {
    /// The format.
    pub kind: BlockType,
    /// Outputs.
    pub rows: usize,
    /// Inputs: whole blocks.
    pub columns: usize,
    /// The width of a head, where rows are stored for rotations of neighbours.
    pub turned: Option<usize>,
}

impl BlockShape {
    /// Blocks of a row.
    #[must_use]
    pub fn groups(&self) -> usize {
        self.columns / self.kind.weights()
    }

    /// Bytes of a row.
    #[must_use]
    pub fn row_bytes(&self) -> usize {
        self.groups() * self.kind.bytes()
    }

    /// Bytes of the tensor.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.rows * self.row_bytes()
    }

    /// Where in its row a bit of a code stands.
    ///
    /// # Panics
    /// If the format has no such bit.
    #[must_use]
    pub fn code(&self, column: usize, bit: u8) -> BitPlace {
        let (block, index) = (column / self.kind.weights(), column % self.kind.weights());
        let place = self.kind.code_place(index, bit);
        BitPlace { byte: block * self.kind.bytes() + place.byte, ..place }
    }

    /// Where in its row a bit of the scale of a block stands.
    ///
    /// # Panics
    /// If the format has no such bit.
    #[must_use]
    pub fn scale(&self, group: usize, bit: u8) -> BitPlace {
        let place = self.kind.scale_place(bit);
        BitPlace { byte: group * self.kind.bytes() + place.byte, ..place }
    }

    /// Where in the tensor a bit of a row stands.
    #[must_use]
    pub fn in_tensor(&self, row: usize, place: BitPlace) -> BitPlace {
        let stored = turned_row(row, self.turned);
        BitPlace { byte: stored * self.row_bytes() + place.byte, ..place }
    }

    /// The row of the model that a bit of the tensor is of, and where in it.
    #[must_use]
    pub fn in_row(&self, place: BitPlace) -> (usize, BitPlace) {
        let (stored, byte) = (place.byte / self.row_bytes(), place.byte % self.row_bytes());
        (model_row(stored, self.turned), BitPlace { byte, ..place })
    }

    /// What a bit of a row is; indices count within the row.
    ///
    /// # Panics
    /// If the row has no such bit.
    #[must_use]
    pub fn part(&self, place: BitPlace) -> Part {
        let (block, byte) = (place.byte / self.kind.bytes(), place.byte % self.kind.bytes());
        match self.kind.part(BitPlace { byte, ..place }) {
            Part::Code { index, bit } => {
                Part::Code { index: block * self.kind.weights() + index, bit }
            }
            Part::Scale { bit, .. } => Part::Scale { group: block, bit },
            Part::Trits => Part::Trits,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bit_of_a_block_is_one_part_and_every_part_one_bit() {
        for kind in BlockType::ALL {
            let mut owned = vec![false; 8 * kind.bytes()];
            owned[..8 * kind.trit_bytes()].fill(true);
            let codes = (0..kind.weights()).flat_map(|index| {
                (0..kind.code_bits())
                    .map(move |bit| (Part::Code { index, bit }, kind.code_place(index, bit)))
            });
            let scales = (0..kind.scale_bits())
                .map(|bit| (Part::Scale { group: 0, bit }, kind.scale_place(bit)));
            for (part, place) in codes.chain(scales) {
                let at = 8 * place.byte + usize::from(place.bit);
                assert!(!std::mem::replace(&mut owned[at], true), "{} {part:?}", kind.name());
                assert_eq!(kind.part(place), part, "{}", kind.name());
            }
            assert!(owned.into_iter().all(|owned| owned), "{}", kind.name());
        }
    }

    #[test]
    fn a_bit_of_a_code_changes_the_value_of_its_weight_alone() {
        for kind in BlockType::ALL {
            let byte = |at: usize| (at * 37 + at / 3) as u8;
            let mut block: Vec<u8> = (0..kind.bytes()).map(byte).collect();
            let at = kind.scale_at();
            block[at..at + 2].copy_from_slice(&f16::from_f32(-0.625).to_le_bytes());
            let mut clean = vec![0.0; kind.weights()];
            kind.values(&block, &mut clean);
            for index in (0..kind.weights()).step_by(3) {
                for bit in 0..kind.code_bits() {
                    let place = kind.code_place(index, bit);
                    let mut flipped = block.clone();
                    flipped[place.byte] ^= 1 << place.bit;
                    let mut values = vec![0.0; kind.weights()];
                    kind.values(&flipped, &mut values);
                    let others = values.iter().zip(&clean).enumerate().filter(|(_, (a, b))| a != b);
                    let others: Vec<usize> = others.map(|(at, _)| at).collect();
                    // The factor of a weight may be 0.
                    assert!(others.is_empty() || others == [index], "{} {index}", kind.name());
                    assert!(kind == BlockType::Q4K || kind == BlockType::Q6K || others == [index]);
                }
            }
        }
    }

    #[test]
    fn integers_are_encoded_as_they_were_read_but_for_unusual_bytes() {
        for kind in BlockType::ALL.into_iter().filter(|kind| kind.has_integers()) {
            for first in 0..=255u8 {
                let byte = |at: usize| first.wrapping_add((at * 41) as u8);
                let block: Vec<u8> = (0..kind.bytes()).map(byte).collect();
                let mut integers = vec![0; kind.weights()];
                kind.integers(&block, &mut integers);
                let at = kind.scale_at();
                let scale = f16::from_le_bytes([block[at], block[at + 1]]);
                let again = kind.encode_integers(&integers, scale);
                for (at, (&stored, &made)) in block.iter().zip(&again).enumerate() {
                    assert_eq!(stored == made, kind.is_usual(at, stored), "{}", kind.name());
                }
            }
        }
        let usual = |at| (0..=255u8).filter(|&byte| BlockType::Tq1.is_usual(at, byte)).count();
        assert_eq!([usual(0), usual(47), usual(48), usual(51)], [243, 243, 81, 81]);
    }

    #[test]
    fn places_in_a_tensor_and_in_its_rows_are_inverse() {
        for turned in [None, Some(4)] {
            let shape = BlockShape { kind: BlockType::Q8, rows: 8, columns: 64, turned };
            assert_eq!((shape.groups(), shape.row_bytes(), shape.bytes()), (2, 68, 544));
            for byte in 0..shape.bytes() {
                let place = BitPlace { byte, bit: (byte % 8) as u8 };
                let (row, within) = shape.in_row(place);
                assert_eq!(shape.in_tensor(row, within), place);
                match shape.part(within) {
                    Part::Code { index, bit } => assert_eq!(shape.code(index, bit), within),
                    Part::Scale { group, bit } => assert_eq!(shape.scale(group, bit), within),
                    Part::Trits => panic!("no trits"),
                }
            }
        }
    }
}

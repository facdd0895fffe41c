//! The Hugging Face uint8 layout of ternary weights: four quarter planes of rows in one byte.
//!
//! | bits of byte `(r, k)` | hold |
//! |---|---|
//! | `2 i + 1 : 2 i` | the code of row `i R + r`, column `k`, where `R = rows / 4` |
//!
//! So byte 0x55 is four zeros and byte 0x00 is four times -1. [`HfRows::locate`] and
//! [`HfRows::invert`] are inverse to each other (tested on every bit of small shapes).

/// Where a bit of a packed weight lies in its tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BitPlace {
    /// The byte within the tensor.
    pub byte: usize,
    /// The bit within the byte, 0 = lowest.
    pub bit: u8,
}

/// The shape of a tensor in the Hugging Face layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HfRows {
    rows: usize,
    columns: usize,
}

impl HfRows {
    /// The layout of a `[rows, columns]` matrix; `None` unless the rows are whole quarters.
    #[must_use]
    pub fn new(rows: usize, columns: usize) -> Option<Self> {
        (rows > 0 && columns > 0 && rows.is_multiple_of(4)).then_some(Self { rows, columns })
    }

    /// The bytes of the tensor.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.rows / 4 * self.columns
    }

    /// The byte and bit that hold bit `bit` (0 or 1) of the code at `(row, column)`.
    ///
    /// # Panics
    /// If the place lies outside the matrix.
    #[must_use]
    pub fn locate(&self, row: usize, column: usize, bit: u8) -> BitPlace {
        assert!(row < self.rows && column < self.columns && bit < 2, "outside the matrix");
        let quarter = self.rows / 4;
        let plane = (row / quarter) as u8;
        BitPlace { byte: row % quarter * self.columns + column, bit: 2 * plane + bit }
    }

    /// The `(row, column, bit)` that a byte and bit hold.
    ///
    /// # Panics
    /// If the place lies outside the tensor.
    #[must_use]
    pub fn invert(&self, place: BitPlace) -> (usize, usize, u8) {
        assert!(place.byte < self.bytes() && place.bit < 8, "outside the tensor");
        let plane = usize::from(place.bit / 2);
        let row = plane * (self.rows / 4) + place.byte / self.columns;
        (row, place.byte % self.columns, place.bit % 2)
    }

    /// Reads the codes of one row out of the tensor's bytes.
    ///
    /// # Panics
    /// If the bytes are not those of this shape.
    pub fn read_row(&self, bytes: &[u8], row: usize, codes: &mut [u8]) {
        assert_eq!(bytes.len(), self.bytes(), "the bytes of this shape");
        let quarter = self.rows / 4;
        let shift = 2 * (row / quarter);
        let start = row % quarter * self.columns;
        for (code, &byte) in codes.iter_mut().zip(&bytes[start..start + self.columns]) {
            *code = (byte >> shift) & 3;
        }
    }

    /// Adds the codes of one row to the tensor's bytes, where its bits are still zero.
    ///
    /// # Panics
    /// If the bytes are not those of this shape.
    pub fn add_row(&self, bytes: &mut [u8], row: usize, codes: &[u8]) {
        assert_eq!(bytes.len(), self.bytes(), "the bytes of this shape");
        let quarter = self.rows / 4;
        let shift = 2 * (row / quarter);
        let start = row % quarter * self.columns;
        for (byte, &code) in bytes[start..start + self.columns].iter_mut().zip(codes) {
            *byte |= (code & 3) << shift;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packing::weight_of;

    #[test]
    fn locate_and_invert_are_inverse_on_every_bit_of_small_shapes() {
        for (rows, columns) in [(4, 1), (4, 5), (8, 3), (20, 7)] {
            let layout = HfRows::new(rows, columns).expect("whole quarters");
            let mut seen = vec![false; layout.bytes() * 8];
            for row in 0..rows {
                for column in 0..columns {
                    for bit in 0..2 {
                        let place = layout.locate(row, column, bit);
                        assert_eq!(layout.invert(place), (row, column, bit));
                        let index = place.byte * 8 + usize::from(place.bit);
                        assert!(!std::mem::replace(&mut seen[index], true), "two owners of a bit");
                    }
                }
            }
            assert!(seen.iter().all(|&owned| owned));
        }
        assert!(HfRows::new(6, 4).is_none());
    }

    #[test]
    fn a_byte_unpacks_as_transformers_unpacks_it() {
        let layout = HfRows::new(4, 1).expect("whole quarters");
        let weights: Vec<i32> = (0..4)
            .map(|row| {
                let mut code = [0u8];
                layout.read_row(&[0b1110_0100], row, &mut code);
                weight_of(code[0])
            })
            .collect();
        assert_eq!(weights, [-1, 0, 1, 2]);
    }

    #[test]
    fn every_byte_value_decodes_as_transformers_decodes_it_and_so_does_each_of_its_flips() {
        // W[i R + r, k] = ((P[r, k] >> 2 i) & 3) - 1, with no check of the fourth code.
        let layout = HfRows::new(8, 256).expect("whole quarters");
        let decode = |bytes: &[u8]| {
            let mut weights = vec![0; 8 * 256];
            for (row, out) in weights.chunks_mut(256).enumerate() {
                let mut codes = [0u8; 256];
                layout.read_row(bytes, row, &mut codes);
                out.iter_mut().zip(codes).for_each(|(weight, code)| *weight = weight_of(code));
            }
            weights
        };
        let bytes: Vec<u8> = (0..=255).chain((0..=255).rev()).collect();
        let clean = decode(&bytes);
        for (at, &byte) in bytes.iter().enumerate() {
            let (r, k) = (at / 256, at % 256);
            for i in 0..4 {
                let weight = i32::from(byte >> (2 * i) & 3) - 1;
                assert_eq!(clean[(2 * i + r) * 256 + k], weight, "byte {byte:#x}, pair {i}");
            }
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                let after = decode(&flipped);
                let changed: Vec<usize> =
                    (0..clean.len()).filter(|&w| after[w] != clean[w]).collect();
                let (row, column, low) = layout.invert(BitPlace { byte: at, bit });
                assert_eq!(changed, [row * 256 + column], "one weight a bit");
                let (before, after) = (clean[changed[0]], after[changed[0]]);
                let expected = match (before, low) {
                    (-1, 0) => 0,
                    (-1, _) => 1,
                    (0, 0) => -1,
                    (0, _) => 2,
                    (1, 0) => 2,
                    (1, _) => -1,
                    (_, 0) => 1,
                    (_, _) => 0,
                };
                assert_eq!(after, expected, "{before}, bit {low}");
            }
        }
    }

    #[test]
    fn writing_is_the_inverse_of_reading() {
        let layout = HfRows::new(8, 5).expect("whole quarters");
        let (mut bytes, mut codes) = (vec![0; layout.bytes()], [0u8; 5]);
        for row in 0..8 {
            let codes: [u8; 5] = std::array::from_fn(|c| ((row * 7 + c * 3) % 4) as u8);
            layout.add_row(&mut bytes, row, &codes);
        }
        for row in 0..8 {
            layout.read_row(&bytes, row, &mut codes);
            for (column, &code) in codes.iter().enumerate() {
                assert_eq!(usize::from(code), (row * 7 + column * 3) % 4);
            }
        }
    }
}

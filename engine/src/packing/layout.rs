//! Where the codes of a matrix stand in its file, whichever format the file has.
//!
//! | layout | codes of |
//! |---|---|
//! | Hugging Face | four quarter planes of rows in a byte ([`HfRows`]) |
//! | `I2_S` | the flattened matrix in runs of 128 (or 64): a quarter of a run in each bit pair, the first in the highest |
//! | | or four rows in a byte, the first of them in the highest bit pair |
//! | `TQ1_0`, `TQ2_0`, `Q1_0`, `Q2_0` | blocks of one row, a scale beside them ([`BlockType`]) |
//!
//! Files of the `llama` architecture hold the rows of queries and keys in another order (for
//! rotations of neighbours); a layout knows that too, so that a row is everywhere the row of the
//! model.

use super::blocks::BlockType;
use super::hf::{BitPlace, HfRows};

/// The bytes behind the codes of an `I2_S` tensor: its scale, and padding.
pub const I2S_TAIL: usize = 32;

/// How `I2_S` runs are laid out: writers differ, and the file does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum I2sRuns {
    /// 128 weights in 32 bytes: converters, and x86 builds of today.
    #[default]
    Wide,
    /// 64 weights in 16 bytes: quantised by an ARM build.
    Narrow,
    /// A column of 4 rows in a byte: quantised by an x86 build that multiplies row by row.
    Rows,
}

impl I2sRuns {
    /// The byte, and the shift in it, of the code at a place of a matrix.
    fn place(self, (row, column): (usize, usize), columns: usize) -> (usize, u8) {
        let Some(run) = self.weights() else {
            return (row / 4 * columns + column, 6 - 2 * (row % 4) as u8);
        };
        let (index, quarter) = (row * columns + column, run / 4);
        let within = index % run;
        (index / run * quarter + within % quarter, 6 - 2 * (within / quarter) as u8)
    }

    /// The row and column whose code stands in a byte, in a bit pair counted from the highest.
    fn invert(self, byte: usize, part: usize, columns: usize) -> (usize, usize) {
        let Some(run) = self.weights() else {
            return (byte / columns * 4 + part, byte % columns);
        };
        let quarter = run / 4;
        let index = byte / quarter * run + part * quarter + byte % quarter;
        (index / columns, index % columns)
    }

    /// Whether a matrix is whole runs.
    fn fit(self, rows: usize, columns: usize) -> bool {
        let Some(weights) = rows.checked_mul(columns) else { return false };
        weights > 0 && self.weights().map_or(rows, |_| weights).is_multiple_of(self.step())
    }

    /// The weights of a run of the flattened matrix; `None` where bytes go across rows.
    fn weights(self) -> Option<usize> {
        match self {
            Self::Wide => Some(128),
            Self::Narrow => Some(64),
            Self::Rows => None,
        }
    }

    /// Weights, or rows, that a matrix has whole multiples of.
    fn step(self) -> usize {
        self.weights().unwrap_or(4)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Hf(HfRows),
    I2s(I2sRuns),
    Blocks(BlockType),
}

/// Where the codes of a `[rows, columns]` matrix stand in the bytes of its tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    kind: Kind,
    rows: usize,
    columns: usize,
    /// The width of a head, where rows are stored for rotations of neighbours.
    turned: Option<usize>,
}

impl Layout {
    /// The Hugging Face layout; `None` unless the rows are whole quarters.
    #[must_use]
    pub fn hf(rows: usize, columns: usize) -> Option<Self> {
        let kind = Kind::Hf(HfRows::new(rows, columns)?);
        Some(Self { kind, rows, columns, turned: None })
    }

    /// `I2_S`; `None` unless the weights are whole runs.
    #[must_use]
    pub fn i2s(rows: usize, columns: usize, runs: I2sRuns) -> Option<Self> {
        let fits = runs.fit(rows, columns);
        fits.then_some(Self { kind: Kind::I2s(runs), rows, columns, turned: None })
    }

    /// A block format with codes; `None` unless a row is whole blocks.
    #[must_use]
    pub fn blocks(rows: usize, columns: usize, kind: BlockType) -> Option<Self> {
        let whole = rows > 0 && columns > 0 && columns.is_multiple_of(kind.weights());
        let kind = (whole && kind.has_codes()).then_some(Kind::Blocks(kind))?;
        Some(Self { kind, rows, columns, turned: None })
    }

    /// The layout with its rows stored for rotations of neighbours, in heads of a width.
    #[must_use]
    pub fn turned(self, head_dim: usize) -> Self {
        Self { turned: Some(head_dim), ..self }
    }

    /// The name of the format.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self.kind {
            Kind::Hf(_) => "hf_packed",
            Kind::I2s(_) => "I2_S",
            Kind::Blocks(kind) => kind.name(),
        }
    }

    /// The bytes that hold codes, and the scales between them.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self.kind {
            Kind::Hf(rows) => rows.bytes(),
            Kind::I2s(_) => self.rows * self.columns / 4,
            Kind::Blocks(kind) => self.rows * self.columns / kind.weights() * kind.bytes(),
        }
    }

    /// Whether every stored bit is one bit of one code.
    #[must_use]
    pub fn is_flat(&self) -> bool {
        !matches!(self.kind, Kind::Blocks(_))
    }

    /// Whether every code has two bits of its own; trits share bytes, and a sign is one bit.
    #[must_use]
    pub fn has_two_bits(&self) -> bool {
        !matches!(self.kind, Kind::Blocks(BlockType::Tq1 | BlockType::Q1))
    }

    /// The row of the file that is a row of the model.
    #[must_use]
    pub fn stored_row(&self, row: usize) -> usize {
        turned_row(row, self.turned)
    }

    /// The row of the model that is a row of the file.
    fn model_row(&self, stored: usize) -> usize {
        model_row(stored, self.turned)
    }

    /// Reads the codes of one row out of the tensor's bytes.
    ///
    /// # Panics
    /// If the bytes are not those of this shape.
    pub fn read_row(&self, bytes: &[u8], row: usize, codes: &mut [u8]) {
        let stored = self.stored_row(row);
        match self.kind {
            Kind::Hf(rows) => rows.read_row(&bytes[..rows.bytes()], stored, codes),
            Kind::I2s(runs) => {
                for (column, code) in codes.iter_mut().enumerate() {
                    let (byte, shift) = runs.place((stored, column), self.columns);
                    *code = (bytes[byte] >> shift) & 3;
                }
            }
            Kind::Blocks(kind) => {
                let width = self.columns / kind.weights() * kind.bytes();
                let row = &bytes[stored * width..(stored + 1) * width];
                let blocks = row.chunks_exact(kind.bytes());
                for (block, codes) in blocks.zip(codes.chunks_exact_mut(kind.weights())) {
                    kind.codes(block, codes);
                }
            }
        }
    }

    /// The byte and bit that hold bit `bit` (0 or 1) of the code at `(row, column)`; `None` where
    /// the format has no such bit: a trit has none, a sign has only the higher one.
    ///
    /// # Panics
    /// If the place lies outside the matrix.
    #[must_use]
    pub fn locate(&self, row: usize, column: usize, bit: u8) -> Option<BitPlace> {
        assert!(row < self.rows && column < self.columns && bit < 2, "outside the matrix");
        let stored = self.stored_row(row);
        match self.kind {
            Kind::Hf(rows) => Some(rows.locate(stored, column, bit)),
            Kind::I2s(runs) => {
                let (byte, shift) = runs.place((stored, column), self.columns);
                Some(BitPlace { byte, bit: shift + bit })
            }
            Kind::Blocks(kind) => {
                let (byte, shift) = kind.place(column % kind.weights())?;
                let sign = kind == BlockType::Q1;
                let bit = if sign { bit.checked_sub(1)? } else { bit };
                let block = (stored * self.columns + column) / kind.weights();
                Some(BitPlace { byte: block * kind.bytes() + byte, bit: shift + bit })
            }
        }
    }

    /// The tensor's bytes from the codes that `read_row(row, buffer)` writes; `None` where there is
    /// more between them than codes.
    #[must_use]
    pub fn write(&self, read_row: impl Fn(usize, &mut [u8])) -> Option<Vec<u8>> {
        let mut bytes = self.is_flat().then(|| vec![0u8; self.bytes()])?;
        let mut codes = vec![0u8; self.columns];
        for row in 0..self.rows {
            read_row(row, &mut codes);
            if let Kind::Hf(rows) = self.kind {
                rows.add_row(&mut bytes, self.stored_row(row), &codes);
                continue;
            }
            for (column, code) in codes.iter().enumerate() {
                let place = self.locate(row, column, 0)?;
                bytes[place.byte] |= (code & 3) << place.bit;
            }
        }
        Some(bytes)
    }

    /// The `(row, column, bit)` that a byte and bit hold; `None` where they hold no code's bit.
    ///
    /// # Panics
    /// If the place lies outside the tensor.
    #[must_use]
    pub fn invert(&self, place: BitPlace) -> Option<(usize, usize, u8)> {
        assert!(place.byte < self.bytes() && place.bit < 8, "outside the tensor");
        let at = |index: usize, bit| {
            Some((self.model_row(index / self.columns), index % self.columns, bit))
        };
        match self.kind {
            Kind::Hf(rows) => {
                let (row, column, bit) = rows.invert(place);
                Some((self.model_row(row), column, bit))
            }
            Kind::I2s(runs) => {
                let part = 3 - usize::from(place.bit / 2);
                let (row, column) = runs.invert(place.byte, part, self.columns);
                Some((self.model_row(row), column, place.bit % 2))
            }
            Kind::Blocks(kind) => {
                let (block, byte) = (place.byte / kind.bytes(), place.byte % kind.bytes());
                let width = if kind == BlockType::Q1 { 1 } else { 2 };
                let shift = place.bit / width * width;
                let holds = |&index: &usize| kind.place(index) == Some((byte, shift));
                let within = (0..kind.weights()).find(holds)?;
                let bit = if width == 1 { 1 } else { place.bit % 2 };
                at(block * kind.weights() + within, bit)
            }
        }
    }
}

/// The row of a `llama` file that is a row of the model, where its heads have a width.
pub(crate) fn turned_row(row: usize, head_dim: Option<usize>) -> usize {
    let Some(d) = head_dim else { return row };
    let (head, within) = (row / d, row % d);
    head * d + within % (d / 2) * 2 + within / (d / 2)
}

/// The row of a model that is a row of a `llama` file, likewise.
pub(crate) fn model_row(stored: usize, head_dim: Option<usize>) -> usize {
    let Some(d) = head_dim else { return stored };
    let (head, within) = (stored / d, stored % d);
    head * d + within % 2 * (d / 2) + within / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layouts() -> Vec<Layout> {
        let blocks = [BlockType::Tq2, BlockType::Q1, BlockType::Q2, BlockType::Q2Wide];
        let mut all = vec![
            Layout::hf(8, 6).expect("whole quarters"),
            Layout::i2s(4, 96, I2sRuns::Wide).expect("whole runs"),
            Layout::i2s(4, 96, I2sRuns::Narrow).expect("whole runs"),
            Layout::i2s(8, 37, I2sRuns::Rows).expect("whole fours of rows"),
        ];
        all.extend(blocks.map(|kind| Layout::blocks(4, 256, kind).expect("whole blocks")));
        let turned: Vec<_> = all.iter().map(|layout| layout.turned(4)).collect();
        all.extend(turned);
        all
    }

    #[test]
    fn locate_and_invert_are_inverse_and_reading_agrees_with_them() {
        for layout in layouts() {
            let mut owned = 0;
            for row in 0..layout.rows {
                for column in 0..layout.columns {
                    for bit in 0..2 {
                        let Some(place) = layout.locate(row, column, bit) else { continue };
                        owned += 1;
                        assert_eq!(layout.invert(place), Some((row, column, bit)), "{layout:?}");
                        let mut bytes = vec![0u8; layout.bytes()];
                        let mut before = vec![0u8; layout.columns];
                        layout.read_row(&bytes, row, &mut before);
                        bytes[place.byte] ^= 1 << place.bit;
                        let mut codes = vec![0u8; layout.columns];
                        layout.read_row(&bytes, row, &mut codes);
                        before[column] ^= 1 << bit;
                        assert_eq!(codes, before, "{layout:?}");
                    }
                }
            }
            let held = (0..8 * layout.bytes()).filter(|&at| {
                layout.invert(BitPlace { byte: at / 8, bit: (at % 8) as u8 }).is_some()
            });
            assert_eq!(held.count(), owned, "{layout:?}");
            assert_eq!(layout.is_flat(), owned == 8 * layout.bytes());
            let code = |row: usize, column: usize| ((row * 7 + column * 5) % 4) as u8;
            let written = layout.write(|row, out| {
                out.iter_mut().enumerate().for_each(|(column, out)| *out = code(row, column));
            });
            assert_eq!(written.is_some(), layout.is_flat());
            for row in written.iter().flat_map(|_| 0..layout.rows) {
                let mut codes = vec![0u8; layout.columns];
                layout.read_row(written.as_deref().unwrap_or_default(), row, &mut codes);
                assert!(codes.iter().enumerate().all(|(column, &c)| c == code(row, column)));
            }
        }
    }

    #[test]
    fn a_run_holds_its_first_quarter_in_the_highest_bits() {
        let layout = Layout::i2s(1, 128, I2sRuns::Wide).expect("whole runs");
        let mut bytes = [0b01_01_01_01u8; 32];
        bytes[5] = 0b10_00_11_01;
        let mut codes = [0u8; 128];
        layout.read_row(&bytes, 0, &mut codes);
        assert_eq!([codes[5], codes[37], codes[69], codes[101]], [2, 0, 3, 1]);
        assert_eq!(codes.iter().filter(|&&code| code != 1).count(), 3);
    }

    #[test]
    fn a_byte_across_rows_holds_the_first_of_them_in_the_highest_bits() {
        let layout = Layout::i2s(8, 3, I2sRuns::Rows).expect("whole fours of rows");
        let mut bytes = [0b01_01_01_01u8; 6];
        bytes[4] = 0b10_00_11_01;
        let code = |row| {
            let mut codes = [0u8; 3];
            layout.read_row(&bytes, row, &mut codes);
            codes
        };
        assert_eq!([code(4), code(5)], [[1, 2, 1], [1, 0, 1]]);
        assert_eq!([code(6), code(7)], [[1, 3, 1], [1, 1, 1]]);
        assert!((0..4).all(|row| code(row) == [1; 3]));
    }

    #[test]
    fn shapes_that_are_no_whole_blocks_have_no_layout() {
        assert!(Layout::hf(6, 4).is_none() && Layout::i2s(3, 100, I2sRuns::Wide).is_none());
        assert!(Layout::i2s(6, 128, I2sRuns::Rows).is_none());
        assert!(Layout::blocks(4, 128, BlockType::Tq2).is_none());
        assert!(Layout::blocks(4, 256, BlockType::Q8).is_none());
        assert!(!Layout::blocks(4, 256, BlockType::Tq1).expect("whole blocks").has_two_bits());
    }
}

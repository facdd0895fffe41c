//! A matrix of floats in the type that its file stores, so that a flipped bit is one of those bits.
//!
//! Rows are widened to f32, exactly, when they are read.

use half::f16;
use ndarray::ArrayView2;

use crate::kernels::Kernels;
use crate::numerics::{widen_bf16, widen_f16};
use crate::packing::BlockType;

/// Rows that are widened at a time.
const TOGETHER: usize = 4;

/// The type of a stored float; every value of it is an f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FloatType {
    /// IEEE binary32.
    F32,
    /// IEEE binary16.
    F16,
    /// The upper half of a binary32.
    Bf16,
}

impl FloatType {
    /// Bits of a stored value.
    #[must_use]
    pub fn bits(self) -> u8 {
        match self {
            Self::F32 => 32,
            Self::F16 | Self::Bf16 => 16,
        }
    }

    /// The name in checkpoints.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
        }
    }

    /// The value that results when one stored bit of a value of this type is flipped.
    ///
    /// # Panics
    /// If the type has no such bit.
    #[must_use]
    pub fn flip(self, value: f32, bit: u8) -> f32 {
        assert!(bit < self.bits(), "bit {bit} of a {}-bit value", self.bits());
        self.flip_mask(value, 1 << bit)
    }

    /// The stored bits of a value, lowest first.
    #[must_use]
    pub fn stored_bits(self, value: f32) -> u32 {
        match self {
            Self::F32 => value.to_bits(),
            Self::F16 => f16::from_f32(value).to_bits().into(),
            Self::Bf16 => value.to_bits() >> 16,
        }
    }

    /// The value of stored bits.
    #[must_use]
    pub fn value(self, bits: u32) -> f32 {
        match self {
            Self::F32 => f32::from_bits(bits),
            Self::F16 => f16::from_bits(bits as u16).to_f32(),
            Self::Bf16 => f32::from_bits(bits << 16),
        }
    }

    /// The value that results when all the stored bits of a mask are flipped at once.
    ///
    /// This is not always a sequence of single flips: a signalling f16 NaN between two of them
    /// would be quieted on its way through f32.
    ///
    /// # Panics
    /// If the mask has a bit that the type has not.
    #[must_use]
    pub fn flip_mask(self, value: f32, mask: u32) -> f32 {
        assert!(u64::from(mask) < 1 << self.bits(), "{mask:#x} of a {}-bit value", self.bits());
        match self {
            Self::F32 => f32::from_bits(value.to_bits() ^ mask),
            Self::F16 => f16::from_bits(f16::from_f32(value).to_bits() ^ mask as u16).to_f32(),
            Self::Bf16 => f32::from_bits(value.to_bits() ^ (mask << 16)),
        }
    }
}

/// A `[rows, columns]` matrix of f32, f16, bf16, or blocks under scales of their own.
#[derive(Clone, Debug, PartialEq)]
pub enum Float {
    /// f32 values.
    F32 {
        /// Row-major values.
        data: Vec<f32>,
        /// Width of a row.
        columns: usize,
    },
    /// f16 bits.
    F16 {
        /// Row-major bits.
        data: Vec<u16>,
        /// Width of a row.
        columns: usize,
    },
    /// bf16 bits.
    Bf16 {
        /// Row-major bits.
        data: Vec<u16>,
        /// Width of a row.
        columns: usize,
    },
    /// Blocks of a format of GGUF files; a row is whole blocks.
    Blocks {
        /// The format.
        kind: BlockType,
        /// Row-major blocks.
        data: Vec<u8>,
        /// Width of a row.
        columns: usize,
        /// The width of a head, where the file has the rows for rotations of neighbours.
        turned: Option<usize>,
        /// The scale beside the tensor, by which each value of a block is multiplied once more
        /// (rounded once), and its type.
        factor: Option<(f32, FloatType)>,
    },
}

impl Float {
    /// The number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        match self {
            Self::F32 { data, columns } => data.len() / columns,
            Self::F16 { data, columns } | Self::Bf16 { data, columns } => data.len() / columns,
            Self::Blocks { kind, data, columns, .. } => {
                data.len() / kind.bytes() * kind.weights() / columns
            }
        }
    }

    /// The width of a row.
    #[must_use]
    pub fn columns(&self) -> usize {
        match self {
            Self::F32 { columns, .. }
            | Self::F16 { columns, .. }
            | Self::Bf16 { columns, .. }
            | Self::Blocks { columns, .. } => *columns,
        }
    }

    /// The type of the stored values; `None` where a value has no bits of its own.
    #[must_use]
    pub fn stored(&self) -> Option<FloatType> {
        match self {
            Self::F32 { .. } => Some(FloatType::F32),
            Self::F16 { .. } => Some(FloatType::F16),
            Self::Bf16 { .. } => Some(FloatType::Bf16),
            Self::Blocks { .. } => None,
        }
    }

    /// The stored bits of a value, lowest first.
    ///
    /// # Panics
    /// If there is no such value, or the matrix is stored in blocks.
    #[must_use]
    pub fn bits_at(&self, row: usize, column: usize) -> u32 {
        let at = row * self.columns() + column;
        match self {
            Self::F32 { data, .. } => data[at].to_bits(),
            Self::F16 { data, .. } | Self::Bf16 { data, .. } => data[at].into(),
            Self::Blocks { .. } => panic!("blocks are read by their bytes"),
        }
    }

    /// All values, row by row.
    #[must_use]
    pub fn widened(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.rows() * self.columns()];
        for (row, out) in values.chunks_exact_mut(self.columns()).enumerate() {
            self.read_row(row, out);
        }
        values
    }

    /// Widens one row.
    ///
    /// # Panics
    /// If there is no such row or `out` is not as wide.
    pub fn read_row(&self, row: usize, out: &mut [f32]) {
        let span = row * self.columns()..(row + 1) * self.columns();
        match self {
            Self::F32 { data, .. } => out.copy_from_slice(&data[span]),
            Self::F16 { data, .. } => {
                assert_eq!(out.len(), self.columns(), "a row of this width");
                for (value, &bits) in out.iter_mut().zip(&data[span]) {
                    *value = widen_f16(bits);
                }
            }
            Self::Bf16 { data, .. } => {
                assert_eq!(out.len(), self.columns(), "a row of this width");
                for (value, &bits) in out.iter_mut().zip(&data[span]) {
                    *value = widen_bf16(bits);
                }
            }
            Self::Blocks { kind, data, columns, factor, .. } => {
                assert_eq!(out.len(), *columns, "a row of this width");
                let width = columns / kind.weights() * kind.bytes();
                let blocks = data[row * width..(row + 1) * width].chunks_exact(kind.bytes());
                for (block, out) in blocks.zip(out.chunks_exact_mut(kind.weights())) {
                    kind.values(block, out);
                }
                if let Some((factor, _)) = factor {
                    out.iter_mut().for_each(|value| *value *= factor);
                }
            }
        }
    }

    /// `dot16` of each row of `x` `[tokens, columns]` with rows `first..` of the matrix.
    ///
    /// `out` is `[row][token]`, as many rows as it has room for. A dot product has the same bits
    /// whichever of its factors is called the row.
    pub fn dots(&self, kernels: &Kernels, x: ArrayView2<f32>, first: usize, out: &mut [f32]) {
        let (tokens, columns) = (x.nrows(), self.columns());
        let x = x.as_slice().expect("standard rows");
        let span = first * columns..(first + out.len() / tokens) * columns;
        match self {
            Self::F32 { data, .. } if tokens == 1 => (kernels.dot_rows)(x, &data[span], out),
            Self::F32 { data, .. } => (kernels.dot_tile)(x, columns, &data[span], out),
            Self::F16 { data, .. } if tokens == 1 => (kernels.halves.dot_rows)(x, &data[span], out),
            Self::F16 { data, .. } => (kernels.halves.dot_tile)(x, columns, &data[span], out),
            Self::Bf16 { data, .. } if tokens == 1 => (kernels.dot_rows_bf16)(x, &data[span], out),
            Self::Bf16 { .. } | Self::Blocks { .. } => {
                let mut wide = Vec::new();
                for (index, out) in out.chunks_mut(TOGETHER * tokens).enumerate() {
                    wide.resize(out.len() / tokens * columns, 0.0);
                    self.widen(kernels, first + index * TOGETHER, &mut wide);
                    (kernels.dot_tile)(x, columns, &wide, out);
                }
            }
        }
    }

    /// Widens rows that lie behind one another, as many as `out` has room for.
    fn widen(&self, kernels: &Kernels, first: usize, out: &mut [f32]) {
        let (at, columns) = (first * self.columns(), self.columns());
        match self {
            Self::Bf16 { data, .. } => (kernels.widen_bf16)(&data[at..at + out.len()], out),
            Self::F16 { data, .. } => (kernels.halves.widen)(&data[at..at + out.len()], out),
            _ => {
                for (index, out) in out.chunks_exact_mut(columns).enumerate() {
                    self.read_row(first + index, out);
                }
            }
        }
    }
}

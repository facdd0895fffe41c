//! Matrices as blocks of a file, and what a reader makes of them once some bytes are others.
//!
//! A model keeps what its kernels read; beside it stands here what the file says more: the scales
//! of blocks, the bytes of trits that no writer makes, and the order of rows. So every stored bit
//! can be found again, and [`Weights::rewritten`] answers what the loader would.
//!
//! Invariant: the weights of rewritten rows are, bit for bit, those that a load of the changed file
//! gives under the same policy of activations. A scale that is not finite, which a load refuses, is
//! computed with, as a reader would that is struck after it has loaded.

use std::collections::BTreeMap;
use std::sync::Arc;

use half::f16;

use super::{Coded, Float, FloatType, Scale, Scales, StoredScale, Weights};
use crate::packing::{
    BitPlace, BlockShape, CodedRows, Layout, TernaryRows, UNUSED_CODE, ZERO_CODE, weight_of,
};

/// What a file of blocks holds beside the integers of a matrix.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredBlocks {
    /// The blocks.
    pub shape: BlockShape,
    /// The scale beside the tensor, by which its outputs are multiplied, and its type.
    pub factor: Option<(f32, FloatType)>,
    /// The bits of the scales, in the rows of the model.
    scales: Vec<u16>,
    /// Bytes of trits that no writer makes, by their number in the rows of the model.
    odd: BTreeMap<usize, u8>,
}

impl StoredBlocks {
    /// Those of the bytes of a tensor.
    ///
    /// # Panics
    /// If the format has no integers, or the bytes are not of this shape.
    #[must_use]
    pub fn read(shape: BlockShape, data: &[u8], factor: Option<(f32, FloatType)>) -> Self {
        assert!(shape.kind.has_integers() && data.len() == shape.bytes(), "blocks of this shape");
        let (size, at) = (shape.kind.bytes(), shape.kind.scale_at());
        let mut scales = Vec::with_capacity(data.len() / size);
        let mut odd = BTreeMap::new();
        for row in 0..shape.rows {
            let start = shape.in_tensor(row, BitPlace { byte: 0, bit: 0 }).byte;
            let bytes = &data[start..start + shape.row_bytes()];
            for (block, bytes) in bytes.chunks_exact(size).enumerate() {
                scales.push(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
                let trits = bytes[..shape.kind.trit_bytes()].iter().enumerate();
                for (byte, &stored) in trits.filter(|&(at, &b)| !shape.kind.is_usual(at, b)) {
                    odd.insert(row * shape.row_bytes() + block * size + byte, stored);
                }
            }
        }
        Self { shape, factor, scales, odd }
    }

    /// What a block is multiplied by, the scale beside the tensor included.
    fn product(&self, block: usize) -> f32 {
        let factor = self.factor.map_or(1.0, |(factor, _)| factor);
        f16::from_bits(self.scales[block]).to_f32() * factor
    }

    fn products(&self) -> impl Iterator<Item = f32> {
        (0..self.scales.len()).map(|block| self.product(block))
    }

    /// The bytes of a row of the model, whose integers the caller knows.
    fn row(&self, row: usize, integers: &[i8]) -> Vec<u8> {
        let shape = self.shape;
        let scales = &self.scales[row * shape.groups()..(row + 1) * shape.groups()];
        let blocks = integers.chunks_exact(shape.kind.weights()).zip(scales);
        let mut bytes: Vec<u8> = blocks
            .flat_map(|(integers, &scale)| {
                shape.kind.encode_integers(integers, f16::from_bits(scale))
            })
            .collect();
        let start = row * shape.row_bytes();
        for (&at, &byte) in self.odd.range(start..start + shape.row_bytes()) {
            bytes[at - start] = byte;
        }
        bytes
    }
}

/// In which form a file holds integers under scales of rows or groups.
#[derive(Clone, Debug, PartialEq)]
pub enum CodedFile {
    /// Ternary codes, and beside them a scale for each row.
    Packed {
        /// Where the codes stand.
        layout: Option<Layout>,
        /// The type of the scales.
        scales: FloatType,
    },
    /// Blocks.
    Blocks(Arc<StoredBlocks>),
}

/// Weights of which some rows were written anew.
#[derive(Clone, Debug)]
pub struct Rewritten {
    /// The whole matrix, where more than its rows became another.
    pub whole: Option<Weights>,
    /// Single rows, each a matrix of one, where they differ from those of the whole.
    pub rows: Vec<(usize, Weights)>,
}

impl Float {
    /// Its blocks, where it is stored in blocks.
    #[must_use]
    pub fn block_shape(&self) -> Option<BlockShape> {
        match *self {
            Self::Blocks { kind, columns, turned, .. } => {
                Some(BlockShape { kind, rows: self.rows(), columns, turned })
            }
            _ => None,
        }
    }

    /// The stored bytes of a row.
    ///
    /// # Panics
    /// If it is not stored in blocks, or has no such row.
    #[must_use]
    pub fn block_row(&self, row: usize) -> &[u8] {
        let (Self::Blocks { data, .. }, Some(shape)) = (self, self.block_shape()) else {
            panic!("values that are not stored in blocks");
        };
        &data[row * shape.row_bytes()..(row + 1) * shape.row_bytes()]
    }
}

impl Weights {
    fn stored_blocks(&self) -> Option<&StoredBlocks> {
        match self {
            Self::Ternary { blocks, .. } => blocks.as_deref(),
            Self::Coded(coded) => match coded.file() {
                Some(CodedFile::Blocks(blocks)) => Some(blocks),
                _ => None,
            },
            Self::Dense(_) => None,
        }
    }

    /// The blocks in which a file holds the matrix, where it does.
    #[must_use]
    pub fn block_shape(&self) -> Option<BlockShape> {
        match self {
            Self::Dense(float) => float.block_shape(),
            _ => self.stored_blocks().map(|blocks| blocks.shape),
        }
    }

    /// Whether the weights are codes of two bits each, all worth the scale of the tensor, whatever
    /// they become. Where a block of zeros has another scale, as writers leave it 0, a code that
    /// is no zero any more makes a matrix of groups.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        let Self::Ternary { scale, layout, blocks, .. } = self else { return false };
        let scales = blocks.iter().flat_map(|blocks| blocks.products());
        layout.is_none_or(|layout| layout.has_two_bits())
            && scales.into_iter().all(|product| product == scale.stored())
    }

    /// Whether another code at a place changes its weight by whole steps of the scale of the
    /// tensor, and nothing else.
    ///
    /// # Panics
    /// If there is no such place.
    #[must_use]
    pub fn moves_alone(&self, row: usize, column: usize) -> bool {
        let Self::Ternary { scale, layout, blocks, .. } = self else { return false };
        layout.is_none_or(|layout| layout.has_two_bits())
            && blocks.as_ref().is_none_or(|blocks| {
                let group = column / blocks.shape.kind.weights();
                blocks.product(row * blocks.shape.groups() + group) == scale.stored()
            })
    }

    /// The scale of the tensor that a file holds, and its type: the only one, or the one beside
    /// weights that have scales too.
    #[must_use]
    pub fn tensor_scale(&self) -> Option<(f32, FloatType)> {
        match (self.stored_blocks(), self) {
            (Some(blocks), _) => blocks.factor,
            (None, Self::Ternary { scale, stored, .. }) => stored.map(|stored| match stored {
                StoredScale::One(kind) => (scale.stored(), kind),
                StoredScale::Two { beside, .. } => beside,
            }),
            (None, Self::Dense(float)) => match **float {
                Float::Blocks { factor, .. } => factor,
                _ => None,
            },
            (None, Self::Coded(_)) => None,
        }
    }

    /// The f32 behind the codes of a tensor that has a scale beside it too.
    #[must_use]
    pub fn scale_behind(&self) -> Option<f32> {
        match *self {
            Self::Ternary { stored: Some(StoredScale::Two { behind, .. }), .. } => Some(behind),
            _ => None,
        }
    }

    /// The stored bytes of a row of blocks.
    ///
    /// # Panics
    /// If the matrix is not stored in blocks, or has no such row.
    #[must_use]
    pub fn block_row(&self, row: usize) -> Vec<u8> {
        let blocks = || self.stored_blocks().expect("a matrix of blocks");
        match self {
            Self::Ternary { rows, .. } => {
                let codes = rows.row(row).into_iter();
                let integers: Vec<i8> = codes.map(|code| weight_of(code) as i8).collect();
                blocks().row(row, &integers)
            }
            Self::Coded(coded) => blocks().row(row, &coded.rows().row(row)),
            Self::Dense(float) => float.block_row(row).to_vec(),
        }
    }

    /// What a reader makes of the matrix once some rows have other bytes and the scale beside the
    /// tensor is `factor` (1 without one). With `integers` it reads integer activations; with
    /// `zeroed` it takes an unused code that was none before for weight 0.
    ///
    /// # Panics
    /// If the matrix is not stored in blocks, or rows are not of its width.
    #[must_use]
    pub fn rewritten(
        &self,
        changed: &BTreeMap<usize, Vec<u8>>,
        factor: f32,
        (integers, zeroed): (bool, bool),
    ) -> Rewritten {
        let shape = self.block_shape().expect("a matrix of blocks");
        let view = View { weights: self, shape, changed, factor, zeroed };
        let uniform = shape.kind.has_codes().then(|| view.uniform()).flatten();
        let integers = integers && shape.kind.has_integers();
        let before = self.tensor_scale().map_or(1.0, |(factor, _)| factor);
        let singles = || {
            let one = |&row: &usize| (row, view.of(&[row], uniform, integers));
            changed.keys().map(one).collect()
        };
        match (self, uniform) {
            (Self::Ternary { rows, scale, .. }, Some(found)) => {
                let next = Scale::Multiply(found * factor);
                let whole = (next != *scale).then(|| under(Arc::clone(rows), next));
                Rewritten { whole, rows: singles() }
            }
            (Self::Coded(_) | Self::Dense(_), None) if factor.to_bits() == before.to_bits() => {
                Rewritten { whole: None, rows: singles() }
            }
            _ => {
                let all: Vec<usize> = (0..shape.rows).collect();
                Rewritten { whole: Some(view.of(&all, uniform, integers)), rows: Vec::new() }
            }
        }
    }
}

fn under(rows: Arc<TernaryRows>, scale: Scale) -> Weights {
    Weights::Ternary { rows, scale, stored: None, layout: None, blocks: None }
}

/// A matrix of which some rows have other bytes.
struct View<'a> {
    weights: &'a Weights,
    shape: BlockShape,
    changed: &'a BTreeMap<usize, Vec<u8>>,
    factor: f32,
    zeroed: bool,
}

impl View<'_> {
    fn bytes(&self, row: usize) -> Vec<u8> {
        self.changed.get(&row).cloned().unwrap_or_else(|| self.weights.block_row(row))
    }

    /// The scale of a block that stands at a place among all of the matrix.
    fn scale(&self, row: usize, group: usize) -> f32 {
        let size = self.shape.kind.bytes();
        let of = |bytes: &[u8]| self.shape.kind.scale(&bytes[group * size..(group + 1) * size]);
        match (self.changed.get(&row), self.weights.stored_blocks()) {
            (Some(bytes), _) => of(bytes),
            (None, Some(blocks)) => {
                f16::from_bits(blocks.scales[row * self.shape.groups() + group]).to_f32()
            }
            (None, None) => of(&self.bytes(row)),
        }
    }

    /// The one positive scale of all blocks that hold anything but zeros, as the loader finds it.
    fn uniform(&self) -> Option<f32> {
        let (kind, mut found) = (self.shape.kind, None);
        for row in 0..self.shape.rows {
            for group in 0..self.shape.groups() {
                let scale = self.scale(row, group);
                if !scale.is_finite() {
                    return None;
                }
                if found == Some(scale) {
                    continue;
                }
                let bytes = self.bytes(row);
                let mut codes = vec![0; kind.weights()];
                kind.codes(&bytes[group * kind.bytes()..(group + 1) * kind.bytes()], &mut codes);
                if codes.iter().all(|&code| code == ZERO_CODE) {
                    continue;
                }
                if found.is_some() || scale <= 0.0 {
                    return None;
                }
                found = Some(scale);
            }
        }
        Some(found.unwrap_or(1.0))
    }

    /// The integers of a row, and what was made of their unused codes.
    fn integers(&self, row: usize, out: &mut [i8]) {
        let kind = self.shape.kind;
        let read = |bytes: &[u8], out: &mut [i8]| {
            let blocks = bytes.chunks_exact(kind.bytes());
            blocks.zip(out.chunks_exact_mut(kind.weights())).for_each(|(b, out)| {
                kind.integers(b, out);
            });
        };
        read(&self.bytes(row), out);
        if self.zeroed && kind.has_codes() && self.changed.contains_key(&row) {
            let mut before = vec![0; out.len()];
            read(&self.weights.block_row(row), &mut before);
            let unused = weight_of(UNUSED_CODE) as i8;
            let made =
                out.iter_mut().zip(before).filter(|(now, was)| **now == unused && *was != unused);
            made.for_each(|(now, _)| *now = 0);
        }
    }

    /// The weights of some rows, as they are under one scale or under those of their blocks.
    fn of(&self, rows: &[usize], uniform: Option<f32>, integers: bool) -> Weights {
        let (kind, columns) = (self.shape.kind, self.shape.columns);
        let scales = || {
            rows.iter().flat_map(|&row| {
                (0..self.shape.groups()).map(move |group| self.scale(row, group) * self.factor)
            })
        };
        if let Some(scale) = uniform {
            let codes = TernaryRows::pack(rows.len(), columns, |index, codes| {
                let mut row = vec![0; columns];
                self.integers(rows[index], &mut row);
                codes.iter_mut().zip(row).for_each(|(code, i)| *code = (i + 1) as u8);
            });
            return under(Arc::new(codes), Scale::Multiply(scale * self.factor));
        }
        if integers {
            let codes = CodedRows::pack((rows.len(), columns), kind.weights(), |index, out| {
                self.integers(rows[index], out);
            });
            let scales = Scales::Groups(scales().collect());
            return Weights::Coded(Arc::new(Coded::new(kind.name(), codes, scales)));
        }
        let data: Vec<u8> = rows.iter().flat_map(|&row| self.bytes(row)).collect();
        let factor = self.weights.tensor_scale().map(|(_, stored)| (self.factor, stored));
        let blocks = Float::Blocks { kind, data, columns, turned: None, factor };
        if !self.zeroed {
            return Weights::Dense(Arc::new(blocks));
        }
        let mut values = vec![0.0; rows.len() * columns];
        for (index, values) in values.chunks_exact_mut(columns).enumerate() {
            blocks.read_row(index, values);
            if kind.has_codes() {
                let (mut now, mut read) = (vec![0; columns], vec![0; columns]);
                self.integers(rows[index], &mut now);
                View { zeroed: false, ..*self }.integers(rows[index], &mut read);
                let zeroed =
                    values.iter_mut().zip(now.iter().zip(read)).filter(|(_, (a, b))| *a != b);
                zeroed.for_each(|(value, _)| *value = 0.0);
            }
        }
        Weights::Dense(Arc::new(Float::F32 { data: values, columns }))
    }
}

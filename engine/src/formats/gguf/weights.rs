//! Tensors of a GGUF file as weights: floats, codes under one scale, blocks.
//!
//! Invariant: a weight is exactly what llama.cpp (or bitnet.cpp) reads, or the tensor is refused.

use std::sync::Arc;

use rayon::prelude::*;
use safetensors::Dtype;

use super::super::UnusedCode;
use super::super::error::FormatError;
use super::super::manifest::{TensorEntry, TensorKind};
use super::super::shards::Tensor;
use super::super::values::count_zeros;
use super::header::Extent;
use super::types::GgmlType;
use crate::model::{self, CodedFile, Float, FloatType, Scales, StoredBlocks};
use crate::packing::{
    BlockShape, BlockType, CodedRows, I2S_TAIL, I2sRuns, Layout, TernaryRows, UNUSED_CODE,
    ZERO_CODE, turned_row,
};

/// What an `I2_S` tensor must be, and how to say that it is laid out otherwise.
const WHOLE_RUNS: &str = "I2_S in whole runs of 128 weights (or of 64, or of 4 rows: the words \
    i2s=64 or i2s=4 behind the name of the file)";

/// The scale beside a tensor, if there is one, and its type.
pub(super) type Factor = Option<(f32, FloatType)>;

/// Codes of a matrix under one scale.
pub(super) struct Coded {
    /// The codes.
    pub(super) rows: TernaryRows,
    /// The scale of all of them; `None` where blocks have scales of their own.
    pub(super) scale: Option<f32>,
    /// Where they stand in the file.
    pub(super) layout: Layout,
    /// How many have each of the four codes, as stored.
    pub(super) census: [u64; 4],
}

/// A tensor with its file.
#[derive(Clone, Copy)]
pub(super) struct Stored<'a> {
    /// The tensor.
    pub(super) extent: &'a Extent<'a>,
    /// The plain name of its file.
    pub(super) file: &'a str,
    /// The file as messages name it.
    pub(super) label: &'a str,
}

impl<'a> Stored<'a> {
    /// The refusal of the tensor for its type or shape.
    pub(super) fn refused(&self, expected: impl Into<String>) -> FormatError {
        FormatError::Tensor {
            file: self.label.into(),
            tensor: self.extent.name.into(),
            expected: expected.into(),
            got: format!("{} {:?}", self.extent.kind.name(), self.extent.shape),
        }
    }

    /// The refusal of a value at a byte of the tensor.
    pub(super) fn bad_value(&self, at: usize, expected: &'static str, got: f32) -> FormatError {
        FormatError::Value {
            file: self.label.into(),
            tensor: self.extent.name.into(),
            offset: (self.extent.offset + at) as u64,
            expected,
            got: got.to_string(),
        }
    }

    /// The tensor as one of floats.
    pub(super) fn float(&self) -> Option<Tensor<'a>> {
        let dtype = match self.extent.kind {
            GgmlType::F32 => Dtype::F32,
            GgmlType::F16 => Dtype::F16,
            GgmlType::Bf16 => Dtype::BF16,
            _ => return None,
        };
        Some(Tensor {
            name: self.extent.name,
            file: self.file,
            label: self.label.into(),
            dtype,
            shape: &self.extent.shape,
            offset: self.extent.offset as u64,
            data: self.extent.data,
            all: None,
        })
    }

    /// An entry about whose values nothing is known yet.
    pub(super) fn entry(&self, kind: TensorKind) -> TensorEntry {
        TensorEntry {
            name: self.extent.name.into(),
            role: None,
            dtype: self.extent.kind.name().into(),
            shape: self.extent.shape.clone(),
            file: self.file.into(),
            offset: self.extent.offset as u64,
            bytes: self.extent.data.len() as u64,
            values: self.extent.shape.iter().map(|&width| width as u64).product(),
            kind,
            census: None,
            zeros: None,
            constant: false,
            turned: None,
        }
    }

    /// A finite matrix `[rows, columns]`, in the type of the file; blocks under the scale beside
    /// them.
    pub(super) fn matrix(
        &self,
        shape: (usize, usize),
        factor: Factor,
    ) -> Result<(Float, TensorEntry), FormatError> {
        if let Some(tensor) = self.float() {
            return tensor.matrix(shape.0, shape.1);
        }
        let GgmlType::Blocks(kind) = self.extent.kind else {
            return Err(self.refused("floats, or blocks with scales"));
        };
        self.check_shape(shape)?;
        let (data, columns) = (self.extent.data.to_vec(), shape.1);
        let float = Float::Blocks { kind, data, columns, turned: None, factor };
        let judge = |(index, block): (usize, &[u8])| {
            let mut values = [0.0; 256];
            let values = &mut values[..kind.weights()];
            kind.values(block, values);
            if let Some((factor, _)) = factor {
                values.iter_mut().for_each(|value| *value *= factor);
            }
            match values.iter().position(|value| !value.is_finite()) {
                Some(bad) => Err((index * kind.bytes(), values[bad])),
                None => Ok(count_zeros(values)),
            }
        };
        let blocks = self.extent.data.par_chunks_exact(kind.bytes());
        let mut zeros = 0;
        for block in blocks.enumerate().map(judge).collect::<Vec<_>>() {
            zeros += block.map_err(|(at, got)| self.bad_value(at, "finite values", got))?;
        }
        let mut entry = self.entry(TensorKind::Blocks);
        entry.zeros = Some(zeros as f64 / entry.values as f64);
        let first = &self.extent.data[..kind.bytes()];
        entry.constant = self.extent.data.chunks_exact(kind.bytes()).all(|block| block == first)
            && entry.zeros == Some(1.0);
        Ok((float, entry))
    }

    fn check_shape(&self, (rows, columns): (usize, usize)) -> Result<(), FormatError> {
        if self.extent.shape == [rows, columns] {
            return Ok(());
        }
        Err(self.refused(format!("{:?}", [rows, columns])))
    }

    /// The codes of a `[rows, columns]` matrix in a ternary (or binary) format.
    pub(super) fn coded(
        &self,
        shape: (usize, usize),
        turned: Option<usize>,
        runs: I2sRuns,
        unused: UnusedCode,
    ) -> Result<Coded, FormatError> {
        self.check_shape(shape)?;
        let (rows, columns) = shape;
        let (layout, scale) = match self.extent.kind {
            GgmlType::I2s => {
                let layout = Layout::i2s(rows, columns, runs);
                let layout = layout.ok_or_else(|| self.refused(WHOLE_RUNS))?;
                let at = self.extent.data.len() - I2S_TAIL;
                let tail = &self.extent.data[at..];
                let scale = f32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]]);
                (layout, Some(self.positive(at, scale)?))
            }
            GgmlType::Blocks(kind) => {
                let layout = Layout::blocks(rows, columns, kind);
                let layout = layout.ok_or_else(|| self.refused("a format of codes"))?;
                (layout, self.uniform_scale(kind)?)
            }
            _ => return Err(self.refused("a format of codes")),
        };
        let layout = turned.map_or(layout, |head_dim| layout.turned(head_dim));
        let data = self.extent.data;
        let zeroed = unused == UnusedCode::Zero;
        let rows = TernaryRows::pack(rows, columns, |row, codes| layout.read_row(data, row, codes));
        let census = rows.census();
        if census[3] == 0 {
            return Ok(Coded { rows, scale, layout, census });
        }
        if matches!(unused, UnusedCode::Refuse | UnusedCode::Detect) {
            return Err(self.unused(&rows, census[3]));
        }
        let rows = if zeroed { without_unused(&rows) } else { rows };
        Ok(Coded { rows, scale, layout, census })
    }

    fn unused(&self, rows: &TernaryRows, count: u64) -> FormatError {
        let place = (0..rows.rows()).find_map(|row| {
            let codes = rows.row(row);
            codes.iter().position(|&code| code == UNUSED_CODE).map(|column| (row, column))
        });
        let (row, column) = place.unwrap_or_default();
        let (file, tensor) = (self.label.into(), self.extent.name.into());
        FormatError::UnusedCode { file, tensor, row, column, count }
    }

    fn positive(&self, at: usize, scale: f32) -> Result<f32, FormatError> {
        if scale.is_finite() && scale > 0.0 {
            return Ok(scale);
        }
        Err(self.bad_value(at, "a positive finite scale", scale))
    }

    /// The one scale of all blocks that hold anything but zeros; `None` where there are several.
    pub(super) fn uniform_scale(&self, kind: BlockType) -> Result<Option<f32>, FormatError> {
        let mut found = None;
        let mut codes = [0u8; 256];
        let codes = &mut codes[..kind.weights()];
        for (index, block) in self.extent.data.chunks_exact(kind.bytes()).enumerate() {
            let scale = kind.scale(block);
            let at = index * kind.bytes() + kind.scale_at();
            if !scale.is_finite() {
                return Err(self.bad_value(at, "a finite scale", scale));
            }
            if found == Some(scale) {
                continue;
            }
            kind.codes(block, codes);
            if codes.iter().all(|&code| code == ZERO_CODE) {
                continue;
            }
            if found.is_some() || scale <= 0.0 {
                return Ok(None);
            }
            found = Some(scale);
        }
        // A tensor of zeros is one under any scale.
        Ok(Some(found.unwrap_or(1.0)))
    }

    /// The integers of a `[rows, columns]` matrix of blocks under the scales of these.
    pub(super) fn grouped(
        &self,
        kind: BlockType,
        shape: (usize, usize),
        turned: Option<usize>,
        (unused, factor): (UnusedCode, Factor),
    ) -> Result<(model::Coded, TensorEntry), FormatError> {
        let (_, entry) = self.matrix(shape, None)?;
        let width = shape.1 / kind.weights() * kind.bytes();
        let blocks = |row: usize| {
            let at = turned_row(row, turned) * width;
            self.extent.data[at..at + width].chunks_exact(kind.bytes())
        };
        let zeroed = kind.has_codes() && unused == UnusedCode::Zero;
        let rows = CodedRows::pack(shape, kind.weights(), |row, out| {
            for (block, out) in blocks(row).zip(out.chunks_exact_mut(kind.weights())) {
                kind.integers(block, out);
                out.iter_mut().filter(|code| zeroed && **code == 2).for_each(|code| *code = 0);
            }
        });
        let times = factor.map_or(1.0, |(factor, _)| factor);
        let scales = (0..shape.0).flat_map(blocks).map(|block| kind.scale(block) * times);
        let scales: Vec<f32> = scales.collect();
        if !scales.iter().all(|scale| scale.is_finite()) {
            return Err(self.refused("scales whose products with the .scale are finite"));
        }
        let scales = Scales::Groups(scales);
        let coded = model::Coded::new(kind.name(), rows, scales);
        let blocks = self.blocks_of(shape, turned, factor).expect("a matrix of blocks");
        Ok((coded.of_file(CodedFile::Blocks(blocks)), entry))
    }

    /// What the file holds beside the integers of a matrix of blocks; `None` of other matrices.
    pub(super) fn blocks_of(
        &self,
        (rows, columns): (usize, usize),
        turned: Option<usize>,
        factor: Factor,
    ) -> Option<Arc<StoredBlocks>> {
        let GgmlType::Blocks(kind) = self.extent.kind else { return None };
        let shape = BlockShape { kind, rows, columns, turned };
        Some(Arc::new(StoredBlocks::read(shape, self.extent.data, factor)))
    }

    /// The one value of a scale tensor.
    pub(super) fn scale(&self) -> Result<(f32, FloatType), FormatError> {
        let tensor = self.float().filter(|tensor| tensor.shape == [1]);
        let tensor = tensor.ok_or_else(|| self.refused("F32 [1]"))?;
        let (values, stored) = tensor.values(&[1])?;
        Ok((self.positive(0, values[0])?, stored))
    }
}

fn without_unused(rows: &TernaryRows) -> TernaryRows {
    TernaryRows::pack(rows.rows(), rows.columns(), |row, codes| {
        rows.read_row(row, codes);
        for code in codes.iter_mut().filter(|code| **code == UNUSED_CODE) {
            *code = ZERO_CODE;
        }
    })
}

/// The rows of a matrix as the model has them, where the file has them for rotations of neighbours.
pub(super) fn unturned(float: Float, head_dim: usize) -> Float {
    fn rows<T: Copy>(data: &[T], width: usize, head_dim: usize) -> Vec<T> {
        let count = data.len() / width;
        let stored = |row| turned_row(row, Some(head_dim)) * width;
        (0..count).flat_map(|row| &data[stored(row)..stored(row) + width]).copied().collect()
    }
    match float {
        Float::F32 { data, columns } => {
            Float::F32 { data: rows(&data, columns, head_dim), columns }
        }
        Float::F16 { data, columns } => {
            Float::F16 { data: rows(&data, columns, head_dim), columns }
        }
        Float::Bf16 { data, columns } => {
            Float::Bf16 { data: rows(&data, columns, head_dim), columns }
        }
        Float::Blocks { kind, data, columns, factor, .. } => {
            let width = columns / kind.weights() * kind.bytes();
            let data = rows(&data, width, head_dim);
            Float::Blocks { kind, data, columns, turned: Some(head_dim), factor }
        }
    }
}

/// The norm gains of a width.
pub(super) fn gains(
    stored: &Stored,
    width: usize,
) -> Result<(Arc<[f32]>, FloatType, TensorEntry), FormatError> {
    let tensor = stored.float().ok_or_else(|| stored.refused(format!("F32 [{width}]")))?;
    let (gains, float_type) = tensor.values(&[width])?;
    let entry = tensor.entry(TensorKind::Norm, count_zeros(&gains));
    Ok((gains.into(), float_type, entry))
}

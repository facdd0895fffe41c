//! Float tensors: from the bytes of a file to values, every one of them finite.

use half::{bf16, f16};
use rayon::prelude::*;
use safetensors::Dtype;

use super::error::FormatError;
use super::manifest::{TensorEntry, TensorKind};
use super::shards::Tensor;
use crate::model::{Float, FloatType};

/// The widest head that is read; the rotary tables grow with it.
pub(super) const WIDEST_HEAD: usize = 4096;
/// The float types that are read, for messages.
pub(super) const FLOATS: &str = "F32, F16 or BF16";

impl Tensor<'_> {
    /// The refusal of the tensor for its type or shape.
    pub(super) fn refused(&self, expected: impl Into<String>) -> FormatError {
        FormatError::Tensor {
            file: self.label.clone(),
            tensor: self.name.into(),
            expected: expected.into(),
            got: format!("{} {:?}", self.dtype, self.shape),
        }
    }

    /// The refusal of the element at `index` for its value.
    pub(super) fn bad_value(
        &self,
        index: usize,
        expected: &'static str,
        got: impl ToString,
    ) -> FormatError {
        FormatError::Value {
            file: self.label.clone(),
            tensor: self.name.into(),
            offset: self.offset + (index * self.dtype.bitsize() / 8) as u64,
            expected,
            got: got.to_string(),
        }
    }

    /// The type of a float tensor of a shape.
    pub(super) fn float_type(&self, shape: &[usize]) -> Result<FloatType, FormatError> {
        let stored = float_type(self.dtype).filter(|_| self.shape == shape);
        stored.ok_or_else(|| self.refused(format!("{FLOATS} {shape:?}")))
    }

    /// The finite values of a float tensor of a shape, widened.
    pub(super) fn values(&self, shape: &[usize]) -> Result<(Vec<f32>, FloatType), FormatError> {
        let stored = self.float_type(shape)?;
        let values = widened(self.data, stored);
        self.check_finite(&values)?;
        Ok((values, stored))
    }

    fn check_finite(&self, values: &[f32]) -> Result<(), FormatError> {
        match values.iter().position(|value| !value.is_finite()) {
            Some(index) => Err(self.bad_value(index, "a finite number", values[index])),
            None => Ok(()),
        }
    }

    /// The floats of a matrix whose type was found, as they are stored.
    pub(super) fn as_stored(&self, stored: FloatType, columns: usize) -> Float {
        match stored {
            FloatType::F32 => Float::F32 { data: widened(self.data, stored), columns },
            FloatType::F16 => Float::F16 { data: halves(self.data), columns },
            FloatType::Bf16 => Float::Bf16 { data: halves(self.data), columns },
        }
    }

    /// A finite float matrix `[rows, columns]` in its stored type.
    pub(super) fn matrix(
        &self,
        rows: usize,
        columns: usize,
    ) -> Result<(Float, TensorEntry), FormatError> {
        let stored = self.float_type(&[rows, columns])?;
        let float = self.as_stored(stored, columns);
        let check = |row: &mut Vec<f32>, index: usize| {
            float.read_row(index, row);
            match row.iter().position(|value| !value.is_finite()) {
                Some(bad) => Err((index * columns + bad, row[bad])),
                None => Ok(count_zeros(row)),
            }
        };
        // All rows are judged, then read in order: the first bad value is named on every machine.
        let judged = (0..rows).into_par_iter().map_init(|| vec![0.0; columns], check);
        let mut zeros = 0;
        for row in judged.collect::<Vec<_>>() {
            zeros +=
                row.map_err(|(index, value)| self.bad_value(index, "a finite number", value))?;
        }
        Ok((float, self.entry(TensorKind::Float, zeros)))
    }

    /// The entry of a float tensor with so many zeros.
    pub(super) fn entry(&self, kind: TensorKind, zeros: usize) -> TensorEntry {
        let width = self.dtype.bitsize() / 8;
        let count = self.data.len() / width;
        let mut entry = TensorEntry::of(self, kind);
        entry.zeros = Some(zeros as f64 / count as f64);
        let first = &self.data[..width];
        entry.constant = count > 1 && self.data.chunks_exact(width).all(|value| value == first);
        entry
    }
}

/// How many values are zero, of either sign.
pub(super) fn count_zeros(values: &[f32]) -> usize {
    values.iter().filter(|&&value| value == 0.0).count()
}

/// The type in which the model keeps floats of a type of the file.
pub(super) fn float_type(dtype: Dtype) -> Option<FloatType> {
    match dtype {
        Dtype::F32 => Some(FloatType::F32),
        Dtype::F16 => Some(FloatType::F16),
        Dtype::BF16 => Some(FloatType::Bf16),
        _ => None,
    }
}

fn halves(data: &[u8]) -> Vec<u16> {
    data.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect()
}

/// Little-endian floats, widened exactly.
pub(super) fn widened(data: &[u8], stored: FloatType) -> Vec<f32> {
    let half = |pair: &[u8]| u16::from_le_bytes([pair[0], pair[1]]);
    match stored {
        FloatType::F32 => {
            let word = |w: &[u8]| f32::from_le_bytes([w[0], w[1], w[2], w[3]]);
            data.chunks_exact(4).map(word).collect()
        }
        FloatType::F16 => {
            data.chunks_exact(2).map(|pair| f16::from_bits(half(pair)).to_f32()).collect()
        }
        FloatType::Bf16 => {
            data.chunks_exact(2).map(|pair| bf16::from_bits(half(pair)).to_f32()).collect()
        }
    }
}

//! Ternary weights from each of their stored forms: packed, unpacked, float masters.
//!
//! Invariant: a weight is exactly what the file says, or the tensor is refused; rounding happens to
//! masters only, where it is the definition of the model.

use rayon::prelude::*;
use safetensors::Dtype;

use super::UnusedCode;
use super::error::FormatError;
use super::manifest::{TensorEntry, TensorKind};
use super::shards::Tensor;
use super::values::{FLOATS, float_type, widened};
use crate::numerics::{max, sum_abs};
use crate::packing::{BitPlace, HfRows, TernaryRows, UNUSED_CODE, ZERO_CODE};

/// The floor under the mean magnitude of masters.
const MEAN_FLOOR: f32 = 1e-5;
/// How many bytes one thread counts at a time.
const CENSUS_CHUNK: usize = 1 << 18;

/// Ternary weights `[rows, columns]` of a tensor of two bits a weight.
pub(super) fn packed(
    tensor: &Tensor,
    (rows, columns): (usize, usize),
    unused: UnusedCode,
) -> Result<(TernaryRows, TensorEntry), FormatError> {
    let layout = HfRows::new(rows, columns)
        .filter(|_| tensor.dtype == Dtype::U8 && tensor.shape == [rows / 4, columns]);
    let layout = layout.ok_or_else(|| tensor.refused(format!("U8 {:?}", [rows / 4, columns])))?;
    let census = byte_census(tensor.data);
    if census[3] > 0 && matches!(unused, UnusedCode::Refuse | UnusedCode::Detect) {
        return Err(unused_code(tensor, layout, census[3]));
    }
    let zeroed = unused == UnusedCode::Zero && census[3] > 0;
    let weights = TernaryRows::pack(rows, columns, |row, codes| {
        layout.read_row(tensor.data, row, codes);
        if zeroed {
            for code in codes.iter_mut().filter(|code| **code == UNUSED_CODE) {
                *code = ZERO_CODE;
            }
        }
    });
    let entry = TensorEntry::of(tensor, TensorKind::TernaryPacked).with_census(census);
    Ok((weights, entry))
}

/// The codes of packed bytes, counted as stored.
fn byte_census(data: &[u8]) -> [u64; 4] {
    let add = |a: [u64; 4], b: [u64; 4]| [a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3]];
    data.par_chunks(CENSUS_CHUNK).map(chunk_census).reduce(|| [0; 4], add)
}

fn chunk_census(data: &[u8]) -> [u64; 4] {
    let mut bytes = [0u64; 256];
    for &byte in data {
        bytes[usize::from(byte)] += 1;
    }
    let mut codes = [0u64; 4];
    for (byte, count) in bytes.iter().enumerate() {
        for pair in 0..4 {
            codes[(byte >> (2 * pair)) & 3] += count;
        }
    }
    codes
}

fn unused_code(tensor: &Tensor, layout: HfRows, count: u64) -> FormatError {
    let odd = |byte: &u8| byte & (byte >> 1) & 0x55;
    let byte = tensor.data.iter().position(|byte| odd(byte) != 0).unwrap_or(0);
    let bit = odd(&tensor.data[byte]).trailing_zeros() as u8 % 8;
    let (row, column, _) = layout.invert(BitPlace { byte, bit });
    let (file, name) = (tensor.label.clone(), tensor.name.to_owned());
    FormatError::UnusedCode { file, tensor: name, row, column, count }
}

/// Ternary weights of a tensor of one element a weight, each -1, 0 or +1.
pub(super) fn unpacked(
    tensor: &Tensor,
    (rows, columns): (usize, usize),
) -> Result<(TernaryRows, TensorEntry), FormatError> {
    let codes = unpacked_codes(tensor, rows, columns)?;
    let weights = TernaryRows::pack(rows, columns, |row, out| {
        out.copy_from_slice(&codes[row * columns..(row + 1) * columns]);
    });
    let entry = TensorEntry::of(tensor, TensorKind::TernaryUnpacked);
    let entry = entry.with_census(weights.census());
    Ok((weights, entry))
}

fn unpacked_codes(tensor: &Tensor, rows: usize, columns: usize) -> Result<Vec<u8>, FormatError> {
    let expected = || {
        let (packed, plain) = ([rows / 4, columns], [rows, columns]);
        tensor.refused(format!("U8 {packed:?}, or I8, {FLOATS} {plain:?}"))
    };
    if tensor.shape != [rows, columns] {
        return Err(expected());
    }
    let refused = |index: usize, value: f32| tensor.bad_value(index, "-1, 0 or 1", value);
    if tensor.dtype == Dtype::I8 {
        let code = |(index, &byte): (usize, &u8)| match byte as i8 {
            weight @ -1..=1 => Ok((weight + 1) as u8),
            other => Err(refused(index, f32::from(other))),
        };
        return tensor.data.iter().enumerate().map(code).collect();
    }
    let stored = float_type(tensor.dtype).ok_or_else(expected)?;
    let code = |(index, value): (usize, f32)| match value {
        -1.0 => Ok(0),
        0.0 => Ok(1),
        1.0 => Ok(2),
        other => Err(refused(index, other)),
    };
    widened(tensor.data, stored).into_iter().enumerate().map(code).collect()
}

/// Ternary weights and their multiplying scale from float masters.
///
/// The mean magnitude is one sum over the whole tensor in the order of `sum16`, in f64: the order
/// of other implementations changes with their vectors and threads, ours must not. torch's own f32
/// mean gives a scale one ulp away for about half of all tensors; no code of the reference models
/// changes with it.
pub(super) fn quantized(
    tensor: &Tensor,
    (rows, columns): (usize, usize),
) -> Result<(TernaryRows, f32, TensorEntry), FormatError> {
    let (masters, _) = tensor.values(&[rows, columns])?;
    let mean = (sum_abs(&masters) / masters.len() as f64) as f32;
    let s = 1.0 / max(mean, MEAN_FLOOR);
    let scale = 1.0 / s;
    if !(scale.is_finite() && scale > 0.0) {
        return Err(tensor.bad_value(0, "masters of a finite mean magnitude", mean));
    }
    let weights = TernaryRows::pack(rows, columns, |row, codes| {
        for (code, &master) in codes.iter_mut().zip(&masters[row * columns..]) {
            let rounded = (master * s).round_ties_even();
            *code = if rounded >= 1.0 {
                2
            } else if rounded <= -1.0 {
                0
            } else {
                ZERO_CODE
            };
        }
    });
    let entry = TensorEntry::of(tensor, TensorKind::OnlineMaster).with_census(weights.census());
    Ok((weights, scale, entry))
}

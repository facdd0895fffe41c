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
use super::values::{FLOATS, float_type};
use crate::model::{Elements, Rounding, code_of, rounded};
use crate::packing::{BitPlace, HfRows, TernaryRows, UNUSED_CODE, ZERO_CODE};

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
) -> Result<(TernaryRows, Elements, TensorEntry), FormatError> {
    let expected = || {
        let (packed, plain) = ([rows / 4, columns], [rows, columns]);
        tensor.refused(format!("U8 {packed:?}, or I8, {FLOATS} {plain:?}"))
    };
    if tensor.shape != [rows, columns] {
        return Err(expected());
    }
    let elements = if tensor.dtype == Dtype::I8 {
        let data = tensor.data.iter().map(|&byte| byte as i8).collect();
        Elements::Bytes { data, columns }
    } else {
        let stored = float_type(tensor.dtype).ok_or_else(expected)?;
        Elements::Floats(tensor.as_stored(stored, columns))
    };
    let mut codes = vec![0; rows * columns];
    for (index, out) in codes.iter_mut().enumerate() {
        let value = elements.value(index / columns, index % columns, 0);
        *out = code_of(value).ok_or_else(|| tensor.bad_value(index, "-1, 0 or 1", value))?;
    }
    let weights = TernaryRows::pack(rows, columns, |row, out| {
        out.copy_from_slice(&codes[row * columns..(row + 1) * columns]);
    });
    let entry = TensorEntry::of(tensor, TensorKind::TernaryUnpacked);
    let entry = entry.with_census(weights.census());
    Ok((weights, elements, entry))
}

/// Ternary weights from float masters, and how they were rounded.
pub(super) fn quantized(
    tensor: &Tensor,
    (rows, columns): (usize, usize),
) -> Result<(TernaryRows, Rounding, TensorEntry), FormatError> {
    let (masters, _) = tensor.values(&[rows, columns])?;
    let rounding = Rounding::of(&masters);
    if !rounding.is_sound() {
        return Err(tensor.bad_value(0, "masters of a finite mean magnitude", rounding.scale));
    }
    let weights = rounded(&masters, columns, rounding);
    let entry = TensorEntry::of(tensor, TensorKind::OnlineMaster).with_census(weights.census());
    Ok((weights, rounding, entry))
}

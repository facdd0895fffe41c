//! Rows of f16, portably, and the tile of products that tables without one of their own make of
//! their products of rows.

use super::programs::{self, TOGETHER, dot_stored, trees};
use super::{DotRows, Halves};
use crate::numerics;

/// The portable kernels of rows of f16.
pub(super) const HALVES: Halves = Halves { widen, dot_rows, dot_tile };

/// With up to so many rows halves are widened anew; for more, once.
const FEW: usize = 8;

fn widen(bits: &[u16], out: &mut [f32]) {
    programs::widen(bits, out, numerics::widen_f16);
}

fn dot_rows(x: &[f32], rows: &[u16], out: &mut [f32]) {
    let wide = |bits: &[u16; 16]| bits.map(numerics::widen_f16);
    dot_stored(x, rows, out, (wide, numerics::widen_f16), trees);
}

fn dot_tile(x: &[f32], width: usize, rows: &[u16], out: &mut [f32]) {
    let many = |x: &[f32], rows: &[f32], out: &mut [f32]| programs::dot_rows(x, rows, out, trees);
    dot_tile_f16(x, width, rows, out, (dot_rows, many), widen);
}

/// [`super::DotTile`] of rows of f16: `few` multiplies them as they are, `many` behind `widen`.
#[inline(always)]
pub(super) fn dot_tile_f16(
    x: &[f32],
    width: usize,
    rows: &[u16],
    out: &mut [f32],
    (few, many): (DotRows<u16>, DotRows<f32>),
    widen: fn(&[u16], &mut [f32]),
) {
    let count = x.len() / width;
    if count <= FEW {
        return programs::dot_tile(x, width, rows, out, few);
    }
    let mut wide = vec![0.0; TOGETHER * width];
    for (rows, out) in rows.chunks(TOGETHER * width).zip(out.chunks_mut(TOGETHER * count)) {
        let wide = &mut wide[..rows.len()];
        widen(rows, wide);
        programs::dot_tile(x, width, wide, out, many);
    }
}

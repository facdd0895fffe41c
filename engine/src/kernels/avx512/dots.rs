//! `dot16` of rows with several, four at a time, their lanes in registers.

use std::arch::x86_64::*;

use super::{floats, tile::fetch, trees::tree_of_four};
use crate::kernels::programs;

pub(super) fn dot_rows(x: &[f32], rows: &[f32], out: &mut [f32]) {
    if x.is_empty() || !x.len().is_multiple_of(16) {
        return floats::dot_rows(x, rows, out);
    }
    // SAFETY: the table's constructor detected the features that this function enables.
    unsafe { dots(x, rows, out) }
}

#[target_feature(enable = "avx512f,avx512bw")]
fn dots(x: &[f32], rows: &[f32], out: &mut [f32]) {
    let width = x.len();
    assert_eq!(rows.len(), width * out.len(), "rows of the width of x");
    for (rows, out) in rows.chunks(4 * width).zip(out.chunks_mut(4)) {
        // The last row stands for those that a last group lacks.
        let row = |r: usize| rows[r.min(out.len() - 1) * width..].as_ptr();
        let (a, b, c, d) = (row(0), row(1), row(2), row(3));
        let mut lanes = [_mm512_setzero_ps(); 4];
        for (k, x) in x.as_chunks::<16>().0.iter().enumerate() {
            // SAFETY: every row has the width of `x`, of which these are the places from `16 k` on;
            // the loads ask for no alignment.
            let (x, [a, b, c, d]) = unsafe {
                let load = |row: *const f32| _mm512_loadu_ps(row.add(16 * k));
                (_mm512_loadu_ps(x.as_ptr()), [load(a), load(b), load(c), load(d)])
            };
            lanes = [
                _mm512_add_ps(lanes[0], _mm512_mul_ps(x, a)),
                _mm512_add_ps(lanes[1], _mm512_mul_ps(x, b)),
                _mm512_add_ps(lanes[2], _mm512_mul_ps(x, c)),
                _mm512_add_ps(lanes[3], _mm512_mul_ps(x, d)),
            ];
        }
        let sums = tree_of_four(lanes);
        if let Ok(out) = <&mut [f32; 4]>::try_from(&mut *out) {
            *out = sums;
        } else {
            out.copy_from_slice(&sums[..out.len()]);
        }
    }
}

pub(super) fn dot_tile(x: &[f32], width: usize, rows: &[f32], out: &mut [f32]) {
    if width == 0 || !width.is_multiple_of(16) {
        return programs::dot_tile(x, width, rows, out, floats::dot_rows);
    }
    // SAFETY: the table's constructor detected the features that this function enables.
    unsafe { tiles_of_floats(x, width, rows, out) }
}

#[target_feature(enable = "avx512f,avx512bw")]
fn tiles_of_floats(x: &[f32], width: usize, rows: &[f32], out: &mut [f32]) {
    // SAFETY: 16 values are 64 bytes long, and the load asks for no alignment.
    tiles(x, width, rows, out, |values: &[f32; 16]| unsafe { _mm512_loadu_ps(values.as_ptr()) });
}

/// Rows of `x` whose sums stay in registers.
const MOST: usize = 4;

/// `dot16` of each row of `x` with each stored row, of which `load` widens 16 values: results are
/// `out[row][x]`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn tiles<T: Copy>(
    x: &[f32],
    width: usize,
    rows: &[T],
    out: &mut [f32],
    load: impl Fn(&[T; 16]) -> __m512 + Copy,
) {
    let count = x.len() / width;
    assert_eq!(out.len() * width, count * rows.len(), "a result for each pair of rows");
    for (rows, out) in rows.chunks(4 * width).zip(out.chunks_mut(4 * count)) {
        for first in (0..count).step_by(MOST) {
            let (x, place) = (&x[first * width..], (first, count));
            match count - first {
                1 => tile::<T, 1>(x, width, rows, out, place, load),
                2 => tile::<T, 2>(x, width, rows, out, place, load),
                3 => tile::<T, 3>(x, width, rows, out, place, load),
                _ => tile::<T, MOST>(x, width, rows, out, place, load),
            }
        }
    }
}

/// `M` rows of `x`, of which the first is that of a number among so many, with up to four rows.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn tile<T: Copy, const M: usize>(
    x: &[f32],
    width: usize,
    rows: &[T],
    out: &mut [f32],
    (first, count): (usize, usize),
    load: impl Fn(&[T; 16]) -> __m512,
) {
    let few = rows.len() / width;
    assert!(x.len() >= M * width && few > 0 && width.is_multiple_of(16), "rows of whole runs");
    // The last row stands for those that a last group lacks.
    let [a, b, c, d] = [0, 1, 2, 3].map(|r: usize| rows[r.min(few - 1) * width..].as_ptr());
    let mut lanes = [[_mm512_setzero_ps(); 4]; M];
    for k in (0..width).step_by(16) {
        let at = [a, b, c, d].map(|row| row.wrapping_add(k));
        if first == 0 {
            at.into_iter().for_each(|at| fetch(at.wrapping_add(4 * width).cast()));
        }
        // SAFETY: `k` is a multiple of 16 below the width, of which 16 is a divisor, so each row
        // has 16 values there.
        let [a, b, c, d] = unsafe { at.map(|at| &*at.cast::<[T; 16]>()) };
        let (a, b, c, d) = (load(a), load(b), load(c), load(d));
        for m in 0..M {
            // SAFETY: as above for each of the `M` rows; the load asks for no alignment.
            let x = unsafe { _mm512_loadu_ps(x.as_ptr().add(m * width + k)) };
            lanes[m] = [
                _mm512_add_ps(lanes[m][0], _mm512_mul_ps(x, a)),
                _mm512_add_ps(lanes[m][1], _mm512_mul_ps(x, b)),
                _mm512_add_ps(lanes[m][2], _mm512_mul_ps(x, c)),
                _mm512_add_ps(lanes[m][3], _mm512_mul_ps(x, d)),
            ];
        }
    }
    for m in 0..M {
        for (row, sum) in tree_of_four(lanes[m]).into_iter().take(few).enumerate() {
            out[row * count + first + m] = sum;
        }
    }
}

//! `dot16` of one row with several, four at a time, their lanes in registers.

use std::arch::x86_64::*;

use super::{floats, trees::tree_of_four};

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

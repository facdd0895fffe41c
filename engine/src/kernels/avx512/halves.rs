//! Rows of f16, widened in registers.

use std::arch::x86_64::*;

use super::dots::tiles;
use super::tile::fetch;
use super::trees::trees;
use crate::kernels::{Halves, programs};
use crate::numerics;

pub(in crate::kernels) const HALVES: Halves = Halves { widen, dot_rows, dot_tile };

fn widen(bits: &[u16], out: &mut [f32]) {
    assert_eq!(bits.len(), out.len(), "as many results as values");
    // SAFETY: the table's constructor detected AVX-512F.
    unsafe { widen_all(bits, out) }
}

fn dot_rows(x: &[f32], rows: &[u16], out: &mut [f32]) {
    // SAFETY: the table's constructor detected AVX-512F.
    unsafe { dot_all(x, rows, out) }
}

fn dot_tile(x: &[f32], width: usize, rows: &[u16], out: &mut [f32]) {
    if !width.is_multiple_of(16) {
        return programs::dot_tile(x, width, rows, out, dot_rows);
    }
    // SAFETY: the table's constructor detected AVX-512F and AVX-512BW.
    unsafe { tiles_of_halves(x, width, rows, out) }
}

#[target_feature(enable = "avx512f,avx512bw")]
fn tiles_of_halves(x: &[f32], width: usize, rows: &[u16], out: &mut [f32]) {
    tiles(x, width, rows, out, |bits: &[u16; 16]| {
        // SAFETY: 16 halves are 32 bytes long, and the load asks for no alignment.
        _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(bits.as_ptr().cast()) })
    });
}

#[target_feature(enable = "avx512f")]
fn wide(bits: &[u16; 16]) -> [f32; 16] {
    let mut values = [0.0; 16];
    // SAFETY: the arrays are 32 and 64 bytes long; neither the load nor the store asks for
    // alignment.
    unsafe {
        let bits = _mm256_loadu_si256(bits.as_ptr().cast());
        _mm512_storeu_ps(values.as_mut_ptr(), _mm512_cvtph_ps(bits));
    }
    values
}

#[target_feature(enable = "avx512f")]
fn widen_all(bits: &[u16], out: &mut [f32]) {
    let (chunks, rest) = bits.as_chunks::<16>();
    let (outs, last) = out.as_chunks_mut::<16>();
    outs.iter_mut().zip(chunks).for_each(|(out, bits)| *out = wide(bits));
    last.iter_mut().zip(rest).for_each(|(out, &bits)| *out = numerics::widen_f16(bits));
}

#[target_feature(enable = "avx512f")]
fn dot_all(x: &[f32], rows: &[u16], out: &mut [f32]) {
    // Four rows are read side by side; their places in the next four are asked for meanwhile.
    let next = 4 * x.len();
    let wide = |bits: &[u16; 16]| {
        fetch(bits.as_ptr().wrapping_add(next).cast());
        wide(bits)
    };
    programs::dot_stored(x, rows, out, (wide, numerics::widen_f16), |lanes| trees(lanes));
}

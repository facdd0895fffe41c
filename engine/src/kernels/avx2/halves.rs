//! Rows of f16, widened in registers.

use std::arch::x86_64::*;

use super::floats;
use crate::kernels::{Halves, halves::dot_tile_f16, programs};
use crate::numerics;

pub(in crate::kernels) const HALVES: Halves = Halves { widen, dot_rows, dot_tile };

fn widen(bits: &[u16], out: &mut [f32]) {
    assert_eq!(bits.len(), out.len(), "as many results as values");
    // SAFETY: the table's constructor detected AVX2 and F16C.
    unsafe { widen_all(bits, out) }
}

fn dot_rows(x: &[f32], rows: &[u16], out: &mut [f32]) {
    // SAFETY: the table's constructor detected AVX2 and F16C.
    unsafe { dot_all(x, rows, out) }
}

fn dot_tile(x: &[f32], width: usize, rows: &[u16], out: &mut [f32]) {
    dot_tile_f16(x, width, rows, out, (dot_rows, floats::dot_rows), widen);
}

#[target_feature(enable = "avx2,f16c")]
fn wide(bits: &[u16; 16]) -> [f32; 16] {
    let mut values = [0.0; 16];
    // SAFETY: halves of the arrays are 16 and 32 bytes long; neither the loads nor the stores
    // ask for alignment.
    unsafe {
        for half in 0..2 {
            let bits = _mm_loadu_si128(bits[8 * half..].as_ptr().cast());
            _mm256_storeu_ps(values[8 * half..].as_mut_ptr(), _mm256_cvtph_ps(bits));
        }
    }
    values
}

#[target_feature(enable = "avx2,f16c")]
fn widen_all(bits: &[u16], out: &mut [f32]) {
    let (chunks, rest) = bits.as_chunks::<16>();
    let (outs, last) = out.as_chunks_mut::<16>();
    outs.iter_mut().zip(chunks).for_each(|(out, bits)| *out = wide(bits));
    last.iter_mut().zip(rest).for_each(|(out, &bits)| *out = numerics::widen_f16(bits));
}

#[target_feature(enable = "avx2,f16c")]
fn dot_all(x: &[f32], rows: &[u16], out: &mut [f32]) {
    let wide = |bits: &[u16; 16]| wide(bits);
    programs::dot_stored(x, rows, out, (wide, numerics::widen_f16), programs::trees);
}

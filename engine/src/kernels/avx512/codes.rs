//! Rows of integers that are stored a byte each, on integer activations.

use std::arch::x86_64::*;

use super::tile::fetch;
use crate::kernels::programs;

/// How far ahead of its reading a row is asked for; rows lie behind one another.
const AHEAD: usize = 4096;

pub(super) fn dot_codes(weights: &[i8], codes: &[i8]) -> i32 {
    // SAFETY: the table's constructor detected the features that this function enables.
    unsafe { dot(weights, codes) }
}

/// The instruction takes one factor without a sign: `sum w q = sum w (q + 128) - sum w 128`. Sums
/// may wrap on the way, and not in the end.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn dot(weights: &[i8], codes: &[i8]) -> i32 {
    assert_eq!(weights.len(), codes.len(), "rows of one width");
    let offset = _mm512_set1_epi8(i8::MIN);
    let (mut sums, mut offsets) = ([_mm512_setzero_si512(); 2], [_mm512_setzero_si512(); 2]);
    let mut add = |index: usize, w, q| {
        sums[index] = _mm512_dpbusd_epi32(sums[index], _mm512_xor_si512(q, offset), w);
        offsets[index] = _mm512_dpbusd_epi32(offsets[index], offset, w);
    };
    let (pairs, rest) = weights.as_chunks::<128>();
    let (others, last) = codes.as_chunks::<128>();
    for (w, q) in pairs.iter().zip(others) {
        for half in 0..2 {
            let (w, q) = (w[64 * half..].as_ptr(), q[64 * half..].as_ptr());
            fetch(w.wrapping_add(AHEAD).cast());
            // SAFETY: both have 64 places from here on, and the loads ask for no alignment.
            unsafe { add(half, _mm512_loadu_si512(w.cast()), _mm512_loadu_si512(q.cast())) };
        }
    }
    for (half, (w, q)) in rest.chunks(64).zip(last.chunks(64)).enumerate() {
        let mask = u64::MAX >> (64 - w.len());
        // SAFETY: a masked load reads the places of its mask alone.
        let load = |at: &[i8]| unsafe { _mm512_maskz_loadu_epi8(mask, at.as_ptr()) };
        add(half, load(w), load(q));
    }
    let [sum, offset] = [sums, offsets].map(|two| _mm512_add_epi32(two[0], two[1]));
    _mm512_reduce_add_epi32(_mm512_sub_epi32(sum, offset))
}

pub(super) fn dots_codes(weights: &[i8], (codes, stride): (&[i8], usize), out: &mut [i32]) {
    for (index, out) in out.chunks_mut(MOST).enumerate() {
        let codes = &codes[index * MOST * stride..];
        match <&mut [i32; MOST]>::try_from(&mut *out) {
            // SAFETY: the table's constructor detected the features that this function enables.
            Ok(out) => unsafe { dots(weights, (codes, stride), out) },
            Err(_) => programs::dots_codes(weights, (codes, stride), out, dot_codes),
        }
    }
}

/// Token rows whose sums stay in registers.
const MOST: usize = 8;

/// As [`dot`] for several rows at once, with one sum of the weights for all of them.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn dots(weights: &[i8], (codes, stride): (&[i8], usize), out: &mut [i32; MOST]) {
    let width = weights.len();
    assert!(codes.len() >= (MOST - 1) * stride + width, "as many rows as sums");
    let offset = _mm512_set1_epi8(i8::MIN);
    let (mut sums, mut offsets) = ([_mm512_setzero_si512(); MOST], _mm512_setzero_si512());
    for at in (0..width).step_by(64) {
        let mask = u64::MAX >> (64 - (width - at).min(64));
        let w = weights.as_ptr().wrapping_add(at);
        fetch(w.wrapping_add(AHEAD).cast());
        // SAFETY: a masked load reads the places of its mask alone, of which all rows have that
        // many from here on.
        let load = |at: *const i8| unsafe { _mm512_maskz_loadu_epi8(mask, at) };
        let w = load(w);
        offsets = _mm512_dpbusd_epi32(offsets, offset, w);
        for (m, sum) in sums.iter_mut().enumerate() {
            let q = load(codes.as_ptr().wrapping_add(m * stride + at));
            *sum = _mm512_dpbusd_epi32(*sum, _mm512_xor_si512(q, offset), w);
        }
    }
    for (out, sum) in out.iter_mut().zip(sums) {
        *out = _mm512_reduce_add_epi32(_mm512_sub_epi32(sum, offsets));
    }
}

//! Rows of integers that are stored a byte each, on integer activations.

use std::arch::x86_64::*;

use super::tile::fetch;

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

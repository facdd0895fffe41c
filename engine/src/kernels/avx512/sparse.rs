//! Rows that differ in few codes: which, and the columns of weights that their sums gain or lose.

use std::arch::x86_64::*;

use crate::kernels::LANES;

pub(super) fn differ(a: &[i8], b: &[i8], masks: &mut [u64]) {
    assert!(a.len() == b.len() && masks.len() == a.len().div_ceil(64), "a bit for each code");
    // SAFETY: the table's constructor detected the features that this function enables.
    unsafe { differing(a, b, masks) }
}

/// Compares 64 codes at a time; the last ones are filled up with zeros.
#[target_feature(enable = "avx512f,avx512bw")]
fn differing(a: &[i8], b: &[i8], masks: &mut [u64]) {
    for ((a, b), mask) in a.chunks(64).zip(b.chunks(64)).zip(masks) {
        let mut ends = [[0i8; 64]; 2];
        let [a, b] = if a.len() == 64 {
            [a, b]
        } else {
            ends[0][..a.len()].copy_from_slice(a);
            ends[1][..b.len()].copy_from_slice(b);
            [&ends[0][..], &ends[1][..]]
        };
        // SAFETY: both are 64 bytes long, and the loads ask for no alignment.
        let [a, b] = unsafe { [a, b].map(|x| _mm512_loadu_si512(x.as_ptr().cast())) };
        *mask = _mm512_cmpneq_epi8_mask(a, b);
    }
}

pub(super) fn columns(weights: &[i8], plus: &[u32], minus: &[u32], base: &[i32], sums: &mut [i32]) {
    // SAFETY: the table's constructor detected the features that this function enables.
    unsafe { checked_columns(weights, plus, minus, base, sums) }
}

#[target_feature(enable = "avx512f,avx512bw")]
fn checked_columns(weights: &[i8], plus: &[u32], minus: &[u32], base: &[i32], sums: &mut [i32]) {
    let count = (weights.len() / LANES) as u32;
    let outside = plus.iter().chain(minus).fold(false, |any, &column| any | (column >= count));
    assert!(!outside && base.len() == LANES && sums.len() == LANES, "columns of these weights");
    let few = plus.len().min(PATIENCE);
    let (mut adding, mut plus) = plus.split_at(few);
    let (mut taking, mut minus) = minus.split_at(minus.len().min(PATIENCE - few));
    let mut base = base.as_ptr();
    loop {
        // SAFETY: every column was seen to lie within the weights, and base and sums to be 64.
        unsafe { add_columns(weights, adding, taking, base, sums.as_mut_ptr()) };
        if plus.is_empty() && minus.is_empty() {
            return;
        }
        base = sums.as_ptr();
        (adding, plus) = plus.split_at(plus.len().min(PATIENCE));
        (taking, minus) = minus.split_at(minus.len().min(PATIENCE - adding.len()));
    }
}

/// Sums of so many weights of magnitude 2 fit an i8.
const PATIENCE: usize = 63;

/// Adds up to [`PATIENCE`] columns in bytes, two sums side by side, and then widens them.
///
/// # Safety
/// The weights have every column that is named, and there are 64 sums on both sides.
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn add_columns(
    weights: &[i8],
    plus: &[u32],
    minus: &[u32],
    base: *const i32,
    sums: *mut i32,
) {
    let column = |column: u32| {
        // SAFETY: the caller has seen that the column lies within the weights; the load asks for
        // no alignment.
        unsafe { _mm512_loadu_si512(weights.as_ptr().add(column as usize * LANES).cast()) }
    };
    let mut bytes = [_mm512_setzero_si512(); 2];
    let (pairs, rest) = plus.as_chunks::<2>();
    for pair in pairs {
        bytes[0] = _mm512_add_epi8(bytes[0], column(pair[0]));
        bytes[1] = _mm512_add_epi8(bytes[1], column(pair[1]));
    }
    for &one in rest {
        bytes[0] = _mm512_add_epi8(bytes[0], column(one));
    }
    let (pairs, rest) = minus.as_chunks::<2>();
    for pair in pairs {
        bytes[0] = _mm512_sub_epi8(bytes[0], column(pair[0]));
        bytes[1] = _mm512_sub_epi8(bytes[1], column(pair[1]));
    }
    for &one in rest {
        bytes[0] = _mm512_sub_epi8(bytes[0], column(one));
    }
    let bytes = _mm512_add_epi8(bytes[0], bytes[1]);
    let quarters = [
        _mm512_extracti32x4_epi32::<0>(bytes),
        _mm512_extracti32x4_epi32::<1>(bytes),
        _mm512_extracti32x4_epi32::<2>(bytes),
        _mm512_extracti32x4_epi32::<3>(bytes),
    ];
    for (index, quarter) in quarters.into_iter().enumerate() {
        // SAFETY: the caller has seen that there are 64 sums: four times 16 of them.
        unsafe {
            let base = _mm512_loadu_si512(base.add(16 * index).cast());
            let sum = _mm512_add_epi32(base, _mm512_cvtepi8_epi32(quarter));
            _mm512_storeu_si512(sums.add(16 * index).cast(), sum);
        }
    }
}

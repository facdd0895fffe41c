//! Rows that differ in few codes: where, and the columns of weights that their sums gain or lose.

use std::arch::x86_64::*;

use crate::kernels::{LANES, SPARE_PLACES};

pub(super) fn differ(a: &[i8], b: &[i8], lists: [&mut [u32]; 3]) -> [usize; 3] {
    let room = a.len() + SPARE_PLACES;
    assert!(a.len() == b.len() && lists.iter().all(|list| list.len() >= room), "room for all");
    // SAFETY: the table's constructor detected the features that this function enables, and there
    // is room.
    unsafe { differing(a, b, lists.map(<[u32]>::as_mut_ptr)) }
}

/// Compares 64 codes at a time; the last ones are filled up with zeros.
///
/// # Safety
/// Each list has room for all places and 16 more.
#[target_feature(enable = "avx512f,avx512bw,popcnt")]
unsafe fn differing(a: &[i8], b: &[i8], [up, down, far]: [*mut u32; 3]) -> [usize; 3] {
    let mut counts = [0; 3];
    for (index, (a, b)) in a.chunks(64).zip(b.chunks(64)).enumerate() {
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
        let (above, below) = (_mm512_cmpgt_epi8_mask(a, b), _mm512_cmplt_epi8_mask(a, b));
        // The magnitude saturates at 127, far above 1.
        let steps = _mm512_abs_epi8(_mm512_subs_epi8(a, b));
        let mut beyond = _mm512_cmpgt_epu8_mask(steps, _mm512_set1_epi8(1));
        let first = 64 * index as u32;
        // SAFETY: each writes at most 16 places behind those that it counts, of which there are
        // as many as codes that were compared.
        unsafe {
            counts[0] += places(above, first, up.add(counts[0]));
            counts[1] += places(below, first, down.add(counts[1]));
            while beyond != 0 {
                *far.add(counts[2]) = first + beyond.trailing_zeros();
                counts[2] += 1;
                beyond &= beyond - 1;
            }
        }
    }
    counts
}

/// Writes the places of the bits of a mask, 16 at a time, and returns how many they are.
///
/// # Safety
/// There is room for all of them and 16 more.
#[inline]
#[target_feature(enable = "avx512f,popcnt")]
unsafe fn places(mask: u64, first: u32, out: *mut u32) -> usize {
    let lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    let mut count = 0;
    for quarter in 0..4 {
        let mask = (mask >> (16 * quarter)) as u16;
        let places = _mm512_add_epi32(lanes, _mm512_set1_epi32((first + 16 * quarter) as i32));
        let places = _mm512_maskz_compress_epi32(mask, places);
        // SAFETY: the caller has seen that there is room for 16 behind those that were counted.
        unsafe { _mm512_storeu_si512(out.add(count).cast(), places) };
        count += mask.count_ones() as usize;
    }
    count
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

/// Sums of so many weights of magnitude 2 fit an i8 (63 do; whole fours are read faster).
const PATIENCE: usize = 60;

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
    let (fours, rest) = plus.as_chunks::<4>();
    for &[a, b, c, d] in fours {
        bytes[0] = _mm512_add_epi8(_mm512_add_epi8(bytes[0], column(a)), column(b));
        bytes[1] = _mm512_add_epi8(_mm512_add_epi8(bytes[1], column(c)), column(d));
    }
    for &one in rest {
        bytes[0] = _mm512_add_epi8(bytes[0], column(one));
    }
    let (fours, rest) = minus.as_chunks::<4>();
    for &[a, b, c, d] in fours {
        bytes[0] = _mm512_sub_epi8(_mm512_sub_epi8(bytes[0], column(a)), column(b));
        bytes[1] = _mm512_sub_epi8(_mm512_sub_epi8(bytes[1], column(c)), column(d));
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

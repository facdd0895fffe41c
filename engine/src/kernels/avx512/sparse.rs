//! Rows that differ in few codes: where, and the columns of weights that their sums gain or lose.

use std::arch::x86_64::*;

use super::quotients::{Divide, all};
use crate::kernels::{Block, LANES, Numbers, SPARE_PLACES, sparse};

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

pub(super) fn columns(weights: &[u8], numbers: &Numbers, blocks: &mut [Block; 2]) {
    // SAFETY: the table's constructor detected the features that this function enables.
    unsafe { moved(weights, numbers, blocks) }
}

/// Sums of so many weights of magnitude 2 fit an i8 (63 do; whole fours are read faster).
const PATIENCE: usize = 60;
/// Sums of so many fit an i16.
const MOST: usize = 273 * PATIENCE;

/// [`PATIENCE`] columns at a time are added in bytes, their sums in words, and those to the base.
#[target_feature(enable = "avx512f,avx512bw")]
fn moved(weights: &[u8], numbers: &Numbers, blocks: &mut [Block; 2]) {
    assert!(weights.len() / LANES >= numbers.below(), "columns of all numbers");
    let usual = |block: &Block| block.out.len() == LANES && Divide::takes(block.quotient);
    let (mut plus, mut minus) = (numbers.plus(), numbers.minus());
    if plus.len() + minus.len() > MOST || !blocks.iter().all(usual) {
        let all = |quotient, sums: &[i32], out: &mut [f32]| all(quotient, sums, out);
        return sparse::moved(weights, numbers, blocks, all);
    }
    let mut words = [[_mm512_setzero_si512(); 2]; 2];
    while !plus.is_empty() || !minus.is_empty() {
        let (adding, added) = plus.split_at(plus.len().min(PATIENCE));
        let (taking, taken) = minus.split_at(minus.len().min(PATIENCE - adding.len()));
        // SAFETY: every number is below the bound, and there are as many columns.
        let bytes = unsafe { bytes_of(weights.as_ptr(), adding, taking) };
        for n in 0..2 {
            let (low, high) =
                (_mm512_castsi512_si256(bytes[n]), _mm512_extracti64x4_epi64::<1>(bytes[n]));
            words[n][0] = _mm512_add_epi16(words[n][0], _mm512_cvtepi8_epi16(low));
            words[n][1] = _mm512_add_epi16(words[n][1], _mm512_cvtepi8_epi16(high));
        }
        (plus, minus) = (added, taken);
    }
    for n in 0..2 {
        let Block { base, quotient, ref mut out } = blocks[n];
        let base: &[i32; LANES] = base.try_into().expect("64 sums");
        let out: &mut [f32; LANES] = (&mut **out).try_into().expect("64 values");
        let divide = Divide::by(quotient);
        for half in 0..2 {
            let words = words[n][half];
            let low = _mm512_cvtepi16_epi32(_mm512_castsi512_si256(words));
            let high = _mm512_cvtepi16_epi32(_mm512_extracti64x4_epi64::<1>(words));
            for (part, gained) in [(2 * half, low), (2 * half + 1, high)] {
                let base = &base.as_chunks::<16>().0[part];
                // SAFETY: 16 sums are 64 bytes, and the load asks for no alignment.
                let base = unsafe { _mm512_loadu_si512(base.as_ptr().cast()) };
                let out = &mut out.as_chunks_mut::<16>().0[part];
                divide.store(_mm512_add_epi32(base, gained), out);
            }
        }
    }
}

/// The sums of up to [`PATIENCE`] columns of both blocks in bytes.
///
/// Four columns are added as they are (four times 3 fit four bits), then taken apart. That every
/// weight is stored plus 1 is put right at the end: on the way bytes may wrap.
///
/// # Safety
/// There is every column that is named.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn bytes_of(weights: *const u8, plus: &[u32], minus: &[u32]) -> [__m512i; 2] {
    let column = |column: u32| {
        // SAFETY: the caller has seen that the column lies within the weights; the load asks for
        // no alignment.
        unsafe { _mm512_loadu_si512(weights.add(column as usize * LANES).cast()) }
    };
    let fifteen = _mm512_set1_epi8(15);
    let apart = |both: __m512i| {
        let high = _mm512_and_si512(_mm512_srli_epi16::<4>(both), fifteen);
        [_mm512_and_si512(both, fifteen), high]
    };
    let mut bytes = [_mm512_set1_epi8(minus.len() as i8 - plus.len() as i8); 2];
    let (fours, rest) = plus.as_chunks::<4>();
    for &[a, b, c, d] in fours {
        let (ab, cd) =
            (_mm512_add_epi8(column(a), column(b)), _mm512_add_epi8(column(c), column(d)));
        let four = apart(_mm512_add_epi8(ab, cd));
        bytes = [_mm512_add_epi8(bytes[0], four[0]), _mm512_add_epi8(bytes[1], four[1])];
    }
    for &one in rest {
        let one = apart(column(one));
        bytes = [_mm512_add_epi8(bytes[0], one[0]), _mm512_add_epi8(bytes[1], one[1])];
    }
    let (fours, rest) = minus.as_chunks::<4>();
    for &[a, b, c, d] in fours {
        let (ab, cd) =
            (_mm512_add_epi8(column(a), column(b)), _mm512_add_epi8(column(c), column(d)));
        let four = apart(_mm512_add_epi8(ab, cd));
        bytes = [_mm512_sub_epi8(bytes[0], four[0]), _mm512_sub_epi8(bytes[1], four[1])];
    }
    for &one in rest {
        let one = apart(column(one));
        bytes = [_mm512_sub_epi8(bytes[0], one[0]), _mm512_sub_epi8(bytes[1], one[1])];
    }
    bytes
}

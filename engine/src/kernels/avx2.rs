//! AVX2: half a block is 8 rows by 16 columns, one register.
//!
//! `vpmaddubsw` adds two products of unsigned and signed bytes into 16 bits. A pair is at most
//! 2 * 3 * 128 = 768 in magnitude, so the int16 sums of [`PATIENCE`] blocks (four pairs each) stay
//! within 10 * 4 * 768 = 30,720 and never wrap; then they are widened. The widths of boxes reach
//! 2 * 255 * 2 = 1,020 a pair, and 8 * 4 * 1,020 = 32,640.

mod halves;
mod prompt;

use std::arch::x86_64::*;

use halves::HALVES;

use super::scalar::group_width;
use super::{
    BLOCK_BYTES, BLOCK_COLUMNS, GROUP_ROWS, Kernels, programs::stamp_floats, sparse::SPARSE,
    table::table,
};

pub(super) static TABLE: Kernels = table!(
    "avx2",
    (ternary, groups, spread),
    super::table::NONE,
    (SPARSE.0, moved::columns),
    HALVES,
    self::floats
);

stamp_floats!(
    "avx2",
    crate::kernels::programs::trees,
    crate::kernels::quotients::Quotient::all,
    crate::kernels::quotients::ends
);

mod moved {
    use crate::kernels::{Block, Numbers, Quotient, sparse};

    crate::kernels::programs::stamp_floats!(@fn "avx2",
        columns(weights: &[u8], numbers: &Numbers, blocks: &mut [Block; 2]) -> () {
            sparse::moved(weights, numbers, blocks, Quotient::all)
        }
    );
}

/// Blocks whose int16 sums are added before they are widened.
const PATIENCE: usize = 10;
/// The same for the widths of boxes.
const SPREAD_PATIENCE: usize = 8;
/// Token rows that share one unpacking.
const TILE: usize = 4;
/// Token rows from which on unpacking for all of them pays.
const MANY: usize = 16;

fn ternary(group: &[u8], codes: &[i8], out: &mut [i32]) {
    groups(group, group.len(), codes, out);
}

fn groups(groups: &[u8], group_bytes: usize, codes: &[i8], out: &mut [i32]) {
    assert!(group_bytes > 0 && groups.len().is_multiple_of(group_bytes), "whole groups");
    let count = groups.len() / group_bytes;
    assert!(count > 0 && out.len().is_multiple_of(count), "as many results for every group");
    let width = group_width(&groups[..group_bytes], codes.len(), out.len() / count);
    let tokens = codes.len() / width;
    let mut first = if tokens >= MANY { tokens / TILE * TILE } else { 0 };
    if first > 0 {
        let now = &codes[..first * width];
        // SAFETY: the table's constructor detected AVX2.
        let offsets: Vec<i32> = now.chunks_exact(width).map(|row| unsafe { sum(row) }).collect();
        let outs = out.chunks_exact_mut(tokens * GROUP_ROWS);
        for (group, out) in groups.chunks_exact(group_bytes).zip(outs) {
            // SAFETY: as above.
            unsafe { prompt::group(group, now, &offsets, &mut out[..first * GROUP_ROWS]) }
        }
    }
    while first < tokens {
        let rows = if tokens - first >= TILE { TILE } else { 1 };
        let now = &codes[first * width..(first + rows) * width];
        // SAFETY: the table's constructor detected AVX2.
        unsafe {
            match rows {
                TILE => tile::<TILE>(groups, group_bytes, now, first, out),
                _ => tile::<1>(groups, group_bytes, now, first, out),
            }
        }
        first += rows;
    }
}

/// `M` token rows, from row `first` of the results on, through all groups.
#[target_feature(enable = "avx2")]
fn tile<const M: usize>(
    groups: &[u8],
    group_bytes: usize,
    codes: &[i8],
    first: usize,
    out: &mut [i32],
) {
    let mut offsets = [0; M];
    for (offset, row) in offsets.iter_mut().zip(codes.chunks_exact(codes.len() / M)) {
        *offset = sum(row);
    }
    let results = out.len() / (groups.len() / group_bytes);
    let rows = first * GROUP_ROWS..(first + M) * GROUP_ROWS;
    for (group, out) in groups.chunks_exact(group_bytes).zip(out.chunks_exact_mut(results)) {
        ternary_tile::<M>(group, codes, &offsets, &mut out[rows.clone()]);
    }
}

/// The half of a block: 32 bytes, 8 rows.
#[target_feature(enable = "avx2")]
fn load_half(block: &[u8], half: usize) -> __m256i {
    let bytes = &block[32 * half..32 * half + 32];
    // SAFETY: the slice is 32 bytes long, and the load asks for no alignment.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

/// The four quarters of codes in a half block, each in the low bits of its byte.
#[target_feature(enable = "avx2")]
fn quarters(packed: __m256i) -> [__m256i; 4] {
    let three = _mm256_set1_epi8(3);
    [
        _mm256_and_si256(packed, three),
        _mm256_and_si256(_mm256_srli_epi16::<2>(packed), three),
        _mm256_and_si256(_mm256_srli_epi16::<4>(packed), three),
        _mm256_and_si256(_mm256_srli_epi16::<6>(packed), three),
    ]
}

/// Adds pairs of int16 to int32 sums.
#[target_feature(enable = "avx2")]
fn widen(sums: __m256i, pairs: __m256i) -> __m256i {
    _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
}

#[target_feature(enable = "avx2")]
fn store(sums: __m256i, out: &mut [i32]) {
    assert_eq!(out.len(), 8);
    // SAFETY: `out` has room for 8 int32, and the store asks for no alignment.
    unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), sums) }
}

/// The sum of the codes, 32 at a time.
#[target_feature(enable = "avx2")]
fn sum(codes: &[i8]) -> i32 {
    let (chunks, rest) = codes.as_chunks::<32>();
    let one = _mm256_set1_epi8(1);
    let mut sums = _mm256_setzero_si256();
    for chunk in chunks {
        // SAFETY: a chunk is 32 bytes long, and the load asks for no alignment.
        let q = unsafe { _mm256_loadu_si256(chunk.as_ptr().cast()) };
        sums = widen(sums, _mm256_maddubs_epi16(one, q));
    }
    let mut lanes = [0; 8];
    store(sums, &mut lanes);
    lanes.iter().sum::<i32>() + rest.iter().map(|&q| i32::from(q)).sum::<i32>()
}

/// `M` token rows share each unpacked quarter, and both halves of a block each activation.
#[target_feature(enable = "avx2")]
fn ternary_tile<const M: usize>(group: &[u8], codes: &[i8], offsets: &[i32; M], out: &mut [i32]) {
    let width = group.len() / BLOCK_BYTES * BLOCK_COLUMNS;
    assert_eq!(codes.len(), M * width, "M rows as wide as the group");
    let three = _mm256_set1_epi8(3);
    let mut sums = [[_mm256_setzero_si256(); 2]; M];
    for (index, blocks) in group.chunks(PATIENCE * BLOCK_BYTES).enumerate() {
        let mut pairs = [[_mm256_setzero_si256(); 2]; M];
        for (inner, block) in blocks.chunks_exact(BLOCK_BYTES).enumerate() {
            let column = (index * PATIENCE + inner) * BLOCK_COLUMNS;
            let mut packed = [load_half(block, 0), load_half(block, 1)];
            for quarter in 0..4 {
                let weights = packed.map(|half| _mm256_and_si256(half, three));
                for m in 0..M {
                    let at = m * width + column + 4 * quarter;
                    // SAFETY: `column` is that of a whole block of the group, so `at + 4` ends
                    // within row `m` of the `M * width` codes asserted above; the read asks for no
                    // alignment.
                    let four = unsafe { codes.as_ptr().add(at).cast::<i32>().read_unaligned() };
                    let four = _mm256_set1_epi32(four);
                    for half in 0..2 {
                        let products = _mm256_maddubs_epi16(weights[half], four);
                        pairs[m][half] = _mm256_add_epi16(pairs[m][half], products);
                    }
                }
                packed = packed.map(|half| _mm256_srli_epi16::<2>(half));
            }
        }
        for m in 0..M {
            for half in 0..2 {
                sums[m][half] = widen(sums[m][half], pairs[m][half]);
            }
        }
    }
    for m in 0..M {
        let offset = _mm256_set1_epi32(offsets[m]);
        for half in 0..2 {
            let at = m * GROUP_ROWS + 8 * half;
            store(_mm256_sub_epi32(sums[m][half], offset), &mut out[at..at + 8]);
        }
    }
}

fn spread(group: &[u8], widths: &[u8], plus: &mut [i32], minus: &mut [i32]) {
    let width = group_width(group, widths.len(), plus.len());
    assert_eq!(plus.len(), minus.len(), "both signs have as many results");
    for (m, token) in widths.chunks_exact(width).enumerate() {
        let results = m * GROUP_ROWS..(m + 1) * GROUP_ROWS;
        for half in 0..2 {
            let (plus, minus) = (&mut plus[results.clone()], &mut minus[results.clone()]);
            // SAFETY: the table's constructor detected AVX2.
            unsafe { spread_half(group, token, half, plus, minus) }
        }
    }
}

#[target_feature(enable = "avx2")]
fn spread_half(group: &[u8], token: &[u8], half: usize, plus: &mut [i32], minus: &mut [i32]) {
    let one = _mm256_set1_epi8(1);
    let (mut ups, mut downs) = (_mm256_setzero_si256(), _mm256_setzero_si256());
    for (index, blocks) in group.chunks(SPREAD_PATIENCE * BLOCK_BYTES).enumerate() {
        let (mut up, mut down) = (_mm256_setzero_si256(), _mm256_setzero_si256());
        for (inner, block) in blocks.chunks_exact(BLOCK_BYTES).enumerate() {
            let column = (index * SPREAD_PATIENCE + inner) * BLOCK_COLUMNS;
            for (quarter, weights) in quarters(load_half(block, half)).into_iter().enumerate() {
                let at = column + 4 * quarter;
                let d =
                    i32::from_le_bytes([token[at], token[at + 1], token[at + 2], token[at + 3]]);
                let operand = _mm256_set1_epi32(d);
                let positive = _mm256_subs_epu8(weights, one);
                let negative = _mm256_subs_epu8(one, weights);
                up = _mm256_add_epi16(up, _mm256_maddubs_epi16(operand, positive));
                down = _mm256_add_epi16(down, _mm256_maddubs_epi16(operand, negative));
            }
        }
        ups = widen(ups, up);
        downs = widen(downs, down);
    }
    store(ups, &mut plus[8 * half..8 * half + 8]);
    store(downs, &mut minus[8 * half..8 * half + 8]);
}

/// [`super::probe::Products`]: 12 independent chains of `vpmaddubsw` and `vpaddw`.
pub(super) fn peak(rounds: u64) -> u64 {
    // SAFETY: only a table whose constructor detected the features leads here.
    unsafe { peak_rounds(rounds) }
}

#[target_feature(enable = "avx2")]
fn peak_rounds(rounds: u64) -> u64 {
    let weights = _mm256_set1_epi8(1);
    let mut sums = [_mm256_setzero_si256(); 12];
    for _ in 0..rounds {
        // Neither the same weights in every round, nor the same codes in two chains, for all that a
        // compiler knows: it would multiply them once.
        let weights = std::hint::black_box(weights);
        for (index, sum) in sums.iter_mut().enumerate() {
            let codes = _mm256_set1_epi8(index as i8 + 1);
            *sum = _mm256_add_epi16(*sum, _mm256_maddubs_epi16(weights, codes));
        }
    }
    let all = sums.into_iter().fold(_mm256_setzero_si256(), |all, sum| _mm256_xor_si256(all, sum));
    let mut lanes = [0; 8];
    store(all, &mut lanes);
    std::hint::black_box(lanes);
    rounds * 12 * 32 * 2
}

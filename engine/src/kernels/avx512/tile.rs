//! A few token rows: two groups at a time, multiplied with the codes where they lie in their bytes.
//!
//! Shifts and masks share ports with the products, so each quarter of the codes is only masked, and
//! stays 64, 16, 4 or 1 times as large as it is. The quarters take turns, largest first, as many
//! columns as stay in the first cache, and between two of them the sums are divided by four: they
//! are multiples of it. Sums of columns before are multiplied by 64 first. So with eight rows 16 of
//! 18 vector operations are products.
//!
//! While the first quarters of two groups are multiplied, the next two groups are fetched.
//!
//! Exact: no sum exceeds 64 * 3 * 128 * K in magnitude, below 2^31 up to K = 87,000 ([`WIDEST`]).

use std::arch::x86_64::*;

use super::{store, sum, ternary_tile};
use crate::kernels::{BLOCK_BYTES, BLOCK_COLUMNS, GROUP_ROWS};

/// Blocks of a group whose quarters take turns: 2,560 columns, 10 KiB of each group.
const BLOCKS: usize = 160;
/// The widest rows whose sums fit while they are 64 times as large.
const WIDEST: usize = 80_000;

/// `M` token rows, from row `first` of the results on, through all groups.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) fn tile<const M: usize>(
    groups: &[u8],
    group_bytes: usize,
    codes: &[i8],
    first: usize,
    out: &mut [i32],
) {
    let width = codes.len() / M;
    let mut offsets = [_mm512_setzero_si512(); M];
    for (offset, row) in offsets.iter_mut().zip(codes.chunks_exact(width)) {
        *offset = _mm512_set1_epi32(sum(row));
    }
    let results = out.len() / (groups.len() / group_bytes);
    let rows = first * GROUP_ROWS..(first + M) * GROUP_ROWS;
    let pairs = groups.chunks(2 * group_bytes).zip(out.chunks_mut(2 * results));
    for (pair, out) in pairs {
        let (before, behind) = out.split_at_mut(results);
        let (a, b) = pair.split_at(group_bytes);
        let x = &mut before[rows.clone()];
        if b.is_empty() {
            ternary_tile::<M>(a, codes, x);
        } else if width > WIDEST {
            ternary_tile::<M>(a, codes, x);
            ternary_tile::<M>(b, codes, &mut behind[rows.clone()]);
        } else {
            two_groups::<M>([a, b], codes, &offsets, [x, &mut behind[rows.clone()]]);
        }
    }
}

/// The sums of two groups, row by row.
type Sums<const M: usize> = [[__m512i; M]; 2];

/// Each broadcast of four activations serves 32 rows, and 2 `M` chains of sums hide the latency of
/// the products.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn two_groups<const M: usize>(
    [a, b]: [&[u8]; 2],
    codes: &[i8],
    offsets: &[__m512i; M],
    outs: [&mut [i32]; 2],
) {
    let (width, pair) = (codes.len() / M, a.len() + b.len());
    let mut sums: Sums<M> = [[_mm512_setzero_si512(); M]; 2];
    let chunks = a.chunks(BLOCKS * BLOCK_BYTES).zip(b.chunks(BLOCKS * BLOCK_BYTES));
    for (index, (a, b)) in chunks.enumerate() {
        let codes = &codes[index * BLOCKS * BLOCK_COLUMNS..];
        for m in 0..M {
            sums[0][m] = _mm512_slli_epi32::<6>(sums[0][m]);
            sums[1][m] = _mm512_slli_epi32::<6>(sums[1][m]);
        }
        add::<M, 3>([a, b], codes, (width, pair), &mut sums);
        add::<M, 2>([a, b], codes, (width, pair), &mut sums);
        add::<M, 1>([a, b], codes, (width, pair), &mut sums);
        add::<M, 0>([a, b], codes, (width, pair), &mut sums);
    }
    for (sums, out) in sums.iter().zip(outs) {
        for ((sum, offset), out) in sums.iter().zip(offsets).zip(out.chunks_exact_mut(GROUP_ROWS)) {
            store(_mm512_sub_epi32(*sum, *offset), out);
        }
    }
}

/// Adds the products of one quarter of the codes of some columns, which are the first of `codes`,
/// 4^`QUARTER` times as large as they are, to sums that are 4 times as large as that but for the
/// first. Rows are `width` apart, and the next two groups `pair` bytes ahead.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn add<const M: usize, const QUARTER: usize>(
    [a, b]: [&[u8]; 2],
    codes: &[i8],
    (width, pair): (usize, usize),
    sums: &mut Sums<M>,
) {
    let (a, b) = (a.as_chunks::<BLOCK_BYTES>().0, b.as_chunks::<BLOCK_BYTES>().0);
    assert!((M - 1) * width + a.len() * BLOCK_COLUMNS <= codes.len(), "rows that reach so far");
    let mask = _mm512_set1_epi8((3u8 << (2 * QUARTER)) as i8);
    let [mut first, mut second] = *sums;
    if QUARTER < 3 {
        for m in 0..M {
            first[m] = _mm512_srai_epi32::<2>(first[m]);
            second[m] = _mm512_srai_epi32::<2>(second[m]);
        }
    }
    for (index, (a, b)) in a.iter().zip(b).enumerate() {
        match QUARTER {
            3 => fetch(a.as_ptr().wrapping_add(pair)),
            2 => fetch(b.as_ptr().wrapping_add(pair)),
            _ => {}
        }
        // SAFETY: a block is 64 bytes long, and the loads ask for no alignment.
        let [a, b] = unsafe { [a, b].map(|block| _mm512_loadu_si512(block.as_ptr().cast())) };
        let (p, q) = (_mm512_and_si512(a, mask), _mm512_and_si512(b, mask));
        for m in 0..M {
            let at = m * width + index * BLOCK_COLUMNS + 4 * QUARTER;
            // SAFETY: `index` counts whole blocks, so `at + 4` ends within the codes by the
            // assertion above; the read asks for no alignment.
            let four = unsafe { codes.as_ptr().add(at).cast::<i32>().read_unaligned() };
            let four = _mm512_set1_epi32(four);
            first[m] = _mm512_dpbusd_epi32(first[m], p, four);
            second[m] = _mm512_dpbusd_epi32(second[m], q, four);
        }
    }
    *sums = [first, second];
}

/// Asks for the cache line at a place, which may hold anything, to come into the second cache.
#[inline(always)]
pub(super) fn fetch(at: *const u8) {
    // SAFETY: a prefetch reads nothing and cannot fail, wherever it points.
    unsafe { _mm_prefetch::<_MM_HINT_T1>(at.cast()) };
}

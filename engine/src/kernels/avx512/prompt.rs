//! Many token rows: codes unpacked once for all of them.
//!
//! Shifts and masks share ports with the products, so a tile that unpacks for eight rows reaches
//! four fifths of the machine. Here two groups are unpacked to bytes, as many columns as stay in
//! the first cache, and every tile of rows multiplies with them. The two signs of one group's
//! weights, times the widths of boxes, go the same way.

use std::arch::x86_64::*;

use super::{store, sum};
use crate::kernels::{BLOCK_BYTES, BLOCK_COLUMNS, GROUP_ROWS};

/// Token rows of a tile: with two groups 16 accumulators.
pub(super) const ROWS: usize = 8;
/// Blocks of a group that are unpacked at a time: 512 columns, 16 KiB for two groups.
const BLOCKS: usize = 32;

/// Two planes of bytes (of two groups, or of two signs): four columns of 16 rows of one, then of
/// the other.
#[repr(align(64))]
struct Unpacked([[u8; 64]; 8 * BLOCKS]);

/// What is unpacked of weights: their codes,
pub(super) const CODES: u8 = 0;
/// or the positive parts of one plane and the magnitudes of the negative ones of the other,
pub(super) const SIGNS: u8 = 1;
/// or their magnitudes.
pub(super) const MAGNITUDES: u8 = 2;

/// The products of two groups with whole tiles of rows, to the results of each.
///
/// With `SIGNS` both are one group, the rows are widths (as their bits), and the results are the
/// sums over the positive parts of the weights and over the magnitudes of the negative ones.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) fn two_planes<const PART: u8>(
    [a, b]: [&[u8]; 2],
    codes: &[i8],
    offsets: &[i32],
    [x, y]: [&mut [i32]; 2],
) {
    let width = a.len() / BLOCK_BYTES * BLOCK_COLUMNS;
    assert!(a.len() == b.len() && codes.len() == offsets.len() * width, "rows as wide as groups");
    let mut unpacked = Unpacked([[0; 64]; 8 * BLOCKS]);
    let chunks = a.chunks(BLOCKS * BLOCK_BYTES).zip(b.chunks(BLOCKS * BLOCK_BYTES));
    for (index, (a, b)) in chunks.enumerate() {
        let steps = a.len() / BLOCK_BYTES * 4;
        let weights = &mut unpacked.0[..2 * steps];
        unpack::<PART>(a, &mut weights[..], 0);
        unpack::<PART>(b, &mut weights[..], 1);
        let column = index * BLOCKS * BLOCK_COLUMNS;
        let tiles = codes.chunks_exact(ROWS * width).zip(offsets.as_chunks::<ROWS>().0);
        let outs = x.as_chunks_mut::<{ ROWS * GROUP_ROWS }>().0.iter_mut();
        let outs = outs.zip(y.as_chunks_mut::<{ ROWS * GROUP_ROWS }>().0);
        for ((codes, offsets), (x, y)) in tiles.zip(outs) {
            let mut sums = if index == 0 { begin(offsets) } else { [load(x), load(y)] };
            add::<PART>(weights, &codes[column..], width, &mut sums);
            for m in 0..ROWS {
                let span = m * GROUP_ROWS..(m + 1) * GROUP_ROWS;
                store(sums[0][m], &mut x[span.clone()]);
                store(sums[1][m], &mut y[span]);
            }
        }
    }
}

/// Sums that already lack what the codes count too much.
#[target_feature(enable = "avx512f")]
fn begin(offsets: &[i32; ROWS]) -> [[__m512i; ROWS]; 2] {
    [offsets.map(|offset| _mm512_set1_epi32(-offset)); 2]
}

#[target_feature(enable = "avx512f")]
fn load(sums: &[i32; ROWS * GROUP_ROWS]) -> [__m512i; ROWS] {
    let rows = sums.as_chunks::<GROUP_ROWS>().0;
    // SAFETY: a row of results is 64 bytes long, and the load asks for no alignment.
    std::array::from_fn(|m| unsafe { _mm512_loadu_si512(rows[m].as_ptr().cast()) })
}

/// Writes the codes of blocks, or a part of their weights, as bytes, to every other place from
/// `first` on.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn unpack<const PART: u8>(blocks: &[u8], out: &mut [[u8; 64]], first: usize) {
    let (one, three) = (_mm512_set1_epi8(1), _mm512_set1_epi8(3));
    let places = out.as_chunks_mut::<8>().0;
    for (block, places) in blocks.as_chunks::<BLOCK_BYTES>().0.iter().zip(places) {
        // SAFETY: a block is 64 bytes long, and the load asks for no alignment.
        let packed = unsafe { _mm512_loadu_si512(block.as_ptr().cast()) };
        let quarters = [
            packed,
            _mm512_srli_epi32::<2>(packed),
            _mm512_srli_epi32::<4>(packed),
            _mm512_srli_epi32::<6>(packed),
        ];
        for (quarter, shifted) in quarters.into_iter().enumerate() {
            let place = &mut places[2 * quarter + first];
            let codes = _mm512_and_si512(shifted, three);
            let codes = match (PART, first) {
                (SIGNS, 0) => _mm512_subs_epu8(codes, one),
                (SIGNS, _) => _mm512_subs_epu8(one, codes),
                (MAGNITUDES, _) => _mm512_abs_epi8(_mm512_sub_epi8(codes, one)),
                _ => codes,
            };
            // SAFETY: a place is 64 bytes long, and the store asks for no alignment.
            unsafe { _mm512_storeu_si512(place.as_mut_ptr().cast(), codes) }
        }
    }
}

/// Adds the products of unpacked columns with those columns of a tile of rows.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn add<const PART: u8>(
    weights: &[[u8; 64]],
    codes: &[i8],
    width: usize,
    sums: &mut [[__m512i; ROWS]; 2],
) {
    assert!((ROWS - 1) * width + 2 * weights.len() <= codes.len(), "rows that reach so far");
    let [mut first, mut second] = *sums;
    for (index, block) in weights.as_chunks::<8>().0.iter().enumerate() {
        for quarter in 0..4 {
            // SAFETY: a place is 64 bytes long, and the loads ask for no alignment.
            let (p, q) = unsafe {
                (
                    _mm512_loadu_si512(block[2 * quarter].as_ptr().cast()),
                    _mm512_loadu_si512(block[2 * quarter + 1].as_ptr().cast()),
                )
            };
            for m in 0..ROWS {
                let at = m * width + index * BLOCK_COLUMNS + 4 * quarter;
                // SAFETY: 8 places are 16 columns, so `at + 4` ends within the codes by the
                // assertion above; the read asks for no alignment.
                let four = unsafe { codes.as_ptr().add(at).cast::<i32>().read_unaligned() };
                let four = _mm512_set1_epi32(four);
                // Widths are unsigned, and so are codes and magnitudes; activations and halves of
                // widths are signed, and signs' parts may be.
                let product = |sum, plane| match PART {
                    SIGNS => _mm512_dpbusd_epi32(sum, four, plane),
                    _ => _mm512_dpbusd_epi32(sum, plane, four),
                };
                (first[m], second[m]) = (product(first[m], p), product(second[m], q));
            }
        }
    }
    *sums = [first, second];
}

/// The sums of the codes of rows.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) fn sums(codes: &[i8], width: usize) -> Vec<i32> {
    codes.chunks_exact(width).map(|row| sum(row)).collect()
}

//! Many token rows: codes unpacked once for all of them.
//!
//! A group is unpacked to bytes, as many columns as stay in the first cache, and every tile of rows
//! multiplies with them: shifts and masks would share ports with the products.

use std::arch::x86_64::*;

use super::{PATIENCE, TILE, load_half, quarters, store, widen};
use crate::kernels::{BLOCK_BYTES, BLOCK_COLUMNS, GROUP_ROWS};

/// Blocks of a group that are unpacked at a time: 480 columns, 7.5 KiB.
const BLOCKS: usize = 3 * PATIENCE;
/// Results of a tile: of each row those of one half, then of the other.
const RESULTS: usize = TILE * GROUP_ROWS;

/// Codes as bytes: four columns of 8 rows of one half, then of the other.
#[repr(align(32))]
struct Unpacked([[[u8; 32]; 2]; 4 * BLOCKS]);

/// The products of a group with whole tiles of rows.
#[target_feature(enable = "avx2")]
pub(super) fn group(group: &[u8], codes: &[i8], offsets: &[i32], out: &mut [i32]) {
    let width = group.len() / BLOCK_BYTES * BLOCK_COLUMNS;
    assert_eq!(codes.len(), offsets.len() * width, "rows as wide as the group");
    let mut unpacked = Unpacked([[[0; 32]; 2]; 4 * BLOCKS]);
    for (index, blocks) in group.chunks(BLOCKS * BLOCK_BYTES).enumerate() {
        let weights = &mut unpacked.0[..blocks.len() / BLOCK_BYTES * 4];
        unpack(blocks, weights);
        let column = index * BLOCKS * BLOCK_COLUMNS;
        let tiles = codes.chunks_exact(TILE * width).zip(offsets.as_chunks::<TILE>().0);
        for ((codes, offsets), out) in tiles.zip(out.as_chunks_mut::<RESULTS>().0) {
            let mut sums = if index == 0 {
                offsets.map(|offset| [_mm256_set1_epi32(-offset); 2])
            } else {
                load(out)
            };
            for (run, weights) in weights.chunks(4 * PATIENCE).enumerate() {
                let at = column + run * PATIENCE * BLOCK_COLUMNS;
                add(weights, &codes[at..], width, &mut sums);
            }
            for (halves, out) in sums.iter().zip(out.as_chunks_mut::<GROUP_ROWS>().0) {
                store(halves[0], &mut out[..8]);
                store(halves[1], &mut out[8..]);
            }
        }
    }
}

#[target_feature(enable = "avx2")]
fn load(sums: &[i32; RESULTS]) -> [[__m256i; 2]; TILE] {
    let eights = sums.as_chunks::<8>().0;
    // SAFETY: eight results are 32 bytes long, and the load asks for no alignment.
    let eight = |at: usize| unsafe { _mm256_loadu_si256(eights[at].as_ptr().cast()) };
    std::array::from_fn(|m| [eight(2 * m), eight(2 * m + 1)])
}

/// Writes the codes of blocks as bytes.
#[target_feature(enable = "avx2")]
fn unpack(blocks: &[u8], out: &mut [[[u8; 32]; 2]]) {
    for (block, out) in blocks.chunks_exact(BLOCK_BYTES).zip(out.as_chunks_mut::<4>().0) {
        for half in 0..2 {
            for (codes, out) in quarters(load_half(block, half)).into_iter().zip(&mut *out) {
                // SAFETY: a place is 32 bytes long, and the store asks for no alignment.
                unsafe { _mm256_storeu_si256(out[half].as_mut_ptr().cast(), codes) }
            }
        }
    }
}

/// Adds the products of so many unpacked columns as int16 sums have room for.
#[target_feature(enable = "avx2")]
fn add(weights: &[[[u8; 32]; 2]], codes: &[i8], width: usize, sums: &mut [[__m256i; 2]; TILE]) {
    assert!(weights.len() <= 4 * PATIENCE, "sums that fit 16 bits");
    assert!((TILE - 1) * width + 4 * weights.len() <= codes.len(), "rows that reach so far");
    let mut pairs = [[_mm256_setzero_si256(); 2]; TILE];
    for (step, places) in weights.iter().enumerate() {
        // SAFETY: a place is 32 bytes long, and the load asks for no alignment.
        let halves = places.each_ref().map(|x| unsafe { _mm256_loadu_si256(x.as_ptr().cast()) });
        for (m, pairs) in pairs.iter_mut().enumerate() {
            // SAFETY: a step is four columns, so the read ends within the codes by the assertion
            // above; it asks for no alignment.
            let four =
                unsafe { codes.as_ptr().add(m * width + 4 * step).cast::<i32>().read_unaligned() };
            let four = _mm256_set1_epi32(four);
            for (pairs, half) in pairs.iter_mut().zip(halves) {
                *pairs = _mm256_add_epi16(*pairs, _mm256_maddubs_epi16(half, four));
            }
        }
    }
    for (sums, pairs) in sums.iter_mut().zip(pairs) {
        *sums = [widen(sums[0], pairs[0]), widen(sums[1], pairs[1])];
    }
}

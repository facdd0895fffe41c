//! NEON: a quarter of a block is 4 rows by 16 columns, one register.
//!
//! `smull` and `umull` give 16-bit products (at most 3 * 128 = 384 and 2 * 255 = 510), `sadalp` and
//! `uadalp` add them pairwise into 32 bits: nothing can wrap before K = 5 million.

use std::arch::aarch64::*;

use super::scalar::{floats, group_width};
use super::{BLOCK_BYTES, BLOCK_COLUMNS, GROUP_ROWS, Kernels, programs::one_by_one, table::table};

pub(super) static TABLE: Kernels = table!(
    "neon",
    (ternary, groups, spread),
    super::table::NONE,
    super::sparse::SPARSE,
    super::halves::HALVES,
    self::floats
);

fn ternary(group: &[u8], codes: &[i8], out: &mut [i32]) {
    let width = group_width(group, codes.len(), out.len());
    for (token, results) in codes.chunks_exact(width).zip(out.chunks_exact_mut(GROUP_ROWS)) {
        for part in 0..4 {
            // SAFETY: the table's constructor detected NEON.
            unsafe { ternary_part(group, token, part, &mut results[4 * part..4 * part + 4]) }
        }
    }
}

fn groups(groups: &[u8], group_bytes: usize, codes: &[i8], out: &mut [i32]) {
    one_by_one(ternary, groups, group_bytes, codes, out);
}

/// The 16 bytes of four rows in a block.
#[target_feature(enable = "neon")]
fn load_part(block: &[u8], part: usize) -> uint8x16_t {
    let bytes = &block[16 * part..16 * part + 16];
    // SAFETY: the slice is 16 bytes long.
    unsafe { vld1q_u8(bytes.as_ptr()) }
}

/// The four quarters of codes, each in the low bits of its byte.
#[target_feature(enable = "neon")]
fn quarters(packed: uint8x16_t) -> [uint8x16_t; 4] {
    let three = vdupq_n_u8(3);
    [
        vandq_u8(packed, three),
        vandq_u8(vshrq_n_u8::<2>(packed), three),
        vandq_u8(vshrq_n_u8::<4>(packed), three),
        vshrq_n_u8::<6>(packed),
    ]
}

/// Stores the sums of lane pairs: two int32 a row become one.
#[target_feature(enable = "neon")]
fn store(low: int32x4_t, high: int32x4_t, offset: i32, out: &mut [i32]) {
    assert_eq!(out.len(), 4);
    let sums = vsubq_s32(vpaddq_s32(low, high), vdupq_n_s32(offset));
    // SAFETY: `out` has room for 4 int32.
    unsafe { vst1q_s32(out.as_mut_ptr(), sums) }
}

#[target_feature(enable = "neon")]
fn ternary_part(group: &[u8], token: &[i8], part: usize, out: &mut [i32]) {
    let (mut low, mut high) = (vdupq_n_s32(0), vdupq_n_s32(0));
    for (index, block) in group.chunks_exact(BLOCK_BYTES).enumerate() {
        for (quarter, weights) in quarters(load_part(block, part)).into_iter().enumerate() {
            let at = index * BLOCK_COLUMNS + 4 * quarter;
            let q = &token[at..at + 4];
            let four = i32::from_le_bytes([q[0] as u8, q[1] as u8, q[2] as u8, q[3] as u8]);
            let activations = vreinterpretq_s8_s32(vdupq_n_s32(four));
            let weights = vreinterpretq_s8_u8(weights);
            low = vpadalq_s16(low, vmull_s8(vget_low_s8(weights), vget_low_s8(activations)));
            high = vpadalq_s16(high, vmull_high_s8(weights, activations));
        }
    }
    store(low, high, token.iter().map(|&q| i32::from(q)).sum(), out);
}

fn spread(group: &[u8], widths: &[u8], plus: &mut [i32], minus: &mut [i32]) {
    let width = group_width(group, widths.len(), plus.len());
    assert_eq!(plus.len(), minus.len(), "both signs have as many results");
    for (m, token) in widths.chunks_exact(width).enumerate() {
        for part in 0..4 {
            let at = m * GROUP_ROWS + 4 * part;
            let (plus, minus) = (&mut plus[at..at + 4], &mut minus[at..at + 4]);
            // SAFETY: the table's constructor detected NEON.
            unsafe { spread_part(group, token, part, plus, minus) }
        }
    }
}

#[target_feature(enable = "neon")]
fn spread_part(group: &[u8], token: &[u8], part: usize, plus: &mut [i32], minus: &mut [i32]) {
    let one = vdupq_n_u8(1);
    let zero = vdupq_n_u32(0);
    let (mut up_low, mut up_high, mut down_low, mut down_high) = (zero, zero, zero, zero);
    for (index, block) in group.chunks_exact(BLOCK_BYTES).enumerate() {
        for (quarter, weights) in quarters(load_part(block, part)).into_iter().enumerate() {
            let at = index * BLOCK_COLUMNS + 4 * quarter;
            let d = u32::from_le_bytes([token[at], token[at + 1], token[at + 2], token[at + 3]]);
            let operand = vreinterpretq_u8_u32(vdupq_n_u32(d));
            let (up, down) = (vqsubq_u8(weights, one), vqsubq_u8(one, weights));
            up_low = vpadalq_u16(up_low, vmull_u8(vget_low_u8(up), vget_low_u8(operand)));
            up_high = vpadalq_u16(up_high, vmull_high_u8(up, operand));
            down_low = vpadalq_u16(down_low, vmull_u8(vget_low_u8(down), vget_low_u8(operand)));
            down_high = vpadalq_u16(down_high, vmull_high_u8(down, operand));
        }
    }
    store(vreinterpretq_s32_u32(up_low), vreinterpretq_s32_u32(up_high), 0, plus);
    store(vreinterpretq_s32_u32(down_low), vreinterpretq_s32_u32(down_high), 0, minus);
}

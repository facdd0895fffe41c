//! AVX-512 with VNNI: one 64-byte block is 16 rows by 16 columns, one register.
//!
//! `vpdpbusd` multiplies unsigned by signed bytes and adds four products to each of 16 int32 lanes,
//! one lane a row. The operand of the codes 0..3 is unsigned, the int8 activations signed; the sum
//! of `(code - 1) q` is the sum of `code q` less the sum of `q`. Exact: at most 3 * 128 * K for any
//! operand, below 2^31 up to K = 5.5 million.

mod centred;
mod codes;
mod dots;
mod halves;
mod probe;
mod prompt;
mod quotients;
mod signs;
mod sparse;
mod steps;
mod tile;
mod trees;

use std::arch::x86_64::*;

use super::scalar::group_width;
use super::{
    BLOCK_BYTES, BLOCK_COLUMNS, GROUP_ROWS, Kernels, programs::stamp_floats, table::Own,
    table::table,
};

use dots::{dot_rows, dot_tile};
use halves::HALVES;
pub(super) use probe::{peak, read};
use sparse::{columns, differ};
use tile::tile;

pub(super) static TABLE: Kernels = Kernels {
    dot_codes: codes::dot_codes,
    dots_codes: codes::dots_codes,
    dot_rows,
    dot_tile,
    ..table!("avx512", (ternary, groups, spread), OWN, (differ, columns), HALVES, self::floats)
};

/// The table where bits of registers can be counted.
pub(super) static COUNTING: Kernels = Kernels { reach: Some(centred::reach), ..TABLE };

const OWN: Own = (Some(steps::spread), Some(signs::product));

stamp_floats!(
    "avx512f,avx512bw,avx2",
    super::trees::trees,
    super::quotients::all,
    super::quotients::ends
);

/// Token rows that share one unpacking of a block: eight accumulators hide the latency.
const TILE: usize = 8;
/// Token rows from which on unpacking for all of them pays.
const MANY: usize = 16;

fn ternary(group: &[u8], codes: &[i8], out: &mut [i32]) {
    let width = group_width(group, codes.len(), out.len());
    let mut rest = (codes, out);
    while !rest.0.is_empty() {
        let rows = (rest.0.len() / width).min(TILE);
        let (now, later) = rest.0.split_at(rows * width);
        let (results, behind) = rest.1.split_at_mut(rows * GROUP_ROWS);
        // SAFETY: the table's constructor detected the features that these functions enable.
        unsafe {
            match rows {
                8 => ternary_tile::<8>(group, now, results),
                7 => ternary_tile::<7>(group, now, results),
                6 => ternary_tile::<6>(group, now, results),
                5 => ternary_tile::<5>(group, now, results),
                4 => ternary_tile::<4>(group, now, results),
                3 => ternary_tile::<3>(group, now, results),
                2 => ternary_tile::<2>(group, now, results),
                _ => ternary_row(group, now, sum(now), results),
            }
        }
        rest = (later, behind);
    }
}

fn groups(groups: &[u8], group_bytes: usize, codes: &[i8], out: &mut [i32]) {
    assert!(group_bytes > 0 && groups.len().is_multiple_of(group_bytes), "whole groups");
    let count = groups.len() / group_bytes;
    assert!(count > 0 && out.len().is_multiple_of(count), "as many results for every group");
    let width = group_width(&groups[..group_bytes], codes.len(), out.len() / count);
    if codes.len() == width {
        let groups = groups.chunks_exact(group_bytes).zip(out.chunks_exact_mut(GROUP_ROWS));
        // SAFETY: the table's constructor detected the features that these functions enable.
        unsafe {
            let offset = sum(codes);
            groups.for_each(|(group, out)| ternary_row(group, codes, offset, out));
        }
        return;
    }
    let tokens = codes.len() / width;
    let many = if tokens >= MANY { tokens / prompt::ROWS * prompt::ROWS } else { 0 };
    if many > 0 {
        // SAFETY: the table's constructor detected the features that this function enables.
        unsafe { prompt(groups, group_bytes, &codes[..many * width], out) }
    }
    for first in (many..tokens).step_by(TILE) {
        let rows = (tokens - first).min(TILE);
        let now = &codes[first * width..(first + rows) * width];
        // SAFETY: the table's constructor detected the features that these functions enable.
        unsafe {
            match rows {
                8 => tile::<8>(groups, group_bytes, now, first, out),
                7 => tile::<7>(groups, group_bytes, now, first, out),
                6 => tile::<6>(groups, group_bytes, now, first, out),
                5 => tile::<5>(groups, group_bytes, now, first, out),
                4 => tile::<4>(groups, group_bytes, now, first, out),
                3 => tile::<3>(groups, group_bytes, now, first, out),
                2 => tile::<2>(groups, group_bytes, now, first, out),
                _ => tile::<1>(groups, group_bytes, now, first, out),
            }
        }
    }
}

/// Whole tiles of token rows, the first of the results, through all groups, two at a time.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn prompt(groups: &[u8], group_bytes: usize, codes: &[i8], out: &mut [i32]) {
    let results = out.len() / (groups.len() / group_bytes);
    let width = group_bytes / BLOCK_BYTES * BLOCK_COLUMNS;
    let offsets = prompt::sums(codes, width);
    let taken = offsets.len() * GROUP_ROWS;
    for (pair, out) in groups.chunks(2 * group_bytes).zip(out.chunks_mut(2 * results)) {
        let (before, behind) = out.split_at_mut(results);
        let (a, b) = pair.split_at(group_bytes);
        if b.is_empty() {
            ternary(a, codes, &mut before[..taken]);
        } else {
            prompt::two_planes::<{ prompt::CODES }>(
                [a, b],
                codes,
                &offsets,
                [&mut before[..taken], &mut behind[..taken]],
            );
        }
    }
}

/// Four activations as one int32, for a broadcast to all lanes.
#[inline(always)]
fn four(bytes: &[u8]) -> i32 {
    i32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

fn as_codes(bytes: &[u8]) -> &[i8] {
    // SAFETY: as below, the other way round.
    unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len()) }
}

fn as_bytes(codes: &[i8]) -> &[u8] {
    // SAFETY: i8 and u8 have the same size and alignment, and every bit pattern is valid in both.
    unsafe { std::slice::from_raw_parts(codes.as_ptr().cast(), codes.len()) }
}

/// One token row: the codes stay where they are in their bytes (times 1, 4, 16, 64), in four
/// accumulators, and the sums are shifted once at the end. Exact up to K = 349,000 even if every
/// code is 3 and every activation -128.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn ternary_row(group: &[u8], codes: &[i8], offset: i32, out: &mut [i32]) {
    if codes.len() > 300_000 {
        return ternary_tile::<1>(group, codes, out);
    }
    let masks = [0x03, 0x0c, 0x30, 0xc0u8].map(|mask| _mm512_set1_epi8(mask as i8));
    let mut sums = [_mm512_setzero_si512(); 4];
    let blocks = group.chunks_exact(BLOCK_BYTES).zip(as_bytes(codes).chunks_exact(BLOCK_COLUMNS));
    for (block, operand) in blocks {
        ahead(block.as_ptr().cast());
        // SAFETY: a block is 64 bytes long, and the load asks for no alignment.
        let packed = unsafe { _mm512_loadu_si512(block.as_ptr().cast()) };
        for quarter in 0..4 {
            let activations = _mm512_set1_epi32(four(&operand[4 * quarter..]));
            let weights = _mm512_and_si512(packed, masks[quarter]);
            sums[quarter] = _mm512_dpbusd_epi32(sums[quarter], weights, activations);
        }
    }
    let total = _mm512_add_epi32(
        _mm512_add_epi32(sums[0], _mm512_srai_epi32::<2>(sums[1])),
        _mm512_add_epi32(_mm512_srai_epi32::<4>(sums[2]), _mm512_srai_epi32::<6>(sums[3])),
    );
    store(_mm512_sub_epi32(total, _mm512_set1_epi32(offset)), out);
}

/// The sum of the codes, 64 at a time.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn sum(codes: &[i8]) -> i32 {
    let one = _mm512_set1_epi8(1);
    let mut sums = [_mm512_setzero_si512(); 4];
    let mut fours = codes.chunks_exact(256);
    for four in &mut fours {
        for (sum, chunk) in sums.iter_mut().zip(four.as_chunks::<64>().0) {
            // SAFETY: a chunk is 64 bytes long, and the load asks for no alignment.
            let q = unsafe { _mm512_loadu_si512(chunk.as_ptr().cast()) };
            *sum = _mm512_dpbusd_epi32(*sum, one, q);
        }
    }
    let (chunks, rest) = fours.remainder().as_chunks::<64>();
    for (sum, chunk) in sums.iter_mut().zip(chunks) {
        // SAFETY: as above.
        let q = unsafe { _mm512_loadu_si512(chunk.as_ptr().cast()) };
        *sum = _mm512_dpbusd_epi32(*sum, one, q);
    }
    let sums =
        _mm512_add_epi32(_mm512_add_epi32(sums[0], sums[1]), _mm512_add_epi32(sums[2], sums[3]));
    _mm512_reduce_add_epi32(sums) + rest.iter().map(|&q| i32::from(q)).sum::<i32>()
}

#[target_feature(enable = "avx512f")]
fn store(sums: __m512i, out: &mut [i32]) {
    assert_eq!(out.len(), GROUP_ROWS);
    // SAFETY: `out` has room for 16 int32, and the store asks for no alignment.
    unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), sums) }
}

/// `M` token rows share each unpacked quarter of a block.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn ternary_tile<const M: usize>(group: &[u8], codes: &[i8], out: &mut [i32]) {
    let width = group.len() / BLOCK_BYTES * BLOCK_COLUMNS;
    assert_eq!(codes.len(), M * width, "M rows as wide as the group");
    let three = _mm512_set1_epi8(3);
    let mut sums = [_mm512_setzero_si512(); M];
    for (index, block) in group.chunks_exact(BLOCK_BYTES).enumerate() {
        // SAFETY: a block is 64 bytes long, and the load asks for no alignment.
        let packed = unsafe { _mm512_loadu_si512(block.as_ptr().cast()) };
        let quarters = [
            _mm512_and_si512(packed, three),
            _mm512_and_si512(_mm512_srli_epi32::<2>(packed), three),
            _mm512_and_si512(_mm512_srli_epi32::<4>(packed), three),
            _mm512_and_si512(_mm512_srli_epi32::<6>(packed), three),
        ];
        for quarter in 0..4 {
            for m in 0..M {
                let at = m * width + index * BLOCK_COLUMNS + 4 * quarter;
                // SAFETY: `index` counts whole blocks of the group, so `at + 4` ends within row
                // `m` of the `M * width` codes asserted above; the read asks for no alignment.
                let four = unsafe { codes.as_ptr().add(at).cast::<i32>().read_unaligned() };
                sums[m] = _mm512_dpbusd_epi32(sums[m], quarters[quarter], _mm512_set1_epi32(four));
            }
        }
    }
    for m in 0..M {
        let offset = _mm512_set1_epi32(sum(&codes[m * width..(m + 1) * width]));
        let total = _mm512_sub_epi32(sums[m], offset);
        store(total, &mut out[m * GROUP_ROWS..(m + 1) * GROUP_ROWS]);
    }
}

fn spread(group: &[u8], widths: &[u8], plus: &mut [i32], minus: &mut [i32]) {
    let width = group_width(group, widths.len(), plus.len());
    assert_eq!(plus.len(), minus.len(), "both signs have as many results");
    let tokens = widths.len() / width;
    let many = if tokens >= MANY { tokens / prompt::ROWS * prompt::ROWS } else { 0 };
    let (now, widths) = widths.split_at(many * width);
    let (plus_now, plus) = plus.split_at_mut(many * GROUP_ROWS);
    let (minus_now, minus) = minus.split_at_mut(many * GROUP_ROWS);
    // SAFETY: the table's constructor detected the features that this function enables.
    unsafe {
        let outs = [plus_now, minus_now];
        prompt::two_planes::<{ prompt::SIGNS }>([group; 2], as_codes(now), &vec![0; many], outs);
    }
    let mut rest = (widths, plus, minus);
    while !rest.0.is_empty() {
        let rows = if rest.0.len() >= 4 * width { 4 } else { 1 };
        let (now, later) = rest.0.split_at(rows * width);
        let (plus, plus_behind) = rest.1.split_at_mut(rows * GROUP_ROWS);
        let (minus, minus_behind) = rest.2.split_at_mut(rows * GROUP_ROWS);
        // SAFETY: the table's constructor detected the features that these functions enable.
        unsafe {
            match rows {
                4 => spread_tile::<4>(group, now, plus, minus),
                _ => spread_tile::<1>(group, now, plus, minus),
            }
        }
        rest = (later, plus_behind, minus_behind);
    }
}

/// The widths are the unsigned operand here, the parts of the weights the signed one.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn spread_tile<const M: usize>(group: &[u8], widths: &[u8], plus: &mut [i32], minus: &mut [i32]) {
    let width = widths.len() / M;
    let (one, three) = (_mm512_set1_epi8(1), _mm512_set1_epi8(3));
    let mut ups = [_mm512_setzero_si512(); M];
    let mut downs = [_mm512_setzero_si512(); M];
    for (index, block) in group.chunks_exact(BLOCK_BYTES).enumerate() {
        // SAFETY: a block is 64 bytes long, and the load asks for no alignment.
        let packed = unsafe { _mm512_loadu_si512(block.as_ptr().cast()) };
        let quarters = [
            _mm512_and_si512(packed, three),
            _mm512_and_si512(_mm512_srli_epi32::<2>(packed), three),
            _mm512_and_si512(_mm512_srli_epi32::<4>(packed), three),
            _mm512_and_si512(_mm512_srli_epi32::<6>(packed), three),
        ];
        for quarter in 0..4 {
            let up = _mm512_subs_epu8(quarters[quarter], one);
            let down = _mm512_subs_epu8(one, quarters[quarter]);
            for m in 0..M {
                let at = m * width + index * BLOCK_COLUMNS + 4 * quarter;
                let operand = _mm512_set1_epi32(four(&widths[at..at + 4]));
                ups[m] = _mm512_dpbusd_epi32(ups[m], operand, up);
                downs[m] = _mm512_dpbusd_epi32(downs[m], operand, down);
            }
        }
    }
    for m in 0..M {
        store(ups[m], &mut plus[m * GROUP_ROWS..(m + 1) * GROUP_ROWS]);
        store(downs[m], &mut minus[m * GROUP_ROWS..(m + 1) * GROUP_ROWS]);
    }
}

/// Asks for the bytes that a reader in order will want in a while.
#[inline(always)]
fn ahead(at: *const i8) {
    // SAFETY: a prefetch reads nothing and cannot fail, wherever it points.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(AHEAD)) };
}

/// How far ahead of its reading memory is asked for.
const AHEAD: usize = 4096;

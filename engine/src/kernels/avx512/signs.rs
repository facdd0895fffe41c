//! Signs: one block is 16 rows by 32 columns, one register.
//!
//! With `s` the sum of the activations where a bit is set, the sum of signs is `2 s` less the sum
//! of all. A bit is only masked, and stays 128, 64, .. or 1 times as large as it is: bits take
//! turns, largest first, and between two of them the sums are halved, which is exact, since they
//! are multiples of two. No sum exceeds 128 * 128 * K in magnitude, K at most [`WIDEST_SIGNS`].
//!
//! [`WIDEST_SIGNS`]: crate::kernels::signs::WIDEST_SIGNS

use std::arch::x86_64::*;

use super::sum;
use super::tile::fetch;
use crate::kernels::signs::{SIGN_COLUMNS, Signs};
use crate::kernels::{BLOCK_BYTES, GROUP_ROWS};

/// Groups of rows whose chains of sums run side by side and hide the latency of the products.
const TOGETHER: usize = 6;

pub(super) fn product(signs: &Signs, codes: &[i8], ys: &mut [f64]) {
    let (rows, columns) = signs.shape();
    assert!(codes.len() >= signs.groups * columns, "codes for all columns");
    assert_eq!(ys.len(), rows * GROUP_ROWS, "16 results a group of rows");
    // SAFETY: the table's constructor detected the features that this function enables.
    unsafe { product_by_groups(signs, columns, codes, ys) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn product_by_groups(signs: &Signs, columns: usize, codes: &[i8], ys: &mut [f64]) {
    let codes = &codes[..signs.groups * columns];
    let offsets: Vec<i32> = codes.chunks_exact(columns).map(|group| sum(group)).collect();
    let bytes = signs.groups * columns / SIGN_COLUMNS * BLOCK_BYTES;
    let packed = signs.packed.chunks(TOGETHER * bytes);
    let scales = signs.scales.chunks(TOGETHER * signs.groups);
    let ys = ys.as_chunks_mut::<GROUP_ROWS>().0.chunks_mut(TOGETHER);
    for ((packed, scales), ys) in packed.zip(scales).zip(ys) {
        match ys.len() {
            6 => rows::<6>(packed, scales, codes, &offsets, ys),
            5 => rows::<5>(packed, scales, codes, &offsets, ys),
            4 => rows::<4>(packed, scales, codes, &offsets, ys),
            3 => rows::<3>(packed, scales, codes, &offsets, ys),
            2 => rows::<2>(packed, scales, codes, &offsets, ys),
            _ => rows::<1>(packed, scales, codes, &offsets, ys),
        }
    }
}

/// `R` groups of rows through all groups of columns.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn rows<const R: usize>(
    packed: &[u8],
    scales: &[[f32; GROUP_ROWS]],
    codes: &[i8],
    offsets: &[i32],
    ys: &mut [[f64; GROUP_ROWS]],
) {
    let (groups, bytes) = (offsets.len(), packed.len() / R);
    let columns = codes.len() / groups;
    assert!(scales.len() == R * groups && ys.len() == R, "scales and results of all rows");
    let mut y = [[_mm512_setzero_pd(); 2]; R];
    for (group, &offset) in offsets.iter().enumerate() {
        let codes = &codes[group * columns..(group + 1) * columns];
        let mut sums = [_mm512_setzero_si512(); R];
        let packed = &packed[group * (bytes / groups)..];
        add::<R, 7>(packed, bytes, codes, &mut sums);
        add::<R, 6>(packed, bytes, codes, &mut sums);
        add::<R, 5>(packed, bytes, codes, &mut sums);
        add::<R, 4>(packed, bytes, codes, &mut sums);
        add::<R, 3>(packed, bytes, codes, &mut sums);
        add::<R, 2>(packed, bytes, codes, &mut sums);
        add::<R, 1>(packed, bytes, codes, &mut sums);
        add::<R, 0>(packed, bytes, codes, &mut sums);
        for r in 0..R {
            let sum = _mm512_add_epi32(sums[r], sums[r]);
            let sum = _mm512_sub_epi32(sum, _mm512_set1_epi32(offset));
            let scales = &scales[r * groups + group];
            // SAFETY: 16 scales are 64 bytes long, and the loads ask for no alignment.
            let scales = unsafe {
                [_mm256_loadu_ps(scales.as_ptr()), _mm256_loadu_ps(scales.as_ptr().add(8))]
            };
            let halves = [_mm512_castsi512_si256(sum), _mm512_extracti64x4_epi64::<1>(sum)];
            for half in 0..2 {
                let scale = _mm512_cvtps_pd(scales[half]);
                let product = _mm512_mul_pd(scale, _mm512_cvtepi32_pd(halves[half]));
                y[r][half] = _mm512_add_pd(y[r][half], product);
            }
        }
    }
    for r in 0..R {
        // SAFETY: 16 results are 128 bytes long, and the stores ask for no alignment.
        unsafe {
            _mm512_storeu_pd(ys[r].as_mut_ptr(), y[r][0]);
            _mm512_storeu_pd(ys[r].as_mut_ptr().add(8), y[r][1]);
        }
    }
}

/// Adds one bit of each byte of the blocks of some columns, 2^`BIT` times as large as it is, to
/// sums that are twice as large but for the first; groups of rows are `bytes` apart.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn add<const R: usize, const BIT: usize>(
    packed: &[u8],
    bytes: usize,
    codes: &[i8],
    sums: &mut [__m512i; R],
) {
    let steps = codes.as_chunks::<SIGN_COLUMNS>().0;
    assert!((R - 1) * bytes + steps.len() * BLOCK_BYTES <= packed.len(), "blocks of all rows");
    let mask = _mm512_set1_epi8((1u8 << BIT) as i8);
    // The same columns of the next groups of rows, an eighth of their blocks with each bit.
    for index in (BIT..steps.len()).step_by(8) {
        for r in R..2 * R {
            fetch(packed.as_ptr().wrapping_add(r * bytes + index * BLOCK_BYTES));
        }
    }
    let mut all = *sums;
    if BIT < 7 {
        for sum in &mut all {
            *sum = _mm512_srai_epi32::<1>(*sum);
        }
    }
    for (index, codes) in steps.iter().enumerate() {
        // SAFETY: the fours of a block's columns lie within them; the read asks for no alignment.
        let four = unsafe { codes.as_ptr().add(4 * BIT).cast::<i32>().read_unaligned() };
        let four = _mm512_set1_epi32(four);
        for (r, sum) in all.iter_mut().enumerate() {
            // SAFETY: the block lies within the packed bytes by the assertion above, and the load
            // asks for no alignment.
            let block = unsafe {
                _mm512_loadu_si512(packed.as_ptr().add(r * bytes + index * BLOCK_BYTES).cast())
            };
            *sum = _mm512_dpbusd_epi32(*sum, _mm512_and_si512(block, mask), four);
        }
    }
    *sums = all;
}

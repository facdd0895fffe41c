//! Widths of which few are not zero: each step of four columns is looked up among unpacked signs.

use std::arch::x86_64::*;

use super::prompt::{SIGNS, unpack};
use crate::kernels::steps::{PIECE, Steps};
use crate::kernels::{BLOCK_BYTES, BLOCK_COLUMNS, GROUP_ROWS};

/// The positive parts of the weights of four columns of 16 rows, then the magnitudes of the
/// negative ones; 32 KiB, which stay in the first cache.
#[repr(align(64))]
struct Signs([[u8; 64]; PIECE / 2]);

pub(super) fn spread(group: &[u8], steps: &Steps, least: &mut [i32], greatest: &mut [i32]) {
    let results = steps.rows() * GROUP_ROWS;
    assert!(least.len() == results && greatest.len() == results, "16 results a row of each end");
    // SAFETY: the table's constructor detected the features that this function enables.
    unsafe { spread_pieces(group, steps, least, greatest) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn spread_pieces(group: &[u8], steps: &Steps, least: &mut [i32], greatest: &mut [i32]) {
    let mut signs = Signs([[0; 64]; PIECE / 2]);
    for (index, blocks) in group.chunks(PIECE / BLOCK_COLUMNS * BLOCK_BYTES).enumerate() {
        let signs = &mut signs.0[..blocks.len() / BLOCK_BYTES * 8];
        unpack::<SIGNS>(blocks, signs, 0);
        unpack::<SIGNS>(blocks, signs, 1);
        let signs = signs.as_chunks::<2>().0;
        let outs = least.as_chunks_mut::<GROUP_ROWS>().0.iter_mut();
        let outs = outs.zip(greatest.as_chunks_mut::<GROUP_ROWS>().0);
        for (steps, (least, greatest)) in steps.piece(index).zip(outs) {
            if steps.is_empty() {
                continue;
            }
            // SAFETY: each is 64 bytes long, and the loads ask for no alignment.
            let (low, mut high) = unsafe {
                (
                    _mm512_loadu_si512(least.as_ptr().cast()),
                    _mm512_loadu_si512(greatest.as_ptr().cast()),
                )
            };
            let mut down = _mm512_setzero_si512();
            for &(at, widths) in steps {
                let widths = _mm512_set1_epi32(widths);
                let [plus, minus] = &signs[at as usize];
                // SAFETY: as above.
                let (plus, minus) = unsafe {
                    (
                        _mm512_loadu_si512(plus.as_ptr().cast()),
                        _mm512_loadu_si512(minus.as_ptr().cast()),
                    )
                };
                high = _mm512_dpbusd_epi32(high, widths, plus);
                down = _mm512_dpbusd_epi32(down, widths, minus);
            }
            // SAFETY: as above, and the stores ask for no alignment.
            unsafe {
                _mm512_storeu_si512(least.as_mut_ptr().cast(), _mm512_sub_epi32(low, down));
                _mm512_storeu_si512(greatest.as_mut_ptr().cast(), high);
            }
        }
    }
}

//! The trees of `sum16` over the lanes of four rows, in registers.

use std::arch::x86_64::*;

use crate::kernels::programs::Lanes;

/// Level by level for all four: first the halves of two rows in one register, then the quarters of
/// all, then within quarters.
#[target_feature(enable = "avx512f")]
pub(super) fn trees(lanes: Lanes) -> [f32; 4] {
    // SAFETY: each set of lanes is 64 bytes long, and the load asks for no alignment.
    tree_of_four(unsafe { lanes.each_ref().map(|lanes| _mm512_loadu_ps(lanes.as_ptr())) })
}

/// The same of lanes in registers.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn tree_of_four([a, b, c, d]: [__m512; 4]) -> [f32; 4] {
    let halves = |a, b| {
        let (low, high) = (_mm512_shuffle_f32x4::<0x44>(a, b), _mm512_shuffle_f32x4::<0xEE>(a, b));
        _mm512_add_ps(low, high)
    };
    let (ab, cd) = (halves(a, b), halves(c, d));
    let (low, high) = (_mm512_shuffle_f32x4::<0x88>(ab, cd), _mm512_shuffle_f32x4::<0xDD>(ab, cd));
    let four = _mm512_add_ps(low, high);
    let two = _mm512_add_ps(four, _mm512_permute_ps::<0x4E>(four));
    let one = _mm512_add_ps(two, _mm512_permute_ps::<0xB1>(two));
    let mut sums = [0.0; 4];
    let firsts = _mm512_castps512_ps128(_mm512_maskz_compress_ps(0x1111, one));
    // SAFETY: the array is 16 bytes long, and the store asks for no alignment.
    unsafe { _mm_storeu_ps(sums.as_mut_ptr(), firsts) };
    sums
}

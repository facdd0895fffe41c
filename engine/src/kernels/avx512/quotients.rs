//! Quotients by their remainders: a product with the reciprocal, put right twice.

use std::arch::x86_64::*;

use crate::kernels::GROUP_ROWS;
use crate::kernels::quotients::{self, Group, Quotient};

/// Divisors between these keep all that comes between them and a quotient among normal numbers.
const LEAST: f32 = f32::from_bits((127 - 96) << 23);
const MOST: f32 = f32::from_bits((127 + 96) << 23);

/// As many values as `out` takes, as [`Quotient::all`] gives them.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn all(quotient: Quotient, sums: &[i32], out: &mut [f32]) {
    if !Divide::takes(quotient) || !out.len().is_multiple_of(16) {
        return quotient.all(sums, out);
    }
    let divide = Divide::by(quotient);
    let runs = sums.as_chunks::<16>().0.iter().zip(out.as_chunks_mut::<16>().0);
    for (sums, out) in runs {
        // SAFETY: 16 sums are 64 bytes, and the load asks for no alignment.
        divide.store(unsafe { _mm512_loadu_si512(sums.as_ptr().cast()) }, out);
    }
}

/// The ends of the values of 16 boxes of sums, as [`quotients::ends`] gives them.
///
/// A quotient by a positive divisor rises with the sum, and falls with the divisor where the sum is
/// positive, else rises; so does its rounded product with a positive factor. So the sign of a sum
/// names the divisor of its end, and one quotient an end is enough.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn ends(sums: [&[i32; GROUP_ROWS]; 2], by: &[Quotient; 2], out: Group) {
    let [small, large] = by;
    let positive = [small.divisor, small.factor].iter().all(|x| (LEAST..=MOST).contains(x));
    if !positive || !(small.divisor..=MOST).contains(&large.divisor) {
        return quotients::ends(sums, by, out);
    }
    let (small, large) = (Divide::by(*small), Divide::by(*large));
    // SAFETY: 16 sums are 64 bytes, and the loads ask for no alignment.
    let [lows, highs] = unsafe { sums.map(|sums| _mm512_loadu_si512(sums.as_ptr().cast())) };
    let [low, high] = out.values;
    large.or(negative(lows), small).store(lows, low);
    small.or(negative(highs), large).store(highs, high);
    for (sums, out) in [lows, highs].into_iter().zip(out.sums.into_iter().flatten()) {
        // SAFETY: as above, and the store asks for none either.
        unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), sums) }
    }
}

/// A [`Quotient`], ready for 16 sums at a time.
///
/// With `y` the reciprocal of the divisor `b` to the nearest f32 and `q` within an ulp of `a / b`,
/// the remainder `a - b q` is an f32, so that a fused operation gives it exactly, and
/// `q + (a - b q) y` rounds to the very quotient (Markstein 1990). The product `a y` may be wrong
/// by two ulps, and is put right once before. Sums are below 2^31 and divisors between 2^-96 and
/// 2^96, so nothing leaves the normal numbers but zero, which keeps its sign.
#[derive(Clone, Copy)]
pub(super) struct Divide {
    divisor: __m512,
    reciprocal: __m512,
    factor: __m512,
}

impl Divide {
    /// Whether the divisor is in reach.
    pub(super) fn takes(quotient: Quotient) -> bool {
        (LEAST..=MOST).contains(&quotient.divisor.abs())
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    pub(super) fn by(quotient: Quotient) -> Self {
        Self {
            divisor: _mm512_set1_ps(quotient.divisor),
            reciprocal: _mm512_set1_ps(1.0 / quotient.divisor),
            factor: _mm512_set1_ps(quotient.factor),
        }
    }

    /// The other divisor in some places.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn or(self, places: __mmask16, other: Self) -> Self {
        Self {
            divisor: _mm512_mask_blend_ps(places, self.divisor, other.divisor),
            reciprocal: _mm512_mask_blend_ps(places, self.reciprocal, other.reciprocal),
            factor: self.factor,
        }
    }

    /// Writes the values of 16 sums.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    pub(super) fn store(self, sums: __m512i, out: &mut [f32; 16]) {
        let Self { divisor, reciprocal, factor } = self;
        let sums = _mm512_cvtepi32_ps(sums);
        let first = _mm512_mul_ps(sums, reciprocal);
        let rest = _mm512_fnmadd_ps(first, divisor, sums);
        let second = _mm512_fmadd_ps(rest, reciprocal, first);
        let rest = _mm512_fnmadd_ps(second, divisor, sums);
        let values = _mm512_mul_ps(_mm512_fmadd_ps(rest, reciprocal, second), factor);
        // SAFETY: 16 values are 64 bytes, and the store asks for no alignment.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), values) }
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn negative(sums: __m512i) -> __mmask16 {
    _mm512_cmplt_epi32_mask(sums, _mm512_setzero_si512())
}

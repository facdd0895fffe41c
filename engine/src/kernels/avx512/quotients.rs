//! Quotients by their remainders: a product with the reciprocal, put right twice.

use std::arch::x86_64::*;

use crate::kernels::quotients::Quotient;

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

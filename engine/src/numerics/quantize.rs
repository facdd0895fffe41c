//! Per-token absmax codes of activations, as transformers computes them in f32: int8, or int4.
//!
//! `127 / tensor` is a reciprocal and a multiplication there, which differs from one division in an
//! ulp for a quarter of all rows; the order below is that one.

use super::max;

/// The floor under a row's absolute maximum.
pub const ABSMAX_FLOOR: f32 = 1e-5;

/// The largest magnitude of a row (0 for an empty one, NaN if a value is NaN).
#[must_use]
#[inline(always)]
pub fn absmax(x: &[f32]) -> f32 {
    // Magnitudes order like their bits, and every NaN lies above infinity: an integer maximum is
    // free of order and loses no NaN.
    let bits = x.iter().fold(0u32, |bits, &value| bits.max(value.abs().to_bits()));
    f32::from_bits(bits)
}

/// The integers that the codes of a row are among: the one place that knows their limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Levels {
    most: i8,
}

/// Codes of 8 bits.
pub const INT8: Levels = Levels { most: 127 };
/// Codes of 4 bits, a byte each in memory.
pub const INT4: Levels = Levels { most: 7 };

impl Levels {
    /// The largest code, which the largest magnitude of a row has.
    #[must_use]
    #[inline(always)]
    pub fn most(self) -> f32 {
        f32::from(self.most)
    }

    /// The least code; one further from zero.
    #[must_use]
    #[inline(always)]
    pub fn least(self) -> f32 {
        -self.most() - 1.0
    }

    /// The quantisation scale `t` of a row of absolute maximum `a`: codes are `rne(x t)`.
    #[must_use]
    #[inline(always)]
    pub fn scale(self, a: f32) -> f32 {
        (1.0 / max(a, ABSMAX_FLOOR)) * self.most()
    }

    /// The code of a scaled value, before or behind rounding: rounding keeps integers and is
    /// monotone, so that it may come first.
    #[must_use]
    pub fn clamp(self, scaled: f32) -> f32 {
        scaled.clamp(self.least(), self.most())
    }

    /// The codes of these levels from int8 codes at the same scale.
    pub fn narrow(self, codes: &mut [i8]) {
        if self != INT8 {
            codes.iter_mut().for_each(|code| *code = (*code).clamp(-self.most - 1, self.most));
        }
    }
}

/// The quantisation scale of int8 codes.
#[must_use]
#[inline(always)]
pub fn quantize_scale(a: f32) -> f32 {
    INT8.scale(a)
}

/// An exact integer product under the scale `t` of its row and a stored scale that multiplies.
#[must_use]
#[inline(always)]
pub fn multiplied(sum: i32, t: f32, ws: f32) -> f32 {
    (sum as f32 / t) * ws
}

/// The same under a stored scale that divides.
#[must_use]
#[inline(always)]
pub fn divided(sum: i32, t: f32, ws: f32) -> f32 {
    sum as f32 / (ws * t)
}

/// The integer nearest to a number in -128..=127, half to even, without a library call.
#[inline(always)]
pub(super) fn rounded(x: f32) -> i8 {
    // 1.5 * 2^23: the sum has no fraction bits left, so the addition itself rounds half to even,
    // and its low bits are the integer in two's complement.
    const MAGIC: f32 = 12_582_912.0;
    (x + MAGIC).to_bits() as i8
}

/// Writes the int8 codes of a row at scale `t` and returns their sum.
///
/// NaN becomes 0 here; it comes back through the scale of the row, which is then NaN too.
#[inline(always)]
pub fn codes_of(x: &[f32], t: f32, codes: &mut [i8]) -> i32 {
    let mut sum = 0i32;
    for (code, &value) in codes.iter_mut().zip(x) {
        let scaled = value * t;
        let clamped = if scaled > 127.0 { 127.0 } else { scaled };
        let clamped = if clamped < -128.0 { -128.0 } else { clamped };
        let number = if clamped.is_nan() { 0.0 } else { clamped };
        *code = rounded(number);
        sum += i32::from(*code);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_round_half_to_even_and_clamp() {
        let x =
            [0.5, 1.5, 2.5, -0.5, -1.5, 126.5, 127.5, 300.0, -127.5, -128.5, -300.0, 0.49999997];
        let mut codes = [0i8; 12];
        let sum = codes_of(&x, 1.0, &mut codes);
        assert_eq!(codes, [0, 2, 2, 0, -2, 126, 127, 127, -128, -128, -128, 0]);
        assert_eq!(sum, codes.iter().map(|&c| i32::from(c)).sum::<i32>());
    }

    #[test]
    fn rounding_equals_the_ieee_operation_on_a_dense_grid() {
        for step in -1_048_576..1_040_384i32 {
            let x = step as f32 / 8192.0;
            assert_eq!(f32::from(rounded(x)), x.round_ties_even(), "{x}");
        }
    }

    #[test]
    fn codes_of_four_bits_are_those_of_eight_cut_off() {
        let x: Vec<f32> = (-800..800).map(|step| step as f32 / 50.0).collect();
        let t = INT4.scale(8.0);
        assert_eq!(t, 0.875);
        let mut codes = vec![0i8; x.len()];
        codes_of(&x, t, &mut codes);
        INT4.narrow(&mut codes);
        for (&code, x) in codes.iter().zip(x) {
            assert_eq!(f32::from(code), (x * t).clamp(-8.0, 7.0).round_ties_even());
        }
        assert_eq!((INT4.least(), INT4.most(), INT8.least()), (-8.0, 7.0, -128.0));
    }

    #[test]
    fn absmax_sees_nan_and_signs() {
        assert_eq!(absmax(&[1.0, -3.0, 2.0]), 3.0);
        assert!(absmax(&[1.0, f32::NAN]).is_nan());
        assert_eq!(absmax(&[]), 0.0);
    }
}

//! 16-bit floats as f32, exactly.

/// The f32 of the bits of a binary16; a NaN keeps its payload and becomes quiet.
///
/// Without branches, so that loops over it vectorise: the bits of exponent and fraction, moved to
/// where an f32 has them, are the value times 2^-112, subnormal or not, and the product with 2^112
/// is exact. Infinity and NaN get the exponent that an f32 gives them.
#[must_use]
#[inline(always)]
pub fn widen_f16(bits: u16) -> f32 {
    const BACK: f32 = f32::from_bits((127 + 112) << 23);
    let magnitude = u32::from(bits & 0x7fff);
    let finite = (f32::from_bits(magnitude << 13) * BACK).to_bits();
    let quiet = u32::from(magnitude > 0x7c00) << 22;
    let special = 0x7f80_0000 | magnitude << 13 | quiet;
    let value = if magnitude < 0x7c00 { finite } else { special };
    f32::from_bits(value | u32::from(bits & 0x8000) << 16)
}

/// The f32 of the bits of a bfloat16: its upper half.
#[must_use]
#[inline(always)]
pub fn widen_bf16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::{bf16, f16};

    #[test]
    fn every_pattern_is_the_value_that_its_format_says() {
        for bits in 0..=u16::MAX {
            let expected = f16::from_bits(bits).to_f32_const();
            assert_eq!(widen_f16(bits).to_bits(), expected.to_bits(), "{bits:#06x}");
            let value = widen_bf16(bits);
            assert_eq!(value.to_bits() >> 16, u32::from(bits));
            let expected = bf16::from_bits(bits).to_f32_const();
            assert!(value == expected || value.is_nan() && expected.is_nan(), "{bits:#06x}");
        }
    }
}

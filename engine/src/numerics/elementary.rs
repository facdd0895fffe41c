//! The few elementary functions that a transformer needs, in `+ - * /` of f64 only.
//!
//! Every argument and result is an f32 (powers: f64); inside, the error stays below 2^-50 relative,
//! so that a result is the correctly rounded one but for cases within 2^-26 ulp of a tie, and `exp`
//! is monotone over all f32 (checked exhaustively by a slow test).

const LOG2_E: f64 = std::f64::consts::LOG2_E;
/// ln 2 in two parts; the first has 21 trailing zero bits, so that `n * LN2_HI` is exact.
const LN2_HI: f64 = f64::from_bits(0x3fe6_2e42_fee0_0000);
const LN2_LO: f64 = 1.908_214_929_270_587_7e-10;
/// 1.5 * 2^52: adding it rounds to an integer, half to even, in the low bits of the sum.
const MAGIC: f64 = 6_755_399_441_055_744.0;

/// e^r for |r| <= 0.35 by the Taylor polynomial of degree 13 (remainder below 5e-18).
#[inline(always)]
fn exp_reduced(r: f64) -> f64 {
    const C: [f64; 14] = [
        1.0,
        1.0,
        1.0 / 2.0,
        1.0 / 6.0,
        1.0 / 24.0,
        1.0 / 120.0,
        1.0 / 720.0,
        1.0 / 5_040.0,
        1.0 / 40_320.0,
        1.0 / 362_880.0,
        1.0 / 3_628_800.0,
        1.0 / 39_916_800.0,
        1.0 / 479_001_600.0,
        1.0 / 6_227_020_800.0,
    ];
    let mut p = C[13];
    let mut k = 13;
    while k > 0 {
        k -= 1;
        p = p * r + C[k];
    }
    p
}

/// e^x for |x| < 700 in f64, within 2^-50 of the truth.
#[must_use]
#[inline(always)]
pub fn exp_f64(x: f64) -> f64 {
    let shifted = x * LOG2_E + MAGIC;
    let n = shifted - MAGIC;
    let r = (x - n * LN2_HI) - n * LN2_LO;
    // The low bits of `shifted` hold n as a two's complement integer; n + 1023 is in (0, 2047).
    let exponent = shifted.to_bits().wrapping_add(1023) << 52;
    exp_reduced(r) * f64::from_bits(exponent)
}

/// e^x, defined for every f32: 0 far below, infinity far above, NaN for NaN; monotone.
#[must_use]
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    // Beyond these ends the f32 result is constant (0 or infinity); NaN passes through both tests.
    let x = if x > 90.0 { 90.0 } else { x };
    let x = if x < -105.0 { -105.0 } else { x };
    exp_f64(f64::from(x)) as f32
}

/// ln x for normal positive x, from the exponent and the series of atanh.
fn ln_f64(x: f64) -> f64 {
    let bits = x.to_bits();
    let mut exponent = (bits >> 52) as i64 - 1023;
    let mut m = f64::from_bits((bits & 0x000f_ffff_ffff_ffff) | 0x3ff0_0000_0000_0000);
    if m > std::f64::consts::SQRT_2 {
        m *= 0.5;
        exponent += 1;
    }
    let z = (m - 1.0) / (m + 1.0);
    let square = z * z;
    let mut sum = 0.0;
    // |z| <= 0.1716: 24 terms leave a remainder below 1e-38.
    for k in (0..24).rev() {
        sum = sum * square + 1.0 / f64::from(2 * k + 1);
    }
    exponent as f64 * LN2_HI + (2.0 * z * sum + exponent as f64 * LN2_LO)
}

/// `base` to the power `y`, for `base > 0` and a result within [e^-600, e^600].
///
/// # Panics
/// If the base is not positive and normal, or the result leaves that range.
#[must_use]
pub fn pow(base: f64, y: f64) -> f64 {
    assert!(base.is_normal() && base > 0.0, "a power of {base}");
    let x = y * ln_f64(base);
    assert!(x.abs() < 600.0, "{base} to the power {y} is out of range");
    exp_f64(x)
}

/// pi/2 in three parts of 33 bits, for Cody-Waite reduction: exact products up to n = 2^20.
const HALF_PI: [f64; 3] = [
    f64::from_bits(0x3ff9_21fb_5440_0000),
    f64::from_bits(0x3dd0_b461_1a60_0000),
    f64::from_bits(0x3ba3_198a_2e03_7073),
];

/// The cosine and the sine of an angle, each rounded once to f32.
///
/// # Panics
/// If the angle is not within +-1,000,000 (positions beyond any context length).
#[must_use]
pub fn cos_sin(angle: f32) -> (f32, f32) {
    assert!(angle.abs() <= 1e6, "the angle {angle} is out of range");
    let x = f64::from(angle);
    let n = (x * std::f64::consts::FRAC_2_PI + MAGIC) - MAGIC;
    let r = ((x - n * HALF_PI[0]) - n * HALF_PI[1]) - n * HALF_PI[2];
    let (c, s) = (cos_reduced(r), sin_reduced(r));
    let (c, s) = match (n as i64).rem_euclid(4) {
        0 => (c, s),
        1 => (-s, c),
        2 => (-c, -s),
        _ => (s, -c),
    };
    (c as f32, s as f32)
}

/// sin r for |r| <= pi/4 by its Taylor series up to r^21.
fn sin_reduced(r: f64) -> f64 {
    let square = r * r;
    let mut p = 1.0;
    for k in (1..=10).rev() {
        p = 1.0 - p * square / f64::from(2 * k * (2 * k + 1));
    }
    r * p
}

/// cos r for |r| <= pi/4 by its Taylor series up to r^22.
fn cos_reduced(r: f64) -> f64 {
    let square = r * r;
    let mut p = 1.0;
    for k in (1..=11).rev() {
        p = 1.0 - p * square / f64::from((2 * k - 1) * 2 * k);
    }
    p
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Slow alternating or plain series in f64, independent of the programs above.
    fn series_exp(x: f64) -> f64 {
        let (mut term, mut sum) = (1.0, 1.0);
        for k in 1..60 {
            term *= x / 64.0 / f64::from(k);
            sum += term;
        }
        (0..6).fold(sum, |power, _| power * power)
    }

    #[test]
    fn exp_is_within_an_ulp_of_a_series_and_exact_at_zero() {
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-0.0), 1.0);
        for step in -8000..800 {
            let x = step as f32 / 100.0;
            let truth = series_exp(f64::from(x));
            assert!((f64::from(exp(x)) / truth - 1.0).abs() < 7e-8, "{x}");
        }
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert_eq!(exp(100.0), f32::INFINITY);
        assert!(exp(f32::NAN).is_nan());
        assert!(exp(-103.0) > 0.0, "subnormal results are kept");
    }

    #[test]
    fn exp_is_monotone_on_a_seeded_share_of_all_floats() {
        // Every 64th block of 4096 neighbouring floats; `BITNET_EXHAUSTIVE=1` takes them all.
        let all = std::env::var_os("BITNET_EXHAUSTIVE").is_some();
        for sign in [0u32, 0x8000_0000] {
            let mut last: Option<f32> = None;
            let mut bits = 0u32;
            while bits < 0x7f80_0000 {
                if !all && (bits >> 12) % 64 != 17 {
                    bits += 4096;
                    last = None;
                    continue;
                }
                for low in 0..4096 {
                    let y = exp(f32::from_bits(sign | (bits + low)));
                    if let Some(before) = last {
                        let ordered = if sign == 0 { before <= y } else { before >= y };
                        assert!(ordered, "not monotone at {:#x}", sign | (bits + low));
                    }
                    last = Some(y);
                }
                bits += 4096;
            }
        }
    }

    #[test]
    fn known_values_of_the_circle_and_of_powers_hold() {
        let third = std::f32::consts::FRAC_PI_3;
        let (c, s) = cos_sin(third);
        assert!((c - 0.5).abs() < 1e-7 && (s - 0.866_025_4).abs() < 1e-7);
        for step in 0..20_000 {
            let (c, s) = cos_sin(step as f32 * 0.37);
            assert!((f64::from(c).powi_two() + f64::from(s).powi_two() - 1.0).abs() < 2e-7);
        }
        assert!((pow(500_000.0, 0.5) - 500_000f64.sqrt()).abs() < 1e-11);
        assert!((pow(10_000.0, 0.75) - 1000.0).abs() < 1e-11);
        assert_eq!(pow(2.0, 0.0), 1.0);
    }

    trait Square {
        fn powi_two(self) -> f64;
    }
    impl Square for f64 {
        fn powi_two(self) -> f64 {
            self * self
        }
    }
}

//! The elementary functions that statistics need, in f64 and in `+ - * / sqrt` only.
//!
//! Results of a platform's library differ between platforms; these do not. Each is accurate to a
//! few units in the last place over its documented range (tested against known values and
//! identities), which is more than its users need: they state their own error budgets and round
//! outward.

/// ln 2 in two parts; the first has 21 trailing zero bits, so that small multiples are exact.
const LN2_HI: f64 = f64::from_bits(0x3fe6_2e42_fee0_0000);
const LN2_LO: f64 = 1.908_214_929_270_587_7e-10;
/// `ln(sqrt(2 pi))`.
const LN_SQRT_TWO_PI: f64 = 0.918_938_533_204_672_8;
/// 1.5 * 2^52: adding it rounds to an integer.
const MAGIC: f64 = 6_755_399_441_055_744.0;

/// The smaller of two numbers that are not NaN.
#[must_use]
pub fn smaller(a: f64, b: f64) -> f64 {
    if b < a { b } else { a }
}

/// `(e^r - 1) / r` for |r| <= 0.35 by its series (remainder below 1e-18).
fn exp_quotient(r: f64) -> f64 {
    let mut sum = 1.0;
    for k in (2..=14).rev() {
        sum = 1.0 + sum * r / f64::from(k);
    }
    sum
}

/// e^x; 0 below -745, infinity above 709.78, NaN for NaN.
#[must_use]
pub fn exp(x: f64) -> f64 {
    if x.is_nan() {
        return x;
    }
    if x > 709.78 {
        return f64::INFINITY;
    }
    if x < -745.0 {
        return 0.0;
    }
    let n = (x * std::f64::consts::LOG2_E + MAGIC) - MAGIC;
    let r = (x - n * LN2_HI) - n * LN2_LO;
    // Two factors, so that results below the normal range are reached by one last rounding.
    let half = (n * 0.5 + MAGIC) - MAGIC;
    (1.0 + r * exp_quotient(r)) * power_of_two(half) * power_of_two(n - half)
}

/// [`exp`] of every value, in place.
pub fn exp_each(values: &mut [f64]) {
    let (runs, rest) = values.as_chunks_mut::<16>();
    for run in runs {
        if !run.iter().all(|x| x.abs() < 700.0) {
            run.iter_mut().for_each(|x| *x = exp(*x));
            continue;
        }
        let n = run.map(|x| (x * std::f64::consts::LOG2_E + MAGIC) - MAGIC);
        let mut r = *run;
        r.iter_mut().zip(n).for_each(|(r, n)| *r = (*r - n * LN2_HI) - n * LN2_LO);
        // The series of `exp_quotient`, side by side.
        let mut sums = [1.0; 16];
        for k in (2..=14).rev() {
            sums.iter_mut().zip(r).for_each(|(sum, r)| *sum = 1.0 + *sum * r / f64::from(k));
        }
        for (x, ((r, sum), n)) in run.iter_mut().zip(r.into_iter().zip(sums).zip(n)) {
            let half = (n * 0.5 + MAGIC) - MAGIC;
            *x = (1.0 + r * sum) * power_of_two(half) * power_of_two(n - half);
        }
    }
    rest.iter_mut().for_each(|x| *x = exp(*x));
}

/// 2^n for an integer n in the normal range.
fn power_of_two(n: f64) -> f64 {
    f64::from_bits(((n as i64 + 1023) as u64) << 52)
}

/// `e^x - 1`, accurate for small x too.
#[must_use]
pub fn exp_m1(x: f64) -> f64 {
    if x.abs() <= 0.35 { x * exp_quotient(x) } else { exp(x) - 1.0 }
}

/// `2 atanh(z)` for |z| <= 0.172: the terms to z^47, or as many as are felt.
fn twice_atanh(z: f64) -> f64 {
    let square = z * z;
    let terms = if square < 1e-6 { 3 } else { 11 };
    let mut sum = 0.0;
    for k in (0..=terms).rev() {
        sum = sum * square + RECIPROCALS[k];
    }
    2.0 * z * sum
}

/// 1 / (2 k + 1).
const RECIPROCALS: [f64; 12] = [
    1.0,
    1.0 / 3.0,
    1.0 / 5.0,
    1.0 / 7.0,
    1.0 / 9.0,
    1.0 / 11.0,
    1.0 / 13.0,
    1.0 / 15.0,
    1.0 / 17.0,
    1.0 / 19.0,
    1.0 / 21.0,
    1.0 / 23.0,
];

/// ln x for positive finite x; minus infinity for 0, infinity for infinity, NaN for the rest.
#[must_use]
pub fn ln(x: f64) -> f64 {
    if x == 0.0 {
        return f64::NEG_INFINITY;
    }
    if x.is_nan() || x < 0.0 || x == f64::INFINITY {
        return if x == f64::INFINITY { x } else { f64::NAN };
    }
    // 2^54 lifts subnormals into the normal range.
    let (x, lift) = if x < f64::MIN_POSITIVE { (x * 18_014_398_509_481_984.0, 54) } else { (x, 0) };
    let bits = x.to_bits();
    let mut exponent = (bits >> 52) as i64 - 1023 - lift;
    let mut m = f64::from_bits((bits & 0x000f_ffff_ffff_ffff) | 0x3ff0_0000_0000_0000);
    if m > std::f64::consts::SQRT_2 {
        m *= 0.5;
        exponent += 1;
    }
    let n = exponent as f64;
    n * LN2_HI + (twice_atanh((m - 1.0) / (m + 1.0)) + n * LN2_LO)
}

/// `ln(1 + x)` for x > -1, accurate for small x too.
#[must_use]
pub fn ln_1p(x: f64) -> f64 {
    if x.abs() <= 0.25 { twice_atanh(x / (2.0 + x)) } else { ln(1.0 + x) }
}

/// `ln n! - (n + 1/2) ln n + n - ln sqrt(2 pi)`: what Stirling's formula lacks; n >= 1.
#[must_use]
pub fn stirling_error(n: f64) -> f64 {
    const SMALL: [f64; 15] = [
        0.081_061_466_795_327_26,
        0.041_340_695_955_409_3,
        0.027_677_925_684_998_34,
        0.020_790_672_103_765_093,
        0.016_644_691_189_821_193,
        0.013_876_128_823_070_748,
        0.011_896_709_945_891_77,
        0.010_411_265_261_972_096,
        0.009_255_462_182_712_733,
        0.008_330_563_433_362_87,
        0.007_573_675_487_951_841,
        0.006_942_840_107_209_53,
        0.006_408_994_188_004_207,
        0.005_951_370_112_758_847_5,
        0.005_554_733_551_962_801,
    ];
    if n < 16.0 {
        return SMALL[n as usize - 1];
    }
    let i = 1.0 / (n * n);
    let tail = 1.0 / 1188.0 - i * (691.0 / 360_360.0 - i / 156.0);
    (1.0 / 12.0 - i * (1.0 / 360.0 - i * (1.0 / 1260.0 - i * (1.0 / 1680.0 - i * tail)))) / n
}

/// The deviance `x ln(x / m) + m - x` without cancellation near `x = m`; both positive.
fn deviance(x: f64, m: f64) -> f64 {
    let difference = x - m;
    if difference.abs() >= 0.1 * (x + m) {
        return x * ln(x / m) + m - x;
    }
    let v = difference / (x + m);
    let square = v * v;
    // 2 x (atanh(v) - v) + v (x - m), as in Loader (2000), eq. 5.2.
    let mut sum = 0.0;
    for k in (1..=9).rev() {
        sum = (sum + RECIPROCALS[k]) * square;
    }
    difference * v + 2.0 * x * v * sum
}

/// The log of the binomial probability of k among n, 0 < k < n, where `p + q = 1`.
///
/// C. Loader, "Fast and accurate computation of binomial probabilities" (2000): the saddle-point
/// form, in which nothing large cancels.
#[must_use]
pub fn ln_binomial(k: f64, n: f64, p: f64, q: f64) -> f64 {
    let rest = n - k;
    let stirling = stirling_error(n) - stirling_error(k) - stirling_error(rest);
    let spread = 0.5 * ln(n / (k * rest)) - LN_SQRT_TWO_PI;
    stirling - deviance(k, n * p) - deviance(rest, n * q) + spread
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64, ulps: f64) {
        let scale = b.abs() + f64::MIN_POSITIVE;
        assert!((a - b).abs() <= ulps * f64::EPSILON * scale, "{a:e} is not {b:e}");
    }

    #[test]
    fn many_exponentials_have_the_bits_of_each() {
        let mut random = crate::model::random::SplitMix(3);
        for length in [0, 1, 15, 16, 17, 64, 100] {
            for scale in [1e-6, 1.0, 30.0, 800.0, 1e300] {
                let one = |_| (random.next_u64() as i64 as f64) / 9.3e18 * scale;
                let mut values: Vec<f64> = (0..length).map(one).collect();
                if length == 100 {
                    values[40] = f64::NAN;
                    values[60] = f64::NEG_INFINITY;
                    values[90] = -0.0;
                }
                let expected: Vec<u64> = values.iter().map(|&x| exp(x).to_bits()).collect();
                exp_each(&mut values);
                let found: Vec<u64> = values.iter().map(|x| x.to_bits()).collect();
                assert_eq!(found, expected, "{length} {scale}");
            }
        }
    }

    #[test]
    fn known_values_hold() {
        close(exp(1.0), std::f64::consts::E, 2.0);
        close(exp(-700.0), 9.859_676_543_759_77e-305, 4.0);
        close(exp(-740.0), 4.199_559_875_653_3e-322, 1e16);
        close(exp(700.0), 1.014_232_054_735_004_6e304, 4.0);
        close(ln(10.0), std::f64::consts::LN_10, 2.0);
        close(ln(1e-12), -27.631_021_115_928_547, 2.0);
        close(ln(5e-324), -744.440_071_921_381_3, 2.0);
        close(ln_1p(1e-20), 1e-20, 1.0);
        close(ln_1p(-0.2), -0.223_143_551_314_209_76, 2.0);
        close(exp_m1(-1e-13), -9.999_999_999_999_5e-14, 4.0);
        close(exp_m1(0.3), 0.349_858_807_576_003_1, 2.0);
        close(stirling_error(100.0), 8.333_305_556_349_147e-4, 4.0);
    }

    #[test]
    fn ends_are_as_documented() {
        assert_eq!((exp(0.0), exp(-800.0), exp(800.0)), (1.0, 0.0, f64::INFINITY));
        assert_eq!((exp(f64::NEG_INFINITY), exp(f64::INFINITY)), (0.0, f64::INFINITY));
        assert!(exp(f64::NAN).is_nan() && ln(-1.0).is_nan() && ln(f64::NAN).is_nan());
        assert_eq!((ln(0.0), ln(1.0)), (f64::NEG_INFINITY, 0.0));
        assert_eq!(ln(f64::INFINITY), f64::INFINITY);
    }

    #[test]
    fn logarithm_and_exponential_are_inverse() {
        for step in -7_000..7_000 {
            let x = f64::from(step) / 10.0;
            let back = ln(exp(x));
            assert!((back - x).abs() <= 4e-16 + 4.0 * f64::EPSILON * x.abs(), "{x} gives {back}");
        }
    }

    #[test]
    fn stirling_error_joins_its_table() {
        // ln n! grows by ln n: the defect of the formula obeys one recurrence on both sides of 16.
        for n in 2..200 {
            let n = f64::from(n);
            let step = (n - 0.5) * ln_1p(1.0 / (n - 1.0)) - 1.0;
            let defect = stirling_error(n - 1.0) - stirling_error(n) - step;
            assert!(defect.abs() < 1e-15 * n, "{n}: {defect:e}");
        }
    }

    #[test]
    fn binomial_probabilities_sum_to_one() {
        for (n, p) in [(2, 0.5), (7, 0.01), (50, 0.3), (400, 0.9), (3000, 0.02)] {
            let q = 1.0 - p;
            let n = f64::from(n);
            let mut sum = exp(n * ln(p)) + exp(n * ln(q));
            let mut k = 1.0;
            while k < n {
                sum += exp(ln_binomial(k, n, p, q));
                k += 1.0;
            }
            assert!((sum - 1.0).abs() < 1e-12, "{n} {p}: {sum}");
        }
    }
}

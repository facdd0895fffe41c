//! The mean of what lies between 0 and 1, from a number of trials fixed before.
//!
//! For independent X within [0, 1] of mean `m` and `x <= m`, Hoeffding (1963, theorem 1) has
//! `P(mean of n <= x) <= exp(-n D(x, m))`, and the same above, with
//! `D(x, m) = x ln(x / m) + (1 - x) ln((1 - x) / (1 - m))`. So an end is the nearest `m` with
//! `n D(x, m) >= ln(2 / alpha)`; all beyond it are excluded too, since D rises on both sides of
//! `x`. Nothing else is asked of the distribution.
//!
//! **Outward.** The mean is moved by what its sum may be off, away from where `m` is looked for;
//! D is taken less its error bound (128 units of 2^-53 of the magnitudes of its terms); and of the
//! bisection the excluded end counts, which begins at 0 or 1.

use engine::numerics::RateInterval;
use engine::numerics::special::{ln, ln_1p, smaller};

use super::log::ROUNDING;

/// Halvings of the range of an end.
const STEPS: u32 = 100;

/// The interval of the mean of independent values within [0, 1], of which `count` have the sum
/// `sum`, added up one by one in f64; at the level `1 - alpha`.
///
/// # Panics
/// Unless alpha is between 0 and 1 and the sum between 0 and the count.
#[must_use]
pub fn bounded_mean(sum: f64, count: u64, alpha: f64) -> RateInterval {
    assert!(alpha > 0.0 && alpha < 1.0, "alpha {alpha} is not between 0 and 1");
    let n = count as f64;
    assert!((0.0..=n).contains(&sum), "a sum of {count} values within [0, 1] is {sum}");
    if count == 0 {
        return RateInterval { low: 0.0, high: 1.0 };
    }
    let (mean, off) = (sum / n, (n + 4.0) * 2.0 * ROUNDING);
    let least = -ln(0.5 * alpha) * (1.0 + 64.0 * ROUNDING);
    let below = mean * (1.0 - smaller(off, 1.0));
    let above = smaller(mean * (1.0 + off), 1.0);
    RateInterval { low: end(below, 0.0, least / n), high: end(above, 1.0, least / n) }
}

/// The mean nearest to `x` towards an end of the range from which `x` diverges by so much.
fn end(x: f64, towards: f64, least: f64) -> f64 {
    let (mut near, mut far) = (x, towards);
    for _ in 0..STEPS {
        let middle = near + (far - near) / 2.0;
        if divergence(x, middle) >= least * (1.0 + 4.0 * ROUNDING) {
            far = middle;
        } else {
            near = middle;
        }
    }
    far
}

/// A number below which `D(x, m)` is not.
fn divergence(x: f64, m: f64) -> f64 {
    let (mut value, mut size) = (0.0, 0.0);
    let logs = [(x, ln(x), ln(m)), (1.0 - x, ln_1p(-x), ln_1p(-m))];
    for (weight, own, other) in logs.into_iter().filter(|(weight, ..)| *weight > 0.0) {
        value += weight * (own - other);
        size += weight * (own.abs() + other.abs());
    }
    value - 128.0 * ROUNDING * size
}

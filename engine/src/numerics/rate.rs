//! Exact (Clopper-Pearson) intervals for a rate: k events in n trials.
//!
//! The upper end is the p with `P(X <= k; n, p) = alpha / 2`, the lower end the p with
//! `P(X >= k; n, p) = alpha / 2`, X binomial. For k = 0 and k = n they have closed forms. Otherwise
//! they are found by bisection, and **rounded outward**: the returned end is one for which the
//! tail, with its error bound added, is at most `alpha / 2`. So coverage is at least nominal.
//!
//! The tail is the probability of its first term (Loader's saddle-point form) times the sum of the
//! ratios of the others to it: a plain series while the spread is small, an integral by
//! Gauss-Legendre panels beyond. Error budget of the log of a tail, in units of 2^-53:
//!
//! | part | bound |
//! |---|---|
//! | a constant number of roundings | 64 |
//! | logs and their products | 16 times the log itself |
//! | `n p`, `n q`, `1 - p` rounded: the slope is `(k - n p) / p` | 16 times `abs(k - n p)` |
//! | series: six roundings a term, compounding; its tail | 8 times the terms, and 8 |
//! | integral: its exponents cancel from that size | 64 times the spread |
//!
//! The relative error in p is that of the tail divided by `abs(k - n p)` at least, so the last
//! three grow no faster than what they are divided by: ends stay within 1e-11 of the true ones
//! (tested against a table of high precision), for n up to 10^12 and alpha down to 10^-12.

use super::special::{exp, exp_m1, ln, ln_1p, ln_binomial, smaller};

/// The most trials for which the error budget was made.
pub const MOST_TRIALS: u64 = 1_000_000_000_000;

/// A rate lies in here, at the confidence asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RateInterval {
    /// Rounded down.
    pub low: f64,
    /// Rounded up.
    pub high: f64,
}

/// Half a unit in the last place of 1.
const ROUNDING: f64 = f64::EPSILON / 2.0;
/// Beyond this variance the tail is integrated.
const MOST_SUMMED: f64 = 1e4;
/// Bisection ends when the bracket is this narrow, relative to the rate or to its complement.
const NARROW: f64 = 1e-14;

/// The Clopper-Pearson interval for `events` among `trials` at the level `1 - alpha`.
///
/// No trials give [0, 1].
///
/// # Panics
/// If there are more events than trials, more than [`MOST_TRIALS`] trials, or alpha is not within
/// 1e-15 and 1.
#[must_use]
pub fn clopper_pearson(events: u64, trials: u64, alpha: f64) -> RateInterval {
    assert!(events <= trials && trials <= MOST_TRIALS, "{events} of {trials} is no rate");
    assert!((1e-15..1.0).contains(&alpha), "alpha = {alpha} is not between 1e-15 and 1");
    if trials == 0 {
        return RateInterval { low: 0.0, high: 1.0 };
    }
    let (k, n, target) = (events as f64, trials as f64, ln(alpha / 2.0));
    RateInterval { low: low(k, n, target), high: high(k, n, target) }
}

/// The one-sided bounds: each end alone holds at the level `1 - alpha`.
///
/// # Panics
/// As [`clopper_pearson`], and if alpha is above one half.
#[must_use]
pub fn one_sided(events: u64, trials: u64, alpha: f64) -> RateInterval {
    clopper_pearson(events, trials, 2.0 * alpha)
}

/// The upper end, where `target` is the log of half of alpha.
fn high(k: f64, n: f64, target: f64) -> f64 {
    if k == n {
        return 1.0;
    }
    if k == 0.0 {
        return smaller(-exp_m1(target / n) * (1.0 + 64.0 * ROUNDING), 1.0);
    }
    upper_end(k, n, |p| surely_below(k, n, p, 1.0 - p, target))
}

/// The lower end, likewise.
fn low(k: f64, n: f64, target: f64) -> f64 {
    if k == 0.0 {
        return 0.0;
    }
    if k == n {
        return exp(target / n) * (1.0 - 64.0 * ROUNDING);
    }
    lower_end(k, n, |p| surely_below(n - k, n, 1.0 - p, p, target))
}

/// The upper end of an interval around `k / n`: a rate that is excluded for certain, as close above
/// the others as bisection comes. 1 if none is excluded.
///
/// `certain` says of a rate above `k / n` whether it is excluded for certain; with a rate all
/// larger ones must be.
#[must_use]
pub fn upper_end(k: f64, n: f64, certain: impl Fn(f64) -> bool) -> f64 {
    let start = if k == 0.0 { 1.0 } else { k };
    let (mut inside, mut outside, mut step) = (k / n, k / n, 1.0 / start.sqrt());
    while !certain(outside) {
        if outside >= 1.0 - ROUNDING {
            return 1.0;
        }
        inside = outside;
        outside = smaller(start / n * (1.0 + step), 1.0 - ROUNDING);
        step *= 2.0;
    }
    bisect(inside, outside, certain)
}

/// The lower end, likewise; 0 if no rate below `k / n` is excluded.
#[must_use]
pub fn lower_end(k: f64, n: f64, certain: impl Fn(f64) -> bool) -> f64 {
    if k == 0.0 {
        return 0.0;
    }
    let (mut inside, mut outside, mut step) = (k / n, k / n, 1.0 / k.sqrt());
    while !certain(outside) {
        inside = outside;
        outside = k / n / (1.0 + step);
        step *= 2.0;
        if outside < f64::MIN_POSITIVE {
            return 0.0;
        }
    }
    bisect(inside, outside, certain)
}

/// Narrows a bracket whose outer end is certain; at most 64 halvings; returns the certain end.
fn bisect(mut inside: f64, mut outside: f64, certain: impl Fn(f64) -> bool) -> f64 {
    for _ in 0..64 {
        let middle = 0.5 * (inside + outside);
        if (outside - inside).abs() <= NARROW * smaller(outside, 1.0 - outside) {
            break;
        }
        if certain(middle) {
            outside = middle;
        } else {
            inside = middle;
        }
    }
    outside
}

/// Whether `ln P(X <= k; n, p)` is below a number for certain; p + q = 1, 0 < k < n.
fn surely_below(k: f64, n: f64, p: f64, q: f64, target: f64) -> bool {
    let deviation = k - n * p;
    if deviation >= 0.0 {
        // A binomial's median is at most n p rounded up, so this tail is at least one half.
        return false;
    }
    let first = ln_binomial(k, n, p, q);
    let spread = (n * p * q).sqrt();
    let (sum, units) =
        if n * p * q <= MOST_SUMMED { series(k, n, p, q) } else { integral(k, n, p, q, spread) };
    let value = first + ln(sum);
    let units = 64.0 + 16.0 * (first.abs() + value.abs() + deviation.abs()) + units;
    value + units * ROUNDING <= target
}

/// `P(X <= k) / P(X = k)` by its terms from k down, and their roundings.
fn series(k: f64, n: f64, p: f64, q: f64) -> (f64, f64) {
    let odds = q / p;
    let (mut sum, mut term, mut j) = (1.0, 1.0, 0.0);
    while j < k {
        let ratio = (k - j) / (n - k + j + 1.0) * odds;
        term *= ratio;
        sum += term;
        j += 1.0;
        // Ratios fall with j: the rest is below a geometric series.
        if ratio < 1.0 && term * ratio < (1.0 - ratio) * sum * ROUNDING {
            break;
        }
    }
    (sum, 8.0 * j + 8.0)
}

/// The right half of the ten Gauss-Legendre nodes on [-1, 1], with their weights.
const NODES: [(f64, f64); 5] = [
    (0.148_874_338_981_631_22, 0.295_524_224_714_752_87),
    (0.433_395_394_129_247_2, 0.269_266_719_309_996_35),
    (0.679_409_568_299_024_4, 0.219_086_362_515_982_04),
    (0.865_063_366_688_984_5, 0.149_451_349_150_580_6),
    (0.973_906_528_517_171_7, 0.066_671_344_308_688_14),
];

/// `P(X <= k) / P(X = k)` as an integral of the beta density, for a large spread.
///
/// `P(X <= k; p) = P(X = k; p) (n - k) / q` times the integral over s >= 0 of
/// `((p + s) / p)^k ((q - s) / q)^(n - k - 1)`. The integrand is scaled by its own decay, so that
/// 12 panels of four units hold it: at 48 units it is below e^-40 of its start, and ten nodes a
/// panel leave less than 2e-15 (a Gaussian of two units is the worst that the scale admits).
fn integral(k: f64, n: f64, p: f64, q: f64, spread: f64) -> (f64, f64) {
    let rest = n - k - 1.0;
    let decay = (k / p - rest / q).abs() + 2.0 * n / spread;
    let unit = 1.0 / decay;
    let exponent = |v: f64| {
        let s = v * unit;
        if s >= q { -800.0 } else { k * ln_1p(s / p) + rest * ln_1p(-s / q) }
    };
    let mut sum = 0.0;
    for panel in 0..12 {
        let middle = 4.0 * f64::from(panel) + 2.0;
        let mut part = 0.0;
        for (node, weight) in NODES {
            part +=
                weight * (exp(exponent(middle - 2.0 * node)) + exp(exponent(middle + 2.0 * node)));
        }
        sum += 2.0 * part;
        if part < sum * ROUNDING {
            break;
        }
    }
    (sum * unit * (n - k) / q, 64.0 * spread)
}

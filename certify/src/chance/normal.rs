//! The normal distribution, rounded to the safe side.
//!
//! `Phi(x) - 1/2 = phi(x) (x + x^3/3 + x^5/15 + ...)`, a series without a negative term (Marsaglia,
//! "Evaluating the normal distribution", 2004). So roundings cannot cancel: a term of index n is
//! off by `(3 n + 1) 2^-53` relative, the sum of N terms by `N 2^-53` more; up to x = 8.5 there are
//! fewer than 250 terms. The density adds 64 of these units (its argument, the exponential, the
//! constant). In all fewer than 1100 units; [`SERIES_ERROR`] takes 2048.

use engine::numerics::special;

/// Relative error of the series times the density.
const SERIES_ERROR: f64 = 1.0 / 4_398_046_511_104.0;
/// `1 / sqrt(2 pi)`.
pub(super) const DENSITY_AT_ZERO: f64 = 0.398_942_280_401_432_7;
/// No quantile above this is asked for: the tail beyond is below 10^-16.
const MOST: f64 = 8.5;

/// An upper bound of the probability that a standard normal number is at most `x`.
///
/// # Panics
/// If `x` is not within 0 and 8.5.
#[must_use]
pub fn probability_high(x: f64) -> f64 {
    assert!((0.0..=MOST).contains(&x), "the normal distribution at {x}");
    let square = x * x;
    let (mut term, mut sum, mut n) = (x, x, 1.0);
    loop {
        n += 2.0;
        term *= square / n;
        sum += term;
        // The ratio of terms falls: the rest is below the last term, and that below one unit.
        if 2.0 * square < n && term <= sum * (f64::EPSILON / 64.0) {
            break;
        }
    }
    let half = DENSITY_AT_ZERO * special::exp(-0.5 * square) * sum;
    (0.5 + half * (1.0 + SERIES_ERROR)).next_up()
}

/// A lower bound of the quantile of a probability: 0 up to one half, at most 8.5.
///
/// Returns only numbers at which [`probability_high`] was seen to be at most `p`, so it rests on
/// the true distribution being monotone and on nothing else.
#[must_use]
pub fn quantile_low(p: f64) -> f64 {
    if probability_high(MOST) <= p {
        return MOST;
    }
    let (mut inside, mut outside) = (0.0, MOST);
    for _ in 0..60 {
        let middle = 0.5 * (inside + outside);
        if probability_high(middle) <= p {
            inside = middle;
        } else {
            outside = middle;
        }
    }
    inside
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The probabilities and quantiles were made with mpmath at 40 digits.
    #[test]
    fn probabilities_are_above_the_true_ones_by_less_than_a_trillionth() {
        for (x, truth) in [
            (0.0, 0.5),
            (0.125, 0.549_738_224_830_112_9),
            (1.0, 0.841_344_746_068_542_9),
            (2.5, 0.993_790_334_674_223_8),
            (4.75, 0.999_998_982_916_757_4),
            (7.0, 0.999_999_999_998_720_2),
            (8.5, 1.0),
        ] {
            let high = probability_high(x);
            assert!(truth <= high && high < truth + 1e-12, "{x}: {high} is not just above {truth}");
        }
    }

    #[test]
    fn quantiles_are_below_the_true_ones_by_less_than_a_part_in_a_hundred_million() {
        for (p, truth) in [
            (0.75, 0.674_489_750_196_081_7),
            (0.9, 1.281_551_565_544_600_6),
            (0.99, 2.326_347_874_040_841),
            (0.999, 3.090_232_306_167_813),
            (0.999_99, 4.264_890_793_923_841),
        ] {
            let low = quantile_low(p);
            assert!(low < truth && truth < low + 1e-8, "{p}: {low} is not just below {truth}");
        }
        assert_eq!(quantile_low(0.5), 0.0);
        assert_eq!(quantile_low(0.1), 0.0);
        assert_eq!(quantile_low(f64::NAN), 0.0);
    }

    #[test]
    fn quantiles_rise_with_the_probability() {
        let all: Vec<f64> = (500..1000).map(|k| quantile_low(f64::from(k) / 1000.0)).collect();
        assert!(all.is_sorted() && all[499] > 3.0);
    }
}

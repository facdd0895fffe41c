//! Exact bounds for a finite population: how many of N faults are events, when n distinct ones were
//! tried and x were.
//!
//! X is hypergeometric. The upper end is the largest M with `P(X <= x; M) > alpha / 2`, the lower
//! end, by the symmetry of events and passes, N less the upper end for `n - x` passes. Both are
//! whole numbers, found by bisection among them, and **outward**: an M is excluded only if the tail
//! with its error bound added is at most `alpha / 2`; the tail falls with M, so all beyond are
//! excluded too. When every fault was tried the ends meet.
//!
//! **Bounded time.** A tail is its first term times the sum of the ratios of the others to it. The
//! ratios fall (the law is log-concave), so what is left at any point is below a geometric series,
//! and that series is *added*. While the spread is below 128, the sum has about nine spreads of
//! terms. Beyond, it is taken in blocks of a 64th of the spread, each bounded by a geometric series
//! with its first ratio and begun afresh from the exact formula: about 600 blocks, whose bound is
//! too large by less than 2e-4 of the tail (a shift of the end by 1e-4 spreads at most).
//!
//! **Draws with replacement.** The *distinct* faults among independent uniform draws are, given
//! their number, a uniform sample without replacement; so these bounds hold for them as well.

use engine::numerics::RateInterval;
use engine::numerics::special::{exp, exp_m1, ln, smaller};

use super::log::{Log, ROUNDING, hypergeometric};

/// The largest population for which the error budget was made.
pub const MOST_FAULTS: u64 = 1_000_000_000_000_000;
/// Spreads above this are summed in blocks, of the 64th part.
const MOST_SPREAD: f64 = 128.0;
const BLOCKS: f64 = 64.0;

/// How many faults of a finite population are events, at the confidence asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FiniteInterval {
    /// At least so many.
    pub low: u64,
    /// At most so many.
    pub high: u64,
    /// Of so many.
    pub population: u64,
}

impl FiniteInterval {
    /// The same as a rate, rounded outward; [0, 1] for an empty population.
    #[must_use]
    pub fn rate(&self) -> RateInterval {
        if self.population == 0 {
            return RateInterval { low: 0.0, high: 1.0 };
        }
        let share = |count: u64| count as f64 / self.population as f64;
        let low = share(self.low) * (1.0 - 2.0 * ROUNDING);
        RateInterval { low, high: smaller(share(self.high) * (1.0 + 4.0 * ROUNDING), 1.0) }
    }
}

/// The exact interval for the number of events in a population, of which `sampled` distinct members
/// were drawn and `events` of them were events, at the level `1 - alpha`.
///
/// # Panics
/// If there are more events than draws, more draws than members, more members than
/// [`MOST_FAULTS`], or alpha is not within 1e-15 and 1.
#[must_use]
pub fn finite_population(events: u64, sampled: u64, population: u64, alpha: f64) -> FiniteInterval {
    let possible = events <= sampled && sampled <= population && population <= MOST_FAULTS;
    assert!(possible, "{events} of {sampled} among {population} is no sample");
    assert!((1e-15..1.0).contains(&alpha), "alpha = {alpha} is not between 1e-15 and 1");
    let passes = sampled - events;
    let high = most(events, sampled, population, alpha);
    let low = population - most(passes, sampled, population, alpha);
    FiniteInterval { low, high, population }
}

/// The largest number of marked members that is not excluded.
fn most(x: u64, sampled: u64, population: u64, alpha: f64) -> u64 {
    let target = Log::plain(ln(alpha / 2.0)).low();
    let last = population - (sampled - x);
    if sampled == 0 || sampled == population {
        return last;
    }
    let excluded = |marked: u64| surely_below(x, sampled, marked, population, target);
    if !excluded(last) {
        return last;
    }
    // `inside` is never excluded: no tail is below one half where x is at least the mean.
    let (mut inside, mut outside) = (x, last);
    while outside - inside > 1 {
        let middle = inside + (outside - inside) / 2;
        if excluded(middle) {
            outside = middle;
        } else {
            inside = middle;
        }
    }
    inside
}

/// Whether `ln P(X <= x)` is at most a number for certain; 0 < sampled < population.
fn surely_below(x: u64, sampled: u64, marked: u64, population: u64, target: f64) -> bool {
    if u128::from(x) * u128::from(population) >= u128::from(sampled) * u128::from(marked) {
        // The median is at most the mean rounded up (X is a sum of independent indicators), so this
        // tail is at least one half.
        return false;
    }
    let law = Law {
        sample: sampled as f64,
        marked: marked as f64,
        population: population as f64,
        least: (sampled + marked).saturating_sub(population) as f64,
    };
    let first = hypergeometric(x as f64, law.sample, law.marked, law.population);
    let spread = law.spread();
    if first.high() > target {
        return false;
    }
    let sum = if spread <= MOST_SPREAD {
        law.series(x as f64)
    } else {
        law.blocks(x as f64, (spread / BLOCKS).floor(), first)
    };
    first.times(Log::plain(ln(sum))).high() <= target
}

/// The law of the marked ones among distinct draws.
struct Law {
    sample: f64,
    marked: f64,
    population: f64,
    /// The least number of marked ones that can be drawn.
    least: f64,
}

impl Law {
    /// The standard deviation.
    fn spread(&self) -> f64 {
        let p = self.marked / self.population;
        let rest = (self.population - self.sample) / (self.population - 1.0);
        (self.sample * p * (1.0 - p) * rest).sqrt()
    }

    /// `P(X = j - 1) / P(X = j)`; 0 at the least j.
    fn ratio(&self, j: f64) -> f64 {
        let others = self.population - self.marked - self.sample + j;
        j / (self.marked - j + 1.0) * (others / (self.sample - j + 1.0))
    }

    /// `P(X <= x) / P(X = x)`, from above: by its terms from x down.
    fn series(&self, x: f64) -> f64 {
        let (mut sum, mut term, mut j) = (1.0, 1.0, x);
        while j > self.least {
            let ratio = self.ratio(j);
            term *= ratio;
            sum += term;
            j -= 1.0;
            if ratio < 1.0 && term * ratio < (1.0 - ratio) * sum * ROUNDING {
                sum += term * ratio / (1.0 - ratio);
                break;
            }
        }
        // Six roundings a term, compounding, and at most nine spreads of terms that are felt.
        sum * (1.0 + (64.0 + 8.0 * (x - j)) * ROUNDING)
    }

    /// The same in blocks of `width` terms.
    fn blocks(&self, x: f64, width: f64, first: Log) -> f64 {
        let (mut sum, mut j) = (0.0, x);
        loop {
            let log = hypergeometric(j, self.sample, self.marked, self.population);
            let (term, ratio) = (exp(log.over(first).high()), self.ratio(j));
            sum += term * geometric(ratio, width);
            if ratio < 1.0 && term < (1.0 - ratio) * sum * 1e-9 {
                sum += term / (1.0 - ratio);
                break;
            }
            if j - width < self.least {
                break;
            }
            j -= width;
        }
        sum * (1.0 + 1e-6)
    }
}

/// The sum of the first `width` powers of a ratio, from above to 1e-3 of itself; the millionth that
/// the caller adds covers its roundings.
fn geometric(ratio: f64, width: f64) -> f64 {
    if ratio > 1.0 {
        return width * exp(width * ln(ratio));
    }
    if width * (1.0 - ratio) < 1e-3 {
        return width;
    }
    -exp_m1(width * ln(ratio)) / (1.0 - ratio)
}

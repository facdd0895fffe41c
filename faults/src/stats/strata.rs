//! One rate of several strata: tensors, bits or targets of known sizes, sampled unevenly.
//!
//! With `N_h` faults in stratum h, `n_h` of them drawn and `x_h` events, the number of events of
//! all is `theta = sum N_h p_h`, estimated by `T = sum (N_h / n_h) x_h`. A stratum that was tried
//! or proven as a whole is known: it adds its events, and no width. Two bounds share alpha, so that
//! both hold together, and are intersected:
//!
//! 1. *Stratum by stratum*: the exact interval of each (Clopper-Pearson, or hypergeometric where
//!    the draws are distinct) at a tenth of alpha divided by the number of strata; the ends add up.
//!    It knows which stratum the events are in, but pays for every stratum.
//! 2. *Together*, at the rest of alpha: Chernoff's bound of T. For all `s > 0`
//!
//!    ```text
//!    ln P(T <= t) <= s t + sum n_h ln(1 - p_h g_h),   g_h = 1 - exp(-s N_h / n_h)
//!    ```
//!
//!    for binomial counts, hence for draws without replacement, whose generating functions are
//!    smaller (Hoeffding 1963, theorem 4). What the p_h are is unknown but for their sum, so the
//!    right side is maximised over all p in [0, 1]^H with `sum N_h p_h = theta`. By weak duality
//!    the maximum is at most `sum m_h - mu theta` for every mu > 0, where `m_h` is the maximum over
//!    p in [0, 1] of `n_h ln(1 - p g_h) + mu N_h p`, a closed form. So with confidence
//!
//!    ```text
//!    theta <= (s t + ln(1 / alpha') + sum m_h(s, mu)) / mu
//!    ```
//!
//!    **whatever s and mu are**: a search chooses them for the observed t, whose tail is bounded,
//!    and cannot make the bound false. The lower end is the same with both negative. The bound is
//!    quasi-convex in (s, mu) (its numerator is convex), so two nested golden-section searches of
//!    fixed length find the best ones. Without
//!    events and with even allocation it is `ln(1 / alpha') / n` of the population, as if there
//!    were no strata; an unsampled stratum of `N_h` faults costs at most `N_h`.
//!
//! Roundings: the numerator is raised by 2^-46 of the sum of the magnitudes in it and by as many
//! times its terms; a quotient and a sum of ends by 2^-48.

use engine::numerics::special::{exp, exp_m1, ln, smaller};
use engine::numerics::{RateInterval, clopper_pearson};

use super::finite::finite_population;

/// What is known about one part of the faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stratum {
    /// Its faults.
    size: u64,
    /// Those that were drawn.
    sampled: u64,
    /// Events among the drawn.
    events: u64,
    draws: Draws,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Draws {
    /// Nothing is left open.
    All,
    Distinct,
    Repeated,
}

impl Stratum {
    /// A stratum whose every fault was tried, or proven: proven masked ones have no events.
    ///
    /// # Panics
    /// If there are more events than faults.
    #[must_use]
    pub fn known(size: u64, events: u64) -> Self {
        Self::new(size, size, events, Draws::All)
    }

    /// A stratum of which distinct faults were drawn, evenly.
    ///
    /// # Panics
    /// If there are more events than draws or more draws than faults.
    #[must_use]
    pub fn distinct(size: u64, sampled: u64, events: u64) -> Self {
        assert!(sampled <= size, "{sampled} distinct draws from {size}");
        let draws = if sampled == size { Draws::All } else { Draws::Distinct };
        Self::new(size, sampled, events, draws)
    }

    /// A stratum of which faults were drawn evenly and independently, some perhaps twice.
    ///
    /// # Panics
    /// If there are more events than draws, or draws from nothing.
    #[must_use]
    pub fn repeated(size: u64, sampled: u64, events: u64) -> Self {
        assert!(size > 0 || sampled == 0, "{sampled} draws from nothing");
        Self::new(size, sampled, events, if size == 0 { Draws::All } else { Draws::Repeated })
    }

    fn new(size: u64, sampled: u64, events: u64, draws: Draws) -> Self {
        assert!(events <= sampled, "{events} events in {sampled} draws");
        Self { size, sampled, events, draws }
    }

    /// How many of its faults are events, at the level `1 - alpha`.
    fn counts(&self, alpha: f64) -> (f64, f64) {
        let size = self.size as f64;
        match self.draws {
            Draws::All => (self.events as f64, self.events as f64),
            Draws::Distinct => {
                let ends = finite_population(self.events, self.sampled, self.size, alpha);
                (ends.low as f64, ends.high as f64)
            }
            Draws::Repeated => {
                let ends = clopper_pearson(self.events, self.sampled, alpha);
                (size * ends.low * (1.0 - SLACK), size * ends.high * (1.0 + SLACK))
            }
        }
    }
}

/// A rate over all strata.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stratified {
    /// The estimate, each stratum with the weight of its size; `None` where a stratum is unknown.
    pub share: Option<f64>,
    /// Its interval.
    pub interval: RateInterval,
}

/// The relative rounding of a quotient or of one end.
const SLACK: f64 = 1.0 / (1u64 << 48) as f64;
/// The share of alpha that the bound of all strata together has.
const TOGETHER: f64 = 0.9;
/// Steps of a golden-section search: brackets shrink to 2e-4 of themselves.
const STEPS: usize = 18;
const GOLDEN: f64 = 0.618_033_988_749_894_9;

/// The rate of events among all faults of some strata, at the level `1 - alpha`.
///
/// # Panics
/// If there is no fault in them, or alpha is not within 1e-9 and 1.
#[must_use]
pub fn stratified(strata: &[Stratum], alpha: f64) -> Stratified {
    assert!((1e-9..1.0).contains(&alpha), "alpha = {alpha} is not between 1e-9 and 1");
    let size: u64 = strata.iter().map(|stratum| stratum.size).sum();
    assert!(size > 0, "strata without faults");
    let (known, open): (Vec<&Stratum>, Vec<&Stratum>) =
        strata.iter().partition(|stratum| stratum.draws == Draws::All);
    let certain: u64 = known.iter().map(|stratum| stratum.events).sum();
    let (low, high) = match open.as_slice() {
        [] => (0.0, 0.0),
        [one] => one.counts(alpha),
        many => ends(many, alpha),
    };
    let rate = |count: f64| (certain as f64 + count) / size as f64;
    let slack = SLACK * (open.len() + 4) as f64;
    let interval = RateInterval {
        low: rate(low) * (1.0 - slack),
        high: smaller(rate(high) * (1.0 + slack), 1.0),
    };
    let seen = open.iter().all(|stratum| stratum.sampled > 0);
    let mean =
        |stratum: &&Stratum| stratum.size as f64 * (stratum.events as f64 / stratum.sampled as f64);
    Stratified { share: seen.then(|| rate(open.iter().map(mean).sum())), interval }
}

/// Between how many events there are, by both bounds.
fn ends(open: &[&Stratum], alpha: f64) -> (f64, f64) {
    let each = alpha * (1.0 - TOGETHER) / open.len() as f64;
    let single = open.iter().map(|stratum| stratum.counts(each));
    let (low, high) = single.fold((0.0, 0.0), |sum, ends| (sum.0 + ends.0, sum.1 + ends.1));
    let together = Together::new(open, ln(2.0 / (TOGETHER * alpha)) * (1.0 + SLACK));
    let (best_low, best_high) = (together.low(), together.high());
    let low = if best_low > low { best_low } else { low };
    let high = smaller(best_high, high);
    // Crossed ends say that one of the bounds is in its alpha: then any answer is.
    if low <= high { (low, high) } else { (high, low) }
}

/// Chernoff's bound of all strata together.
struct Together {
    /// Sizes and draws; sizes are in units of the largest weight, so that it is 1.
    strata: Vec<(f64, f64)>,
    estimate: f64,
    /// The faults that one draw stands for, in the stratum where it stands for most.
    weight: f64,
    /// `ln(1 / alpha)`.
    evidence: f64,
}

impl Together {
    fn new(open: &[&Stratum], evidence: f64) -> Self {
        let parts: Vec<_> = open.iter().map(|s| (s.size as f64, s.sampled as f64)).collect();
        let sampled = parts.iter().filter(|(_, n)| *n > 0.0);
        let weight = sampled.map(|(size, n)| size / n).fold(0.0, |a, b| if b > a { b } else { a });
        let estimate = open
            .iter()
            .filter(|s| s.sampled > 0)
            .map(|s| s.size as f64 / weight * (s.events as f64 / s.sampled as f64));
        let estimate = estimate.sum();
        let strata = parts.iter().map(|(size, n)| (size / weight, *n)).collect();
        Self { strata, estimate, weight, evidence }
    }

    /// No more events than this.
    fn high(&self) -> f64 {
        if self.weight == 0.0 {
            return f64::INFINITY;
        }
        self.search(1.0)
    }

    /// No fewer events than this.
    fn low(&self) -> f64 {
        if self.estimate == 0.0 {
            return 0.0;
        }
        let best = -self.search(-1.0);
        if best > 0.0 { best } else { 0.0 }
    }

    /// The least bound that the search finds, as `sign` times the number of events.
    fn search(&self, sign: f64) -> f64 {
        let inner = |log_s: f64| {
            let s = exp(log_s);
            // Below the first no stratum is worth a marked fault; beyond the second, all are full.
            let (from, to) = (ln(-exp_m1(-s)), ln(exp_m1(s)));
            let gains: Vec<f64> = self.strata.iter().map(|&part| gain(sign * s, part)).collect();
            minimum(from, to, |log_mu| self.bound(sign * s, sign * exp(log_mu), &gains))
        };
        minimum(ln(1e-7), ln(50.0), inner) * self.weight * (1.0 + sign * SLACK)
    }

    /// The bound for s and mu times their common sign, rounded up.
    fn bound(&self, s: f64, mu: f64, gains: &[f64]) -> f64 {
        let (mut sum, mut magnitude) = (s * self.estimate + self.evidence, 0.0);
        for (&(size, n), &g) in self.strata.iter().zip(gains) {
            let (value, felt) = most(s, mu, (size, n), g);
            sum += value;
            magnitude += felt;
        }
        magnitude += (s * self.estimate).abs() + self.evidence;
        let slack = 4.0 * SLACK * (magnitude + self.strata.len() as f64);
        let bound = (sum + slack) / mu.abs();
        bound + SLACK * bound.abs()
    }
}

/// `1 - exp(-s size / n)`; 0 for a stratum without draws, which has no use for it.
fn gain(s: f64, (size, n): (f64, f64)) -> f64 {
    if n == 0.0 { 0.0 } else { -exp_m1(-s * size / n) }
}

/// The maximum over p in [0, 1] of `n ln(1 - p g) + mu size p`, and the sum of the magnitudes that
/// it was made of.
fn most(s: f64, mu: f64, (size, n): (f64, f64), g: f64) -> (f64, f64) {
    if n == 0.0 {
        let value = if mu > 0.0 { mu * size } else { 0.0 };
        return (value, value);
    }
    // At the maximum, if it lies within, 1 - p g is this.
    let c = n * g / (mu * size);
    let p = (1.0 - c) / g;
    if p <= 0.0 {
        return (0.0, 0.0);
    }
    if p >= 1.0 {
        return ((mu - s) * size, (mu.abs() + s.abs()) * size);
    }
    let (log, gain) = (n * ln(c), mu * size * p);
    (log + gain, log.abs() + gain.abs() + n)
}

/// The least value of a quasi-convex function that a golden-section search meets.
fn minimum(mut from: f64, mut to: f64, value: impl Fn(f64) -> f64) -> f64 {
    let (mut left, mut right) = (to - GOLDEN * (to - from), from + GOLDEN * (to - from));
    let (mut at_left, mut at_right) = (value(left), value(right));
    let mut best = smaller(smaller(value(from), value(to)), smaller(at_left, at_right));
    for _ in 0..STEPS {
        if at_left <= at_right {
            (to, right, at_right) = (right, left, at_left);
            left = to - GOLDEN * (to - from);
            at_left = value(left);
        } else {
            (from, left, at_left) = (left, right, at_right);
            right = from + GOLDEN * (to - from);
            at_right = value(right);
        }
        best = smaller(best, smaller(at_left, at_right));
    }
    best
}

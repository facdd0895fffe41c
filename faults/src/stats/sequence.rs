//! A rate while trials go on: intervals and decisions that may be looked at after every trial.
//!
//! Looking often and stopping at the first good look makes a fixed interval wrong far more often
//! than it says. What is here is valid at all times together, however and whenever one stops, for
//! trials that are independent at one rate.
//!
//! **The interval** (`x` events in `n` trials). Let `Q(x, n)` be the probability of the observed
//! sequence if its rate were drawn from a mixture of beta laws. Under the true rate p the ratio `Q
//! / (p^x (1 - p)^(n - x))` is a martingale that begins at 1, so it reaches `1 / alpha` ever with
//! probability at most alpha (Ville 1939). The interval holds the rates at which it has not:
//!
//! ```text
//! { p : C(n, x) p^x (1 - p)^(n - x) > alpha C(n, x) Q(x, n) }
//! ```
//!
//! Both sides are probabilities of a count, binomial and beta-binomial, whose logs have error
//! bounds (`log.rs`), and the left one has a single peak at x / n: two bisections of at most 64
//! steps. The mixture is Beta(1, 1) at one quarter, so that no rate is hopeless, and Beta(1, b) at
//! three quarters, b two over the rate of interest.
//!
//! **The decision** against a limit. For odds that are r times those of the limit, the likelihood
//! ratio of n trials is `r^x / (1 + limit (r - 1))^n`. With r < 1 it is a supermartingale whenever
//! the rate is the limit *or above*, with r > 1 whenever it is the limit or below: a trial
//! multiplies its expectation by `(1 + p (r - 1)) / (1 + limit (r - 1))`. The mean over r = 1/64,
//! 1/4, 1/2, 3/4 (and over the reciprocals) inherits that, so it reaches `1 / alpha` with
//! probability at most alpha: a gate that passes, or fails, at the first look at which it has is
//! wrong no more often. It is one-sided and so decides earlier than the interval.
//!
//! Both are functions of (x, n) alone: neither looks nor their order are remembered.

use engine::numerics::special::{exp, ln, ln_1p, smaller};
use engine::numerics::{MOST_TRIALS, RateInterval, lower_end, upper_end};

use super::log::{Log, ROUNDING, beta_binomial, binomial, mixture_low};

/// Events among trials that go on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sequential {
    alpha: f64,
    /// The whole parameter of the narrow beta law.
    narrow: f64,
    events: u64,
    trials: u64,
}

/// What is certain about a rate and a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The rate is below the limit.
    Below,
    /// The rate is above the limit.
    Above,
    /// Neither yet.
    Open,
}

/// The factors of the odds of a limit at which evidence against it is sought.
const ODDS: [f64; 4] = [0.015_625, 0.25, 0.5, 0.75];

impl Sequential {
    /// No trials yet. Each statement is wrong, at any time, with probability at most alpha.
    ///
    /// `interest` is the rate around which the interval should soon be narrow: the limit of a gate,
    /// or the half-width that is waited for. It has no part in what is guaranteed.
    ///
    /// # Panics
    /// If alpha is not within 1e-15 and 1, or the rate of interest not above 0 and at most 1.
    #[must_use]
    pub fn new(alpha: f64, interest: f64) -> Self {
        assert!((1e-15..1.0).contains(&alpha), "alpha = {alpha} is not between 1e-15 and 1");
        assert!(interest > 0.0 && interest <= 1.0, "{interest} is no rate of interest");
        let narrow = smaller(2.0 / interest, 1e12).floor();
        Self { alpha, narrow, events: 0, trials: 0 }
    }

    /// Counts more trials, and the events among them.
    ///
    /// # Panics
    /// If there are more events than trials, or more than [`MOST_TRIALS`] trials in all.
    pub fn update(&mut self, events: u64, trials: u64) {
        assert!(events <= trials, "{events} events in {trials} trials");
        self.events += events;
        self.trials += trials;
        assert!(self.trials <= MOST_TRIALS, "{} trials", self.trials);
    }

    /// Events so far.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Trials so far.
    #[must_use]
    pub fn trials(&self) -> u64 {
        self.trials
    }

    /// The interval now: with probability `1 - alpha` the rate lies in it at all times.
    #[must_use]
    pub fn interval(&self) -> RateInterval {
        if self.trials == 0 {
            return RateInterval { low: 0.0, high: 1.0 };
        }
        let (x, n) = (self.events as f64, self.trials as f64);
        let mixture = [(0.25, beta_binomial(x, n, 1.0)), (0.75, beta_binomial(x, n, self.narrow))];
        let least = Log::plain(mixture_low(&mixture)).times(Log::plain(ln(self.alpha))).low();
        let low = lower_end(x, n, |p| binomial(x, n, p, 1.0 - p).high() < least);
        let outside = |p: f64| p < 1.0 && binomial(x, n, p, 1.0 - p).high() < least;
        let high = if self.events == self.trials { 1.0 } else { upper_end(x, n, outside) };
        RateInterval { low, high }
    }

    /// Whether the interval is at most twice so wide.
    #[must_use]
    pub fn is_within(&self, half_width: f64) -> bool {
        let RateInterval { low, high } = self.interval();
        (high - low) * (1.0 + 4.0 * ROUNDING) <= 2.0 * half_width
    }

    /// Whether the rate is below or above a limit for certain: each is wrongly said, ever, with
    /// probability at most alpha.
    ///
    /// # Panics
    /// If the limit is not above 0 and below 1.
    #[must_use]
    pub fn decide(&self, limit: f64) -> Decision {
        assert!(limit > 0.0 && limit < 1.0, "{limit} is no limit of a rate");
        if self.evidence(limit, |r| r) * self.alpha >= 1.0 + 4.0 * ROUNDING {
            return Decision::Below;
        }
        if self.evidence(limit, |r| 1.0 / r) * self.alpha >= 1.0 + 4.0 * ROUNDING {
            return Decision::Above;
        }
        Decision::Open
    }

    /// The mean of the likelihood ratios against a limit, from below.
    fn evidence(&self, limit: f64, side: impl Fn(f64) -> f64) -> f64 {
        let (x, n) = (self.events as f64, self.trials as f64);
        let ratio = |r: f64| {
            let (up, down) = (x * ln(r), n * ln_1p(limit * (r - 1.0)));
            let units = 64.0 * (1.0 + up.abs() + down.abs());
            exp(Log { value: up - down, units }.low()) * (1.0 - 64.0 * ROUNDING)
        };
        let sum: f64 = ODDS.into_iter().map(|r| ratio(side(r))).sum();
        sum / ODDS.len() as f64 * (1.0 - 8.0 * ROUNDING)
    }
}

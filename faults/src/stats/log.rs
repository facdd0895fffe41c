//! Logs of probabilities with their error bounds: what the intervals of this folder compare.
//!
//! Every probability here is a product of binomial ones in Loader's saddle-point form
//! (`engine::numerics::special::ln_binomial`), so nothing large cancels. The errors are counted in
//! units of 2^-53, as in `engine/src/numerics/rate.rs`: 64 for a constant number of roundings, 32
//! times each log, and 32 times the distance of a count from its mean, which is the slope by which
//! a rounded mean enters.

use engine::numerics::special::{exp, ln, ln_1p, ln_binomial};

/// Half a unit in the last place of 1.
pub(super) const ROUNDING: f64 = f64::EPSILON / 2.0;

/// A log, and how many units of 2^-53 it may be off.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Log {
    pub(super) value: f64,
    pub(super) units: f64,
}

impl Log {
    /// A log that was made in a few operations from exact numbers: its error grows with itself.
    pub(super) fn plain(value: f64) -> Self {
        Self { value, units: 64.0 + 32.0 * value.abs() }
    }

    /// The log of a product.
    pub(super) fn times(self, other: Self) -> Self {
        let value = self.value + other.value;
        Self { value, units: self.units + other.units + value.abs() }
    }

    /// The log of a quotient.
    pub(super) fn over(self, other: Self) -> Self {
        self.times(Self { value: -other.value, units: other.units })
    }

    /// A number below which the log is not.
    pub(super) fn low(self) -> f64 {
        self.value - self.units * ROUNDING
    }

    /// A number above which the log is not.
    pub(super) fn high(self) -> f64 {
        self.value + self.units * ROUNDING
    }
}

/// `P(X = k)`, X binomial of n draws at rate p; `p + q = 1`, both above 0.
pub(super) fn binomial(k: f64, n: f64, p: f64, q: f64) -> Log {
    if k == 0.0 {
        return Log::plain(n * if p < q { ln_1p(-p) } else { ln(q) });
    }
    if k == n {
        return Log::plain(n * if q < p { ln_1p(-q) } else { ln(p) });
    }
    let value = ln_binomial(k, n, p, q);
    Log { value, units: 64.0 + 32.0 * (value.abs() + (k - n * p).abs()) }
}

/// `P(X = x)`, X the marked ones among `sample` distinct draws from `population`, of which `marked`
/// are; x lies within its support, and some are drawn, but not all.
///
/// It is `b(x; marked) b(sample - x; population - marked) / b(sample; population)`, `b` binomial at
/// any one rate, here `sample / population`: its powers cancel, and so does what its rounding does
/// to them.
pub(super) fn hypergeometric(x: f64, sample: f64, marked: f64, population: f64) -> Log {
    let (p, q) = (sample / population, (population - sample) / population);
    let part = |k: f64, n: f64| {
        if n == 0.0 { Log { value: 0.0, units: 0.0 } } else { binomial(k, n, p, q) }
    };
    let both = part(x, marked).times(part(sample - x, population - marked));
    both.over(part(sample, population))
}

/// `P(X = x)`, X binomial of n draws at a rate that was drawn from Beta(1, b), b a whole number.
///
/// It is `b / (n + b)` times `C(n - x + b - 1, b - 1) / C(n + b - 1, b - 1)`. That quotient is one
/// of binomial probabilities at the rate `p = n / (n + b - 1)`, whose powers leave `p^x`.
pub(super) fn beta_binomial(x: f64, n: f64, b: f64) -> Log {
    let share = Log::plain(ln(b / (n + b)));
    if b == 1.0 || x == 0.0 {
        return share;
    }
    let (all, rest) = (n + b - 1.0, n - x);
    let (p, q) = (n / all, (b - 1.0) / all);
    let quotient = binomial(rest, rest + b - 1.0, p, q).over(binomial(n, all, p, q));
    share.times(quotient).times(Log::plain(x * if q < p { ln_1p(-q) } else { ln(p) }))
}

/// The log of a weighted sum, from below.
pub(super) fn mixture_low(parts: &[(f64, Log)]) -> f64 {
    let top = parts
        .iter()
        .map(|(_, log)| log.low())
        .fold(f64::NEG_INFINITY, |a, b| if b > a { b } else { a });
    let sum: f64 = parts.iter().map(|(weight, log)| weight * exp(log.low() - top)).sum();
    Log::plain(top).times(Log::plain(ln(sum))).low()
}

//! From the raw failure rate of a memory to the rate at which a model gives wrong answers.
//!
//! A FIT is one failure in 10^9 device-hours. Memories are rated in FIT per Mbit, here 2^20 bits,
//! of raw faults. The critical rate is their product with the share of faults that pass the
//! protection unnoticed and with the share of those that change a decision (the parameter
//! vulnerability factor, PVF): each with an interval, so the product has one. If the intervals hold
//! with confidences `1 - a` and `1 - b`, it holds with `1 - a - b` (Bonferroni), whatever they have
//! in common.

use engine::numerics::RateInterval;

/// The bits of a Mbit.
pub const MBIT: u64 = 1 << 20;

/// Failures in 10^9 hours, between.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fit {
    /// At least.
    pub low: f64,
    /// At most.
    pub high: f64,
}

/// The rate of wrong answers where so large a share of windows of some hours ends in one, rounded
/// outward; `None` where it is not finite.
#[must_use]
pub fn fit_of_windows(share: RateInterval, hours: f64) -> Option<Fit> {
    let slack = 4.0 * f64::EPSILON;
    let fit = |share: f64| share * 1e9 / hours;
    let found = Fit { low: fit(share.low) * (1.0 - slack), high: fit(share.high) * (1.0 + slack) };
    (found.low.is_finite() && found.high.is_finite()).then_some(found)
}

/// The critical failure rate of so many stored bits, rounded outward.
///
/// # Panics
/// If a rate is not ordered, finite and at least 0, or a share exceeds 1.
#[must_use]
pub fn fit_critical(per_mbit: Fit, bits: u64, residual: RateInterval, pvf: RateInterval) -> Fit {
    let ordered = |low: f64, high: f64| 0.0 <= low && low <= high && high.is_finite();
    assert!(ordered(per_mbit.low, per_mbit.high), "{per_mbit:?} is no failure rate");
    for share in [residual, pvf] {
        assert!(ordered(share.low, share.high) && share.high <= 1.0, "{share:?} is no share");
    }
    let mbits = bits as f64 / MBIT as f64;
    // The count and three products are rounded; twice as much is taken off and added.
    let slack = 4.0 * f64::EPSILON;
    Fit {
        low: per_mbit.low * mbits * residual.low * pvf.low * (1.0 - slack),
        high: per_mbit.high * mbits * residual.high * pvf.high * (1.0 + slack),
    }
}

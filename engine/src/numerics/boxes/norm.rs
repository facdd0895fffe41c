//! RMSNorm of a row of boxes: the engine's program at corners, and the range over the reals.

use super::round::{least, least64, most, most64, widen_down, widen_up};
use super::{Ends, Reals, SMALLEST_MEAN, Scratch, rows_in};
use crate::numerics::{inverse_rms, max, min, sum_squares};

/// What is normed, and how.
#[derive(Clone, Copy, Debug)]
pub struct NormRow<'a> {
    /// The boxes of the values.
    pub x: Ends<'a>,
    /// What the values are over the reals, up to one factor.
    pub reals: Reals<'a>,
    /// Gains.
    pub gains: &'a [f32],
    /// What the engine adds to the mean square.
    pub eps: f32,
    /// The range of the same over the square of that factor.
    pub real_eps: (f64, f64),
    /// A bound of the engine's relative error of each value.
    pub error: f64,
}

/// Writes the ends of the normed values. If the engine's mean square plus epsilon is a normal
/// number on the whole box, returns the sum of the least squares of what the values are over the
/// reals, in rising order; if not, the ends are those of the engine's program alone.
///
/// # Panics
/// Unless all rows are of one width.
#[inline(always)]
pub fn norm(row: &NormRow, scratch: &mut Scratch, out: (&mut [f32], &mut [f32])) -> Option<f64> {
    let width = row.gains.len();
    let (lo, hi) = (&row.x.0[..width], &row.x.1[..width]);
    let (low, high) = (&mut out.0[..width], &mut out.1[..width]);
    let [near, far] = rows_in(&mut scratch.narrow, width);
    for i in 0..width {
        (near[i], far[i]) = (least(lo[i], hi[i]), most(lo[i], hi[i]));
    }
    let sums = (sum_squares(near), sum_squares(far));
    let r_hi = inverse_rms(sums.0, width, row.eps);
    let r_lo = inverse_rms(sums.1, width, row.eps);
    for i in 0..width {
        let a = lo[i] * if lo[i] >= 0.0 { r_lo } else { r_hi };
        let b = hi[i] * if hi[i] >= 0.0 { r_hi } else { r_lo };
        let (a, b) = (row.gains[i] * a, row.gains[i] * b);
        let rises = row.gains[i] >= 0.0;
        (low[i], high[i]) = (if rises { a } else { b }, if rises { b } else { a });
    }
    let mean = |sum: f64| (sum / width as f64) as f32 + row.eps;
    let regular = f64::from(mean(sums.0)) > SMALLEST_MEAN && mean(sums.1).is_finite();
    if regular { Some(narrow(row, &mut scratch.wide, (low, high))) } else { None }
}

/// Narrows the ends to the exact range over the reals, widened by the engine's error, unless that
/// has no bound; returns the sum of the least squares of what the values are over the reals.
#[inline(always)]
fn narrow(row: &NormRow, memory: &mut Vec<f64>, (low, high): (&mut [f32], &mut [f32])) -> f64 {
    let width = low.len();
    let [lo, hi, squares @ ..]: [_; 8] = rows_in(memory, width);
    row.reals.write(lo, hi);
    let (total, [near, far]) = others((lo, hi), squares);
    let (lo, hi, near, far) = (&lo[..width], &hi[..width], &near[..width], &far[..width]);
    let (gains, high) = (&row.gains[..width], &mut high[..width]);
    // A sum of n non-negative f64 is within n 2^-53 of the truth, whatever the order.
    let slack = (width as f64 + 8.0) * f64::EPSILON;
    let of = Mean { factors: (1.0 - slack, 1.0 + slack), width: width as f64, eps: row.real_eps };
    let bounded = of.eps.0 > SMALLEST_MEAN || {
        let holds =
            |x: f64, up, i: usize| x == 0.0 || of.at(x, up, near[i], far[i]) > SMALLEST_MEAN;
        (0..width).all(|i| holds(lo[i], false, i) && holds(hi[i], true, i))
    };
    if !bounded {
        return total;
    }
    for i in 0..width {
        let bottom = quotient(lo[i], of.at(lo[i], false, near[i], far[i]));
        let top = quotient(hi[i], of.at(hi[i], true, near[i], far[i]));
        let gain = f64::from(gains[i]);
        let (a, b) = (gain * bottom, gain * top);
        let (a, b) = (if gain >= 0.0 { a } else { b }, if gain >= 0.0 { b } else { a });
        let absolute = (gain.abs() + 1.0) * 1e-44;
        low[i] = max(low[i], widen_down(a, row.error, absolute));
        high[i] = min(high[i], widen_up(b, row.error, absolute));
    }
    total
}

#[inline(always)]
fn square(x: f64) -> f64 {
    x * x
}

/// `x / sqrt(mean)`.
#[inline(always)]
fn quotient(x: f64, mean: f64) -> f64 {
    let quotient = x / mean.sqrt();
    if x == 0.0 { 0.0 } else { quotient }
}

/// The mean squares of a box.
#[derive(Clone, Copy)]
struct Mean {
    /// By which sums are made surely too small, and surely too large.
    factors: (f64, f64),
    width: f64,
    eps: (f64, f64),
}

impl Mean {
    /// The mean square plus epsilon where the quotient of `x` is extreme; `near` and `far` are the
    /// least and the greatest sum of the squares of the others.
    #[inline(always)]
    fn at(self, x: f64, up: bool, near: f64, far: f64) -> f64 {
        let least = (x > 0.0) == up;
        let sum = if least { near * self.factors.0 } else { far * self.factors.1 };
        let eps = if least { self.eps.0 } else { self.eps.1 };
        (x * x + sum) / self.width + eps
    }
}

/// For each value of boxes the least and the greatest sum of the squares of all others, from prefix
/// and suffix sums (never the total less its own), and the least sum of all. The four chains of
/// sums run side by side.
#[inline(always)]
fn others<'a>(
    (lo, hi): (&[f64], &[f64]),
    [near, far, near_before, far_before, near_behind, far_behind]: [&'a mut [f64]; 6],
) -> (f64, [&'a mut [f64]; 2]) {
    let width = near.len();
    let (lo, hi, far) = (&lo[..width], &hi[..width], &mut far[..width]);
    for i in 0..width {
        (near[i], far[i]) = (square(least64(lo[i], hi[i])), square(most64(lo[i], hi[i])));
    }
    let (near_before, far_before) = (&mut near_before[..width], &mut far_before[..width]);
    let (near_behind, far_behind) = (&mut near_behind[..width], &mut far_behind[..width]);
    let mut sums = [0.0; 4];
    for i in 0..width {
        let j = width - 1 - i;
        (near_before[i], far_before[i]) = (sums[0], sums[1]);
        (near_behind[j], far_behind[j]) = (sums[2], sums[3]);
        sums = [sums[0] + near[i], sums[1] + far[i], sums[2] + near[j], sums[3] + far[j]];
    }
    for i in 0..width {
        near_before[i] += near_behind[i];
        far_before[i] += far_behind[i];
    }
    (sums[0], [near_before, far_before])
}

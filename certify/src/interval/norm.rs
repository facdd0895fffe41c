//! RMSNorm over a box.
//!
//! `y_i = g_i x_i / sqrt((x_i^2 + S) / D + eps)` with `S` the squares of the others. Over the reals
//! it rises in `x_i`; in `S` it falls where `x_i > 0` and rises where `x_i < 0`. So the maximum is
//! at the upper end with the least `S` if that end is positive, else with the greatest; it is
//! attained.
//!
//! The engine's error against the real value: a mean of f64 squares (below 2^-29 relative), one
//! rounding of the mean, one of `+ eps` (both halved by the root), root, reciprocal, two products:
//! at most 5.1 units. [`RELATIVE`] is 8. Products below the normal range add at most `(|g| + 1)
//! 2^-149`.

use std::ops::Range;

use engine::model::Norm;
use engine::numerics::{inverse_rms, max, min, sum_squares};
use ndarray::{Array2, s};

use super::round::{UNIT, least, least64, most, most64, widen_down, widen_up};
use super::{Boxes, Origin};

const RELATIVE: f64 = 8.0 * UNIT;

/// Below this mean square the engine's mean may be subnormal: then end points only.
pub(super) const SMALLEST_MEAN: f64 = 1e-30;

/// Rows `g z / rms(z)`: what the linear layers may use to cancel the scale of `z`.
#[derive(Clone, Debug)]
pub(super) struct Normed {
    /// Lower ends of `z`.
    pub(super) lo: Array2<f64>,
    /// Upper ends of `z`.
    pub(super) hi: Array2<f64>,
    /// Gains.
    pub(super) gains: Vec<f32>,
    /// Epsilon over the square of the factor between `z` and the normed row, `[row]`.
    pub(super) eps: Vec<(f64, f64)>,
    /// A bound of the engine's relative error of each value `g z`, up to one factor a row.
    pub(super) error: f64,
}

impl Normed {
    pub(super) fn select(&self, rows: Range<usize>) -> Self {
        Self {
            lo: self.lo.slice(s![rows.clone(), ..]).to_owned(),
            hi: self.hi.slice(s![rows.clone(), ..]).to_owned(),
            gains: self.gains.clone(),
            eps: self.eps[rows].to_vec(),
            error: self.error,
        }
    }

    /// A lower bound of the absolute maximum of a normed row, free of the scale of `z`:
    /// `max |g z| / rms >= min |g| sqrt(m / (m + eps))`, `m` the least mean square.
    pub(super) fn least_absmax(&self, row: usize) -> f64 {
        let squares: f64 = (self.lo.row(row).iter())
            .zip(self.hi.row(row))
            .map(|(&lo, &hi)| least64(lo, hi) * least64(lo, hi))
            .sum();
        let mean = squares / self.lo.ncols() as f64;
        let gain = self.gains.iter().fold(f64::INFINITY, |least, &g| {
            let g = f64::from(g.abs());
            if g < least { g } else { least }
        });
        if mean > SMALLEST_MEAN {
            gain * (mean / (mean + self.eps[row].1)).sqrt() * (1.0 - 1e-5)
        } else {
            0.0
        }
    }
}

/// RMSNorm of boxes.
pub(super) fn norm(x: &Boxes, norm: &Norm) -> Boxes {
    let (rows, width) = x.lo.dim();
    let mut lo = Array2::zeros((rows, width));
    let mut hi = Array2::zeros((rows, width));
    let source = source_of(x, norm);
    let regular: Vec<bool> = (0..rows).map(|row| regular(x, row, norm)).collect();
    for row in 0..rows {
        let mut ends = end_points(x, row, norm);
        if let Some(tight) = regular[row].then(|| hull(&source, row)).flatten() {
            for (end, hull) in ends.iter_mut().zip(tight) {
                *end = (max(end.0, hull.0), min(end.1, hull.1));
            }
        }
        for (column, end) in ends.into_iter().enumerate() {
            (lo[[row, column]], hi[[row, column]]) = end;
        }
    }
    if regular.contains(&false) {
        return Boxes::new(lo, hi);
    }
    Boxes { lo, hi, origin: Origin::Normed(std::sync::Arc::new(source)) }
}

/// Whether the engine's mean square plus epsilon is a normal number on the whole box: only then is
/// its reciprocal root within the error bound of the truth.
pub(crate) fn regular(x: &Boxes, row: usize, norm: &Norm) -> bool {
    let ends = || x.lo_row(row).iter().zip(x.hi_row(row));
    let near: Vec<f32> = ends().map(|(&lo, &hi)| least(lo, hi)).collect();
    f64::from(mean_square(&near, norm)) > SMALLEST_MEAN && finite(x, row, norm)
}

/// Whether the engine's mean square overflows nowhere in the box.
pub(crate) fn finite(x: &Boxes, row: usize, norm: &Norm) -> bool {
    let ends = x.lo_row(row).iter().zip(x.hi_row(row));
    let far: Vec<f32> = ends.map(|(&lo, &hi)| most(lo, hi)).collect();
    mean_square(&far, norm).is_finite()
}

/// The engine's mean square plus epsilon.
fn mean_square(x: &[f32], norm: &Norm) -> f32 {
    (sum_squares(x) / x.len() as f64) as f32 + norm.eps
}

/// What is normed: gated products up to their factor, or the values themselves.
fn source_of(x: &Boxes, norm: &Norm) -> Normed {
    let eps = f64::from(norm.eps);
    let gains = norm.gains.to_vec();
    if let Origin::Gated(gated) = &x.origin {
        let eps = gated.factors.iter().map(|&(lo, hi)| (eps / (hi * hi), eps / (lo * lo)));
        let eps = eps.map(|(lo, hi)| (lo * (1.0 - 1e-12), hi * (1.0 + 1e-12))).collect();
        // Each value has the error of the gate; so has their root mean square; then the norm's own.
        let error = 2.0 * gated.error + RELATIVE;
        return Normed { lo: gated.lo.clone(), hi: gated.hi.clone(), gains, eps, error };
    }
    Normed {
        lo: x.lo.mapv(f64::from),
        hi: x.hi.mapv(f64::from),
        gains,
        eps: vec![(eps, eps); x.lo.nrows()],
        error: RELATIVE,
    }
}

/// The engine's own program at the corners.
fn end_points(x: &Boxes, row: usize, norm: &Norm) -> Vec<(f32, f32)> {
    let (lo, hi) = (x.lo_row(row), x.hi_row(row));
    let ends = || lo.iter().zip(hi);
    let near: Vec<f32> = ends().map(|(&lo, &hi)| least(lo, hi)).collect();
    let far: Vec<f32> = ends().map(|(&lo, &hi)| most(lo, hi)).collect();
    let r_hi = inverse_rms(sum_squares(&near), near.len(), norm.eps);
    let r_lo = inverse_rms(sum_squares(&far), far.len(), norm.eps);
    let scaled = |x: f32, up: bool| x * if (x >= 0.0) == up { r_hi } else { r_lo };
    ends()
        .zip(norm.gains.iter())
        .map(|((&lo, &hi), &gain)| {
            let (low, high) = (gain * scaled(lo, false), gain * scaled(hi, true));
            if gain >= 0.0 { (low, high) } else { (high, low) }
        })
        .collect()
}

/// The exact range over the reals, widened by the engine's error; `None` where that has no bound.
fn hull(source: &Normed, row: usize) -> Option<Vec<(f32, f32)>> {
    let (lo, hi) = (source.lo.row(row), source.hi.row(row));
    let width = lo.len();
    let near: Vec<f64> = lo.iter().zip(hi).map(|(&lo, &hi)| sq(least64(lo, hi))).collect();
    let far: Vec<f64> = lo.iter().zip(hi).map(|(&lo, &hi)| sq(most64(lo, hi))).collect();
    // A sum of n non-negative f64 is within n 2^-53 of the truth, whatever the order.
    let slack = (width as f64 + 8.0) * f64::EPSILON;
    let (near, far) = (others(&near), others(&far));
    let (eps_lo, eps_hi) = source.eps[row];
    let d = width as f64;
    let value = |x: f64, up: bool| {
        move |s_near: f64, s_far: f64| {
            let least = (x > 0.0) == up;
            let (s, eps) = if least {
                (s_near * (1.0 - slack), eps_lo)
            } else {
                (s_far * (1.0 + slack), eps_hi)
            };
            let mean = (x * x + s) / d + eps;
            if x == 0.0 { Some(0.0) } else { (mean > SMALLEST_MEAN).then(|| x / mean.sqrt()) }
        }
    };
    (0..width)
        .map(|i| {
            let gain = f64::from(source.gains[i]);
            let high = value(hi[i], true)(near[i], far[i])?;
            let low = value(lo[i], false)(near[i], far[i])?;
            let (low, high) =
                if gain >= 0.0 { (gain * low, gain * high) } else { (gain * high, gain * low) };
            let absolute = (gain.abs() + 1.0) * 1e-44;
            Some((widen_down(low, source.error, absolute), widen_up(high, source.error, absolute)))
        })
        .collect()
}

fn sq(x: f64) -> f64 {
    x * x
}

/// For each index the sum of all others, from prefix and suffix sums (never the total less its
/// own).
pub(super) fn others(x: &[f64]) -> Vec<f64> {
    let mut sums = vec![0.0; x.len()];
    let mut before = 0.0;
    for (sum, &value) in sums.iter_mut().zip(x) {
        *sum = before;
        before += value;
    }
    let mut behind = 0.0;
    for (sum, &value) in sums.iter_mut().zip(x).rev() {
        *sum += behind;
        behind += value;
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(lo: Vec<f32>, hi: Vec<f32>, point: Vec<f32>, eps: f32) {
        let n = lo.len();
        let row = |v: Vec<f32>| Array2::from_shape_vec((1, n), v).unwrap();
        let gains: std::sync::Arc<[f32]> = vec![1.0f32; n].into();
        let of = Norm { gains: gains.clone(), eps, stored: engine::model::FloatType::F32 };
        let boxes = norm(&Boxes::new(row(lo), row(hi)), &of);
        let mut y = vec![0.0; n];
        engine::numerics::rms_norm_row(&point, &gains, eps, &mut y);
        let y = row(y);
        assert!(!boxes.sound() || boxes.contains(&y), "{y:?} outside {boxes:?}");
    }

    #[test]
    fn a_mean_square_that_overflows_is_left_to_the_end_points() {
        check(vec![1e19; 2], vec![3e19; 2], vec![3e19; 2], 1e-5);
    }

    #[test]
    fn without_epsilon_a_box_around_zero_is_not_bounded() {
        check(vec![-1.0; 2], vec![1.0; 2], vec![0.0; 2], 0.0);
    }

    #[test]
    fn without_epsilon_tiny_rows_keep_their_bound() {
        check(vec![-1.0; 2], vec![1.0; 2], vec![1e-23, 1e-24], 0.0);
    }
}

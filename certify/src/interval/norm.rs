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
use std::sync::Arc;

use engine::kernels::Kernels;
use engine::model::Norm;
use engine::numerics::boxes::{NormRow, Reals, SMALLEST_MEAN};
use engine::numerics::sum_squares;
use ndarray::{Array2, s};

use super::round::{UNIT, least, most};
use super::{Boxes, Origin, Spare, by_row, row_of};

const RELATIVE: f64 = 8.0 * UNIT;

/// Rows `g z / rms(z)`: what the linear layers may use to cancel the scale of `z`.
#[derive(Clone, Debug)]
pub(super) struct Normed {
    /// The ends of `z`.
    pub(super) z: Source,
    /// Gains.
    pub(super) gains: Arc<[f32]>,
    /// Epsilon over the square of the factor between `z` and the normed row, `[row]`.
    pub(super) eps: Vec<(f64, f64)>,
    /// A bound of the engine's relative error of each value `g z`, up to one factor a row.
    pub(super) error: f64,
    /// The least magnitude of a gain.
    least_gain: f64,
    /// The sums of the least squares of `z`, `[row]`.
    least_squares: Vec<f64>,
}

/// The ends of the rows that are normed.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// Values themselves.
    Values([Array2<f32>; 2]),
    /// Values up to a factor.
    Gated(Arc<[Array2<f64>; 2]>),
}

impl Source {
    /// The ends of a row.
    pub(super) fn row(&self, row: usize) -> Reals<'_> {
        match self {
            Self::Values([lo, hi]) => Reals::Narrow((row_of(lo, row), row_of(hi, row))),
            Self::Gated(ends) => Reals::Wide((row_of(&ends[0], row), row_of(&ends[1], row))),
        }
    }

    fn select(&self, rows: Range<usize>) -> Self {
        match self {
            Self::Values(ends) => {
                Self::Values(ends.each_ref().map(|end| end.slice(s![rows.clone(), ..]).to_owned()))
            }
            Self::Gated(ends) => {
                let some = |end: &Array2<f64>| end.slice(s![rows.clone(), ..]).to_owned();
                Self::Gated(Arc::new(ends.each_ref().map(some)))
            }
        }
    }
}

impl Normed {
    pub(super) fn select(&self, rows: Range<usize>) -> Self {
        Self {
            z: self.z.select(rows.clone()),
            gains: self.gains.clone(),
            eps: self.eps[rows.clone()].to_vec(),
            error: self.error,
            least_gain: self.least_gain,
            least_squares: self.least_squares[rows].to_vec(),
        }
    }

    /// A lower bound of the absolute maximum of a normed row, free of the scale of `z`:
    /// `max |g z| / rms >= min |g| sqrt(m / (m + eps))`, `m` the least mean square.
    pub(super) fn least_absmax(&self, row: usize) -> f64 {
        let mean = self.least_squares[row] / self.gains.len() as f64;
        if mean > SMALLEST_MEAN {
            self.least_gain * (mean / (mean + self.eps[row].1)).sqrt() * (1.0 - 1e-5)
        } else {
            0.0
        }
    }
}

/// RMSNorm of boxes.
pub(super) fn norm((kernels, spare): (&Kernels, &mut Spare), x: &Boxes, norm: &Norm) -> Boxes {
    let mut source = source_of(spare, x, norm);
    let (mut boxes, squares) = by_row(spare.boxes(x.lo.dim()), |row, scratch, out| {
        let of = NormRow {
            x: (x.lo_row(row), x.hi_row(row)),
            reals: source.z.row(row),
            gains: &norm.gains,
            eps: norm.eps,
            real_eps: source.eps[row],
            error: source.error,
        };
        (kernels.boxes.norm)(&of, scratch, out)
    });
    if let Some(squares) = squares.into_iter().collect() {
        source.least_squares = squares;
        boxes.origin = Origin::Normed(Arc::new(source));
    }
    boxes
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

/// What is normed: gated products up to their factor, or the values themselves; the sums of least
/// squares are left to the norm.
fn source_of(spare: &mut Spare, x: &Boxes, norm: &Norm) -> Normed {
    let eps = f64::from(norm.eps);
    let gains = norm.gains.clone();
    let least_gain = gains.iter().fold(f64::INFINITY, |least, &g| {
        let g = f64::from(g.abs());
        if g < least { g } else { least }
    });
    if let Origin::Gated(gated) = &x.origin {
        let eps = gated.factors.iter().map(|&(lo, hi)| (eps / (hi * hi), eps / (lo * lo)));
        let eps = eps.map(|(lo, hi)| (lo * (1.0 - 1e-12), hi * (1.0 + 1e-12))).collect();
        // Each value has the error of the gate; so has their root mean square; then the norm's own.
        let (z, error) = (Source::Gated(gated.ends.clone()), 2.0 * gated.error + RELATIVE);
        return Normed { z, gains, eps, error, least_gain, least_squares: Vec::new() };
    }
    let (z, eps) =
        (Source::Values([spare.copy(&x.lo), spare.copy(&x.hi)]), vec![(eps, eps); x.lo.nrows()]);
    Normed { z, gains, eps, error: RELATIVE, least_gain, least_squares: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(lo: Vec<f32>, hi: Vec<f32>, point: Vec<f32>, eps: f32) {
        let n = lo.len();
        let row = |v: Vec<f32>| Array2::from_shape_vec((1, n), v).unwrap();
        let gains: std::sync::Arc<[f32]> = vec![1.0f32; n].into();
        let of = Norm { gains: gains.clone(), eps, stored: engine::model::FloatType::F32 };
        let memory = (engine::kernels::best(), &mut Spare::default());
        let boxes = norm(memory, &Boxes::new(row(lo), row(hi)), &of);
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

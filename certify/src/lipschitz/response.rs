//! How every feature responds to the input, and the magnitudes that the constants are made of.

use engine::model::{Float, Linear, Scale, Weights};
use engine::packing::weight_of;
use rayon::prelude::*;

use super::Lipschitz;
use crate::interval::Boxes;

/// Half an ulp of 1 in f32.
pub(super) const UNIT: f64 = 1.0 / 16_777_216.0;

/// For every feature: it changes by at most `bound |x - x'| + slack`, in any row.
#[derive(Clone, Debug)]
pub(super) struct Response {
    pub(super) bound: Vec<f64>,
    pub(super) slack: Vec<f64>,
}

impl Response {
    pub(super) fn identity(width: usize) -> Self {
        Self { bound: vec![1.0; width], slack: vec![0.0; width] }
    }

    pub(super) fn zero(width: usize) -> Self {
        Self { bound: vec![0.0; width], slack: vec![0.0; width] }
    }

    /// Takes the larger of what stands and what is given.
    pub(super) fn raise(&mut self, feature: usize, bound: f64, slack: f64) {
        self.bound[feature] = larger(self.bound[feature], bound);
        self.slack[feature] = larger(self.slack[feature], slack);
    }

    pub(super) fn add_slack(&mut self, more: f64) {
        self.slack.iter_mut().for_each(|slack| *slack += more);
    }

    /// Adds what the rounding of products by so many units can be, at either point.
    pub(super) fn round(&mut self, products: &[f64], units: f64) {
        for (slack, product) in self.slack.iter_mut().zip(products) {
            *slack += 2.0 * units * UNIT * product * 1.01 + 1e-37;
        }
    }

    /// Whatever the input does, a feature changes by at most `slack`.
    pub(super) fn forget(&mut self, slack: f64) {
        self.bound.fill(0.0);
        self.slack.fill(slack);
    }

    pub(super) fn largest(&self) -> Lipschitz {
        let most = |values: &[f64]| values.iter().fold(0.0, |most, &value| larger(most, value));
        Lipschitz { bound: most(&self.bound), slack: most(&self.slack) }
    }
}

/// The larger of two numbers; NaN if either is NaN, so that it shows in the result.
pub(super) fn larger(a: f64, b: f64) -> f64 {
    if b > a || b.is_nan() { b } else { a }
}

/// The magnitude of one entry of boxes.
pub(super) fn magnitude(boxes: &Boxes, at: (usize, usize)) -> f64 {
    larger(f64::from(boxes.lo[at].abs()), f64::from(boxes.hi[at].abs()))
}

/// The least sum of squares of a row.
pub(super) fn least_square(boxes: &Boxes, row: usize) -> f64 {
    let ends = boxes.lo.row(row).into_iter().zip(boxes.hi.row(row));
    ends.map(|(&lo, &hi)| {
        let least = if lo > 0.0 {
            lo
        } else if hi < 0.0 {
            hi
        } else {
            0.0
        };
        f64::from(least) * f64::from(least)
    })
    .sum()
}

/// The extremes of every feature over all rows.
pub(super) struct Extremes(Vec<(f64, f64)>);

impl Extremes {
    pub(super) fn of(boxes: &Boxes) -> Self {
        let mut ends = vec![(f64::INFINITY, f64::NEG_INFINITY); boxes.lo.ncols()];
        for (lo, hi) in boxes.lo.rows().into_iter().zip(boxes.hi.rows()) {
            for (end, (&lo, &hi)) in ends.iter_mut().zip(lo.iter().zip(hi)) {
                *end = (-larger(-end.0, -f64::from(lo)), larger(end.1, f64::from(hi)));
            }
        }
        Self(ends)
    }

    /// The width of the box of every feature, the largest over all rows.
    pub(super) fn widths(boxes: &Boxes) -> Vec<f64> {
        let mut widths = vec![0.0; boxes.lo.ncols()];
        for (lo, hi) in boxes.lo.rows().into_iter().zip(boxes.hi.rows()) {
            for (width, (&lo, &hi)) in widths.iter_mut().zip(lo.iter().zip(hi)) {
                *width = larger(*width, (f64::from(hi) - f64::from(lo)) * (1.0 + 1e-12));
            }
        }
        widths
    }

    pub(super) fn widen(&mut self, by: f64) {
        self.0.iter_mut().for_each(|end| *end = (end.0 - by, end.1 + by));
    }

    pub(super) fn replace(&mut self, most: f64) {
        self.0.fill((-most, most));
    }

    pub(super) fn magnitudes(&self) -> Vec<f64> {
        self.0.iter().map(|end| larger(end.0.abs(), end.1.abs())).collect()
    }

    pub(super) fn ranges(&self) -> Vec<f64> {
        self.0.iter().map(|end| end.1 - end.0).collect()
    }

    pub(super) fn largest(&self) -> f64 {
        self.magnitudes().into_iter().fold(0.0, larger)
    }
}

/// `|W|` on a response, with the scale of the layer; and, in the same pass, on magnitudes.
pub(super) fn linear_magnitudes(
    linear: &Linear,
    x: &Response,
    most: &[f64],
) -> (Response, Vec<f64>) {
    match &linear.weights {
        Weights::Ternary { rows, scale, .. } => {
            let factor = match *scale {
                Scale::Multiply(ws) => f64::from(ws.abs()),
                Scale::Divide(ws) => 1.0 / f64::from(ws.abs()),
            };
            by_row(rows.rows(), |row| {
                let codes = rows.row(row);
                let weights = codes.iter().map(|&code| f64::from(weight_of(code).abs()));
                weighted(weights, x, most).map(|sum| sum * factor)
            })
        }
        Weights::Coded(coded) => {
            by_row(coded.rows().rows(), |row| weighted(coded.weights(row).map(f64::abs), x, most))
        }
        Weights::Dense(float) => float_magnitudes(float, x, most),
    }
}

/// `|W|` of float rows on a response and on magnitudes.
pub(super) fn float_magnitudes(float: &Float, x: &Response, most: &[f64]) -> (Response, Vec<f64>) {
    by_row(float.rows(), |row| {
        let mut weights = vec![0.0; float.columns()];
        float.read_row(row, &mut weights);
        weighted(weights.iter().map(|w| f64::from(w.abs())), x, most)
    })
}

/// Weighted sums of bounds, slacks and magnitudes, with room for the rounding of this very sum.
fn weighted(weights: impl Iterator<Item = f64>, x: &Response, most: &[f64]) -> [f64; 3] {
    let mut sums = [0.0; 3];
    for (((w, bound), slack), most) in weights.zip(&x.bound).zip(&x.slack).zip(most) {
        sums[0] += w * bound;
        sums[1] += w * slack;
        sums[2] += w * most;
    }
    sums.map(|sum| sum * (1.0 + 1e-6))
}

fn by_row(rows: usize, one: impl Fn(usize) -> [f64; 3] + Sync + Send) -> (Response, Vec<f64>) {
    let sums: Vec<[f64; 3]> = (0..rows).into_par_iter().map(one).collect();
    let column = |index: usize| sums.iter().map(|sum| sum[index]).collect();
    (Response { bound: column(0), slack: column(1) }, column(2))
}

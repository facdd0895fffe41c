//! A point on which the decision differs, and its proof: the engine, run again.

use engine::walk::{self, Exact, Read};
use ndarray::{Array2, Zip};

use super::oracle::Reading;
use super::{Target, ball};

/// A point on which the engine decides otherwise.
#[derive(Clone, Debug, PartialEq)]
pub struct Witness {
    /// The rows, `[tokens, hidden]`.
    pub point: Array2<f32>,
    /// The index that wins there, or `None` where a logit is NaN.
    pub prediction: Option<usize>,
    /// The score of the claimed decision less the best other: zero or negative, or NaN.
    pub margin: f32,
    /// The method that found it.
    pub kind: &'static str,
}

/// Why a witness proves nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Refuted {
    /// It has not the shape of the clean rows.
    Shape,
    /// A row that may not move differs, or a coordinate leaves its end points.
    Outside {
        /// The row.
        token: usize,
        /// The column.
        column: usize,
    },
    /// The engine gives the claimed decision.
    SameDecision,
    /// The engine gives another result than the one recorded.
    OtherResult {
        /// What wins now.
        prediction: Option<usize>,
        /// By how much the claimed decision now wins or loses.
        margin: f32,
    },
}

impl std::fmt::Display for Refuted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Shape => write!(f, "the witness has another shape than the clean rows"),
            Self::Outside { token, column } => {
                write!(f, "the witness leaves the ball at token {token}, column {column}")
            }
            Self::SameDecision => write!(f, "the decision on the witness is the claimed one"),
            Self::OtherResult { prediction, margin } => {
                write!(f, "the witness now gives {prediction:?} at a margin of {margin}")
            }
        }
    }
}

impl std::error::Error for Refuted {}

impl Witness {
    /// Runs the engine on the point from an empty state and checks every word of the witness.
    ///
    /// `lo` and `hi` are the end points of the ball it is said to lie in.
    ///
    /// # Errors
    /// The first thing that does not hold.
    ///
    /// # Panics
    /// If the end points have another shape than the clean rows, or the claim names what is not
    /// there.
    pub fn verify(
        &self,
        target: &Target<'_>,
        (lo, hi): (&Array2<f32>, &Array2<f32>),
    ) -> Result<(), Refuted> {
        if self.point.dim() != target.clean.dim() {
            return Err(Refuted::Shape);
        }
        let moving = ball::moving(target.scope, target.clean.nrows());
        for ((token, column), &x) in self.point.indexed_iter() {
            let at = [token, column];
            let inside = if moving.contains(&token) {
                lo[at] <= x && x <= hi[at]
            } else {
                x.to_bits() == target.clean[at].to_bits()
            };
            if !inside {
                return Err(Refuted::Outside { token, column });
            }
        }
        let now = fresh_reading(target, &self.point);
        if now.prediction == Some(target.claim.winner) {
            return Err(Refuted::SameDecision);
        }
        let same = now.margin.to_bits() == self.margin.to_bits()
            || (now.margin.is_nan() && self.margin.is_nan());
        if now.prediction != self.prediction || !same {
            return Err(Refuted::OtherResult { prediction: now.prediction, margin: now.margin });
        }
        Ok(())
    }
}

/// Reads the claim on a point with a walk that shares no state with any search.
fn fresh_reading(target: &Target<'_>, point: &Array2<f32>) -> Reading {
    let mut exact = Exact::new(target.kernels, target.model, target.kv);
    let logits = walk::run(&mut exact, target.model, point, target.from, 0, Read::Last);
    Reading::new(target.claim, logits.as_slice().expect("one standard row"))
}

/// The largest distance of two coordinates, rounded up to an f32.
///
/// # Panics
/// If the shapes differ.
#[must_use]
pub fn distance(a: &Array2<f32>, b: &Array2<f32>) -> f32 {
    assert_eq!(a.dim(), b.dim(), "points of one space");
    Zip::from(a).and(b).fold(0.0, |largest, &a, &b| {
        let d = gap(a, b);
        if d > largest || d.is_nan() { d } else { largest }
    })
}

/// `|a - b|`, rounded up.
fn gap(a: f32, b: f32) -> f32 {
    let (a, b) = (f64::from(a), f64::from(b));
    let (high, low) = if a >= b { (a, b) } else { (b, a) };
    let d = high - low;
    // The error of the f64 subtraction (Knuth's two-sum), exact: positive if `d` is too small.
    let back = d - high;
    let error = (high - (d - back)) - (low + back);
    let rounded = d as f32;
    let short = f64::from(rounded) < d || (f64::from(rounded) == d && error > 0.0);
    if short { rounded.next_up() } else { rounded }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_exact_or_rounded_up() {
        assert_eq!(gap(1.5, -2.0), 3.5);
        assert_eq!(gap(-2.0, 1.5), 3.5);
        assert_eq!(gap(0.0, -0.0), 0.0);
        // 1 + 2^-30 lies between two floats; 1e30 + 2^-100 even beyond f64.
        assert_eq!(gap(1.0, -f32::from_bits(0x3080_0000)), 1.0f32.next_up());
        assert_eq!(gap(1e30, -f32::from_bits(0x0d80_0000)), 1e30f32.next_up());
        assert_eq!(gap(1e30, f32::from_bits(0x0d80_0000)), 1e30);
        assert_eq!(gap(f32::MAX, f32::MIN), f32::INFINITY);
        assert!(gap(f32::NAN, 0.0).is_nan());
    }

    #[test]
    fn a_distance_is_the_largest_gap() {
        let a = ndarray::arr2(&[[0.0, 1.0], [2.0, -3.0]]);
        let b = ndarray::arr2(&[[0.5, 1.0], [2.0, -1.0]]);
        assert_eq!(distance(&a, &b), 2.0);
        assert_eq!(distance(&a, &a), 0.0);
    }
}

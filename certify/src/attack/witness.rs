//! A point on which the decision differs, and its proof: the engine, run again.

use engine::walk::{self, Exact, Read};
use ndarray::Array2;

use super::oracle::Reading;
use super::{Norm, Target, ball};

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
    /// It lies farther from the clean rows than the radius.
    Far {
        /// Its Euclidean distance, rounded up.
        distance: f32,
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
            Self::Far { distance } => write!(f, "the witness is {distance} away"),
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
        self.lies_where(target, |at, x| lo[at] <= x && x <= hi[at])?;
        self.runs_again(target)
    }

    /// The same for the Euclidean ball of a radius about the clean rows.
    ///
    /// # Errors
    /// The first thing that does not hold.
    ///
    /// # Panics
    /// If the claim names what is not there.
    pub fn verify_l2(&self, target: &Target<'_>, radius: f64) -> Result<(), Refuted> {
        self.lies_where(target, |_, x| x.is_finite())?;
        let distance = Norm::L2.distance(target.clean, &self.point);
        if f64::from(distance) > radius {
            return Err(Refuted::Far { distance });
        }
        self.runs_again(target)
    }

    /// Whether each coordinate that may move lies inside, and the others are the clean ones.
    fn lies_where(
        &self,
        target: &Target<'_>,
        inside: impl Fn([usize; 2], f32) -> bool,
    ) -> Result<(), Refuted> {
        if self.point.dim() != target.clean.dim() {
            return Err(Refuted::Shape);
        }
        let moving = ball::moving(target.scope, target.clean.nrows());
        for ((token, column), &x) in self.point.indexed_iter() {
            let at = [token, column];
            let holds = if moving.contains(&token) {
                inside(at, x)
            } else {
                x.to_bits() == target.clean[at].to_bits()
            };
            if !holds {
                return Err(Refuted::Outside { token, column });
            }
        }
        Ok(())
    }

    /// Whether the engine still says what it said.
    fn runs_again(&self, target: &Target<'_>) -> Result<(), Refuted> {
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

//! The sets of streams that a claim speaks of: a clean stream, the rows that move, and how far.

use std::ops::Range;

use ndarray::{Array2, s};

use crate::interval::Boxes;

/// How far the rows that move may move.
#[derive(Clone, Debug, PartialEq)]
pub enum Ball {
    /// Every feature by at most so much.
    Linf(f64),
    /// All features of all moved rows together: the Euclidean norm of the change is at most this.
    L2(f64),
    /// Each moved row anywhere in the convex hull of its own choices `[choices, width]` and its
    /// clean row; one entry a moved row.
    Hulls(Vec<Array2<f32>>),
    /// Each value of the moved rows in a range of its own, `[moved rows, width]`: what a fault in a
    /// row of weights can do to a stream.
    ///
    /// Sound as soon as the ranges hold every value that the engine may hold there: boxes take the
    /// ends as they are, and affine forms give each range that is not a point a symbol of its own
    /// whose radius, rounded up, reaches both ends from the middle. Nothing is assumed of how the
    /// values depend on one another, so whatever set lies in the ranges is covered.
    Boxes {
        /// Lower ends, finite.
        lo: Array2<f32>,
        /// Upper ends, finite and not below the lower ones.
        hi: Array2<f32>,
    },
}

/// A set of streams.
#[derive(Clone, Debug)]
pub struct Region<'a> {
    /// The clean stream, `[tokens, width]`.
    pub clean: &'a Array2<f32>,
    /// The rows that move.
    pub moved: Range<usize>,
    /// How far.
    pub ball: Ball,
}

impl Region<'_> {
    /// The smallest boxes that hold the set.
    ///
    /// # Panics
    /// If the hulls or ranges are not one a moved row, as wide as the stream, or a range is not
    /// finite and ordered.
    #[must_use]
    pub fn boxes(&self) -> Boxes {
        match &self.ball {
            // A feature moves by no more than the whole.
            Ball::Linf(radius) | Ball::L2(radius) => Boxes::ball(self.clean, *radius, &self.moved),
            Ball::Hulls(hulls) => {
                assert_eq!(hulls.len(), self.moved.len(), "one hull a moved row");
                let mut boxes = Boxes::point(self.clean);
                for (row, hull) in self.moved.clone().zip(hulls) {
                    assert_eq!(hull.ncols(), self.clean.ncols(), "choices as wide as the stream");
                    for choice in hull.rows() {
                        boxes.include(row, choice);
                    }
                }
                boxes
            }
            Ball::Boxes { lo, hi } => {
                assert_eq!(lo.dim(), (self.moved.len(), self.clean.ncols()), "one a moved value");
                let ranges = Boxes::new(lo.clone(), hi.clone());
                assert!(ranges.sound(), "ranges are finite and ordered");
                let mut boxes = Boxes::point(self.clean);
                boxes.lo.slice_mut(s![self.moved.clone(), ..]).assign(lo);
                boxes.hi.slice_mut(s![self.moved.clone(), ..]).assign(hi);
                boxes
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::arr2;

    #[test]
    fn the_boxes_of_hulls_hold_the_clean_row_and_every_choice_and_no_more() {
        let clean = arr2(&[[1.0f32, 2.0], [0.0, 0.0], [5.0, 5.0]]);
        let hulls = vec![arr2(&[[3.0f32, 1.0], [2.0, -4.0]])];
        let boxes = Region { clean: &clean, moved: 1..2, ball: Ball::Hulls(hulls) }.boxes();
        assert_eq!(boxes.lo, arr2(&[[1.0, 2.0], [0.0, -4.0], [5.0, 5.0]]));
        assert_eq!(boxes.hi, arr2(&[[1.0, 2.0], [3.0, 1.0], [5.0, 5.0]]));
    }

    #[test]
    fn ranges_stand_for_the_moved_rows_alone() {
        let clean = arr2(&[[1.0f32, 2.0], [0.0, 0.0]]);
        let (lo, hi) = (arr2(&[[-1.0f32, 0.0]]), arr2(&[[3.0f32, 0.0]]));
        let boxes = Region { clean: &clean, moved: 1..2, ball: Ball::Boxes { lo, hi } }.boxes();
        assert_eq!(boxes.lo, arr2(&[[1.0, 2.0], [-1.0, 0.0]]));
        assert_eq!(boxes.hi, arr2(&[[1.0, 2.0], [3.0, 0.0]]));
    }

    #[test]
    #[should_panic(expected = "finite and ordered")]
    fn a_range_that_is_not_finite_is_refused() {
        let clean = arr2(&[[1.0f32]]);
        let ball = Ball::Boxes { lo: arr2(&[[0.0]]), hi: arr2(&[[f32::INFINITY]]) };
        let _ = Region { clean: &clean, moved: 0..1, ball }.boxes();
    }

    #[test]
    fn the_boxes_of_a_euclidean_ball_hold_the_whole_radius_along_every_feature() {
        let clean = arr2(&[[1.0f32, -2.0], [0.25, 4.0]]);
        let boxes = Region { clean: &clean, moved: 1..2, ball: Ball::L2(0.5) }.boxes();
        for (column, sign) in [(0, 0.5), (0, -0.5), (1, 0.5), (1, -0.5)] {
            let mut point = clean.clone();
            point[[1, column]] += sign;
            assert!(boxes.contains(&point), "{point:?}");
        }
        assert_eq!(boxes.lo.row(0), clean.row(0), "rows that stand are points");
    }
}

//! The sets of streams that a claim speaks of: a clean stream, the rows that move, and how far.

use std::ops::Range;

use ndarray::Array2;

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
    /// If the hulls are not one a moved row, as wide as the stream.
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

//! Memory of boxes that nothing reads any more.

use std::sync::Arc;

use engine::walk::Spare as Rows;
use ndarray::Array2;

use super::Boxes;
use super::boxes::Origin;
use super::norm::Source;

/// Memory of ends, of sums, and of what has no f32.
#[derive(Clone, Debug, Default)]
pub(super) struct Spare {
    ends: Rows<f32>,
    pub(super) sums: Rows<i32>,
    pub(super) wide: Rows<f64>,
}

impl Spare {
    /// Boxes of any values, as `(rows, columns)`, whose ends are written before they are read.
    pub(super) fn boxes(&mut self, dim: (usize, usize)) -> Boxes {
        Boxes::new(self.ends.rows(dim), self.ends.rows(dim))
    }

    /// The same ends.
    pub(super) fn copy(&mut self, ends: &Array2<f32>) -> Array2<f32> {
        let mut copy = self.ends.rows(ends.dim());
        copy.assign(ends);
        copy
    }

    /// Keeps the memory of boxes, and of what they are made of unless others read it.
    pub(super) fn keep(&mut self, boxes: Boxes) {
        self.keep_ends([boxes.lo, boxes.hi]);
        match boxes.origin {
            Origin::Plain => {}
            Origin::Normed(normed) => match Arc::try_unwrap(normed).map(|normed| normed.z) {
                Ok(Source::Values(ends)) => self.keep_ends(ends),
                Ok(Source::Gated(ends)) => self.keep_wide(ends),
                Err(_) => {}
            },
            Origin::Projected(projected) => {
                if let Ok(projected) = Arc::try_unwrap(projected) {
                    [projected.lo, projected.hi].into_iter().for_each(|sums| self.sums.keep(sums));
                }
            }
            Origin::Gated(gated) => {
                if let Ok(gated) = Arc::try_unwrap(gated) {
                    self.keep_wide(gated.ends);
                }
            }
        }
    }

    fn keep_ends(&mut self, ends: [Array2<f32>; 2]) {
        ends.into_iter().for_each(|end| self.ends.keep(end));
    }

    fn keep_wide(&mut self, ends: Arc<[Array2<f64>; 2]>) {
        if let Ok(ends) = Arc::try_unwrap(ends) {
            ends.into_iter().for_each(|end| self.wide.keep(end));
        }
    }
}

//! Rows of boxes, and how they are computed row by row or part by part.

use std::ops::Range;
use std::sync::Arc;

use engine::numerics::boxes::Scratch;
use engine::numerics::{max, min};
use ndarray::{Array2, ArrayView1};
use rayon::prelude::*;

use super::gate::Gated;
use super::linear::Projected;
use super::norm::Normed;
use super::round::{down, up};

/// Rows of boxes `[tokens, width]`: every value `v` that the engine may hold has `lo <= v <= hi`.
#[derive(Clone, Debug)]
pub struct Boxes {
    /// Lower ends.
    pub lo: Array2<f32>,
    /// Upper ends.
    pub hi: Array2<f32>,
    /// What the values are made of, where a later step can cancel something.
    pub(super) origin: Origin,
}

/// What rows of values are made of, besides lying in their boxes.
#[derive(Clone, Debug, Default)]
pub(super) enum Origin {
    /// Nothing is known.
    #[default]
    Plain,
    /// `g z / rms(z)`: the scale of `z` cancels in whatever is scale-free.
    Normed(Arc<Normed>),
    /// `factor * sums`: integer sums under one positive factor a row.
    Projected(Arc<Projected>),
    /// `factor * z`: gated products of integer sums under one positive factor a row.
    Gated(Arc<Gated>),
}

impl Boxes {
    /// Boxes from their ends.
    ///
    /// # Panics
    /// If the shapes differ.
    #[must_use]
    pub fn new(lo: Array2<f32>, hi: Array2<f32>) -> Self {
        assert_eq!(lo.dim(), hi.dim(), "both ends of one shape");
        Self { lo, hi, origin: Origin::Plain }
    }

    /// The boxes that hold one point each.
    #[must_use]
    pub fn point(x: &Array2<f32>) -> Self {
        Self::new(x.clone(), x.clone())
    }

    /// The ball of radius `epsilon` about `x` in the maximum norm; only rows of `moved` move.
    #[must_use]
    pub fn ball(x: &Array2<f32>, epsilon: f64, moved: &Range<usize>) -> Self {
        if epsilon == 0.0 {
            return Self::point(&x.as_standard_layout().into_owned());
        }
        Self::new(
            moved_by(x, moved, |value| down(-above(epsilon - value))),
            moved_by(x, moved, |value| up(above(value + epsilon))),
        )
    }

    /// The widest of the boxes; NaN-free only if all ends are finite.
    #[must_use]
    pub fn widths(&self) -> Array2<f32> {
        &self.hi - &self.lo
    }

    /// Whether a point of the same shape lies inside (either zero counts as zero).
    #[must_use]
    pub fn contains(&self, x: &Array2<f32>) -> bool {
        x.dim() == self.lo.dim()
            && x.iter().zip(&self.lo).zip(&self.hi).all(|((x, lo), hi)| lo <= x && x <= hi)
    }

    /// Whether all bounds are finite and ordered.
    #[must_use]
    pub fn sound(&self) -> bool {
        let (lo, hi) = (self.lo.as_standard_layout(), self.hi.as_standard_layout());
        let ends = [&lo, &hi].map(|end| end.as_slice().expect("standard rows"));
        engine::numerics::boxes::sound((ends[0], ends[1]))
    }

    /// Widens the boxes of one row to hold a point; what the values are made of is forgotten.
    pub(crate) fn include(&mut self, row: usize, point: ArrayView1<'_, f32>) {
        for (column, &value) in point.iter().enumerate() {
            let (lo, hi) = (&mut self.lo[[row, column]], &mut self.hi[[row, column]]);
            (*lo, *hi) = (min(*lo, value), max(*hi, value));
        }
        self.origin = Origin::Plain;
    }

    /// Narrows one box to a range that holds the value too; what the values are made of stays true.
    pub(crate) fn cut(&mut self, row: usize, column: usize, least: f64, most: f64) {
        let (lo, hi) = (&mut self.lo[[row, column]], &mut self.hi[[row, column]]);
        *lo = max(*lo, down(least));
        *hi = min(*hi, up(most));
        assert!(lo <= hi, "two bounds of one value meet");
    }

    /// Forgets what the values are made of: the boxes may then be widened by hand.
    #[must_use]
    pub fn plain(mut self) -> Self {
        self.origin = Origin::Plain;
        self
    }

    pub(super) fn lo_row(&self, row: usize) -> &[f32] {
        row_of(&self.lo, row)
    }

    pub(super) fn hi_row(&self, row: usize) -> &[f32] {
        row_of(&self.hi, row)
    }
}

/// Rows of which some are moved, value by value.
fn moved_by(x: &Array2<f32>, moved: &Range<usize>, end: impl Fn(f64) -> f32 + Sync) -> Array2<f32> {
    let (rows, width) = x.dim();
    let mut ends = x.as_standard_layout().into_owned();
    let last = moved.end.min(rows);
    let data = ends.as_slice_mut().expect("standard rows");
    let moving = &mut data[moved.start.min(last) * width..last * width];
    let each = |row: &mut [f32]| row.iter_mut().for_each(|x| *x = end(f64::from(*x)));
    moving.par_chunks_mut(width.max(1)).for_each(each);
    ends
}

/// The next f64 above; infinity and NaN stay. Without branches, since no one knows the sign.
fn above(x: f64) -> f64 {
    let bits = x.to_bits();
    let next = if bits >> 63 == 0 { bits.wrapping_add(1) } else { bits.wrapping_sub(1) };
    let next = if x == 0.0 { 1 } else { next };
    f64::from_bits(if x < f64::INFINITY { next } else { bits })
}

/// A row.
pub(super) fn row_of<T>(rows: &Array2<T>, row: usize) -> &[T] {
    let width = rows.ncols();
    &rows.as_slice().expect("standard rows")[row * width..(row + 1) * width]
}

/// Some columns of all rows.
pub(super) type Part<'a, T = f32> = Vec<&'a mut [T]>;

/// The parts of so many columns of all rows, those of the first columns first.
pub(super) fn parts<T>(rows: &mut Array2<T>, columns: usize) -> std::vec::IntoIter<Part<'_, T>> {
    let (count, width) = rows.dim();
    let mut parts = Vec::new();
    parts.resize_with(width.div_ceil(columns), || Vec::with_capacity(count));
    for row in rows.as_slice_mut().expect("standard rows").chunks_exact_mut(width) {
        parts.iter_mut().zip(row.chunks_mut(columns)).for_each(|(all, part)| all.push(part));
    }
    parts.into_iter()
}

/// Boxes of any values, computed row by row, `f(row, scratch, (lower ends, upper ends))`, and what
/// `f` says of each row.
pub(super) fn by_row<T: Send>(
    mut boxes: Boxes,
    f: impl Fn(usize, &mut Scratch, (&mut [f32], &mut [f32])) -> T + Sync + Send,
) -> (Boxes, Vec<T>) {
    let width = boxes.lo.ncols();
    let lows = boxes.lo.as_slice_mut().expect("standard rows").par_chunks_exact_mut(width);
    let highs = boxes.hi.as_slice_mut().expect("standard rows").par_chunks_exact_mut(width);
    let outs = lows.zip(highs).enumerate();
    let told = outs.map_init(Scratch::default, |scratch, (row, out)| f(row, scratch, out));
    let told = told.collect();
    (boxes, told)
}

//! How far faults in the weights of a layer move its integer sums, and the domains that take that.
//!
//! A flip of a ternary code adds an integer to the sums of its row, one in each token. A set of
//! faults is therefore a set of such additions, and a domain of sets that can add it bounds what
//! every one of the faults does.

use std::ops::Range;

use engine::model::{Activations, Float, Gate, Linear, Norm, Rope};
use engine::walk::{Domain, Site};

use crate::affine::Affine;
use crate::checked::Enclosure;
use crate::interval::{BoxPrepared, Boxes, Interval, Ranges};

/// How far the integer sums of one layer may move.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// The ranges `[row][token]`, each with 0 inside; no entries where a row stands.
    pub ranges: Vec<Ranges>,
    /// Where all rows share a number of flips, `[row][token][flips - 1]`: what at most so many
    /// flips in the row move its sum by, either way. Rising, from one flip to the shared number; no
    /// entries where a row stands.
    pub shared: Option<Vec<Vec<Vec<i32>>>>,
}

impl Moved {
    /// The range of one sum.
    #[must_use]
    pub fn range(&self, token: usize, row: usize) -> (i32, i32) {
        self.ranges[row].get(token).copied().unwrap_or((0, 0))
    }
}

/// A domain of sets whose integer sums can be moved.
pub trait Movable: Enclosure {
    /// A ternary layer whose integer sums moreover move.
    ///
    /// # Panics
    /// Unless codes meet ternary weights: nothing else has integer sums.
    fn linear_moved(
        &mut self,
        at: Site,
        x: &Self::Prepared,
        linear: &Linear,
        moved: &Moved,
    ) -> Self::Rows;
}

impl Movable for Interval {
    fn linear_moved(
        &mut self,
        at: Site,
        x: &BoxPrepared,
        linear: &Linear,
        moved: &Moved,
    ) -> Self::Rows {
        self.sums_moved(at, x, linear, moved)
    }
}

impl Movable for Affine<'_> {
    fn linear_moved(
        &mut self,
        at: Site,
        x: &Self::Prepared,
        linear: &Linear,
        moved: &Moved,
    ) -> Self::Rows {
        self.sums_moved(at, x, linear, moved)
    }
}

/// A domain of sets under any one of a set of faults in linear layers.
#[derive(Clone, Debug)]
pub struct AnyFlip<D, F> {
    /// The domain.
    pub inner: D,
    /// What the faults can do in a linear layer, by what it reads; `None` where it is not struck.
    pub moved: F,
}

impl<D, F> Domain for AnyFlip<D, F>
where
    D: Movable,
    F: FnMut(Site, &BoxPrepared, &Linear) -> Option<Moved>,
{
    type Rows = D::Rows;
    type Prepared = D::Prepared;

    fn linear(&mut self, at: Site, x: &D::Prepared, linear: &Linear) -> D::Rows {
        match (self.moved)(at, D::prepared(x), linear) {
            Some(moved) => self.inner.linear_moved(at, x, linear, &moved),
            None => self.inner.linear(at, x, linear),
        }
    }

    fn norm(&mut self, at: Site, x: &D::Rows, norm: &Norm) -> D::Rows {
        self.inner.norm(at, x, norm)
    }

    fn prepare(&mut self, at: Site, x: &D::Rows, policy: Activations) -> D::Prepared {
        self.inner.prepare(at, x, policy)
    }

    fn rope(&mut self, at: Site, x: D::Rows, rope: &Rope, first: usize) -> D::Rows {
        self.inner.rope(at, x, rope, first)
    }

    fn store(&mut self, at: Site, keys: D::Rows, values: D::Rows) {
        self.inner.store(at, keys, values);
    }

    fn attend(&mut self, at: Site, queries: &D::Rows, first: usize) -> D::Rows {
        self.inner.attend(at, queries, first)
    }

    fn gate(&mut self, at: Site, gate: &D::Rows, up: &D::Rows, kind: Gate) -> D::Rows {
        self.inner.gate(at, gate, up, kind)
    }

    fn add(&mut self, at: Site, stream: &D::Rows, update: &D::Rows) -> D::Rows {
        self.inner.add(at, stream, update)
    }

    fn logits(&mut self, at: Site, x: &D::Rows, head: &Float) -> D::Rows {
        self.inner.logits(at, x, head)
    }

    fn coded_logits(&mut self, at: Site, x: &D::Prepared, head: &Linear) -> D::Rows {
        self.inner.coded_logits(at, x, head)
    }

    fn count(&self, x: &D::Rows) -> usize {
        self.inner.count(x)
    }

    fn select(&self, x: &D::Rows, rows: Range<usize>) -> D::Rows {
        self.inner.select(x, rows)
    }

    fn reshape(&self, x: D::Rows, width: usize) -> D::Rows {
        self.inner.reshape(x, width)
    }

    fn stack(&self, above: &D::Rows, below: &D::Rows) -> D::Rows {
        self.inner.stack(above, below)
    }

    fn replace_column(&self, x: &mut D::Rows, index: usize, column: &D::Rows) {
        self.inner.replace_column(x, index, column);
    }
}

impl<D, F> Enclosure for AnyFlip<D, F>
where
    D: Movable,
    F: FnMut(Site, &BoxPrepared, &Linear) -> Option<Moved>,
{
    fn boxes(rows: &D::Rows) -> &Boxes {
        D::boxes(rows)
    }
    fn prepared(prepared: &D::Prepared) -> &BoxPrepared {
        D::prepared(prepared)
    }
    fn lost(&self) -> bool {
        self.inner.lost()
    }
}

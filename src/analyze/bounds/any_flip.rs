//! Boxes under any one of a set of flips in one tensor: a set of faults as a decorator of a domain.

use std::ops::Range;

use certify::interval::{BoxPrepared, Boxes, Interval};
use engine::model::{Activations, Float, Gate, Linear, Norm, Rope};
use engine::walk::{Domain, Site};

use super::reach::{Moves, Reach};
use crate::cli::UnusedArg;

/// Boxes under any one of a set of flips in one tensor.
pub(in crate::analyze) struct AnyFlip {
    pub(in crate::analyze) inner: Interval,
    /// The struck layer.
    pub(in crate::analyze) site: Site,
    /// What the flips can do there; without entries the layer is only looked at.
    pub(in crate::analyze) moves: Moves,
    pub(in crate::analyze) unused: Option<UnusedArg>,
    /// What each flip could do, where the layer was only looked at.
    pub(in crate::analyze) reach: Option<Reach>,
}

impl Domain for AnyFlip {
    type Rows = Boxes;
    type Prepared = BoxPrepared;

    fn linear(&mut self, at: Site, x: &BoxPrepared, linear: &Linear) -> Boxes {
        if at != self.site {
            return self.inner.linear(at, x, linear);
        }
        if self.moves.rows.is_empty() {
            self.reach = Reach::new(linear, x, self.unused);
            return self.inner.linear(at, x, linear);
        }
        let moves = std::mem::take(&mut self.moves);
        let moved =
            |token: usize, row: usize| moves.rows[row].get(token).copied().unwrap_or((0, 0));
        let boxes = self.inner.linear_moved(at, x, linear, moved);
        boxes.unwrap_or_else(|| self.inner.linear(at, x, linear))
    }

    fn norm(&mut self, at: Site, x: &Boxes, norm: &Norm) -> Boxes {
        self.inner.norm(at, x, norm)
    }

    fn prepare(&mut self, at: Site, x: &Boxes, policy: Activations) -> BoxPrepared {
        self.inner.prepare(at, x, policy)
    }

    fn rope(&mut self, at: Site, x: Boxes, rope: &Rope, first: usize) -> Boxes {
        self.inner.rope(at, x, rope, first)
    }

    fn store(&mut self, at: Site, keys: Boxes, values: Boxes) {
        self.inner.store(at, keys, values);
    }

    fn attend(&mut self, at: Site, queries: &Boxes, first: usize) -> Boxes {
        self.inner.attend(at, queries, first)
    }

    fn gate(&mut self, at: Site, gate: &Boxes, up: &Boxes, kind: Gate) -> Boxes {
        self.inner.gate(at, gate, up, kind)
    }

    fn add(&mut self, at: Site, stream: &Boxes, update: &Boxes) -> Boxes {
        self.inner.add(at, stream, update)
    }

    fn logits(&mut self, at: Site, x: &Boxes, head: &Float) -> Boxes {
        self.inner.logits(at, x, head)
    }

    fn count(&self, x: &Boxes) -> usize {
        self.inner.count(x)
    }

    fn select(&self, x: &Boxes, rows: Range<usize>) -> Boxes {
        self.inner.select(x, rows)
    }

    fn stack(&self, above: &Boxes, below: &Boxes) -> Boxes {
        self.inner.stack(above, below)
    }

    fn replace_column(&self, x: &mut Boxes, index: usize, column: &Boxes) {
        self.inner.replace_column(x, index, column);
    }
}

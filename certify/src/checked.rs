//! A point walks beside a set: containment is asserted after every step, with no slack.
//!
//! This is the sharpest test of a bound. Sampled end results reach only a part of the final box; a
//! step that loses a value shows at once, with its site.

use std::ops::Range;
use std::sync::Arc;

use engine::model::{Activations, Float, Gate, Linear, Model, Norm, Rope};
use engine::walk::{Domain, Exact, ExactPrepared, Site, Step};
use ndarray::Array2;

use crate::affine::Affine;
use crate::interval::{BoxPrepared, Boxes, Interval};

/// A domain of sets whose every value lies in a known box.
pub trait Enclosure: Domain {
    /// The boxes of rows.
    fn boxes(rows: &Self::Rows) -> &Boxes;
    /// The boxes of what linear layers read.
    fn prepared(prepared: &Self::Prepared) -> &BoxPrepared;
    /// Whether the bound is lost.
    fn lost(&self) -> bool;
}

impl Enclosure for Interval {
    fn boxes(rows: &Boxes) -> &Boxes {
        rows
    }
    fn prepared(prepared: &BoxPrepared) -> &BoxPrepared {
        prepared
    }
    fn lost(&self) -> bool {
        self.diverged().is_some()
    }
}

impl Enclosure for Affine<'_> {
    fn boxes(rows: &Self::Rows) -> &Boxes {
        &rows.boxes
    }
    fn prepared(prepared: &Self::Prepared) -> &BoxPrepared {
        &prepared.boxes
    }
    fn lost(&self) -> bool {
        self.diverged().is_some()
    }
}

/// The domain of pairs of a set and a point inside.
#[derive(Clone, Debug)]
pub struct Checked<S> {
    /// The set.
    pub set: S,
    /// The point.
    pub point: Exact,
    /// The model whose linear layers the point reads, where that is not the one of the set.
    pub faulty: Option<Arc<Model>>,
    /// How many values were found inside their boxes.
    pub checks: u64,
}

/// Rows of sets with a point inside.
#[derive(Clone, Debug)]
pub struct Pair<R> {
    /// The sets.
    pub set: R,
    /// The point.
    pub point: Array2<f32>,
}

impl<S: Enclosure> Checked<S> {
    /// A point beside a set, both at the beginning.
    #[must_use]
    pub fn new(set: S, point: Exact) -> Self {
        Self { set, point, faulty: None, checks: 0 }
    }

    fn pair(&mut self, at: Site, set: S::Rows, point: Array2<f32>) -> Pair<S::Rows> {
        if !self.set.lost() {
            assert!(S::boxes(&set).contains(&point), "a value lies outside its box at {at:?}");
            self.checks += point.len() as u64;
        }
        Pair { set, point }
    }

    /// Asserts that the codes of the point lie in the boxes of codes.
    fn check_codes(&mut self, at: Site, set: &S::Prepared, point: &ExactPrepared) {
        let boxes = &S::prepared(set).codes;
        let (Some(boxes), ExactPrepared::Codes(codes)) = (boxes, point) else { return };
        if self.set.lost() {
            return;
        }
        for ((&q, &lo), &width) in codes.q.iter().zip(&boxes.lo).zip(&boxes.width) {
            let (q, lo) = (i32::from(q), i32::from(lo));
            assert!(lo <= q && q <= lo + i32::from(width), "a code outside its box at {at:?}");
        }
        for (&t, &(lo, hi)) in codes.scales.iter().zip(&boxes.scales) {
            assert!(lo <= t && t <= hi, "a scale outside its range at {at:?}");
        }
        self.checks += codes.q.len() as u64;
    }
}

impl<S: Enclosure> Domain for Checked<S> {
    type Rows = Pair<S::Rows>;
    type Prepared = (S::Prepared, ExactPrepared);

    fn norm(&mut self, at: Site, x: &Pair<S::Rows>, norm: &Norm) -> Pair<S::Rows> {
        let set = self.set.norm(at, &x.set, norm);
        let point = self.point.norm(at, &x.point, norm);
        self.pair(at, set, point)
    }

    fn prepare(&mut self, at: Site, x: &Pair<S::Rows>, policy: Activations) -> Self::Prepared {
        let set = self.set.prepare(at, &x.set, policy);
        let point = self.point.prepare(at, &x.point, policy);
        self.check_codes(at, &set, &point);
        (set, point)
    }

    fn linear(&mut self, at: Site, x: &Self::Prepared, linear: &Linear) -> Pair<S::Rows> {
        let set = self.set.linear(at, &x.0, linear);
        let faulty = self.faulty.clone();
        let linear = match (&faulty, at.step) {
            (Some(model), Step::Linear(slot)) => model.layers[at.layer].linear(slot),
            _ => linear,
        };
        let point = self.point.linear(at, &x.1, linear);
        self.pair(at, set, point)
    }

    fn rope(&mut self, at: Site, x: Pair<S::Rows>, rope: &Rope, first: usize) -> Pair<S::Rows> {
        let set = self.set.rope(at, x.set, rope, first);
        let point = self.point.rope(at, x.point, rope, first);
        self.pair(at, set, point)
    }

    fn store(&mut self, at: Site, keys: Pair<S::Rows>, values: Pair<S::Rows>) {
        self.set.store(at, keys.set, values.set);
        self.point.store(at, keys.point, values.point);
    }

    fn attend(&mut self, at: Site, queries: &Pair<S::Rows>, first: usize) -> Pair<S::Rows> {
        let set = self.set.attend(at, &queries.set, first);
        let point = self.point.attend(at, &queries.point, first);
        self.pair(at, set, point)
    }

    fn gate(
        &mut self,
        at: Site,
        gate: &Pair<S::Rows>,
        up: &Pair<S::Rows>,
        kind: Gate,
    ) -> Pair<S::Rows> {
        let set = self.set.gate(at, &gate.set, &up.set, kind);
        let point = self.point.gate(at, &gate.point, &up.point, kind);
        self.pair(at, set, point)
    }

    fn add(&mut self, at: Site, stream: &Pair<S::Rows>, update: &Pair<S::Rows>) -> Pair<S::Rows> {
        let set = self.set.add(at, &stream.set, &update.set);
        let point = self.point.add(at, &stream.point, &update.point);
        self.pair(at, set, point)
    }

    fn logits(&mut self, at: Site, x: &Pair<S::Rows>, head: &Float) -> Pair<S::Rows> {
        let set = self.set.logits(at, &x.set, head);
        let point = self.point.logits(at, &x.point, head);
        self.pair(at, set, point)
    }

    fn coded_logits(&mut self, at: Site, x: &Self::Prepared, head: &Linear) -> Pair<S::Rows> {
        let set = self.set.coded_logits(at, &x.0, head);
        let point = self.point.coded_logits(at, &x.1, head);
        self.pair(at, set, point)
    }

    fn count(&self, x: &Pair<S::Rows>) -> usize {
        self.set.count(&x.set)
    }

    fn select(&self, x: &Pair<S::Rows>, rows: Range<usize>) -> Pair<S::Rows> {
        Pair {
            set: self.set.select(&x.set, rows.clone()),
            point: self.point.select(&x.point, rows),
        }
    }

    fn reshape(&self, x: Pair<S::Rows>, width: usize) -> Pair<S::Rows> {
        let (set, point) = (self.set.reshape(x.set, width), self.point.reshape(x.point, width));
        Pair { set, point }
    }

    fn stack(&self, above: &Pair<S::Rows>, below: &Pair<S::Rows>) -> Pair<S::Rows> {
        Pair {
            set: self.set.stack(&above.set, &below.set),
            point: self.point.stack(&above.point, &below.point),
        }
    }

    fn replace_column(&self, x: &mut Pair<S::Rows>, index: usize, column: &Pair<S::Rows>) {
        self.set.replace_column(&mut x.set, index, &column.set);
        self.point.replace_column(&mut x.point, index, &column.point);
    }
}

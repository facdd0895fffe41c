//! A point walks beside a set: containment is asserted after every step, with no slack.
//!
//! This is the sharpest test of a bound. Sampled end results reach only a part of the final box; a
//! step that loses a value shows at once, with its site.

use std::ops::Range;

use engine::model::{Activations, Float, Gate, Linear, Norm, Rope};
use engine::walk::{Domain, Exact, ExactPrepared, Site};
use ndarray::Array2;

use crate::interval::{BoxPrepared, Boxes, Interval};

/// The domain of pairs of a box and a point inside.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The set.
    pub set: Interval,
    /// The point.
    pub point: Exact,
    /// How many values were found inside their boxes.
    pub checks: u64,
}

/// Rows of boxes with a point inside.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The boxes.
    pub boxes: Boxes,
    /// The point.
    pub point: Array2<f32>,
}

impl Checked {
    /// A point beside a set, both at the beginning.
    #[must_use]
    pub fn new(set: Interval, point: Exact) -> Self {
        Self { set, point, checks: 0 }
    }

    fn pair(&mut self, at: Site, boxes: Boxes, point: Array2<f32>) -> Pair {
        if self.set.diverged().is_none() {
            assert!(boxes.contains(&point), "a value lies outside its box at {at:?}");
            self.checks += point.len() as u64;
        }
        Pair { boxes, point }
    }

    /// Asserts that the codes of the point lie in the boxes of codes.
    fn check_codes(&mut self, at: Site, set: &BoxPrepared, point: &ExactPrepared) {
        let (Some(boxes), Some(codes)) = (&set.codes, &point.codes) else { return };
        if self.set.diverged().is_some() {
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

impl Domain for Checked {
    type Rows = Pair;
    type Prepared = (BoxPrepared, ExactPrepared);

    fn norm(&mut self, at: Site, x: &Pair, norm: &Norm) -> Pair {
        let boxes = self.set.norm(at, &x.boxes, norm);
        let point = self.point.norm(at, &x.point, norm);
        self.pair(at, boxes, point)
    }

    fn prepare(&mut self, at: Site, x: &Pair, policy: Activations) -> Self::Prepared {
        let set = self.set.prepare(at, &x.boxes, policy);
        let point = self.point.prepare(at, &x.point, policy);
        self.check_codes(at, &set, &point);
        (set, point)
    }

    fn linear(&mut self, at: Site, x: &Self::Prepared, linear: &Linear) -> Pair {
        let boxes = self.set.linear(at, &x.0, linear);
        let point = self.point.linear(at, &x.1, linear);
        self.pair(at, boxes, point)
    }

    fn rope(&mut self, at: Site, x: Pair, rope: &Rope, first: usize) -> Pair {
        let boxes = self.set.rope(at, x.boxes, rope, first);
        let point = self.point.rope(at, x.point, rope, first);
        self.pair(at, boxes, point)
    }

    fn store(&mut self, at: Site, keys: Pair, values: Pair) {
        self.set.store(at, keys.boxes, values.boxes);
        self.point.store(at, keys.point, values.point);
    }

    fn attend(&mut self, at: Site, queries: &Pair, first: usize) -> Pair {
        let boxes = self.set.attend(at, &queries.boxes, first);
        let point = self.point.attend(at, &queries.point, first);
        self.pair(at, boxes, point)
    }

    fn gate(&mut self, at: Site, gate: &Pair, up: &Pair, kind: Gate) -> Pair {
        let boxes = self.set.gate(at, &gate.boxes, &up.boxes, kind);
        let point = self.point.gate(at, &gate.point, &up.point, kind);
        self.pair(at, boxes, point)
    }

    fn add(&mut self, at: Site, stream: &Pair, update: &Pair) -> Pair {
        let boxes = self.set.add(at, &stream.boxes, &update.boxes);
        let point = self.point.add(at, &stream.point, &update.point);
        self.pair(at, boxes, point)
    }

    fn logits(&mut self, at: Site, x: &Pair, head: &Float) -> Pair {
        let boxes = self.set.logits(at, &x.boxes, head);
        let point = self.point.logits(at, &x.point, head);
        self.pair(at, boxes, point)
    }

    fn count(&self, x: &Pair) -> usize {
        self.set.count(&x.boxes)
    }

    fn select(&self, x: &Pair, rows: Range<usize>) -> Pair {
        Pair {
            boxes: self.set.select(&x.boxes, rows.clone()),
            point: self.point.select(&x.point, rows),
        }
    }

    fn stack(&self, above: &Pair, below: &Pair) -> Pair {
        Pair {
            boxes: self.set.stack(&above.boxes, &below.boxes),
            point: self.point.stack(&above.point, &below.point),
        }
    }

    fn replace_column(&self, x: &mut Pair, index: usize, column: &Pair) {
        self.set.replace_column(&mut x.boxes, index, &column.boxes);
        self.point.replace_column(&mut x.point, index, &column.point);
    }
}

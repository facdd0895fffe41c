//! A domain that computes the numbers of inference and records how each came about.
//!
//! Every step is delegated to an inner [`Exact`], so the recorded values are the very bits of
//! inference; the tape keeps beside them what the step's vector-Jacobian product needs. Walking it
//! backwards gives the gradient of any weighted sum of outputs with respect to any earlier rows.
//!
//! Rounding is passed straight through (Bengio et al. 2013): int8 codes of activations and the
//! storage types of keys and values count as the identity. The gradient is a heuristic that leads a
//! search; no verdict rests on it. It is nevertheless the same bits on every machine: its sums run
//! in the orders of the engine's kernels, never through a platform's matrix product.
//!
//! Invariant: a node's operands have smaller numbers than the node.

mod backward;
mod vjp;
mod weights;

use std::cell::RefCell;
use std::ops::Range;

use engine::model::{Activations, Float, Gate, Linear, Norm, Rope};
use engine::walk::{Domain, Exact, ExactPrepared, Site, Step};
use ndarray::Array2;

use backward::{Op, StoredRows};
pub use weights::BackwardWeights;

/// Rows of values with their place on a tape.
#[derive(Clone, Debug)]
pub struct TapeRows {
    /// The values, as inference computes them.
    pub value: Array2<f32>,
    node: usize,
}

/// Rows as the linear layers read them.
#[derive(Clone, Debug)]
pub struct TapePrepared {
    prepared: ExactPrepared,
    node: usize,
}

/// The recording domain.
///
/// Tokens that the given [`Exact`] already stores are constants: no gradient flows into them.
#[derive(Debug)]
pub struct Tape<'m> {
    exact: Exact,
    weights: &'m BackwardWeights<'m>,
    ops: RefCell<Vec<Op>>,
    /// What was stored through this tape, by layer.
    stored: Vec<Vec<StoredRows>>,
}

impl<'m> Tape<'m> {
    /// An empty tape over a state of inference.
    ///
    /// `weights` must be those of the model that is walked.
    #[must_use]
    pub fn new(exact: Exact, weights: &'m BackwardWeights<'m>) -> Self {
        let stored = vec![Vec::new(); exact.caches.len()];
        Self { exact, weights, ops: RefCell::new(Vec::new()), stored }
    }

    /// Puts rows on the tape, as an input of a walk.
    pub fn input(&mut self, value: Array2<f32>) -> TapeRows {
        self.record(value, Op::Input)
    }

    /// The gradient with respect to `input` of the sum of `seed * output`.
    ///
    /// # Panics
    /// If `seed` has not the shape of `output`, or the rows are of another tape.
    #[must_use]
    pub fn backward(&self, output: &TapeRows, seed: &Array2<f32>, input: &TapeRows) -> Array2<f32> {
        assert_eq!(seed.dim(), output.value.dim(), "a seed of the shape of the output");
        let gradient = backward::run(
            &self.ops.borrow(),
            (self.exact.kernels, self.weights),
            (output.node, seed),
            input.node,
        );
        gradient.unwrap_or_else(|| Array2::zeros(input.value.raw_dim()))
    }

    /// Gives the state of inference back, with what the walk stored in it.
    #[must_use]
    pub fn into_exact(self) -> Exact {
        self.exact
    }

    fn record(&self, value: Array2<f32>, op: Op) -> TapeRows {
        let mut ops = self.ops.borrow_mut();
        ops.push(op);
        TapeRows { value, node: ops.len() - 1 }
    }
}

impl Domain for Tape<'_> {
    type Rows = TapeRows;
    type Prepared = TapePrepared;

    fn norm(&mut self, at: Site, x: &TapeRows, norm: &Norm) -> TapeRows {
        let value = self.exact.norm(at, &x.value, norm);
        self.record(value, Op::Norm { x: x.node, values: x.value.clone(), norm: norm.clone() })
    }

    fn prepare(&mut self, at: Site, x: &TapeRows, policy: Activations) -> TapePrepared {
        TapePrepared { prepared: self.exact.prepare(at, &x.value, policy), node: x.node }
    }

    fn linear(&mut self, at: Site, x: &TapePrepared, linear: &Linear) -> TapeRows {
        let Step::Linear(slot) = at.step else { panic!("a linear layer at {at:?}") };
        let value = self.exact.linear(at, &x.prepared, linear);
        self.record(value, Op::Linear { x: x.node, layer: at.layer, slot })
    }

    fn rope(&mut self, at: Site, x: TapeRows, rope: &Rope, first: usize) -> TapeRows {
        let turns = (first..first + x.value.nrows()).map(|p| rope.at(p).into_owned()).collect();
        let value = self.exact.rope(at, x.value, rope, first);
        self.record(value, Op::Rope { x: x.node, turns })
    }

    fn store(&mut self, at: Site, keys: TapeRows, values: TapeRows) {
        let first = self.exact.caches[at.layer].keys.tokens();
        self.stored[at.layer].push(StoredRows {
            first,
            count: keys.value.nrows(),
            keys: keys.node,
            values: values.node,
        });
        self.exact.store(at, keys.value, values.value);
    }

    fn attend(&mut self, at: Site, queries: &TapeRows, first: usize) -> TapeRows {
        let value = self.exact.attend(at, &queries.value, first);
        let seen = first + queries.value.nrows();
        let config = &self.weights.model().config;
        let shape = (config.heads, config.kv_heads, config.head_dim);
        let memory = vjp::Memory::read(&self.exact.caches[at.layer], seen, shape);
        let sources = (self.stored[at.layer].iter().copied()).filter(|s| s.first < seen).collect();
        let op = Op::Attend {
            queries: queries.node,
            values: queries.value.clone(),
            first,
            memory,
            sources,
        };
        self.record(value, op)
    }

    fn gate(&mut self, at: Site, gate: &TapeRows, up: &TapeRows, kind: Gate) -> TapeRows {
        let value = self.exact.gate(at, &gate.value, &up.value, kind);
        let values = (gate.value.clone(), up.value.clone());
        self.record(value, Op::Gate { gate: gate.node, up: up.node, values, kind })
    }

    fn add(&mut self, at: Site, stream: &TapeRows, update: &TapeRows) -> TapeRows {
        let value = self.exact.add(at, &stream.value, &update.value);
        self.record(value, Op::Add { stream: stream.node, update: update.node })
    }

    fn logits(&mut self, at: Site, x: &TapeRows, head: &Float) -> TapeRows {
        let value = self.exact.logits(at, &x.value, head);
        self.record(value, Op::Logits { x: x.node })
    }

    /// The gradient is that of the floats that the codes stand for.
    fn coded_logits(&mut self, at: Site, x: &TapePrepared, head: &Linear) -> TapeRows {
        let value = self.exact.coded_logits(at, &x.prepared, head);
        self.record(value, Op::Logits { x: x.node })
    }

    fn count(&self, x: &TapeRows) -> usize {
        x.value.nrows()
    }

    fn select(&self, x: &TapeRows, rows: Range<usize>) -> TapeRows {
        let value = self.exact.select(&x.value, rows.clone());
        self.record(value, Op::Select { x: x.node, of: x.value.nrows(), rows })
    }

    fn reshape(&self, x: TapeRows, width: usize) -> TapeRows {
        let old = x.value.ncols();
        self.record(self.exact.reshape(x.value, width), Op::Reshape { x: x.node, width: old })
    }

    fn stack(&self, above: &TapeRows, below: &TapeRows) -> TapeRows {
        let value = self.exact.stack(&above.value, &below.value);
        let split = above.value.nrows();
        self.record(value, Op::Stack { above: above.node, below: below.node, split })
    }

    fn replace_column(&self, x: &mut TapeRows, index: usize, column: &TapeRows) {
        let mut value = x.value.clone();
        self.exact.replace_column(&mut value, index, &column.value);
        let width = column.value.ncols();
        let op = Op::ReplaceColumn { x: x.node, column: column.node, index, width };
        *x = self.record(value, op);
    }
}

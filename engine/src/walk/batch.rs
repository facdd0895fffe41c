//! Several sequences, one token of each at a time: the weights are read once for all of them.
//!
//! Invariant: a row's bits are those of its sequence alone, since every step but attention works
//! row by row, and attention reads the row's own store.

use std::ops::Range;

use ndarray::{Array2, Axis};
use rayon::prelude::*;

use super::exact::{Exact, ExactPrepared, LayerCache};
use super::{Domain, Site};
use crate::model::{Activations, Float, Gate, Linear, Norm, Rope};

/// Sequences that go on together: row `i` is the next token of sequence `i`.
///
/// A walk over it starts at layer 0 with a row for each sequence and reads all rows; the position
/// of a row is the number of tokens that its sequence holds.
#[derive(Clone, Debug)]
pub struct Batch {
    steps: Exact,
    sequences: Vec<Exact>,
}

impl Batch {
    /// Goes on from the states of sequences of one model.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn of(sequences: Vec<Exact>) -> Self {
        let mut steps = sequences.first().expect("a sequence").clone();
        steps.caches = Vec::new();
        Self { steps, sequences }
    }

    /// The states of the sequences.
    #[must_use]
    pub fn into_sequences(self) -> Vec<Exact> {
        self.sequences
    }

    fn cache(&mut self, sequence: usize, layer: usize) -> &mut LayerCache {
        &mut self.sequences[sequence].caches[layer]
    }
}

impl Domain for Batch {
    type Rows = Array2<f32>;
    type Prepared = ExactPrepared;

    fn norm(&mut self, at: Site, x: &Array2<f32>, norm: &Norm) -> Array2<f32> {
        self.steps.norm(at, x, norm)
    }

    fn prepare(&mut self, at: Site, x: &Array2<f32>, policy: Activations) -> ExactPrepared {
        self.steps.prepare(at, x, policy)
    }

    fn linear(&mut self, at: Site, x: &ExactPrepared, linear: &Linear) -> Array2<f32> {
        self.steps.linear(at, x, linear)
    }

    fn rope(&mut self, at: Site, mut x: Array2<f32>, rope: &Rope, _: usize) -> Array2<f32> {
        assert_eq!(x.nrows(), self.sequences.len(), "a token for each sequence");
        for (index, mut row) in x.rows_mut().into_iter().enumerate() {
            let position = self.cache(index, at.layer).keys.tokens();
            rope.turn_row(row.as_slice_mut().expect("a standard row"), position);
        }
        x
    }

    fn store(&mut self, at: Site, keys: Array2<f32>, values: Array2<f32>) {
        for (index, (key, value)) in keys.rows().into_iter().zip(values.rows()).enumerate() {
            let cache = self.cache(index, at.layer);
            cache.keys.push(key.as_slice().expect("a standard row"));
            cache.values.push(value.as_slice().expect("a standard row"));
        }
    }

    fn attend(&mut self, at: Site, queries: &Array2<f32>, _: usize) -> Array2<f32> {
        let mut mixed = Array2::zeros(queries.raw_dim());
        let rows = mixed.axis_chunks_iter_mut(Axis(0), 1).zip(queries.axis_chunks_iter(Axis(0), 1));
        let rows: Vec<_> = rows.zip(&mut self.sequences).collect();
        rows.into_par_iter().for_each(|((mut mixed, query), sequence)| {
            let last = sequence.caches[at.layer].keys.tokens() - 1;
            mixed.assign(&sequence.attend(at, &query.to_owned(), last));
        });
        mixed
    }

    fn gate(&mut self, at: Site, gate: &Array2<f32>, up: &Array2<f32>, kind: Gate) -> Array2<f32> {
        self.steps.gate(at, gate, up, kind)
    }

    fn add(&mut self, at: Site, stream: &Array2<f32>, update: &Array2<f32>) -> Array2<f32> {
        self.steps.add(at, stream, update)
    }

    fn logits(&mut self, at: Site, x: &Array2<f32>, head: &Float) -> Array2<f32> {
        self.steps.logits(at, x, head)
    }

    fn coded_logits(&mut self, at: Site, x: &ExactPrepared, head: &Linear) -> Array2<f32> {
        self.steps.coded_logits(at, x, head)
    }

    fn discard(&mut self, rows: Array2<f32>) {
        self.steps.discard(rows);
    }

    fn count(&self, x: &Array2<f32>) -> usize {
        self.steps.count(x)
    }

    fn select(&self, x: &Array2<f32>, rows: Range<usize>) -> Array2<f32> {
        self.steps.select(x, rows)
    }

    fn reshape(&self, x: Array2<f32>, width: usize) -> Array2<f32> {
        self.steps.reshape(x, width)
    }

    fn stack(&self, above: &Array2<f32>, below: &Array2<f32>) -> Array2<f32> {
        self.steps.stack(above, below)
    }

    fn replace_column(&self, x: &mut Array2<f32>, index: usize, column: &Array2<f32>) {
        self.steps.replace_column(x, index, column);
    }
}

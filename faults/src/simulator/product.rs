//! What trials share, and what a fault changes in the sums of a linear layer.
//!
//! Invariant: they are the engine's own kernels in the order of the walk, on whichever rows are
//! carried; a row's bits do not depend on which other rows stand beside it.

use std::ops::Range;

use engine::kernels::{GROUP_ROWS, Kernels, LANES};
use engine::model::{Linear, Model, Norm, Scale, Slot, Weights};
use engine::numerics::Levels;
use engine::packing::TernaryRows;
use engine::walk::{Codes, Read, scaled};

use super::Shortcuts;
use super::job::{Change, Job};
use super::rows::span;
use super::trace::{LayerTrace, Trace};
use crate::golden::Golden;

/// What all trials share.
#[derive(Clone, Copy)]
pub(super) struct Clean<'a> {
    pub(super) model: &'a Model,
    pub(super) kernels: &'static Kernels,
    pub(super) golden: &'a Golden,
    pub(super) trace: &'a Trace,
    pub(super) shortcuts: Shortcuts,
}

/// A sum that the clean weights give otherwise than the faulty ones.
#[derive(Clone, Copy, Debug)]
pub(super) struct Adjust {
    /// The row among those of the product.
    pub(super) row: usize,
    pub(super) output: usize,
    sum: Sum,
}

impl Adjust {
    /// In the order of [`Self::among`].
    fn order(&self) -> (usize, usize) {
        (self.output / LANES, self.row)
    }

    /// Those of a row and a block of outputs among sorted ones.
    pub(super) fn among(all: &[Self], block: usize, row: usize) -> &[Self] {
        if all.is_empty() {
            return all;
        }
        let from = all.partition_point(|adjust| adjust.order() < (block, row));
        let to = all.partition_point(|adjust| adjust.order() <= (block, row));
        &all[from..to]
    }

    /// Changes the sum.
    pub(super) fn to(&self, sum: &mut i32) {
        *sum = match self.sum {
            Sum::Add(delta) => *sum + delta,
            Sum::Set(value) => value,
        };
    }
}

#[derive(Clone, Copy, Debug)]
enum Sum {
    Add(i32),
    Set(i32),
}

/// An output that a fault changes, with its sum for each token of a span on the clean rows.
#[derive(Debug)]
pub(super) struct Struck {
    pub(super) output: usize,
    pub(super) sums: Vec<i32>,
}

/// The clean rows that a trial's weights pull into a linear layer, since its output differs there.
#[derive(Debug)]
pub(super) struct Joins {
    pub(super) struck: Vec<Struck>,
    /// The rows, by their number within the span.
    pub(super) places: Vec<usize>,
    /// The token at which the span begins.
    pub(super) first: usize,
}

/// Buffers of the steps of this file.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    pub(super) normed: [Vec<f32>; 2],
    /// Sums of rows that are multiplied whole.
    pub(super) some: Vec<i32>,
}

impl<'a> Clean<'a> {
    /// Tokens of the sample.
    pub(super) fn tokens(&self) -> usize {
        self.golden.streams[0].nrows()
    }

    /// Whether two rows hold the same bits. All NaN count as one, as where whole runs are compared.
    pub(super) fn same(&self, a: &[f32], b: &[f32]) -> bool {
        (self.kernels.rows.same)(a, b)
    }

    /// The clean stream that enters a layer, at one token.
    pub(super) fn stream(&self, layer: usize, token: usize) -> &'a [f32] {
        let width = self.model.config.hidden;
        let rows = self.golden.streams[layer].as_slice().expect("standard rows");
        &rows[token * width..(token + 1) * width]
    }

    pub(super) fn layer(&self, layer: usize) -> &'a LayerTrace {
        &self.trace.layers[layer]
    }

    /// Whether a row of a trial may be dropped where it is clean: within a layer, or at its end.
    pub(super) fn may_drop(&self, job: &Job, layer: usize, end: bool) -> bool {
        let last = job.last_layer();
        let settled = self.shortcuts.late_start || last < layer || (end && last == layer);
        self.shortcuts.checks() && settled
    }

    /// The tokens whose outputs of a linear layer count: in the last layer, where only the last
    /// position is read, keys and values of all tokens and the rest of the last alone.
    pub(super) fn span(&self, layer: usize, slot: Slot) -> Range<usize> {
        let tokens = self.tokens();
        let last = layer + 1 == self.model.layers.len();
        let narrow = last && self.golden.read == Read::Last && !matches!(slot, Slot::K | Slot::V);
        if narrow { tokens - 1..tokens } else { 0..tokens }
    }

    /// The codes and the scale of a linear layer.
    pub(super) fn ternary(&self, layer: usize, slot: Slot) -> (&'a TernaryRows, Scale) {
        ternary(self.model.layers[layer].linear(slot))
    }

    /// What the codes that a linear layer reads are among.
    pub(super) fn levels(&self, layer: usize, slot: Slot) -> Levels {
        let policy = self.model.layers[layer].linear(slot).activations;
        policy.levels().expect("a traced model reads codes throughout")
    }

    /// The norms before a linear layer: that of the block, and its own.
    pub(super) fn norms(&self, layer: usize, slot: Slot) -> [Option<&'a Norm>; 2] {
        let block = &self.model.layers[layer];
        let outer = match slot {
            Slot::Q | Slot::K | Slot::V => Some(&block.input_norm),
            Slot::O => block.attention_sub_norm.as_ref(),
            Slot::Gate | Slot::Up => Some(&block.post_norm),
            Slot::Down => block.ffn_sub_norm.as_ref(),
        };
        [outer, block.linear(slot).norm.as_ref()]
    }

    /// The values of the sums of a block; see [`engine::kernels::Rescale`].
    pub(super) fn values(
        &self,
        scale: Scale,
        sums: &[i32],
        scales: &[f32],
        out: &mut [f32],
        stride: usize,
    ) {
        match scale {
            Scale::Multiply(ws) => (self.kernels.multiply)(sums, scales, ws, out, stride),
            Scale::Divide(ws) => (self.kernels.divide)(sums, scales, ws, out, stride),
        }
    }

    /// The clean output of a linear layer for a token.
    pub(super) fn clean_row(&self, layer: usize, slot: Slot, token: usize, out: &mut [f32]) {
        let (rows, scale) = self.ternary(layer, slot);
        let (trace, tokens) = (self.layer(layer), self.tokens());
        let t = &trace.codes(slot).scales[token..=token];
        for (block, out) in out[..rows.rows()].chunks_mut(LANES).enumerate() {
            self.values(scale, trace.sums(slot, tokens, token, block), t, out, LANES);
        }
    }

    /// The value of one sum on the clean row of a token.
    pub(super) fn value(&self, layer: usize, slot: Slot, token: usize, sum: i32) -> f32 {
        let t = self.layer(layer).codes(slot).scales[token];
        scaled(sum, t, self.ternary(layer, slot).1)
    }

    /// What the weights of some trials change in a product over carried rows, sorted.
    pub(super) fn adjusts(
        &self,
        (layer, slot): (usize, Slot),
        jobs: &[&Job],
        owners: &[u32],
        codes: &Codes,
    ) -> Vec<Adjust> {
        let mut adjusts = Vec::new();
        for (owner, job) in jobs.iter().enumerate() {
            for changes in job.at(layer, slot) {
                let (output, rows) = (changes[0].row, span(owners, owner));
                if self.shortcuts.rank_one {
                    let add = |row| Sum::Add(delta(changes, codes, self.padded(layer, slot), row));
                    adjusts.extend(rows.map(|row| Adjust { row, output, sum: add(row) }));
                } else if !rows.is_empty() {
                    let sums = self.row_product(layer, slot, changes, codes, rows.clone());
                    let set = rows.zip(sums);
                    adjusts.extend(set.map(|(row, s)| Adjust { row, output, sum: Sum::Set(s) }));
                }
            }
        }
        adjusts.sort_by_key(Adjust::order);
        adjusts
    }

    /// The outputs that a trial changes, with their sums on the clean rows of the span.
    pub(super) fn struck(&self, layer: usize, slot: Slot, job: &Job) -> Vec<Struck> {
        let (trace, tokens, span) = (self.layer(layer), self.tokens(), self.span(layer, slot));
        let one = |changes: &[Change]| {
            let (output, codes) = (changes[0].row, trace.codes(slot));
            let sums = if self.shortcuts.rank_one {
                let padded = self.padded(layer, slot);
                let sum = |t| trace.sum(slot, tokens, t, output) + delta(changes, codes, padded, t);
                span.clone().map(sum).collect()
            } else {
                self.row_product(layer, slot, changes, codes, span.clone())
            };
            Struck { output, sums }
        };
        job.at(layer, slot).map(one).collect()
    }

    /// Which clean rows a trial pulls into a linear layer; `carried` tells the tokens that are
    /// there already.
    pub(super) fn joins(
        &self,
        layer: usize,
        slot: Slot,
        job: &Job,
        carried: impl Fn(usize) -> bool,
    ) -> Joins {
        let struck = self.struck(layer, slot, job);
        let (trace, tokens, span) = (self.layer(layer), self.tokens(), self.span(layer, slot));
        let first = span.start;
        let differs = |place: usize| {
            let clean = |output| trace.sum(slot, tokens, first + place, output);
            struck.iter().any(|one| one.sums[place] != clean(one.output))
        };
        let all = !self.shortcuts.rows;
        let joins = |&place: &usize| !carried(first + place) && (all || differs(place));
        let count = if struck.is_empty() { 0 } else { span.len() };
        Joins { places: (0..count).filter(joins).collect(), struck, first }
    }

    fn padded(&self, layer: usize, slot: Slot) -> usize {
        self.ternary(layer, slot).0.padded_columns()
    }

    /// The sums of a changed output over some rows, weight by weight.
    fn row_product(
        &self,
        layer: usize,
        slot: Slot,
        changes: &[Change],
        codes: &Codes,
        rows: Range<usize>,
    ) -> Vec<i32> {
        let linear = self.model.layers[layer].linear(slot);
        let mut weights = ternary(linear).0.row(changes[0].row);
        for change in changes {
            let code = &mut weights[change.column];
            *code = (i32::from(*code) + change.delta) as u8;
        }
        let one = TernaryRows::single(&weights);
        let padded = one.padded_columns();
        let sums = one.product(self.kernels, &codes.q[rows.start * padded..rows.end * padded]);
        sums.into_iter().step_by(GROUP_ROWS).collect()
    }
}

/// By how much the sum of an output changes on a row.
pub(super) fn delta(changes: &[Change], codes: &Codes, padded: usize, row: usize) -> i32 {
    let q = &codes.q[row * padded..(row + 1) * padded];
    changes.iter().map(|change| change.delta * i32::from(q[change.column])).sum()
}

/// The codes and the scale of a linear layer of a traced model.
fn ternary(linear: &Linear) -> (&TernaryRows, Scale) {
    match &linear.weights {
        Weights::Ternary { rows, scale, .. } => (rows, *scale),
        Weights::Coded(_) | Weights::Dense(_) => {
            unreachable!("a traced model is ternary throughout")
        }
    }
}

//! What a clean run left at every step: the checkpoints from which trials start within a layer.
//!
//! Invariant: everything here is recorded while the one walk runs, by a decorator of the numbers;
//! nothing is computed in an order of its own.

use std::mem;
use std::ops::Range;
use std::sync::Arc;

use engine::kernels::{Kernels, LANES};
use engine::model::{Activations, Float, Gate, Layer, Linear, Model, Norm, Rope, Slot, Weights};
use engine::packing::TernaryRows;
use engine::walk::{self, Codes, Domain, Exact, ExactPrepared, Read, Site, Step};
use ndarray::Array2;

use super::prepared::Columns;
use super::read_out::CleanReads;
use crate::golden::Golden;

/// The clean steps of one layer; rows are tokens.
#[derive(Debug, Default)]
pub(super) struct LayerTrace {
    /// What each linear layer read, by slot; layers that read the same rows share it.
    codes: [Option<Arc<Codes>>; 7],
    /// The integer sums of each linear layer, by slot, `[block][token][64]`.
    sums: [Vec<i32>; 7],
    /// Queries, turned to their positions.
    pub(super) queries: Vec<f32>,
    /// Keys as the store gives them back, `[head][token][dim]`.
    pub(super) keys: Vec<f32>,
    /// Values, likewise.
    pub(super) values: Vec<f32>,
    /// Attention, before its norm.
    pub(super) mixed: Vec<f32>,
    /// The stream between the two halves of the layer.
    pub(super) middle: Vec<f32>,
    /// Behind the gate, before its norm.
    pub(super) gated: Vec<f32>,
}

impl LayerTrace {
    /// What the linear layer at a slot read.
    pub(super) fn codes(&self, slot: Slot) -> &Codes {
        self.codes[slot as usize].as_ref().expect("a recorded layer")
    }

    /// Whether two linear layers read the same rows.
    pub(super) fn shares(&self, a: Slot, b: Slot) -> bool {
        let of = |slot: Slot| self.codes[slot as usize].as_ref().map(Arc::as_ptr);
        of(a) == of(b)
    }

    /// The clean sum of one output for one token among `tokens`.
    pub(super) fn sum(&self, slot: Slot, tokens: usize, token: usize, output: usize) -> i32 {
        self.sums(slot, tokens, token, output / LANES)[output % LANES]
    }

    /// The clean sums of a block of outputs for one token among `tokens`.
    pub(super) fn sums(&self, slot: Slot, tokens: usize, token: usize, block: usize) -> &[i32] {
        let at = (block * tokens + token) * LANES;
        &self.sums[slot as usize][at..at + LANES]
    }

    /// Bytes held.
    fn bytes(&self) -> usize {
        let floats = [&self.queries, &self.keys, &self.values, &self.mixed, &self.middle];
        let floats: usize = floats.into_iter().chain([&self.gated]).map(Vec::len).sum();
        let sums: usize = self.sums.iter().map(Vec::len).sum();
        let codes = Slot::ALL.into_iter().filter(|&slot| {
            !Slot::ALL.into_iter().take(slot as usize).any(|other| self.shares(other, slot))
        });
        4 * (floats + sums) + codes.map(|slot| self.codes(slot).q.len()).sum::<usize>()
    }
}

/// The clean steps of a run.
#[derive(Debug)]
pub(crate) struct Trace {
    pub(super) layers: Vec<LayerTrace>,
    pub(super) reads: CleanReads,
    pub(super) columns: Columns,
}

impl Trace {
    /// Walks the clean layers again and keeps their steps; `None` where a linear layer is not made
    /// of ternary weights under integer activations, where queries or keys are normed, or where the
    /// head is coded: such steps are not followed here.
    pub(crate) fn new(model: &Model, kernels: &'static Kernels, golden: &Golden) -> Option<Self> {
        let integer = |linear: &Linear| {
            matches!(linear.weights, Weights::Ternary { .. })
                && linear.activations.levels().is_some()
        };
        let plain = |layer: &Layer| {
            let norms = [&layer.query_norm, &layer.key_norm];
            layer.linears.iter().all(integer) && norms.iter().all(|norm| norm.is_none())
        };
        if model.coded_head.is_some() || !model.layers.iter().all(plain) {
            return None;
        }
        let inner = Exact::new(kernels, model, golden.kv);
        let mut recorder = Recorder { inner, layer: LayerTrace::default(), last: None };
        let layers: Vec<LayerTrace> = (0..model.layers.len())
            .map(|index| {
                let x = &golden.streams[index];
                walk::layer(&mut recorder, model, index, x, 0, Read::All);
                recorder.take(index, model.config.kv_heads, x.nrows())
            })
            .collect();
        let reads = CleanReads::new(model, kernels, golden);
        let columns = Columns::new(model, |layer| layers[layer].shares(Slot::Gate, Slot::Up));
        Some(Self { layers, reads, columns })
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        let layers: usize = self.layers.iter().map(LayerTrace::bytes).sum();
        layers + self.reads.bytes() + self.columns.bytes()
    }
}

/// Numbers that are written down as they come.
struct Recorder {
    inner: Exact,
    layer: LayerTrace,
    last: Option<Arc<Codes>>,
}

impl Recorder {
    fn take(&mut self, index: usize, heads: usize, tokens: usize) -> LayerTrace {
        let cache = &self.inner.caches[index];
        let mut buffer = Vec::new();
        for head in 0..heads {
            self.layer.keys.extend_from_slice(cache.keys.read(head, tokens, &mut buffer));
            self.layer.values.extend_from_slice(cache.values.read(head, tokens, &mut buffer));
        }
        mem::take(&mut self.layer)
    }
}

fn flat(x: &Array2<f32>) -> Vec<f32> {
    x.iter().copied().collect()
}

impl Domain for Recorder {
    type Rows = Array2<f32>;
    type Prepared = ExactPrepared;

    fn norm(&mut self, at: Site, x: &Array2<f32>, norm: &Norm) -> Array2<f32> {
        self.inner.norm(at, x, norm)
    }

    fn prepare(&mut self, at: Site, x: &Array2<f32>, policy: Activations) -> ExactPrepared {
        let prepared = self.inner.prepare(at, x, policy);
        self.last = match &prepared {
            ExactPrepared::Codes(codes) => Some(Arc::new(codes.clone())),
            ExactPrepared::Values(_) => None,
        };
        prepared
    }

    fn linear(&mut self, at: Site, x: &ExactPrepared, linear: &Linear) -> Array2<f32> {
        if let (Step::Linear(slot), Weights::Ternary { rows, .. }) = (at.step, &linear.weights) {
            let codes = self.last.clone().expect("int8 rows");
            let sums = rows.product(self.inner.kernels, &codes.q);
            let tokens = codes.scales.len();
            let mut blocks = vec![0; rows.rows().div_ceil(LANES) * tokens * LANES];
            for output in 0..rows.rows() {
                for token in 0..tokens {
                    let at = (output / LANES * tokens + token) * LANES + output % LANES;
                    blocks[at] = sums[TernaryRows::at(tokens, token, output)];
                }
            }
            self.layer.sums[slot as usize] = blocks;
            self.layer.codes[slot as usize] = Some(codes);
        }
        self.inner.linear(at, x, linear)
    }

    fn rope(&mut self, at: Site, x: Array2<f32>, rope: &Rope, first: usize) -> Array2<f32> {
        let turned = self.inner.rope(at, x, rope, first);
        if at.step == Step::Rope(Slot::Q) {
            self.layer.queries = flat(&turned);
        }
        turned
    }

    fn store(&mut self, at: Site, keys: Array2<f32>, values: Array2<f32>) {
        self.inner.store(at, keys, values);
    }

    fn attend(&mut self, at: Site, queries: &Array2<f32>, first: usize) -> Array2<f32> {
        let mixed = self.inner.attend(at, queries, first);
        self.layer.mixed = flat(&mixed);
        mixed
    }

    fn gate(&mut self, at: Site, gate: &Array2<f32>, up: &Array2<f32>, kind: Gate) -> Array2<f32> {
        let gated = self.inner.gate(at, gate, up, kind);
        self.layer.gated = flat(&gated);
        gated
    }

    fn add(&mut self, at: Site, stream: &Array2<f32>, update: &Array2<f32>) -> Array2<f32> {
        let sum = self.inner.add(at, stream, update);
        if at.step == Step::AddAttention {
            self.layer.middle = flat(&sum);
        }
        sum
    }

    fn logits(&mut self, at: Site, x: &Array2<f32>, head: &Float) -> Array2<f32> {
        self.inner.logits(at, x, head)
    }

    fn coded_logits(&mut self, at: Site, x: &ExactPrepared, head: &Linear) -> Array2<f32> {
        self.inner.coded_logits(at, x, head)
    }

    fn count(&self, x: &Array2<f32>) -> usize {
        self.inner.count(x)
    }

    fn select(&self, x: &Array2<f32>, rows: Range<usize>) -> Array2<f32> {
        self.inner.select(x, rows)
    }

    fn reshape(&self, x: Array2<f32>, width: usize) -> Array2<f32> {
        self.inner.reshape(x, width)
    }

    fn stack(&self, above: &Array2<f32>, below: &Array2<f32>) -> Array2<f32> {
        self.inner.stack(above, below)
    }

    fn replace_column(&self, x: &mut Array2<f32>, index: usize, column: &Array2<f32>) {
        self.inner.replace_column(x, index, column);
    }
}

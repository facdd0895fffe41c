//! The domain of numbers: what the deployed model computes.

use std::ops::Range;

use ndarray::{Array2, Axis, concatenate, s};
use rayon::prelude::*;

use super::attention::Attention;
use super::spare::Spare;
use super::{Domain, Read, Site, wave};
use crate::kernels::{BLOCK_COLUMNS, Kernels};
use crate::model::{
    Activations, Coded, Float, Gate, KvKind, KvStore, Linear, Model, Norm, Rope, Scale, Weights,
};
use crate::numerics::{self, Levels};
use crate::packing::{RUN_ROWS, TernaryRows, weight_of};

/// Outputs of a float product that are computed behind one another.
const RUN: usize = 32;
/// Outputs of integers under scales of groups, likewise: whole groups of packed rows.
const CODED_RUN: usize = 192;
/// Below this many float operations a step runs on the calling thread.
pub(super) const PARALLEL_WORK: usize = 1 << 18;

/// The keys and values of one layer.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerCache {
    /// Keys, turned to their positions.
    pub keys: KvStore,
    /// Values.
    pub values: KvStore,
}

/// The domain of numbers with its key-value store.
#[derive(Clone, Debug)]
pub struct Exact {
    /// The kernel table in use.
    pub kernels: &'static Kernels,
    /// One store a layer.
    pub caches: Vec<LayerCache>,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    spare: Spare<f32>,
}

/// Rows as the linear layers read them.
#[derive(Clone, Debug)]
pub enum ExactPrepared {
    /// Under no policy: the values.
    Values(Array2<f32>),
    /// Under integer codes: these, padded to whole blocks, and the scale of each row.
    Codes(Codes),
}

/// The integer codes of rows.
#[derive(Clone, Debug)]
pub struct Codes {
    /// `[tokens, padded columns]`, row-major.
    pub q: Vec<i8>,
    /// The quantisation scale `t` of each row.
    pub scales: Vec<f32>,
}

impl Exact {
    /// An empty state for a model.
    #[must_use]
    pub fn new(kernels: &'static Kernels, model: &Model, kv: KvKind) -> Self {
        let config = &model.config;
        let store = KvStore::new(kv, config.kv_heads, config.head_dim);
        let cache = LayerCache { keys: store.clone(), values: store };
        Self {
            kernels,
            caches: vec![cache; model.layers.len()],
            heads: config.heads,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            spare: Spare::default(),
        }
    }

    /// An empty state of the same model.
    pub(super) fn beside(&self) -> Self {
        let kind = self.caches.first().map_or(KvKind::F32, |cache| cache.keys.kind());
        let store = KvStore::new(kind, self.kv_heads, self.head_dim);
        let caches = vec![LayerCache { keys: store.clone(), values: store }; self.caches.len()];
        Self { caches, spare: Spare::default(), ..*self }
    }

    /// Forgets all tokens.
    pub fn clear(&mut self) {
        for cache in &mut self.caches {
            cache.keys.clear();
            cache.values.clear();
        }
    }
}

/// Applies `f` to every pair of rows, in parallel where the work is worth it.
fn rows_mut(x: &mut Array2<f32>, work: usize, f: impl Fn(usize, &mut [f32]) + Sync) {
    let width = x.ncols();
    let data = x.as_slice_mut().expect("standard rows");
    if work < PARALLEL_WORK {
        data.chunks_exact_mut(width).enumerate().for_each(|(i, row)| f(i, row));
    } else {
        data.par_chunks_exact_mut(width).enumerate().for_each(|(i, row)| f(i, row));
    }
}

fn row(x: &Array2<f32>, index: usize) -> &[f32] {
    let width = x.ncols();
    &x.as_slice().expect("standard rows")[index * width..(index + 1) * width]
}

/// Writes the codes of a row, at the beginning of `codes`, and returns their scale.
pub fn quantize_row(kernels: &Kernels, levels: Levels, x: &[f32], codes: &mut [i8]) -> f32 {
    let t = levels.scale((kernels.absmax)(x));
    let codes = &mut codes[..x.len()];
    (kernels.codes)(x, t, codes);
    levels.narrow(codes);
    t
}

/// The result of an exact integer product under the scales of a row and a tensor.
#[must_use]
#[inline(always)]
pub fn scaled(sum: i32, t: f32, scale: Scale) -> f32 {
    match scale {
        Scale::Divide(ws) => numerics::divided(sum, t, ws),
        Scale::Multiply(ws) => numerics::multiplied(sum, t, ws),
    }
}

impl Exact {
    /// Ternary weights on int8 rows, run by run of outputs.
    fn ternary(&mut self, codes: &Codes, rows: &TernaryRows, scale: Scale) -> Array2<f32> {
        let tokens = codes.scales.len();
        let (rescale, ws) = match scale {
            Scale::Multiply(ws) => (self.kernels.multiply_groups, ws),
            Scale::Divide(ws) => (self.kernels.divide_groups, ws),
        };
        let mut out = self.spare.rows((tokens, rows.rows()));
        // What each run of outputs writes: its part of every row.
        let mut runs: Vec<Vec<&mut [f32]>> = Vec::new();
        runs.resize_with(rows.rows().div_ceil(RUN_ROWS), || Vec::with_capacity(tokens));
        for row in out.as_slice_mut().expect("standard rows").chunks_exact_mut(rows.rows()) {
            for (run, part) in runs.iter_mut().zip(row.chunks_mut(RUN_ROWS)) {
                run.push(part);
            }
        }
        rows.product_by_run(self.kernels, &codes.q, runs, |sums, mut outs| {
            rescale(sums, &codes.scales, ws, &mut outs);
        });
        out
    }

    /// Integer weights under scales of rows or groups, on integer rows.
    fn coded(&self, codes: &Codes, coded: &Coded) -> Array2<f32> {
        let (rows, Codes { q, scales }) = (coded.rows(), codes);
        by_output((scales.len(), rows.columns()), (rows.rows(), CODED_RUN), |first, out| {
            coded.values(self.kernels, (q, scales), first, out);
        })
    }

    /// Ternary weights on unquantised rows: `dot16`, then the scale.
    fn float_ternary(&self, x: &Array2<f32>, rows: &TernaryRows, scale: Scale) -> Array2<f32> {
        by_output(x.dim(), (rows.rows(), RUN), |first, out| {
            let mut codes = vec![0; rows.columns()];
            let mut weights = vec![0.0; rows.columns()];
            for (index, dots) in out.chunks_exact_mut(x.nrows()).enumerate() {
                rows.read_row(first + index, &mut codes);
                weights.iter_mut().zip(&codes).for_each(|(w, &c)| *w = weight_of(c) as f32);
                (self.kernels.dot_rows)(&weights, x.as_slice().expect("standard rows"), dots);
                for dot in dots {
                    *dot = match scale {
                        Scale::Divide(ws) => *dot / ws,
                        Scale::Multiply(ws) => *dot * ws,
                    };
                }
            }
        })
    }

    /// Float weights on unquantised rows.
    fn dense(&self, x: &Array2<f32>, weights: &Float) -> Array2<f32> {
        by_output(x.dim(), (weights.rows(), RUN), |first, dots| {
            weights.dots(self.kernels, x.view(), first, dots);
        })
    }

    /// The codes of rows.
    fn codes(&self, x: &Array2<f32>, levels: Levels) -> Codes {
        let padded = x.ncols().div_ceil(BLOCK_COLUMNS) * BLOCK_COLUMNS;
        let mut q = vec![0i8; x.nrows() * padded];
        let quantise =
            |(index, q): (usize, &mut [i8])| quantize_row(self.kernels, levels, row(x, index), q);
        let scales = if x.len() < PARALLEL_WORK {
            q.chunks_exact_mut(padded).enumerate().map(quantise).collect()
        } else {
            q.par_chunks_exact_mut(padded).enumerate().map(quantise).collect()
        };
        Codes { q, scales }
    }
}

/// Computes outputs in runs of so many (`f(first, [output][token])`), then turns them to rows of
/// tokens.
fn by_output(
    (tokens, inputs): (usize, usize),
    (outputs, run): (usize, usize),
    f: impl Fn(usize, &mut [f32]) + Sync,
) -> Array2<f32> {
    let mut columns = Array2::zeros((outputs, tokens));
    let data = columns.as_slice_mut().expect("standard rows");
    let one = |(index, out): (usize, &mut [f32])| f(index * run, out);
    if outputs * tokens * inputs < PARALLEL_WORK {
        data.chunks_mut(run * tokens).enumerate().for_each(one);
    } else {
        data.par_chunks_mut(run * tokens).enumerate().for_each(one);
    }
    columns.reversed_axes().as_standard_layout().into_owned()
}

impl Domain for Exact {
    type Rows = Array2<f32>;
    type Prepared = ExactPrepared;

    fn norm(&mut self, _: Site, x: &Array2<f32>, norm: &Norm) -> Array2<f32> {
        let mut y = self.spare.rows(x.dim());
        let kernel = self.kernels.rms_norm;
        rows_mut(&mut y, x.len(), |i, y| kernel(row(x, i), &norm.gains, norm.eps, y));
        y
    }

    fn prepare(&mut self, _: Site, x: &Array2<f32>, policy: Activations) -> ExactPrepared {
        match policy.levels() {
            None => ExactPrepared::Values(x.clone()),
            Some(levels) => ExactPrepared::Codes(self.codes(x, levels)),
        }
    }

    fn linear(&mut self, _: Site, x: &ExactPrepared, linear: &Linear) -> Array2<f32> {
        match (&linear.weights, x) {
            (Weights::Ternary { rows, scale, .. }, ExactPrepared::Codes(codes)) => {
                self.ternary(codes, rows, *scale)
            }
            (Weights::Ternary { rows, scale, .. }, ExactPrepared::Values(x)) => {
                self.float_ternary(x, rows, *scale)
            }
            (Weights::Coded(coded), ExactPrepared::Codes(codes)) => self.coded(codes, coded),
            (Weights::Dense(float), ExactPrepared::Values(x)) => self.dense(x, float),
            (Weights::Coded(_), ExactPrepared::Values(_)) => {
                unreachable!("integer weights read codes")
            }
            (Weights::Dense(_), ExactPrepared::Codes(_)) => {
                unreachable!("float weights read the values of their input")
            }
        }
    }

    fn rope(&mut self, _: Site, mut x: Array2<f32>, rope: &Rope, first: usize) -> Array2<f32> {
        let work = x.len();
        rows_mut(&mut x, work, |i, row| rope.turn_row(row, first + i));
        x
    }

    fn store(&mut self, at: Site, keys: Array2<f32>, values: Array2<f32>) {
        let cache = &mut self.caches[at.layer];
        for index in 0..keys.nrows() {
            cache.keys.push(row(&keys, index));
            cache.values.push(row(&values, index));
        }
    }

    fn attend(&mut self, at: Site, queries: &Array2<f32>, first: usize) -> Array2<f32> {
        let attention = Attention {
            kernels: self.kernels,
            cache: &self.caches[at.layer],
            kv_heads: self.kv_heads,
            group: self.heads / self.kv_heads,
            head_dim: self.head_dim,
            first,
        };
        let mut mixed = self.spare.rows(queries.dim());
        mixed.fill(0.0);
        attention.add_to(queries, &mut mixed);
        mixed
    }

    fn gate(&mut self, _: Site, gate: &Array2<f32>, up: &Array2<f32>, kind: Gate) -> Array2<f32> {
        let mut y = self.spare.rows(gate.dim());
        let kernel = match kind {
            Gate::Relu2 => self.kernels.relu2_gate,
            Gate::Silu => self.kernels.silu_gate,
        };
        rows_mut(&mut y, 8 * gate.len(), |i, y| kernel(row(gate, i), row(up, i), y));
        y
    }

    fn add(&mut self, _: Site, stream: &Array2<f32>, update: &Array2<f32>) -> Array2<f32> {
        let mut sum = self.spare.rows(stream.dim());
        ndarray::Zip::from(&mut sum).and(stream).and(update).for_each(|sum, a, b| *sum = a + b);
        sum
    }

    fn logits(&mut self, _: Site, x: &Array2<f32>, head: &Float) -> Array2<f32> {
        self.dense(x, head)
    }

    fn through(
        &mut self,
        model: &Model,
        x: &Array2<f32>,
        layers: Range<usize>,
        how: (usize, Read),
    ) -> Option<Array2<f32>> {
        wave::run(self, model, x, layers, how)
    }

    fn discard(&mut self, rows: Array2<f32>) {
        self.spare.keep(rows);
    }

    fn coded_logits(&mut self, at: Site, x: &ExactPrepared, head: &Linear) -> Array2<f32> {
        self.linear(at, x, head)
    }

    fn count(&self, x: &Array2<f32>) -> usize {
        x.nrows()
    }

    fn select(&self, x: &Array2<f32>, rows: Range<usize>) -> Array2<f32> {
        x.slice(s![rows, ..]).to_owned()
    }

    fn reshape(&self, x: Array2<f32>, width: usize) -> Array2<f32> {
        rows_of(x, width)
    }

    fn stack(&self, above: &Array2<f32>, below: &Array2<f32>) -> Array2<f32> {
        concatenate(Axis(0), &[above.view(), below.view()]).expect("rows of one width")
    }

    fn replace_column(&self, x: &mut Array2<f32>, index: usize, column: &Array2<f32>) {
        x.column_mut(index).assign(&column.column(0));
    }
}

/// The same values in rows of another width.
///
/// # Panics
/// Unless they are whole rows of it.
#[must_use]
pub fn rows_of(x: Array2<f32>, width: usize) -> Array2<f32> {
    let rows = x.len() / width;
    x.into_shape_with_order((rows, width)).expect("whole rows of another width")
}

/// The factor of attention scores: `d^-1/2`, rounded once to f32.
#[must_use]
pub fn score_scale(head_dim: usize) -> f32 {
    (1.0 / (head_dim as f64).sqrt()) as f32
}

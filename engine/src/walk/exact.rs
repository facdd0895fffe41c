//! The domain of numbers: what the deployed model computes.

use std::ops::Range;

use ndarray::{Array2, Axis, concatenate, s};
use rayon::prelude::*;

use super::{Domain, Site};
use crate::kernels::{BLOCK_COLUMNS, GROUP_ROWS, Kernels};
use crate::model::{
    Activations, Coded, Float, Gate, KvKind, KvStore, Linear, Model, Norm, Rope, Scale, Weights,
};
use crate::numerics::{self, Levels};
use crate::packing::{TernaryRows, weight_of};

/// Outputs of a float product that are computed behind one another.
const RUN: usize = 32;
/// Below this many float operations a step runs on the calling thread.
const PARALLEL_WORK: usize = 1 << 18;

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
}

/// Rows as the linear layers read them: values, and under int8 their codes.
#[derive(Clone, Debug)]
pub struct ExactPrepared {
    /// The values.
    pub values: Array2<f32>,
    /// Under integer codes: these, padded to whole blocks, and the scale of each row.
    pub codes: Option<Codes>,
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
        }
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
    fn ternary(&self, x: &ExactPrepared, rows: &TernaryRows, scale: Scale) -> Array2<f32> {
        let tokens = x.values.nrows();
        let mut out = Array2::zeros((tokens, rows.rows()));
        let Some(codes) = &x.codes else {
            return self.float_ternary(&x.values, rows, scale);
        };
        let sums = rows.product(self.kernels, &codes.q);
        rows_mut(&mut out, tokens * rows.rows(), |token, out| {
            for (group, out) in out.chunks_mut(GROUP_ROWS).enumerate() {
                let at = TernaryRows::at(tokens, token, group * GROUP_ROWS);
                for (value, &sum) in out.iter_mut().zip(&sums[at..at + GROUP_ROWS]) {
                    *value = scaled(sum, codes.scales[token], scale);
                }
            }
        });
        out
    }

    fn coded(&self, x: &ExactPrepared, coded: &Coded) -> Array2<f32> {
        let Codes { q, scales } = x.codes.as_ref().expect("integer weights read codes");
        self.by_output(&x.values, coded.rows().rows(), |first, out| {
            coded.values(self.kernels, (q, scales), first, out);
        })
    }

    /// Ternary weights on unquantised rows: `dot16`, then the scale.
    fn float_ternary(&self, x: &Array2<f32>, rows: &TernaryRows, scale: Scale) -> Array2<f32> {
        self.by_output(x, rows.rows(), |first, out| {
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

    /// Computes outputs in runs (`f(first, [output][token])`), then turns them to rows of tokens.
    fn by_output(
        &self,
        x: &Array2<f32>,
        outputs: usize,
        f: impl Fn(usize, &mut [f32]) + Sync,
    ) -> Array2<f32> {
        let mut columns = Array2::zeros((outputs, x.nrows()));
        let data = columns.as_slice_mut().expect("standard rows");
        let run = |(index, out): (usize, &mut [f32])| f(index * RUN, out);
        if outputs * x.len() < PARALLEL_WORK {
            data.chunks_mut(RUN * x.nrows()).enumerate().for_each(run);
        } else {
            data.par_chunks_mut(RUN * x.nrows()).enumerate().for_each(run);
        }
        columns.reversed_axes().as_standard_layout().into_owned()
    }
}

impl Domain for Exact {
    type Rows = Array2<f32>;
    type Prepared = ExactPrepared;

    fn norm(&mut self, _: Site, x: &Array2<f32>, norm: &Norm) -> Array2<f32> {
        let mut y = Array2::zeros(x.raw_dim());
        let kernel = self.kernels.rms_norm;
        rows_mut(&mut y, x.len(), |i, y| kernel(row(x, i), &norm.gains, norm.eps, y));
        y
    }

    fn prepare(&mut self, _: Site, x: &Array2<f32>, policy: Activations) -> ExactPrepared {
        let codes = policy.levels().map(|levels| {
            let padded = x.ncols().div_ceil(BLOCK_COLUMNS) * BLOCK_COLUMNS;
            let mut q = vec![0i8; x.nrows() * padded];
            let mut scales = Vec::with_capacity(x.nrows());
            for (index, q) in q.chunks_exact_mut(padded).enumerate() {
                scales.push(quantize_row(self.kernels, levels, row(x, index), q));
            }
            Codes { q, scales }
        });
        ExactPrepared { values: x.clone(), codes }
    }

    fn linear(&mut self, _: Site, x: &ExactPrepared, linear: &Linear) -> Array2<f32> {
        match &linear.weights {
            Weights::Ternary { rows, scale, .. } => self.ternary(x, rows, *scale),
            Weights::Coded(coded) => self.coded(x, coded),
            Weights::Dense(float) => self.by_output(&x.values, float.rows(), |first, dots| {
                float.dots(self.kernels, x.values.view(), first, dots);
            }),
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
        let cache = &self.caches[at.layer];
        let (d, group) = (self.head_dim, self.heads / self.kv_heads);
        let seen = first + queries.nrows();
        let scale = score_scale(d);
        let mut by_head = Array2::zeros((self.heads, queries.nrows() * d));
        let work = 2 * self.heads * queries.nrows() * seen * d;
        rows_mut(&mut by_head, work, |head, out| {
            let (mut keys, mut values) = (Vec::new(), Vec::new());
            cache.keys.read(head / group, seen, &mut keys);
            cache.values.read(head / group, seen, &mut values);
            let mut scores = vec![0.0; seen];
            for (i, out) in out.chunks_exact_mut(d).enumerate() {
                let tokens = first + i + 1;
                let query = &row(queries, i)[head * d..(head + 1) * d];
                let scores = &mut scores[..tokens];
                (self.kernels.dot_rows)(query, &keys[..tokens * d], scores);
                scores.iter_mut().for_each(|s| *s *= scale);
                (self.kernels.softmax)(scores);
                (self.kernels.weighted_sum)(scores, &values[..tokens * d], out);
            }
        });
        Array2::from_shape_fn((queries.nrows(), self.heads * d), |(i, column)| {
            by_head[[column / d, i * d + column % d]]
        })
    }

    fn gate(&mut self, _: Site, gate: &Array2<f32>, up: &Array2<f32>, kind: Gate) -> Array2<f32> {
        let mut y = Array2::zeros(gate.raw_dim());
        let kernel = match kind {
            Gate::Relu2 => self.kernels.relu2_gate,
            Gate::Silu => self.kernels.silu_gate,
        };
        rows_mut(&mut y, 8 * gate.len(), |i, y| kernel(row(gate, i), row(up, i), y));
        y
    }

    fn add(&mut self, _: Site, stream: &Array2<f32>, update: &Array2<f32>) -> Array2<f32> {
        stream + update
    }

    fn logits(&mut self, _: Site, x: &Array2<f32>, head: &Float) -> Array2<f32> {
        self.by_output(x, head.rows(), |first, dots| {
            head.dots(self.kernels, x.view(), first, dots);
        })
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

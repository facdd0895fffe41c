//! The vector-Jacobian product of each step: from the gradient of its result to its operands'.
//!
//! Formulas are the textbook derivatives of the programs in [`engine::numerics`], in f32. Sums run
//! in the fixed orders of the kernel table, so a gradient has the same bits on every machine.

use engine::kernels::Kernels;
use engine::model::{Gate, Norm};
use engine::numerics::{exp, inverse_rms, sum_squares};
use engine::walk::{LayerCache, score_scale};
use ndarray::Array2;
use rayon::prelude::*;

use super::weights::{BLOCK_ROWS, Matrix};

/// Below this many multiplications a product runs on the calling thread.
const PARALLEL_WORK: usize = 1 << 20;

fn row(x: &Array2<f32>, index: usize) -> &[f32] {
    let width = x.ncols();
    &x.as_slice().expect("standard rows")[index * width..(index + 1) * width]
}

fn rows_mut(x: &mut Array2<f32>) -> impl Iterator<Item = (usize, &mut [f32])> {
    let width = x.ncols();
    x.as_slice_mut().expect("standard rows").chunks_exact_mut(width).enumerate()
}

/// RMSNorm `y_k = g_k x_k r`: `dx_k = r g_k dy_k - x_k r^3 / n * sum_j g_j dy_j x_j`.
pub(super) fn norm(
    kernels: &Kernels,
    x: &Array2<f32>,
    norm: &Norm,
    dy: &Array2<f32>,
) -> Array2<f32> {
    let mut dx = Array2::zeros(x.raw_dim());
    for (index, dx) in rows_mut(&mut dx) {
        let (x, dy) = (row(x, index), row(dy, index));
        let r = inverse_rms(sum_squares(x), x.len(), norm.eps);
        for ((d, gain), dy) in dx.iter_mut().zip(norm.gains.iter()).zip(dy) {
            *d = gain * dy;
        }
        let common = (kernels.dot)(dx, x) * r * r / x.len() as f32;
        for (d, x) in dx.iter_mut().zip(x) {
            *d = r * (*d - x * common);
        }
    }
    dx
}

/// A linear layer `y = W x`: `dx = W^T dy`, summed over outputs in rising order.
///
/// Blocks of outputs whose gradients are all zero are left out: a read-out touches a few rows only.
pub(super) fn linear(kernels: &Kernels, weights: &Matrix<'_>, dy: &Array2<f32>) -> Array2<f32> {
    let (tokens, width, outputs) = (dy.nrows(), weights.inputs(), dy.ncols());
    let mut dx = Array2::zeros((tokens, width));
    for first in (0..outputs).step_by(BLOCK_ROWS) {
        let span = first..if outputs - first < BLOCK_ROWS { outputs } else { first + BLOCK_ROWS };
        if (0..tokens).all(|token| row(dy, token)[span.clone()].iter().all(|&d| d == 0.0)) {
            continue;
        }
        let rows = weights.rows(first, span.len());
        let add = |(token, dx): (usize, &mut [f32])| {
            (kernels.weighted_sum)(&row(dy, token)[span.clone()], &rows, dx);
        };
        if tokens * rows.len() < PARALLEL_WORK {
            rows_mut(&mut dx).for_each(add);
        } else {
            let data = dx.as_slice_mut().expect("standard rows");
            data.par_chunks_exact_mut(width).enumerate().for_each(add);
        }
    }
    dx
}

/// The rotation of every head back by its angle.
pub(super) fn rope(turns: &[Vec<(f32, f32)>], mut dy: Array2<f32>) -> Array2<f32> {
    for (index, dy) in rows_mut(&mut dy) {
        let table = &turns[index];
        for head in dy.chunks_exact_mut(2 * table.len()) {
            let (left, right) = head.split_at_mut(table.len());
            for ((a, b), &(c, s)) in left.iter_mut().zip(right).zip(table) {
                (*a, *b) = (*a * c + *b * s, *b * c - *a * s);
            }
        }
    }
    dy
}

/// What attention read: the stored keys and values of each key-value head, `[token][dim]`.
#[derive(Debug)]
pub(super) struct Memory {
    heads: Vec<(Vec<f32>, Vec<f32>)>,
    head_dim: usize,
    /// Query heads that read one key-value head.
    group: usize,
    seen: usize,
}

impl Memory {
    /// Reads the first `seen` tokens of `kv_heads` heads for queries of `heads` heads.
    pub(super) fn read(
        cache: &LayerCache,
        seen: usize,
        (heads, kv_heads, head_dim): (usize, usize, usize),
    ) -> Self {
        let group = heads / kv_heads;
        let heads = (0..kv_heads).map(|head| {
            let mut buffer = Vec::new();
            let keys = cache.keys.read(head, seen, &mut buffer).to_vec();
            (keys, cache.values.read(head, seen, &mut buffer).to_vec())
        });
        Self { heads: heads.collect(), head_dim, group, seen }
    }
}

/// The gradients of attention.
pub(super) struct Attention {
    pub(super) queries: Array2<f32>,
    /// `[seen, kv width]`, as stored.
    pub(super) keys: Array2<f32>,
    /// `[seen, kv width]`, as stored.
    pub(super) values: Array2<f32>,
}

/// Attention `o = sum_j p_j v_j`, `p = softmax(s)`, `s_j = c q.k_j`:
/// `dv_j += p_j do`, `ds_j = p_j (do.v_j - sum_i p_i do.v_i)`, `dq += c ds_j k_j`,
/// `dk_j += c ds_j q`.
pub(super) fn attend(
    kernels: &Kernels,
    queries: &Array2<f32>,
    first: usize,
    memory: &Memory,
    dy: &Array2<f32>,
) -> Attention {
    let d = memory.head_dim;
    let kv_width = memory.heads.len() * d;
    let mut out = Attention {
        queries: Array2::zeros(queries.raw_dim()),
        keys: Array2::zeros((memory.seen, kv_width)),
        values: Array2::zeros((memory.seen, kv_width)),
    };
    let scale = score_scale(d);
    let (mut shares, mut slopes) = (vec![0.0; memory.seen], vec![0.0; memory.seen]);
    for index in 0..queries.nrows() {
        let tokens = first + index + 1;
        let (shares, slopes) = (&mut shares[..tokens], &mut slopes[..tokens]);
        for head in 0..queries.ncols() / d {
            let kv = head / memory.group;
            let (keys, values) = &memory.heads[kv];
            let span = head * d..(head + 1) * d;
            let (query, dy) = (&row(queries, index)[span.clone()], &row(dy, index)[span.clone()]);
            (kernels.dot_rows)(query, &keys[..tokens * d], shares);
            shares.iter_mut().for_each(|s| *s *= scale);
            (kernels.softmax)(shares);
            (kernels.dot_rows)(dy, &values[..tokens * d], slopes);
            let mean = (kernels.dot)(shares, slopes);
            for (slope, share) in slopes.iter_mut().zip(shares.iter()) {
                *slope = share * (*slope - mean) * scale;
            }
            let mut dq = out.queries.row_mut(index);
            let dq = &mut dq.as_slice_mut().expect("a standard row")[span];
            (kernels.weighted_sum)(slopes, &keys[..tokens * d], dq);
            scatter(&mut out.keys, (kv * d, query), slopes);
            scatter(&mut out.values, (kv * d, dy), shares);
        }
    }
    out
}

/// Adds `factors[j] * x` to row `j` of `to`, from column `at` on.
fn scatter(to: &mut Array2<f32>, (at, x): (usize, &[f32]), factors: &[f32]) {
    for ((_, to), factor) in rows_mut(to).zip(factors) {
        for (to, x) in to[at..at + x.len()].iter_mut().zip(x) {
            *to += factor * x;
        }
    }
}

/// The gate `act(g) u`: `dg = act'(g) u dy`, `du = act(g) dy`.
pub(super) fn gate(
    g: &Array2<f32>,
    u: &Array2<f32>,
    kind: Gate,
    dy: &Array2<f32>,
) -> (Array2<f32>, Array2<f32>) {
    let (mut dg, mut du) = (Array2::zeros(g.raw_dim()), Array2::zeros(g.raw_dim()));
    ndarray::Zip::from(&mut dg).and(&mut du).and(g).and(u).and(dy).for_each(
        |dg, du, &g, &u, &dy| {
            let (act, slope) = activation(g, kind);
            *dg = slope * u * dy;
            *du = act * dy;
        },
    );
    (dg, du)
}

/// An activation and its derivative.
fn activation(g: f32, kind: Gate) -> (f32, f32) {
    match kind {
        Gate::Relu2 => {
            let positive = if g > 0.0 { g } else { 0.0 };
            (positive * positive, 2.0 * positive)
        }
        Gate::Silu => {
            let share = 1.0 / (1.0 + exp(-g));
            (g * share, share * (1.0 + g * (1.0 - share)))
        }
    }
}

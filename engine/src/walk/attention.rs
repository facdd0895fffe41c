//! Attention of numbers: scores, shares and sums of values, in pieces that stay in the first cache.

use std::ops::Range;

use ndarray::Array2;
use rayon::prelude::*;

use super::exact::{LayerCache, PARALLEL_WORK, score_scale};
use crate::kernels::Kernels;

/// Query rows of a prompt that one task takes.
const ROWS: usize = 8;
/// From so many queries of a group on, all of them are multiplied with each key at once.
const TILE: usize = 3;
/// Tokens whose keys, or values, all queries of a group read before the next ones.
const PIECE: usize = 64;

/// What all queries of a layer share.
pub(super) struct Attention<'a> {
    pub(super) kernels: &'static Kernels,
    pub(super) cache: &'a LayerCache,
    pub(super) kv_heads: usize,
    /// Query heads that share a key-value head.
    pub(super) group: usize,
    pub(super) head_dim: usize,
    /// The position of the first query row.
    pub(super) first: usize,
}

/// Query rows, all heads behind one another in each.
#[derive(Clone, Copy)]
struct Block<'a> {
    queries: &'a [f32],
    first: usize,
}

impl Attention<'_> {
    /// Adds the mixed values of all query rows, `[rows, heads x head_dim]`, to zeros.
    pub(super) fn add_to(&self, queries: &Array2<f32>, out: &mut Array2<f32>) {
        let (rows, width) = queries.dim();
        let each = self.group * self.head_dim;
        let from = queries.as_slice().expect("standard rows");
        let to = out.as_slice_mut().expect("standard rows");
        let block = |(index, out): (usize, &mut [f32])| {
            let at = index * ROWS * width;
            let block =
                Block { queries: &from[at..at + out.len()], first: self.first + index * ROWS };
            for kv in 0..self.kv_heads {
                self.mix(kv, block, out, kv * each);
            }
        };
        let work = 2 * queries.len() * (self.first + rows);
        if work < PARALLEL_WORK {
            to.chunks_mut(ROWS * width).enumerate().for_each(block);
        } else if rows > 1 {
            to.par_chunks_mut(ROWS * width).enumerate().for_each(block);
        } else {
            let block = Block { queries: from, first: self.first };
            let heads = to.par_chunks_exact_mut(each).enumerate();
            heads.for_each(|(kv, out)| self.mix(kv, block, out, 0));
        }
    }

    /// The mixed values of the queries of one key-value head; those of a row begin at `column` of
    /// its part of `out`.
    fn mix(&self, kv: usize, block: Block, out: &mut [f32], column: usize) {
        let (d, width) = (self.head_dim, self.kv_heads * self.group * self.head_dim);
        let rows = block.queries.len() / width;
        let (stride, seen) = (out.len() / rows, block.first + rows);
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        let keys = self.cache.keys.read(kv, seen, &mut keys);
        let values = self.cache.values.read(kv, seen, &mut values);
        let mut scores = vec![0.0; rows * self.group * seen];
        let mut few = vec![0.0; self.group * PIECE];
        for (row, span) in pieces(rows, block.first) {
            let at = row * width + kv * self.group * d;
            let queries = &block.queries[at..at + self.group * d];
            let few = &mut few[..self.group * span.len()];
            self.dots(queries, &keys[span.start * d..span.end * d], few);
            for (head, few) in few.chunks_exact(span.len()).enumerate() {
                let scores = &mut scores[(row * self.group + head) * seen..];
                scores[span.clone()].copy_from_slice(few);
            }
        }
        let scale = score_scale(d);
        for (index, scores) in scores.chunks_exact_mut(seen).enumerate() {
            let scores = &mut scores[..=block.first + index / self.group];
            scores.iter_mut().for_each(|s| *s *= scale);
            (self.kernels.softmax)(scores);
        }
        for (row, span) in pieces(rows, block.first) {
            for head in 0..self.group {
                let at = row * stride + column + head * d;
                let shares = &scores[(row * self.group + head) * seen..][span.clone()];
                let values = &values[span.start * d..span.end * d];
                (self.kernels.weighted_sum)(shares, values, &mut out[at..at + d]);
            }
        }
    }
}

impl Attention<'_> {
    /// The products of queries with keys, `[query][key]`.
    fn dots(&self, queries: &[f32], keys: &[f32], out: &mut [f32]) {
        if self.group >= TILE {
            // A product has the same bits whichever of its factors is called the row.
            return (self.kernels.dot_tile)(keys, self.head_dim, queries, out);
        }
        let queries = queries.chunks_exact(self.head_dim);
        for (query, out) in queries.zip(out.chunks_exact_mut(keys.len() / self.head_dim)) {
            (self.kernels.dot_rows)(query, keys, out);
        }
    }
}

/// The tokens that each row sees, in pieces: all rows of a piece, then the next piece. Those of a
/// row come in rising order, so that a sum adds its tokens in rising order.
fn pieces(rows: usize, first: usize) -> impl Iterator<Item = (usize, Range<usize>)> {
    (0..first + rows).step_by(PIECE).flat_map(move |from| {
        let seen = move |row| from..(from + PIECE).min(first + row + 1);
        (0..rows).map(move |row| (row, seen(row))).filter(|(_, span)| !span.is_empty())
    })
}

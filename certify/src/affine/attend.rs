//! Attention over affine forms, with shares that add up to 1.
//!
//! For one query and head, at the centres: scores `S0`, shares `p`, values `v0`, mix `o0 = sum p
//! v0`, `a_j = v0_j - o0` (so `sum p a = 0`). With `delta_j` the move of score j less the mean
//! move `sum p dS` (softmax does not see a common shift), exactly
//! `o - o0 = N / Z`, `N = sum p e^delta (a + dv)`, `Z = 1 + sum p rho`, with
//! `rho = e^delta - 1 - delta`.
//! Linear in the symbols: `sum p dv + sum p a dS`. What is left is bounded in [`super::mixture`].

use std::borrow::Borrow;

use engine::kernels::Kernels;
use engine::numerics::exp_f64;
use rayon::prelude::*;

use super::form::{Form, Span, places, union};
use super::inputs::Inputs;
use super::mixture::{Around, Remainder};
use super::store::{Head, Token};
use crate::interval::mix_error;

/// What attention of a layer knows.
pub(super) struct Attention<'a> {
    pub(super) kernels: &'a Kernels,
    pub(super) inputs: &'a Inputs,
    pub(super) tokens: &'a [Token],
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    pub(super) dim: usize,
    /// The factor of the scores, as the engine has it.
    pub(super) factor: f64,
    /// How many heads of rows one task takes at least.
    pub(super) grain: usize,
}

/// The mix of one head.
struct Mixed {
    c: Vec<f64>,
    /// `[symbols, dim]`.
    g: Vec<f64>,
    rest: Vec<f64>,
}

impl Attention<'_> {
    /// The mixes of query rows, the first at position `first`.
    pub(super) fn rows<F: Borrow<Form> + Sync>(&self, queries: &[F], first: usize) -> Vec<Form> {
        let spans: Vec<Vec<Span>> = (queries.iter().enumerate())
            .map(|(row, query)| {
                let seen = &self.tokens[..=first + row];
                let keys = seen.iter().map(|token| &token.key_spans[..]);
                let values = seen.iter().map(|token| &token.value_spans[..]);
                union(keys.chain(values).chain([&query.borrow().spans[..]]))
            })
            .collect();
        let jobs: Vec<(usize, usize)> =
            (0..queries.len()).flat_map(|row| (0..self.heads).map(move |h| (row, h))).collect();
        let mixed: Vec<Mixed> = (jobs.into_par_iter().with_min_len(self.grain))
            .map(|(row, head)| self.head(queries[row].borrow(), &spans[row], head, first + row + 1))
            .collect();
        (spans.into_iter())
            .zip(mixed.chunks_exact(self.heads))
            .map(|(spans, heads)| join(spans, heads, self.dim))
            .collect()
    }

    /// One head of one query over the first `seen` tokens.
    fn head(&self, query: &Form, spans: &[Span], head: usize, seen: usize) -> Mixed {
        let kv = head / (self.heads / self.kv_heads);
        let own = Head::of(self.kernels, self.inputs, query, head, self.dim);
        let tokens = &self.tokens[..seen];
        let scores: Vec<f64> =
            tokens.iter().map(|t| self.factor * dot(&own.c, &t.keys[kv].c)).collect();
        let shares = softmax(&scores);
        let centre = |d: usize| tokens.iter().zip(&shares).map(move |(t, p)| p * t.values[kv].c[d]);
        let mix: Vec<f64> = (0..self.dim).map(|d| centre(d).sum()).collect();
        let error = self.engine_error(tokens, kv);
        let point = spans.is_empty()
            && still(&own)
            && tokens.iter().all(|t| still(&t.keys[kv]) && still(&t.values[kv]));
        if point {
            return Mixed { c: mix, g: Vec::new(), rest: error };
        }
        let seen = Seen { spans, tokens, kv, shares: &shares };
        let mut moves = self.key_moves(&own, &seen);
        let by_keys = self.shifted(&seen, &moves);
        self.add_query_moves(query, &own, &seen, &mut moves);
        let linear = self.shifted(&seen, &moves);
        let mut g = self.mean_values(&seen);
        let values = self.inputs.radii(self.kernels, spans, &g, self.dim);
        // w_jd = p_j (v0_jd - o0_d)
        let weights: Vec<f64> = (tokens.iter().zip(&shares))
            .flat_map(|(t, p)| t.values[kv].c.iter().zip(&mix).map(move |(v, o)| p * (v - o)))
            .collect();
        let mut by_scores = vec![0.0; g.len()];
        (self.kernels.forms.product)(&moves, &weights, tokens.len(), &mut by_scores);
        g.iter_mut().zip(&by_scores).for_each(|(g, s)| *g += s);
        let radii = self.inputs.radii(self.kernels, spans, &g, self.dim);
        let around = Around {
            attention: self,
            own: &own,
            seen: &seen,
            weights: &weights,
            mix: &mix,
            linear: &linear.radii,
            by_keys: &by_keys,
            values: &values,
            scores: (&moves, &linear.mean_moves),
        };
        let Remainder { factor, shift, mut rest } = around.remainder(&radii);
        rest.iter_mut().zip(&error).for_each(|(rest, error)| *rest += error);
        g.iter_mut().for_each(|g| *g *= factor);
        let c = mix.iter().zip(&shift).map(|(c, shift)| c + shift).collect();
        Mixed { c, g, rest }
    }

    /// What the engine's softmax and sum may be off, and f64 here.
    fn engine_error(&self, tokens: &[Token], kv: usize) -> Vec<f64> {
        let most = |d: usize| {
            let all = tokens.iter().map(|t| t.values[kv].c[d].abs() + t.values[kv].radii[d]);
            all.fold(0.0, |a, b| if b > a { b } else { a })
        };
        (0..self.dim).map(|d| most(d) * (mix_error(tokens.len()) + 1e-11) + 1e-40).collect()
    }

    /// The part `factor q0 dk` of every score, `[symbols, tokens]`.
    fn key_moves(&self, own: &Head, seen: &Seen<'_>) -> Vec<f64> {
        let tokens = seen.tokens.len();
        let mut moves = vec![0.0; count(seen.spans) * tokens];
        let scaled: Vec<f64> = own.c.iter().map(|q| self.factor * q).collect();
        for (j, token) in seen.tokens.iter().enumerate() {
            let head = &token.keys[seen.kv];
            let mut by_key = vec![0.0; head.g.len() / self.dim];
            (self.kernels.forms.dots)(&head.g, &scaled, &mut by_key);
            for (from, to, rows) in places(&token.key_spans, seen.spans) {
                for row in 0..rows {
                    moves[(to + row) * tokens + j] = by_key[from + row];
                }
            }
        }
        moves
    }

    /// Adds the part `factor dq k0` of every score.
    fn add_query_moves(&self, query: &Form, own: &Head, seen: &Seen<'_>, moves: &mut [f64]) {
        let (dim, tokens) = (self.dim, seen.tokens.len());
        let mut keys = vec![0.0; dim * tokens];
        for (j, token) in seen.tokens.iter().enumerate() {
            for (d, c) in token.keys[seen.kv].c.iter().enumerate() {
                keys[d * tokens + j] = self.factor * c;
            }
        }
        let mut by_query = vec![0.0; own.g.len() / dim * tokens];
        (self.kernels.forms.product)(&own.g, &keys, dim, &mut by_query);
        for (from, to, rows) in places(&query.spans, seen.spans) {
            let part = &by_query[from * tokens..(from + rows) * tokens];
            let sum = &mut moves[to * tokens..(to + rows) * tokens];
            sum.iter_mut().zip(part).for_each(|(sum, x)| *sum += x);
        }
    }

    /// Moves of scores less their mean: the radii, and the radius of the mean.
    fn shifted(&self, seen: &Seen<'_>, moves: &[f64]) -> Shifted {
        let tokens = seen.tokens.len();
        let mut mean = vec![0.0; count(seen.spans)];
        (self.kernels.forms.dots)(moves, seen.shares, &mut mean);
        let (ones, minus) = (vec![1.0; tokens], vec![-1.0; tokens]);
        let by = (&ones[..], &minus[..]);
        let radii = self.inputs.combined(self.kernels, seen.spans, moves, &mean, by);
        let radius = self.inputs.radius(self.kernels, seen.spans, &mean);
        Shifted { radii, mean: radius, mean_moves: mean }
    }

    /// The coefficients of `sum p dv`, `[symbols, dim]`.
    fn mean_values(&self, seen: &Seen<'_>) -> Vec<f64> {
        let dim = self.dim;
        let mut g = vec![0.0; count(seen.spans) * dim];
        for (token, &share) in seen.tokens.iter().zip(seen.shares) {
            let head = &token.values[seen.kv];
            for (from, to, rows) in places(&token.value_spans, seen.spans) {
                let part = &head.g[from * dim..(from + rows) * dim];
                let sum = &mut g[to * dim..(to + rows) * dim];
                sum.iter_mut().zip(part).for_each(|(g, v)| *g += share * v);
            }
        }
        g
    }
}

/// The tokens that one query sees, for one head of keys and values.
pub(super) struct Seen<'a> {
    /// All symbols of the row.
    pub(super) spans: &'a [Span],
    pub(super) tokens: &'a [Token],
    pub(super) kv: usize,
    pub(super) shares: &'a [f64],
}

/// Moves of scores less their mean.
pub(super) struct Shifted {
    /// The radius of each.
    pub(super) radii: Vec<f64>,
    /// The radius of the mean.
    pub(super) mean: f64,
    /// The coefficients of the mean.
    pub(super) mean_moves: Vec<f64>,
}

fn still(head: &Head) -> bool {
    head.rest.iter().all(|&x| x == 0.0)
}

pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn count(spans: &[Span]) -> usize {
    spans.iter().map(|span| span.count).sum()
}

fn softmax(scores: &[f64]) -> Vec<f64> {
    let most = scores.iter().copied().fold(f64::NEG_INFINITY, |a, b| if b > a { b } else { a });
    let shares: Vec<f64> = (scores.iter())
        .map(|s| exp_f64(if s - most < -600.0 { -600.0 } else { s - most }))
        .collect();
    let total: f64 = shares.iter().sum();
    shares.into_iter().map(|x| x / total).collect()
}

/// The heads of one row side by side.
fn join(spans: Vec<Span>, heads: &[Mixed], dim: usize) -> Form {
    let rows = count(&spans);
    let width = heads.len() * dim;
    let mut g = vec![0.0; rows * width];
    for (h, head) in heads.iter().enumerate() {
        for (row, part) in g.chunks_exact_mut(width).zip(head.g.chunks_exact(dim)) {
            row[h * dim..(h + 1) * dim].copy_from_slice(part);
        }
    }
    let all = |pick: fn(&Mixed) -> &Vec<f64>| heads.iter().flat_map(|h| pick(h).clone()).collect();
    Form { c: all(|h| &h.c), spans, g, rest: all(|h| &h.rest) }
}

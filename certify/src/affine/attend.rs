//! Attention over affine forms, with shares that add up to 1.
//!
//! For one query and head, at the centres: scores `S0`, shares `p`, values `v0`, mix `o0 = sum p
//! v0`, `a_j = v0_j - o0` (so `sum p a = 0`). With `delta_j` the move of score j less the mean
//! move `sum p dS` (softmax does not see a common shift), exactly
//! `o - o0 = N / Z`, `N = sum p e^delta (a + dv)`, `Z = 1 + sum p rho`, with
//! `rho = e^delta - 1 - delta`.
//! Linear in the symbols: `sum p dv + sum p a dS`. What is left, and bounded here:
//! - the products `dq dk` in the scores, by boxes or by energies ([`super::energy`]), each or all
//!   together under the weights `p a`;
//! - `sum p delta dv` and `sum p rho (a + dv)`, where `0 <= rho <= rho(radius)`;
//! - the quotient: `|N| (1 - 1 / Zmax)`.
//!
//! The engine: its scores are within `dot_error(d)` of the real ones, and its shares and mix within
//! the margin that the boxes of attention use too.

use engine::kernels::Kernels;
use engine::numerics::exp_f64;
use rayon::prelude::*;

use super::energy::Energy;
use super::form::{Form, Span, places, union};
use super::inputs::Inputs;
use super::linear::dot_error;
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
    pub(super) fn rows(&self, queries: &[Form], first: usize) -> Vec<Form> {
        let spans: Vec<Vec<Span>> = (queries.iter().enumerate())
            .map(|(row, query)| {
                let seen = &self.tokens[..=first + row];
                let keys = seen.iter().map(|token| &token.key_spans[..]);
                let values = seen.iter().map(|token| &token.value_spans[..]);
                union(keys.chain(values).chain([&query.spans[..]]))
            })
            .collect();
        let jobs: Vec<(usize, usize)> =
            (0..queries.len()).flat_map(|row| (0..self.heads).map(move |h| (row, h))).collect();
        let mixed: Vec<Mixed> = (jobs.into_par_iter())
            .map(|(row, head)| self.head(&queries[row], &spans[row], head, first + row + 1))
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
        let point = query.is_point()
            && tokens.iter().all(|t| t.key_spans.is_empty() && t.value_spans.is_empty())
            && tokens.iter().all(|t| still(&t.keys[kv]) && still(&t.values[kv]));
        let scores: Vec<f64> =
            tokens.iter().map(|t| self.factor * dot(&own.c, &t.keys[kv].c)).collect();
        let shares = softmax(&scores);
        let centre = |d: usize| tokens.iter().zip(&shares).map(move |(t, p)| p * t.values[kv].c[d]);
        let mix: Vec<f64> = (0..self.dim).map(|d| centre(d).sum()).collect();
        let error = self.engine_error(tokens, kv);
        if point {
            return Mixed { c: mix, g: vec![0.0; count(spans) * self.dim], rest: error };
        }
        // w_jd = p_j (v0_jd - o0_d)
        let weights: Vec<f64> = (tokens.iter().zip(&shares))
            .flat_map(|(t, p)| t.values[kv].c.iter().zip(&mix).map(move |(v, o)| p * (v - o)))
            .collect();
        let moves = self.score_moves(query, &own, spans, tokens, kv);
        let mut mean = vec![0.0; count(spans)];
        (self.kernels.forms.dots)(&moves, &shares, &mut mean);
        let (ones, minus) = (vec![1.0; seen], vec![-1.0; seen]);
        let linear = self.inputs.combined(self.kernels, spans, &moves, &mean, (&ones, &minus));
        let g = self.linear_part(&moves, &weights, &shares, (spans, tokens), kv);
        let radii = self.inputs.radii(self.kernels, spans, &g, self.dim);
        let around = Around {
            attention: self,
            own: &own,
            tokens,
            kv,
            shares: &shares,
            weights: &weights,
            mix: &mix,
            linear: &linear,
        };
        let (shift, mut rest) = around.remainders(&radii);
        rest.iter_mut().zip(&error).for_each(|(rest, error)| *rest += error);
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

    /// The coefficients of every score, `[symbols, tokens]`: `factor (dq k0 + q0 dk)`.
    fn score_moves(
        &self,
        query: &Form,
        own: &Head,
        spans: &[Span],
        tokens: &[Token],
        kv: usize,
    ) -> Vec<f64> {
        let (dim, seen) = (self.dim, tokens.len());
        let mut moves = vec![0.0; count(spans) * seen];
        let mut keys = vec![0.0; dim * seen];
        for (j, token) in tokens.iter().enumerate() {
            for (d, c) in token.keys[kv].c.iter().enumerate() {
                keys[d * seen + j] = self.factor * c;
            }
        }
        let mut by_query = vec![0.0; own.g.len() / dim * seen];
        (self.kernels.forms.product)(&own.g, &keys, dim, &mut by_query);
        for (from, to, rows) in places(&query.spans, spans) {
            moves[to * seen..(to + rows) * seen]
                .copy_from_slice(&by_query[from * seen..(from + rows) * seen]);
        }
        let scaled: Vec<f64> = own.c.iter().map(|q| self.factor * q).collect();
        for (j, token) in tokens.iter().enumerate() {
            let head = &token.keys[kv];
            let mut by_key = vec![0.0; head.g.len() / dim];
            (self.kernels.forms.dots)(&head.g, &scaled, &mut by_key);
            for (from, to, rows) in places(&token.key_spans, spans) {
                for row in 0..rows {
                    moves[(to + row) * seen + j] += by_key[from + row];
                }
            }
        }
        moves
    }

    /// The coefficients of the mix, `[symbols, dim]`.
    fn linear_part(
        &self,
        moves: &[f64],
        weights: &[f64],
        shares: &[f64],
        (spans, tokens): (&[Span], &[Token]),
        kv: usize,
    ) -> Vec<f64> {
        let dim = self.dim;
        let mut g = vec![0.0; count(spans) * dim];
        (self.kernels.forms.product)(moves, weights, tokens.len(), &mut g);
        for (token, &share) in tokens.iter().zip(shares) {
            let head = &token.values[kv];
            for (from, to, rows) in places(&token.value_spans, spans) {
                let part = &head.g[from * dim..(from + rows) * dim];
                let sum = &mut g[to * dim..(to + rows) * dim];
                sum.iter_mut().zip(part).for_each(|(g, v)| *g += share * v);
            }
        }
        g
    }
}

/// One head of one query, with all that its remainders depend on.
struct Around<'a> {
    attention: &'a Attention<'a>,
    own: &'a Head,
    tokens: &'a [Token],
    kv: usize,
    shares: &'a [f64],
    weights: &'a [f64],
    mix: &'a [f64],
    /// Radii of the linear moves of the shifted scores.
    linear: &'a [f64],
}

impl Around<'_> {
    /// The shift of the centre and the radius of all that is not linear, by dimension.
    fn remainders(&self, radii: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let dim = self.attention.dim;
        let (products, others) = self.second_order_scores();
        let both: Vec<f64> = products.iter().zip(&others).map(|(a, b)| a + b).collect();
        let total: f64 = both.iter().zip(self.shares).map(|(x, p)| p * x).sum();
        // A score's own move less the mean of all: (1 - p) of its own, p of each other.
        let moves: Vec<f64> = (self.linear.iter().zip(&both).zip(self.shares))
            .map(|((linear, x), p)| linear + ((1.0 - p) * x + (total - p * x)) + 1e-12)
            .collect();
        let rho: Vec<f64> = moves.iter().map(|&r| rho(r)).collect();
        let most_z: f64 = rho.iter().zip(self.shares).map(|(rho, p)| p * rho).sum();
        let mut shift = vec![0.0; dim];
        let mut rest = vec![0.0; dim];
        for d in 0..dim {
            let value = |j: usize| &self.tokens[j].values[self.kv];
            let seen = 0..self.tokens.len();
            let (mut up, mut down, mut fixed) = (0.0, 0.0, 0.0);
            let mut by_box = 0.0;
            for j in seen {
                let (p, w) = (self.shares[j], self.weights[j * dim + d]);
                let radius = value(j).radii[d];
                let a = value(j).c[d] - self.mix[d];
                fixed += w.abs() * others[j] + p * value(j).rest[d] + p * moves[j] * radius;
                by_box += w.abs() * products[j];
                up += p * rho[j] * positive(a + radius);
                down += p * rho[j] * positive(radius - a);
            }
            let together = self.weighted_products(d);
            fixed += if together < by_box { together } else { by_box };
            shift[d] = 0.5 * (up - down);
            let whole = radii[d] + fixed + if up > down { up } else { down };
            let quotient = whole * (1.0 - 1.0 / (1.0 + most_z));
            rest[d] = (fixed + 0.5 * (up + down) + quotient) * (1.0 + 1e-12);
        }
        (shift, rest)
    }

    /// For each score: what `dq dk` may add, and what boxes and the engine's rounding may.
    fn second_order_scores(&self) -> (Vec<f64>, Vec<f64>) {
        let Attention { kernels, factor, dim, .. } = *self.attention;
        (self.tokens.iter())
            .map(|token| {
                let key = &token.keys[self.kv];
                let by_box = dot(&self.own.radii, &key.radii);
                let together = self.own.energy.bilinear(kernels, &key.energy);
                let product = if together < by_box { together } else { by_box };
                let most = |head: &Head, d: usize| head.c[d].abs() + head.radii[d];
                let mut other = 0.0;
                for d in 0..dim {
                    other += self.own.c[d].abs() * key.rest[d] + self.own.rest[d] * key.c[d].abs();
                    other += most(self.own, d) * most(key, d) * (dot_error(dim) + 1e-12);
                }
                (factor * product, factor * other + 1e-40)
            })
            .unzip()
    }

    /// `sum over j of w_j dq dk_j` for one dimension, by the energy of `sum w_j dk_j`.
    fn weighted_products(&self, d: usize) -> f64 {
        let Attention { kernels, factor, dim, .. } = *self.attention;
        let mut energy = Energy::none(dim);
        for (j, token) in self.tokens.iter().enumerate() {
            energy.add_scaled(&token.keys[self.kv].energy, self.weights[j * dim + d].abs());
        }
        factor * self.own.energy.bilinear(kernels, &energy)
    }
}

fn positive(x: f64) -> f64 {
    if x > 0.0 { x } else { 0.0 }
}

fn still(head: &Head) -> bool {
    head.rest.iter().all(|&x| x == 0.0)
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
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

/// An upper bound of `e^x - 1 - x` for `|x| <= r`.
pub(super) fn rho(r: f64) -> f64 {
    if r < 0.5 {
        // The terms behind the cube are below r^4 / 24 e^(r / 5).
        return r * r * (0.5 + r * (1.0 / 6.0 + r * (1.11 / 24.0)));
    }
    if r < 600.0 { (exp_f64(r) - 1.0 - r) * (1.0 + 1e-12) } else { f64::INFINITY }
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

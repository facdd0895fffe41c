//! Scores of one query and head over affine forms: shares at the centres, and how they move.
//!
//! A score is `factor q k`. It moves by `factor (dq k0 + q0 dk)`, which is linear in the symbols,
//! and by `factor dq dk` and what boxes and the engine add, which is not. Softmax does not see what
//! all scores share, so moves are taken less their mean `sum p dS`.

use engine::numerics::exp_f64;

use super::attend::Attention;
use super::form::{Form, Span, places};
use super::linear::dot_error;
use super::store::{Head, Token};

/// The scores of one query and head over the tokens that it sees.
pub(super) struct Scored<'a> {
    pub(super) attention: &'a Attention<'a>,
    /// All symbols of the row.
    pub(super) spans: &'a [Span],
    pub(super) tokens: &'a [Token],
    /// The head of keys and values.
    pub(super) kv: usize,
    /// The query.
    pub(super) own: Head,
    pub(super) shares: Vec<f64>,
    /// The linear moves of the scores, `[symbols, tokens]`, and those of what keys alone move.
    pub(super) moves: Vec<f64>,
    pub(super) linear: Shifted,
    pub(super) by_keys: Shifted,
    /// Radii of `dq dk`, one a score.
    pub(super) products: Vec<f64>,
    /// Radii of what boxes and the engine's rounding add to a score.
    pub(super) others: Vec<f64>,
    /// What of a score's own move, less the mean, is not linear.
    pub(super) second: Vec<f64>,
    /// `rho` at the radii of the moves, and what of it is beyond the square.
    pub(super) rho: Vec<f64>,
    pub(super) cubic: Vec<f64>,
    /// The keys centred: `k0_j - sum p k0`, `[tokens, dim]`.
    pub(super) centred: Vec<f64>,
    /// Half the width of the range of the inverse of `Z = 1 + sum p rho`.
    pub(super) delta: f64,
}

/// Moves of scores less their mean.
#[derive(Default)]
pub(super) struct Shifted {
    /// The radius of each.
    pub(super) radii: Vec<f64>,
    /// The radius of the mean.
    pub(super) mean: f64,
    /// The coefficients of the mean.
    pub(super) mean_moves: Vec<f64>,
}

impl<'a> Scored<'a> {
    /// The scores of a head of a query.
    pub(super) fn new(
        attention: &'a Attention<'a>,
        query: &Form,
        (spans, tokens): (&'a [Span], &'a [Token]),
        head: usize,
    ) -> Self {
        let kv = head / (attention.heads / attention.kv_heads);
        let own = Head::of(attention.kernels, attention.inputs, query, head, attention.dim);
        let scores: Vec<f64> =
            tokens.iter().map(|t| attention.factor * dot(&own.c, &t.keys[kv].c)).collect();
        let shares = softmax(&scores);
        let none = Vec::new;
        let mut scored = Self {
            attention,
            spans,
            tokens,
            kv,
            own,
            shares,
            moves: none(),
            linear: Shifted::default(),
            by_keys: Shifted::default(),
            products: none(),
            others: none(),
            second: none(),
            rho: none(),
            cubic: none(),
            centred: none(),
            delta: 0.0,
        };
        let values = tokens.iter().all(|token| still(&token.values[kv]));
        if !(scored.still() && values) {
            scored.key_moves();
            scored.by_keys = scored.shifted();
            scored.query_moves(query);
            scored.linear = scored.shifted();
            scored.not_linear();
        }
        scored
    }

    /// Whether no score moves, and no symbol is known.
    pub(super) fn still(&self) -> bool {
        self.spans.is_empty()
            && still(&self.own)
            && self.tokens.iter().all(|token| still(&token.keys[self.kv]))
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = (&Head, f64)> {
        let keys = self.tokens.iter().map(|token| &token.keys[self.kv]);
        keys.zip(self.shares.iter().copied())
    }

    /// The part `factor q0 dk` of every score.
    fn key_moves(&mut self) {
        let Attention { kernels, factor, dim, .. } = *self.attention;
        let tokens = self.tokens.len();
        let mut moves = vec![0.0; count(self.spans) * tokens];
        let scaled: Vec<f64> = self.own.c.iter().map(|q| factor * q).collect();
        for (j, token) in self.tokens.iter().enumerate() {
            let head = &token.keys[self.kv];
            let mut by_key = vec![0.0; head.g.len() / dim];
            (kernels.forms.dots)(&head.g, &scaled, &mut by_key);
            for (from, to, rows) in places(&token.key_spans, self.spans) {
                for row in 0..rows {
                    moves[(to + row) * tokens + j] = by_key[from + row];
                }
            }
        }
        self.moves = moves;
    }

    /// Adds the part `factor dq k0` of every score.
    fn query_moves(&mut self, query: &Form) {
        let Attention { kernels, factor, dim, .. } = *self.attention;
        let tokens = self.tokens.len();
        let mut keys = vec![0.0; dim * tokens];
        for (j, token) in self.tokens.iter().enumerate() {
            for (d, c) in token.keys[self.kv].c.iter().enumerate() {
                keys[d * tokens + j] = factor * c;
            }
        }
        let mut by_query = vec![0.0; self.own.g.len() / dim * tokens];
        (kernels.forms.product)(&self.own.g, &keys, dim, &mut by_query);
        for (from, to, rows) in places(&query.spans, self.spans) {
            let part = &by_query[from * tokens..(from + rows) * tokens];
            let sum = &mut self.moves[to * tokens..(to + rows) * tokens];
            sum.iter_mut().zip(part).for_each(|(sum, x)| *sum += x);
        }
    }

    /// Moves of scores less their mean: the radii, and the radius of the mean.
    fn shifted(&self) -> Shifted {
        let Attention { kernels, inputs, .. } = *self.attention;
        let tokens = self.tokens.len();
        let mut mean = vec![0.0; count(self.spans)];
        (kernels.forms.dots)(&self.moves, &self.shares, &mut mean);
        let (ones, minus) = (vec![1.0; tokens], vec![-1.0; tokens]);
        let by = (&ones[..], &minus[..]);
        let radii = inputs.combined(kernels, self.spans, &self.moves, &mean, by);
        let radius = inputs.radius(kernels, self.spans, &mean);
        Shifted { radii, mean: radius, mean_moves: mean }
    }

    /// What of the scores is not linear, and what that makes of the exponentials.
    fn not_linear(&mut self) {
        (self.products, self.others) = self.second_order();
        let both = || self.products.iter().zip(&self.others).map(|(a, b)| a + b);
        let total: f64 = both().zip(&self.shares).map(|(x, p)| p * x).sum();
        // A score's own move less the mean of all: (1 - p) of its own, p of each other.
        self.second = (both().zip(&self.shares))
            .map(|(x, p)| (1.0 - p) * x + (total - p * x) + 1e-12)
            .collect();
        let moves: Vec<f64> =
            self.linear.radii.iter().zip(&self.second).map(|(l, s)| l + s).collect();
        self.rho = moves.iter().map(|&r| rho(r)).collect();
        self.cubic = moves.iter().map(|&r| cubic(r)).collect();
        let mut mean = vec![0.0; self.attention.dim];
        for (key, p) in self.keys() {
            mean.iter_mut().zip(&key.c).for_each(|(mean, k)| *mean += p * k);
        }
        let centred = self.keys().flat_map(|(key, _)| key.c.iter().zip(&mean));
        self.centred = centred.map(|(k, mean)| k - mean).collect();
        let weighted = |x: &[f64]| x.iter().zip(&self.shares).map(|(x, p)| p * x).sum::<f64>();
        let plain = weighted(&self.rho);
        let square = self.weighted_square(&self.shares) + weighted(&self.cubic);
        let most = if square < plain { square } else { plain };
        self.delta = 0.5 * (1.0 - 1.0 / (1.0 + most)) * (1.0 + 1e-12);
    }

    /// For each score: what `dq dk` may add, and what boxes and the engine's rounding may.
    fn second_order(&self) -> (Vec<f64>, Vec<f64>) {
        let Attention { kernels, factor, dim, .. } = *self.attention;
        let most = |head: &Head, d: usize| head.c[d].abs() + head.radii[d];
        self.keys()
            .map(|(key, _)| {
                let by_box = dot(&self.own.radii, &key.radii);
                let by_energy = self.own.energy.bilinear(kernels, &key.energy);
                let product = if by_energy < by_box { by_energy } else { by_box };
                let mut other = 0.0;
                for d in 0..dim {
                    other += self.own.c[d].abs() * key.rest[d] + self.own.rest[d] * key.c[d].abs();
                    other += most(&self.own, d) * most(key, d) * (dot_error(dim) + 1e-12);
                }
                (factor * product, factor * other + 1e-40)
            })
            .unzip()
    }

    /// An upper bound of `1/2 sum w delta^2` for weights that are not negative.
    ///
    /// Minkowski: the root of the sum is at most that of each part's sum, added up.
    pub(super) fn weighted_square(&self, weights: &[f64]) -> f64 {
        let Attention { kernels, factor, dim, .. } = *self.attention;
        let mut form = vec![0.0; dim * dim];
        let (mut by_keys, mut second) = (0.0, 0.0);
        for (j, &w) in weights.iter().enumerate() {
            let key = &self.centred[j * dim..(j + 1) * dim];
            for (row, &a) in form.chunks_exact_mut(dim).zip(key) {
                row.iter_mut().zip(key).for_each(|(sum, b)| *sum += w * a * b);
            }
            by_keys += w * self.by_keys.radii[j] * self.by_keys.radii[j];
            second += w * self.second[j] * self.second[j];
        }
        let by_query = factor * self.own.energy.quadratic(kernels, &form, weights.len()).sqrt();
        let root = by_query + by_keys.sqrt() + second.sqrt();
        0.5 * root * root * (1.0 + 1e-9)
    }
}

pub(super) fn still(head: &Head) -> bool {
    head.rest.iter().all(|&x| x == 0.0)
}

pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

pub(super) fn count(spans: &[Span]) -> usize {
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
fn rho(r: f64) -> f64 {
    if r < 0.5 {
        // The terms behind the cube are below r^4 / 24 e^(r / 5).
        return r * r * (0.5 + r * (1.0 / 6.0 + r * (1.11 / 24.0)));
    }
    if r < 600.0 { (exp_f64(r) - 1.0 - r) * (1.0 + 1e-12) } else { f64::INFINITY }
}

/// An upper bound of `|e^x - 1 - x - x^2 / 2|` for `|x| <= r`.
fn cubic(r: f64) -> f64 {
    if r < 0.5 {
        // The terms behind are below r^4 / 24 (1 + r / 5 + r^2 / 30 + ...).
        return r * r * r * (1.0 / 6.0 + r * (1.11 / 24.0));
    }
    if r < 600.0 { (exp_f64(r) - 1.0 - r - 0.5 * r * r) * (1.0 + 1e-12) } else { f64::INFINITY }
}

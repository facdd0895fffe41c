//! Attention over affine forms, with shares that add up to 1.
//!
//! For one query and head, at the centres: scores `S0`, shares `p`, values `v0`, mix `o0 = sum p
//! v0`, `a_j = v0_j - o0` (so `sum p a = 0`). With `delta_j` the move of score j less the mean
//! move `sum p dS` (softmax does not see a common shift), exactly
//! `o - o0 = N / Z`, `N = sum p e^delta (a + dv)`, `Z = 1 + sum p rho`, with
//! `rho = e^delta - 1 - delta`.
//! Linear in the symbols: `sum p dv + sum p a dS`. What is left is bounded in [`super::mixture`].

use std::borrow::{Borrow, Cow};

use engine::kernels::Kernels;
use rayon::prelude::*;

use super::form::{Form, Span, places, union};
use super::inputs::Inputs;
use super::mixture::{Around, Remainder};
use super::scores::{Scored, count, still};
use super::store::{Head, Token};
use crate::interval::mix_error;

/// What attention of a layer knows.
#[derive(Clone, Copy)]
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
    /// What the centres were shifted by.
    shift: Vec<f64>,
    /// What of `rest` is the engine's.
    error: Vec<f64>,
    c: Vec<f64>,
    /// `[symbols, dim]`.
    g: Vec<f64>,
    rest: Vec<f64>,
}

impl Attention<'_> {
    /// The mixes of query rows, the first at position `first`.
    pub(super) fn rows<F: Borrow<Form> + Sync>(
        &self,
        queries: &[F],
        first: usize,
    ) -> Vec<(Form, Vec<f64>, Vec<f64>)> {
        let spans: Vec<Vec<Span>> = (queries.iter().enumerate())
            .map(|(row, query)| self.spans(query.borrow(), first + row + 1))
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
        let scored = Scored::new(self, query, (spans, &self.tokens[..seen]), head);
        let values: Vec<Cow<'_, Head>> =
            scored.tokens.iter().map(|t| Cow::Borrowed(&t.values[scored.kv])).collect();
        self.mixed(&scored, &values)
    }

    /// The mix of values, which may be projected ones.
    fn mixed(&self, scored: &Scored<'_>, values: &[Cow<'_, Head>]) -> Mixed {
        let columns = values[0].c.len();
        let centre = |d: usize| values.iter().zip(&scored.shares).map(move |(v, p)| p * v.c[d]);
        let mix: Vec<f64> = (0..columns).map(|d| centre(d).sum()).collect();
        let error = self.engine_error(values);
        if scored.still() && values.iter().all(|value| still(value)) {
            let shift = vec![0.0; columns];
            return Mixed { c: mix, g: Vec::new(), rest: error.clone(), shift, error };
        }
        let mut g = self.mean_values(scored, values);
        let mean_radii = self.inputs.radii(self.kernels, scored.spans, &g, columns);
        // w_jd = p_j (v0_jd - o0_d)
        let weights: Vec<f64> = (values.iter().zip(&scored.shares))
            .flat_map(|(value, p)| value.c.iter().zip(&mix).map(move |(v, o)| p * (v - o)))
            .collect();
        let mut by_scores = vec![0.0; g.len()];
        (self.kernels.forms.product)(&scored.moves, &weights, values.len(), &mut by_scores);
        g.iter_mut().zip(&by_scores).for_each(|(g, s)| *g += s);
        let radii = self.inputs.radii(self.kernels, scored.spans, &g, columns);
        let (weights, mix_of) = (&weights[..], &mix[..]);
        let around = Around { scored, of: values, weights, mix: mix_of, values: &mean_radii };
        let Remainder { factor, shift, mut rest } = around.remainder(&radii);
        rest.iter_mut().zip(&error).for_each(|(rest, error)| *rest += error);
        g.iter_mut().for_each(|g| *g *= factor);
        let c = mix.iter().zip(&shift).map(|(c, shift)| c + shift).collect();
        Mixed { c, g, rest, shift, error }
    }

    /// The symbols of a query and of all that it sees.
    pub(super) fn spans(&self, query: &Form, seen: usize) -> Vec<Span> {
        let tokens = &self.tokens[..seen];
        let keys = tokens.iter().map(|token| &token.key_spans[..]);
        let values = tokens.iter().map(|token| &token.value_spans[..]);
        union(keys.chain(values).chain([&query.spans[..]]))
    }

    /// What of the mix of one head is not linear, through `[dim, columns]`: what it shifts each
    /// column by and what lies around that.
    pub(super) fn directed(&self, scored: &Scored<'_>, w: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let values: Vec<Cow<'_, Head>> = (scored.tokens.iter())
            .map(|t| t.values[scored.kv].through(self.kernels, self.inputs, &t.value_spans, w))
            .map(Cow::Owned)
            .collect();
        let mixed = self.mixed(scored, &values);
        (mixed.shift, mixed.rest)
    }

    /// What the engine's softmax and sum may be off, and f64 here.
    fn engine_error(&self, values: &[Cow<'_, Head>]) -> Vec<f64> {
        let most = |d: usize| {
            let all = values.iter().map(|value| value.c[d].abs() + value.radii[d]);
            all.fold(0.0, |a, b| if b > a { b } else { a })
        };
        let columns = 0..values[0].c.len();
        columns.map(|d| most(d) * (mix_error(values.len()) + 1e-11) + 1e-40).collect()
    }

    /// The coefficients of `sum p dv`, `[symbols, dim]`.
    fn mean_values(&self, scored: &Scored<'_>, values: &[Cow<'_, Head>]) -> Vec<f64> {
        let dim = values[0].c.len();
        let mut g = vec![0.0; count(scored.spans) * dim];
        for ((token, head), &share) in scored.tokens.iter().zip(values).zip(&scored.shares) {
            for (from, to, rows) in places(&token.value_spans, scored.spans) {
                let part = &head.g[from * dim..(from + rows) * dim];
                let sum = &mut g[to * dim..(to + rows) * dim];
                sum.iter_mut().zip(part).for_each(|(g, v)| *g += share * v);
            }
        }
        g
    }
}

/// The heads of one row side by side.
fn join(spans: Vec<Span>, heads: &[Mixed], dim: usize) -> (Form, Vec<f64>, Vec<f64>) {
    let rows = count(&spans);
    let width = heads.len() * dim;
    let mut g = vec![0.0; rows * width];
    for (h, head) in heads.iter().enumerate() {
        for (row, part) in g.chunks_exact_mut(width).zip(head.g.chunks_exact(dim)) {
            row[h * dim..(h + 1) * dim].copy_from_slice(part);
        }
    }
    let all = |pick: fn(&Mixed) -> &Vec<f64>| heads.iter().flat_map(|h| pick(h).clone()).collect();
    let form = Form { c: all(|h| &h.c), spans, g, rest: all(|h| &h.rest) };
    (form, all(|h| &h.shift), all(|h| &h.error))
}

//! Latent values: those that second-order terms are products of.

use engine::kernels::Kernels;

use super::super::form::{Form, Span, places};
use super::super::inputs::Inputs;
use super::super::past::Mix;
use super::super::scores::Scored;
use super::super::store::Head;
use super::draft::Draft;

/// Their columns: the row of the gated product, the stream's own part of a margin, the root mean
/// square behind attention, the mix, a numerator; and for each head the moves of scores and of
/// values by token, and those of the query and of weighted keys by dimension.
pub(in crate::affine) struct Layout {
    pub(in crate::affine) width: usize,
    /// Values of the mix.
    pub(in crate::affine) mixed: usize,
    pub(in crate::affine) heads: usize,
    pub(in crate::affine) tokens: usize,
    pub(in crate::affine) dim: usize,
}

impl Layout {
    pub(in crate::affine) fn alpha(&self) -> usize {
        self.width
    }

    pub(in crate::affine) fn root(&self) -> usize {
        self.width + 1
    }

    pub(in crate::affine) fn mixed(&self, d: usize) -> usize {
        self.root() + 1 + d
    }

    /// How many from the root on no rival changes.
    pub(in crate::affine) fn shared(&self) -> usize {
        1 + self.mixed
    }

    pub(in crate::affine) fn numerator(&self) -> usize {
        self.root() + self.shared()
    }

    pub(in crate::affine) fn score(&self, head: usize, token: usize) -> usize {
        self.numerator() + 1 + head * 2 * (self.tokens + self.dim) + token
    }

    pub(in crate::affine) fn value(&self, head: usize, token: usize) -> usize {
        self.score(head, token) + self.tokens
    }

    pub(in crate::affine) fn query(&self, head: usize, d: usize) -> usize {
        self.score(head, 0) + 2 * self.tokens + d
    }

    pub(in crate::affine) fn keys(&self, head: usize, d: usize) -> usize {
        self.query(head, d) + self.dim
    }

    /// How many there are.
    pub(in crate::affine) fn all(&self) -> usize {
        self.score(self.heads, 0)
    }
}

/// What attention is not linear in, along a direction.
pub(in crate::affine) struct Beyond {
    /// A bound of its second-order terms.
    pub(in crate::affine) second: f64,
    /// What it is shifted by, since the centres of a mix are.
    pub(in crate::affine) shift: f64,
    /// A bound of all else.
    pub(in crate::affine) rest: f64,
}

/// What attention's latent values are made of.
pub(in crate::affine) struct Latents<'a> {
    pub(in crate::affine) kernels: &'a Kernels,
    pub(in crate::affine) inputs: &'a Inputs,
    pub(in crate::affine) mix: &'a Mix,
    /// All symbols that have a row.
    pub(in crate::affine) spans: &'a [Span],
    pub(in crate::affine) heads: &'a [Scored<'a>],
    pub(in crate::affine) layout: &'a Layout,
}

impl Latents<'_> {
    /// Attention along coefficients of what it is not linear in, before the factor `scale`; its
    /// second-order terms times `-scale` are added to the form.
    ///
    /// The names are those of [`crate::affine::attend`]: along a direction, `o - o0 = N / Z`, and
    /// of the numerator `sum p (delta v + a delta^2 / 2 + a dq dk)` is of second order.
    pub(in crate::affine) fn attention(
        &self,
        coefficients: &[f64],
        draft: &mut Draft,
        scale: f64,
    ) -> Beyond {
        let dim = self.layout.dim;
        let mut by = vec![0.0; self.layout.mixed];
        let (mut shift, mut rest, mut second) = (0.0, 0.0, 0.0);
        for (&k, &coefficient) in self.mix.values.iter().zip(coefficients) {
            // Coefficients are those of the symbols that boxes became.
            if self.mix.rest[k] > 0.0 {
                by[k] = coefficient / self.mix.rest[k];
                shift -= by[k] * self.mix.shift[k];
                rest += by[k].abs() * (self.mix.error[k] + 1e-12 * self.mix.rest[k]);
            } else {
                rest += coefficient.abs();
            }
        }
        for (head, by) in by.chunks_exact(dim).enumerate() {
            let (own, beyond) = self.head(head, by, draft, scale);
            second += own;
            rest += beyond;
        }
        Beyond { second, shift, rest }
    }

    /// The rows of the moves of a head's scores less their mean.
    fn score_moves(&self, head: usize, draft: &mut Draft) {
        let scored = &self.heads[head];
        let tokens = scored.tokens.len();
        let first = self.layout.score(head, 0);
        for (from, to, count) in places(scored.spans, self.spans) {
            for s in 0..count {
                let moves = &scored.moves[(from + s) * tokens..(from + s + 1) * tokens];
                let mean = scored.linear.mean_moves[from + s];
                let row = &mut draft.rows[(to + s) * draft.width + first..];
                row.iter_mut().zip(moves).for_each(|(x, y)| *x = y - mean);
            }
        }
    }

    fn head(&self, head: usize, by: &[f64], draft: &mut Draft, scale: f64) -> (f64, f64) {
        let scored = &self.heads[head];
        let attention = scored.attention;
        let (dim, tokens) = (self.layout.dim, scored.tokens.len());
        if scored.linear.radii.is_empty() {
            // Nothing moves, and nothing was worked out.
            return (0.0, 0.0);
        }
        let values: Vec<Head> = (scored.tokens.iter())
            .map(|token| {
                let value = &token.values[scored.kv];
                value.through(self.kernels, self.inputs, &token.value_spans, by)
            })
            .collect();
        let mix: f64 = values.iter().zip(&scored.shares).map(|(v, p)| p * v.c[0]).sum();
        let keep = scale * (1.0 - scored.delta);
        self.score_moves(head, draft);
        let form = |g: &[f64], width: usize, spans: &[_]| Form {
            c: vec![0.0; width],
            spans: spans.to_vec(),
            g: g.to_vec(),
            rest: vec![0.0; width],
        };
        let own = form(&scored.own.g, dim, &self.mix.query.spans);
        draft.place(&own, self.spans, self.layout.query(head, 0), 1.0);
        let (mut second, mut rest) = (0.0, 0.0);
        let mut weights = Vec::with_capacity(tokens);
        for (j, (value, (key, p))) in values.iter().zip(scored.keys()).enumerate() {
            let token = &scored.tokens[j];
            let a = value.c[0] - mix;
            let w = p * a;
            weights.push(w);
            let moved = form(&value.g, 1, &token.value_spans);
            draft.place(&moved, self.spans, self.layout.value(head, j), 1.0);
            let keys = form(&key.g, dim, &token.key_spans);
            draft.place(&keys, self.spans, self.layout.keys(head, 0), attention.factor * w);
            draft.put(self.layout.score(head, j), self.layout.value(head, j), -keep * p);
            draft.put(self.layout.score(head, j), self.layout.score(head, j), -keep * 0.5 * w);
            let (r, box_of, whole) =
                (value.radii[0] - value.rest[0], value.rest[0], value.radii[0]);
            let (linear, beyond) = (scored.linear.radii[j], scored.second[j]);
            // Of `dq dk`, what boxes are part of.
            let products: f64 = (0..dim)
                .map(|d| scored.own.radii[d] * key.rest[d] + scored.own.rest[d] * key.radii[d])
                .sum();
            rest += w.abs() * attention.factor * products;
            second += p * linear * r + w.abs() * (0.5 * linear * linear + scored.products[j]);
            rest += w.abs() * scored.others[j] + p * box_of;
            rest += p * (beyond * r + (linear + beyond) * box_of + scored.rho[j] * whole);
            rest += w.abs() * (beyond * (linear + 0.5 * beyond) + scored.cubic[j]);
        }
        for d in 0..dim {
            draft.put(self.layout.query(head, d), self.layout.keys(head, d), -keep);
        }
        // The quotient makes of the whole numerator within delta of it.
        let mut linear = vec![0.0; scored.moves.len() / tokens];
        (self.kernels.forms.dots)(&scored.moves, &weights, &mut linear);
        for ((token, value), p) in scored.tokens.iter().zip(&values).zip(&scored.shares) {
            for (from, to, count) in places(&token.value_spans, scored.spans) {
                let part = &value.g[from..from + count];
                linear[to..to + count].iter_mut().zip(part).for_each(|(sum, v)| *sum += p * v);
            }
        }
        let linear = self.inputs.radius(self.kernels, scored.spans, &linear);
        (second, rest + scored.delta * (linear + second + rest))
    }
}

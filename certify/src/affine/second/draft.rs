//! Margins as quadratic functions of all symbols that enter the last layer.
//!
//! What the last layer is not linear in is bounded step by step elsewhere, and each of these bounds
//! lets all symbols be extreme once more. Here all second-order terms of one margin are one
//! quadratic form beside the linear part, which [`super::dual`] bounds together: the products of
//! queries and keys, the squares of score moves and their products with values, the division behind
//! attention, the gated product, and what the last division makes of the stream. What is of third
//! order, and what boxes and the engine add, is bounded term by term.

use super::super::form::{Form, Span, places, union};
use super::super::inputs::Inputs;
use super::super::past::{Mix, Past};
use super::super::quotient::Quotient;
use super::super::scores::{Scored, dot};
use super::curved::Curved;
use super::dual::{Quadratic, Weights};
use super::latent::{Beyond, Latents, Layout};
use super::project::Projector;
use engine::kernels::Kernels;

/// What all rivals share.
pub(in crate::affine) struct Second<'a> {
    kernels: &'a Kernels,
    inputs: &'a Inputs,
    curved: &'a Curved<'a>,
    projector: &'a Projector<'a>,
    mix: &'a Mix,
    quotient: &'a Quotient,
    /// All symbols that have a row, and how many.
    spans: Vec<Span>,
    symbols: usize,
    /// Symbols behind these, which stand for what is not linear.
    hidden: usize,
    heads: &'a [Scored<'a>],
    /// Whether the terms of attention are part of the form.
    attends: bool,
    layout: Layout,
    /// What other latent values no rival changes, `[symbols + hidden, layout.shared()]`.
    shared: Vec<f64>,
    /// The stream to first order, `[symbols + hidden, width]`: what is not divided, and what is.
    plain: Vec<f64>,
    divided: Vec<f64>,
    range: (f64, f64),
    centre: Vec<f64>,
    /// How large what is beyond can be, in the stream: `weight * matrix`.
    beyond: (f64, Vec<f64>),
    /// What the root mean square behind attention moves by what attention is not linear in.
    apart: f64,
    /// The radius of its first order, and its least value.
    radius: f64,
    least: f64,
}

/// One margin's coefficients.
pub(in crate::affine) struct Direction<'a> {
    /// What the stream is multiplied by in all, `[width]`.
    pub(in crate::affine) stream: &'a [f64],
    /// What alpha is, `[width]`.
    pub(in crate::affine) alpha: &'a [f64],
    /// What the row of the gated product is multiplied by, `[width]`.
    pub(in crate::affine) slopes: &'a [f64],
    /// What the features are multiplied by.
    pub(in crate::affine) weights: &'a [f64],
}

/// A quadratic form of latent values on its way.
pub(in crate::affine) struct Draft {
    pub(in crate::affine) width: usize,
    pub(in crate::affine) q: Vec<f64>,
    /// `[symbols, width]`
    pub(in crate::affine) rows: Vec<f64>,
}

impl Draft {
    /// Adds `x y_i y_j`.
    pub(in crate::affine) fn put(&mut self, i: usize, j: usize, x: f64) {
        self.q[i * self.width + j] += 0.5 * x;
        self.q[j * self.width + i] += 0.5 * x;
    }

    /// Adds coefficients of a form times a factor to the columns from `first` on.
    pub(in crate::affine) fn place(
        &mut self,
        form: &Form,
        spans: &[Span],
        first: usize,
        factor: f64,
    ) {
        let own = form.width();
        for (from, to, count) in places(&form.spans, spans) {
            for s in 0..count {
                let row = &mut self.rows[(to + s) * self.width + first..];
                let part = &form.g[(from + s) * own..(from + s + 1) * own];
                row.iter_mut().zip(part).for_each(|(x, y)| *x += factor * y);
            }
        }
    }
}

/// The most multiplications that a form with the terms of attention may cost.
const MOST: usize = 400_000_000;

impl<'a> Second<'a> {
    /// `None` unless a mix is normed and read, and symbols are bounded one by one.
    pub(in crate::affine) fn new(
        curved: &'a Curved<'a>,
        projector: &'a Projector<'a>,
    ) -> Option<Self> {
        let reading = &projector.added.reading;
        let (Some(Past::Mixed(mix)), Some(quotient)) = (&reading.past, &reading.quotient) else {
            return None;
        };
        if curved.inputs.jointly() {
            return None;
        }
        let (kernels, inputs) = (curved.kernels, curved.inputs);
        let attention = projector.directed.attention;
        let heads = projector.directed.heads;
        let first = projector.first_order(mix);
        let lists = [&first.plain.spans[..], &first.divided.spans, &curved.others.spans];
        let spans = union(lists.into_iter().chain(heads.first().map(|head| head.spans)));
        let symbols: usize = spans.iter().map(|span| span.count).sum();
        let width = first.plain.width();
        let mut layout = Layout {
            width,
            mixed: reading.form.width(),
            heads: attention.heads,
            tokens: mix.seen,
            dim: attention.dim,
        };
        let attends = symbols * layout.all() * layout.all() < MOST;
        if !attends {
            layout.heads = 0;
        }
        let hidden = first.hidden.len() / width;
        let mut beyond = first.beyond;
        let off = first.plain.c.iter().zip(&curved.behind.reading.form.c).map(|(a, b)| a - b);
        beyond.add_vector(&off.collect::<Vec<f64>>(), 1.0);
        let mut root = quotient.r.clone();
        if let Some(rows) = mix.rows(&reading.form.spans) {
            root[rows].fill(0.0);
        }
        let radius = inputs.radius(kernels, &reading.form.spans, &root);
        let apart = projector.directed.apart(reading, mix);
        // No part of r is below its tangent.
        let by_form = (quotient.r0 - radius - apart) * (1.0 - 1e-9);
        let least = if by_form > quotient.least { by_form } else { quotient.least };
        let mut second = Self {
            kernels,
            inputs,
            curved,
            projector,
            mix,
            quotient,
            symbols,
            hidden,
            heads,
            attends,
            layout,
            shared: Vec::new(),
            plain: Vec::new(),
            divided: Vec::new(),
            range: (first.range.0, quotient.rc / least),
            least,
            centre: first.plain.c.clone(),
            beyond: (beyond.weight, beyond.matrix().to_vec()),
            apart,
            radius,
            spans,
        };
        second.lay_out(&first.plain, (&first.divided, &first.hidden), &root);
        Some(second)
    }

    /// The latent values that all rivals share.
    fn lay_out(&mut self, plain: &Form, (divided, hidden): (&Form, &[f64]), root: &[f64]) {
        let reading = &self.projector.added.reading;
        let width = self.layout.width;
        let count = self.symbols + self.hidden;
        let draft = |width: usize| Draft { width, q: Vec::new(), rows: vec![0.0; count * width] };
        let mut own = draft(width);
        own.place(plain, &self.spans, 0, 1.0);
        self.plain = own.rows;
        let mut own = draft(width);
        own.place(divided, &self.spans, 0, 1.0);
        own.rows[self.symbols * width..].copy_from_slice(hidden);
        self.divided = own.rows;
        let mut all = draft(self.layout.shared());
        let spans = reading.form.spans.clone();
        let root = Form { c: vec![0.0], spans, g: root.to_vec(), rest: vec![0.0] };
        all.place(&root, &self.spans, 0, 1.0);
        let mut mixed = Form::clone(&reading.form);
        if let Some(rows) = self.mix.rows(&mixed.spans) {
            let of = mixed.width();
            for (index, row) in rows.clone().enumerate() {
                let at = (self.symbols + index) * all.width + 1;
                all.rows[at..at + of].copy_from_slice(&mixed.g[row * of..(row + 1) * of]);
            }
            mixed.g[rows.start * of..rows.end * of].fill(0.0);
        }
        all.place(&mixed, &self.spans, 1, 1.0);
        self.shared = all.rows;
    }

    /// The row of the gated product and the stream's own part of a margin, where what is divided
    /// counts `s` times: the first columns of each row.
    fn at(&self, s: f64, of: &Direction<'_>, draft: &mut Draft) {
        let width = self.layout.width;
        let gains = &self.curved.behind.reading.gains;
        let rows = self.plain.chunks_exact(width).zip(self.divided.chunks_exact(width));
        for (to, (plain, divided)) in draft.rows.chunks_exact_mut(draft.width).zip(rows) {
            let mut alpha = 0.0;
            for k in 0..width {
                let moves = plain[k] + s * divided[k];
                alpha += of.alpha[k] * moves;
                to[k] = gains[k] * moves;
            }
            to[self.layout.alpha()] = alpha;
        }
        draft.place(&self.curved.others, &self.spans, 0, 1.0);
    }

    /// An upper bound of what the stream takes from a margin: of what is linear and of second order
    /// together, and of all else.
    pub(in crate::affine) fn lost(&self, of: &Direction<'_>) -> f64 {
        let layout = &self.layout;
        let (shared, m) = (layout.shared(), layout.all());
        let count = self.symbols + self.hidden;
        let mut draft = Draft { width: m, q: vec![0.0; m * m], rows: vec![0.0; count * m] };
        for (to, from) in draft.rows.chunks_exact_mut(m).zip(self.shared.chunks_exact(shared)) {
            to[layout.root()..layout.root() + shared].copy_from_slice(from);
        }
        let (gated, error) = self.curved.form_of(of.weights);
        for (i, row) in gated.chunks_exact(layout.width).enumerate() {
            row.iter().enumerate().for_each(|(j, &x)| draft.put(i, j, x));
        }
        for (k, &slope) in self.curved.tangent_slopes.iter().enumerate() {
            draft.put(layout.alpha(), k, -slope);
        }
        let mut rest = self.divided(of, &mut draft);
        let mut quadratic = Quadratic {
            linear: self.linear(of),
            rows: Vec::new(),
            q: draft.q.clone(),
            blocks: vec![self.beyond_in(of)],
            width: m,
            error,
        };
        // A parabola in s is nowhere above its ends by more than its bend.
        let (low, high) = self.range;
        let mut at = |s: f64, weights: Option<&Weights>| {
            self.at(s, of, &mut draft);
            quadratic.rows.clone_from(&draft.rows);
            match weights {
                Some(weights) => (quadratic.most_by(self.kernels, weights), None),
                None => {
                    let weights = quadratic.weights(self.kernels);
                    (quadratic.most_by(self.kernels, &weights), Some(weights))
                }
            }
        };
        let (most, weights) = at(high, None);
        let (other, _) = at(low, weights.as_ref());
        // Either may be no bound at all.
        let most = if other <= most { most } else { other };
        let bend = self.curved.gained(&gated, error) + self.crossed(of);
        rest += 0.25 * (high - low) * (high - low) * bend * (1.0 + 1e-9);
        most + rest - dot(of.stream, &self.centre)
    }

    /// An upper bound of what of alpha's move and of the tangent's is divided, multiplied.
    fn crossed(&self, of: &Direction<'_>) -> f64 {
        let gains = &self.curved.behind.reading.gains;
        let slopes = self.curved.tangent_slopes.iter().zip(gains).map(|(slope, gain)| slope * gain);
        let radius = |w: &[f64]| {
            let mut by = vec![0.0; self.symbols + self.hidden];
            (self.kernels.forms.dots)(&self.divided, w, &mut by);
            by.iter().map(|x| x.abs()).sum::<f64>()
        };
        radius(of.alpha) * radius(&slopes.collect::<Vec<f64>>())
    }

    /// The linear part.
    fn linear(&self, of: &Direction<'_>) -> Vec<f64> {
        let count = self.symbols + self.hidden;
        let (mut linear, mut by) = (vec![0.0; count], vec![0.0; count]);
        (self.kernels.forms.dots)(&self.plain, of.stream, &mut linear);
        (self.kernels.forms.dots)(&self.divided, of.stream, &mut by);
        by[self.symbols..].fill(0.0);
        let others = self.curved.others.product(self.kernels, of.slopes);
        for (from, to, count) in places(&others.spans, &self.spans) {
            let part = &others.g[from..from + count];
            by[to..to + count].iter_mut().zip(part).for_each(|(l, x)| *l += x);
        }
        linear.iter_mut().zip(by).for_each(|(l, x)| *l = -*l - x);
        linear
    }

    /// The division behind attention, and attention; a bound of what is not part of the form.
    ///
    /// `y / r = k + (N - k w) / r`: to first order `N / rc`, to second `- N R / rc^2`, what N has
    /// of second order by `rc`, and `- k w / rc` with `w <= mean d^2 / (2 r0)`, d the moves of the
    /// mix.
    fn divided(&self, of: &Direction<'_>, draft: &mut Draft) -> f64 {
        let Quotient { rc, r0, half, spread, .. } = *self.quotient;
        let least = self.least;
        let numerator = self.projector.numerator(self.mix, of.stream);
        draft.place(&numerator.form, &self.spans, self.layout.numerator(), 1.0);
        draft.put(self.layout.numerator(), self.layout.root(), 1.0 / (rc * rc));
        let k = numerator.share;
        let mut rest = numerator.error;
        // w is what r exceeds its tangent by, less half of the most; its f64 error besides.
        let rounding = half - (rc - r0);
        rest += if k > 0.0 {
            let mixed = self.layout.mixed as f64;
            let curved = k / (2.0 * r0 * mixed * rc) * (1.0 + 1e-9);
            (0..self.layout.mixed)
                .for_each(|d| draft.put(self.layout.mixed(d), self.layout.mixed(d), curved));
            k * (spread / (2.0 * r0) + rounding - (rc - r0)) / rc
        } else {
            -k * half / rc
        };
        let Beyond { second, shift, rest: beyond } = if self.attends {
            let latents = Latents {
                kernels: self.kernels,
                inputs: self.inputs,
                mix: self.mix,
                spans: &self.spans,
                heads: self.heads,
                layout: &self.layout,
            };
            latents.attention(&numerator.hidden, draft, 1.0 / rc)
        } else {
            let most = self.projector.directed.most(self.mix, &numerator.hidden, 1)[0];
            Beyond { second: 0.0, shift: 0.0, rest: most }
        };
        rest += (beyond - shift) / rc;
        let n = numerator.form.radii(self.kernels, self.inputs)[0];
        let around = half + self.apart;
        let moved = self.radius + around;
        rest += n * around / (rc * rc) + n * moved * moved / (rc * rc * least);
        let by_boxes = second + shift.abs() + beyond;
        let hidden = if self.attends {
            let most = self.projector.directed.most(self.mix, &numerator.hidden, 1)[0];
            if most < by_boxes { most } else { by_boxes }
        } else {
            by_boxes
        };
        let own = hidden + k.abs() * half;
        rest + own * (moved / (rc * rc) + moved * moved / (rc * rc * least))
    }

    /// What is beyond the first order of the stream, in latent values.
    fn beyond_in(&self, of: &Direction<'_>) -> (f64, Vec<f64>) {
        let (width, m) = (self.layout.width, self.layout.all());
        let mut image = vec![0.0; (width + 1) * width];
        for (k, gain) in self.curved.behind.reading.gains.iter().enumerate() {
            image[k * width + k] = *gain;
        }
        image[width * width..].copy_from_slice(of.alpha);
        // T C T', C symmetric.
        let (weight, c) = &self.beyond;
        let mut left = vec![0.0; image.len()];
        (self.kernels.forms.product)(&image, c, width, &mut left);
        // What these products lose, on the diagonal.
        let trace: f64 = (0..width).map(|k| c[k * width + k]).sum();
        let size: f64 = image.iter().map(|x| x * x).sum();
        let room = 8.0 * (width + 8) as f64 * f64::EPSILON * trace * size;
        let mut matrix = vec![0.0; m * m];
        for (i, row) in left.chunks_exact(width).enumerate() {
            for (j, own) in image.chunks_exact(width).enumerate() {
                matrix[i * m + j] = dot(row, own);
            }
            matrix[i * m + i] += room;
        }
        (*weight, matrix)
    }
}

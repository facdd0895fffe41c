//! Affine forms: a centre, generators over shared noise symbols, and a box for what is left.
//!
//! A row of values is `c + G e + x` with symbols `e` and `|x_k| <= rest_k`. Symbols have numbers
//! that the domain gives out, in whole spans; a form lists the spans that it knows in rising order.
//! The same number in two forms is the same unknown: that is all the correlation there is.
//!
//! Every operation is over the reals. Its own f64 errors are below `K 2^-52` of the magnitudes that
//! enter (K the terms of a sum, at most 2^20), a small part of the `u = 2^-24` of them that each
//! step of the walk adds for the engine anyway.

use engine::kernels::Kernels;
use rayon::prelude::*;

use super::inputs::Inputs;

/// Consecutive symbols.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// The first number.
    pub(super) first: usize,
    /// How many.
    pub(super) count: usize,
}

/// A box this much narrower than a form replaces it.
pub(super) const NARROWER: f64 = 0.63;

/// Rows of coefficients that one task works on.
const CHUNK: usize = 512;

/// One row of values as affine forms over noise symbols.
#[derive(Clone, Debug, Default)]
pub(super) struct Form {
    /// Centres, `[width]`.
    pub(super) c: Vec<f64>,
    /// The symbols, rising.
    pub(super) spans: Vec<Span>,
    /// Coefficients `[symbols, width]`.
    pub(super) g: Vec<f64>,
    /// Radii of the boxes, `[width]`.
    pub(super) rest: Vec<f64>,
}

impl Form {
    /// The form of a point.
    pub(super) fn constant(c: Vec<f64>) -> Self {
        let rest = vec![0.0; c.len()];
        Self { c, spans: Vec::new(), g: Vec::new(), rest }
    }

    /// The form of boxes that know nothing of any symbol.
    pub(super) fn of_box(lo: &[f64], hi: &[f64]) -> Self {
        let c: Vec<f64> = lo.iter().zip(hi).map(|(lo, hi)| 0.5 * (lo + hi)).collect();
        let ends = c.iter().zip(lo.iter().zip(hi));
        let rest = ends.map(|(&c, (&lo, &hi))| box_radius(c, lo, hi)).collect();
        Self { c, spans: Vec::new(), g: Vec::new(), rest }
    }

    pub(super) fn width(&self) -> usize {
        self.c.len()
    }

    /// The number of symbols.
    pub(super) fn symbols(&self) -> usize {
        self.spans.iter().map(|span| span.count).sum()
    }

    /// Whether nothing moves.
    pub(super) fn is_point(&self) -> bool {
        self.spans.is_empty() && self.rest.iter().all(|&x| x == 0.0)
    }

    /// The radius of each value.
    pub(super) fn radii(&self, kernels: &Kernels, inputs: &Inputs) -> Vec<f64> {
        let mut radii = inputs.radii(kernels, &self.spans, &self.g, self.width());
        radii.iter_mut().zip(&self.rest).for_each(|(radius, rest)| *radius += rest);
        radii
    }

    /// Turns the boxes into symbols of their own, from number `next` on, one for each that is none
    /// yet; gives their span.
    pub(super) fn settle(&mut self, next: &mut usize) -> Option<Span> {
        let width = self.width();
        let moving: Vec<usize> = (0..width).filter(|&k| self.rest[k] > 0.0).collect();
        if moving.is_empty() {
            return None;
        }
        let span = Span { first: *next, count: moving.len() };
        *next += span.count;
        let begin = self.g.len();
        self.g.resize(begin + span.count * width, 0.0);
        for (index, &k) in moving.iter().enumerate() {
            self.g[begin + index * width + k] = self.rest[k];
            self.rest[k] = 0.0;
        }
        self.spans.push(span);
        Some(span)
    }

    /// The values through a matrix `[width, outputs]`; boxes through its magnitudes.
    pub(super) fn product(&self, kernels: &Kernels, w: &[f64]) -> Self {
        let outputs = w.len() / self.width();
        let mut c = vec![0.0; outputs];
        (kernels.forms.product)(&self.c, w, self.width(), &mut c);
        let rest = through_magnitudes(&self.rest, w);
        Self { c, spans: self.spans.clone(), g: rows_product(kernels, &self.g, w, outputs), rest }
    }

    /// Each value times a factor of its own.
    pub(super) fn scaled(&self, factors: &[f64]) -> Self {
        let mut scaled = self.clone();
        let rows = scaled.g.chunks_exact_mut(factors.len());
        for row in rows.chain(std::iter::once(&mut scaled.c[..])) {
            row.iter_mut().zip(factors).for_each(|(x, factor)| *x *= factor);
        }
        scaled.rest.iter_mut().zip(factors).for_each(|(x, factor)| *x *= factor.abs());
        scaled
    }

    /// The values, each times a factor of its own, through a matrix `[width, outputs]`.
    pub(super) fn product_of_scaled(&self, kernels: &Kernels, factors: &[f64], w: &[f64]) -> Self {
        let mut scaled = w.to_vec();
        let outputs = w.len() / self.width();
        for (row, factor) in scaled.chunks_exact_mut(outputs).zip(factors) {
            row.iter_mut().for_each(|x| *x *= factor);
        }
        self.product(kernels, &scaled)
    }

    /// All values times one factor.
    pub(super) fn scale(&mut self, factor: f64) {
        self.g.iter_mut().chain(&mut self.c).for_each(|x| *x *= factor);
        self.rest.iter_mut().for_each(|x| *x *= factor.abs());
    }

    /// Adds a form of the same width.
    pub(super) fn add(&mut self, other: &Self) {
        if other.spans.iter().all(|span| self.spans.contains(span)) {
            add_spread(&mut self.g, other, &self.spans);
            self.c.iter_mut().zip(&other.c).for_each(|(a, b)| *a += b);
            self.rest.iter_mut().zip(&other.rest).for_each(|(a, b)| *a += b);
        } else {
            *self = self.plus(other);
        }
    }

    /// The sum of two forms of one width.
    pub(super) fn plus(&self, other: &Self) -> Self {
        let spans = union([&self.spans[..], &other.spans[..]]);
        let mut g = spread(self, &spans);
        add_spread(&mut g, other, &spans);
        let sum = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a + b).collect();
        Self { c: sum(&self.c, &other.c), spans, g, rest: sum(&self.rest, &other.rest) }
    }

    /// Takes the boxes of values where they are clearly narrower, and points as they are; gives
    /// the radii that the values then have.
    pub(super) fn narrow(
        &mut self,
        kernels: &Kernels,
        inputs: &Inputs,
        boxes: &[(f64, f64)],
    ) -> Vec<f64> {
        if boxes.iter().all(|(lo, hi)| lo == hi) {
            *self = Self::constant(boxes.iter().map(|ends| ends.0).collect());
            return vec![0.0; boxes.len()];
        }
        let mut radii = self.radii(kernels, inputs);
        for (k, (&(lo, hi), radius)) in boxes.iter().zip(&mut radii).enumerate() {
            // What correlates is worth something, unless the box is a point.
            let clearly = 0.5 * (hi - lo) < NARROWER * *radius || lo == hi;
            if clearly || !radius.is_finite() {
                self.replace_by_box(k, lo, hi);
                *radius = self.rest[k];
            }
        }
        radii
    }

    /// Turns the spans with the least coefficients into boxes until at most `most` symbols are
    /// left, with room for one a value; says whether any went.
    ///
    /// Whole spans, so that rows which share symbols go on sharing them.
    pub(super) fn reduce(&mut self, kernels: &Kernels, inputs: &Inputs, most: usize) -> bool {
        let (width, count) = (self.width(), self.symbols());
        if count <= most {
            return false;
        }
        let mut row = 0;
        let mut ranked: Vec<(f64, usize, usize)> = (self.spans.iter().enumerate())
            .map(|(index, span)| {
                row += span.count;
                let g = &self.g[(row - span.count) * width..row * width];
                (g.iter().fold(0.0, |sum, x| sum + x.abs()), index, row - span.count)
            })
            .collect();
        ranked.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let mut left = count + width;
        let mut gone = vec![false; self.spans.len()];
        for &(_, index, _) in &ranked {
            if left > most {
                gone[index] = true;
                left -= self.spans[index].count;
            }
        }
        let (mut kept, mut dropped) = (Self::default(), Self::default());
        let mut row = 0;
        for (span, gone) in self.spans.iter().zip(gone) {
            let part = if gone { &mut dropped } else { &mut kept };
            part.spans.push(*span);
            part.g.extend_from_slice(&self.g[row * width..(row + span.count) * width]);
            row += span.count;
        }
        let radii = inputs.radii(kernels, &dropped.spans, &dropped.g, width);
        self.rest.iter_mut().zip(radii).for_each(|(rest, radius)| *rest += radius * (1.0 + 1e-12));
        (self.spans, self.g) = (kept.spans, kept.g);
        true
    }

    /// Replaces one value by a box, which knows nothing of any symbol.
    pub(super) fn replace_by_box(&mut self, k: usize, lo: f64, hi: f64) {
        let width = self.width();
        self.g.iter_mut().skip(k).step_by(width).for_each(|g| *g = 0.0);
        self.c[k] = 0.5 * (lo + hi);
        self.rest[k] = box_radius(self.c[k], lo, hi);
    }
}

/// The distance of the farther end from a centre, rounded up.
pub(super) fn box_radius(centre: f64, lo: f64, hi: f64) -> f64 {
    let (below, above) = (centre - lo, hi - centre);
    if lo == hi { 0.0 } else { (if above > below { above } else { below }).next_up() }
}

/// `[rows, inner]` times `[inner, outputs]`, in parallel over rows.
pub(super) fn rows_product(kernels: &Kernels, g: &[f64], w: &[f64], outputs: usize) -> Vec<f64> {
    let inner = w.len() / outputs;
    let mut out = vec![0.0; g.len() / inner * outputs];
    if g.len() <= CHUNK * inner {
        (kernels.forms.product)(g, w, inner, &mut out);
    } else {
        out.par_chunks_mut(CHUNK * outputs)
            .zip(g.par_chunks(CHUNK * inner))
            .for_each(|(out, g)| (kernels.forms.product)(g, w, inner, out));
    }
    out
}

/// `[inner]` through the magnitudes of `[inner, outputs]`.
pub(super) fn through_magnitudes(x: &[f64], w: &[f64]) -> Vec<f64> {
    let outputs = w.len() / x.len();
    let mut out = vec![0.0; outputs];
    for (&x, w) in x.iter().zip(w.chunks_exact(outputs)) {
        if x != 0.0 {
            out.iter_mut().zip(w).for_each(|(sum, w)| *sum += x * w.abs());
        }
    }
    out
}

/// All spans of several lists, rising, each once.
pub(super) fn union<'a>(lists: impl IntoIterator<Item = &'a [Span]>) -> Vec<Span> {
    let mut all: Vec<Span> = lists.into_iter().flatten().copied().collect();
    all.sort_unstable_by_key(|span| span.first);
    all.dedup();
    assert!(
        all.windows(2).all(|pair| pair[0].first + pair[0].count <= pair[1].first),
        "spans are whole"
    );
    all
}

/// Where the rows of each span of a part lie in a whole: `(row in part, row in whole, count)`.
pub(super) fn places(part: &[Span], whole: &[Span]) -> Vec<(usize, usize, usize)> {
    let mut places = Vec::with_capacity(part.len());
    let (mut from, mut to, mut at) = (0, 0, 0);
    for span in part {
        while whole[at].first != span.first {
            to += whole[at].count;
            at += 1;
        }
        places.push((from, to, span.count));
        from += span.count;
    }
    places
}

/// The coefficients of a form over more spans.
pub(super) fn spread(form: &Form, spans: &[Span]) -> Vec<f64> {
    let width = form.width();
    let mut g = vec![0.0; spans.iter().map(|span| span.count).sum::<usize>() * width];
    for (from, to, count) in places(&form.spans, spans) {
        g[to * width..(to + count) * width]
            .copy_from_slice(&form.g[from * width..(from + count) * width]);
    }
    g
}

/// Adds the coefficients of a form to rows over more spans.
fn add_spread(g: &mut [f64], form: &Form, spans: &[Span]) {
    let width = form.width();
    for (from, to, count) in places(&form.spans, spans) {
        let rows = &form.g[from * width..(from + count) * width];
        g[to * width..(to + count) * width].iter_mut().zip(rows).for_each(|(g, x)| *g += x);
    }
}

//! Margins between two logits, decided before anything is divided.
//!
//! The final norm divides a row by one positive number, so it never changes the sign of a margin:
//! what is bounded is `sum (w_y - w_k) g z`, an affine form of the stream. In front of the last
//! residual addition the rows of the down layer are projected too, so that one quotient a rival is
//! made linear and not one a feature.
//!
//! Other ways: [`super::undivided`], and [`super::refine`] for what these do not decide.

use engine::kernels::Kernels;
use engine::model::Float;

use super::attend::Attention;
use super::form::{Form, Span, rows_product, through_magnitudes};
use super::inputs::Inputs;
use super::linear::{Matrix, dot_error, outputs};
use super::past::{Added, Mix, Past};
use super::rows::absolute;
use super::scores::Scored;
use super::second::curved::Layers;
use super::second::project::Directed;
use super::sites::Reading;
use crate::interval::UNIT;

/// The stream that the final norm reads.
#[derive(Clone, Copy)]
pub(super) enum Stream<'a> {
    /// As forms.
    Form(&'a Form),
    /// A form and the last down layer on top, in all ways to read its row.
    Sum(&'a Form, &'a [Reading], &'a Matrix, bool),
}

/// What the margins of one row need.
pub(super) struct Final<'a> {
    pub(super) kernels: &'a Kernels,
    pub(super) inputs: &'a Inputs,
    pub(super) stream: Stream<'a>,
    /// The box of the stream.
    pub(super) ends: (&'a [f64], &'a [f64]),
    pub(super) gains: &'a [f64],
    pub(super) eps: (f64, f64),
    pub(super) head: &'a Float,
    /// The layers of the last gated product.
    pub(super) layers: Option<Layers<'a>>,
    /// What the stream before it was made of.
    pub(super) behind: Option<Attended<'a>>,
}

/// What the stream behind the last attention was made of.
pub(super) struct Attended<'a> {
    pub(super) added: &'a Added,
    pub(super) output: &'a Matrix,
    pub(super) attention: Attention<'a>,
}

impl<'a> Attended<'a> {
    fn mix(&self) -> Option<&'a Mix> {
        match &self.added.reading.past {
            Some(Past::Mixed(mix)) => Some(mix),
            _ => None,
        }
    }

    /// The symbols of attention.
    pub(super) fn spans(&self) -> Option<Vec<Span>> {
        self.mix().map(|mix| self.attention.spans(&mix.query, mix.seen))
    }

    /// The scores of all heads.
    pub(super) fn heads<'b>(&'b self, spans: &'b [Span]) -> Vec<Scored<'b>> {
        let Some(mix) = self.mix() else { return Vec::new() };
        let tokens = &self.attention.tokens[..mix.seen];
        (0..self.attention.heads)
            .map(|head| Scored::new(&self.attention, &mix.query, (spans, tokens), head))
            .collect()
    }

    /// What attention is not linear in.
    pub(super) fn directed<'b>(&'b self, heads: &'b [Scored<'b>]) -> Directed<'b> {
        Directed { attention: &self.attention, heads }
    }
}

/// Rivals that are looked at together.
pub(super) const TOGETHER: usize = 64;

impl Final<'_> {
    /// Lower bounds of the margins of the winner over each rival.
    pub(super) fn lower(&self, winner: usize, rivals: &[usize]) -> Vec<f64> {
        rivals.chunks(TOGETHER).flat_map(|rivals| self.some(winner, rivals)).collect()
    }

    /// What each span of symbols contributes to the radius of one margin, by its first number: all
    /// of the input under 0, boxes under the largest.
    pub(super) fn parts(&self, winner: usize, rival: usize) -> Vec<(usize, f64)> {
        let (w, _) = self.projection(winner, &[rival]);
        let margin = match self.stream {
            Stream::Form(form) => form.product(self.kernels, &w),
            Stream::Sum(base, ways, matrix, rounded) => {
                let w_down = (&through(self.kernels, matrix, &w, base.width())[..], 1.0);
                let all = ways.iter().map(|way| {
                    let update = outputs(self.kernels, self.inputs, way, w_down, rounded);
                    let margin = base.product(self.kernels, &w).plus(&update);
                    (lower_ends(self.kernels, self.inputs, &margin)[0], margin)
                });
                let best = all.reduce(|best, way| if way.0 > best.0 { way } else { best });
                best.expect("at least one way").1
            }
        };
        parts_of(self.kernels, self.inputs, &margin)
    }

    fn some(&self, winner: usize, rivals: &[usize]) -> Vec<f64> {
        let (w, magnitudes) = self.projection(winner, rivals);
        let absolute = self.underflow(winner, rivals);
        let most = self.largest();
        let mut error = self.relative_error(&magnitudes, &most);
        let low = match self.stream {
            Stream::Form(form) => {
                let margins = form.product(self.kernels, &w);
                lower_ends(self.kernels, self.inputs, &margins)
            }
            Stream::Sum(base, ways, matrix, rounded) => {
                let own = self.sum_error(&ways[0], matrix, rounded, &most);
                let own = through_magnitudes(&own, &w);
                error.iter_mut().zip(own).for_each(|(sum, x)| *sum += x);
                let all = ways.iter().map(|way| self.sum(base, (way, matrix, rounded), &w));
                all.reduce(larger).expect("at least one way")
            }
        };
        let off = error.into_iter().zip(absolute);
        low.iter()
            .zip(off)
            .map(|(low, (error, absolute))| self.whole(*low, error, absolute))
            .collect()
    }

    /// A margin from its numerator and what either may be off.
    pub(super) fn whole(&self, numerator: f64, error: f64, absolute: f64) -> f64 {
        let (least, most) = self.root_mean_square();
        let low = numerator - error - 1e-36;
        low / if low > 0.0 { most } else { least } - absolute
    }

    /// `(w_y - w_k) g`, `[width, rivals]`, and what the engine and f64 may be off in each margin of
    /// a stream that is a form: to be divided by the root mean square, and besides.
    pub(super) fn projected(&self, winner: usize, rivals: &[usize]) -> (Vec<f64>, Vec<(f64, f64)>) {
        let (w, magnitudes) = self.projection(winner, rivals);
        let error = self.relative_error(&magnitudes, &self.largest());
        let besides = self.underflow(winner, rivals);
        (w, error.into_iter().map(|error| error + 1e-36).zip(besides).collect())
    }

    /// The errors of the final norm and both dot products, of all magnitudes; and of f64 here.
    pub(super) fn relative_error(&self, magnitudes: &[f64], most: &[f64]) -> Vec<f64> {
        let relative = dot_error(most.len()) + 10.0 * UNIT + 1e-9;
        let scaled: Vec<f64> = most.iter().map(|x| x * relative).collect();
        through_magnitudes(&scaled, magnitudes)
    }

    /// `(w_y - w_k) g`, `[width, rivals]`, and `(|w_y| + |w_k|) |g|`.
    pub(super) fn projection(&self, winner: usize, rivals: &[usize]) -> (Vec<f64>, Vec<f64>) {
        let width = self.head.columns();
        let (mut own, mut other) = (vec![0f32; width], vec![0f32; width]);
        self.head.read_row(winner, &mut own);
        let mut w = vec![0.0; width * rivals.len()];
        let mut magnitudes = w.clone();
        for (column, &rival) in rivals.iter().enumerate() {
            self.head.read_row(rival, &mut other);
            for k in 0..width {
                let gain = self.gains[k];
                let (a, b) = (f64::from(own[k]), f64::from(other[k]));
                w[k * rivals.len() + column] = (a - b) * gain;
                magnitudes[k * rivals.len() + column] = (a.abs() + b.abs()) * gain.abs();
            }
        }
        (w, magnitudes)
    }

    /// What the engine loses below its normal range in the normed row and in both products.
    pub(super) fn underflow(&self, winner: usize, rivals: &[usize]) -> Vec<f64> {
        let width = self.head.columns();
        let mut row = vec![0f32; width];
        let mut of = |index: usize| -> f64 {
            self.head.read_row(index, &mut row);
            let terms = row.iter().zip(self.gains);
            terms.map(|(w, gain)| f64::from(w.abs()) * absolute(*gain) + 1e-44).sum()
        };
        let own = of(winner);
        rivals.iter().map(|&rival| own + of(rival)).collect()
    }

    /// The largest magnitude of each feature of the stream.
    pub(super) fn largest(&self) -> Vec<f64> {
        let (lo, hi) = &self.ends;
        let most = |(&lo, &hi): (&f64, &f64)| if -lo > hi { -lo } else { hi };
        lo.iter().zip(*hi).map(most).collect()
    }

    /// The range of the engine's root mean square, roughly.
    fn root_mean_square(&self) -> (f64, f64) {
        let (lo, hi) = &self.ends;
        let d = lo.len() as f64;
        let (mut near, mut far) = (0.0, 0.0);
        for (&lo, &hi) in lo.iter().zip(*hi) {
            let least = if lo > 0.0 {
                lo
            } else if hi < 0.0 {
                hi
            } else {
                0.0
            };
            let most = if -lo > hi { lo } else { hi };
            near += least * least;
            far += most * most;
        }
        let (least, most) = ((near / d + self.eps.0).sqrt(), (far / d + self.eps.1).sqrt());
        (least * (1.0 - 1e-6), most * (1.0 + 1e-6))
    }

    /// The engine's errors of the last down layer and of the addition behind it, by feature.
    pub(super) fn sum_error(
        &self,
        reading: &Reading,
        matrix: &Matrix,
        rounded: bool,
        most: &[f64],
    ) -> Vec<f64> {
        let product = if rounded { 0.0 } else { dot_error(reading.most.len()) };
        let relative = reading.error + product + 4.0 * UNIT;
        let site: Vec<f64> = (reading.most.iter().zip(&reading.slack))
            .map(|(most, slack)| (most * relative + slack) * matrix.scale.abs())
            .collect();
        let out = through_magnitudes(&site, &matrix.w);
        out.iter().zip(most).map(|(out, most)| out + UNIT * most + 1e-40).collect()
    }

    /// Lower ends of the margins of a sum, up to the engine's errors.
    fn sum(&self, base: &Form, last: (&Reading, &Matrix, bool), w: &[f64]) -> Vec<f64> {
        let (reading, matrix, rounded) = last;
        let through = through(self.kernels, matrix, w, base.width());
        let update = outputs(self.kernels, self.inputs, reading, (&through, 1.0), rounded);
        let alpha = base.product(self.kernels, w);
        let divided = lower_ends(self.kernels, self.inputs, &alpha.plus(&update));
        match self.undivided(&alpha, reading, &through) {
            None => divided,
            Some(undivided) => larger(divided, undivided),
        }
    }
}

/// What each span of symbols contributes to the radius of a form of one value.
pub(super) fn parts_of(kernels: &Kernels, inputs: &Inputs, margin: &Form) -> Vec<(usize, f64)> {
    let own = inputs.own(&margin.spans);
    let (spans, rows) = (&margin.spans[..own.0], own.1);
    let mut parts = vec![(0, inputs.radius(kernels, spans, &margin.g[..rows]))];
    let mut row = rows;
    parts.extend(margin.spans[own.0..].iter().map(|span| {
        row += span.count;
        let of = &margin.g[row - span.count..row];
        (span.first, of.iter().fold(0.0, |sum, x| sum + x.abs()))
    }));
    parts.push((usize::MAX, margin.rest[0]));
    parts
}

fn larger(a: Vec<f64>, b: Vec<f64>) -> Vec<f64> {
    a.into_iter().zip(b).map(|(a, b)| if b > a { b } else { a }).collect()
}

/// A projection through the last down layer.
pub(super) fn through(kernels: &Kernels, matrix: &Matrix, w: &[f64], width: usize) -> Vec<f64> {
    let mut through = rows_product(kernels, &matrix.w, w, w.len() / width);
    through.iter_mut().for_each(|x| *x *= matrix.scale);
    through
}

pub(super) fn lower_ends(kernels: &Kernels, inputs: &Inputs, form: &Form) -> Vec<f64> {
    let radii = form.radii(kernels, inputs);
    let ends = form.c.iter().zip(radii);
    ends.map(|(c, r)| c - r - 1e-12 * (c.abs() + r)).collect()
}

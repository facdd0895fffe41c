//! Margins between two logits, decided before anything is divided.
//!
//! The final norm divides a row by one positive number, so it never changes the sign of a margin:
//! what is bounded is `sum (w_y - w_k) g z`, an affine form of the stream. In front of the last
//! residual addition the rows of the down layer are projected too, so that one quotient a rival is
//! made linear and not one a feature.
//!
//! Second way, for a stream `z + W (x g / r)`: its margin times `r` is `alpha r + beta`, with alpha
//! and beta forms of z and x. No quotient is left; the products are `alpha R` (polarised) and the
//! curvature of r.

use engine::kernels::Kernels;
use engine::model::Float;

use super::form::{Form, rows_product, spread, through_magnitudes, union};
use super::inputs::Inputs;
use super::linear::{Matrix, dot_error, outputs};
use super::quotient::polar;
use super::rows::absolute;
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
}

/// The engine's floor under an absmax, with room.
const FLOOR: f64 = 2e-5;
/// Rivals that are looked at together.
const TOGETHER: usize = 64;

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
        let (least, largest) = self.root_mean_square();
        low.iter()
            .zip(error)
            .zip(absolute)
            .map(|((low, error), absolute)| {
                let low = low - error - 1e-36;
                low / if low > 0.0 { largest } else { least } - absolute
            })
            .collect()
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
    fn relative_error(&self, magnitudes: &[f64], most: &[f64]) -> Vec<f64> {
        let relative = dot_error(most.len()) + 10.0 * UNIT + 1e-9;
        let scaled: Vec<f64> = most.iter().map(|x| x * relative).collect();
        through_magnitudes(&scaled, magnitudes)
    }

    /// `(w_y - w_k) g`, `[width, rivals]`, and `(|w_y| + |w_k|) |g|`.
    fn projection(&self, winner: usize, rivals: &[usize]) -> (Vec<f64>, Vec<f64>) {
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
    fn underflow(&self, winner: usize, rivals: &[usize]) -> Vec<f64> {
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
    fn largest(&self) -> Vec<f64> {
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
    fn sum_error(
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

    /// `(alpha r + beta) / r` without a quotient; `None` where some site is not late.
    pub(super) fn undivided(
        &self,
        alpha: &Form,
        reading: &Reading,
        through: &[f64],
    ) -> Option<Vec<f64>> {
        let quotient = reading.quotient.as_ref()?;
        // A box has a centre of its own and is no rounding, even where both share a symbol.
        if reading.fixed.is_some() || reading.boxed {
            return None;
        }
        let (kernels, inputs) = (self.kernels, self.inputs);
        let form = &reading.form;
        let scaled = form.scaled(&reading.gains);
        let beta = scaled.product(kernels, through);
        let spans = union([&form.spans[..], &alpha.spans[..]]);
        let rivals = beta.width();
        let r = spread(
            &Form {
                c: vec![0.0],
                spans: form.spans.clone(),
                g: quotient.r.clone(),
                rest: vec![0.0],
            },
            &spans,
        );
        let (a, b) = (spread(alpha, &spans), spread(&beta, &spans));
        // Rounding symbols, in the scale of the numerator: half a code of the largest magnitude.
        let radii = scaled.radii(kernels, inputs);
        let largest = (scaled.c.iter().zip(&radii).map(|(c, r)| c.abs() + r))
            .fold(0.0, |most, x| if x > most { x } else { most });
        // The floor under the absmax does not scale with the row.
        let above_floor = largest > FLOOR * quotient.most;
        let noise: Vec<f64> = (reading.noise.iter())
            .map(|&n| {
                let by_scale = n * quotient.most;
                let by_form = 0.5 * largest / reading.top * (1.0 + 1e-6 + reading.error);
                if n > 0.0 && above_floor && by_form < by_scale { by_form } else { by_scale }
            })
            .collect();
        let noise = through_magnitudes(&noise, through);
        let q = 2.0 * (quotient.rc - quotient.r0);
        let rounding = quotient.half - 0.5 * q;
        let alpha_radii = alpha.radii(kernels, inputs);
        let mut low = Vec::with_capacity(rivals);
        for k in 0..rivals {
            let column =
                |g: &[f64]| g.iter().skip(k).step_by(rivals).copied().collect::<Vec<f64>>();
            let (ga, gb) = (column(&a), column(&b));
            let linear: Vec<f64> = (ga.iter().zip(&gb).zip(&r))
                .map(|((a, b), r)| alpha.c[k] * r + quotient.r0 * a + b)
                .collect();
            let radius = inputs.radius(kernels, &spans, &linear);
            let own = alpha_radii[k] - alpha.rest[k];
            let (product, _) = polar(kernels, inputs, &spans, (&ga, own), (&r, quotient.radius));
            let rest = alpha.rest[k] * quotient.most + beta.rest[k] + noise[k];
            let least = alpha.c[k] - alpha_radii[k];
            let most = alpha.c[k].abs() + alpha_radii[k];
            let curved = if least < 0.0 { least * q } else { 0.0 } - most * rounding;
            let whole = alpha.c[k] * quotient.r0 + beta.c[k] - radius - rest + product + curved;
            let f64_error = 1e-9 * (most * quotient.most + beta.c[k].abs() + radius);
            let whole = whole - f64_error;
            low.push(whole / if whole > 0.0 { quotient.most } else { quotient.least });
        }
        Some(low)
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
fn through(kernels: &Kernels, matrix: &Matrix, w: &[f64], width: usize) -> Vec<f64> {
    let mut through = rows_product(kernels, &matrix.w, w, w.len() / width);
    through.iter_mut().for_each(|x| *x *= matrix.scale);
    through
}

pub(super) fn lower_ends(kernels: &Kernels, inputs: &Inputs, form: &Form) -> Vec<f64> {
    let radii = form.radii(kernels, inputs);
    let ends = form.c.iter().zip(radii);
    ends.map(|(c, r)| c - r - 1e-12 * (c.abs() + r)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::form::Span;
    use super::super::inputs::Bound;
    use super::super::sites::{Known, Source};
    use std::sync::Arc;

    use super::*;
    use engine::kernels;
    use engine::numerics::INT8;

    /// The margin of `k + n` over 0, `n` the first value of a row `(c, 1)` behind its norm and its
    /// codes. `known` are boxes behind the norm and lower codes of both values, `width` codes wide.
    fn lower(
        (k, c, gain): (f64, f64, f64),
        known: [((f64, f64), i8); 2],
        (width, step): (u8, f64),
        most: f64,
    ) -> f64 {
        let (kernels, inputs) = (kernels::scalar(), Inputs::new(1, Bound::Each));
        let spans = vec![Span { first: 0, count: 1 }];
        let x = Form { c: vec![c, 1.0], spans, g: vec![0.4 * c, 0.0], rest: vec![0.0; 2] };
        let source = Source {
            form: &Arc::new(x),
            gains: vec![gain; 2],
            eps: Some((1e-6, 1e-6)),
            error: 0.0,
            absolute: vec![0.0; 2],
        };
        let (boxes, codes): (Vec<(f64, f64)>, Vec<i8>) = known.into_iter().unzip();
        let known = Known {
            source: (vec![-2.0; 2], vec![2.0; 2]),
            normed: boxes.into_iter().unzip(),
            codes: Some((&codes, &[width; 2], (step, step), INT8)),
        };
        let ways = Reading::ways(kernels, &inputs, source, &known, 1);
        let matrix = Matrix { w: vec![1.0, 0.0, 0.0, 1.0], scale: 1.0 };
        let head = Float::F32 { data: vec![1.0, 0.0, 0.0, 0.0], columns: 2 };
        let base = Form::constant(vec![k, 0.0]);
        let of = Final {
            kernels,
            inputs: &inputs,
            stream: Stream::Sum(&base, &ways, &matrix, true),
            ends: (&[-most; 2], &[most; 2]),
            gains: &[1.0, 1.0],
            eps: (1e-6, 1e-6),
            head: &head,
        };
        of.lower(0, &[1])[0]
    }

    #[test]
    fn a_site_that_is_a_box_counts_in_the_undivided_margin() {
        // The form of the site is far wider than its box at -1.
        let known = [((-1.001, -0.999), -127), ((0.5, 1.5), 60)];
        let least = lower((0.5, -1.0, 1.0), known, (67, 1.0 / 127.0), 3.0);
        assert!(least < 0.0, "{least}");
    }

    #[test]
    fn rounding_below_the_floor_under_the_absmax_counts_in_the_undivided_margin() {
        // Values near 1e-6 in steps of the floor: the first is at least 0.58e-6 or so, its code 7,
        // so that 7.5 steps are not a lower bound.
        let known = [((0.0, 2e-6), 5), ((0.0, 2e-6), 5)];
        let step = 1e-5 / 127.0;
        let by_rounding = |k: f64| lower((k, 1.0, 1e-6), known, (20, step), 3e-6);
        let ends: Vec<f64> = (0..200).map(|i| f64::from(i) * -1e-8).collect();
        let most = ends.iter().filter(|&&k| by_rounding(k) > 0.0).count();
        // Without any rounding the value is 0.6 / sqrt(0.68) of 1e-6 at least.
        let least = 0.6e-6 / 0.68f64.sqrt() - 0.5 * step;
        assert!(most as f64 * 1e-8 <= least + 1e-8, "{most} of {least}");
    }
}

//! Margins in front of the last addition without a quotient.
//!
//! For a stream `z + W (x g / r)` a margin times `r` is `alpha r + beta`, with alpha and beta forms
//! of z and x. No quotient is left; the products are `alpha R` (polarised) and the curvature of r.

use super::form::{Form, spread, through_magnitudes, union};
use super::margin::Final;
use super::quotient::polar;
use super::sites::Reading;

/// The engine's floor under an absmax, with room.
const FLOOR: f64 = 2e-5;

impl Final<'_> {
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use engine::kernels;
    use engine::model::Float;
    use engine::numerics::INT8;

    use super::super::form::Span;
    use super::super::inputs::{Bound, Inputs};
    use super::super::linear::Matrix;
    use super::super::margin::Stream;
    use super::super::sites::{Known, Source};
    use super::*;

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
            layers: None,
            behind: None,
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

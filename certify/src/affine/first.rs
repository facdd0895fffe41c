//! The stream behind the last attention to first order, and what is beyond.
//!
//! It is a stream, and behind a division by `r` the outputs of a layer that reads a mix. With `N`
//! the numerators less their shares `k` of r, it moves by `(N - k w) / r` (see
//! [`super::quotient`]): by `N / rc`, and by N again times what `1 / r` varies, which is no more
//! than a scaled copy of N.

use super::attend::Attention;
use super::energy::Energy;
use super::form::Form;
use super::linear::finished;
use super::past::{Added, Mix};
use super::second::project::Projector;
use super::sites::Reading;
use crate::interval::UNIT;

/// The stream to first order: `plain + s * divided`, s in a range about 1, and what is beyond.
pub(super) struct FirstOrder {
    /// The stream before, and what the outputs read besides numerators; nothing in `rest`. Its
    /// centre is that of the whole.
    pub(super) plain: Form,
    /// The moves of the outputs, divided by the middle of the root mean square.
    pub(super) divided: Form,
    /// The same, `[symbols, width]`, of symbols that only stand for what is not linear: what the
    /// mix is not linear in, and the curvature of the root mean square.
    pub(super) hidden: Vec<f64>,
    /// The range of s: the middle of the root mean square by itself.
    pub(super) range: (f64, f64),
    /// How large all else can be.
    pub(super) beyond: Energy,
}

/// The numerator of one projection of the stream, before the division.
pub(super) struct Numerator {
    /// Its moves, of one value, but for those of what the mix is not linear in.
    pub(super) form: Form,
    /// The coefficients of these.
    pub(super) hidden: Vec<f64>,
    /// The quotient at the centre.
    pub(super) share: f64,
    /// What boxes and the engine add to the projection.
    pub(super) error: f64,
}

impl Projector<'_> {
    /// The stream to first order about its centre.
    pub(super) fn first_order(&self, mix: &Mix) -> FirstOrder {
        let Attention { kernels, inputs, .. } = *self.directed.attention;
        let Added { stream, reading, rounded } = self.added;
        let width = stream.width();
        let by: Vec<f64> = self.matrix.w.iter().map(|w| w * self.matrix.scale).collect();
        let mut y = reading.form.product_of_scaled(kernels, &reading.gains, &by);
        let mut hidden = Vec::new();
        let mut curvature = Vec::new();
        let mut range = (1.0, 1.0);
        if let Some(quotient) = &reading.quotient {
            y.c.iter_mut().for_each(|c| *c /= quotient.rc);
            let (ones, minus) = (vec![1.0; width], y.c.iter().map(|k| -k).collect::<Vec<_>>());
            (kernels.forms.combine)(&mut y.g, &quotient.r, &ones, &minus);
            y.g.iter_mut().for_each(|g| *g /= quotient.rc);
            curvature = y.c.iter().map(|k| k * quotient.half / quotient.rc).collect();
            range = (quotient.rc / quotient.most, quotient.rc / quotient.least);
        }
        if let Some(rows) = mix.rows(&reading.form.spans) {
            let own = &mut y.g[rows.start * width..rows.end * width];
            hidden.extend_from_slice(own);
            own.fill(0.0);
        }
        hidden.extend(curvature);
        let without = Reading { quotient: None, ..reading.clone() };
        let none = Form::constant(vec![0.0; width]);
        let others = finished(kernels, inputs, &without, none, (&by, 1.0), *rounded);
        let mut plain = stream.plus(&others);
        let mut beyond = Energy::of_box(&plain.rest);
        let rounding = self.most.iter().map(|most| most * (UNIT + 1e-11) + 1e-40);
        beyond.add_box(&rounding.collect::<Vec<f64>>(), 1.0);
        plain.rest.fill(0.0);
        plain.c.iter_mut().zip(&y.c).for_each(|(sum, c)| *sum += c);
        FirstOrder { plain, divided: y, hidden, range, beyond }
    }

    /// The numerator of a projection `[width]`.
    pub(super) fn numerator(&self, mix: &Mix, w: &[f64]) -> Numerator {
        let Attention { kernels, inputs, .. } = *self.directed.attention;
        let Added { reading, rounded, .. } = self.added;
        let mut by = vec![0.0; reading.form.width()];
        (kernels.forms.dots)(&self.matrix.w, w, &mut by);
        by.iter_mut().for_each(|x| *x *= self.matrix.scale);
        let mut form = reading.form.product_of_scaled(kernels, &reading.gains, &by);
        let mut share = form.c[0];
        if let Some(quotient) = &reading.quotient {
            share /= quotient.rc;
            form.g.iter_mut().zip(&quotient.r).for_each(|(g, r)| *g -= share * r);
        }
        let hidden = match mix.rows(&reading.form.spans) {
            Some(rows) => {
                let hidden = form.g[rows.clone()].to_vec();
                form.g[rows].fill(0.0);
                hidden
            }
            None => Vec::new(),
        };
        let plain = Reading { quotient: None, ..reading.clone() };
        let none = Form::constant(vec![0.0]);
        let others = finished(kernels, inputs, &plain, none, (&by, 1.0), *rounded);
        let error: f64 = self.errors().iter().zip(w).map(|(error, w)| error * w.abs()).sum();
        Numerator { form, hidden, share, error: others.rest[0] + error }
    }
}

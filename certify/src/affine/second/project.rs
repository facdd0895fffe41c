//! Projections of the stream behind the last attention, looked at through what it was made of.
//!
//! A form of that stream has a box for what is not linear in each of its values, and a projection
//! adds them up. But the division before the output layer leaves of a projection what it leaves of
//! one numerator, and attention leaves of it what it leaves of one value a head: far less.

use std::sync::Arc;

use super::super::attend::Attention;
use super::super::energy::Energy;
use super::super::form::{Form, rows_product, through_magnitudes};
use super::super::linear::{Matrix, dot_error, finished};
use super::super::past::{Added, Mix, Past};
use super::super::scores::Scored;
use super::super::sites::Reading;
use crate::interval::UNIT;

/// What attention is not linear in, bounded where it is used.
#[derive(Clone, Copy)]
pub(in crate::affine) struct Directed<'a> {
    pub(in crate::affine) attention: &'a Attention<'a>,
    /// The scores of all heads.
    pub(in crate::affine) heads: &'a [Scored<'a>],
}

/// What projections of the stream need.
#[derive(Clone, Copy)]
pub(in crate::affine) struct Projector<'a> {
    pub(in crate::affine) directed: Directed<'a>,
    pub(in crate::affine) added: &'a Added,
    /// The output layer of attention.
    pub(in crate::affine) matrix: &'a Matrix,
    /// The largest magnitude of each value of the stream.
    pub(in crate::affine) most: &'a [f64],
}

impl Projector<'_> {
    /// The stream through `[width, columns]`.
    pub(in crate::affine) fn through(&self, w: &[f64]) -> Form {
        let Added { stream, reading, rounded } = self.added;
        let columns = w.len() / stream.width();
        let kernels = self.directed.attention.kernels;
        let mut by = rows_product(kernels, &self.matrix.w, w, columns);
        by.iter_mut().for_each(|x| *x *= self.matrix.scale);
        let update = self.directed.outputs(reading, (&by, 1.0), *rounded);
        let mut sum = stream.product(kernels, w).plus(&update);
        let error = through_magnitudes(&self.errors(), w);
        sum.rest.iter_mut().zip(error).for_each(|(rest, error)| *rest += error);
        sum
    }

    /// How large the stream less `centre` can be, each value times a gain.
    ///
    /// The division makes of the numerators `N` themselves times `1 / r`, so their energy counts
    /// once, at the least r: no remainder of a division is left.
    pub(in crate::affine) fn energy(&self, gains: &[f64], centre: &[f64]) -> Energy {
        let Attention { kernels, inputs, .. } = *self.directed.attention;
        let Added { stream, reading, rounded } = self.added;
        let width = gains.len();
        let by: Vec<f64> = (self.matrix.w.chunks_exact(width))
            .flat_map(|w| w.iter().zip(gains).map(|(w, gain)| w * gain * self.matrix.scale))
            .collect();
        let stream = stream.scaled(gains);
        let mut energy = inputs.energy(kernels, &stream.spans, &stream.g, &stream.rest);
        let mut y = reading.form.product_of_scaled(kernels, &reading.gains, &by);
        let mut middle = stream.c.clone();
        if let Some(quotient) = &reading.quotient {
            let shares: Vec<f64> = y.c.iter().map(|c| c / quotient.rc).collect();
            let (ones, minus) = (vec![1.0; width], shares.iter().map(|k| -k).collect::<Vec<_>>());
            (kernels.forms.combine)(&mut y.g, &quotient.r, &ones, &minus);
            let numerators = inputs.energy(kernels, &y.spans, &y.g, &y.rest);
            energy.add_scaled(&numerators, 1.0 / quotient.least);
            energy.add_vector(&shares, quotient.half / quotient.least);
            middle.iter_mut().zip(&shares).for_each(|(sum, k)| *sum += k);
        } else {
            energy.add_scaled(&inputs.energy(kernels, &y.spans, &y.g, &y.rest), 1.0);
            middle.iter_mut().zip(&y.c).for_each(|(sum, c)| *sum += c);
        }
        let plain = Reading { quotient: None, ..reading.clone() };
        let none = Form::constant(vec![0.0; width]);
        let others = finished(kernels, inputs, &plain, none, (&by, 1.0), *rounded);
        energy.add_scaled(&inputs.energy(kernels, &others.spans, &others.g, &others.rest), 1.0);
        middle.iter_mut().zip(&others.c).for_each(|(sum, c)| *sum += c);
        let off: Vec<f64> =
            (middle.iter().zip(centre)).zip(gains).map(|((m, c), gain)| m - c * gain).collect();
        energy.add_vector(&off, 1.0);
        let rounding: Vec<f64> = (self.most.iter().zip(gains))
            .map(|(most, gain)| (most * (UNIT + 1e-11) + 1e-40) * gain.abs())
            .collect();
        energy.add_box(&rounding, 1.0);
        energy
    }

    /// What the engine may be off in each value of the stream.
    pub(in crate::affine) fn errors(&self) -> Vec<f64> {
        let Added { reading, rounded, .. } = self.added;
        let product = if *rounded { 0.0 } else { dot_error(reading.most.len()) };
        let site: Vec<f64> = (reading.most.iter().zip(&reading.slack))
            .map(|(most, slack)| most * (reading.error + product + 4.0 * UNIT) + slack)
            .map(|error| error * self.matrix.scale.abs())
            .collect();
        let out = through_magnitudes(&site, &self.matrix.w);
        let all = out.iter().zip(self.most);
        all.map(|(out, most)| out + most * (UNIT + 1e-11) + 1e-40).collect()
    }
}

impl Directed<'_> {
    /// The outputs of a layer that reads a mix, with what attention is not linear in bounded for
    /// each numerator and for the root mean square as a whole.
    pub(in crate::affine) fn outputs(
        &self,
        reading: &Reading,
        (w, scale): (&[f64], f64),
        rounded: bool,
    ) -> Form {
        let Attention { kernels, inputs, .. } = *self.attention;
        let mut y = reading.form.product_of_scaled(kernels, &reading.gains, w);
        let columns = y.width();
        let mut reading = reading.clone();
        let past = reading.past.take();
        let Some(Past::Mixed(mix)) = past else {
            return finished(kernels, inputs, &reading, y, (w, scale), rounded);
        };
        if let Some(rows) = mix.rows(&reading.form.spans) {
            let own = &mut y.g[rows.start * columns..rows.end * columns];
            if let Some(quotient) = &mut reading.quotient {
                let quotient = Arc::make_mut(quotient);
                let rc = quotient.rc;
                let shared = &mut quotient.r[rows];
                for (own, r) in own.chunks_exact_mut(columns).zip(&*shared) {
                    own.iter_mut().zip(&y.c).for_each(|(own, c)| *own -= c / rc * r);
                }
                quotient.apart = self.most(&mix, shared, 1)[0];
                shared.fill(0.0);
                quotient.radius = inputs.radius(kernels, &reading.form.spans, &quotient.r);
            }
            let most = self.most(&mix, own, columns);
            own.fill(0.0);
            y.rest.iter_mut().zip(most).for_each(|(rest, most)| *rest += most);
        }
        finished(kernels, inputs, &reading, y, (w, scale), rounded)
    }

    /// What the root mean square of a row moves by what attention is not linear in.
    pub(in crate::affine) fn apart(&self, reading: &Reading, mix: &Mix) -> f64 {
        let rows = mix.rows(&reading.form.spans);
        match (&reading.quotient, rows) {
            (Some(quotient), Some(rows)) => self.most(mix, &quotient.r[rows], 1)[0],
            _ => 0.0,
        }
    }

    /// The most that coefficients `[values, columns]` make of what attention is not linear in.
    pub(in crate::affine) fn most(
        &self,
        mix: &Mix,
        coefficients: &[f64],
        columns: usize,
    ) -> Vec<f64> {
        let (dim, heads) = (self.attention.dim, self.attention.heads);
        let mut lambda = vec![0.0; heads * dim * columns];
        let (mut plain, mut rest) = (vec![0.0; columns], vec![0.0; columns]);
        let mut shift = vec![0.0; columns];
        for (&k, own) in mix.values.iter().zip(coefficients.chunks_exact(columns)) {
            for (column, c) in own.iter().enumerate() {
                plain[column] += c.abs();
                if mix.rest[k] > 0.0 {
                    let by = c / mix.rest[k];
                    lambda[k * columns + column] = by;
                    shift[column] -= by * mix.shift[k];
                    rest[column] += by.abs() * (mix.error[k] + 1e-12 * mix.rest[k]);
                } else {
                    rest[column] += c.abs();
                }
            }
        }
        for (scored, w) in self.heads.iter().zip(lambda.chunks_exact(dim * columns)) {
            let (by, around) = self.attention.directed(scored, w);
            for column in 0..columns {
                shift[column] += by[column];
                rest[column] += around[column];
            }
        }
        (0..columns)
            .map(|column| {
                let most = (rest[column] + shift[column].abs()) * (1.0 + 1e-9);
                if most < plain[column] { most } else { plain[column] }
            })
            .collect()
    }
}

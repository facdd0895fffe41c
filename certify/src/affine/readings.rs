//! How layers read rows: from the form, from codes, or by what norms left open.

use std::sync::Arc;

use engine::model::{Gate, Slot};
use engine::walk::{Site, Step};
use rayon::prelude::*;

use super::form::Form;
use super::linear::outputs;
use super::quotient::Quotient;
use super::rows::{Normed, Rows, Scaled, Shape, absolute, ends_of};
use super::sites::{Known, Reading, Source};
use super::state::{Affine, NORM_ERROR};
use super::{Birth, Kind};
use crate::interval::{BoxPrepared, Boxes};

impl Affine<'_> {
    /// A norm of normed rows: the first root mean square cancels but for the second's eps.
    pub(super) fn norm_again(
        &mut self,
        at: Site,
        first: &[Normed],
        boxes: &Boxes,
        (gains, eps): (&[f64], f64),
        regular: &[bool],
    ) -> Vec<Normed> {
        let (kernels, inputs) = (self.kernels, self.inputs.clone());
        self.births.push(Birth { first: self.next, site: at, kind: Kind::Remainder });
        let one = |(row, normed): (usize, &Normed)| {
            let (lo, hi) = &normed.ends;
            let quotient = Quotient::new(kernels, &inputs, &normed.form, (lo, hi), normed.eps);
            let (mut form, eps) = match quotient {
                Some(q) => (
                    normed.form.scaled(&normed.gains),
                    (eps * q.least * q.least, eps * q.most * q.most),
                ),
                None => {
                    let (lo, hi): (Vec<f64>, Vec<f64>) = ends_of(boxes, row).into_iter().unzip();
                    (Form::of_box(&lo, &hi), (eps, eps))
                }
            };
            form.settle(&mut self.next);
            let (ends, form) = (self.own_ends(&form), Arc::new(form));
            let eps = (eps.0 * (1.0 - 1e-12), eps.1 * (1.0 + 1e-12));
            // The value and the root mean square of it carry the first norm's error.
            let error = 2.0 * normed.error + NORM_ERROR;
            // Behind a root mean square of at least 1e-15.
            let all = normed.absolute.iter().copied().fold(0.0, |a, b| if b > a { b } else { a });
            let first = all * (1.0 + (gains.len() as f64).sqrt()) * 1e15;
            let of = |gain: &f64| absolute(*gain) + gain.abs() * first;
            let absolute = gains.iter().map(of).collect();
            let regular = normed.regular && regular[row];
            let gains = gains.to_vec();
            Normed { form, pending: None, gains, eps, error, absolute, regular, past: None, ends }
        };
        first.iter().enumerate().map(one).collect()
    }

    /// Whether the norm before the down layer cancels the scale that gate and up share.
    pub(super) fn scale_free(&self, layer: usize) -> bool {
        self.model.config.gate == Gate::Relu2 && self.model.layers[layer].ffn_sub_norm.is_some()
    }

    /// Whether the down layer of a layer is left to the margins.
    pub(super) fn down_waits(&self, layer: usize) -> bool {
        let last = layer + 1 == self.model.layers.len();
        // In front of a head of integers the row is quantised, so it must be there.
        self.waits && last && self.model.coded_head.is_none()
    }

    /// The readings of normed or plain rows, with their factors.
    pub(super) fn readings(
        &mut self,
        at: Site,
        x: &Rows,
        prepared: &BoxPrepared,
    ) -> (Vec<Vec<Reading>>, Vec<(f64, f64)>) {
        let rows = x.boxes.lo.nrows();
        let width = x.boxes.lo.ncols();
        let free =
            matches!(at.step, Step::Prepare(Slot::Gate | Slot::Up)) && self.scale_free(at.layer);
        let plain = match &x.shape {
            Shape::Normed(_) => Vec::new(),
            _ => {
                let mut forms: Vec<Scaled> =
                    self.forms(x).into_iter().map(Scaled::shared).collect();
                self.settle(at, &mut forms);
                forms
            }
        };
        // Symbols rise along a form: those of the rounding come behind what was settled.
        let base = self.next;
        self.births.push(Birth { first: base, site: at, kind: Kind::Rounding });
        self.next += rows * width;
        let (kernels, inputs) = (self.kernels, self.inputs.clone());
        (0..rows)
            .into_par_iter()
            .with_min_len(self.grain())
            .map(|row| {
                let next = base + row * width;
                let ends = ends_of(&x.boxes, row).into_iter().unzip();
                let codes = prepared.codes.as_ref().map(|codes| {
                    let (lo, width, scale) = codes.row(row);
                    (lo, width, scale, codes.levels)
                });
                match &x.shape {
                    Shape::Normed(normed) => {
                        normed[row].reading(kernels, &inputs, ends, codes, free, next)
                    }
                    _ => {
                        let form = &plain[row].form;
                        let (gains, absolute) = (vec![1.0; width], vec![0.0; width]);
                        let source = Source { form, gains, eps: None, error: 0.0, absolute };
                        let known = Known::new(ends.clone(), ends, codes);
                        (Reading::ways(kernels, &inputs, source, &known, next), (1.0, 1.0))
                    }
                }
            })
            .map(|(ways, factor)| (self.narrowest(at, ways, prepared.codes.is_some()), factor))
            .unzip()
    }

    /// The way of reading a row that gives the layer the narrowest outputs; all of them in front of
    /// a down layer that waits, whose margins choose for themselves.
    fn narrowest(&self, at: Site, ways: Vec<Reading>, rounded: bool) -> Vec<Reading> {
        let Step::Prepare(slot) = at.step else { return ways };
        if ways.len() == 1 || (slot == Slot::Down && self.down_waits(at.layer)) {
            return ways;
        }
        let matrix = self.matrices.of(at.layer, slot);
        let w = (&matrix.w[..], matrix.scale);
        let all = ways.into_iter().map(|way| {
            let form = outputs(self.kernels, &self.inputs, &way, w, rounded);
            let width: f64 = form.radii(self.kernels, &self.inputs).iter().sum();
            (width, form, way)
        });
        let best = all.reduce(|best, way| if way.0 < best.0 { way } else { best });
        // Gate and up are taken row by row, so that not all of their outputs lie in memory.
        let keep = matches!(slot, Slot::Q | Slot::O);
        let best = best.into_iter();
        best.map(|(_, form, way)| Reading { taken: keep.then(|| (slot, Arc::new(form))), ..way })
            .collect()
    }
}

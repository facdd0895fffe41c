//! What the linear layers read: a row behind its norm, with the rounding of its codes.
//!
//! The engine's code of value `y_i = g_i z_i / r` is `rne(y_i t)`, `t` the scale of the row, so the
//! value that the integer product uses is `n_i = y_i + e_i / t`, `|e_i| <= 1/2`: the value itself
//! and one fresh symbol. That symbol is 0 at a unique arg-max, whose code is the
//! largest whatever the scale. Nothing of a maximum is made linear: the scale of the row cancels
//! between `t` and the product.
//!
//! A site is *late* where its value stays a form until the product is taken (see
//! [`super::quotient`]), *fixed* where its codes are known better than its value: a code in
//! `[k, k + 1]` is `k` times the row's `1 / t`, which is a form of its own where the arg-max is
//! unique. Else it is a *box*.

use std::sync::Arc;

use engine::kernels::Kernels;
use engine::model::Slot;
use engine::numerics::{INT8, Levels, forms};

use super::codes::{Codes, Ends};
use super::form::{Form, NARROWER, Span};
use super::inputs::Inputs;
use super::past::Past;
use super::quotient::Quotient;
use crate::interval::UNIT;

/// One row as linear layers read it.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    /// The values before the norm; settled.
    pub(super) form: Arc<Form>,
    /// Gains; 0 where a site is not late.
    pub(super) gains: Vec<f64>,
    /// The root mean square, behind a norm.
    pub(super) quotient: Option<Arc<Quotient>>,
    /// The centres of sites that are not late.
    pub(super) centres: Vec<f64>,
    /// The radii of sites that are not late.
    pub(super) boxes: Vec<f64>,
    /// The codes of fixed sites, and `1 / t` as a form; `None` where no site is fixed so.
    pub(super) fixed: Option<(Vec<f64>, Form)>,
    /// The radii of the rounding symbols, and their numbers.
    pub(super) noise: Vec<f64>,
    pub(super) span: Span,
    /// The largest magnitude of each value.
    pub(super) most: Vec<f64>,
    /// What f64 arithmetic may add to each value.
    pub(super) slack: Vec<f64>,
    /// The engine's relative error of each value.
    pub(super) error: f64,
    /// Whether boxes took the place of some sites.
    pub(super) boxed: bool,
    /// The largest code, where there are codes.
    pub(super) top: f64,
    /// What the row was made of, in the last layer.
    pub(super) past: Option<Past>,
    /// The outputs of one linear layer, where they were taken to choose this way of reading.
    pub(super) taken: Option<(Slot, Arc<Form>)>,
}

/// Lower codes, their widths, the range of a scale, and what the codes are among.
pub(super) type RowCodes<'a, T> = (&'a [i8], &'a [u8], (T, T), Levels);

/// What the interval domain knows of a row.
pub(super) struct Known<'a> {
    /// The values before the norm, over the reals (in the scale of the form).
    pub(super) source: (Vec<f64>, Vec<f64>),
    /// The values behind the norm.
    pub(super) normed: (Vec<f64>, Vec<f64>),
    /// Codes and the range of `1 / t`, under integer codes.
    pub(super) codes: Option<RowCodes<'a, f64>>,
}

impl<'a> Known<'a> {
    /// The ranges before and behind the norm, and codes with the range of the scale `t`.
    pub(super) fn new(
        source: (Vec<f64>, Vec<f64>),
        normed: (Vec<f64>, Vec<f64>),
        codes: Option<RowCodes<'a, f32>>,
    ) -> Self {
        let inverse = |t: f32| 1.0 / f64::from(t);
        let codes = codes.map(|(lo, width, (t_lo, t_hi), levels)| {
            let range = (inverse(t_hi) * (1.0 - 1e-15), inverse(t_lo) * (1.0 + 1e-15));
            (lo, width, range, levels)
        });
        Self { source, normed, codes }
    }
}

/// Of a row: its form, gains and the range of eps if it is normed, the error of its values.
pub(super) struct Source<'a> {
    pub(super) form: &'a Arc<Form>,
    pub(super) gains: Vec<f64>,
    pub(super) eps: Option<(f64, f64)>,
    pub(super) error: f64,
    /// What the engine's values may be off besides, below its normal range.
    pub(super) absolute: Vec<f64>,
}

/// Values that may be off by more than this are left to their boxes.
const MOST_ABSOLUTE: f64 = 1e-16;

impl Source<'_> {
    /// The form with its gains and its root mean square; where that has no bound, the boxes behind
    /// the norm as they are.
    fn divided(
        self,
        kernels: &Kernels,
        inputs: &Inputs,
        known: &Known<'_>,
    ) -> (Arc<Form>, Vec<f64>, Option<Quotient>) {
        let Some(eps) = self.eps else { return (self.form.clone(), self.gains, None) };
        let (lo, hi) = &known.source;
        let fine = self.absolute.iter().all(|&x| x < MOST_ABSOLUTE);
        let quotient =
            fine.then(|| Quotient::new(kernels, inputs, self.form, (lo, hi), eps)).flatten();
        match quotient {
            Some(quotient) => (self.form.clone(), self.gains, Some(quotient)),
            None => {
                let (lo, hi) = &known.normed;
                (Arc::new(Form::of_box(lo, hi)), vec![1.0; lo.len()], None)
            }
        }
    }
}

/// Which bounds of a site may take the place of its form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Allowed {
    /// Codes and boxes.
    Both,
    /// Codes only.
    Codes,
    /// Neither.
    Forms,
}

impl Reading {
    /// A row as linear layers read it: up to three ways, all of them true. Which is narrowest
    /// depends on the layer.
    pub(super) fn ways(
        kernels: &Kernels,
        inputs: &Inputs,
        source: Source<'_>,
        known: &Known<'_>,
        next: usize,
    ) -> Vec<Self> {
        let (error, absolute) = (source.error, source.absolute.clone());
        let (form, gains, quotient) = source.divided(kernels, inputs, known);
        let width = form.width();
        let mut values = form.scaled(&gains);
        if let Some(quotient) = &quotient {
            quotient.divide(kernels, inputs, &mut values);
        }
        let radii = values.radii(kernels, inputs);
        let ends = Ends::new(&values, &radii, known, (error, &absolute));
        let plain = Self {
            form,
            gains,
            quotient: quotient.map(Arc::new),
            centres: vec![0.0; width],
            boxes: vec![0.0; width],
            fixed: None,
            noise: vec![0.0; width],
            span: Span { first: next, count: 0 },
            most: ends.most(),
            slack: (0..width)
                .map(|k| 1e-9 * (values.c[k].abs() + radii[k]) + absolute[k])
                .collect(),
            error: error + 6.0 * UNIT,
            boxed: false,
            top: known.codes.map_or(INT8, |(.., levels)| levels).most().into(),
            past: None,
            taken: None,
        };
        let codes = known.codes.map(|(lo, width, scale, _)| {
            Codes::new(kernels, inputs, &plain, &ends, (lo, width), scale)
        });
        let way = |allowed| plain.allowing(allowed, &ends, &values, &radii, codes.as_ref());
        let mut ways = vec![way(Allowed::Both)];
        for allowed in [Allowed::Codes, Allowed::Forms] {
            let other = way(allowed);
            if other.gains != ways[ways.len() - 1].gains {
                ways.push(other);
            }
        }
        ways
    }

    fn allowing(
        &self,
        allowed: Allowed,
        ends: &Ends,
        values: &Form,
        radii: &[f64],
        codes: Option<&Codes>,
    ) -> Self {
        let mut reading = self.clone();
        if allowed == Allowed::Both {
            for (k, radius) in radii.iter().enumerate() {
                // A box that is clearly narrower is worth losing what correlates.
                if 0.5 * (ends.hi[k] - ends.lo[k]) < NARROWER * radius {
                    reading.make_box(k, ends.lo[k], ends.hi[k]);
                }
            }
        }
        if let Some(codes) = codes {
            reading.round(codes, values, radii, allowed != Allowed::Forms);
        }
        reading
    }

    fn make_box(&mut self, k: usize, lo: f64, hi: f64) {
        self.boxed = true;
        self.gains[k] = 0.0;
        self.centres[k] = 0.5 * (lo + hi);
        self.boxes[k] = super::form::box_radius(self.centres[k], lo, hi);
    }

    /// Adds the rounding of codes, and fixes sites whose codes say more than their values.
    fn round(&mut self, codes: &Codes, values: &Form, radii: &[f64], fix: bool) {
        let step = codes.step;
        let unique = codes.unique;
        let mut fixed = vec![0.0; self.gains.len()];
        // 1/t as a form: the value of the arg-max by its sign, which has the largest code.
        let (scale_radius, scale_rest) = match unique {
            Some((j, _)) => (radii[j] / self.top, (values.rest[j] + codes.slack) / self.top),
            None => (codes.scale_radius(), codes.scale_radius()),
        };
        for k in 0..fixed.len() {
            let (lo, hi) = codes.range[k];
            let noise = if unique.is_some_and(|(j, _)| j == k) { 0.0 } else { 0.5 * step };
            let late = self.gains[k] != 0.0;
            let now = noise + if late { radii[k] } else { self.boxes[k] };
            let (middle, spread) = (0.5 * (lo + hi), 0.5 * (hi - lo));
            // A code that is 0 on the whole set is worth nothing but itself.
            let fix = fix || (lo == 0.0 && hi == 0.0);
            if fix && hi - lo <= 1.0 && middle.abs() * scale_radius + spread * step <= now {
                self.gains[k] = 0.0;
                self.centres[k] = 0.0;
                fixed[k] = middle;
                self.noise[k] = middle.abs() * scale_rest + spread * step;
            } else {
                // One symbol for the rounding and for a box: all outputs share it.
                self.noise[k] = noise + self.boxes[k];
            }
            self.boxes[k] = 0.0;
            self.most[k] += 0.5 * step;
        }
        if fixed.iter().any(|&k| k != 0.0) {
            self.fixed = Some((fixed, codes.scale_form(values)));
        }
        self.span.count = self.noise.iter().filter(|&&x| x > 0.0).count();
    }
}

/// The dense matrix of a layer times the sites that are not late: what they add to each output.
pub(super) fn boxes_through(kernels: &Kernels, reading: &Reading, w: &[f64]) -> Form {
    let outputs = w.len() / reading.centres.len();
    let mut c = vec![0.0; outputs];
    (kernels.forms.product)(&reading.centres, w, reading.centres.len(), &mut c);
    let rest = super::form::through_magnitudes(&reading.boxes, w);
    let mut form = Form { c, spans: Vec::new(), g: Vec::new(), rest };
    if let Some((codes, scale)) = &reading.fixed {
        let mut by_code = vec![0.0; outputs];
        (kernels.forms.product)(codes, w, codes.len(), &mut by_code);
        form.c.iter_mut().zip(&by_code).for_each(|(c, k)| *c += k * scale.c[0]);
        form.spans = scale.spans.clone();
        form.g = vec![0.0; scale.g.len() * outputs];
        forms::combine(&mut form.g, &scale.g, &vec![0.0; outputs], &by_code);
    }
    form
}

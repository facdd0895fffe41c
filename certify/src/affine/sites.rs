//! What the linear layers read: a row behind its norm, with the rounding of its int8 codes.
//!
//! The engine's code of value `y_i = g_i z_i / r` is `rne(y_i t)`, `t` the scale of the row, so the
//! value that the integer product uses is `n_i = y_i + e_i / t`, `|e_i| <= 1/2`: the value itself
//! and one fresh symbol. That symbol is 0 at a unique arg-max, whose code is +-127 whatever the
//! scale. Nothing of a maximum is made linear: the scale of the row cancels between `t` and the
//! product.
//!
//! A site is *late* where its value stays a form until the product is taken (see
//! [`super::quotient`]), *fixed* where its codes are known better than its value: a code in
//! `[k, k + 1]` is `k` times the row's `1 / t`, which is a form of its own where the arg-max is
//! unique. Else it is a *box*.

use std::sync::Arc;

use engine::kernels::Kernels;
use engine::numerics::forms;

use super::form::{Form, NARROWER, Span};
use super::inputs::Inputs;
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
}

/// Lower codes, their widths, and the range of a scale.
pub(super) type RowCodes<'a, T> = (&'a [i8], &'a [u8], (T, T));

/// What the interval domain knows of a row.
pub(super) struct Known<'a> {
    /// The values before the norm, over the reals (in the scale of the form).
    pub(super) source: (Vec<f64>, Vec<f64>),
    /// The values behind the norm.
    pub(super) normed: (Vec<f64>, Vec<f64>),
    /// Codes and the range of `1 / t`, under int8.
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
        let codes = codes.map(|(lo, width, (t_lo, t_hi))| {
            (lo, width, (inverse(t_hi) * (1.0 - 1e-15), inverse(t_lo) * (1.0 + 1e-15)))
        });
        Self { source, normed, codes }
    }
}

/// Of a row: its form, gains and the range of eps if it is normed, the error of its values.
pub(super) struct Source<'a> {
    pub(super) form: &'a Form,
    pub(super) gains: Vec<f64>,
    pub(super) eps: Option<(f64, f64)>,
    pub(super) error: f64,
}

impl Source<'_> {
    /// The form with its gains and its root mean square; where that has no bound, the boxes behind
    /// the norm as they are.
    fn divided(
        self,
        kernels: &Kernels,
        inputs: &Inputs,
        known: &Known<'_>,
    ) -> (Form, Vec<f64>, Option<Quotient>) {
        let Some(eps) = self.eps else { return (self.form.clone(), self.gains, None) };
        let (lo, hi) = &known.source;
        match Quotient::new(kernels, inputs, self.form, (lo, hi), eps) {
            Some(quotient) => (self.form.clone(), self.gains, Some(quotient)),
            None => {
                let (lo, hi) = &known.normed;
                (Form::of_box(lo, hi), vec![1.0; lo.len()], None)
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
        let error = source.error;
        let (form, gains, quotient) = source.divided(kernels, inputs, known);
        let width = form.width();
        let mut values = form.scaled(&gains);
        if let Some(quotient) = &quotient {
            quotient.divide(kernels, inputs, &mut values);
        }
        let radii = values.radii(kernels, inputs);
        let ends = Ends::new(&values, &radii, known, error);
        let plain = Self {
            form: Arc::new(form),
            gains,
            quotient: quotient.map(Arc::new),
            centres: vec![0.0; width],
            boxes: vec![0.0; width],
            fixed: None,
            noise: vec![0.0; width],
            span: Span { first: next, count: 0 },
            most: ends.most(),
            slack: (0..width).map(|k| 1e-9 * (values.c[k].abs() + radii[k])).collect(),
            error: error + 6.0 * UNIT,
        };
        let codes = known.codes.map(|(lo, width, scale)| {
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
        self.gains[k] = 0.0;
        self.centres[k] = 0.5 * (lo + hi);
        self.boxes[k] = super::form::box_radius(self.centres[k], lo, hi);
    }

    /// Adds the rounding of codes, and fixes sites whose codes say more than their values.
    fn round(&mut self, codes: &Codes, values: &Form, radii: &[f64], fix: bool) {
        let step = codes.step;
        let unique = codes.unique;
        let mut fixed = vec![0.0; self.gains.len()];
        // 1/t as a form: the value of the arg-max by its sign, which has the code +-127.
        let (scale_radius, scale_rest) = match unique {
            Some((j, _)) => (radii[j] / 127.0, (values.rest[j] + codes.slack) / 127.0),
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

/// The range of each value.
struct Ends {
    lo: Vec<f64>,
    hi: Vec<f64>,
}

impl Ends {
    fn new(values: &Form, radii: &[f64], known: &Known<'_>, error: f64) -> Self {
        let (mut lo, mut hi) = known.normed.clone();
        for k in 0..lo.len() {
            let magnitude = values.c[k].abs() + radii[k];
            let radius = radii[k] + magnitude * (error + UNIT) + 1e-40;
            let (low, high) = (values.c[k] - radius, values.c[k] + radius);
            lo[k] = if low > lo[k] { low } else { lo[k] };
            hi[k] = if high < hi[k] { high } else { hi[k] };
            assert!(lo[k] <= hi[k], "two bounds of one value meet");
        }
        Self { lo, hi }
    }

    fn most(&self) -> Vec<f64> {
        let most = |(&lo, &hi): (&f64, &f64)| if -lo > hi { -lo } else { hi };
        self.lo.iter().zip(&self.hi).map(most).collect()
    }

    fn least(&self, k: usize) -> f64 {
        if self.lo[k] > 0.0 {
            self.lo[k]
        } else if self.hi[k] < 0.0 {
            -self.hi[k]
        } else {
            0.0
        }
    }
}

/// What is known of the codes of a row.
struct Codes {
    /// The range of each code.
    range: Vec<(f64, f64)>,
    /// The range of `1 / t`.
    scale: (f64, f64),
    /// The largest `1 / t`.
    step: f64,
    /// The arg-max and its sign, where there is only one.
    unique: Option<(usize, f64)>,
    /// The engine's error of the value of the arg-max.
    slack: f64,
}

/// The engine's floor under an absmax, with room.
const FLOOR: f64 = 2e-5;
/// At most so many candidates for the arg-max are looked at one by one.
const CANDIDATES: usize = 8;

impl Codes {
    fn new(
        kernels: &Kernels,
        inputs: &Inputs,
        reading: &Reading,
        ends: &Ends,
        (lo, width): (&[i8], &[u8]),
        scale: (f64, f64),
    ) -> Self {
        let count = ends.lo.len();
        let mut range: Vec<(f64, f64)> = (lo.iter().zip(width).take(count))
            .map(|(&lo, &width)| (f64::from(lo), f64::from(lo) + f64::from(width)))
            .collect();
        let most = ends.most();
        let least = (0..count).map(|k| ends.least(k)).fold(0.0, |a, b| if b > a { b } else { a });
        // The engine's own values are within 2^-20 of these bounds' truth.
        let candidates: Vec<usize> =
            (0..count).filter(|&k| most[k] * (1.0 + 1e-6) >= least).collect();
        let sign = |k: usize| {
            if ends.lo[k] > 0.0 {
                Some(1.0)
            } else if ends.hi[k] < 0.0 {
                Some(-1.0)
            } else {
                None
            }
        };
        let exact = |k: usize| range[k].0 == range[k].1 && range[k].0.abs() == 127.0;
        let unique = match candidates[..] {
            // Below, the floor under the absmax may bind.
            [k] if exact(k) && ends.least(k) > FLOOR => sign(k).map(|sign| (k, sign)),
            _ => None,
        };
        if candidates.len() <= CANDIDATES {
            ratios(kernels, inputs, reading, &candidates, ends, &mut range);
        }
        let by_values = most.iter().copied().fold(0.0, |a, b| if b > a { b } else { a });
        // t = 127 / absmax within 4 units, unless the floor under the absmax binds.
        let by_values = by_values / 127.0 * (1.0 + 8.0 * UNIT);
        let step = if by_values < scale.1 && by_values > 1e-6 { by_values } else { scale.1 };
        let slack = unique.map_or(0.0, |(k, _)| most[k] * (reading.error + 8.0 * UNIT));
        Self { range, scale: (scale.0, step), step, unique, slack }
    }

    /// Half the width of the range of `1 / t`.
    fn scale_radius(&self) -> f64 {
        0.5 * (self.scale.1 - self.scale.0) * (1.0 + 1e-12)
    }

    /// `1 / t` as a form of one value; what it is off lies in the boxes of the sites.
    fn scale_form(&self, values: &Form) -> Form {
        match self.unique {
            Some((j, sign)) => {
                let column = values.g.iter().skip(j).step_by(values.width());
                Form {
                    c: vec![sign * values.c[j] / 127.0],
                    spans: values.spans.clone(),
                    g: column.map(|g| sign * g / 127.0).collect(),
                    rest: vec![0.0],
                }
            }
            None => Form::constant(vec![0.5 * (self.scale.0 + self.scale.1)]),
        }
    }
}

/// Narrows codes by the ratios to each candidate for the arg-max, `127 z_k / z_j`: what both share
/// cancels, the root mean square above all.
///
/// With `y = 127 g_k c_k / (s_j g_j c_j)`, the code's argument is off y by at most `127 |g_k d_k -
/// (y / 127) s_j g_j d_j| / |g_j z_j|`, and where j is the arg-max, `|g_j z_j|` is at least the
/// largest lower bound of all.
fn ratios(
    kernels: &Kernels,
    inputs: &Inputs,
    reading: &Reading,
    candidates: &[usize],
    ends: &Ends,
    range: &mut [(f64, f64)],
) {
    let Some(quotient) = &reading.quotient else { return };
    let form = &reading.form;
    let width = form.width();
    let least = (0..width).map(|k| ends.least(k)).fold(0.0, |a, b| if b > a { b } else { a });
    // In the scale of the form: |g z| = |y| r. The floor under the absmax must be out of reach.
    if least <= FLOOR {
        return;
    }
    let scaled = form.scaled(&reading.gains);
    let mut low = vec![f64::INFINITY; width];
    let mut high = vec![f64::NEG_INFINITY; width];
    for &j in candidates {
        // The centre lies on the same side of 0 as the whole range.
        if ends.least(j) <= 0.0 || scaled.c[j] * ends.lo[j] <= 0.0 {
            return;
        }
        let own = if ends.least(j) > least { ends.least(j) } else { least };
        let absmax = own * quotient.least * (1.0 - 1e-6);
        let centre = scaled.c[j].abs();
        let column: Vec<f64> = scaled.g.iter().skip(j).step_by(width).copied().collect();
        let ones = vec![1.0; width];
        // The sign of z_j is in both y and its share of the column.
        let shares: Vec<f64> = scaled.c.iter().map(|c| -c / scaled.c[j]).collect();
        let radii = inputs.combined(kernels, &form.spans, &scaled.g, &column, (&ones, &shares));
        for k in 0..width {
            let y = 127.0 * scaled.c[k] / centre;
            let rest = scaled.rest[k] + scaled.rest[j] * shares[k].abs();
            let radius = 127.0 * (radii[k] + rest) / absmax;
            let slack = (y.abs() + radius) * (2.0 * reading.error + 16.0 * UNIT) + 1e-30;
            low[k] = if y - radius - slack < low[k] { y - radius - slack } else { low[k] };
            high[k] = if y + radius + slack > high[k] { y + radius + slack } else { high[k] };
        }
    }
    for (k, range) in range.iter_mut().enumerate() {
        let (lo, hi) = (low[k].clamp(-128.0, 127.0), high[k].clamp(-128.0, 127.0));
        let (lo, hi) = (lo.round_ties_even(), hi.round_ties_even());
        range.0 = if lo > range.0 { lo } else { range.0 };
        range.1 = if hi < range.1 { hi } else { range.1 };
        assert!(range.0 <= range.1, "two bounds of one code meet");
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

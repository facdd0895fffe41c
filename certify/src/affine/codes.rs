//! What is known of the integer codes of a row: their ranges, their step, and where the arg-max is.

use engine::kernels::Kernels;

use super::form::Form;
use super::inputs::Inputs;
use super::sites::{Known, Reading};
use crate::interval::UNIT;

/// The range of each value.
pub(super) struct Ends {
    pub(super) lo: Vec<f64>,
    pub(super) hi: Vec<f64>,
}

impl Ends {
    pub(super) fn new(
        values: &Form,
        radii: &[f64],
        known: &Known<'_>,
        (error, absolute): (f64, &[f64]),
    ) -> Self {
        let (mut lo, mut hi) = known.normed.clone();
        for k in 0..lo.len() {
            let magnitude = values.c[k].abs() + radii[k];
            let radius = radii[k] + magnitude * (error + UNIT) + absolute[k] + 1e-40;
            let (low, high) = (values.c[k] - radius, values.c[k] + radius);
            lo[k] = if low > lo[k] { low } else { lo[k] };
            hi[k] = if high < hi[k] { high } else { hi[k] };
            assert!(lo[k] <= hi[k], "two bounds of one value meet");
        }
        Self { lo, hi }
    }

    pub(super) fn most(&self) -> Vec<f64> {
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
pub(super) struct Codes {
    /// The range of each code.
    pub(super) range: Vec<(f64, f64)>,
    /// The range of `1 / t`.
    scale: (f64, f64),
    /// The largest `1 / t`.
    pub(super) step: f64,
    /// The arg-max and its sign, where there is only one.
    pub(super) unique: Option<(usize, f64)>,
    /// The engine's error of the value of the arg-max.
    pub(super) slack: f64,
    /// The largest code.
    top: f64,
}

/// The engine's floor under an absmax, with room.
const FLOOR: f64 = 2e-5;
/// At most so many candidates for the arg-max are looked at one by one.
const CANDIDATES: usize = 8;

impl Codes {
    pub(super) fn new(
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
        let exact = |k: usize| range[k].0 == range[k].1 && range[k].0.abs() == reading.top;
        let unique = match candidates[..] {
            // Below, the floor under the absmax may bind.
            [k] if exact(k) && ends.least(k) > FLOOR => sign(k).map(|sign| (k, sign)),
            _ => None,
        };
        if candidates.len() <= CANDIDATES {
            ratios(kernels, inputs, reading, &candidates, ends, &mut range);
        }
        let largest = most.iter().copied().fold(0.0, |a, b| if b > a { b } else { a });
        // t = top / absmax within 4 units, unless the floor under the absmax binds.
        let by_values = largest / reading.top * (1.0 + 8.0 * UNIT);
        let step = if by_values < scale.1 && largest > FLOOR { by_values } else { scale.1 };
        let slack = unique.map_or(0.0, |(k, _)| most[k] * (reading.error + 8.0 * UNIT));
        Self { range, scale: (scale.0, step), step, unique, slack, top: reading.top }
    }

    /// Half the width of the range of `1 / t`.
    pub(super) fn scale_radius(&self) -> f64 {
        0.5 * (self.scale.1 - self.scale.0) * (1.0 + 1e-12)
    }

    /// `1 / t` as a form of one value; what it is off lies in the boxes of the sites.
    pub(super) fn scale_form(&self, values: &Form) -> Form {
        match self.unique {
            Some((j, sign)) => {
                let column = values.g.iter().skip(j).step_by(values.width());
                Form {
                    c: vec![sign * values.c[j] / self.top],
                    spans: values.spans.clone(),
                    g: column.map(|g| sign * g / self.top).collect(),
                    rest: vec![0.0],
                }
            }
            None => Form::constant(vec![0.5 * (self.scale.0 + self.scale.1)]),
        }
    }
}

/// Narrows codes by the ratios to each candidate for the arg-max, `top z_k / z_j`: what both share
/// cancels, the root mean square above all.
///
/// With `y = top g_k c_k / (s_j g_j c_j)`, the code's argument is off y by at most `top |g_k d_k -
/// (y / top) s_j g_j d_j| / |g_j z_j|`, and where j is the arg-max, `|g_j z_j|` is at least the
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
    let (width, top) = (form.width(), reading.top);
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
            let y = top * scaled.c[k] / centre;
            let rest = scaled.rest[k] + scaled.rest[j] * shares[k].abs();
            let radius = top * (radii[k] + rest) / absmax;
            let slack = (y.abs() + radius) * (2.0 * reading.error + 16.0 * UNIT) + 1e-30;
            low[k] = if y - radius - slack < low[k] { y - radius - slack } else { low[k] };
            high[k] = if y + radius + slack > high[k] { y + radius + slack } else { high[k] };
        }
    }
    for (k, range) in range.iter_mut().enumerate() {
        let (lo, hi) = (low[k].clamp(-top - 1.0, top), high[k].clamp(-top - 1.0, top));
        let (lo, hi) = (lo.round_ties_even(), hi.round_ties_even());
        range.0 = if lo > range.0 { lo } else { range.0 };
        range.1 = if hi < range.1 { hi } else { range.1 };
        assert!(range.0 <= range.1, "two bounds of one code meet");
    }
}

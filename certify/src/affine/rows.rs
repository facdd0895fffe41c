//! What rows of the affine domain may be: forms under a factor, or operations not yet carried out.

use std::ops::Range;
use std::sync::Arc;

use engine::kernels::Kernels;
use engine::model::Rope;

use super::form::Form;
use super::inputs::Inputs;
use super::past::Past;
use super::quotient::Quotient;
use super::second::curved::NormedGate;
use super::sites::{Known, Reading, RowCodes, Source};
use crate::interval::{Boxes, UNIT};

/// Rows of affine forms, with their boxes.
#[derive(Clone, Debug)]
pub struct Rows {
    /// The boxes.
    pub boxes: Boxes,
    pub(super) shape: Shape,
}

/// What the rows are, besides lying in their boxes.
#[derive(Clone, Debug)]
pub(super) enum Shape {
    /// A factor in a range times a form, row by row.
    Forms(Arc<Vec<Scaled>>),
    /// `g z / rms(z)`, not yet divided.
    Normed(Arc<Vec<Normed>>),
    /// The outputs of a layer, not yet taken: of the last down layer, whose margins are taken
    /// first, and of gate and up, which are taken row by row.
    Pending(Pending),
    /// A stream with those on top.
    Sum(Arc<Vec<Scaled>>, Pending),
}

/// `factor * form`.
#[derive(Clone, Debug)]
pub(super) struct Scaled {
    pub(super) form: Arc<Form>,
    pub(super) factor: (f64, f64),
    /// What it was made of, in the last layer.
    pub(super) past: Option<Past>,
}

/// A row behind its norm.
#[derive(Clone, Debug)]
pub(super) struct Normed {
    /// What is normed; settled.
    pub(super) form: Arc<Form>,
    /// Set where the last down layer is still to be added.
    pub(super) pending: Option<(Pending, usize)>,
    pub(super) gains: Vec<f64>,
    pub(super) eps: (f64, f64),
    pub(super) error: f64,
    /// What the engine's values may be off besides, below its normal range.
    pub(super) absolute: Vec<f64>,
    /// Whether the engine's root mean square is within its error of the truth.
    pub(super) regular: bool,
    /// What the row was made of, in the last layer.
    pub(super) past: Option<Past>,
    /// The boxes of what is normed, in the scale of the form.
    pub(super) ends: (Vec<f64>, Vec<f64>),
}

/// The readings of a layer that is not yet applied.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub(super) readings: Arc<Vec<Vec<Reading>>>,
    pub(super) factors: Arc<Vec<(f64, f64)>>,
    pub(super) rounded: bool,
}

impl Normed {
    /// The ways in which linear layers may read the row, and the factor between the truth and what
    /// they then give.
    pub(super) fn reading(
        &self,
        kernels: &Kernels,
        inputs: &Inputs,
        ends: (Vec<f64>, Vec<f64>),
        codes: Option<RowCodes<'_, f32>>,
        free: bool,
        next: usize,
    ) -> (Vec<Reading>, (f64, f64)) {
        let (form, error) = (&self.form, self.error);
        let width = form.width();
        if !self.regular {
            let form = &Arc::new(Form::of_box(&ends.0, &ends.1));
            let (gains, absolute) = (vec![1.0; width], vec![0.0; width]);
            let source = Source { form, gains, eps: None, error: 0.0, absolute };
            let known = Known::new(ends.clone(), ends, codes);
            return (Reading::ways(kernels, inputs, source, &known, next), (1.0, 1.0));
        }
        if free && let Some((source, known, factor)) = self.scale_free(kernels, inputs, codes) {
            let mut ways = Reading::ways(kernels, inputs, source, &known, next);
            ways.iter_mut().for_each(|way| way.past.clone_from(&self.past));
            return (ways, factor);
        }
        let (gains, absolute) = (self.gains.clone(), self.absolute.clone());
        let source = Source { form, gains, eps: Some(self.eps), error, absolute };
        let known = Known::new(self.ends.clone(), ends, codes);
        let mut ways = Reading::ways(kernels, inputs, source, &known, next);
        let past = match &self.past {
            Some(Past::Gated(of)) => Some(Past::NormedGate(NormedGate {
                of: of.clone(),
                gains: Arc::new(self.gains.clone()),
                eps: self.eps,
            })),
            other => other.clone(),
        };
        ways.iter_mut().for_each(|way| way.past.clone_from(&past));
        (ways, (1.0, 1.0))
    }

    /// The row divided by the root mean square of its centre instead of its own: `g z / r0`, which
    /// is affine. The truth is that times `r0 / r`.
    fn scale_free<'a>(
        &'a self,
        kernels: &Kernels,
        inputs: &Inputs,
        codes: Option<RowCodes<'a, f32>>,
    ) -> Option<(Source<'a>, Known<'a>, (f64, f64))> {
        let (lo, hi) = &self.ends;
        let quotient = Quotient::new(kernels, inputs, &self.form, (lo, hi), self.eps)?;
        let factor = (quotient.r0 / quotient.most, quotient.r0 / quotient.least);
        let (lo_codes, widths, (_, t_hi), levels) = codes?;
        let top = f64::from(levels.most());
        // The floor under the absmax must be out of reach, and the factor tame.
        let tame = self.absolute.iter().all(|&x| x < 1e-18);
        if f64::from(t_hi) > top / 4e-5 || factor.0 < 1e-2 || factor.1 > 1e2 || !tame {
            return None;
        }
        let gains: Vec<f64> = self.gains.iter().map(|g| g / quotient.r0).collect();
        let ends: Vec<(f64, f64)> = (lo.iter().zip(hi).zip(&gains))
            .map(|((lo, hi), g)| if *g >= 0.0 { (g * lo, g * hi) } else { (g * hi, g * lo) })
            .collect();
        let magnitudes = |pick: fn(f64, f64) -> f64| {
            let all = ends.iter().map(|&(lo, hi)| pick(lo, hi));
            all.fold(0.0, |most, x| if x > most { x } else { most })
        };
        let near = magnitudes(|lo, hi| {
            if lo > 0.0 {
                lo
            } else if hi < 0.0 {
                -hi
            } else {
                0.0
            }
        });
        let far = magnitudes(|lo, hi| if -lo > hi { -lo } else { hi });
        // In this scale the step is |g z|max / r0 / top, whatever r is.
        let step = (near / top * (1.0 - 1e-5), far / top * (1.0 + 1e-5));
        let slack = |x: f64| x.abs() * 1e-5 + 1e-40;
        let absolute = self.absolute.iter().map(|x| x * 1e2).collect();
        let ends = ends.iter().map(|&(lo, hi)| (lo - slack(lo), hi + slack(hi))).unzip();
        let source = Source { form: &self.form, gains, eps: None, error: self.error, absolute };
        let codes = Some((lo_codes, widths, step, levels));
        let known = Known { source: self.ends.clone(), normed: ends, codes };
        Some((source, known, (factor.0 * (1.0 - 1e-12), factor.1 * (1.0 + 1e-12))))
    }
}

/// What a normed value may be off below the normal range, besides its relative error.
pub(super) fn absolute(gain: f64) -> f64 {
    (gain.abs() + 1.0) * 1e-44
}

impl Scaled {
    pub(super) fn shared(form: Arc<Form>) -> Self {
        Self { form, factor: (1.0, 1.0), past: None }
    }

    /// The centres alone.
    pub(super) fn centre(&self) -> Self {
        let form = Arc::new(Form::constant(self.form.c.clone()));
        Self { form, factor: self.factor, past: None }
    }

    /// Intersects with the boxes of the row; gives the radii that the values of the form then have.
    ///
    /// Under a factor the boxes are not those of the form, unless the row is a point.
    pub(super) fn narrow(
        &mut self,
        kernels: &Kernels,
        inputs: &Inputs,
        ends: &[(f64, f64)],
    ) -> Vec<f64> {
        if self.factor == (1.0, 1.0) || ends.iter().all(|(lo, hi)| lo == hi) {
            self.factor = (1.0, 1.0);
            return Arc::make_mut(&mut self.form).narrow(kernels, inputs, ends);
        }
        self.form.radii(kernels, inputs)
    }

    pub(super) fn plain(form: Form) -> Self {
        Self::shared(Arc::new(form))
    }
}

impl Shape {
    pub(super) fn plain(forms: Vec<Form>) -> Self {
        Self::Forms(Arc::new(forms.into_iter().map(Scaled::plain).collect()))
    }

    pub(super) fn shared(forms: Vec<Arc<Form>>) -> Self {
        Self::Forms(Arc::new(forms.into_iter().map(Scaled::shared).collect()))
    }

    /// Rows of zeros once the bound is lost: nothing is computed any more.
    pub(super) fn lost(forms: &[Scaled]) -> Self {
        Self::plain(forms.iter().map(|f| Form::constant(vec![0.0; f.form.width()])).collect())
    }
}

pub(super) fn ends_of(boxes: &Boxes, row: usize) -> Vec<(f64, f64)> {
    let ends = boxes.lo.row(row).into_iter().zip(boxes.hi.row(row));
    ends.map(|(&lo, &hi)| (f64::from(lo), f64::from(hi))).collect()
}

/// Cuts the boxes of a row to its form.
pub(super) fn cut(boxes: &mut Boxes, row: usize, scaled: &Scaled, radii: &[f64]) {
    let (least, most) = scaled.factor;
    for (k, (&c, &radius)) in scaled.form.c.iter().zip(radii).enumerate() {
        let slack = 1e-12 * (c.abs() + radius);
        let (lo, hi) = (c - radius - slack, c + radius + slack);
        let lo = lo * if lo < 0.0 { most } else { least };
        let hi = hi * if hi < 0.0 { least } else { most };
        if radius > 0.0 && lo <= hi {
            boxes.cut(row, k, lo, hi);
        }
    }
}

impl Pending {
    pub(super) fn select(&self, rows: Range<usize>) -> Self {
        Self {
            readings: Arc::new(self.readings[rows.clone()].to_vec()),
            factors: Arc::new(self.factors[rows].to_vec()),
            rounded: self.rounded,
        }
    }
}

/// The rotation of every head of a form that stands at a position.
///
/// The engine: two products and a sum, within 3 units of the sum of both magnitudes.
pub(super) fn turn(
    kernels: &Kernels,
    inputs: &Inputs,
    mut form: Form,
    rope: &Rope,
    position: usize,
) -> Form {
    let table = rope.at(position);
    // No cosine or sine is larger, but for its own rounding, for which 3.5 units leave room.
    let stretch = f64::from(rope.stretch());
    let half = table.len();
    let mut most = form.radii(kernels, inputs);
    most.iter_mut().zip(&form.c).for_each(|(most, c)| *most += c.abs());
    let rotate = |row: &mut [f64]| {
        for head in row.chunks_exact_mut(2 * half) {
            let (left, right) = head.split_at_mut(half);
            for ((a, b), &(c, s)) in left.iter_mut().zip(right).zip(table.iter()) {
                let (c, s) = (f64::from(c), f64::from(s));
                (*a, *b) = (*a * c - *b * s, *b * c + *a * s);
            }
        }
    };
    let width = form.width();
    rotate(&mut form.c);
    form.g.chunks_exact_mut(width).for_each(rotate);
    for head in form.rest.chunks_exact_mut(2 * half) {
        let (left, right) = head.split_at_mut(half);
        for ((a, b), &(c, s)) in left.iter_mut().zip(right).zip(table.iter()) {
            let (c, s) = (f64::from(c).abs(), f64::from(s).abs());
            (*a, *b) = (*a * c + *b * s, *b * c + *a * s);
        }
    }
    for (rest, most) in form.rest.chunks_exact_mut(2 * half).zip(most.chunks_exact(2 * half)) {
        for j in 0..half {
            let error = (most[j] + most[half + j]) * (3.5 * UNIT * stretch) + 1e-40;
            rest[j] += error;
            rest[half + j] += error;
        }
    }
    form
}

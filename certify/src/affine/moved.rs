//! Integer sums that faults move: symbols added to the outputs of a struck layer.

use std::sync::Arc;

use engine::model::{Linear, Scale, Weights};
use engine::walk::{Domain, Site, Step};
use rayon::prelude::*;

use super::budget::Budget;
use super::form::{Form, Span, box_radius};
use super::inputs::{Bound, Inputs};
use super::linear::outputs;
use super::rows::{Rows, Scaled, Shape, cut, ends_of};
use super::state::{Affine, Prepared};
use super::{Birth, Kind};
use crate::interval::{UNIT, factor_range, is_tame};
use crate::moved::Moved;

impl Affine<'_> {
    /// Lets all layers that are struck share a number of flips; `symbols` bounds how many sums they
    /// have together, over all tokens.
    ///
    /// # Panics
    /// If the input moves: its symbols are bounded otherwise.
    pub fn share_flips(&mut self, flips: usize, symbols: usize) {
        assert_eq!((self.inputs.end, self.next), (0, 0), "a clean input");
        let bound = Bound::Budget(Arc::new(Budget::new(flips)));
        (self.inputs, self.next) = (Inputs::new(symbols, bound), symbols);
    }

    /// A ternary layer whose integer sums moreover move: each sum that does has a symbol.
    ///
    /// The layer is taken at once, also where its outputs otherwise wait for a later step.
    pub(crate) fn sums_moved(
        &mut self,
        at: Site,
        x: &Prepared,
        linear: &Linear,
        moved: &Moved,
    ) -> Rows {
        let still = self.interval.linear(at, &x.boxes, linear);
        let mut boxes = self.interval.sums_moved(at, &x.boxes, linear, moved);
        let rows = boxes.lo.nrows();
        if self.interval.diverged().is_some() || !is_tame(&x.boxes, linear) {
            let ends = (0..rows).map(|row| ends_of(&boxes, row).into_iter().unzip());
            let forms = ends.map(|(lo, hi): (Vec<f64>, Vec<f64>)| Form::of_box(&lo, &hi)).collect();
            return Rows { boxes, shape: Shape::plain(forms) };
        }
        let Step::Linear(slot) = at.step else { unreachable!("linear layers stand at their slot") };
        let matrix = self.matrices.of(at.layer, slot);
        let (kernels, inputs) = (self.kernels, self.inputs.clone());
        let mut forms: Vec<Scaled> = (0..rows)
            .into_par_iter()
            .with_min_len(self.grain())
            .map(|row| {
                let w = (&matrix.w[..], matrix.scale);
                let form = outputs(kernels, &inputs, &x.readings[row][0], w, x.rounded);
                let mut scaled = Scaled { factor: x.factors[row], ..Scaled::plain(form) };
                // What would stand there without faults: a point where the codes are points.
                scaled.narrow(kernels, &inputs, &ends_of(&still, row));
                scaled
            })
            .collect();
        self.strike(at, x, linear, moved, &mut forms);
        for (row, scaled) in forms.iter().enumerate() {
            let radii = scaled.form.radii(kernels, &self.inputs);
            cut(&mut boxes, row, scaled, &radii);
        }
        Rows { boxes, shape: Shape::Forms(Arc::new(forms)) }
    }

    /// Adds what the faults move, token by token.
    fn strike(
        &mut self,
        at: Site,
        x: &Prepared,
        linear: &Linear,
        moved: &Moved,
        forms: &mut [Scaled],
    ) {
        let (Weights::Ternary { scale, .. }, Some(codes)) = (&linear.weights, &x.boxes.codes)
        else {
            unreachable!("only codes under ternary weights have integer sums");
        };
        let struck: Vec<usize> =
            (0..moved.ranges.len()).filter(|&row| !moved.ranges[row].is_empty()).collect();
        self.births.push(Birth { first: self.next, site: at, kind: Kind::Input });
        let first_row = match &mut self.inputs.bound {
            Bound::Budget(budget) => Arc::make_mut(budget).open(struck.len()),
            _ => 0,
        };
        for (token, scaled) in forms.iter_mut().enumerate() {
            let unit = largest_unit(codes.scales[token], *scale, scaled.factor);
            let radii = scaled.form.radii(self.kernels, &self.inputs);
            let mut added = Form::constant(vec![0.0; scaled.form.width()]);
            let width = added.width();
            added.g = vec![0.0; struck.len() * width];
            for (index, &row) in struck.iter().enumerate() {
                let (lo, hi) = moved.range(token, row);
                let (c, radius) = match (&mut self.inputs.bound, &moved.shared) {
                    (Bound::Budget(budget), Some(most)) => {
                        let most = &most[row][token];
                        Arc::make_mut(budget).push(first_row + index, most);
                        (0.0, f64::from(most[most.len() - 1]) * unit)
                    }
                    (Bound::Budget(_), None) => panic!("rows that share flips say how"),
                    _ => {
                        let (lo, hi) = (f64::from(lo) * unit, f64::from(hi) * unit);
                        let c = 0.5 * (lo + hi);
                        (c, box_radius(c, lo, hi))
                    }
                };
                added.c[row] = c;
                added.g[index * width + row] = radius * (1.0 + 1e-12);
                // Both sums are rounded three times, with the moved one as large as this.
                let clean = scaled.form.c[row].abs() + radii[row];
                added.rest[row] = (2.0 * clean + c.abs() + radius) * (4.0 * UNIT) + 1e-40;
            }
            let first = match &self.inputs.bound {
                Bound::Budget(budget) => {
                    assert!(budget.symbols() <= self.inputs.end, "as many as were announced");
                    budget.symbols() - struck.len()
                }
                _ => {
                    self.next += struck.len();
                    self.next - struck.len()
                }
            };
            added.spans = vec![Span { first, count: struck.len() }];
            scaled.form = Arc::new(scaled.form.plus(&added));
        }
    }
}

/// The most that one step of an integer sum is worth, in the scale of a form under a factor.
fn largest_unit(t: (f32, f32), scale: Scale, (least, _): (f64, f64)) -> f64 {
    let (a, b) = factor_range(t, scale);
    let (a, b) = (a.abs(), b.abs());
    (if a > b { a } else { b }) / least * (1.0 + 1e-12)
}

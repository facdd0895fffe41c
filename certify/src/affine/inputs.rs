//! The symbols of the perturbed input, and the norms in which they are bounded.
//!
//! Ordinary symbols range over `[-1, 1]` each. Those of the input may instead be bounded together:
//! by a Euclidean norm of 1 over all of them (an l2 ball), or by a sum of magnitudes of 1 in each
//! group (a convex hull of choices about its middle), or by a number of flips that they share. The
//! radius of a form is then the dual norm of its coefficients. Input symbols have the lowest
//! numbers.

use std::ops::Range;
use std::sync::Arc;

use engine::kernels::Kernels;
use ndarray::ArrayView1;

use super::budget::Budget;
use super::energy::Energy;
use super::form::{Form, Span};
use crate::region::{Ball, Region};

/// How the symbols of the input are bounded.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Bound {
    /// Each by 1.
    Each,
    /// The Euclidean norm over all of them by 1.
    Euclid,
    /// In each span, the sum of the magnitudes by 1.
    Simplex,
    /// Together by a number of flips, each by 1.
    Budget(Arc<Budget>),
}

/// The symbols of the input.
#[derive(Clone, Debug)]
pub(super) struct Inputs {
    /// All numbers below are input symbols.
    pub(super) end: usize,
    /// How they are bounded.
    pub(super) bound: Bound,
}

/// Rows of coefficients that are summed at once, so that columns stay in the cache.
const CHUNK: usize = 1024;

impl Inputs {
    /// So many symbols under a bound.
    pub(super) fn new(end: usize, bound: Bound) -> Self {
        Self { end, bound }
    }

    /// The forms of a region, and its symbols.
    pub(super) fn of(region: &Region<'_>) -> (Self, Vec<Form>) {
        let width = region.clean.ncols();
        let mut next = 0;
        let mut forms: Vec<Form> = (region.clean.rows().into_iter())
            .map(|row| Form::constant(row.iter().map(|&x| f64::from(x)).collect()))
            .collect();
        let bound = match &region.ball {
            Ball::Linf(radius) | Ball::L2(radius) => {
                for form in &mut forms[region.moved.clone()] {
                    // The end points of the boxes are rounded outward to f32; this radius covers
                    // every f32 in the ball, and the ball over the reals.
                    form.rest = vec![*radius; width];
                    form.settle(&mut next);
                }
                if matches!(region.ball, Ball::L2(_)) { Bound::Euclid } else { Bound::Each }
            }
            Ball::Hulls(hulls) => {
                for (row, hull) in region.moved.clone().zip(hulls) {
                    forms[row] = hull_form(&forms[row].c, hull, &mut next);
                }
                Bound::Simplex
            }
            Ball::Boxes { lo, hi } => {
                let ends = |row: ArrayView1<f32>| row.mapv(f64::from).to_vec();
                for (row, (lo, hi)) in
                    region.moved.clone().zip(lo.rows().into_iter().zip(hi.rows()))
                {
                    forms[row] = Form::of_box(&ends(lo), &ends(hi));
                    forms[row].settle(&mut next);
                }
                Bound::Each
            }
        };
        (Self::new(next, bound), forms)
    }

    /// Whether input symbols are bounded together, so that radii do not add up over symbols.
    pub(super) fn jointly(&self) -> bool {
        self.bound != Bound::Each
    }

    /// How many of the rows of a form are input symbols.
    fn rows(&self, spans: &[Span]) -> usize {
        self.own(spans).1
    }

    /// How many of the spans of a form, which come first, are of the input, and how many symbols.
    pub(super) fn own(&self, spans: &[Span]) -> (usize, usize) {
        let own = spans.iter().filter(|span| span.first < self.end).map(|span| span.count);
        (own.clone().count(), own.sum())
    }

    /// The radius of each column of `[symbols, columns]` coefficients.
    pub(super) fn radii(
        &self,
        kernels: &Kernels,
        spans: &[Span],
        g: &[f64],
        columns: usize,
    ) -> Vec<f64> {
        let rows = g.len() / columns;
        let (zeros, ones) = (vec![0.0; rows.max(columns)], vec![1.0; columns]);
        self.combined(kernels, spans, g, &zeros[..rows], (&ones, &zeros[..columns]))
    }

    /// The radius of each column of `g a + r b`, `a` and `b` by column, `r` by symbol.
    pub(super) fn combined(
        &self,
        kernels: &Kernels,
        spans: &[Span],
        g: &[f64],
        r: &[f64],
        (a, b): (&[f64], &[f64]),
    ) -> Vec<f64> {
        let columns = a.len();
        let mut radii = vec![0.0; columns];
        let mut first = 0;
        if self.bound != Bound::Each {
            first = self.rows(spans);
            let value = |s: usize, k: usize| g[s * columns + k] * a[k] + r[s] * b[k];
            for (k, radius) in radii.iter_mut().enumerate() {
                *radius = self.dual(spans, |s| value(s, k));
            }
        }
        let (g, r) = (&g[first * columns..], &r[first..]);
        for (g, r) in g.chunks(CHUNK * columns).zip(r.chunks(CHUNK)) {
            (kernels.forms.magnitudes)(g, r, a, b, &mut radii);
        }
        radii
    }

    /// The dual norm over the input symbols of a column.
    fn dual(&self, spans: &[Span], value: impl Fn(usize) -> f64) -> f64 {
        match &self.bound {
            Bound::Budget(budget) => budget.most(spans, value),
            Bound::Each => (0..self.rows(spans)).fold(0.0, |sum, s| sum + value(s).abs()),
            Bound::Euclid => {
                let squares = |sum: f64, s| sum + value(s) * value(s);
                (0..self.rows(spans)).fold(0.0, squares).sqrt()
            }
            Bound::Simplex => self.groups(spans).fold(0.0, |sum, group| {
                let most = group.map(|s| value(s).abs());
                sum + most.fold(0.0, |most, x| if x > most { x } else { most })
            }),
        }
    }

    /// The rows of each group of input symbols.
    fn groups<'a>(&'a self, spans: &'a [Span]) -> impl Iterator<Item = Range<usize>> + 'a {
        let inputs = spans.iter().filter(|span| span.first < self.end);
        inputs.scan(0, |row, span| {
            *row += span.count;
            Some(*row - span.count..*row)
        })
    }

    /// The radius of one column of coefficients.
    pub(super) fn radius(&self, kernels: &Kernels, spans: &[Span], g: &[f64]) -> f64 {
        self.radii(kernels, spans, g, 1)[0]
    }

    /// The energy of rows of coefficients `[symbols, columns]` with boxes beside.
    pub(super) fn energy(
        &self,
        kernels: &Kernels,
        spans: &[Span],
        g: &[f64],
        rest: &[f64],
    ) -> Energy {
        let mut energy = Energy::of_box(rest);
        let columns = rest.len();
        let mut first = 0;
        let norms = |rows: Range<usize>| -> Vec<f64> {
            let rows = g[rows.start * columns..rows.end * columns].chunks_exact(columns);
            rows.map(|row| row.iter().fold(0.0, |sum, x| sum + x * x).sqrt()).collect()
        };
        if self.bound != Bound::Each {
            first = self.rows(spans);
            let all = std::iter::once(0..first).collect::<Vec<_>>();
            let groups = match self.bound {
                Bound::Simplex | Bound::Budget(_) => self.groups(spans).collect(),
                _ => all,
            };
            let budget = match &self.bound {
                Bound::Budget(budget) => Some(budget),
                _ => None,
            };
            let mut weights = vec![0.0; first];
            for group in groups {
                // One weight for the group: sum of e^2 is at most 1 in it, but for a budget.
                let norms = norms(group.clone());
                let weight = match self.bound {
                    Bound::Simplex | Bound::Budget(_) => {
                        norms.iter().copied().fold(0.0, |a, b| if b > a { b } else { a })
                    }
                    _ => norms.iter().fold(0.0, |sum, x| sum + x * x).sqrt(),
                };
                weights[group.clone()].fill(weight);
                if weight > 0.0 {
                    let rows = &g[group.start * columns..group.end * columns];
                    let total = if budget.is_some() { 0.0 } else { weight };
                    energy.add(kernels, rows, &weights[group], total);
                }
            }
            // Symbols within 1 have squares below their magnitudes.
            energy.weight += budget.map_or(0.0, |budget| budget.most(spans, |s| weights[s]));
        }
        let rows = g.len() / columns;
        for start in (first..rows).step_by(CHUNK) {
            let end = if start + CHUNK < rows { start + CHUNK } else { rows };
            let weights = norms(start..end);
            let total = weights.iter().sum();
            energy.add(kernels, &g[start * columns..end * columns], &weights, total);
        }
        energy.close(rows);
        energy
    }
}

/// The convex hull of a row and its choices: the row in the middle of them, one symbol a corner.
fn hull_form(clean: &[f64], hull: &ndarray::Array2<f32>, next: &mut usize) -> Form {
    let width = clean.len();
    let corners = hull.nrows() + 1;
    let corner = |index: usize, k: usize| match index.checked_sub(1) {
        None => clean[k],
        Some(choice) => f64::from(hull[[choice, k]]),
    };
    let middle: Vec<f64> = (0..width)
        .map(|k| (0..corners).map(|index| corner(index, k)).sum::<f64>() / corners as f64)
        .collect();
    // A point of the hull is sum of l_i x_i with l >= 0 and sum 1: m + sum of l_i (x_i - m).
    let g = (0..corners).flat_map(|i| (0..width).map(move |k| (i, k)));
    let g = g.map(|(index, k)| corner(index, k) - middle[k]).collect();
    let span = Span { first: *next, count: corners };
    *next += corners;
    let rest = middle.iter().map(|m| m.abs() * 1e-12 + 1e-300).collect();
    Form { c: middle, spans: vec![span], g, rest }
}

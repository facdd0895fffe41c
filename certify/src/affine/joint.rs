//! Remainders that are bounded together.
//!
//! What a division is not linear in is a box, whose sides become symbols of their own: each may
//! then be extreme at once. But all outputs of a layer are divided by one root mean square, and any
//! sum of them is one more image of the same row, whose division has a remainder of its own. So
//! what such symbols make of a form is at most what that division leaves, or the sum of the
//! magnitudes of their coefficients, whichever is smaller: a backward pass of one step, taken
//! wherever a radius is.
//!
//! With `x_k = total_k e_k` the box of value k, `sum of c_k e_k` is `sum of mu_k x_k`, where
//! `mu_k = c_k / total_k`. Of `x_k` the division makes at most `part_k`; all else is rounding and
//! counts alone.

use std::sync::Arc;

use engine::kernels::Kernels;

use super::form::Span;
use super::inputs::Inputs;
use super::quotient::Division;

/// What is known of the boxes of a row together.
#[derive(Clone, Debug)]
pub(super) struct Together {
    /// How much of each box the division makes.
    pub(super) part: Vec<f64>,
    pub(super) of: Arc<Division>,
}

impl Together {
    /// Forgets the values whose boxes are others now.
    pub(super) fn forget(&mut self, before: &[f64], now: &[f64]) {
        for ((part, before), now) in self.part.iter_mut().zip(before).zip(now) {
            if before != now {
                *part = 0.0;
            }
        }
    }
}

/// Symbols of remainders that are bounded together.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) span: Span,
    /// The values that have a symbol.
    values: Vec<usize>,
    /// The radii of all boxes.
    total: Vec<f64>,
    together: Together,
}

impl Group {
    /// Of the boxes of a row that were made symbols.
    pub(super) fn new(span: Span, total: &[f64], together: Together) -> Self {
        let values: Vec<usize> = (0..total.len()).filter(|&k| total[k] > 0.0).collect();
        assert_eq!(values.len(), span.count, "one symbol for each box");
        Self { span, values, total: total.to_vec(), together }
    }

    /// The same after some values became others.
    #[cfg(test)]
    pub(super) fn forgetting(&self, before: &[f64], now: &[f64]) -> Self {
        let mut group = self.clone();
        group.together.forget(before, now);
        group.total = now.to_vec();
        group
    }

    /// An upper bound of what these symbols make of a form, for each column of their coefficients.
    pub(super) fn most(
        &self,
        kernels: &Kernels,
        inputs: &Inputs,
        coefficients: &[f64],
        columns: usize,
    ) -> Vec<f64> {
        let mut plain = vec![0.0; columns];
        let mut alone = vec![0.0; columns];
        let mut mu = vec![0.0; self.total.len() * columns];
        for (row, &k) in coefficients.chunks_exact(columns).zip(&self.values) {
            let (part, total) = (self.together.part[k], self.total[k]);
            let known = part > 0.0 && part <= total;
            let share = if known { (1.0 - part / total) + 1e-15 } else { 1.0 };
            for (column, c) in row.iter().enumerate() {
                plain[column] += c.abs();
                alone[column] += c.abs() * share;
                mu[k * columns + column] = if known { c / total } else { 0.0 };
            }
        }
        let together = self.together.of.most(kernels, inputs, &mu, columns);
        (plain.into_iter().zip(alone).zip(together))
            .map(|((plain, alone), together)| {
                let sum = (alone + together) * (1.0 + 1e-12);
                if sum < plain { sum } else { plain }
            })
            .collect()
    }
}

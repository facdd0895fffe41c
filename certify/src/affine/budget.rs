//! Symbols that share a number of flips.
//!
//! A symbol is how far the sum of one row moves in one token, in units of what all flips together
//! could do in that row. With `n_i` flips in row i, at most k over all rows, each symbol of the row
//! is within `m(1) + ... + m(n_i)`, where `m(j)` is what the j-th flip adds to the most that flips
//! can do there; the shares `m(1..=k)` of a symbol sum up to 1. So for any coefficients
//! `sum |g_s| |e_s| <= sum_i A_i(1) + ... + A_i(n_i)`, `A_i(j) = sum |g_s| m_s(j)` over the symbols
//! of the row, and that is at most the k largest of all `A_i(j)`: nothing is assumed of their
//! order.

use super::form::Span;

/// A number of flips that rows share, and the symbols that they move.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Budget {
    flips: usize,
    rows: usize,
    /// The row of each symbol.
    row: Vec<usize>,
    /// What each further flip adds to the range of each symbol, `[symbol][flip]`.
    shares: Vec<f64>,
}

impl Budget {
    /// At most so many flips; no symbol yet.
    pub(super) fn new(flips: usize) -> Self {
        Self { flips, rows: 0, row: Vec::new(), shares: Vec::new() }
    }

    /// The symbols so far: the number of the next one.
    pub(super) fn symbols(&self) -> usize {
        self.row.len()
    }

    /// Names so many rows more; gives the number of the first.
    pub(super) fn open(&mut self, rows: usize) -> usize {
        self.rows += rows;
        self.rows - rows
    }

    /// Adds a symbol of a row that at most 1, 2, ... flips move by so much, and all by the last.
    pub(super) fn push(&mut self, row: usize, most: &[i32]) {
        assert_eq!(most.len(), self.flips, "one for each flip");
        self.row.push(row);
        let whole = f64::from(most[self.flips - 1]);
        let before = std::iter::once(&0).chain(most);
        let steps = before.zip(most).map(|(before, most)| f64::from(most - before));
        self.shares.extend(steps.map(|step| if step > 0.0 { step / whole } else { 0.0 }));
    }

    /// The most that `sum |g_s| |e_s|` comes to over the symbols of some spans, in their order.
    pub(super) fn most(&self, spans: &[Span], value: impl Fn(usize) -> f64) -> f64 {
        let mut gains = vec![0.0; self.rows * self.flips];
        let numbers = spans.iter().flat_map(|span| span.first..span.first + span.count);
        for (index, symbol) in numbers.take_while(|&symbol| symbol < self.symbols()).enumerate() {
            let weight = value(index).abs();
            if weight != 0.0 {
                let at = self.row[symbol] * self.flips;
                let shares = &self.shares[symbol * self.flips..(symbol + 1) * self.flips];
                let gains = gains[at..at + self.flips].iter_mut();
                gains.zip(shares).for_each(|(gain, share)| *gain += weight * share);
            }
        }
        if gains.len() > self.flips {
            gains.select_nth_unstable_by(self.flips - 1, |a, b| b.total_cmp(a));
        }
        gains.iter().take(self.flips).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::affine::inputs::{Bound, Inputs};
    use engine::kernels;
    use engine::model::random::SplitMix;
    use std::sync::Arc;

    const ROWS: usize = 4;
    const TOKENS: usize = 3;

    fn unit(rng: &mut SplitMix) -> f64 {
        rng.below(2001) as f64 / 1000.0 - 1.0
    }

    /// What flips do in each row and token, not concave, and the budget of it; one span a token.
    fn case(rng: &mut SplitMix, flips: usize) -> (Vec<Vec<i32>>, Budget, Vec<Span>) {
        let mut budget = Budget::new(flips);
        assert_eq!(budget.open(ROWS), 0);
        let (mut most, mut spans) = (Vec::new(), Vec::new());
        for token in 0..TOKENS {
            spans.push(Span { first: token * ROWS, count: ROWS });
            for row in 0..ROWS {
                let steps = (0..flips).scan(0, |sum, _| {
                    *sum += rng.below(40) as i32;
                    Some(*sum)
                });
                most.push(steps.collect::<Vec<i32>>());
                budget.push(row, &most[most.len() - 1]);
            }
        }
        (most, budget, spans)
    }

    /// Values of the symbols under one way of spending the flips.
    fn spent(rng: &mut SplitMix, most: &[Vec<i32>], flips: usize) -> Vec<f64> {
        let mut spent = [0; ROWS];
        let alone = rng.below(3) == 0;
        let first = rng.below(ROWS);
        (0..flips).for_each(|_| spent[if alone { first } else { rng.below(ROWS) }] += 1);
        let of = |(s, most): (usize, &Vec<i32>)| {
            let flips = spent[s % ROWS];
            let reached = if flips == 0 { 0 } else { most[flips - 1] };
            let whole = f64::from(most[most.len() - 1]);
            let part = if rng.below(2) == 0 { 1.0 } else { unit(rng) };
            let sign = if rng.below(2) == 0 { 1.0 } else { -1.0 };
            if whole > 0.0 { sign * part * f64::from(reached) / whole } else { 0.0 }
        };
        most.iter().enumerate().map(of).collect()
    }

    #[test]
    fn no_way_of_spending_the_flips_leaves_the_radius_or_the_energy() {
        let mut rng = SplitMix(31);
        let scalar = kernels::scalar();
        let mut tightest: f64 = 0.0;
        for round in 0..200 {
            let flips = [1, 2, 4][round % 3];
            let (most, budget, spans) = case(&mut rng, flips);
            let inputs = Inputs::new(ROWS * TOKENS, Bound::Budget(Arc::new(budget)));
            // Some symbols weigh far more than others, as those of the own token do.
            let scale = |s: usize| if s < ROWS { 1.0 } else { 0.05 };
            let g: Vec<f64> =
                (0..ROWS * TOKENS * 2).map(|i| unit(&mut rng) * scale(i / 2)).collect();
            let radii = inputs.radii(scalar, &spans, &g, 2);
            let squares = inputs.energy(scalar, &spans, &g, &[0.0; 2]).squares(scalar);
            for _ in 0..60 {
                let mut e = spent(&mut rng, &most, flips);
                if rng.below(2) == 0 {
                    e.iter_mut().enumerate().for_each(|(s, e)| *e = e.abs() * g[2 * s].signum());
                }
                let x: Vec<f64> =
                    (0..2).map(|k| (0..e.len()).map(|s| g[2 * s + k] * e[s]).sum()).collect();
                for k in 0..2 {
                    assert!(x[k].abs() <= radii[k] * (1.0 + 1e-12), "{x:?} {radii:?} {flips}");
                    let share = x[k].abs() / radii[k];
                    tightest = if share > tightest { share } else { tightest };
                }
                let square: f64 = x.iter().map(|x| x * x).sum();
                assert!(square <= squares * (1.0 + 1e-12), "{square} {squares} {flips}");
            }
        }
        assert!(tightest > 0.999, "the radius is reached: {tightest}");
    }

    #[test]
    fn flips_of_one_row_alone_have_its_whole_range() {
        let mut budget = Budget::new(4);
        budget.open(2);
        budget.push(0, &[10, 16, 19, 20]);
        budget.push(1, &[0, 0, 0, 0]);
        let spans = [Span { first: 0, count: 2 }];
        let most = budget.most(&spans, |s| [3.0, 100.0][s]);
        assert!((most - 3.0).abs() < 1e-12, "{most}");
    }
}

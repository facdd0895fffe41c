//! Attention over boxes: end points, and the exact range of `softmax(s) . v`.
//!
//! For `f = sum p_j v_j`, `df/ds_j = p_j (v_j - f)`: at a maximum every score of a `v_j` above `f`
//! is at its upper end and every other at its lower end. So a number `r` is above every mix if the
//! best response to it, upper weights for the values not below `r` and lower ones for the others,
//! mixes to no more than `r`: no other choice has a greater `sum w (v - r)`. The response to a mix
//! that is too low is a higher one; a few of them, and a unit more, pass that test.
//!
//! The engine against the real value, for finite scores that lie in the box: `s_j - m` is rounded
//! once (at most 105 units absolute where the exponential is not zero), the exponential once; sum
//! and quotient add `n / 16 + 8` at most; numerator and denominator share these. The weighted sum
//! adds `n + 1` units of `sum p |v|`. Exponentials below the normal range are off by at most 2^-149
//! each.

use engine::kernels::Kernels;
use engine::numerics::boxes::Panels;
use engine::numerics::{max, min};
use engine::walk::score_scale;
use rayon::prelude::*;

use super::boxes::{Part, parts};
use super::kv::Ends;
use super::round::{UNIT, down, up};
use super::{Boxes, Interval};

impl Interval {
    pub(super) fn attention(&mut self, layer: usize, queries: &Boxes, first: usize) -> Boxes {
        let (d, group) = (self.head_dim, self.heads / self.kv_heads);
        let mut boxes = self.spare.boxes((queries.lo.nrows(), self.heads * d));
        let cache = &self.caches[layer];
        let (rows, tokens) = (queries.lo.nrows(), first + queries.lo.nrows());
        let stored: Vec<Stored> =
            cache.values.par_iter().map(|values| Stored::of(values, d, tokens)).collect();
        let outs = parts(&mut boxes.lo, d).zip(parts(&mut boxes.hi, d)).enumerate();
        let one = |(head, (lows, highs)): (usize, (Part, Part))| {
            let (keys, values) = (&cache.keys[head / group], &cache.values[head / group]);
            let at = head * d..(head + 1) * d;
            for (row, out) in lows.into_iter().zip(highs).enumerate() {
                let query = (&queries.lo_row(row)[at.clone()], &queries.hi_row(row)[at.clone()]);
                let scores = scores(self.kernels, query, keys, first + row + 1);
                // A score that may overflow may be infinite, and its share then NaN.
                if scores.iter().any(|s| !s.0.is_finite() || !s.1.is_finite()) {
                    out.0.fill(f32::NAN);
                    out.1.fill(f32::NAN);
                } else {
                    mix(self.kernels, &scores, values, &stored[head / group], out);
                }
            }
        };
        if rows * tokens * d < 4096 {
            outs.for_each(one);
        } else {
            outs.collect::<Vec<_>>().into_par_iter().for_each(one);
        }
        boxes
    }
}

/// The boxes of the scores of one query against the first `tokens` keys.
fn scores(
    kernels: &Kernels,
    query: (&[f32], &[f32]),
    keys: &Ends,
    tokens: usize,
) -> Vec<(f32, f32)> {
    let (d, scale) = (query.0.len(), score_scale(query.0.len()));
    let mut scores = vec![(0.0, 0.0); tokens];
    (kernels.boxes.dots)(query, (&keys.lo[..tokens * d], &keys.hi[..tokens * d]), &mut scores);
    scores.iter_mut().for_each(|(low, high)| (*low, *high) = (*low * scale, *high * scale));
    scores
}

/// The values of one head as hulls are made of them.
struct Stored {
    d: usize,
    /// Upper ends.
    upper: Panels,
    /// Lower ends, negated: their least mix is the greatest of these.
    lower: Panels,
    /// The largest magnitude of a dimension up to each token, `[token][dim]`.
    most: Vec<f64>,
}

impl Stored {
    fn of(values: &Ends, d: usize, tokens: usize) -> Self {
        let upper = values.hi[..tokens * d].iter().map(|&end| f64::from(end));
        let lower = values.lo[..tokens * d].iter().map(|&end| -f64::from(end));
        let sizes = upper.clone().zip(lower.clone()).map(|(a, b)| greater(a.abs(), b.abs()));
        let mut most: Vec<f64> = sizes.collect();
        for at in d..most.len() {
            most[at] = greater(most[at], most[at - d]);
        }
        Self { d, upper: Panels::of(upper, d), lower: Panels::of(lower, d), most }
    }
}

fn greater(a: f64, b: f64) -> f64 {
    if a > b { a } else { b }
}

/// The boxes of one attention row of one head.
fn mix(
    kernels: &Kernels,
    scores: &[(f32, f32)],
    values: &Ends,
    stored: &Stored,
    (low, high): (&mut [f32], &mut [f32]),
) {
    let (tokens, d) = (scores.len(), stored.d);
    let mut shares = vec![(0.0, 0.0); tokens];
    (kernels.boxes.shares)(scores, &mut shares);
    let ends = (&values.lo[..tokens * d], &values.hi[..tokens * d]);
    low.fill(0.0);
    high.fill(0.0);
    (kernels.boxes.mix)(&shares, ends, (low, high));
    let weights = Weights::new(kernels, scores);
    if !weights.hull {
        return;
    }
    let most = &stored.most[(tokens - 1) * d..tokens * d];
    let top = weights.most(kernels, &stored.upper, most);
    let bottom = weights.most(kernels, &stored.lower, most);
    for dim in 0..d {
        let margin = most[dim] * weights.error + 1e-40;
        low[dim] = max(low[dim], down(-bottom[dim] - margin));
        high[dim] = min(high[dim], up(top[dim] + margin));
    }
}

/// If every lower end is farther below the largest upper end, the hull is not used: its weights
/// have a floor at e^-690, which is a vanishing part of their sum only above that.
const FARTHEST: f64 = 600.0;
/// Up to so many tokens the error bound covers its second order.
const MOST_TOKENS: usize = 1 << 17;

/// What the engine's shares and their weighted sum may be off the real mix at its own scores, of
/// the largest magnitude of a value.
pub(crate) fn mix_error(tokens: usize) -> f64 {
    let n = tokens as f64;
    (2.0 * 106.0 + n / 16.0 + 8.0 + n + 2.0) * UNIT * 1.01 + n * 3e-45
}

/// The exponentials of both ends of every score, against one reference, in f64.
struct Weights {
    lo: Vec<f64>,
    hi: Vec<f64>,
    error: f64,
    /// Whether the hull may be used.
    hull: bool,
}

impl Weights {
    fn new(kernels: &Kernels, scores: &[(f32, f32)]) -> Self {
        let top = scores.iter().map(|s| s.1).fold(f32::NEG_INFINITY, max);
        let low = scores.iter().map(|s| s.0).fold(f32::NEG_INFINITY, max);
        let near = f64::from(top) - f64::from(low) <= FARTHEST;
        let (mut lo, mut hi) = (vec![0.0; scores.len()], vec![0.0; scores.len()]);
        (kernels.boxes.weights)(scores, top, (&mut lo, &mut hi));
        let hull = near && scores.len() <= MOST_TOKENS;
        Self { lo, hi, error: mix_error(scores.len()), hull }
    }

    /// A number for each dimension that no mix of its values over the score box exceeds; `most` are
    /// their largest magnitudes.
    fn most(&self, kernels: &Kernels, values: &Panels, most: &[f64]) -> Vec<f64> {
        let mut ratios = vec![0.0; most.len()];
        (kernels.boxes.greatest)(values, (&self.lo, &self.hi), most, &mut ratios);
        ratios
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::kernels::best;
    use engine::model::random::SplitMix;
    use engine::numerics::softmax_row;

    /// The range of one attention output for score boxes and values.
    fn range(scores: &[(f32, f32)], v: &[(f32, f32)]) -> (f32, f32) {
        let (lo, hi) = v.iter().copied().unzip();
        let values = Ends { lo, hi };
        let stored = Stored::of(&values, 1, v.len());
        let (mut low, mut high) = ([0.0], [0.0]);
        mix(best(), scores, &values, &stored, (&mut low, &mut high));
        (low[0], high[0])
    }

    fn engine(scores: &[f32], v: &[f32]) -> f32 {
        let mut shares = scores.to_vec();
        softmax_row(&mut shares);
        shares.iter().zip(v).fold(0.0, |sum, (share, value)| sum + share * value)
    }

    #[test]
    fn one_share_reaches_its_supremum_where_a_fudged_denominator_says_almost_nothing() {
        // Bounds that subtract and re-add the largest term put this share below 4e-6.
        let wide = [(-60.0, 0.0), (-60.0, -40.0)];
        for v in [[(1.0, 1.0), (0.0, 0.0)], [(0.0, 0.0), (1.0, 1.0)]] {
            let (lo, hi) = range(&wide, &v);
            for corner in [[-60.0, -60.0], [-60.0, -40.0], [0.0, -60.0], [0.0, -40.0]] {
                let y = engine(&corner, &[v[0].0, v[1].0]);
                assert!(lo <= y && y <= hi, "{corner:?} gives {y} outside [{lo}, {hi}]");
            }
        }
        assert!(range(&wide, &[(1.0, 1.0), (0.0, 0.0)]).1 >= 1.0);
        let (lo, hi) = range(&[(-20.0, 0.0), (-18.0, -18.0)], &[(1.0, 1.0), (0.0, 0.0)]);
        assert!(lo <= 0.1193 && hi >= 0.999_999, "[{lo}, {hi}]");
        assert!(lo > 0.119 && hi < 1.000_1, "the hull is tight: [{lo}, {hi}]");
    }

    /// The greatest mix: a threshold in falling order of the values, all of them tried. Its own
    /// rounding may not lift it above the greatest value.
    fn greatest(weights: &Weights, values: &[f64]) -> f64 {
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by(|&a, &b| values[b].total_cmp(&values[a]));
        let most = values.iter().copied().fold(f64::NEG_INFINITY, greater);
        let mixes = (0..=order.len())
            .map(|leading| {
                let (mut sum, mut mass) = (0.0, 0.0);
                for (place, &token) in order.iter().enumerate() {
                    let ends = (weights.hi[token], weights.lo[token]);
                    let weight = if place < leading { ends.0 } else { ends.1 };
                    sum += weight * values[token];
                    mass += weight;
                }
                sum / mass
            })
            .fold(f64::NEG_INFINITY, greater);
        if mixes > most { most } else { mixes }
    }

    #[test]
    fn no_mix_is_above_the_number_that_bounds_them_and_the_greatest_is_next_to_it() {
        let mut rng = SplitMix(41);
        for round in 0..4000 {
            let (tokens, d) = (1 + rng.below(70), 1 + rng.below(20));
            // Widths from nothing to all that the hull allows, ties of scores and of values.
            let wide = [0.0, 1e-6, 0.1, 3.0, 50.0, 590.0][round % 6];
            let step = if round % 5 == 0 { 0.5 } else { 1e-4 };
            let mut draw = |size: f32| (rng.unit() * size / step).round_ties_even() * step;
            let scores: Vec<(f32, f32)> = (0..tokens)
                .map(|_| {
                    let low = draw(8.0);
                    (low - wide, low + draw(1.0).abs() * wide / 10.0)
                })
                .collect();
            let size = [1.0, 1e-30, 1e30][round % 3];
            let values: Vec<f64> = (0..tokens * d).map(|_| f64::from(draw(2.0)) * size).collect();
            let weights = Weights::new(best(), &scores);
            assert!(weights.hull || wide > 500.0, "{wide}");
            let most: Vec<f64> = (0..d)
                .map(|dim| values.iter().skip(dim).step_by(d).fold(0.0, |a, v| greater(a, v.abs())))
                .collect();
            let panels = Panels::of(values.iter().copied(), d);
            let bounds = weights.most(best(), &panels, &most);
            for dim in 0..d {
                let column: Vec<f64> = values.iter().skip(dim).step_by(d).copied().collect();
                let (truth, bound) = (greatest(&weights, &column), bounds[dim]);
                assert!(bound >= truth, "round {round}: {bound:e} below {truth:e}");
                let near = 1e-12 * most[dim] + 1e-290;
                // Without the hull the greatest size among the values stands.
                let tight = !weights.hull || bound <= truth + near;
                assert!(tight, "round {round}: {bound:e} far above {truth:e}");
            }
        }
    }

    #[test]
    fn ranges_hold_where_score_boxes_are_hundreds_wide() {
        let scores = [(-1000.0, 0.0), (-1000.0, -5.0), (-2000.0, -900.0)];
        let (lo, hi) = range(&scores, &[(3.0, 3.0), (-2.0, -2.0), (7.0, 7.0)]);
        for corner in [[-1000.0, -1000.0, -900.0], [0.0, -5.0, -900.0], [-1000.0, -1000.0, -2000.0]]
        {
            let y = engine(&corner, &[3.0, -2.0, 7.0]);
            assert!(lo <= y && y <= hi, "{corner:?} gives {y} outside [{lo}, {hi}]");
        }
    }

    #[test]
    fn a_reference_far_above_every_lower_end_keeps_the_bound() {
        let scores = [(-1000.0f32, -1000.0f32), (-2000.0, -2000.0), (-3000.0, 0.0)];
        let found = range(&scores, &[(1.0, 1.0), (0.0, 0.0), (0.0, 0.0)]);
        let mut s = vec![-1000.0f32, -2000.0, -3000.0];
        engine::numerics::softmax_row(&mut s);
        let out = s[0] * 1.0;
        assert!(found.0 <= out && out <= found.1, "{out} outside {found:?}");
    }
}

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
use engine::numerics::{exp, exp_f64, max, min, sum16};
use engine::walk::score_scale;
use ndarray::Array2;
use rayon::prelude::*;

use super::kv::Ends;
use super::round::{UNIT, down, up};
use super::{Boxes, Interval};

impl Interval {
    pub(super) fn attention(&self, layer: usize, queries: &Boxes, first: usize) -> Boxes {
        let (d, group) = (self.head_dim, self.heads / self.kv_heads);
        let cache = &self.caches[layer];
        let rows = queries.lo.nrows();
        let one = |head: usize| {
            let (keys, values) = (&cache.keys[head / group], &cache.values[head / group]);
            let stored = Stored::of(values, d, first + rows);
            (0..rows)
                .flat_map(|row| {
                    let at = head * d..(head + 1) * d;
                    let query = (&queries.lo_row(row)[at.clone()], &queries.hi_row(row)[at]);
                    let scores = scores(self.kernels, query, keys, first + row + 1);
                    // A score that may overflow may be infinite, and its share then NaN.
                    if scores.iter().any(|s| !s.0.is_finite() || !s.1.is_finite()) {
                        return vec![(f32::NAN, f32::NAN); d];
                    }
                    mix(self.kernels, &scores, values, &stored)
                })
                .collect::<Vec<(f32, f32)>>()
        };
        let by_head: Vec<Vec<(f32, f32)>> = if rows * (first + rows) * d < 4096 {
            (0..self.heads).map(one).collect()
        } else {
            (0..self.heads).into_par_iter().map(one).collect()
        };
        let shape = (rows, self.heads * d);
        let end = |pick: fn((f32, f32)) -> f32| {
            Array2::from_shape_fn(shape, |(row, c)| pick(by_head[c / d][row * d + c % d]))
        };
        Boxes::new(end(|ends| ends.0), end(|ends| ends.1))
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

/// The values of one head as hulls are made of them, `[token][dim]`.
struct Stored {
    d: usize,
    /// Upper ends.
    upper: Vec<f64>,
    /// Lower ends, negated: their least mix is the greatest of these.
    lower: Vec<f64>,
    /// The largest magnitude of a dimension up to each token.
    most: Vec<f64>,
}

impl Stored {
    fn of(values: &Ends, d: usize, tokens: usize) -> Self {
        let wide = |sign: f64, ends: &[f32]| {
            ends[..tokens * d].iter().map(|&end| sign * f64::from(end)).collect::<Vec<f64>>()
        };
        let (upper, lower) = (wide(1.0, &values.hi), wide(-1.0, &values.lo));
        let mut most: Vec<f64> =
            upper.iter().zip(&lower).map(|(a, b)| greater(a.abs(), b.abs())).collect();
        for at in d..most.len() {
            most[at] = greater(most[at], most[at - d]);
        }
        Self { d, upper, lower, most }
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
) -> Vec<(f32, f32)> {
    let (shares, tokens, d) = (shares(scores), scores.len(), stored.d);
    let (mut low, mut high) = (vec![0f32; d], vec![0f32; d]);
    let ends = (&values.lo[..tokens * d], &values.hi[..tokens * d]);
    (kernels.boxes.mix)(&shares, ends, (&mut low, &mut high));
    let weights = Weights::new(scores);
    if !weights.hull {
        return low.into_iter().zip(high).collect();
    }
    let most = &stored.most[(tokens - 1) * d..tokens * d];
    let top = weights.most(kernels, &stored.upper[..tokens * d], most);
    let bottom = weights.most(kernels, &stored.lower[..tokens * d], most);
    (0..d)
        .map(|dim| {
            let margin = most[dim] * weights.error + 1e-40;
            let least = down(-bottom[dim] - margin);
            (max(low[dim], least), min(high[dim], up(top[dim] + margin)))
        })
        .collect()
}

/// The boxes of the softmax shares by the engine's own program at the corners.
fn shares(scores: &[(f32, f32)]) -> Vec<(f32, f32)> {
    let top = |pick: fn(&(f32, f32)) -> f32| scores.iter().map(pick).fold(f32::NEG_INFINITY, max);
    let (top_lo, top_hi) = (top(|s| s.0), top(|s| s.1));
    // No score is above the largest of them.
    let e_lo: Vec<f32> = scores.iter().map(|s| exp(min(s.0 - top_hi, 0.0))).collect();
    let e_hi: Vec<f32> = scores.iter().map(|s| exp(min(s.1 - top_lo, 0.0))).collect();
    // The largest score contributes exactly 1, and every sum is monotone.
    let (z_lo, z_hi) = (max(sum16(&e_lo), 1.0), sum16(&e_hi));
    e_lo.into_iter().zip(e_hi).map(|(lo, hi)| (lo / z_hi, hi / z_lo)).collect()
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
    fn new(scores: &[(f32, f32)]) -> Self {
        let top = scores.iter().map(|s| s.1).fold(f32::NEG_INFINITY, max);
        let low = scores.iter().map(|s| s.0).fold(f32::NEG_INFINITY, max);
        let near = f64::from(top) - f64::from(low) <= FARTHEST;
        let e = |s: f32| {
            let d = f64::from(s) - f64::from(top);
            // Below -690 the true weight is under 1e-299 of the largest upper one.
            exp_f64(if d < -690.0 { -690.0 } else { d })
        };
        Self {
            lo: scores.iter().map(|s| e(s.0)).collect(),
            hi: scores.iter().map(|s| e(s.1)).collect(),
            error: mix_error(scores.len()),
            hull: near && scores.len() <= MOST_TOKENS,
        }
    }

    /// A number for each dimension that no mix of its values over the score box exceeds; `most` are
    /// their largest magnitudes.
    ///
    /// A rounded mix is within `slack` of the real one of the same weights: sums of `n` positive
    /// weights, and of their products, are within `n` units each.
    fn most(&self, kernels: &Kernels, values: &[f64], most: &[f64]) -> Vec<f64> {
        let unit = f64::EPSILON * (self.lo.len() + 4) as f64;
        let slack: Vec<f64> = most.iter().map(|most| most * unit + 1e-300).collect();
        let respond = |ratios: &[f64], out: &mut [f64]| {
            (kernels.boxes.respond)(values, (&self.lo, &self.hi), ratios, out);
        };
        let (mut ratios, mut next) = (vec![f64::INFINITY; most.len()], vec![0.0; most.len()]);
        respond(&ratios, &mut next);
        ratios.copy_from_slice(&next);
        for _ in 0..MOST_RESPONSES {
            respond(&ratios, &mut next);
            let mut grown = false;
            for (ratio, &next) in ratios.iter_mut().zip(&next) {
                grown |= next > *ratio;
                *ratio = greater(*ratio, next);
            }
            if !grown {
                break;
            }
        }
        ratios.iter_mut().zip(&slack).for_each(|(ratio, slack)| *ratio += 2.0 * slack);
        respond(&ratios, &mut next);
        for (dim, ratio) in ratios.iter_mut().enumerate() {
            let proven = next[dim] + slack[dim] <= *ratio;
            if !proven {
                // No mix exceeds the largest value.
                *ratio = most[dim];
            }
        }
        ratios
    }
}

/// Responses that look for the greatest mix; what they do not reach is not claimed.
const MOST_RESPONSES: usize = 32;

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
        mix(best(), scores, &values, &stored)[0]
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
            let weights = Weights::new(&scores);
            assert!(weights.hull || wide > 500.0, "{wide}");
            let most: Vec<f64> = (0..d)
                .map(|dim| values.iter().skip(dim).step_by(d).fold(0.0, |a, v| greater(a, v.abs())))
                .collect();
            let bounds = weights.most(best(), &values, &most);
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
        let values = Ends { lo: vec![1.0, 0.0, 0.0], hi: vec![1.0, 0.0, 0.0] };
        let stored = Stored::of(&values, 1, 3);
        let found = mix(best(), &scores, &values, &stored)[0];
        let mut s = vec![-1000.0f32, -2000.0, -3000.0];
        engine::numerics::softmax_row(&mut s);
        let out = s[0] * 1.0;
        assert!(found.0 <= out && out <= found.1, "{out} outside {found:?}");
    }
}

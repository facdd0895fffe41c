//! Attention over boxes: end points, and the exact range of `softmax(s) . v`.
//!
//! For `f = sum p_j v_j`, `df/ds_j = p_j (v_j - f)`: at a maximum every score of a `v_j` above `f`
//! is at its upper end and every other at its lower end. So the maximum is attained at a threshold
//! in the order of `v`, and trying all thresholds finds it.
//!
//! The engine against the real value, for finite scores that lie in the box: `s_j - m` is rounded
//! once (at most 105 units absolute where the exponential is not zero), the exponential once; sum
//! and quotient add `n / 16 + 8` at most; numerator and denominator share these. The weighted sum
//! adds `n + 1` units of `sum p |v|`. Exponentials below the normal range are off by at most 2^-149
//! each.

use engine::numerics::{exp, exp_f64, max, min, sum16};
use engine::walk::score_scale;
use ndarray::Array2;
use rayon::prelude::*;

use super::gate::product;
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
            let order = Order::new(values, d, first + rows);
            (0..rows)
                .flat_map(|row| {
                    let at = head * d..(head + 1) * d;
                    let query = (&queries.lo_row(row)[at.clone()], &queries.hi_row(row)[at]);
                    let scores = scores(query, keys, first + row + 1);
                    // A score that may overflow may be infinite, and its share then NaN.
                    if scores.iter().any(|s| !s.0.is_finite() || !s.1.is_finite()) {
                        return vec![(f32::NAN, f32::NAN); d];
                    }
                    mix(&scores, values, &order)
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
fn scores((lo, hi): (&[f32], &[f32]), keys: &Ends, tokens: usize) -> Vec<(f32, f32)> {
    let d = lo.len();
    let scale = score_scale(d);
    let (mut low, mut high) = (vec![0.0; d], vec![0.0; d]);
    (0..tokens)
        .map(|token| {
            for j in 0..d {
                let key = (keys.lo[token * d + j], keys.hi[token * d + j]);
                (low[j], high[j]) = product((lo[j], hi[j]), key);
            }
            // The engine rounds each product, then adds in the order of sum16: monotone in each.
            (sum16(&low) * scale, sum16(&high) * scale)
        })
        .collect()
}

/// For each dimension the tokens in falling order of the upper, and rising order of the lower end.
struct Order {
    d: usize,
    falling: Vec<Vec<u32>>,
    rising: Vec<Vec<u32>>,
}

impl Order {
    fn new(values: &Ends, d: usize, tokens: usize) -> Self {
        let sorted = |key: &dyn Fn(usize) -> f32| {
            let mut order: Vec<u32> = (0..tokens as u32).collect();
            order.sort_by(|&a, &b| key(a as usize).total_cmp(&key(b as usize)));
            order
        };
        let falling = (0..d).map(|i| sorted(&|j| -values.hi[j * d + i])).collect();
        let rising = (0..d).map(|i| sorted(&|j| values.lo[j * d + i])).collect();
        Self { d, falling, rising }
    }
}

/// The boxes of one attention row of one head.
fn mix(scores: &[(f32, f32)], values: &Ends, order: &Order) -> Vec<(f32, f32)> {
    let shares = shares(scores);
    let weights = Weights::new(scores);
    (0..order.d)
        .map(|dim| {
            let (mut low, mut high, mut most) = (0f32, 0f32, 0f64);
            for (token, &share) in shares.iter().enumerate() {
                let at = token * order.d + dim;
                let (l, u) = product(share, (values.lo[at], values.hi[at]));
                low += l;
                high += u;
                for end in [values.lo[at], values.hi[at]] {
                    let magnitude = f64::from(end.abs());
                    most = if magnitude > most { magnitude } else { most };
                }
            }
            if !weights.hull {
                return (low, high);
            }
            let margin = most * weights.error + 1e-40;
            let value = |ends: &[f32], token: usize| f64::from(ends[token * order.d + dim]);
            let top = weights.extreme(&order.falling[dim], |t| value(&values.hi, t), true);
            let bottom = weights.extreme(&order.rising[dim], |t| value(&values.lo, t), false);
            (max(low, down(bottom - margin)), min(high, up(top + margin)))
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

    /// The extreme of `sum p v` over the score box, `v` taken in `order`: falling for the upper
    /// one.
    ///
    /// All sums of positive weights are within `n 2^-52` of the truth, which the margin covers.
    fn extreme(&self, order: &[u32], value: impl Fn(usize) -> f64, upper: bool) -> f64 {
        let tokens = self.lo.len();
        let seen = || order.iter().map(|&token| token as usize).filter(|&token| token < tokens);
        let mut weight: f64 = self.lo.iter().sum();
        let mut sum: f64 = seen().map(|token| self.lo[token] * value(token)).sum();
        let mut ratio = sum / weight;
        for token in seen() {
            // One more of the leading values gets its upper weight; stop when that helps no more.
            let more = self.hi[token] - self.lo[token];
            let (next_weight, next_sum) = (weight + more, sum + more * value(token));
            let next = next_sum / next_weight;
            let better = if upper { next >= ratio } else { next <= ratio };
            if !better {
                break;
            }
            (weight, sum, ratio) = (next_weight, next_sum, next);
        }
        ratio
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::numerics::softmax_row;

    /// The range of one attention output for score boxes and values.
    fn range(scores: &[(f32, f32)], v: &[(f32, f32)]) -> (f32, f32) {
        let (lo, hi) = v.iter().copied().unzip();
        let values = Ends { lo, hi };
        let order = Order::new(&values, 1, v.len());
        mix(scores, &values, &order)[0]
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
        let order = Order::new(&values, 1, 3);
        let found = mix(&scores, &values, &order)[0];
        let mut s = vec![-1000.0f32, -2000.0, -3000.0];
        engine::numerics::softmax_row(&mut s);
        let out = s[0] * 1.0;
        assert!(found.0 <= out && out <= found.1, "{out} outside {found:?}");
    }
}

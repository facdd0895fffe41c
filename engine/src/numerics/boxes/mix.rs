//! Attention over boxes: shares, sums of values under shares, and the greatest mix over the reals.

use super::Ends;
use crate::numerics::{exp, exp_f64, max, min, sum16};

/// Adds the ends of the rounded products of shares, none of them negative, with rows, in rising
/// order: the sign of an end of a value names the end of the share.
///
/// # Panics
/// Unless there is a row as wide as `out` for each share.
#[inline(always)]
pub fn mix(shares: &[(f32, f32)], rows: Ends, out: (&mut [f32], &mut [f32])) {
    let width = out.0.len();
    assert!(out.1.len() == width, "both ends");
    assert!(rows.0.len() == width * shares.len() && rows.1.len() == rows.0.len(), "a row a share");
    for (index, &share) in shares.iter().enumerate() {
        let span = index * width..(index + 1) * width;
        let ends = rows.0[span.clone()].iter().zip(&rows.1[span]);
        for ((low, high), (&lo, &hi)) in out.0.iter_mut().zip(out.1.iter_mut()).zip(ends) {
            *low += lo * if lo >= 0.0 { share.0 } else { share.1 };
            *high += hi * if hi >= 0.0 { share.1 } else { share.0 };
        }
    }
}

/// The boxes of the softmax shares of boxes of scores, by the engine's own program at the corners.
///
/// # Panics
/// Unless there is a share for each score.
#[inline(always)]
pub fn shares(scores: &[(f32, f32)], out: &mut [(f32, f32)]) {
    let (mut top_lo, mut top_hi) = (f32::NEG_INFINITY, f32::NEG_INFINITY);
    for score in scores {
        (top_lo, top_hi) = (max(top_lo, score.0), max(top_hi, score.1));
    }
    // No score is above the largest of them.
    let e_lo: Vec<f32> = scores.iter().map(|s| exp(min(s.0 - top_hi, 0.0))).collect();
    let e_hi: Vec<f32> = scores.iter().map(|s| exp(min(s.1 - top_lo, 0.0))).collect();
    // The largest score contributes exactly 1, and every sum is monotone.
    let (z_lo, z_hi) = (max(sum16(&e_lo), 1.0), sum16(&e_hi));
    assert_eq!(out.len(), scores.len(), "a share for each score");
    for ((out, &lo), &hi) in out.iter_mut().zip(&e_lo).zip(&e_hi) {
        *out = (lo / z_hi, hi / z_lo);
    }
}

/// The exponentials of scores less a reference, in f64. Below -690 the true one is under 1e-299 of
/// that of the reference, and this one stays there.
///
/// # Panics
/// Unless there is room for each.
#[inline(always)]
pub fn weights(scores: &[(f32, f32)], top: f32, out: (&mut [f64], &mut [f64])) {
    let count = scores.len();
    let (low, high) = (&mut out.0[..count], &mut out.1[..count]);
    for i in 0..count {
        (low[i], high[i]) = (weight(scores[i].0, top), weight(scores[i].1, top));
    }
}

#[inline(always)]
fn weight(score: f32, top: f32) -> f64 {
    let d = f64::from(score) - f64::from(top);
    exp_f64(if d < -690.0 { -690.0 } else { d })
}

/// Responses that look for the greatest mix; what they do not reach is not claimed.
const MOST_RESPONSES: usize = 33;
/// Columns of a panel.
const PANEL: usize = 32;

/// Rows of values in panels of 32 columns, the rows of a panel behind one another: as mixes of
/// the first few of them are looked for.
#[derive(Clone, Debug)]
pub struct Panels {
    rows: usize,
    columns: usize,
    data: Vec<[f64; PANEL]>,
}

impl Panels {
    /// From rows of so many values.
    ///
    /// # Panics
    /// Unless there are whole rows.
    #[must_use]
    pub fn of(values: impl ExactSizeIterator<Item = f64>, columns: usize) -> Self {
        let rows = values.len() / columns;
        assert_eq!(values.len(), rows * columns, "whole rows");
        let mut data = vec![[0.0; PANEL]; columns.div_ceil(PANEL) * rows];
        for (index, value) in values.enumerate() {
            let (row, column) = (index / columns, index % columns);
            data[column / PANEL * rows + row][column % PANEL] = value;
        }
        Self { rows, columns, data }
    }
}

/// A number for each column that no mix `sum w v / sum w` of its first values exceeds, whatever the
/// weights are between their ends; `most` are the largest magnitudes of these values.
///
/// A number is above every mix if the best response to it, upper weights for the values not below
/// it and lower ones for the others, mixes to no more. The response to a mix that is too low is a
/// higher one; a few of them, and a unit more, pass that test. A rounded mix is within `slack` of
/// the real one of the same weights: sums of `n` positive weights, and of their products, are
/// within `n` units each.
///
/// # Panics
/// Unless there is a row for each weight, and a result for each column.
#[inline(always)]
pub fn greatest(values: &Panels, weights: (&[f64], &[f64]), most: &[f64], out: &mut [f64]) {
    let rows = weights.0.len();
    assert!(weights.1.len() == rows && rows <= values.rows, "both ends of weights of rows");
    assert!(most.len() == values.columns && out.len() == most.len(), "a result for each column");
    let unit = f64::EPSILON * (rows + 4) as f64;
    let fixed = weights.0 == weights.1;
    let outs = out.chunks_mut(PANEL).zip(most.chunks(PANEL));
    for (panel, (out, most)) in values.data.chunks_exact(values.rows).zip(outs) {
        let panel = &panel[..rows];
        let mut slack = [0.0; PANEL];
        for (slack, &most) in slack.iter_mut().zip(most) {
            *slack = most * unit + 1e-300;
        }
        // What was mixed last, and what is claimed: two units above the greatest of all mixes.
        let mut next = lowest(panel, weights.0);
        let mut claims = next;
        claims.iter_mut().zip(slack).for_each(|(claim, slack)| *claim += 2.0 * slack);
        for left in (0..if fixed { 0 } else { MOST_RESPONSES }).rev() {
            next = respond(panel, weights, &claims);
            let mut grown = false;
            for j in 0..PANEL {
                grown |= next[j] + slack[j] > claims[j];
            }
            if !grown || left == 0 {
                break;
            }
            for j in 0..PANEL {
                let claim = next[j] + 2.0 * slack[j];
                claims[j] = if next[j] + slack[j] > claims[j] { claim } else { claims[j] };
            }
        }
        for (j, out) in out.iter_mut().enumerate() {
            let proven = next[j] + slack[j] <= claims[j];
            // No mix exceeds the largest value.
            *out = if proven { claims[j] } else { most[j] };
        }
    }
}

/// The mixes of lower weights: the response to a ratio above all values.
#[inline(always)]
fn lowest(panel: &[[f64; PANEL]], weights: &[f64]) -> [f64; PANEL] {
    let (mut sums, mut mass) = ([0f64; PANEL], 0.0);
    for (value, &weight) in panel.iter().zip(weights) {
        for j in 0..PANEL {
            sums[j] += weight * value[j];
        }
        mass += weight;
    }
    for j in 0..PANEL {
        sums[j] /= mass;
    }
    sums
}

/// The best response to each ratio: `sum w v / sum w` where a weight is its upper end for a value
/// not below the ratio, else its lower end.
#[inline(always)]
fn respond(
    panel: &[[f64; PANEL]],
    weights: (&[f64], &[f64]),
    ratios: &[f64; PANEL],
) -> [f64; PANEL] {
    let (mut sums, mut masses) = ([0f64; PANEL], [0f64; PANEL]);
    for (value, (&low, &high)) in panel.iter().zip(weights.0.iter().zip(weights.1)) {
        let mut weight = [low; PANEL];
        for j in 0..PANEL {
            weight[j] = if value[j] >= ratios[j] { high } else { low };
        }
        for j in 0..PANEL {
            sums[j] += weight[j] * value[j];
        }
        for j in 0..PANEL {
            masses[j] += weight[j];
        }
    }
    for j in 0..PANEL {
        sums[j] /= masses[j];
    }
    sums
}

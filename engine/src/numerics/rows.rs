//! The float programs that work on one row: RMSNorm, softmax, gates.

use super::{exp, sum_squares, sum16};

/// `1 / sqrt(mean x^2 + eps)` from a sum of squares over `n` values.
#[must_use]
#[inline(always)]
pub fn inverse_rms(sum: f64, n: usize, eps: f32) -> f32 {
    let mean = (sum / n as f64) as f32;
    1.0 / (mean + eps).sqrt()
}

/// RMSNorm of one row with gains `g` (Zhang and Sennrich 2019; the cast before the gain as in
/// Llama).
#[inline(always)]
pub fn rms_norm_row(x: &[f32], g: &[f32], eps: f32, y: &mut [f32]) {
    let r = inverse_rms(sum_squares(x), x.len(), eps);
    for ((out, &value), &gain) in y.iter_mut().zip(x).zip(g) {
        *out = gain * (value * r);
    }
}

/// Turns scores into softmax shares in place.
#[inline(always)]
pub fn softmax_row(scores: &mut [f32]) {
    let top = largest(scores);
    by_sixteens(scores, |s| exp(s - top));
    let total = sum16(scores);
    by_sixteens(scores, |s| s / total);
}

/// Maps every value; the last ones are filled up with zeros, so that they too are one vector.
#[inline(always)]
fn by_sixteens(values: &mut [f32], map: impl Fn(f32) -> f32) {
    let (chunks, rest) = values.as_chunks_mut::<16>();
    for chunk in chunks {
        chunk.iter_mut().for_each(|value| *value = map(*value));
    }
    if !rest.is_empty() {
        let mut last = [0.0; 16];
        last[..rest.len()].copy_from_slice(rest);
        last.iter_mut().for_each(|value| *value = map(*value));
        rest.copy_from_slice(&last[..rest.len()]);
    }
}

/// The largest score, NaN if one is NaN; which zero it is changes no difference's exponential.
#[inline(always)]
fn largest(scores: &[f32]) -> f32 {
    let greater = |a: f32, b: f32| if a > b { a } else { b };
    let (mut lanes, mut undefined) = ([f32::NEG_INFINITY; 16], false);
    let (chunks, rest) = scores.as_chunks::<16>();
    let mut last = [f32::NEG_INFINITY; 16];
    last[..rest.len()].copy_from_slice(rest);
    for chunk in chunks.iter().chain([&last]) {
        for j in 0..16 {
            undefined |= chunk[j].is_nan();
            lanes[j] = greater(chunk[j], lanes[j]);
        }
    }
    let mut width = 8;
    while width > 0 {
        for j in 0..width {
            lanes[j] = greater(lanes[j], lanes[j + width]);
        }
        width /= 2;
    }
    if undefined { f32::NAN } else { lanes[0] }
}

/// `max(g, 0)^2`.
#[must_use]
#[inline(always)]
pub fn relu2(g: f32) -> f32 {
    let positive = if g > 0.0 || g.is_nan() { g } else { 0.0 };
    positive * positive
}

/// `g / (1 + e^-g)`.
#[must_use]
#[inline(always)]
pub fn silu(g: f32) -> f32 {
    g / (1.0 + exp(-g))
}

/// `act(g) * u` over one row.
#[inline(always)]
pub fn gate_row(g: &[f32], u: &[f32], y: &mut [f32], act: impl Fn(f32) -> f32) {
    for ((out, &gate), &up) in y.iter_mut().zip(g).zip(u) {
        *out = act(gate) * up;
    }
}

//! Constants that hold everywhere, multiplied: a contrast to the local bounds, and of no other use.
//!
//! They speak of the network over the reals, without rounding to codes (which has no constant at
//! all), in the maximum norm. What a norm gives out is at most `max |g| sqrt D`, whatever enters,
//! so all that follows it has a constant: that of the norm itself is `max |g| / sqrt eps` times
//! `(1 + sqrt D) / 2`, the largest row sum of `|I - y y' / D|` with `|y|^2 <= D`.

use std::f64::consts::SQRT_2;

use engine::model::{Gate, Layer, Linear, Model, Norm, Slot};
use engine::walk::score_scale;

use super::response::{Response, float_magnitudes, larger, linear_magnitudes};

/// How a row changes with the stream, and the largest magnitude in it.
#[derive(Clone, Copy)]
struct Track {
    change: f64,
    most: f64,
}

/// The logarithm to base 10 of the product of the constants of all layers from `from` on, of the
/// final norm, and of the margin between any two logits; infinite where a norm has no eps.
#[must_use]
pub fn log10_of_margins(model: &Model, from: usize) -> f64 {
    let width = model.config.hidden;
    let none = vec![0.0; width];
    let (rows, _) = float_magnitudes(&model.head, &Response::identity(width), &none);
    let head = normed(&model.final_norm, 1.0).change * 2.0 * rows.largest().bound;
    let layers = model.layers[from..].iter().map(|layer| {
        let attention = 1.0 + attention(model, layer);
        attention.log10() + (1.0 + feed_forward(model, layer)).log10()
    });
    layers.sum::<f64>() + head.log10()
}

/// Behind a norm of rows that change by `change`.
fn normed(norm: &Norm, change: f64) -> Track {
    let gain = norm.gains.iter().fold(0.0, |most, gain| larger(most, f64::from(gain.abs())));
    let root = (norm.gains.len() as f64).sqrt();
    let slope = gain * 0.5 * (1.0 + root) / f64::from(norm.eps).sqrt();
    Track { change: slope * change, most: gain * root }
}

fn linear(x: Track, layer: &Linear) -> Track {
    let x = layer.norm.as_ref().map_or(x, |norm| normed(norm, x.change));
    let none = vec![0.0; layer.inputs()];
    let (rows, _) = linear_magnitudes(layer, &Response::identity(layer.inputs()), &none);
    let sum = rows.largest().bound;
    Track { change: sum * x.change, most: sum * x.most }
}

fn attention(model: &Model, layer: &Layer) -> f64 {
    let dim = model.config.head_dim;
    let x = normed(&layer.input_norm, 1.0);
    let turned = |x: Track| Track { change: SQRT_2 * x.change, most: SQRT_2 * x.most };
    let [q, k] = [Slot::Q, Slot::K].map(|slot| turned(linear(x, layer.linear(slot))));
    let v = linear(x, layer.linear(Slot::V));
    let terms = f64::from(score_scale(dim)) * dim as f64;
    let scores = terms * (k.most * q.change + q.most * k.change);
    let mixed = Track { change: v.change + v.most * scores, most: v.most };
    let norm = layer.attention_sub_norm.as_ref();
    let mixed = norm.map_or(mixed, |norm| normed(norm, mixed.change));
    linear(mixed, layer.linear(Slot::O)).change
}

fn feed_forward(model: &Model, layer: &Layer) -> f64 {
    let x = normed(&layer.post_norm, 1.0);
    let [g, u] = [Slot::Gate, Slot::Up].map(|slot| linear(x, layer.linear(slot)));
    let (slope, act) = match model.config.gate {
        Gate::Relu2 => (2.0 * g.most, g.most * g.most),
        Gate::Silu => (1.1, g.most),
    };
    let change = slope * u.most * g.change + act * u.change;
    let gated = Track { change, most: act * u.most };
    let norm = layer.ffn_sub_norm.as_ref();
    let gated = norm.map_or(gated, |norm| normed(norm, gated.change));
    linear(gated, layer.linear(Slot::Down)).change
}

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

/// The power of ten in the product of the constants of all layers from `from` on, of the final
/// norm, and of the margin between any two logits; `None` where it is infinite, as without an eps.
#[must_use]
pub fn power_of_margins(model: &Model, from: usize) -> Option<i32> {
    let width = model.config.hidden;
    let none = vec![0.0; width];
    let (rows, _) = match &model.coded_head {
        Some(head) => linear_magnitudes(head, &Response::identity(width), &none),
        None => float_magnitudes(&model.head, &Response::identity(width), &none),
    };
    let head = normed(&model.final_norm, 1.0).change * 2.0 * rows.largest().bound;
    let layers = model.layers[from..].iter();
    let layers = layers.flat_map(|layer| [attention(model, layer), feed_forward(model, layer)]);
    power(layers.map(|update| 1.0 + update).chain([head]))
}

/// The power of ten of a product that may be too large for f64: `p` of `m 10^p`, `1 <= m < 10`.
fn power(factors: impl Iterator<Item = f64>) -> Option<i32> {
    let (mut mantissa, mut power) = (1.0f64, 0);
    for factor in factors {
        let mut factor = factor;
        if !factor.is_finite() || factor <= 0.0 {
            return None;
        }
        while factor >= 10.0 {
            (factor, power) = (factor / 10.0, power + 1);
        }
        while factor < 1.0 {
            (factor, power) = (factor * 10.0, power - 1);
        }
        mantissa *= factor;
        if mantissa >= 10.0 {
            (mantissa, power) = (mantissa / 10.0, power + 1);
        }
    }
    Some(power)
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
    // A turn of the plane, stretched where frequencies are.
    let turn = SQRT_2 * larger(1.0, model.rope.stretch().into());
    let turned = |x: Track| Track { change: turn * x.change, most: turn * x.most };
    let [q, k] = [(Slot::Q, &layer.query_norm), (Slot::K, &layer.key_norm)].map(|(slot, norm)| {
        let x = linear(x, layer.linear(slot));
        turned(norm.as_ref().map_or(x, |norm| normed(norm, x.change)))
    });
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

#[cfg(test)]
mod tests {
    use super::power;

    #[test]
    fn products_beyond_f64_keep_their_power_of_ten() {
        assert_eq!(power([2e200, 3e200, 4e-3].into_iter()), Some(398));
        assert_eq!(power([5.0, 1.0].into_iter()), Some(0));
        assert_eq!(power([1e5, f64::INFINITY].into_iter()), None);
        assert_eq!(power([f64::NAN].into_iter()), None);
    }
}

//! The random nets that bounds are tried on, and points of the sets.

#![allow(dead_code, reason = "each test binary uses its own part of this")]

use std::env;

use certify::region::{Ball, Region};
use engine::model::random::{SplitMix, Style, mixed_model, random_model, small_config};
use engine::model::{Activations, FloatType, Gate, HeadForm, KvKind, Model, Yarn};
use ndarray::Array2;

/// The nets: 1, 2, 3 and 6 layers, grouped heads, both gates, with and without sub-norms.
pub(crate) fn nets() -> Vec<(&'static str, Model)> {
    let bitnet = Style { stored: FloatType::F32, ..Style::BITNET };
    let llama = Style { sub_norms: false, divide: true, ..bitnet };
    let inner = Style { inner_norms: true, ..llama };
    let silu = |layers, hidden, heads, kv_heads| {
        let mut config = small_config(layers, hidden, heads, kv_heads);
        config.gate = Gate::Silu;
        config
    };
    let mut float = silu(2, 16, 2, 2);
    float.activations = Activations::None;
    let mut few = silu(2, 16, 4, 2);
    few.activations = Activations::PerTokenInt4;
    let mut few_relu = small_config(2, 32, 4, 2);
    few_relu.activations = Activations::PerTokenInt4;
    let by_head = Style { head_norms: true, ..llama };
    let mut stretched = silu(2, 32, 4, 2);
    let (beta_fast, beta_slow) = (4.0, 0.5);
    stretched.yarn = Some(Yarn { factor: 4.0, original: 16, beta_fast, beta_slow, stretch: 1.5 });
    let mut tied = small_config(2, 16, 4, 1);
    tied.tied = true;
    let all_norms = Style { inner_norms: true, ..bitnet };
    vec![
        ("1 layer", random_model(&small_config(1, 16, 4, 2), bitnet, 1)),
        ("2 layers, grouped heads", random_model(&small_config(2, 32, 4, 2), bitnet, 2)),
        ("3 layers, silu, no sub-norms", random_model(&silu(3, 16, 4, 2), llama, 3)),
        ("6 layers", random_model(&small_config(6, 16, 4, 4), bitnet, 4)),
        ("2 layers, inner norms", random_model(&silu(2, 16, 4, 2), inner, 5)),
        ("2 layers, float activations", random_model(&float, llama, 6)),
        ("2 layers, tied, one kv head", random_model(&tied, bitnet, 7)),
        ("2 layers, relu2, no sub-norms", random_model(&small_config(2, 16, 2, 1), llama, 8)),
        ("2 layers, silu, int4", random_model(&few, inner, 13)),
        ("2 layers, relu2, int4", random_model(&few_relu, bitnet, 14)),
        ("2 layers, integers of all kinds, silu", mixed_model(&silu(2, 16, 4, 2), inner, 15)),
        ("2 layers, integers of all kinds, int4", mixed_model(&few_relu, bitnet, 16)),
        ("2 layers, head of integers", eight(random_model(&few_relu, llama, 17))),
        ("1 layer, float activations, head of integers", {
            let mut one = float.clone();
            one.layers = 1;
            eight(random_model(&one, bitnet, 18))
        }),
        ("2 layers, norms by head", random_model(&silu(2, 32, 4, 2), by_head, 10)),
        ("2 layers, norms by head, float activations", random_model(&float, by_head, 11)),
        ("2 layers, stretched frequencies", random_model(&stretched, by_head, 12)),
        ("2 layers, relu2, all norms", random_model(&small_config(2, 16, 4, 2), all_norms, 9)),
    ]
}

fn eight(model: Model) -> Model {
    model.with_head(HeadForm::Int8)
}

/// Every storage type of the cache.
pub(crate) const KINDS: [KvKind; 4] = [KvKind::F32, KvKind::F16, KvKind::Int8, KvKind::OneBit];

/// How many times the default number of points is tried.
pub(crate) fn share() -> usize {
    env::var("BITNET_SOUNDNESS").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// A point of a region: random, a corner, sparse, or one ulp inside.
pub(crate) fn moved_point(region: &Region<'_>, how: usize, rng: &mut SplitMix) -> Array2<f32> {
    let mut point = region.clean.clone();
    match &region.ball {
        Ball::Linf(_) | Ball::Boxes { .. } => {
            let boxes = region.boxes();
            let radius = if let Ball::Linf(radius) = region.ball { radius } else { f64::INFINITY };
            for (at, x) in point.indexed_iter_mut() {
                let clean = *x;
                *x = step_in((boxes.lo[at], boxes.hi[at]), clean, how, rng);
                // The ends of boxes are rounded outward: a point of the ball may not be one.
                let outside = |x: f32| (f64::from(x) - f64::from(clean)).abs() > radius;
                while outside(*x) {
                    *x = if *x > clean { x.next_down() } else { x.next_up() };
                }
            }
        }
        Ball::L2(radius) => {
            // A direction of norm at most 1, a little inside for the rounding of the sum.
            let mut moves: Vec<f64> = (0..point.len())
                .map(|_| match how % 3 {
                    0 => f64::from(rng.unit()),
                    1 => [-1.0, 1.0][rng.below(2)],
                    _ => [0.0, 0.0, 0.0, 1.0][rng.below(4)],
                })
                .collect();
            let width = point.ncols();
            for (at, x) in moves.iter_mut().enumerate() {
                if !region.moved.contains(&(at / width)) {
                    *x = 0.0;
                }
            }
            let norm = moves.iter().map(|x| x * x).sum::<f64>().sqrt();
            let factor = if norm > 0.0 { radius / norm } else { 0.0 };
            for (x, by) in point.iter_mut().zip(moves) {
                let exact = f64::from(*x) + by * factor;
                let near = exact as f32;
                // Toward the clean value, so that the norm stays within the radius.
                let past = (f64::from(near) - f64::from(*x)).abs() > (by * factor).abs();
                let toward = if by > 0.0 { near.next_down() } else { near.next_up() };
                *x = if past { toward } else { near };
            }
        }
        Ball::Hulls(hulls) => {
            for (row, hull) in region.moved.clone().zip(hulls) {
                let choice = rng.below(hull.nrows() + 1);
                if choice < hull.nrows() {
                    point.row_mut(row).assign(&hull.row(choice));
                }
            }
        }
    }
    point
}

fn step_in((lo, hi): (f32, f32), x: f32, how: usize, rng: &mut SplitMix) -> f32 {
    let value = match how % 4 {
        0 => lo + (hi - lo) * (rng.below(1025) as f32 / 1024.0),
        1 => [lo, hi][rng.below(2)],
        2 => [x, x, x, lo, hi][rng.below(5)],
        _ => [lo.next_up(), hi.next_down(), x.next_up()][rng.below(3)],
    };
    value.clamp(lo, hi)
}

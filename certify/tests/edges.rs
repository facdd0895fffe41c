//! The edges of floats: code boundaries and ties to the ulp, zeros of either sign, balls, and sets
//! that are changed by hand. Points and tiny boxes there meet every step's rounding head on.

mod support;

use std::sync::Arc;

use certify::checked::{Checked, Pair};
use certify::claim::{Deployed, prove};
use certify::interval::{Boxes, Interval, Margin};
use certify::moved::{Movable, Moved};
use engine::kernels;
use engine::model::{
    Activations, FloatType, Gate, KvKind, Linear, Model, Norm, NormSlot, Scale, Slot, Weights,
};
use engine::packing::{TernaryRows, weight_of};
use engine::walk::{Domain, Exact, ExactPrepared, Read, Site, Step};
use ndarray::{Array2, s};
use support::{DIGITS, Draws, Shape, model};

const AT: Site = Site { layer: 0, step: Step::Norm(NormSlot::Input) };

fn checked(model: &Model, kv: KvKind) -> Checked<Interval> {
    let table = kernels::best();
    Checked::new(Interval::new(table, model, kv, Vec::new()), Exact::new(table, model, kv))
}

/// `value`, some floats away.
fn nudged(value: f32, floats: i32) -> f32 {
    let step = |x: f32| if floats > 0 { x.next_up() } else { x.next_down() };
    (0..floats.abs()).fold(value, |x, _| step(x))
}

/// Boxes of up to `most` floats on either side of the values.
fn around(x: &Array2<f32>, most: u32, draws: &mut Draws) -> Boxes {
    let mut end = |sign: i32| x.mapv(|v| nudged(v, sign * draws.below(most + 1) as i32));
    Boxes::new(end(-1), end(1))
}

/// A point of boxes: an end, the middle value, or a float beside it, in each feature.
fn inside(boxes: &Boxes, x: &Array2<f32>, draws: &mut Draws) -> Array2<f32> {
    Array2::from_shape_fn(x.raw_dim(), |at| {
        let near = nudged(x[at], draws.below(3) as i32 - 1);
        let choice = [boxes.lo[at], boxes.hi[at], x[at], near][draws.below(4) as usize];
        choice.clamp(boxes.lo[at], boxes.hi[at])
    })
}

/// A row whose codes lie within three floats of a boundary, under its largest magnitude.
fn boundary_row(width: usize, most: u32, draws: &mut Draws) -> Array2<f32> {
    let power = draws.below(60) as i32 - 12;
    let absmax = (1.0 + draws.unit().abs()) * f32::from_bits(((127 + power) as u32) << 23);
    let absmax = if draws.below(4) == 0 { most as f32 } else { absmax };
    let largest = draws.below(width as u32) as usize;
    Array2::from_shape_fn((1, width), |(_, column)| {
        let sign = [1.0, -1.0][draws.below(2) as usize];
        if column == largest {
            return sign * absmax;
        }
        let half = f64::from(draws.below(most)) + 0.5;
        let value = (f64::from(absmax) * half / f64::from(most)) as f32;
        sign * nudged(value, draws.below(7) as i32 - 3)
    })
}

#[test]
fn codes_within_three_floats_of_a_boundary_lie_in_their_boxes() {
    let model = model(&DIGITS, 1);
    let mut draws = Draws::new(61);
    let plain = Norm { gains: vec![1.0; 32].into(), eps: 1e-5, stored: FloatType::F32 };
    for index in 0..6000 {
        let policies = [(Activations::PerTokenInt8, 127), (Activations::PerTokenInt4, 7)];
        let (policy, most) = policies[index % 5 % 2];
        let x = boundary_row(32, most, &mut draws);
        let boxes = around(&x, [0, 0, 1, 4][index % 4], &mut draws);
        let mut domain = checked(&model, KvKind::F32);
        let mut pair = Pair { point: inside(&boxes, &x, &mut draws), set: boxes };
        if index % 3 == 0 {
            pair = domain.norm(AT, &pair, &plain);
        }
        domain.prepare(AT, &pair, policy);
        assert!(domain.set.diverged().is_none(), "{x:?}");
    }
}

#[test]
fn stored_values_to_the_ulp_lie_in_their_boxes() {
    let shape = Shape { kv_heads: 4, ..DIGITS };
    let model = model(&shape, 2);
    let mut draws = Draws::new(67);
    for index in 0..4000 {
        let kv = [KvKind::F16, KvKind::Int8, KvKind::OneBit][index % 3];
        let mut x = boundary_row(32, 127, &mut draws);
        if index % 5 == 0 {
            x.mapv_inplace(|v| [v, 0.0, -0.0, f32::from_bits(1)][draws.below(4) as usize]);
        }
        if kv == KvKind::F16 {
            // Beside the middle of two halves.
            x.mapv_inplace(|v| f32::from_bits(v.clamp(-6e4, 6e4).to_bits() & !0x1fff | 0x1000));
        }
        let wide = [0, 1, 9, 3_000_000][index / 3 % 4];
        let boxes = around(&x, wide % 10, &mut draws);
        let boxes = if wide > 9 {
            Boxes::ball(&x, 0.02 * f64::from(x[[0, 0]].abs()), &(0..1))
        } else {
            boxes
        };
        let mut domain = checked(&model, kv);
        let point = inside(&boxes, &x, &mut draws);
        let values = Pair { set: boxes, point };
        let zeros = Array2::zeros((1, 32));
        let keys = Pair { set: Boxes::point(&zeros), point: zeros };
        domain.store(AT, keys.clone(), values);
        // One token has all the share, so that attention reads what was stored.
        domain.attend(AT, &keys, 0);
        assert!(domain.set.diverged().is_none(), "{kv:?} {x:?}");
    }
}

#[test]
fn the_gate_to_the_ulp_lies_in_its_boxes() {
    let model = model(&DIGITS, 3);
    let mut draws = Draws::new(71);
    let up = Array2::ones((1, 64));
    for index in 0..20_000 {
        let span = [1.0, 20.0, 100.0][index % 3];
        let mut x = Draws::new(index as u64).rows(1, 64) * span;
        if index % 4 == 0 {
            // The minimum of silu.
            x.fill(-1.278_464_5);
            x.mapv_inplace(|v| nudged(v, draws.below(4000) as i32 - 2000));
        }
        let boxes = around(&x, [2, 40][index / 3 % 2], &mut draws);
        let gate = Pair { point: inside(&boxes, &x, &mut draws), set: boxes };
        let up = Pair { set: Boxes::point(&up), point: up.clone() };
        checked(&model, KvKind::F32).gate(AT, &gate, &up, Gate::Silu);
    }
}

#[test]
fn a_ball_holds_every_float_within_its_radius_and_only_its_rows_move() {
    let mut draws = Draws::new(73);
    for index in 0..2000 {
        let x = draws.rows(4, 8) * [1.0, 100.0, 1e-3][index % 3];
        let epsilon = f64::from(draws.unit().abs()) * [1e-6, 1e-3, 1.0][index / 3 % 3];
        let boxes = Boxes::ball(&x, epsilon, &(1..3));
        for (at, &value) in x.indexed_iter() {
            let (lo, hi) = (boxes.lo[at], boxes.hi[at]);
            if !(1..3).contains(&at.0) {
                assert_eq!((lo, hi), (value, value));
                continue;
            }
            for sign in [-1.0, 1.0] {
                let end = (f64::from(value) + sign * epsilon) as f32;
                for floats in -2..=2 {
                    let near = nudged(end, floats);
                    let within = (f64::from(near) - f64::from(value)).abs() <= epsilon;
                    assert!(
                        !within || (lo <= near && near <= hi),
                        "{near} is {value} +- {epsilon}"
                    );
                }
            }
        }
    }
}

/// The prepared rows of a random input behind the first norm, as a box and as a point inside.
fn prepared(
    domain: &mut Checked<Interval>,
    model: &Model,
    radius: f64,
    draws: &mut Draws,
) -> <Checked<Interval> as Domain>::Prepared {
    let x = draws.rows(2, model.config.hidden);
    let boxes = Boxes::ball(&x, radius, &(0..2));
    let point = inside(&boxes, &x, draws);
    let normed = domain.norm(AT, &Pair { set: boxes, point }, &model.layers[0].post_norm);
    domain.prepare(AT, &normed, Activations::PerTokenInt8)
}

#[test]
fn a_column_that_is_replaced_is_no_part_of_what_cancels() {
    let mut draws = Draws::new(79);
    for seed in 0..60 {
        let model = model(&DIGITS, seed);
        let mut domain = checked(&model, KvKind::F32);
        let rows = prepared(&mut domain, &model, 0.02, &mut draws);
        let layer = &model.layers[0];
        let mut gate = domain.linear(AT, &rows, layer.linear(Slot::Gate));
        let up = domain.linear(AT, &rows, layer.linear(Slot::Up));
        let column = gate.point.slice(s![.., 3..4]).mapv(|v| v.abs() * 8.0 + 3.0);
        let column = Pair { set: Boxes::point(&column), point: column };
        domain.replace_column(&mut gate, 3, &column);
        let gated = domain.gate(AT, &gate, &up, Gate::Relu2);
        domain.norm(AT, &gated, layer.ffn_sub_norm.as_ref().expect("sub-norms"));
    }
}

#[test]
fn margins_at_the_head_hold_at_their_worst_corners() {
    let mut draws = Draws::new(97);
    let mut positive = 0;
    for seed in 0..200 {
        let model = model(&DIGITS, seed);
        let deployed = Deployed { model: &model, kernels: kernels::best(), kv: KvKind::F32 };
        let z = draws.rows(1, 32);
        let clean = deployed.logits(&z, 2, Read::Last).into_raw_vec_and_offset().0;
        let winner = engine::numerics::argmax(&clean).expect("finite logits");
        let row = |class: usize| {
            let mut row = vec![0.0; 32];
            model.head.read_row(class, &mut row);
            row
        };
        for radius in [1e-6, 1e-3, 0.02, 0.1] {
            let boxes = Boxes::ball(&z, radius, &(0..1));
            for rival in (0..10).filter(|&rival| rival != winner) {
                let claims = [Margin { row: 0, winner, rivals: vec![rival] }];
                let bound = prove(&deployed, &boxes, 2, Read::Last, &claims).margins[0];
                let (w, v) = (row(winner), row(rival));
                let corner = Array2::from_shape_fn((1, 32), |at| {
                    let slope = (w[at.1] - v[at.1]) * model.final_norm.gains[at.1];
                    if slope >= 0.0 { boxes.lo[at] } else { boxes.hi[at] }
                });
                let logits = deployed.logits(&corner, 2, Read::Last);
                let margin = f64::from(logits[[0, winner]]) - f64::from(logits[[0, rival]]);
                assert!(bound <= margin, "seed {seed} radius {radius}: {bound} > {margin}");
                positive += usize::from(bound > 0.0);
            }
        }
    }
    assert!(positive > 1000, "only {positive} margins above zero: the test would be empty");
}

/// The layer under another scale of its weights.
fn rescaled(linear: &Linear, factor: f32) -> Linear {
    let mut linear = linear.clone();
    if let Weights::Ternary { scale, .. } = &mut linear.weights {
        *scale = scale.with(scale.stored() * factor);
    }
    linear
}

#[test]
fn gates_whose_squares_fall_below_the_normal_range_keep_their_bounds() {
    let mut draws = Draws::new(89);
    for seed in 0..60 {
        let model = model(&DIGITS, seed);
        for (small, large) in [(1e-19, 1e24), (1e-20, 1e30), (1e15, 1e-30)] {
            let radius = [0.0, 1e-6, 1e-3][seed as usize % 3];
            let mut domain = checked(&model, KvKind::F32);
            let rows = prepared(&mut domain, &model, radius, &mut draws);
            let layer = &model.layers[0];
            // A scale that divides is rescaled the other way.
            let way = |linear: &Linear, factor: f32| match &linear.weights {
                Weights::Ternary { scale: Scale::Divide(_), .. } => rescaled(linear, 1.0 / factor),
                _ => rescaled(linear, factor),
            };
            let gate = domain.linear(AT, &rows, &way(layer.linear(Slot::Gate), small));
            let up = domain.linear(AT, &rows, &way(layer.linear(Slot::Up), large));
            let gated = domain.gate(AT, &gate, &up, Gate::Relu2);
            domain.norm(AT, &gated, layer.ffn_sub_norm.as_ref().expect("sub-norms"));
            assert!(domain.set.diverged().is_none(), "seed {seed}, factors {small} and {large}");
        }
    }
}

/// The layer with one weight changed, and by how much.
fn struck(linear: &Linear, (row, column): (usize, usize), code: u8) -> (Linear, i32) {
    let Weights::Ternary { rows, scale, stored, layout, .. } = &linear.weights else {
        panic!("a ternary layer");
    };
    let change = weight_of(code) - weight_of(rows.row(row)[column]);
    let packed = TernaryRows::pack(rows.rows(), rows.columns(), |index, out| {
        out.copy_from_slice(&rows.row(index)[..out.len()]);
        if index == row {
            out[column] = code;
        }
    });
    let weights = Weights::Ternary {
        rows: Arc::new(packed),
        scale: *scale,
        stored: *stored,
        layout: *layout,
        blocks: None,
    };
    (Linear { weights, ..linear.clone() }, change)
}

#[test]
fn sums_that_move_with_a_struck_weight_lie_in_the_moved_boxes() {
    let mut draws = Draws::new(83);
    for seed in 0..200 {
        let model = model(&DIGITS, seed);
        let mut domain = checked(&model, KvKind::F32);
        let x = draws.rows(2, 32);
        let pair = Pair { set: Boxes::point(&x), point: x };
        let (set, point) = domain.prepare(AT, &pair, Activations::PerTokenInt8);
        let linear = model.layers[0].linear(Slot::Up);
        let place = (draws.below(64) as usize, draws.below(32) as usize);
        let (struck, change) = struck(linear, place, draws.below(3) as u8);
        let ExactPrepared::Codes(codes) = &point else { unreachable!("an int8 policy") };
        let padded = codes.q.len() / 2;
        let by = |token: usize| change * i32::from(codes.q[token * padded + place.1]);
        let mut ranges = vec![Vec::new(); linear.outputs()];
        ranges[place.0] = (0..2).map(|token| (by(token).min(0), by(token).max(0))).collect();
        let moved = Moved { ranges, shared: None };
        let boxes = domain.set.linear_moved(AT, &set, linear, &moved);
        let found = domain.point.linear(AT, &point, &struck);
        assert!(boxes.contains(&found), "seed {seed}");
    }
}

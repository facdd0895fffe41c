//! Attempts to break the interval domain: points in boxes, at every step, without slack.
//!
//! The default run takes a seeded share; `BITNET_SOUNDNESS=20` multiplies the number of points.

mod nets;

use certify::checked::{Checked, Pair};
use certify::claim::{Deployed, prove};
use certify::interval::{Boxes, Interval, Margin};
use engine::kernels;
use engine::model::random::{SplitMix, random_rows};
use engine::model::{KvKind, Model};
use engine::walk::{self, Exact, Read};
use ndarray::Array2;
use nets::{KINDS, nets, share};

/// A point of a box: random, a corner, sparse, or one ulp inside an end.
fn point_in(boxes: &Boxes, clean: &Array2<f32>, how: usize, rng: &mut SplitMix) -> Array2<f32> {
    Array2::from_shape_fn(clean.raw_dim(), |at| {
        let (lo, hi, x) = (boxes.lo[at], boxes.hi[at], clean[at]);
        let inside = |value: f32| value.clamp(lo, hi);
        match how % 4 {
            0 => inside(lo + (hi - lo) * ((rng.below(1025)) as f32 / 1024.0)),
            1 => [lo, hi][rng.below(2)],
            2 => [x, x, x, lo, hi][rng.below(5)],
            _ => inside([lo.next_up(), hi.next_down(), x.next_up()][rng.below(3)]),
        }
    })
}

#[test]
fn a_point_never_leaves_its_box_at_any_step() {
    let mut rng = SplitMix(99);
    let mut checks = 0u64;
    let mut points = 0u64;
    for (name, model) in nets() {
        let x = random_rows(5, model.config.hidden, rng.next_u64());
        for kind in KINDS {
            for epsilon in [0.0, 1e-8, 1e-6, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 1e3, 1e19] {
                let boxes = Boxes::ball(&x, epsilon, &(0..5));
                for how in 0..8 * share() {
                    let set = Interval::new(kernels::best(), &model, kind, Vec::new());
                    let exact = Exact::new(kernels::best(), &model, kind);
                    let mut domain = Checked::new(set, exact);
                    let point = point_in(&boxes, &x, how, &mut rng);
                    assert!(boxes.contains(&point), "{name}");
                    let start = Pair { set: boxes.clone(), point };
                    walk::run(&mut domain, &model, &start, 0, 0, Read::All);
                    checks += domain.checks;
                    points += 1;
                }
            }
        }
    }
    println!("{points} points, {checks} checks, 0 violations");
    assert!(checks > 1_000_000, "only {checks} checks were made");
}

#[test]
fn with_epsilon_zero_the_interval_walk_is_inference_bit_for_bit() {
    for (name, model) in nets() {
        for kind in KINDS {
            let x = random_rows(6, model.config.hidden, 17);
            let mut exact = Exact::new(kernels::best(), &model, kind);
            let expected = walk::run(&mut exact, &model, &x, 0, 0, Read::All);
            let mut domain = Interval::new(kernels::best(), &model, kind, Vec::new());
            let boxes = Boxes::ball(&x, 0.0, &(0..6));
            let found = walk::run(&mut domain, &model, &boxes, 0, 0, Read::All);
            let bits = |x: &Array2<f32>| x.mapv(f32::to_bits);
            assert_eq!(bits(&found.lo), bits(&expected), "{name} {kind:?}");
            assert_eq!(bits(&found.hi), bits(&expected), "{name} {kind:?}");
            assert!(domain.diverged().is_none());
        }
    }
}

#[test]
fn every_kernel_table_gives_the_same_bounds() {
    for (name, model) in nets() {
        let x = random_rows(5, model.config.hidden, 3);
        let boxes = Boxes::ball(&x, 1e-4, &(0..5));
        let run = |table| {
            let mut domain = Interval::new(table, &model, KvKind::F16, Vec::new());
            let out = walk::run(&mut domain, &model, &boxes, 0, 0, Read::All);
            (out.lo.mapv(f32::to_bits), out.hi.mapv(f32::to_bits))
        };
        let expected = run(kernels::scalar());
        for table in kernels::available() {
            assert_eq!(run(table), expected, "{name} {}", table.name);
        }
    }
}

#[test]
fn margins_never_exceed_the_margin_of_a_sampled_point() {
    let mut rng = SplitMix(5);
    let mut certified = 0;
    for (name, model) in nets() {
        let deployed = Deployed { model: &model, kernels: kernels::best(), kv: KvKind::F32 };
        for _ in 0..4 {
            let x = random_rows(4, model.config.hidden, rng.next_u64());
            let streams = deployed.streams(&x);
            let clean = deployed.logits(&x, 0, Read::Last);
            let winner = engine::numerics::argmax(clean.as_slice().expect("one row"));
            let winner = winner.expect("finite logits");
            let claim = Margin { row: 0, winner, rivals: Vec::new() };
            for (from, stream) in streams.iter().enumerate() {
                for epsilon in [1e-7, 1e-5, 1e-3, 1e-2, 0.1] {
                    let boxes = Boxes::ball(stream, epsilon, &(0..4));
                    let proof =
                        prove(&deployed, &boxes, from, Read::Last, std::slice::from_ref(&claim));
                    certified += usize::from(proof.certifies());
                    for how in 0..4 * share() {
                        let point = point_in(&boxes, stream, how, &mut rng);
                        let logits = deployed.logits(&point, from, Read::Last);
                        let row = logits.as_slice().expect("one row");
                        let decision = certify::claim::Decision { winner, classes: Vec::new() };
                        let margin = certify::claim::clean_margin(row, &decision);
                        for &bound in &proof.margins {
                            assert!(bound <= margin, "{name} from {from} eps {epsilon}");
                        }
                        if proof.certifies() {
                            assert_eq!(engine::numerics::argmax(row), Some(winner), "{name}");
                        }
                    }
                }
            }
        }
    }
    assert!(certified > 50, "only {certified} boxes were certified: the test would be empty");
}

/// Gains of either sign and any size, scales likewise, unused codes, norms without an epsilon.
fn wild(mut model: Model, rng: &mut SplitMix) -> Model {
    let size = |rng: &mut SplitMix, span: usize| {
        let power = rng.below(2 * span + 1) as i32 - span as i32;
        let value: f32 = format!("1e{power}").parse().expect("a power");
        let sign = if rng.below(2) == 0 { 1.0 } else { -1.0 };
        sign * value * (1.0 + rng.below(1000) as f32 / 1000.0)
    };
    let calm = rng.below(2) == 0;
    let eps = [0.0, 1e-40, 1e-20, 1e-5][rng.below(4)];
    let spans = [0, 1, 6, 12, 20, 30];
    let (gain_span, scale_span) = (spans[rng.below(6)], spans[rng.below(6)]);
    for layer in &mut model.layers {
        let slots = [
            engine::model::NormSlot::Input,
            engine::model::NormSlot::AttentionSub,
            engine::model::NormSlot::Post,
            engine::model::NormSlot::FfnSub,
        ];
        for slot in slots {
            if let Some(norm) = layer.norm_mut(slot) {
                norm.eps = eps;
                if !calm {
                    norm.gains = norm.gains.iter().map(|g| g * size(rng, gain_span)).collect();
                }
            }
        }
        for slot in engine::model::Slot::ALL {
            if let engine::model::Weights::Ternary { rows, scale, .. } =
                &mut layer.linear_mut(slot).weights
            {
                let factor = size(rng, scale_span);
                let factor = if calm { factor.abs() } else { factor };
                *scale = scale.with(scale.stored() * factor);
                let seed = rng.next_u64();
                let (r, c) = (rows.rows(), rows.columns());
                let packed = engine::packing::TernaryRows::pack(r, c, |row, out| {
                    let mut rng = SplitMix(seed ^ (row as u64) << 20);
                    out.iter_mut().for_each(|code| *code = rng.below(4) as u8);
                });
                *rows = std::sync::Arc::new(packed);
            }
        }
    }
    model.final_norm.eps = eps;
    model
}

#[test]
fn a_point_of_a_wild_model_never_leaves_its_box() {
    let mut rng = SplitMix(4);
    let mut checks = 0u64;
    for _ in 0..40 * share() {
        for (_, model) in nets() {
            let model = wild(model, &mut rng);
            let power = rng.below(40) as i32 - 20;
            let unit: f32 = format!("1e{power}").parse().expect("a power");
            let x = random_rows(4, model.config.hidden, rng.next_u64()).mapv(|v| v * unit);
            let kind = KINDS[rng.below(4)];
            let relative = [1e-8, 1e-6, 1e-4, 1e-2, 0.5, 1.0, 4.0, 1e3][rng.below(8)];
            let boxes = Boxes::ball(&x, relative * f64::from(unit), &(0..4));
            for how in 0..8 {
                let set = Interval::new(kernels::best(), &model, kind, Vec::new());
                let exact = Exact::new(kernels::best(), &model, kind);
                let mut point = point_in(&boxes, &x, how, &mut rng);
                if how == 4 {
                    point.zip_mut_with(&boxes.lo, |p, &l| {
                        if l <= 0.0 {
                            *p = 0.0
                        }
                    });
                    point.zip_mut_with(&boxes.hi, |p, &h| {
                        if h < 0.0 {
                            *p = h
                        }
                    });
                }
                if !boxes.contains(&point) {
                    continue;
                }
                let mut domain = Checked::new(set, exact);
                let start = Pair { set: boxes.clone(), point };
                walk::run(&mut domain, &model, &start, 0, 0, Read::All);
                checks += domain.checks;
            }
        }
    }
    assert!(checks > 1_000_000, "only {checks} checks were made");
}

#[test]
fn margins_of_wild_models_never_exceed_those_of_sampled_points() {
    let mut rng = SplitMix(8);
    let mut certified = 0;
    for _ in 0..40 * share() {
        for (name, model) in nets() {
            let model = wild(model, &mut rng);
            let kv = KINDS[rng.below(4)];
            let deployed = Deployed { model: &model, kernels: kernels::best(), kv };
            let x = random_rows(3, model.config.hidden, rng.next_u64());
            let streams = deployed.streams(&x);
            let from = streams.len() - 1 - rng.below(2);
            let clean = deployed.logits(&x, 0, Read::Last);
            let Some(winner) = engine::numerics::argmax(clean.as_slice().expect("one row")) else {
                continue;
            };
            let stream = &streams[from];
            let size =
                stream.iter().fold(0f32, |most, v| if v.abs() > most { v.abs() } else { most });
            let relative = [1e-8, 1e-6, 1e-4, 1e-3, 1e-2, 0.1, 1.0][rng.below(7)];
            let boxes = Boxes::ball(stream, relative * f64::from(size), &(0..3));
            if !boxes.sound() {
                continue;
            }
            let claim = Margin { row: 0, winner, rivals: Vec::new() };
            let proof = prove(&deployed, &boxes, from, Read::Last, std::slice::from_ref(&claim));
            certified += usize::from(proof.certifies());
            for how in 0..8 {
                let point = point_in(&boxes, stream, how, &mut rng);
                let logits = deployed.logits(&point, from, Read::Last);
                let row = logits.as_slice().expect("one row");
                let decision = certify::claim::Decision { winner, classes: Vec::new() };
                let margin = certify::claim::clean_margin(row, &decision);
                for &bound in &proof.margins {
                    assert!(bound <= margin, "{name} from {from} {relative}: {bound} > {margin}");
                }
                assert!(!proof.certifies() || engine::numerics::argmax(row) == Some(winner));
            }
        }
    }
    assert!(certified > 50, "only {certified} boxes were certified: the test would be empty");
}

//! Attempts to break the affine domain: points at every step, margins of points, epsilon 0.
//!
//! The default run takes a seeded share; `BITNET_SOUNDNESS=20` multiplies the number of points.

mod nets;

use certify::affine::{Affine, Kind, Matrices, prove};
use certify::checked::{Checked, Pair};
use certify::claim::{Deployed, clean_margin};
use certify::interval::Margin;
use certify::region::{Ball, Region};
use engine::kernels;
use engine::model::random::{SplitMix, random_rows};
use engine::model::{KvKind, Model, NormSlot};
use engine::walk::{self, Exact, Read};
use ndarray::{Array2, s};
use nets::{KINDS, moved_point, nets, share};

const TOKENS: usize = 5;

fn claim(winner: usize) -> Vec<Margin> {
    vec![Margin { row: 0, winner, rivals: Vec::new() }]
}

fn balls(radius: f64, clean: &Array2<f32>, rng: &mut SplitMix) -> Vec<Ball> {
    let width = clean.ncols();
    let hull = |row: usize, rng: &mut SplitMix| {
        let by = random_rows(3, width, rng.next_u64()) * radius as f32;
        Array2::from_shape_fn((3, width), |(i, k)| clean[[row, k]] + by[[i, k]])
    };
    let hulls = (1..TOKENS - 1).map(|row| hull(row, rng)).collect();
    let half = Array2::from_shape_fn((TOKENS - 2, width), |_| rng.unit().abs() * radius as f32);
    let moved = clean.slice(ndarray::s![1..TOKENS - 1, ..]);
    let ranges = Ball::Boxes { lo: &moved - &half, hi: &moved + &half * 0.5 };
    vec![Ball::Linf(radius), Ball::L2(radius), Ball::Hulls(hulls), ranges]
}

#[test]
fn a_point_never_leaves_its_form_or_box_at_any_step() {
    let mut rng = SplitMix(991);
    let (mut checks, mut points) = (0u64, 0u64);
    for (_, model) in nets() {
        let matrices = Matrices::new(&model);
        let clean = random_rows(TOKENS, model.config.hidden, rng.next_u64());
        for kind in KINDS {
            let deployed = Deployed { model: &model, kernels: kernels::best(), kv: kind };
            for radius in [1e-8, 1e-4, 1e-2, 1.0, 1e3] {
                for ball in balls(radius, &clean, &mut rng) {
                    for _ in 0..share() {
                        let how = rng.below(12);
                        let region =
                            Region { clean: &clean, moved: 1..TOKENS - 1, ball: ball.clone() };
                        let (set, rows) = Affine::new(&deployed, &matrices, &region, Vec::new());
                        let point = moved_point(&region, how, &mut rng);
                        let exact = Exact::new(kernels::best(), &model, kind);
                        let mut domain = Checked::new(set, exact);
                        let start = Pair { set: rows, point };
                        let read = if how.is_multiple_of(2) { Read::All } else { Read::Last };
                        walk::run(&mut domain, &model, &start, 0, 0, read);
                        checks += domain.checks;
                        points += 1;
                    }
                }
            }
        }
    }
    println!("{points} points, {checks} checks, 0 violations");
    assert!(checks > 300_000, "only {checks} checks were made");
}

/// A net whose norms are scaled down, so that what they give lies near the floor of the absmax.
fn faint(mut model: Model, rng: &mut SplitMix) -> Model {
    for layer in &mut model.layers {
        for slot in [NormSlot::Input, NormSlot::Post, NormSlot::AttentionSub, NormSlot::FfnSub] {
            let factor = [3e-5, 3e-6, 1e-6, 1e-7][rng.below(4)];
            if let Some(norm) = layer.norm_mut(slot) {
                norm.gains = norm.gains.iter().map(|g| g * factor).collect();
            }
        }
    }
    model
}

#[test]
fn a_point_whose_absmax_lies_under_the_floor_never_leaves_its_form() {
    let mut rng = SplitMix(997);
    let (mut checks, mut points) = (0u64, 0u64);
    for _ in 0..share() {
        for (_, model) in nets() {
            let model = faint(model, &mut rng);
            let matrices = Matrices::new(&model);
            let clean = random_rows(TOKENS, model.config.hidden, rng.next_u64());
            let deployed = Deployed { model: &model, kernels: kernels::best(), kv: KvKind::F32 };
            for radius in [1e-5, 1e-3, 3e-2, 0.3] {
                let region = Region { clean: &clean, moved: 0..TOKENS, ball: Ball::Linf(radius) };
                for how in 0..4 {
                    let (set, rows) = Affine::new(&deployed, &matrices, &region, Vec::new());
                    let point = moved_point(&region, how, &mut rng);
                    let exact = Exact::new(kernels::best(), &model, KvKind::F32);
                    let mut domain = Checked::new(set, exact);
                    walk::run(&mut domain, &model, &Pair { set: rows, point }, 0, 0, Read::All);
                    checks += domain.checks;
                    points += 1;
                }
            }
        }
    }
    println!("{points} points under the floor, {checks} checks, 0 violations");
    assert!(checks > 50_000, "only {checks} checks were made");
}

#[test]
fn what_moves_a_scale_alone_moves_what_an_eps_behind_the_gate_weighs() {
    const UNREAD: usize = 3;
    let mut checks = 0u64;
    for (seed, eps) in (0..6 * share() as u64).flat_map(|s| [0.01, 1.0, 100.0].map(|e| (s, e))) {
        let mut rng = SplitMix(seed);
        let mut model = nets().swap_remove(1).1;
        let width = model.config.hidden;
        let layer = &mut model.layers[0];
        layer.input_norm.gains = vec![0.0; width].into();
        let gains = layer.post_norm.gains.iter().enumerate();
        layer.post_norm.gains = gains.map(|(k, &g)| if k == UNREAD { 0.0 } else { g }).collect();
        layer.norm_mut(NormSlot::FfnSub).expect("a sub-norm").eps = eps;
        let mut clean = random_rows(TOKENS, width, rng.next_u64()) * 0.1;
        (clean[[1, UNREAD]], clean[[1, UNREAD + 1]]) = (0.0, 1.0);
        let mut choice = clean.slice(s![1..2, ..]).to_owned();
        choice[[0, UNREAD]] = 0.99;
        let region = Region { clean: &clean, moved: 1..2, ball: Ball::Hulls(vec![choice]) };
        let matrices = Matrices::new(&model);
        let deployed = Deployed { model: &model, kernels: kernels::best(), kv: KvKind::F32 };
        for how in 0..4 {
            let (set, rows) = Affine::new(&deployed, &matrices, &region, Vec::new());
            let point = moved_point(&region, how, &mut rng);
            let mut domain = Checked::new(set, Exact::new(kernels::best(), &model, KvKind::F32));
            walk::run(&mut domain, &model, &Pair { set: rows, point }, 0, 0, Read::All);
            checks += domain.checks;
        }
    }
    assert!(checks > 10_000, "only {checks} checks were made");
}

#[test]
fn margins_never_exceed_those_of_points_and_some_are_certified() {
    let mut rng = SplitMix(57);
    let (mut certified, mut regions, mut points) = (0, 0, 0);
    for (name, model) in nets() {
        let matrices = Matrices::new(&model);
        let deployed = Deployed { model: &model, kernels: kernels::best(), kv: KvKind::F32 };
        for _ in 0..share() {
            let embedded = random_rows(TOKENS, model.config.hidden, rng.next_u64());
            let streams = deployed.streams(&embedded);
            let logits = deployed.logits(&embedded, 0, Read::Last);
            let winner = engine::numerics::argmax(logits.as_slice().expect("one row"));
            let winner = winner.expect("finite logits");
            let decision = certify::claim::Decision { winner, classes: Vec::new() };
            for (from, clean) in streams.iter().enumerate() {
                for radius in [1e-6, 1e-3, 3e-2] {
                    for ball in balls(radius, clean, &mut rng) {
                        let region = Region { clean, moved: 1..TOKENS - 1, ball };
                        let all =
                            Region { moved: 0..TOKENS, ball: Ball::Linf(radius), ..region.clone() };
                        for region in [region, all] {
                            let proof = prove(
                                &deployed,
                                &matrices,
                                &region,
                                from,
                                Read::Last,
                                &claim(winner),
                            );
                            certified += usize::from(proof.certifies());
                            regions += 1;
                            points += 4 * share();
                            for how in 0..4 * share() {
                                let point = moved_point(&region, how, &mut rng);
                                let logits = deployed.logits(&point, from, Read::Last);
                                let margin =
                                    clean_margin(logits.as_slice().expect("one row"), &decision);
                                let low =
                                    proof.margins.first().copied().unwrap_or(f64::NEG_INFINITY);
                                assert!(
                                    low <= margin,
                                    "{name} {radius} from {from}: {low} > {margin}"
                                );
                            }
                        }
                    }
                }
            }
        }
    }
    println!("{points} points, {certified} certified regions of {regions}, 0 violations");
    assert!(certified > 100, "only {certified} regions were certified");
}

#[test]
fn with_radius_zero_the_affine_walk_is_inference_bit_for_bit() {
    for (name, model) in nets() {
        let matrices = Matrices::new(&model);
        for kind in KINDS {
            let deployed = Deployed { model: &model, kernels: kernels::best(), kv: kind };
            let clean = random_rows(6, model.config.hidden, 17);
            let expected = deployed.logits(&clean, 0, Read::All);
            let region = Region { clean: &clean, moved: 0..6, ball: Ball::Linf(0.0) };
            let (mut domain, rows) = Affine::new(&deployed, &matrices, &region, Vec::new());
            let found = walk::run(&mut domain, &model, &rows, 0, 0, Read::All);
            let bits = |x: &Array2<f32>| x.mapv(f32::to_bits);
            assert_eq!(bits(&found.boxes.lo), bits(&expected), "{name} {kind:?}");
            assert_eq!(bits(&found.boxes.hi), bits(&expected), "{name} {kind:?}");
        }
    }
}

#[test]
fn every_table_and_any_number_of_threads_give_the_same_bounds() {
    for (name, model) in nets() {
        let matrices = Matrices::new(&model);
        let clean = random_rows(TOKENS, model.config.hidden, 3);
        let region = Region { clean: &clean, moved: 0..TOKENS, ball: Ball::Linf(3e-4) };
        let run = |kernels, threads| {
            let deployed = Deployed { model: &model, kernels, kv: KvKind::F16 };
            let pool =
                rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
            let proof =
                pool.install(|| prove(&deployed, &matrices, &region, 0, Read::Last, &claim(0)));
            let growth: Vec<u64> = proof.growth.iter().map(|g| g.median.to_bits()).collect();
            (proof.margins.iter().map(|m| m.to_bits()).collect::<Vec<u64>>(), growth)
        };
        let expected = run(kernels::scalar(), 1);
        for table in kernels::available() {
            for threads in [1, 3] {
                assert_eq!(run(table, threads), expected, "{name} {}", table.name);
            }
        }
    }
}

/// Streams whose mean square overflows: the engine's reciprocal root is 0, and so are all logits.
#[test]
fn rows_whose_mean_square_overflows_are_never_certified() {
    for (name, model) in nets() {
        let matrices = Matrices::new(&model);
        let clean = random_rows(TOKENS, model.config.hidden, 5).mapv(|x| x * 1e25);
        let deployed = Deployed { model: &model, kernels: kernels::best(), kv: KvKind::F32 };
        for from in [0, model.layers.len() - 1, model.layers.len()] {
            for radius in [0.0, 1e15] {
                for winner in 0..3 {
                    let region =
                        Region { clean: &clean, moved: 0..TOKENS, ball: Ball::Linf(radius) };
                    let proof =
                        prove(&deployed, &matrices, &region, from, Read::Last, &claim(winner));
                    assert!(!proof.certifies(), "{name} from {from}: {proof:?}");
                }
            }
        }
    }
}

#[test]
fn the_parts_of_a_margin_name_roundings_where_there_are_codes_and_grow_with_the_ball() {
    for (name, model) in nets() {
        let matrices = Matrices::new(&model);
        let clean = random_rows(TOKENS, model.config.hidden, 12);
        let deployed = Deployed { model: &model, kernels: kernels::best(), kv: KvKind::F32 };
        let logits = deployed.logits(&clean, 0, Read::Last);
        // A class that loses: boxes alone never decide over all its rivals.
        let loser = certify::claim::decide(&logits.row(0).mapv(|x| -x).to_vec(), &[]);
        let winner = loser.expect("no NaN");
        let part = |ball: Ball, kind: Kind| {
            let region = Region { clean: &clean, moved: 0..TOKENS, ball };
            let sources =
                prove(&deployed, &matrices, &region, 0, Read::Last, &claim(winner)).sources;
            assert!(sources.is_sorted_by(|a, b| a.radius >= b.radius), "{name}: {sources:?}");
            let of = sources.iter().filter(|share| share.kind == kind);
            of.map(|share| share.radius).sum::<f64>()
        };
        let codes = model.config.activations.levels().is_some();
        let radius = 1e-2;
        let rounding = part(Ball::Linf(radius), Kind::Rounding);
        // A head of integers reads codes, whatever the layers do; what it knows as codes is
        // neither input nor remainder.
        if model.coded_head.is_some() {
            assert!(rounding > 0.0, "{name}: {rounding}");
            continue;
        }
        assert_eq!(rounding > 0.0, codes, "{name}: {rounding}");
        // Small enough for boxes not to take the place of forms.
        let [half, whole, euclid] =
            [Ball::Linf(radius / 2.0), Ball::Linf(radius), Ball::L2(radius)]
                .map(|ball| part(ball, Kind::Input));
        assert!(half > 0.0 && euclid > 0.0, "{name}");
        assert!(half < whole && euclid < whole, "{name}: {half} {whole} {euclid}");
    }
}

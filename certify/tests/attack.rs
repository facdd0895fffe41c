//! Attacks on random models: what they find is real, near, within the budget, and always the same.

mod support;

use certify::attack::{
    Attack, Attempt, Budget, Norm, Refuted, Scope, Stop, Target, Witness, attack_radius,
    attack_radius_l2,
};
use certify::claim::Decision;
use certify::tape::BackwardWeights;
use engine::kernels;
use engine::model::{Float, KvKind, Model};
use engine::numerics::argmax;
use engine::walk::{self, Exact, Read};
use ndarray::{Array2, s};
use support::{DIGITS, Draws, Shape, model};

const TOKENS: usize = 9;

struct Sample {
    /// Leaked, so that the weights may borrow it.
    model: &'static Model,
    weights: BackwardWeights<'static>,
    clean: Array2<f32>,
    claim: Decision,
}

fn logits(model: &Model, x: &Array2<f32>, kv: KvKind) -> Vec<f32> {
    let mut exact = Exact::new(kernels::scalar(), model, kv);
    walk::run(&mut exact, model, x, 0, 0, Read::Last).into_raw_vec_and_offset().0
}

impl Sample {
    fn new(shape: &Shape, seed: u64) -> Self {
        Self::of(model(shape, seed), shape.hidden, seed)
    }

    fn of(model: Model, hidden: usize, seed: u64) -> Self {
        let model: &'static Model = Box::leak(Box::new(model));
        let clean = Draws::new(seed ^ 0xabcd).rows(TOKENS, hidden) * 1.7;
        let decision = argmax(&logits(model, &clean, KvKind::F32)).unwrap_or(0);
        let claim = Decision { winner: decision, classes: Vec::new() };
        Self { model, weights: BackwardWeights::dense(model), clean, claim }
    }

    fn target(&self, scope: Scope, gradients: bool) -> Target<'_> {
        Target {
            model: self.model,
            kernels: kernels::best(),
            kv: KvKind::F32,
            weights: gradients.then_some(&self.weights),
            from: 0,
            clean: &self.clean,
            scope,
            claim: &self.claim,
            stop: Stop::NEVER,
        }
    }

    fn ball(&self, radius: f32) -> (Array2<f32>, Array2<f32>) {
        (&self.clean - radius, &self.clean + radius)
    }

    fn radius(&self, scope: Scope, gradients: bool, budget: usize) -> Attempt {
        attack_radius(&attack(budget), &self.target(scope, gradients), &|r| self.ball(r))
    }
}

fn attack(forward_evaluations: usize) -> Attack {
    Attack { budget: Budget { forward_evaluations }, restarts: 1, seed: 5, stream: 0 }
}

#[test]
fn every_witness_of_a_ball_lies_in_it_and_runs_again() {
    let mut found = 0;
    for seed in 0..12 {
        let sample = Sample::new(&DIGITS, seed);
        for scope in [Scope::All, Scope::Position(3), Scope::Position(TOKENS - 1)] {
            for gradients in [true, false] {
                let target = sample.target(scope, gradients);
                for radius in [0.02, 0.1, 0.5, 2.0] {
                    let (lo, hi) = sample.ball(radius);
                    let attempt = attack(60).find(&target, &lo, &hi);
                    let Some((distance, witness)) = attempt.found else { continue };
                    assert_eq!(witness.verify(&target, (&lo, &hi)), Ok(()));
                    assert!(distance <= radius + 1e-6, "{distance} in {radius}");
                    found += 1;
                }
            }
        }
    }
    assert!(found > 60, "only {found} witnesses");
}

#[test]
fn a_radius_is_the_distance_of_its_witness() {
    for seed in 0..12 {
        let sample = Sample::new(&DIGITS, seed);
        for (scope, gradients) in
            [(Scope::All, true), (Scope::All, false), (Scope::Position(8), true)]
        {
            let attempt = sample.radius(scope, gradients, 300);
            let (radius, witness) = attempt.found.expect("every decision falls somewhere");
            assert_eq!(radius, Norm::Linf.distance(&sample.clean, &witness.point));
            let (lo, hi) = sample.ball(radius.next_up());
            assert_eq!(witness.verify(&sample.target(scope, gradients), (&lo, &hi)), Ok(()));
        }
    }
}

#[test]
fn no_random_corner_of_two_thousand_is_nearer_than_the_attack() {
    for seed in 0..6 {
        let sample = Sample::new(&DIGITS, seed);
        for scope in [Scope::All, Scope::Position(4)] {
            let (radius, _) = sample.radius(scope, true, 300).found.expect("it falls");
            let mut draws = Draws::new(seed);
            for _ in 0..2000 {
                let mut x = sample.clean.clone();
                for (token, mut row) in x.rows_mut().into_iter().enumerate() {
                    if matches!(scope, Scope::Position(at) if at != token) {
                        continue;
                    }
                    let step = |v: f32| if draws.unit() < 0.0 { v - radius } else { v + radius };
                    row.mapv_inplace(step);
                }
                let now = argmax(&logits(sample.model, &x, KvKind::F32));
                assert_eq!(now, Some(sample.claim.winner), "seed {seed}, {scope:?}");
            }
        }
    }
}

#[test]
fn gradients_find_nearer_witnesses_than_measured_slopes() {
    let mut nearer = 0;
    for seed in 0..10 {
        let sample = Sample::new(&DIGITS, seed);
        let radius =
            |gradients| sample.radius(Scope::All, gradients, 300).found.expect("it falls").0;
        nearer += usize::from(radius(true) < radius(false));
    }
    assert!(nearer >= 9, "{nearer} of 10");
}

/// The slopes of a twin whose head is turned by a factor: of none at all at 0, uphill at -1.
fn turned(sample: &Sample, factor: f32) -> BackwardWeights<'static> {
    let mut twin = sample.model.clone();
    let mut data = vec![0.0; DIGITS.vocabulary * DIGITS.hidden];
    for (index, row) in data.chunks_exact_mut(DIGITS.hidden).enumerate() {
        sample.model.head.read_row(index, row);
        row.iter_mut().for_each(|weight| *weight *= factor);
    }
    twin.head = std::sync::Arc::new(Float::F32 { data, columns: DIGITS.hidden });
    BackwardWeights::dense(Box::leak(Box::new(twin)))
}

#[test]
fn mirrored_coordinates_find_the_witness_where_slopes_vanish_or_mislead() {
    // Led astray, walks from random points meet a boundary now and then.
    for (factor, least) in [(0.0, 8), (-1.0, 4)] {
        let (mut mirrored, mut share) = (0, 0.0);
        for seed in 0..10 {
            let sample = Sample::new(&DIGITS, seed);
            let weights = turned(&sample, factor);
            let target = Target { weights: Some(&weights), ..sample.target(Scope::All, true) };
            let attempt = attack_radius(&attack(600), &target, &|r| sample.ball(r));
            let (radius, witness) = attempt.found.expect("it falls");
            let (lo, hi) = sample.ball(radius.next_up());
            assert_eq!(witness.verify(&target, (&lo, &hi)), Ok(()));
            mirrored += usize::from(witness.kind == "mirrored-coordinates");
            // What is found before any round of walks or mirrored coordinates.
            let first = attack_radius(&attack(24), &target, &|r| sample.ball(r));
            share += first.found.map_or(0.0, |(first, _)| radius / first) / 10.0;
        }
        assert!(mirrored >= least, "{mirrored} of 10 at {factor}");
        assert!(share < 0.7, "still {share} of the first radius at {factor}");
    }
}

#[test]
fn no_budget_is_exceeded_and_a_small_one_still_finds_something() {
    let sample = Sample::new(&DIGITS, 1);
    for gradients in [true, false] {
        for budget in 0..40 {
            let attempt = sample.radius(Scope::All, gradients, budget);
            assert!(attempt.evaluations <= budget, "{} of {budget}", attempt.evaluations);
            assert!(budget < 10 || attempt.found.is_some(), "nothing with {budget}, {gradients}");
            let (lo, hi) = sample.ball(1e-3);
            let spent = attack(budget).find(&sample.target(Scope::All, gradients), &lo, &hi);
            assert!(spent.evaluations <= budget);
        }
    }
}

#[test]
fn the_result_is_the_same_with_every_kernel_table_and_any_number_of_threads() {
    let sample = Sample::new(&DIGITS, 2);
    for gradients in [true, false] {
        let packed = gradients.then(|| BackwardWeights::packed(sample.model));
        let attacked = |kernels, weights| {
            let target = Target { kernels, weights, ..sample.target(Scope::All, gradients) };
            let (radius, witness) =
                attack_radius(&attack(200), &target, &|r| sample.ball(r)).found.expect("it falls");
            let bits: Vec<u32> = witness.point.iter().map(|v| v.to_bits()).collect();
            (radius.to_bits(), witness.prediction, witness.margin.to_bits(), bits)
        };
        let run = |table| attacked(table, gradients.then_some(&sample.weights));
        let expected = run(kernels::scalar());
        assert_eq!(attacked(kernels::scalar(), packed.as_ref()), expected, "packed weights");
        for table in kernels::available() {
            assert_eq!(run(table), expected, "{}", table.name);
        }
        for threads in [1, 2, 3, 7] {
            let pool =
                rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
            assert_eq!(pool.install(|| run(kernels::best())), expected, "{threads} threads");
        }
    }
}

#[test]
fn a_wrong_decision_on_the_clean_rows_is_a_witness_at_radius_zero() {
    let mut sample = Sample::new(&DIGITS, 3);
    sample.claim.winner = (sample.claim.winner + 1) % DIGITS.vocabulary;
    let (radius, witness) = sample.radius(Scope::All, true, 100).found.expect("the clean rows");
    assert_eq!((radius, witness.kind), (0.0, "clean"));
    assert_eq!(witness.point, sample.clean);
    let (lo, hi) = sample.ball(0.0);
    assert_eq!(witness.verify(&sample.target(Scope::All, true), (&lo, &hi)), Ok(()));
}

#[test]
fn a_nan_in_the_scores_counts_as_another_decision() {
    let mut model = model(&DIGITS, 4);
    let mut data = vec![0.5; DIGITS.vocabulary * DIGITS.hidden];
    data[7] = f32::NAN;
    model.head = std::sync::Arc::new(Float::F32 { data, columns: DIGITS.hidden });
    let sample = Sample::of(model, DIGITS.hidden, 4);
    let (radius, witness) = sample.radius(Scope::All, true, 100).found.expect("NaN");
    assert_eq!((radius, witness.prediction), (0.0, None));
    let (lo, hi) = sample.ball(0.0);
    assert_eq!(witness.verify(&sample.target(Scope::All, true), (&lo, &hi)), Ok(()));
}

#[test]
fn only_the_classes_compete() {
    let mut sample = Sample::new(&DIGITS, 5);
    let scores = logits(sample.model, &sample.clean, KvKind::F32);
    let winner = argmax(&scores).expect("numbers");
    let others: Vec<usize> = (0..DIGITS.vocabulary).filter(|&t| t != winner).take(3).collect();
    let among: Vec<f32> = others.iter().map(|&t| scores[t]).collect();
    let decision = others[argmax(&among).expect("numbers")];
    sample.claim = Decision { winner: decision, classes: others.clone() };
    let (radius, witness) = sample.radius(Scope::All, true, 200).found.expect("it falls");
    let there = logits(sample.model, &witness.point, KvKind::F32);
    let there: Vec<f32> = others.iter().map(|&t| there[t]).collect();
    assert!(radius > 0.0);
    assert_eq!(witness.prediction, argmax(&there).map(|index| others[index]));
    assert_ne!(witness.prediction, Some(decision));
}

#[test]
fn the_rows_before_a_position_never_move_and_suffixes_can_be_attacked() {
    for kv in [KvKind::F16, KvKind::Int8, KvKind::OneBit] {
        let mut sample = Sample::new(&DIGITS, 6);
        sample.claim.winner = argmax(&logits(sample.model, &sample.clean, kv)).expect("numbers");
        for scope in [Scope::All, Scope::Position(5)] {
            let target = Target { kv, ..sample.target(scope, true) };
            let attempt = attack_radius(&attack(150), &target, &|r| sample.ball(r));
            let (radius, witness) = attempt.found.expect("it falls");
            let (lo, hi) = sample.ball(radius.next_up());
            assert_eq!(witness.verify(&target, (&lo, &hi)), Ok(()));
            if scope == Scope::Position(5) {
                assert_eq!(witness.point.slice(s![..5, ..]), sample.clean.slice(s![..5, ..]));
            }
        }
    }
    let mut sample = Sample::new(&DIGITS, 8);
    let mut exact = Exact::new(kernels::best(), sample.model, KvKind::F32);
    sample.clean = walk::layer(&mut exact, sample.model, 0, &sample.clean, 0, Read::All);
    for scope in [Scope::All, Scope::Position(TOKENS - 1)] {
        let target = Target { from: 1, ..sample.target(scope, true) };
        let attempt = attack_radius(&attack(150), &target, &|r| sample.ball(r));
        let (radius, witness) = attempt.found.expect("it falls");
        let (lo, hi) = sample.ball(radius.next_up());
        assert!(radius > 0.0);
        assert_eq!(witness.verify(&target, (&lo, &hi)), Ok(()));
    }
}

#[test]
fn a_changed_witness_is_refuted() {
    let sample = Sample::new(&DIGITS, 9);
    let target = sample.target(Scope::Position(8), true);
    let attempt = attack_radius(&attack(200), &target, &|r| sample.ball(r));
    let (radius, witness) = attempt.found.expect("it falls");
    let (lo, hi) = sample.ball(radius.next_up());
    let ends = (&lo, &hi);
    assert_eq!(witness.verify(&target, ends), Ok(()));

    let mut outside = witness.clone();
    outside.point[[8, 2]] = hi[[8, 2]].next_up();
    assert_eq!(outside.verify(&target, ends), Err(Refuted::Outside { token: 8, column: 2 }));
    let mut elsewhere = witness.clone();
    elsewhere.point[[0, 1]] = elsewhere.point[[0, 1]].next_up();
    assert_eq!(elsewhere.verify(&target, ends), Err(Refuted::Outside { token: 0, column: 1 }));
    let still = Witness { point: sample.clean.clone(), ..witness.clone() };
    assert_eq!(still.verify(&target, ends), Err(Refuted::SameDecision));
    let other = Witness { prediction: None, ..witness.clone() };
    assert!(matches!(other.verify(&target, ends), Err(Refuted::OtherResult { .. })));
    let margin = Witness { margin: witness.margin.next_down(), ..witness.clone() };
    assert!(matches!(margin.verify(&target, ends), Err(Refuted::OtherResult { .. })));
    let narrow = Witness { point: witness.point.slice(s![1.., ..]).to_owned(), ..witness };
    assert_eq!(narrow.verify(&target, ends), Err(Refuted::Shape));
}

#[test]
fn a_stopped_attack_ends_at_once() {
    let sample = Sample::new(&DIGITS, 8);
    let (lo, hi) = sample.ball(10.0);
    let stop = Stop(&|| true);
    let target = Target { stop, ..sample.target(Scope::All, true) };
    assert_eq!(attack(1000).find(&target, &lo, &hi).evaluations, 0);
}

#[test]
fn an_attack_may_be_stopped_between_any_two_of_its_steps() {
    let sample = Sample::new(&DIGITS, 8);
    let (lo, hi) = sample.ball(0.02);
    // One question may be followed by a forward pass and three backward passes.
    for patience in 0..60 {
        let asked = std::sync::atomic::AtomicUsize::new(0);
        let stop = || asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) >= patience;
        let target = Target { stop: Stop(&stop), ..sample.target(Scope::All, true) };
        assert!(attack(1000).find(&target, &lo, &hi).evaluations <= 4 * patience);
        let _ = attack_radius(&attack(1000), &target, &|r| sample.ball(r));
    }
}

fn euclid(a: &Array2<f32>, b: &Array2<f32>) -> f64 {
    let gaps = a.iter().zip(b).map(|(a, b)| f64::from(*a) - f64::from(*b));
    gaps.map(|gap| gap * gap).sum::<f64>().sqrt()
}

#[test]
fn a_euclidean_radius_is_the_joint_distance_of_a_witness_that_runs_again() {
    for seed in 0..12 {
        let sample = Sample::new(&DIGITS, seed);
        for (scope, gradients) in
            [(Scope::All, true), (Scope::All, false), (Scope::Position(8), true)]
        {
            let target = sample.target(scope, gradients);
            let attempt = attack_radius_l2(&attack(300), &target);
            assert!(attempt.evaluations <= 300);
            let (radius, witness) = attempt.found.expect("every decision falls somewhere");
            let far = euclid(&sample.clean, &witness.point);
            assert!(far <= f64::from(radius) && f64::from(radius) <= far * (1.0 + 1e-6));
            assert_eq!(witness.verify_l2(&target, radius.into()), Ok(()));
            let short = witness.verify_l2(&target, far * (1.0 - 1e-6));
            assert!(matches!(short, Err(Refuted::Far { .. })), "{short:?}");
            let again = attack_radius_l2(&attack(300), &target);
            assert_eq!(again.found, Some((radius, witness)));
        }
    }
}

#[test]
fn a_witness_of_the_sphere_is_nearer_than_that_of_the_cube_and_than_random_points() {
    let mut nearer = 0;
    for seed in 0..6 {
        let sample = Sample::new(&DIGITS, seed);
        let target = sample.target(Scope::All, true);
        let (radius, _) = attack_radius_l2(&attack(300), &target).found.expect("it falls");
        let (_, cube) = sample.radius(Scope::All, true, 300).found.expect("it falls");
        nearer += usize::from(f64::from(radius) < euclid(&sample.clean, &cube.point));
        let mut draws = Draws::new(seed);
        for _ in 0..1000 {
            let step = Array2::from_shape_simple_fn(sample.clean.raw_dim(), || draws.unit());
            let length = euclid(&step, &Array2::zeros(step.raw_dim())) as f32;
            let x = &sample.clean + &(step * (radius / length));
            let now = argmax(&logits(sample.model, &x, KvKind::F32));
            assert_eq!(now, Some(sample.claim.winner), "seed {seed}");
        }
    }
    assert!(nearer >= 5, "{nearer} of 6");
}

//! Attempts to break what is called certified, on the trained models: no point of a certified box
//! may change the decision, and no single flip may do more than the fault bounds say.
//!
//! Points are drawn at the largest epsilon that was certified, where a wrong bound would show
//! first: random ones, corners, sparse ones, one ulp within the ends, those that attacks try, and
//! mixtures of the ends with a witness from outside. The default run takes a seeded share;
//! `BITNET_SOUNDNESS=40` multiplies the number of points.

mod forms;
#[path = "../terminal/mod.rs"]
mod terminal;

use std::env;

use bitnet_certify::cli::UnusedArg;
use bitnet_certify::input::{self, Sample};
use bitnet_certify::source;
use certify::attack::{Attack, Budget, Scope, Stop, Target as Aim, attack_radius};
use certify::claim::{Decision, Deployed, clean_margin, decide, prove};
use certify::interval::{Boxes, Interval, Margin};
use certify::radius::{Search, search};
use certify::tape::BackwardWeights;
use engine::kernels;
use engine::model::random::SplitMix;
use engine::model::{KvKind, Model};
use engine::walk::{self, Read};
use faults::{Address, Fault, Golden, Input, Outcome, Space, Target, UnusedCode, run_trial};
use fixtures::embedded;
use ndarray::Array2;
use rayon::prelude::*;
use serde_json::Value;
use terminal::{Desk, at, extent, number};

const KINDS: [KvKind; 4] = [KvKind::F32, KvKind::F16, KvKind::Int8, KvKind::OneBit];

fn share() -> usize {
    env::var("BITNET_SOUNDNESS").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

fn subject(name: &str, limit: usize) -> (Model, Vec<Sample>) {
    let origin = source::resolve(name).expect("an embedded model");
    let loaded = source::load(&origin, None, false).expect("a sound checkpoint");
    let samples = input::read(&origin, &loaded, None, None, Some(limit)).expect("its samples");
    (loaded.model, samples.samples)
}

/// A decision on the rows that enter a layer.
struct Case<'a> {
    deployed: Deployed<'a>,
    weights: &'a BackwardWeights<'a>,
    stream: &'a Array2<f32>,
    from: usize,
    decision: Decision,
}

/// A certified box, and what is proven of it.
struct Certified {
    boxes: Boxes,
    margin: f64,
    logits: Boxes,
}

impl Case<'_> {
    fn ball(&self, epsilon: f64) -> Boxes {
        Boxes::ball(self.stream, epsilon, &(0..self.stream.nrows()))
    }

    fn claim(&self) -> Margin {
        let Decision { winner, classes } = self.decision.clone();
        Margin { row: 0, winner, rivals: classes }
    }

    /// The box at the largest epsilon that is certified; `None` where none is.
    fn certified(&self) -> Option<Certified> {
        let claims = [self.claim()];
        let proves = |epsilon| {
            prove(&self.deployed, &self.ball(epsilon), self.from, Read::Last, &claims).certifies()
        };
        let radius = search(Search { start: 1e-4, least: 1e-9, most: 10.0, ratio: 1.01 }, proves);
        let boxes = (radius > 0.0).then(|| self.ball(radius))?;
        let Deployed { model, kernels, kv } = self.deployed;
        let mut domain = Interval::new(kernels, model, kv, claims.to_vec());
        let logits = walk::run(&mut domain, model, &boxes, self.from, 0, Read::Last);
        Some(Certified { boxes, margin: domain.margins()[0], logits })
    }

    fn check(&self, point: &Array2<f32>, certified: &Certified) {
        assert!(certified.boxes.contains(point), "the test left the box");
        let logits = self.deployed.logits(point, self.from, Read::Last);
        let row = logits.as_slice().expect("one row");
        let from = self.from;
        let decided = decide(row, &self.decision.classes);
        assert_eq!(decided, Some(self.decision.winner), "from layer {from}: {point:?}");
        let margin = clean_margin(row, &self.decision);
        assert!(margin >= certified.margin, "from layer {from}: {margin} < {}", certified.margin);
        assert!(certified.logits.contains(&logits), "from layer {from}: {logits:?}");
    }

    /// Attacks within the box and beyond it: how many points were tried within, and the witness
    /// from beyond, drawn back into the box.
    fn attacked(&self, certified: &Certified, seed: u64) -> (usize, Option<Array2<f32>>) {
        let aim = Aim {
            model: self.deployed.model,
            kernels: self.deployed.kernels,
            kv: self.deployed.kv,
            weights: Some(self.weights),
            from: self.from,
            clean: self.stream,
            scope: Scope::All,
            claim: &self.decision,
            stop: Stop::NEVER,
        };
        let budget = Budget { forward_evaluations: 120 };
        let attack = Attack { budget, restarts: 2, seed, stream: 0 };
        let Boxes { lo, hi, .. } = &certified.boxes;
        let within = attack.find(&aim, lo, hi);
        assert!(within.found.is_none(), "an attack succeeds within a certified box");
        let beyond = |radius: f32| {
            let Boxes { lo, hi, .. } = self.ball(f64::from(radius));
            (lo, hi)
        };
        let witness = attack_radius(&attack, &aim, &beyond).found.map(|(_, witness)| witness.point);
        let back =
            |x: Array2<f32>| Array2::from_shape_fn(x.raw_dim(), |at| x[at].clamp(lo[at], hi[at]));
        (within.evaluations, witness.map(back))
    }
}

/// A point of a box by one of six ways.
fn point(
    boxes: &Boxes,
    clean: &Array2<f32>,
    witness: Option<&Array2<f32>>,
    rng: &mut SplitMix,
) -> Array2<f32> {
    let how = rng.below(6);
    let every = 1 + rng.below(40);
    Array2::from_shape_fn(clean.raw_dim(), |at| {
        let (lo, hi, x) = (boxes.lo[at], boxes.hi[at], clean[at]);
        let end = [lo, hi][rng.below(2)];
        let inside = |value: f32| value.clamp(lo, hi);
        match (how, witness) {
            (0, _) => inside(lo + (hi - lo) * (rng.below(1025) as f32 / 1024.0)),
            (1, _) => end,
            (2, _) if rng.below(every) == 0 => end,
            (2, _) => x,
            (3, _) => inside([lo.next_up(), hi.next_down(), x.next_up()][rng.below(3)]),
            (4, Some(witness)) if rng.below(every) != 0 => witness[at],
            (5, Some(witness)) if rng.below(every) != 0 => {
                inside(x + (witness[at] - x) * (rng.below(1025) as f32 / 1024.0))
            }
            _ => end,
        }
    })
}

/// Checks the certified boxes of one sample: about all streams; gives boxes and points.
fn sample_holds(
    deployed: Deployed,
    weights: &BackwardWeights,
    sample: &Sample,
    (points, seed): (usize, u64),
) -> (usize, usize) {
    let x = sample.embedded(deployed.model);
    let clean = deployed.logits(&x, 0, Read::Last);
    let winner = decide(clean.as_slice().expect("one row"), &sample.classes).expect("a decision");
    let streams = deployed.streams(&x);
    let (mut boxes, mut tried) = (0, 0);
    for (from, stream) in streams.iter().enumerate() {
        let decision = Decision { winner, classes: sample.classes.clone() };
        let case = Case { deployed, weights, stream, from, decision };
        let Some(certified) = case.certified() else { continue };
        let mut rng = SplitMix(seed.wrapping_mul(64).wrapping_add(from as u64));
        let (evaluations, witness) = case.attacked(&certified, rng.next_u64());
        for _ in 0..points {
            let point = point(&certified.boxes, stream, witness.as_ref(), &mut rng);
            case.check(&point, &certified);
        }
        boxes += 1;
        tried += points + evaluations;
    }
    (boxes, tried)
}

#[test]
fn no_point_of_a_certified_box_changes_a_decision() {
    let models = [
        ("@digits", 10, 260 * share()),
        ("@digits-normal", 10, 260 * share()),
        ("@digits-shallow", 10, 260 * share()),
        ("@language", 4, 40 * share()),
    ];
    let mut all = 0;
    for (name, limit, points) in models {
        let (model, samples) = subject(name, limit);
        let weights = BackwardWeights::dense(&model);
        let holds = |(index, sample): (usize, &Sample)| {
            let kv = KINDS[index % KINDS.len()];
            let deployed = Deployed { model: &model, kernels: kernels::best(), kv };
            sample_holds(deployed, &weights, sample, (points, index as u64))
        };
        let found: Vec<(usize, usize)> = samples.par_iter().enumerate().map(holds).collect();
        let boxes: usize = found.iter().map(|(boxes, _)| boxes).sum();
        let tried: usize = found.iter().map(|(_, tried)| tried).sum();
        println!("{name}: {tried} points in {boxes} certified boxes, 0 violations");
        assert!(boxes >= samples.len(), "{name}: only {boxes} boxes were certified");
        all += tried;
    }
    println!("{all} points in all");
    assert!(all >= 20_000 * share(), "only {all} points were tried");
}

/// What all single flips of the codes of a layer do on some samples, one after another.
#[derive(Clone, Copy, Debug, Default)]
struct Truth {
    pairs: u64,
    masked: u64,
    largest_change: f64,
}

fn flipped_one_by_one(model: &Model, samples: &[Sample], unused: UnusedCode) -> Vec<Truth> {
    let space = Space::new(model, KvKind::F32);
    let bits = space.count(Target::WeightCode, 1);
    let mut layers = vec![Truth::default(); model.layers.len()];
    for sample in samples {
        let input = Input::Embedded(sample.embedded(model));
        let sample = faults::Sample { input, label: sample.label, classes: None };
        let golden = Golden::new(model, kernels::best(), KvKind::F32, Read::Last, sample);
        let golden = golden.expect("a clean run");
        let trial = |number: u64| {
            let address = space.address(Target::WeightCode, 1, number);
            let fault = Fault::single(address);
            (address, run_trial(model, kernels::best(), &golden, &fault, unused))
        };
        let trials: Vec<_> = (0..bits).into_par_iter().map(trial).collect();
        for (address, trial) in trials {
            let Address::Code { layer, .. } = address else { panic!("{address} is no code") };
            let truth = &mut layers[layer];
            truth.pairs += 1;
            truth.masked += u64::from(matches!(trial.outcome, Outcome::Masked { .. }));
            let change = trial.shift.map_or(0.0, |shift| shift.max_logit_change);
            if change > truth.largest_change {
                truth.largest_change = change;
            }
        }
    }
    layers
}

#[test]
fn no_single_flip_does_more_than_the_fault_bounds_say() {
    let policies = [
        ("deployed", UnusedCode::Deployed),
        ("zero", UnusedCode::Zero),
        ("detect", UnusedCode::Detect),
    ];
    let (mut proven, mut bounded) = (0.0, 0);
    for name in ["@digits", "@digits-normal", "@digits-shallow"] {
        let (model, samples) = subject(name, 2);
        for (word, policy) in policies {
            let words = format!("{name} --limit 2 --no-certify --faults 9 --unused-code {word}");
            let truths = flipped_one_by_one(&model, &samples, policy);
            let (shares, bounds) = compared(&words, &Desk::new().report(&words), &truths);
            proven += shares;
            bounded += bounds;
        }
    }
    println!("{bounded} bounds, proven masked shares add up to {proven}");
    assert!(bounded > 0 && proven > 0.0, "nothing was bounded: the test would be empty");
}

/// Compares the bounds of a report with the truth; gives the shares that were proven masked, added
/// up, and the number of layers with a bound.
fn compared(case: &str, report: &Value, truths: &[Truth]) -> (f64, usize) {
    let (mut shares, mut bounded) = (0.0, 0);
    let bounds = at(report, "faults.bounds[]");
    assert_eq!(bounds.len(), truths.len(), "{case}");
    for (bound, truth) in bounds.into_iter().zip(truths) {
        assert_eq!(number(bound, "pairs"), truth.pairs as f64, "{case}");
        let share = number(bound, "proven_masked_share");
        let masked = truth.masked as f64 / truth.pairs as f64;
        assert!(share <= masked, "{case}: {bound} but {truth:?}");
        shares += share;
        if let Some(most) = bound["logit_change_bound"].as_f64() {
            assert!(truth.largest_change <= most, "{case}: {bound} but {truth:?}");
            assert!(truth.largest_change > 0.0, "{case}: no flip does anything");
            bounded += 1;
        }
    }
    (shares, bounded)
}

#[test]
fn the_fault_bounds_hold_where_the_file_has_unused_codes_too() {
    let desk = Desk::new();
    desk.checkpoint("model", embedded::digits());
    let mut file = desk.read("model/model.safetensors");
    for tensor in ["self_attn.v_proj", "mlp.up_proj", "mlp.down_proj"] {
        let place = extent(&file, &format!("model.layers.1.{tensor}.weight"));
        file[place].iter_mut().step_by(7).for_each(|byte| *byte |= 0b0000_1100);
    }
    desk.put("model/model.safetensors", file);
    let words = "model --inputs model/inputs.safetensors --limit 2 --no-certify --faults 9";
    let report = desk.report(&format!("{words} --unused-code deployed"));
    let folder = desk.path("model").display().to_string();
    let origin = source::resolve(&folder).expect("a folder");
    let loaded = source::load(&origin, Some(UnusedArg::Deployed), false).expect("a checkpoint");
    let inputs = desk.path("model/inputs.safetensors");
    let samples = input::read(&origin, &loaded, Some(&inputs), None, Some(2)).expect("samples");
    let truths = flipped_one_by_one(&loaded.model, &samples.samples, UnusedCode::Deployed);
    let (_, bounded) = compared(words, &report, &truths);
    assert!(bounded > 0, "nothing was bounded: the test would be empty");
}

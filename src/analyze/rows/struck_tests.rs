//! Whole tensors, layers and models under shared flips, against the engine on physically flipped
//! models: what leaves every layer lies in its boxes, and so do the logits, and no margin falls
//! below its bound.

use certify::affine::Affine;
use certify::claim::{Decision, Deployed, clean_margin, decide};
use certify::interval::{Boxes, Interval, Margin};
use certify::ladder::Rung;
use certify::moved::Movable;
use certify::region::{Ball, Region};
use engine::model::random::SplitMix;
use engine::model::{Model, Slot, Weights};
use engine::packing::{TernaryRows, UNUSED_CODE};
use engine::walk::{self, Exact, Read};
use ndarray::Array2;

use super::proof::{Prover, ternary};
use super::strike::{Bits, Passed, Strike};
use super::tests::{Case, case, subject};
use crate::cli::UnusedArg;
use crate::input::Sample;

/// A bit of a tensor of a layer: row, column, and which of the two.
type Flip = ((usize, Slot), usize, usize, u8);

/// The model with some bits flipped; `None` where a detector would see it.
fn flipped(model: &Model, flips: &[Flip], unused: Option<UnusedArg>) -> Option<Model> {
    let mut model = model.clone();
    let tensors = (0..model.layers.len()).flat_map(|layer| Slot::ALL.map(|slot| (layer, slot)));
    for (layer, slot) in tensors {
        let here: Vec<&Flip> = flips.iter().filter(|flip| flip.0 == (layer, slot)).collect();
        if here.is_empty() {
            continue;
        }
        let linear = model.layers[layer].linear_mut(slot);
        let Weights::Ternary { rows, .. } = &mut linear.weights else { panic!("ternary") };
        let mut codes: Vec<Vec<u8>> = (0..rows.rows()).map(|row| rows.row(row)).collect();
        here.iter().for_each(|&&(_, row, column, bit)| codes[row][column] ^= 1 << bit);
        for &&(_, row, column, _) in &here {
            let unused_now = codes[row][column] == UNUSED_CODE;
            let unused_before = rows.row(row)[column] == UNUSED_CODE;
            match unused {
                Some(UnusedArg::Detect) if unused_now && !unused_before => return None,
                Some(UnusedArg::Zero) if unused_now && !unused_before => codes[row][column] = 1,
                _ => {}
            }
        }
        let packed = TernaryRows::pack(rows.rows(), rows.columns(), |row, buffer| {
            buffer.copy_from_slice(&codes[row]);
        });
        *rows = packed.into();
    }
    Some(model)
}

/// A target on one sample, with what the engine says of it.
struct Trial<'a> {
    case: &'a Case<'a>,
    strike: Strike<'a>,
    flips: usize,
    streams: &'a [Array2<f32>],
    decision: Decision,
}

impl Trial<'_> {
    fn bit(&self, rng: &mut SplitMix, row: Option<((usize, Slot), usize)>) -> Flip {
        let (at, row) = row.unwrap_or_else(|| {
            let slot = self.strike.slots[rng.below(self.strike.slots.len())];
            let layers = self.strike.until - self.strike.layer;
            let at = (self.strike.layer + rng.below(layers), slot);
            (at, rng.below(self.linear(at).outputs()))
        });
        (at, row, rng.below(self.linear(at).inputs()), rng.below(2) as u8)
    }

    fn linear(&self, (layer, slot): (usize, Slot)) -> &engine::model::Linear {
        self.case.model.layers[layer].linear(slot)
    }

    /// Different bits, anywhere, in one row, or those that alone take most of the margin.
    fn corruption(&self, worst: &[Flip], how: usize, rng: &mut SplitMix) -> Vec<Flip> {
        let (at, row, ..) = self.bit(rng, None);
        let one = if how == 1 { Some((at, row)) } else { None };
        let mut flips: Vec<Flip> = match how {
            2 => worst.iter().take(self.flips).copied().collect(),
            3 => worst
                .iter()
                .filter(|flip| flip.0 == worst[0].0 && flip.1 == worst[0].1)
                .take(self.flips)
                .copied()
                .collect(),
            _ => (0..self.flips).map(|_| self.bit(rng, one)).collect(),
        };
        let place = |((layer, slot), row, column, bit)| (layer, slot as usize, row, column, bit);
        flips.sort_unstable_by_key(|&flip: &Flip| place(flip));
        flips.dedup();
        flips
    }

    /// What leaves each layer from the struck one on and the logits, and the margin; none if it is
    /// detected.
    fn run(&self, flips: &[Flip]) -> Option<(Vec<Array2<f32>>, f64)> {
        let Strike { layer, .. } = self.strike;
        let model = flipped(self.case.model, flips, self.case.unused)?;
        let deployed = Deployed { model: &model, ..self.case.deployed() };
        let mut exact = Exact::new(deployed.kernels, &model, deployed.kv);
        let mut left = Vec::new();
        let mut x = self.streams[layer].clone();
        for index in layer..model.layers.len() {
            x = walk::layer(&mut exact, &model, index, &x, 0, Read::All);
            left.push(x.clone());
        }
        let logits = deployed.logits(&self.streams[layer], layer, Read::Last);
        let margin = clean_margin(logits.as_slice().expect("one row"), &self.decision);
        left.push(logits);
        Some((left, margin))
    }

    /// The bits that alone leave the least margin: of all of two rows, and of others at random.
    fn worst(&self, rng: &mut SplitMix) -> Vec<Flip> {
        let mut bits: Vec<Flip> = (0..40).map(|_| self.bit(rng, None)).collect();
        for _ in 0..2 {
            let (at, row, ..) = self.bit(rng, None);
            let columns = 0..self.linear(at).inputs();
            bits.extend(columns.flat_map(|column| [0, 1].map(|bit| (at, row, column, bit))));
        }
        let runs = bits.into_iter().filter_map(|bit| Some((self.run(&[bit])?.1, bit)));
        let mut runs: Vec<(f64, Flip)> = runs.collect();
        runs.sort_by(|a, b| a.0.total_cmp(&b.0));
        runs.into_iter().map(|(_, bit)| bit).collect()
    }

    /// The boxes behind each layer from the struck one on.
    fn boxes<D: Movable>(&self, prover: &Prover<'_>, inner: D, stream: D::Rows) -> Vec<Boxes> {
        let mut domain = prover.decorated(inner, self.strike);
        let mut rows = stream;
        let layers = self.strike.layer..self.case.model.layers.len();
        let boxes = layers.map(|layer| {
            rows = walk::layer(&mut domain, self.case.model, layer, &rows, 0, Read::All);
            D::boxes(&rows).clone()
        });
        let boxes = boxes.collect();
        if domain.inner.lost() { Vec::new() } else { boxes }
    }

    /// Runs corruptions; gives how many, and whether they are all proven harmless.
    fn hold(&self, rng: &mut SplitMix, draws: usize) -> (usize, bool) {
        let deployed = self.case.deployed();
        let prover = self.case.prover(&deployed);
        let stream = &self.streams[self.strike.layer];
        let claim =
            Margin { row: 0, winner: self.decision.winner, rivals: self.decision.classes.clone() };
        let passed = [Rung::Interval, Rung::Affine]
            .map(|rung| prover.pass((rung, true), self.strike, stream, &claim));
        let plain = Interval::new(deployed.kernels, deployed.model, deployed.kv, Vec::new());
        let region = Region { clean: stream, moved: 0..0, ball: Ball::Linf(0.0) };
        let (mut forms, rows) = Affine::new(&deployed, &self.case.matrices, &region, Vec::new());
        prover.share(&mut forms, self.strike, stream.nrows());
        let mut sets =
            [self.boxes(&prover, plain, Boxes::point(stream)), self.boxes(&prover, forms, rows)];
        for (set, passed) in sets.iter_mut().zip(&passed).filter(|(set, _)| !set.is_empty()) {
            set.push(passed.logits.clone().expect("no bound was lost on the way"));
        }
        let worst = self.worst(rng);
        let mut runs = 0;
        for draw in 0..draws {
            let how = if draw < 2 { 2 + draw } else { draw % 2 };
            let flips = self.corruption(&worst, how, rng);
            let Some((left, margin)) = self.run(&flips) else { continue };
            runs += 1;
            for set in &sets {
                for (layer, (boxes, left)) in set.iter().zip(&left).enumerate() {
                    assert!(boxes.contains(left), "{:?} {flips:?} behind {layer}", self.strike);
                }
            }
            for Passed { proof, .. } in &passed {
                let bound = proof.margins.first().copied().unwrap_or(f64::NEG_INFINITY);
                assert!(bound <= margin, "{:?} {flips:?}: {bound} {margin}", self.strike);
                assert!(!proof.certifies() || margin > 0.0, "{:?} {flips:?}", self.strike);
            }
        }
        (runs, passed.iter().any(|passed| passed.proof.certifies()))
    }
}

fn targets() -> Vec<Vec<Slot>> {
    Slot::ALL.map(|slot| vec![slot]).into_iter().chain([Slot::ALL.to_vec()]).collect()
}

fn sweep(
    (case, sample): (&Case<'_>, &Sample),
    flips: &[usize],
    draws: usize,
    rng: &mut SplitMix,
) -> (usize, usize) {
    let deployed = case.deployed();
    let x = sample.embedded(case.model);
    let streams = deployed.streams(&x);
    let logits = deployed.logits(&x, 0, Read::Last);
    let winner = decide(logits.as_slice().expect("one row"), &sample.classes).expect("numbers");
    let (mut runs, mut proofs) = (0, 0);
    let layers = case.model.layers.len();
    let all = [Slot::ALL.to_vec()];
    for layer in 0..=layers {
        let targets = if layer == layers { all.to_vec() } else { targets() };
        for slots in targets {
            for &flips in flips {
                let bits = Bits::Any(flips);
                let strike = match layer == layers {
                    true => Strike { layer: 0, until: layers, slots: &slots, bits },
                    false => Strike::in_layer(layer, &slots, bits),
                };
                let decision = Decision { winner, classes: sample.classes.clone() };
                let trial = Trial { case, strike, flips, streams: &streams, decision };
                let found = trial.hold(rng, draws);
                runs += found.0;
                proofs += usize::from(found.1);
            }
        }
    }
    (runs, proofs)
}

/// `BITNET_SOUNDNESS=N` draws N times as many.
fn times() -> usize {
    std::env::var("BITNET_SOUNDNESS").ok().and_then(|n| n.parse().ok()).unwrap_or(1)
}

#[test]
fn no_flips_anywhere_in_a_tensor_or_a_layer_leave_the_bounds() {
    let mut rng = SplitMix(20);
    let (model, samples) = subject("@digits", 1);
    let policies: [(_, &[usize]); 3] =
        [(None, &[1, 8]), (Some(UnusedArg::Zero), &[2]), (Some(UnusedArg::Detect), &[4])];
    let (mut runs, mut proofs) = (0, 0);
    for (unused, flips) in policies {
        let case = case(&model, unused);
        let found = sweep((&case, &samples[0]), flips, 10 * times(), &mut rng);
        runs += found.0;
        proofs += found.1;
    }
    println!("{proofs} tensors and layers proven, {runs} corrupted runs, 0 violations");
    assert!(proofs > 10, "only {proofs} proofs: the test would be empty");
}

#[test]
fn flips_of_a_model_that_was_not_trained_for_it_stay_within_the_bounds() {
    let mut rng = SplitMix(21);
    let (model, samples) = subject("@digits-normal", 1);
    let case = case(&model, None);
    let (runs, proofs) = sweep((&case, &samples[0]), &[1], 8 * times(), &mut rng);
    println!("{proofs} tensors and layers proven, {runs} corrupted runs, 0 violations");
}

#[test]
fn no_flips_in_a_proven_row_of_any_tensor_change_the_decision() {
    let mut rng = SplitMix(22);
    let (model, samples) = subject("@digits", 1);
    let case = case(&model, None);
    let deployed = case.deployed();
    let prover = case.prover(&deployed);
    let x = samples[0].embedded(&model);
    let streams = deployed.streams(&x);
    let logits = deployed.logits(&x, 0, Read::Last);
    let winner = decide(logits.as_slice().expect("one row"), &[]).expect("numbers");
    let claim = Margin { row: 0, winner, rivals: Vec::new() };
    let (mut proofs, mut runs) = (0, 0);
    for (layer, slot) in (0..model.layers.len()).flat_map(|l| Slot::ALL.map(|slot| (l, slot))) {
        let row = rng.below(prover.rows_of(layer, slot));
        let width = ternary(model.layers[layer].linear(slot)).columns();
        for (level, flips) in [(0, 1), (3, 8), (4, 2 * width)] {
            let slots = [slot];
            let strike = Strike::in_layer(layer, &slots, Bits::Row(row, level));
            if prover.struck(strike, &streams[layer], &claim).is_none() {
                continue;
            }
            proofs += 1;
            let at = |column, bit| ((layer, slot), row, column, bit);
            for _ in 0..20 * times() {
                let mut bits: Vec<Flip> =
                    (0..flips).map(|_| at(rng.below(width), rng.below(2) as u8)).collect();
                bits.sort_unstable_by_key(|bit| (bit.2, bit.3));
                bits.dedup();
                let model = flipped(&model, &bits, None).expect("nothing is detected");
                let deployed = Deployed { model: &model, ..deployed };
                let logits = deployed.logits(&streams[layer], layer, Read::Last);
                let now = decide(logits.as_slice().expect("one row"), &[]);
                assert_eq!(now, Some(winner), "{layer} {slot:?} {row} {bits:?}");
                runs += 1;
            }
        }
    }
    println!("{proofs} proofs, {runs} corrupted runs, 0 violations");
    assert!(proofs > 10, "only {proofs} proofs: the test would be empty");
}

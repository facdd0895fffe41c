//! Rows that are proven against the engine under random and greedy corruptions, and planted rows
//! that must not be proven.

use certify::affine::Matrices;
use certify::claim::{Decision, Deployed, decide};
use certify::interval::Margin;
use certify::ladder::{Ladder, Rung};
use engine::kernels;
use engine::model::random::SplitMix;
use engine::model::{KvKind, Model, Slot, Weights};
use engine::packing::{TernaryRows, UNUSED_CODE, weight_of};
use engine::walk::Read;
use ndarray::Array2;

use super::flips::LEVELS;
use super::proof::Prover;
use crate::analyze::verdicts::margin_of;
use crate::cli::UnusedArg;
use crate::input::{self, Sample};
use crate::source;

pub(super) fn subject(name: &str, limit: usize) -> (Model, Vec<Sample>) {
    let origin = source::resolve(name).expect("an embedded model");
    let loaded = source::load(&origin, None, false).expect("a sound checkpoint");
    let samples = input::read(&origin, &loaded, None, None, Some(limit)).expect("its samples");
    (loaded.model, samples.samples)
}

fn codes(model: &Model, layer: usize, row: usize) -> Vec<u8> {
    match &model.layers[layer].linear(Slot::Down).weights {
        Weights::Ternary { rows, .. } => rows.row(row),
        Weights::Coded(_) | Weights::Dense(_) => panic!("a ternary layer"),
    }
}

/// The model with other codes in one row: what a reader of the corrupted bytes would hold.
fn corrupted(model: &Model, layer: usize, row: usize, after: &[u8]) -> Model {
    let mut model = model.clone();
    let linear = model.layers[layer].linear_mut(Slot::Down);
    let Weights::Ternary { rows, .. } = &mut linear.weights else { panic!("a ternary layer") };
    let clean = rows.clone();
    let packed = TernaryRows::pack(clean.rows(), clean.columns(), |index, buffer| {
        if index == row { buffer.copy_from_slice(after) } else { clean.read_row(index, buffer) }
    });
    *rows = packed.into();
    model
}

/// One step of flips: the code after it, and what the policy makes of it.
fn flipped(code: u8, mask: u8, unused: Option<UnusedArg>) -> Option<u8> {
    let after = code ^ mask;
    match (mask != 0 && after == UNUSED_CODE, unused) {
        (true, Some(UnusedArg::Detect)) => None,
        (true, Some(UnusedArg::Zero)) => Some(1),
        _ => Some(after),
    }
}

/// Flips at random, or those that push the sum of one token the furthest one way.
fn corruption(
    clean: &[u8],
    flips: Option<usize>,
    unused: Option<UnusedArg>,
    (how, q): (usize, &[i32]),
    rng: &mut SplitMix,
) -> Vec<u8> {
    let mut masks = vec![0u8; clean.len()];
    let way = [1, -1][how % 2];
    let code = |column: usize, mask: u8| flipped(clean[column], mask, unused);
    let sum =
        |column: usize, mask: u8| code(column, mask).map(|code| weight_of(code) * q[column] * way);
    if how >= 2 && flips.is_none() {
        for (column, mask) in masks.iter_mut().enumerate() {
            *mask = (0..4).max_by_key(|&mask| sum(column, mask)).expect("four codes");
        }
    }
    let random = if how < 2 { flips.unwrap_or(4 * clean.len()) } else { 0 };
    for _ in 0..random {
        let (column, bit) = (rng.below(clean.len()), 1 << rng.below(2));
        if code(column, masks[column] ^ bit).is_some() {
            masks[column] ^= bit;
        }
    }
    for _ in 0..flips.filter(|_| how >= 2).unwrap_or(0) {
        let gain = |&(column, bit): &(usize, u8)| {
            let after = sum(column, masks[column] ^ bit)?;
            Some(after - sum(column, masks[column]).expect("a code that may stand"))
        };
        let all = (0..clean.len()).flat_map(|column| [(column, 1), (column, 2)]);
        let best = all.max_by_key(gain).expect("a row has columns");
        if gain(&best) > Some(0) {
            masks[best.0] ^= best.1;
        }
    }
    let after = masks.iter().enumerate().map(|(column, &mask)| code(column, mask));
    after.map(|code| code.expect("a code that may stand")).collect()
}

pub(super) struct Case<'a> {
    pub(super) model: &'a Model,
    pub(super) matrices: Matrices<'a>,
    ladder: Ladder,
    pub(super) unused: Option<UnusedArg>,
}

impl Case<'_> {
    pub(super) fn deployed(&self) -> Deployed<'_> {
        Deployed { model: self.model, kernels: kernels::best(), kv: KvKind::Int8 }
    }

    fn proven(
        &self,
        layer: usize,
        streams: &[Array2<f32>],
        rows: &[usize],
        claim: &Margin,
    ) -> Vec<[Option<Rung>; LEVELS.len()]> {
        let deployed = self.deployed();
        let prover = self.prover(&deployed);
        assert!(prover.speaks_of(layer, Slot::Down));
        prover.rows(layer, streams, rows, claim).into_iter().map(|found| found.by).collect()
    }

    pub(super) fn prover<'b>(&'b self, deployed: &'b Deployed<'b>) -> Prover<'b> {
        Prover {
            deployed,
            matrices: &self.matrices,
            ladder: &self.ladder,
            forms: true,
            unused: self.unused,
            parallel: true,
            weights: 0,
        }
    }

    /// The codes of the last token that the struck rows read.
    fn activations(&self, layer: usize, stream: &Array2<f32>) -> Vec<i32> {
        let deployed = self.deployed();
        let (_, activations) = self.prover(&deployed).walked(layer, stream, None);
        activations.iter().map(|column| column.last().expect("a token").0).collect()
    }

    /// Runs corrupted rows for every proof; gives the proofs and the runs.
    fn hold(&self, sample: &Sample, layer: usize, rng: &mut SplitMix) -> (usize, usize) {
        let x = sample.embedded(self.model);
        let deployed = self.deployed();
        let streams = deployed.streams(&x);
        let clean = deployed.logits(&x, 0, Read::Last);
        let winner = decide(clean.as_slice().expect("one row"), &sample.classes).expect("numbers");
        let decision = Decision { winner, classes: sample.classes.clone() };
        let rows: Vec<usize> = (0..self.model.config.hidden).step_by(3).collect();
        let found = self.proven(layer, &streams, &rows, &margin_of(&decision, 0));
        let q = self.activations(layer, &streams[layer]);
        let (mut proofs, mut runs) = (0, 0);
        for (&row, by) in rows.iter().zip(found) {
            let before = codes(self.model, layer, row);
            for (flips, by) in LEVELS.into_iter().zip(by) {
                let Some(rung) = by else { continue };
                proofs += 1;
                for how in 0..4 {
                    let after = corruption(&before, flips, self.unused, (how, &q), rng);
                    let model = corrupted(self.model, layer, row, &after);
                    let faulty = Deployed { model: &model, ..deployed };
                    let logits = faulty.logits(&streams[layer], layer, Read::Last);
                    let row_of = logits.as_slice().expect("one row");
                    let now = decide(row_of, &sample.classes);
                    assert_eq!(now, Some(winner), "{rung:?} {layer} {row} {flips:?} {after:?}");
                    runs += 1;
                }
            }
        }
        (proofs, runs)
    }

    /// The rows that a corruption makes decide otherwise; none of them may be proven.
    fn deciding(&self, sample: &Sample, layer: usize) -> usize {
        let deployed = self.deployed();
        let streams = deployed.streams(&sample.embedded(self.model));
        let q = self.activations(layer, &streams[layer]);
        let decision = |model: &Model| {
            let logits = Deployed { model, ..deployed }.logits(&streams[layer], layer, Read::Last);
            decide(logits.as_slice().expect("one row"), &sample.classes).expect("numbers")
        };
        let winner = decision(self.model);
        let mut rng = SplitMix(1);
        let mut breaks = |row: usize, how| {
            let before = codes(self.model, layer, row);
            let after = corruption(&before, None, self.unused, (how, &q), &mut rng);
            decision(&corrupted(self.model, layer, row, &after)) != winner
        };
        let all = 0..self.model.config.hidden;
        let rows: Vec<usize> = all.filter(|&row| breaks(row, 2) || breaks(row, 3)).collect();
        let claim = Margin { row: 0, winner, rivals: sample.classes.clone() };
        for (row, by) in rows.iter().zip(self.proven(layer, &streams, &rows, &claim)) {
            assert_eq!(by.last(), Some(&None), "row {row} of layer {layer} decides");
        }
        rows.len()
    }
}

pub(super) fn case(model: &Model, unused: Option<UnusedArg>) -> Case<'_> {
    let ladder = Ladder::new(vec![Rung::Interval, Rung::Affine]);
    Case { model, matrices: Matrices::new(model), ladder, unused }
}

#[test]
fn no_corruption_of_a_proven_row_changes_the_decision_of_the_engine() {
    let mut rng = SplitMix(4711);
    let (model, samples) = subject("@digits", 2);
    let (mut proofs, mut runs) = (0, 0);
    let policies = [None, Some(UnusedArg::Zero), Some(UnusedArg::Detect)];
    for (sample, unused) in samples.iter().cycle().zip(policies) {
        let case = case(&model, unused);
        for layer in 0..model.layers.len() {
            let found = case.hold(sample, layer, &mut rng);
            proofs += found.0;
            runs += found.1;
        }
    }
    println!("{proofs} proofs, {runs} corrupted runs, 0 violations");
    assert!(proofs > 20, "only {proofs} proofs: the test would be empty");
}

#[test]
fn a_claim_that_a_corruption_breaks_is_never_proven() {
    let (model, samples) = subject("@digits", 2);
    let case = case(&model, None);
    let deployed = case.deployed();
    for sample in &samples {
        let x = sample.embedded(&model);
        let streams = deployed.streams(&x);
        let logits = deployed.logits(&x, 0, Read::Last);
        let clean = logits.as_slice().expect("one row");
        let winner = decide(clean, &sample.classes).expect("numbers");
        // That a loser wins is false without any flip.
        for loser in (0..10).filter(|&class| class != winner) {
            let decision = Decision { winner: loser, classes: (0..10).collect() };
            for layer in 0..model.layers.len() {
                let found = case.proven(layer, &streams, &[0, 7], &margin_of(&decision, 0));
                assert!(found.iter().flatten().all(Option::is_none), "{layer} {loser}: {found:?}");
            }
        }
    }
}

#[test]
fn a_row_whose_codes_decide_is_not_proven() {
    let (model, samples) = subject("@digits-normal", 40);
    let case = case(&model, None);
    let mut deciding = 0;
    for sample in &samples {
        for layer in 0..model.layers.len() {
            deciding += case.deciding(sample, layer);
        }
    }
    println!("{deciding} rows whose codes decide, none of them proven");
    assert!(deciding > 0, "no row decides: the test would be empty");
}

#[test]
fn what_is_proven_for_more_flips_is_proven_for_fewer() {
    let (model, samples) = subject("@digits", 1);
    let case = case(&model, None);
    let deployed = case.deployed();
    let x = samples[0].embedded(&model);
    let logits = deployed.logits(&x, 0, Read::Last);
    let winner = decide(logits.as_slice().expect("one row"), &[]).expect("numbers");
    let claim = Margin { row: 0, winner, rivals: Vec::new() };
    let rows: Vec<usize> = (0..model.config.hidden).collect();
    for layer in 0..model.layers.len() {
        for by in case.proven(layer, &deployed.streams(&x), &rows, &claim) {
            assert!(by.is_sorted_by(|a, b| a.is_some() || b.is_none()), "{by:?}");
        }
    }
}

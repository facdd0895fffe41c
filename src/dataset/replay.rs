//! What rows are computed from, once when they are made and again when they are verified.

use engine::formats::Loaded;
use engine::kernels::Kernels;
use engine::model::{KvKind, Weights};
use engine::numerics::argmax;
use engine::walk::Read;
use faults::{
    Address, AnyAddress, Campaign, Effect, Fault, Outcome, Plan, Record, Target, UnusedCode,
    effect_on,
};
use ndarray::Array2;
use rayon::prelude::*;
use reports::dataset::{Row, RowKind, Split};
use reports::model as out;

use crate::analyze::{fault_sample, goldens, refusal};
use crate::failure::Failure;
use crate::flip::place;
use crate::input::Samples;
use crate::source::{self, Origin};

/// A near miss has lost this share of its margin.
const LOST: f64 = 0.5;

/// A model, its samples, and the campaign whose trials rows are.
pub(super) struct Scene<'a> {
    pub(super) model: &'a str,
    pub(super) origin: &'a Origin,
    pub(super) loaded: &'a Loaded,
    pub(super) kernels: &'static Kernels,
    pub(super) samples: &'a Samples,
    pub(super) campaign: Campaign<'a>,
}

/// The plan of single flips.
pub(super) fn plan(seed: u64, trials: u64, targets: Vec<Target>, unused: UnusedCode) -> Plan {
    Plan {
        seed,
        trials,
        flips: 1,
        targets,
        unused,
        kv: KvKind::F32,
        confidence: 0.99,
        positions: Read::All,
        worst: 0,
    }
}

impl<'a> Scene<'a> {
    /// Runs every sample clean.
    pub(super) fn new(
        (model, origin): (&'a str, &'a Origin),
        loaded: &'a Loaded,
        kernels: &'static Kernels,
        samples: &'a Samples,
        plan: Plan,
    ) -> Result<Self, Failure> {
        let identity = plan.identity(&loaded.manifest.digest, &samples.digest);
        let inputs: Vec<_> = samples.samples.iter().map(fault_sample).collect();
        let campaign =
            Campaign::new(&loaded.model, kernels, plan, identity, &inputs).map_err(refusal)?;
        Ok(Self { model, origin, loaded, kernels, samples, campaign })
    }

    /// Why a trial would be in a set.
    pub(super) fn kind(&self, record: &Record) -> RowKind {
        kind(&self.campaign, record)
    }

    /// The row of a trial, its number still to come.
    pub(super) fn row(&self, record: &Record) -> Result<Row, Failure> {
        let (loaded, unused) = (self.loaded, self.campaign.plan().unused);
        let golden = self.campaign.golden(record.target, record.sample);
        let effect = effect_on(&loaded.model, self.kernels, golden, &record.fault, unused);
        let (tokens_changed, first_changed_token) = changed_tokens(&effect);
        let flip = record.fault.flips().next().expect("a single flip");
        let place = place(loaded, flip)?;
        let old = place.stored(self.origin)?;
        let codes = code(loaded, flip).map(|(code, bit)| (vec![code], vec![code ^ (1 << bit)]));
        let (old_codes, new_codes) = codes.unwrap_or_default();
        let shift = effect.trial.shift;
        let identical = effect.trial.outcome == Outcome::Masked { identical: true };
        Ok(Row {
            row: 0,
            split: split(&place.tensor),
            kind: self.kind(record),
            model: self.model.to_owned(),
            model_digest: loaded.manifest.digest.clone(),
            format: "hf-packed".into(),
            target: record.target.name().parse().map_err(Failure::bug)?,
            fault_model: "single".into(),
            addresses: vec![flip.to_string()],
            byte_offsets: vec![place.byte - place.start],
            xor_masks: vec![1 << place.bit],
            old_bytes: vec![old],
            new_bytes: vec![old ^ (1 << place.bit)],
            tensors: vec![place.tensor],
            old_codes,
            new_codes,
            unused_code: said(unused),
            inputs_digest: self.samples.digest.clone(),
            sample: record.sample as u64,
            tokens: golden.sample.tokens() as u64,
            tokens_changed,
            first_changed_token,
            decision_before: effect.decision,
            decision_after: effect.trial.decision,
            label: golden.sample.label,
            margin_before: golden.margin(),
            margin_after: shift.map(|shift| golden.margin() - shift.margin_loss),
            max_logit_change: shift.map(|shift| shift.max_logit_change),
            kl_divergence: shift.map(|shift| shift.kl_divergence),
            outcome: outcome(effect.trial.outcome),
            identical,
            seed: self.campaign.plan().seed,
            trial: record.index,
            arithmetic: engine::ARITHMETIC.into(),
            replay_digest: digest(&effect),
            transfer_model: None,
            transfer_outcome: None,
        })
    }
}

/// The stored code of a weight, and the bit of it that flips.
fn code(loaded: &Loaded, flip: &Address) -> Option<(u8, u8)> {
    let Address::Code { layer, slot, row, column, bit } = *flip else { return None };
    match &loaded.model.layers[layer].linear(slot).weights {
        Weights::Ternary { rows, .. } => Some((rows.code(row, column), bit)),
        Weights::Dense(_) => None,
    }
}

pub(super) fn said(unused: UnusedCode) -> out::UnusedCode {
    match unused {
        UnusedCode::Deployed => out::UnusedCode::Deployed,
        UnusedCode::Zero => out::UnusedCode::Zero,
        UnusedCode::Detect => out::UnusedCode::Detect,
    }
}

/// All rows of a tensor are in one split: eight of ten tensors train, by a hash of their names.
fn split(tensor: &str) -> Split {
    match blake3::hash(tensor.as_bytes()).as_bytes()[0] % 10 {
        0 => Split::Validation,
        1 => Split::Test,
        _ => Split::Train,
    }
}

fn kind(campaign: &Campaign, record: &Record) -> RowKind {
    let margin = campaign.golden(record.target, record.sample).margin();
    match outcome(record.trial.outcome) {
        out::Outcome::Sdc | out::Outcome::Due => RowKind::Hit,
        out::Outcome::Masked => match record.trial.shift {
            Some(shift) if shift.margin_loss >= LOST * margin => RowKind::NearMiss,
            _ => RowKind::Benign,
        },
    }
}

/// Tries rows on a second model.
pub(super) fn transfer(other: &str, scene: &Scene, rows: &mut [Row]) -> Result<(), Failure> {
    let origin = source::resolve(other)?;
    let loaded = source::load(&origin, None, false)?;
    let (model, unused) = (&loaded.model, scene.campaign.plan().unused);
    let goldens = goldens(model, scene.kernels, Read::All, scene.samples)
        .map_err(|failure| Failure { what: format!("{other}: {}", failure.what), ..failure })?;
    rows.par_iter_mut().try_for_each(|row| {
        let typed: AnyAddress = row.addresses[0].parse().map_err(Failure::bug)?;
        let there = typed
            .resolve(model)
            .ok()
            .filter(|address| address.check(model, KvKind::F32, row.tokens as usize).is_ok());
        row.transfer_model = Some(other.to_owned());
        row.transfer_outcome = there.map(|address| {
            let golden = &goldens[row.sample as usize];
            let fault = Fault::single(address);
            outcome(effect_on(model, scene.kernels, golden, &fault, unused).trial.outcome)
        });
        Ok(())
    })
}

/// The digest of outcome and logits: all NaN count as one, their payloads differ by platform.
fn digest(effect: &Effect) -> String {
    let mut hash = blake3::Hasher::new();
    hash.update(effect.trial.outcome.name().as_bytes());
    for &x in effect.after.iter().flatten() {
        let bits = if x.is_nan() { 0x7fc0_0000 } else { x.to_bits() };
        hash.update(&bits.to_le_bytes());
    }
    hash.finalize().to_hex().to_string()
}

/// Positions whose best token changed: how many, and the first.
fn changed_tokens(effect: &Effect) -> (u64, Option<u64>) {
    let best = |logits: &Array2<f32>| -> Vec<Option<usize>> {
        let rows = logits.rows().into_iter();
        rows.map(|row| argmax(row.as_slice().expect("a standard row"))).collect()
    };
    let Some(after) = &effect.after else { return (0, None) };
    let (before, after) = (best(&effect.before), best(after));
    let changed = |position: &usize| before[*position] != after[*position];
    let mut positions = (0..before.len()).filter(changed);
    let first = positions.next();
    let count = first.map_or(0, |_| 1 + positions.count() as u64);
    (count, first.map(|first| first as u64))
}

/// The outcome in the words of the rows.
fn outcome(outcome: Outcome) -> out::Outcome {
    match outcome {
        Outcome::Masked { .. } => out::Outcome::Masked,
        Outcome::Sdc => out::Outcome::Sdc,
        Outcome::Due(_) => out::Outcome::Due,
    }
}

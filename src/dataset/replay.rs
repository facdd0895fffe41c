//! What rows are computed from, once when they are made and again when they are verified.

use certify::affine::Matrices;
use certify::claim::Deployed;
use engine::formats::Loaded;
use engine::kernels::Kernels;
use engine::model::{KvKind, Slot, Weights};
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

use crate::analyze::{fault_sample, flips_at, goldens, refusal};
use crate::cli::UnusedArg;
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
    /// For proofs.
    matrices: Matrices<'a>,
    /// What is proven of as many flips of the model as a trial has, sample by sample; nothing where
    /// it has one.
    together: Vec<Proven>,
}

/// Whether a decision provably stands, and what no logit changes by more than, where that can be
/// bounded.
type Proven = Option<(bool, Option<f64>)>;

/// What is struck, as rows say it: bytes that flips share are one.
#[derive(Default)]
struct Struck {
    addresses: Vec<String>,
    tensors: Vec<String>,
    /// Of each tensor.
    formats: Vec<String>,
    byte_offsets: Vec<u64>,
    xor_masks: Vec<u8>,
    old_bytes: Vec<u8>,
    old_codes: Vec<u8>,
    new_codes: Vec<u8>,
    /// The layer, tensor and row of each flip, where all are of weight codes.
    rows: Vec<(usize, Slot, usize)>,
}

/// What is proven of the set that a fault is one of.
struct Bound {
    proven: bool,
    change: Option<f64>,
    of: String,
}

/// The plan of so many flips at once.
pub(super) fn plan(
    (seed, trials): (u64, u64),
    flips: u32,
    targets: Vec<Target>,
    unused: UnusedCode,
) -> Plan {
    Plan {
        seed,
        trials,
        flips: flips as usize,
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
        let matrices = Matrices::new(&loaded.model);
        let together = Vec::new();
        let mut scene =
            Self { model, origin, loaded, kernels, samples, campaign, matrices, together };
        let flips = scene.campaign.plan().flips;
        if flips > 1 {
            // Which rows they are in does not matter: any of the model.
            let any = vec![(0, Slot::Q, 0); flips];
            let all = 0..samples.samples.len();
            scene.together = all.into_par_iter().map(|sample| scene.proven(sample, &any)).collect();
        }
        Ok(scene)
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
        let struck = self.struck(&record.fault)?;
        let bound = self.bound(record, &struck, &effect)?;
        let shift = effect.trial.shift;
        let identical = effect.trial.outcome == Outcome::Masked { identical: true };
        Ok(Row {
            row: 0,
            split: split(&struck.tensors[0]),
            model_split: split(&loaded.manifest.digest),
            kind: match (self.kind(record), &bound) {
                (RowKind::Benign, Some(Bound { proven: true, .. })) => RowKind::BenignProven,
                (kind, _) => kind,
            },
            model: self.model.to_owned(),
            model_digest: loaded.manifest.digest.clone(),
            format: struck.formats[0].clone(),
            target: record.target.name().parse().map_err(Failure::bug)?,
            fault_model: match self.campaign.plan().flips {
                1 => "single".into(),
                flips => format!("random-{flips}"),
            },
            new_bytes: bytes_after(&struck),
            addresses: struck.addresses,
            byte_offsets: struck.byte_offsets,
            xor_masks: struck.xor_masks,
            old_bytes: struck.old_bytes,
            tensors: struck.tensors,
            old_codes: struck.old_codes,
            new_codes: struck.new_codes,
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
            logit_change_bound: bound.as_ref().and_then(|bound| bound.change),
            bound_of: bound.map(|bound| bound.of),
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

impl Scene<'_> {
    fn struck(&self, fault: &Fault) -> Result<Struck, Failure> {
        let mut struck = Struck::default();
        let mut codes: Vec<(Address, u8, u8)> = Vec::new();
        for flip in fault.flips() {
            struck.addresses.push(flip.to_string());
            let place = place(self.loaded, flip)?;
            let old = place.stored(self.origin)?;
            let offset = place.byte - place.start;
            let known = struck.tensors.iter().zip(&struck.byte_offsets);
            let mut known = known.map(|(tensor, at)| (tensor.as_str(), *at));
            match known.position(|at| at == (place.tensor.as_str(), offset)) {
                Some(at) => struck.xor_masks[at] ^= 1 << place.bit,
                None => {
                    struck.tensors.push(place.tensor);
                    struck.formats.push(place.format);
                    struck.byte_offsets.push(offset);
                    struck.xor_masks.push(1 << place.bit);
                    struck.old_bytes.push(old);
                }
            }
            let Some((code, bit)) = code(self.loaded, flip) else { continue };
            let Address::Code { layer, slot, row, column, .. } = *flip else { continue };
            // Of other tensors nothing is proven that a flip of a code may do.
            if self.loaded.model.layers[layer].linear(slot).weights.is_plain() {
                struck.rows.push((layer, slot, row));
            }
            let weight = Address::Code { layer, slot, row, column, bit: 0 };
            match codes.iter_mut().find(|(at, ..)| *at == weight) {
                Some((_, _, after)) => *after ^= 1 << bit,
                None => codes.push((weight, code, code ^ (1 << bit))),
            }
        }
        struck.old_codes = codes.iter().map(|&(_, before, _)| before).collect();
        struck.new_codes = codes.iter().map(|&(.., after)| after).collect();
        Ok(struck)
    }

    fn proven(&self, sample: usize, at: &[(usize, Slot, usize)]) -> Proven {
        let (model, kernels) = (&self.loaded.model, self.kernels);
        let deployed = Deployed { model, kernels, kv: KvKind::F32 };
        let unused = match self.campaign.plan().unused {
            UnusedCode::Deployed => None,
            UnusedCode::Zero => Some(UnusedArg::Zero),
            UnusedCode::Detect => Some(UnusedArg::Detect),
        };
        flips_at((&deployed, &self.matrices), &self.samples.samples[sample], unused, at)
    }

    /// What is proven of a fault; `None` where nothing is, or a detector saw it.
    fn bound(
        &self,
        record: &Record,
        struck: &Struck,
        effect: &Effect,
    ) -> Result<Option<Bound>, Failure> {
        let flips = record.fault.flips().len();
        let Some(shift) = effect.trial.shift.filter(|_| struck.rows.len() == flips) else {
            return Ok(None);
        };
        let found = match self.together.get(record.sample) {
            Some(&found) => found,
            None => self.proven(record.sample, &struck.rows),
        };
        let Some((proven, change)) = found else { return Ok(None) };
        let broken = change.is_some_and(|bound| shift.max_logit_change > bound)
            || (proven && effect.trial.outcome == Outcome::Sdc);
        if broken {
            let names = struck.addresses.join(" ");
            return Err(Failure::bug(format!("{names} did what is proven not to happen")));
        }
        let of = match flips {
            1 => "any 1 flip of the row".into(),
            flips => format!("any {flips} flips of the model"),
        };
        Ok((proven || change.is_some()).then_some(Bound { proven, change, of }))
    }
}

fn bytes_after(struck: &Struck) -> Vec<u8> {
    struck.old_bytes.iter().zip(&struck.xor_masks).map(|(byte, mask)| byte ^ mask).collect()
}

/// The stored code of a weight, and the bit of it that flips.
fn code(loaded: &Loaded, flip: &Address) -> Option<(u8, u8)> {
    let Address::Code { layer, slot, row, column, bit } = *flip else { return None };
    let weights = &loaded.model.layers[layer].linear(slot).weights;
    match weights {
        Weights::Ternary { rows, layout, .. } => {
            let own = layout.is_none_or(|layout| layout.has_two_bits());
            own.then(|| (rows.code(row, column), bit))
        }
        Weights::Coded(_) | Weights::Dense(_) => None,
    }
}

pub(super) fn said(unused: UnusedCode) -> out::UnusedCode {
    match unused {
        UnusedCode::Deployed => out::UnusedCode::Deployed,
        UnusedCode::Zero => out::UnusedCode::Zero,
        UnusedCode::Detect => out::UnusedCode::Detect,
    }
}

/// The split of a name, by a hash of it: eight of ten train.
fn split(name: &str) -> Split {
    match blake3::hash(name.as_bytes()).as_bytes()[0] % 10 {
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
    let loaded = source::load_to_strike(&origin, None, false)?;
    let (model, unused) = (&loaded.model, scene.campaign.plan().unused);
    let goldens = goldens(model, scene.kernels, Read::All, scene.samples)
        .map_err(|failure| Failure { what: format!("{other}: {}", failure.what), ..failure })?;
    rows.par_iter_mut().try_for_each(|row| {
        let there = |name: &String| {
            let typed: AnyAddress = name.parse().ok()?;
            let address = typed.resolve(model).ok()?;
            address.check(model, KvKind::F32, row.tokens as usize).is_ok().then_some(address)
        };
        let flips: Option<Vec<Address>> = row.addresses.iter().map(there).collect();
        row.transfer_model = Some(other.to_owned());
        row.transfer_outcome = flips.map(|flips| {
            let golden = &goldens[row.sample as usize];
            let fault = Fault::new(flips);
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

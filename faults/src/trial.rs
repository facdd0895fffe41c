//! One trial: the walk under a fault, started late and stopped early, judged against the clean run.
//!
//! The walk starts at the first layer that the fault touches, from the clean stream that enters it,
//! and stops as soon as the stream behind the last touched layer is the clean one again. Invariant:
//! neither changes a bit of the result (tested against whole runs).

use engine::kernels::Kernels;
use engine::model::{KvKind, Model};
use engine::walk::{self, Exact, Read};
use ndarray::Array2;

use crate::address::AddressError;
use crate::fault::{Fault, UnusedCode};
use crate::golden::{Golden, Sample, SampleError, last_row, rows_read, tokens};
use crate::inject::{Faulty, embed_with};
use crate::outcome::{Cause, Outcome, Shift};
use crate::overlay::Overlay;

/// What a trial found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trial {
    /// The outcome.
    pub outcome: Outcome,
    /// The decision under the fault; `None` if it was detected.
    pub decision: Option<u32>,
    /// Whether the best token of the vocabulary changed at any position; `None` where only the last
    /// position was read, or nothing was computed.
    pub any_token_change: Option<bool>,
    /// By how much the read-out moved; `None` if the fault was detected.
    pub shift: Option<Shift>,
}

/// The effect of a fault on a sample, with the logits on both sides.
#[derive(Clone, Debug)]
pub struct Effect {
    /// The clean decision.
    pub decision: u32,
    /// The clean logits, `[rows read, vocabulary]`.
    pub before: Array2<f32>,
    /// The faulty ones; `None` where a checking reader refused to compute.
    pub after: Option<Array2<f32>>,
    /// What they come to.
    pub trial: Trial,
}

/// Why a fault has no effect to show.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EffectError {
    /// A bit does not exist.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The sample cannot be run.
    #[error(transparent)]
    Sample(#[from] SampleError),
}

/// Runs one trial.
///
/// # Panics
/// If a bit of the fault does not exist; see [`Fault::check`].
#[must_use]
pub fn run_trial(
    model: &Model,
    kernels: &'static Kernels,
    golden: &Golden,
    fault: &Fault,
    unused: UnusedCode,
) -> Trial {
    if refused(model, fault, unused) {
        return Trial::refused();
    }
    let overlay = Overlay::new(model, fault, unused);
    match faulty_logits(model, kernels, golden, &overlay) {
        Some(logits) => judge(golden, &logits),
        None => Trial::identical(golden),
    }
}

/// Flips bits under one sample: the logits before and after, and what they come to.
///
/// # Errors
/// If the sample cannot be run, or a bit does not exist for it.
pub fn effect(
    model: &Model,
    kernels: &'static Kernels,
    (kv, read): (KvKind, Read),
    sample: Sample,
    fault: &Fault,
    unused: UnusedCode,
) -> Result<Effect, EffectError> {
    fault.check(model, kv, sample.tokens())?;
    let golden = Golden::new(model, kernels, kv, read, sample)?;
    Ok(effect_on(model, kernels, &golden, fault, unused))
}

/// The same on a clean run that is there already.
///
/// # Panics
/// If a bit of the fault does not exist; see [`Fault::check`].
#[must_use]
pub fn effect_on(
    model: &Model,
    kernels: &'static Kernels,
    golden: &Golden,
    fault: &Fault,
    unused: UnusedCode,
) -> Effect {
    let (decision, before) = (golden.decision(), golden.logits.clone());
    if refused(model, fault, unused) {
        return Effect { decision, before, after: None, trial: Trial::refused() };
    }
    let overlay = Overlay::new(model, fault, unused);
    let after = faulty_logits(model, kernels, golden, &overlay);
    let trial = after.as_ref().map_or(Trial::identical(golden), |logits| judge(golden, logits));
    let after = Some(after.unwrap_or_else(|| before.clone()));
    Effect { decision, before, after, trial }
}

impl Trial {
    /// Nothing was computed: a word of memory was flagged.
    pub(crate) fn flagged() -> Self {
        Self { outcome: Outcome::Due(Cause::Flagged), ..Self::refused() }
    }

    pub(crate) fn refused() -> Self {
        let outcome = Outcome::Due(Cause::UnusedCode);
        Self { outcome, decision: None, any_token_change: None, shift: None }
    }

    pub(crate) fn identical(golden: &Golden) -> Self {
        Self {
            outcome: Outcome::Masked { identical: true },
            decision: Some(golden.decision()),
            any_token_change: (golden.read == Read::All).then_some(false),
            shift: Some(Shift::default()),
        }
    }

    /// The verdict on logits at the last position, and on what is known of the others.
    pub(crate) fn judged(
        golden: &Golden,
        after: &[f32],
        identical: bool,
        any_token_change: Option<bool>,
    ) -> Self {
        let (outcome, decision, shift) = golden.read_out.judge(after, identical);
        let decision = shift.is_some().then_some(decision);
        Self { outcome, decision, any_token_change, shift }
    }
}

pub(crate) fn refused(model: &Model, fault: &Fault, unused: UnusedCode) -> bool {
    fault.is_refused(model) || unused == UnusedCode::Detect && fault.makes_unused_code(model)
}

/// The logits under a fault; `None` if the walk showed early that they are the clean ones.
pub(crate) fn faulty_logits(
    model: &Model,
    kernels: &'static Kernels,
    golden: &Golden,
    overlay: &Overlay,
) -> Option<Array2<f32>> {
    let Golden { kv, read, ref streams, .. } = *golden;
    let clean = CleanWalk { ids: golden.sample.ids(), kv, read, streams };
    let (mut domain, x) = faulty_stream(model, kernels, &clean, overlay)?;
    Some(walk::head(&mut domain, model, &rows_read(&x, read)))
}

/// A clean walk over some tokens, as a faulty one needs it.
pub(crate) struct CleanWalk<'a> {
    /// The token ids that the embedding is read for.
    pub(crate) ids: &'a [u32],
    pub(crate) kv: KvKind,
    /// Which rows leave the last layer of the faulty walk.
    pub(crate) read: Read,
    /// The streams that enter each layer, and behind them the one that leaves the last.
    pub(crate) streams: &'a [Array2<f32>],
}

/// The stream that leaves the last layer under a fault, with the domain that walked; `None` if it
/// and the head are the clean ones.
pub(crate) fn faulty_stream<'a>(
    model: &Model,
    kernels: &'static Kernels,
    clean: &CleanWalk,
    overlay: &'a Overlay,
) -> Option<(Faulty<'a, Exact>, Array2<f32>)> {
    let embedding = overlay.strikes_embedding_of(clean.ids);
    let last = overlay.last_layer();
    if !embedding && last.is_none() {
        return None;
    }
    let start = if embedding { 0 } else { overlay.first_layer() };
    let mut x = if embedding {
        embed_with(model, clean.ids, overlay).expect("the tokens of a clean run")
    } else {
        clean.streams[start].clone()
    };
    let mut domain = Faulty::new(Exact::new(kernels, model, clean.kv), overlay);
    let layers = model.layers.len();
    for index in start..layers {
        let read = if index + 1 == layers { clean.read } else { Read::All };
        x = walk::layer(&mut domain, model, index, &x, 0, read);
        let settled = last.is_none_or(|last| last <= index);
        if settled && same(&x, &rows_read(&clean.streams[index + 1], read)) {
            return None;
        }
    }
    Some((domain, x))
}

fn judge(golden: &Golden, logits: &Array2<f32>) -> Trial {
    let identical = same(logits, &golden.logits);
    let changed = (golden.read == Read::All).then(|| tokens(logits) != golden.tokens);
    Trial::judged(golden, &last_row(logits), identical, changed)
}

/// Whether two arrays hold the same bits. All NaN count as one: their payloads differ by platform.
fn same(a: &Array2<f32>, b: &Array2<f32>) -> bool {
    let equal = |(x, y): (&f32, &f32)| x.to_bits() == y.to_bits() || (x.is_nan() && y.is_nan());
    a.dim() == b.dim() && a.iter().zip(b).all(equal)
}

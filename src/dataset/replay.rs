//! What a row is computed from, once when it is made and again when it is verified.

use engine::formats::Loaded;
use engine::kernels::Kernels;
use engine::model::KvKind;
use engine::numerics::argmax;
use engine::walk::Read;
use faults::{Effect, Fault, Golden, Outcome, UnusedCode, effect_on};
use ndarray::Array2;
use rayon::prelude::*;
use reports::model as out;

use crate::analyze::fault_sample;
use crate::failure::Failure;
use crate::input::Samples;

/// A model with the clean runs of its samples.
pub(super) struct Stage<'a> {
    pub(super) loaded: &'a Loaded,
    pub(super) kernels: &'static Kernels,
    pub(super) goldens: Vec<Golden>,
    pub(super) unused: UnusedCode,
}

impl<'a> Stage<'a> {
    /// Runs every sample clean.
    pub(super) fn new(
        loaded: &'a Loaded,
        kernels: &'static Kernels,
        samples: &Samples,
        unused: UnusedCode,
    ) -> Result<Self, Failure> {
        let clean = samples.samples.par_iter().enumerate().map(|(number, sample)| {
            let sample = fault_sample(sample);
            Golden::new(&loaded.model, kernels, KvKind::F32, Read::All, sample)
                .map_err(|error| Failure::refused(format!("sample {number}: {error}")))
        });
        // Collected first, so that the first refusal is the first by number.
        let goldens = clean.collect::<Vec<_>>().into_iter().collect::<Result<_, _>>()?;
        Ok(Self { loaded, kernels, goldens, unused })
    }

    /// A fault under a sample.
    pub(super) fn effect(&self, sample: usize, fault: &Fault) -> Effect {
        let model = &self.loaded.model;
        effect_on(model, self.kernels, &self.goldens[sample], fault, self.unused)
    }
}

/// The digest of outcome and logits: all NaN count as one, their payloads differ by platform.
pub(super) fn digest(effect: &Effect) -> String {
    let mut hash = blake3::Hasher::new();
    hash.update(effect.trial.outcome.name().as_bytes());
    for &x in effect.after.iter().flatten() {
        let bits = if x.is_nan() { 0x7fc0_0000 } else { x.to_bits() };
        hash.update(&bits.to_le_bytes());
    }
    hash.finalize().to_hex().to_string()
}

/// Positions whose best token changed: how many, and the first.
pub(super) fn changed_tokens(effect: &Effect) -> (u64, Option<u64>) {
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
pub(super) fn outcome(outcome: Outcome) -> out::Outcome {
    match outcome {
        Outcome::Masked { .. } => out::Outcome::Masked,
        Outcome::Sdc => out::Outcome::Sdc,
        Outcome::Due(_) => out::Outcome::Due,
    }
}

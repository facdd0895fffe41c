//! Sample by sample: the clean decision, and the claim that it makes.

use certify::claim::{Decision, clean_margin, decide};
use certify::interval::Margin;
use engine::walk::Read;
use ndarray::Array2;

use super::context::{Context, decision};
use crate::failure::Failure;

/// The clean run of a sample.
#[derive(Clone, Debug)]
pub struct Clean {
    /// The decision at the last position.
    pub prediction: usize,
    /// What must stand: the label, or the prediction without one.
    pub decision: Decision,
    /// The margin of that decision.
    pub margin: f64,
    /// Whether the prediction is the label, where there is one.
    pub correct: Option<bool>,
    /// Root mean square of the rows that move.
    pub rms: f64,
}

impl Clean {
    /// Whether the clean decision is the one that must stand.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.prediction == self.decision.winner
    }
}

/// The clean decisions of all samples.
///
/// # Errors
/// If the model gives NaN on one, or the time limit passes before all are known.
pub(super) fn clean(context: &Context) -> Result<Vec<Clean>, Failure> {
    let stage = context.clock.stage("clean decisions", context.samples.len() as u64);
    let all = context.each(&stage, |index, sample| {
        let x = context.entering(sample);
        let logits = context.deployed.logits(&x, context.from(), Read::Last);
        let row = logits.as_slice().expect("one row");
        let prediction = decide(row, &sample.classes).ok_or_else(|| {
            Failure::refused(format!("sample {index}: the model's logits are not numbers"))
                .help("another sample, or `bitnet-certify inspect` for suspicious tensors")
        })?;
        let decision = decision(sample, prediction);
        let margin = clean_margin(row, &decision);
        let correct = sample.label.map(|label| label as usize == prediction);
        Ok(Clean { prediction, margin, decision, correct, rms: rms(&x) })
    });
    let known: Option<Vec<_>> = all.into_iter().collect();
    let known = known.ok_or_else(|| {
        Failure::incomplete("the time limit passed before the clean decisions were known")
            .help("a longer --time-limit, or fewer samples with --limit")
    })?;
    known.into_iter().collect()
}

/// The claim of a decision at a row of the logits.
pub(super) fn margin_of(decision: &Decision, row: usize) -> Margin {
    Margin { row, winner: decision.winner, rivals: decision.classes.clone() }
}

/// The root mean square of rows.
pub(super) fn rms(x: &Array2<f32>) -> f64 {
    let squares: f64 = x.iter().map(|&value| f64::from(value) * f64::from(value)).sum();
    (squares / x.len() as f64).sqrt()
}

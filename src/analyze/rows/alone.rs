//! What is proven of one sample alone, for commands beside `analyze`: the flip budget of the model,
//! and the bound of a fault by the set that it is one of.

use certify::affine::Matrices;
use certify::claim::{Decision, Deployed, decide};
use certify::ladder::{Ladder, Rung};
use engine::model::Slot;
use engine::walk::Read;

use super::anywhere::{PASSES, Place, Subject, largest};
use super::flips::MOST;
use super::pass_cost;
use super::proof::Prover;
use super::strike::{Bits, Strike};
use crate::analyze::verdicts::margin_of;
use crate::assemble;
use crate::cli::UnusedArg;
use crate::input::Sample;

/// The most flips of weight codes of the model that provably leave its decision, right or wrong, as
/// it is; `None` where that cannot be bounded, or costs more than so many operations.
pub(crate) fn model_budget(
    subject: (&Deployed, &Matrices),
    sample: &Sample,
    unused: Option<UnusedArg>,
    operations: u64,
) -> Option<usize> {
    on_sample(subject, sample, unused, |prover, of| {
        let affords = prover.model_cost(sample.tokens())? <= operations;
        affords.then(|| prover.model_budget(of))
    })
}

/// What is proven of flips of weight codes in these rows of tensors: of one, any one flip in its
/// row; of several, any as many of the model. Whether the decision, right or wrong, provably
/// stands,
/// and what no logit changes by more than; `None` where that cannot be bounded.
pub(crate) fn flips_at(
    subject: (&Deployed, &Matrices),
    sample: &Sample,
    unused: Option<UnusedArg>,
    at: &[(usize, Slot, usize)],
) -> Option<(bool, Option<f64>)> {
    on_sample(subject, sample, unused, |prover, of| prover.flips_at(at, of))
}

/// The most operations of one climb that forms are tried for.
const MOST_CLIMB: u64 = 1_000_000_000;

/// Proves something of one sample alone, whose clean decision is what must stand.
fn on_sample<T>(
    (deployed, matrices): (&Deployed, &Matrices),
    sample: &Sample,
    unused: Option<UnusedArg>,
    prove: impl FnOnce(&Prover, Subject<'_>) -> Option<T>,
) -> Option<T> {
    let ladder = Ladder::new(vec![Rung::Interval, Rung::Affine]);
    let mut prover = Prover {
        deployed,
        matrices,
        ladder: &ladder,
        forms: true,
        unused,
        parallel: true,
        weights: assemble::weight_counts(deployed.model).ternary,
    };
    let layers = deployed.model.layers.len();
    prover.forms = pass_cost(&prover, sample.tokens(), layers, 1) <= MOST_CLIMB;
    let x = sample.embedded(deployed.model);
    let logits = deployed.logits(&x, 0, Read::Last);
    let winner = decide(logits.as_slice()?, &sample.classes)?;
    let claim = margin_of(&Decision { winner, classes: sample.classes.clone() }, 0);
    let streams = deployed.streams(&x);
    prove(&prover, Subject { streams: &streams, claim: &claim, logits: &logits })
}

impl Prover<'_> {
    /// Operations of [`Self::model_budget`] at most; `None` where flips cannot be bounded.
    pub(super) fn model_cost(&self, tokens: usize) -> Option<u64> {
        let layers = self.deployed.model.layers.len();
        let rows = (0..layers).map(|layer| {
            let strike = Strike::in_layer(layer, &Slot::ALL, Bits::Any(1));
            let rows = self.struck_rows(strike) as u64;
            rows * pass_cost(self, tokens, layers - layer, 1)
        });
        Some(PASSES * self.cost(Place::Model, tokens)? + rows.sum::<u64>())
    }

    /// The most flips anywhere in the model that are proven, and no other place.
    pub(super) fn model_budget(&self, of: Subject<'_>) -> usize {
        let layers = self.deployed.model.layers.len();
        let proven = |flips| {
            let strike = Place::Model.strike(layers, Bits::Any(flips));
            self.struck(strike, &of.streams[0], of.claim).is_some()
        };
        if !proven(1) {
            return usize::from((0..layers).all(|layer| self.one_flip(layer, of)));
        }
        largest(1, MOST, proven)
    }

    /// What is proven of any one flip in a row of a tensor, or of any flips of the model, of which
    /// there are as many as rows here: whether the decision stands, and what no logit changes by
    /// more than; `None` where that cannot be bounded.
    pub(super) fn flips_at(
        &self,
        at: &[(usize, Slot, usize)],
        of: Subject<'_>,
    ) -> Option<(bool, Option<f64>)> {
        if at.len() > MOST || !at.iter().all(|&(layer, slot, _)| self.speaks_of(layer, slot)) {
            return None;
        }
        let (by, change) = match *at {
            [(layer, slot, row)] => {
                let slots = [slot];
                let strike = Strike::in_layer(layer, &slots, Bits::Row(row, 0));
                self.bounded(strike, of, &mut true)
            }
            _ => {
                self.cost(Place::Model, of.streams[0].nrows())?;
                let layers = self.deployed.model.layers.len();
                self.bounded(Place::Model.strike(layers, Bits::Any(at.len())), of, &mut true)
            }
        };
        Some((by.is_some(), change))
    }

    /// Whether one flip of a layer is proven: of all of it, tensor by tensor, or row by row.
    fn one_flip(&self, layer: usize, of: Subject<'_>) -> bool {
        let proven = |slots: &[Slot]| {
            let strike = Strike::in_layer(layer, slots, Bits::Any(1));
            self.struck(strike, &of.streams[layer], of.claim).is_some()
        };
        let tensor = |slot| proven(&[slot]) || self.row_by_row(layer, slot, of).is_some();
        proven(&Slot::ALL) || Slot::ALL.into_iter().all(tensor)
    }
}

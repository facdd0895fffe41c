//! The other side of an attack: how many flips are proven not to be enough.

use certify::affine::Matrices;
use certify::claim::Deployed;
use engine::model::{KvKind, Model};
use faults::{End, Found, Goal, Golden, Target};
use rayon::prelude::*;

use super::{AttackArgs, wanted};
use crate::analyze::{MOST_FLIPS, model_budget};
use crate::failure::Failure;
use crate::input::Samples;
use crate::machine;

/// Operations that the proofs of one sample may take.
const OPERATIONS: u64 = 4_000_000_000;

/// A search and what was proven beside it.
#[derive(Debug)]
pub(super) struct Searched {
    pub(super) found: Found,
    /// The certified flip budgets of its samples; `None` where flips of its targets, or of a model
    /// of its size, are not bounded.
    pub(super) budgets: Option<Vec<usize>>,
    /// A proven lower bound of the flips that reach the goal.
    pub(super) at_least: u64,
}

impl Searched {
    /// How many flips more were needed than are proven to be; `None` where the goal was not
    /// reached.
    pub(super) fn gap(&self) -> Option<u64> {
        let flips = self.found.steps.len() as u64;
        (self.found.end == End::Reached).then(|| flips - self.at_least)
    }
}

/// The most flips of weight codes that provably change no decision, sample by sample.
pub(super) fn budgets(
    args: &AttackArgs,
    model: &Model,
    targets: &[Target],
    samples: &Samples,
) -> Result<Option<Vec<usize>>, Failure> {
    if targets != [Target::WeightCode] {
        return Ok(None);
    }
    let deployed = Deployed { model, kernels: machine::kernels(None)?, kv: KvKind::F32 };
    let matrices = Matrices::new(model);
    let subject = (&deployed, &matrices);
    let of = |sample| model_budget(subject, sample, args.unused_code, OPERATIONS);
    Ok(samples.samples.par_iter().map(of).collect())
}

/// Puts a search beside the proofs.
///
/// # Errors
/// If an attack did with few flips what is proven to need more: one of the two is wrong.
pub(super) fn beside(
    found: Found,
    budgets: Option<&[usize]>,
    goldens: &[Golden],
    (goal, share): (Goal, f64),
) -> Result<Searched, Failure> {
    let needs = budgets.map(|budgets| {
        let one = |(golden, &budget): (&Golden, &usize)| match goal {
            Goal::Targeted(token) if golden.decision() == token => 0,
            _ => budget as u64 + 1,
        };
        goldens.iter().zip(budgets).map(one).collect::<Vec<u64>>()
    });
    let proven = needs.map_or(0, |needs| needed(needs, wanted(share, found.samples)));
    let at_least = found.least.max(proven);
    let flips = found.steps.len() as u64;
    if found.end == End::Reached && flips < at_least {
        let what = format!("{flips} flips reached what is proven to need {at_least}");
        return Err(Failure::bug(what));
    }
    Ok(Searched { found, budgets: budgets.map(<[usize]>::to_vec), at_least })
}

/// How many flips so many samples need together, if each needs so many alone: whichever samples
/// they are, one of them needs as many as the last of those that need least.
fn needed(mut needs: Vec<u64>, samples: u64) -> u64 {
    needs.sort_unstable();
    (samples as usize).checked_sub(1).map_or(0, |last| needs[last])
}

/// What budgets are beside, in words.
pub(super) fn told(budgets: Option<&[usize]>) -> String {
    let Some(budgets) = budgets else {
        return "no flip budget is certified for these targets".into();
    };
    let mut sorted = budgets.to_vec();
    sorted.sort_unstable();
    let (least, median) = (sorted[0], sorted[(sorted.len() - 1) / 2]);
    format!("certified flip budget: {least} (median {median}, searched to {MOST_FLIPS})")
}

#[cfg(test)]
mod tests {
    use super::needed;

    #[test]
    fn a_share_of_the_samples_needs_what_the_easiest_of_them_do() {
        assert_eq!(needed(vec![3, 1, 9, 2], 1), 1);
        assert_eq!(needed(vec![3, 1, 9, 2], 3), 3);
        assert_eq!(needed(vec![0, 5], 1), 0);
        assert_eq!(needed(vec![4], 0), 0);
    }
}

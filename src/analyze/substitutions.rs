//! Tokens that stand for others: a proof for the hull of their embeddings, beside the truth on
//! real substitutions.
//!
//! The proof holds for every point of the hull, so for every choice of tokens at once; the truth
//! runs the engine on all of them where they are few, else on some that are drawn. A draw is a
//! function of the seed, the sample and its own number alone.

use std::ops::Range;

use certify::claim::decide;
use certify::interval::Diverged;
use certify::ladder::{Aim, Rung};
use certify::region::{Ball, Region};
use engine::walk::Read;
use ndarray::Array2;

use super::climb::Purse;
use super::context::Context;
use super::verdicts::{Clean, margin_of};
use crate::input::{Content, Sample};
use crate::substitution::Choices;

/// Up to so many combinations are all run, by size of the model.
const ALL: (u64, u64) = (4096, 64);
/// Of more, so many are drawn.
const DRAWN: (u64, u64) = (512, 32);

/// What came of one sample.
#[derive(Clone, Debug)]
pub struct Substituted {
    /// Positive proof for every combination.
    pub certified: bool,
    /// The dearest rung that was needed for it.
    pub decided: Option<Rung>,
    /// Lower bound of the margin on the hulls.
    pub margin: Option<f64>,
    /// Where the bound was lost.
    pub diverged: Option<Diverged>,
    /// Positions that have a choice.
    pub positions: usize,
    /// How many combinations there are besides the clean one; `None` beyond 64 bits.
    pub combinations: Option<u64>,
    /// How many were run.
    pub tried: u64,
    /// How many of these decide otherwise.
    pub changed: u64,
    /// The first of them, and its decision.
    pub witness: Option<(Vec<u32>, Option<usize>)>,
}

/// All samples; `None` where the time was over.
pub(super) fn substitutions(
    context: &Context,
    clean: &[Clean],
    choices: &[Choices],
) -> Vec<Option<Substituted>> {
    let stage = context.clock.stage("substitutions", context.samples.len() as u64);
    let results =
        context.each(&stage, |index, sample| one(context, index, sample, clean, &choices[index]));
    context.clock.count_missing("substitutions", &results);
    results
}

/// How often the engine will run for all samples.
pub(super) fn runs(context: &Context, choices: &[Choices]) -> u64 {
    let samples = context.samples.iter().zip(choices);
    let of = |(sample, choices): (&Sample, &Choices)| {
        let moves = context.plan.scope.moves(sample.tokens()).expect("the position was checked");
        let size = Space { ids: &[], choices, moves: &moves }.size();
        let (all, drawn) = limits(context);
        size.filter(|&size| size <= all).unwrap_or(drawn)
    };
    samples.map(of).sum()
}

/// Up to how many combinations all are run, and how many are drawn of more.
fn limits(context: &Context) -> (u64, u64) {
    match context.large() {
        true => (ALL.1, DRAWN.1),
        false => (ALL.0, DRAWN.0),
    }
}

fn one(
    context: &Context,
    index: usize,
    sample: &Sample,
    clean: &[Clean],
    choices: &Choices,
) -> Substituted {
    let Content::Ids(ids) = &sample.content else { unreachable!("samples were checked") };
    let moves = context.plan.scope.moves(ids.len()).expect("the position was checked");
    let mut found = proof(context, sample, &clean[index], choices, &moves);
    let space = Space { ids, choices, moves: &moves };
    found.combinations = space.size();
    let (all, drawn) = limits(context);
    let exhaustive = found.combinations.filter(|&size| size <= all);
    for number in 0..exhaustive.unwrap_or(drawn) {
        if context.clock.cuts("substitutions: some were not run") {
            break;
        }
        let ids = match exhaustive {
            Some(_) => space.numbered(number),
            None => space.drawn(context.plan.seed, index as u64, number),
        };
        let x = context.deployed.model.embed(&ids).expect("ids were checked");
        let logits = context.deployed.logits(&x, 0, Read::Last);
        let now = decide(logits.as_slice().expect("one row"), &sample.classes);
        found.tried += 1;
        if now != Some(clean[index].decision.winner) {
            found.changed += 1;
            found.witness.get_or_insert((ids, now));
        }
    }
    found
}

/// The margins on the hulls: of every set of positions that moves together.
fn proof(
    context: &Context,
    sample: &Sample,
    clean: &Clean,
    choices: &Choices,
    moves: &[Range<usize>],
) -> Substituted {
    let model = context.deployed.model;
    let x = sample.embedded(model);
    let claims = [margin_of(&clean.decision, 0)];
    let aim = Aim { deployed: &context.deployed, from: 0, read: Read::Last, claims: &claims };
    let purse = Purse::new(context, "substitutions", 0.0);
    let hull = |row: usize| model.embed(&choices[row]).expect("ids were checked");
    let positions = moves.iter().cloned().flatten().filter(|&row| !choices[row].is_empty()).count();
    let mut found = Substituted {
        certified: clean.holds(),
        decided: None,
        margin: None,
        diverged: None,
        positions,
        combinations: None,
        tried: 0,
        changed: 0,
        witness: None,
    };
    let mut margins = Vec::with_capacity(moves.len());
    for moved in moves {
        let hulls: Vec<Array2<f32>> = moved.clone().map(hull).collect();
        let region = Region { clean: &x, moved: moved.clone(), ball: Ball::Hulls(hulls) };
        let climb = context.plan.ladder.climb(&aim, &region, false, &|rung| purse.may(rung));
        found.certified &= climb.certifies();
        found.decided =
            if climb.decided() > found.decided { climb.decided() } else { found.decided };
        let last = climb.passes.last().expect("the first rung is always tried");
        found.diverged = found.diverged.or(last.proof.diverged);
        margins.push(climb.margins().first().copied().filter(|margin| margin.is_finite()));
    }
    // One bound that is lost leaves no bound for all.
    let known: Option<Vec<f64>> = margins.into_iter().collect();
    let least = |a: f64, b: f64| if b < a { b } else { a };
    found.margin = known.and_then(|all| all.into_iter().reduce(least));
    found.decided = found.decided.filter(|_| found.certified);
    found
}

/// All combinations of a sample but the clean one, set after set of positions that move together.
struct Space<'a> {
    ids: &'a [u32],
    choices: &'a Choices,
    moves: &'a [Range<usize>],
}

impl Space<'_> {
    /// The combinations of one set, the clean one included.
    fn size_of(&self, moved: &Range<usize>) -> Option<u64> {
        let counts = moved.clone().map(|row| self.choices[row].len() as u64 + 1);
        counts.into_iter().try_fold(1u64, u64::checked_mul)
    }

    /// All combinations besides the clean one.
    fn size(&self) -> Option<u64> {
        self.moves.iter().try_fold(0u64, |sum, moved| sum.checked_add(self.size_of(moved)? - 1))
    }

    /// One combination by its number.
    fn numbered(&self, number: u64) -> Vec<u32> {
        let mut rest = number;
        for moved in self.moves {
            let size = self.size_of(moved).expect("few combinations") - 1;
            if rest >= size {
                rest -= size;
                continue;
            }
            // 0 is the clean one.
            let mut code = rest + 1;
            return self.chosen(moved, |choices| {
                let digit = code % choices;
                code /= choices;
                digit
            });
        }
        unreachable!("a number below the size")
    }

    /// One combination at random: a set of positions, then a token at each of them.
    fn drawn(&self, seed: u64, sample: u64, number: u64) -> Vec<u32> {
        let mut hash = blake3::Hasher::new_derive_key("bitnet-certify: substitutions, bca-1");
        for word in [seed, sample, number] {
            hash.update(&word.to_le_bytes());
        }
        let mut words = hash.finalize_xof();
        let mut below = |bound: u64| {
            let mut bytes = [0; 8];
            words.fill(&mut bytes);
            // The upper half of a product: the bias is below 2^-32 of it.
            ((u128::from(u64::from_le_bytes(bytes)) * u128::from(bound)) >> 64) as u64
        };
        let open: Vec<&Range<usize>> =
            self.moves.iter().filter(|moved| self.size_of(moved) != Some(1)).collect();
        let moved = open[below(open.len() as u64) as usize];
        self.chosen(moved, below)
    }

    /// The sample with a digit of its own at each position: 0 for what stands there.
    fn chosen(&self, moved: &Range<usize>, mut digit: impl FnMut(u64) -> u64) -> Vec<u32> {
        let mut ids = self.ids.to_vec();
        for row in moved.clone() {
            let choices = &self.choices[row];
            let chosen = digit(choices.len() as u64 + 1) as usize;
            if chosen > 0 {
                ids[row] = choices[chosen - 1];
            }
        }
        ids
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use certify::claim::Scope;
    use std::collections::BTreeSet;

    fn space<'a>(choices: &'a Choices, moves: &'a [Range<usize>]) -> Space<'a> {
        Space { ids: &[1, 2, 3], choices, moves }
    }

    #[test]
    fn every_combination_has_one_number_and_none_is_the_clean_one() {
        let choices = vec![vec![5, 6], vec![], vec![7, 8, 9]];
        let together = Scope::All.moves(3).expect("a scope");
        let alone = [0..1, 1..2, 2..3];
        for (moves, size) in [(&together[..], 11), (&alone[..], 5)] {
            let space = space(&choices, moves);
            assert_eq!(space.size(), Some(size));
            let all: BTreeSet<Vec<u32>> = (0..size).map(|number| space.numbered(number)).collect();
            assert_eq!(all.len() as u64, size);
            assert!(!all.contains(&vec![1, 2, 3]) && all.contains(&vec![1, 2, 9]));
            assert_eq!(all.contains(&vec![6, 2, 9]), moves.len() == 1);
        }
    }

    #[test]
    fn draws_are_combinations_and_follow_from_their_numbers() {
        let choices = vec![vec![5, 6], vec![], vec![7, 8, 9]];
        let together = Scope::All.moves(3).expect("a scope");
        let space = space(&choices, &together);
        let drawn: Vec<Vec<u32>> = (0..300).map(|number| space.drawn(4, 2, number)).collect();
        assert_eq!(drawn[17], space.drawn(4, 2, 17));
        let all: BTreeSet<&Vec<u32>> = drawn.iter().collect();
        assert_eq!(all.len(), 12, "each of the 12 with the clean one is met");
        assert!(all.iter().all(|ids| [1, 5, 6].contains(&ids[0]) && ids[1] == 2));
        assert_ne!(drawn, (0..300).map(|n| space.drawn(5, 2, n)).collect::<Vec<_>>());
    }

    #[test]
    fn more_than_64_bits_of_combinations_are_not_counted() {
        let choices = vec![vec![9; 65_535]; 5];
        let moves = Scope::All.moves(5).expect("a scope");
        assert_eq!(Space { ids: &[0; 5], choices: &choices, moves: &moves }.size(), None);
    }
}

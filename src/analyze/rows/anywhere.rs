//! Flips anywhere in a tensor, in a layer, or in the whole model: which are tried, what so many of
//! them can do to the logits, and the most that provably change no answer.
//!
//! One flip in a layer is one flip in one of its tensors, and one in the model is one in a layer:
//! so one flip is also proven part by part, in a tensor row by row. More flips may be spread, and
//! are proven together or not at all.

use certify::interval::Margin;
use certify::ladder::Rung;
use engine::model::Slot;
use ndarray::Array2;
use rayon::prelude::*;

use super::Level;
use super::flips::MOST;
use super::pass_cost;
use super::proof::Prover;
use super::strike::{Bits, SHARED, Strike};
use crate::analyze::bounds::widest;

/// Operations that these proofs may take for each trial of the campaign beside them, and at most.
pub(super) const BUDGET: (u64, u64) = (500_000, 4_000_000_000);
/// Passes a target: one for each number of [`SHARED`], two between them.
pub(super) const PASSES: u64 = 6;

/// Where flips share a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A tensor of a layer.
    Tensor(usize, Slot),
    /// All tensors of a layer.
    Layer(usize),
    /// All layers.
    Model,
}

impl Place {
    /// The flips of it, of so many layers.
    pub(super) fn strike(&self, layers: usize, bits: Bits) -> Strike<'_> {
        match self {
            Self::Tensor(layer, slot) => Strike::in_layer(*layer, std::slice::from_ref(slot), bits),
            Self::Layer(layer) => Strike::in_layer(*layer, &Slot::ALL, bits),
            Self::Model => Strike { layer: 0, until: layers, slots: &Slot::ALL, bits },
        }
    }

    /// Whether a flip there is one in some part of this place, one level below.
    fn part_of(self, whole: Self) -> bool {
        match (self, whole) {
            (Self::Tensor(layer, _), Self::Layer(of)) => layer == of,
            (Self::Layer(_), Self::Model) => true,
            _ => false,
        }
    }

    /// Parts before what they are parts of, layer by layer.
    fn order(self) -> (usize, usize) {
        match self {
            Self::Tensor(layer, slot) => (layer, slot as usize),
            Self::Layer(layer) => (layer, Slot::ALL.len()),
            Self::Model => (usize::MAX, 0),
        }
    }
}

/// A place, and how it is tried.
#[derive(Clone, Copy)]
pub(super) struct FlipTarget {
    pub(super) place: Place,
    /// Whether there are flips whose effect can be bounded.
    possible: bool,
    pub(super) tried: bool,
    /// Whether one flip of it is also tried row by row.
    pub(super) by_rows: bool,
}

impl FlipTarget {
    pub(super) fn from(&self) -> usize {
        self.place.strike(1, Bits::Any(1)).layer
    }
}

/// What is proven about flips anywhere in a tensor, a layer or the model.
#[derive(Clone, Debug, PartialEq)]
pub struct PlaceFlips {
    /// Where.
    pub place: Place,
    /// Whether there are flips whose effect can be bounded.
    pub possible: bool,
    /// For each sample that was tried the most flips that provably change no answer, at most
    /// [`MOST_FLIPS`].
    pub budgets: Vec<usize>,
    /// Under each number of flips, the samples proven by each rung.
    pub proven: Vec<Level>,
    /// Under each number of flips what no logit changes by more than; `None` where that is not
    /// bounded.
    pub changes: Vec<Option<f64>>,
}

/// The most flips that a budget is searched among.
pub const MOST_FLIPS: usize = MOST;

impl PlaceFlips {
    pub(super) fn untried(target: &FlipTarget) -> Self {
        let level = |flips| Level { flips: Some(flips), ..Level::default() };
        Self {
            place: target.place,
            possible: target.possible,
            budgets: Vec::new(),
            proven: SHARED.map(level).to_vec(),
            changes: vec![None; SHARED.len()],
        }
    }

    pub(super) fn merge(&mut self, of: Option<Spent>) {
        let Some(of) = of else { return };
        let first = self.budgets.is_empty();
        self.budgets.push(of.budget);
        self.proven.iter_mut().zip(of.by).for_each(|(level, by)| level.count(by));
        for (all, one) in self.changes.iter_mut().zip(of.changes) {
            *all = if first { one } else { all.zip(one).map(|(a, b)| if b > a { b } else { a }) };
        }
    }
}

/// What is proven of a place on one sample.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Spent {
    /// By which rung each number of shared flips is proven.
    pub(super) by: [Option<Rung>; SHARED.len()],
    /// What no logit changes by more than under each.
    pub(super) changes: [Option<f64>; SHARED.len()],
    /// The most flips that are proven.
    pub(super) budget: usize,
}

/// What flips of a sample are held against.
#[derive(Clone, Copy)]
pub(super) struct Subject<'a> {
    /// What enters each layer.
    pub(super) streams: &'a [Array2<f32>],
    /// The decision that must stand.
    pub(super) claim: &'a Margin,
    /// The clean logits at the read-out.
    pub(super) logits: &'a Array2<f32>,
}

/// The places that so many operations a sample are enough for, what writes into the stream first.
pub(super) fn targets(prover: &Prover, tokens: usize, operations: u64) -> Vec<FlipTarget> {
    let layers = prover.deployed.model.layers.len();
    let mut left = operations / PASSES;
    let by_slot = |slot: Slot| (0..layers).rev().map(move |layer| Place::Tensor(layer, slot));
    let inner = [Slot::V, Slot::K, Slot::Q, Slot::Gate, Slot::Up];
    let places = (by_slot(Slot::Down).chain(by_slot(Slot::O)))
        .chain((0..layers).rev().map(Place::Layer))
        .chain(inner.into_iter().flat_map(by_slot))
        .chain([Place::Model]);
    let mut targets: Vec<FlipTarget> = places
        .map(|place| {
            let cost = prover.cost(place, tokens);
            let tried = cost.is_some_and(|cost| cost <= left);
            left -= cost.filter(|_| tried).unwrap_or(0);
            FlipTarget { place, possible: cost.is_some(), tried, by_rows: false }
        })
        .collect();
    // What is left is spent on rows, in all of a tensor or not at all; the first that is not
    // proven ends a tensor, so that a third of them is a fair guess.
    for target in targets.iter_mut().filter(|target| target.tried) {
        if let Place::Tensor(layer, slot) = target.place {
            let rows = prover.rows_of(layer, slot) as u64;
            let cost = rows * pass_cost(prover, tokens, layers - layer, 1) / 3;
            target.by_rows = cost <= left;
            left -= if target.by_rows { cost } else { 0 };
        }
    }
    targets.sort_by_key(|target| target.place.order());
    targets
}

impl Prover<'_> {
    /// Operations of one climb under flips of a place; `None` where they cannot be bounded.
    pub(super) fn cost(&self, place: Place, tokens: usize) -> Option<u64> {
        let layers = self.deployed.model.layers.len();
        let strike = place.strike(layers, Bits::Any(1));
        let mut all = (strike.layer..strike.until)
            .flat_map(|layer| strike.slots.iter().map(move |&slot| (layer, slot)));
        let possible = all.all(|(layer, slot)| self.speaks_of(layer, slot));
        let rows = self.struck_rows(strike);
        possible.then(|| pass_cost(self, tokens, layers - strike.layer, rows))
    }

    /// Places; `None` for what is not tried.
    pub(super) fn flips(&self, targets: &[FlipTarget], of: Subject<'_>) -> Vec<Option<Spent>> {
        let one = |target: &FlipTarget| target.tried.then(|| self.spent(target, of));
        let mut found: Vec<Option<Spent>> = if self.parallel {
            targets.par_iter().map(one).collect()
        } else {
            targets.iter().map(one).collect()
        };
        for (index, target) in targets.iter().enumerate() {
            let part = |at: &usize| targets[*at].place.part_of(target.place);
            let parts: Option<Vec<Spent>> =
                (0..targets.len()).filter(part).map(|at| found[at]).collect();
            if let (Some(whole), Some(parts)) = (&mut found[index], parts) {
                whole.join(&parts);
            }
        }
        found
    }

    fn spent(&self, target: &FlipTarget, of: Subject<'_>) -> Spent {
        let layers = self.deployed.model.layers.len();
        let strike = |flips| target.place.strike(layers, Bits::Any(flips));
        let mut spent = Spent::default();
        let mut forms = true;
        for (level, &flips) in SHARED.iter().enumerate() {
            (spent.by[level], spent.changes[level]) = self.bounded(strike(flips), of, &mut forms);
        }
        if let (true, None, Place::Tensor(layer, slot)) =
            (target.by_rows, spent.by[0], target.place)
        {
            spent.by[0] = self.row_by_row(layer, slot, of);
        }
        spent.nest();
        let proven = spent.by.iter().flatten().count();
        let most = SHARED.get(proven).map_or(MOST, |flips| flips - 1);
        spent.budget = largest(spent.budget, most, |flips| {
            self.struck(strike(flips), &of.streams[target.from()], of.claim).is_some()
        });
        spent
    }

    /// The first rung that proves the flips harmless, and what no logit changes by more than.
    ///
    /// Where forms say nothing that boxes do not, they are tried for no further number of flips.
    pub(super) fn bounded(
        &self,
        strike: Strike<'_>,
        of: Subject<'_>,
        forms: &mut bool,
    ) -> (Option<Rung>, Option<f64>) {
        let (mut by, mut change) = (None, None);
        for rung in self.rungs().take(if *forms { usize::MAX } else { 1 }) {
            let passed = self.pass((rung, true), strike, &of.streams[strike.layer], of.claim);
            let moved = passed.logits.map(|logits| widest(&logits, of.logits));
            let before = change;
            change = lesser(change, moved);
            by = by.or(passed.proof.certifies().then_some(rung));
            if rung == Rung::Affine {
                *forms = by.is_some() || change != before;
            }
        }
        (by, change)
    }

    /// The dearest rung that it takes to prove one flip in every row; `None` if one is not proven.
    pub(super) fn row_by_row(&self, layer: usize, slot: Slot, of: Subject<'_>) -> Option<Rung> {
        let row = |row| {
            let strike = Strike::in_layer(layer, std::slice::from_ref(&slot), Bits::Row(row, 0));
            self.struck(strike, &of.streams[layer], of.claim)
        };
        let rungs: Option<Vec<Rung>> = (0..self.rows_of(layer, slot)).map(row).collect();
        rungs?.into_iter().max()
    }
}

impl Spent {
    /// What holds for more flips holds for fewer.
    fn nest(&mut self) {
        for level in (0..SHARED.len() - 1).rev() {
            self.by[level] = self.by[level].or(self.by[level + 1]);
            self.changes[level] = lesser(self.changes[level], self.changes[level + 1]);
        }
        let proven = self.by.iter().flatten().count();
        self.budget = if proven == 0 { 0 } else { SHARED[proven - 1] };
    }

    /// One flip is in one of the parts.
    fn join(&mut self, parts: &[Self]) {
        let rungs: Option<Vec<Rung>> = parts.iter().map(|part| part.by[0]).collect();
        if let (None, Some(rung)) = (self.by[0], rungs.and_then(|rungs| rungs.into_iter().max())) {
            (self.by[0], self.budget) = (Some(rung), 1);
        }
        let changes: Option<Vec<f64>> = parts.iter().map(|part| part.changes[0]).collect();
        let most = |a: f64, b: f64| if b > a { b } else { a };
        let change = changes.and_then(|changes| changes.into_iter().reduce(most));
        self.changes[0] = lesser(self.changes[0], change);
    }
}

/// The largest of some numbers that is proven, by bisection; the least needs no proof.
pub(super) fn largest(mut least: usize, mut most: usize, proven: impl Fn(usize) -> bool) -> usize {
    while least < most {
        let middle = (least + most).div_ceil(2);
        (least, most) = if proven(middle) { (middle, most) } else { (least, middle - 1) };
    }
    least
}

/// The smaller of two bounds, where there are any.
pub(super) fn lesser(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if b < a { b } else { a }),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spent(by: [Option<Rung>; 4], changes: [Option<f64>; 4]) -> Spent {
        let mut spent = Spent { by, changes, budget: 0 };
        spent.nest();
        spent
    }

    #[test]
    fn one_flip_of_a_whole_is_proven_by_its_parts_and_more_are_not() {
        let (boxes, forms) = (Some(Rung::Interval), Some(Rung::Affine));
        let part = spent([None, None, boxes, None], [Some(4.0), Some(2.0), None, None]);
        assert_eq!(part, spent([boxes, boxes, boxes, None], [Some(2.0), Some(2.0), None, None]));
        assert_eq!(part.budget, 4);
        let other = spent([forms, None, None, None], [Some(3.0), None, None, None]);
        let mut whole = spent([None; 4], [Some(9.0); 4]);
        whole.join(&[part, other]);
        assert_eq!((whole.by, whole.budget), ([forms, None, None, None], 1));
        assert_eq!(whole.changes, [Some(3.0), Some(9.0), Some(9.0), Some(9.0)]);
        let none = spent([None; 4], [None; 4]);
        let mut whole = none;
        whole.join(&[part, none]);
        assert_eq!(whole, none);
    }

    #[test]
    fn a_part_is_told_from_a_whole() {
        assert!(Place::Tensor(1, Slot::Q).part_of(Place::Layer(1)));
        assert!(!Place::Tensor(1, Slot::Q).part_of(Place::Layer(0)));
        assert!(!Place::Tensor(1, Slot::Q).part_of(Place::Model));
        assert!(Place::Layer(3).part_of(Place::Model) && !Place::Model.part_of(Place::Model));
    }
}

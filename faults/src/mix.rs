//! What a campaign strikes, and how: strata that take turns.
//!
//! A round has as many trials as the weights add up to: the first stratum its weight of them, then
//! the second, and so on. So every prefix of a campaign holds nearly the shares that were asked
//! for, and whole rounds can be dealt to shards without any of them missing a stratum.

use std::collections::BTreeMap;
use std::ops::Range;

use engine::model::KvKind;

use crate::campaign::Plan;
use crate::draw::Identity;
use crate::golden::Sample;
use crate::journal::Shard;
use crate::pattern::{Pattern, Poisson};
use crate::space::{Space, Target};
use crate::stores::steps;

/// Trials of one kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Stratum {
    /// What is struck.
    pub target: Target,
    /// Which bits of it flip together.
    pub pattern: Pattern,
    /// Trials in a round; at least 1.
    pub weight: u32,
    /// Where.
    pub within: Within,
}

/// A part of a target; by default all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Within {
    /// Only these layers.
    pub layers: Option<Vec<usize>>,
    /// Only tensors of these names within their layer, such as `mlp.down_proj`.
    pub tensors: Option<Vec<String>>,
}

impl Within {
    /// Whether it leaves nothing out.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.layers.is_none() && self.tensors.is_none()
    }

    /// The numbers of a target's space that lie in it, in order and joined where they touch.
    pub(crate) fn reach(&self, space: &Space, target: Target, tokens: usize) -> Reach {
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for tensor in space.tensors(target, tokens) {
            let layer = self
                .layers
                .as_ref()
                .is_none_or(|layers| tensor.layer.is_some_and(|layer| layers.contains(&layer)));
            let named = self.tensors.as_ref().is_none_or(|names| names.contains(&tensor.name));
            if !(layer && named) {
                continue;
            }
            match ranges.last_mut() {
                Some(last) if last.end == tensor.numbers.start => last.end = tensor.numbers.end,
                _ => ranges.push(tensor.numbers),
            }
        }
        Reach { ranges }
    }
}

/// Numbers among which is drawn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reach {
    ranges: Vec<Range<u64>>,
}

/// What the trials of a stratum draw with, on samples of one length.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Prepared {
    pub(crate) reach: Reach,
    /// How many flips fall, where that is drawn.
    pub(crate) poisson: Option<Poisson>,
}

impl Reach {
    /// How many stored bits there are: of a store, each is struck at any step from its token's on.
    pub(crate) fn bits(&self, target: Target, tokens: usize) -> u64 {
        match target.kv() {
            None => self.count(),
            Some(_) => self.count() / steps(tokens as u64) * tokens as u64,
        }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        self.ranges.iter().map(|range| range.end - range.start).sum()
    }

    /// The number at a place.
    ///
    /// # Panics
    /// Unless the place is below [`Self::count`].
    pub(crate) fn number(&self, mut place: u64) -> u64 {
        for range in &self.ranges {
            let size = range.end - range.start;
            if place < size {
                return range.start + place;
            }
            place -= size;
        }
        panic!("a place beyond all ranges");
    }
}

/// A plan with its strata.
#[derive(Clone, Debug, PartialEq)]
pub struct Mix {
    /// What all strata share. Its targets are those of the strata, and its flips count only where
    /// the mix is [simple](Self::simple).
    pub plan: Plan,
    /// The strata, in the order of their turns.
    pub strata: Vec<Stratum>,
}

impl Mix {
    /// Every target of a plan in turn, any of its bits.
    #[must_use]
    pub fn simple(plan: Plan) -> Self {
        let pattern = Pattern::Random { flips: plan.flips as u32 };
        let stratum = |&target| Stratum {
            target,
            pattern: pattern.clone(),
            weight: 1,
            within: Within::default(),
        };
        Self { strata: plan.targets.iter().map(stratum).collect(), plan }
    }

    /// What the trials of each stratum draw with, by number of tokens, in the space of one kind of
    /// store: that of the targets in it, and the plan's own for all others.
    pub(crate) fn prepared(
        &self,
        space: &Space,
        kv: KvKind,
        samples: &[Sample],
    ) -> BTreeMap<(usize, usize), Prepared> {
        let mut all = BTreeMap::new();
        for (number, stratum) in self.strata.iter().enumerate() {
            if stratum.target.kv().unwrap_or(self.plan.kv) != kv {
                continue;
            }
            for tokens in samples.iter().map(Sample::tokens) {
                let prepared = || {
                    let reach = stratum.within.reach(space, stratum.target, tokens);
                    let poisson = match stratum.pattern {
                        Pattern::Poisson { rate } => {
                            let bits = reach.bits(stratum.target, tokens);
                            Some(Poisson::new(rate.mean(bits)))
                        }
                        _ => None,
                    };
                    Prepared { reach, poisson }
                };
                all.entry((number, tokens)).or_insert_with(prepared);
            }
        }
        all
    }

    /// The identity of the campaign on a model and its inputs; see [`Plan::identity`].
    #[must_use]
    pub fn identity(&self, model_digest: &str, inputs_digest: &str) -> Identity {
        Identity::of(&[model_digest, inputs_digest, &self.text()])
    }

    /// How many trials a shard has.
    #[must_use]
    pub fn trials_of(&self, shard: Shard) -> u64 {
        let (round, trials) = (self.round(), self.plan.trials);
        let (whole, rest) = (trials / round, trials % round);
        let rounds = whole / shard.of + u64::from(shard.index < whole % shard.of);
        rounds * round + if shard.has_round(whole) { rest } else { 0 }
    }

    /// Trials in a round.
    #[must_use]
    pub fn round(&self) -> u64 {
        self.strata.iter().map(|stratum| u64::from(stratum.weight)).sum()
    }

    /// Which stratum a trial is of.
    #[must_use]
    pub fn turn(&self, index: u64) -> usize {
        let mut place = index % self.round();
        for (number, stratum) in self.strata.iter().enumerate() {
            if place < u64::from(stratum.weight) {
                return number;
            }
            place -= u64::from(stratum.weight);
        }
        unreachable!("a place of the round")
    }
}

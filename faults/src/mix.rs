//! What a campaign strikes, and how: strata that take turns.
//!
//! A round has as many trials as the weights add up to: the first stratum its weight of them, then
//! the second, and so on. So every prefix of a campaign holds nearly the shares that were asked
//! for, and whole rounds can be dealt to shards without any of them missing a stratum.

use std::collections::BTreeMap;
use std::ops::Range;

use engine::model::{FloatType, KvKind, Model};

use crate::address::Address;
use crate::campaign::Plan;
use crate::draw::Identity;
use crate::ecc::{Protection, Words};
use crate::golden::Sample;
use crate::journal::Shard;
use crate::matrix::{Grid, Matrix};
use crate::pattern::{Pattern, Poisson};
use crate::space::{Space, Target, Tensor};
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
    /// The code of the memory that holds it: of 2-bit codes alone.
    pub protection: Protection,
}

impl Stratum {
    /// The bits among which is drawn: those in reach, and the check bits that are struck too.
    pub(crate) fn stored_bits(&self, reach: &Reach, words: Option<&Words>) -> u64 {
        reach.bits + words.map_or(0, |words| words.checks(&self.pattern))
    }
}

/// A part of a target; by default all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Within {
    /// Only these layers.
    pub layers: Option<Vec<usize>>,
    /// Only tensors of these names within their layer, such as `mlp.down_proj`.
    pub tensors: Option<Vec<String>>,
    /// Only this part of each value, which must be stored as a float.
    pub part: Option<FloatPart>,
}

/// A part of a stored float.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FloatPart {
    /// The highest bit.
    Sign,
    /// The bits below it that make a value large or small.
    Exponent,
    /// The others.
    Mantissa,
}

impl FloatPart {
    /// All of them, with their names in plans.
    pub const ALL: [(&str, Self); 3] =
        [("sign", Self::Sign), ("exponent", Self::Exponent), ("mantissa", Self::Mantissa)];

    /// Its name in plans.
    #[must_use]
    pub fn name(self) -> &'static str {
        let named = Self::ALL.iter().find(|(_, part)| *part == self);
        named.expect("all parts have names").0
    }

    /// Its bits in a type.
    #[must_use]
    pub fn bits(self, stored: FloatType) -> Range<u8> {
        let mantissa = match stored {
            FloatType::F32 => 23,
            FloatType::F16 => 10,
            FloatType::Bf16 => 7,
        };
        let sign = stored.bits() - 1;
        match self {
            Self::Sign => sign..sign + 1,
            Self::Exponent => mantissa..sign,
            Self::Mantissa => 0..mantissa,
        }
    }

    /// Whether a bit is of it; bits of what is no float never are.
    pub(crate) fn has(self, model: &Model, kv: KvKind, address: &Address) -> bool {
        let stored = float_type(model, kv, address);
        stored.is_some_and(|stored| self.bits(stored).contains(&address.bit()))
    }
}

/// The type of the float that a bit lies in, if it lies in one.
fn float_type(model: &Model, kv: KvKind, address: &Address) -> Option<FloatType> {
    match *address {
        Address::Code { layer, slot, .. } => match (Matrix::Linear { layer, slot }).grid(model) {
            Grid::Floats(stored) => Some(stored),
            _ => None,
        },
        Address::GroupScale { matrix, .. } => matrix.grid(model).scale_type(),
        Address::Byte { .. } => None,
        Address::Element { layer, slot, .. } => model.elements[&(layer, slot)].float_type(),
        Address::KvScale { .. } => Some(FloatType::F32),
        Address::Scale { layer, slot, .. } => {
            model.layers[layer].linear(slot).weights.tensor_scale().map(|(_, stored)| stored)
        }
        Address::Norm { layer, slot, .. } => Some(model.layers[layer].norm(slot)?.stored),
        Address::FinalNorm { .. } => Some(model.final_norm.stored),
        Address::Embedding { .. } => model.embedding.stored(),
        Address::Head { .. } => model.head.stored(),
        Address::Kv { .. } => match kv {
            KvKind::F32 => Some(FloatType::F32),
            KvKind::F16 => Some(FloatType::F16),
            KvKind::Int8 | KvKind::OneBit => None,
        },
    }
}

impl Within {
    /// Whether it leaves nothing out.
    #[must_use]
    pub fn is_all(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a tensor of a layer lies in it.
    #[must_use]
    pub fn has(&self, layer: usize, tensor: &str) -> bool {
        self.layers.as_ref().is_none_or(|layers| layers.contains(&layer))
            && self.tensors.as_ref().is_none_or(|names| names.iter().any(|name| name == tensor))
    }

    /// Whether a tensor of a space lies in it.
    pub(crate) fn has_tensor(&self, tensor: &Tensor) -> bool {
        let layer = |layers: &Vec<usize>| tensor.layer.is_some_and(|layer| layers.contains(&layer));
        self.layers.as_ref().is_none_or(layer)
            && self.tensors.as_ref().is_none_or(|names| names.contains(&tensor.name))
    }

    /// The numbers of a target's space that lie in it, in order and joined where they touch.
    pub(crate) fn reach(
        &self,
        (model, space, kv): (&Model, &Space, KvKind),
        target: Target,
        tokens: usize,
    ) -> Reach {
        let mut reach = Reach { ranges: Vec::new(), bits: 0 };
        for tensor in space.tensors(target, tokens) {
            let has = self.has_tensor(&tensor);
            let Range { start, end } = tensor.numbers;
            let mut stored = match target.kv() {
                None => end - start,
                Some(_) => (end - start) / steps(tokens as u64) * tokens as u64,
            };
            if let Some(part) = self.part {
                let float = float_type(model, kv, &space.address(target, tokens, start));
                let share = float.map(|float| (part.bits(float).len() as u64, float.bits()));
                stored = share.map_or(0, |(bits, of)| stored / u64::from(of) * bits);
            }
            if !(has && stored > 0) {
                continue;
            }
            reach.bits += stored;
            match reach.ranges.last_mut() {
                Some(last) if last.end == start => last.end = end,
                _ => reach.ranges.push(start..end),
            }
        }
        reach
    }
}

/// Numbers among which is drawn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reach {
    ranges: Vec<Range<u64>>,
    /// How many stored bits there are; of a store each is struck at any step from its token's on.
    pub(crate) bits: u64,
}

/// What the trials of a stratum draw with, on samples of one length.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Prepared {
    pub(crate) reach: Reach,
    /// How many flips fall, where that is drawn.
    pub(crate) poisson: Option<Poisson>,
    /// The words that it strikes, where they have a code.
    pub(crate) words: Option<Words>,
}

impl Reach {
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
            protection: Protection::None,
        };
        Self { strata: plan.targets.iter().map(stratum).collect(), plan }
    }

    /// What the trials of each stratum draw with, by number of tokens, in the space of one kind of
    /// store: that of the targets in it, and the plan's own for all others.
    pub(crate) fn prepared(
        &self,
        model: &Model,
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
                    let reach = stratum.within.reach((model, space, kv), stratum.target, tokens);
                    let words = Words::of(model, stratum.protection, &stratum.within);
                    let bits = stratum.stored_bits(&reach, words.as_ref());
                    let poisson = match stratum.pattern {
                        Pattern::Poisson { rate } => Some(Poisson::new(rate.mean(bits))),
                        _ => None,
                    };
                    Prepared { reach, poisson, words }
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
        self.trials_below(shard, self.plan.trials)
    }

    /// How many of the trials below a number a shard has.
    pub(crate) fn trials_below(&self, shard: Shard, trials: u64) -> u64 {
        let round = self.round();
        let (whole, rest) = (trials / round, trials % round);
        shard.share_of(whole) * round + if shard.has_round(whole) { rest } else { 0 }
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

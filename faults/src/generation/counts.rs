//! The texts of a campaign's trials, counted: by target, and by fault behind a memory code.
//!
//! Behind a code a trial has two texts: one of the bits as they were struck, as if there were no
//! code, and one of what its decoder left. The second is the clean one where the data are right
//! again; where a word was flagged no model runs, so there is none.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::{CleanText, Split};
use crate::campaign::Campaign;
use crate::ecc::Decoded;
use crate::record::Draw;
use crate::space::Target;

/// What the texts of some trials came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Generated {
    /// Trials.
    pub trials: u64,
    /// Those without a text, since a memory code flagged a word.
    pub flagged: u64,
    /// Those whose text is not the clean one.
    pub diverged: u64,
    /// Those of `diverged` that broke off.
    pub broken: u64,
    /// Those of `diverged` that [recovered](Split::recovered).
    pub recovered: u64,
    /// Places that differ, over all trials.
    pub different: u64,
    /// How many texts of `diverged` first differ at each place.
    pub first: BTreeMap<usize, u64>,
}

/// What came of the text of a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// There is none: a memory code flagged a word.
    Flagged,
    /// The clean one.
    Same,
    /// Another one.
    Other(Split),
}

impl From<Option<Split>> for Told {
    fn from(split: Option<Split>) -> Self {
        split.map_or(Self::Same, Self::Other)
    }
}

impl Generated {
    fn count(&mut self, told: Told) {
        self.trials += 1;
        self.flagged += u64::from(told == Told::Flagged);
        let Told::Other(split) = told else { return };
        self.diverged += 1;
        self.broken += u64::from(split.broken);
        self.recovered += u64::from(split.recovered);
        self.different += split.different as u64;
        *self.first.entry(split.first).or_default() += 1;
    }

    /// How many texts there are.
    #[must_use]
    pub fn texts(&self) -> u64 {
        self.trials - self.flagged
    }

    /// The median of the first places that differ, the lower of two; `None` without.
    #[must_use]
    pub fn median_first(&self) -> Option<usize> {
        let mut left = self.diverged.checked_sub(1)? / 2;
        for (&place, &texts) in &self.first {
            if left < texts {
                return Some(place);
            }
            left -= texts;
        }
        None
    }

    /// The mean number of places that differ, over the texts that do; `None` without.
    #[must_use]
    pub fn mean_different(&self) -> Option<f64> {
        (self.diverged > 0).then(|| self.different as f64 / self.diverged as f64)
    }
}

/// The texts of trials behind a memory code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guarded {
    /// Of the bits as they were struck.
    pub raw: Generated,
    /// Of what the decoder left.
    pub left: Generated,
}

/// The texts of some trials.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Texts {
    /// By target; behind a memory code, of what its decoder left.
    pub targets: BTreeMap<Target, Generated>,
    /// By stratum that has a memory code.
    pub guarded: BTreeMap<usize, Guarded>,
}

impl Texts {
    fn count(&mut self, (target, stratum): (Target, usize), raw: Option<Told>, left: Told) {
        self.targets.entry(target).or_default().count(left);
        if let Some(raw) = raw {
            let guarded = self.guarded.entry(stratum).or_default();
            guarded.raw.count(raw);
            guarded.left.count(left);
        }
    }
}

/// Generates the texts of some trials, in parallel, and counts them; `None` if `stop` said so,
/// which is asked before each. `done` is told after each whether the text of what the model reads
/// diverged.
///
/// # Panics
/// If [`super::check_generation`] refuses the campaign's samples.
#[must_use]
pub fn generated(
    campaign: &Campaign,
    trials: &[u64],
    tokens: usize,
    done: &(dyn Fn(bool) + Sync),
    stop: &(dyn Fn() -> bool + Sync),
) -> Option<Texts> {
    let (model, kernels, plan) = (campaign.model, campaign.kernels, campaign.plan());
    // Trials of one sample over one kind of store share the clean text.
    let mut groups: BTreeMap<(&str, usize), Vec<u64>> = BTreeMap::new();
    for &index in trials {
        let Draw { target, sample, .. } = campaign.draw(index);
        let kind = target.kv().unwrap_or(plan.kv);
        groups.entry((kind.name(), sample)).or_default().push(index);
    }
    let of_group = |((_, sample), group): ((&str, usize), Vec<u64>)| {
        let target = campaign.draw(group[0]).target;
        let clean = CleanText::new(model, kernels, campaign.golden(target, sample), tokens);
        let tell = |&index: &u64| {
            if stop() {
                return None;
            }
            let draw = campaign.draw(index);
            let (raw, left) = told(campaign, &clean, &draw);
            done(matches!(left, Told::Other(_)));
            Some(((draw.target, draw.stratum), raw, left))
        };
        group.par_iter().map(tell).collect::<Option<Vec<_>>>()
    };
    let groups: Option<Vec<_>> = groups.into_par_iter().map(of_group).collect();
    let mut texts = Texts::default();
    for (of, raw, left) in groups?.into_iter().flatten() {
        texts.count(of, raw, left);
    }
    Some(texts)
}

/// What came of the text of a trial: of the bits as they were struck, where a memory code stands
/// before the model, and of what the model reads.
fn told(campaign: &Campaign, clean: &CleanText, draw: &Draw) -> (Option<Told>, Told) {
    let unused = campaign.plan().unused;
    let mut texts = draw
        .runs()
        .into_iter()
        .map(|fault| Told::from(clean.split(campaign.model, campaign.kernels, fault, unused)));
    let first = texts.next().expect("a trial has a run");
    let Some(behind) = &draw.behind else { return (None, first) };
    let left = match behind.decoded {
        Decoded::Right => Told::Same,
        Decoded::Flagged => Told::Flagged,
        // What is passed on as it was struck has one run.
        Decoded::Wrong { .. } => texts.next().unwrap_or(first),
    };
    (Some(first), left)
}

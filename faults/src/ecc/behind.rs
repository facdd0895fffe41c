//! Trials of a campaign behind a memory code: what is struck, and what the decoder lets through.
//!
//! Models that draw every bit by itself, `random` and `poisson`, strike stored bits: those of the
//! codes in reach, and the check bits of all words of their tensors, each as likely as any other.
//! All other models ask where data lie or what they hold, and strike data bits alone: check bits
//! lie in cells of their own. Words are cut from the bytes of a tensor as its file has them: of
//! blocks with the scales between their codes, which a decoder that errs may flip.
//!
//! A trial is run as it was struck, as if there were no code, and again as the decoder left it: not
//! at all where the data are right or a word was flagged.

use std::collections::{BTreeMap, BTreeSet};

use engine::model::{Model, Slot};

use super::{Protection, ShieldTally};
use crate::address::Address;
use crate::draw::TrialRng;
use crate::fault::Fault;
use crate::matrix::Matrix;
use crate::mix::Within;
use crate::outcome::Outcome;
use crate::pattern::{Image, Pattern, Scene};

/// What came out of the decoders of all words that a trial struck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// The data are right.
    Right,
    /// A word was flagged: a detected fault, and no model runs.
    Flagged,
    /// Data are wrong, and nothing noticed.
    Wrong {
        /// Whether a decoder made some word worse, rather than pass on what was struck.
        miscorrected: bool,
    },
}

/// What a trial struck behind a memory code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Behind {
    /// The data bits.
    pub raw: Fault,
    /// The check bits: layer, tensor, and number among the stored bits of that.
    pub checks: Vec<(usize, Slot, u64)>,
    /// What the decoders made of them.
    pub decoded: Decoded,
}

/// The stored bits among which is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drawn {
    /// All of them.
    pub bits: u64,
    /// Those that are check bits.
    pub checks: u64,
}

/// Trials behind a memory code, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BehindTally {
    /// What the code and then the model made of them.
    pub shield: ShieldTally,
    /// Those that reached the model with a word that a decoder made worse.
    pub miscorrected: u64,
    /// Of the same flips without a code: the decision stayed.
    pub raw_masked: u64,
    /// The decision changed.
    pub raw_sdc: u64,
    /// The model's reader, or its read-out, noticed.
    pub raw_due: u64,
}

impl BehindTally {
    /// Adds a trial: what its decoders said, its outcome without a code, and with it.
    pub(crate) fn add(&mut self, decoded: Decoded, raw: Outcome, outcome: Outcome) {
        match raw {
            Outcome::Masked { .. } => self.raw_masked += 1,
            Outcome::Sdc => self.raw_sdc += 1,
            Outcome::Due(_) => self.raw_due += 1,
        }
        let one = match decoded {
            Decoded::Right => ShieldTally::harmless(),
            Decoded::Flagged => ShieldTally::detected(),
            Decoded::Wrong { .. } => ShieldTally::residual(outcome),
        };
        self.shield = self.shield.plus(one);
        self.miscorrected += u64::from(decoded == Decoded::Wrong { miscorrected: true });
    }
}

/// The protected tensors of a stratum.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Words {
    code: Protection,
    tensors: BTreeMap<(usize, Slot), Image>,
}

impl Words {
    /// The tensors of codes that lie in a part of a model; `None` without a code.
    pub(crate) fn of(model: &Model, code: Protection, within: &Within) -> Option<Self> {
        if code == Protection::None {
            return None;
        }
        let mut tensors = BTreeMap::new();
        for layer in 0..model.layers.len() {
            let has = |slot: &Slot| within.has(layer, slot.name());
            for slot in Slot::ALL.into_iter().filter(has) {
                if let Some(image) = Image::of_words(model, layer, slot) {
                    tensors.insert((layer, slot), image);
                }
            }
        }
        Some(Self { code, tensors })
    }

    /// Bytes of a tensor.
    fn bytes(image: &Image) -> usize {
        (image.bits() / 8) as usize
    }

    /// The check bits of a tensor.
    fn checks_of(&self, image: &Image) -> u64 {
        self.code.words(Self::bytes(image)) * self.code.check_bits()
    }

    /// The check bits that a model strikes beside data bits.
    pub(crate) fn checks(&self, pattern: &Pattern) -> u64 {
        match pattern {
            Pattern::Random { .. } | Pattern::Poisson { .. } => {
                self.tensors.values().map(|image| self.checks_of(image)).sum()
            }
            _ => 0,
        }
    }

    /// Draws a trial: what the model will compute with, and what was struck.
    pub(crate) fn strike(
        &self,
        pattern: &Pattern,
        scene: &Scene,
        rng: &mut TrialRng,
    ) -> (Fault, Behind) {
        let (data, checks) = self.draw(pattern, scene, rng);
        let mut struck: BTreeMap<(usize, Slot), BTreeSet<u64>> = BTreeMap::new();
        for address in &data {
            let Some(Matrix::Linear { layer, slot }) = address.matrix() else {
                panic!("a weight was struck")
            };
            let place = self.tensors[&(layer, slot)].place(address);
            struck.entry((layer, slot)).or_default().insert(place);
        }
        let checks: Vec<_> = checks.into_iter().map(|number| self.check(number)).collect();
        for &(layer, slot, number) in &checks {
            struck.entry((layer, slot)).or_default().insert(number);
        }
        let (mut left, mut flagged, mut miscorrected) = (Vec::new(), false, false);
        for (tensor, numbers) in struck {
            let image = &self.tensors[&tensor];
            let set = image.reader(scene.model);
            let residual = self.code.filter_stored(&numbers, Self::bytes(image), &set);
            flagged |= residual.is_detected();
            miscorrected |= residual.miscorrected > 0;
            left.extend(residual.flips.iter().map(|&place| image.address(place)));
        }
        let decoded = match (flagged, left.is_empty()) {
            (true, _) => Decoded::Flagged,
            (false, true) => Decoded::Right,
            (false, false) => Decoded::Wrong { miscorrected },
        };
        if flagged {
            left.clear();
        }
        let behind = Behind { raw: Fault::new(data), checks, decoded };
        (Fault::new(left), behind)
    }

    /// The data bits and the numbers of the check bits that are struck.
    fn draw(
        &self,
        pattern: &Pattern,
        scene: &Scene,
        rng: &mut TrialRng,
    ) -> (Vec<Address>, BTreeSet<u64>) {
        let (data, checks) = (scene.reach.count(), self.checks(pattern));
        let wanted = match pattern {
            Pattern::Random { flips } => u64::from(*flips),
            Pattern::Poisson { .. } => scene.fallen(rng).min(data + checks),
            _ => return (pattern.draw(scene, rng), BTreeSet::new()),
        };
        let mut drawn = BTreeSet::new();
        while (drawn.len() as u64) < wanted {
            drawn.insert(rng.below(data + checks));
        }
        let checks = drawn.split_off(&data).into_iter().map(|number| number - data).collect();
        let address =
            |number| scene.space.address(scene.target, scene.tokens, scene.reach.number(number));
        (drawn.into_iter().map(address).collect(), checks)
    }

    /// The tensor of a check bit, and its number among the stored bits of that.
    fn check(&self, mut number: u64) -> (usize, Slot, u64) {
        for (&(layer, slot), image) in &self.tensors {
            let checks = self.checks_of(image);
            if number < checks {
                return (layer, slot, image.bits() + number);
            }
            number -= checks;
        }
        panic!("a check bit beyond all tensors");
    }
}

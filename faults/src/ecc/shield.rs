//! Raw faults of a protected model: what its memory makes of them, and what the rest does.
//!
//! A raw fault strikes a stored bit, data or check, each equally likely, and its neighbours. Its
//! word is decoded first: what is flagged is detected (due) before any model runs, what is put
//! right is harmless, and only what is left, unnoticed, is a trial.
//!
//! Trial `i` draws from its own stream, in this order: the sample, the stored bit, then the other
//! places in its word, drawn again while drawn before. So it is a pure function of (identity, i).

use std::collections::{BTreeMap, BTreeSet};

use engine::kernels::Kernels;
use engine::model::{Model, Slot};
use engine::numerics::RateInterval;
use engine::numerics::special::smaller;
use rayon::prelude::*;

use super::{Fit, Protection, Residual, fault_of, fit_critical, tensor_bytes};
use crate::address::AddressError;
use crate::draw::{Identity, TrialRng};
use crate::fault::{Fault, UnusedCode};
use crate::golden::Golden;
use crate::matrix::{Grid, Matrix};
use crate::outcome::Outcome;
use crate::tally::Rate;
use crate::trial::run_trial;

/// The most sets of bits that are enumerated in a word.
const MOST_PATTERNS: u64 = 100_000;

/// How many sets of a few bits there are.
fn sets(bits: u64, few: u64) -> u64 {
    (0..few).fold(1, |sets, taken| sets * (bits - taken) / (taken + 1))
}

/// Which bits a raw fault strikes beside the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RawFault {
    /// So many bits in all, the others anywhere in the word; all of it where it has no more.
    InWord {
        /// Bits.
        flips: u32,
    },
    /// So many neighbours in the order of the numbers, fewer at the end of the data or of the
    /// check bits of a tensor. Data and check bits are apart, and words are not interleaved.
    Adjacent {
        /// Bits.
        flips: u32,
    },
}

impl RawFault {
    /// The name in reports, without its number.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::InWord { .. } => "in-word",
            Self::Adjacent { .. } => "adjacent",
        }
    }

    /// How many bits.
    #[must_use]
    pub fn flips(&self) -> u32 {
        match *self {
            Self::InWord { flips } | Self::Adjacent { flips } => flips,
        }
    }
}

/// What became of one raw fault.
#[derive(Clone, Debug, PartialEq)]
pub enum Shielded {
    /// The data are right.
    Harmless,
    /// The memory flagged it.
    Detected,
    /// It reached the model.
    Struck {
        /// The sample, by its number.
        sample: usize,
        /// What the model was struck by.
        fault: Fault,
        /// What came of it.
        outcome: Outcome,
    },
}

/// Raw faults, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShieldTally {
    /// Raw faults.
    pub trials: u64,
    /// Those after which the data were right.
    pub harmless: u64,
    /// Those that the memory flagged.
    pub detected: u64,
    /// Those that reached the model; the three below add up to them.
    pub residual: u64,
    /// The decision stayed.
    pub masked: u64,
    /// The decision changed.
    pub sdc: u64,
    /// The model's reader, or its read-out, noticed.
    pub due: u64,
}

impl ShieldTally {
    fn of(shielded: &Shielded) -> Self {
        match shielded {
            Shielded::Harmless => Self::harmless(),
            Shielded::Detected => Self::detected(),
            Shielded::Struck { outcome, .. } => Self::residual(*outcome),
        }
    }

    /// One after which the data were right.
    pub(super) fn harmless() -> Self {
        Self { trials: 1, harmless: 1, ..Self::default() }
    }

    /// One that the memory flagged.
    pub(super) fn detected() -> Self {
        Self { trials: 1, detected: 1, ..Self::default() }
    }

    /// One that reached the model.
    pub(super) fn residual(outcome: Outcome) -> Self {
        let mut one = Self { trials: 1, residual: 1, ..Self::default() };
        match outcome {
            Outcome::Masked { .. } => one.masked = 1,
            Outcome::Sdc => one.sdc = 1,
            Outcome::Due(_) => one.due = 1,
        }
        one
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            trials: self.trials + other.trials,
            harmless: self.harmless + other.harmless,
            detected: self.detected + other.detected,
            residual: self.residual + other.residual,
            masked: self.masked + other.masked,
            sdc: self.sdc + other.sdc,
            due: self.due + other.due,
        }
    }

    /// The share of raw faults that reach the model.
    #[must_use]
    pub fn residual_rate(&self, confidence: f64) -> Rate {
        Rate::of(self.residual, self.trials, confidence)
    }

    /// The share of those that change a decision: the parameter vulnerability factor.
    #[must_use]
    pub fn vulnerability(&self, confidence: f64) -> Rate {
        Rate::of(self.sdc, self.residual, confidence)
    }

    /// The rate of wrong answers of so many stored bits: the product of both shares. If that of
    /// residual faults is not known exactly, each has half of what the confidence leaves open.
    ///
    /// # Panics
    /// As [`fit_critical`].
    #[must_use]
    pub fn critical(
        &self,
        per_mbit: Fit,
        bits: u64,
        exact: Option<RateInterval>,
        confidence: f64,
    ) -> Fit {
        let each = if exact.is_some() { confidence } else { 0.5 + 0.5 * confidence };
        let residual = exact.unwrap_or_else(|| self.residual_rate(each).interval);
        fit_critical(per_mbit, bits, residual, self.vulnerability(each).interval)
    }
}

/// The packed weights of a model behind a protection.
#[derive(Debug)]
pub struct Shield<'a> {
    model: &'a Model,
    kernels: &'static Kernels,
    protection: Protection,
    raw: RawFault,
    unused: UnusedCode,
    tensors: Vec<Tensor>,
    /// Stored bits of all tensors.
    bits: u64,
}

#[derive(Debug)]
struct Tensor {
    layer: usize,
    slot: Slot,
    bytes: Vec<u8>,
    /// Its first stored bit among those of all.
    start: u64,
}

/// Whether a layer is held in codes or blocks.
fn is_packed(model: &Model, layer: usize, slot: Slot) -> bool {
    let grid = (Matrix::Linear { layer, slot }).grid(model);
    matches!(grid, Grid::Codes { .. } | Grid::Blocks { .. })
}

impl<'a> Shield<'a> {
    /// All packed weights of a model, in the order of layers; of blocks their scales too.
    ///
    /// # Errors
    /// If the layout does not hold the shape of one; see [`tensor_bytes`].
    ///
    /// # Panics
    /// If a raw fault strikes nothing.
    pub fn new(
        model: &'a Model,
        kernels: &'static Kernels,
        protection: Protection,
        raw: RawFault,
        unused: UnusedCode,
    ) -> Result<Self, AddressError> {
        assert!(raw.flips() > 0, "a raw fault strikes 0 bits");
        let (mut tensors, mut bits) = (Vec::new(), 0);
        for layer in 0..model.layers.len() {
            for slot in Slot::ALL {
                if is_packed(model, layer, slot) {
                    let bytes = tensor_bytes(model, layer, slot)?;
                    let start = bits;
                    bits += protection.stored_bits(bytes.len());
                    tensors.push(Tensor { layer, slot, bytes, start });
                }
            }
        }
        Ok(Self { model, kernels, protection, raw, unused, tensors, bits })
    }

    /// The stored bits that raw faults strike, check bits included.
    #[must_use]
    pub fn bits(&self) -> u64 {
        self.bits
    }

    /// The share of raw faults that reach the model, by enumeration: of every set of bits in a
    /// word, in each tensor's full words and in its last one. `None` where that is more than
    /// 100,000 sets, where neighbours are struck, where words are no whole bytes, and for the
    /// checksum, to which the data matter. Its ends differ by rounding alone, and are 0 where
    /// nothing can pass.
    #[must_use]
    pub fn exact_residual(&self) -> Option<Rate> {
        let RawFault::InWord { flips } = self.raw else { return None };
        let whole = self.protection.data_bits().is_multiple_of(8);
        let linear = !matches!(self.protection, Protection::Checksum { .. });
        if flips > 3 || self.bits == 0 || !whole || !linear {
            return None;
        }
        let (mut share, mut all) = (0.0, true);
        // By the bits of a word: most words are alike.
        let mut words: BTreeMap<u64, u64> = BTreeMap::new();
        for tensor in &self.tensors {
            let (data, word) = (8 * tensor.bytes.len() as u64, self.protection.data_bits());
            *words.entry(word).or_default() += data / word;
            *words.entry(data % word).or_default() += u64::from(data % word > 0);
        }
        for (data, number) in words.into_iter().filter(|(_, number)| *number > 0) {
            let stored = data + self.protection.check_bits();
            let struck = stored.min(flips.into());
            if sets(stored, struck) > MOST_PATTERNS {
                return None;
            }
            let census = self.protection.census(&vec![0; (data / 8) as usize], struck as usize);
            all &= census.silent() == census.patterns;
            let silent = census.silent() as f64 / census.patterns as f64;
            share += silent * ((number * stored) as f64 / self.bits as f64);
        }
        if all {
            return Some(Rate { share: 1.0, interval: RateInterval { low: 1.0, high: 1.0 } });
        }
        let slack = 16.0 * f64::EPSILON;
        let (low, high) = (share * (1.0 - slack), smaller(share * (1.0 + slack), 1.0));
        Some(Rate { share, interval: RateInterval { low, high } })
    }

    /// Runs raw fault `index` on one of some clean runs.
    ///
    /// # Panics
    /// If there are no packed weights, or no clean runs.
    #[must_use]
    pub fn trial(&self, identity: &Identity, goldens: &[Golden], index: u64) -> Shielded {
        let mut rng = TrialRng::new(identity, index);
        let sample = rng.below(goldens.len() as u64) as usize;
        let number = rng.below(self.bits);
        let tensor = &self.tensors[self.tensors.partition_point(|t| t.start <= number) - 1];
        let raw = self.spread(tensor, number - tensor.start, &mut rng);
        let residual = self.protection.filter(&raw, &tensor.bytes);
        if residual.is_detected() {
            return Shielded::Detected;
        }
        let Residual { flips, .. } = residual;
        if flips.is_empty() {
            return Shielded::Harmless;
        }
        let fault = fault_of(self.model, tensor.layer, tensor.slot, &flips).expect("stored bits");
        let golden = &goldens[sample];
        let trial = run_trial(self.model, self.kernels, golden, &fault, self.unused);
        Shielded::Struck { sample, fault, outcome: trial.outcome }
    }

    /// The stored bits of a tensor that a raw fault strikes.
    fn spread(&self, tensor: &Tensor, first: u64, rng: &mut TrialRng) -> BTreeSet<u64> {
        let (code, length) = (self.protection, tensor.bytes.len());
        let mut struck = BTreeSet::from([first]);
        match self.raw {
            RawFault::Adjacent { flips } => {
                let data = 8 * length as u64;
                let end = if first < data { data } else { code.stored_bits(length) };
                struck.extend(first..end.min(first + u64::from(flips)));
            }
            RawFault::InWord { flips } => {
                let (word, _) = code.place(length, first);
                let places = 0..code.data_bits() + code.check_bits();
                let all: Vec<u64> =
                    places.filter_map(|place| code.number(length, (word, place))).collect();
                while struck.len() < all.len().min(flips as usize) {
                    struck.insert(all[rng.below(all.len() as u64) as usize]);
                }
            }
        }
        struck
    }

    /// Runs raw faults 0 to `trials`, less one.
    ///
    /// # Panics
    /// As [`Self::trial`].
    #[must_use]
    pub fn run(&self, identity: &Identity, goldens: &[Golden], trials: u64) -> ShieldTally {
        let one = |index| ShieldTally::of(&self.trial(identity, goldens, index));
        // Counts add up to the same in any order.
        (0..trials).into_par_iter().map(one).reduce(ShieldTally::default, ShieldTally::plus)
    }
}

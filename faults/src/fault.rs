//! A fault: the bits that flip together in one trial.

use std::collections::BTreeSet;
use std::fmt;

use engine::model::{KvKind, Model, Weights};
use engine::packing::{TernaryRows, UNUSED_CODE};

use crate::address::{Address, AddressError};

/// What a reader of 2-bit codes does with the unused code 3 when a flip has made one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UnusedCode {
    /// It computes with +2, as today's readers do.
    Deployed,
    /// It takes the weight for 0.
    Zero,
    /// It notices: the outcome is a detected fault.
    Detect,
}

impl UnusedCode {
    /// The name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Deployed => "deployed",
            Self::Zero => "zero",
            Self::Detect => "detect",
        }
    }

    /// The policy of a name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Deployed, Self::Zero, Self::Detect].into_iter().find(|p| p.name() == name)
    }
}

/// Bits that flip together; a set, in the order of their addresses.
///
/// The same stored bit of a key-value store may be in it at two steps: it then flips and flips
/// back.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fault {
    flips: BTreeSet<Address>,
}

impl Fault {
    /// The fault of some bits.
    #[must_use]
    pub fn new(flips: impl IntoIterator<Item = Address>) -> Self {
        Self { flips: flips.into_iter().collect() }
    }

    /// The fault of one bit.
    #[must_use]
    pub fn single(flip: Address) -> Self {
        Self::new([flip])
    }

    /// The bits, in the order of their addresses.
    pub fn flips(&self) -> impl ExactSizeIterator<Item = &Address> {
        self.flips.iter()
    }

    /// Checks that every bit exists.
    ///
    /// # Errors
    /// The first that does not; see [`Address::check`].
    pub fn check(&self, model: &Model, kv: KvKind, tokens: usize) -> Result<(), AddressError> {
        self.flips.iter().try_for_each(|flip| flip.check(model, kv, tokens))
    }

    /// Whether a 2-bit code that another one was becomes the unused one: what a checking reader
    /// sees.
    ///
    /// # Panics
    /// If a code does not exist; see [`Self::check`].
    #[must_use]
    pub fn makes_unused_code(&self, model: &Model) -> bool {
        self.flips.iter().any(|flip| {
            let Address::Code { layer, slot, row, column, .. } = *flip else { return false };
            let rows = ternary(&model.layers[layer].linear(slot).weights);
            let before = rows.code(row, column);
            let mask = [0u8, 1].into_iter().fold(0, |mask, bit| {
                let other = Address::Code { layer, slot, row, column, bit };
                mask | u8::from(self.flips.contains(&other)) << bit
            });
            before != UNUSED_CODE && before ^ mask == UNUSED_CODE
        })
    }
}

impl fmt::Display for Fault {
    /// The addresses, separated by single spaces.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, flip) in self.flips.iter().enumerate() {
            write!(f, "{}{flip}", if index == 0 { "" } else { " " })?;
        }
        Ok(())
    }
}

/// The codes of a layer that a checked code address lies in.
pub(crate) fn ternary(weights: &Weights) -> &TernaryRows {
    match weights {
        Weights::Ternary { rows, .. } => rows,
        Weights::Coded(_) | Weights::Dense(_) => panic!("the address of a code was not checked"),
    }
}

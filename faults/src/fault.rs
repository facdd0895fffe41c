//! A fault: the bits that flip together in one trial.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use engine::model::{KvKind, Model, Slot, Weights, code_of};
use engine::packing::UNUSED_CODE;

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

    /// The bits of elements that flip: by layer, row and column a mask.
    fn elements(&self) -> BTreeMap<(usize, Slot), BTreeMap<usize, BTreeMap<usize, u32>>> {
        let mut masks: BTreeMap<_, BTreeMap<_, BTreeMap<_, _>>> = BTreeMap::new();
        for flip in &self.flips {
            let Address::Element { layer, slot, row, column, bit } = *flip else { continue };
            let row = masks.entry((layer, slot)).or_default().entry(row).or_default();
            *row.entry(column).or_insert(0) ^= 1 << bit;
        }
        masks
    }

    /// Whether a load refuses an element, which must be -1, 0 or 1, for what it becomes.
    ///
    /// # Panics
    /// If an element does not exist; see [`Self::check`].
    #[must_use]
    pub fn is_refused(&self, model: &Model) -> bool {
        self.elements().iter().any(|(site, rows)| {
            let elements = &model.elements[site];
            let bad = |row, (&column, &mask): (&usize, &u32)| {
                code_of(elements.value(row, column, mask)).is_none()
            };
            elements.is_exact()
                && rows.iter().any(|(&row, flips)| flips.iter().any(|f| bad(row, f)))
        })
    }

    /// Whether a 2-bit code that another one was becomes the unused one: what a checking reader
    /// sees. Where elements flip too, it was what a load makes of them.
    ///
    /// # Panics
    /// If a code or an element does not exist; see [`Self::check`].
    #[must_use]
    pub fn makes_unused_code(&self, model: &Model) -> bool {
        let code = |layer: usize, slot, row, column| {
            two_bits(&model.layers[layer].linear(slot).weights, row, column)
        };
        let coded = |site| {
            let of = |flip: &Address| match *flip {
                Address::Code { layer, slot, .. } => (layer, slot) == site,
                _ => false,
            };
            self.flips.iter().any(of)
        };
        let made: BTreeMap<_, _> = (self.elements().into_iter())
            .filter(|&(site, _)| coded(site))
            .filter_map(|((layer, slot), flips)| {
                let columns = model.layers[layer].linear(slot).inputs();
                let codes = |row| {
                    (0..columns)
                        .map(|column| code(layer, slot, row, column).expect("codes"))
                        .collect()
                };
                Some(((layer, slot), model.elements[&(layer, slot)].struck(codes, &flips)?))
            })
            .collect();
        self.flips.iter().any(|flip| {
            let Address::Code { layer, slot, row, column, .. } = *flip else { return false };
            let other = made.get(&(layer, slot)).and_then(|made| made.rows.get(&row));
            let before =
                other.map_or_else(|| code(layer, slot, row, column), |row| Some(row[column]));
            let Some(before) = before else { return false };
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

/// The two-bit code of a weight; `None` where its code has another number of bits.
pub(crate) fn two_bits(weights: &Weights, row: usize, column: usize) -> Option<u8> {
    if let Some(shape) = weights.block_shape() {
        let low = (shape.kind.code_bits() == 2).then(|| shape.code(column, 0))?;
        return Some(weights.block_row(row)[low.byte] >> low.bit & 3);
    }
    match weights {
        Weights::Ternary { rows, .. } => Some(rows.code(row, column)),
        Weights::Coded(coded) if coded.file().is_some() => {
            Some((coded.rows().row(row)[column] + 1) as u8)
        }
        Weights::Coded(_) | Weights::Dense(_) => None,
    }
}

//! Where bits lie: the stored bits of a tensor as one line, in the order of its bytes in the file,
//! the lowest bit of a byte first.
//!
//! | tensor | line |
//! |---|---|
//! | 2-bit codes | the Hugging Face layout: four quarter planes of rows in one byte |
//! | scale, norm, embedding, head | value by value, little-endian |
//! | keys or values of a layer | token, head, dimension, bit; up to the token of the step |
//!
//! Invariant: [`Image::place`] and [`Image::address`] are inverse to each other.

use engine::model::{Float, KvKind, KvPlace, Model, NormSlot, Side, Slot, Weights};
use engine::packing::{BitPlace, Layout};

use crate::address::{Address, layout};

/// The stored bits of one tensor, or of the keys or values of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Image {
    kind: Kind,
    bits: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Codes { layer: usize, slot: Slot, layout: Layout },
    Scale { layer: usize, slot: Slot },
    Norm { layer: usize, slot: NormSlot, width: u64 },
    FinalNorm { width: u64 },
    Embedding { columns: u64, width: u64 },
    Head { columns: u64, width: u64 },
    Store { layer: usize, side: Side, heads: u64, dims: u64, width: u64, step: usize },
}

impl Image {
    /// The tensor that a bit lies in; `None` if its codes are not held in the layout of the file.
    ///
    /// # Panics
    /// If the bit does not exist; see [`Address::check`].
    #[must_use]
    pub fn of(model: &Model, kv: KvKind, address: &Address) -> Option<Self> {
        let matrix = |matrix: &Float| {
            let stored = matrix.stored().expect("a checked value");
            let width = u64::from(stored.bits());
            let columns = matrix.columns() as u64;
            (columns, width, matrix.rows() as u64 * columns * width)
        };
        let (kind, bits) = match *address {
            Address::Code { layer, slot, .. } => return Self::of_codes(model, layer, slot),
            Address::Scale { layer, slot, .. } => {
                let Weights::Ternary { stored: Some(stored), .. } =
                    &model.layers[layer].linear(slot).weights
                else {
                    panic!("the address of a scale was not checked");
                };
                (Kind::Scale { layer, slot }, stored.bits().into())
            }
            Address::Norm { layer, slot, .. } => {
                let norm = model.layers[layer].norm(slot).expect("a checked norm");
                let width = u64::from(norm.stored.bits());
                (Kind::Norm { layer, slot, width }, norm.gains.len() as u64 * width)
            }
            Address::FinalNorm { .. } => {
                let width = u64::from(model.final_norm.stored.bits());
                (Kind::FinalNorm { width }, model.final_norm.gains.len() as u64 * width)
            }
            Address::Embedding { .. } => {
                let (columns, width, bits) = matrix(&model.embedding);
                (Kind::Embedding { columns, width }, bits)
            }
            Address::Head { .. } => {
                let (columns, width, bits) = matrix(&model.head);
                (Kind::Head { columns, width }, bits)
            }
            Address::Kv { layer, side, step, .. } => {
                let (heads, dims) = (model.config.kv_heads as u64, model.config.head_dim as u64);
                let width = u64::from(kv.entry_bits());
                let bits = (step as u64 + 1) * heads * dims * width;
                (Kind::Store { layer, side, heads, dims, width, step }, bits)
            }
        };
        Some(Self { kind, bits })
    }

    /// The codes of a layer; `None` if they are not held in the layout of the file.
    pub(crate) fn of_codes(model: &Model, layer: usize, slot: Slot) -> Option<Self> {
        let layout = layout(&model.layers[layer].linear(slot).weights).filter(Layout::is_flat)?;
        Some(Self { kind: Kind::Codes { layer, slot, layout }, bits: 8 * layout.bytes() as u64 })
    }

    /// How many bits it has.
    #[must_use]
    pub fn bits(&self) -> u64 {
        self.bits
    }

    /// The place of a bit of this tensor.
    ///
    /// # Panics
    /// If the bit is of another kind of tensor.
    #[must_use]
    pub fn place(&self, address: &Address) -> u64 {
        match (self.kind, *address) {
            (Kind::Codes { layout, .. }, Address::Code { row, column, bit, .. }) => {
                let BitPlace { byte, bit } =
                    layout.locate(row, column, bit).expect("a code of its own bits");
                8 * byte as u64 + u64::from(bit)
            }
            (Kind::Scale { .. }, Address::Scale { bit, .. }) => bit.into(),
            (Kind::Norm { width, .. }, Address::Norm { index, bit, .. })
            | (Kind::FinalNorm { width }, Address::FinalNorm { index, bit }) => {
                index as u64 * width + u64::from(bit)
            }
            (Kind::Embedding { columns, width }, Address::Embedding { row, column, bit })
            | (Kind::Head { columns, width }, Address::Head { row, column, bit }) => {
                (row as u64 * columns + column as u64) * width + u64::from(bit)
            }
            (Kind::Store { heads, dims, width, .. }, Address::Kv { place, bit, .. }) => {
                let entry = (place.token as u64 * heads + place.head as u64) * dims;
                (entry + place.dim as u64) * width + u64::from(bit)
            }
            _ => panic!("{address} does not lie in this tensor"),
        }
    }

    /// The bit at a place.
    ///
    /// # Panics
    /// Unless the place is below [`Self::bits`].
    #[must_use]
    pub fn address(&self, place: u64) -> Address {
        assert!(place < self.bits, "{place} is no place of this tensor");
        let split = |width: u64| ((place / width) as usize, (place % width) as u8);
        match self.kind {
            Kind::Codes { layer, slot, layout } => {
                let (byte, bit) = split(8);
                let (row, column, bit) =
                    layout.invert(BitPlace { byte, bit }).expect("only codes in a flat layout");
                Address::Code { layer, slot, row, column, bit }
            }
            Kind::Scale { layer, slot } => Address::Scale { layer, slot, bit: place as u8 },
            Kind::Norm { layer, slot, width } => {
                let (index, bit) = split(width);
                Address::Norm { layer, slot, index, bit }
            }
            Kind::FinalNorm { width } => {
                let (index, bit) = split(width);
                Address::FinalNorm { index, bit }
            }
            Kind::Embedding { columns, width } => {
                let ((index, bit), columns) = (split(width), columns as usize);
                Address::Embedding { row: index / columns, column: index % columns, bit }
            }
            Kind::Head { columns, width } => {
                let ((index, bit), columns) = (split(width), columns as usize);
                Address::Head { row: index / columns, column: index % columns, bit }
            }
            Kind::Store { layer, side, heads, dims, width, step } => {
                let (index, bit) = split(width);
                let (heads, dims) = (heads as usize, dims as usize);
                let place = KvPlace {
                    token: index / dims / heads,
                    head: index / dims % heads,
                    dim: index % dims,
                };
                Address::Kv { layer, side, place, bit, step }
            }
        }
    }
}

/// Whether a stored bit is set.
///
/// # Panics
/// For a bit of the key-value store, which holds nothing before it is run; or of a weight that does
/// not exist.
pub(crate) fn holds(model: &Model, address: &Address) -> bool {
    let entry = |matrix: &Float, row: usize, column: usize| match matrix {
        Float::F32 { data, columns } => data[row * columns + column].to_bits(),
        Float::F16 { data, columns } | Float::Bf16 { data, columns } => {
            data[row * columns + column].into()
        }
        Float::Blocks { .. } => panic!("the address of a value was not checked"),
    };
    let (stored, bit) = match *address {
        Address::Code { layer, slot, row, column, bit } => {
            let codes = crate::fault::ternary(&model.layers[layer].linear(slot).weights);
            (codes.code(row, column).into(), bit)
        }
        Address::Scale { layer, slot, bit } => {
            let Weights::Ternary { scale, stored: Some(stored), .. } =
                &model.layers[layer].linear(slot).weights
            else {
                panic!("the address of a scale was not checked");
            };
            (stored.stored_bits(scale.stored()), bit)
        }
        Address::Norm { layer, slot, index, bit } => {
            let norm = model.layers[layer].norm(slot).expect("a checked norm");
            (norm.stored.stored_bits(norm.gains[index]), bit)
        }
        Address::FinalNorm { index, bit } => {
            (model.final_norm.stored.stored_bits(model.final_norm.gains[index]), bit)
        }
        Address::Embedding { row, column, bit } => (entry(&model.embedding, row, column), bit),
        Address::Head { row, column, bit } => (entry(&model.head, row, column), bit),
        Address::Kv { .. } => panic!("a store holds nothing before it is run"),
    };
    stored >> bit & 1 == 1
}

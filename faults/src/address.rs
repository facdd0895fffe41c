//! Names of bits: what a report prints, what `flip --bit` reads, and what a fault is made of.
//!
//! A logical address names a bit by its meaning, so it is the same in every file format:
//!
//! ```text
//! model.layers.3.mlp.down_proj.weight[17,233].1        code or float of [row,column], low bit = 0
//! model.layers.3.mlp.down_proj.weight_scale.14         the scale of the tensor
//! model.layers.3.mlp.down_proj.weight_scale[17,2].14   the scale of a block of a row, or of a row
//! model.layers.3.mlp.down_proj.weight_scale[0,0].14    the one behind all codes, beside the first
//! model.layers.3.mlp.down_proj.weight@0x1a2f.5         a bit of a byte that five trits share
//! model.layers.3.mlp.down_proj.weight_element[17,233].30   of which the code is made at load
//! model.layers.3.input_layernorm.weight[5].30
//! model.norm.weight[5].2
//! model.embed_tokens.weight[17,5].7
//! lm_head.weight[3,4].9
//! kv.layers.3.key[token=17,head=2,dim=5].14@20         strikes at step 20; without @: at its own
//! kv.layers.3.key_scale[token=17,head=2].30@20         the scale of int8 codes or signs
//! ```
//!
//! Invariant: printing and reading are inverse (see `parse`). Bits of floats are those of the type
//! in which the file stores them, lowest = 0.

use engine::model::{KvKind, KvPlace, Model, NormSlot, Side, Slot};
use engine::packing::BitPlace;

use crate::matrix::{Grid, Matrix};
use crate::space::Target;

/// The logical address of one bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// A bit of a weight of a linear layer: of its code, or of its float.
    Code {
        /// The block.
        layer: usize,
        /// The linear layer in it.
        slot: Slot,
        /// The output.
        row: usize,
        /// The input.
        column: usize,
        /// Within the code or the stored type.
        bit: u8,
    },
    /// A bit of the stored scale of a tensor.
    Scale {
        /// The block.
        layer: usize,
        /// The linear layer in it.
        slot: Slot,
        /// Within the stored type.
        bit: u8,
    },
    /// A bit of a gain of a norm within a block.
    Norm {
        /// The block.
        layer: usize,
        /// The norm in it; never [`NormSlot::Final`], which has its own variant.
        slot: NormSlot,
        /// The feature.
        index: usize,
        /// Within the stored type.
        bit: u8,
    },
    /// A bit of a gain of the norm before the head.
    FinalNorm {
        /// The feature.
        index: usize,
        /// Within the stored type.
        bit: u8,
    },
    /// A bit of the embedding; where the model is tied, of the head too.
    Embedding {
        /// The token.
        row: usize,
        /// The feature.
        column: usize,
        /// Within the stored type.
        bit: u8,
    },
    /// A bit of an untied head.
    Head {
        /// The token.
        row: usize,
        /// The feature.
        column: usize,
        /// Within the stored type.
        bit: u8,
    },
    /// A bit of the key-value store.
    Kv {
        /// The block.
        layer: usize,
        /// Keys or values.
        side: Side,
        /// The entry.
        place: KvPlace,
        /// Within the storage type.
        bit: u8,
        /// The position whose query is the first to see the flipped bit; not before the token.
        step: usize,
    },
    /// A bit of the scale of a block of weights, or of a row of them.
    GroupScale {
        /// The matrix.
        matrix: Matrix,
        /// The output, or token.
        row: usize,
        /// The block within the row; 0 where a row has one scale.
        group: usize,
        /// Within the stored scale; where it has factors too, those behind it.
        bit: u8,
    },
    /// A bit of a byte that holds trits of up to five weights.
    Byte {
        /// The matrix.
        matrix: Matrix,
        /// The byte within the tensor of the file.
        byte: usize,
        /// The bit of the byte.
        bit: u8,
    },
    /// A bit of an element of a file, a master or a code that is written as a number, of which a
    /// code is made at load.
    Element {
        /// The block.
        layer: usize,
        /// The linear layer in it.
        slot: Slot,
        /// The output.
        row: usize,
        /// The input.
        column: usize,
        /// Within the stored type.
        bit: u8,
    },
    /// A bit of the scale of the codes of one token and head in the key-value store.
    KvScale {
        /// The block.
        layer: usize,
        /// Of keys or values.
        side: Side,
        /// The token.
        token: usize,
        /// The key-value head.
        head: usize,
        /// Within an f32.
        bit: u8,
        /// The position whose query is the first to see the flipped bit; not before the token.
        step: usize,
    },
}

/// The physical address of one bit of a matrix: a byte of its tensor and a bit of that byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PhysicalAddress {
    /// The matrix.
    pub matrix: Matrix,
    /// The bit within the tensor, in the layout of its file.
    pub place: BitPlace,
}

/// An address as a user types it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AnyAddress {
    /// By meaning.
    Logical(Address),
    /// By byte.
    Physical(PhysicalAddress),
}

/// Why an address names no bit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// The text is not an address.
    #[error("'{text}' is not the address of a bit: expected {expected} at '{found}' (byte {at})")]
    Syntax {
        /// The text.
        text: String,
        /// Where it stops making sense, in bytes.
        at: usize,
        /// What stands there.
        found: String,
        /// What would do.
        expected: String,
    },
    /// A number lies outside the model or the sample.
    #[error("{address} does not exist: {field} = {got}, expected less than {limit}")]
    Outside {
        /// The address.
        address: String,
        /// Which number.
        field: &'static str,
        /// What it is.
        got: usize,
        /// The first number that is too large.
        limit: usize,
    },
    /// The model has no such tensor, or has it in a form without such bits.
    #[error("{address} does not exist: {why}")]
    Absent {
        /// The address.
        address: String,
        /// Why not.
        why: &'static str,
    },
}

impl Address {
    /// The kind of bit, in a model and given how keys and values are stored.
    ///
    /// # Panics
    /// If the model has no such layer.
    #[must_use]
    pub fn target(&self, model: &Model, kv: KvKind) -> Target {
        match *self {
            Self::Code { layer, slot, .. } => match (Matrix::Linear { layer, slot }).grid(model) {
                Grid::Floats(_) => Target::WeightFloat,
                _ => Target::WeightCode,
            },
            _ => *self.targets(kv).first().expect("scales beside codes or signs"),
        }
    }

    /// The kinds of bits that it may be, whatever the model is.
    pub(crate) fn targets(&self, kv: KvKind) -> &'static [Target] {
        const LINEAR: &[Target] = &[Target::WeightCode, Target::WeightFloat];
        match *self {
            Self::Code { .. } => LINEAR,
            Self::GroupScale { matrix, .. } | Self::Byte { matrix, .. } => match matrix {
                Matrix::Embedding => &[Target::Embedding],
                Matrix::Head => &[Target::LmHead],
                Matrix::Linear { .. } if matches!(self, Self::Byte { .. }) => &LINEAR[..1],
                Matrix::Linear { .. } => &[Target::WeightScale],
            },
            Self::Scale { .. } => &[Target::WeightScale],
            Self::Element { .. } => &LINEAR[1..],
            Self::Norm { .. } | Self::FinalNorm { .. } => &[Target::Norm],
            Self::Embedding { .. } => &[Target::Embedding],
            Self::Head { .. } => &[Target::LmHead],
            Self::Kv { .. } => match kv {
                KvKind::F32 => &[Target::KvF32],
                KvKind::F16 => &[Target::KvF16],
                KvKind::Int8 => &[Target::KvInt8],
                KvKind::OneBit => &[Target::KvOneBit],
            },
            Self::KvScale { .. } => match kv {
                KvKind::Int8 => &[Target::KvInt8Scale],
                KvKind::OneBit => &[Target::KvOneBitScale],
                KvKind::F32 | KvKind::F16 => &[],
            },
        }
    }

    /// The block in which the bit lies; `None` for the embedding, the final norm and the head.
    #[must_use]
    pub fn layer(&self) -> Option<usize> {
        match *self {
            Self::Code { layer, .. }
            | Self::Scale { layer, .. }
            | Self::Element { layer, .. }
            | Self::Norm { layer, .. }
            | Self::Kv { layer, .. }
            | Self::KvScale { layer, .. } => Some(layer),
            Self::GroupScale { matrix, .. } | Self::Byte { matrix, .. } => matrix.layer(),
            Self::FinalNorm { .. } | Self::Embedding { .. } | Self::Head { .. } => None,
        }
    }

    /// The number of the bit within its code or stored value, lowest = 0.
    #[must_use]
    pub fn bit(&self) -> u8 {
        match *self {
            Self::Code { bit, .. }
            | Self::Scale { bit, .. }
            | Self::Norm { bit, .. }
            | Self::FinalNorm { bit, .. }
            | Self::Embedding { bit, .. }
            | Self::Head { bit, .. }
            | Self::Kv { bit, .. }
            | Self::GroupScale { bit, .. }
            | Self::Byte { bit, .. }
            | Self::Element { bit, .. }
            | Self::KvScale { bit, .. } => bit,
        }
    }

    /// The same address without the step at which it strikes: equal for equal stored bits.
    #[must_use]
    pub fn storage(mut self) -> Self {
        match &mut self {
            Self::Kv { place, step, .. } => *step = place.token,
            Self::KvScale { token, step, .. } => *step = *token,
            _ => {}
        }
        self
    }
}

impl AnyAddress {
    /// The logical address, with the physical form translated through the shape of the model.
    ///
    /// # Errors
    /// If a physical place does not exist. A logical address is returned as it is; see
    /// [`Address::check`].
    pub fn resolve(&self, model: &Model) -> Result<Address, AddressError> {
        match self {
            Self::Logical(address) => Ok(*address),
            Self::Physical(physical) => physical.logical(model),
        }
    }
}

//! Names of bits: what a report prints, what `flip --bit` reads, and what a fault is made of.
//!
//! A logical address names a bit by its meaning, so it is the same in every file format:
//!
//! ```text
//! model.layers.3.mlp.down_proj.weight[17,233].1        2-bit code of [row,column], low bit = 0
//! model.layers.3.mlp.down_proj.weight_scale.14
//! model.layers.3.input_layernorm.weight[5].30
//! model.norm.weight[5].2
//! model.embed_tokens.weight[17,5].7
//! lm_head.weight[3,4].9
//! kv.layers.3.key[token=17,head=2,dim=5].14@20         strikes at step 20; without @: at its own
//! ```
//!
//! Invariant: printing and reading are inverse (see `parse`). Bits of floats are those of the type
//! in which the file stores them, lowest = 0.

use engine::model::{KvKind, KvPlace, Linear, Model, Norm, NormSlot, Side, Slot, Weights};
use engine::packing::{BitPlace, Layout};

use crate::space::Target;

/// The logical address of one bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// A bit of the 2-bit code of a ternary weight in the deployed packing.
    Code {
        /// The block.
        layer: usize,
        /// The linear layer in it.
        slot: Slot,
        /// The output.
        row: usize,
        /// The input.
        column: usize,
        /// 0 or 1.
        bit: u8,
    },
    /// A bit of the stored scale of a ternary tensor.
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
}

/// The physical address of one bit of a packed weight: a byte of its tensor and a bit of that byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PhysicalAddress {
    /// The block.
    pub layer: usize,
    /// The linear layer in it.
    pub slot: Slot,
    /// The bit within the tensor in the Hugging Face layout.
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

const NO_CODES: &str =
    "the weights of this layer are not stored as 2-bit codes; only those are addressed";
const CODED_HEAD: &str =
    "the head is multiplied as codes that are made at load (head=int8), which no bit of a file is";
const NO_SCALE: &str = "the scale of this layer has no bits of its own in the file";
const NO_VALUES: &str = "the values of this matrix have no bits of their own, they share blocks";
const NO_CODE_THERE: &str = "this bit belongs to a scale between the codes";
const NO_NORM: &str = "the model has no norm at this place";
const TIED: &str = "head and embedding are one tensor; name it model.embed_tokens.weight";
const NO_QUARTERS: &str = "the packed layout needs a number of rows that four divides";

impl Address {
    /// The kind of bit, given how keys and values are stored.
    #[must_use]
    pub fn target(&self, kv: KvKind) -> Target {
        match self {
            Self::Code { .. } => Target::WeightCode,
            Self::Scale { .. } => Target::WeightScale,
            Self::Norm { .. } | Self::FinalNorm { .. } => Target::Norm,
            Self::Embedding { .. } => Target::Embedding,
            Self::Head { .. } => Target::LmHead,
            Self::Kv { .. } => Target::of_kv(kv),
        }
    }

    /// The block in which the bit lies; `None` for the embedding, the final norm and the head.
    #[must_use]
    pub fn layer(&self) -> Option<usize> {
        match *self {
            Self::Code { layer, .. }
            | Self::Scale { layer, .. }
            | Self::Norm { layer, .. }
            | Self::Kv { layer, .. } => Some(layer),
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
            | Self::Kv { bit, .. } => bit,
        }
    }

    /// The same address without the step at which it strikes: equal for equal stored bits.
    #[must_use]
    pub fn storage(mut self) -> Self {
        if let Self::Kv { place, step, .. } = &mut self {
            *step = place.token;
        }
        self
    }

    /// Checks that the bit exists in a model, and in its store after `tokens` tokens.
    ///
    /// # Errors
    /// What does not exist, and why.
    pub fn check(&self, model: &Model, kv: KvKind, tokens: usize) -> Result<(), AddressError> {
        match *self {
            Self::Code { row, column, bit, .. } => {
                let linear = self.linear(model)?;
                if !has_codes(&linear.weights) {
                    return Err(self.absent(NO_CODES));
                }
                self.below("row", row, linear.outputs())?;
                self.below("column", column, linear.inputs())?;
                self.below("bit", bit.into(), 2)
            }
            Self::Scale { bit, .. } => match &self.linear(model)?.weights {
                Weights::Ternary { stored: Some(stored), .. } => {
                    self.below("bit", bit.into(), stored.bits().into())
                }
                Weights::Ternary { stored: None, .. } => Err(self.absent(NO_SCALE)),
                Weights::Coded(_) | Weights::Dense(_) => Err(self.absent(NO_CODES)),
            },
            Self::Norm { layer, slot, index, bit } => {
                self.below("layer", layer, model.layers.len())?;
                let norm = model.layers[layer].norm(slot).ok_or_else(|| self.absent(NO_NORM))?;
                self.gain(norm, index, bit)
            }
            Self::FinalNorm { index, bit } => self.gain(&model.final_norm, index, bit),
            Self::Head { .. } if model.coded_head.is_some() => Err(self.absent(CODED_HEAD)),
            Self::Embedding { .. } if model.config.tied && model.coded_head.is_some() => {
                Err(self.absent(CODED_HEAD))
            }
            Self::Embedding { row, column, bit } => self.entry(&model.embedding, row, column, bit),
            Self::Head { .. } if model.config.tied => Err(self.absent(TIED)),
            Self::Head { row, column, bit } => self.entry(&model.head, row, column, bit),
            Self::Kv { layer, place, bit, step, .. } => {
                self.below("layer", layer, model.layers.len())?;
                self.below("head", place.head, model.config.kv_heads)?;
                self.below("dim", place.dim, model.config.head_dim)?;
                self.below("bit", bit.into(), kv.entry_bits().into())?;
                self.below("step", step, tokens)?;
                self.below("token", place.token, step + 1)
            }
        }
    }

    /// The byte and bit of a code in the Hugging Face layout; `None` for other bits.
    ///
    /// # Errors
    /// If the code does not exist, or the layout does not hold such a shape.
    pub fn physical(&self, model: &Model) -> Result<Option<PhysicalAddress>, AddressError> {
        let Self::Code { layer, slot, row, column, bit } = *self else { return Ok(None) };
        self.check(model, KvKind::F32, 0)?;
        let layout = layout(&model.layers[layer].linear(slot).weights);
        let layout = layout.ok_or_else(|| self.absent(NO_QUARTERS))?;
        let place = layout.locate(row, column, bit).ok_or_else(|| self.absent(NO_CODES))?;
        Ok(Some(PhysicalAddress { layer, slot, place }))
    }

    fn linear<'a>(&self, model: &'a Model) -> Result<&'a Linear, AddressError> {
        let (Self::Code { layer, slot, .. } | Self::Scale { layer, slot, .. }) = *self else {
            unreachable!("only codes and scales lie in linear layers");
        };
        self.below("layer", layer, model.layers.len())?;
        Ok(model.layers[layer].linear(slot))
    }

    fn gain(&self, norm: &Norm, index: usize, bit: u8) -> Result<(), AddressError> {
        self.below("index", index, norm.gains.len())?;
        self.below("bit", bit.into(), norm.stored.bits().into())
    }

    fn entry(
        &self,
        matrix: &engine::model::Float,
        row: usize,
        column: usize,
        bit: u8,
    ) -> Result<(), AddressError> {
        self.below("row", row, matrix.rows())?;
        self.below("column", column, matrix.columns())?;
        let stored = matrix.stored().ok_or_else(|| self.absent(NO_VALUES))?;
        self.below("bit", bit.into(), stored.bits().into())
    }

    fn below(&self, field: &'static str, got: usize, limit: usize) -> Result<(), AddressError> {
        if got < limit {
            return Ok(());
        }
        Err(AddressError::Outside { address: self.to_string(), field, got, limit })
    }

    /// The refusal of whole bytes of codes between which scales stand.
    pub(crate) fn between_scales(&self) -> AddressError {
        self.absent("the bytes of these codes hold scales too")
    }

    fn absent(&self, why: &'static str) -> AddressError {
        AddressError::Absent { address: self.to_string(), why }
    }
}

impl PhysicalAddress {
    /// The code bit that lies at this place.
    ///
    /// # Errors
    /// If the tensor has no such place, or is not held in the Hugging Face layout.
    pub fn logical(&self, model: &Model) -> Result<Address, AddressError> {
        let Self { layer, slot, place } = *self;
        let outside = |field, got, limit| {
            Err(AddressError::Outside { address: self.to_string(), field, got, limit })
        };
        let absent = |why| AddressError::Absent { address: self.to_string(), why };
        if layer >= model.layers.len() {
            return outside("layer", layer, model.layers.len());
        }
        let linear = model.layers[layer].linear(slot);
        if !has_codes(&linear.weights) {
            return Err(absent(NO_CODES));
        }
        let rows = layout(&linear.weights).ok_or_else(|| absent(NO_QUARTERS))?;
        if place.byte >= rows.bytes() {
            return outside("byte", place.byte, rows.bytes());
        }
        if place.bit >= 8 {
            return outside("bit", place.bit.into(), 8);
        }
        let (row, column, bit) = rows.invert(place).ok_or_else(|| absent(NO_CODE_THERE))?;
        Ok(Address::Code { layer, slot, row, column, bit })
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

/// Whether the weights of a layer are codes of two bits each, in their file as here.
pub(crate) fn has_codes(weights: &Weights) -> bool {
    match weights {
        Weights::Ternary { layout, .. } => layout.is_none_or(|layout| layout.has_two_bits()),
        Weights::Coded(_) | Weights::Dense(_) => false,
    }
}

/// Where the codes of a layer stand in their file.
pub(crate) fn layout(weights: &Weights) -> Option<Layout> {
    match weights {
        Weights::Ternary { layout, .. } => *layout,
        Weights::Coded(_) | Weights::Dense(_) => None,
    }
}

//! Matrices by their stored bits: which bits a weight, a scale of a row or block, or a byte of
//! trits has, whichever format the file is of.

use engine::model::{CodedFile, Float, FloatType, Linear, Model, Slot, Weights};
use engine::packing::{BlockShape, Layout};

/// A matrix of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Matrix {
    /// A linear layer.
    Linear {
        /// The block.
        layer: usize,
        /// The linear layer in it.
        slot: Slot,
    },
    /// The embedding; where the model is tied, the head too.
    Embedding,
    /// An untied head.
    Head,
}

/// How a matrix is stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Grid {
    /// Two-bit codes, `weight + 1`, and how many scales are named by rows, and their type: those of
    /// all rows, or one behind the codes, which is named as that of row 0.
    Codes { layout: Option<Layout>, scales: Option<(usize, FloatType)> },
    /// Blocks.
    Blocks { shape: BlockShape },
    /// Floats.
    Floats(FloatType),
    /// In no file: it was made at load.
    Made,
}

impl Matrix {
    /// The name in addresses, without `.weight`.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Linear { layer, slot } => format!("model.layers.{layer}.{}", slot.name()),
            Self::Embedding => "model.embed_tokens".into(),
            Self::Head => "lm_head".into(),
        }
    }

    /// The name within its block, if it lies in one; else its own.
    pub(crate) fn tensor(self) -> String {
        match self {
            Self::Linear { slot, .. } => slot.name().into(),
            Self::Embedding => "embed_tokens".into(),
            Self::Head => "lm_head".into(),
        }
    }

    /// Its block, if it lies in one.
    #[must_use]
    pub fn layer(self) -> Option<usize> {
        match self {
            Self::Linear { layer, .. } => Some(layer),
            Self::Embedding | Self::Head => None,
        }
    }

    /// Outputs and inputs.
    ///
    /// # Panics
    /// If the model has no such layer; so all below.
    pub(crate) fn size(self, model: &Model) -> (usize, usize) {
        let float = |float: &Float| (float.rows(), float.columns());
        match self {
            Self::Linear { layer, slot } => {
                let linear = model.layers[layer].linear(slot);
                (linear.outputs(), linear.inputs())
            }
            Self::Embedding => float(&model.embedding),
            Self::Head => float(&model.head),
        }
    }

    pub(crate) fn grid(self, model: &Model) -> Grid {
        let float = |float: &Float| match (float.block_shape(), float.stored()) {
            (Some(shape), _) => Grid::Blocks { shape },
            (None, Some(stored)) => Grid::Floats(stored),
            (None, None) => Grid::Made,
        };
        match self {
            Self::Linear { layer, slot } => grid_of(model.layers[layer].linear(slot)),
            Self::Embedding => float(&model.embedding),
            Self::Head => float(&model.head),
        }
    }

    /// The stored bytes of a row of blocks.
    ///
    /// # Panics
    /// If the matrix is not stored in blocks.
    pub(crate) fn block_row(self, model: &Model, row: usize) -> Vec<u8> {
        match self {
            Self::Linear { layer, slot } => model.layers[layer].linear(slot).weights.block_row(row),
            Self::Embedding => model.embedding.block_row(row).to_vec(),
            Self::Head => model.head.block_row(row).to_vec(),
        }
    }
}

fn grid_of(linear: &Linear) -> Grid {
    let weights = &linear.weights;
    if let Some(shape) = weights.block_shape() {
        return Grid::Blocks { shape };
    }
    match weights {
        Weights::Ternary { layout, .. } => {
            let own = layout.is_none_or(|layout| layout.has_two_bits());
            let scales = weights.scale_behind().map(|_| (1, FloatType::F32));
            if own { Grid::Codes { layout: *layout, scales } } else { Grid::Made }
        }
        Weights::Coded(coded) => match coded.file() {
            Some(&CodedFile::Packed { layout, scales }) => {
                Grid::Codes { layout, scales: Some((linear.outputs(), scales)) }
            }
            _ => Grid::Made,
        },
        Weights::Dense(float) => float.stored().map_or(Grid::Made, Grid::Floats),
    }
}

impl Grid {
    /// Bits of each weight, or value, of its own.
    pub(crate) fn code_bits(self) -> u8 {
        match self {
            Self::Codes { .. } => 2,
            Self::Blocks { shape } => shape.kind.code_bits(),
            Self::Floats(stored) => stored.bits(),
            Self::Made => 0,
        }
    }

    /// Rows that have scales, the scales of each, and the bits of one.
    pub(crate) fn scales(self) -> (usize, usize, u8) {
        match self {
            Self::Codes { scales: Some((rows, stored)), .. } => (rows, 1, stored.bits()),
            Self::Blocks { shape } => (shape.rows, shape.groups(), shape.kind.scale_bits()),
            _ => (0, 0, 0),
        }
    }

    /// The type of the scales of rows or blocks, where they are floats and nothing else.
    pub(crate) fn scale_type(self) -> Option<FloatType> {
        match self {
            Self::Codes { scales, .. } => scales.map(|(_, stored)| stored),
            Self::Blocks { shape } => {
                (shape.kind.scale_bits() == FloatType::F16.bits()).then_some(FloatType::F16)
            }
            _ => None,
        }
    }

    /// Its blocks, where bytes of trits stand in them.
    pub(crate) fn trits(self) -> Option<BlockShape> {
        match self {
            Self::Blocks { shape } if shape.kind.trit_bytes() > 0 => Some(shape),
            _ => None,
        }
    }

    /// Where its codes stand, if every bit of its bytes is one of a code.
    pub(crate) fn flat(self) -> Option<Layout> {
        match self {
            Self::Codes { layout, .. } => layout.filter(Layout::is_flat),
            _ => None,
        }
    }
}

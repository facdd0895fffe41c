//! A model: its shape, its weights as the kernels read them, and its key-value stores.
//!
//! Everything here is plain and immutable once loaded. Big parts sit behind `Arc`, so that a faulty
//! twin of a model costs only the part that differs. Nothing here knows files or claims.

mod coded;
mod config;
mod elements;
mod float;
mod kv;
pub mod random;
mod rope;
mod stored;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use coded::{Coded, Scales};
pub use config::{Activations, Config, ConfigError, Gate, HeadForm};
pub use elements::{Elements, Rounding, Struck, code_of, rounded};
pub use float::{Float, FloatType};
pub use kv::{KvKind, KvPlace, KvStore, Side, int8_code, int8_scales};
pub use rope::{Rope, Yarn};
pub use stored::{CodedFile, Rewritten, StoredBlocks};

use crate::packing::{Layout, TernaryRows};

/// The gains and the epsilon of one RMSNorm.
#[derive(Clone, Debug)]
pub struct Norm {
    /// One gain a feature.
    pub gains: Arc<[f32]>,
    /// Added to the mean square.
    pub eps: f32,
    /// The type in which the gains are stored.
    pub stored: FloatType,
}

/// How the integer or float product of a linear layer is scaled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scale {
    /// `autobitlinear`: the product is multiplied by the stored scale (the mean magnitude).
    Multiply(f32),
    /// `bitlinear`: the product is divided by the stored scale (its reciprocal).
    Divide(f32),
}

impl Scale {
    /// The stored number.
    #[must_use]
    pub fn stored(self) -> f32 {
        match self {
            Self::Multiply(value) | Self::Divide(value) => value,
        }
    }

    /// The same kind of scale with another stored number.
    #[must_use]
    pub fn with(self, value: f32) -> Self {
        match self {
            Self::Multiply(_) => Self::Multiply(value),
            Self::Divide(_) => Self::Divide(value),
        }
    }
}

/// In which bits a file holds the scale of a tensor of codes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum StoredScale {
    /// One number.
    One(FloatType),
    /// Two, whose product it is, rounded once.
    Two {
        /// The f32 that stands behind the codes.
        behind: f32,
        /// The scale beside the tensor, and its type.
        beside: (f32, FloatType),
    },
}

/// The weights of a linear layer.
#[derive(Clone, Debug)]
pub enum Weights {
    /// Ternary codes under one scale.
    Ternary {
        /// The codes, `[out, in]`.
        rows: Arc<TernaryRows>,
        /// The scale of the tensor.
        scale: Scale,
        /// In which bits the scale is stored; `None` where it has none of its own.
        stored: Option<StoredScale>,
        /// Where the codes stand in a file; `None` where no file holds them as bits.
        layout: Option<Layout>,
        /// What a file of blocks holds beside the codes.
        blocks: Option<Arc<StoredBlocks>>,
    },
    /// Integer codes under scales of rows or groups; they read integer activations only.
    Coded(Arc<Coded>),
    /// Float weights `[out, in]` of a layer that is not converted.
    Dense(Arc<Float>),
}

/// One linear layer without bias.
#[derive(Clone, Debug)]
pub struct Linear {
    /// Its weights.
    pub weights: Weights,
    /// The norm inside the layer, before its activations are quantised (`use_rms_norm`).
    pub norm: Option<Norm>,
    /// What happens to its input.
    pub activations: Activations,
}

impl Linear {
    /// The policy under which its input is prepared: float weights read the values.
    #[must_use]
    pub fn policy(&self) -> Activations {
        match self.weights {
            Weights::Dense(_) => Activations::None,
            Weights::Ternary { .. } | Weights::Coded(_) => self.activations,
        }
    }

    /// The number of outputs.
    #[must_use]
    pub fn outputs(&self) -> usize {
        match &self.weights {
            Weights::Ternary { rows, .. } => rows.rows(),
            Weights::Coded(coded) => coded.rows().rows(),
            Weights::Dense(float) => float.rows(),
        }
    }

    /// The number of inputs.
    #[must_use]
    pub fn inputs(&self) -> usize {
        match &self.weights {
            Weights::Ternary { rows, .. } => rows.columns(),
            Weights::Coded(coded) => coded.rows().columns(),
            Weights::Dense(float) => float.columns(),
        }
    }
}

/// The linear layers of a block, in the order of the walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Slot {
    /// Queries.
    Q,
    /// Keys.
    K,
    /// Values.
    V,
    /// The output of attention.
    O,
    /// The gate of the feed-forward block.
    Gate,
    /// Its other factor.
    Up,
    /// Its output.
    Down,
}

impl Slot {
    /// All of them, in the order of the walk.
    pub const ALL: [Self; 7] =
        [Self::Q, Self::K, Self::V, Self::O, Self::Gate, Self::Up, Self::Down];

    /// The name within a layer in a checkpoint.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Q => "self_attn.q_proj",
            Self::K => "self_attn.k_proj",
            Self::V => "self_attn.v_proj",
            Self::O => "self_attn.o_proj",
            Self::Gate => "mlp.gate_proj",
            Self::Up => "mlp.up_proj",
            Self::Down => "mlp.down_proj",
        }
    }
}

/// The norms of a model, by place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NormSlot {
    /// Before attention.
    Input,
    /// Between attention and its output layer.
    AttentionSub,
    /// Of each head's queries, before they are turned.
    Query,
    /// Of each head's keys, likewise.
    Key,
    /// Before the feed-forward block.
    Post,
    /// Between the gate and the down layer.
    FfnSub,
    /// Inside a linear layer.
    Inside(Slot),
    /// Before the head.
    Final,
}

impl NormSlot {
    /// Those of a block, in the order of the walk, but for those inside its linear layers.
    pub const OF_BLOCK: [Self; 6] =
        [Self::Input, Self::AttentionSub, Self::Query, Self::Key, Self::Post, Self::FfnSub];

    /// All of a block, those inside its linear layers last.
    pub fn of_layer() -> impl Iterator<Item = Self> {
        Self::OF_BLOCK.into_iter().chain(Slot::ALL.into_iter().map(Self::Inside))
    }
}

/// One transformer block.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Before attention.
    pub input_norm: Norm,
    /// Between attention and its output layer, if the family has it.
    pub attention_sub_norm: Option<Norm>,
    /// Of each head's queries, before they are turned, if the family has it; as wide as a head.
    pub query_norm: Option<Norm>,
    /// Of each head's keys, likewise.
    pub key_norm: Option<Norm>,
    /// Before the feed-forward block.
    pub post_norm: Norm,
    /// Between the gate and the down layer, if the family has it.
    pub ffn_sub_norm: Option<Norm>,
    /// The seven linear layers, in the order of [`Slot::ALL`].
    pub linears: [Linear; 7],
}

impl Layer {
    /// The linear layer at a slot.
    #[must_use]
    pub fn linear(&self, slot: Slot) -> &Linear {
        &self.linears[slot as usize]
    }

    /// The linear layer at a slot, to change it.
    pub fn linear_mut(&mut self, slot: Slot) -> &mut Linear {
        &mut self.linears[slot as usize]
    }

    /// The norm at a slot of the layer, if it has one.
    #[must_use]
    pub fn norm(&self, slot: NormSlot) -> Option<&Norm> {
        match slot {
            NormSlot::Input => Some(&self.input_norm),
            NormSlot::AttentionSub => self.attention_sub_norm.as_ref(),
            NormSlot::Query => self.query_norm.as_ref(),
            NormSlot::Key => self.key_norm.as_ref(),
            NormSlot::Post => Some(&self.post_norm),
            NormSlot::FfnSub => self.ffn_sub_norm.as_ref(),
            NormSlot::Inside(slot) => self.linear(slot).norm.as_ref(),
            NormSlot::Final => None,
        }
    }

    /// The norm at a slot of the layer, to change it.
    pub fn norm_mut(&mut self, slot: NormSlot) -> Option<&mut Norm> {
        match slot {
            NormSlot::Input => Some(&mut self.input_norm),
            NormSlot::AttentionSub => self.attention_sub_norm.as_mut(),
            NormSlot::Query => self.query_norm.as_mut(),
            NormSlot::Key => self.key_norm.as_mut(),
            NormSlot::Post => Some(&mut self.post_norm),
            NormSlot::FfnSub => self.ffn_sub_norm.as_mut(),
            NormSlot::Inside(slot) => self.linear_mut(slot).norm.as_mut(),
            NormSlot::Final => None,
        }
    }
}

/// A loaded model.
#[derive(Clone, Debug)]
pub struct Model {
    /// Its shape.
    pub config: Config,
    /// Token embeddings, `[vocabulary, hidden]`.
    pub embedding: Arc<Float>,
    /// The blocks.
    pub layers: Vec<Layer>,
    /// What a file stores of layers whose codes were made at load, one element to a weight, where
    /// that was kept.
    pub elements: BTreeMap<(usize, Slot), Arc<Elements>>,
    /// Before the head.
    pub final_norm: Norm,
    /// The head, `[vocabulary, hidden]`; the same allocation as the embedding where tied.
    pub head: Arc<Float>,
    /// What is multiplied instead of the head, where that is said: codes of its rows, made at load.
    pub coded_head: Option<Arc<Linear>>,
    /// Rotary tables.
    pub rope: Arc<Rope>,
}

impl Model {
    /// The same model with its head multiplied in a form.
    #[must_use]
    pub fn with_head(mut self, form: HeadForm) -> Self {
        self.coded_head = (form == HeadForm::Int8).then(|| {
            let weights = Weights::Coded(Arc::new(Coded::of_float(&self.head)));
            Arc::new(Linear { weights, norm: None, activations: Activations::PerTokenInt8 })
        });
        self
    }

    /// What the head is multiplied as.
    #[must_use]
    pub fn head_form(&self) -> HeadForm {
        if self.coded_head.is_some() { HeadForm::Int8 } else { HeadForm::AsStored }
    }

    /// The embeddings of token ids, `[tokens, hidden]`.
    ///
    /// # Errors
    /// The first id that lies outside the vocabulary.
    pub fn embed(&self, ids: &[u32]) -> Result<ndarray::Array2<f32>, u32> {
        let mut rows = ndarray::Array2::zeros((ids.len(), self.config.hidden));
        for (mut row, &id) in rows.rows_mut().into_iter().zip(ids) {
            let index = usize::try_from(id).map_err(|_| id)?;
            if index >= self.embedding.rows() {
                return Err(id);
            }
            self.embedding.read_row(index, row.as_slice_mut().expect("a standard row"));
        }
        Ok(rows)
    }
}

//! Printing addresses; [`crate::address`] shows the forms, and `parse` is the inverse.

use std::fmt;

use engine::model::{KvPlace, NormSlot, Side};
use engine::packing::BitPlace;

use crate::address::{Address, AnyAddress, PhysicalAddress};
use crate::matrix::Matrix;

/// The name of a norm within its block.
pub(crate) fn norm_name(slot: NormSlot) -> String {
    match slot {
        NormSlot::Input => "input_layernorm".into(),
        NormSlot::AttentionSub => "self_attn.attn_sub_norm".into(),
        NormSlot::Query => "self_attn.q_norm".into(),
        NormSlot::Key => "self_attn.k_norm".into(),
        NormSlot::Post => "post_attention_layernorm".into(),
        NormSlot::FfnSub => "mlp.ffn_sub_norm".into(),
        NormSlot::Inside(slot) => format!("{}.rms_norm", slot.name()),
        NormSlot::Final => "norm".into(),
    }
}

impl Address {
    /// The name of the tensor within its block, such as `mlp.down_proj` or `input_layernorm`, or
    /// its own: `norm`, `embed_tokens` or `lm_head`; of a store `key` or `value`.
    #[must_use]
    pub fn tensor(&self) -> String {
        match *self {
            Self::Code { slot, .. } | Self::Scale { slot, .. } | Self::Element { slot, .. } => {
                slot.name().into()
            }
            Self::Norm { slot, .. } => norm_name(slot),
            Self::FinalNorm { .. } => norm_name(NormSlot::Final),
            Self::Embedding { .. } => Matrix::Embedding.tensor(),
            Self::Head { .. } => Matrix::Head.tensor(),
            Self::GroupScale { matrix, .. } | Self::Byte { matrix, .. } => matrix.tensor(),
            Self::Kv { side, .. } | Self::KvScale { side, .. } => side_name(side).into(),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Code { layer, slot, row, column, bit } => {
                write!(f, "model.layers.{layer}.{}.weight[{row},{column}].{bit}", slot.name())
            }
            Self::Scale { layer, slot, bit } => {
                write!(f, "model.layers.{layer}.{}.weight_scale.{bit}", slot.name())
            }
            Self::Element { layer, slot, row, column, bit } => {
                let slot = slot.name();
                write!(f, "model.layers.{layer}.{slot}.weight_element[{row},{column}].{bit}")
            }
            Self::Norm { layer, slot, index, bit } => {
                write!(f, "model.layers.{layer}.{}.weight[{index}].{bit}", norm_name(slot))
            }
            Self::FinalNorm { index, bit } => write!(f, "model.norm.weight[{index}].{bit}"),
            Self::Embedding { row, column, bit } => {
                write!(f, "model.embed_tokens.weight[{row},{column}].{bit}")
            }
            Self::Head { row, column, bit } => write!(f, "lm_head.weight[{row},{column}].{bit}"),
            Self::Kv { layer, side, place: KvPlace { token, head, dim }, bit, step } => {
                let side = side_name(side);
                write!(f, "kv.layers.{layer}.{side}[token={token},head={head},dim={dim}].{bit}")?;
                if step == token { Ok(()) } else { write!(f, "@{step}") }
            }
            Self::GroupScale { matrix, row, group, bit } => {
                write!(f, "{}.weight_scale[{row},{group}].{bit}", matrix.name())
            }
            Self::Byte { matrix, byte, bit } => {
                PhysicalAddress { matrix, place: BitPlace { byte, bit } }.fmt(f)
            }
            Self::KvScale { layer, side, token, head, bit, step } => {
                let side = side_name(side);
                write!(f, "kv.layers.{layer}.{side}_scale[token={token},head={head}].{bit}")?;
                if step == token { Ok(()) } else { write!(f, "@{step}") }
            }
        }
    }
}

fn side_name(side: Side) -> &'static str {
    match side {
        Side::Key => "key",
        Side::Value => "value",
    }
}

impl fmt::Display for PhysicalAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BitPlace { byte, bit } = self.place;
        write!(f, "{}.weight@{byte:#x}.{bit}", self.matrix.name())
    }
}

impl fmt::Display for AnyAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Logical(address) => address.fmt(f),
            Self::Physical(address) => address.fmt(f),
        }
    }
}

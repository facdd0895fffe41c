//! `config.json`: the shape of a model, and a clear refusal of whatever is not computed here.
//!
//! Both dialects are read: the old one (`rope_theta`, `rope_scaling`, `torch_dtype`) and that of
//! transformers 5 (`rope_parameters`, `dtype`). A field that would change the result and is not
//! computed is refused, never ignored; fields that change nothing are passed over.

use serde_json::{Map, Value};

use super::error::{FormatError, quoted};
use super::json;
use super::quantization::Quantization;
use super::rope;
use super::values::WIDEST_HEAD;
use crate::model::{Activations, Config, Gate};

/// The width of a head of Qwen 3 where the file does not say it.
const QWEN3_HEAD: usize = 128;

/// What `config.json` asks for.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// The shape.
    pub(super) config: Config,
    /// How linear layers are stored, where they are ternary.
    pub(super) quantization: Option<Quantization>,
    /// Which tensors there are, under which names.
    pub(super) family: Family,
}

/// The model families.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    /// `bitnet` of transformers: sub-norms, squared ReLU.
    BitNet,
    /// `BitnetForCausalLM` of 1bitLLM, under the model type `llama`: float masters, the sub-norms
    /// under other names, SiLU.
    OneBitLlm,
    /// `llama`.
    Llama,
    /// `qwen3`: norms of queries and keys by head.
    Qwen3,
}

impl Family {
    /// Whether the blocks have norms before their output layers.
    pub(super) fn has_sub_norms(self) -> bool {
        matches!(self, Self::BitNet | Self::OneBitLlm)
    }

    /// What `architecture` says in reports.
    fn name(self) -> &'static str {
        match self {
            Self::BitNet => "bitnet",
            Self::OneBitLlm => "bitnet (1bitLLM)",
            Self::Llama => "llama",
            Self::Qwen3 => "qwen3",
        }
    }
}

/// Reads a configuration; `file` is its name in messages.
pub(super) fn parse(file: &str, text: &[u8]) -> Result<Plan, FormatError> {
    let object = json::object(file, text)?;
    let fields = Fields { file, object: &object };
    let family = family(&fields)?;
    refuse_other_models(&fields)?;
    let quantization = match fields.optional("quantization_config") {
        None if family == Family::OneBitLlm => Some(one_bit_llm(&fields)?),
        None => None,
        Some(Value::Object(inner)) => Some(Quantization::parse(&Fields { file, object: inner })?),
        Some(other) => return Err(fields.error("quantization_config", "an object", other)),
    };
    let config = config(&fields, family, quantization.is_some())?;
    let shape = |source| FormatError::Shape { file: file.into(), source };
    config.check().map_err(shape)?;
    if config.head_dim > WIDEST_HEAD {
        let expected = format!("at most {WIDEST_HEAD}");
        return Err(fields.refused("head_dim", expected, config.head_dim.to_string()));
    }
    let plan = Plan { config, quantization, family };
    if family.has_sub_norms() && plan.config.query_width() != plan.config.hidden {
        let expected = format!("hidden_size / heads = {}", plan.config.hidden / plan.config.heads);
        return Err(fields.refused("head_dim", expected, plan.config.head_dim.to_string()));
    }
    Ok(plan)
}

fn family(fields: &Fields) -> Result<Family, FormatError> {
    const ONE_BIT_LLM: &str = "BitnetForCausalLM";
    let (family, class) = match fields.text("model_type")? {
        Some("bitnet") => (Family::BitNet, "BitNetForCausalLM"),
        Some("llama") => (Family::Llama, "LlamaForCausalLM"),
        Some("qwen3") => (Family::Qwen3, "Qwen3ForCausalLM"),
        got => {
            let got = got.map_or("absent".into(), quoted);
            return Err(fields.refused("model_type", "\"bitnet\", \"llama\" or \"qwen3\"", got));
        }
    };
    // Others may share a model type and compute something else.
    match fields.optional("architectures") {
        None => Ok(family),
        Some(Value::Array(names)) if names.iter().any(|name| name == class) => Ok(family),
        Some(Value::Array(names))
            if names.iter().any(|name| name == ONE_BIT_LLM)
                && family != Family::Qwen3
                && fields.optional("weight_bits").is_some() =>
        {
            Ok(Family::OneBitLlm)
        }
        Some(other) => Err(fields.error("architectures", format!("[\"{class}\"]"), other)),
    }
}

/// The masters of 1bitLLM, whose widths stand at the top level.
fn one_bit_llm(fields: &Fields) -> Result<Quantization, FormatError> {
    for (name, bits) in [("weight_bits", 1), ("input_bits", 8)] {
        let got = fields.count(name)?;
        if got != bits {
            return Err(fields.refused(name, bits.to_string(), got.to_string()));
        }
    }
    Ok(Quantization::masters())
}

/// Fields that change what a model computes, in ways that this engine does not.
fn refuse_other_models(fields: &Fields) -> Result<(), FormatError> {
    for name in ["attention_bias", "mlp_bias", "use_sliding_window", "add_cross_attention"] {
        if fields.flag(name)? == Some(true) {
            return Err(fields.refused(name, "false", "true".into()));
        }
    }
    if let Some(window) = fields.optional("sliding_window")
        && fields.flag("use_sliding_window")? != Some(false)
    {
        return Err(fields.error("sliding_window", "null", window));
    }
    if let Some(types) = fields.optional("layer_types") {
        let full = |kinds: &Vec<Value>| kinds.iter().all(|kind| kind == "full_attention");
        if !types.as_array().is_some_and(full) {
            return Err(fields.error("layer_types", "\"full_attention\" only", types));
        }
    }
    if let Some(factor) = fields.optional("partial_rotary_factor")
        && factor.as_f64() != Some(1.0)
    {
        return Err(fields.error("partial_rotary_factor", "1.0", factor));
    }
    Ok(())
}

fn config(fields: &Fields, family: Family, ternary: bool) -> Result<Config, FormatError> {
    let hidden = fields.count("hidden_size")?;
    let heads = fields.count("num_attention_heads")?;
    let bitnet = family == Family::BitNet;
    let (theta, yarn) = rope::read(fields, if bitnet { 500_000.0 } else { 10_000.0 })?;
    Ok(Config {
        architecture: family.name().into(),
        hidden,
        ffn: fields.count("intermediate_size")?,
        layers: fields.count("num_hidden_layers")?,
        heads,
        kv_heads: kv_heads(fields, bitnet, heads)?,
        head_dim: head_dim(fields, family, hidden, heads)?,
        vocabulary: fields.count("vocab_size")?,
        max_positions: fields.count_or("max_position_embeddings", 2048)?,
        eps: fields.number("rms_norm_eps")?.unwrap_or(if bitnet { 1e-5 } else { 1e-6 }) as f32,
        theta,
        yarn,
        gate: gate(fields, bitnet)?,
        activations: if ternary { Activations::PerTokenInt8 } else { Activations::None },
        tied: fields.flag("tie_word_embeddings")?.unwrap_or(false),
        end_tokens: end_tokens(fields)?,
    })
}

fn kv_heads(fields: &Fields, bitnet: bool, heads: usize) -> Result<usize, FormatError> {
    let name = "num_key_value_heads";
    if bitnet && !fields.object.contains_key(name) {
        // The default of the class is 5 whatever the heads are; no file should lean on that.
        return Err(fields.refused(name, "a number or null", "absent".into()));
    }
    fields.count_or(name, heads)
}

fn head_dim(
    fields: &Fields,
    family: Family,
    hidden: usize,
    heads: usize,
) -> Result<usize, FormatError> {
    if fields.optional("head_dim").is_some() {
        return fields.count("head_dim");
    }
    if family == Family::Qwen3 {
        return Ok(QWEN3_HEAD);
    }
    if heads > 0 && hidden.is_multiple_of(heads) {
        return Ok(hidden / heads);
    }
    let expected = format!("a divisor of hidden_size = {hidden}, or a head_dim");
    Err(fields.refused("num_attention_heads", expected, heads.to_string()))
}

fn gate(fields: &Fields, bitnet: bool) -> Result<Gate, FormatError> {
    match fields.text("hidden_act")? {
        None => Ok(if bitnet { Gate::Relu2 } else { Gate::Silu }),
        Some("relu2") => Ok(Gate::Relu2),
        Some("silu") => Ok(Gate::Silu),
        Some(other) => Err(fields.refused("hidden_act", "\"relu2\" or \"silu\"", quoted(other))),
    }
}

fn end_tokens(fields: &Fields) -> Result<Vec<u32>, FormatError> {
    let name = "eos_token_id";
    let Some(value) = fields.optional(name) else { return Ok(Vec::new()) };
    let ids = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
    let id = |id: &Value| id.as_u64().and_then(|id| u32::try_from(id).ok());
    let ids: Option<Vec<u32>> = ids.iter().map(id).collect();
    ids.ok_or_else(|| fields.error(name, "a token id or a list of them", value))
}

/// The fields of an object in a configuration; null counts as absent.
pub(super) struct Fields<'a> {
    /// The file, for messages.
    pub(super) file: &'a str,
    /// The object.
    pub(super) object: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    /// A field that is there and not null.
    pub(super) fn optional(&self, name: &str) -> Option<&'a Value> {
        self.object.get(name).filter(|value| !value.is_null())
    }

    /// A field that is a text.
    pub(super) fn text(&self, name: &str) -> Result<Option<&'a str>, FormatError> {
        let text =
            |value: &'a Value| value.as_str().ok_or_else(|| self.error(name, "a text", value));
        self.optional(name).map(text).transpose()
    }

    /// A field that is true or false.
    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, FormatError> {
        let flag =
            |value: &Value| value.as_bool().ok_or_else(|| self.error(name, "true or false", value));
        self.optional(name).map(flag).transpose()
    }

    /// A field that is a number.
    pub(super) fn number(&self, name: &str) -> Result<Option<f64>, FormatError> {
        let number =
            |value: &Value| value.as_f64().ok_or_else(|| self.error(name, "a number", value));
        self.optional(name).map(number).transpose()
    }

    /// A field that counts something and must be there.
    pub(super) fn count(&self, name: &str) -> Result<usize, FormatError> {
        let value = self.optional(name);
        let value = value.ok_or_else(|| self.refused(name, "a whole number", "absent".into()))?;
        let count = value.as_u64().and_then(|count| usize::try_from(count).ok());
        count.ok_or_else(|| self.error(name, "a whole number", value))
    }

    /// A field that counts something, or what it is when absent.
    pub(super) fn count_or(&self, name: &str, default: usize) -> Result<usize, FormatError> {
        if self.optional(name).is_some() { self.count(name) } else { Ok(default) }
    }

    /// The refusal of a field for its value.
    pub(super) fn error(
        &self,
        name: &str,
        expected: impl Into<String>,
        got: &Value,
    ) -> FormatError {
        self.refused(name, expected, quoted(&got.to_string()))
    }

    /// The refusal of a field.
    pub(super) fn refused(
        &self,
        name: &str,
        expected: impl Into<String>,
        got: String,
    ) -> FormatError {
        let (file, field) = (self.file.into(), name.into());
        FormatError::Config { file, field, expected: expected.into(), got }
    }
}

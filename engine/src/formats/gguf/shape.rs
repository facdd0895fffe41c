//! The shape of a model from the metadata of a GGUF file.
//!
//! | architecture | gate | rows of q, k | norms in the blocks |
//! |---|---|---|---|
//! | `bitnet` | SiLU, unless `hidden_activation` says otherwise | as they are | sub-norms |
//! | `bitnet-25`, `bitnet-b1.58` | squared ReLU, likewise | as they are | sub-norms |
//! | `llama` | SiLU | for rotations of neighbours | |
//! | `qwen3` | SiLU | as they are | of queries and keys, by head |
//!
//! No file says which activations a model was trained with. Ternary formats were made for int8
//! codes per token, and signs and groups for floats; [`super::super::LoadOptions`] can say
//! otherwise.

use super::super::error::{FormatError, quoted};
use super::super::values::WIDEST_HEAD;
use super::value::{Metadata, Value};
use crate::model::{Activations, Config, Gate, Yarn};

/// What the metadata asks for.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// The shape.
    pub(super) config: Config,
    /// Whether the blocks have norms before their output layers.
    pub(super) sub_norms: bool,
    /// Whether queries and keys are normed, head by head.
    pub(super) head_norms: bool,
    /// Whether rows of queries and keys stand as rotations of neighbours need them.
    pub(super) turned: bool,
}

/// Keys whose presence means arithmetic that is not computed here.
const OTHERS: [&str; 8] = [
    "expert_count",
    "attention.sliding_window",
    "attention.scale",
    "attention.max_alibi_bias",
    "attention.clamp_kqv",
    "attention.causal",
    "logit_scale",
    "residual_scale",
];

/// Reads the shape; `tied` tells whether the file has no head of its own.
pub(super) fn plan(metadata: &Metadata, tied: bool) -> Result<Plan, FormatError> {
    refuse_other_models(metadata)?;
    let architecture = metadata.text("general.architecture")?;
    let (bitnet, gate) = match architecture {
        Some("bitnet") => (true, Gate::Silu),
        Some("bitnet-25" | "bitnet-b1.58") => (true, Gate::Relu2),
        Some("llama" | "qwen3") => (false, Gate::Silu),
        got => {
            let got = got.map_or("absent".into(), quoted);
            let expected = "bitnet, bitnet-25, bitnet-b1.58, llama or qwen3";
            return Err(metadata.refused("general.architecture", expected, got));
        }
    };
    let name = architecture.expect("one of the names");
    let keys = Keys { metadata, name };
    keys.refuse_others()?;
    let config = config(&keys, gate, tied)?;
    config.check().map_err(|source| FormatError::Shape { file: metadata.file.clone(), source })?;
    if config.head_dim > WIDEST_HEAD {
        let (expected, got) = (format!("at most {WIDEST_HEAD}"), config.head_dim.to_string());
        return Err(metadata.refused(&keys.key("attention.key_length"), expected, got));
    }
    if bitnet && config.query_width() != config.hidden {
        let expected = format!("embedding_length / heads = {}", config.hidden / config.heads);
        let key = keys.key("attention.key_length");
        return Err(metadata.refused(&key, expected, config.head_dim.to_string()));
    }
    let (head_norms, turned) = (name == "qwen3", name == "llama");
    Ok(Plan { config, sub_norms: bitnet, head_norms, turned })
}

fn refuse_other_models(metadata: &Metadata) -> Result<(), FormatError> {
    if let Some(parts) = metadata.count("split.count")?
        && parts > 1
    {
        let got = format!("{parts}, one part of several");
        return Err(metadata.refused("split.count", "a whole model (gguf-split --merge)", got));
    }
    let folded = metadata.values.keys().find(|key| key.contains("hadamard"));
    if let Some(key) = folded {
        let expected = "no such key: activations would have to be turned as the weights are";
        return Err(metadata.refused(&quoted(key), expected, "there".into()));
    }
    Ok(())
}

/// The keys of an architecture.
struct Keys<'m, 'a> {
    metadata: &'m Metadata<'a>,
    name: &'a str,
}

impl Keys<'_, '_> {
    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.name)
    }

    fn need(&self, key: &str) -> Result<usize, FormatError> {
        self.metadata.need(&self.key(key))
    }

    fn count(&self, key: &str) -> Result<Option<usize>, FormatError> {
        self.metadata.count(&self.key(key))
    }

    fn refused(&self, key: &str, expected: impl Into<String>, got: String) -> FormatError {
        self.metadata.refused(&self.key(key), expected, got)
    }

    /// Refuses keys that would change the result.
    fn refuse_others(&self) -> Result<(), FormatError> {
        for key in OTHERS {
            let neutral = |value: &Value| {
                matches!(value, Value::Integer(0))
                    || matches!(value, Value::Bool(true)) && key == "attention.causal"
                    || matches!(value, Value::F32(x) if *x == 0.0)
            };
            if let Some(value) = self.metadata.get(&self.key(key)).filter(|value| !neutral(value)) {
                return Err(self.refused(key, "no such key", value.shown()));
            }
        }
        Ok(())
    }

    fn float(&self, key: &str) -> Result<Option<f32>, FormatError> {
        self.metadata.float(&self.key(key))
    }

    /// How rotary frequencies are stretched.
    fn yarn(&self) -> Result<Option<Yarn>, FormatError> {
        match self.metadata.text(&self.key("rope.scaling.type"))? {
            None | Some("none") => return Ok(None),
            Some("yarn") => {}
            Some(other) => {
                return Err(self.refused("rope.scaling.type", "none or yarn", quoted(other)));
            }
        }
        let factor = self.float("rope.scaling.factor")?;
        let factor: f64 = factor
            .ok_or_else(|| self.refused("rope.scaling.factor", "a float", "absent".into()))?
            .into();
        let (fast, slow) = Yarn::BETAS;
        let usual = |value: Option<f32>, usual: f64| value.map_or(usual, f64::from);
        // Here the file scales what follows from the factor; transformers' key replaces it.
        let scaled = self.float("rope.scaling.attn_factor")?.unwrap_or(1.0);
        Ok(Some(Yarn {
            factor,
            original: self.need("rope.scaling.original_context_length")?,
            beta_fast: usual(self.float("rope.scaling.yarn_beta_fast")?, fast),
            beta_slow: usual(self.float("rope.scaling.yarn_beta_slow")?, slow),
            stretch: Yarn::usual_stretch(factor) * scaled,
        }))
    }

    fn gate(&self, default: Gate) -> Result<Gate, FormatError> {
        match self.metadata.text(&self.key("hidden_activation"))? {
            None => Ok(default),
            Some("relu2") => Ok(Gate::Relu2),
            Some("silu") => Ok(Gate::Silu),
            Some(other) => Err(self.refused("hidden_activation", "relu2 or silu", quoted(other))),
        }
    }

    fn head_dim(&self, hidden: usize, heads: usize) -> Result<usize, FormatError> {
        let key = self.count("attention.key_length")?;
        let derived = (heads > 0 && hidden.is_multiple_of(heads)).then(|| hidden / heads.max(1));
        let Some(width) = key.or(derived) else {
            let expected = format!("a divisor of embedding_length = {hidden}, or a key_length");
            return Err(self.refused("attention.head_count", expected, heads.to_string()));
        };
        for other in ["attention.value_length", "rope.dimension_count"] {
            if let Some(got) = self.count(other)?
                && got != width
            {
                return Err(self.refused(
                    other,
                    format!("{width}, as key_length"),
                    got.to_string(),
                ));
            }
        }
        Ok(width)
    }

    fn vocabulary(&self) -> Result<usize, FormatError> {
        if let Some(count) = self.count("vocab_size")? {
            return Ok(count);
        }
        match self.metadata.texts("tokenizer.ggml.tokens")? {
            Some(tokens) => Ok(tokens.len()),
            None => {
                Err(self.refused("vocab_size", "a whole number, or a tokenizer", "absent".into()))
            }
        }
    }

    fn eps(&self) -> Result<f32, FormatError> {
        let key = self.key("attention.layer_norm_rms_epsilon");
        let eps = self.metadata.float(&key)?;
        eps.ok_or_else(|| self.metadata.refused(&key, "a 32-bit float", "absent".into()))
    }
}

fn config(keys: &Keys, gate: Gate, tied: bool) -> Result<Config, FormatError> {
    let hidden = keys.need("embedding_length")?;
    let heads = keys.need("attention.head_count")?;
    Ok(Config {
        architecture: keys.name.into(),
        hidden,
        ffn: keys.need("feed_forward_length")?,
        layers: keys.need("block_count")?,
        heads,
        kv_heads: keys.count("attention.head_count_kv")?.unwrap_or(heads),
        head_dim: keys.head_dim(hidden, heads)?,
        vocabulary: keys.vocabulary()?,
        max_positions: keys.count("context_length")?.unwrap_or(2048),
        eps: keys.eps()?,
        theta: keys.metadata.float(&keys.key("rope.freq_base"))?.unwrap_or(10_000.0).into(),
        yarn: keys.yarn()?,
        gate: keys.gate(gate)?,
        activations: Activations::None,
        tied,
        end_tokens: end_tokens(keys.metadata)?,
    })
}

/// The tokens that end a text.
fn end_tokens(metadata: &Metadata) -> Result<Vec<u32>, FormatError> {
    let mut ids = Vec::new();
    for key in ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"] {
        if let Some(id) = metadata.count(key)? {
            let narrow = u32::try_from(id);
            let id = narrow.map_err(|_| metadata.refused(key, "a token id", id.to_string()))?;
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
    }
    Ok(ids)
}

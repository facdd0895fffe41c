//! The shape of a model, checked as a whole before any weight is read.

use super::rope::Yarn;
use crate::numerics::{INT4, INT8, Levels};

/// What happens to the input of a linear layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activations {
    /// Absmax int8 codes per token (BitNet).
    PerTokenInt8,
    /// Absmax codes of 4 bits per token.
    PerTokenInt4,
    /// Nothing: float products.
    None,
}

impl Activations {
    /// The name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::PerTokenInt8 => "per_token_int8",
            Self::PerTokenInt4 => "per_token_int4",
            Self::None => "none",
        }
    }

    /// The codes of a row; `None` where it stays a row of floats.
    #[must_use]
    pub fn levels(self) -> Option<Levels> {
        match self {
            Self::PerTokenInt8 => Some(INT8),
            Self::PerTokenInt4 => Some(INT4),
            Self::None => None,
        }
    }
}

/// What the head is multiplied as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum HeadForm {
    /// The floats of the checkpoint.
    #[default]
    AsStored,
    /// int8 codes of each row, made at load, with int8 codes per token.
    Int8,
}

impl HeadForm {
    /// The name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::AsStored => "as_stored",
            Self::Int8 => "int8",
        }
    }
}

/// The gate of the feed-forward block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Gate {
    /// `relu(g)^2 u`.
    Relu2,
    /// `silu(g) u`.
    Silu,
}

impl Gate {
    /// The name in configurations and reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Relu2 => "relu2",
            Self::Silu => "silu",
        }
    }
}

/// The shape of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `bitnet`, `llama`, ...
    pub architecture: String,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the feed-forward block.
    pub ffn: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of a head; even.
    pub head_dim: usize,
    /// Number of tokens.
    pub vocabulary: usize,
    /// Positions that the model was made for.
    pub max_positions: usize,
    /// Epsilon of the norms.
    pub eps: f32,
    /// Base of the rotary frequencies.
    pub theta: f64,
    /// How rotary frequencies are stretched for long texts, if they are.
    pub yarn: Option<Yarn>,
    /// The gate of the feed-forward block.
    pub gate: Gate,
    /// What happens to the input of a converted linear layer.
    pub activations: Activations,
    /// Whether head and embedding are one tensor.
    pub tied: bool,
    /// Tokens that end a text.
    pub end_tokens: Vec<u32>,
}

/// A shape that no model has.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("the configuration says {field} = {got}, expected {expected}")]
pub struct ConfigError {
    /// The field of the configuration.
    pub field: &'static str,
    /// What it says.
    pub got: String,
    /// What would do.
    pub expected: String,
}

/// No field of a shape may exceed this.
const LARGEST: usize = 1 << 24;
/// The residual stream may not be wider: the error bounds of the certifier are proven so far.
const WIDEST_STREAM: usize = 1 << 16;
/// No linear layer may have more inputs: integer sums over boxes stay below 2^31 up to 2.8 million.
const WIDEST: usize = 1 << 20;

impl Config {
    /// Checks that the fields fit one another.
    ///
    /// # Errors
    /// The first field that does not, with what would do.
    pub fn check(&self) -> Result<(), ConfigError> {
        let fields = [
            ("hidden_size", self.hidden),
            ("intermediate_size", self.ffn),
            ("num_hidden_layers", self.layers),
            ("num_attention_heads", self.heads),
            ("num_key_value_heads", self.kv_heads),
            ("head_dim", self.head_dim),
            ("vocab_size", self.vocabulary),
            ("max_position_embeddings", self.max_positions),
        ];
        for (field, value) in fields {
            let most = match field {
                "hidden_size" => WIDEST_STREAM,
                "intermediate_size" => WIDEST,
                _ => LARGEST,
            };
            if value == 0 || value > most {
                return Err(error(field, value, format!("1 to {most}")));
            }
        }
        if self.query_width() > WIDEST {
            let expected = format!("at most {WIDEST} / num_attention_heads");
            return Err(error("head_dim", self.head_dim, expected));
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            let expected = format!("a divisor of num_attention_heads = {}", self.heads);
            return Err(error("num_key_value_heads", self.kv_heads, expected));
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(error("head_dim", self.head_dim, "an even number".into()));
        }
        if !(self.eps >= 0.0 && self.eps < 1.0) {
            return Err(error("rms_norm_eps", self.eps, "0 to 1".into()));
        }
        if !(self.theta >= 1.0 && self.theta <= 1e12) {
            return Err(error("rope_theta", self.theta, "1 to 1e12".into()));
        }
        if let Some(yarn) = &self.yarn {
            yarn.check(self.theta).map_err(|(field, got, expected)| error(field, got, expected))?;
        }
        Ok(())
    }

    /// Width of all query heads together.
    #[must_use]
    pub fn query_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Width of all key heads together.
    #[must_use]
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }
}

fn error(field: &'static str, got: impl ToString, expected: String) -> ConfigError {
    ConfigError { field, got: got.to_string(), expected }
}

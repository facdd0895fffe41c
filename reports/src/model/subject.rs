//! What was analysed: the model and the samples, identified by their digests.
//!
//! Names and shapes are for people; only the digests identify. No path is kept, so the same files
//! in another folder give the same report.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The model that was analysed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// Name for people: the last component of the folder, or the name of the embedded model.
    pub name: String,
    /// Whether it is the model that comes with the program.
    pub embedded: bool,
    /// Digest of everything that the walk computes with.
    pub digest: String,
    /// Model type as the checkpoint names it, such as `bitnet`.
    pub architecture: String,
    /// Number of transformer layers.
    pub layers: u32,
    /// Width of the residual stream.
    pub hidden: u32,
    /// Width of the feed-forward block.
    pub ffn: u32,
    /// Number of query heads.
    pub heads: u32,
    /// Number of key and value heads.
    pub kv_heads: u32,
    /// Width of one head.
    pub head_dim: u32,
    /// Number of logits.
    pub vocabulary: u32,
    /// How activations are quantised before a ternary product.
    pub activation_policy: ActivationPolicy,
    /// What the head is multiplied as; `as_stored` in reports that do not say.
    #[serde(default)]
    pub head: HeadForm,
    /// The function that gates the feed-forward block.
    pub gate: GateFunction,
    /// How many weights of which kind.
    pub weights: WeightCounts,
    /// What the loader accepted but wants to be known.
    pub warnings: Vec<String>,
}

/// How activations are quantised before a ternary product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ActivationPolicy {
    /// Absolute maximum of each token, to 8 bits.
    PerTokenInt8,
    /// Absolute maximum of each token, to 4 bits.
    PerTokenInt4,
    /// Not quantised.
    None,
}

/// What the head is multiplied as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HeadForm {
    /// The floats of the checkpoint.
    #[default]
    AsStored,
    /// int8 codes of each row, made at load, with int8 codes per token.
    Int8,
}

/// The function that gates the feed-forward block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum GateFunction {
    /// The square of the positive part.
    Relu2,
    /// x times the logistic function of x.
    Silu,
}

/// How many weights a model has, by kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WeightCounts {
    /// Ternary weights.
    pub ternary: u64,
    /// Integer weights under scales of rows or groups, whose products with integer activations are
    /// integers too; 0 in reports that do not know them.
    #[serde(default)]
    pub coded: u64,
    /// Weights kept in floating point: embeddings, norms, scales, read-out.
    pub float: u64,
    /// Bytes of the packed ternary weights.
    pub bytes_packed: u64,
}

/// The samples that were analysed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// Digest of the samples in their order.
    pub digest: String,
    /// Number of samples analysed.
    pub samples: u64,
    /// How many of them have a label.
    pub labelled: u64,
    /// Where they came from.
    pub source: DataSource,
    /// What a sample is.
    pub kind: InputKind,
}

/// Where samples came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DataSource {
    /// They come with the program.
    Embedded,
    /// They were read from a file.
    File,
}

/// What a sample is; the words are the keys of the JSONL format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum InputKind {
    /// Token ids.
    InputIds,
    /// Text, through the model's tokenizer.
    Text,
    /// Embeddings of a float front end.
    InputsEmbeds,
    /// Samples of several kinds.
    Mixed,
}

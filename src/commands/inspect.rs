//! `inspect`: what a checkpoint holds, as a table or as JSON.
//!
//! Both faces are made of one [`Inventory`]; names from files are escaped in the first and are JSON
//! texts in the second.

mod table;

use std::collections::BTreeMap;

use engine::formats::{Loaded, TensorEntry, TensorKind, linear_name};
use engine::model::{Scale, Slot, Weights};
use serde::Serialize;

use super::tell;
use crate::cli::InspectArgs;
use crate::failure::Failure;
use crate::source;

/// Shows a checkpoint.
///
/// # Errors
/// If the checkpoint is refused, or stdout cannot be written.
pub fn run(args: &InspectArgs) -> Result<(), Failure> {
    let origin = source::resolve(&args.model)?;
    let loaded = source::load(&origin, args.unused_code, args.mmap)?;
    let inventory = Inventory::of(&loaded);
    let text = if args.json {
        let text = serde_json::to_string_pretty(&inventory);
        text.map_err(|error| Failure::bug(format!("the inventory: {error}")))? + "\n"
    } else {
        table::text(&inventory)
    };
    tell(text.as_bytes())
}

/// Everything that is told of a checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Inventory {
    /// Its name.
    pub name: String,
    /// BLAKE3 of its tensors and configuration.
    pub digest: String,
    /// The name of the arithmetic that computes it.
    pub arithmetic: &'static str,
    /// Its shape.
    pub model: Shape,
    /// Whether it has a tokenizer.
    pub tokenizer: bool,
    /// Sums over its tensors.
    pub totals: Totals,
    /// Its tensors, by name.
    pub tensors: Vec<Tensor>,
    /// What is odd.
    pub warnings: Vec<String>,
}

/// The shape of a model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Shape {
    /// `bitnet` or `llama`.
    pub architecture: String,
    /// Number of blocks.
    pub layers: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the feed-forward block.
    pub ffn: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Number of tokens.
    pub vocabulary: usize,
    /// The most tokens of a text.
    pub max_positions: usize,
    /// What happens to the input of ternary layers.
    pub activations: &'static str,
    /// What the head is multiplied as.
    pub head: &'static str,
    /// The gate of the feed-forward block.
    pub gate: &'static str,
    /// Whether head and embeddings are one tensor.
    pub tied: bool,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Epsilon of the norms.
    pub rms_norm_eps: f32,
    /// Tokens that end a text.
    pub end_tokens: Vec<u32>,
}

/// Sums over the tensors that the model reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Totals {
    /// Ternary weights.
    pub ternary_weights: u64,
    /// Those of them that are 0.
    pub ternary_zeros: u64,
    /// Those that hold the unused code.
    pub unused_codes: u64,
    /// Float weights: embeddings, head, gains, dense layers.
    pub float_weights: u64,
    /// Bytes of all tensors in the files.
    pub bytes: u64,
}

/// One tensor.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Tensor {
    /// Its name.
    pub name: String,
    /// The type of its elements in the file.
    pub dtype: String,
    /// Its shape in the file.
    pub shape: Vec<usize>,
    /// What it is to the model.
    pub kind: &'static str,
    /// The file that it lies in.
    pub file: String,
    /// Its first byte in that file.
    pub offset: u64,
    /// Its length in bytes.
    pub bytes: u64,
    /// How many values it stands for.
    pub values: u64,
    /// Bits that a value takes in the file.
    pub bits_per_value: f64,
    /// For ternary weights and their scales: the scale.
    pub scale: Option<f32>,
    /// How many scales its weights have: one, or those of rows or groups.
    pub scales: Option<usize>,
    /// What the scale does: `multiplies` or `divides`.
    pub scale_use: Option<&'static str>,
    /// The share of zeros.
    pub zeros: Option<f64>,
    /// For ternary weights: how many hold the unused code.
    pub unused_codes: Option<u64>,
    /// Whether all values are one value.
    pub constant: bool,
    /// Whether that value is 0.
    pub all_zero: bool,
}

impl Inventory {
    /// The inventory of a loaded checkpoint.
    #[must_use]
    pub fn of(loaded: &Loaded) -> Self {
        let scales = scales(loaded);
        let manifest = &loaded.manifest;
        let several = several(loaded);
        let of = |entry| Tensor::of(entry, &scales, &several);
        let tensors = manifest.tensors.iter().map(of).collect();
        Self {
            name: manifest.name.clone(),
            digest: manifest.digest.clone(),
            arithmetic: engine::ARITHMETIC,
            model: shape(loaded),
            tokenizer: loaded.tokenizer.is_some(),
            totals: totals(&manifest.tensors),
            tensors,
            warnings: manifest.warnings.clone(),
        }
    }
}

impl Tensor {
    fn of(
        entry: &TensorEntry,
        scales: &BTreeMap<String, Scale>,
        several: &BTreeMap<String, usize>,
    ) -> Self {
        let values = entry.values;
        let name = entry.role.as_ref().unwrap_or(&entry.name);
        let scale = scales.get(name);
        Self {
            name: entry.name.clone(),
            dtype: entry.dtype.clone(),
            shape: entry.shape.clone(),
            kind: entry.kind.name(),
            file: entry.file.clone(),
            offset: entry.offset,
            bytes: entry.bytes,
            values,
            bits_per_value: 8.0 * entry.bytes as f64 / values as f64,
            scale: scale.map(|scale| scale.stored()),
            scales: scale.map(|_| 1).or_else(|| several.get(name).copied()),
            scale_use: scale.map(|scale| match scale {
                Scale::Multiply(_) => "multiplies",
                Scale::Divide(_) => "divides",
            }),
            zeros: entry.zeros,
            unused_codes: entry.census.map(|census| census[3]),
            constant: entry.constant,
            all_zero: entry.all_zero(),
        }
    }
}

/// The scales of tensors: of ternary layers under the names of their weights, and all that are
/// stored under the names of their tensors.
fn scales(loaded: &Loaded) -> BTreeMap<String, Scale> {
    let mut scales = BTreeMap::new();
    for (index, layer) in loaded.model.layers.iter().enumerate() {
        for slot in Slot::ALL {
            let (weights, name) = (&layer.linear(slot).weights, linear_name(index, slot));
            let mut of = Scale::Multiply(1.0);
            if let Weights::Ternary { scale, .. } = weights {
                of = *scale;
                scales.insert(format!("{name}.weight"), of);
            }
            if let Some((value, _)) = weights.tensor_scale() {
                scales.insert(format!("{name}.weight_scale"), of.with(value));
            }
            if let Some(value) = weights.scale_behind() {
                scales.insert(format!("{name}.weight_scale[0,0]"), of.with(value));
            }
        }
    }
    scales
}

/// How many scales the integer weights of a name have.
fn several(loaded: &Loaded) -> BTreeMap<String, usize> {
    let mut several = BTreeMap::new();
    for (index, layer) in loaded.model.layers.iter().enumerate() {
        for slot in Slot::ALL {
            if let Weights::Coded(coded) = &layer.linear(slot).weights {
                let scales = coded.rows().rows() * coded.rows().groups();
                several.insert(format!("{}.weight", linear_name(index, slot)), scales);
            }
        }
    }
    several
}

fn shape(loaded: &Loaded) -> Shape {
    let config = &loaded.model.config;
    Shape {
        architecture: config.architecture.clone(),
        layers: config.layers,
        hidden: config.hidden,
        ffn: config.ffn,
        heads: config.heads,
        kv_heads: config.kv_heads,
        head_dim: config.head_dim,
        vocabulary: config.vocabulary,
        max_positions: config.max_positions,
        activations: config.activations.name(),
        head: loaded.model.head_form().name(),
        gate: config.gate.name(),
        tied: config.tied,
        rope_theta: config.theta,
        rms_norm_eps: config.eps,
        end_tokens: config.end_tokens.clone(),
    }
}

fn totals(entries: &[TensorEntry]) -> Totals {
    let mut totals = Totals::default();
    for entry in entries {
        totals.bytes += entry.bytes;
        if let Some(census) = entry.census {
            totals.ternary_weights += census.iter().sum::<u64>();
            totals.ternary_zeros += census[1];
            totals.unused_codes += census[3];
        } else if matches!(entry.kind, TensorKind::Float | TensorKind::Norm) {
            totals.float_weights += entry.values;
        }
    }
    totals
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inventory(name: &str) -> Inventory {
        let origin = source::resolve(name).unwrap();
        Inventory::of(&source::load(&origin, None, false).unwrap())
    }

    #[test]
    fn the_totals_are_those_of_the_shape() {
        let found = inventory("@language");
        let shape = &found.model;
        let attention = 2 * shape.hidden * (shape.heads + shape.kv_heads) * shape.head_dim;
        let layer = attention + 3 * shape.hidden * shape.ffn;
        assert_eq!(found.totals.ternary_weights, (shape.layers * layer) as u64);
        let gains = shape.layers * (3 * shape.hidden + shape.ffn) + shape.hidden;
        let floats = shape.vocabulary * shape.hidden + gains;
        assert_eq!(found.totals.float_weights, floats as u64);
        assert!(found.tokenizer && found.totals.unused_codes == 0);
        let bytes: u64 = found.tensors.iter().map(|tensor| tensor.bytes).sum();
        assert_eq!(found.totals.bytes, bytes);
    }

    #[test]
    fn packed_weights_have_two_bits_and_the_scale_of_their_tensor() {
        let found = inventory("@digits");
        let packed = found.tensors.iter().filter(|tensor| tensor.kind == "ternary_packed");
        for weights in packed {
            assert_eq!(weights.bits_per_value, 2.0);
            let name = format!("{}_scale", weights.name);
            let scale = found.tensors.iter().find(|tensor| tensor.name == name).unwrap();
            assert_eq!((scale.scale, scale.scale_use), (weights.scale, weights.scale_use));
            assert!(weights.scale.unwrap() > 0.0 && weights.zeros.unwrap() < 1.0);
        }
    }

    #[test]
    fn the_table_names_every_tensor_and_obeys_none_of_them() {
        let mut found = inventory("@digits");
        found.tensors[0].name = "evil\u{1b}[2J".into();
        found.warnings.push("odd\r\nthing".into());
        let text = table::text(&found);
        assert!(!text.contains('\u{1b}') && !text.contains('\r'));
        assert!(text.contains("evil\\u{1b}[2J") && text.contains("odd\\r\\nthing"));
        for tensor in &found.tensors[1..] {
            assert!(text.contains(&tensor.name), "{}", tensor.name);
        }
    }
}

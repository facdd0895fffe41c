//! GGUF files: one file with shape, tokenizer and tensors.
//!
//! [`header`] reads the frame, [`shape`] the configuration, [`weights`] the tensors, [`tokens`] the
//! tokenizer; here they become a [`Model`] with the names that the rest of the program knows.

mod header;
mod shape;
mod tokens;
mod types;
mod value;
mod weights;

use std::collections::BTreeMap;
use std::sync::Arc;

use header::{Container, Extent};
use shape::Plan;
use types::GgmlType;
use weights::{Coded, Factor, Stored, gains, unturned};

use super::error::FormatError;
use super::hugging_face::{EMBEDDING, HEAD, linear_name, linear_shape, norm_name};
use super::manifest::{self, Digest, Manifest, TensorEntry, TensorKind};
use super::source::{Bytes, Source};
use super::{LoadOptions, Loaded};
use crate::model::{
    Activations, Config, Float, FloatType, Layer, Linear, Model, Norm, NormSlot, Rope, Scale, Slot,
    StoredBlocks, StoredScale, Weights,
};
use crate::packing::BlockType;
pub(super) use tokens::{LLAMA3, QWEN2};

/// What may stand beside a `.scale`: it enters the scales, or values, as one product each.
const BESIDE: &str = "codes or blocks beside a .scale";

/// Loads the GGUF file of a source.
pub(super) fn load(
    source: &Source,
    name: &str,
    options: &LoadOptions,
) -> Result<Loaded, FormatError> {
    let bytes = source.need(name, u64::MAX, options.mmap)?;
    let label = source.label(name);
    let container = header::read(&label, &bytes)?;
    let tied = !container.tensors.contains_key("output.weight");
    let mut plan = shape::plan(&container.metadata, tied)?;
    let mut builder = Builder::new(&container, &bytes, (name, &label), options, &plan)?;
    plan.config.activations = builder.activations;
    let model = builder.model(&plan)?;
    let (mut warnings, usual) = (builder.warnings, builder.usual);
    refuse_others(&container, &builder.entries)?;
    let entries = builder.entries.into_values().collect();
    let tokenizer = tokens::tokenizer(&container.metadata).unwrap_or_else(|why| {
        warnings.push(format!("no tokenizer: {why}"));
        None
    });
    let config_text = container.metadata.json();
    let digest = manifest::under(digest(&container, &bytes, &config_text), &model, usual);
    let manifest =
        Manifest { name: source.name(), digest, tensors: entries, warnings, config_text };
    Ok(Loaded { model, tokenizer, manifest })
}

/// The name of a linear layer in a file.
pub(super) fn stored_linear(layer: usize, slot: Slot) -> String {
    let name = match slot {
        Slot::Q => "attn_q",
        Slot::K => "attn_k",
        Slot::V => "attn_v",
        Slot::O => "attn_output",
        Slot::Gate => "ffn_gate",
        Slot::Up => "ffn_up",
        Slot::Down => "ffn_down",
    };
    format!("blk.{layer}.{name}")
}

/// The name of a norm in a file.
pub(super) fn stored_norm(layer: usize, slot: NormSlot) -> String {
    let name = match slot {
        NormSlot::Final => return "output_norm.weight".into(),
        NormSlot::Input => "attn_norm",
        NormSlot::AttentionSub => "attn_sub_norm",
        NormSlot::Post => "ffn_norm",
        NormSlot::FfnSub => "ffn_sub_norm",
        NormSlot::Query => "attn_q_norm",
        NormSlot::Key => "attn_k_norm",
        NormSlot::Inside(_) => unreachable!("no GGUF file has norms inside its linear layers"),
    };
    format!("blk.{layer}.{name}.weight")
}

struct Builder<'a> {
    tensors: &'a BTreeMap<&'a str, Extent<'a>>,
    bytes: &'a Bytes<'a>,
    file: &'a str,
    label: &'a str,
    options: &'a LoadOptions,
    activations: Activations,
    usual: Activations,
    entries: BTreeMap<String, TensorEntry>,
    warnings: Vec<String>,
}

impl<'a> Builder<'a> {
    fn new(
        container: &'a Container<'a>,
        bytes: &'a Bytes<'a>,
        (file, label): (&'a str, &'a str),
        options: &'a LoadOptions,
        plan: &Plan,
    ) -> Result<Self, FormatError> {
        let mut builder = Self {
            tensors: &container.tensors,
            bytes,
            file,
            label,
            options,
            activations: Activations::None,
            usual: Activations::None,
            entries: BTreeMap::new(),
            warnings: Vec::new(),
        };
        builder.usual = builder.usual_activations(plan.config.layers)?;
        if options.activations.is_some() {
            // What the file leaves open is said: there is nothing to warn of.
            builder.warnings.clear();
        }
        builder.activations = options.activations.unwrap_or(builder.usual);
        Ok(builder)
    }

    fn stored(&self, name: &str, expected: &str) -> Result<Stored<'a>, FormatError> {
        let extent = self.tensors.get(name).ok_or_else(|| FormatError::MissingTensor {
            tensor: name.into(),
            expected: expected.into(),
            place: self.label.into(),
        })?;
        Ok(Stored { extent, file: self.file, label: self.label })
    }

    /// int8 codes where a linear layer is ternary under one scale, as BitNet trains; floats where
    /// groups have scales of their own, as Bonsai and TriLM do. The file may claim any number of
    /// layers: what it does not have ends the search, as it will end the loading.
    fn usual_activations(&mut self, layers: usize) -> Result<Activations, FormatError> {
        let mut ternary = false;
        for layer in 0..layers {
            for slot in Slot::ALL {
                let name = stored_linear(layer, slot) + ".weight";
                let stored = self.stored(&name, "weights")?;
                let extent = stored.extent;
                match extent.kind {
                    GgmlType::I2s => ternary = true,
                    GgmlType::Blocks(kind @ (BlockType::Tq1 | BlockType::Tq2)) => {
                        if stored.uniform_scale(kind)?.is_none() {
                            self.warnings.push(format!(
                                "tensor {name}: blocks have scales of their own, so activations \
                                 are floats (activations=int8 behind the name says otherwise)"
                            ));
                            return Ok(Activations::None);
                        }
                        ternary = true;
                    }
                    _ => {}
                }
            }
        }
        Ok(if ternary { Activations::PerTokenInt8 } else { Activations::None })
    }

    fn model(&mut self, plan: &Plan) -> Result<Model, FormatError> {
        let config = &plan.config;
        let shape = (config.vocabulary, config.hidden);
        let embedding = Arc::new(self.matrix(("token_embd.weight", EMBEDDING), shape, None)?);
        let mut layers = Vec::new();
        for index in 0..config.layers {
            layers.push(self.layer(plan, index)?);
        }
        let final_norm = self.norm(0, NormSlot::Final, config.hidden, config.eps)?;
        let head = if config.tied {
            Arc::clone(&embedding)
        } else {
            Arc::new(self.matrix(("output.weight", HEAD), shape, None)?)
        };
        let rope = Arc::new(Rope::of(config));
        Ok(Model {
            config: config.clone(),
            embedding,
            layers,
            elements: BTreeMap::new(),
            final_norm,
            head,
            coded_head: None,
            rope,
        })
    }

    fn record(&mut self, mut entry: TensorEntry, role: String) {
        if entry.constant && entry.kind != TensorKind::Norm {
            self.warnings.push(format!("tensor {}: all values are the same", entry.name));
        }
        entry.role = Some(role);
        if let Some(extent) = self.tensors.get(entry.name.as_str()) {
            self.bytes.release(extent.data);
        }
        self.entries.insert(entry.name.clone(), entry);
    }

    fn matrix(
        &mut self,
        (name, role): (&str, &str),
        shape: (usize, usize),
        factor: Factor,
    ) -> Result<Float, FormatError> {
        let expected = format!("floats or blocks {:?}", [shape.0, shape.1]);
        let (float, entry) = self.stored(name, &expected)?.matrix(shape, factor)?;
        self.record(entry, role.into());
        Ok(float)
    }

    fn norm(
        &mut self,
        layer: usize,
        slot: NormSlot,
        width: usize,
        eps: f32,
    ) -> Result<Norm, FormatError> {
        let stored = self.stored(&stored_norm(layer, slot), &format!("F32 [{width}]"))?;
        let (gains, stored, entry) = gains(&stored, width)?;
        self.record(entry, norm_name(layer, slot));
        Ok(Norm { gains, eps, stored })
    }

    fn layer(&mut self, plan: &Plan, index: usize) -> Result<Layer, FormatError> {
        let Config { hidden, ffn, eps, head_dim, .. } = plan.config;
        let mut norm = |slot, width| self.norm(index, slot, width, eps);
        let input_norm = norm(NormSlot::Input, hidden)?;
        let post_norm = norm(NormSlot::Post, hidden)?;
        let mut some = |wanted, slot, width| {
            if wanted { norm(slot, width).map(Some) } else { Ok(None) }
        };
        let attention_sub_norm = some(plan.sub_norms, NormSlot::AttentionSub, hidden)?;
        let ffn_sub_norm = some(plan.sub_norms, NormSlot::FfnSub, ffn)?;
        let query_norm = some(plan.head_norms, NormSlot::Query, head_dim)?;
        let key_norm = some(plan.head_norms, NormSlot::Key, head_dim)?;
        let linears = [
            self.linear(plan, index, Slot::Q)?,
            self.linear(plan, index, Slot::K)?,
            self.linear(plan, index, Slot::V)?,
            self.linear(plan, index, Slot::O)?,
            self.linear(plan, index, Slot::Gate)?,
            self.linear(plan, index, Slot::Up)?,
            self.linear(plan, index, Slot::Down)?,
        ];
        Ok(Layer {
            input_norm,
            attention_sub_norm,
            query_norm,
            key_norm,
            post_norm,
            ffn_sub_norm,
            linears,
        })
    }

    fn linear(&mut self, plan: &Plan, layer: usize, slot: Slot) -> Result<Linear, FormatError> {
        let shape = linear_shape(&plan.config, slot);
        let name = stored_linear(layer, slot) + ".weight";
        let role = linear_name(layer, slot) + ".weight";
        let turned =
            (plan.turned && matches!(slot, Slot::Q | Slot::K)).then_some(plan.config.head_dim);
        let stored = self.stored(&name, &format!("weights {:?}", [shape.0, shape.1]))?;
        let factor = self.factor(layer, slot)?;
        let codes = match stored.extent.kind {
            GgmlType::I2s => true,
            GgmlType::Blocks(kind) => kind.has_codes(),
            _ => false,
        };
        if codes {
            let (runs, unused) = (self.options.i2s, self.options.unused);
            let coded = stored.coded(shape, turned, runs, unused)?;
            if let Some(scale) = coded.scale {
                let blocks = stored.blocks_of(shape, turned, factor);
                return self.ternary(&stored, role, coded, (scale, factor, blocks));
            }
        }
        if let (GgmlType::Blocks(kind), Some(_)) = (stored.extent.kind, self.activations.levels())
            && kind.has_integers()
        {
            let how = (self.options.unused, factor);
            let (coded, entry) = stored.grouped(kind, shape, turned, how)?;
            self.record(entry, role);
            let weights = Weights::Coded(Arc::new(coded));
            return Ok(Linear { weights, norm: None, activations: self.activations });
        }
        if factor.is_some() && stored.float().is_some() {
            return Err(stored.refused(BESIDE));
        }
        let float = self.matrix((&name, &role), shape, factor)?;
        self.entries.entry(name).and_modify(|entry| entry.turned = turned);
        let float = match turned {
            Some(head_dim) => unturned(float, head_dim),
            None => float,
        };
        let weights = Weights::Dense(Arc::new(float));
        Ok(Linear { weights, norm: None, activations: Activations::None })
    }

    /// The scale beside a linear layer, by which its outputs are multiplied.
    fn factor(&mut self, layer: usize, slot: Slot) -> Result<Factor, FormatError> {
        let name = stored_linear(layer, slot) + ".scale";
        if !self.tensors.contains_key(name.as_str()) {
            return Ok(None);
        }
        let stored = self.stored(&name, "F32 [1]")?;
        let factor = stored.scale()?;
        self.record(stored.entry(TensorKind::Scale), linear_name(layer, slot) + ".weight_scale");
        Ok(Some(factor))
    }

    fn ternary(
        &mut self,
        stored: &Stored,
        role: String,
        coded: Coded,
        (scale, factor, blocks): (f32, Factor, Option<Arc<StoredBlocks>>),
    ) -> Result<Linear, FormatError> {
        let Coded { rows, layout, census, .. } = coded;
        let mut entry = stored.entry(TensorKind::TernaryPacked).with_census(census);
        let whole = stored.extent.kind == GgmlType::I2s;
        if whole {
            // The scale behind the codes is a tensor of its own to whoever looks for its bits.
            let mut scale_entry = stored.entry(TensorKind::Scale);
            entry.bytes = layout.bytes() as u64;
            scale_entry.name += " (scale)";
            scale_entry.dtype = "F32".into();
            scale_entry.shape = vec![1];
            scale_entry.values = 1;
            scale_entry.offset += entry.bytes;
            scale_entry.bytes = 4;
            // Beside another it is named as that of a row, which no I2_S tensor has.
            let name = if factor.is_some() { ".weight_scale[0,0]" } else { ".weight_scale" };
            let role = role.trim_end_matches(".weight").to_owned() + name;
            self.record(scale_entry, role);
        }
        self.record(entry, role);
        let product = scale * factor.map_or(1.0, |(factor, _)| factor);
        if !(product.is_finite() && product > 0.0) {
            return Err(stored.refused("scales whose product is positive and finite"));
        }
        // A scale that stands in blocks has its bits there, beside that of the tensor.
        let stored = match factor {
            None => whole.then_some(StoredScale::One(FloatType::F32)),
            Some(beside) if whole => Some(StoredScale::Two { behind: scale, beside }),
            Some((_, kind)) => Some(StoredScale::One(kind)),
        };
        let weights = Weights::Ternary {
            rows: Arc::new(rows),
            scale: Scale::Multiply(product),
            stored,
            layout: Some(layout),
            blocks,
        };
        Ok(Linear { weights, norm: None, activations: self.activations })
    }
}

/// Refuses tensors that the model does not read: llama.cpp would compute with each of them (biases,
/// rotary factors, experts), so that leaving one out would be another model.
fn refuse_others(
    container: &Container,
    entries: &BTreeMap<String, TensorEntry>,
) -> Result<(), FormatError> {
    match container.tensors.values().find(|extent| !entries.contains_key(extent.name)) {
        None => Ok(()),
        Some(extent) => Err(FormatError::Entry {
            file: container.metadata.file.clone(),
            tensor: extent.name.into(),
            expected: "tensors that this engine computes with".into(),
            got: "another".into(),
        }),
    }
}

/// The digest of a file: its tensors, by name, and its metadata.
fn digest(container: &Container, bytes: &Bytes, config: &str) -> String {
    let mut digest = Digest::of(b"bitnet-certify gguf 1");
    digest.part(&(container.tensors.len() as u64).to_le_bytes());
    for (name, extent) in &container.tensors {
        let shape = extent.shape.iter().flat_map(|&d| (d as u64).to_le_bytes());
        digest.part(name.as_bytes());
        digest.part(extent.kind.name().as_bytes());
        digest.part(&shape.collect::<Vec<u8>>());
        digest.long_part(extent.data.len(), |read| bytes.pass(extent.data, read));
    }
    digest.part(config.as_bytes());
    digest.hex()
}

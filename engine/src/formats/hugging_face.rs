//! A Hugging Face checkpoint: from named tensors to a [`Model`].
//!
//! Invariant: a tensor is read once, as the configuration says it must be, or the model is refused;
//! what no one reads is named in a warning.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::config::{Family, Plan};
use super::error::FormatError;
use super::manifest::{TensorEntry, TensorKind};
use super::quantization::Form;
use super::shards::Tensor;
use super::values::{FLOATS, count_zeros};
use super::{LoadOptions, ternary};
use crate::model::{
    Activations, Coded, CodedFile, Config, Elements, Float, FloatType, Layer, Linear, Model, Norm,
    NormSlot, Rope, Scale, Scales, Slot, StoredScale, Weights,
};
use crate::packing::{CodedRows, Layout, TernaryRows, weight_of};

/// The token embeddings.
pub const EMBEDDING: &str = "model.embed_tokens.weight";
/// The head, where it is not tied to the embeddings.
pub const HEAD: &str = "lm_head.weight";

/// The dotted name of a linear layer; its weights are `<name>.weight`, its scale
/// `<name>.weight_scale`.
#[must_use]
pub fn linear_name(layer: usize, slot: Slot) -> String {
    format!("model.layers.{layer}.{}", slot.name())
}

/// The name of the gains of a norm; the layer means nothing to the final one.
#[must_use]
pub fn norm_name(layer: usize, slot: NormSlot) -> String {
    let within = match slot {
        NormSlot::Final => return "model.norm.weight".into(),
        NormSlot::Inside(slot) => return format!("{}.rms_norm.weight", linear_name(layer, slot)),
        NormSlot::Input => "input_layernorm",
        NormSlot::AttentionSub => "self_attn.attn_sub_norm",
        NormSlot::Query => "self_attn.q_norm",
        NormSlot::Key => "self_attn.k_norm",
        NormSlot::Post => "post_attention_layernorm",
        NormSlot::FfnSub => "mlp.ffn_sub_norm",
    };
    format!("model.layers.{layer}.{within}.weight")
}

/// What was assembled from the tensors.
pub(super) struct Assembled {
    /// The model.
    pub(super) model: Model,
    /// An entry for every tensor, in no order.
    pub(super) entries: Vec<TensorEntry>,
    /// What is odd.
    pub(super) warnings: Vec<String>,
}

/// Assembles the model that `plan` describes.
pub(super) fn assemble(
    place: &str,
    plan: &Plan,
    tensors: &BTreeMap<&str, Tensor>,
    options: &LoadOptions,
) -> Result<Assembled, FormatError> {
    let mut builder = Builder {
        place,
        plan,
        tensors,
        options,
        entries: BTreeMap::new(),
        elements: BTreeMap::new(),
        warnings: Vec::new(),
    };
    let config = &plan.config;
    let embedding = Arc::new(builder.matrix(EMBEDDING, config.vocabulary, config.hidden)?);
    let mut layers = Vec::new();
    for index in 0..config.layers {
        layers.push(builder.layer(index)?);
    }
    let final_norm = builder.norm(&norm_name(0, NormSlot::Final), config.hidden, config.eps)?;
    let head = builder.head(&embedding)?;
    builder.finish_warnings();
    let rope = Arc::new(Rope::of(config));
    let (config, coded_head) = (config.clone(), None);
    let elements = builder.elements;
    let model = Model { config, embedding, layers, elements, final_norm, head, coded_head, rope };
    let entries = builder.entries.into_values().collect();
    Ok(Assembled { model, entries, warnings: builder.warnings })
}

struct Builder<'a> {
    place: &'a str,
    plan: &'a Plan,
    tensors: &'a BTreeMap<&'a str, Tensor<'a>>,
    options: &'a LoadOptions,
    entries: BTreeMap<String, TensorEntry>,
    elements: BTreeMap<(usize, Slot), Arc<Elements>>,
    warnings: Vec<String>,
}

impl<'a> Builder<'a> {
    fn tensor(&self, name: &str, expected: &str) -> Result<&'a Tensor<'a>, FormatError> {
        self.tensors.get(name).ok_or_else(|| FormatError::MissingTensor {
            tensor: name.into(),
            expected: expected.into(),
            place: self.place.into(),
        })
    }

    fn record(&mut self, entry: TensorEntry) {
        if entry.constant && entry.kind != TensorKind::Norm {
            let name = &entry.name;
            self.warnings.push(format!("tensor {name}: all values are the same"));
        }
        if let Some(tensor) = self.tensors.get(entry.name.as_str()) {
            tensor.release();
        }
        self.entries.insert(entry.name.clone(), entry);
    }

    fn matrix(&mut self, name: &str, rows: usize, columns: usize) -> Result<Float, FormatError> {
        let tensor = self.tensor(name, &format!("{FLOATS} {:?}", [rows, columns]))?;
        let (float, entry) = tensor.matrix(rows, columns)?;
        self.record(entry);
        Ok(float)
    }

    fn norm(&mut self, name: &str, width: usize, eps: f32) -> Result<Norm, FormatError> {
        let in_file = norm_in_file(self.plan.family, name);
        let tensor = self.tensor(&in_file, &format!("{FLOATS} [{width}]"))?;
        let (gains, stored) = tensor.values(&[width])?;
        let mut entry = tensor.entry(TensorKind::Norm, count_zeros(&gains));
        entry.role = (in_file != name).then(|| name.to_owned());
        self.record(entry);
        Ok(Norm { gains: gains.into(), eps, stored })
    }

    fn head(&mut self, embedding: &Arc<Float>) -> Result<Arc<Float>, FormatError> {
        let config = &self.plan.config;
        if !config.tied {
            return Ok(Arc::new(self.matrix(HEAD, config.vocabulary, config.hidden)?));
        }
        if let (Some(head), Some(tied)) = (self.tensors.get(HEAD), self.tensors.get(EMBEDDING)) {
            if head.data != tied.data || head.dtype != tied.dtype || head.shape != tied.shape {
                self.warnings.push(format!(
                    "tensor {HEAD} differs from {EMBEDDING} and is ignored: config.json ties them"
                ));
            }
            self.entries.insert(HEAD.into(), TensorEntry::of(head, TensorKind::Ignored));
        }
        Ok(Arc::clone(embedding))
    }

    fn layer(&mut self, index: usize) -> Result<Layer, FormatError> {
        let Config { hidden, ffn, head_dim, eps, .. } = self.plan.config;
        let family = self.plan.family;
        let name = |slot| norm_name(index, slot);
        let input_norm = self.norm(&name(NormSlot::Input), hidden, eps)?;
        let post_norm = self.norm(&name(NormSlot::Post), hidden, eps)?;
        let (mut attention_sub_norm, mut ffn_sub_norm) = (None, None);
        if family.has_sub_norms() {
            attention_sub_norm = Some(self.norm(&name(NormSlot::AttentionSub), hidden, eps)?);
            ffn_sub_norm = Some(self.norm(&name(NormSlot::FfnSub), ffn, eps)?);
        }
        let (mut query_norm, mut key_norm) = (None, None);
        if family == Family::Qwen3 {
            query_norm = Some(self.norm(&name(NormSlot::Query), head_dim, eps)?);
            key_norm = Some(self.norm(&name(NormSlot::Key), head_dim, eps)?);
        }
        let linears = [
            self.linear(index, Slot::Q)?,
            self.linear(index, Slot::K)?,
            self.linear(index, Slot::V)?,
            self.linear(index, Slot::O)?,
            self.linear(index, Slot::Gate)?,
            self.linear(index, Slot::Up)?,
            self.linear(index, Slot::Down)?,
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

    fn linear(&mut self, layer: usize, slot: Slot) -> Result<Linear, FormatError> {
        let name = linear_name(layer, slot);
        let (rows, columns) = linear_shape(&self.plan.config, slot);
        let quantization = self.plan.quantization.as_ref();
        let Some(quantization) = quantization.filter(|found| found.converts(&name)) else {
            let dense = Arc::new(self.matrix(&format!("{name}.weight"), rows, columns)?);
            let weights = Weights::Dense(dense);
            return Ok(Linear { weights, norm: None, activations: Activations::None });
        };
        let weights = self.ternary((layer, slot), (rows, columns), quantization.form)?;
        let norm = match quantization.inner_eps {
            Some(eps) => {
                Some(self.norm(&norm_name(layer, NormSlot::Inside(slot)), columns, eps)?)
            }
            None => None,
        };
        Ok(Linear { weights, norm, activations: self.plan.config.activations })
    }

    fn ternary(
        &mut self,
        site: (usize, Slot),
        shape: (usize, usize),
        form: Form,
    ) -> Result<Weights, FormatError> {
        let (rows, columns) = shape;
        let name = &linear_name(site.0, site.1);
        let expected = match form {
            Form::Master => format!("{FLOATS} {:?}", [rows, columns]),
            _ => format!("U8 {:?}", [rows / 4, columns]),
        };
        let tensor = self.tensor(&format!("{name}.weight"), &expected)?;
        if !rows.is_multiple_of(4) {
            return Err(tensor.refused(format!("outputs in whole quarters, not {rows} of them")));
        }
        if form == Form::Master {
            let (rows, rounding, entry) = ternary::quantized(tensor, shape)?;
            if self.options.elements {
                let masters = tensor.as_stored(tensor.float_type(tensor.shape)?, columns);
                self.elements.insert(site, Arc::new(Elements::Masters(masters, rounding)));
            }
            self.record(entry);
            let (rows, scale) = (Arc::new(rows), Scale::Multiply(rounding.scale));
            let layout = Layout::hf(rows.rows(), rows.columns());
            let stored = Some(StoredScale::One(FloatType::F32));
            return Ok(Weights::Ternary { rows, scale, stored, layout, blocks: None });
        }
        // Transformers packs in place, so a packed tensor is known by its height alone.
        let packed = form == Form::Divide || tensor.shape.first() == Some(&(rows / 4));
        let (rows, entry) = if packed {
            ternary::packed(tensor, shape, self.options.unused)?
        } else {
            let (rows, elements, entry) = ternary::unpacked(tensor, shape)?;
            if self.options.elements {
                self.elements.insert(site, Arc::new(elements));
            }
            (rows, entry)
        };
        self.record(entry);
        let (scales, stored) = self.scales(&format!("{name}.weight_scale"), shape.0)?;
        let layout = Layout::hf(rows.rows(), rows.columns());
        let of = if form == Form::Divide { Scale::Divide } else { Scale::Multiply };
        let &[scale] = &scales[..] else {
            let scales = Scales::Rows(scales.into_iter().map(of).collect());
            let coded = Coded::new("ternary", by_rows(&rows), scales);
            let file = CodedFile::Packed { layout, scales: stored };
            return Ok(Weights::Coded(Arc::new(coded.of_file(file))));
        };
        let stored = Some(StoredScale::One(stored));
        let (rows, scale) = (Arc::new(rows), of(scale));
        Ok(Weights::Ternary { rows, scale, stored, layout, blocks: None })
    }

    /// The scale of a tensor, or those of its rows.
    fn scales(&mut self, name: &str, rows: usize) -> Result<(Vec<f32>, FloatType), FormatError> {
        let expected = format!("{FLOATS} [1], or [{rows}] for scales of rows");
        let tensor = self.tensor(name, &expected)?;
        let one = tensor.shape.is_empty() || tensor.shape == [1];
        if !one && tensor.shape != [rows] && tensor.shape != [rows, 1] {
            return Err(tensor.refused(expected));
        }
        let stored = tensor.float_type(tensor.shape)?;
        let scales = super::values::widened(tensor.data, stored);
        let bad = |scale: &f32| !(scale.is_finite() && *scale > 0.0);
        if let Some(index) = scales.iter().position(bad) {
            return Err(tensor.bad_value(index, "a positive finite scale", scales[index]));
        }
        self.record(tensor.entry(TensorKind::Scale, 0));
        Ok((scales, stored))
    }

    /// Names the tensors that nothing reads.
    fn finish_warnings(&mut self) {
        for (&name, tensor) in self.tensors {
            if self.entries.contains_key(name) {
                continue;
            }
            // Older checkpoints carry the rotary frequencies, which the configuration fixes.
            if !name.ends_with("rotary_emb.inv_freq") {
                self.warnings.push(format!("tensor {name:?} is not part of the model: ignored"));
            }
            self.entries.insert(name.into(), TensorEntry::of(tensor, TensorKind::Ignored));
        }
    }
}

/// Ternary weights as integers whose rows are summed whole.
fn by_rows(rows: &TernaryRows) -> CodedRows {
    CodedRows::pack((rows.rows(), rows.columns()), rows.columns(), |row, out| {
        for (weight, code) in out.iter_mut().zip(rows.row(row)) {
            *weight = weight_of(code) as i8;
        }
    })
}

/// The name of a norm in the files of a family.
fn norm_in_file(family: Family, name: &str) -> String {
    if family != Family::OneBitLlm {
        return name.into();
    }
    name.replace("self_attn.attn_sub_norm", "self_attn.inner_attn_ln")
        .replace("mlp.ffn_sub_norm", "mlp.ffn_layernorm")
}

/// `(outputs, inputs)` of a linear layer.
pub(super) fn linear_shape(config: &Config, slot: Slot) -> (usize, usize) {
    match slot {
        Slot::Q => (config.query_width(), config.hidden),
        Slot::K | Slot::V => (config.kv_width(), config.hidden),
        Slot::O => (config.hidden, config.query_width()),
        Slot::Gate | Slot::Up => (config.ffn, config.hidden),
        Slot::Down => (config.hidden, config.ffn),
    }
}

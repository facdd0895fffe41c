//! A model as a Hugging Face folder: `config.json`, `model.safetensors`, `tokenizer.json`.

use std::borrow::Cow;

use safetensors::Dtype;
use safetensors::tensor::{TensorView, serialize};
use serde_json::json;

use super::super::Tokenizer;
use super::super::hugging_face::{EMBEDDING, HEAD, linear_name, norm_name};
use super::{File, Form, NoForm, check, float_bytes, ternary};
use crate::model::{Float, FloatType, Linear, Model, Norm, NormSlot, Scale, Slot};
use crate::packing::Layout;

/// A tensor of the file.
type Tensor = (String, Dtype, Vec<usize>, Vec<u8>);

/// The files of a model.
pub(super) fn files(
    model: &Model,
    tokenizer: Option<&Tokenizer>,
) -> Result<(Vec<File>, Vec<String>), NoForm> {
    check(model, Form::HfPacked)?;
    let inner = inner_eps(model)?;
    let (tensors, divides) = tensors(model)?;
    let views = tensors.iter().map(|(name, dtype, shape, data)| {
        let view = TensorView::new(*dtype, shape.clone(), data).expect("bytes of this shape");
        (Cow::Borrowed(name.as_str()), view)
    });
    let metadata = Some([("format".to_owned(), "pt".to_owned())].into());
    let tensors = serialize(views, metadata).expect("names are told apart");
    let mut all = vec![
        File { name: "config.json", bytes: config(model, divides, inner).into_bytes() },
        File { name: "model.safetensors", bytes: tensors },
    ];
    if let Some(json) = tokenizer.and_then(Tokenizer::json) {
        all.push(File { name: "tokenizer.json", bytes: json.into_bytes() });
    }
    Ok((all, Vec::new()))
}

/// The epsilon of the norms inside linear layers: a file has it once, for all of them or none.
fn inner_eps(model: &Model) -> Result<Option<f32>, NoForm> {
    let eps = |linear: &Linear| linear.norm.as_ref().map(|norm| norm.eps);
    let first = eps(model.layers[0].linear(Slot::Q));
    let mut linears = model.layers.iter().flat_map(|layer| &layer.linears);
    if linears.all(|linear| eps(linear).map(f32::to_bits) == first.map(f32::to_bits)) {
        return Ok(first);
    }
    Err(NoForm {
        part: "norms inside linear layers".into(),
        expected: "one in each, of one epsilon, or none".into(),
        got: "a mixture".into(),
    })
}

fn config(model: &Model, divides: bool, inner: Option<f32>) -> String {
    let config = &model.config;
    let layer = &model.layers[0];
    let (kind, class) = match (layer.attention_sub_norm.is_some(), layer.query_norm.is_some()) {
        (true, _) => ("bitnet", "BitNetForCausalLM"),
        (false, true) => ("qwen3", "Qwen3ForCausalLM"),
        (false, false) => ("llama", "LlamaForCausalLM"),
    };
    let mut quantization = json!({
        "quant_method": "bitnet", "quantization_mode": "offline",
        "linear_class": if divides { "bitlinear" } else { "autobitlinear" },
        "modules_to_not_convert": ["lm_head"], "use_rms_norm": inner.is_some(),
    });
    if let Some(eps) = inner {
        quantization["rms_norm_eps"] = json!(eps);
    }
    let mut value = json!({
        "architectures": [class], "model_type": kind,
        "hidden_size": config.hidden, "intermediate_size": config.ffn,
        "num_hidden_layers": config.layers, "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads, "head_dim": config.head_dim,
        "vocab_size": config.vocabulary, "max_position_embeddings": config.max_positions,
        "rms_norm_eps": config.eps, "rope_theta": config.theta, "hidden_act": config.gate.name(),
        "tie_word_embeddings": config.tied, "eos_token_id": config.end_tokens,
        "quantization_config": quantization,
    });
    if let Some(yarn) = &config.yarn {
        value["rope_scaling"] = json!({
            "rope_type": "yarn", "factor": yarn.factor, "beta_fast": yarn.beta_fast,
            "beta_slow": yarn.beta_slow, "attention_factor": yarn.stretch,
            "original_max_position_embeddings": yarn.original,
        });
    }
    serde_json::to_string_pretty(&value).expect("a value of texts and numbers") + "\n"
}

/// The tensors, and whether their scales divide.
fn tensors(model: &Model) -> Result<(Vec<Tensor>, bool), NoForm> {
    let mut all = vec![matrix(EMBEDDING, &model.embedding)];
    if !model.config.tied {
        all.push(matrix(HEAD, &model.head));
    }
    all.push(gains(norm_name(0, NormSlot::Final), &model.final_norm));
    let mut ways = [false; 2];
    for (index, layer) in model.layers.iter().enumerate() {
        for slot in NormSlot::of_layer() {
            all.extend(layer.norm(slot).map(|norm| gains(norm_name(index, slot), norm)));
        }
        for slot in Slot::ALL {
            let name = linear_name(index, slot);
            let (rows, scale) = ternary(layer.linear(slot), &name)?;
            ways[usize::from(matches!(scale, Scale::Divide(_)))] = true;
            let (count, columns) = (rows.rows(), rows.columns());
            let layout = Layout::hf(count, columns).ok_or_else(|| NoForm {
                part: name.clone(),
                expected: "outputs in whole quarters".into(),
                got: format!("{count} of them"),
            })?;
            let data = layout.write(|row, codes| rows.read_row(row, codes)).expect("a flat layout");
            all.push((format!("{name}.weight"), Dtype::U8, vec![count / 4, columns], data));
            let scale = scale.stored().to_le_bytes().to_vec();
            all.push((name + ".weight_scale", Dtype::F32, vec![1], scale));
        }
    }
    if ways == [true; 2] {
        return Err(NoForm {
            part: "scales".into(),
            expected: "all to divide or all to multiply".into(),
            got: "both".into(),
        });
    }
    Ok((all, ways[1]))
}

fn dtype(stored: FloatType) -> Dtype {
    match stored {
        FloatType::F32 => Dtype::F32,
        FloatType::F16 => Dtype::F16,
        FloatType::Bf16 => Dtype::BF16,
    }
}

fn matrix(name: &str, float: &Float) -> Tensor {
    let (data, stored) = float_bytes(float);
    (name.into(), dtype(stored), vec![float.rows(), float.columns()], data)
}

fn gains(name: String, norm: &Norm) -> Tensor {
    let data = norm.gains.iter().flat_map(|gain| gain.to_le_bytes()).collect();
    (name, Dtype::F32, vec![norm.gains.len()], data)
}

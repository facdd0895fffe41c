//! Rarer forms against transformers: norms inside linear layers, layers that stay float, and models
//! without any quantisation. The variants are made out of the reference models by the same rules as
//! when their goldens were computed.

use engine::kernels;
use engine::model::KvKind;
use engine::numerics::argmax;
use serde_json::json;

use crate::checkpoint::{Checkpoint, Part, encoded, linear_names, unpack};
use crate::reference::{Golden, largest, prefill};

/// Compares all logits of a prompt of 12 tokens.
fn agree(variant: &str, checkpoint: &Checkpoint) {
    let golden = Golden::of("variants");
    let model = checkpoint.load().expect("a sound checkpoint").model;
    let ids = golden.ids(&format!("{variant}.input_ids"));
    let logits = prefill(kernels::best(), &model, KvKind::F32, &ids);
    let expected = golden.floats(&format!("{variant}.logits"));
    // No int8 code flips on these inputs, so only float rounding is left.
    let far = largest(&(&logits - &expected));
    assert!(far < 1e-4, "{variant}: {far:e}");
    for (got, expected) in logits.rows().into_iter().zip(expected.rows()) {
        let answer = |row: &[f32]| argmax(row).expect("numbers");
        let (got, expected) = (got.as_slice().expect("a row"), expected.as_slice().expect("a row"));
        assert_eq!(answer(got), answer(expected), "{variant}");
    }
}

/// Makes a packed layer a float one: its codes as weights of a sixteenth.
fn make_float(checkpoint: &mut Checkpoint, name: &str, dtype: &str) {
    let (shape, weights) = unpack(checkpoint.part(name));
    let small: Vec<f32> = weights.iter().map(|weight| weight * 0.0625).collect();
    let data = encoded(dtype, &small);
    *checkpoint.part(name) = Part { dtype: dtype.into(), shape, data };
    checkpoint.tensors.remove(&format!("{name}_scale"));
}

#[test]
fn norms_inside_linear_layers_compute_as_in_transformers() {
    let mut checkpoint = Checkpoint::of("bitnet_packed_bitlinear");
    checkpoint.config["quantization_config"]["use_rms_norm"] = json!(true);
    for name in linear_names(&checkpoint) {
        let width = checkpoint.part(&name).shape[1];
        let gain = |k: usize| 1.0 + (((k * 37) % 64) as f32 - 32.0) / 128.0;
        let data = encoded("BF16", &(0..width).map(gain).collect::<Vec<_>>());
        let part = Part { dtype: "BF16".into(), shape: vec![width], data };
        checkpoint.tensors.insert(name.replace(".weight", ".rms_norm.weight"), part);
    }
    agree("inner_norm", &checkpoint);
}

#[test]
fn layers_that_stay_float_compute_as_in_transformers() {
    let mut checkpoint = Checkpoint::of("bitnet_packed_bitlinear");
    let kept = json!(["lm_head", "model.layers.0.mlp", "v_proj"]);
    checkpoint.config["quantization_config"]["modules_to_not_convert"] = kept;
    for name in linear_names(&checkpoint) {
        if name.contains(".0.mlp.") || name.contains("v_proj") {
            make_float(&mut checkpoint, &name, "F16");
        }
    }
    agree("kept", &checkpoint);
}

#[test]
fn a_model_without_quantisation_computes_as_in_transformers() {
    let mut checkpoint = Checkpoint::of("llama_packed_bitlinear");
    checkpoint.config.as_object_mut().expect("an object").remove("quantization_config");
    for name in linear_names(&checkpoint) {
        make_float(&mut checkpoint, &name, "F32");
    }
    agree("dense", &checkpoint);
}

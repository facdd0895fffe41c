//! Hostile configurations, tensors and values: each is refused with a message that says where and
//! why.

use serde_json::json;

use crate::checkpoint::{Checkpoint, Part, refused};

const MODEL: &str = "bitnet_packed_bitlinear";
const WEIGHT: &str = "model.layers.2.self_attn.k_proj.weight";

#[test]
fn tensors_that_do_not_fit_the_configuration_are_refused() {
    let change = |name: &str, change: &dyn Fn(&mut Part), parts: &[&str]| {
        let mut checkpoint = Checkpoint::of(MODEL);
        change(checkpoint.part(name));
        let mut parts = parts.to_vec();
        parts.extend(["made/model.safetensors", name]);
        refused(checkpoint.load(), &parts);
    };
    change(WEIGHT, &|p| p.shape = vec![32, 64], &["expected U8 [16, 128]", "got U8 [32, 64]"]);
    change(WEIGHT, &|p| p.shape = vec![2048], &["expected U8 [16, 128]"]);
    change(WEIGHT, &|p| p.dtype = "I8".into(), &["expected U8", "got I8"]);
    let norm = "model.layers.0.input_layernorm.weight";
    change(norm, &|p| p.shape = vec![1, 128], &["expected F32, F16 or BF16 [128]"]);
    change(norm, &|p| p.dtype = "I16".into(), &["expected F32, F16 or BF16 [128]"]);
    let embedding = "model.embed_tokens.weight";
    change(embedding, &|p| p.shape = vec![128, 512], &["[512, 128]"]);
    let scale = &format!("{WEIGHT}_scale");
    change(scale, &|p| p.dtype = "I16".into(), &["F32, F16 or BF16"]);
    let two = |p: &mut Part| {
        p.shape = vec![2];
        p.data.extend_from_within(..);
    };
    change(scale, &two, &["[1]", "got BF16 [2]"]);
}

#[test]
fn every_missing_tensor_is_named() {
    let whole = Checkpoint::of(MODEL);
    for name in whole.tensors.keys() {
        let mut checkpoint = whole.clone();
        checkpoint.tensors.remove(name);
        let parts = ["made", &format!("tensor {name} is missing"), "expected"];
        let error = refused(checkpoint.load(), &parts);
        assert!(error.help().is_some());
    }
}

#[test]
fn values_that_no_model_has_are_refused_with_their_place() {
    let put = |name: &str, index: usize, value: f32, parts: &[&str]| {
        let mut checkpoint = Checkpoint::of(MODEL);
        let bits = (value.to_bits() >> 16) as u16;
        let data = &mut checkpoint.part(name).data;
        data[2 * index..2 * index + 2].copy_from_slice(&bits.to_le_bytes());
        let mut parts = parts.to_vec();
        parts.extend(["made/model.safetensors", name, "at byte"]);
        refused(checkpoint.load(), &parts);
    };
    let scale = format!("{WEIGHT}_scale");
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0, -1.5] {
        put(&scale, 0, value, &["a positive finite scale"]);
    }
    for name in ["model.embed_tokens.weight", "model.norm.weight"] {
        put(name, 0, f32::NAN, &["a finite number", "NaN"]);
        put(name, 77, f32::INFINITY, &["a finite number", "inf"]);
        put(name, 127, f32::NEG_INFINITY, &["a finite number", "-inf"]);
    }
}

#[test]
fn unpacked_and_master_weights_must_be_what_they_are_for() {
    let mut online = Checkpoint::of("bitnet_online_bf16");
    online.part(WEIGHT).data[2..4].copy_from_slice(&[0xc0, 0x7f]);
    refused(online.load(), &[WEIGHT, "a finite number", "NaN"]);
    let mut unpacked = Checkpoint::of("bitnet_packed_autobitlinear");
    let (shape, mut data) = (vec![64, 128], vec![1u8; 64 * 128]);
    data[3] = 2;
    let name = WEIGHT;
    *unpacked.part(name) = Part { dtype: "I8".into(), shape: shape.clone(), data };
    refused(unpacked.load(), &[name, "expected -1, 0 or 1, got 2"]);
    let data: Vec<u8> = [0.5f32.to_le_bytes(); 64 * 128].concat();
    *unpacked.part(name) = Part { dtype: "F32".into(), shape: shape.clone(), data };
    refused(unpacked.load(), &[name, "expected -1, 0 or 1, got 0.5"]);
    let data = vec![0; 2 * 64 * 128];
    *unpacked.part(name) = Part { dtype: "I16".into(), shape, data };
    refused(unpacked.load(), &[name, "got I16 [64, 128]"]);
}

#[test]
fn shapes_that_fit_no_model_are_refused_by_field() {
    let fields = [
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "vocab_size",
        "head_dim",
        "max_position_embeddings",
    ];
    for field in fields {
        for value in [1, 2, 3, 5, 7, 100, 1 << 24] {
            // A smaller number may be another sound model to the configuration, not to the tensors;
            // only the number of positions may change freely.
            let mut checkpoint = Checkpoint::of(MODEL);
            let before = checkpoint.config[field].clone();
            checkpoint.config[field] = json!(value);
            let same = before == json!(value) || field == "max_position_embeddings";
            let fewer = field == "num_hidden_layers" && value < 4;
            let regrouped = field == "num_attention_heads" && value == 2;
            let result = checkpoint.load();
            assert!(result.is_err() || same || fewer || regrouped, "{field} = {value}");
        }
    }
    for field in &fields[..4] {
        let mut checkpoint = Checkpoint::of(MODEL);
        checkpoint.config.as_object_mut().expect("an object").remove(*field);
        refused(checkpoint.load(), &["config.json", field, "absent"]);
    }
}

#[test]
fn outputs_that_are_no_whole_quarters_are_refused() {
    let mut checkpoint = Checkpoint::of(MODEL);
    checkpoint.config["intermediate_size"] = json!(254);
    for layer in 0..4 {
        let gains = checkpoint.part(&format!("model.layers.{layer}.mlp.ffn_sub_norm.weight"));
        gains.shape = vec![254];
        gains.data.truncate(508);
    }
    refused(checkpoint.load(), &["mlp.gate_proj.weight", "whole quarters", "254"]);
}

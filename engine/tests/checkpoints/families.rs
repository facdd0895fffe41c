//! Families of Hugging Face checkpoints that share the forms of others under names of their own.

use engine::formats::{EMBEDDING, LoadOptions, Source, linear_name, load, norm_name};
use engine::kernels;
use engine::model::{Float, KvKind, Model, Norm, NormSlot, Rope, Slot, Weights};
use serde_json::json;

use crate::checkpoint::{Checkpoint, Part, encoded, refused};
use crate::reference::{Golden, bits, path, prefill};

#[test]
fn stretched_frequencies_are_those_of_transformers() {
    let golden = Golden::of("variants");
    let shapes = [("yarn_wide", 128, 1e6, 4.0, 16384usize), ("yarn_narrow", 64, 1e4, 8.0, 2048)];
    for (name, head_dim, theta, factor, original) in shapes {
        let mut checkpoint = Checkpoint::of("llama256_packed_bitlinear");
        checkpoint.config["rope_scaling"] = json!({"rope_type": "yarn", "factor": factor,
            "original_max_position_embeddings": original});
        let mut config = checkpoint.load().expect("a sound checkpoint").model.config;
        (config.head_dim, config.theta) = (head_dim, theta);
        let rope = Rope::of(&config);
        let near = |a: f32, b: f32| (a - b).abs() <= 4e-7 * b.abs() + 1e-12;
        let expected = golden.floats(&format!("{name}.inv_freq"));
        assert!(rope.frequencies().iter().zip(&expected).all(|(&a, &b)| near(a, b)), "{name}");
        let (cos, sin) =
            (golden.floats(&format!("{name}.cos")), golden.floats(&format!("{name}.sin")));
        for (row, position) in [0, 1, 2, 31, 1000].into_iter().enumerate() {
            for (j, &(c, s)) in rope.at(position).iter().enumerate() {
                let (x, y) = (cos[[row, j]], sin[[row, j]]);
                // An ulp of a frequency is as much of an angle as the position says.
                let far = 4e-7 * (1.0 + position as f32 * rope.frequencies()[j]);
                assert!((c - x).abs() < far && (s - y).abs() < far, "{name} {position} {j}");
            }
        }
    }
    let mut checkpoint = Checkpoint::of("llama256_packed_bitlinear");
    for (field, value) in
        [("mscale", json!(1.0)), ("truncate", json!(false)), ("factor", json!(0.5))]
    {
        checkpoint.config["rope_scaling"] = json!({"rope_type": "yarn", "factor": 4.0,
            "original_max_position_embeddings": 64});
        checkpoint.config["rope_scaling"][field] = value;
        refused(checkpoint.load(), &[field]);
    }
    checkpoint.config["rope_scaling"] = json!({"rope_type": "yarn", "factor": 4.0});
    refused(checkpoint.load(), &["rope_scaling", "original_max_position_embeddings"]);
}

const IDS: [u32; 6] = [510, 3, 77, 201, 9, 45];

fn logits(model: &Model) -> Vec<u32> {
    bits(&prefill(kernels::best(), model, KvKind::F32, &IDS))
}

#[test]
fn a_checkpoint_of_1bitllm_is_bitnet_under_other_names() {
    let mut twin = Checkpoint::of("bitnet_online_bf16");
    twin.config["hidden_act"] = json!("silu");
    let expected = logits(&twin.load().expect("a sound checkpoint").model);
    let mut checkpoint = twin;
    let config = checkpoint.config.as_object_mut().expect("an object");
    config.remove("quantization_config");
    config.insert("model_type".into(), json!("llama"));
    config.insert("architectures".into(), json!(["BitnetForCausalLM"]));
    config.insert("weight_bits".into(), json!(1));
    config.insert("input_bits".into(), json!(8));
    let renamed = |name: &String| {
        name.replace("self_attn.attn_sub_norm", "self_attn.inner_attn_ln")
            .replace("mlp.ffn_sub_norm", "mlp.ffn_layernorm")
    };
    let tensors = checkpoint.tensors.iter().map(|(name, part)| (renamed(name), part.clone()));
    checkpoint.tensors = tensors.collect();
    let loaded = checkpoint.load().expect("a sound checkpoint");
    assert_eq!(logits(&loaded.model), expected);
    let role = norm_name(1, NormSlot::FfnSub);
    let entry = loaded.manifest.entry(&role).expect("an entry under the name of its role");
    assert_eq!(entry.name, "model.layers.1.mlp.ffn_layernorm.weight");
    checkpoint.config["input_bits"] = json!(4);
    refused(checkpoint.load(), &["input_bits", "expected 8", "4"]);
}

/// A part of floats as f16, which holds every sign under an f16 scale.
fn floats(shape: &[usize], values: &[f32]) -> Part {
    Part { dtype: "F16".into(), shape: shape.to_vec(), data: encoded("F16", values) }
}

fn matrix(float: &Float) -> Part {
    let (rows, columns) = (float.rows(), float.columns());
    let mut values = vec![0.0; rows * columns];
    for (row, out) in values.chunks_exact_mut(columns).enumerate() {
        float.read_row(row, out);
    }
    floats(&[rows, columns], &values)
}

#[test]
fn a_qwen3_checkpoint_of_floats_is_the_gguf_file_of_signs() {
    let file = Source::path(path("gguf").join("qwen3_q1_0.gguf"));
    let model = load(&file, &LoadOptions::default()).expect("a sound file").model;
    let mut tensors = std::collections::BTreeMap::new();
    tensors.insert(EMBEDDING.to_owned(), matrix(&model.embedding));
    let gains = |norm: &Norm| Part {
        dtype: "F32".into(),
        shape: vec![norm.gains.len()],
        data: encoded("F32", &norm.gains),
    };
    tensors.insert(norm_name(0, NormSlot::Final), gains(&model.final_norm));
    for (index, layer) in model.layers.iter().enumerate() {
        for slot in [NormSlot::Input, NormSlot::Query, NormSlot::Key, NormSlot::Post] {
            tensors.insert(norm_name(index, slot), gains(layer.norm(slot).expect("a norm")));
        }
        for slot in Slot::ALL {
            let Weights::Dense(float) = &layer.linear(slot).weights else { panic!("blocks") };
            tensors.insert(format!("{}.weight", linear_name(index, slot)), matrix(float));
        }
    }
    let config = json!({
        "model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "hidden_size": 256,
        "intermediate_size": 512, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 64, "vocab_size": 512, "rms_norm_eps": 1e-6,
        "rope_theta": 1e6, "tie_word_embeddings": true, "max_position_embeddings": 256,
        "sliding_window": null, "use_sliding_window": false,
    });
    let mut checkpoint = Checkpoint { config, tensors };
    let loaded = checkpoint.load().expect("a sound checkpoint");
    assert_eq!(logits(&loaded.model), logits(&model));
    let wider = checkpoint.config.as_object_mut().expect("an object").remove("head_dim");
    assert_eq!(wider, Some(json!(64)));
    // Qwen 3 has heads of 128 unless it says otherwise.
    refused(checkpoint.load(), &["q_norm", "[128]", "[64]"]);
}

//! Every form in which the same weights may be stored loads as the same model.

use std::collections::BTreeMap;

use engine::formats::{LoadOptions, Loaded, Source, TensorKind, UnusedCode, load};
use engine::kernels;
use engine::model::{Activations, FloatType, KvKind, Model, Scale, Slot, StoredScale, Weights};
use engine::packing::{HfRows, UNUSED_CODE};
use serde_json::json;

use crate::checkpoint::{Checkpoint, Part, encoded, linear_names, load_files, sharded, unpack};
use crate::reference::{all, bits, loaded, path, prefill, source};

const IDS: [u32; 6] = [510, 7, 300, 41, 41, 2];
const LINEAR: &str = "model.layers.0.mlp.up_proj";

/// What a model computes for a short prompt.
fn answer(model: &Model) -> Vec<u32> {
    bits(&prefill(kernels::best(), model, KvKind::F32, &IDS))
}

fn sound(checkpoint: &Checkpoint) -> Loaded {
    checkpoint.load().expect("a sound checkpoint")
}

#[test]
fn unpacked_weights_of_every_type_load_as_the_packed_ones() {
    let packed = Checkpoint::of("bitnet_packed_autobitlinear");
    let expected = answer(&sound(&packed).model);
    for dtype in ["BF16", "F16", "F32", "I8"] {
        let mut unpacked = packed.clone();
        for name in linear_names(&packed) {
            let (shape, weights) = unpack(unpacked.part(&name));
            let data = encoded(dtype, &weights);
            *unpacked.part(&name) = Part { dtype: dtype.into(), shape, data };
        }
        let loaded = sound(&unpacked);
        assert_eq!(answer(&loaded.model), expected, "{dtype}");
        assert!(loaded.model.elements.is_empty(), "{dtype}: kept though nobody asked");
        let entry = loaded.manifest.entry(&format!("{LINEAR}.weight")).expect("an entry");
        assert_eq!(entry.kind, TensorKind::TernaryUnpacked);
        let packed = sound(&packed).manifest;
        assert_eq!(entry.census, packed.entry(&entry.name).expect("an entry").census);
    }
}

#[test]
fn shards_memory_maps_and_embedded_bytes_give_one_model_and_one_digest() {
    for name in all() {
        let expected = loaded(name);
        let mapped = LoadOptions { mmap: true, ..LoadOptions::default() };
        let mapped = load(&source(name), &mapped).expect("a sound checkpoint");
        assert_eq!(mapped.manifest, expected.manifest, "{name}");
        let checkpoint = Checkpoint::of(name);
        let whole = sound(&checkpoint);
        let shards = load_files(sharded(&checkpoint)).expect("sound shards");
        assert_eq!(shards.manifest.digest, whole.manifest.digest, "{name}");
        let files: Vec<String> =
            shards.manifest.tensors.iter().map(|entry| entry.file.clone()).collect();
        assert!(files.iter().any(|file| file.contains("00001")));
        assert!(files.iter().any(|file| file.contains("00002")));
        for other in [mapped, whole, shards] {
            assert_eq!(answer(&other.model), answer(&expected.model), "{name}");
        }
    }
}

#[test]
fn a_digest_changes_with_any_bit_of_a_tensor_or_the_configuration() {
    let checkpoint = Checkpoint::of("bitnet_packed_bitlinear");
    let digest = |checkpoint: &Checkpoint| sound(checkpoint).manifest.digest;
    let expected = digest(&checkpoint);
    assert_eq!(digest(&checkpoint.clone()), expected);
    let mut weight = checkpoint.clone();
    weight.part("model.norm.weight").data[7] ^= 1;
    let mut config = checkpoint.clone();
    config.config["use_cache"] = json!(false);
    assert_ne!(digest(&weight), expected);
    assert_ne!(digest(&config), expected);
}

#[test]
fn the_dialect_of_transformers_5_means_the_same_as_the_old_one() {
    for name in all() {
        let old = Checkpoint::of(name);
        let mut new = old.clone();
        let fields = new.config.as_object_mut().expect("an object");
        let theta = fields.remove("rope_theta").expect("a base");
        fields.remove("rope_scaling");
        let dtype = fields.remove("torch_dtype").expect("a type");
        fields.insert("dtype".into(), dtype);
        let rope = json!({"rope_type": "default", "rope_theta": theta});
        fields.insert("rope_parameters".into(), rope);
        fields.insert("eos_token_id".into(), json!([511, 3]));
        let (old, new) = (sound(&old).model, sound(&new).model);
        assert_eq!(new.config.end_tokens, [511, 3]);
        let mut config = new.config.clone();
        config.end_tokens = old.config.end_tokens.clone();
        assert_eq!(config, old.config, "{name}");
        assert_eq!(answer(&new), answer(&old), "{name}");
    }
}

#[test]
fn defaults_of_the_classes_hold_where_a_configuration_is_silent() {
    let mut checkpoint = Checkpoint::of("llama_packed_bitlinear");
    let fields = checkpoint.config.as_object_mut().expect("an object");
    for name in ["rope_theta", "rms_norm_eps", "hidden_act", "eos_token_id", "architectures"] {
        fields.remove(name);
    }
    let config = sound(&checkpoint).model.config;
    assert_eq!((config.theta, config.eps), (10_000.0, 1e-6));
    assert_eq!((config.gate, config.end_tokens), (engine::model::Gate::Silu, vec![]));
}

#[test]
fn scales_of_any_float_type_and_of_no_rank_are_read() {
    let mut checkpoint = Checkpoint::of("bitnet_packed_bitlinear");
    let name = format!("{LINEAR}.weight_scale");
    for (dtype, stored) in [("F32", FloatType::F32), ("F16", FloatType::F16)] {
        for shape in [vec![], vec![1]] {
            let data = encoded(dtype, &[2.5]);
            *checkpoint.part(&name) = Part { dtype: dtype.into(), shape, data };
            let model = sound(&checkpoint).model;
            let Weights::Ternary { scale, stored: got, .. } =
                model.layers[0].linear(Slot::Up).weights
            else {
                panic!("a ternary layer")
            };
            assert_eq!((scale, got), (Scale::Divide(2.5), Some(StoredScale::One(stored))));
        }
    }
}

#[test]
fn a_configuration_that_says_nothing_but_bitnet_means_dividing_scales() {
    let mut checkpoint = Checkpoint::of("bitnet_packed_bitlinear");
    checkpoint.config["quantization_config"] = json!({"quant_method": "bitnet", "bits": 2});
    let model = sound(&checkpoint).model;
    let weights = &model.layers[0].linear(Slot::Q).weights;
    assert!(matches!(weights, Weights::Ternary { scale: Scale::Divide(_), .. }));
    let class = json!({"quant_method": "bitnet", "linear_class": "autobitlinear"});
    checkpoint.config["quantization_config"] = class;
    let model = sound(&checkpoint).model;
    let weights = &model.layers[0].linear(Slot::Q).weights;
    assert!(matches!(weights, Weights::Ternary { scale: Scale::Multiply(_), .. }));
}

#[test]
fn a_tied_model_with_another_head_is_loaded_with_a_warning() {
    let mut checkpoint = Checkpoint::of("bitnet_packed_bitlinear");
    let expected = answer(&sound(&checkpoint).model);
    let embedding = checkpoint.part("model.embed_tokens.weight").clone();
    checkpoint.tensors.insert("lm_head.weight".into(), embedding);
    assert!(sound(&checkpoint).manifest.warnings.is_empty());
    checkpoint.part("lm_head.weight").data[0] ^= 1;
    let loaded = sound(&checkpoint);
    assert_eq!(answer(&loaded.model), expected);
    let [warning] = &loaded.manifest.warnings[..] else { panic!("one warning") };
    assert!(warning.contains("lm_head.weight differs"), "{warning}");
}

#[test]
fn tensors_that_nothing_reads_are_named_except_rotary_buffers() {
    let mut checkpoint = Checkpoint::of("bitnet_packed_bitlinear");
    let extra = Part { dtype: "I64".into(), shape: vec![1], data: vec![0; 8] };
    for name in ["model.layers.0.self_attn.rotary_emb.inv_freq", "model.extra"] {
        checkpoint.tensors.insert(name.into(), extra.clone());
    }
    let manifest = sound(&checkpoint).manifest;
    let [warning] = &manifest.warnings[..] else { panic!("one warning") };
    assert!(warning.contains("\"model.extra\""), "{warning}");
    let entry = manifest.entry("model.extra").expect("an entry");
    assert_eq!((entry.kind, entry.bytes), (TensorKind::Ignored, 8));
}

#[test]
fn constant_weights_are_named() {
    let mut checkpoint = Checkpoint::of("bitnet_packed_bitlinear");
    let name = format!("{LINEAR}.weight");
    checkpoint.part(&name).data.fill(0x55);
    let manifest = sound(&checkpoint).manifest;
    let entry = manifest.entry(&name).expect("an entry");
    assert!(entry.constant && entry.all_zero());
    assert!(manifest.warnings[0].contains(&name));
}

#[test]
fn norms_inside_linear_layers_are_read_with_their_own_epsilon() {
    let mut checkpoint = Checkpoint::of("bitnet_packed_autobitlinear");
    checkpoint.config["quantization_config"]["use_rms_norm"] = json!(true);
    for name in linear_names(&checkpoint) {
        let width = checkpoint.part(&name).shape[1];
        let data = encoded("BF16", &vec![1.0; width]);
        let part = Part { dtype: "BF16".into(), shape: vec![width], data };
        checkpoint.tensors.insert(name.replace(".weight", ".rms_norm.weight"), part);
    }
    let model = sound(&checkpoint).model;
    for linear in &model.layers[1].linears {
        let norm = linear.norm.as_ref().expect("an inner norm");
        assert_eq!((norm.eps, norm.gains.len()), (1e-6, linear.inputs()));
    }
    checkpoint.config["quantization_config"]["rms_norm_eps"] = json!(0.25);
    let norm = sound(&checkpoint).model.layers[0].linear(Slot::Down).norm.clone();
    assert_eq!(norm.expect("an inner norm").eps, 0.25);
}

#[test]
fn layers_that_are_not_converted_stay_float_without_quantised_activations() {
    let mut checkpoint = Checkpoint::of("bitnet_packed_bitlinear");
    let kept = json!(["lm_head", "model.layers.0.mlp", "v_proj"]);
    checkpoint.config["quantization_config"]["modules_to_not_convert"] = kept;
    let names = linear_names(&checkpoint);
    for name in names.iter().filter(|n| n.contains(".0.mlp.") || n.contains("v_proj")) {
        let (shape, weights) = unpack(checkpoint.part(name));
        let data = encoded("F16", &weights);
        *checkpoint.part(name) = Part { dtype: "F16".into(), shape, data };
    }
    let model = sound(&checkpoint).model;
    for (index, layer) in model.layers.iter().enumerate() {
        for slot in Slot::ALL {
            let float = slot == Slot::V
                || (index == 0 && matches!(slot, Slot::Gate | Slot::Up | Slot::Down));
            let linear = layer.linear(slot);
            assert_eq!(matches!(linear.weights, Weights::Dense(_)), float, "{index} {slot:?}");
            assert_eq!(linear.activations == Activations::None, float, "{index} {slot:?}");
        }
    }
    assert!(answer(&model).iter().all(|&bits| f32::from_bits(bits).is_finite()));
}

#[test]
fn a_llama_without_quantisation_is_dense() {
    let mut checkpoint = Checkpoint::of("llama_packed_bitlinear");
    checkpoint.config.as_object_mut().expect("an object").remove("quantization_config");
    for name in linear_names(&checkpoint) {
        let (shape, weights) = unpack(checkpoint.part(&name));
        let small: Vec<f32> = weights.iter().map(|w| w * 0.0625).collect();
        let data = encoded("F32", &small);
        *checkpoint.part(&name) = Part { dtype: "F32".into(), shape, data };
        checkpoint.tensors.remove(&format!("{name}_scale"));
    }
    let loaded = sound(&checkpoint);
    assert_eq!(loaded.model.config.activations, Activations::None);
    let dense = |weights: &Weights| matches!(weights, Weights::Dense(_));
    assert!(loaded.model.layers.iter().all(|l| l.linears.iter().all(|l| dense(&l.weights))));
    assert!(answer(&loaded.model).iter().all(|&bits| f32::from_bits(bits).is_finite()));
    assert!(loaded.manifest.warnings.is_empty());
}

#[test]
fn the_unused_code_means_what_the_options_say() {
    let mut checkpoint = Checkpoint::of("bitnet_packed_bitlinear");
    let name = format!("{LINEAR}.weight");
    let part = checkpoint.part(&name);
    let layout = HfRows::new(4 * part.shape[0], part.shape[1]).expect("whole quarters");
    for bit in 0..2 {
        let place = layout.locate(70, 5, bit);
        part.data[place.byte] |= 1 << place.bit;
    }
    let with = |unused| {
        let options = LoadOptions { unused, ..LoadOptions::default() };
        load(&Source::memory("made", checkpoint.files()), &options)
    };
    for (unused, code) in [(UnusedCode::Deployed, UNUSED_CODE), (UnusedCode::Zero, 1)] {
        let loaded = with(unused).expect("an accepted code");
        let Weights::Ternary { rows, .. } = &loaded.model.layers[0].linear(Slot::Up).weights else {
            panic!("a ternary layer")
        };
        assert_eq!(rows.code(70, 5), code);
        let census = loaded.manifest.entry(&name).expect("an entry").census;
        assert_eq!(census.expect("codes")[3], 1);
    }
    for unused in [UnusedCode::Refuse, UnusedCode::Detect] {
        let error = with(unused).expect_err("a refused code");
        let message = error.to_string();
        assert!(message.contains(&name) && message.contains("row 70, column 5"), "{message}");
        assert!(error.help().expect("help").contains("--unused-code"));
    }
}

#[test]
fn a_checkpoint_made_of_links_into_a_cache_is_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let target = path("models/bitnet_packed_bitlinear");
    let blobs = BTreeMap::from([("a1", "config.json"), ("b2", "model.safetensors")]);
    std::fs::create_dir(folder.path().join("blobs")).expect("a folder");
    std::fs::create_dir(folder.path().join("snapshot")).expect("a folder");
    for (blob, name) in blobs {
        let blob = folder.path().join("blobs").join(blob);
        std::fs::copy(target.join(name), &blob).expect("a copy");
        #[cfg(unix)]
        std::os::unix::fs::symlink(&blob, folder.path().join("snapshot").join(name))
            .expect("a link");
        #[cfg(not(unix))]
        std::fs::rename(&blob, folder.path().join("snapshot").join(name)).expect("a move");
    }
    let options = LoadOptions::default();
    let linked = load(&Source::folder(folder.path().join("snapshot")), &options);
    let linked = linked.expect("a sound checkpoint");
    assert_eq!(linked.manifest.digest, loaded("bitnet_packed_bitlinear").manifest.digest);
    assert_eq!(linked.manifest.name, "snapshot");
}

//! Files whose linear layers have scales of rows or groups, under integer activations.

use engine::formats::{LoadOptions, Loaded, Source, load};
use engine::kernels;
use engine::model::{Activations, FloatType, KvKind, Linear, Model, Scale, Scales, Slot, Weights};

use crate::checkpoint::{Checkpoint, encoded, refused};
use crate::made_gguf::{BLOCKS, F32, Gguf};
use crate::reference::{bits, path, prefill};

fn gguf(bytes: Vec<u8>, activations: Option<Activations>) -> Loaded {
    let source = Source::memory("made", [("made.gguf", bytes)]);
    load(&source, &LoadOptions { activations, ..Default::default() }).expect("a sound file")
}

fn read(name: &str) -> Vec<u8> {
    std::fs::read(path("gguf").join(name)).expect("a file")
}

fn logits(model: &Model) -> Vec<u32> {
    bits(&prefill(kernels::best(), model, KvKind::F32, &[510, 3, 77]))
}

/// Asserts that the integers and scales of a layer are its floats, exactly.
fn assert_same_weights(coded: &Linear, float: &Linear, group: usize) {
    let (Weights::Coded(coded), Weights::Dense(float)) = (&coded.weights, &float.weights) else {
        panic!("integers beside floats")
    };
    assert_eq!(coded.rows().group(), group);
    let mut values = vec![0.0; float.columns()];
    for row in 0..float.rows() {
        float.read_row(row, &mut values);
        assert!(coded.weights(row).eq(values.iter().map(|&x| f64::from(x))), "row {row}");
    }
}

#[test]
fn signs_under_group_scales_read_integer_codes_where_that_is_said() {
    let bytes = read("qwen3_q1_0.gguf");
    let floats = gguf(bytes.clone(), None);
    for policy in [Activations::PerTokenInt8, Activations::PerTokenInt4] {
        let codes = gguf(bytes.clone(), Some(policy));
        assert_eq!(codes.model.config.activations, policy);
        assert_ne!(codes.manifest.digest, floats.manifest.digest);
        for (a, b) in codes.model.layers.iter().zip(&floats.model.layers) {
            for slot in Slot::ALL {
                assert_eq!(a.linear(slot).activations, policy);
                assert_same_weights(a.linear(slot), b.linear(slot), 128);
            }
        }
        assert_ne!(logits(&codes.model), logits(&floats.model));
    }
}

#[test]
fn ternary_blocks_that_differ_in_scale_are_integers_under_group_scales() {
    // Queries of a llama file stand in another order of rows: the scales follow.
    let name = "model.layers.0.self_attn.q_proj.weight";
    let mut bytes = read("llama256_tq2_0.gguf");
    let plain = gguf(bytes.clone(), None);
    let entry = |tensor: &&engine::formats::TensorEntry| tensor.role.as_deref() == Some(name);
    let entry = plain.manifest.tensors.iter().find(entry).expect("queries");
    let blocks = entry.offset as usize..(entry.offset + entry.bytes) as usize;
    for (index, block) in bytes[blocks].chunks_exact_mut(66).enumerate() {
        let scale = half::f16::from_f32(0.25 + index as f32 / 64.0);
        block[64..].copy_from_slice(&scale.to_le_bytes());
    }
    let floats = gguf(bytes.clone(), None);
    assert_eq!(floats.model.config.activations, Activations::None);
    assert!(floats.manifest.warnings[0].contains("scales of their own"));
    let codes = gguf(bytes, Some(Activations::PerTokenInt8));
    let linear = |loaded: &Loaded, slot| loaded.model.layers[0].linear(slot).clone();
    assert_same_weights(&linear(&codes, Slot::Q), &linear(&floats, Slot::Q), 256);
    // Tensors of one model may be of several kinds.
    assert!(matches!(linear(&codes, Slot::V).weights, Weights::Ternary { .. }));
    assert_ne!(logits(&codes.model), logits(&plain.model));
}

#[test]
fn a_packed_checkpoint_may_have_scales_of_rows() {
    for model in ["bitnet_packed_bitlinear", "bitnet_packed_autobitlinear"] {
        let mut checkpoint = Checkpoint::of(model);
        let name = "model.layers.0.mlp.up_proj.weight_scale";
        let one = checkpoint.load().expect("a sound checkpoint").model;
        let Weights::Ternary { rows, scale, .. } = &one.layers[0].linear(Slot::Up).weights else {
            panic!("a ternary layer")
        };
        let count = rows.rows();
        for shape in [vec![count], vec![count, 1]] {
            let part = checkpoint.part(name);
            (part.dtype, part.shape) = ("F32".into(), shape);
            part.data = encoded("F32", &vec![scale.stored(); count]);
            let same = checkpoint.load().expect("scales of rows").model;
            assert!(matches!(same.layers[0].linear(Slot::Up).weights, Weights::Coded(_)));
            assert_eq!(logits(&same), logits(&one), "{model}");
        }
        let values: Vec<f32> = (0..count).map(|row| 1.0 + row as f32).collect();
        checkpoint.part(name).data = encoded("F32", &values);
        let loaded = checkpoint.load().expect("scales of rows").model;
        let Weights::Coded(coded) = &loaded.layers[0].linear(Slot::Up).weights else {
            panic!("integers")
        };
        let Scales::Rows(scales) = coded.scales() else { panic!("scales of rows") };
        assert_eq!(scales[2], scale.with(3.0));
        assert_eq!(matches!(scale, Scale::Divide(_)), model == "bitnet_packed_bitlinear");
        assert_ne!(logits(&loaded), logits(&one));
        checkpoint.part(name).data[4..8].copy_from_slice(&(-1f32).to_le_bytes());
        refused(checkpoint.load(), &["up_proj.weight_scale", "a positive finite scale", "-1"]);
        let part = checkpoint.part(name);
        (part.shape, part.data) = (vec![2], encoded("F32", &[1.0, 1.0]));
        refused(checkpoint.load(), &["[1], or [", "for scales of rows"]);
    }
}

#[test]
fn a_scale_beside_blocks_multiplies_each_value_under_float_activations() {
    let name = "blk.0.ffn_up.weight";
    for (kind, block) in BLOCKS {
        let two_scales = |file: &mut Gguf| {
            let at = block.scale_at();
            file.tensor(name).data[at..at + 2].copy_from_slice(&0x3c00u16.to_le_bytes());
        };
        let file = |factor: Option<f32>| {
            let bytes = Gguf::small(kind).with(|file| {
                two_scales(file);
                if let Some(factor) = factor {
                    file.put("blk.0.ffn_up.scale", &[1], F32);
                    file.tensor("blk.0.ffn_up.scale").data = factor.to_le_bytes().to_vec();
                }
            });
            gguf(bytes, Some(Activations::None)).model.layers[0].linear(Slot::Up).clone()
        };
        let [plain, scaled] = [None, Some(0.7)].map(file);
        assert_eq!(scaled.weights.tensor_scale(), Some((0.7, FloatType::F32)));
        let (Weights::Dense(plain), Weights::Dense(scaled)) = (plain.weights, scaled.weights)
        else {
            panic!("floats")
        };
        let (mut one, mut other) = (vec![0.0; plain.columns()], vec![0.0; plain.columns()]);
        for row in 0..plain.rows() {
            plain.read_row(row, &mut one);
            scaled.read_row(row, &mut other);
            assert!(one.iter().zip(&other).all(|(a, b)| a * 0.7 == *b), "{} {row}", block.name());
        }
        assert!(one.iter().any(|&value| value != 0.0));
    }
}

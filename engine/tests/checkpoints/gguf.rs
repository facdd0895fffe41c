//! GGUF files: against their Hugging Face twins, against llama.cpp and transformers, and against
//! themselves.

use engine::formats::write::{Form, files};
use engine::formats::{LoadOptions, Loaded, Source, load};
use engine::kernels;
use engine::model::{Activations, Config, KvKind, Model, Slot, Weights};
use engine::numerics::special;
use engine::numerics::{argmax, max};
use engine::packing::{I2sRuns, Layout};
use engine::walk::{Exact, Read, run};
use ndarray::Array2;
use serde_json::json;

use crate::checkpoint::Checkpoint;
use crate::reference::{Golden, bits, largest, loaded, path, prefill};

/// The forms of weights under one scale; the others are of groups (`groups.rs`).
const TERNARY: [Form; 4] = [Form::HfPacked, Form::GgufTq2, Form::GgufTq1, Form::GgufI2s];

fn file(name: &str) -> Loaded {
    let source = Source::path(path("gguf").join(format!("{name}.gguf")));
    load(&source, &LoadOptions::default()).expect("a sound file")
}

fn codes(model: &Model, layer: usize, slot: Slot) -> Vec<Vec<u8>> {
    let Weights::Ternary { rows, .. } = &model.layers[layer].linear(slot).weights else {
        panic!("a ternary layer")
    };
    (0..rows.rows()).map(|row| rows.row(row)).collect()
}

#[test]
fn a_file_holds_the_codes_of_the_checkpoint_that_it_was_made_from() {
    let twins = [
        ("bitnet256_i2_s", "bitnet256_packed_autobitlinear"),
        ("bitnet256_tq1_0", "bitnet256_packed_autobitlinear"),
        ("bitnet256_tq2_0", "bitnet256_packed_autobitlinear"),
        ("llama256_tq2_0", "llama256_packed_bitlinear"),
    ];
    for (gguf, folder) in twins {
        let (ours, theirs) = (file(gguf), loaded(folder));
        assert_eq!(ours.manifest.warnings, Vec::<String>::new(), "{gguf}");
        assert_eq!(ours.model.config.activations, Activations::PerTokenInt8);
        for (index, (a, b)) in ours.model.layers.iter().zip(&theirs.model.layers).enumerate() {
            for slot in Slot::ALL {
                let same = codes(&ours.model, index, slot) == codes(&theirs.model, index, slot);
                assert!(same, "{gguf} {index} {slot:?}");
            }
            assert_eq!(a.input_norm.gains, b.input_norm.gains, "{gguf} {index}");
            assert_eq!(a.ffn_sub_norm.is_some(), b.ffn_sub_norm.is_some());
        }
        let ids: Vec<u32> = (0..512).collect();
        let (a, b) = (ours.model.embed(&ids).expect("ids"), theirs.model.embed(&ids).expect("ids"));
        // f16 of bf16 values.
        let far = largest(&(&a - &b));
        assert!(far < 1e-3, "{gguf}: {far}");
    }
}

#[test]
fn the_same_codes_and_scales_in_three_formats_are_the_same_model_to_the_bit() {
    // I2_S has one f32 scale, the others an f16 one; as f16 they agree.
    let ids = [510, 3, 77, 201, 9, 45];
    let (tq1, tq2) = (file("bitnet256_tq1_0"), file("bitnet256_tq2_0"));
    let logits = |model: &Model| prefill(kernels::best(), model, KvKind::F32, &ids);
    assert_eq!(bits(&logits(&tq1.model)), bits(&logits(&tq2.model)));
    let mut i2s = file("bitnet256_i2_s").model;
    i2s.config.gate = tq2.model.config.gate;
    for (a, b) in i2s.layers.iter_mut().zip(&tq2.model.layers) {
        for (a, b) in a.linears.iter_mut().zip(&b.linears) {
            let (Weights::Ternary { scale: a, .. }, Weights::Ternary { scale: b, .. }) =
                (&mut a.weights, &b.weights)
            else {
                panic!("ternary layers")
            };
            assert!((a.stored() / b.stored() - 1.0).abs() < 1e-3, "{a:?} {b:?}");
            *a = *b;
        }
    }
    assert_eq!(bits(&logits(&i2s)), bits(&logits(&tq2.model)));
}

#[test]
fn answers_are_those_of_llama_cpp_as_far_as_other_activation_codes_allow() {
    let golden = Golden::of("llamacpp");
    // llama.cpp quantises activations in blocks; a BitNet is trained with one scale a token.
    for (name, far, misses) in [("llama256_tq2_0", 0.2, 1), ("qwen3_q1_0", 1.4, 0)] {
        let model = file(name).model;
        let ids = golden.ids(&format!("{name}.input_ids"));
        let theirs = golden.floats(&format!("{name}.logprobs"));
        let logits = prefill(kernels::best(), &model, KvKind::F32, &ids);
        let (mut other, mut most) = (0, 0.0f64);
        for (ours, theirs) in logits.rows().into_iter().zip(theirs.rows()) {
            let (ours, theirs) = (ours.to_vec(), theirs.to_vec());
            other += usize::from(argmax(&ours) != argmax(&theirs));
            let top = f64::from(ours.iter().copied().fold(f32::MIN, max));
            let sum: f64 = ours.iter().map(|&x| special::exp(f64::from(x) - top)).sum();
            for (&x, &y) in ours.iter().zip(&theirs).filter(|(_, y)| **y > -20.0) {
                let off = (f64::from(x) - top - special::ln(sum) - f64::from(y)).abs();
                most = if off > most { off } else { most };
            }
        }
        assert!(other <= misses && most < far, "{name}: {other} answers differ, by {most}");
    }
}

#[test]
fn signs_under_group_scales_are_the_model_that_transformers_runs() {
    let golden = Golden::of("qwen3_1bit_g128");
    let model = file("qwen3_q1_0").model;
    for case in 0..5 {
        let ids = golden.ids(&format!("case{case}.input_ids"));
        let logits = prefill(kernels::best(), &model, KvKind::F32, &ids);
        let full = golden.maybe(&format!("case{case}.logits"));
        let kept: Array2<f32> =
            full.unwrap_or_else(|| golden.floats(&format!("case{case}.logits_last")));
        let first = logits.nrows() - kept.nrows();
        let delta = &logits.slice(ndarray::s![first.., ..]) - &kept;
        let far = largest(&delta);
        assert!(far < 2e-3, "case {case}: {far}");
        let answers = golden.ids(&format!("case{case}.argmax"));
        for (row, &answer) in logits.rows().into_iter().zip(&answers) {
            assert_eq!(argmax(row.as_slice().expect("a row")), Some(answer as usize));
        }
    }
}

#[test]
fn what_the_file_leaves_open_can_be_said() {
    let source = Source::path(path("gguf").join("llama256_tq2_0.gguf"));
    let options = LoadOptions { activations: Some(Activations::None), ..Default::default() };
    let model = load(&source, &options).expect("a sound file").model;
    assert!(
        model.layers.iter().flat_map(|l| &l.linears).all(|l| l.activations == Activations::None)
    );
    let floats = prefill(kernels::best(), &model, KvKind::F32, &[510, 3, 77]);
    let codes = prefill(kernels::best(), &file("llama256_tq2_0").model, KvKind::F32, &[510, 3, 77]);
    assert_ne!(bits(&floats), bits(&codes));
    let folder = Source::folder(path("models").join("llama256_packed_bitlinear"));
    let refused = load(&folder, &options).expect_err("a checkpoint says its activations");
    assert!(refused.to_string().contains("activations"), "{refused}");
    let four = LoadOptions { activations: Some(Activations::PerTokenInt4), ..Default::default() };
    let eight = loaded("llama256_packed_bitlinear");
    let (ours, theirs) = (load(&folder, &four), load(&source, &four));
    let (ours, theirs) = (ours.expect("fewer levels"), theirs.expect("fewer levels"));
    // Another arithmetic is another model to whoever goes by digests.
    assert_ne!(ours.manifest.digest, eight.manifest.digest);
    let read = |model: &Model| bits(&prefill(kernels::best(), model, KvKind::F32, &[510, 3, 77]));
    assert_ne!(read(&ours.model), read(&eight.model));
    let codes = |model: &Model| model.layers[0].linear(Slot::Down).activations;
    assert_eq!(codes(&ours.model), Activations::PerTokenInt4);
    assert_eq!(codes(&ours.model), codes(&theirs.model));
    let said = LoadOptions { activations: Some(Activations::PerTokenInt8), ..Default::default() };
    let same = load(&folder, &said).expect("what it says itself").manifest;
    assert_eq!(same.digest, eight.manifest.digest);
}

#[test]
fn a_file_brings_the_tokenizer_of_its_model() {
    let file = file("bitnet256_i2_s");
    let (ours, theirs) = (file.tokenizer.expect("a tokenizer"), loaded("bitnet_packed_bitlinear"));
    let theirs = theirs.tokenizer.expect("a tokenizer");
    for text in ["the king's 1234 men\n\n  went", "Ünïcödé 你好 \u{1f600}", "", "a<|end_of_text|>b"]
    {
        let ids = ours.encode(text).expect("encodes");
        assert_eq!(ids, theirs.encode(text).expect("encodes"), "{text:?}");
        assert_eq!(ours.decode(&ids).expect("decodes"), theirs.decode(&ids).expect("decodes"));
    }
}

#[test]
fn every_form_that_is_written_loads_to_the_same_model() {
    let names =
        ["bitnet256_packed_autobitlinear", "llama256_packed_bitlinear", "bitnet_online_bf16"];
    for name in names {
        let original = loaded(name);
        let expected = prefill(kernels::best(), &original.model, KvKind::F32, &[510, 3, 77, 201]);
        for form in TERNARY {
            let written = files(&original.model, original.tokenizer.as_ref(), form);
            let (made, warnings) = match written {
                Ok(written) => written,
                Err(why) => {
                    // Its rows of 128 are no whole blocks of 256.
                    assert!(name == "bitnet_online_bf16" && why.expected.contains("256"), "{why}");
                    continue;
                }
            };
            let memory = made.into_iter().map(|file| (file.name, file.bytes));
            let again = load(&Source::memory("made", memory), &LoadOptions::default());
            let again = again.unwrap_or_else(|error| panic!("{name} {form:?}: {error}"));
            assert_eq!(again.tokenizer.is_some(), original.tokenizer.is_some());
            for (index, slot) in
                (0..original.model.layers.len()).flat_map(|i| Slot::ALL.map(|s| (i, s)))
            {
                assert!(codes(&original.model, index, slot) == codes(&again.model, index, slot));
            }
            let logits = prefill(kernels::best(), &again.model, KvKind::F32, &[510, 3, 77, 201]);
            if warnings.is_empty() {
                assert_eq!(bits(&logits), bits(&expected), "{name} {form:?}");
            } else {
                assert!(name.starts_with("llama") && warnings[0].contains("divide"));
                assert!(largest(&(&logits - &expected)) < 0.05, "{name} {form:?}");
            }
        }
    }
}

#[test]
fn a_written_form_keeps_stretched_frequencies_and_says_what_it_cannot() {
    let mut checkpoint = Checkpoint::of("bitnet256_packed_autobitlinear");
    let yarn = json!({"rope_type": "yarn", "factor": 4.0, "beta_fast": 16.0,
        "original_max_position_embeddings": 64});
    checkpoint.config["rope_scaling"] = yarn;
    checkpoint.config["eos_token_id"] = json!([511, 7]);
    let original = checkpoint.load().expect("a sound checkpoint").model;
    assert!(original.config.yarn.is_some());
    for form in TERNARY {
        let (made, warnings) = files(&original, None, form).expect("it has this form");
        assert_eq!(warnings, Vec::<String>::new());
        let memory = made.into_iter().map(|file| (file.name, file.bytes));
        let again = load(&Source::memory("made", memory), &LoadOptions::default());
        let config = again.expect("a sound form").model.config;
        let architecture = original.config.architecture.clone();
        assert_eq!(Config { architecture, ..config }, original.config, "{form:?}");
    }
    let refused = |change: fn(&mut Model), parts: &[&str]| {
        let mut model = original.clone();
        change(&mut model);
        let why = files(&model, None, Form::GgufI2s).expect_err("no such form").to_string();
        assert!(parts.iter().all(|part| why.contains(part)), "{why}");
    };
    refused(|model| model.config.theta = 1e6 + 0.01, &["rope theta", "f32"]);
    refused(|model| model.config.yarn.as_mut().expect("yarn").stretch = 1.5, &["1.5"]);
    refused(|model| model.config.yarn.as_mut().expect("yarn").factor = 4.1, &["factors"]);
    let floats = |model: &mut Model| model.layers[1].linears[6].activations = Activations::None;
    refused(floats, &["layers.1.mlp.down_proj", "float activations"]);
}

#[test]
fn neither_kernels_nor_token_by_token_decoding_change_a_bit_where_heads_are_normed() {
    let model = file("qwen3_q1_0").model;
    let ids = [510, 3, 77, 201, 9, 45];
    let expected = bits(&prefill(kernels::scalar(), &model, KvKind::F32, &ids));
    for table in kernels::available() {
        assert_eq!(bits(&prefill(table, &model, KvKind::F32, &ids)), expected, "{}", table.name);
        let mut exact = Exact::new(table, &model, KvKind::F32);
        let step = |(position, id): (usize, &u32)| {
            let row = model.embed(&[*id]).expect("a known token");
            bits(&run(&mut exact, &model, &row, 0, position, Read::All))
        };
        let steps: Vec<u32> = ids.iter().enumerate().flat_map(step).collect();
        assert_eq!(steps, expected, "{}", table.name);
    }
}

/// A file whose `I2_S` tensors are laid out anew.
fn laid_out(name: &str, runs: I2sRuns) -> Loaded {
    let path = path("gguf").join(format!("{name}.gguf"));
    let mut bytes = std::fs::read(&path).expect("a file");
    let tensors = file(name).manifest.tensors;
    for tensor in tensors.iter().filter(|entry| entry.dtype == "I2_S") {
        let (rows, columns) = (tensor.shape[0], tensor.shape[1]);
        let at = tensor.offset as usize..(tensor.offset + tensor.bytes) as usize;
        let wide = Layout::i2s(rows, columns, I2sRuns::Wide).expect("whole runs");
        let codes = |row: usize| {
            let mut codes = vec![0; columns];
            wide.read_row(&bytes[at.clone()], row, &mut codes);
            codes
        };
        let codes: Vec<Vec<u8>> = (0..rows).map(codes).collect();
        let other = Layout::i2s(rows, columns, runs).expect("whole runs");
        let written = other.write(|row, out| out.copy_from_slice(&codes[row]));
        let written = written.expect("bits of codes");
        assert_ne!(bytes[at.clone()], written);
        bytes[at].copy_from_slice(&written);
    }
    let source = Source::memory("made", [(format!("{name}.gguf"), bytes)]);
    load(&source, &LoadOptions { i2s: runs, ..Default::default() }).expect("a sound file")
}

#[test]
fn the_three_layouts_of_i2s_hold_the_same_model() {
    let ids = [510, 3, 77];
    let logits = |model: &Model| prefill(kernels::best(), model, KvKind::F32, &ids);
    let wide = file("bitnet256_i2_s").model;
    for runs in [I2sRuns::Narrow, I2sRuns::Rows] {
        let other = laid_out("bitnet256_i2_s", runs).model;
        for slot in Slot::ALL {
            assert_eq!(codes(&wide, 1, slot), codes(&other, 1, slot), "{runs:?} {slot:?}");
        }
        assert_eq!(bits(&logits(&wide)), bits(&logits(&other)), "{runs:?}");
    }
}

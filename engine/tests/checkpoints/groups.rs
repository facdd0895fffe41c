//! Codes under scales of groups, written into the formats that hold them, and read back.

use std::sync::Arc;

use engine::formats::write::{Form, NoForm, files};
use engine::formats::{LoadOptions, Loaded, Source, load};
use engine::kernels;
use engine::model::random::{SplitMix, Style, random_model, small_config};
use engine::model::{Activations, Float, FloatType, Gate, KvKind, Model, Slot, Weights};
use engine::packing::BlockType;
use half::f16;

use crate::reference::{bits, path, prefill};

const IDS: [u32; 4] = [5, 3, 17, 1];
const LLAMA: Style = Style { sub_norms: false, stored: FloatType::F16, ..Style::BITNET };

fn written(model: &Model, form: Form) -> Result<Loaded, NoForm> {
    let (made, warnings) = files(model, None, form)?;
    assert_eq!(warnings, Vec::<String>::new());
    let memory = made.into_iter().map(|file| (file.name, file.bytes));
    Ok(load(&Source::memory("made", memory), &LoadOptions::default()).expect("a sound file"))
}

/// A model whose linear layers are blocks of a format under scales of their own; of signs alone, if
/// it is to be.
fn grouped(kind: BlockType, signs: bool) -> Model {
    let mut config = small_config(2, 256, 2, 1);
    config.gate = Gate::Silu;
    let mut model = random_model(&config, LLAMA, 7);
    model.config.activations = Activations::None;
    let mut random = SplitMix(11);
    for linear in model.layers.iter_mut().flat_map(|layer| &mut layer.linears) {
        let (rows, columns) = (linear.outputs(), linear.inputs());
        let mut data = Vec::new();
        for _ in 0..rows * columns / kind.weights() {
            let code = |_| match signs {
                true => 2 * random.below(2) as u8,
                false => random.below(3) as u8,
            };
            let codes: Vec<u8> = (0..kind.weights()).map(code).collect();
            let scale = f16::from_f32(random.unit());
            data.extend(kind.encode(&codes, scale));
        }
        linear.weights = Weights::Dense(Arc::new(Float::Blocks {
            kind,
            data,
            columns,
            turned: None,
            factor: None,
        }));
        linear.activations = Activations::None;
    }
    model
}

/// The kind and the values of a linear layer.
fn values(model: &Model, layer: usize, slot: Slot) -> (BlockType, Vec<u32>) {
    let Weights::Dense(float) = &model.layers[layer].linear(slot).weights else { panic!("floats") };
    let Float::Blocks { kind, columns, .. } = &**float else { panic!("blocks") };
    let mut row = vec![0.0f32; *columns];
    let mut all = Vec::new();
    for index in 0..float.rows() {
        float.read_row(index, &mut row);
        all.extend(row.iter().map(|value| value.to_bits()));
    }
    (*kind, all)
}

fn the_same(model: &Model, again: &Model, kind: BlockType) {
    for (layer, slot) in (0..model.layers.len()).flat_map(|l| Slot::ALL.map(|slot| (l, slot))) {
        let (expected, got) = (values(model, layer, slot), values(again, layer, slot));
        assert_eq!(got.0, kind, "{layer} {slot:?}");
        assert!(got.1 == expected.1, "{layer} {slot:?}");
    }
    let logits = |model: &Model| bits(&prefill(kernels::best(), model, KvKind::F32, &IDS));
    assert_eq!(logits(again), logits(model));
}

#[test]
fn codes_of_groups_are_kept_in_blocks_that_are_as_wide_or_narrower() {
    for kind in [BlockType::Q2, BlockType::Q2Wide, BlockType::Tq2, BlockType::Tq1, BlockType::Q1] {
        let model = grouped(kind, kind == BlockType::Q1);
        let again = written(&model, Form::GgufQ2).expect("it has this form");
        the_same(&model, &again.model, BlockType::Q2);
    }
    for kind in [BlockType::Q1, BlockType::Q2Wide, BlockType::Tq2, BlockType::Tq1] {
        let model = grouped(kind, true);
        let again = written(&model, Form::GgufQ1).expect("it has this form");
        the_same(&model, &again.model, BlockType::Q1);
        // Narrow groups of one scale are joined again.
        let narrow = written(&model, Form::GgufQ2).expect("it has this form");
        let joined = written(&narrow.model, Form::GgufQ1).expect("it has this form");
        the_same(&model, &joined.model, BlockType::Q1);
    }
}

#[test]
fn a_file_of_signs_goes_there_and_back() {
    let source = Source::path(path("gguf").join("qwen3_q1_0.gguf"));
    let model = load(&source, &LoadOptions::default()).expect("a sound file").model;
    let signs = written(&model, Form::GgufQ1).expect("it has this form");
    the_same(&model, &signs.model, BlockType::Q1);
    let all = |model: &Model| format!("{:?}", (&model.layers, &model.embedding, &model.head));
    assert!(all(&signs.model) == all(&model));
    let codes = written(&model, Form::GgufQ2).expect("it has this form");
    the_same(&model, &codes.model, BlockType::Q2);
    assert_eq!(codes.model.embedding, model.embedding, "blocks of signs, as they were");
    let back = written(&codes.model, Form::GgufQ1).expect("it has this form");
    assert_eq!(back.manifest.digest, signs.manifest.digest);
}

#[test]
fn one_scale_of_a_tensor_is_kept_beside_the_blocks_where_it_is_no_f16() {
    let mut config = small_config(1, 128, 2, 1);
    config.gate = Gate::Silu;
    let mut model = random_model(&config, LLAMA, 3);
    model.config.activations = Activations::None;
    for linear in model.layers.iter_mut().flat_map(|layer| &mut layer.linears) {
        linear.activations = Activations::None;
    }
    let again = written(&model, Form::GgufQ2).expect("it has this form").model;
    for slot in Slot::ALL {
        let of = |model: &Model| match &model.layers[0].linear(slot).weights {
            Weights::Ternary { rows, scale, .. } => (rows.clone(), *scale),
            _ => panic!("one scale"),
        };
        assert!(of(&again) == of(&model), "{slot:?}");
        assert_eq!(again.layers[0].linear(slot).activations, Activations::None);
    }
    let logits = |model: &Model| bits(&prefill(kernels::best(), model, KvKind::F32, &IDS));
    assert_eq!(logits(&again), logits(&model));
    let why = written(&model, Form::GgufQ1).expect_err("there are zeros").to_string();
    assert!(why.contains("expected signs"), "{why}");
}

#[test]
fn what_a_form_does_not_hold_is_refused_by_name() {
    let refused = |model: &Model, form: Form, parts: &[&str]| {
        let why = written(model, form).expect_err("no such form").to_string();
        assert!(parts.iter().all(|part| why.contains(part)), "{why}");
    };
    let signs = grouped(BlockType::Q1, true);
    for form in [Form::HfPacked, Form::GgufTq1, Form::GgufTq2, Form::GgufI2s] {
        refused(
            &signs,
            form,
            &["layers.0.self_attn.q_proj", "int8 codes", "got float activations"],
        );
    }
    refused(&grouped(BlockType::Q2Wide, false), Form::GgufQ1, &["blk.0.attn_q", "signs", "at [0,"]);
    let narrow = grouped(BlockType::Q2, true);
    refused(&narrow, Form::GgufQ1, &["blk.0.attn_q", "one scale for 128 weights", "two in row 0"]);
    for kind in [BlockType::Q4, BlockType::Q8, BlockType::Q4K, BlockType::Q6K] {
        let mut model = grouped(BlockType::Q1, true);
        let down = &mut model.layers[1].linears[6];
        let (rows, columns) = (down.outputs(), down.inputs());
        let data = vec![0; rows * columns / kind.weights() * kind.bytes()];
        down.weights = Weights::Dense(Arc::new(Float::Blocks {
            kind,
            data,
            columns,
            turned: None,
            factor: None,
        }));
        for (form, holds) in [(Form::GgufQ1, "Q1_0 holds"), (Form::GgufQ2, "Q2_0 holds")] {
            refused(&model, form, &["blk.1.ffn_down", holds, &format!("got {}", kind.name())]);
        }
    }
    let mut model = grouped(BlockType::Q1, true);
    let (rows, columns) = (256, 512);
    model.layers[1].linears[6].weights =
        Weights::Dense(Arc::new(Float::F16 { data: vec![0; rows * columns], columns }));
    refused(&model, Form::GgufQ2, &["blk.1.ffn_down", "got F16"]);
    model.layers[0].linears[0].activations = Activations::PerTokenInt8;
    refused(&model, Form::GgufQ2, &["q_proj", "float activations", "got int8 codes per token"]);
}

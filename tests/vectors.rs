//! Pinned results: the bits of logits, bounds, draws and addresses on the embedded models.
//!
//! These values are the same on every machine, with every kernel table and any number of threads.
//! Whoever changes logits changes [`engine::ARITHMETIC`]; whoever changes draws or the numbering of
//! bits, the campaign's format version. Bounds may become tighter: their pins then move, with a
//! reason.

use certify::claim::{Deployed, decide, prove};
use certify::interval::{Boxes, Margin};
use engine::formats::{LoadOptions, Source, load};
use engine::kernels;
use engine::model::{KvKind, Model};
use engine::walk::Read;
use faults::{Identity, Space, Target, TrialRng};
use fixtures::embedded::{self, Checkpoint};
use ndarray::Array2;

fn model_of(checkpoint: Checkpoint) -> Model {
    let files = checkpoint.files.iter().map(|&(name, bytes)| (name, bytes));
    let source = Source::memory(checkpoint.name, files);
    load(&source, &LoadOptions::default()).expect("an embedded model loads").model
}

/// The first four samples of a model, as the rows that enter its first layer.
fn inputs(checkpoint: Checkpoint, model: &Model) -> Vec<Array2<f32>> {
    if let Some(lines) = checkpoint.file("inputs.jsonl") {
        let lines = std::str::from_utf8(lines).expect("text").lines().take(4);
        return lines
            .map(|line| {
                let sample: serde_json::Value = serde_json::from_str(line).expect("JSON");
                let ids: Vec<u32> =
                    serde_json::from_value(sample["input_ids"].clone()).expect("token ids");
                model.embed(&ids).expect("tokens of the vocabulary")
            })
            .collect();
    }
    let file = checkpoint.file("inputs.safetensors").expect("samples");
    let arrays = fixtures::archive::read(file).expect("an archive");
    let array = &arrays["inputs_embeds"];
    let (tokens, width) = (array.shape[1], array.shape[2]);
    let values = array.floats().expect("floats");
    let rows = values.chunks_exact(tokens * width).take(4);
    rows.map(|rows| Array2::from_shape_vec((tokens, width), rows.to_vec()).expect("one sample"))
        .collect()
}

fn digest(values: impl Iterator<Item = u64>) -> String {
    let mut hash = blake3::Hasher::new();
    values.for_each(|value| {
        hash.update(&value.to_le_bytes());
    });
    hash.finalize().to_hex()[..16].to_owned()
}

/// Digests of all logits under two storage types, and of bounds of margins.
fn found(checkpoint: Checkpoint) -> [String; 3] {
    let model = model_of(checkpoint);
    let samples = inputs(checkpoint, &model);
    let logits = |kv| {
        let deployed = Deployed { model: &model, kernels: kernels::best(), kv };
        let all = samples.iter().flat_map(|x| deployed.logits(x, 0, Read::All));
        digest(all.map(|value| value.to_bits().into()))
    };
    let deployed = Deployed { model: &model, kernels: kernels::best(), kv: KvKind::F32 };
    let margins = samples.iter().flat_map(|x| {
        let clean = deployed.logits(x, 0, Read::Last);
        let winner = decide(clean.as_slice().expect("a row"), &[]).expect("finite logits");
        let claim = Margin { row: 0, winner, rivals: Vec::new() };
        let boxes = Boxes::ball(x, 1e-5, &(0..x.nrows()));
        prove(&deployed, &boxes, 0, Read::Last, &[claim]).margins
    });
    [logits(KvKind::F32), logits(KvKind::Int8), digest(margins.map(f64::to_bits))]
}

#[test]
fn logits_and_bounds_of_the_embedded_models_keep_their_bits() {
    let pinned = [
        ("digits", ["8e0ed23aa69da33b", "06cc6de341ee7afe", "2613ad3ea194b2ad"]),
        ("digits-normal", ["078ac75f0ef05345", "2dc220bb9a17f997", "b4fb80c9cd874547"]),
        ("digits-calm", ["837a7002ecb1ee60", "5cdc013cc0e69f0c", "d21e9f0ce679d88c"]),
        ("digits-shallow", ["4b3653ead1b48a42", "c2ea2fcd981bd973", "04c7dec71da47a38"]),
        ("digits-deep", ["4d31bf3530a0d64c", "90c3614bbfb27df7", "b9ec48df2272fcfa"]),
        ("digits-six", ["a1ba4de830b806df", "d031f317340bce3b", "a078b24e9a6c7638"]),
        ("pixels", ["ba935ddb5769e2af", "35f851a4a4c71680", "1540b58ce2ec6e92"]),
        ("language", ["d20623f4ea11d1dc", "72ebb9c3343cf5cb", "90663963ddc4dab0"]),
        ("language-robust", ["de8aaa2481d9c30d", "3cb95b35e3fa61e3", "3b051469c7936fca"]),
    ];
    assert_eq!(engine::ARITHMETIC, "bca-1");
    for (checkpoint, (name, expected)) in embedded::all().into_iter().zip(pinned) {
        assert_eq!(checkpoint.name, name);
        assert_eq!(found(checkpoint), expected, "{name}");
    }
}

#[test]
fn draws_and_addresses_keep_their_values() {
    let identity = Identity::of(&["model", "inputs", "plan"]);
    let mut rng = TrialRng::new(&identity, 7);
    assert_eq!([rng.word(), rng.below(1000)], [17195313606356337835, 339]);
    let model = model_of(embedded::digits());
    let space = Space::new(&model, KvKind::Int8);
    let addresses = [
        (Target::WeightCode, 4321),
        (Target::WeightScale, 99),
        (Target::Norm, 1000),
        (Target::LmHead, 777),
        (Target::KvInt8, 2024),
    ]
    .map(|(target, number)| space.address(target, 9, number).to_string());
    assert_eq!(
        addresses,
        [
            "model.layers.0.mlp.down_proj.weight[11,16].1",
            "model.layers.0.self_attn.o_proj.weight_scale.3",
            "model.layers.0.self_attn.attn_sub_norm.weight[15].8",
            "lm_head.weight[1,8].9",
            "kv.layers.0.key[token=4,head=1,dim=1].0@5"
        ]
    );
}

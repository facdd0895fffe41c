//! `flip` from outside: the effect of one bit of every kind, and patched checkpoints that compute
//! what was foretold, bit for bit.

mod terminal;

use fixtures::embedded::{self, Checkpoint};
use serde_json::Value;
use terminal::{Desk, at};

/// One address of each kind that lies in the file of the digits.
const STORED: [&str; 8] = [
    "model.layers.0.self_attn.q_proj.weight[3,7].1",
    "model.layers.1.mlp.down_proj.weight[15,31].0",
    "model.layers.1.mlp.gate_proj.weight@0x1f.4",
    "model.layers.0.mlp.up_proj.weight_scale.22",
    "model.layers.0.input_layernorm.weight[5].23",
    "model.layers.1.mlp.ffn_sub_norm.weight[30].31",
    "model.norm.weight[2].22",
    "lm_head.weight[3,4].31",
];

/// The parts of a flip of `--json`, for every sample.
fn parts(desk: &Desk, words: &str) -> Value {
    let told = desk.run(&format!("flip {words} --json")).ends(0);
    serde_json::from_str(&told.out).expect("JSON")
}

/// Logits as the bits of f32: the text of a number reads back exactly.
fn logits(effects: &Value, side: &str) -> Vec<Vec<u32>> {
    let bits = |value: &Value| (value.as_f64().expect("a finite logit") as f32).to_bits();
    let row = |sample: &Value| -> Vec<u32> {
        sample[side].as_array().expect("logits").iter().map(bits).collect()
    };
    at(effects, "samples[]").into_iter().map(row).collect()
}

#[test]
fn a_flip_shows_the_decision_and_the_logits_before_and_after() {
    let desk = Desk::new();
    let kv = [
        "kv.layers.0.key[token=2,head=1,dim=3].22@5",
        "kv.layers.1.value[token=0,head=0,dim=0].31",
    ];
    for bit in STORED.into_iter().chain(kv) {
        let told = desk.run(&format!("flip @digits --limit 2 --bit {bit}")).ends(0);
        for part in ["sample 0, label", "sample 1, label", "decision", "before", "after"] {
            assert!(told.out.contains(part), "{bit}: no {part:?} in\n{}", told.out);
        }
        let named = told.out.lines().next().expect("a first line");
        assert!(named == bit || bit.contains('@'), "{bit}: {named}");
        assert_eq!(
            told.out.contains("stored at"),
            bit.contains("_proj.weight[") || bit.contains("0x")
        );
        let effects = parts(&desk, &format!("@digits --limit 2 --bit {bit}"));
        assert_eq!(effects["address"], *named);
        let place = format!("  in model.safetensors, byte {}, bit ", effects["file_byte"]);
        assert_eq!(told.out.contains(&place), !bit.starts_with("kv."), "{}", told.out);
        let (before, after) = (logits(&effects, "logits_before"), logits(&effects, "logits_after"));
        assert_eq!((before.len(), before[0].len(), after.len()), (2, 10, 2));
        for (index, sample) in at(&effects, "samples[]").into_iter().enumerate() {
            let change = sample["max_logit_change"].as_f64().expect("a change");
            assert_eq!(change == 0.0, before[index] == after[index], "{bit}: {sample}");
            let kept = sample["decision_before"] == sample["decision_after"];
            assert_eq!(sample["outcome"] == "masked", kept, "{bit}: {sample}");
        }
    }
    assert_eq!(desk.listing(), [""; 0]);
}

#[test]
fn both_names_of_a_bit_are_one_bit() {
    let desk = Desk::new();
    let logical = parts(&desk, "@digits --bit model.layers.1.mlp.gate_proj.weight[3,7].1");
    let physical = logical["physical"].as_str().expect("a code has a place").to_owned();
    assert!(physical.starts_with("model.layers.1.mlp.gate_proj.weight@0x"), "{physical}");
    assert_eq!(parts(&desk, &format!("@digits --bit {physical}")), logical);
}

/// The least flip of `bit` on a patched checkpoint: a bit that moves no logit of any sample.
const HARMLESS: &str = "model.norm.weight[0].0";

fn patched_as_foretold(checkpoint: Checkpoint, inputs: &str, bits: &[&str]) {
    let desk = Desk::new();
    desk.checkpoint("model", checkpoint);
    for (index, bit) in bits.iter().enumerate() {
        let (once, twice) = (format!("once{index}"), format!("twice{index}"));
        let see = format!("--limit 3 --inputs model/{inputs} --unused-code deployed");
        let foretold = parts(&desk, &format!("@{} --limit 3 --bit {bit}", checkpoint.name));
        let written = parts(&desk, &format!("model {see} --bit {bit} --write {once}"));
        assert_eq!(foretold, written, "{bit}");
        let patched = parts(&desk, &format!("{once} {see} --bit {HARMLESS}"));
        assert_eq!(logits(&patched, "logits_before"), logits(&foretold, "logits_after"), "{bit}");
        desk.run(&format!("flip {once} --unused-code deployed --bit {bit} --write {twice}"))
            .ends(0);
        for (name, contents) in checkpoint.files {
            assert!(desk.read(&format!("{twice}/{name}")) == *contents, "{bit}: {name}");
            let same = desk.read(&format!("{once}/{name}")) == *contents;
            assert_eq!(same, *name != "model.safetensors", "{bit}: {name}");
        }
        let bytes = desk.read(&format!("{once}/model.safetensors"));
        let original = checkpoint.file("model.safetensors").expect("weights");
        let changed: u32 = bytes.iter().zip(original).map(|(a, b)| (a ^ b).count_ones()).sum();
        assert_eq!((bytes.len(), changed), (original.len(), 1), "{bit}");
    }
}

#[test]
fn patched_digits_compute_what_was_foretold_and_a_second_flip_restores_every_byte() {
    patched_as_foretold(embedded::digits(), "inputs.safetensors", &STORED);
}

#[test]
fn a_patched_language_model_computes_what_was_foretold_in_its_narrow_floats() {
    let bits = [
        "model.embed_tokens.weight[357,100].14",
        "model.layers.2.self_attn.v_proj.weight[63,127].1",
        "model.layers.3.mlp.up_proj.weight_scale.6",
        "model.layers.1.self_attn.attn_sub_norm.weight[127].7",
        "model.norm.weight[127].15",
    ];
    patched_as_foretold(embedded::language(), "inputs.jsonl", &bits);
}

#[test]
fn a_bit_of_a_master_does_what_a_load_of_the_patched_file_shows() {
    let desk = Desk::new();
    let model =
        concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/reference/models/bitnet_online_bf16");
    desk.put("x.jsonl", "{\"input_ids\":[5,7,9,11]}\n");
    let flip = |model: &str, bit: &str, more: &[&str]| {
        let words = ["flip", model, "--inputs", "x.jsonl", "--json", "--bit", bit];
        let told = desk.words(&[&words[..], more].concat()).ends(0);
        serde_json::from_str::<Value>(&told.out).expect("JSON")
    };
    for bit in [0, 6, 7, 14, 15] {
        let folder = format!("patched{bit}");
        let bit = format!("model.layers.0.mlp.up_proj.weight_element[3,5].{bit}");
        let foretold = flip(model, &bit, &["--write", &folder]);
        let patched = flip(&folder, HARMLESS, &[]);
        assert_eq!(logits(&patched, "logits_before"), logits(&foretold, "logits_after"), "{bit}");
        assert_eq!(foretold["file"], "model.safetensors");
    }
    let code = "model.layers.0.mlp.up_proj.weight[3,5].1";
    let words = ["flip", model, "--bit", code, "--write", "packed"];
    desk.words(&words).ends(3).says(&["its codes are not stored as bits", "weight_element"]);
}

#[test]
fn a_patched_checkpoint_can_be_analysed_and_has_another_digest() {
    let desk = Desk::new();
    desk.run("flip @digits --bit lm_head.weight[3,4].31 --write new/patched").ends(0);
    let few = "--limit 3 --faults 9 --attack-budget 10";
    let report = desk.report(&format!("new/patched --inputs new/patched/inputs.safetensors {few}"));
    let clean = desk.report(few);
    assert_ne!(report["model"]["digest"], clean["model"]["digest"]);
    assert_ne!(report["certification"]["samples"], clean["certification"]["samples"]);
}

#[test]
fn a_scale_that_no_model_has_is_shown_but_the_patched_file_is_refused() {
    let desk = Desk::new();
    let bit = "model.layers.0.mlp.up_proj.weight_scale.31";
    desk.run(&format!("flip @digits --limit 1 --bit {bit} --write negative")).ends(0);
    let told = desk.run("analyze negative --inputs negative/inputs.safetensors").ends(3);
    told.says(&["up_proj.weight_scale", "a positive finite scale"]);
}

#[test]
fn the_unused_code_is_detected_where_a_detector_was_asked_for() {
    let desk = Desk::new();
    let mut detected = 0;
    for column in 0..8 {
        let effects = [0, 1].map(|bit| {
            let bit = format!("model.layers.1.mlp.down_proj.weight[0,{column}].{bit}");
            let sample = "--limit 1 --unused-code detect --bit";
            parts(&desk, &format!("@digits {sample} {bit}"))["samples"][0].clone()
        });
        let due = effects.iter().filter(|effect| effect["outcome"] == "due");
        for effect in due.clone() {
            assert_eq!(effect["logits_after"], Value::Null);
            assert_eq!(effect["decision_after"], Value::Null);
        }
        // 1 and 2 are one bit away from 3, 0 is two bits away.
        assert!(due.clone().count() <= 1, "column {column}");
        detected += due.count();
    }
    assert!(detected > 0, "no code of eight is a 1 or a 2");
}

#[test]
fn a_flip_that_makes_infinities_is_detected_and_shown() {
    let desk = Desk::new();
    let bit = "lm_head.weight[3,4].30";
    let effects = parts(&desk, &format!("@digits --limit 1 --bit {bit}"));
    let kv = "kv.layers.0.key[token=2,head=1,dim=3].30@5";
    let through_kv = parts(&desk, &format!("@digits --limit 1 --bit {kv}"));
    for sample in [&effects, &through_kv].map(|effects| &effects["samples"][0]) {
        let row = sample["logits_after"].as_array().expect("a row");
        let finite = row.iter().all(Value::is_number);
        assert_eq!(sample["outcome"] == "due", !finite, "{sample}");
        assert_eq!(sample["decision_after"].is_null(), !finite, "{sample}");
    }
}

#[test]
fn a_bit_of_the_cache_is_one_of_its_storage_type() {
    let desk = Desk::new();
    for (kv, bits) in [("f32", 32), ("f16", 16), ("int8", 8), ("1bit", 1)] {
        let bit = |bit: u32| {
            let address = format!("kv.layers.1.value[token=1,head=0,dim=2].{bit}@3");
            desk.run(&format!("flip @digits --limit 1 --kv {kv} --bit {address}"))
        };
        let told = bit(bits - 1).ends(0);
        assert!(told.out.contains("sample 0"), "{kv}: {}", told.out);
        bit(bits).ends(2).says(&["--bit", "bit", &bits.to_string()]);
    }
}

#[test]
fn addresses_that_name_no_bit_are_usage_errors_with_what_was_expected() {
    let desk = Desk::new();
    for (bit, parts) in [
        ("nonsense", ["--bit", "expected", "at 'nonsense'"]),
        ("", ["--bit", "expected", "at 'the end'"]),
        ("model.layers.0.mlp.down_proj.weight[3,7]", ["--bit", "expected '.'", "the end"]),
        ("model.layers.0.mlp.down_proj.weight[3,7].2", ["--bit", "bit = 2", "less than 2"]),
        ("model.layers.0.mlp.down_proj.weight[3;7].1", ["--bit", "expected ','", "';7].1'"]),
        ("model.layers.0.mlp.side_proj.weight[3,7].1", ["--bit", "expected", "side_proj"]),
        ("model.layers.2.mlp.down_proj.weight[3,7].1", ["--bit", "layer = 2", "less than 2"]),
        ("model.layers.0.mlp.down_proj.weight[16,7].1", ["--bit", "row = 16", "less than 16"]),
        ("model.layers.0.mlp.down_proj.weight[3,32].1", ["--bit", "column = 32", "less than 32"]),
        ("model.layers.0.mlp.down_proj.weight@0x80.1", ["--bit", "byte = 128", "less than 128"]),
        ("model.layers.0.mlp.down_proj.weight@0x7f.8", ["--bit", "a bit from 0 to 7", "'8'"]),
        ("model.layers.0.mlp.up_proj.weight_scale.32", ["--bit", "a bit from 0 to 31", "'32'"]),
        ("model.norm.weight[16].0", ["--bit", "index = 16", "less than 16"]),
        ("lm_head.weight[10,0].0", ["--bit", "row = 10", "less than 10"]),
        ("kv.layers.0.key[token=9,head=0,dim=0].1", ["--bit", "9", "less than 9"]),
        ("kv.layers.0.key[token=3,head=0,dim=0].1@9", ["--bit", "step = 9", "less than 9"]),
        ("kv.layers.0.key[token=3,head=2,dim=0].1", ["--bit", "head = 2", "less than 2"]),
    ] {
        let told = desk.words(&["flip", "@digits", "--limit", "1", "--bit", bit]).ends(2);
        assert_eq!(told.says(&parts).out, "");
    }
    let tied = desk.run("flip @language --bit lm_head.weight[0,0].1").ends(2);
    tied.says(&["model.embed_tokens.weight", "one tensor"]);
    let narrow = desk.run("flip @language --bit model.norm.weight[0].16").ends(2);
    narrow.says(&["bit = 16", "less than 16"]);
}

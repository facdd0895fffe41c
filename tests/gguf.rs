//! GGUF files from outside: what every verb makes of one, and of one that is converted.

#[allow(dead_code, reason = "most helpers are for the tests of the loader")]
#[path = "../engine/tests/checkpoints/made_gguf.rs"]
mod made_gguf;
mod terminal;

use std::path::PathBuf;

use made_gguf::{F32, Gguf, I2S};
use terminal::{Desk, at};

fn file(name: &str) -> String {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/reference/gguf");
    folder.join(format!("{name}.gguf")).to_str().expect("a path of text").to_owned()
}

/// The logits before and after a flip, as text.
fn effects(desk: &Desk, model: &str, bit: &str) -> (serde_json::Value, serde_json::Value) {
    let words = format!("flip {model} --inputs x.jsonl --bit {bit} --json");
    let told = desk.run(&words).ends(0);
    let value: serde_json::Value = serde_json::from_str(&told.out).expect("JSON");
    (value["samples"][0]["logits_before"].clone(), value["samples"][0]["logits_after"].clone())
}

fn desk() -> Desk {
    let desk = Desk::new();
    desk.put("x.jsonl", "{\"input_ids\": [510, 3, 77, 201]}\n");
    desk
}

#[test]
fn a_flip_that_is_written_into_a_file_computes_what_was_foretold() {
    let desk = desk();
    let q = "model.layers.0.self_attn.q_proj";
    let bits = [
        ("bitnet256_i2_s", format!("{q}.weight[130,77].1")),
        ("bitnet256_i2_s", "model.layers.1.mlp.down_proj.weight@0x31.5".into()),
        ("bitnet256_i2_s", "model.layers.1.mlp.up_proj.weight_scale.22".into()),
        ("bitnet256_tq2_0", "model.layers.1.mlp.gate_proj.weight[500,200].0".into()),
        ("bitnet256_tq2_0", "model.embed_tokens.weight[77,3].14".into()),
        // Its rows are stored in another order.
        ("llama256_tq2_0", format!("{q}.weight[67,9].1")),
        ("llama256_tq2_0", "model.layers.0.self_attn.k_proj.weight[33,200].0".into()),
        ("qwen3_q1_0", "model.layers.0.self_attn.q_norm.weight[5].22".into()),
        // Five trits share a byte; a scale that a block has alone makes a tensor of groups.
        ("bitnet256_tq1_0", format!("{q}.weight@0x3.7")),
        ("bitnet256_tq1_0", "model.layers.1.mlp.up_proj.weight_scale[3,0].9".into()),
        ("llama256_tq2_0", format!("{q}.weight_scale[67,0].12")),
        ("qwen3_q1_0", format!("{q}.weight[1,2].0")),
        ("qwen3_q1_0", format!("{q}.weight_scale[1,1].9")),
        ("qwen3_q1_0", "model.embed_tokens.weight[77,2].0".into()),
        ("qwen3_q1_0", "model.embed_tokens.weight_scale[77,0].9".into()),
    ];
    let mut changed = 0;
    for (index, (name, bit)) in bits.into_iter().enumerate() {
        let model = file(name);
        let (before, after) = effects(&desk, &model, &bit);
        changed += usize::from(before != after);
        let out = format!("flipped{index}");
        let words = format!("flip {model} --inputs x.jsonl --bit {bit} --write {out}");
        let told = desk.run(&words).ends(0).err;
        let policy = if name.starts_with("qwen3") { "none" } else { "int8" };
        let groups = bit.contains("_proj.weight_scale[") && policy == "int8";
        let noted = "activations are none, not per_token_int8";
        assert_eq!(told.contains(noted), groups, "{bit}: {told}");
        let written = format!("{out}/{name}.gguf,activations={policy} --unused-code deployed");
        let (flipped, again) = effects(&desk, &written, &bit);
        assert!(flipped == after, "{name} {bit}");
        assert!(again == before, "{name} {bit}: flipped back");
        if groups {
            // Now that the file has groups, it is said how its activations are read as before.
            let shown = desk.run(&format!("inspect {out}/{name}.gguf")).ends(0);
            assert!((shown.out + &shown.err).contains("(activations=int8 behind the name"));
        }
    }
    assert!(changed >= 12, "only {changed} flips changed a logit");
    // The sign of the scale of a tensor: computed with, and refused by who reads the file.
    let words = format!("flip {}", file("bitnet256_i2_s"));
    let bit = "--bit model.layers.1.mlp.up_proj.weight_scale.31";
    let told = desk.run(&format!("{words} --inputs x.jsonl {bit} --write negative")).ends(0).err;
    assert!(told.contains("readers refuse the written checkpoint: "), "{told}");
}

/// A file whose gate has a scale beside its tensor: of codes in runs under a scale, or of blocks.
fn with_a_scale_beside(desk: &Desk, kind: u32) -> String {
    let bytes = Gguf::small(kind).with(|file| file.put("blk.0.ffn_gate.scale", &[1], F32));
    desk.put("beside.gguf", bytes);
    desk.put("short.jsonl", "{\"input_ids\": [1, 3, 2]}\n");
    "beside.gguf,activations=none".into()
}

#[test]
fn scales_beside_others_are_struck_ranked_and_written_where_they_stand() {
    let gate = "model.layers.0.mlp.gate_proj";
    for (kind, own, bits) in [(I2S, "[0,0]", 64), (35, "[3,0]", 32 + 8 * 16)] {
        let desk = Desk::new();
        let model = with_a_scale_beside(&desk, kind);
        let words = format!("faults run {model} --inputs short.jsonl --targets weight_scale");
        desk.run(&format!("{words} --trials 64 -q -o r.json")).ends(0);
        assert_eq!(at(&desk.json("r.json"), "faults.targets[].trials"), [64]);
        let within = "--targets weight_scale --tensors mlp.gate_proj --top 0 -q -o bits.jsonl";
        desk.run(&format!("faults rank {model} --inputs short.jsonl {within}")).ends(0);
        let bytes = desk.read("beside.gguf");
        let mut names = Vec::new();
        for line in desk.text("bits.jsonl").lines() {
            let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
            assert!(line["weight_before"].is_null() && line["layer"] == 0, "{line}");
            names.push(line["address"].as_str().expect("an address").to_owned());
        }
        assert_eq!(names.len(), bits);
        let scales = [format!("{gate}.weight_scale.20"), format!("{gate}.weight_scale{own}.7")];
        for (out, bit) in ["one", "other"].into_iter().zip(scales) {
            assert!(names.contains(&bit), "{bit}");
            let flip = |model: &str| {
                let told =
                    desk.run(&format!("flip {model} --inputs short.jsonl --bit {bit} --json"));
                let told: serde_json::Value =
                    serde_json::from_str(&told.ends(0).out).expect("JSON");
                ["logits_before", "logits_after"].map(|key| told["samples"][0][key].clone())
            };
            let [before, after] = flip(&model);
            assert_ne!(before, after);
            desk.run(&format!("flip {model} --bit {bit} --write {out}")).ends(0);
            let written = desk.read(&format!("{out}/beside.gguf"));
            assert_eq!(written.iter().zip(&bytes).filter(|(a, b)| a != b).count(), 1, "{bit}");
            let again = flip(&format!("{out}/beside.gguf,activations=none"));
            assert_eq!(again, [after, before], "{bit}: flipped back");
        }
    }
}

#[test]
fn rows_of_a_data_set_say_how_their_tensor_is_stored() {
    let desk = desk();
    let words = "--inputs x.jsonl --targets weight_code,norm --trials 40 --rows 9 -q --out set";
    desk.run(&format!("dataset {} {words}", file("bitnet256_tq1_0"))).ends(0);
    let rows: Vec<serde_json::Value> = ["train", "validation", "test"]
        .map(|split| format!("set/data/{split}.jsonl"))
        .into_iter()
        .filter(|name| desk.path(name).exists())
        .flat_map(|name| desk.text(&name).lines().map(str::to_owned).collect::<Vec<_>>())
        .map(|line| serde_json::from_str(&line).expect("a row"))
        .collect();
    for (target, format) in [("weight_code", "gguf-tq1_0"), ("norm", "gguf-f32")] {
        let mut of = rows.iter().filter(|row| row["target"] == target).peekable();
        assert!(of.peek().is_some() && of.all(|row| row["format"] == format), "{target}");
    }
    desk.run("dataset verify set").ends(0);
}

#[test]
fn what_has_no_bits_of_its_own_is_said() {
    let desk = desk();
    let code = "model.layers.0.self_attn.q_proj.weight[1,2].1";
    let scale = "model.layers.0.self_attn.q_proj.weight_scale.3";
    let trits = "model.layers.0.self_attn.q_proj.weight@0x40.0";
    for (name, bit, why) in [
        ("bitnet256_tq1_0", code, "five trits share a byte"),
        ("bitnet256_tq1_0", scale, "weight_scale[3,0]"),
        ("qwen3_q1_0", code, "bit = 1, expected less than 1"),
        ("bitnet256_tq2_0", scale, "weight_scale[3,0]"),
        ("bitnet256_i2_s", "model.layers.0.mlp.up_proj.weight_scale[3,0].1", "no scales of"),
        ("qwen3_q1_0", "kv.layers.0.key_scale[token=0,head=0].3", "floats, which have no scale"),
    ] {
        let words = format!("flip {} --inputs x.jsonl --bit {bit}", file(name));
        desk.run(&words).ends(2).says(&[bit, why]);
    }
    // By its byte a bit between codes is one of a scale.
    let told =
        desk.run(&format!("flip {} --inputs x.jsonl --bit {trits}", file("bitnet256_tq2_0")));
    assert!(told.ends(0).out.starts_with("model.layers.0.self_attn.q_proj.weight_scale[0,0].0"));
}

#[test]
fn campaigns_strike_what_has_no_bits_of_its_own_and_bounds_say_nothing_of_it() {
    let desk = desk();
    let targets = "weight_code,weight_scale,norm,kv_int8_scale,kv_1bit_scale";
    for name in ["bitnet256_tq1_0", "qwen3_q1_0"] {
        let model = format!("{} --inputs x.jsonl", file(name));
        let run = format!("faults run {model} --targets {targets} --trials 30 --quiet");
        desk.run(&format!("{run} -o {name}.json")).ends(0);
        let report = desk.json(&format!("{name}.json"));
        assert_eq!(at(&report, "faults.targets[].target").len(), 5, "{name}");
        assert_eq!(at(&report, "faults.targets[].trials"), [6, 6, 6, 6, 6], "{name}");
        // A map is of codes of two bits, and refused where it would leave some out.
        let map = format!("faults run {model} --exhaustive --quiet");
        desk.run(&map).ends(2).says(&["two bits"]);
        let attack = format!("attack {model} --flips 1 --evaluations 60 --json");
        let told = desk.run(&attack).ends(0).out;
        assert!(told.contains("\"certified_flip_budgets\": null"), "{told}");
    }
    let model = format!("{} --inputs x.jsonl", file("bitnet256_tq1_0"));
    desk.run(&format!("analyze {model} --epsilon 0 --faults 60 -o a.json -q")).ends(0);
    let report = desk.json("a.json");
    let tried = at(&report, "faults.flips_proven[].pairs");
    assert!(tried.iter().all(|pairs| **pairs == 0), "{tried:?}");
    let reason = at(&report, "faults.flips_proven_in_model.reason")[0].as_str().expect("a reason");
    assert!(reason.contains("not bounded"), "{reason}");
    desk.run(&format!(
        "dataset build {model} --targets weight_code,weight_scale --trials 40 --out d"
    ))
    .ends(0);
    desk.run(&format!("dataset verify d --model {}", file("bitnet256_tq1_0"))).ends(0);
}

#[test]
fn a_converted_model_is_the_same_model() {
    let desk = desk();
    desk.run("convert @language --to gguf-i2_s --out l.gguf").ends(0).says(&["left out"]);
    desk.run("convert l.gguf --to hf-packed --out hf").ends(0);
    let text = |model: &str| {
        desk.run(&format!("generate {model} --input-ids 5,9,12 --max-tokens 8 --ids")).ends(0).out
    };
    assert!(text("l.gguf").split(',').count() >= 8, "{}", text("l.gguf"));
    assert_eq!(text("l.gguf"), text("hf"));
    assert_eq!(text("l.gguf"), text("@language"));
    let floats = format!("convert {},activations=none --out", file("llama256_tq2_0"));
    desk.run(&format!("{floats} n.gguf --to gguf-tq2_0")).ends(3).says(&["float activations"]);
    desk.run(&format!("{floats} n --to hf-packed")).ends(3).says(&["float activations"]);
    desk.run("convert @language --to gguf-tq2_0 --out no.gguf").ends(3).says(&["256", "128"]);
    desk.run("convert @language --to gguf-i2_s --out l.gguf").ends(5).says(&["exists"]);
    desk.run("convert @language --to gguf-i2_s --out l.bin").ends(2).says(&[".gguf"]);
    assert!(!desk.path("no.gguf").exists());
}

#[test]
fn weights_of_groups_are_converted_code_by_code_and_scale_by_scale() {
    let desk = desk();
    let signs = file("qwen3_q1_0");
    let told = desk.run(&format!("convert {signs} --to gguf-q2_0 --out q2.gguf")).ends(0).out;
    // Two layers of width 256 with scales for each 64 weights.
    let codes: u64 = told.split(' ').nth(1).and_then(|n| n.parse().ok()).expect("a number");
    assert!(
        told.contains(&format!("{codes} codes, {} scales and the logits", codes / 64)),
        "{told}"
    );
    let told = desk.run("convert q2.gguf --to gguf-q1_0 --out q1.gguf").ends(0).out;
    assert!(told.contains(&format!("{codes} codes, {} scales and", codes / 128)), "{told}");
    let text = |model: &str| {
        desk.run(&format!("generate {model} --input-ids 5,9,12 --max-tokens 8 --ids")).ends(0).out
    };
    assert_eq!(text("q2.gguf"), text(&signs));
    assert_eq!(text("q1.gguf"), text(&signs));
    assert!(desk.run("inspect q2.gguf").ends(0).out.contains("Q2_0"));
    // One scale for each tensor, read with float activations.
    let floats = format!("{},activations=none", file("llama256_tq2_0"));
    desk.run(&format!("convert {floats} --to gguf-q2_0 --out one.gguf")).ends(0);
    assert_eq!(text("one.gguf"), text(&floats));
    let refused = |model: &str, form: &str, parts: &[&str]| {
        desk.run(&format!("convert {model} --to {form} --out no.gguf")).ends(3).says(parts);
        assert!(!desk.path("no.gguf").exists());
    };
    refused("one.gguf", "gguf-q1_0", &["no gguf-q1_0 form", "expected signs"]);
    refused(&signs, "gguf-tq2_0", &["no gguf-tq2_0 form", "int8 codes", "float activations"]);
    let eight = file("llama256_tq2_0");
    refused(&eight, "gguf-q2_0", &["no gguf-q2_0 form", "got int8 codes per token"]);
}

#[test]
fn a_file_is_analysed_like_any_checkpoint() {
    let desk = desk();
    for name in ["llama256_tq2_0", "qwen3_q1_0"] {
        let out = format!("{name}.json");
        let model = file(name);
        let words = format!("analyze {model} --inputs x.jsonl --epsilon 0 --faults 8 -o {out} -q");
        desk.run(&words).ends(0);
        let report = desk.json(&out);
        let verdict = at(&report, "certification.samples[].verdict");
        assert_eq!(verdict, ["certified"], "{name}");
        assert!(!at(&report, "faults.targets[]").is_empty(), "{name}");
    }
}

#[test]
fn codes_under_float_activations_are_analysed_and_not_bounded() {
    let desk = desk();
    for name in ["bitnet256_tq2_0", "bitnet256_i2_s"] {
        let model = format!("{},activations=none", file(name));
        let words = format!("analyze {model} --inputs x.jsonl --epsilon 0 --faults 8 -q");
        desk.run(&format!("{words} --no-certify -o {name}.json")).ends(0);
        let bounds = desk.json(&format!("{name}.json"));
        for bound in at(&bounds, "faults.bounds[]") {
            assert!(bound["logit_change_bound"].is_null(), "{bound}");
            assert_eq!(bound["proven_masked_share"], 0.0, "{bound}");
        }
        let part = "--exhaustive --layers 1 --tensors self_attn.v_proj --limit 1 --shard 0/128";
        let map = format!("faults run {model} --inputs x.jsonl {part} --journal {name} -q");
        desk.run(&format!("{map} --prove")).ends(0);
    }
}

#[test]
fn a_bound_of_a_layer_speaks_of_all_its_codes_or_is_none() {
    let desk = desk();
    let whole = file("bitnet256_tq2_0");
    let loud = with_a_loud_block(&desk, "model.layers.1.self_attn.v_proj");
    let mut pairs = Vec::new();
    for (name, model) in [("whole", &whole), ("loud", &loud)] {
        let words = format!("analyze {model} --inputs x.jsonl --no-certify --faults 8 -q");
        desk.run(&format!("{words} -o {name}.json")).ends(0);
        let report = desk.json(&format!("{name}.json"));
        let last = at(&report, "faults.bounds[]")[1].clone();
        let bounded = last["logit_change_bound"].is_number();
        assert_eq!((bounded, last["reason"].is_null()), (name == "whole", name == "whole"));
        pairs.push(last["pairs"].clone());
    }
    assert_eq!(pairs[0], pairs[1], "codes that are not bounded are pairs too");
}

#[test]
fn memory_codes_stand_before_blocks_of_any_layout() {
    let desk = desk();
    let fault = "[[fault]]\ntarget = \"weight_code\"\nprotection = \"secded\"\nlayers = [1]\n";
    desk.put("plan.toml", format!("trials = 4\n{fault}"));
    for name in ["bitnet256_tq1_0", "bitnet256_tq2_0", "bitnet256_i2_s"] {
        let words = "--inputs x.jsonl --plan plan.toml -q -o r.json";
        desk.run(&format!("faults run {} {words}", file(name))).ends(0);
        let report: serde_json::Value = serde_json::from_str(&desk.text("r.json")).expect("JSON");
        // A single flip of any word is corrected, scales of blocks included.
        let stratum = &report["faults"]["strata"][0];
        assert_eq!((&stratum["masked"], &stratum["behind"]["harmless"]), (&4.into(), &4.into()));
    }
}

/// A file of a ternary tensor in which a block of zeros has a large scale of its own: a code in it
/// that is no zero any more makes a tensor of groups, and counts for as much.
fn with_a_loud_block(desk: &Desk, tensor: &str) -> String {
    let mut bytes = std::fs::read(file("bitnet256_tq2_0")).expect("a file");
    let source = engine::formats::Source::memory("made", [("m.gguf", bytes.clone())]);
    let loaded = engine::formats::load(&source, &Default::default()).expect("a sound file");
    let entry = loaded.manifest.entry(&format!("{tensor}.weight")).expect("a tensor");
    let block = entry.offset as usize;
    bytes[block..block + 64].fill(0b0101_0101);
    // 60 as f16.
    bytes[block + 64..block + 66].copy_from_slice(&0x5380u16.to_le_bytes());
    desk.put("loud.gguf", bytes);
    "loud.gguf".into()
}

#[test]
fn a_ranking_proves_nothing_of_codes_that_change_the_scales_of_their_tensor() {
    let desk = desk();
    desk.put("one.jsonl", "{\"input_ids\": [510]}\n");
    let model = with_a_loud_block(&desk, "model.layers.1.self_attn.v_proj");
    let within = "--layers 1 --tensors self_attn.v_proj --top 3 -q -o r.jsonl";
    desk.run(&format!("faults rank {model} --inputs one.jsonl {within}")).ends(0);
    let text = desk.text("r.jsonl");
    let worst: serde_json::Value =
        serde_json::from_str(text.lines().next().expect("a bit")).expect("JSON");
    assert!(worst["address"].as_str().is_some_and(|bit| bit.contains("[0,")), "{worst}");
    assert!(worst["row_logit_change_bound"].is_null(), "{worst}");
    assert!(worst["row_proven_samples"].is_null(), "{worst}");
}

#[test]
fn what_a_file_leaves_open_is_said_behind_its_name() {
    let desk = desk();
    let model = file("llama256_tq2_0");
    let shown = |said: &str| desk.run(&format!("inspect {model}{said}")).ends(0).out;
    assert!(shown("").contains("activations    per_token_int8"));
    assert!(shown(",activations=none").contains("activations    none"));
    desk.run(&format!("inspect {model},i2s=32")).ends(2).says(&["i2s=32", "i2s=64", "i2s=4"]);
}

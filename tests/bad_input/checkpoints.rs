//! Damaged and hostile checkpoints: exit 3 with file, tensor or field, expected and got.
//!
//! The engine's own tests go through every field; here it is shown that each kind of damage reaches
//! the user as an error, whatever the verb.

use std::process::Command;

use fixtures::embedded;
use serde_json::{Value, json};

use crate::refused;
use crate::terminal::{Desk, extent};

const WORDS: &str = "analyze model --inputs model/inputs.safetensors --limit 1";
const WEIGHTS: &str = "model/model.safetensors";

fn digits() -> Desk {
    let desk = Desk::new();
    desk.checkpoint("model", embedded::digits());
    desk
}

/// Damages the weights, and expects a refusal that names the file.
fn weights(damage: impl FnOnce(&mut Vec<u8>), parts: &[&str]) {
    let desk = digits();
    let mut file = desk.read(WEIGHTS);
    damage(&mut file);
    desk.put(WEIGHTS, file);
    let mut parts = parts.to_vec();
    parts.push("model.safetensors");
    refused(&desk, WORDS, 3, &parts);
    refused(&desk, "inspect model", 3, &parts);
    refused(&desk, "flip model --bit model.norm.weight[0].1 --write out", 3, &parts);
}

/// A safetensors file of a header and some bytes.
fn framed(header: &str, bytes: usize) -> Vec<u8> {
    let length = (header.len() as u64).to_le_bytes();
    [&length[..], header.as_bytes(), &vec![0; bytes]].concat()
}

#[test]
fn cut_and_lengthened_weight_files_are_refused() {
    for end in [0, 7, 8, 100, 4000] {
        weights(|file| file.truncate(end), &["expected"]);
    }
    weights(|file| file.truncate(file.len() - 1), &["expected"]);
    weights(|file| file.push(0), &["expected"]);
    weights(|file| file[..8].copy_from_slice(&u64::MAX.to_le_bytes()), &["expected"]);
    weights(|file| file[8] = b'x', &["at byte"]);
}

#[test]
fn headers_that_lie_are_refused() {
    let entry = |shape: &str, ends: &str| {
        format!("{{\"a\":{{\"dtype\":\"F32\",\"shape\":{shape},\"data_offsets\":{ends}}}}}")
    };
    let huge = entry("[4294967296,4294967296,4]", "[0,0]");
    weights(|file| *file = framed(&huge, 0), &["\"a\"", "expected"]);
    weights(|file| *file = framed(&entry("[4]", "[0,15]"), 15), &["\"a\"", "expected"]);
    weights(|file| *file = framed(&entry("[4]", "[16,0]"), 16), &["\"a\"", "expected"]);
    weights(|file| *file = framed(&entry("[4]", "[0,16]"), 8), &["expected"]);
    let one = "\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}";
    weights(|file| *file = framed(&format!("{{{one},{one}}}"), 4), &["duplicate", "a"]);
    let desk = digits();
    desk.put(WEIGHTS, framed("{}", 0));
    refused(&desk, WORDS, 3, &["model.embed_tokens.weight is missing", "expected", "[10, 16]"]);
}

#[test]
fn values_that_no_model_has_are_refused_with_their_tensor() {
    let scale = "model.layers.0.mlp.up_proj.weight_scale";
    for value in [f32::NAN, f32::INFINITY, -1.0, 0.0] {
        let put = |file: &mut Vec<u8>| {
            let place = extent(file, scale);
            file[place].copy_from_slice(&value.to_le_bytes());
        };
        weights(put, &[scale, "a positive finite scale", "at byte"]);
    }
    let norm = "model.layers.1.input_layernorm.weight";
    let put = |file: &mut Vec<u8>| {
        let place = extent(file, norm).start;
        file[place..place + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    };
    weights(put, &[norm, "a finite number", "NaN"]);
    let code = |file: &mut Vec<u8>| {
        let place = extent(file, "model.layers.0.self_attn.v_proj.weight").start;
        file[place] |= 3;
    };
    weights(code, &["self_attn.v_proj.weight", "row 0, column 0", "unused code 3"]);
}

#[test]
fn configurations_that_do_not_hold_together_are_refused_by_field() {
    let change = |field: &str, value: Value, parts: &[&str]| {
        let desk = digits();
        let mut config = desk.json("model/config.json");
        config[field] = value;
        desk.put("model/config.json", config.to_string());
        let mut parts = parts.to_vec();
        parts.extend(["config.json", field, "expected"]);
        refused(&desk, WORDS, 3, &parts);
    };
    change("model_type", json!("gpt2"), &["gpt2", "\"bitnet\", \"llama\" or \"qwen3\""]);
    change("hidden_size", json!(0), &["0"]);
    change("num_attention_heads", json!(-4), &["-4"]);
    change("vocab_size", json!(1.5), &["1.5"]);
    change("num_hidden_layers", json!(u64::MAX), &["18446744073709551615"]);
    change("hidden_act", json!("gelu"), &["gelu"]);
    change("rms_norm_eps", json!(-1), &["-1"]);
    change("rope_scaling", json!({"rope_type": "yarn"}), &["yarn"]);
    change("quantization_config", json!({"quant_method": "gptq"}), &["gptq"]);
}

#[test]
fn configurations_of_another_model_are_refused() {
    let change = |field: &str, value: Value, parts: &[&str]| {
        let desk = digits();
        let mut config = desk.json("model/config.json");
        config[field] = value;
        desk.put("model/config.json", config.to_string());
        refused(&desk, WORDS, 3, parts);
    };
    change("num_attention_heads", json!(3), &["config.json", "3"]);
    change("num_key_value_heads", json!(3), &["config.json", "3"]);
    change("num_hidden_layers", json!(3), &["model.layers.2.", "missing"]);
    change("hidden_size", json!(32), &["model.safetensors", "expected", "got", "16"]);
    change("vocab_size", json!(11), &["model.safetensors", "expected", "got", "[10, 16]"]);
    for text in ["", "{", "null", "{\"a\": 1, \"a\": 2}", "\u{0}"] {
        let desk = digits();
        desk.put("model/config.json", text);
        refused(&desk, WORDS, 3, &["config.json"]);
    }
}

#[test]
fn an_index_cannot_lead_out_of_its_folder() {
    for name in ["../model.safetensors", "/etc/passwd", "a/b.safetensors", "..", "x.bin"] {
        let desk = digits();
        std::fs::rename(desk.path(WEIGHTS), desk.path("model.safetensors")).expect("a move");
        let map = json!({"weight_map": {"model.norm.weight": name}});
        desk.put("model/model.safetensors.index.json", map.to_string());
        let parts = ["index.json", "model.norm.weight", "plain file name", name];
        refused(&desk, WORDS, 3, &parts);
    }
    let desk = digits();
    std::fs::remove_file(desk.path(WEIGHTS)).expect("gone");
    refused(&desk, WORDS, 3, &["there is no model.safetensors", "config.json"]);
    let map = json!({"weight_map": {"model.norm.weight": "gone.safetensors"}});
    desk.put("model/model.safetensors.index.json", map.to_string());
    refused(&desk, WORDS, 3, &["there is no gone.safetensors"]);
}

#[test]
fn what_is_no_folder_or_no_regular_file_is_refused_and_never_waited_for() {
    let desk = digits();
    desk.put("file", "x");
    let words = "--inputs model/inputs.safetensors";
    refused(&desk, &format!("analyze file {words}"), 3, &["file", "expected", "folder"]);
    std::fs::create_dir(desk.path("empty")).expect("a folder");
    refused(&desk, &format!("analyze empty {words}"), 3, &["there is no config.json", "empty"]);
    std::fs::remove_file(desk.path(WEIGHTS)).expect("gone");
    let made = Command::new("mkfifo").arg(desk.path(WEIGHTS)).status().expect("mkfifo runs");
    assert!(made.success());
    for how in ["", "--mmap"] {
        refused(&desk, &format!("{WORDS} {how}"), 3, &["model.safetensors", "regular file"]);
    }
}

#[test]
fn a_damaged_tokenizer_is_refused_with_the_way_around_it() {
    let desk = Desk::new();
    desk.checkpoint("model", embedded::language());
    let whole = desk.text("model/tokenizer.json");
    for text in ["", "{}", &whole[..whole.len() / 2], "[1]"] {
        desk.put("model/tokenizer.json", text);
        let words = "analyze model --inputs model/inputs.jsonl --limit 1";
        refused(&desk, words, 3, &["tokenizer.json"]);
        refused(&desk, "generate model --prompt x", 3, &["tokenizer.json"]);
    }
}

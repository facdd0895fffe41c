//! The zoo of broken and hostile checkpoints: each is refused with a message that says where and why.

use engine::formats::{FormatError, LoadOptions, Source, load};
use serde_json::{Value, json};

use crate::checkpoint::{Checkpoint, Part, file, framed, load_files, sharded};

const MODEL: &str = "bitnet_packed_bitlinear";
const WEIGHT: &str = "model.layers.2.self_attn.k_proj.weight";

/// The message of a refusal, which must name each of `parts`.
fn refused<T>(result: Result<T, FormatError>, parts: &[&str]) -> FormatError {
    let Err(error) = result else { panic!("accepted; expected an error with {parts:?}") };
    let message = error.to_string();
    for part in parts {
        assert!(message.contains(part), "no {part:?} in: {message}");
    }
    assert!(message.len() < 2000 && !message.contains(char::is_control), "{message:?}");
    error
}

/// Refuses a whole checkpoint whose tensors are in the given file.
fn refuse_file(bytes: Vec<u8>, parts: &[&str]) {
    let mut files = Checkpoint::of(MODEL).files();
    files[1].1 = bytes;
    let mut parts = parts.to_vec();
    parts.push("made/model.safetensors");
    refused(load_files(files), &parts);
}

fn refuse_header(header: &str, data: &[u8], parts: &[&str]) {
    refuse_file(framed(header, data), parts);
}

#[test]
fn frames_of_any_length_but_the_right_one_are_refused() {
    let lengths = [0, 1, 2, 1 << 20, 100_000_001, 1 << 31, 1 << 32, (1 << 32) + 1, 1 << 63];
    let sound = file(&Checkpoint::of(MODEL).tensors);
    for length in lengths.into_iter().chain([u64::MAX, u64::MAX - 1, u64::MAX - 7]) {
        let mut bytes = sound.clone();
        bytes[..8].copy_from_slice(&length.to_le_bytes());
        refuse_file(bytes, &[]);
    }
    refuse_file(vec![], &["at byte 0", "8 bytes of header length", "a file of 0 bytes"]);
    refuse_file(vec![2, 0, 0], &["a file of 3 bytes"]);
    refuse_file(100_000_001u64.to_le_bytes().to_vec(), &["the header", "100000001", "100000000"]);
    refuse_file(9u64.to_le_bytes().to_vec(), &["a header of 9 bytes", "0 bytes in the file"]);
    let mut trailing = sound.clone();
    trailing.push(0);
    refuse_file(trailing, &["the end of the file", "1 more bytes"]);
}

#[test]
fn headers_that_two_readers_may_read_in_two_ways_are_refused() {
    let a = r#""a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}"#;
    let duplicate = format!("{{{a},{a}}}");
    refuse_header(&duplicate, &[0], &["duplicate tensor \"a\"", "at byte"]);
    let escaped = format!("{{{a},{}}}", a.replace("\"a\"", "\"\\u0061\""));
    refuse_header(&escaped, &[0], &["duplicate tensor \"a\""]);
    let metadata = format!(r#"{{"__metadata__":{{"k":"1","k":"2"}},{a}}}"#);
    refuse_header(&metadata, &[0], &["duplicate key \"k\" in __metadata__"]);
    let twice = format!(r#"{{"__metadata__":{{}},"__metadata__":{{}},{a}}}"#);
    refuse_header(&twice, &[0], &["duplicate __metadata__"]);
    refuse_header(&format!(r#"{{"__metadata__":{{"k":1}},{a}}}"#), &[0], &["expected a string"]);
    let unknown = r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":1}}"#;
    refuse_header(unknown, &[0], &["unknown field `x`"]);
    let again = r#"{"a":{"dtype":"U8","dtype":"I8","shape":[1],"data_offsets":[0,1]}}"#;
    refuse_header(again, &[0], &["duplicate field `dtype`"]);
    refuse_header(&format!(" {{{a}}}"), &[0], &["from the first byte of the header"]);
    refuse_header(&format!("{{{a}}}\n"), &[0], &["from the first byte of the header"]);
    refuse_header(&format!("{{{a}}}{{}}"), &[0], &["at byte"]);
    refuse_header("[]", &[], &["a JSON object"]);
    refuse_header("", &[], &["a JSON object"]);
    refuse_header("{", &[], &["a JSON object"]);
    refuse_header("{\u{1}}", &[], &["at byte"]);
}

#[test]
fn entries_that_describe_no_tensor_are_refused() {
    let entry = |dtype: &str, shape: Value, offsets: Value| {
        json!({"a": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}).to_string()
    };
    let refuse = |dtype, shape, offsets, parts: &[&str]| {
        refuse_header(&entry(dtype, shape, offsets), &[0; 8], parts);
    };
    let name = "entry \"a\"";
    refuse("U8", json!([0]), json!([0, 0]), &[name, "no dimension of 0", "[0]"]);
    refuse("U8", json!([8, 0]), json!([0, 8]), &[name, "no dimension of 0"]);
    refuse("U8", json!([0, u64::MAX, u64::MAX]), json!([0, 0]), &[name, "no dimension of 0"]);
    let big = 1u64 << 40;
    refuse("F32", json!([big, big]), json!([0, 8]), &[name, "as many bytes as the shape"]);
    refuse("U8", json!([1u64 << 63]), json!([0, 8]), &[name, "as many bytes"]);
    refuse("U8", json!([u64::MAX]), json!([0, u64::MAX]), &[name, "as many bytes"]);
    refuse("U8", json!([1u64 << 61]), json!([0, 1u64 << 61]), &[name]);
    refuse("F32", json!([2]), json!([0, 7]), &[name, "as many bytes", "0..7 for F32 [2]"]);
    refuse("U8", json!([9]), json!([0, 9]), &[name, "an end within the 8 bytes of data"]);
    refuse("U8", json!([8]), json!([8, 0]), &[name, "8..0"]);
    refuse("U8", json!([8]), json!([u64::MAX - 7, u64::MAX]), &[name]);
    refuse("U8", json!([1, 1, 1, 1, 1, 1, 1, 1, 8]), json!([0, 8]), &[name, "rank of at most 8"]);
    refuse("U8", json!(vec![1; 100_000]), json!([0, 8]), &[name, "rank of at most 8", "100000"]);
    refuse("F7", json!([8]), json!([0, 8]), &[name, "dtype", "\"F7\""]);
    refuse("F4", json!([16]), json!([0, 8]), &[name, "dtype", "\"F4\""]);
    refuse("u8\n", json!([8]), json!([0, 8]), &[name, "\\n"]);
    refuse("U8", json!([-8]), json!([0, 8]), &["at byte", "-8"]);
    refuse("U8", json!([8.0]), json!([0, 8]), &["at byte", "8.0"]);
    refuse("U8", json!(8), json!([0, 8]), &["at byte"]);
    refuse("U8", json!([8]), json!([0, 8, 8]), &["at byte"]);
    refuse("U8", json!([8]), json!([8]), &["at byte"]);
    refuse_header(r#"{"a":{"dtype":"U8","shape":[8]}}"#, &[0; 8], &["missing field"]);
    refuse_header(r#"{"a":null}"#, &[], &["at byte"]);
}

#[test]
fn holes_overlaps_and_bytes_left_over_are_refused() {
    let two = |a: [u64; 2], b: [u64; 2]| {
        let entry =
            |at: [u64; 2]| json!({"dtype": "U8", "shape": [at[1] - at[0]], "data_offsets": at});
        json!({"a": entry(a), "b": entry(b)}).to_string()
    };
    refuse_header(&two([0, 4], [5, 8]), &[0; 8], &["entry \"b\"", "from byte 4 on", "got byte 5"]);
    refuse_header(&two([0, 4], [3, 8]), &[0; 8], &["entry \"b\"", "from byte 4 on", "got byte 3"]);
    refuse_header(&two([0, 8], [0, 8]), &[0; 8], &["entry \"b\""]);
    refuse_header(&two([1, 4], [4, 8]), &[0; 8], &["entry \"a\"", "from byte 0 on"]);
    refuse_header(&two([0, 4], [4, 8]), &[0; 9], &["1 more bytes"]);
    refuse_header("{}", &[0; 3], &["3 more bytes"]);
}

#[test]
fn names_that_no_tensor_should_have_are_refused() {
    let named = |name: &str| {
        json!({name: {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}).to_string()
    };
    refuse_header(&named(""), &[0], &["tensor name \"\"", "1 to 1024 bytes"]);
    refuse_header(&named(&"n".repeat(1025)), &[0], &["1 to 1024 bytes", "1025 bytes"]);
    refuse_header(&named("a\0b"), &[0], &["no control characters", "a\\0b"]);
    refuse_header(&named("a\nb"), &[0], &["no control characters"]);
    refuse_header(&named("a\u{9b}b"), &[0], &["no control characters"]);
}

#[test]
fn an_index_that_leads_out_of_its_folder_or_astray_is_refused() {
    let index = "model.safetensors.index.json";
    let outside = ["../model.safetensors", "/etc/passwd", "a\\b.safetensors", "C:x.safetensors"];
    let odd = ["x\0.safetensors", "..", ".", "", "config.json", ".hidden.safetensors"];
    for name in outside.into_iter().chain(odd) {
        let mut files = sharded(&Checkpoint::of(MODEL));
        let mut value: Value = serde_json::from_slice(&files[1].1).expect("JSON");
        value["weight_map"][WEIGHT] = json!(name);
        files[1].1 = value.to_string().into_bytes();
        refused(load_files(files), &[index, WEIGHT, "a single plain file name"]);
    }
    let with = |change: &dyn Fn(&mut Value)| {
        let mut files = sharded(&Checkpoint::of(MODEL));
        let mut value: Value = serde_json::from_slice(&files[1].1).expect("JSON");
        change(&mut value);
        files[1].1 = value.to_string().into_bytes();
        load_files(files)
    };
    refused(with(&|v| v["weight_map"][WEIGHT] = json!(7)), &[index, WEIGHT, "\"7\""]);
    refused(with(&|v| v["weight_map"] = json!([])), &[index, "weight_map"]);
    refused(with(&|v| *v = json!({})), &[index, "weight_map"]);
    let gone = "gone.safetensors";
    refused(with(&|v| v["weight_map"][WEIGHT] = json!(gone)), &["there is no gone.safetensors"]);
    let other = "MODEL-00001-of-00002.safetensors";
    refused(with(&|v| v["weight_map"][WEIGHT] = json!(other)), &["there is no", other]);
    let swap = |v: &mut Value| {
        let shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
        let here = v["weight_map"][WEIGHT] == shards[0];
        v["weight_map"][WEIGHT] = json!(shards[usize::from(here)]);
    };
    refused(with(&swap), &[WEIGHT, "names \"model-0000"]);
    let remove = |v: &mut Value| {
        v["weight_map"].as_object_mut().expect("an object").remove(WEIGHT);
    };
    refused(with(&remove), &[WEIGHT, "names no file"]);
    let add = |v: &mut Value| v["weight_map"]["extra"] = v["weight_map"][WEIGHT].clone();
    refused(with(&add), &[index, "\"extra\"", "none of that name there"]);
}

#[test]
fn an_index_with_a_tensor_named_twice_is_refused() {
    let mut files = sharded(&Checkpoint::of(MODEL));
    let text = String::from_utf8(files[1].1.clone()).expect("text");
    let entry = format!("\"{WEIGHT}\":\"model-00001-of-00002.safetensors\",");
    let twice = text.replacen("\"weight_map\":{", &format!("\"weight_map\":{{{entry}"), 1);
    files[1].1 = twice.into_bytes();
    refused(load_files(files), &["index.json", "duplicate key", WEIGHT]);
}

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
fn configurations_that_are_not_computed_are_refused_by_field() {
    let with = |model: &str, field: &str, value: Value, parts: &[&str]| {
        let mut checkpoint = Checkpoint::of(model);
        checkpoint.config[field] = value;
        let mut parts = parts.to_vec();
        parts.push("made/config.json");
        let error = refused(checkpoint.load(), &parts);
        assert!(error.help().is_some());
    };
    let llama = "llama_packed_bitlinear";
    with(MODEL, "model_type", json!("qwen3"), &["model_type", "\"bitnet\" or \"llama\"", "qwen3"]);
    with(MODEL, "model_type", Value::Null, &["model_type", "absent"]);
    with(MODEL, "architectures", json!(["BitnetForCausalLM"]), &["architectures"]);
    with(llama, "architectures", json!(["LlamaForSequenceClassification"]), &["architectures"]);
    with(llama, "attention_bias", json!(true), &["attention_bias", "false"]);
    with(llama, "mlp_bias", json!(true), &["mlp_bias"]);
    with(llama, "hidden_act", json!("gelu"), &["hidden_act", "gelu"]);
    with(llama, "sliding_window", json!(4096), &["sliding_window", "4096"]);
    with(llama, "use_sliding_window", json!(true), &["use_sliding_window"]);
    with(llama, "layer_types", json!(["sliding_attention"]), &["layer_types"]);
    with(llama, "rope_scaling", json!({"rope_type": "llama3", "factor": 8.0}), &["rope_scaling"]);
    with(llama, "rope_scaling", json!({"type": "linear", "factor": 2.0}), &["rope_scaling"]);
    with(llama, "rope_parameters", json!({"rope_type": "yarn"}), &["rope_parameters", "yarn"]);
    with(llama, "rope_parameters", json!({"rope_theta": 7.0}), &["rope_parameters", "7"]);
    with(llama, "partial_rotary_factor", json!(0.5), &["partial_rotary_factor"]);
    with(llama, "rope_theta", json!("big"), &["rope_theta", "a number"]);
    with(llama, "rope_theta", json!(0.0), &["rope_theta", "1 to 1e12"]);
    with(llama, "rms_norm_eps", json!(-1.0), &["rms_norm_eps", "0 to 1"]);
    with(llama, "eos_token_id", json!(-1), &["eos_token_id"]);
    with(llama, "eos_token_id", json!([1, "x"]), &["eos_token_id"]);
    with(MODEL, "tie_word_embeddings", json!("yes"), &["tie_word_embeddings"]);
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
    let values = [
        json!(0),
        json!(-1),
        json!(1.5),
        json!("8"),
        json!(1u64 << 31),
        json!((1u64 << 32) + 1),
        json!(1u64 << 63),
        json!(u64::MAX),
        json!(1e300),
    ];
    for field in fields {
        for value in &values {
            let mut checkpoint = Checkpoint::of(MODEL);
            checkpoint.config[field] = value.clone();
            refused(checkpoint.load(), &["made/config.json", field]);
        }
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
fn quantisations_that_are_not_computed_are_refused() {
    let with = |value: Value, parts: &[&str]| {
        let mut checkpoint = Checkpoint::of(MODEL);
        checkpoint.config["quantization_config"] = value;
        let mut parts = parts.to_vec();
        parts.push("made/config.json");
        refused(checkpoint.load(), &parts);
    };
    with(json!("bitnet"), &["quantization_config", "an object"]);
    with(json!({"quant_method": "gptq"}), &["quant_method", "gptq"]);
    with(json!({}), &["quant_method", "absent"]);
    with(json!({"quant_method": "bitnet", "linear_class": "x"}), &["linear_class"]);
    with(json!({"quant_method": "bitnet", "quantization_mode": "x"}), &["quantization_mode"]);
    let kept = |list: Value| json!({"quant_method": "bitnet", "modules_to_not_convert": list});
    with(kept(json!(["lm_head", "layers.(0|1)"])), &["regular expressions", "layers.(0|1)"]);
    with(kept(json!(["model.layers.0"])), &["\"lm_head\"", "head would be ternary"]);
    with(kept(json!("lm_head")), &["a list of names"]);
    let eps = json!({"quant_method": "bitnet", "use_rms_norm": true, "rms_norm_eps": 2.0});
    with(eps, &["rms_norm_eps"]);
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

#[test]
fn configurations_that_are_no_unambiguous_json_are_refused() {
    let mut files = Checkpoint::of(MODEL).files();
    let sound = String::from_utf8(files[0].1.clone()).expect("text");
    let deep = format!("{{\"a\":{}", "[".repeat(100_000));
    let twice = sound.replacen('{', "{\"hidden_size\":128,", 1);
    for (text, part) in [
        ("", "EOF"),
        ("null", "a JSON object"),
        ("{\"a\":1}x", "trailing"),
        ("\u{feff}{}", "at byte 0"),
        (&deep, "recursion"),
        (&twice, "duplicate key \"hidden_size\""),
    ] {
        files[0].1 = text.as_bytes().to_vec();
        refused(load_files(files.clone()), &["made/config.json", part]);
    }
    files[0].1 = vec![0xff; 16];
    refused(load_files(files.clone()), &["made/config.json"]);
    for length in 0..sound.len() {
        files[0].1 = sound.as_bytes()[..length].to_vec();
        refused(load_files(files.clone()), &["made/config.json"]);
    }
}

#[test]
fn missing_files_and_folders_that_are_none_are_refused() {
    let files = Checkpoint::of(MODEL).files();
    refused(load_files(files[1..].to_vec()), &["made", "there is no config.json"]);
    refused(load_files(files[..1].to_vec()), &["made", "there is no model.safetensors"]);
    let options = LoadOptions::default();
    let folder = tempfile::tempdir().expect("a folder");
    let open = |below: &str| load(&Source::folder(folder.path().join(below)), &options);
    refused(open("gone"), &["gone", "cannot be read"]);
    refused(open(""), &["there is no config.json"]);
    std::fs::write(folder.path().join("config.json"), &files[0].1).expect("a file");
    refused(open("config.json"), &["config.json", "expected a folder, got a file"]);
    std::fs::create_dir(folder.path().join("model.safetensors")).expect("a folder");
    refused(open(""), &["model.safetensors", "expected a regular file, got a folder"]);
}

#[cfg(unix)]
#[test]
fn pipes_devices_and_loops_of_links_are_refused_without_waiting() {
    let files = Checkpoint::of(MODEL).files();
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("config.json"), &files[0].1).expect("a file");
    let model = folder.path().join("model.safetensors");
    let open = || load(&Source::folder(folder.path()), &LoadOptions::default());
    let link = |target: &std::path::Path| {
        let _ = std::fs::remove_file(&model);
        std::os::unix::fs::symlink(target, &model).expect("a link");
    };
    link("/dev/zero".as_ref());
    refused(open(), &["model.safetensors", "expected a regular file", "device"]);
    link(&model);
    refused(open(), &["model.safetensors", "cannot be read"]);
    link("nowhere".as_ref());
    refused(open(), &["there is no model.safetensors"]);
    std::fs::remove_file(&model).expect("a link");
    let made = std::process::Command::new("mkfifo").arg(&model).status();
    if made.is_ok_and(|status| status.success()) {
        refused(open(), &["model.safetensors", "expected a regular file", "pipe"]);
    }
}

/// A model of a few hundred bytes, so that every place of its file can be broken.
fn tiny() -> Checkpoint {
    let config = json!({
        "model_type": "llama", "hidden_size": 4, "intermediate_size": 4, "vocab_size": 4,
        "num_hidden_layers": 1, "num_attention_heads": 2, "tie_word_embeddings": true,
        "quantization_config": {"quant_method": "bitnet"},
    });
    let mut checkpoint = Checkpoint { config, tensors: Default::default() };
    let mut put = |name: &str, dtype: &str, shape: &[usize], data: Vec<u8>| {
        let part = Part { dtype: dtype.into(), shape: shape.to_vec(), data };
        checkpoint.tensors.insert(name.into(), part);
    };
    let ones = |count: usize| [0x80, 0x3f].repeat(count);
    put("model.embed_tokens.weight", "BF16", &[4, 4], ones(16));
    put("model.norm.weight", "BF16", &[4], ones(4));
    for norm in ["input_layernorm", "post_attention_layernorm"] {
        put(&format!("model.layers.0.{norm}.weight"), "BF16", &[4], ones(4));
    }
    for slot in engine::model::Slot::ALL {
        let name = engine::formats::linear_name(0, slot);
        put(&format!("{name}.weight"), "U8", &[1, 4], vec![0x01, 0x66, 0x99, 0xa4]);
        put(&format!("{name}.weight_scale"), "BF16", &[1], ones(1));
    }
    checkpoint
}

#[test]
fn a_file_cut_short_anywhere_is_refused() {
    for checkpoint in [tiny(), Checkpoint::of(MODEL)] {
        let mut files = checkpoint.files();
        let sound = files[1].1.clone();
        assert!(load_files(files.clone()).is_ok());
        let header = 8 + u64::from_le_bytes(sound[..8].try_into().expect("8 bytes")) as usize;
        let data = (header..sound.len()).step_by(97).chain([sound.len() - 1]);
        for length in (0..header).chain(data) {
            files[1].1 = sound[..length].to_vec();
            refused(load_files(files.clone()), &["made/model.safetensors"]);
        }
    }
}

#[test]
fn every_flipped_bit_of_a_header_is_an_error() {
    let mut files = tiny().files();
    let sound = files[1].1.clone();
    let header = 8 + u64::from_le_bytes(sound[..8].try_into().expect("8 bytes")) as usize;
    for bit in 0..8 * header {
        let mut bytes = sound.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        files[1].1 = bytes;
        refused(load_files(files.clone()), &["made"]);
    }
}

#[test]
fn a_flipped_bit_of_the_data_is_a_refused_value_or_changes_the_digest() {
    let mut files = tiny().files();
    let sound = files[1].1.clone();
    let header = 8 + u64::from_le_bytes(sound[..8].try_into().expect("8 bytes")) as usize;
    let expected = load_files(files.clone()).expect("sound").manifest.digest;
    for bit in 8 * header..8 * sound.len() {
        let mut bytes = sound.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        files[1].1 = bytes;
        match load_files(files.clone()) {
            Err(error) => {
                assert!(matches!(error, FormatError::Value { .. } | FormatError::UnusedCode { .. }))
            }
            Ok(loaded) => assert_ne!(loaded.manifest.digest, expected, "bit {bit}"),
        }
    }
}

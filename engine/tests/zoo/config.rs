//! Configurations of other models, of none, and such that cannot be read in one way.

use serde_json::{Value, json};

use crate::checkpoint::tiny;
use crate::member::Zoo;

/// The configuration of the sound checkpoint with one field changed.
fn changed(field: &str, value: Value) -> String {
    let mut config = tiny().config;
    config["rope_theta"] = json!(10_000.0);
    config[field] = value;
    config.to_string()
}

/// Fills the zoo.
pub(crate) fn fill(zoo: &mut Zoo) {
    fields(zoo);
    numbers(zoo);
    quantisations(zoo);
    texts(zoo);
}

fn fields(zoo: &mut Zoo) {
    let mut with = |field: &str, value: Value, says: &[&str]| {
        zoo.config(&format!("{field} = {value}"), changed(field, value), says);
    };
    with("model_type", json!("gemma"), &["model_type", "\"llama\" or \"qwen3\"", "gemma"]);
    with("model_type", Value::Null, &["model_type", "absent"]);
    with("architectures", json!(["BitnetForCausalLM"]), &["architectures"]);
    with("architectures", json!(["LlamaForSequenceClassification"]), &["architectures"]);
    with("attention_bias", json!(true), &["attention_bias", "false"]);
    with("mlp_bias", json!(true), &["mlp_bias"]);
    with("hidden_act", json!("gelu"), &["hidden_act", "gelu"]);
    with("sliding_window", json!(4096), &["sliding_window", "4096"]);
    with("use_sliding_window", json!(true), &["use_sliding_window"]);
    with("layer_types", json!(["sliding_attention"]), &["layer_types"]);
    with("rope_scaling", json!({"rope_type": "llama3", "factor": 8.0}), &["rope_scaling"]);
    with("rope_scaling", json!({"type": "linear", "factor": 2.0}), &["rope_scaling"]);
    with("rope_parameters", json!({"rope_type": "yarn"}), &["rope_parameters", "yarn"]);
    with("rope_parameters", json!({"rope_theta": 7.0}), &["rope_parameters", "7"]);
    with("partial_rotary_factor", json!(0.5), &["partial_rotary_factor"]);
    with("rope_theta", json!("big"), &["rope_theta", "a number"]);
    with("rope_theta", json!(0.0), &["rope_theta", "1 to 1e12"]);
    with("rms_norm_eps", json!(-1.0), &["rms_norm_eps", "0 to 1"]);
    with("eos_token_id", json!(-1), &["eos_token_id"]);
    with("eos_token_id", json!([1, "x"]), &["eos_token_id"]);
    with("tie_word_embeddings", json!("yes"), &["tie_word_embeddings"]);
}

/// Every field that counts, at every value that no model has.
fn numbers(zoo: &mut Zoo) {
    const FIELDS: [&str; 8] = [
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
        json!([4]),
        json!(1u64 << 31),
        json!((1u64 << 32) + 1),
        json!(1u64 << 63),
        json!(u64::MAX),
        json!(1e300),
    ];
    for field in FIELDS {
        for value in &values {
            let name = format!("{field} = {value}");
            zoo.config(&name, changed(field, value.clone()), &[field]);
        }
    }
    // The largest that a shape may say: refused for its tensors, before anything is made of it.
    for (field, value) in [
        ("num_hidden_layers", 1 << 24),
        ("vocab_size", 1 << 24),
        ("hidden_size", 1 << 16),
        ("intermediate_size", 1 << 20),
        ("head_dim", 4096),
        ("head_dim", 1 << 19),
    ] {
        let mut files = tiny().files();
        files[0].1 = changed(field, json!(value)).into_bytes();
        zoo.add(format!("config: {field} = {value}"), files, &[]);
    }
}

fn quantisations(zoo: &mut Zoo) {
    let mut with = |value: Value, says: &[&str]| {
        let name = format!("quantization_config = {value}");
        zoo.config(&name, changed("quantization_config", value), says);
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

fn texts(zoo: &mut Zoo) {
    let sound = tiny().config.to_string();
    let deep = format!("{{\"a\":{}", "[".repeat(100_000));
    let objects = format!("{}{}", "{\"a\":".repeat(10_000), "}".repeat(10_000));
    let twice = sound.replacen('{', "{\"hidden_size\":128,", 1);
    let inner = sound.replacen("\"quant_method\"", "\"quant_method\":\"x\",\"quant_method\"", 1);
    let with = |field: &str| sound.replacen('{', &format!("{{{field},"), 1);
    for (name, text, part) in [
        ("empty", "", "EOF"),
        ("null", "null", "a JSON object"),
        ("a list", "[{}]", "a JSON object"),
        ("two texts", "{\"a\":1}x", "trailing"),
        ("a byte order mark", "\u{feff}{}", "at byte 0"),
        ("100,000 lists deep", &deep, "recursion"),
        ("10,000 objects deep", &objects, "recursion"),
        ("a field twice", &twice, "duplicate key \"hidden_size\""),
        ("an inner field twice", &inner, "duplicate key \"quant_method\""),
        ("NaN", &with("\"rope_theta\":NaN"), "at byte"),
        ("1e400", &with("\"rope_theta\":1e400"), "out of range"),
        ("a negative epsilon", &with("\"rms_norm_eps\":-1e-30"), "rms_norm_eps"),
        ("a long number", &with(&format!("\"rope_theta\":1{}", "0".repeat(9999))), "at byte"),
        ("a raw control character", &with("\"a\":\"\u{1}\""), "control character"),
        ("half a pair of surrogates", &with("\"a\":\"\\ud800\""), "at byte"),
        ("a comment", &with("/**/\"a\":1"), "at byte"),
    ] {
        zoo.config(name, text, &[part]);
    }
    zoo.config("no UTF-8", vec![0xff; 16], &["at byte"]);
    zoo.config("zeros", vec![0; 4096], &["at byte 0"]);
    zoo.add("no configuration", tiny().files()[1..].to_vec(), &["there is no config.json"]);
    zoo.add("no tensors", tiny().files()[..1].to_vec(), &["there is no model.safetensors"]);
    zoo.add("nothing", Vec::new(), &["there is no config.json"]);
    let both = vec![("a.gguf".into(), Vec::new()), ("b.GGUF".into(), Vec::new())];
    zoo.add("two GGUF files", both, &["one GGUF file", "a.gguf, b.GGUF"]);
}

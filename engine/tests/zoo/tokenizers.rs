//! Tokenizers that the library cannot read, or should not.

use serde_json::{Value, json};

use crate::member::Zoo;

/// A sound tokenizer of two letters.
fn sound() -> Value {
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": null, "pre_tokenizer": null, "post_processor": null, "decoder": null,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "ignore_merges": false, "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]],
        },
    })
}

/// Fills the zoo.
pub(crate) fn fill(zoo: &mut Zoo) {
    let mut put = |name: &str, text: Vec<u8>| zoo.tokenizer(name, text, "cannot be read");
    for (name, text) in [
        ("empty", ""),
        ("an empty object", "{}"),
        ("a list", "[]"),
        ("half", "{\"version\": \"1.0\", \"model\": {"),
    ] {
        put(name, text.into());
    }
    put("10,000 lists deep", "[".repeat(10_000).into());
    put("10,000 objects deep", "{\"a\":".repeat(10_000).into());
    put("no UTF-8", vec![0xff; 64]);
    growing(zoo);
    let mut put = |name: &str, text: Vec<u8>| zoo.tokenizer(name, text, "cannot be read");
    let mut with = |field: &str, value: Value| {
        let mut tokenizer = sound();
        *tokenizer.pointer_mut(field).expect("a field") = value;
        let name = format!("{field} {}", tokenizer.pointer(field).expect("a field"));
        put(&name, tokenizer.to_string().into());
    };
    with("/version", json!("9.9"));
    with("/model/merges", json!([["a", "nothing"]]));
    with("/model/merges", json!(["a"]));
    with("/model/merges", json!([["a", "b", "c"]]));
    with("/model/vocab", json!({"a": -1}));
    with("/model/vocab", json!({"a": 1u64 << 32}));
    with("/model/vocab", json!(["a"]));
    with("/model/type", json!("nothing"));
    with("/decoder", json!({"type": "Sequence", "decoders": [{"type": "Strip"}]}));
    with("/normalizer", json!({"type": "Precompiled", "precompiled_charsmap": "AAAA"}));
    with("/normalizer", json!({"type": "Replace", "pattern": {"Regex": "("}, "content": ""}));
    with(
        "/pre_tokenizer",
        json!({"type": "Split", "pattern": {"Regex": "(?<"},
        "behavior": "Isolated", "invert": false}),
    );
    with("/pre_tokenizer", json!({"type": "nothing"}));
    with(
        "/post_processor",
        json!({"type": "TemplateProcessing", "single": "$A [X]",
        "pair": "$A $B", "special_tokens": {}}),
    );
    with("/added_tokens", json!([{"id": 0}]));
    with("/truncation", json!({"max_length": -1}));
}

/// Steps that make a letter fill any memory.
fn growing(zoo: &mut Zoo) {
    let mut with = |field: &str, value: Value| {
        let mut tokenizer = sound();
        *tokenizer.pointer_mut(field).expect("a field") = value;
        let text = tokenizer.to_string().into_bytes();
        zoo.tokenizer(&format!("{field} that grows"), text, "256 times at most");
    };
    let double = json!({"type": "Replace", "pattern": {"String": "a"}, "content": "aa"});
    with("/normalizer", json!({"type": "Sequence", "normalizers": vec![double.clone(); 40]}));
    with("/decoder", json!({"type": "Sequence", "decoders": vec![double; 40]}));
    let piece = json!({"Sequence": {"id": "A", "type_id": 0}});
    let twice = json!({"type": "TemplateProcessing", "single": [piece, piece],
        "pair": [piece, {"Sequence": {"id": "B", "type_id": 0}}], "special_tokens": {}});
    with("/post_processor", json!({"type": "Sequence", "processors": vec![twice; 12]}));
}

//! Tokenizers against what the `tokenizers` library gave for tricky texts, and broken ones.

use engine::formats::{FormatError, Tokenizer};

use crate::reference::{loaded, path};

const STYLES: [&str; 2] = ["bytelevel_llama3style", "spm_llama2style"];

fn read(file: &str) -> Vec<u8> {
    std::fs::read(path("tokenizers").join(file)).expect("the file")
}

#[test]
fn tricky_texts_become_the_ids_of_the_library_and_come_back() {
    for style in STYLES {
        let tokenizer = Tokenizer::from_bytes(style, &read(&format!("{style}.json")));
        let tokenizer = tokenizer.expect("a sound tokenizer");
        let goldens: serde_json::Value =
            serde_json::from_slice(&read(&format!("{style}.golden.json"))).expect("JSON");
        let goldens = goldens.as_array().expect("a list");
        assert_eq!(goldens.len(), 13);
        for golden in goldens {
            let text = golden["text"].as_str().expect("a text");
            let ids: Vec<u32> = serde_json::from_value(golden["ids"].clone()).expect("ids");
            assert_eq!(tokenizer.encode(text).expect("encodes"), ids, "{style} {text:?}");
            let decoded = golden["decoded_skip_special"].as_str().expect("a text");
            assert_eq!(tokenizer.decode(&ids).expect("decodes"), decoded, "{style} {text:?}");
        }
    }
}

#[test]
fn a_checkpoint_brings_its_tokenizer_and_works_without_one() {
    assert!(loaded("bitnet_packed_bitlinear").tokenizer.is_some());
    assert!(loaded("llama_packed_bitlinear").tokenizer.is_none());
}

#[test]
fn a_text_that_is_too_long_is_refused() {
    let tokenizer = Tokenizer::from_bytes("t", &read("bytelevel_llama3style.json"));
    let text = "a".repeat((1 << 20) + 1);
    let error = tokenizer.expect("sound").encode(&text).expect_err("too long");
    assert!(matches!(error, FormatError::TooLarge { limit: 1_048_576, got: 1_048_577, .. }));
}

#[test]
fn a_panic_inside_the_library_is_an_error() {
    let sound = read("bytelevel_llama3style.json");
    let mut value: serde_json::Value = serde_json::from_slice(&sound).expect("JSON");
    value["pre_tokenizer"] = serde_json::json!({"type": "FixedLength", "length": 0});
    let tokenizer = Tokenizer::from_bytes("t.json", value.to_string().as_bytes());
    let error = tokenizer.expect("it can be read").encode("abc").expect_err("length 0");
    assert_eq!(
        error.to_string(),
        "t.json: cannot encode the text: the tokenizers library panicked at it"
    );
}

#[test]
fn broken_tokenizers_are_errors_even_where_the_library_panics() {
    let sound = String::from_utf8(read("bytelevel_llama3style.json")).expect("text");
    let mut value: serde_json::Value = serde_json::from_str(&sound).expect("JSON");
    value["model"]["merges"] = serde_json::json!([["no such token", "x"]]);
    let merges = value.to_string();
    value["decoder"] = serde_json::json!({"type": "Sequence", "decoders": [{"type": "Strip"}]});
    value["padding"] = serde_json::json!({"strategy": {"Fixed": 0}, "direction": "Left",
        "pad_to_multiple_of": 0, "pad_id": 0, "pad_type_id": 0, "pad_token": ""});
    let texts = [merges, value.to_string(), "{}".into(), "[".repeat(1000), String::new()];
    for text in texts {
        let error = Tokenizer::from_bytes("tokenizer.json", text.as_bytes()).expect_err("broken");
        let message = error.to_string();
        assert!(message.starts_with("tokenizer.json: cannot be read: "), "{message}");
        assert!(error.help().is_some());
    }
    for length in (0..sound.len()).step_by(397) {
        if let Some(cut) = sound.get(..length) {
            assert!(Tokenizer::from_bytes("t", cut.as_bytes()).is_err(), "cut at {length}");
        }
    }
}

#[test]
fn what_a_file_says_of_padding_and_cutting_means_nothing_as_in_transformers() {
    let plain = read("bytelevel_llama3style.json");
    let mut value: serde_json::Value = serde_json::from_slice(&plain).expect("JSON");
    let encode = |value: &serde_json::Value| {
        let tokenizer = Tokenizer::from_bytes("t", value.to_string().as_bytes());
        tokenizer.expect("sound").encode("tokens that are neither padded nor cut").expect("ids")
    };
    let expected = encode(&value);
    value["padding"] = serde_json::json!({"strategy": {"Fixed": 1u64 << 40}, "direction": "Left",
        "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0, "pad_token": "x"});
    value["truncation"] = serde_json::json!({"direction": "Right", "max_length": 1,
        "strategy": "LongestFirst", "stride": 0});
    assert_eq!(encode(&value), expected);
}

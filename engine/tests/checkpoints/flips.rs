//! Every bit of every header flipped: an error, or the same model to the bit, or another model that
//! is valid, has another digest, and comes from one of the fields that may say either.

use std::collections::BTreeSet;

use engine::formats::{FormatError, Loaded, Source, load};
use serde_json::json;

use crate::checkpoint::{Checkpoint, refused, sharded, tiny};
use crate::made_gguf::{Gguf, SOUND, items, read, text};

/// Everything that a model computes with, in words that tell any two apart.
fn all_of(loaded: &Loaded) -> String {
    format!("{:?}", loaded.model)
}

/// The fields whose flips are accepted.
#[derive(Debug, Default, PartialEq)]
struct Accepted {
    /// Where a flip changes nothing that is read.
    same: BTreeSet<String>,
    /// Where it makes another model.
    other: BTreeSet<String>,
    /// Where it makes another tokenizer of the same model.
    words: BTreeSet<String>,
}

impl Accepted {
    fn of(same: &[&str], other: &[&str], words: &[&str]) -> Self {
        let set = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        Self { same: set(same), other: set(other), words: set(words) }
    }
}

/// Flips every bit of the first `end` bytes. The names are those of the fields of these bytes, each
/// with the byte at which it begins.
fn flipped(
    sound: &[u8],
    end: usize,
    names: &[(usize, String)],
    load: impl Fn(&[u8]) -> Result<Loaded, FormatError>,
) -> Accepted {
    let expected = load(sound).expect("a sound checkpoint");
    let tokenizer = |loaded: &Loaded| loaded.tokenizer.as_ref().and_then(|t| t.json());
    let (model, words) = (all_of(&expected), tokenizer(&expected));
    let (mut bytes, mut accepted) = (sound.to_vec(), Accepted::default());
    for bit in 0..8 * end {
        let mask = 1 << (bit % 8);
        bytes[bit / 8] ^= mask;
        let result = load(&bytes);
        bytes[bit / 8] ^= mask;
        let Ok(loaded) = result else {
            refused(result, &["made"]);
            continue;
        };
        let name = names.iter().rev().find(|(at, _)| *at <= bit / 8);
        let name = name.map_or("the preamble", |(_, name)| name).to_owned();
        if all_of(&loaded) != model {
            let (got, sound) = (&loaded.manifest.digest, &expected.manifest.digest);
            assert_ne!(got, sound, "bit {bit}, in {name}");
            accepted.other.insert(name);
        } else if tokenizer(&loaded) != words {
            accepted.words.insert(name);
        } else {
            accepted.same.insert(name);
        }
    }
    accepted
}

/// Flips every bit of a JSON file of a checkpoint.
fn json_flipped(files: &[(String, Vec<u8>)], which: usize, fields: &[&str]) -> Accepted {
    let sound = String::from_utf8(files[which].1.clone()).expect("text");
    let begin =
        |field: &&str| (sound.find(&format!("\"{field}\":")).expect(field), (*field).into());
    let mut names: Vec<(usize, String)> = fields.iter().map(begin).collect();
    names.sort();
    flipped(sound.as_bytes(), sound.len(), &names, |bytes| {
        let lent = files.iter().enumerate().map(|(index, (name, sound))| {
            (name.clone(), if index == which { bytes } else { sound })
        });
        load(&Source::memory("made", lent), &Default::default())
    })
}

/// Flips every bit of the header of a GGUF file.
fn gguf_flipped(sound: &[u8]) -> Accepted {
    let loaded = read(sound).expect("a sound file").manifest;
    let end = loaded.tensors.iter().map(|entry| entry.offset).min().expect("tensors") as usize;
    let keys: serde_json::Value = serde_json::from_str(&loaded.config_text).expect("JSON");
    let keys = keys.as_object().expect("an object").keys().cloned();
    let tensors = loaded.tensors.iter().filter(|entry| !entry.name.ends_with(" (scale)"));
    let begin = |name: String| {
        let pattern = text(&name);
        let at = sound.windows(pattern.len()).position(|window| window == pattern);
        (at.expect("a name of the file"), name)
    };
    let mut names: Vec<_> =
        keys.chain(tensors.map(|entry| entry.name.clone())).map(begin).collect();
    names.sort();
    // The last tensor of the list is a matrix.
    let last = names.last().map_or(0, |(at, name)| at + 8 + name.len() + 4 + 2 * 8 + 4 + 8);
    names.push((last, "padding".into()));
    flipped(sound, end, &names, read)
}

#[test]
fn every_bit_of_a_configuration() {
    let mut checkpoint = tiny();
    checkpoint.config["rope_theta"] = json!(10_000.0);
    checkpoint.config["rms_norm_eps"] = json!(1e-5);
    checkpoint.config["max_position_embeddings"] = json!(8);
    checkpoint.config["eos_token_id"] = json!(3);
    checkpoint.config["hidden_act"] = json!("silu");
    let Checkpoint { config, .. } = &checkpoint;
    let fields: Vec<&str> =
        config.as_object().expect("an object").keys().map(String::as_str).collect();
    // A name that is bent is another field; some fields may be left out.
    let same = ["hidden_act", "rope_theta"];
    let other = ["eos_token_id", "max_position_embeddings", "rms_norm_eps", "rope_theta"];
    let expected = Accepted::of(&same, &other, &[]);
    assert_eq!(json_flipped(&checkpoint.files(), 0, &fields), expected);
}

#[test]
fn every_bit_of_an_index() {
    let expected = Accepted::of(&["metadata"], &[], &[]);
    assert_eq!(json_flipped(&sharded(&tiny()), 1, &["metadata", "weight_map"]), expected);
}

/// Fields whose number may be written in another type.
const COUNTS: [&str; 9] = [
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "block_count",
    "context_length",
    "embedding_length",
    "feed_forward_length",
    "rope.dimension_count",
];
/// Fields whose value is free.
const FREE: [&str; 3] = ["attention.layer_norm_rms_epsilon", "context_length", "rope.freq_base"];

fn below(architecture: &str, names: &[&str]) -> Vec<String> {
    names.iter().map(|name| format!("{architecture}.{name}")).collect()
}

#[test]
fn every_bit_of_a_header_that_this_program_writes() {
    let mut expected = Accepted::of(
        &[
            "bitnet.hidden_activation",
            "bitnet.rope.freq_base",
            "bitnet.vocab_size",
            "general.file_type",
            "general.quantization_version",
            "padding",
            "the preamble",
        ],
        &[],
        &[],
    );
    expected.same.extend(below("bitnet", &COUNTS));
    expected.other.extend(below("bitnet", &FREE));
    assert_eq!(gguf_flipped(&SOUND), expected);
}

#[test]
fn every_bit_of_a_header_with_a_tokenizer() {
    let mut small = Gguf::small(34);
    // The pieces of this kind are merged by their scores, and no expression is compiled.
    let words: Vec<u8> = ["a", "b", "ab", "<s>"].into_iter().flat_map(text).collect();
    let scores = [-1f32, -2.0, -3.0, 0.0].map(f32::to_le_bytes).concat();
    let kinds = [1u32, 1, 1, 3].map(u32::to_le_bytes).concat();
    small.key("tokenizer.ggml.model", 8, text("llama"));
    small.key("tokenizer.ggml.tokens", 9, items(8, 4, &words));
    small.key("tokenizer.ggml.scores", 9, items(6, 4, &scores));
    small.key("tokenizer.ggml.token_type", 9, items(5, 4, &kinds));
    small.key("tokenizer.ggml.eos_token_id", 4, 3u32.to_le_bytes());
    let same = [
        "llama.rope.freq_base",
        "llama.vocab_size",
        "padding",
        "the preamble",
        "tokenizer.ggml.eos_token_id",
        "tokenizer.ggml.scores",
        "tokenizer.ggml.token_type",
    ];
    let other = ["tokenizer.ggml.eos_token_id"];
    // The tokenizer is in no digest: what is certified are token ids.
    let words = ["model", "scores", "token_type", "tokens"];
    let words = words.map(|key| format!("tokenizer.ggml.{key}"));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut expected = Accepted::of(&same, &other, &words);
    expected.same.extend(below("llama", &COUNTS));
    expected.other.extend(below("llama", &FREE));
    assert_eq!(gguf_flipped(&small.bytes()), expected);
}

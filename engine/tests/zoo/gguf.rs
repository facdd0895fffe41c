//! GGUF files that lie: each is refused with what is wrong and where, none makes the reader panic
//! or allocate what the file does not have.

use std::sync::LazyLock;

use engine::formats::write::{Form, files};
use engine::formats::{FormatError, LoadOptions, Loaded, Source, load};
use engine::model::random::{Style, random_model, small_config};
use engine::model::{FloatType, Gate};
use proptest::prelude::*;

use crate::checkpoint::refused;

/// A sound file of a model of one layer of width 16.
static SOUND: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut config = small_config(1, 16, 2, 1);
    config.gate = Gate::Silu;
    let style = Style { stored: FloatType::F32, ..Style::BITNET };
    let model = random_model(&config, style, 5);
    let (mut files, _) = files(&model, None, Form::GgufI2s).expect("it has this form");
    files.remove(0).bytes
});

fn read(bytes: Vec<u8>) -> Result<Loaded, FormatError> {
    load(&Source::memory("made", [("model.gguf", bytes)]), &LoadOptions::default())
}

/// Where a text stands in the sound file.
fn find(text: &str) -> usize {
    let windows = SOUND.windows(text.len());
    windows.enumerate().find(|(_, at)| *at == text.as_bytes()).expect("a text of the file").0
}

/// The sound file with bytes replaced behind a text, `skip` bytes after its end.
fn behind(text: &str, skip: usize, with: &[u8]) -> Vec<u8> {
    let (mut bytes, at) = (SOUND.clone(), find(text) + text.len() + skip);
    bytes[at..at + with.len()].copy_from_slice(with);
    bytes
}

/// The sound file with a text replaced by one of its length.
fn renamed(text: &str, with: &str) -> Vec<u8> {
    assert_eq!(text.len(), with.len());
    let (mut bytes, at) = (SOUND.clone(), find(text));
    bytes[at..at + with.len()].copy_from_slice(with.as_bytes());
    bytes
}

fn at(place: usize, with: &[u8]) -> Vec<u8> {
    let mut bytes = SOUND.clone();
    bytes[place..place + with.len()].copy_from_slice(with);
    bytes
}

#[test]
fn the_sound_file_is_sound() {
    let loaded = read(SOUND.clone()).expect("a sound file");
    assert_eq!(loaded.manifest.warnings, Vec::<String>::new());
}

#[test]
fn frames_that_lie_are_refused_with_the_byte() {
    let huge = u64::MAX.to_le_bytes();
    let zoo: Vec<(Vec<u8>, &[&str])> = vec![
        (Vec::new(), &["at byte 0", "magic"]),
        (b"GGU".to_vec(), &["at byte 0", "magic"]),
        (at(0, b"GGML"), &["at byte 0", "\"GGML\""]),
        (at(0, b"FUGG"), &["at byte 0"]),
        (at(4, &1u32.to_le_bytes()), &["at byte 4", "version 2 or 3", "got 1"]),
        (at(4, &4u32.to_le_bytes()), &["at byte 4", "got 4"]),
        (at(4, &3u32.to_be_bytes()), &["at byte 4", "little-endian", "big-endian"]),
        (at(8, &huge), &["at byte 8", "at most", "tensors"]),
        (at(8, &(1u64 << 40).to_le_bytes()), &["at byte 8", "1099511627776"]),
        (at(8, &0u64.to_le_bytes()), &["behind the last tensor"]),
        (at(16, &huge), &["at byte 16", "keys"]),
        (at(24, &huge), &["at byte 32", "a key"]),
        (at(24, &0u64.to_le_bytes()), &["at byte 24", "1 to 1024 bytes"]),
        (at(24, &4096u64.to_le_bytes()), &["at byte 24"]),
        (at(32, &[0xff, 0xfe]), &["UTF-8"]),
        (behind("general.architecture", 0, &13u32.to_le_bytes()), &["0 to 12", "13"]),
        (behind("general.architecture", 0, &9u32.to_le_bytes()), &["items"]),
        (behind("general.architecture", 4, &huge), &["a text"]),
        (behind("general.file_type", 0, &9u32.to_le_bytes()), &["items"]),
        (renamed("general.file_type", "general.alignment"), &["general.alignment", "power of two"]),
        (renamed("bitnet.vocab_size", "bitnet.block_coun"), &["vocab_size"]),
        (renamed("bitnet.embedding_length", "bitnet.embedding_lengtx"), &["embedding_length"]),
        (renamed("attention.head_count_kv", "attention.head_count_kx"), &["tensor", "attn_k"]),
    ];
    for (bytes, parts) in zoo {
        refused(read(bytes), parts);
    }
}

#[test]
fn metadata_of_another_model_is_refused_by_key() {
    let zoo: Vec<(Vec<u8>, &[&str])> = vec![
        (behind("general.architecture", 12, b"gemma3"), &["general.architecture", "gemma3"]),
        (behind("bitnet.embedding_length", 4, &0u32.to_le_bytes()), &["hidden_size", "0"]),
        (behind("bitnet.embedding_length", 4, &24u32.to_le_bytes()), &["key_length"]),
        (behind("bitnet.embedding_length", 4, &u32::MAX.to_le_bytes()), &["1 to"]),
        (behind("bitnet.embedding_length", 0, &5u32.to_le_bytes()), &[]),
        (behind("bitnet.embedding_length", 0, &6u32.to_le_bytes()), &["whole number"]),
        (behind("bitnet.block_count", 4, &2u32.to_le_bytes()), &["blk.1", "missing"]),
        (behind("bitnet.block_count", 4, &0u32.to_le_bytes()), &["num_hidden_layers"]),
        (behind("bitnet.block_count", 4, &(1u32 << 30).to_le_bytes()), &["num_hidden_layers"]),
        (behind("bitnet.feed_forward_length", 4, &48u32.to_le_bytes()), &["ffn_"]),
        (behind("bitnet.attention.head_count", 4, &0u32.to_le_bytes()), &["heads"]),
        (behind("bitnet.attention.head_count", 4, &3u32.to_le_bytes()), &["head"]),
        (behind("bitnet.attention.head_count_kv", 4, &3u32.to_le_bytes()), &["divisor"]),
        (behind("bitnet.attention.key_length", 4, &7u32.to_le_bytes()), &["value_length", "7"]),
        (behind("bitnet.attention.value_length", 4, &4u32.to_le_bytes()), &["value_length"]),
        (behind("bitnet.rope.dimension_count", 4, &4u32.to_le_bytes()), &["dimension_count"]),
        (behind("layer_norm_rms_epsilon", 4, &f32::NAN.to_le_bytes()), &["rms_norm_eps", "NaN"]),
        (behind("layer_norm_rms_epsilon", 4, &(-1f32).to_le_bytes()), &["rms_norm_eps"]),
        (behind("layer_norm_rms_epsilon", 0, &4u32.to_le_bytes()), &["32-bit float"]),
        (behind("rope.freq_base", 4, &0f32.to_le_bytes()), &["rope_theta"]),
        (behind("rope.freq_base", 4, &f32::INFINITY.to_le_bytes()), &["rope_theta", "inf"]),
        (behind("bitnet.hidden_activation", 12, b"gelu"), &["hidden_activation", "gelu"]),
        (renamed("bitnet.hidden_activation", "bitnet.hidden_activatiox"), &[]),
    ];
    for (bytes, parts) in zoo {
        match parts.is_empty() {
            // Another integer type, or a key that nobody knows, is the same model.
            true => assert!(read(bytes).is_ok()),
            false => drop(refused(read(bytes), parts)),
        }
    }
    for key in ["expert_count", "residual_scale", "logit_scale"] {
        let word = format!("bitnet.{key}");
        let mut bytes = SOUND.clone();
        let mut added = (word.len() as u64).to_le_bytes().to_vec();
        added.extend(word.as_bytes());
        added.extend(6u32.to_le_bytes());
        added.extend(2f32.to_le_bytes());
        // The tensors must still begin at a multiple of 32 bytes, wherever that is now.
        let keys = u64::from_le_bytes(bytes[16..24].try_into().expect("eight bytes")) + 1;
        bytes[16..24].copy_from_slice(&keys.to_le_bytes());
        bytes.splice(24..24, added);
        assert!(read(bytes).is_err(), "{key}");
    }
}

#[test]
fn tensors_that_lie_are_refused_by_name() {
    const Q: &str = "blk.0.attn_q.weight";
    let place = |skip: usize, with: &[u8]| behind(Q, skip, with);
    let zoo: Vec<(Vec<u8>, &[&str])> = vec![
        (place(0, &0u32.to_le_bytes()), &[Q, "1 to 4 dimensions", "0"]),
        (place(0, &5u32.to_le_bytes()), &[Q, "dimensions", "5"]),
        (place(0, &u32::MAX.to_le_bytes()), &[Q, "dimensions"]),
        (place(4, &0u64.to_le_bytes()), &[Q, "dimensions from 1"]),
        (place(4, &u64::MAX.to_le_bytes()), &[Q]),
        (place(4, &(1u64 << 33).to_le_bytes()), &[Q]),
        (place(4, &32u64.to_le_bytes()), &[]),
        (place(12, &(1u64 << 62).to_le_bytes()), &[Q]),
        (place(20, &3u32.to_le_bytes()), &[Q, "type 3", "llama.cpp"]),
        (place(20, &16u32.to_le_bytes()), &[Q, "codebook"]),
        (place(20, &24u32.to_le_bytes()), &[Q, "integers"]),
        (place(20, &38u32.to_le_bytes()), &[Q, "TL1"]),
        (place(20, &39u32.to_le_bytes()), &[Q, "TL2"]),
        (place(20, &142u32.to_le_bytes()), &[Q, "Hadamard"]),
        (place(20, &143u32.to_le_bytes()), &[Q, "Hadamard"]),
        (place(20, &999u32.to_le_bytes()), &[Q, "type 999", "not known"]),
        (place(20, &35u32.to_le_bytes()), &[Q, "whole blocks of 256", "16"]),
        (place(20, &0u32.to_le_bytes()), &[]),
        (place(24, &u64::MAX.to_le_bytes()), &[]),
        (place(24, &7u64.to_le_bytes()), &[]),
        (place(24, &0u64.to_le_bytes()), &[]),
        (renamed(Q, "blk.0.attn_x.weight"), &["missing", Q]),
        (renamed(Q, "blk.0.attn_k.weight"), &["each tensor once", "attn_k"]),
        (renamed("token_embd.weight", "token_embd.bias_x"), &["token_embd.weight", "missing"]),
        (renamed("output_norm.weight", "output_norm.bias_x"), &["output_norm.weight"]),
    ];
    for (bytes, parts) in zoo {
        refused(read(bytes), parts);
    }
}

#[test]
fn a_scale_that_none_can_be_is_refused_with_its_byte() {
    let loaded = read(SOUND.clone()).expect("sound");
    let entry = loaded.manifest.entry("model.layers.0.mlp.down_proj.weight_scale").expect("one");
    for bad in [0f32, -1.0, f32::NAN, f32::INFINITY] {
        let bytes = at(entry.offset as usize, &bad.to_le_bytes());
        refused(read(bytes), &["ffn_down", &format!("at byte {}", entry.offset), "positive"]);
    }
    let codes = loaded.manifest.entry("model.layers.0.mlp.down_proj.weight").expect("one");
    refused(read(at(codes.offset as usize, &[0xc0])), &["ffn_down", "code 3"]);
    let norm = loaded.manifest.entry("model.norm.weight").expect("one");
    let bytes = at(norm.offset as usize + 4, &f32::NAN.to_le_bytes());
    refused(read(bytes), &["output_norm", "finite"]);
}

#[test]
fn a_file_cut_or_lengthened_anywhere_is_refused() {
    for length in 0..SOUND.len() {
        assert!(read(SOUND[..length].to_vec()).is_err(), "{length} of {} bytes", SOUND.len());
    }
    for more in [1, 31, 32, 4096] {
        let mut bytes = SOUND.clone();
        bytes.resize(bytes.len() + more, 0);
        refused(read(bytes), &["behind the last tensor"]);
    }
}

#[test]
fn every_flipped_bit_of_the_header_is_an_error_or_leaves_the_tensors_where_they_are() {
    let sound = read(SOUND.clone()).expect("sound").manifest;
    let end = sound.tensors.iter().map(|entry| entry.offset).min().expect("tensors") as usize;
    let places = |manifest: &engine::formats::Manifest| -> Vec<(String, String, u64, u64)> {
        let entry = |entry: &engine::formats::TensorEntry| {
            (entry.name.clone(), entry.dtype.clone(), entry.offset, entry.bytes)
        };
        manifest.tensors.iter().map(entry).collect()
    };
    let (expected, mut accepted) = (places(&sound), 0);
    for bit in 0..8 * end {
        let mut bytes = SOUND.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        if let Ok(loaded) = read(bytes) {
            assert_eq!(places(&loaded.manifest), expected, "bit {bit}");
            accepted += 1;
        }
    }
    // Texts that nobody reads, a context length, an epsilon.
    assert!(accepted * 4 < 8 * end, "{accepted} of {} flips pass", 8 * end);
}

proptest! {
    #[test]
    fn no_damage_makes_the_reader_panic(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = SOUND.clone();
        for (place, mask) in flips {
            let place = place.index(bytes.len().min(1600));
            bytes[place] ^= mask;
        }
        bytes.truncate(cut.index(2 * bytes.len()).max(8));
        if let Err(error) = read(bytes) {
            prop_assert!(error.to_string().len() < 2000);
        }
    }
}

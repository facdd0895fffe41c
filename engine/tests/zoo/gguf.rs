//! GGUF files of a sound one with a few bytes replaced.

use crate::made_gguf::{SOUND, read};
use crate::member::Zoo;

/// Fills the zoo.
pub(crate) fn fill(zoo: &mut Zoo) {
    frames(zoo);
    metadata(zoo);
    tensors(zoo);
    values(zoo);
    lengthened(zoo);
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

fn frames(zoo: &mut Zoo) {
    let huge = u64::MAX.to_le_bytes();
    let all: Vec<(Vec<u8>, &[&str])> = vec![
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
    zoo.ggufs("frame", all);
}

fn metadata(zoo: &mut Zoo) {
    let all: Vec<(Vec<u8>, &[&str])> = vec![
        (behind("general.architecture", 12, b"gemma3"), &["general.architecture", "gemma3"]),
        (behind("bitnet.embedding_length", 4, &0u32.to_le_bytes()), &["hidden_size", "0"]),
        (behind("bitnet.embedding_length", 4, &24u32.to_le_bytes()), &["key_length"]),
        (behind("bitnet.embedding_length", 4, &u32::MAX.to_le_bytes()), &["1 to"]),
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
    ];
    zoo.ggufs("metadata", all);
}

fn tensors(zoo: &mut Zoo) {
    const Q: &str = "blk.0.attn_q.weight";
    let place = |skip: usize, with: &[u8]| behind(Q, skip, with);
    let all: Vec<(Vec<u8>, &[&str])> = vec![
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
    zoo.ggufs("tensor", all);
}

fn values(zoo: &mut Zoo) {
    let loaded = read(&SOUND).expect("sound");
    let entry = loaded.manifest.entry("model.layers.0.mlp.down_proj.weight_scale").expect("one");
    for bad in [0f32, -1.0, f32::NAN, f32::INFINITY] {
        let bytes = at(entry.offset as usize, &bad.to_le_bytes());
        let place = format!("at byte {}", entry.offset);
        zoo.gguf(&format!("scale {bad}"), bytes, &["ffn_down", &place, "positive"]);
    }
    let codes = loaded.manifest.entry("model.layers.0.mlp.down_proj.weight").expect("one");
    let bytes = at(codes.offset as usize, &[0xc0]);
    zoo.gguf("unused code", bytes, &["ffn_down", "code 3"]);
    let norm = loaded.manifest.entry("model.norm.weight").expect("one");
    let bytes = at(norm.offset as usize + 4, &f32::NAN.to_le_bytes());
    zoo.gguf("gain NaN", bytes, &["output_norm", "finite"]);
}

fn lengthened(zoo: &mut Zoo) {
    for more in [1, 31, 32, 4096] {
        let mut bytes = SOUND.clone();
        bytes.resize(bytes.len() + more, 0);
        zoo.gguf(&format!("{more} bytes more"), bytes, &["behind the last tensor"]);
    }
}

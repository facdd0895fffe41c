//! GGUF files made to lie: the ways in which readers of them have been broken.

use crate::made_gguf::{BF16, BLOCKS, F16, F32, Gguf, I2S, Tensor, items, text};
use crate::member::Zoo;

const Q: &str = "blk.0.attn_q.weight";
const LAST: &str = "blk.0.ffn_down.weight";
const WORDS: &str = "tokenizer.ggml.tokens";

/// Fills the zoo.
pub(crate) fn fill(zoo: &mut Zoo) {
    preambles(zoo);
    alignments(zoo);
    arrays(zoo);
    keys(zoo);
    shapes(zoo);
    places(zoo);
    blocks(zoo);
    counts(zoo);
}

/// Files of a few bytes that promise much.
fn preambles(zoo: &mut Zoo) {
    let preamble = |tensors: u64, keys: u64, more: usize| {
        let words = [&b"GGUF\x03\0\0\0"[..], &tensors.to_le_bytes(), &keys.to_le_bytes()];
        [words.concat(), vec![0; more]].concat()
    };
    for count in [1, 1 << 31, (1 << 32) + 1, 1 << 60, 1 << 63, u64::MAX - 1, u64::MAX] {
        let says = ["at byte 8", "at most", "tensors in this file"];
        zoo.gguf(&format!("{count} tensors in 24 bytes"), preamble(count, 0, 0), &says);
        let says = ["at byte 16", "at most", "keys in this file"];
        zoo.gguf(&format!("{count} keys in 24 bytes"), preamble(0, count, 0), &says);
    }
    zoo.gguf("a file of 65 bytes", preamble(1, 0, 41), &["at byte 24", "1 to 1024 bytes"]);
    zoo.gguf("nothing but zeros", vec![0; 4096], &["at byte 0", "magic"]);
    zoo.gguf("no tensors", preamble(0, 0, 0), &["general.architecture", "absent"]);
}

/// `general.alignment` of every type, at values that are none.
fn alignments(zoo: &mut Zoo) {
    let sound = Gguf::small(35);
    let key = "general.alignment";
    for value in [0u64, 3, 1, 4, 48, 1 << 21, 1 << 31] {
        for (kind, width) in [(4u32, 4), (10, 8), (0, 1), (2, 2)] {
            let bits = 8 * width as u32;
            if bits < 64 && value >> bits > 0 {
                continue;
            }
            let bytes = sound.with(|f| f.key(key, kind, &value.to_le_bytes()[..width]));
            let name = format!("alignment {value} of type {kind}");
            zoo.gguf(&name, bytes, &[key, "a power of two", &value.to_string()]);
        }
    }
    for (kind, value) in [
        (6u32, 32f32.to_le_bytes().to_vec()),
        (12, 32f64.to_le_bytes().to_vec()),
        (7, vec![1]),
        (8, text("32")),
        (9, items(4, 1, &32u32.to_le_bytes())),
        (5, (-32i32).to_le_bytes().to_vec()),
        (11, i64::MIN.to_le_bytes().to_vec()),
    ] {
        let bytes = sound.with(|f| f.key(key, kind, value));
        zoo.gguf(&format!("alignment of type {kind}"), bytes, &[key, "a whole number"]);
    }
    let other = sound.with(|f| f.key(key, 4, 64u32.to_le_bytes()));
    zoo.gguf("another alignment than that of the tensors", other, &["expected"]);
}

fn arrays(zoo: &mut Zoo) {
    let sound = Gguf::small(35);
    let mut with = |name: &str, kind: u32, value: Vec<u8>, says: &[&str]| {
        zoo.gguf(name, sound.with(|f| f.key(WORDS, kind, value)), says);
    };
    for kind in [0u32, 4, 6, 8, 12] {
        for count in [1 << 20, 1 << 32, 1 << 61, 1 << 63, u64::MAX] {
            let says = ["at most", "items in this file", &count.to_string()];
            with(&format!("{count} items of type {kind}"), 9, items(kind, count, &[]), &says);
        }
    }
    let nested = items(9, 1, &items(9, 1, &items(4, 1, &[0; 4])));
    with("an array of arrays", 9, nested, &["items of one of the types"]);
    let deep = items(9, 1, &[]).repeat(10_000);
    with("arrays 10,000 deep", 9, deep, &["items of one of the types"]);
    for kind in [13u32, 0x7fff_ffff, 0x8000_0000, u32::MAX] {
        let says = ["items of one of the types", &kind.to_string()];
        with(&format!("items of type {kind}"), 9, items(kind, 1, &[0; 8]), &says);
        let says = ["a type of value from 0 to 12", &kind.to_string()];
        with(&format!("a value of type {kind}"), kind, vec![0; 8], &says);
    }
    for length in [1 << 30, 1 << 32, 1 << 63, u64::MAX] {
        let says = ["a text", "to the end of the file"];
        with(&format!("a text of {length} bytes"), 8, length.to_le_bytes().to_vec(), &says);
        let value = items(8, 1, &length.to_le_bytes());
        with(&format!("an array with a text of {length} bytes"), 9, value, &says);
    }
    with("a text that is no UTF-8", 8, [&text("ab")[..8], &[0xff, 0xfe]].concat(), &["UTF-8"]);
    with("a truth of 2", 7, vec![2], &["0 or 1", "2"]);
}

fn keys(zoo: &mut Zoo) {
    let sound = Gguf::small(35);
    let mut put = |name: &str, key: &str, says: &[&str]| {
        let value = (key.to_owned(), 4, vec![1, 0, 0, 0]);
        zoo.gguf(name, sound.with(|f| f.keys.push(value)), says);
    };
    put("a key without a name", "", &["a key of 1 to 1024 bytes", "0 bytes"]);
    put("a key of 1025 bytes", &"k".repeat(1025), &["1 to 1024 bytes", "1025"]);
    put("a key twice", "llama.block_count", &["each key once", "llama.block_count"]);
    put("a rotation", "general.hadamard", &["no such key"]);
    put("a rotation that breaks lines", "a\n\u{1b}[2Jhadamard", &["\\n\\u{1b}[2Jhadamard"]);
    for (key, kind, value) in [
        ("split.count", 2u32, vec![2, 0]),
        ("llama.expert_count", 4, vec![8, 0, 0, 0]),
        ("llama.attention.sliding_window", 4, vec![0, 16, 0, 0]),
        ("llama.attention.scale", 6, 2f32.to_le_bytes().to_vec()),
        ("llama.attention.max_alibi_bias", 6, 8f32.to_le_bytes().to_vec()),
        ("llama.attention.clamp_kqv", 6, f32::NAN.to_le_bytes().to_vec()),
        ("llama.attention.causal", 7, vec![0]),
        ("llama.logit_scale", 6, 2f32.to_le_bytes().to_vec()),
        ("llama.residual_scale", 6, 2f32.to_le_bytes().to_vec()),
    ] {
        zoo.gguf(key, sound.with(|f| f.key(key, kind, value)), &[key, "expected"]);
    }
    let huge = sound.with(|f| f.key("tokenizer.ggml.eos_token_id", 10, [0xff; 8]));
    zoo.gguf("an end token of 64 bits", huge, &["eos_token_id", "a token id"]);
    for (key, kind, value) in [
        ("llama.rope.scaling.type", 8, text("linear")),
        ("llama.rope.scaling.type", 4, vec![0; 4]),
        ("llama.rope.freq_base", 12, vec![0; 8]),
        ("general.architecture", 4, vec![0; 4]),
        ("llama.attention.layer_norm_rms_epsilon", 6, f32::INFINITY.to_le_bytes().to_vec()),
        ("llama.vocab_size", 9, items(4, 1, &[4, 0, 0, 0])),
    ] {
        let bytes = sound.with(|f| f.key(key, kind, value));
        zoo.gguf(&format!("{key} of type {kind}"), bytes, &["expected"]);
    }
}

/// Zero, huge and overflowing dimensions in every position.
fn shapes(zoo: &mut Zoo) {
    let sound = Gguf::small(F32);
    let mut with = |name: &str, dims: Vec<u64>, says: &[&str]| {
        zoo.gguf(name, sound.with(|f| f.tensor(Q).dims = dims), says);
    };
    for rank in 1..=4 {
        for at in 0..rank {
            let mut dims = vec![2; rank];
            dims[at] = 0;
            with(&format!("no width, {dims:?}"), dims, &[Q, "dimensions from 1"]);
        }
    }
    for dims in [vec![], vec![1; 5], vec![1; 100]] {
        let says = [Q, "1 to 4 dimensions", &dims.len().to_string()];
        with(&format!("rank {}", dims.len()), dims, &says);
    }
    let big = 1u64 << 40;
    for dims in [
        vec![big, big],
        vec![1 << 32, 1 << 32],
        vec![1 << 62, 1, 4],
        vec![u64::MAX],
        vec![u64::MAX, u64::MAX, u64::MAX, u64::MAX],
        vec![1 << 63, 2],
        vec![1 << 62],
    ] {
        with(&format!("too many weights, {dims:?}"), dims, &[Q, "expected"]);
    }
    for dims in [vec![2048], vec![8, 256], vec![256, 8, 1], vec![128, 16], vec![1, 2048]] {
        with(&format!("as many weights, {dims:?}"), dims, &[Q, "[8, 256]"]);
    }
    for kind in [3, 7, 9, 15, 17, 25, 29, 31, 33, 37, 40, 1 << 31, u32::MAX] {
        let bytes = sound.with(|f| f.tensor(Q).kind = kind);
        zoo.gguf(&format!("tensor type {kind}"), bytes, &[Q, &format!("type {kind} (")]);
    }
}

/// Offsets out of the file, into other tensors, and sums that wrap.
fn places(zoo: &mut Zoo) {
    let sound = Gguf::small(I2S);
    let mut at = |tensor: &str, name: &str, offset: u64, says: &[&str]| {
        zoo.gguf(name, sound.with(|f| f.tensor(tensor).offset = Some(offset)), says);
    };
    let whole: usize = sound.tensors.iter().map(|t| t.data.len().next_multiple_of(32)).sum();
    for behind in [32, 64, 1 << 20] {
        let name = format!("{behind} bytes behind the file");
        at(LAST, &name, whole as u64 + behind, &[LAST, "bytes inside the"]);
    }
    for offset in [1 << 31, 1 << 32, 1 << 63, u64::MAX - 31, u64::MAX - 4127] {
        at(LAST, &format!("offset {offset}"), offset, &[LAST, "expected"]);
    }
    for offset in [0, 32, 2048] {
        let says = ["expected", "another tensor"];
        at(Q, &format!("over another tensor, {offset}"), offset, &says);
    }
    for more in [1, 31, 33] {
        let offset = whole as u64 - 4096 + more;
        at(LAST, &format!("off its alignment, {more}"), offset, &[LAST, "whole steps of 32"]);
    }
    // Padded sizes whose sum wraps to that of the file.
    let far = |name: &str, offset: u64, dims: &[u64]| Tensor {
        name: name.into(),
        dims: dims.to_vec(),
        kind: F32,
        offset: Some(offset),
        data: Vec::new(),
    };
    let wrap = sound.with(|f| {
        f.tensors.push(far("a", whole as u64, &[(1 << 62) - 8]));
        f.tensors.push(far("b", u64::MAX - 31, &[8]));
    });
    zoo.gguf("two sizes whose sum wraps", wrap, &["expected"]);
    let hole = sound.with(|f| f.tensor(Q).data.extend([0; 32]));
    zoo.gguf("a hole", hole, &["a hole from byte"]);
    let again = sound.with(|f| f.tensors.push(f.tensors[3].clone()));
    zoo.gguf("a tensor twice", again, &["blk.0.ffn_norm.weight"]);
    for (name, says) in [("", "1 to 1024 bytes"), ("blk.0.attn_q.bias", "computes with")] {
        let more = sound.with(|f| f.put(name, &[8], F32));
        zoo.gguf(&format!("a tensor too many, {name:?}"), more, &[says]);
    }
    let long = sound.with(|f| f.put(&"t".repeat(1025), &[8], F32));
    zoo.gguf("a tensor with a name of 1025 bytes", long, &["1 to 1024 bytes"]);
    let huge = sound.with(|f| f.put("rope_freqs.weight", &[1], F32));
    zoo.gguf("rotary factors", huge, &["rope_freqs.weight", "computes with"]);
}

/// Scales that none can be, in every format; and codes outside the alphabet.
fn blocks(zoo: &mut Zoo) {
    for (kind, block) in BLOCKS {
        for (name, half) in [("NaN", 0x7e00u16), ("infinity", 0x7c00), ("-infinity", 0xfc00)] {
            let bytes = Gguf::small(kind).with(|f| {
                let at = block.scale_at();
                f.tensor(Q).data[at..at + 2].copy_from_slice(&half.to_le_bytes());
            });
            let says = [Q, "at byte", "finite"];
            zoo.gguf(&format!("{} with a scale of {name}", block.name()), bytes, &says);
        }
        let odd = Gguf::small(kind).with(|f| f.tensor(Q).dims = vec![16, 128]);
        zoo.gguf(&format!("rows of 16 in {}", block.name()), odd, &[Q, "whole blocks"]);
    }
    for (kind, block) in BLOCKS {
        let bytes = Gguf::small(kind).with(|f| {
            let at = block.scale_at();
            f.tensor(Q).data[at..at + 2].copy_from_slice(&0x7bffu16.to_le_bytes());
            f.put("blk.0.attn_q.scale", &[1], F32);
            f.tensor("blk.0.attn_q.scale").data = f32::MAX.to_le_bytes().to_vec();
        });
        let says = [Q, "finite"];
        zoo.gguf(&format!("a .scale too large for {}", block.name()), bytes, &says);
    }
    for (kind, name) in [(F32, "F32"), (F16, "F16"), (BF16, "BF16")] {
        let bytes = Gguf::small(kind).with(|f| f.put("blk.0.attn_q.scale", &[1], F32));
        zoo.gguf(
            &format!("a .scale beside {name}"),
            bytes,
            &[Q, "codes or blocks beside a .scale"],
        );
    }
    let either = Gguf::small(42).with(|f| {
        let tensor = f.tensor(Q);
        tensor.dims = vec![256, 2];
        tensor.data.truncate(144);
    });
    let says = [Q, "groups of 64 from 128", "[2, 256]"];
    zoo.gguf("a size of either kind of Q2_0", either, &says);
    for (kind, at) in [(35, 0), (42, 2), (I2S, 0)] {
        let bytes = Gguf::small(kind).with(|f| f.tensor(Q).data[at] |= 0xc0);
        zoo.gguf(&format!("the unused code in type {kind}"), bytes, &[Q, "code 3"]);
    }
    for (name, bits) in [("NaN", 0x7e01u16), ("infinity", 0x7c00)] {
        let bytes = Gguf::small(F16).with(|f| {
            f.tensor("token_embd.weight").data[6..8].copy_from_slice(&bits.to_le_bytes());
        });
        zoo.gguf(&format!("an embedding of {name}"), bytes, &["token_embd", "finite number"]);
    }
}

/// Every count of the shape at every value that no such file has.
fn counts(zoo: &mut Zoo) {
    let sound = Gguf::small(35);
    for key in [
        "embedding_length",
        "feed_forward_length",
        "block_count",
        "attention.head_count",
        "attention.head_count_kv",
        "attention.key_length",
        "rope.dimension_count",
        "vocab_size",
    ] {
        let key = format!("llama.{key}");
        for value in [0u64, 3, 1 << 24, (1 << 24) + 1, 1 << 31, 1 << 32, 1 << 63, u64::MAX] {
            let bytes = sound.with(|f| f.key(&key, 10, value.to_le_bytes()));
            zoo.gguf(&format!("{key} = {value}"), bytes, &["expected"]);
        }
    }
}

//! The tokenizer in the metadata of a GGUF file, as the `tokenizer.json` that it was made from.
//!
//! Two kinds are read: byte-level BPE (`gpt2`) with the splits of Llama 3 and Qwen 2, and
//! SentencePiece BPE (`llama`), whose merges are what the scores of its pieces imply. Any other is
//! left out with a warning: token ids work without a tokenizer.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::error::FormatError;
use super::super::tokenizer::Tokenizer;
use super::value::Metadata;

/// How Llama 3 splits text before its merges.
pub(in super::super) const LLAMA3: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|",
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
/// How Qwen 2 does: digits one by one.
pub(in super::super) const QWEN2: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|",
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);

/// A token that is matched in a text before anything is split, and one that only the model writes.
const CONTROL: u32 = 3;
const USER_DEFINED: u32 = 4;
/// The longest token: every way to split a piece is looked up.
const LONGEST_TOKEN: usize = 1 << 10;

/// The tokenizer, or why there is none.
pub(super) fn tokenizer(metadata: &Metadata) -> Result<Option<Tokenizer>, String> {
    let plain = |error: FormatError| error.to_string();
    let Some(model) = metadata.text("tokenizer.ggml.model").map_err(plain)? else {
        return Ok(None);
    };
    let json = match model {
        "gpt2" => byte_level(metadata)?,
        "llama" => sentence_pieces(metadata)?,
        other => return Err(format!("tokenizers of kind {other:?} are not read")),
    };
    let file = format!("{} (tokenizer.ggml)", metadata.file);
    Tokenizer::from_bytes(&file, json.to_string().as_bytes()).map(Some).map_err(plain)
}

/// Byte-level BPE.
fn byte_level(metadata: &Metadata) -> Result<Value, String> {
    let plain = |error: FormatError| error.to_string();
    let pre = metadata.text("tokenizer.ggml.pre").map_err(plain)?.unwrap_or("default");
    let (split, ignore_merges, begins) = match pre {
        "llama-bpe" | "llama3" | "llama-v3" | "falcon3" => (LLAMA3, true, true),
        "qwen2" => (QWEN2, false, false),
        other => return Err(format!("tokenizers that split text like {other:?} are not read")),
    };
    let tokens = tokens(metadata)?;
    let merges = metadata.texts("tokenizer.ggml.merges").map_err(plain)?;
    let merges: Option<Vec<_>> =
        merges.unwrap_or_default().iter().map(|merge| merge.split_once(' ')).collect();
    let merges = merges.ok_or("a merge without a space between its parts")?;
    let normalizer = if pre == "qwen2" { json!({"type": "NFC"}) } else { Value::Null };
    Ok(json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": added(metadata, &tokens)?,
        "normalizer": normalizer,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": split}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
             "use_regex": false},
        ]},
        "post_processor": frame(metadata, &tokens, begins)?,
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true,
                    "use_regex": true},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "ignore_merges": ignore_merges, "vocab": vocabulary(&tokens), "merges": merges,
        },
    }))
}

/// SentencePiece BPE.
fn sentence_pieces(metadata: &Metadata) -> Result<Value, String> {
    let plain = |error: FormatError| error.to_string();
    let tokens = tokens(metadata)?;
    let scores = metadata.words("tokenizer.ggml.scores", 6).map_err(plain)?;
    let scores: Vec<f32> = scores.unwrap_or_default().into_iter().map(f32::from_bits).collect();
    if scores.len() != tokens.len() {
        return Err(format!("{} scores of {} tokens", scores.len(), tokens.len()));
    }
    let unknown = special(metadata, &tokens, "tokenizer.ggml.unknown_token_id")?;
    let unknown = unknown.or_else(|| tokens.first().copied().filter(|&token| token == "<unk>"));
    let prefix = metadata.flag("tokenizer.ggml.add_space_prefix").map_err(plain)?.unwrap_or(true);
    let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"});
    let mut normalizers = vec![json!({"type": "Prepend", "prepend": "\u{2581}"}), replace];
    let mut decoders = vec![
        json!({"type": "Replace", "pattern": {"String": "\u{2581}"}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if prefix {
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    } else {
        normalizers.remove(0);
    }
    Ok(json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": added(metadata, &tokens)?,
        "normalizer": {"type": "Sequence", "normalizers": normalizers},
        "pre_tokenizer": null,
        "post_processor": frame(metadata, &tokens, true)?,
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": unknown,
            "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": true,
            "byte_fallback": true, "ignore_merges": false, "vocab": vocabulary(&tokens),
            "merges": merges(&tokens, &scores),
        },
    }))
}

/// The merges that scores imply: every way to put a piece together from two others, the best piece
/// first, as `transformers` derives them.
fn merges<'a>(tokens: &[&'a str], scores: &[f32]) -> Vec<(&'a str, &'a str)> {
    let ids: BTreeMap<&str, usize> = tokens.iter().enumerate().map(|(id, &t)| (t, id)).collect();
    let mut found = Vec::new();
    for (id, piece) in tokens.iter().enumerate() {
        let mut local: Vec<_> = piece
            .char_indices()
            .skip(1)
            .map(|(at, _)| piece.split_at(at))
            .filter_map(|(a, b)| Some((*ids.get(a)?, *ids.get(b)?, a, b)))
            .collect();
        local.sort_unstable();
        found.extend(local.into_iter().map(|(_, _, a, b)| (scores[id], a, b)));
    }
    let size = |text: &str| text.chars().count();
    found.sort_by(|x, y| {
        y.0.total_cmp(&x.0).then(size(y.1).cmp(&size(x.1))).then(size(y.2).cmp(&size(x.2)))
    });
    found.into_iter().map(|(_, a, b)| (a, b)).collect()
}

fn tokens<'m>(metadata: &'m Metadata) -> Result<Vec<&'m str>, String> {
    let tokens = metadata.texts("tokenizer.ggml.tokens").map_err(|error| error.to_string())?;
    let tokens = tokens.ok_or("tokenizer.ggml.tokens is absent")?;
    match tokens.iter().position(|token| token.len() > LONGEST_TOKEN) {
        Some(id) => Err(format!("token {id} is longer than {LONGEST_TOKEN} bytes")),
        None => Ok(tokens.to_vec()),
    }
}

fn vocabulary(tokens: &[&str]) -> Value {
    let ids = tokens.iter().enumerate().map(|(id, token)| ((*token).to_owned(), json!(id)));
    Value::Object(ids.collect())
}

/// Control tokens, and those that a user defined.
fn added(metadata: &Metadata, tokens: &[&str]) -> Result<Vec<Value>, String> {
    let kinds = metadata.words("tokenizer.ggml.token_type", 5).map_err(|e| e.to_string())?;
    let kinds = kinds.unwrap_or_default();
    let token = |(id, (&token, &kind)): (usize, (&&str, &u32))| {
        (kind == CONTROL || kind == USER_DEFINED).then(|| {
            json!({"id": id, "content": token, "single_word": false, "lstrip": false,
                   "rstrip": false, "normalized": false, "special": kind == CONTROL})
        })
    };
    Ok(tokens.iter().zip(&kinds).enumerate().filter_map(token).collect())
}

/// What stands around a text: the first token, and the last, where they are added.
fn frame(metadata: &Metadata, tokens: &[&str], begins: bool) -> Result<Value, String> {
    let mut single = vec![json!({"Sequence": {"id": "A", "type_id": 0}})];
    let mut pair = vec![
        json!({"Sequence": {"id": "A", "type_id": 0}}),
        json!({"Sequence": {"id": "B", "type_id": 1}}),
    ];
    let mut known = serde_json::Map::new();
    for (which, default, first) in [("bos", begins, true), ("eos", false, false)] {
        let add = metadata.flag(&format!("tokenizer.ggml.add_{which}_token"));
        if !add.map_err(|error| error.to_string())?.unwrap_or(default) {
            continue;
        }
        let key = format!("tokenizer.ggml.{which}_token_id");
        let Some(token) = special(metadata, tokens, &key)? else { continue };
        let id = metadata.count(&key).map_err(|error| error.to_string())?;
        known.insert(token.into(), json!({"id": token, "ids": [id], "tokens": [token]}));
        let piece = json!({"SpecialToken": {"id": token, "type_id": 0}});
        for pieces in [&mut single, &mut pair] {
            pieces.insert(if first { 0 } else { pieces.len() }, piece.clone());
        }
    }
    Ok(json!({"type": "TemplateProcessing", "single": single, "pair": pair,
              "special_tokens": known}))
}

/// The token that a key names.
fn special<'a>(
    metadata: &Metadata,
    tokens: &[&'a str],
    key: &str,
) -> Result<Option<&'a str>, String> {
    let Some(id) = metadata.count(key).map_err(|error| error.to_string())? else {
        return Ok(None);
    };
    let token = tokens.get(id).copied();
    token.map(Some).ok_or_else(|| format!("{key} = {id} of {} tokens", tokens.len()))
}

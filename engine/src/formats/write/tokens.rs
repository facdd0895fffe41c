//! A tokenizer as the metadata of a GGUF file.

use serde_json::Value;

use super::super::Tokenizer;
use super::super::gguf::{LLAMA3, QWEN2};

/// What a GGUF file says of a tokenizer.
pub(super) struct Tokens {
    /// How text is split: `llama-bpe` or `qwen2`.
    pub(super) pre: &'static str,
    /// The tokens, by id.
    pub(super) tokens: Vec<String>,
    /// 1 normal, 3 control, 4 user-defined, 5 unused.
    pub(super) kinds: Vec<i32>,
    /// The merges, as `left right`.
    pub(super) merges: Vec<String>,
    /// The token that begins every text.
    pub(super) begin: Option<u32>,
}

/// Reads it out of a tokenizer; only byte-level BPE split as by Llama 3 or Qwen 2 has this form.
pub(super) fn tokens(tokenizer: &Tokenizer, vocabulary: usize) -> Option<Tokens> {
    let json: Value = serde_json::from_str(&tokenizer.json()?).ok()?;
    let model = &json["model"];
    let splits = json["pre_tokenizer"]["pretokenizers"].as_array()?;
    let regex = splits.iter().find_map(|split| split["pattern"]["Regex"].as_str())?;
    let pre = match (regex, model["ignore_merges"].as_bool()) {
        (LLAMA3, Some(true)) => "llama-bpe",
        (QWEN2, Some(false) | None) => "qwen2",
        _ => return None,
    };
    if model["type"] != "BPE" || model["byte_fallback"] == true {
        return None;
    }
    let mut tokens = vec![String::new(); vocabulary];
    let mut kinds = vec![5; vocabulary];
    for (token, id) in model["vocab"].as_object()? {
        let id = usize::try_from(id.as_u64()?).ok().filter(|&id| id < vocabulary)?;
        tokens[id].clone_from(token);
        kinds[id] = 1;
    }
    for added in json["added_tokens"].as_array()? {
        let id = usize::try_from(added["id"].as_u64()?).ok().filter(|&id| id < vocabulary)?;
        added["content"].as_str()?.clone_into(&mut tokens[id]);
        kinds[id] = if added["special"] == true { 3 } else { 4 };
    }
    for (id, token) in tokens.iter_mut().enumerate().filter(|(_, token)| token.is_empty()) {
        *token = format!("[PAD{id}]");
    }
    let merge = |merge: &Value| match merge {
        Value::String(text) => Some(text.clone()),
        pair => Some(format!("{} {}", pair[0].as_str()?, pair[1].as_str()?)),
    };
    let merges = model["merges"].as_array()?.iter().map(merge).collect::<Option<_>>()?;
    let begin = tokenizer.encode("").ok()?.first().copied();
    Some(Tokens { pre, tokens, kinds, merges, begin })
}

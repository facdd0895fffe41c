//! `tokenizer.json` through the `tokenizers` crate, behind a wall: its panics are errors here.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::Deserialize;
use serde_json::Value;

use super::error::FormatError;
use super::json::syntax;

/// The longest `tokenizer.json` that is read.
pub(super) const LONGEST_FILE: u64 = 64 << 20;
/// The longest text that is encoded.
const LONGEST_TEXT: usize = 1 << 20;
/// How many times longer a tokenizer may make a text on its way. The library has no bound: forty
/// replacements of a letter by two, in a file of 4 kB, make a letter fill any memory, and an
/// allocation that fails is no panic that could be caught.
const MOST_GROWTH: usize = 256;

/// Text to token ids and back.
pub struct Tokenizer {
    file: String,
    inner: tokenizers::Tokenizer,
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        out.debug_struct("Tokenizer").field("file", &self.file).finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// Reads the bytes of a `tokenizer.json`; `file` is its name in messages.
    ///
    /// # Errors
    /// If they are none, or are too long.
    pub fn from_bytes(file: &str, bytes: &[u8]) -> Result<Self, FormatError> {
        let got = bytes.len() as u64;
        if got > LONGEST_FILE {
            let (file, what) = (file.into(), "the file");
            return Err(FormatError::TooLarge { file, what, limit: LONGEST_FILE, got });
        }
        // Asked first, as it is cheap; but what the text is, the library says in its own words.
        let growth = growth_of(file, bytes);
        if let Some(&most) = growth.as_ref().ok().filter(|&&most| most > MOST_GROWTH) {
            let (file, doing) = (file.into(), "cannot be used");
            let got = format!("expected texts to grow {MOST_GROWTH} times at most, got {most}");
            return Err(FormatError::Tokenizer { file, doing, got });
        }
        // transformers sets how texts are padded and cut at each call, and does neither unless it
        // is asked to; a file could pad a word to more tokens than there is memory.
        let read = || {
            let mut inner = tokenizers::Tokenizer::from_bytes(bytes)?;
            inner.with_padding(None);
            inner.with_truncation(None)?;
            Ok(inner)
        };
        let inner = guarded(file, "cannot be read", read)?;
        growth?;
        Ok(Self { file: file.into(), inner })
    }

    /// The tokenizer as the text of a `tokenizer.json`, if the library can write it.
    #[must_use]
    pub fn json(&self) -> Option<String> {
        guarded(&self.file, "cannot be written", || self.inner.to_string(false)).ok()
    }

    /// The token ids of a text, with the special tokens that the tokenizer adds to a text.
    ///
    /// # Errors
    /// If the text is longer than 1 MiB, or the tokenizer fails at it.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, FormatError> {
        if text.len() > LONGEST_TEXT {
            return Err(FormatError::TooLarge {
                file: self.file.clone(),
                what: "the text to encode",
                limit: LONGEST_TEXT as u64,
                got: text.len() as u64,
            });
        }
        let encode = || self.inner.encode(text, true);
        let encoding = guarded(&self.file, "cannot encode the text", encode)?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of token ids, without special tokens.
    ///
    /// # Errors
    /// If the tokenizer fails at them.
    pub fn decode(&self, ids: &[u32]) -> Result<String, FormatError> {
        guarded(&self.file, "cannot decode the tokens", || self.inner.decode(ids, true))
    }
}

/// The parts of a tokenizer that may make a text longer.
#[derive(Deserialize)]
struct Parts {
    normalizer: Option<Value>,
    post_processor: Option<Value>,
    decoder: Option<Value>,
}

/// How many times longer the parts of a file may make a text, all together.
fn growth_of(file: &str, bytes: &[u8]) -> Result<usize, FormatError> {
    let parts: Parts =
        serde_json::from_slice(bytes).map_err(|error| syntax(file, bytes, 0, &error))?;
    let parts = [parts.normalizer, parts.post_processor, parts.decoder];
    Ok(parts.iter().flatten().map(growth).fold(1, usize::saturating_mul))
}

/// The same of a step and the steps inside it.
fn growth(step: &Value) -> usize {
    let length = |value: &Value| value.as_str().map_or(0, str::len);
    let own = match step["type"].as_str() {
        Some("Replace") => {
            // An expression may match between any two letters.
            let content = length(&step["content"]);
            match length(&step["pattern"]["String"]) {
                0 => content + 1,
                pattern => content.div_ceil(pattern).max(1),
            }
        }
        Some("Prepend") => length(&step["prepend"]) + 1,
        Some("TemplateProcessing") => {
            let copies = |form: &Value| {
                let pieces = form.as_array().map_or(&[][..], Vec::as_slice);
                pieces.iter().filter(|piece| piece.get("Sequence").is_some()).count()
            };
            copies(&step["single"]).max(copies(&step["pair"])).max(1)
        }
        _ => 1,
    };
    let inner = ["normalizers", "processors", "decoders"].map(|name| step[name].as_array());
    inner.into_iter().flatten().flatten().map(growth).fold(own, usize::saturating_mul)
}

/// Runs a call into the crate and turns its errors and panics into ours.
fn guarded<T>(
    file: &str,
    doing: &'static str,
    call: impl FnOnce() -> tokenizers::Result<T>,
) -> Result<T, FormatError> {
    let error = |got: String| FormatError::Tokenizer { file: file.into(), doing, got };
    // The tokenizer is read-only behind these calls; a broken cache of it can only cost time.
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(inner)) => Err(error(inner.to_string().escape_debug().take(400).collect())),
        Err(_) => Err(error("the tokenizers library panicked at it".into())),
    }
}

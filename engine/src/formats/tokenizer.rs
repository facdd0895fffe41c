//! `tokenizer.json` through the `tokenizers` crate, behind a wall: its panics are errors here.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::error::FormatError;

/// The longest `tokenizer.json` that is read.
pub(super) const LONGEST_FILE: u64 = 64 << 20;
/// The longest text that is encoded.
const LONGEST_TEXT: usize = 1 << 20;

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
        let read = || tokenizers::Tokenizer::from_bytes(bytes);
        let inner = guarded(file, "cannot be read", read)?;
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

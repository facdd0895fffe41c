//! Metadata of a GGUF file: typed values, and what is asked of them.

use std::collections::BTreeMap;

use super::super::error::{FormatError, quoted};

/// A value of the metadata; texts are lent by the file.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value<'a> {
    /// Any of the integer types.
    Integer(i128),
    /// A 32-bit float.
    F32(f32),
    /// A 64-bit float.
    F64(f64),
    /// True or false.
    Bool(bool),
    /// A text.
    Text(&'a str),
    /// An array of texts.
    Texts(Vec<&'a str>),
    /// An array of numbers, as the file has them.
    Numbers {
        /// The number of their type.
        kind: u32,
        /// Their bytes.
        bytes: &'a [u8],
    },
}

impl Value<'_> {
    /// The value as messages show it.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Integer(value) => value.to_string(),
            Self::F32(value) => value.to_string(),
            Self::F64(value) => value.to_string(),
            Self::Bool(value) => value.to_string(),
            Self::Text(text) => quoted(text),
            Self::Texts(items) => format!("{} texts", items.len()),
            Self::Numbers { kind, bytes } => {
                format!("{} bytes of numbers of type {kind}", bytes.len())
            }
        }
    }
}

/// The metadata of a file, by key.
pub(super) struct Metadata<'a> {
    /// The file, for messages.
    pub(super) file: String,
    /// The values.
    pub(super) values: BTreeMap<&'a str, Value<'a>>,
}

impl<'a> Metadata<'a> {
    /// The value of a key.
    pub(super) fn get(&self, key: &str) -> Option<&Value<'a>> {
        self.values.get(key)
    }

    /// A text.
    pub(super) fn text(&self, key: &str) -> Result<Option<&'a str>, FormatError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong(key, "a text", other)),
        }
    }

    /// True or false.
    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>, FormatError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(other) => Err(self.wrong(key, "true or false", other)),
        }
    }

    /// A whole number.
    pub(super) fn count(&self, key: &str) -> Result<Option<usize>, FormatError> {
        match self.get(key) {
            None => Ok(None),
            Some(value @ Value::Integer(number)) => usize::try_from(*number)
                .map(Some)
                .map_err(|_| self.wrong(key, "a whole number", value)),
            Some(other) => Err(self.wrong(key, "a whole number", other)),
        }
    }

    /// A whole number that must be there.
    pub(super) fn need(&self, key: &str) -> Result<usize, FormatError> {
        self.count(key)?.ok_or_else(|| self.refused(key, "a whole number", "absent".into()))
    }

    /// A float of 32 bits, as the format stores those of a model.
    pub(super) fn float(&self, key: &str) -> Result<Option<f32>, FormatError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::F32(value)) => Ok(Some(*value)),
            Some(other) => Err(self.wrong(key, "a 32-bit float", other)),
        }
    }

    /// An array of texts.
    pub(super) fn texts(&self, key: &str) -> Result<Option<&[&'a str]>, FormatError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Texts(items)) => Ok(Some(items)),
            Some(other) => Err(self.wrong(key, "an array of texts", other)),
        }
    }

    /// An array of numbers of four bytes: type 5 integers, or type 6 floats.
    pub(super) fn words(&self, key: &str, wanted: u32) -> Result<Option<Vec<u32>>, FormatError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Numbers { kind, bytes }) if *kind == wanted => {
                let word = |w: &[u8]| u32::from_le_bytes([w[0], w[1], w[2], w[3]]);
                Ok(Some(bytes.chunks_exact(4).map(word).collect()))
            }
            Some(other) => Err(self.wrong(key, "an array of numbers of four bytes", other)),
        }
    }

    /// The refusal of a key for its value.
    pub(super) fn wrong(&self, key: &str, expected: &str, got: &Value) -> FormatError {
        self.refused(key, expected, got.shown())
    }

    /// The refusal of a key.
    pub(super) fn refused(
        &self,
        key: &str,
        expected: impl Into<String>,
        got: String,
    ) -> FormatError {
        let (file, field) = (self.file.clone(), key.into());
        FormatError::Config { file, field, expected: expected.into(), got }
    }

    /// The metadata without its long arrays, as JSON: what a manifest shows of the configuration.
    pub(super) fn json(&self) -> String {
        let entries = self.values.iter().map(|(key, value)| {
            let value = match value {
                Value::Integer(value) => serde_json::json!(value.to_string()),
                Value::F32(value) => serde_json::json!(value),
                Value::F64(value) => serde_json::json!(value),
                Value::Bool(value) => serde_json::json!(value),
                Value::Text(text) => serde_json::json!(text),
                array => serde_json::json!(array.shown()),
            };
            ((*key).to_owned(), value)
        });
        serde_json::Value::Object(entries.collect()).to_string()
    }
}

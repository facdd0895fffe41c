//! JSON in which no object names a key twice.
//!
//! Readers differ in which of two equal keys they believe; a file that two readers understand in
//! two ways is refused here, at any depth.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::error::{FormatError, quoted};

/// A JSON value without duplicate keys.
struct Unambiguous(Value);

impl<'de> Deserialize<'de> for Unambiguous {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Unambiguous;

    fn expecting(&self, out: &mut fmt::Formatter) -> fmt::Result {
        out.write_str("a JSON value")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Unambiguous, E> {
        Ok(Unambiguous(value.into()))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Unambiguous, E> {
        Ok(Unambiguous(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Unambiguous, E> {
        Ok(Unambiguous(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Unambiguous, E> {
        Ok(Unambiguous(value.into()))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Unambiguous, E> {
        Ok(Unambiguous(value.into()))
    }

    fn visit_unit<E: Error>(self) -> Result<Unambiguous, E> {
        Ok(Unambiguous(Value::Null))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Unambiguous, A::Error> {
        let mut values = Vec::new();
        while let Some(Unambiguous(value)) = items.next_element()? {
            values.push(value);
        }
        Ok(Unambiguous(Value::Array(values)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut items: A) -> Result<Unambiguous, A::Error> {
        let mut object = Map::new();
        while let Some(key) = items.next_key::<String>()? {
            let Unambiguous(value) = items.next_value()?;
            if object.contains_key(&key) {
                return Err(A::Error::custom(format!("duplicate key {}", quoted(&key))));
            }
            object.insert(key, value);
        }
        Ok(Unambiguous(Value::Object(object)))
    }
}

/// The object that a JSON text is, unless it names a key twice.
///
/// # Errors
/// Where the text is no such object.
pub fn object(file: &str, text: &[u8]) -> Result<Map<String, Value>, FormatError> {
    let error = |got| FormatError::Json { file: file.into(), offset: 0, got };
    match serde_json::from_slice(text) {
        Ok(Unambiguous(Value::Object(object))) => Ok(object),
        Ok(_) => Err(error("expected a JSON object".into())),
        Err(parse) => Err(syntax(file, text, 0, &parse)),
    }
}

/// The error of a JSON text that begins at byte `start` of its file.
pub(super) fn syntax(
    file: &str,
    text: &[u8],
    start: u64,
    parse: &serde_json::Error,
) -> FormatError {
    let line = text.split_inclusive(|&byte| byte == b'\n').take(parse.line().saturating_sub(1));
    let before: usize = line.map(<[u8]>::len).sum();
    let offset = start + (before + parse.column().saturating_sub(1)) as u64;
    // The parser quotes strings of the file as they are; escaped, they cannot break a line.
    let got = parse.to_string().chars().flat_map(escaped).take(400).collect();
    FormatError::Json { file: file.into(), offset, got }
}

fn escaped(letter: char) -> Vec<char> {
    if letter.is_control() { letter.escape_default().collect() } else { vec![letter] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unambiguous_object_is_read_as_it_is() {
        let text = br#"{"a": [1, -2, 0.5, true, null, "x"], "b": {"a": 1e-05}}"#;
        let value = Value::Object(object("f", text).expect("unambiguous"));
        assert_eq!(value, serde_json::from_slice::<Value>(text).expect("JSON"));
    }

    #[test]
    fn a_key_named_twice_is_refused_at_any_depth() {
        for text in [r#"{"a":1,"a":1}"#, r#"{"b":[{"a":1,"\u0061":2}]}"#] {
            let message = object("f.json", text.as_bytes()).expect_err("ambiguous").to_string();
            assert!(message.contains("f.json") && message.contains("duplicate key \"a\""));
        }
    }

    #[test]
    fn text_that_is_no_object_is_refused_with_its_place() {
        assert!(matches!(object("f", b"[1]"), Err(FormatError::Json { .. })));
        let Err(FormatError::Json { offset, .. }) = object("f", b"{\n\"a\": x}") else {
            panic!("x is no value")
        };
        assert_eq!(offset, 7);
        let deep = "[".repeat(100_000);
        assert!(object("f", deep.as_bytes()).is_err());
    }
}

//! JSON Lines: one sample a line, unknown and duplicate keys refused.

use engine::formats::{FormatError, Tokenizer, json_object};
use ndarray::Array2;
use serde_json::{Map, Value};

use super::{Content, Kind, Sample};
use crate::failure::Failure;

const KEYS: [&str; 5] = ["input_ids", "text", "inputs_embeds", "label", "classes"];

/// The samples with their places.
pub(super) fn parse(
    name: &str,
    bytes: &[u8],
    tokenizer: Option<&Tokenizer>,
) -> Result<(Vec<(Sample, String)>, Kind), Failure> {
    let mut samples = Vec::new();
    let mut kinds = Vec::new();
    for (index, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let place = format!("line {}", index + 1);
        let label = format!("{name}: {place}");
        let object = json_object(&label, line).map_err(|error| syntax(&label, error))?;
        let (sample, kind) = sample(&object, tokenizer)
            .map_err(|why| Failure::refused(format!("{label}: {why}")).help(EXAMPLE))?;
        samples.push((sample, place));
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    let kind = match kinds[..] {
        [kind] => kind,
        _ => Kind::Mixed,
    };
    Ok((samples, kind))
}

const EXAMPLE: &str = "a line such as {\"input_ids\": [1, 2, 3], \"label\": 4}";

/// Text that is no JSON object. The parser counts lines within this one only, so that its line is
/// left out.
fn syntax(label: &str, error: FormatError) -> Failure {
    let what = match error {
        FormatError::Json { offset, got, .. } => {
            let got = got.rsplit_once(" at line ").map_or(got.as_str(), |(got, _)| got);
            format!("{label}: at byte {offset}: {got}")
        }
        other => other.to_string(),
    };
    Failure::refused(what).help(EXAMPLE)
}

fn sample(
    object: &Map<String, Value>,
    tokenizer: Option<&Tokenizer>,
) -> Result<(Sample, Kind), String> {
    if let Some(key) = object.keys().find(|key| !KEYS.contains(&key.as_str())) {
        return Err(format!("unknown key {key:?}, expected one of {KEYS:?}"));
    }
    let (content, kind) = content(object, tokenizer)?;
    let label = object.get("label").filter(|value| !value.is_null());
    let label = label.map(|value| id(value, "label")).transpose()?;
    let classes = match object.get("classes") {
        None | Some(Value::Null) => Vec::new(),
        Some(value) => ids(value, "classes")?.into_iter().map(|id| id as usize).collect(),
    };
    Ok((Sample { content, label, classes }, kind))
}

fn content(
    object: &Map<String, Value>,
    tokenizer: Option<&Tokenizer>,
) -> Result<(Content, Kind), String> {
    if let Some(value) = object.get("input_ids") {
        return Ok((Content::Ids(ids(value, "input_ids")?), Kind::Ids));
    }
    if let Some(value) = object.get("inputs_embeds") {
        return Ok((Content::Embeddings(rows(value)?), Kind::Embeddings));
    }
    let Some(value) = object.get("text") else {
        return Err("expected input_ids, text or inputs_embeds".into());
    };
    let text = value.as_str().ok_or("text is expected to be a string")?;
    let tokenizer = tokenizer.ok_or("text needs a tokenizer.json in the checkpoint")?;
    let ids = tokenizer.encode(text).map_err(|error| error.to_string())?;
    Ok((Content::Ids(ids), Kind::Text))
}

fn ids(value: &Value, what: &str) -> Result<Vec<u32>, String> {
    let list = value.as_array().ok_or_else(|| format!("{what} is expected to be a list"))?;
    list.iter().map(|value| id(value, what)).collect()
}

fn id(value: &Value, what: &str) -> Result<u32, String> {
    let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
    number.ok_or_else(|| format!("{what}: {value} is no token id"))
}

fn rows(value: &Value) -> Result<Array2<f32>, String> {
    let bad = || "inputs_embeds is expected to be a list of equally long lists of numbers";
    let lists = value.as_array().ok_or_else(bad)?;
    let width = lists.first().and_then(Value::as_array).map_or(0, Vec::len);
    let mut values = Vec::with_capacity(lists.len() * width);
    for list in lists {
        let list = list.as_array().filter(|list| list.len() == width).ok_or_else(bad)?;
        for value in list {
            values.push(value.as_f64().ok_or_else(bad)? as f32);
        }
    }
    if width == 0 {
        return Err(bad().into());
    }
    Array2::from_shape_vec((lists.len(), width), values).map_err(|error| error.to_string())
}

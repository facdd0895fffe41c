//! The tensor files of a checkpoint, opened, checked and looked up by tensor name.
//!
//! Invariants: a name of an index is a single plain file name, so no index leads out of its folder;
//! every tensor lies in exactly the file that the index names; our header scan and the
//! `safetensors` crate agree on every tensor.

use std::collections::{BTreeMap, BTreeSet};

use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use super::error::{FormatError, quoted};
use super::json;
use super::safetensors_header::{Extent, scan};
use super::source::{Bytes, Source};

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// The longest index that is read.
const LONGEST_INDEX: u64 = 100_000_000;
/// The most files of a checkpoint.
const MOST_SHARDS: usize = 10_000;

/// A file of tensors, checked.
pub(super) struct Shard<'a> {
    file: String,
    bytes: Bytes<'a>,
    extents: BTreeMap<String, Extent>,
}

/// A tensor in its file.
#[derive(Clone, Debug)]
pub(super) struct Tensor<'a> {
    /// Its name.
    pub(super) name: &'a str,
    /// The plain name of its file.
    pub(super) file: &'a str,
    /// The file as messages name it.
    pub(super) label: String,
    /// The type of its elements.
    pub(super) dtype: Dtype,
    /// Its shape.
    pub(super) shape: &'a [usize],
    /// Its first byte, counted from the start of the file.
    pub(super) offset: u64,
    /// Its bytes.
    pub(super) data: &'a [u8],
    /// Those of its file, where this is a whole tensor of one.
    pub(super) all: Option<&'a Bytes<'a>>,
}

impl Tensor<'_> {
    /// Reads the bytes in order.
    pub(super) fn pass(&self, mut read: impl FnMut(&[u8])) {
        match self.all {
            Some(all) => all.pass(self.data, read),
            None => read(self.data),
        }
    }

    /// Says that the bytes will not be wanted for a while.
    pub(super) fn release(&self) {
        if let Some(all) = self.all {
            all.release(self.data);
        }
    }
}

/// Opens the tensor files; the second result are warnings.
pub(super) fn open<'a>(
    source: &'a Source,
    mmap: bool,
) -> Result<(Vec<Shard<'a>>, Vec<String>), FormatError> {
    let mut warnings = Vec::new();
    if let Some(bytes) = source.read(SINGLE, u64::MAX, mmap)? {
        if source.has(INDEX) {
            warnings.push(format!("{INDEX} is ignored beside {SINGLE}, as transformers does"));
        }
        return Ok((vec![shard(source, SINGLE, bytes)?], warnings));
    }
    let index = source.need(INDEX, LONGEST_INDEX, false).map_err(|error| match error {
        FormatError::MissingFile { folder, .. } => {
            FormatError::MissingFile { file: format!("{SINGLE} (or {INDEX})"), folder }
        }
        other => other,
    })?;
    let map = weight_map(source, &index)?;
    let files: BTreeSet<&str> = map.values().map(String::as_str).collect();
    if files.len() > MOST_SHARDS {
        return Err(FormatError::Config {
            file: source.label(INDEX),
            field: "weight_map".into(),
            expected: format!("at most {MOST_SHARDS} files"),
            got: files.len().to_string(),
        });
    }
    let mut shards = Vec::with_capacity(files.len());
    for file in files {
        shards.push(shard(source, file, source.need(file, u64::MAX, mmap)?)?);
    }
    agree(source, &map, &shards)?;
    Ok((shards, warnings))
}

fn shard<'a>(source: &Source, file: &str, bytes: Bytes<'a>) -> Result<Shard<'a>, FormatError> {
    let extents = scan(&source.label(file), &bytes)?;
    Ok(Shard { file: file.into(), bytes, extents })
}

/// Which file has which tensor, as the index says.
fn weight_map(source: &Source, text: &[u8]) -> Result<BTreeMap<String, String>, FormatError> {
    let file = source.label(INDEX);
    let mut object = json::object(&file, text)?;
    let Some(Value::Object(map)) = object.remove("weight_map") else {
        return Err(FormatError::Config {
            file,
            field: "weight_map".into(),
            expected: "an object from tensors to files".into(),
            got: "none".into(),
        });
    };
    let mut files = BTreeMap::new();
    for (tensor, value) in map {
        match value.as_str() {
            Some(name) if plain(name) => {
                files.insert(tensor, name.to_owned());
            }
            _ => {
                let expected = "a single plain file name ending in .safetensors".into();
                let got = quoted(value.as_str().unwrap_or(&value.to_string()));
                return Err(FormatError::Entry { file, tensor, expected, got });
            }
        }
    }
    Ok(files)
}

/// Whether a name is a single file name on every platform: no separator, drive, or parent.
fn plain(name: &str) -> bool {
    let letters = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | ' ' | '+' | '=');
    name.len() <= 255
        && name.ends_with(".safetensors")
        && !name.starts_with(['.', ' '])
        && name.chars().all(letters)
}

/// Every tensor lies in the file that the index names, and in no other.
fn agree(
    source: &Source,
    map: &BTreeMap<String, String>,
    shards: &[Shard],
) -> Result<(), FormatError> {
    for shard in shards {
        for tensor in shard.extents.keys() {
            let named = map.get(tensor);
            if named != Some(&shard.file) {
                let named = named.map_or("no file".into(), |name| quoted(name));
                return Err(FormatError::Entry {
                    file: source.label(&shard.file),
                    tensor: tensor.clone(),
                    expected: format!("the tensor in the file that {INDEX} names"),
                    got: format!("{INDEX} names {named}"),
                });
            }
        }
    }
    for (tensor, file) in map {
        let has = |shard: &Shard| shard.file == *file && shard.extents.contains_key(tensor);
        if !shards.iter().any(has) {
            return Err(FormatError::Entry {
                file: source.label(INDEX),
                tensor: tensor.clone(),
                expected: format!("the tensor in {}", quoted(file)),
                got: "none of that name there".into(),
            });
        }
    }
    Ok(())
}

/// All tensors by name.
pub(super) fn tensors<'a>(
    source: &Source,
    shards: &'a [Shard],
) -> Result<BTreeMap<&'a str, Tensor<'a>>, FormatError> {
    let mut all = BTreeMap::new();
    for shard in shards {
        let label = source.label(&shard.file);
        let crate_view = SafeTensors::deserialize(&shard.bytes).map_err(|error| {
            let (file, expected) = (label.clone(), "a safetensors file".into());
            FormatError::Container { file, offset: 0, expected, got: error.to_string() }
        })?;
        for (name, extent) in &shard.extents {
            let view = crate_view.tensor(name).ok();
            let same = view.filter(|view| {
                view.dtype() == extent.dtype
                    && view.shape() == extent.shape
                    && std::ptr::eq(view.data(), &raw const shard.bytes[extent.begin..extent.end])
            });
            let Some(view) = same else {
                return Err(FormatError::Entry {
                    file: label,
                    tensor: name.clone(),
                    expected: "one reading of the header".into(),
                    got: "two".into(),
                });
            };
            let tensor = Tensor {
                name,
                file: &shard.file,
                label: label.clone(),
                dtype: extent.dtype,
                shape: &extent.shape,
                offset: extent.begin as u64,
                data: view.data(),
                all: Some(&shard.bytes),
            };
            all.insert(name.as_str(), tensor);
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_single_plain_names_are_files_of_a_checkpoint() {
        assert!(plain("model-00001-of-00002.safetensors") && plain("weights.safetensors"));
        let bad = [
            "../model.safetensors",
            "a/b.safetensors",
            "a\\b.safetensors",
            "C:model.safetensors",
            "/etc/x.safetensors",
            "..safetensors",
            ".safetensors",
            "model\0.safetensors",
            "model.bin",
            "config.json",
            "",
        ];
        for name in bad {
            assert!(!plain(name), "{name:?}");
        }
    }
}

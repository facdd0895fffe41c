//! A checkpoint in parts, to be changed and written again, with a header of any making.

use std::collections::BTreeMap;

use engine::formats::{FormatError, LoadOptions, Loaded, Source, load};
use safetensors::SafeTensors;
use serde_json::{Value, json};

use crate::reference::path;

/// A tensor in parts.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Part {
    pub(crate) dtype: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) data: Vec<u8>,
}

/// A checkpoint in parts.
#[derive(Clone, Debug)]
pub(crate) struct Checkpoint {
    pub(crate) config: Value,
    pub(crate) tensors: BTreeMap<String, Part>,
}

impl Checkpoint {
    /// A reference model in parts.
    pub(crate) fn of(model: &str) -> Self {
        let folder = path("models").join(model);
        let config = std::fs::read(folder.join("config.json")).expect("a configuration");
        let file = std::fs::read(folder.join("model.safetensors")).expect("tensors");
        let views = SafeTensors::deserialize(&file).expect("sound tensors");
        let part = |(name, view): (String, safetensors::tensor::TensorView)| {
            let (dtype, shape) = (view.dtype().to_string(), view.shape().to_vec());
            (name, Part { dtype, shape, data: view.data().to_vec() })
        };
        let tensors = views.tensors().into_iter().map(part).collect();
        Self { config: serde_json::from_slice(&config).expect("JSON"), tensors }
    }

    /// A tensor, to change it.
    pub(crate) fn part(&mut self, name: &str) -> &mut Part {
        self.tensors.get_mut(name).expect("a tensor of that name")
    }

    /// The files, with one file of tensors.
    pub(crate) fn files(&self) -> Vec<(String, Vec<u8>)> {
        vec![
            ("config.json".into(), self.config.to_string().into_bytes()),
            ("model.safetensors".into(), file(&self.tensors)),
        ]
    }

    /// Loads it out of memory.
    pub(crate) fn load(&self) -> Result<Loaded, FormatError> {
        load_files(self.files())
    }
}

/// Loads files out of memory.
pub(crate) fn load_files(files: Vec<(String, Vec<u8>)>) -> Result<Loaded, FormatError> {
    load(&Source::memory("made", files), &LoadOptions::default())
}

/// A safetensors file of parts.
pub(crate) fn file(tensors: &BTreeMap<String, Part>) -> Vec<u8> {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, part) in tensors {
        let begin = data.len();
        data.extend_from_slice(&part.data);
        let offsets = [begin, data.len()];
        header.insert(
            name.clone(),
            json!({"dtype": part.dtype, "shape": part.shape, "data_offsets": offsets}),
        );
    }
    framed(&Value::Object(header).to_string(), &data)
}

/// A safetensors file of a header as text and of data.
pub(crate) fn framed(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(data);
    bytes
}

/// Files of a checkpoint split over two shards and an index.
pub(crate) fn sharded(checkpoint: &Checkpoint) -> Vec<(String, Vec<u8>)> {
    let names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    let (mut shards, mut map) = ([BTreeMap::new(), BTreeMap::new()], serde_json::Map::new());
    for (index, (name, part)) in checkpoint.tensors.iter().enumerate() {
        shards[index % 2].insert(name.clone(), part.clone());
        map.insert(name.clone(), names[index % 2].into());
    }
    let index = json!({"metadata": {"total_size": 0}, "weight_map": map}).to_string();
    vec![
        ("config.json".into(), checkpoint.config.to_string().into_bytes()),
        ("model.safetensors.index.json".into(), index.into_bytes()),
        (names[0].into(), file(&shards[0])),
        (names[1].into(), file(&shards[1])),
    ]
}

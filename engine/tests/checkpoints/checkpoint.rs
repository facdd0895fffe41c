//! A checkpoint in parts, to be changed and written again, with a header of any making.

use std::collections::BTreeMap;

use engine::formats::{FormatError, LoadOptions, Loaded, Source, load};
use engine::packing::{HfRows, weight_of};
use half::{bf16, f16};
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

/// The message of a refusal, which must name each of `parts`.
pub(crate) fn refused<T>(result: Result<T, FormatError>, parts: &[&str]) -> FormatError {
    let Err(error) = result else { panic!("accepted; expected an error with {parts:?}") };
    let message = error.to_string();
    for part in parts {
        assert!(message.contains(part), "no {part:?} in: {message}");
    }
    assert!(message.len() < 2000 && !message.contains(char::is_control), "{message:?}");
    error
}

/// A model of a few hundred bytes, so that every place of its file can be broken.
pub(crate) fn tiny() -> Checkpoint {
    let config = json!({
        "model_type": "llama", "hidden_size": 4, "intermediate_size": 4, "vocab_size": 4,
        "num_hidden_layers": 1, "num_attention_heads": 2, "tie_word_embeddings": true,
        "quantization_config": {"quant_method": "bitnet"},
    });
    let mut checkpoint = Checkpoint { config, tensors: Default::default() };
    let mut put = |name: &str, dtype: &str, shape: &[usize], data: Vec<u8>| {
        let part = Part { dtype: dtype.into(), shape: shape.to_vec(), data };
        checkpoint.tensors.insert(name.into(), part);
    };
    let ones = |count: usize| [0x80, 0x3f].repeat(count);
    put("model.embed_tokens.weight", "BF16", &[4, 4], ones(16));
    put("model.norm.weight", "BF16", &[4], ones(4));
    for norm in ["input_layernorm", "post_attention_layernorm"] {
        put(&format!("model.layers.0.{norm}.weight"), "BF16", &[4], ones(4));
    }
    for slot in engine::model::Slot::ALL {
        let name = engine::formats::linear_name(0, slot);
        put(&format!("{name}.weight"), "U8", &[1, 4], vec![0x01, 0x66, 0x99, 0xa4]);
        put(&format!("{name}.weight_scale"), "BF16", &[1], ones(1));
    }
    checkpoint
}

/// The names of the weights of all linear layers.
pub(crate) fn linear_names(checkpoint: &Checkpoint) -> Vec<String> {
    let names = checkpoint.tensors.keys();
    names.filter(|name| name.ends_with("_proj.weight")).cloned().collect()
}

/// The weights of a packed tensor, one f32 an element.
pub(crate) fn unpack(part: &Part) -> (Vec<usize>, Vec<f32>) {
    let (rows, columns) = (4 * part.shape[0], part.shape[1]);
    let layout = HfRows::new(rows, columns).expect("whole quarters");
    let mut codes = vec![0; columns];
    let mut weights = Vec::new();
    for row in 0..rows {
        layout.read_row(&part.data, row, &mut codes);
        weights.extend(codes.iter().map(|&code| weight_of(code) as f32));
    }
    (vec![rows, columns], weights)
}

/// Values as bytes of a type.
pub(crate) fn encoded(dtype: &str, values: &[f32]) -> Vec<u8> {
    let one = |&value: &f32| match dtype {
        "F32" => value.to_le_bytes().to_vec(),
        "F16" => f16::from_f32(value).to_le_bytes().to_vec(),
        "BF16" => bf16::from_f32(value).to_le_bytes().to_vec(),
        "I8" => vec![value as i8 as u8],
        other => panic!("no such type here: {other}"),
    };
    values.iter().flat_map(one).collect()
}

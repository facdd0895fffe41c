//! The tensors of a random checkpoint in the order of their file, and the header that names them.

use engine::formats::{EMBEDDING, linear_name, norm_name};
use engine::model::{Config, NormSlot, Slot};
use serde_json::{Map, Value, json};

/// What is drawn for a tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Content {
    /// bf16 embeddings.
    Embedding,
    /// bf16 gains near 1.
    Gains,
    /// Ternary weights, four to a byte.
    Packed,
    /// One bf16 scale.
    Scale(f32),
}

/// A tensor.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tensor {
    /// Its name.
    pub(super) name: String,
    /// Its shape in the file.
    pub(super) shape: Vec<usize>,
    /// What is drawn for it.
    pub(super) content: Content,
}

impl Tensor {
    fn dtype(&self) -> (&'static str, u64) {
        match self.content {
            Content::Packed => ("U8", 1),
            Content::Embedding | Content::Gains | Content::Scale(_) => ("BF16", 2),
        }
    }

    /// Its length in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.dtype().1 * self.shape.iter().map(|&width| width as u64).product::<u64>()
    }
}

/// All tensors, in the order of the file.
pub(super) fn tensors(config: &Config) -> Vec<Tensor> {
    let (hidden, ffn) = (config.hidden, config.ffn);
    let (query, kv) = (config.query_width(), config.kv_width());
    let norm = |layer, slot, width| Tensor {
        name: norm_name(layer, slot),
        shape: vec![width],
        content: Content::Gains,
    };
    let mut all = vec![Tensor {
        name: EMBEDDING.into(),
        shape: vec![config.vocabulary, hidden],
        content: Content::Embedding,
    }];
    for layer in 0..config.layers {
        all.push(norm(layer, NormSlot::Input, hidden));
        all.push(norm(layer, NormSlot::AttentionSub, query));
        all.push(norm(layer, NormSlot::Post, hidden));
        all.push(norm(layer, NormSlot::FfnSub, ffn));
        for slot in Slot::ALL {
            let (outputs, inputs) = match slot {
                Slot::Q => (query, hidden),
                Slot::K | Slot::V => (kv, hidden),
                Slot::O => (hidden, query),
                Slot::Gate | Slot::Up => (ffn, hidden),
                Slot::Down => (hidden, ffn),
            };
            all.extend(linear(&linear_name(layer, slot), outputs, inputs));
        }
    }
    all.push(norm(0, NormSlot::Final, hidden));
    all
}

/// The weights of a linear layer, and the scale under which outputs keep the size of inputs.
fn linear(name: &str, outputs: usize, inputs: usize) -> [Tensor; 2] {
    let scale = (1.0 / (inputs as f64).sqrt()) as f32;
    [
        Tensor {
            name: format!("{name}.weight"),
            shape: vec![outputs / 4, inputs],
            content: Content::Packed,
        },
        Tensor {
            name: format!("{name}.weight_scale"),
            shape: vec![1],
            content: Content::Scale(scale),
        },
    ]
}

/// The safetensors header, its length in front, padded so that the data are aligned.
pub(super) fn header(tensors: &[Tensor]) -> Vec<u8> {
    let mut entries = Map::new();
    let mut begin = 0;
    for tensor in tensors {
        let end = begin + tensor.bytes();
        let entry = json!({
            "dtype": tensor.dtype().0,
            "shape": tensor.shape,
            "data_offsets": [begin, end],
        });
        entries.insert(tensor.name.clone(), entry);
        begin = end;
    }
    let mut text = Value::Object(entries).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    let mut header = (text.len() as u64).to_le_bytes().to_vec();
    header.extend(text);
    header
}

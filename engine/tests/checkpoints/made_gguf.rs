//! GGUF files in parts, to be changed and written again, and a sound one to be bent.

use std::sync::LazyLock;

use engine::formats::write::{Form, files};
use engine::formats::{FormatError, LoadOptions, Loaded, Source, load};
use engine::model::random::{Style, random_model, small_config};
use engine::model::{FloatType, Gate, Slot};
use engine::packing::BlockType;
use half::f16;

/// A sound file of a BitNet of one layer of width 16, as the program itself writes it.
pub(crate) static SOUND: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut config = small_config(1, 16, 2, 1);
    config.gate = Gate::Silu;
    let style = Style { stored: FloatType::F32, ..Style::BITNET };
    let model = random_model(&config, style, 5);
    let (mut files, _) = files(&model, None, Form::GgufI2s).expect("it has this form");
    files.remove(0).bytes
});

/// Loads a file out of memory.
pub(crate) fn read(bytes: &[u8]) -> Result<Loaded, FormatError> {
    load(&Source::memory("made", [("model.gguf", bytes)]), &LoadOptions::default())
}

/// The name of each format by its number in files, if it has weights in blocks.
pub(crate) const BLOCKS: [(u32, BlockType); 8] = [
    (34, BlockType::Tq1),
    (35, BlockType::Tq2),
    (41, BlockType::Q1),
    (42, BlockType::Q2),
    (8, BlockType::Q8),
    (2, BlockType::Q4),
    (12, BlockType::Q4K),
    (14, BlockType::Q6K),
];
/// The numbers of the other formats.
pub(crate) const F32: u32 = 0;
pub(crate) const F16: u32 = 1;
pub(crate) const BF16: u32 = 30;
pub(crate) const I2S: u32 = 36;

/// A tensor of a file.
#[derive(Clone)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    /// Inputs first.
    pub(crate) dims: Vec<u64>,
    pub(crate) kind: u32,
    /// Where it says that it begins, if that is not where it does.
    pub(crate) offset: Option<u64>,
    pub(crate) data: Vec<u8>,
}

/// A file in parts.
#[derive(Clone)]
pub(crate) struct Gguf {
    /// Names, numbers of types, and values.
    pub(crate) keys: Vec<(String, u32, Vec<u8>)>,
    pub(crate) tensors: Vec<Tensor>,
    pub(crate) alignment: usize,
}

/// A text as a value.
pub(crate) fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

/// An array as a value.
pub(crate) fn items(kind: u32, count: u64, bytes: &[u8]) -> Vec<u8> {
    [&kind.to_le_bytes()[..], &count.to_le_bytes(), bytes].concat()
}

impl Gguf {
    /// A llama of one layer of width 256 with eight rows to most of its layers: the smallest that
    /// has whole blocks of every format, and tells the two that share a number. Its narrow layers
    /// are of the type `kind`.
    pub(crate) fn small(kind: u32) -> Self {
        Self::llama([256, 8, 4], [kind, F16, F16, F32], 32)
    }

    /// The same in at most 4 kB, but for Q6_K.
    pub(crate) fn least(kind: u32) -> Self {
        const TQ1: u32 = 34;
        let block = BLOCKS.into_iter().find(|(block, _)| *block == kind);
        match block.map(|(_, block)| block.weights() as u32) {
            // Narrower tensors of the two kinds that share a number are as long as each other.
            Some(256 | 64) => Self::llama([256, 2, 1], [kind, I2S, TQ1, BF16], 8),
            Some(hidden) => Self::llama([hidden, 2, 1], [kind, F16, F16, BF16], 8),
            None if kind == I2S => Self::llama([256, 2, 1], [kind, I2S, TQ1, BF16], 8),
            None => Self::llama([8, 2, 4], [kind; 4], 8),
        }
    }

    /// One in about 4 kB whose embeddings alone are of the type `kind`.
    pub(crate) fn embedded(kind: u32) -> Self {
        Self::llama([256, 2, 1], [I2S, I2S, kind, BF16], 8)
    }

    /// A llama of one layer: its width, the width of its head and its gate, and its vocabulary; the
    /// types of its narrow and wide layers, of its embeddings and of its norms; its alignment.
    fn llama([hidden, inner, words]: [u32; 3], kinds: [u32; 4], alignment: usize) -> Self {
        let mut file = Self { keys: Vec::new(), tensors: Vec::new(), alignment };
        file.key("general.architecture", 8, text("llama"));
        if alignment != 32 {
            file.key("general.alignment", 4, (alignment as u32).to_le_bytes());
        }
        let counts = [
            ("embedding_length", hidden),
            ("feed_forward_length", inner),
            ("block_count", 1),
            ("attention.head_count", 1),
            ("attention.head_count_kv", 1),
            ("attention.key_length", inner),
            ("attention.value_length", inner),
            ("rope.dimension_count", inner),
            ("context_length", 8),
            ("vocab_size", words),
        ];
        for (key, count) in counts {
            file.key(&format!("llama.{key}"), 4, count.to_le_bytes());
        }
        file.key("llama.attention.layer_norm_rms_epsilon", 6, 1e-5f32.to_le_bytes());
        file.key("llama.rope.freq_base", 6, 1e4f32.to_le_bytes());
        let [narrow, wide, floats, norms] = kinds;
        let (hidden, inner) = (u64::from(hidden), u64::from(inner));
        file.put("token_embd.weight", &[hidden, u64::from(words)], floats);
        for name in ["output_norm.weight", "blk.0.attn_norm.weight", "blk.0.ffn_norm.weight"] {
            file.put(name, &[hidden], norms);
        }
        for (slot, name) in Slot::ALL.into_iter().zip(LINEARS) {
            let out = matches!(slot, Slot::O | Slot::Down);
            let (dims, kind) =
                if out { ([inner, hidden], wide) } else { ([hidden, inner], narrow) };
            file.put(name, &dims, kind);
        }
        file
    }

    /// Sets a value.
    pub(crate) fn key(&mut self, name: &str, kind: u32, value: impl Into<Vec<u8>>) {
        self.keys.retain(|(key, ..)| key != name);
        self.keys.push((name.into(), kind, value.into()));
    }

    /// Adds a tensor of sound values.
    pub(crate) fn put(&mut self, name: &str, dims: &[u64], kind: u32) {
        let weights = dims.iter().product::<u64>() as usize;
        let (name, dims, data) = (name.into(), dims.to_vec(), values(kind, weights));
        self.tensors.push(Tensor { name, dims, kind, offset: None, data });
    }

    /// A tensor, to change it.
    pub(crate) fn tensor(&mut self, name: &str) -> &mut Tensor {
        self.tensors.iter_mut().find(|tensor| tensor.name == name).expect("a tensor of that name")
    }

    /// A file that is this one but for a change.
    pub(crate) fn with(&self, change: impl FnOnce(&mut Self)) -> Vec<u8> {
        let mut file = self.clone();
        change(&mut file);
        file.bytes()
    }

    /// The file.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend((self.tensors.len() as u64).to_le_bytes());
        bytes.extend((self.keys.len() as u64).to_le_bytes());
        for (name, kind, value) in &self.keys {
            bytes.extend(text(name));
            bytes.extend(kind.to_le_bytes());
            bytes.extend(value);
        }
        let mut data = Vec::new();
        for tensor in &self.tensors {
            bytes.extend(text(&tensor.name));
            bytes.extend((tensor.dims.len() as u32).to_le_bytes());
            bytes.extend(tensor.dims.iter().flat_map(|dim| dim.to_le_bytes()));
            bytes.extend(tensor.kind.to_le_bytes());
            bytes.extend(tensor.offset.unwrap_or(data.len() as u64).to_le_bytes());
            data.extend(&tensor.data);
            data.resize(data.len().next_multiple_of(self.alignment), 0);
        }
        bytes.resize(bytes.len().next_multiple_of(self.alignment), 0);
        bytes.extend(data);
        bytes
    }
}

/// The names of linear layers, in the order of their slots.
pub(crate) const LINEARS: [&str; 7] = [
    "blk.0.attn_q.weight",
    "blk.0.attn_k.weight",
    "blk.0.attn_v.weight",
    "blk.0.attn_output.weight",
    "blk.0.ffn_gate.weight",
    "blk.0.ffn_up.weight",
    "blk.0.ffn_down.weight",
];

/// Sound values of a type.
pub(crate) fn values(kind: u32, weights: usize) -> Vec<u8> {
    let value = |index: usize| [1.0f32, -0.5, 0.25][index % 3];
    match kind {
        F32 => (0..weights).flat_map(|index| value(index).to_le_bytes()).collect(),
        F16 => (0..weights).flat_map(|i| f16::from_f32(value(i)).to_le_bytes()).collect(),
        BF16 => (0..weights).flat_map(|i| half::bf16::from_f32(value(i)).to_le_bytes()).collect(),
        I2S => {
            // A scale of 0.5, and what is behind it.
            let mut data: Vec<u8> = (0..weights / 4).map(|i| [0x18, 0x61, 0x86][i % 3]).collect();
            data.extend(0.5f32.to_le_bytes());
            data.resize(data.len() + 28, 0);
            data
        }
        _ => {
            let (_, block) = BLOCKS.into_iter().find(|(id, _)| *id == kind).expect("a format");
            let one = |_| {
                let mut bytes = vec![0x21; block.bytes()];
                let at = block.scale_at();
                bytes[at..at + 2].copy_from_slice(&f16::from_f32(0.5).to_le_bytes());
                bytes
            };
            (0..weights / block.weights()).flat_map(one).collect()
        }
    }
}

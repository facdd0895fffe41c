//! Files in every format that is read, with odd contents, and their physically flipped twins.

use engine::formats::write::{Form, files};
use engine::formats::{FormatError, LoadOptions, Loaded, Source, UnusedCode, load};
use engine::kernels;
use engine::model::random::{Style, random_model, small_config};
use engine::model::{Activations, FloatType, KvKind, Model, Slot};
use engine::packing::BlockType;
use engine::walk::{self, Exact, Read};
use faults::{Fault, Faulty, Overlay, embed_with};
use half::f16;
use ndarray::Array2;
use serde_json::{Value, json};

use crate::made_gguf::{F32, Gguf, LINEARS, Tensor};
use crate::support::Lcg;

/// The block formats by their numbers in files.
pub(crate) const KINDS: [(u32, BlockType); 9] = [
    (34, BlockType::Tq1),
    (35, BlockType::Tq2),
    (41, BlockType::Q1),
    (42, BlockType::Q2),
    (42, BlockType::Q2Wide),
    (8, BlockType::Q8),
    (2, BlockType::Q4),
    (12, BlockType::Q4K),
    (14, BlockType::Q6K),
];

/// The scales of the blocks of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scaled {
    /// All alike.
    Alike,
    /// All alike but for one block of zeros, whose scale is 0, as writers leave it.
    ZeroBlock,
    /// Another for each block.
    Each,
}

/// The name of a linear layer of the first block in the file.
pub(crate) fn linear_name(slot: Slot) -> &'static str {
    LINEARS[slot as usize]
}

fn blocks(kind: BlockType, count: usize, scaled: Scaled, random: &mut Lcg) -> Vec<u8> {
    let mut data = Vec::new();
    for block in 0..count {
        let mut bytes: Vec<u8> = (0..kind.bytes()).map(|_| random.below(256) as u8).collect();
        let size = match scaled {
            Scaled::Each => 0.125 + random.below(64) as f32 / 64.0,
            Scaled::Alike | Scaled::ZeroBlock => 0.5,
        };
        let at = kind.scale_at();
        bytes[at..at + 2].copy_from_slice(&f16::from_f32(size / 64.0).to_le_bytes());
        if kind == BlockType::Q4K {
            bytes[2..4].copy_from_slice(&f16::from_f32(-size / 128.0).to_le_bytes());
        }
        if scaled == Scaled::ZeroBlock && block == 1 && kind.has_codes() && kind != BlockType::Q1 {
            bytes = kind.encode(&vec![1; kind.weights()], f16::ZERO);
        }
        data.extend(bytes);
    }
    data
}

/// A llama of one layer whose narrow layers are blocks of random bits; its embedding too, where
/// `embedded` says so.
pub(crate) fn gguf(
    (id, kind): (u32, BlockType),
    scaled: Scaled,
    embedded: bool,
    seed: u64,
) -> Gguf {
    let mut file =
        Gguf::small(if crate::made_gguf::BLOCKS.iter().any(|of| of.0 == id) { id } else { 8 });
    let random = &mut Lcg(seed);
    for tensor in &mut file.tensors {
        let weights: u64 = tensor.dims.iter().product();
        let narrow = tensor.dims[0] == 256 && LINEARS.contains(&tensor.name.as_str());
        let embedding = tensor.name == "token_embd.weight" && embedded;
        if narrow || embedding {
            tensor.kind = id;
            let count = weights as usize / kind.weights();
            tensor.data = blocks(kind, count, scaled, random);
        } else if tensor.kind == 1 {
            let value = |_| f16::from_f32(random.signed() / 4.0).to_le_bytes();
            tensor.data = (0..weights).flat_map(value).collect();
        }
    }
    file
}

/// The same with a scale beside the tensors of blocks, by which their outputs are multiplied.
pub(crate) fn with_factors(mut file: Gguf, factor: f32) -> Gguf {
    for slot in [Slot::Q, Slot::Gate, Slot::Up] {
        let name = linear_name(slot).trim_end_matches("weight").to_owned() + "scale";
        let (data, offset) = (factor.to_le_bytes().to_vec(), None);
        file.tensors.push(Tensor { name, dims: vec![1], kind: F32, offset, data });
    }
    file
}

/// Loads a file out of memory under a policy of activations.
pub(crate) fn read(bytes: Vec<u8>, policy: Activations) -> Result<Loaded, FormatError> {
    let source = Source::memory("made", [("model.gguf", bytes)]);
    let (activations, unused) = (Some(policy), UnusedCode::Deployed);
    load(&source, &LoadOptions { activations, unused, ..Default::default() })
}

/// A BitNet as a file of a form, whose every linear layer has whole blocks of 256.
pub(crate) fn bitnet(form: Form) -> Vec<u8> {
    let config = small_config(1, 256, 4, 2);
    let style = Style { stored: FloatType::F32, ..Style::BITNET };
    let (mut files, _) = files(&random_model(&config, style, 3), None, form).expect("a form");
    files.remove(0).bytes
}

/// The parts of a Hugging Face folder whose linear layers have a scale for each row: the
/// configuration, and the tensors by name with their types, shapes and bytes.
pub(crate) struct Folder {
    pub(crate) config: Vec<u8>,
    pub(crate) tensors: Vec<(String, String, Vec<usize>, Vec<u8>)>,
}

impl Folder {
    /// A small model, packed.
    pub(crate) fn packed() -> Self {
        let config = small_config(1, 16, 2, 1);
        let style = Style { stored: FloatType::F16, ..Style::BITNET };
        let model = random_model(&config, style, 5);
        let (files, _) = files(&model, None, Form::HfPacked).expect("a form");
        let file = |name| &files.iter().find(|file| file.name == name).expect("a file").bytes;
        let bytes = file("model.safetensors");
        let length = u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes")) as usize;
        let header: Value = serde_json::from_slice(&bytes[8..8 + length]).expect("JSON");
        let mut tensors = Vec::new();
        for (name, of) in header.as_object().expect("an object") {
            let Some(ends) = of["data_offsets"].as_array() else { continue };
            let end = |at: usize| 8 + length + ends[at].as_u64().expect("a number") as usize;
            let shape = of["shape"].as_array().expect("a shape").iter();
            let shape: Vec<usize> = shape.map(|n| n.as_u64().expect("a size") as usize).collect();
            let kind = of["dtype"].as_str().expect("a type").to_owned();
            tensors.push((name.clone(), kind, shape, bytes[end(0)..end(1)].to_vec()));
        }
        Self { config: file("config.json").clone(), tensors }
    }

    /// A small model with scales of rows of a type: F32 or F16.
    pub(crate) fn with_row_scales(dtype: &str) -> Self {
        Self::packed().under_row_scales(dtype)
    }

    /// The same with scales of rows instead of those of tensors.
    pub(crate) fn under_row_scales(mut self, dtype: &str) -> Self {
        let tensors = &mut self.tensors;
        let rows = |name: &str| {
            let weight = name.trim_end_matches("_scale");
            let found = tensors.iter().find(|(other, ..)| other == weight);
            let (_, kind, shape, _) = found.expect("its weights");
            if kind == "U8" { 4 * shape[0] } else { shape[0] }
        };
        let scales: Vec<(usize, usize)> = (tensors.iter().enumerate())
            .filter(|(_, (name, ..))| name.ends_with(".weight_scale"))
            .map(|(at, (name, ..))| (at, rows(name)))
            .collect();
        for (at, rows) in scales {
            let value = |row: usize| 0.125 + row as f32 / 64.0;
            tensors[at].1 = dtype.into();
            tensors[at].2 = vec![rows];
            tensors[at].3 = match dtype {
                "F16" => (0..rows).flat_map(|r| f16::from_f32(value(r)).to_le_bytes()).collect(),
                _ => (0..rows).flat_map(|row| value(row).to_le_bytes()).collect(),
            };
        }
        self
    }

    /// The same with one element of a type to a weight of its linear layers: masters, whose scales
    /// no file has, or weights that are ternary already.
    pub(crate) fn with_elements(mut self, dtype: &str, masters: bool) -> Self {
        let random = &mut Lcg(11);
        for (name, kind, shape, data) in &mut self.tensors {
            if kind != "U8" {
                continue;
            }
            assert!(name.ends_with(".weight"), "{name}");
            shape[0] *= 4;
            let mut element = || match masters {
                // Many near the borders at which they round otherwise, some zero.
                true => [2.0 * random.signed(), random.signed() / 4.0, 0.0][random.below(9) / 4],
                false => [-1.0, 0.0, -0.0, 1.0][random.below(4)],
            };
            *data = (0..shape[0] * shape[1]).flat_map(|_| encoded(dtype, element())).collect();
            *kind = dtype.into();
        }
        let mut config: Value = serde_json::from_slice(&self.config).expect("JSON");
        let quantization = &mut config["quantization_config"];
        quantization["linear_class"] = json!("autobitlinear");
        if masters {
            quantization["quantization_mode"] = json!("online");
            self.tensors.retain(|(name, ..)| !name.ends_with(".weight_scale"));
        }
        self.config = config.to_string().into_bytes();
        self
    }

    /// The same folder with one bit of a tensor flipped.
    pub(crate) fn flipped(&self, name: &str, byte: usize, bit: u8) -> Self {
        let mut twin = Self { config: self.config.clone(), tensors: self.tensors.clone() };
        twin.data(name)[byte] ^= 1 << bit;
        twin
    }

    /// The bytes of a tensor.
    pub(crate) fn data(&mut self, name: &str) -> &mut Vec<u8> {
        let found = self.tensors.iter_mut().find(|(other, ..)| other == name);
        &mut found.expect("a tensor of that name").3
    }

    /// Loads it out of memory.
    pub(crate) fn read(&self) -> Result<Loaded, FormatError> {
        let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
        for (name, dtype, shape, bytes) in &self.tensors {
            let begin = data.len();
            data.extend_from_slice(bytes);
            let of = json!({"dtype": dtype, "shape": shape, "data_offsets": [begin, data.len()]});
            header.insert(name.clone(), of);
        }
        let header = Value::Object(header).to_string();
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        let files = [("config.json", self.config.clone()), ("model.safetensors", bytes)];
        let unused = UnusedCode::Deployed;
        let options = LoadOptions { unused, elements: true, ..Default::default() };
        load(&Source::memory("made", files), &options)
    }
}

fn encoded(dtype: &str, value: f32) -> Vec<u8> {
    match dtype {
        "I8" => vec![value as i8 as u8],
        "F16" => f16::from_f32(value).to_le_bytes().to_vec(),
        "BF16" => half::bf16::from_f32(value).to_le_bytes().to_vec(),
        _ => value.to_le_bytes().to_vec(),
    }
}

const IDS: [u32; 3] = [1, 3, 2];

/// The logits of a model.
pub(crate) fn clean(model: &Model) -> Array2<f32> {
    let mut exact = Exact::new(kernels::best(), model, KvKind::F32);
    let rows = model.embed(&IDS).expect("tokens of the vocabulary");
    walk::run(&mut exact, model, &rows, 0, 0, Read::All)
}

/// The logits of a model under a fault.
pub(crate) fn faulty(model: &Model, fault: &Fault) -> Array2<f32> {
    let overlay = Overlay::new(model, fault, faults::UnusedCode::Deployed);
    let mut domain = Faulty::new(Exact::new(kernels::best(), model, KvKind::F32), &overlay);
    let rows = embed_with(model, &IDS, &overlay).expect("tokens of the vocabulary");
    walk::run(&mut domain, model, &rows, 0, 0, Read::All)
}

//! What a checkpoint holds, tensor by tensor: for people who inspect it, and for whoever needs the
//! place of a bit in a file.

use std::collections::BTreeMap;

use super::shards::Tensor;
use crate::model::{Activations, Model};
use crate::packing::turned_row;

/// What a tensor is to the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TensorKind {
    /// Ternary weights, four to a byte.
    TernaryPacked,
    /// Ternary weights, one to an element.
    TernaryUnpacked,
    /// Float weights that become ternary when they are loaded.
    OnlineMaster,
    /// Float weights.
    Float,
    /// Weights in blocks under scales of their own.
    Blocks,
    /// The gains of a norm.
    Norm,
    /// The scale of ternary weights.
    Scale,
    /// Nothing: the model does not read it.
    Ignored,
}

impl TensorKind {
    /// The name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::TernaryPacked => "ternary_packed",
            Self::TernaryUnpacked => "ternary_unpacked",
            Self::OnlineMaster => "online_master",
            Self::Float => "float",
            Self::Blocks => "blocks",
            Self::Norm => "norm",
            Self::Scale => "scale",
            Self::Ignored => "ignored",
        }
    }
}

/// One tensor of a checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorEntry {
    /// Its name.
    pub name: String,
    /// The name under which the program knows it, where that is another.
    pub role: Option<String>,
    /// The type of its elements, as the file names it.
    pub dtype: String,
    /// Its shape in the file.
    pub shape: Vec<usize>,
    /// The plain name of its file.
    pub file: String,
    /// Its first byte, counted from the start of the file.
    pub offset: u64,
    /// Its length in bytes.
    pub bytes: u64,
    /// How many values it stands for.
    pub values: u64,
    /// What it is to the model.
    pub kind: TensorKind,
    /// For ternary weights: how many have each of the codes 0 to 3 (as stored, or as quantised).
    pub census: Option<[u64; 4]>,
    /// The share of zeros among the weights.
    pub zeros: Option<f64>,
    /// Whether all values are one value.
    pub constant: bool,
    /// The width of a head, where rows stand in the file for rotations of neighbours.
    pub turned: Option<usize>,
}

impl TensorEntry {
    /// The row of the file that is a row of the model.
    #[must_use]
    pub fn stored_row(&self, row: usize) -> usize {
        turned_row(row, self.turned)
    }
}

impl TensorEntry {
    /// An entry about whose values nothing is known yet.
    pub(super) fn of(tensor: &Tensor, kind: TensorKind) -> Self {
        let elements: u64 = tensor.shape.iter().map(|&width| width as u64).product();
        Self {
            name: tensor.name.to_owned(),
            role: None,
            dtype: tensor.dtype.to_string(),
            shape: tensor.shape.to_vec(),
            file: tensor.file.to_owned(),
            offset: tensor.offset,
            bytes: tensor.data.len() as u64,
            values: if kind == TensorKind::TernaryPacked { 4 * elements } else { elements },
            kind,
            census: None,
            zeros: None,
            constant: false,
            turned: None,
        }
    }

    /// The entry with what a census of ternary codes says.
    pub(super) fn with_census(mut self, census: [u64; 4]) -> Self {
        let total: u64 = census.iter().sum();
        self.census = Some(census);
        self.zeros = Some(census[1] as f64 / total as f64);
        self.constant = total > 1 && census.contains(&total);
        self
    }

    /// Whether the values are all zero.
    #[must_use]
    pub fn all_zero(&self) -> bool {
        self.zeros == Some(1.0)
    }
}

/// Everything that is known of a checkpoint beside its values.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// The name of the checkpoint.
    pub name: String,
    /// BLAKE3, in hexadecimal, of every tensor (sorted by name, however they are spread over files)
    /// and of `config.json`.
    pub digest: String,
    /// The tensors, sorted by name.
    pub tensors: Vec<TensorEntry>,
    /// What is odd, but no reason to refuse.
    pub warnings: Vec<String>,
    /// `config.json` as it is.
    pub config_text: String,
}

impl Manifest {
    /// The tensor of a name: its own, or that under which the program knows it.
    #[must_use]
    pub fn entry(&self, name: &str) -> Option<&TensorEntry> {
        match self.tensors.binary_search_by(|entry| entry.name.as_str().cmp(name)) {
            Ok(index) => self.tensors.get(index),
            Err(_) => self.tensors.iter().find(|entry| entry.role.as_deref() == Some(name)),
        }
    }
}

/// A digest in the making: every part is preceded by its length, so that no two checkpoints differ
/// in their borders only.
pub(super) struct Digest(blake3::Hasher);

impl Digest {
    pub(super) fn of(title: &[u8]) -> Self {
        let mut digest = Self(blake3::Hasher::new());
        digest.part(title);
        digest
    }

    pub(super) fn part(&mut self, bytes: &[u8]) {
        self.long_part(bytes.len(), |read| read(bytes));
    }

    /// A part that is read piece by piece.
    pub(super) fn long_part(&mut self, length: usize, pass: impl FnOnce(&mut dyn FnMut(&[u8]))) {
        self.0.update(&(length as u64).to_le_bytes());
        pass(&mut |bytes| {
            self.0.update(bytes);
        });
    }

    pub(super) fn hex(self) -> String {
        self.0.finalize().to_hex().to_string()
    }
}

/// The digest of a checkpoint.
pub(super) fn digest(tensors: &BTreeMap<&str, Tensor>, config: &[u8]) -> String {
    let mut digest = Digest::of(b"bitnet-certify checkpoint 1");
    digest.part(&(tensors.len() as u64).to_le_bytes());
    for (name, tensor) in tensors {
        let shape = tensor.shape.iter().flat_map(|&d| (d as u64).to_le_bytes());
        digest.part(name.as_bytes());
        digest.part(tensor.dtype.to_string().as_bytes());
        digest.part(&shape.collect::<Vec<u8>>());
        digest.long_part(tensor.data.len(), |read| tensor.pass(read));
    }
    digest.part(config);
    digest.hex()
}

/// The digest of a model: that of its files, and what was said otherwise of its arithmetic.
pub(super) fn under(digest: String, model: &Model, usual: Activations) -> String {
    let policy = model.config.activations;
    if policy == usual {
        return digest;
    }
    said(&digest, policy.name())
}

/// The digest of a model of which something was said beside its files.
pub(super) fn said(digest: &str, word: &str) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in ["bitnet-certify arithmetic 1", digest, word] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

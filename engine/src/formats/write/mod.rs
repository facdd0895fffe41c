//! A model back into files: packed forms of Hugging Face and of GGUF.
//!
//! Codes, embeddings and gains are kept bit for bit. A scale is kept bit for bit too, be it of a
//! tensor or of a group, but for one case: `bitlinear` checkpoints hold its reciprocal, which GGUF
//! cannot say; there it is divided once. Invariant: a written checkpoint loads, and has the codes
//! of the one it came from.

mod gguf;
mod groups;
mod hugging_face;
mod tokens;

use std::fmt;

use super::Tokenizer;
use crate::model::{Activations, Float, FloatType, Linear, Model, Scale, Slot, Weights};
use crate::packing::TernaryRows;

/// The forms that are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A Hugging Face folder, four weights to a byte.
    HfPacked,
    /// GGUF, blocks of 256 weights in 66 bytes.
    GgufTq2,
    /// GGUF, blocks of 256 weights in 54 bytes.
    GgufTq1,
    /// GGUF of bitnet.cpp, four weights to a byte.
    GgufI2s,
    /// GGUF, blocks of 128 signs in 18 bytes, with float activations.
    GgufQ1,
    /// GGUF, blocks of 64 weights in 18 bytes, with float activations.
    GgufQ2,
}

impl Form {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::HfPacked, Self::GgufTq2, Self::GgufTq1, Self::GgufI2s, Self::GgufQ1, Self::GgufQ2];

    /// The name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::HfPacked => "hf-packed",
            Self::GgufTq2 => "gguf-tq2_0",
            Self::GgufTq1 => "gguf-tq1_0",
            Self::GgufI2s => "gguf-i2_s",
            Self::GgufQ1 => "gguf-q1_0",
            Self::GgufQ2 => "gguf-q2_0",
        }
    }

    /// The activations that readers of the form take by themselves.
    #[must_use]
    pub fn activations(self) -> Activations {
        match self {
            Self::GgufQ1 | Self::GgufQ2 => Activations::None,
            _ => Activations::PerTokenInt8,
        }
    }
}

/// Why a model has no such form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoForm {
    /// The part of the model.
    pub part: String,
    /// What the form needs there.
    pub expected: String,
    /// What it is.
    pub got: String,
}

impl fmt::Display for NoForm {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        write!(out, "{}: expected {}, got {}", self.part, self.expected, self.got)
    }
}

/// A file of a written checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its name within the folder; a GGUF checkpoint is one file.
    pub name: &'static str,
    /// What it holds.
    pub bytes: Vec<u8>,
}

/// The files of a model in a form, and what could not be carried over.
///
/// # Errors
/// The first part of the model that the form does not hold.
pub fn files(
    model: &Model,
    tokenizer: Option<&Tokenizer>,
    form: Form,
) -> Result<(Vec<File>, Vec<String>), NoForm> {
    match form {
        Form::HfPacked => hugging_face::files(model, tokenizer),
        _ => gguf::file(model, tokenizer, form),
    }
}

/// The codes and the scale of a linear layer.
fn ternary<'a>(linear: &'a Linear, name: &str) -> Result<(&'a TernaryRows, Scale), NoForm> {
    match &linear.weights {
        Weights::Ternary { rows, scale, .. } => Ok((rows, *scale)),
        Weights::Coded(coded) => Err(NoForm {
            part: name.into(),
            expected: "ternary weights under one scale".into(),
            got: format!("{} under scales of rows or groups", coded.kind()),
        }),
        Weights::Dense(float) => Err(NoForm {
            part: name.into(),
            expected: "ternary weights under one scale".into(),
            got: float.stored().map_or("blocks under scales of their own", FloatType::name).into(),
        }),
    }
}

/// The bytes of a float matrix and their type; blocks become f32.
fn float_bytes(float: &Float) -> (Vec<u8>, FloatType) {
    match float {
        Float::F32 { data, .. } => {
            (data.iter().flat_map(|value| value.to_le_bytes()).collect(), FloatType::F32)
        }
        Float::F16 { data, .. } => {
            (data.iter().flat_map(|bits| bits.to_le_bytes()).collect(), FloatType::F16)
        }
        Float::Bf16 { data, .. } => {
            (data.iter().flat_map(|bits| bits.to_le_bytes()).collect(), FloatType::Bf16)
        }
        Float::Blocks { columns, .. } => {
            let mut row = vec![0.0f32; *columns];
            let mut bytes = Vec::with_capacity(4 * float.rows() * columns);
            for index in 0..float.rows() {
                float.read_row(index, &mut row);
                bytes.extend(row.iter().flat_map(|value| value.to_le_bytes()));
            }
            (bytes, FloatType::F32)
        }
    }
}

/// Refuses activations that a reader of the form would not take by itself.
fn check(model: &Model, form: Form) -> Result<(), NoForm> {
    if model.coded_head.is_some() {
        return Err(NoForm {
            part: super::HEAD.into(),
            expected: "the head as it is stored (without the word head=int8)".into(),
            got: "int8 codes made at load".into(),
        });
    }
    for (index, layer) in model.layers.iter().enumerate() {
        for slot in Slot::ALL {
            let policy = layer.linear(slot).activations;
            if policy != form.activations() {
                let name = |policy: Activations| match policy {
                    Activations::None => "float activations".to_owned(),
                    Activations::PerTokenInt8 => "int8 codes per token".to_owned(),
                    _ => format!("activations {}", policy.name()),
                };
                let expected = name(form.activations());
                return Err(NoForm {
                    part: super::linear_name(index, slot),
                    expected: format!("{expected}, as readers of this form take them"),
                    got: name(policy),
                });
            }
        }
    }
    Ok(())
}

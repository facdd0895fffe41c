//! The tensor types of GGUF files: their numbers, sizes, and why some are refused.

use crate::packing::{BlockType, I2S_TAIL};

/// A type of tensor that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GgmlType {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
    /// Upper halves of 32-bit floats.
    Bf16,
    /// Ternary weights of a whole tensor under one scale, of bitnet.cpp.
    I2s,
    /// A block format.
    Blocks(BlockType),
}

impl GgmlType {
    /// The type of a number, or why there is none.
    pub(super) fn of(id: u32) -> Result<Self, String> {
        match id {
            0 => Ok(Self::F32),
            1 => Ok(Self::F16),
            30 => Ok(Self::Bf16),
            2 => Ok(Self::Blocks(BlockType::Q4)),
            8 => Ok(Self::Blocks(BlockType::Q8)),
            12 => Ok(Self::Blocks(BlockType::Q4K)),
            14 => Ok(Self::Blocks(BlockType::Q6K)),
            34 => Ok(Self::Blocks(BlockType::Tq1)),
            35 => Ok(Self::Blocks(BlockType::Tq2)),
            36 => Ok(Self::I2s),
            41 => Ok(Self::Blocks(BlockType::Q1)),
            42 => Ok(Self::Blocks(BlockType::Q2)),
            _ => Err(refusal(id)),
        }
    }

    /// The name in files and reports.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::I2s => "I2_S",
            Self::Blocks(kind) => kind.name(),
        }
    }

    /// How many weights stand in a block of a row; only `I2_S` runs across rows.
    pub(super) fn block(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 | Self::I2s => 1,
            Self::Blocks(kind) => kind.weights(),
        }
    }

    /// The bytes of a tensor of so many weights, which are whole blocks.
    pub(super) fn bytes(self, weights: u64) -> Option<u64> {
        match self {
            Self::F32 => weights.checked_mul(4),
            Self::F16 | Self::Bf16 => weights.checked_mul(2),
            Self::I2s => (weights / 4).checked_add(I2S_TAIL as u64),
            Self::Blocks(kind) => {
                (weights / kind.weights() as u64).checked_mul(kind.bytes() as u64)
            }
        }
    }
}

/// Why a number is not read, for messages.
fn refusal(id: u32) -> String {
    let why = match id {
        3 | 6 | 7 | 9 | 10 | 11 | 13 | 15 => "another quantisation of llama.cpp",
        16..=23 | 29 => "a codebook quantisation of llama.cpp",
        24..=28 => "plain integers or doubles",
        38 => "TL1 of bitnet.cpp: tables made for one processor",
        39 => "TL2 of bitnet.cpp, or MXFP4",
        40 => "NVFP4",
        142 | 143 => "weights turned by a Hadamard matrix, which activations must follow",
        _ => "not known",
    };
    format!("type {id} ({why})")
}

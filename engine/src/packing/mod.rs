//! Packed ternary weights: how they lie in memory, and how they lie in files.
//!
//! [`TernaryRows`] is the engine's own layout, made once at load for the kernels; [`Layout`] is
//! that of the file, where a bit has its address. A flipped bit of a file is a changed code of a
//! row; the two meet in `(row, column)` and nowhere else. [`BlockType`] decodes the block formats
//! of GGUF files, whose values can be floats too.

mod blocks;
mod coded;
mod ends;
mod hf;
mod layout;
mod parts;
mod signs;
mod ternary;

pub use blocks::BlockType;
pub use coded::CodedRows;
pub use hf::{BitPlace, HfRows};
pub(crate) use layout::turned_row;
pub use layout::{I2S_TAIL, I2sRuns, Layout};
pub use parts::{BlockShape, Part};
pub use ternary::{RUN_ROWS, TernaryRows};

/// The code of the weight 0.
pub const ZERO_CODE: u8 = 1;
/// The code that no quantiser writes; today's readers compute with +2.
pub const UNUSED_CODE: u8 = 3;

/// The weight that a 2-bit code stands for: -1, 0, +1, and +2 for the unused code.
#[must_use]
pub fn weight_of(code: u8) -> i32 {
    i32::from(code & 3) - 1
}

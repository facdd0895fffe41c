//! Packed ternary weights: how they lie in memory, and how they lie in files.
//!
//! [`TernaryRows`] is the engine's own layout, made once at load for the kernels; [`HfRows`] is the
//! layout of the file, where a bit has its address. A flipped bit of a file is a changed code of a
//! row; the two layouts meet in `(row, column)` and nowhere else.

mod hf;
mod ternary;

pub use hf::{BitPlace, HfRows};
pub use ternary::TernaryRows;

/// The code of the weight 0.
pub const ZERO_CODE: u8 = 1;
/// The code that no quantiser writes; today's readers compute with +2.
pub const UNUSED_CODE: u8 = 3;

/// The weight that a 2-bit code stands for: -1, 0, +1, and +2 for the unused code.
#[must_use]
pub fn weight_of(code: u8) -> i32 {
    i32::from(code & 3) - 1
}

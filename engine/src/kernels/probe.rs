//! What the processor can do at most: small loops that do nothing else, for benchmarks.

use super::Kernels;

/// `fn(rounds)`: runs so many rounds of int8 products in registers, and returns how many operations
/// that were (a product and its addition are two).
pub type Products = fn(u64) -> u64;

/// The peak of int8 products of a table's instruction set, where it has such products.
#[must_use]
pub fn products(kernels: &Kernels) -> Option<Products> {
    match kernels.name {
        #[cfg(target_arch = "x86_64")]
        "avx512" => Some(super::avx512::peak),
        #[cfg(target_arch = "x86_64")]
        "avx2" => Some(super::avx2::peak),
        _ => None,
    }
}

/// Reads every word once, in the widest way of the table's instruction set.
#[must_use]
pub fn read(kernels: &Kernels, words: &[u64]) -> u64 {
    match kernels.name {
        #[cfg(target_arch = "x86_64")]
        "avx512" => super::avx512::read(words),
        _ => words.iter().fold(0, |all, word| all ^ word),
    }
}

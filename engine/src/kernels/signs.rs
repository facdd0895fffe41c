//! Rows of signs under scales of groups of columns, as a kernel reads them.

use super::{BLOCK_BYTES, GROUP_ROWS};

/// Columns of a block of signs.
pub const SIGN_COLUMNS: usize = 32;

/// The widest group of columns whose sums fit while they are 128 times as large as they are.
pub const WIDEST_SIGNS: usize = 100_000;

/// Groups of 16 packed rows of signs, whose columns are summed in groups of whole blocks, each sum
/// under a scale.
#[derive(Clone, Copy, Debug)]
pub struct Signs<'a> {
    /// Packed groups of rows.
    pub packed: &'a [u8],
    /// The scales of 16 rows for each group of columns, for each group of rows.
    pub scales: &'a [[f32; GROUP_ROWS]],
    /// Groups of columns.
    pub groups: usize,
}

impl Signs<'_> {
    /// Groups of rows, and columns of a group of columns.
    ///
    /// # Panics
    /// Unless there is a scale for every row and whole blocks for every group.
    pub(super) fn shape(&self) -> (usize, usize) {
        assert!(self.scales.len().is_multiple_of(self.groups), "a scale for each group");
        let rows = self.scales.len() / self.groups;
        let blocks = self.packed.len() / BLOCK_BYTES / self.scales.len();
        assert!(self.packed.len() == self.scales.len() * blocks * BLOCK_BYTES, "whole blocks");
        assert!(blocks > 0 && blocks * SIGN_COLUMNS <= WIDEST_SIGNS, "sums that fit");
        (rows, blocks * SIGN_COLUMNS)
    }
}

/// Whole blocks of signs as ternary codes: of each block its first 16 columns, then the others.
///
/// # Panics
/// Unless there is room for twice as many blocks.
#[inline(always)]
pub(super) fn expand(signs: &[u8], out: &mut [u8]) {
    assert_eq!(out.len(), 2 * signs.len(), "twice as many blocks");
    let outs = out.as_chunks_mut::<{ 2 * BLOCK_BYTES }>().0;
    for (block, out) in signs.as_chunks::<BLOCK_BYTES>().0.iter().zip(outs) {
        for i in 0..BLOCK_BYTES {
            out[i] = codes_of(block[i] & 15);
        }
        for i in 0..BLOCK_BYTES {
            out[BLOCK_BYTES + i] = codes_of(block[i] >> 4);
        }
    }
}

/// The ternary codes of four signs: 2 for +1 and 0 for -1.
#[inline(always)]
fn codes_of(signs: u8) -> u8 {
    let apart = (signs | signs << 2) & 0x33;
    ((apart | apart << 1) & 0x55) << 1
}

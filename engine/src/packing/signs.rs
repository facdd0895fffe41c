//! Rows of signs, a bit each: weight +1 where the bit is set, else -1.
//!
//! | bits | hold |
//! |---|---|
//! | byte `64 b + 4 r + j` of group `g`, bit `q` | row `16 g + r`, column `32 b + 4 q + j` |
//!
//! A block is one 64-byte register, as of ternary weights, with twice as many columns. Rows are
//! padded to groups of 16 with -1.

use std::ops::Range;

use rayon::prelude::*;

use crate::kernels::{BLOCK_BYTES, GROUP_ROWS, Kernels, Lines, SIGN_COLUMNS};

/// A matrix of signs in the kernels' layout; its columns are whole blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SignRows {
    /// Blocks of a row.
    blocks: usize,
    data: Lines,
}

impl SignRows {
    /// Packs rows of so many columns, which lie `padded` apart, of weights -1 and +1.
    pub(super) fn pack(weights: &[i8], padded: usize, columns: usize) -> Self {
        let (rows, blocks) = (weights.len() / padded, columns / SIGN_COLUMNS);
        let mut data = Lines::filled(0, rows.div_ceil(GROUP_ROWS) * blocks);
        let groups = data.par_chunks_exact_mut(blocks * BLOCK_BYTES);
        groups.zip(weights.par_chunks(GROUP_ROWS * padded)).for_each(|(group, rows)| {
            for (lane, row) in rows.chunks_exact(padded).enumerate() {
                for (column, &weight) in row[..columns].iter().enumerate() {
                    let (at, bit) = place(lane, column);
                    group[at] |= u8::from(weight > 0) << bit;
                }
            }
        });
        Self { blocks, data }
    }

    /// The weights of a row.
    pub(super) fn row(&self, row: usize) -> Vec<i8> {
        let group = self.groups(row / GROUP_ROWS..row / GROUP_ROWS + 1);
        let weight = |column| {
            let (at, bit) = place(row % GROUP_ROWS, column);
            2 * ((group[at] >> bit) & 1) as i8 - 1
        };
        (0..self.blocks * SIGN_COLUMNS).map(weight).collect()
    }

    /// The packed bytes of some groups of rows.
    pub(super) fn groups(&self, groups: Range<usize>) -> &[u8] {
        let bytes = self.blocks * BLOCK_BYTES;
        &self.data[groups.start * bytes..groups.end * bytes]
    }

    /// Writes some blocks of groups of rows as ternary codes, group behind group.
    pub(super) fn expand(
        &self,
        kernels: &Kernels,
        groups: Range<usize>,
        blocks: Range<usize>,
        out: &mut Vec<u8>,
    ) {
        let bytes = blocks.start * BLOCK_BYTES..blocks.end * BLOCK_BYTES;
        out.resize(groups.len() * 2 * bytes.len(), 0);
        let groups = self.groups(groups).chunks_exact(self.blocks * BLOCK_BYTES);
        for (group, out) in groups.zip(out.chunks_exact_mut(2 * bytes.len())) {
            (kernels.expand_signs)(&group[bytes.clone()], out);
        }
    }
}

/// The byte within a group and the bit of the byte of (row of the group, column).
fn place(lane: usize, column: usize) -> (usize, usize) {
    let within = column % SIGN_COLUMNS;
    (column / SIGN_COLUMNS * BLOCK_BYTES + lane * 4 + within % 4, within / 4)
}

//! Integer weights, a byte each, whose products with integer activations are summed in groups.
//!
//! Rows lie behind one another, each padded with zeros to whole runs of [`RUN`] columns. Invariant:
//! no sum of a group overflows 32 bits, whatever the activations are; so sums are exact, and their
//! order is free.

use rayon::prelude::*;

use crate::kernels::Kernels;

/// Rows are padded to a multiple of so many columns.
const RUN: usize = 64;

/// An integer matrix `[rows, columns]` whose columns are summed in groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodedRows {
    rows: usize,
    columns: usize,
    group: usize,
    largest: i32,
    data: Vec<i8>,
}

impl CodedRows {
    /// The codes that `code_row(row, buffer)` writes, in groups of `group` columns.
    ///
    /// # Panics
    /// If there are no rows or columns, a row is not whole groups, or a sum could overflow.
    #[must_use]
    pub fn pack(
        (rows, columns): (usize, usize),
        group: usize,
        code_row: impl Fn(usize, &mut [i8]) + Sync,
    ) -> Self {
        assert!(rows > 0 && columns > 0, "a matrix has rows and columns");
        assert!(group > 0 && columns.is_multiple_of(group), "rows of whole groups");
        let padded = columns.div_ceil(RUN) * RUN;
        let mut data = vec![0i8; rows * padded];
        data.par_chunks_exact_mut(padded)
            .enumerate()
            .for_each(|(row, codes)| code_row(row, &mut codes[..columns]));
        let largest = data.par_iter().map(|&code| i32::from(code).abs()).max().unwrap_or(0);
        let most = largest as usize * 128 * group;
        assert!(most < 1 << 31, "sums of {group} products with codes up to {largest}");
        Self { rows, columns, group, largest, data }
    }

    /// The number of output rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The number of input columns.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Columns that are summed together.
    #[must_use]
    pub fn group(&self) -> usize {
        self.group
    }

    /// Sums of a row.
    #[must_use]
    pub fn groups(&self) -> usize {
        self.columns / self.group
    }

    /// A bound of the magnitude of every sum, whatever the activations are.
    #[must_use]
    pub fn most(&self) -> i32 {
        self.largest * 128 * self.group as i32
    }

    /// The codes of one row.
    #[must_use]
    pub fn row(&self, row: usize) -> &[i8] {
        let padded = self.data.len() / self.rows;
        &self.data[row * padded..row * padded + self.columns]
    }

    /// The exact sums of rows `first..` with the codes of each token, as many rows as `out` has
    /// room for: `[row][token][group]`. Token rows may be padded.
    pub fn product(
        &self,
        kernels: &Kernels,
        (tokens, codes): (usize, &[i8]),
        first: usize,
        out: &mut [i32],
    ) {
        let (stride, groups) = (codes.len() / tokens, self.groups());
        for (index, out) in out.chunks_exact_mut(tokens * groups).enumerate() {
            let row = self.row(first + index);
            for (q, out) in codes.chunks_exact(stride).zip(out.chunks_exact_mut(groups)) {
                let parts = row.chunks_exact(self.group).zip(q.chunks_exact(self.group));
                for (sum, (row, q)) in out.iter_mut().zip(parts) {
                    *sum = (kernels.dot_codes)(row, q);
                }
            }
        }
    }

    /// The least and the largest sum of each group of a row, over all codes from `lower` to
    /// `lower + width`.
    pub fn ends(&self, row: usize, lower: &[i8], width: &[u8], out: &mut [(i32, i32)]) {
        let inputs = lower.chunks_exact(self.group).zip(width.chunks_exact(self.group));
        for ((ends, row), (lower, width)) in
            out.iter_mut().zip(self.row(row).chunks_exact(self.group)).zip(inputs)
        {
            let (mut low, mut high) = (0i32, 0i32);
            for ((&c, &q), &width) in row.iter().zip(lower).zip(width) {
                let (c, q, width) = (i32::from(c), i32::from(q), i32::from(width));
                low += c * q + c.min(0) * width;
                high += c * q + c.max(0) * width;
            }
            *ends = (low, high);
        }
    }
}

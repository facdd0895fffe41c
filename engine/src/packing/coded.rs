//! Integer weights whose products with integer activations are summed in groups of columns.
//!
//! | codes | held as |
//! |---|---|
//! | -1 and 1, in groups of whole blocks of 32 | a bit each |
//! | -1 to 2, in groups of whole blocks of 16 | one packed ternary matrix a group of columns |
//! | others | a byte each, rows behind one another, padded with zeros to whole runs of [`RUN`] |
//!
//! Invariant: no sum of a group overflows 32 bits, whatever the activations are; so sums are exact,
//! and their order is free.

use std::ops::Range;

use rayon::prelude::*;

use super::TernaryRows;
use super::signs::SignRows;
use super::weight_of;
use crate::kernels::{BLOCK_BYTES, BLOCK_COLUMNS, GROUP_ROWS, Kernels, SIGN_COLUMNS, WIDEST_SIGNS};

/// Rows of bytes are padded to a multiple of so many columns.
const RUN: usize = 64;

/// An integer matrix `[rows, columns]` whose columns are summed in groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodedRows {
    rows: usize,
    columns: usize,
    group: usize,
    largest: i32,
    form: Form,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Form {
    Bytes(Vec<i8>),
    Signs(SignRows),
    /// One matrix a group.
    Packed(Vec<TernaryRows>),
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
        let few = data.par_iter().all(|code| (-1..=2).contains(code));
        let signs = group.is_multiple_of(SIGN_COLUMNS) && group <= WIDEST_SIGNS && {
            let rows = data.par_chunks_exact(padded).map(|row| &row[..columns]);
            rows.all(|row| row.iter().all(|code| code.unsigned_abs() == 1))
        };
        let form = if signs {
            Form::Signs(SignRows::pack(&data, padded, columns))
        } else if few && group.is_multiple_of(BLOCK_COLUMNS) {
            let part = |index: usize| {
                TernaryRows::pack(rows, group, |row, codes| {
                    let values = &data[row * padded + index * group..][..group];
                    codes.iter_mut().zip(values).for_each(|(code, &w)| *code = (w + 1) as u8);
                })
            };
            Form::Packed((0..columns / group).map(part).collect())
        } else {
            Form::Bytes(data)
        };
        Self { rows, columns, group, largest, form }
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
    pub fn row(&self, row: usize) -> Vec<i8> {
        match &self.form {
            Form::Bytes(data) => bytes_of(data, self.rows, row)[..self.columns].to_vec(),
            Form::Signs(signs) => signs.row(row),
            Form::Packed(parts) => {
                let codes = parts.iter().flat_map(|part| part.row(row));
                codes.map(|code| weight_of(code) as i8).collect()
            }
        }
    }

    /// The packed signs of some groups of 16 rows, if all weights are signs.
    pub(crate) fn signs(&self, groups: Range<usize>) -> Option<&[u8]> {
        match &self.form {
            Form::Signs(signs) => Some(signs.groups(groups)),
            Form::Bytes(_) | Form::Packed(_) => None,
        }
    }

    /// The exact sums of some rows with the codes of each token, group by group in rising order:
    /// `take(group, sums)`, where [`TernaryRows::at`] finds the sum of a token and a row, counted
    /// from the first. Token rows may be padded.
    ///
    /// # Panics
    /// If the first row is not the first of 16, or there are no such rows.
    pub fn sums(
        &self,
        kernels: &Kernels,
        (tokens, codes): (usize, &[i8]),
        rows: Range<usize>,
        mut take: impl FnMut(usize, &[i32]),
    ) {
        assert!(rows.start.is_multiple_of(GROUP_ROWS) && rows.end <= self.rows, "{rows:?}");
        let stride = codes.len() / tokens;
        let groups = rows.start / GROUP_ROWS..rows.end.div_ceil(GROUP_ROWS);
        let mut sums = vec![0; groups.len() * tokens * GROUP_ROWS];
        let (mut gathered, mut expanded) = (Vec::new(), Vec::new());
        let mut of_tokens = vec![0; tokens];
        for group in 0..self.groups() {
            let columns = group * self.group..(group + 1) * self.group;
            match &self.form {
                Form::Signs(signs) => {
                    let each = self.group / SIGN_COLUMNS;
                    let blocks = group * each..(group + 1) * each;
                    signs.expand(kernels, groups.clone(), blocks, &mut expanded);
                    gather(codes, stride, columns, &mut gathered);
                    let bytes = 2 * each * BLOCK_BYTES;
                    (kernels.ternary_groups)(&expanded, bytes, &gathered, &mut sums);
                }
                Form::Packed(parts) if tokens == 1 => {
                    parts[group].some(kernels, groups.clone(), &codes[columns], &mut sums);
                }
                Form::Packed(parts) => {
                    gather(codes, stride, columns, &mut gathered);
                    parts[group].some(kernels, groups.clone(), &gathered, &mut sums);
                }
                Form::Bytes(data) => {
                    let codes = &codes[columns.start..];
                    for (index, row) in rows.clone().enumerate() {
                        let weights = &bytes_of(data, self.rows, row)[columns.clone()];
                        if tokens == 1 {
                            sums[index] = (kernels.dot_codes)(weights, &codes[..self.group]);
                            continue;
                        }
                        (kernels.dots_codes)(weights, (codes, stride), &mut of_tokens);
                        for (token, &sum) in of_tokens.iter().enumerate() {
                            sums[TernaryRows::at(tokens, token, index)] = sum;
                        }
                    }
                }
            }
            take(group, &sums);
        }
    }

    /// The least and the largest sum of each group of a row with these codes, over all inputs from
    /// `lower` to `lower + width`.
    pub fn ends(&self, row: &[i8], lower: &[i8], width: &[u8], out: &mut [(i32, i32)]) {
        let inputs = lower.chunks_exact(self.group).zip(width.chunks_exact(self.group));
        for ((ends, row), (lower, width)) in
            out.iter_mut().zip(row.chunks_exact(self.group)).zip(inputs)
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

/// Some columns of token rows, one row behind the other.
fn gather(codes: &[i8], stride: usize, columns: Range<usize>, out: &mut Vec<i8>) {
    out.clear();
    codes.chunks_exact(stride).for_each(|row| out.extend_from_slice(&row[columns.clone()]));
}

/// A padded row of bytes.
fn bytes_of(data: &[i8], rows: usize, row: usize) -> &[i8] {
    let padded = data.len() / rows;
    &data[row * padded..(row + 1) * padded]
}

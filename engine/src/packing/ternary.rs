//! The engine's own layout of ternary weights: groups of 16 rows, blocks of 16 columns.
//!
//! | bits | hold |
//! |---|---|
//! | byte `64 b + 4 r + j` of group `g`, bits `2 q + 1 : 2 q` | the code of row `16 g + r`, column `16 b + 4 q + j` |
//!
//! A block is one 64-byte register: lane `r` holds four columns of row `r` in each quarter `q`,
//! which is the shape that an int8 dot-product instruction takes. Rows and columns are padded with
//! code 1 (weight 0). Invariant: padding never changes a sum.

use rayon::prelude::*;

use super::ZERO_CODE;
use super::ends::{Beside, Memory};
use crate::kernels::{BLOCK_BYTES, BLOCK_COLUMNS, GROUP_ROWS, Kernels, Lines};

/// A byte of four zero weights.
const ZERO_BYTE: u8 = 0x55;

/// Groups that one task multiplies: enough that what is done once for all of them costs little, and
/// few enough that they stay in the second cache.
const TOGETHER: usize = 16;

/// Rows of the groups that one task multiplies.
pub const RUN_ROWS: usize = TOGETHER * GROUP_ROWS;

/// Below this many multiplications a product runs on the calling thread.
const PARALLEL_WORK: usize = 1 << 21;

/// A ternary matrix `[rows, columns]` in the kernels' layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TernaryRows {
    rows: usize,
    columns: usize,
    data: Lines,
}

impl TernaryRows {
    /// Packs the codes (`weight + 1`, two bits) that `code_row(row, buffer)` writes.
    ///
    /// # Panics
    /// If there are no rows or no columns.
    #[must_use]
    pub fn pack(rows: usize, columns: usize, code_row: impl Fn(usize, &mut [u8]) + Sync) -> Self {
        assert!(rows > 0 && columns > 0, "a matrix has rows and columns");
        let blocks = columns.div_ceil(BLOCK_COLUMNS);
        let group_bytes = blocks * BLOCK_BYTES;
        let mut data = Lines::filled(ZERO_BYTE, rows.div_ceil(GROUP_ROWS) * blocks);
        data.par_chunks_exact_mut(group_bytes).enumerate().for_each(|(index, group)| {
            let first = index * GROUP_ROWS;
            let mut codes = vec![0u8; columns];
            for lane in 0..GROUP_ROWS.min(rows - first) {
                code_row(first + lane, &mut codes);
                write_lane(group, lane, &codes);
            }
        });
        Self { rows, columns, data }
    }

    /// One row from its codes.
    #[must_use]
    pub fn single(codes: &[u8]) -> Self {
        let mut data = Lines::filled(ZERO_BYTE, codes.len().div_ceil(BLOCK_COLUMNS));
        write_lane(&mut data, 0, codes);
        Self { rows: 1, columns: codes.len(), data }
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

    /// The width of an operand row: the columns padded to whole blocks.
    #[must_use]
    pub fn padded_columns(&self) -> usize {
        self.columns.div_ceil(BLOCK_COLUMNS) * BLOCK_COLUMNS
    }

    /// The packed bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.data.len()
    }

    fn group_bytes(&self) -> usize {
        self.padded_columns() / BLOCK_COLUMNS * BLOCK_BYTES
    }

    /// The packed groups of [`GROUP_ROWS`] rows, in order: what the kernels read.
    pub fn groups(&self) -> std::slice::ChunksExact<'_, u8> {
        self.data.chunks_exact(self.group_bytes())
    }

    /// The code of one weight.
    ///
    /// # Panics
    /// If the place lies outside the matrix.
    #[must_use]
    pub fn code(&self, row: usize, column: usize) -> u8 {
        assert!(row < self.rows && column < self.columns, "({row}, {column}) is outside");
        let (at, shift) = place(row % GROUP_ROWS, column);
        (self.data[row / GROUP_ROWS * self.group_bytes() + at] >> shift) & 3
    }

    /// The codes of one row.
    #[must_use]
    pub fn row(&self, row: usize) -> Vec<u8> {
        let mut codes = vec![0; self.columns];
        self.read_row(row, &mut codes);
        codes
    }

    /// Reads the codes of one row.
    ///
    /// # Panics
    /// If there is no such row or `codes` is not as wide.
    pub fn read_row(&self, row: usize, codes: &mut [u8]) {
        assert!(row < self.rows && codes.len() == self.columns, "a row of this matrix");
        let start = row / GROUP_ROWS * self.group_bytes();
        let group = &self.data[start..start + self.group_bytes()];
        let lane = 4 * (row % GROUP_ROWS);
        for (block, codes) in group.chunks_exact(BLOCK_BYTES).zip(codes.chunks_mut(BLOCK_COLUMNS)) {
            let bytes = &block[lane..lane + 4];
            for (column, code) in codes.iter_mut().enumerate() {
                *code = (bytes[column % 4] >> (2 * (column / 4))) & 3;
            }
        }
    }

    /// How many weights have each of the four codes.
    #[must_use]
    pub fn census(&self) -> [u64; 4] {
        let count = |row: usize| {
            let mut counts = [0u64; 4];
            self.row(row).into_iter().for_each(|code| counts[usize::from(code)] += 1);
            counts
        };
        let add = |a: [u64; 4], b: [u64; 4]| [a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3]];
        (0..self.rows).into_par_iter().map(count).reduce(|| [0; 4], add)
    }

    /// The exact sums `sum w q` for int8 token rows, each padded to `padded_columns`.
    ///
    /// The result is `[groups][tokens][16]`: [`Self::at`] finds an entry.
    #[must_use]
    pub fn product(&self, kernels: &Kernels, codes: &[i8]) -> Vec<i32> {
        let tokens = codes.len() / self.padded_columns();
        let mut out = vec![0i32; self.data.len() / self.group_bytes() * tokens * GROUP_ROWS];
        let group_bytes = self.group_bytes();
        let (bytes, results) = (TOGETHER * group_bytes, TOGETHER * tokens * GROUP_ROWS);
        let multiply = |(groups, out): (&[u8], &mut [i32])| {
            (kernels.ternary_groups)(groups, group_bytes, codes, out);
        };
        if self.rows * codes.len() < PARALLEL_WORK {
            self.data.chunks(bytes).zip(out.chunks_mut(results)).for_each(multiply);
        } else {
            self.data.par_chunks(bytes).zip(out.par_chunks_mut(results)).for_each(multiply);
        }
        out
    }

    /// The part of [`Self::product`] that some of [`Self::groups`] give.
    ///
    /// # Panics
    /// If there are no such groups, or `out` has not room for just their results.
    pub fn some(
        &self,
        kernels: &Kernels,
        groups: std::ops::Range<usize>,
        codes: &[i8],
        out: &mut [i32],
    ) {
        let bytes = self.group_bytes();
        assert_eq!(out.len() * self.padded_columns(), groups.len() * GROUP_ROWS * codes.len());
        let packed = &self.data[groups.start * bytes..groups.end * bytes];
        (kernels.ternary_groups)(packed, bytes, codes, out);
    }

    /// [`Self::product`] by runs of [`RUN_ROWS`] rows: `take(sums, out)` gets those of each run,
    /// while a cache still has them, and the item of `outs` that belongs to it.
    ///
    /// # Panics
    /// Unless there is an item for each run.
    pub fn product_by_run<T: Send>(
        &self,
        kernels: &Kernels,
        codes: &[i8],
        outs: Vec<T>,
        take: impl Fn(&[i32], T) + Sync,
    ) {
        let tokens = codes.len() / self.padded_columns();
        let group_bytes = self.group_bytes();
        let runs = self.data.chunks(TOGETHER * group_bytes);
        assert_eq!(outs.len(), runs.len(), "an item for each run");
        let memory = Memory::default();
        let run = |(groups, out): (&[u8], T)| {
            let mut sums = memory.lend();
            sums.resize(groups.len() / group_bytes * tokens * GROUP_ROWS, 0);
            (kernels.ternary_groups)(groups, group_bytes, codes, &mut sums);
            take(&sums, out);
            memory.take_back(sums);
        };
        if self.rows * codes.len() < PARALLEL_WORK {
            runs.zip(outs).for_each(run);
        } else {
            self.data.par_chunks(TOGETHER * group_bytes).zip(outs).for_each(run);
        }
    }

    /// The least and the greatest sums of token rows of codes from `lower` to `lower + width`, by
    /// runs of [`RUN_ROWS`] rows: `take((least, greatest), out)` gets those of each run, in the
    /// layout of [`Self::product`], and the item of `outs` that belongs to it.
    ///
    /// # Panics
    /// Unless there is an item for each run, and a width for each code.
    pub fn ends_by_run<T: Send>(
        &self,
        kernels: &Kernels,
        (lower, widths): (&[i8], &[u8]),
        outs: Vec<T>,
        take: impl Fn((&mut [i32], &mut [i32]), T) + Sync,
    ) {
        assert_eq!(lower.len(), widths.len(), "a width for each code");
        let tokens = lower.len() / self.padded_columns();
        let group_bytes = self.group_bytes();
        let runs = self.data.chunks(TOGETHER * group_bytes);
        assert_eq!(outs.len(), runs.len(), "an item for each run");
        let beside = Beside::of(kernels, (lower, widths), self.padded_columns());
        let base = beside.base(lower);
        let memory = Memory::default();
        let run = |(groups, out): (&[u8], T)| {
            let [mut least, mut greatest] = [memory.lend(), memory.lend()];
            least.resize(groups.len() / group_bytes * tokens * GROUP_ROWS, 0);
            (kernels.ternary_groups)(groups, group_bytes, base, &mut least);
            greatest.clear();
            greatest.extend_from_slice(&least);
            beside.add(kernels, (groups, group_bytes), &mut least, &mut greatest);
            take((&mut least, &mut greatest), out);
            [least, greatest].into_iter().for_each(|sums| memory.take_back(sums));
        };
        if self.rows * lower.len() < PARALLEL_WORK {
            runs.zip(outs).for_each(run);
        } else {
            self.data.par_chunks(TOGETHER * group_bytes).zip(outs).for_each(run);
        }
    }

    /// The index of the result for `token` and `row` among the results for `tokens` token rows.
    #[must_use]
    #[inline(always)]
    pub fn at(tokens: usize, token: usize, row: usize) -> usize {
        (row / GROUP_ROWS * tokens + token) * GROUP_ROWS + row % GROUP_ROWS
    }
}

/// The byte within a group and the shift within the byte of (row of the group, column).
#[inline(always)]
fn place(lane: usize, column: usize) -> (usize, usize) {
    let within = column % BLOCK_COLUMNS;
    (column / BLOCK_COLUMNS * BLOCK_BYTES + lane * 4 + within % 4, 2 * (within / 4))
}

fn write_lane(group: &mut [u8], lane: usize, codes: &[u8]) {
    let mut padded = [ZERO_CODE; BLOCK_COLUMNS];
    for (block, chunk) in group.chunks_exact_mut(BLOCK_BYTES).zip(codes.chunks(BLOCK_COLUMNS)) {
        padded.fill(ZERO_CODE);
        padded[..chunk.len()].copy_from_slice(chunk);
        for j in 0..4 {
            block[lane * 4 + j] = (padded[j] & 3)
                | (padded[4 + j] & 3) << 2
                | (padded[8 + j] & 3) << 4
                | (padded[12 + j] & 3) << 6;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels;
    use crate::packing::weight_of;
    use proptest::prelude::*;

    fn matrix(rows: usize, columns: usize, codes: &[u8]) -> TernaryRows {
        TernaryRows::pack(rows, columns, |row, out| {
            out.copy_from_slice(&codes[row * columns..(row + 1) * columns]);
        })
    }

    proptest! {
        #[test]
        fn packing_keeps_every_code_and_products_are_exact(
            rows in 1usize..40, more in any::<bool>(), columns in 1usize..70, tokens in 1usize..5,
            seed in any::<u64>(),
        ) {
            let mut state = seed | 1;
            let mut next = move || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 33) as usize
            };
            let rows = rows + if more { RUN_ROWS } else { 0 };
            let codes: Vec<u8> = (0..rows * columns).map(|_| (next() % 4) as u8).collect();
            let packed = matrix(rows, columns, &codes);
            let width = packed.padded_columns();
            let mut q = vec![0i8; tokens * width];
            let mut d = vec![0u8; tokens * width];
            for token in 0..tokens {
                for column in 0..columns {
                    q[token * width + column] = next() as i8;
                    d[token * width + column] = next() as u8;
                }
            }
            for row in 0..rows {
                prop_assert_eq!(&packed.row(row), &codes[row * columns..(row + 1) * columns]);
                prop_assert_eq!(packed.row(row), TernaryRows::single(&packed.row(row)).row(0));
            }
            for table in kernels::available() {
                let sums = packed.product(table, &q);
                let (mut least, mut greatest) = (sums.clone(), sums.clone());
                let size = RUN_ROWS * tokens;
                let outs = least.chunks_mut(size).zip(greatest.chunks_mut(size)).collect();
                packed.ends_by_run(table, (&q, &d), outs, |ends, (least, greatest)| {
                    least.copy_from_slice(ends.0);
                    greatest.copy_from_slice(ends.1);
                });
                for token in 0..tokens {
                    for row in 0..rows {
                        let mut expected = [0i32; 3];
                        for column in 0..columns {
                            let w = weight_of(codes[row * columns + column]);
                            let q = i32::from(q[token * width + column]);
                            let upper = q + i32::from(d[token * width + column]);
                            expected[0] += w * q;
                            expected[1] += (w * q).min(w * upper);
                            expected[2] += (w * q).max(w * upper);
                        }
                        let at = TernaryRows::at(tokens, token, row);
                        prop_assert_eq!([sums[at], least[at], greatest[at]], expected);
                    }
                }
            }
        }
    }
}

//! Whole-loop kernels behind one table, one table an instruction set.
//!
//! A table is plain data: a name and function pointers. Its constructor is the only door to it and
//! returns `None` where the processor lacks the instructions, so a value of type `&Kernels` is the
//! proof that calling it is sound. The choice is a value that the caller carries, never a global.
//!
//! Integer products are exact, so their order is free. Float programs are written once, in
//! [`crate::numerics`], and stamped into each table; a compiler may vectorise them but not reorder.
//! Invariant: all tables give the same bits (`suite` shows it for every table on every shape).
//!
//! Packed ternary rows come in groups of [`GROUP_ROWS`] rows; see [`crate::packing::TernaryRows`]
//! for the layout. Codes are `weight + 1`; the unused code 3 counts as +2, as in today's readers.

#![allow(unsafe_code, reason = "intrinsics; each block proves its preconditions")]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod centred;
mod halves;
mod lines;
mod moves;
#[cfg(target_arch = "aarch64")]
mod neon;
pub mod probe;
mod programs;
mod quotients;
mod scalar;
mod signs;
mod sparse;
mod steps;
#[cfg(test)]
mod suite;
mod table;

pub use centred::Centred;
pub use lines::Lines;
pub use moves::{End, Moves, Numbers};
pub use quotients::{Part, Quotient};
pub use signs::{SIGN_COLUMNS, Signs, WIDEST_SIGNS};
pub use steps::Steps;

use crate::numerics::boxes::{CodeRow, Ends, NormRow, Panels, Scratch};

/// Rows of a packed group.
pub const GROUP_ROWS: usize = 16;
/// Columns of a packed block: a block is 16 rows by 16 columns in 64 bytes.
pub const BLOCK_COLUMNS: usize = 16;
/// Sums that [`Kernels::columns`] adds to at once.
pub const LANES: usize = 64;
/// Bytes of a packed block.
pub const BLOCK_BYTES: usize = 64;

/// `fn(group, codes, out)`: for each token row of int8 `codes` (as wide as the group, padded to
/// whole blocks) the 16 sums of `(code - 1) * activation`, added to nothing: `out` is overwritten.
pub type TernaryProduct = fn(&[u8], &[i8], &mut [i32]);

/// `fn(row, (others, stride), out)`: the exact sums of products of a row of int8 codes with others
/// that begin so many places behind one another; the last may end with its width.
pub type DotsCodes = fn(&[i8], (&[i8], usize), &mut [i32]);

/// `fn(groups, group_bytes, codes, out)`: [`TernaryProduct`] of each group of so many bytes, the
/// results of one group behind those of the group before.
pub type TernaryGroups = fn(&[u8], usize, &[i8], &mut [i32]);

/// `fn(group, widths, plus, minus)`: for each token row of `widths` in 0..=255 the 16 sums over the
/// positive parts of the weights and the 16 sums over the magnitudes of the negative ones.
pub type TernarySpread = fn(&[u8], &[u8], &mut [i32], &mut [i32]);

/// `fn(signs, codes, ys)`: for one token row of int8 codes and each packed row the sum of the
/// products of scales with the exact sums of groups of columns, added to +0 in f64 in rising order.
pub type SignProduct = fn(&Signs, &[i8], &mut [f64]);

/// `fn(group, steps, least, greatest)`: for rows of widths of which only some steps are not zero,
/// what [`TernarySpread`] gives: the second is taken from `least`, the first added to `greatest`.
pub type SpreadSteps = fn(&[u8], &Steps, &mut [i32], &mut [i32]);

/// `fn(groups, group_bytes, boxes, least, greatest)`: what the sums of boxes reach beside those of
/// their centres, for several groups as [`TernaryGroups`]: taken from `least`, added to `greatest`.
pub type Reach = fn(&[u8], usize, &Centred, &mut [i32], &mut [i32]);

/// `fn(row, lower, upper)`: the ends of `dot16` of a row over a box.
pub type DotEnds = fn(&[f32], &[f32], &[f32]) -> (f32, f32);

/// `fn(x, rows, out)`: `dot16` of one row with each of several rows that lie behind one another.
pub type DotRows<T> = fn(&[f32], &[T], &mut [f32]);

/// `fn(x, width, rows, out)`: the same for each row of so many values in `x`: `out[row][x]`.
pub type DotTile<T> = fn(&[f32], usize, &[T], &mut [f32]);

/// `fn(g, r, a, b, out)`: adds to each column of `out` the magnitudes of `g a + r b`.
pub type FormMagnitudes = fn(&[f64], &[f64], &[f64], &[f64], &mut [f64]);

/// `fn(g, r, a, b)`: `g a + r b` in place.
pub type FormCombination = fn(&mut [f64], &[f64], &[f64], &[f64]);

/// `fn(sums, scales, ws, out, stride)`: the 64 sums of each row as values, under the scale of the
/// row and the stored scale `ws`. Row `i` goes to `out[i * stride..]`: 64 values, or as many as
/// `out` has left for the last row.
pub type Rescale = fn(&[i32], &[f32], f32, &mut [f32], usize);

/// `fn(sums, scales, ws, outs)`: the results of [`TernaryGroups`] as values, likewise. Row `i` of
/// every group goes to `outs[i]`, group behind group, as many values as it has room for.
pub type RescaleGroups = fn(&[i32], &[f32], f32, &mut [&mut [f32]]);

/// `fn(a, b, [up, down, far])`: the places where `a` is above `b`, where it is below, and where it
/// is more than 1 off, each list rising; how many they are. A list has room for all places and
/// [`SPARE_PLACES`] more; what it holds behind its own means nothing.
pub type Differ = fn(&[i8], &[i8], [&mut [u32]; 3]) -> [usize; 3];

/// See [`Differ`].
pub const SPARE_PLACES: usize = 16;

/// A block of 64 outputs of one row: what their sums were, and what becomes of these.
#[derive(Debug)]
pub struct Block<'a> {
    /// The sums before.
    pub base: &'a [i32],
    /// What makes values of sums.
    pub quotient: Quotient,
    /// The values behind: 64, or fewer in a last block, or none.
    pub out: &'a mut [f32],
}

/// `fn(weights, numbers, blocks)`: the values of the sums of both blocks plus and less the columns
/// that have the numbers. A column is 64 bytes, each with a weight of either block, plus 1: of the
/// first in the low four bits, of the second in the high ones. Weights are in -1..=2.
pub type Columns = fn(&[u8], &Numbers, &mut [Block; 2]);

/// One instruction set's kernels.
#[derive(Debug)]
pub struct Kernels {
    /// The name on the command line: `scalar`, `avx2`, `avx512`, `neon`.
    pub name: &'static str,
    /// Packed ternary group times int8 token rows.
    pub ternary: TernaryProduct,
    /// The same for several groups that lie behind one another: their results too.
    pub ternary_groups: TernaryGroups,
    /// Packed ternary group, split by sign, times the widths of integer boxes.
    pub spread: TernarySpread,
    /// For rows of few widths, if that is faster here.
    pub spread_steps: Option<SpreadSteps>,
    /// For boxes of codes by their centres, if that is faster here.
    pub reach: Option<Reach>,
    /// Packed signs under scales times one token row, if that is faster here than as ternary
    /// groups.
    pub signs: Option<SignProduct>,
    /// Blocks of signs as twice as many blocks of ternary codes.
    pub expand_signs: fn(&[u8], &mut [u8]),
    /// The exact sum of products of two rows of int8 codes, as long as it fits 32 bits.
    pub dot_codes: fn(&[i8], &[i8]) -> i32,
    /// The same of one row with several.
    pub dots_codes: DotsCodes,
    /// Where the int8 codes of two rows differ.
    pub differ: Differ,
    /// Columns of weights added to sums, and their values.
    pub columns: Columns,
    /// Sums to values where the stored scale multiplies.
    pub multiply: Rescale,
    /// Sums to values where the stored scale divides.
    pub divide: Rescale,
    /// Sums of groups to values where the stored scale multiplies.
    pub multiply_groups: RescaleGroups,
    /// Sums of groups to values where the stored scale divides.
    pub divide_groups: RescaleGroups,
    /// `dot16` of two rows.
    pub dot: fn(&[f32], &[f32]) -> f32,
    /// The ends of `dot16` of a row over a box: `(row, lower, upper)`.
    pub dot_ends: DotEnds,
    /// `dot16` of one row with each of several.
    pub dot_rows: DotRows<f32>,
    /// `dot16` of each of several rows with each of several.
    pub dot_tile: DotTile<f32>,
    /// [`Self::dot_rows`] of rows of bf16 bits.
    pub dot_rows_bf16: DotRows<u16>,
    /// The programs over rows of f16 bits.
    pub halves: Halves,
    /// Adds `shares[j] * rows[j]` to `out` in rising `j`.
    pub weighted_sum: fn(&[f32], &[f32], &mut [f32]),
    /// Programs over rows of one width, value by value.
    pub rows: Rows,
    /// RMSNorm of one row: `(x, gains, eps, y)`.
    pub rms_norm: fn(&[f32], &[f32], f32, &mut [f32]),
    /// The largest magnitude of a row; NaN if one is NaN.
    pub absmax: fn(&[f32]) -> f32,
    /// The int8 codes of a row at a scale, and their sum.
    pub codes: fn(&[f32], f32, &mut [i8]) -> i32,
    /// Softmax in place.
    pub softmax: fn(&mut [f32]),
    /// `relu(g)^2 u`.
    pub relu2_gate: fn(&[f32], &[f32], &mut [f32]),
    /// `silu(g) u`.
    pub silu_gate: fn(&[f32], &[f32], &mut [f32]),
    /// bf16 bits to f32.
    pub widen_bf16: fn(&[u16], &mut [f32]),
    /// The programs over affine forms.
    pub forms: Forms,
    /// The programs over boxes.
    pub boxes: Boxes,
}

/// The lower and the upper ends of a row that is written.
pub type EndsMut<'a> = (&'a mut [f32], &'a mut [f32]);

/// `fn(shares, rows, out)`: [`crate::numerics::boxes::mix`].
pub type BoxMix = fn(&[(f32, f32)], Ends, EndsMut);

/// `fn(scores, out)`: [`crate::numerics::boxes::shares`].
pub type BoxShares = fn(&[(f32, f32)], &mut [(f32, f32)]);

/// `fn(scores, top, out)`: [`crate::numerics::boxes::weights`].
pub type BoxWeights = fn(&[(f32, f32)], f32, (&mut [f64], &mut [f64]));

/// `fn(values, weights, most, out)`: [`crate::numerics::boxes::greatest`].
pub type Greatest = fn(&Panels, (&[f64], &[f64]), &[f64], &mut [f64]);

/// `fn(row, scratch, out)`: [`crate::numerics::boxes::norm`].
pub type BoxNorm = fn(&NormRow, &mut Scratch, EndsMut) -> Option<f64>;

/// `fn(row, scratch, out)`: [`crate::numerics::boxes::codes`].
pub type BoxCodes = fn(&CodeRow, &mut Scratch, (&mut [i8], &mut [u8])) -> (f32, f32);

/// `fn(g, u, out)`: [`crate::numerics::boxes::gate_sums`].
pub type GateSums = fn((&[i32], &[i32]), (&[i32], &[i32]), (&mut [f64], &mut [f64]));

/// `fn(sums, scales, ws, parts)`: the ends of the values of rows of results of [`TernaryGroups`]
/// (lower and upper ones) over the ends of the scale of each row, and the results row by row.
pub type Corners = fn((&[i32], &[i32]), &[(f32, f32)], f32, &mut [Part]);

/// Programs over boxes; see [`crate::numerics::boxes`] for what each computes.
#[derive(Clone, Copy, Debug)]
pub struct Boxes {
    /// `(query, rows, out)`: the ends of `dot16` of a row with each of several.
    pub dots: fn(Ends, Ends, &mut [(f32, f32)]),
    /// `(shares, rows, out)`: adds the ends of a weighted sum.
    pub mix: BoxMix,
    /// The boxes of softmax shares of boxes of scores.
    pub shares: BoxShares,
    /// The exponentials of boxes of scores.
    pub weights: BoxWeights,
    /// What no weighted mean exceeds.
    pub greatest: Greatest,
    /// RMSNorm of a row, and the sum of the least squares if the mean square is a normal number.
    pub norm: BoxNorm,
    /// The codes of a row, lower ones and how much more the upper ones are, and its scale.
    pub codes: BoxCodes,
    /// `relu(g)^2 u`.
    pub relu2_gate: fn(Ends, Ends, EndsMut),
    /// The same of integers.
    pub gate_sums: GateSums,
    /// The ends of values where the stored scale multiplies.
    pub multiply: Corners,
    /// The ends of values where the stored scale divides.
    pub divide: Corners,
}

/// Programs over rows, value by value.
#[derive(Clone, Copy, Debug)]
pub struct Rows {
    /// `(x, u, y)`: their sum.
    pub add: fn(&[f32], &[f32], &mut [f32]),
    /// `(x, factor)`: times a number, in place.
    pub scale: fn(&mut [f32], f32),
    /// Whether both hold the same bits; all NaN count as one.
    pub same: fn(&[f32], &[f32]) -> bool,
}

/// Programs over f16 bits.
#[derive(Clone, Copy, Debug)]
pub struct Halves {
    /// To f32.
    pub widen: fn(&[u16], &mut [f32]),
    /// [`Kernels::dot_rows`] of rows of f16 bits.
    pub dot_rows: DotRows<u16>,
    /// [`Kernels::dot_tile`] of rows of f16 bits.
    pub dot_tile: DotTile<u16>,
}

/// Programs over matrices of coefficients of affine forms, one row a noise symbol; see
/// [`crate::numerics::forms`] for what each computes, in which order.
#[derive(Clone, Copy, Debug)]
pub struct Forms {
    /// `(g, w, inner, out)`: the product of two matrices.
    pub product: fn(&[f64], &[f64], usize, &mut [f64]),
    /// `(g, c, out)`: the dot product of each row with one vector.
    pub dots: fn(&[f64], &[f64], &mut [f64]),
    /// `(g, r, a, b, out)`: adds to each column the magnitudes of `g a + r b`.
    pub magnitudes: FormMagnitudes,
    /// `(g, r, a, b)`: `g a + r b` in place.
    pub combine: FormCombination,
    /// `(g, weights, columns, out)`: adds the upper triangle of the weighted Gram matrix.
    pub gram: fn(&[f64], &[f64], usize, &mut [f64]),
}

/// The portable table; every processor has it.
#[must_use]
pub fn scalar() -> &'static Kernels {
    &scalar::TABLE
}

/// The table for AVX2 (with F16C), where the processor has them.
#[must_use]
pub fn avx2() -> Option<&'static Kernels> {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("f16c") {
        return Some(&avx2::TABLE);
    }
    None
}

/// The table for AVX-512 (F, BW, VNNI), where the processor has them.
#[must_use]
pub fn avx512() -> Option<&'static Kernels> {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vnni")
        && is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("popcnt")
    {
        let counts = is_x86_feature_detected!("avx512vpopcntdq");
        return Some(if counts { &avx512::COUNTING } else { &avx512::TABLE });
    }
    None
}

/// The table for NEON, where the processor has it.
#[must_use]
pub fn neon() -> Option<&'static Kernels> {
    #[cfg(target_arch = "aarch64")]
    if std::arch::is_aarch64_feature_detected!("neon") {
        return Some(&neon::TABLE);
    }
    None
}

/// The names of all tables that exist, for messages and completions.
pub const NAMES: [&str; 4] = ["scalar", "avx2", "avx512", "neon"];

/// All tables that this processor can run, slowest first.
#[must_use]
pub fn available() -> Vec<&'static Kernels> {
    [Some(scalar()), neon(), avx2(), avx512()].into_iter().flatten().collect()
}

/// The fastest table that this processor can run.
#[must_use]
pub fn best() -> &'static Kernels {
    available().last().copied().unwrap_or(scalar())
}

/// The table of a name, if this processor can run it.
#[must_use]
pub fn named(name: &str) -> Option<&'static Kernels> {
    available().into_iter().find(|table| table.name == name)
}

//! The portable table, and the integer kernels as every other table must compute them.

use super::{BLOCK_BYTES, BLOCK_COLUMNS, GROUP_ROWS, Kernels, programs::one_by_one, table::table};

pub(super) static TABLE: Kernels = table!(
    "scalar",
    (ternary, groups, spread),
    super::table::NONE,
    super::sparse::SPARSE,
    super::halves::HALVES,
    self::floats
);

/// The float entries without any instruction set: plain calls.
pub(super) mod floats {
    use crate::kernels::quotients::Quotient;
    use crate::kernels::{Part, programs, quotients, signs};
    use crate::numerics;

    pub(in crate::kernels) use crate::kernels::programs::{add, same, scale};
    pub(crate) use crate::numerics::{absmax, codes_of as codes, dot_ends, dot16 as dot};
    pub(crate) use numerics::forms::{combine, dots, gram, magnitudes, product};
    pub(crate) use numerics::{rms_norm_row as rms_norm, softmax_row as softmax};

    pub(crate) fn multiply(s: &[i32], t: &[f32], ws: f32, out: &mut [f32], stride: usize) {
        quotients::rescale(s, t, out, stride, (|t| t, ws), Quotient::all);
    }
    pub(crate) fn divide(s: &[i32], t: &[f32], ws: f32, out: &mut [f32], stride: usize) {
        quotients::rescale(s, t, out, stride, (|t| ws * t, 1.0), Quotient::all);
    }
    pub(crate) fn multiply_groups(s: &[i32], t: &[f32], ws: f32, outs: &mut [&mut [f32]]) {
        quotients::rescale_groups(s, t, outs, (|t| t, ws), Quotient::all);
    }
    pub(crate) fn divide_groups(s: &[i32], t: &[f32], ws: f32, outs: &mut [&mut [f32]]) {
        quotients::rescale_groups(s, t, outs, (|t| ws * t, 1.0), Quotient::all);
    }
    pub(crate) use numerics::boxes::{codes as box_codes, norm as box_norm};
    pub(crate) use numerics::boxes::{dots as box_dots, mix as box_mix, shares as box_shares};
    pub(crate) use numerics::boxes::{gate_sums, greatest};
    pub(crate) use numerics::boxes::{relu2_gate as box_relu2_gate, weights as box_weights};
    pub(crate) fn box_multiply(s: (&[i32], &[i32]), t: &[(f32, f32)], ws: f32, parts: &mut [Part]) {
        quotients::corners(s, t, (|t| t, ws), parts, quotients::ends);
    }
    pub(crate) fn box_divide(s: (&[i32], &[i32]), t: &[(f32, f32)], ws: f32, parts: &mut [Part]) {
        quotients::corners(s, t, (|t| ws * t, 1.0), parts, quotients::ends);
    }
    pub(crate) fn expand_signs(bits: &[u8], out: &mut [u8]) {
        signs::expand(bits, out);
    }
    pub(crate) fn dot_codes(a: &[i8], b: &[i8]) -> i32 {
        programs::dot_codes(a, b)
    }
    pub(crate) fn dots_codes(row: &[i8], others: (&[i8], usize), out: &mut [i32]) {
        programs::dots_codes(row, others, out, programs::dot_codes)
    }
    pub(crate) fn dot_rows(x: &[f32], rows: &[f32], out: &mut [f32]) {
        programs::dot_rows(x, rows, out, programs::trees);
    }
    pub(crate) fn dot_tile(x: &[f32], width: usize, rows: &[f32], out: &mut [f32]) {
        programs::dot_tile(x, width, rows, out, dot_rows);
    }
    pub(crate) fn dot_rows_bf16(x: &[f32], rows: &[u16], out: &mut [f32]) {
        programs::dot_rows_bf16(x, rows, out, programs::trees);
    }
    pub(crate) fn weighted_sum(shares: &[f32], rows: &[f32], out: &mut [f32]) {
        programs::weighted_sum(shares, rows, out);
    }
    pub(crate) fn relu2_gate(g: &[f32], u: &[f32], y: &mut [f32]) {
        numerics::gate_row(g, u, y, numerics::relu2);
    }
    pub(crate) fn silu_gate(g: &[f32], u: &[f32], y: &mut [f32]) {
        numerics::gate_row(g, u, y, numerics::silu);
    }
    pub(crate) fn widen_bf16(bits: &[u16], out: &mut [f32]) {
        programs::widen_bf16(bits, out);
    }
}

/// The width in columns of a packed group, checked against the operand rows.
///
/// # Panics
/// If the group is not whole blocks or the operand is not whole rows of its width.
pub(super) fn group_width(group: &[u8], operand: usize, results: usize) -> usize {
    assert!(group.len().is_multiple_of(BLOCK_BYTES), "a group is whole blocks");
    let width = group.len() / BLOCK_BYTES * BLOCK_COLUMNS;
    assert!(width > 0 && operand.is_multiple_of(width), "operand rows as wide as the group");
    assert_eq!(results, operand / width * GROUP_ROWS, "16 results a token row");
    width
}

/// The sum over one block for one row: `f(code, operand)` added up.
#[inline(always)]
fn block_sum<T: Copy>(block: &[u8], row: usize, operand: &[T], f: impl Fn(u8, T) -> i32) -> i32 {
    let mut sum = 0;
    for quarter in 0..4 {
        for byte in 0..4 {
            let code = (block[row * 4 + byte] >> (2 * quarter)) & 3;
            sum += f(code, operand[quarter * 4 + byte]);
        }
    }
    sum
}

fn ternary(group: &[u8], codes: &[i8], out: &mut [i32]) {
    let width = group_width(group, codes.len(), out.len());
    for (token, results) in codes.chunks_exact(width).zip(out.chunks_exact_mut(GROUP_ROWS)) {
        results.fill(0);
        let blocks = group.chunks_exact(BLOCK_BYTES).zip(token.chunks_exact(BLOCK_COLUMNS));
        for (block, operand) in blocks {
            for (row, result) in results.iter_mut().enumerate() {
                *result += block_sum(block, row, operand, |code, q: i8| {
                    (i32::from(code) - 1) * i32::from(q)
                });
            }
        }
    }
}

fn groups(groups: &[u8], group_bytes: usize, codes: &[i8], out: &mut [i32]) {
    one_by_one(ternary, groups, group_bytes, codes, out);
}

fn spread(group: &[u8], widths: &[u8], plus: &mut [i32], minus: &mut [i32]) {
    let width = group_width(group, widths.len(), plus.len());
    assert_eq!(plus.len(), minus.len(), "both signs have as many results");
    let results = plus.chunks_exact_mut(GROUP_ROWS).zip(minus.chunks_exact_mut(GROUP_ROWS));
    for (token, (plus, minus)) in widths.chunks_exact(width).zip(results) {
        plus.fill(0);
        minus.fill(0);
        let blocks = group.chunks_exact(BLOCK_BYTES).zip(token.chunks_exact(BLOCK_COLUMNS));
        for (block, operand) in blocks {
            for row in 0..GROUP_ROWS {
                plus[row] += block_sum(block, row, operand, |code, d: u8| {
                    i32::from(code.saturating_sub(1)) * i32::from(d)
                });
                minus[row] += block_sum(block, row, operand, |code, d: u8| {
                    i32::from(1u8.saturating_sub(code)) * i32::from(d)
                });
            }
        }
    }
}

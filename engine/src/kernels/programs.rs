//! Float programs over several rows, and the macro that stamps every float program for a table.
//!
//! The bodies are `inline(always)`: inlined into a function that enables an instruction set, they
//! are compiled for it. Rust neither contracts nor reassociates float operations, so the bits stay.

use super::TernaryProduct;
use crate::numerics;

/// The lanes of `dot16` of four rows.
pub(super) type Lanes = [[f32; 16]; 4];

/// `dot16` of `x` with each row of `rows`.
#[inline(always)]
pub(super) fn dot_rows(
    x: &[f32],
    rows: &[f32],
    out: &mut [f32],
    trees: impl Fn(Lanes) -> [f32; 4],
) {
    dot_stored(x, rows, out, (|values| *values, |value| value), trees);
}

/// The same for rows of bfloat16.
#[inline(always)]
pub(super) fn dot_rows_bf16(
    x: &[f32],
    rows: &[u16],
    out: &mut [f32],
    trees: impl Fn(Lanes) -> [f32; 4],
) {
    let wide = |bits: &[u16; 16]| bits.map(numerics::widen_bf16);
    dot_stored(x, rows, out, (wide, numerics::widen_bf16), trees);
}

/// Rows that all others are multiplied with before the next ones.
pub(super) const TOGETHER: usize = 4;

/// `dot16` of each row of `x` with each of several rows, by what multiplies one of them.
#[inline(always)]
pub(super) fn dot_tile<T>(
    x: &[f32],
    width: usize,
    rows: &[T],
    out: &mut [f32],
    dot_rows: impl Fn(&[f32], &[T], &mut [f32]),
) {
    let count = x.len() / width;
    assert_eq!(out.len() * width, count * rows.len(), "a result for each pair of rows");
    for (rows, out) in rows.chunks(TOGETHER * width).zip(out.chunks_mut(TOGETHER * count)) {
        let mut few = [0.0; TOGETHER];
        let few = &mut few[..rows.len() / width];
        for (index, x) in x.chunks_exact(width).enumerate() {
            dot_rows(x, rows, few);
            for (row, &dot) in few.iter().enumerate() {
                out[row * count + index] = dot;
            }
        }
    }
}

/// `dot16` of `x` with each row of stored values, widened 16 at a time and one by one behind them;
/// `trees` adds the lanes of four rows, as [`trees`] does.
///
/// Each result has its own lanes, so four rows may run side by side and hide the latency of the
/// additions.
#[inline(always)]
pub(super) fn dot_stored<T: Copy>(
    x: &[f32],
    rows: &[T],
    out: &mut [f32],
    (wide, one): (impl Fn(&[T; 16]) -> [f32; 16] + Copy, impl Fn(T) -> f32 + Copy),
    trees: impl Fn(Lanes) -> [f32; 4],
) {
    let width = x.len();
    assert_eq!(rows.len(), width * out.len(), "rows of the width of x");
    let (fours, rest) = out.as_chunks_mut::<4>();
    let (many, few) = rows.split_at(4 * fours.len() * width);
    for (index, out) in fours.iter_mut().enumerate() {
        let four = &many[4 * index * width..4 * (index + 1) * width];
        *out = trees(lanes(x, four, wide, one));
    }
    for (index, out) in rest.iter_mut().enumerate() {
        let [lanes]: [_; 1] = lanes(x, &few[index * width..(index + 1) * width], wide, one);
        *out = trees([lanes; 4])[0];
    }
}

/// The lanes of `dot16` of `x` with `R` rows.
#[inline(always)]
fn lanes<T: Copy, const R: usize>(
    x: &[f32],
    rows: &[T],
    wide: impl Fn(&[T; 16]) -> [f32; 16],
    one: impl Fn(T) -> f32,
) -> [[f32; 16]; R] {
    let width = x.len();
    let rows: [&[T]; R] = std::array::from_fn(|r| &rows[r * width..(r + 1) * width]);
    let chunks = rows.map(|row| row.as_chunks::<16>().0);
    let mut lanes = [[0f32; 16]; R];
    let (values, rest) = x.as_chunks::<16>();
    for (k, values) in values.iter().enumerate() {
        for (lanes, chunks) in lanes.iter_mut().zip(chunks) {
            let stored = wide(&chunks[k]);
            for j in 0..16 {
                lanes[j] += values[j] * stored[j];
            }
        }
    }
    for (j, &value) in rest.iter().enumerate() {
        for (lanes, row) in lanes.iter_mut().zip(rows) {
            lanes[j] += value * one(row[width - rest.len() + j]);
        }
    }
    lanes
}

/// The trees of `sum16` over four sets of lanes, level by level for all of them.
#[inline(always)]
pub(super) fn trees(lanes: Lanes) -> [f32; 4] {
    let (mut eight, mut four, mut two) = ([0f32; 32], [0f32; 16], [0f32; 8]);
    for row in 0..4 {
        for j in 0..8 {
            eight[8 * row + j] = lanes[row][j] + lanes[row][j + 8];
        }
    }
    for row in 0..4 {
        for j in 0..4 {
            four[4 * row + j] = eight[8 * row + j] + eight[8 * row + j + 4];
        }
    }
    for row in 0..4 {
        for j in 0..2 {
            two[2 * row + j] = four[4 * row + j] + four[4 * row + j + 2];
        }
    }
    [two[0] + two[1], two[2] + two[3], two[4] + two[5], two[6] + two[7]]
}

/// `out += shares[j] * rows[j]` in rising `j`.
#[inline(always)]
pub(super) fn weighted_sum(shares: &[f32], rows: &[f32], out: &mut [f32]) {
    let width = out.len();
    assert_eq!(rows.len(), shares.len() * width, "one row a share");
    let (fours, rest) = shares.as_chunks::<4>();
    let (many, few) = rows.split_at(fours.len() * 4 * width);
    // Four rows at a time, each element still in rising order.
    for (shares, rows) in fours.iter().zip(many.chunks_exact(4 * width)) {
        let (a, rest) = rows.split_at(width);
        let (b, rest) = rest.split_at(width);
        let (c, d) = rest.split_at(width);
        for k in 0..width {
            let sum = out[k] + shares[0] * a[k];
            let sum = sum + shares[1] * b[k];
            let sum = sum + shares[2] * c[k];
            out[k] = sum + shares[3] * d[k];
        }
    }
    for (&share, row) in rest.iter().zip(few.chunks_exact(width)) {
        for (sum, &value) in out.iter_mut().zip(row) {
            *sum += share * value;
        }
    }
}

/// `x + u`.
#[inline(always)]
pub(super) fn add(x: &[f32], u: &[f32], y: &mut [f32]) {
    assert!(x.len() == u.len() && x.len() == y.len(), "rows of one width");
    y.iter_mut().zip(x.iter().zip(u)).for_each(|(y, (x, u))| *y = x + u);
}

/// Multiplies by one number in place.
#[inline(always)]
pub(super) fn scale(x: &mut [f32], factor: f32) {
    x.iter_mut().for_each(|x| *x *= factor);
}

/// Whether two rows hold the same bits; all NaN count as one.
#[inline(always)]
pub(super) fn same(a: &[f32], b: &[f32]) -> bool {
    // Chunks whose bits are compared without a branch; NaN is rare and looked at afterwards.
    let equal = |(x, y): (&f32, &f32)| x.to_bits() == y.to_bits() || (x.is_nan() && y.is_nan());
    let chunk = |(a, b): (&[f32], &[f32])| {
        let bits = a.iter().zip(b).fold(0, |bits, (x, y)| bits | (x.to_bits() ^ y.to_bits()));
        bits == 0 || a.iter().zip(b).all(equal)
    };
    a.len() == b.len() && a.chunks(64).zip(b.chunks(64)).all(chunk)
}

/// The exact sum of products of codes, as long as it fits.
#[inline(always)]
pub(super) fn dot_codes(a: &[i8], b: &[i8]) -> i32 {
    assert_eq!(a.len(), b.len(), "rows of one width");
    let products = a.iter().zip(b).map(|(&a, &b)| i32::from(a) * i32::from(b));
    products.fold(0, i32::wrapping_add)
}

/// [`dot_codes`] of a row with several that begin `stride` places behind one another.
#[inline(always)]
pub(super) fn dots_codes(
    row: &[i8],
    (others, stride): (&[i8], usize),
    out: &mut [i32],
    dot: impl Fn(&[i8], &[i8]) -> i32,
) {
    for (index, out) in out.iter_mut().enumerate() {
        *out = dot(row, &others[index * stride..][..row.len()]);
    }
}

/// bf16 to f32.
#[inline(always)]
pub(super) fn widen_bf16(bits: &[u16], out: &mut [f32]) {
    widen(bits, out, numerics::widen_bf16);
}

#[inline(always)]
pub(super) fn widen(bits: &[u16], out: &mut [f32], one: impl Fn(u16) -> f32) {
    assert_eq!(bits.len(), out.len(), "as many results as values");
    out.iter_mut().zip(bits).for_each(|(value, &bits)| *value = one(bits));
}

/// Defines, for one set of target features, the float entries of a table as safe functions.
///
/// Each is reached only through a table, and a table only through its constructor, which has seen
/// the features on this processor. NEON is part of every aarch64, so only x86-64 needs stamps.
#[cfg(target_arch = "x86_64")]
macro_rules! stamp_floats {
    ($features:literal, $trees:path, $quotients:path, $ends:path) => {
        mod floats {
            use crate::kernels::{EndsMut, Part, programs, quotients, signs};
            use crate::numerics::{self, boxes, boxes::Ends};
            crate::kernels::programs::stamp_floats!(@fn $features,
                multiply(s: &[i32], t: &[f32], ws: f32, out: &mut [f32], stride: usize) -> () {
                    let all = |q, s: &[i32], out: &mut [f32]| $quotients(q, s, out);
                    quotients::rescale(s, t, out, stride, (|t| t, ws), all)
                }
                divide(s: &[i32], t: &[f32], ws: f32, out: &mut [f32], stride: usize) -> () {
                    let all = |q, s: &[i32], out: &mut [f32]| $quotients(q, s, out);
                    quotients::rescale(s, t, out, stride, (|t| ws * t, 1.0), all)
                }
                multiply_groups(s: &[i32], t: &[f32], ws: f32, outs: &mut [&mut [f32]]) -> () {
                    let all = |q, s: &[i32], out: &mut [f32]| $quotients(q, s, out);
                    quotients::rescale_groups(s, t, outs, (|t| t, ws), all)
                }
                divide_groups(s: &[i32], t: &[f32], ws: f32, outs: &mut [&mut [f32]]) -> () {
                    let all = |q, s: &[i32], out: &mut [f32]| $quotients(q, s, out);
                    quotients::rescale_groups(s, t, outs, (|t| ws * t, 1.0), all)
                }
                dot(a: &[f32], b: &[f32]) -> f32 { numerics::dot16(a, b) }
                dot_ends(w: &[f32], lo: &[f32], hi: &[f32]) -> (f32, f32) {
                    numerics::dot_ends(w, lo, hi)
                }
                dot_rows(x: &[f32], rows: &[f32], out: &mut [f32]) -> () {
                    programs::dot_rows(x, rows, out, |lanes| $trees(lanes))
                }
                dot_tile(x: &[f32], width: usize, rows: &[f32], out: &mut [f32]) -> () {
                    let one = |x: &[f32], rows: &[f32], out: &mut [f32]| {
                        programs::dot_rows(x, rows, out, |lanes| $trees(lanes))
                    };
                    programs::dot_tile(x, width, rows, out, one)
                }
                dot_rows_bf16(x: &[f32], rows: &[u16], out: &mut [f32]) -> () {
                    programs::dot_rows_bf16(x, rows, out, |lanes| $trees(lanes))
                }
                weighted_sum(shares: &[f32], rows: &[f32], out: &mut [f32]) -> () {
                    programs::weighted_sum(shares, rows, out)
                }
                add(x: &[f32], u: &[f32], y: &mut [f32]) -> () { programs::add(x, u, y) }
                scale(x: &mut [f32], factor: f32) -> () { programs::scale(x, factor) }
                same(a: &[f32], b: &[f32]) -> bool { programs::same(a, b) }
                rms_norm(x: &[f32], g: &[f32], eps: f32, y: &mut [f32]) -> () {
                    numerics::rms_norm_row(x, g, eps, y)
                }
                dot_codes(a: &[i8], b: &[i8]) -> i32 { programs::dot_codes(a, b) }
                dots_codes(row: &[i8], others: (&[i8], usize), out: &mut [i32]) -> () {
                    programs::dots_codes(row, others, out, programs::dot_codes)
                }
                expand_signs(signs: &[u8], out: &mut [u8]) -> () { signs::expand(signs, out) }
                absmax(x: &[f32]) -> f32 { numerics::absmax(x) }
                codes(x: &[f32], t: f32, codes: &mut [i8]) -> i32 {
                    numerics::codes_of(x, t, codes)
                }
                softmax(scores: &mut [f32]) -> () { numerics::softmax_row(scores) }
                relu2_gate(g: &[f32], u: &[f32], y: &mut [f32]) -> () {
                    numerics::gate_row(g, u, y, numerics::relu2)
                }
                silu_gate(g: &[f32], u: &[f32], y: &mut [f32]) -> () {
                    numerics::gate_row(g, u, y, numerics::silu)
                }
                widen_bf16(bits: &[u16], out: &mut [f32]) -> () {
                    programs::widen_bf16(bits, out)
                }
                product(g: &[f64], w: &[f64], inner: usize, out: &mut [f64]) -> () {
                    numerics::forms::product(g, w, inner, out)
                }
                dots(g: &[f64], c: &[f64], out: &mut [f64]) -> () {
                    numerics::forms::dots(g, c, out)
                }
                magnitudes(g: &[f64], r: &[f64], a: &[f64], b: &[f64], out: &mut [f64]) -> () {
                    numerics::forms::magnitudes(g, r, a, b, out)
                }
                combine(g: &mut [f64], r: &[f64], a: &[f64], b: &[f64]) -> () {
                    numerics::forms::combine(g, r, a, b)
                }
                gram(g: &[f64], w: &[f64], columns: usize, out: &mut [f64]) -> () {
                    numerics::forms::gram(g, w, columns, out)
                }
                box_dots(q: Ends, rows: Ends, out: &mut [(f32, f32)]) -> () {
                    boxes::dots(q, rows, out)
                }
                box_mix(s: &[(f32, f32)], rows: Ends, out: EndsMut) -> () {
                    boxes::mix(s, rows, out)
                }
                box_shares(s: &[(f32, f32)], out: &mut [(f32, f32)]) -> () {
                    boxes::shares(s, out)
                }
                box_weights(s: &[(f32, f32)], top: f32, out: (&mut [f64], &mut [f64])) -> () {
                    boxes::weights(s, top, out)
                }
                greatest(
                    v: &boxes::Panels,
                    w: (&[f64], &[f64]),
                    most: &[f64],
                    out: &mut [f64]
                ) -> () { boxes::greatest(v, w, most, out) }
                box_norm(
                    row: &boxes::NormRow,
                    scratch: &mut boxes::Scratch,
                    out: EndsMut
                ) -> Option<f64> { boxes::norm(row, scratch, out) }
                box_codes(
                    row: &boxes::CodeRow,
                    scratch: &mut boxes::Scratch,
                    out: (&mut [i8], &mut [u8])
                ) -> (f32, f32) { boxes::codes(row, scratch, out) }
                box_relu2_gate(g: Ends, u: Ends, out: EndsMut) -> () {
                    boxes::relu2_gate(g, u, out)
                }
                gate_sums(
                    g: (&[i32], &[i32]),
                    u: (&[i32], &[i32]),
                    out: (&mut [f64], &mut [f64])
                ) -> () { boxes::gate_sums(g, u, out) }
                box_multiply(
                    s: (&[i32], &[i32]),
                    t: &[(f32, f32)],
                    ws: f32,
                    parts: &mut [Part]
                ) -> () {
                    quotients::corners(s, t, (|t| t, ws), parts, |s, q, out| {
                        $ends(s, q, out);
                    })
                }
                box_divide(
                    s: (&[i32], &[i32]),
                    t: &[(f32, f32)],
                    ws: f32,
                    parts: &mut [Part]
                ) -> () {
                    quotients::corners(s, t, (|t| ws * t, 1.0), parts, |s, q, out| {
                        $ends(s, q, out);
                    })
                }
            );
        }
    };
    (@fn $features:literal, $($name:ident($($arg:ident: $type:ty),*) -> $out:ty $body:block)*) => {
        $(
            pub(super) fn $name($($arg: $type),*) -> $out {
                #[target_feature(enable = $features)]
                fn stamped($($arg: $type),*) -> $out $body
                // SAFETY: this function is private to a table, and the table's constructor returned
                // it only after it detected every feature named here.
                unsafe { stamped($($arg),*) }
            }
        )*
    };
}
#[cfg(target_arch = "x86_64")]
pub(super) use stamp_floats;

/// Groups one after the other.
#[inline(always)]
pub(super) fn one_by_one(
    ternary: TernaryProduct,
    groups: &[u8],
    group_bytes: usize,
    codes: &[i8],
    out: &mut [i32],
) {
    let results = out.len() / (groups.len() / group_bytes);
    for (group, out) in groups.chunks_exact(group_bytes).zip(out.chunks_exact_mut(results)) {
        ternary(group, codes, out);
    }
}

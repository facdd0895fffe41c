//! Float programs over affine forms: matrices of f64 coefficients, one row a noise symbol.
//!
//! Bounds must have the same bits everywhere, so these have one documented order, like all float
//! programs here: every result is a sum over rising rows or columns from 0.0, one rounded product
//! and one rounded addition a term. Columns are independent of each other, so that a compiler may
//! put neighbouring ones into lanes.

/// Columns that are worked on side by side.
const LANES: usize = 16;
/// Rows that share a pass over the right factor.
const ROWS: usize = 4;

/// `out[s][o] = sum over k of g[s][k] * w[k][o]`, `g` `[rows, inner]`, `w` `[inner, outputs]`.
///
/// # Panics
/// If the lengths do not agree.
#[inline(always)]
pub fn product(g: &[f64], w: &[f64], inner: usize, out: &mut [f64]) {
    assert!(inner > 0 && g.len().is_multiple_of(inner) && w.len().is_multiple_of(inner));
    let (rows, outputs) = (g.len() / inner, w.len() / inner);
    assert_eq!(out.len(), rows * outputs, "one result a row and output");
    let mut first = 0;
    while first < outputs {
        first += match outputs - first {
            LANES.. => strip::<LANES>(g, w, (inner, outputs), first, out),
            8.. => strip::<8>(g, w, (inner, outputs), first, out),
            4.. => strip::<4>(g, w, (inner, outputs), first, out),
            2.. => strip::<2>(g, w, (inner, outputs), first, out),
            _ => strip::<1>(g, w, (inner, outputs), first, out),
        };
    }
}

/// `W` outputs from `first` on, of all rows; gives `W`.
#[inline(always)]
fn strip<const W: usize>(
    g: &[f64],
    w: &[f64],
    (inner, outputs): (usize, usize),
    first: usize,
    out: &mut [f64],
) -> usize {
    for (g, out) in g.chunks(ROWS * inner).zip(out.chunks_mut(ROWS * outputs)) {
        let mut sums = [[0f64; W]; ROWS];
        if g.len() == ROWS * inner {
            let (a, rest) = g.split_at(inner);
            let (b, rest) = rest.split_at(inner);
            let (c, d) = rest.split_at(inner);
            for k in 0..inner {
                let w = &w[k * outputs + first..k * outputs + first + W];
                let (ga, gb, gc, gd) = (a[k], b[k], c[k], d[k]);
                for j in 0..W {
                    sums[0][j] += ga * w[j];
                    sums[1][j] += gb * w[j];
                    sums[2][j] += gc * w[j];
                    sums[3][j] += gd * w[j];
                }
            }
        } else {
            for (g, sums) in g.chunks_exact(inner).zip(&mut sums) {
                for (k, &g) in g.iter().enumerate() {
                    let w = &w[k * outputs + first..k * outputs + first + W];
                    for j in 0..W {
                        sums[j] += g * w[j];
                    }
                }
            }
        }
        for (out, sums) in out.chunks_exact_mut(outputs).zip(&sums) {
            out[first..first + W].copy_from_slice(sums);
        }
    }
    W
}

/// `out[s] = sum over k of g[s][k] * c[k]`: eight lanes by `k mod 8`, of which the upper half is
/// added to the lower until one is left.
///
/// # Panics
/// If the lengths do not agree.
#[inline(always)]
pub fn dots(g: &[f64], c: &[f64], out: &mut [f64]) {
    assert_eq!(g.len(), c.len() * out.len(), "one result a row");
    if c.is_empty() {
        return;
    }
    let (wholes, ends) = c.as_chunks::<8>();
    let mut end = [0f64; 8];
    end[..ends.len()].copy_from_slice(ends);
    for (g, out) in g.chunks_exact(c.len()).zip(out) {
        let mut lanes = [0f64; 8];
        let (own, rest) = g.as_chunks::<8>();
        for (g, c) in own.iter().zip(wholes) {
            for j in 0..8 {
                lanes[j] += g[j] * c[j];
            }
        }
        if let Some((g, c)) = rest.first_chunk::<4>().zip(end.first_chunk::<4>()) {
            for j in 0..4 {
                lanes[j] += g[j] * c[j];
            }
            for ((lane, g), c) in lanes[4..].iter_mut().zip(&rest[4..]).zip(&end[4..]) {
                *lane += g * c;
            }
        } else {
            for ((lane, g), c) in lanes.iter_mut().zip(rest).zip(&end) {
                *lane += g * c;
            }
        }
        let [a, b, c, d, e, f, g, h] = lanes;
        let [a, b, c, d] = [a + e, b + f, c + g, d + h];
        *out = (a + c) + (b + d);
    }
}

/// `out[k] += sum over s of |g[s][k] * a[k] + r[s] * b[k]|`, `g` `[rows, columns]`: four sums by `s
/// mod 4`, added up in rising order.
///
/// # Panics
/// If the lengths do not agree.
#[inline(always)]
pub fn magnitudes(g: &[f64], r: &[f64], a: &[f64], b: &[f64], out: &mut [f64]) {
    let columns = out.len();
    assert!(g.len() == r.len() * columns && a.len() == columns && b.len() == columns);
    let mut first = 0;
    while first < columns {
        first += match columns - first {
            16.. => block::<16>(g, r, (a, b), first, out),
            8.. => block::<8>(g, r, (a, b), first, out),
            4.. => block::<4>(g, r, (a, b), first, out),
            2.. => block::<2>(g, r, (a, b), first, out),
            _ => block::<1>(g, r, (a, b), first, out),
        };
    }
}

/// The magnitudes of `W` columns from `first` on; gives `W`.
#[inline(always)]
fn block<const W: usize>(
    g: &[f64],
    r: &[f64],
    (a, b): (&[f64], &[f64]),
    first: usize,
    out: &mut [f64],
) -> usize {
    let columns = out.len();
    let (mut own, mut other) = ([0f64; W], [0f64; W]);
    own.copy_from_slice(&a[first..first + W]);
    other.copy_from_slice(&b[first..first + W]);
    let mut sums = [[0f64; W]; ROWS];
    let rows = g.chunks(ROWS * columns).zip(r.chunks(ROWS));
    for (g, r) in rows {
        if let [r0, r1, r2, r3] = *r {
            let row = |index: usize| &g[index * columns + first..index * columns + first + W];
            let (g0, g1, g2, g3) = (row(0), row(1), row(2), row(3));
            for j in 0..W {
                sums[0][j] += (g0[j] * own[j] + r0 * other[j]).abs();
                sums[1][j] += (g1[j] * own[j] + r1 * other[j]).abs();
                sums[2][j] += (g2[j] * own[j] + r2 * other[j]).abs();
                sums[3][j] += (g3[j] * own[j] + r3 * other[j]).abs();
            }
        } else {
            for ((g, r), sums) in g.chunks_exact(columns).zip(r).zip(&mut sums) {
                let g = &g[first..first + W];
                for j in 0..W {
                    sums[j] += (g[j] * own[j] + r * other[j]).abs();
                }
            }
        }
    }
    for (j, out) in out[first..first + W].iter_mut().enumerate() {
        *out += ((sums[0][j] + sums[1][j]) + sums[2][j]) + sums[3][j];
    }
    W
}

/// `g[s][k] = g[s][k] * a[k] + r[s] * b[k]`, in place.
///
/// # Panics
/// If the lengths do not agree.
#[inline(always)]
pub fn combine(g: &mut [f64], r: &[f64], a: &[f64], b: &[f64]) {
    let columns = a.len();
    assert!(g.len() == r.len() * columns && b.len() == columns);
    for (g, &r) in g.chunks_exact_mut(columns).zip(r) {
        for k in 0..columns {
            g[k] = g[k] * a[k] + r * b[k];
        }
    }
}

/// `out[i][j] += sum over s of (g[s][i] * weights[s]) * g[s][j]`, `g` `[rows, columns]`; the upper
/// triangle and what of the lower lies beside it in its lanes, the rest is left alone.
///
/// # Panics
/// If the lengths do not agree.
#[inline(always)]
pub fn gram(g: &[f64], weights: &[f64], columns: usize, out: &mut [f64]) {
    assert!(g.len() == weights.len() * columns && out.len() == columns * columns);
    let mut i = 0;
    while i < columns {
        let count = if columns - i < ROWS { columns - i } else { ROWS };
        let mut first = i;
        while first < columns {
            let width = if columns - first < LANES { columns - first } else { LANES };
            let mut sums = [[0f64; LANES]; ROWS];
            for (g, &weight) in g.chunks_exact(columns).zip(weights) {
                let right = &g[first..first + width];
                if count == ROWS && width == LANES {
                    let left =
                        [g[i] * weight, g[i + 1] * weight, g[i + 2] * weight, g[i + 3] * weight];
                    for j in 0..LANES {
                        sums[0][j] += left[0] * right[j];
                        sums[1][j] += left[1] * right[j];
                        sums[2][j] += left[2] * right[j];
                        sums[3][j] += left[3] * right[j];
                    }
                } else {
                    for (sums, &left) in sums.iter_mut().zip(&g[i..i + count]) {
                        let left = left * weight;
                        for (sum, &right) in sums.iter_mut().zip(right) {
                            *sum += left * right;
                        }
                    }
                }
            }
            for (index, sums) in sums[..count].iter().enumerate() {
                let at = (i + index) * columns + first;
                for (out, &sum) in out[at..at + width].iter_mut().zip(sums) {
                    *out += sum;
                }
            }
            first += width;
        }
        i += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(count: usize, width: usize, seed: u64) -> Vec<f64> {
        let rows = crate::model::random::random_rows(count.max(1), width, seed);
        rows.iter().map(|&x| f64::from(x)).take(count * width).collect()
    }

    #[test]
    fn products_of_every_shape_have_the_bits_of_the_plain_sums() {
        for (count, inner, outputs) in [(1, 1, 1), (3, 5, 7), (4, 16, 16), (9, 17, 33), (8, 3, 40)]
        {
            let (g, w) = (rows(count, inner, 1), rows(inner, outputs, 2));
            let mut out = vec![f64::NAN; count * outputs];
            product(&g, &w, inner, &mut out);
            for s in 0..count {
                for o in 0..outputs {
                    let plain =
                        (0..inner).fold(0.0, |sum, k| sum + g[s * inner + k] * w[k * outputs + o]);
                    assert_eq!(out[s * outputs + o].to_bits(), plain.to_bits());
                }
            }
        }
    }

    #[test]
    fn dots_have_the_bits_of_eight_lanes() {
        for (count, width) in [(1, 1), (5, 4), (3, 7), (4, 8), (2, 21)] {
            let (g, c) = (rows(count, width, 9), rows(1, width, 10));
            let mut out = vec![f64::NAN; count];
            dots(&g, &c, &mut out);
            for (s, out) in out.iter().enumerate() {
                let lane = |lane: usize| {
                    let of = (lane..width).step_by(8);
                    of.fold(0.0, |sum, k| sum + g[s * width + k] * c[k])
                };
                let four = [0, 1, 2, 3].map(|j| lane(j) + lane(j + 4));
                let plain = (four[0] + four[2]) + (four[1] + four[3]);
                assert_eq!(out.to_bits(), plain.to_bits(), "{count} {width} {s}");
            }
        }
    }

    #[test]
    fn a_gram_matrix_holds_the_plain_sums_in_its_upper_triangle() {
        for (count, width) in [(1, 1), (5, 3), (20, 16), (7, 37)] {
            let (g, weights) = (rows(count, width, 3), rows(count, 1, 4));
            let mut out = vec![0.0; width * width];
            gram(&g, &weights, width, &mut out);
            for i in 0..width {
                for j in i..width {
                    let term = |s: usize| (g[s * width + i] * weights[s]) * g[s * width + j];
                    let plain = (0..count).fold(0.0, |sum, s| sum + term(s));
                    assert_eq!(out[i * width + j].to_bits(), plain.to_bits(), "{i} {j}");
                }
            }
        }
    }

    #[test]
    fn magnitudes_are_those_of_the_combined_rows() {
        for (count, width) in [(9, 31), (8, 1), (3, 21), (7, 6), (1, 16)] {
            let (mut g, r) = (rows(count, width, 5), rows(count, 1, 6));
            let (a, b) = (rows(1, width, 7), rows(1, width, 8));
            let mut sums = vec![1.0; width];
            magnitudes(&g, &r, &a, &b, &mut sums);
            combine(&mut g, &r, &a, &b);
            for k in 0..width {
                let lane = |lane: usize| {
                    let rows = (lane..count).step_by(4);
                    rows.fold(0.0, |sum, s| sum + g[s * width + k].abs())
                };
                let plain = 1.0 + (((lane(0) + lane(1)) + lane(2)) + lane(3));
                assert_eq!(sums[k].to_bits(), plain.to_bits(), "{count} {width} {k}");
            }
        }
    }
}

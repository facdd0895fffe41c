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
        let width = if outputs - first < LANES { outputs - first } else { LANES };
        let mut row = 0;
        while row < rows {
            let count = if rows - row < ROWS { rows - row } else { ROWS };
            if width == LANES && count == ROWS {
                tile(&g[row * inner..], w, (inner, outputs), first, &mut out[row * outputs..]);
            } else {
                edge(
                    &g[row * inner..(row + count) * inner],
                    w,
                    (inner, outputs),
                    (first, width),
                    &mut out[row * outputs..],
                );
            }
            row += count;
        }
        first += width;
    }
}

/// A whole tile of `ROWS` by `LANES` results.
#[inline(always)]
fn tile(g: &[f64], w: &[f64], (inner, outputs): (usize, usize), first: usize, out: &mut [f64]) {
    let mut sums = [[0f64; LANES]; ROWS];
    let (a, rest) = g.split_at(inner);
    let (b, rest) = rest.split_at(inner);
    let (c, rest) = rest.split_at(inner);
    let d = &rest[..inner];
    for k in 0..inner {
        let w = &w[k * outputs + first..k * outputs + first + LANES];
        let (ga, gb, gc, gd) = (a[k], b[k], c[k], d[k]);
        for j in 0..LANES {
            sums[0][j] += ga * w[j];
            sums[1][j] += gb * w[j];
            sums[2][j] += gc * w[j];
            sums[3][j] += gd * w[j];
        }
    }
    for (index, sums) in sums.iter().enumerate() {
        out[index * outputs + first..index * outputs + first + LANES].copy_from_slice(sums);
    }
}

/// What is left at the edges, in the same order.
#[inline(always)]
fn edge(
    g: &[f64],
    w: &[f64],
    (inner, outputs): (usize, usize),
    (first, width): (usize, usize),
    out: &mut [f64],
) {
    for (index, g) in g.chunks_exact(inner).enumerate() {
        let mut sums = [0f64; LANES];
        for (k, &g) in g.iter().enumerate() {
            let w = &w[k * outputs + first..k * outputs + first + width];
            for (sum, &w) in sums.iter_mut().zip(w) {
                *sum += g * w;
            }
        }
        let at = index * outputs + first;
        out[at..at + width].copy_from_slice(&sums[..width]);
    }
}

/// `out[s] = sum over k of g[s][k] * c[k]`: eight lanes by `k mod 8`, added up in rising order.
///
/// # Panics
/// If the lengths do not agree.
#[inline(always)]
pub fn dots(g: &[f64], c: &[f64], out: &mut [f64]) {
    assert_eq!(g.len(), c.len() * out.len(), "one result a row");
    if c.is_empty() {
        return;
    }
    for (g, out) in g.chunks_exact(c.len()).zip(out) {
        let mut lanes = [0f64; 8];
        let (whole, c_whole) = (g.chunks_exact(8), c.chunks_exact(8));
        let (rest, c_rest) = (whole.remainder(), c_whole.remainder());
        for (g, c) in whole.zip(c_whole) {
            for j in 0..8 {
                lanes[j] += g[j] * c[j];
            }
        }
        for (lane, (g, c)) in lanes.iter_mut().zip(rest.iter().zip(c_rest)) {
            *lane += g * c;
        }
        *out = lanes.iter().fold(0.0, |sum, lane| sum + lane);
    }
}

/// `out[k] += sum over s of |g[s][k] * a[k] + r[s] * b[k]|`, `g` `[rows, columns]`.
///
/// # Panics
/// If the lengths do not agree.
#[inline(always)]
pub fn magnitudes(g: &[f64], r: &[f64], a: &[f64], b: &[f64], out: &mut [f64]) {
    let columns = out.len();
    assert!(g.len() == r.len() * columns && a.len() == columns && b.len() == columns);
    for (g, &r) in g.chunks_exact(columns).zip(r) {
        for k in 0..columns {
            out[k] += (g[k] * a[k] + r * b[k]).abs();
        }
    }
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
        let (count, width) = (9, 21);
        let (mut g, r) = (rows(count, width, 5), rows(count, 1, 6));
        let (a, b) = (rows(1, width, 7), rows(1, width, 8));
        let mut sums = vec![0.0; width];
        magnitudes(&g, &r, &a, &b, &mut sums);
        combine(&mut g, &r, &a, &b);
        for k in 0..width {
            let plain = (0..count).fold(0.0, |sum, s| sum + g[s * width + k].abs());
            assert_eq!(sums[k].to_bits(), plain.to_bits());
        }
    }
}

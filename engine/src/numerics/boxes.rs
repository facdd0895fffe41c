//! Programs over boxes of finite numbers: what a product, a sum or a mix may be.
//!
//! A rounded product is monotone in either factor and a rounded sum in either term, so the ends are
//! those of the engine's own program at corners, with the engine's own rounding.

use super::reduce::tree;

/// The ends of a rounded product of two boxes.
#[inline(always)]
fn product(a: (f32, f32), b: (f32, f32)) -> (f32, f32) {
    let (p, q, r, s) = (a.0 * b.0, a.0 * b.1, a.1 * b.0, a.1 * b.1);
    let least = |x: f32, y: f32| if x < y { x } else { y };
    let most = |x: f32, y: f32| if x > y { x } else { y };
    (least(least(p, q), least(r, s)), most(most(p, q), most(r, s)))
}

/// The ends of `dot16` of a box of rows with each of several boxes that lie behind one another.
///
/// # Panics
/// Unless the rows are as wide as the first.
#[inline(always)]
pub fn dots(query: (&[f32], &[f32]), rows: (&[f32], &[f32]), out: &mut [(f32, f32)]) {
    let width = query.0.len();
    assert!(query.1.len() == width, "both ends of a row");
    assert!(rows.0.len() == width * out.len() && rows.1.len() == rows.0.len(), "rows as wide");
    for (index, out) in out.iter_mut().enumerate() {
        let span = index * width..(index + 1) * width;
        let (lo, hi) = (&rows.0[span.clone()], &rows.1[span]);
        let (mut low, mut high) = ([0f32; 16], [0f32; 16]);
        let whole = width / 16 * 16;
        let mut k = 0;
        while k < whole {
            let (ql, qh) = (&query.0[k..k + 16], &query.1[k..k + 16]);
            let (rl, rh) = (&lo[k..k + 16], &hi[k..k + 16]);
            for j in 0..16 {
                let (l, h) = product((ql[j], qh[j]), (rl[j], rh[j]));
                low[j] += l;
                high[j] += h;
            }
            k += 16;
        }
        for j in 0..width - whole {
            let at = whole + j;
            let (l, h) = product((query.0[at], query.1[at]), (lo[at], hi[at]));
            low[j] += l;
            high[j] += h;
        }
        *out = (tree(low), tree(high));
    }
}

/// Adds the ends of the rounded products of shares with rows, in rising order.
///
/// # Panics
/// Unless there is a row as wide as `out` for each share.
#[inline(always)]
pub fn mix(shares: &[(f32, f32)], rows: (&[f32], &[f32]), out: (&mut [f32], &mut [f32])) {
    let width = out.0.len();
    assert!(out.1.len() == width, "both ends");
    assert!(rows.0.len() == width * shares.len() && rows.1.len() == rows.0.len(), "a row a share");
    for (index, &share) in shares.iter().enumerate() {
        let span = index * width..(index + 1) * width;
        let ends = rows.0[span.clone()].iter().zip(&rows.1[span]);
        for ((low, high), (&lo, &hi)) in out.0.iter_mut().zip(out.1.iter_mut()).zip(ends) {
            let (l, h) = product(share, (lo, hi));
            *low += l;
            *high += h;
        }
    }
}

/// The best response to each ratio: with `v` the rows of values, column by column the quotient
/// `sum w v / sum w` where a weight is its upper end for a value not below the ratio, else its
/// lower end.
///
/// # Panics
/// Unless there is a row as wide as `ratios` for each weight.
#[inline(always)]
pub fn respond(values: &[f64], weights: (&[f64], &[f64]), ratios: &[f64], out: &mut [f64]) {
    const RUN: usize = 16;
    let (width, rows) = (ratios.len(), weights.0.len());
    assert!(out.len() == width && weights.1.len() == rows, "both ends");
    assert_eq!(values.len(), width * rows, "a row a weight");
    for start in (0..width).step_by(RUN) {
        let end = if start + RUN < width { start + RUN } else { width };
        let mut ratio = [0f64; RUN];
        ratio[..end - start].copy_from_slice(&ratios[start..end]);
        let (mut sums, mut masses) = ([0f64; RUN], [0f64; RUN]);
        for (row, (&low, &high)) in weights.0.iter().zip(weights.1).enumerate() {
            let mut value = [0f64; RUN];
            let from = &values[row * width + start..row * width + end];
            if from.len() == RUN {
                value.copy_from_slice(from);
            } else {
                value[..from.len()].copy_from_slice(from);
            }
            for j in 0..RUN {
                let weight = if value[j] >= ratio[j] { high } else { low };
                sums[j] += weight * value[j];
                masses[j] += weight;
            }
        }
        for (j, out) in out[start..end].iter_mut().enumerate() {
            *out = sums[j] / masses[j];
        }
    }
}

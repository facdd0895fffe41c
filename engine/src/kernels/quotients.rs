//! Sums to values: divisions by the scale of a row, as products with its reciprocal.

use super::{GROUP_ROWS, LANES};
use crate::numerics::{max, min};

/// The 64 sums of each row as values; see [`super::Rescale`]. `divisor` is that of
/// a row's scale, `factor` what follows the division, `all` divides as [`Quotient::all`] does.
///
/// A quotient of two f32 is no midpoint of f32 (that has 25 bits, and its product with a divisor of
/// 24 has more than 24), and lies 2^-49 or more of itself beside the next one. So the product with
/// the reciprocal in f64, wrong by less than 2^-51, rounds to the very quotient, unless that is
/// subnormal: so large a divisor is left to the division. Zero, infinity and NaN come out alike.
#[inline(always)]
pub(super) fn rescale(
    sums: &[i32],
    scales: &[f32],
    out: &mut [f32],
    stride: usize,
    (divisor, factor): (impl Fn(f32) -> f32, f32),
    all: impl Fn(Quotient, &[i32], &mut [f32]),
) {
    assert_eq!(sums.len(), scales.len() * LANES, "64 sums a row");
    let last = scales.len().saturating_sub(1);
    let width = (out.len() - last * stride).min(LANES);
    assert!(width <= stride, "rows that do not overlap");
    for (i, (sums, &t)) in sums.chunks_exact(LANES).zip(scales).enumerate() {
        let out = &mut out[i * stride..i * stride + width];
        all(Quotient::by(divisor(t), factor), sums, out);
    }
}

/// The sums of groups as values; see [`super::RescaleGroups`].
#[inline(always)]
pub(super) fn rescale_groups(
    sums: &[i32],
    scales: &[f32],
    outs: &mut [&mut [f32]],
    (divisor, factor): (impl Fn(f32) -> f32, f32),
    all: impl Fn(Quotient, &[i32], &mut [f32]),
) {
    assert_eq!(scales.len(), outs.len(), "a row of results for each scale");
    for (row, (&t, out)) in scales.iter().zip(outs).enumerate() {
        let quotient = Quotient::by(divisor(t), factor);
        let groups = sums.chunks_exact(scales.len() * GROUP_ROWS);
        for (sums, out) in groups.zip(out.chunks_mut(GROUP_ROWS)) {
            all(quotient, &sums[row * GROUP_ROWS..][..GROUP_ROWS], out);
        }
    }
}

/// The ends of the values of one row of boxes of sums; see [`super::Corners`].
#[inline(always)]
pub(super) fn corners(
    sums: (&[i32], &[i32]),
    (row, rows): (usize, usize),
    divisors: (f32, f32),
    factor: f32,
    out: (&mut [f32], &mut [f32]),
) {
    assert!(sums.0.len() == sums.1.len() && out.0.len() == out.1.len() && row < rows, "both ends");
    let quotients = [Quotient::by(divisors.0, factor), Quotient::by(divisors.1, factor)];
    let group = |sums: &[i32], index: usize| -> [i32; GROUP_ROWS] {
        let at = (index * rows + row) * GROUP_ROWS;
        sums[at..at + GROUP_ROWS].try_into().expect("16 results")
    };
    let outs = out.0.chunks_mut(GROUP_ROWS).zip(out.1.chunks_mut(GROUP_ROWS));
    for (index, (lows, highs)) in outs.enumerate() {
        let mut ends = [[0f32; GROUP_ROWS]; 4];
        for (ends, sums) in ends.chunks_exact_mut(2).zip([sums.0, sums.1]) {
            for (ends, quotient) in ends.iter_mut().zip(quotients) {
                quotient.all(&group(sums, index), ends);
            }
        }
        let [a, b, c, d] = ends;
        for (j, (low, high)) in lows.iter_mut().zip(highs).enumerate() {
            *low = min(min(a[j], b[j]), min(c[j], d[j]));
            *high = max(max(a[j], b[j]), max(c[j], d[j]));
        }
    }
}

/// A division of many sums by one number, and the factor that follows it.
#[derive(Clone, Copy, Debug)]
pub struct Quotient {
    pub(super) divisor: f32,
    reciprocal: f64,
    pub(super) factor: f32,
}

impl Quotient {
    /// `sum / divisor * factor`, each operation rounded to f32.
    #[must_use]
    #[inline(always)]
    pub fn by(divisor: f32, factor: f32) -> Self {
        Self { divisor, reciprocal: 1.0 / f64::from(divisor), factor }
    }

    /// As many values as `out` takes.
    #[inline(always)]
    pub(super) fn all(self, sums: &[i32], out: &mut [f32]) {
        if self.divisor.abs() < 1e30 {
            let value = |sum: i32| (f64::from(sum as f32) * self.reciprocal) as f32 * self.factor;
            let whole = out.len() / 16 * 16;
            let (runs, rest) = out.as_chunks_mut::<16>();
            for (run, sums) in runs.iter_mut().zip(sums.as_chunks::<16>().0) {
                for j in 0..16 {
                    run[j] = value(sums[j]);
                }
            }
            rest.iter_mut().zip(&sums[whole..]).for_each(|(out, &sum)| *out = value(sum));
        } else {
            let value = |sum: i32| sum as f32 / self.divisor * self.factor;
            out.iter_mut().zip(sums).for_each(|(out, &sum)| *out = value(sum));
        }
    }
}

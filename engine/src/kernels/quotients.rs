//! Sums to values: divisions by the scale of a row, as products with its reciprocal.

use super::{EndsMut, GROUP_ROWS, LANES};
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

/// What groups of outputs write of a row of boxes: the ends of its values, and of its sums.
#[derive(Debug)]
pub struct Part<'a> {
    /// The lower and the upper ends of the values.
    pub values: EndsMut<'a>,
    /// Those of the sums, if they are wanted.
    pub sums: Option<(&'a mut [i32], &'a mut [i32])>,
}

/// Both ends of 16 numbers, written.
type Ends16<'a, T> = [&'a mut [T; GROUP_ROWS]; 2];

/// What one group of outputs writes of a row.
pub(super) struct Group<'a> {
    pub(super) values: Ends16<'a, f32>,
    pub(super) sums: Option<Ends16<'a, i32>>,
}

impl Part<'_> {
    /// The group that begins at a place, if there is room for all of it.
    #[inline(always)]
    fn group(&mut self, at: usize) -> Option<Group<'_>> {
        let low = self.values.0[at..].first_chunk_mut()?;
        let high = self.values.1[at..].first_chunk_mut()?;
        let sums = match &mut self.sums {
            Some((low, high)) => {
                Some([low[at..].first_chunk_mut()?, high[at..].first_chunk_mut()?])
            }
            None => None,
        };
        Some(Group { values: [low, high], sums })
    }

    /// Writes what there is room for of a group that begins at a place.
    fn write(&mut self, at: usize, values: [[f32; GROUP_ROWS]; 2], sums: [[i32; GROUP_ROWS]; 2]) {
        for (out, ends) in [&mut *self.values.0, &mut *self.values.1].into_iter().zip(values) {
            let out = &mut out[at..];
            out.copy_from_slice(&ends[..out.len()]);
        }
        for (out, ends) in self.sums.iter_mut().flat_map(|(a, b)| [&mut **a, &mut **b]).zip(sums) {
            let out = &mut out[at..];
            out.copy_from_slice(&ends[..out.len()]);
        }
    }
}

/// The ends of the values of boxes of sums, and the sums row by row; see [`super::Corners`].
#[inline(always)]
pub(super) fn corners(
    sums: (&[i32], &[i32]),
    scales: &[(f32, f32)],
    (divisor, factor): (impl Fn(f32) -> f32, f32),
    parts: &mut [Part],
    ends: impl Fn([&[i32; GROUP_ROWS]; 2], &[Quotient; 2], Group),
) {
    assert!(sums.0.len() == sums.1.len() && scales.len() == parts.len(), "a part for each row");
    let by = |&(low, high): &(f32, f32)| {
        [Quotient::by(divisor(low), factor), Quotient::by(divisor(high), factor)]
    };
    let quotients: Vec<[Quotient; 2]> = scales.iter().map(by).collect();
    // As the sums lie: group by group, row by row.
    let lows = sums.0.as_chunks::<GROUP_ROWS>().0.chunks_exact(scales.len());
    let groups = lows.zip(sums.1.as_chunks::<GROUP_ROWS>().0.chunks_exact(scales.len()));
    for (group, (lows, highs)) in groups.enumerate() {
        let rows = lows.iter().zip(highs).zip(&quotients).zip(parts.iter_mut());
        for (((low, high), quotients), part) in rows {
            let at = group * GROUP_ROWS;
            if let Some(group) = part.group(at) {
                ends([low, high], quotients, group);
                continue;
            }
            let mut values = [[0.0; GROUP_ROWS]; 2];
            ends([low, high], quotients, Group { values: values.each_mut(), sums: None });
            part.write(at, values, [*low, *high]);
        }
    }
}

/// The ends of the values of 16 boxes of sums.
#[inline(always)]
pub(super) fn ends(sums: [&[i32; GROUP_ROWS]; 2], quotients: &[Quotient; 2], out: Group) {
    let mut corners = [[0f32; GROUP_ROWS]; 4];
    quotients[0].all(sums[0], &mut corners[0]);
    quotients[1].all(sums[0], &mut corners[1]);
    quotients[0].all(sums[1], &mut corners[2]);
    quotients[1].all(sums[1], &mut corners[3]);
    let [a, b, c, d] = corners;
    let [low, high] = out.values;
    for j in 0..GROUP_ROWS {
        low[j] = min(min(a[j], b[j]), min(c[j], d[j]));
    }
    for j in 0..GROUP_ROWS {
        high[j] = max(max(a[j], b[j]), max(c[j], d[j]));
    }
    if let Some([low, high]) = out.sums {
        (*low, *high) = (*sums[0], *sums[1]);
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

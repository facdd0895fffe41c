//! Absmax codes of a row of boxes: the engine's program at corners, and the range of the ratios.

use super::round::{least, least64, most, most64};
use super::{Ends, Reals, Scratch, rows_in};
use crate::numerics::Levels;
use crate::numerics::quantize::rounded;

/// The engine's floor under an absmax, with room.
const FLOOR: f64 = 2e-5;

/// What is quantised, and how.
#[derive(Clone, Copy, Debug)]
pub struct CodeRow<'a> {
    /// The boxes of the values.
    pub x: Ends<'a>,
    /// What the values are over the reals, up to one factor, before the gains.
    pub reals: Reals<'a>,
    /// Gains between those and the values, if there are any.
    pub gains: Option<&'a [f32]>,
    /// A bound of the engine's relative error of each value.
    pub error: f64,
    /// A number that the absolute maximum is not below.
    pub least_absmax: f32,
    /// What the codes are among.
    pub levels: Levels,
}

/// The range of the absolute maximum of a row of boxes.
#[must_use]
#[inline(always)]
pub fn absmax(x: Ends) -> (f32, f32) {
    let (mut near, mut far) = (0u32, 0u32);
    for (&lo, &hi) in x.0.iter().zip(x.1) {
        near = near.max(least(lo, hi).to_bits());
        far = far.max(most(lo, hi).to_bits());
    }
    (f32::from_bits(near), f32::from_bits(far))
}

/// Writes the lower codes of a row and how much more the upper ones are, and returns the range of
/// its quantisation scale.
///
/// # Panics
/// Unless all rows are of one width, and if the two bounds of a code do not meet.
#[inline(always)]
pub fn codes(row: &CodeRow, scratch: &mut Scratch, out: (&mut [i8], &mut [u8])) -> (f32, f32) {
    let (width, levels) = (row.x.0.len(), row.levels);
    let (a_lo, a_hi) = absmax(row.x);
    let a_lo = if row.least_absmax > a_lo { row.least_absmax } else { a_lo };
    let a_lo = if a_lo < a_hi { a_lo } else { a_hi };
    let scale = (levels.scale(a_hi), levels.scale(a_lo));
    let [low, high] = rows_in(&mut scratch.integers, width);
    let (lo, hi) = (&row.x.0[..width], &row.x.1[..width]);
    for i in 0..width {
        low[i] = code(lo[i], if lo[i] >= 0.0 { scale.0 } else { scale.1 }, levels);
        high[i] = code(hi[i], if hi[i] >= 0.0 { scale.1 } else { scale.0 }, levels);
    }
    // Where the floor may bind, nothing cancels.
    if f64::from(a_lo) > FLOOR {
        narrow(row, &mut scratch.wide, (low, high));
    }
    let (codes, widths) = (&mut out.0[..width], &mut out.1[..width]);
    let mut crossed = false;
    for i in 0..width {
        crossed |= low[i] > high[i];
        (codes[i], widths[i]) = (low[i] as i8, (high[i] - low[i]) as u8);
    }
    assert!(!crossed, "both bounds enclose the engine's code");
    scale
}

/// The engine's code of a value at a scale, as an integer.
#[inline(always)]
fn code(value: f32, t: f32, levels: Levels) -> i32 {
    let (least, most) = (levels.least(), levels.most());
    let code = value * t;
    let code = if code < least { least } else { code };
    let code = if code > most { most } else { code };
    i32::from(rounded(code))
}

/// Narrows codes to those of the exact ratios, widened by the engine's error.
#[inline(always)]
fn narrow(row: &CodeRow, memory: &mut Vec<f64>, (low, high): (&mut [i32], &mut [i32])) {
    let width = low.len();
    let [lo, hi, sizes @ ..]: [_; 8] = rows_in(memory, width);
    row.reals.write(lo, hi);
    if let Some(gains) = row.gains {
        let (gains, hi) = (&gains[..width], &mut hi[..width]);
        for i in 0..width {
            let gain = f64::from(gains[i]);
            let (a, b) = (gain * lo[i], gain * hi[i]);
            let rises = gain >= 0.0;
            (lo[i], hi[i]) = (if rises { a } else { b }, if rises { b } else { a });
        }
    }
    let [near, far] = others((lo, hi), sizes);
    let (lo, hi, near, far) = (&lo[..width], &hi[..width], &near[..width], &far[..width]);
    let high = &mut high[..width];
    let (levels, error) = (row.levels, row.error);
    for i in 0..width {
        let (near, far) = (near[i], far[i]);
        let of_lo = if lo[i] > 0.0 { far } else { near };
        let of_hi = if hi[i] > 0.0 { near } else { far };
        low[i] = low[i].max(outer(lo[i], of_lo, (-1.0, error), levels));
        high[i] = high[i].min(outer(hi[i], of_hi, (1.0, error), levels));
    }
}

/// The code of an end of a value, divided by the maximum of its size and that of the others, behind
/// the engine's error to one side.
#[inline(always)]
fn outer(end: f64, others: f64, (side, error): (f64, f64), levels: Levels) -> i32 {
    let (least, top) = (f64::from(levels.least()), f64::from(levels.most()));
    let size = end.abs();
    let ratio = end / if size > others { size } else { others };
    let ratio = if end == 0.0 { 0.0 } else { ratio };
    let value = top * ratio + side * (top * ratio.abs() * error + 1e-30);
    let value = if value < least { least } else { value };
    let value = if value > top { top } else { value };
    // 1.5 * 2^52: adding it rounds half to even, and the low bits of the sum are the integer.
    (value + 6_755_399_441_055_744.0).to_bits() as i32
}

/// For each value of boxes the least and the greatest maximum of the sizes of all others, from
/// prefix and suffix maxima. The four chains of maxima run side by side.
#[inline(always)]
fn others<'a>(
    (lo, hi): (&[f64], &[f64]),
    [near, far, near_before, far_before, near_behind, far_behind]: [&'a mut [f64]; 6],
) -> [&'a mut [f64]; 2] {
    let width = near.len();
    let (lo, hi, far) = (&lo[..width], &hi[..width], &mut far[..width]);
    for i in 0..width {
        (near[i], far[i]) = (least64(lo[i], hi[i]), most64(lo[i], hi[i]));
    }
    let (near_before, far_before) = (&mut near_before[..width], &mut far_before[..width]);
    let (near_behind, far_behind) = (&mut near_behind[..width], &mut far_behind[..width]);
    let mut most = [0.0; 4];
    for i in 0..width {
        let j = width - 1 - i;
        (near_before[i], far_before[i]) = (most[0], most[1]);
        (near_behind[j], far_behind[j]) = (most[2], most[3]);
        most[0] = larger(most[0], near[i]);
        most[1] = larger(most[1], far[i]);
        most[2] = larger(most[2], near[j]);
        most[3] = larger(most[3], far[j]);
    }
    for i in 0..width {
        near_before[i] = larger(near_before[i], near_behind[i]);
        far_before[i] = larger(far_before[i], far_behind[i]);
    }
    [near_before, far_before]
}

#[inline(always)]
fn larger(a: f64, b: f64) -> f64 {
    if b > a { b } else { a }
}

//! Absmax codes over a box.
//!
//! A code is `rne(Q z_k / max_j |z_j|)`, `Q` = 127 for int8 and 7 for int4: whatever scales the
//! whole row cancels. With `M` the maximum of the others, in `[Mlo, Mhi]`, the ratio is at most `u
//! / max(u, Mlo)` if `u > 0`, else `u / max(|u|, Mhi)`; the least is symmetric. Rounding half to
//! even is monotone, so the code of a bound bounds the code.
//!
//! The engine's scaled value against the real one: the errors of `z_k` and of the largest `z_j`,
//! then reciprocal, product with `Q`, product with the value: the error of the source twice plus
//! four units. The floor under the absmax breaks the cancelling, so it must be ruled out first.

use std::sync::Arc;

use engine::kernels::BLOCK_COLUMNS;
use engine::model::Activations;
use engine::numerics::Levels;
use ndarray::Array2;

use super::round::{UNIT, least, least64, most, most64};
use super::{Boxes, Origin};

/// The engine's floor under an absmax, with room.
const FLOOR: f64 = 2e-5;

/// Boxes as the linear layers read them.
#[derive(Clone, Debug)]
pub struct BoxPrepared {
    /// The boxes of the values.
    pub values: Boxes,
    /// Under integer codes: their boxes.
    pub codes: Option<BoxCodes>,
}

/// Boxes of integer codes.
#[derive(Clone, Debug)]
pub struct BoxCodes {
    /// Lower codes, `[tokens, padded columns]`.
    pub lo: Vec<i8>,
    /// Upper less lower code.
    pub width: Vec<u8>,
    /// The range of the quantisation scale of each row.
    pub scales: Vec<(f32, f32)>,
    /// What the codes are among.
    pub levels: Levels,
    /// The identity of these codes: who shares it, shares their scales.
    pub(super) mark: Arc<()>,
}

impl BoxCodes {
    /// The lower codes and their widths of one row, padded, with the range of its scale.
    pub(crate) fn row(&self, row: usize) -> (&[i8], &[u8], (f32, f32)) {
        let padded = self.lo.len() / self.scales.len();
        let at = row * padded..(row + 1) * padded;
        (&self.lo[at.clone()], &self.width[at], self.scales[row])
    }
}

impl BoxPrepared {
    pub(super) fn sound(&self) -> bool {
        let scales = self.codes.iter().flat_map(|codes| &codes.scales);
        self.values.sound()
            && scales.into_iter().all(|&(lo, hi)| lo > 0.0 && lo <= hi && hi.is_finite())
    }
}

pub(super) fn prepare(x: &Boxes, policy: Activations) -> BoxPrepared {
    let codes = policy.levels().filter(|_| x.sound()).map(|levels| codes(x, levels));
    BoxPrepared { values: x.clone(), codes }
}

fn codes(x: &Boxes, levels: Levels) -> BoxCodes {
    let (rows, columns) = x.lo.dim();
    let padded = columns.div_ceil(BLOCK_COLUMNS) * BLOCK_COLUMNS;
    let mut lo = vec![0i8; rows * padded];
    let mut width = vec![0u8; rows * padded];
    let mut scales = Vec::with_capacity(rows);
    for row in 0..rows {
        let (a_lo, a_hi) = absmax(x, row);
        let scale = (levels.scale(a_hi), levels.scale(a_lo));
        let plain = end_points(x.lo_row(row), x.hi_row(row), scale, levels);
        let tight = ratios(x, row, a_lo, levels);
        for column in 0..columns {
            let (mut low, mut high) = plain[column];
            if let Some(tight) = &tight {
                low = low.max(tight[column].0);
                high = high.min(tight[column].1);
            }
            assert!(low <= high, "both bounds enclose the engine's code");
            lo[row * padded + column] = low as i8;
            width[row * padded + column] = (high - low) as u8;
        }
        scales.push(scale);
    }
    BoxCodes { lo, width, scales, levels, mark: Arc::new(()) }
}

/// The range of the absolute maximum of a row.
pub(super) fn absmax(x: &Boxes, row: usize) -> (f32, f32) {
    let ends = || x.lo_row(row).iter().zip(x.hi_row(row));
    let at_least = ends().map(|(&lo, &hi)| least(lo, hi).to_bits()).max().unwrap_or(0);
    let at_most = ends().map(|(&lo, &hi)| most(lo, hi).to_bits()).max().unwrap_or(0);
    let mut low = f32::from_bits(at_least);
    if let Origin::Normed(normed) = &x.origin {
        let other = super::down(normed.least_absmax(row));
        low = if other > low { other } else { low };
    }
    let high = f32::from_bits(at_most);
    (if low < high { low } else { high }, high)
}

/// The engine's code of a value at a scale, as an integer.
fn code(value: f32, t: f32, levels: Levels) -> i32 {
    levels.clamp(value * t).round_ties_even() as i32
}

/// The engine's own program at the corners.
fn end_points(lo: &[f32], hi: &[f32], (t_lo, t_hi): (f32, f32), levels: Levels) -> Vec<(i32, i32)> {
    lo.iter()
        .zip(hi)
        .map(|(&lo, &hi)| {
            let low = code(lo, if lo >= 0.0 { t_lo } else { t_hi }, levels);
            let high = code(hi, if hi >= 0.0 { t_hi } else { t_lo }, levels);
            (low, high)
        })
        .collect()
}

/// The codes of the exact ratios, widened by the engine's error; `None` where the floor may bind.
fn ratios(x: &Boxes, row: usize, least_absmax: f32, levels: Levels) -> Option<Vec<(i32, i32)>> {
    if f64::from(least_absmax) <= FLOOR {
        return None;
    }
    let (z, error) = match &x.origin {
        Origin::Normed(normed) => {
            let ends = normed.lo.row(row).into_iter().zip(normed.hi.row(row)).zip(&normed.gains);
            let z = ends.map(|((&lo, &hi), &gain)| scaled(f64::from(gain), lo, hi)).collect();
            (z, 2.0 * normed.error + 8.0 * UNIT)
        }
        _ => {
            let ends = x.lo_row(row).iter().zip(x.hi_row(row));
            let z: Vec<(f64, f64)> =
                ends.map(|(&lo, &hi)| (f64::from(lo), f64::from(hi))).collect();
            (z, 8.0 * UNIT)
        }
    };
    let near: Vec<f64> = z.iter().map(|&(lo, hi)| least64(lo, hi)).collect();
    let far: Vec<f64> = z.iter().map(|&(lo, hi)| most64(lo, hi)).collect();
    let (near, far) = (others_max(&near), others_max(&far));
    let bound = |end: f64, m_lo: f64, m_hi: f64, up: bool| {
        if end == 0.0 {
            return 0.0;
        }
        let others = if (end > 0.0) == up { m_lo } else { m_hi };
        end / if end.abs() > others { end.abs() } else { others }
    };
    let top = f64::from(levels.most());
    let widened = |ratio: f64, sign: f64| {
        let value = top * ratio + sign * (top * ratio.abs() * error + 1e-30);
        value.clamp(levels.least().into(), top).round_ties_even() as i32
    };
    let all = z.iter().zip(near).zip(far).map(|((&(lo, hi), m_lo), m_hi)| {
        (widened(bound(lo, m_lo, m_hi, false), -1.0), widened(bound(hi, m_lo, m_hi, true), 1.0))
    });
    Some(all.collect())
}

fn scaled(gain: f64, lo: f64, hi: f64) -> (f64, f64) {
    if gain >= 0.0 { (gain * lo, gain * hi) } else { (gain * hi, gain * lo) }
}

/// For each index the largest of all others, from prefix and suffix maxima.
fn others_max(x: &[f64]) -> Vec<f64> {
    let larger = |a: f64, b: f64| if b > a { b } else { a };
    let mut maxima = vec![0.0; x.len()];
    let mut before = 0.0;
    for (most, &value) in maxima.iter_mut().zip(x) {
        *most = before;
        before = larger(before, value);
    }
    let mut behind = 0.0;
    for (most, &value) in maxima.iter_mut().zip(x).rev() {
        *most = larger(*most, behind);
        behind = larger(behind, value);
    }
    maxima
}

/// Boxes of single rows, for the store.
pub(super) fn row_boxes(lo: &[f32], hi: &[f32]) -> Boxes {
    let shape = (1, lo.len());
    let end = |values: &[f32]| Array2::from_shape_vec(shape, values.to_vec()).expect("one row");
    Boxes::new(end(lo), end(hi))
}

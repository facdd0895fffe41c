//! The key-value store over boxes: what may be read back from each storage type.

use engine::model::{KvKind, int8_code, int8_scales};
use engine::numerics::boxes::{absmax, signed_product as product};
use engine::numerics::{max, min, sum16};
use half::f16;

use super::Boxes;
use super::round::{least, most, widen_down, widen_up};

/// Boxes of the keys and values of one layer, as they are read back: `[head][token][dim]`.
#[derive(Clone, Debug)]
pub(super) struct BoxCache {
    pub(super) keys: Vec<Ends>,
    pub(super) values: Vec<Ends>,
}

/// The ends of the boxes of one head, `[token][dim]`.
#[derive(Clone, Debug, Default)]
pub(super) struct Ends {
    pub(super) lo: Vec<f32>,
    pub(super) hi: Vec<f32>,
}

impl BoxCache {
    pub(super) fn new(heads: usize) -> Self {
        Self { keys: vec![Ends::default(); heads], values: vec![Ends::default(); heads] }
    }

    /// Appends rows; says whether all that was stored is finite and ordered.
    pub(super) fn push(&mut self, kind: KvKind, d: usize, keys: &Boxes, values: &Boxes) -> bool {
        let mut sound = true;
        for (stores, rows) in [(&mut self.keys, keys), (&mut self.values, values)] {
            for row in 0..rows.lo.nrows() {
                let (lo, hi) = (rows.lo_row(row), rows.hi_row(row));
                for (store, (lo, hi)) in stores.iter_mut().zip(lo.chunks(d).zip(hi.chunks(d))) {
                    if kind == KvKind::F32 {
                        // The rows that come here are sound.
                        store.lo.extend_from_slice(lo);
                        store.hi.extend_from_slice(hi);
                        continue;
                    }
                    for (low, high) in stored(kind, lo, hi) {
                        sound &= low.is_finite() && high.is_finite() && low <= high;
                        store.lo.push(low);
                        store.hi.push(high);
                    }
                }
            }
        }
        sound
    }
}

/// What may be read back for a row of one head.
fn stored(kind: KvKind, lo: &[f32], hi: &[f32]) -> Vec<(f32, f32)> {
    let ends = || lo.iter().copied().zip(hi.iter().copied());
    match kind {
        KvKind::F32 => ends().collect(),
        // Rounding to f16 is monotone.
        KvKind::F16 => {
            let half = |x: f32| f16::from_f32(x).to_f32();
            ends().map(|(lo, hi)| (half(lo), half(hi))).collect()
        }
        KvKind::Int8 => int8(lo, hi),
        KvKind::OneBit => one_bit(lo, hi),
    }
}

/// Codes and scale at the corners; and within half a step of the value itself.
fn int8(lo: &[f32], hi: &[f32]) -> Vec<(f32, f32)> {
    let (a_lo, a_hi) = absmax((lo, hi));
    let ((t_hi, s_lo), (t_lo, s_hi)) = (int8_scales(a_lo), int8_scales(a_hi));
    let code = |x: f32, t: f32| f32::from(int8_code(x, t));
    lo.iter()
        .zip(hi)
        .map(|(&lo, &hi)| {
            let low = code(lo, if lo >= 0.0 { t_lo } else { t_hi });
            let high = code(hi, if hi >= 0.0 { t_hi } else { t_lo });
            let corners = product((low, high), (s_lo, s_hi));
            // A code is within 1/2 + 2^-14 of x / s, and the product within a unit of code * s.
            let step = f64::from(s_hi) * 0.501;
            let near = widen_down(f64::from(lo) - step, 1e-6, 1e-40);
            let far = widen_up(f64::from(hi) + step, 1e-6, 1e-40);
            (max(corners.0, near), min(corners.1, far))
        })
        .collect()
}

/// The sign of each entry under the mean magnitude of the row.
fn one_bit(lo: &[f32], hi: &[f32]) -> Vec<(f32, f32)> {
    let ends = || lo.iter().zip(hi);
    let near: Vec<f32> = ends().map(|(&lo, &hi)| least(lo, hi)).collect();
    let far: Vec<f32> = ends().map(|(&lo, &hi)| most(lo, hi)).collect();
    let d = lo.len() as f32;
    let (s_lo, s_hi) = (sum16(&near) / d, sum16(&far) / d);
    ends()
        .map(|(&lo, &hi)| {
            // Either zero is stored as positive.
            let low = if lo >= 0.0 { s_lo } else { -s_hi };
            let high = if hi >= 0.0 { s_hi } else { -s_lo };
            (low, high)
        })
        .collect()
}

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

use engine::kernels::{BLOCK_COLUMNS, Kernels};
use engine::model::Activations;
use engine::numerics::Levels;
use engine::numerics::boxes::{CodeRow, Reals, Scratch};
use rayon::prelude::*;

use super::round::UNIT;
use super::{Boxes, Origin};

/// Boxes as the linear layers read them.
#[derive(Clone, Debug)]
pub struct BoxPrepared {
    rows: usize,
    /// Under no policy: the boxes of the values.
    values: Option<Boxes>,
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
    /// How many rows there are.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// The boxes of the values.
    ///
    /// # Panics
    /// Where layers read codes.
    pub(super) fn values(&self) -> &Boxes {
        self.values.as_ref().expect("layers that read values")
    }

    /// Whether the scales are finite and ordered; the values were found to be.
    pub(super) fn sound(&self, values: bool) -> bool {
        let scales = self.codes.iter().flat_map(|codes| &codes.scales);
        values && scales.into_iter().all(|&(lo, hi)| lo > 0.0 && lo <= hi && hi.is_finite())
    }
}

/// Boxes as the linear layers read them, and whether they are finite and ordered.
pub(super) fn prepare(kernels: &Kernels, x: &Boxes, policy: Activations) -> (BoxPrepared, bool) {
    let values = x.sound();
    let codes = policy.levels().filter(|_| values).map(|levels| codes(kernels, x, levels));
    let kept = codes.is_none().then(|| x.clone());
    let prepared = BoxPrepared { rows: x.lo.nrows(), values: kept, codes };
    let sound = prepared.sound(values);
    (prepared, sound)
}

fn codes(kernels: &Kernels, x: &Boxes, levels: Levels) -> BoxCodes {
    let (rows, columns) = x.lo.dim();
    let padded = columns.div_ceil(BLOCK_COLUMNS) * BLOCK_COLUMNS;
    let mut lo = vec![0i8; rows * padded];
    let mut width = vec![0u8; rows * padded];
    let outs = lo.par_chunks_exact_mut(padded).zip(width.par_chunks_exact_mut(padded));
    let one = |scratch: &mut Scratch, (row, out): (usize, (&mut [i8], &mut [u8]))| {
        let ends = (x.lo_row(row), x.hi_row(row));
        let mut of = CodeRow {
            x: ends,
            reals: Reals::Narrow(ends),
            gains: None,
            error: 8.0 * UNIT,
            least_absmax: 0.0,
            levels,
        };
        if let Origin::Normed(normed) = &x.origin {
            of.reals = normed.z.row(row);
            of.gains = Some(&normed.gains);
            of.error = 2.0 * normed.error + 8.0 * UNIT;
            of.least_absmax = super::down(normed.least_absmax(row));
        }
        (kernels.boxes.codes)(&of, scratch, out)
    };
    let scales = outs.enumerate().map_init(Scratch::default, one).collect();
    BoxCodes { lo, width, scales, levels, mark: Arc::new(()) }
}

//! Programs over boxes of finite numbers: what a product, a sum, a norm, a code or a mix may be.
//!
//! A rounded product is monotone in either factor and a rounded sum in either term, so the ends are
//! those of the engine's own program at corners, with the engine's own rounding. Where the range
//! over the reals is narrower, widened by the engine's error, it narrows them; why it bounds the
//! engine's values is said where these programs are called, in the domain of boxes.

mod codes;
mod gate;
mod mix;
mod norm;
mod round;

pub use codes::{CodeRow, absmax, codes};
pub use gate::{gate_sums, relu2_gate, signed_product};
pub use mix::{Panels, greatest, mix, shares, weights};
pub use norm::{NormRow, norm};
pub use round::{down, least, least64, most, most64, up, widen_down, widen_up};

use super::reduce::tree;

/// The lower and the upper ends of a row, or of rows behind one another.
pub type Ends<'a> = (&'a [f32], &'a [f32]);

/// Below this mean square the engine's mean may be subnormal: then only the engine's own program
/// bounds a norm.
pub const SMALLEST_MEAN: f64 = 1e-30;

/// The ends of what values are over the reals.
#[derive(Clone, Copy, Debug)]
pub enum Reals<'a> {
    /// Values themselves.
    Narrow(Ends<'a>),
    /// What has no f32.
    Wide((&'a [f64], &'a [f64])),
}

impl Reals<'_> {
    /// The ends in f64.
    #[must_use]
    pub fn to_wide(self) -> (Vec<f64>, Vec<f64>) {
        let wide = |ends: &[f32]| ends.iter().map(|&x| f64::from(x)).collect();
        match self {
            Self::Narrow(ends) => (wide(ends.0), wide(ends.1)),
            Self::Wide(ends) => (ends.0.to_vec(), ends.1.to_vec()),
        }
    }

    /// Writes the ends in f64.
    #[inline(always)]
    fn write(self, lo: &mut [f64], hi: &mut [f64]) {
        match self {
            Self::Narrow(ends) => {
                lo.iter_mut().zip(ends.0).for_each(|(to, &x)| *to = f64::from(x));
                hi.iter_mut().zip(ends.1).for_each(|(to, &x)| *to = f64::from(x));
            }
            Self::Wide(ends) => {
                lo.copy_from_slice(ends.0);
                hi.copy_from_slice(ends.1);
            }
        }
    }
}

/// Memory of the programs over rows, so that no row asks the system for its own.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    wide: Vec<f64>,
    narrow: Vec<f32>,
    integers: Vec<i32>,
}

/// Some rows of so many values, of any values.
#[inline(always)]
fn rows_in<T: Copy + Default, const N: usize>(memory: &mut Vec<T>, width: usize) -> [&mut [T]; N] {
    if memory.len() < N * width {
        memory.resize(N * width, T::default());
    }
    let mut rest = &mut memory[..];
    std::array::from_fn(|_| {
        let (row, behind) = std::mem::take(&mut rest).split_at_mut(width);
        rest = behind;
        row
    })
}

/// Whether all ends are finite and ordered.
#[must_use]
#[inline(always)]
pub fn sound(ends: Ends) -> bool {
    let mut broken = ends.0.len() != ends.1.len();
    for (&lo, &hi) in ends.0.iter().zip(ends.1) {
        broken |= !(lo.is_finite() & hi.is_finite() & (lo <= hi));
    }
    !broken
}

/// The ends of a rounded product of two boxes of finite numbers.
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
pub fn dots(query: Ends, rows: Ends, out: &mut [(f32, f32)]) {
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

//! Gated products of rows of boxes.

use super::Ends;
use crate::numerics::{max, min, relu2};

/// The ends of `relu(g)^2 u`; relu squared is monotone as computed.
///
/// # Panics
/// Unless all rows are of one width.
#[inline(always)]
pub fn relu2_gate(g: Ends, u: Ends, out: (&mut [f32], &mut [f32])) {
    let width = g.0.len();
    let (g, u) = ((&g.0[..width], &g.1[..width]), (&u.0[..width], &u.1[..width]));
    let (low, high) = (&mut out.0[..width], &mut out.1[..width]);
    for i in 0..width {
        let (a, b) = (relu2(g.0[i]), relu2(g.1[i]));
        (low[i], high[i]) = signed_product((a, b), (u.0[i], u.1[i]));
    }
}

/// The ends of a rounded product of two boxes, in the order of the engine's [`min`] and [`max`].
#[must_use]
#[inline(always)]
pub fn signed_product(a: (f32, f32), b: (f32, f32)) -> (f32, f32) {
    let (p, q, r, s) = (a.0 * b.0, a.0 * b.1, a.1 * b.0, a.1 * b.1);
    (min(min(p, q), min(r, s)), max(max(p, q), max(r, s)))
}

/// The ends of `relu(G)^2 U` for boxes of integers.
///
/// Squares are non-negative, so the sign of the other factor names the corner. The two products are
/// within 2^-52 of the truth.
///
/// # Panics
/// Unless all rows are of one width.
#[inline(always)]
pub fn gate_sums(g: (&[i32], &[i32]), u: (&[i32], &[i32]), out: (&mut [f64], &mut [f64])) {
    let width = g.0.len();
    let (g, u) = ((&g.0[..width], &g.1[..width]), (&u.0[..width], &u.1[..width]));
    let (low, high) = (&mut out.0[..width], &mut out.1[..width]);
    for i in 0..width {
        let (s_lo, s_hi) = (square(g.0[i]), square(g.1[i]));
        let (u_lo, u_hi) = (f64::from(u.0[i]), f64::from(u.1[i]));
        low[i] = u_lo * if u_lo >= 0.0 { s_lo } else { s_hi };
        high[i] = u_hi * if u_hi >= 0.0 { s_hi } else { s_lo };
    }
}

#[inline(always)]
fn square(sum: i32) -> f64 {
    f64::from(sum.max(0)) * f64::from(sum.max(0))
}

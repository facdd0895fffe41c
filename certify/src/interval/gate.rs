//! Gated products over boxes.
//!
//! relu squared is monotone as computed; its product with the other factor is bounded at four
//! corners. Where gate and up are integer sums under one common scale, the product is
//! `factor * relu(G)^2 U` with an integer box of its own: a following norm cancels the factor.
//!
//! silu rises for `g >= 0` also as computed (numerator up, denominator down). Below it falls to its
//! only minimum at -1.27846 and rises again; there the engine is within four units of the truth, so
//! the ends, widened, and the minimum bound it.

use std::sync::Arc;

use engine::model::Gate;
use engine::numerics::{max, min, relu2, silu};
use ndarray::Array2;

use super::linear::{PROJECTED_ERROR, Projected};
use super::round::{UNIT, widen_down, widen_up};
use super::{Boxes, Origin};

/// No nonzero value is smaller than its factor; above this, no product is below the normal range.
const SMALLEST_FACTOR: f64 = 1e-30;

/// `factor * z`: gated integer sums under one positive factor a row.
#[derive(Clone, Debug)]
pub(super) struct Gated {
    /// Lower ends of `z`.
    pub(super) lo: Array2<f64>,
    /// Upper ends of `z`.
    pub(super) hi: Array2<f64>,
    /// The range of the factor of each row.
    pub(super) factors: Vec<(f64, f64)>,
    /// A bound of the engine's relative error of each value.
    pub(super) error: f64,
}

pub(super) fn gate(gate: &Boxes, up: &Boxes, kind: Gate) -> Boxes {
    let shape = gate.lo.raw_dim();
    let mut boxes = Boxes::new(Array2::zeros(shape), Array2::zeros(shape));
    for (at, &lo) in gate.lo.indexed_iter() {
        let act = match kind {
            Gate::Relu2 => (relu2(lo), relu2(gate.hi[at])),
            Gate::Silu => silu_range(lo, gate.hi[at]),
        };
        (boxes.lo[at], boxes.hi[at]) = product(act, (up.lo[at], up.hi[at]));
    }
    if kind == Gate::Relu2 {
        boxes.origin = scale_free(gate, up);
    }
    boxes
}

/// The ends of a rounded product of two boxes.
pub(super) fn product(a: (f32, f32), b: (f32, f32)) -> (f32, f32) {
    let (p, q, r, s) = (a.0 * b.0, a.0 * b.1, a.1 * b.0, a.1 * b.1);
    (min(min(p, q), min(r, s)), max(max(p, q), max(r, s)))
}

/// The range of the engine's silu over `[lo, hi]`.
fn silu_range(lo: f32, hi: f32) -> (f32, f32) {
    /// Where silu is least, and a lower bound of its value there.
    const LEAST_AT: (f32, f32) = (-1.278_464_6, -1.278_464_4);
    const LEAST: f32 = -0.278_465;
    let (at_lo, at_hi) = (silu(lo), silu(hi));
    if lo >= 0.0 || lo == hi {
        return (at_lo, at_hi);
    }
    // Four units on either side of the truth, at the end and inside; and results below the normal
    // range, or a quotient by infinity, are within 1e-36 of it.
    let widened = |value: f32| {
        let value = f64::from(value);
        (widen_down(value, 12.0 * UNIT, 1e-36), widen_up(value, 12.0 * UNIT, 1e-36))
    };
    let (low, high) = (widened(at_lo), widened(at_hi));
    let top = if hi >= 0.0 { at_hi } else { high.1 };
    let top = max(top, low.1);
    let passes_least = lo < LEAST_AT.1 && hi > LEAST_AT.0;
    let bottom =
        if passes_least { LEAST } else { min(low.0, if hi >= 0.0 { 0.0 } else { high.0 }) };
    (bottom, top)
}

/// `relu(G)^2 U` where both are integer sums of the same quantised rows.
fn scale_free(gate: &Boxes, up: &Boxes) -> Origin {
    let (Origin::Projected(g), Origin::Projected(u)) = (&gate.origin, &up.origin) else {
        return Origin::Plain;
    };
    if !Arc::ptr_eq(&g.mark, &u.mark) {
        return Origin::Plain;
    }
    let shape = g.lo.raw_dim();
    let (mut lo, mut hi) = (Array2::zeros(shape), Array2::zeros(shape));
    for (at, &g_lo) in g.lo.indexed_iter() {
        let square = |sum: i32| f64::from(sum.max(0)) * f64::from(sum.max(0));
        let (s_lo, s_hi) = (square(g_lo), square(g.hi[at]));
        let (u_lo, u_hi) = (f64::from(u.lo[at]), f64::from(u.hi[at]));
        // Squares are non-negative, so the sign of the other factor names the corner. The two
        // products are within 2^-52 of the truth, far below the error that is carried.
        lo[at] = u_lo * if u_lo >= 0.0 { s_lo } else { s_hi };
        hi[at] = u_hi * if u_hi >= 0.0 { s_hi } else { s_lo };
    }
    // Squares, scale products and quotients are then normal.
    let tame = |&(lo, hi): &(f64, f64)| 1e-15 < lo && hi < 1e15;
    if !g.factors.iter().chain(&u.factors).all(tame) {
        return Origin::Plain;
    }
    let factors = factors(g, u);
    if factors.iter().any(|&(least, _)| least < SMALLEST_FACTOR) {
        return Origin::Plain;
    }
    // Gate and up within their errors, the gate squared, and two products.
    let error = 3.0 * PROJECTED_ERROR + 2.5 * UNIT;
    Origin::Gated(Arc::new(Gated { lo, hi, factors, error }))
}

fn factors(g: &Projected, u: &Projected) -> Vec<(f64, f64)> {
    let cube = |g: f64, u: f64| g * g * u;
    (g.factors.iter())
        .zip(&u.factors)
        .map(|(&(g_lo, g_hi), &(u_lo, u_hi))| {
            (cube(g_lo, u_lo) * (1.0 - 1e-14), cube(g_hi, u_hi) * (1.0 + 1e-14))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silu_ranges_hold_every_value_between_and_are_exact_on_points() {
        let grid: Vec<f32> = (-400..200).map(|i| i as f32 * 0.031).collect();
        for (i, &lo) in grid.iter().enumerate() {
            assert_eq!(silu_range(lo, lo), (silu(lo), silu(lo)));
            for &hi in &grid[i..] {
                let (bottom, top) = silu_range(lo, hi);
                for step in 0..=16 {
                    let x = lo + (hi - lo) * step as f32 / 16.0;
                    let x = if x > hi { hi } else { x };
                    assert!(bottom <= silu(x) && silu(x) <= top, "silu({x}) in [{lo}, {hi}]");
                }
            }
        }
        let (bottom, top) = silu_range(-200.0, -80.0);
        assert!(bottom <= silu(-90.0) && silu(-90.0) <= top && silu(-200.0) <= top);
    }
}

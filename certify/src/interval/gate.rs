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

use engine::kernels::Kernels;
use engine::model::Gate;
use engine::numerics::boxes::signed_product;
use engine::numerics::{max, min, silu};
use ndarray::Array2;
use rayon::prelude::*;

use super::linear::{PROJECTED_ERROR, Projected};
use super::round::{UNIT, widen_down, widen_up};
use super::{Boxes, Origin, Spare, by_row, row_of};

/// No nonzero value is smaller than its factor; above this, no product is below the normal range.
const SMALLEST_FACTOR: f64 = 1e-30;

/// `factor * z`: gated integer sums under one positive factor a row.
#[derive(Clone, Debug)]
pub(super) struct Gated {
    /// The ends of `z`.
    pub(super) ends: Arc<[Array2<f64>; 2]>,
    /// The range of the factor of each row.
    pub(super) factors: Vec<(f64, f64)>,
    /// A bound of the engine's relative error of each value.
    pub(super) error: f64,
}

pub(super) fn gate(
    (kernels, spare): (&Kernels, &mut Spare),
    gate: &Boxes,
    up: &Boxes,
    kind: Gate,
) -> Boxes {
    let (mut boxes, _) = by_row(spare.boxes(gate.lo.dim()), |row, _, (lows, highs)| {
        let (g, u) = ((gate.lo_row(row), gate.hi_row(row)), (up.lo_row(row), up.hi_row(row)));
        if kind == Gate::Relu2 {
            return (kernels.boxes.relu2_gate)(g, u, (lows, highs));
        }
        for (i, (low, high)) in lows.iter_mut().zip(highs).enumerate() {
            (*low, *high) = signed_product(silu_range(g.0[i], g.1[i]), (u.0[i], u.1[i]));
        }
    });
    if kind == Gate::Relu2 {
        boxes.origin = scale_free((kernels, spare), gate, up);
    }
    boxes
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
fn scale_free(memory: (&Kernels, &mut Spare), gate: &Boxes, up: &Boxes) -> Origin {
    let (Origin::Projected(g), Origin::Projected(u)) = (&gate.origin, &up.origin) else {
        return Origin::Plain;
    };
    if !Arc::ptr_eq(&g.mark, &u.mark) {
        return Origin::Plain;
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
    Origin::Gated(Arc::new(Gated { ends: Arc::new(sums(memory, g, u)), factors, error }))
}

/// The ends of `relu(G)^2 U`; what two products of f64 are off is far below the error that is
/// carried.
fn sums(
    (kernels, spare): (&Kernels, &mut Spare),
    g: &Projected,
    u: &Projected,
) -> [Array2<f64>; 2] {
    let mut ends = [spare.wide.rows(g.lo.dim()), spare.wide.rows(g.lo.dim())];
    let width = g.lo.ncols();
    let outs = ends.each_mut().map(|end| end.as_slice_mut().expect("standard rows"));
    let outs = outs.map(|end| end.par_chunks_exact_mut(width));
    let [lows, highs] = outs;
    lows.zip(highs).enumerate().for_each(|(row, out)| {
        let g = (row_of(&g.lo, row), row_of(&g.hi, row));
        let u = (row_of(&u.lo, row), row_of(&u.hi, row));
        (kernels.boxes.gate_sums)(g, u, out);
    });
    ends
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

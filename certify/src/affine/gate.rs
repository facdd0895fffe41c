//! Gated products of affine forms.
//!
//! `h(g)` is replaced by `slope g` and a range of offsets: for relu squared the chord of the convex
//! function and its tangent, for silu the tangent at the centre with the range of the second
//! derivative (Taylor). The product with `u` keeps its linear part; the product of the two moving
//! parts is polarised. Where boxes say more, they are taken.

use engine::kernels::Kernels;
use engine::model::Gate;
use engine::numerics::exp_f64;

use super::form::Form;
use super::inputs::Inputs;
use super::quotient::quarter;
use crate::interval::UNIT;

/// `h(g)` within `slope g + [low, high]`, for `g` in a range.
#[derive(Clone, Copy, Debug)]
struct Line {
    slope: f64,
    low: f64,
    high: f64,
    /// The range of h itself.
    ends: (f64, f64),
}

fn relu2(lo: f64, hi: f64) -> Line {
    if hi <= 0.0 {
        return Line { slope: 0.0, low: 0.0, high: 0.0, ends: (0.0, 0.0) };
    }
    let below = if lo > 0.0 { lo } else { 0.0 };
    let slope = if lo >= 0.0 { lo + hi } else { hi * hi / (hi - lo) };
    // The chord is above; the tangent of its slope touches at slope / 2, which lies in the range.
    let at_end = |x: f64, h: f64| h - slope * x;
    let (left, right) = (at_end(lo, below * below), at_end(hi, hi * hi));
    let high = if left > right { left } else { right };
    Line { slope, low: -0.25 * slope * slope, high, ends: (below * below, hi * hi) }
}

/// The derivatives of silu at a point: value, first and second.
fn silu_at(x: f64) -> (f64, f64, f64) {
    // Beyond, the exponential leaves its range; sigma is 0 or 1 to 250 digits.
    let sigma = 1.0 / (1.0 + exp_f64(-x.clamp(-600.0, 600.0)));
    let slope = sigma * (1.0 + x * (1.0 - sigma));
    let curve = sigma * (1.0 - sigma) * (2.0 + x * (1.0 - 2.0 * sigma));
    (x * sigma, slope, curve)
}

/// The least value of silu's second derivative (at +-3.4358), a little below.
const LEAST_CURVE: f64 = -0.0443;
/// Up to here the second derivative falls with the distance from 0.
const FALLS_TO: f64 = 3.43;
/// The least value of silu, a little below.
const LEAST_SILU: f64 = -0.278_465;

fn silu(lo: f64, hi: f64, centre: f64) -> Line {
    let (value, slope, _) = silu_at(centre);
    let near = if lo > 0.0 {
        lo
    } else if hi < 0.0 {
        -hi
    } else {
        0.0
    };
    let far = if -lo > hi { -lo } else { hi };
    let most = if near < FALLS_TO { silu_at(near).2 + 1e-9 } else { 1e-9 };
    let most = if most > 1e-9 { most } else { 1e-9 };
    let least = if far < FALLS_TO { silu_at(far).2 - 1e-9 } else { LEAST_CURVE };
    let (below, above) = (centre - lo, hi - centre);
    let reach = if below > above { below } else { above };
    let square = 0.5 * reach * reach;
    let low = value - slope * centre + if least < 0.0 { least * square } else { 0.0 };
    let high = value - slope * centre + if most > 0.0 { most * square } else { 0.0 };
    let (at_lo, at_hi) = (silu_at(lo).0, silu_at(hi).0);
    let bottom = if lo < -1.27 && hi > -1.28 {
        LEAST_SILU
    } else if at_lo < at_hi {
        at_lo
    } else {
        at_hi
    };
    let top = if at_lo > at_hi { at_lo } else { at_hi };
    Line { slope, low, high, ends: (bottom, top) }
}

/// The gated product of two rows.
pub(super) fn gate(kernels: &Kernels, inputs: &Inputs, (g, u): (&Form, &Form), kind: Gate) -> Form {
    let width = g.width();
    let (rg, ru) = (g.radii(kernels, inputs), u.radii(kernels, inputs));
    let lines: Vec<Line> = (0..width)
        .map(|k| {
            let (lo, hi) = (g.c[k] - rg[k], g.c[k] + rg[k]);
            match kind {
                Gate::Relu2 => relu2(lo, hi),
                Gate::Silu => silu(lo, hi, g.c[k]),
            }
        })
        .collect();
    let (low, high) = moving(kernels, inputs, (g, u), &lines, (&rg, &ru));
    let mut slopes = vec![0.0; width];
    let mut levels = vec![0.0; width];
    let mut c = vec![0.0; width];
    let mut rest = vec![0.0; width];
    for k in 0..width {
        let Line { slope, low: least, high: most, .. } = lines[k];
        let level = slope * g.c[k] + 0.5 * (least + most);
        let spread = 0.5 * (most - least);
        slopes[k] = slope * u.c[k];
        levels[k] = level;
        c[k] = level * u.c[k] + 0.5 * (low[k] + high[k]);
        let magnitude = u.c[k].abs() + ru[k];
        rest[k] = magnitude * spread
            + 0.5 * (high[k] - low[k])
            + slopes[k].abs() * g.rest[k]
            + level.abs() * u.rest[k];
    }
    let mut z = g.scaled(&slopes).plus(&u.scaled(&levels));
    (z.c, z.rest) = (c, rest);
    let radii = z.radii(kernels, inputs);
    for k in 0..width {
        // Two roundings of h, one of the product, the silu's own error: below 14 units.
        let (lo, hi) = product(lines[k].ends, (u.c[k] - ru[k], u.c[k] + ru[k]));
        let most = if -lo > hi { -lo } else { hi };
        let error = most * 14.0 * UNIT + 1e-12 * (z.c[k].abs() + radii[k]);
        // What the engine loses below the normal range in h, times u, and in the product.
        let error = error + 1e-36 * (1.0 + u.c[k].abs() + ru[k]);
        if 0.5 * (hi - lo) < 0.8 * radii[k] {
            z.replace_by_box(k, lo, hi);
        }
        // A gate that is closed on the whole set gives zeros, exactly.
        if lo != 0.0 || hi != 0.0 {
            z.rest[k] += error;
        }
    }
    z
}

/// The range of the product of both moving parts, `slope dg du`.
fn moving(
    kernels: &Kernels,
    inputs: &Inputs,
    (g, u): (&Form, &Form),
    lines: &[Line],
    (rg, ru): (&[f64], &[f64]),
) -> (Vec<f64>, Vec<f64>) {
    // Both forms come from one reading, so their symbols are the same; else no sign is known.
    let mut low = Vec::with_capacity(lines.len());
    let mut high = Vec::with_capacity(lines.len());
    let same = g.spans == u.spans;
    let inverse = |r: &[f64]| -> Vec<f64> {
        r.iter().map(|&r| if r > 0.0 { 1.0 / r } else { 0.0 }).collect()
    };
    let (ig, iu) = (inverse(rg), inverse(ru));
    let halves = |sign: f64| -> Vec<f64> {
        let a: Vec<f64> = ig.clone();
        let b: Vec<f64> = iu.iter().map(|i| sign * i).collect();
        let mut sum = g.scaled(&a);
        let other = u.scaled(&b);
        sum.g.iter_mut().zip(&other.g).for_each(|(x, y)| *x += y);
        let mut radii = inputs.radii(kernels, &sum.spans, &sum.g, sum.width());
        for (k, radius) in radii.iter_mut().enumerate() {
            *radius += g.rest[k] * ig[k] + u.rest[k] * iu[k];
        }
        radii
    };
    let (mu, nu) =
        if same { (halves(1.0), halves(-1.0)) } else { (vec![2.0; rg.len()], vec![2.0; rg.len()]) };
    for (k, line) in lines.iter().enumerate() {
        let whole = rg[k] * ru[k];
        let (down, up) = (-whole * quarter(nu[k]), whole * quarter(mu[k]));
        let (a, b) = (line.slope * down, line.slope * up);
        low.push(if a < b { a } else { b });
        high.push(if a < b { b } else { a });
    }
    (low, high)
}

/// The range of a product of two ranges.
pub(super) fn product(a: (f64, f64), b: (f64, f64)) -> (f64, f64) {
    let all = [a.0 * b.0, a.0 * b.1, a.1 * b.0, a.1 * b.1];
    let least = all.iter().copied().fold(f64::INFINITY, |a, b| if b < a { b } else { a });
    let most = all.iter().copied().fold(f64::NEG_INFINITY, |a, b| if b > a { b } else { a });
    (least, most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_enclose_their_functions() {
        for i in -80..80 {
            for j in i..80 {
                let (lo, hi) = (f64::from(i) * 0.1, f64::from(j) * 0.1);
                let centre = 0.5 * (lo + hi);
                for (line, silu) in [(relu2(lo, hi), false), (super::silu(lo, hi, centre), true)] {
                    for step in 0..=20 {
                        let x = lo + (hi - lo) * f64::from(step) / 20.0;
                        let h = if silu { silu_at(x).0 } else { x.clamp(0.0, 1e9) * x };
                        let off = h - line.slope * x;
                        let inside = line.low - 1e-9 <= off && off <= line.high + 1e-9;
                        assert!(inside, "{silu} {lo} {hi} at {x}: {off} in {line:?}");
                        assert!(line.ends.0 - 1e-9 <= h && h <= line.ends.1 + 1e-9);
                    }
                }
            }
        }
    }
}

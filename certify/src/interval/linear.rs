//! Linear steps over boxes: ternary products, float products, rotations, the head.
//!
//! Integer sums over a box of codes are exact: the lower end takes lower codes under positive
//! weights and upper codes under negative ones. What follows is rounded but monotone in each
//! operand, so the corners bound it (hull 7). A float product in the engine's order is monotone in
//! each activation: running it at the corner that the signs of the weights name gives the exact
//! range.

use std::sync::Arc;

use engine::kernels::{Kernels, Part};
use engine::model::{Coded, Float, Linear, Rope, Scale, Scales, Slot, Weights};
use engine::numerics::{max, min};
use engine::packing::{RUN_ROWS, TernaryRows, weight_of};
use engine::walk::{Site, Step};
use ndarray::Array2;
use rayon::prelude::*;

use super::boxes::parts;
use super::quantize::BoxCodes;
use super::round::UNIT;
use super::{BoxPrepared, Boxes, Interval, Origin, Spare};
use crate::moved::Moved;

/// Integer sums under one positive factor a row: `value = factor * sum`.
#[derive(Clone, Debug)]
pub(super) struct Projected {
    /// Lower sums.
    pub(super) lo: Array2<i32>,
    /// Upper sums.
    pub(super) hi: Array2<i32>,
    /// The range of the factor of each row.
    pub(super) factors: Vec<(f64, f64)>,
    /// The quantised rows that the sums were made of: the same mark means the same scale `t`.
    pub(super) mark: Arc<()>,
}

impl Interval {
    /// A ternary layer whose integer sums moreover move: what a disturbance of the weights can do.
    pub(crate) fn sums_moved(
        &mut self,
        at: Site,
        x: &BoxPrepared,
        linear: &Linear,
        moved: &Moved,
    ) -> Boxes {
        let shape = (x.rows(), linear.outputs());
        let kernels = self.kernels;
        self.step(at, shape, |domain| {
            let (Weights::Ternary { rows, scale, .. }, Some(codes)) = (&linear.weights, &x.codes)
            else {
                panic!("only codes under ternary weights have integer sums");
            };
            let moves: Moves = &|token, row| moved.range(token, row);
            let sums = matches!(at.step, Step::Linear(Slot::Gate | Slot::Up));
            let memory = (kernels, &mut domain.spare);
            ternary(memory, codes, (rows, *scale), Some(moves), sums)
        })
    }
}

/// The error of one value against `factor * sum`: at most three roundings.
pub(super) const PROJECTED_ERROR: f64 = 3.5 * UNIT;

/// A linear layer, whose integer sums are of use behind it or not.
pub(super) fn linear(
    (kernels, spare): (&Kernels, &mut Spare),
    x: &BoxPrepared,
    linear: &Linear,
    sums: bool,
) -> Boxes {
    match (&linear.weights, &x.codes) {
        (Weights::Ternary { rows, scale, .. }, Some(codes)) => {
            ternary((kernels, spare), codes, (rows, *scale), None, sums)
        }
        (Weights::Ternary { rows, scale, .. }, None) => {
            let values = x.values();
            by_output(values.lo.dim(), rows.rows(), |output, corner| {
                let codes = rows.row(output);
                let weights: Vec<f32> = codes.iter().map(|&c| weight_of(c) as f32).collect();
                corner_dots(kernels, &weights, values, corner);
                for (lo, hi) in corner {
                    (*lo, *hi) = (rescale(*lo, *scale), rescale(*hi, *scale));
                    if *lo > *hi {
                        std::mem::swap(lo, hi);
                    }
                }
            })
        }
        (Weights::Coded(weights), codes) => {
            coded(codes.as_ref().expect("integer weights read codes"), weights)
        }
        (Weights::Dense(float), _) => head(kernels, x.values(), float),
    }
}

/// Whether the layer multiplies what its input says: codes where there are codes, by a scale whose
/// product with theirs does not overflow (a sum divided by infinity is 0, not tiny).
pub(crate) fn is_tame(x: &BoxPrepared, linear: &Linear) -> bool {
    match (&linear.weights, &x.codes) {
        (Weights::Ternary { scale: Scale::Divide(ws), .. }, Some(codes)) => {
            codes.scales.iter().all(|&(_, t)| (ws * t).is_finite())
        }
        (Weights::Coded(coded), Some(codes)) => match coded.scales() {
            Scales::Rows(scales) => scales.iter().all(|&scale| match scale {
                Scale::Divide(ws) => codes.scales.iter().all(|&(_, t)| (ws * t).is_normal()),
                Scale::Multiply(_) => true,
            }),
            Scales::Groups(_) => true,
        },
        (Weights::Dense(_), Some(_)) => false,
        _ => true,
    }
}

fn rescale(dot: f32, scale: Scale) -> f32 {
    match scale {
        Scale::Divide(ws) => dot / ws,
        Scale::Multiply(ws) => dot * ws,
    }
}

/// What the sums of a token and a row move by.
pub(super) type Moves<'a> = &'a (dyn Fn(usize, usize) -> (i32, i32) + Sync);

/// Ternary products whose integer sums may moreover move: `moves(token, row)` gives the range. The
/// sums are what the values are made of, if they are of use.
pub(super) fn ternary(
    (kernels, spare): (&Kernels, &mut Spare),
    codes: &BoxCodes,
    (rows, scale): (&TernaryRows, Scale),
    moves: Option<Moves>,
    sums: bool,
) -> Boxes {
    let dim = (codes.scales.len(), rows.rows());
    let mut boxes = spare.boxes(dim);
    let made_of = sums && scale.stored() > 0.0;
    let mut sums = made_of.then(|| [spare.sums.rows(dim), spare.sums.rows(dim)]);
    products(kernels, codes, (rows, scale), moves, (&mut boxes, &mut sums));
    if let Some([lo, hi]) = sums {
        let factors = codes.scales.iter().map(|&t| factor_range(t, scale)).collect();
        let mark = codes.mark.clone();
        boxes.origin = Origin::Projected(Arc::new(Projected { lo, hi, factors, mark }));
    }
    boxes
}

/// Writes the ends of the values, and those of the sums if they are wanted, run by run of rows.
fn products(
    kernels: &Kernels,
    codes: &BoxCodes,
    (rows, scale): (&TernaryRows, Scale),
    moves: Option<Moves>,
    (boxes, sums): (&mut Boxes, &mut Option<[Array2<i32>; 2]>),
) {
    let (corners, ws) = match scale {
        Scale::Multiply(ws) => (kernels.boxes.multiply, ws),
        Scale::Divide(ws) => (kernels.boxes.divide, ws),
    };
    let (tokens, width) = boxes.lo.dim();
    let mut runs: Vec<(usize, Vec<Part>)> =
        (0..width.div_ceil(RUN_ROWS)).map(|run| (run, Vec::with_capacity(tokens))).collect();
    let values = parts(&mut boxes.lo, RUN_ROWS).zip(parts(&mut boxes.hi, RUN_ROWS));
    for ((_, run), (lo, hi)) in runs.iter_mut().zip(values) {
        run.extend(lo.into_iter().zip(hi).map(|values| Part { values, sums: None }));
    }
    if let Some([lo, hi]) = sums {
        for ((_, run), (lo, hi)) in
            runs.iter_mut().zip(parts(lo, RUN_ROWS).zip(parts(hi, RUN_ROWS)))
        {
            run.iter_mut().zip(lo.into_iter().zip(hi)).for_each(|(part, s)| part.sums = Some(s));
        }
    }
    rows.ends_by_run(kernels, (&codes.lo, &codes.width), runs, |ends, (run, mut parts)| {
        if let Some(moves) = moves {
            for (token, row) in ndarray::indices((tokens, parts[0].values.0.len())) {
                let at = TernaryRows::at(tokens, token, row);
                let (least, most) = moves(token, run * RUN_ROWS + row);
                ends.0[at] += least;
                ends.1[at] += most;
            }
        }
        corners((ends.0, ends.1), &codes.scales, ws, &mut parts);
    });
}

/// Integer products in groups: the engine's own program at the ends of its sums, which the signs of
/// the scales name.
fn coded(codes: &BoxCodes, coded: &Coded) -> Boxes {
    let rows = coded.rows();
    let groups = rows.groups();
    by_output((codes.scales.len(), rows.columns()), rows.rows(), |output, corner| {
        let mut ends = vec![(0, 0); groups];
        let (mut low, mut high) = (vec![0; groups], vec![0; groups]);
        let weights = rows.row(output);
        for (token, value) in corner.iter_mut().enumerate() {
            let (lower, width, (t_lo, t_hi)) = codes.row(token);
            rows.ends(&weights, lower, width, &mut ends);
            for (group, &(least, most)) in ends.iter().enumerate() {
                let rises = coded.factor(output, group) >= 0.0;
                (low[group], high[group]) = if rises { (least, most) } else { (most, least) };
            }
            let at = |sums: &[i32], t: f32| coded.value(output, sums, t);
            let (a, b) = (at(&low, t_lo), at(&low, t_hi));
            let (c, d) = (at(&high, t_lo), at(&high, t_hi));
            *value = (min(min(a, b), min(c, d)), max(max(a, b), max(c, d)));
        }
    })
}

/// The range of `1 / (ws t)` or `ws / t` for a scale `t` in a range, over the reals.
pub(crate) fn factor_range((t_lo, t_hi): (f32, f32), scale: Scale) -> (f64, f64) {
    let factor = |t: f32| match scale {
        Scale::Divide(ws) => 1.0 / (f64::from(ws) * f64::from(t)),
        Scale::Multiply(ws) => f64::from(ws) / f64::from(t),
    };
    (factor(t_hi) * (1.0 - 1e-14), factor(t_lo) * (1.0 + 1e-14))
}

/// Float rows on boxes: the head, and layers that are not converted.
pub(super) fn head(kernels: &Kernels, x: &Boxes, float: &Float) -> Boxes {
    by_output(x.lo.dim(), float.rows(), |output, corner| {
        let mut weights = vec![0.0; float.columns()];
        float.read_row(output, &mut weights);
        corner_dots(kernels, &weights, x, corner);
    })
}

/// The ends of `dot16(weights, x)` for each token.
fn corner_dots(kernels: &Kernels, weights: &[f32], x: &Boxes, out: &mut [(f32, f32)]) {
    for (token, ends) in out.iter_mut().enumerate() {
        *ends = (kernels.dot_ends)(weights, x.lo_row(token), x.hi_row(token));
    }
}

/// Boxes computed output by output: `f(output, [token])`.
fn by_output(
    (tokens, width): (usize, usize),
    outputs: usize,
    f: impl Fn(usize, &mut [(f32, f32)]) + Sync,
) -> Boxes {
    let mut columns = vec![(0f32, 0f32); outputs * tokens];
    if outputs * tokens * width < 1 << 18 {
        columns.chunks_exact_mut(tokens).enumerate().for_each(|(i, column)| f(i, column));
    } else {
        columns.par_chunks_exact_mut(tokens).enumerate().for_each(|(i, column)| f(i, column));
    }
    let end = |pick: fn(&(f32, f32)) -> f32| {
        Array2::from_shape_fn((tokens, outputs), |(token, output)| {
            pick(&columns[output * tokens + token])
        })
    };
    Boxes::new(end(|ends| ends.0), end(|ends| ends.1))
}

/// Rotation: each product is monotone in its operand, the sum in both.
pub(super) fn rope(x: Boxes, rope: &Rope, first: usize) -> Boxes {
    let half = rope.frequencies().len();
    let Boxes { mut lo, mut hi, .. } = x;
    for (index, (mut lo, mut hi)) in lo.rows_mut().into_iter().zip(hi.rows_mut()).enumerate() {
        let table = rope.at(first + index);
        for start in (0..lo.len()).step_by(2 * half) {
            for (j, &(c, s)) in table.iter().enumerate() {
                let (a, b) = (start + j, start + half + j);
                let (ac, bs) = (ends(lo[a], hi[a], c), ends(lo[b], hi[b], s));
                let (bc, a_s) = (ends(lo[b], hi[b], c), ends(lo[a], hi[a], s));
                (lo[a], hi[a]) = (ac.0 - bs.1, ac.1 - bs.0);
                (lo[b], hi[b]) = (bc.0 + a_s.0, bc.1 + a_s.1);
            }
        }
    }
    Boxes::new(lo, hi)
}

/// The ends of a rounded product of a box and a number.
fn ends(lo: f32, hi: f32, factor: f32) -> (f32, f32) {
    let (a, b) = (lo * factor, hi * factor);
    (min(a, b), max(a, b))
}

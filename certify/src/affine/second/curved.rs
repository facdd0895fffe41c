//! Margins that look through the last gated product to the row that its two layers read.
//!
//! With `x_f = relu(g_f)^2 u_f` and the margin times `r = rms(x)` being `alpha r + b x` (see
//! [`crate::affine::margin`]), r is convex: `r >= r0 + n (x - x0)`, `n = x0 / (F r0)`. So where
//! alpha is not negative the whole is at least `alpha0 r0 + b x0 + r0 dalpha + (b + alpha0 n) dx +
//! dalpha (n dx)`, and of
//! `dx = 2 p u0 dg + p^2 du + 2 p dg du + t (u0 + du) dg^2`, `p = relu(g0)`, t in [0, 1] (1 where a
//! gate is open on the whole set),
//! what is not linear adds up over all features to one quadratic form of the row that gate and up
//! read. Its least value is bounded by energies at once, where a bound feature by feature would let
//! each be extreme alone.

use std::sync::Arc;

use engine::kernels::Kernels;

use super::super::form::Form;
use super::super::inputs::Inputs;
use super::super::linear::Matrix;
use super::super::sites::Reading;
use super::project::Projector;
use super::psd::Factor;
use crate::interval::UNIT;

/// One output of a layer, in the scale of the forms.
#[derive(Clone, Debug)]
pub(in crate::affine) struct Side {
    /// Centres, radii (boxes included) and boxes of the form as the layer gives it.
    pub(in crate::affine) c: Vec<f64>,
    pub(in crate::affine) radii: Vec<f64>,
    pub(in crate::affine) rest: Vec<f64>,
}

/// What a gated product was made of.
#[derive(Clone, Debug)]
pub(in crate::affine) struct Behind {
    /// The row that both layers read.
    pub(in crate::affine) reading: Reading,
    pub(in crate::affine) gate: Side,
    pub(in crate::affine) up: Side,
    /// Gates that are closed on the whole set.
    pub(in crate::affine) closed: Vec<bool>,
}

impl Behind {
    /// Whether all is known of gate and up: comparisons below take it for granted.
    fn is_finite(&self) -> bool {
        let sides = [&self.gate, &self.up];
        let all = sides.into_iter().flat_map(|side| [&side.c, &side.radii, &side.rest]);
        all.flatten().all(|x| x.is_finite())
    }

    /// For each product: what the engine and the boxes of gate and up may change in it, and its
    /// largest magnitude.
    pub(in crate::affine) fn reach(&self) -> (Vec<f64>, Vec<f64>) {
        let (gate, up) = (&self.gate, &self.up);
        let of = |f: usize| {
            if self.closed[f] {
                return (0.0, 0.0);
            }
            let high = positive(gate.c[f] + gate.radii[f]);
            let most = up.c[f].abs() + up.radii[f];
            let slope = 2.0 * high * most * gate.rest[f] + high * high * up.rest[f];
            let engine = high * high * most * 14.0 * UNIT + 1e-36 * (1.0 + most);
            let error = (slope + engine) * (1.0 + 1e-9);
            (error, high * high * most + error)
        };
        (0..gate.c.len()).map(of).unzip()
    }
}

/// A gated product behind its norm.
#[derive(Clone, Debug)]
pub(in crate::affine) struct NormedGate {
    pub(in crate::affine) of: Arc<Behind>,
    pub(in crate::affine) gains: Arc<Vec<f64>>,
    /// The range of eps.
    pub(in crate::affine) eps: (f64, f64),
}

/// The layers of gate and up.
#[derive(Clone, Copy)]
pub(in crate::affine) struct Layers<'a> {
    pub(in crate::affine) gate: &'a Matrix,
    pub(in crate::affine) up: &'a Matrix,
}

/// What the margins of all rivals share.
pub(in crate::affine) struct Curved<'a> {
    pub(in crate::affine) kernels: &'a Kernels,
    pub(in crate::affine) inputs: &'a Inputs,
    pub(in crate::affine) behind: &'a Behind,
    gains: &'a [f64],
    layers: Layers<'a>,
    pub(in crate::affine) projector: Option<Projector<'a>>,
    /// What of the row is not the stream times its gains: codes that are known, and rounding.
    pub(in crate::affine) others: Form,
    factor: Factor,
    weight: f64,
    /// `x0`.
    pub(in crate::affine) x: Vec<f64>,
    /// `r0`, and how far r may lie above its tangent.
    pub(in crate::affine) r0: f64,
    pub(in crate::affine) above: f64,
    /// The range of r.
    pub(in crate::affine) least: f64,
    pub(in crate::affine) most: f64,
    /// The largest magnitude of each of x.
    largest: Vec<f64>,
    /// What the engine and the boxes of gate and up may change in x.
    pub(in crate::affine) error: Vec<f64>,
    /// The tangent of r, as a form of the row about 0.
    pub(in crate::affine) tangent: Form,
    /// Its slopes in the row.
    pub(in crate::affine) tangent_slopes: Vec<f64>,
    /// What of the tangent's value is not linear in the row.
    pub(in crate::affine) tangent_second: f64,
}

/// The engine's floor under an absmax, with room.
const FLOOR: f64 = 2e-5;

fn smaller(a: f64, b: f64) -> f64 {
    if b < a { b } else { a }
}

fn positive(x: f64) -> f64 {
    if x > 0.0 { x } else { 0.0 }
}

pub(in crate::affine) fn column(matrix: &[f64], k: usize, columns: usize) -> Vec<f64> {
    matrix.iter().skip(k).step_by(columns).copied().collect()
}

impl<'a> Curved<'a> {
    /// `None` where the row is not read as it was before its norm, or has no energy.
    pub(in crate::affine) fn new(
        kernels: &'a Kernels,
        inputs: &'a Inputs,
        row: &'a NormedGate,
        layers: Layers<'a>,
        projector: Option<Projector<'a>>,
    ) -> Option<Self> {
        let (behind, eps) = (&*row.of, row.eps);
        let fits = behind.reading.quotient.is_none() && behind.is_finite();
        let reading = fits.then_some(&behind.reading)?;
        let others = others(reading);
        let mut energy = inputs.energy(kernels, &others.spans, &others.g, &others.rest);
        let stream = match &projector {
            Some(projector) => projector.energy(&reading.gains, &reading.form.c),
            None => {
                let form = reading.form.scaled(&reading.gains);
                inputs.energy(kernels, &form.spans, &form.g, &form.rest)
            }
        };
        energy.add_scaled(&stream, 1.0);
        let factor = Factor::new(energy.matrix(), energy.width(), 0)?;
        let (gate, up) = (&behind.gate, &behind.up);
        let count = gate.c.len();
        let value = |f: usize| {
            let p = positive(gate.c[f]);
            if behind.closed[f] { 0.0 } else { p * p * up.c[f] }
        };
        let x: Vec<f64> = (0..count).map(value).collect();
        let mean = |of: &dyn Fn(usize) -> f64| (0..count).map(of).sum::<f64>() / count as f64;
        let r0 = (mean(&|f| x[f] * x[f]) + eps.0).sqrt();
        let (error, largest) = behind.reach();
        let most = (mean(&|f| largest[f] * largest[f]) + eps.1).sqrt() * (1.0 + 1e-9);
        let reach = |f: usize| (largest[f] + x[f].abs()) * (largest[f] + x[f].abs());
        let above = (mean(&reach) + (eps.1 - eps.0)) / (2.0 * r0) * (1.0 + 1e-9);
        let mut curved = Self {
            kernels,
            inputs,
            behind,
            gains: &row.gains,
            layers,
            projector,
            others,
            factor,
            weight: energy.weight,
            x,
            r0,
            above,
            least: eps.0.sqrt() * (1.0 - 1e-9),
            most,
            largest,
            error,
            tangent: Form::default(),
            tangent_slopes: Vec::new(),
            tangent_second: 0.0,
        };
        curved.above = smaller(curved.above, curved.bulge(eps));
        let n: Vec<f64> = curved.x.iter().map(|x| x / (count as f64 * r0)).collect();
        curved.tangent_slopes = curved.slopes(&n);
        curved.tangent = curved.linear(&curved.tangent_slopes, None, 1);
        let minus: Vec<f64> = n.iter().map(|n| -n).collect();
        let (low, high) = (curved.lost(&n), curved.lost(&minus));
        curved.tangent_second = if low > high { low } else { high };
        curved.tangent_second +=
            n.iter().zip(&curved.error).map(|(n, error)| n.abs() * error).sum::<f64>();
        let radius = curved.tangent.radii(kernels, inputs)[0];
        let least = r0 + curved.tangent.c[0] - radius - curved.tangent_second - 1e-9 * r0;
        curved.least = if least > curved.least { least } else { curved.least };
        (r0 > 0.0 && curved.least > 0.0).then_some(curved)
    }

    /// The radii of the rounding of the codes behind x, in the scale of x: half a code of the
    /// largest magnitude, or of the engine's floor under it.
    pub(in crate::affine) fn rounding(&self, reading: &Reading) -> Vec<f64> {
        let all = self.largest.iter().zip(self.gains).map(|(x, gain)| x * gain.abs());
        let largest = all.fold(FLOOR * self.most, |most, x| if x > most { x } else { most });
        let half = 0.5 * largest / reading.top * (1.0 + 1e-6 + reading.error);
        self.behind.closed.iter().map(|&closed| if closed { 0.0 } else { half }).collect()
    }

    /// The linear part of `sum of weights x` in the row.
    pub(in crate::affine) fn slopes(&self, weights: &[f64]) -> Vec<f64> {
        let Behind { gate, up, closed, .. } = self.behind;
        let (mut by_gate, mut by_up) = (vec![0.0; weights.len()], vec![0.0; weights.len()]);
        for (f, w) in weights.iter().enumerate() {
            if !closed[f] {
                let p = positive(gate.c[f]);
                by_gate[f] = w * 2.0 * p * up.c[f] * self.layers.gate.scale;
                by_up[f] = w * p * p * self.layers.up.scale;
            }
        }
        let width = self.others.width();
        let mut slopes = vec![0.0; width];
        (self.kernels.forms.dots)(&self.layers.gate.w, &by_gate, &mut slopes);
        let mut other = vec![0.0; width];
        (self.kernels.forms.dots)(&self.layers.up.w, &by_up, &mut other);
        slopes.iter_mut().zip(other).for_each(|(a, b)| *a += b);
        slopes
    }

    /// An upper bound, not negative, of what the terms that are not linear may take from `sum of
    /// weights x`.
    pub(in crate::affine) fn lost(&self, weights: &[f64]) -> f64 {
        let (q, error) = self.form_of(weights);
        self.weight * self.factor.most(&q, error)
    }

    /// How far the root mean square may lie above its tangent: `mean dx^2 / (2 r0)`, the root of
    /// the mean taken of first order and of what is beyond apart.
    fn bulge(&self, eps: (f64, f64)) -> f64 {
        let Behind { gate, up, closed, .. } = self.behind;
        let count = self.x.len();
        let (wg, wu) = (&self.layers.gate.w, &self.layers.up.w);
        let width = self.others.width();
        // The linear part of x is J dh.
        let mut j = vec![0.0; width * count];
        let mut beyond = 0.0;
        for f in (0..count).filter(|&f| !closed[f]) {
            let p = positive(gate.c[f]);
            let (by_gate, by_up) =
                (2.0 * p * up.c[f] * self.layers.gate.scale, p * p * self.layers.up.scale);
            for k in 0..width {
                j[k * count + f] = wg[k * count + f] * by_gate + wu[k * count + f] * by_up;
            }
            let (g, u) = (gate.radii[f], up.radii[f]);
            let second = 2.0 * p * g * u + g * g * (up.c[f].abs() + u) + self.error[f];
            beyond += second * second;
        }
        let mut square = vec![0.0; width * width];
        for (row, j_row) in square.chunks_exact_mut(width).zip(j.chunks_exact(count)) {
            (self.kernels.forms.dots)(&j, j_row, row);
        }
        let size = square.iter().map(|x| x * x).sum::<f64>().sqrt();
        let error = size * (count + 16) as f64 * f64::EPSILON;
        let first = (self.weight * self.factor.most(&square, error)).sqrt();
        let all = (first + beyond.sqrt()) * (1.0 + 1e-9);
        (all * all / count as f64 + (eps.1 - eps.0)) / (2.0 * self.r0) * (1.0 + 1e-9)
    }

    /// An upper bound of `- x' Q x`, x any part of the row's moves.
    pub(in crate::affine) fn gained(&self, q: &[f64], error: f64) -> f64 {
        let opposite: Vec<f64> = q.iter().map(|x| -x).collect();
        self.weight * self.factor.most(&opposite, error)
    }

    /// What the terms that are not linear take from `sum of weights x` at most, as a quadratic form
    /// of the row, and how far it may be off in norm.
    pub(in crate::affine) fn form_of(&self, weights: &[f64]) -> (Vec<f64>, f64) {
        let Behind { gate, up, closed, .. } = self.behind;
        let count = weights.len();
        let (sg, su) = (self.layers.gate.scale, self.layers.up.scale);
        // - sum of squares[f] (w_g dh)^2 + crossed[f] (w_g dh)(w_u dh)
        let (mut squares, mut crossed) = (vec![0.0; count], vec![0.0; count]);
        for (f, &w) in weights.iter().enumerate() {
            if closed[f] {
                continue;
            }
            crossed[f] = w * 2.0 * positive(gate.c[f]) * sg * su;
            let square = w * up.c[f] - w.abs() * up.radii[f];
            let open = gate.c[f] - gate.radii[f] >= 0.0;
            squares[f] = if open || square < 0.0 { square * sg * sg } else { 0.0 };
        }
        let width = self.others.width();
        let (wg, wu) = (&self.layers.gate.w, &self.layers.up.w);
        let mut q = vec![0.0; width * width];
        let mut size = 0.0;
        let mut row = vec![0.0; count];
        for i in 0..width {
            let (gi, ui) = (&wg[i * count..(i + 1) * count], &wu[i * count..(i + 1) * count]);
            for f in 0..count {
                row[f] = -squares[f] * gi[f] - 0.5 * crossed[f] * ui[f];
            }
            (self.kernels.forms.dots)(wg, &row, &mut q[i * width..(i + 1) * width]);
            size += row.iter().map(|x| x.abs()).sum::<f64>();
            for f in 0..count {
                row[f] = -0.5 * crossed[f] * gi[f];
            }
            let mut other = vec![0.0; width];
            (self.kernels.forms.dots)(wu, &row, &mut other);
            q[i * width..(i + 1) * width].iter_mut().zip(other).for_each(|(a, b)| *a += b);
            size += row.iter().map(|x| x.abs()).sum::<f64>();
        }
        let error = size * width as f64 * (count + 16) as f64 * f64::EPSILON;
        (q, error)
    }
}

/// What of a row is not the stream times its gains, about 0: codes that are known times the row's
/// step, and rounding.
fn others(reading: &Reading) -> Form {
    let width = reading.gains.len();
    let mut form = Form::constant(vec![0.0; width]);
    if let Some((codes, scale)) = &reading.fixed {
        form.spans.clone_from(&scale.spans);
        form.g = scale.g.iter().flat_map(|g| codes.iter().map(move |code| g * code)).collect();
    }
    if reading.span.count > 0 {
        form.spans.push(reading.span);
        for (k, &noise) in reading.noise.iter().enumerate() {
            if noise > 0.0 {
                let begin = form.g.len();
                form.g.resize(begin + width, 0.0);
                form.g[begin + k] = noise;
            }
        }
    }
    form
}

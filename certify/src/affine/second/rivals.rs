//! Lower bounds of the margins over all rivals, where the last gated product is known.
//!
//! In front of the last addition a margin times `r = rms(x)` is `alpha r + b x` (see
//! [`super::curved`]). What is linear in the stream is bounded through what the stream was made of
//! ([`super::project`]), what is not by energies. Where that does not decide, all of second order
//! is bounded together ([`super::draft`]), worst rival first, until one cannot be decided either.

use super::super::form::{Form, spread, union};
use super::super::quotient::polar;
use super::super::scores::dot;
use super::curved::{Curved, column};
use super::draft::{Direction, Second};

/// The margins, in front of the last addition: `alpha r + b x`.
pub(in crate::affine) struct Rivals<'a> {
    /// What the stream is multiplied by, `[width, rivals]`.
    pub(in crate::affine) w: &'a [f64],
    /// The stream through that.
    pub(in crate::affine) alpha: &'a Form,
    /// `[features, rivals]`, gains included.
    pub(in crate::affine) b: &'a [f64],
    /// What a bound must exceed to decide.
    pub(in crate::affine) needed: &'a [f64],
}

impl Rivals<'_> {
    fn decided(&self, k: usize, low: f64) -> bool {
        low > self.needed[k]
    }
}

/// What the bounds of all rivals are made of.
struct Sides<'a> {
    curved: &'a Curved<'a>,
    rivals: &'a Rivals<'a>,
    columns: usize,
    /// `b + alpha0 n`, `[features, rivals]`, and what the row is multiplied by, `[width, rivals]`.
    weights: Vec<f64>,
    slopes: Vec<f64>,
    /// The stream through `w` again, with its radii.
    alpha: Form,
    alpha_radii: Vec<f64>,
    tangent_radius: f64,
}

impl Curved<'_> {
    /// Lower bounds of `alpha r + b x` without the rounding of codes behind x.
    pub(in crate::affine) fn lower(&self, rivals: &Rivals<'_>) -> Vec<f64> {
        let sides = Sides::new(self, rivals);
        let linear = self.linear(&sides.slopes, Some(rivals.w), sides.columns);
        let radii = linear.radii(self.kernels, self.inputs);
        let mut low: Vec<f64> =
            (0..sides.columns).map(|k| sides.by_energy(k, (linear.c[k], radii[k]))).collect();
        let mut close: Vec<usize> =
            (0..sides.columns).filter(|&k| !rivals.decided(k, low[k])).collect();
        if close.is_empty() {
            return low;
        }
        let Some(projector) = &self.projector else { return low };
        let Some(second) = Second::new(self, projector) else { return low };
        close.sort_by(|&i, &j| {
            (low[i] - rivals.needed[i]).total_cmp(&(low[j] - rivals.needed[j])).then(i.cmp(&j))
        });
        for k in close {
            let bound = sides.together(k, &second);
            low[k] = if bound > low[k] { bound } else { low[k] };
            if !rivals.decided(k, low[k]) {
                break;
            }
        }
        low
    }

    /// The stream through `[width, columns]`, whichever way it is narrower.
    fn nearer(&self, form: Form, w: &[f64]) -> Form {
        let Some(projector) = &self.projector else { return form };
        let other = projector.through(w);
        let radius = |form: &Form| form.radii(self.kernels, self.inputs).iter().sum::<f64>();
        if radius(&other) < radius(&form) { other } else { form }
    }

    /// `sum of slopes (row - its centre)` and `r0 w (stream - its centre)`.
    pub(in crate::affine) fn linear(
        &self,
        slopes: &[f64],
        w: Option<&[f64]>,
        columns: usize,
    ) -> Form {
        let reading = &self.behind.reading;
        let mut by: Vec<f64> = (slopes.chunks_exact(columns).zip(&reading.gains))
            .flat_map(|(slopes, gain)| slopes.iter().map(move |x| x * gain))
            .collect();
        if let Some(w) = w {
            by.iter_mut().zip(w).for_each(|(by, w)| *by += self.r0 * w);
        }
        let own = reading.form.product(self.kernels, &by);
        let centre = own.c.clone();
        let mut form = self.nearer(own, &by);
        form.c.iter_mut().zip(centre).for_each(|(c, centre)| *c -= centre);
        form.plus(&self.others.product(self.kernels, slopes))
    }
}

impl<'a> Sides<'a> {
    fn new(curved: &'a Curved<'a>, rivals: &'a Rivals<'a>) -> Self {
        let columns = rivals.alpha.width();
        let count = curved.x.len() as f64;
        let weights: Vec<f64> = (curved.x.iter().zip(rivals.b.chunks_exact(columns)))
            .flat_map(|(x, b)| {
                let n = x / (count * curved.r0);
                b.iter().zip(&rivals.alpha.c).map(move |(b, alpha)| b + alpha * n)
            })
            .collect();
        let mut slopes = vec![0.0; curved.others.width() * columns];
        for k in 0..columns {
            let own = curved.slopes(&column(&weights, k, columns));
            slopes.iter_mut().skip(k).step_by(columns).zip(own).for_each(|(to, x)| *to = x);
        }
        let alpha = curved.nearer(rivals.alpha.clone(), rivals.w);
        let alpha_radii = alpha.radii(curved.kernels, curved.inputs);
        let tangent_radius = curved.tangent.radii(curved.kernels, curved.inputs)[0];
        Self { curved, rivals, columns, weights, slopes, alpha, alpha_radii, tangent_radius }
    }

    /// What lies beyond second order, and the f64 error of a bound of such a size.
    fn apart(&self, k: usize, radius: f64) -> f64 {
        let curved = self.curved;
        let (a0, off) = (self.rivals.alpha.c[k], self.off(k));
        let weights = column(&self.weights, k, self.columns);
        let error: f64 = weights.iter().zip(&curved.error).map(|(w, e)| w.abs() * e).sum();
        let least = self.alpha.c[k] - self.alpha_radii[k];
        // Where alpha is negative, r counts by its most.
        let below = if least < 0.0 { -least * curved.above } else { 0.0 };
        let by_x = self.by_x(k).map(f64::abs).sum::<f64>();
        let size = a0.abs() * curved.r0 + by_x + radius;
        off * curved.tangent_second + error + below + 1e-9 * size
    }

    fn by_x(&self, k: usize) -> impl Iterator<Item = f64> {
        let b = self.rivals.b.iter().skip(k).step_by(self.columns);
        b.zip(&self.curved.x).map(|(b, x)| b * x)
    }

    /// How far alpha may be off its centre.
    fn off(&self, k: usize) -> f64 {
        (self.alpha.c[k] - self.rivals.alpha.c[k]).abs() + self.alpha_radii[k]
    }

    /// With what is not linear bounded by energies.
    fn by_energy(&self, k: usize, (shift, radius): (f64, f64)) -> f64 {
        let a0 = self.rivals.alpha.c[k];
        let centre = a0 * self.curved.r0 + self.by_x(k).sum::<f64>() + shift;
        let lost = self.curved.lost(&column(&self.weights, k, self.columns));
        centre - radius - lost + self.crossed(k) - self.apart(k, radius)
    }

    /// A lower bound of `(alpha - a0) R`, R the tangent's move.
    fn crossed(&self, k: usize) -> f64 {
        let (curved, tangent) = (self.curved, &self.curved.tangent);
        let spans = union([&self.alpha.spans[..], &tangent.spans[..]]);
        let alpha = Form {
            c: vec![self.alpha.c[k]],
            spans: self.alpha.spans.clone(),
            g: column(&self.alpha.g, k, self.columns),
            rest: vec![self.alpha.rest[k]],
        };
        let (ga, gr) = (spread(&alpha, &spans), spread(tangent, &spans));
        let own = self.alpha_radii[k] - alpha.rest[0];
        let other = self.tangent_radius - tangent.rest[0];
        let (low, _) = polar(curved.kernels, curved.inputs, &spans, (&ga, own), (&gr, other));
        let off = (alpha.c[0] - self.rivals.alpha.c[k]).abs();
        let centre = tangent.c[0].abs();
        let whole = self.tangent_radius + centre;
        low - alpha.rest[0] * whole - own * (tangent.rest[0] + centre) - off * whole
    }

    /// With all of second order bounded together.
    fn together(&self, k: usize, second: &Second<'_>) -> f64 {
        let curved = self.curved;
        let slopes = column(&self.slopes, k, self.columns);
        let weights = column(&self.weights, k, self.columns);
        let alpha = column(self.rivals.w, k, self.columns);
        let stream: Vec<f64> = (slopes.iter().zip(&curved.behind.reading.gains).zip(&alpha))
            .map(|((slope, gain), w)| slope * gain + curved.r0 * w)
            .collect();
        let of = Direction { stream: &stream, alpha: &alpha, slopes: &slopes, weights: &weights };
        let centre = self.rivals.alpha.c[k] * curved.r0 + self.by_x(k).sum::<f64>();
        let lost = second.lost(&of);
        let size = lost.abs() + dot(&stream, &curved.behind.reading.form.c).abs();
        let own = centre - dot(&stream, &curved.behind.reading.form.c);
        own - lost - self.apart(k, size)
    }
}

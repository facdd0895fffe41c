//! Division of affine forms by the root mean square of a row, as late as possible.
//!
//! `r(z) = sqrt(mean z^2 + eps)` for `z = c + d`: with `r0 = sqrt(mean c^2 + eps)` and the form
//! `R = mean(c d) / r0`, convexity and concavity of the root give `r0 + R <= r <= r0 + R + q / (2
//! r0)`, `q` an upper bound of `mean d^2` and of what eps varies. So `r = rc + R + w` with `|w| <=
//! h`, `h = q / (4 r0)`, `rc = r0 + h`.
//!
//! For `y = yc + dy` (any linear image of z) and `k = yc / rc`, `N = dy - k R` (what y and r share
//! cancels here), `y / r = k + (N - k w) / r`, and for `1 / r` there are two ways:
//! (a) `1/r` in `mu +- delta`: linear part `mu N`;
//! (b) `1/r = 1/rc - (R + w)/rc^2 + (R + w)^2 / (rc^2 r)`: linear part `N / rc`, and the product `N
//! R` by polarisation. The smaller remainder is taken, output by output.

use engine::kernels::Kernels;

use super::form::{Form, Span};
use super::inputs::Inputs;

/// The root mean square of a row as a form.
#[derive(Clone, Debug)]
pub(super) struct Quotient {
    /// The middle of r at the centre.
    pub(super) rc: f64,
    /// `r0`, the root mean square of the centre.
    pub(super) r0: f64,
    /// What r may be off `rc + R`.
    pub(super) half: f64,
    /// The coefficients of R, one a symbol of the form.
    pub(super) r: Vec<f64>,
    /// The radius of R.
    pub(super) radius: f64,
    /// What r moves besides R, of which numerators say their own part.
    pub(super) apart: f64,
    /// What eps varies.
    pub(super) spread: f64,
    /// The range of r.
    pub(super) least: f64,
    pub(super) most: f64,
}

/// `y / r` about its centre: `centre + shift + N / rc` and a remainder.
struct Expansion {
    /// `yc / rc`.
    centres: Vec<f64>,
    /// The radius of N.
    moves: Vec<f64>,
    /// What is off N in the numerator.
    own: Vec<f64>,
    shift: Vec<f64>,
    /// The radius of the remainder.
    second: Vec<f64>,
}

/// Below this mean square the engine's own root is not within its error bound.
const SMALLEST_MEAN: f64 = 1e-30;

impl Quotient {
    /// The root mean square of a settled form whose values lie in `[lo, hi]`, with eps in a range.
    ///
    /// `None` where it may come too close to 0.
    pub(super) fn new(
        kernels: &Kernels,
        inputs: &Inputs,
        form: &Form,
        (lo, hi): (&[f64], &[f64]),
        eps: (f64, f64),
    ) -> Option<Self> {
        let d = form.width() as f64;
        let radii = form.radii(kernels, inputs);
        let mean = |f: &dyn Fn(usize) -> f64| (0..form.width()).map(f).sum::<f64>() / d;
        let r0 = (mean(&|k| form.c[k] * form.c[k]) + eps.0).sqrt();
        let box_mean = mean(&|k| radii[k] * radii[k]);
        let mut moves = box_mean;
        if form.symbols() > form.width() {
            let energy = inputs.energy(kernels, &form.spans, &form.g, &form.rest);
            let energy = energy.squares(kernels) / d;
            moves = if energy < moves { energy } else { moves };
        }
        let mut r = vec![0.0; form.symbols()];
        (kernels.forms.dots)(&form.g, &form.c, &mut r);
        r.iter_mut().for_each(|r| *r /= d * r0);
        let radius = inputs.radius(kernels, &form.spans, &r);
        // f64 errors of r0, R and the sums above: below (D + 16) 2^-52 of these magnitudes.
        let rounding = (d + 64.0) * f64::EPSILON * (r0 + box_mean.sqrt() + radius);
        let q = (moves + (eps.1 - eps.0)) / (2.0 * r0);
        let half = 0.5 * q + rounding;
        let square = |x: f64| x * x;
        let near = |k: usize| {
            if lo[k] > 0.0 {
                lo[k]
            } else if hi[k] < 0.0 {
                hi[k]
            } else {
                0.0
            }
        };
        let far = |k: usize| if -lo[k] > hi[k] { lo[k] } else { hi[k] };
        let slack = (d + 16.0) * f64::EPSILON;
        let by_box = (mean(&|k| square(near(k))) * (1.0 - slack) + eps.0).sqrt();
        let by_form = r0 - radius - rounding;
        let least = if by_box > by_form { by_box } else { by_form };
        let by_box = (mean(&|k| square(far(k))) * (1.0 + slack) + eps.1).sqrt();
        let by_form = r0 + radius + q + rounding;
        let most = if by_box < by_form { by_box } else { by_form };
        let fine = least * least > SMALLEST_MEAN && most.is_finite() && r0 > 0.0;
        let (least, most) = (least * (1.0 - 1e-14), most * (1.0 + 1e-14));
        let spread = eps.1 - eps.0;
        fine.then_some(Self {
            rc: r0 + 0.5 * q,
            r0,
            half,
            r,
            radius,
            apart: 0.0,
            spread,
            least,
            most,
        })
    }

    /// Turns `y` into `y / r`; `y` is a linear image of the form, with its symbols.
    pub(super) fn divide(&self, kernels: &Kernels, inputs: &Inputs, y: &mut Form) {
        let outputs = y.width();
        let Expansion { centres, moves, own, shift, second } = self.expand(kernels, inputs, y);
        let (mu, delta) = (0.5 * (1.0 / self.least + 1.0 / self.most), self.delta());
        let mut a = vec![0.0; outputs];
        let mut b = vec![0.0; outputs];
        for k in 0..outputs {
            let plain = mu * own[k] + (moves[k] + own[k]) * delta;
            let (factor, rest, shift) = if second[k] < plain {
                (1.0 / self.rc, second[k], shift[k])
            } else {
                (mu, plain, 0.0)
            };
            (a[k], b[k]) = (factor, -centres[k] * factor);
            y.c[k] = centres[k] + shift;
            // All f64 steps here are within 2^-40 of the magnitudes that they add.
            y.rest[k] = rest + 1e-12 * (rest + centres[k].abs() + moves[k] / self.least);
        }
        (kernels.forms.combine)(&mut y.g, &self.r, &a, &b);
    }

    /// Way (b) for each value of `y`.
    fn expand(&self, kernels: &Kernels, inputs: &Inputs, y: &Form) -> Expansion {
        let outputs = y.width();
        let centres: Vec<f64> = y.c.iter().map(|c| c / self.rc).collect();
        let shared: Vec<f64> = centres.iter().map(|k| -k).collect();
        let ones = vec![1.0; outputs];
        let radii =
            |a: &[f64], b: &[f64]| inputs.combined(kernels, &y.spans, &y.g, &self.r, (a, b));
        let moves = radii(&ones, &shared);
        let (low, high) = self.products(&moves, &shared, radii);
        let rc2 = self.rc * self.rc;
        let around = self.half + self.apart;
        let moved = self.radius + around;
        let own: Vec<f64> =
            (0..outputs).map(|k| centres[k].abs() * self.half + y.rest[k]).collect();
        let (shift, second) = (0..outputs)
            .map(|k| {
                let cubic = (moves[k] + own[k]) * moved * moved / (rc2 * self.least);
                let second = 0.5 * (high[k] - low[k]) / rc2
                    + moves[k] * around / rc2
                    + own[k] / self.rc
                    + own[k] * moved / rc2
                    + cubic;
                (-0.5 * (low[k] + high[k]) / rc2, second)
            })
            .unzip();
        Expansion { centres, moves, own, shift, second }
    }

    /// Half the width of the range of `1 / r`.
    fn delta(&self) -> f64 {
        0.5 * (1.0 / self.least - 1.0 / self.most) * (1.0 + 1e-12)
    }

    /// The range of `N R`, by polarisation.
    fn products(
        &self,
        n: &[f64],
        shared: &[f64],
        radii: impl Fn(&[f64], &[f64]) -> Vec<f64>,
    ) -> (Vec<f64>, Vec<f64>) {
        if self.radius == 0.0 {
            return (vec![0.0; n.len()], vec![0.0; n.len()]);
        }
        let inverse: Vec<f64> = n.iter().map(|&n| if n > 0.0 { 1.0 / n } else { 0.0 }).collect();
        let with = |sign: f64| -> Vec<f64> {
            let shift = inverse.iter().zip(shared);
            let b: Vec<f64> = shift.map(|(i, k)| k * i + sign / self.radius).collect();
            radii(&inverse, &b)
        };
        let (mu, nu) = (with(1.0), with(-1.0));
        let end = |x: f64, n: f64| n * self.radius * quarter(x);
        let low = nu.iter().zip(n).map(|(&nu, &n)| -end(nu, n)).collect();
        (low, mu.iter().zip(n).map(|(&mu, &n)| end(mu, n)).collect())
    }
}

/// `x^2 / 4`, at most 1: the polarised bound of a product relative to the product of the radii.
pub(super) fn quarter(x: f64) -> f64 {
    let value = 0.25 * x * x * (1.0 + 1e-12);
    if value < 1.0 { value } else { 1.0 }
}

/// The range of the product of two columns of coefficients with their radii.
pub(super) fn polar(
    kernels: &Kernels,
    inputs: &Inputs,
    spans: &[Span],
    (x, x_radius): (&[f64], f64),
    (y, y_radius): (&[f64], f64),
) -> (f64, f64) {
    if x_radius == 0.0 || y_radius == 0.0 {
        return (0.0, 0.0);
    }
    let radius = |sign: f64| {
        let (a, b) = ([1.0 / x_radius], [sign / y_radius]);
        inputs.combined(kernels, spans, x, y, (&a, &b))[0]
    };
    let whole = x_radius * y_radius;
    (-whole * quarter(radius(-1.0)), whole * quarter(radius(1.0)))
}

//! The most that a quadratic function of the symbols can be.
//!
//! For `f(e) = L e + y' Q y`, `y = Y' e`, `|e_s| <= 1`, and any weights `d_s > 0`:
//! `f(e) <= sum d + [L e - e' K e]`, `K = diag(d) - Y Q Y'`, and where K is positive definite, the
//! bracket is at most `L' K^-1 L / 4`. That is the dual of the semidefinite relaxation, so for the
//! best weights it is as good as that. Bounds of L and of the quadratic part alone let both be
//! extreme at once; here what the quadratic part makes of the points where L is extreme counts, and
//! little else.
//!
//! Weights are found on the primal side by a few sweeps of the mixing method (Wang, Chang, Kolter
//! 2017): each symbol has a unit vector, of which the first component multiplies L. They need not
//! be good for the bound to be true.

use engine::kernels::Kernels;

use super::psd::{Factor, lies_under, slack};

/// `L e + y' Q y` with `y = Y' e` and, besides, values of which only an energy is known.
pub(in crate::affine) struct Quadratic {
    /// L, one a symbol.
    pub(in crate::affine) linear: Vec<f64>,
    /// Y, `[symbols, width]`.
    pub(in crate::affine) rows: Vec<f64>,
    /// Q, `[width, width]`, symmetric.
    pub(in crate::affine) q: Vec<f64>,
    /// What is added to y: `x x' <= weight * matrix`.
    pub(in crate::affine) blocks: Vec<(f64, Vec<f64>)>,
    pub(in crate::affine) width: usize,
    /// How far Q may be off in norm.
    pub(in crate::affine) error: f64,
}

/// Weights of a bound: of the symbols, and factors of the blocks.
pub(in crate::affine) struct Weights {
    symbols: Vec<f64>,
    blocks: Vec<f64>,
}

/// Components of the vectors.
const RANK: usize = 4;
const SWEEPS: usize = 6;
/// The part of the weights that goes by the size of rows alone.
const BLEND: f64 = 0.02;
/// The largest eigenvalue that is left to the quadratic part.
const MOST: f64 = 0.95;
/// What weights are raised by until they suffice, and at most.
const GROWTH: f64 = 1.05;
const LARGEST: f64 = 1e3;

impl Quadratic {
    /// The upper bound that weights give, which may be those of another function.
    pub(in crate::affine) fn most_by(&self, kernels: &Kernels, weights: &Weights) -> f64 {
        self.bound(kernels, weights.symbols.clone(), weights.blocks.clone())
    }

    /// Weights that make a good bound.
    pub(in crate::affine) fn weights(&self, kernels: &Kernels) -> Weights {
        let (symbols, width) = (self.linear.len(), self.width);
        let columns = transposed(&self.rows, width);
        let mut vectors = self.start();
        let mut means = vec![0.0; RANK * width];
        let mut moved = means.clone();
        let mut pulls = vec![0.0; RANK * symbols];
        let mut weights = vec![0.0; symbols];
        let mut scales = vec![1.0; self.blocks.len()];
        for _ in 0..SWEEPS {
            (kernels.forms.product)(&vectors, &self.rows, symbols, &mut means);
            for ((_, matrix), scale) in self.blocks.iter().zip(&scales) {
                let mut own = vec![0.0; RANK * width];
                (kernels.forms.product)(&moved, matrix, width, &mut own);
                means.iter_mut().zip(&own).for_each(|(sum, x)| *sum += x / scale);
            }
            (kernels.forms.product)(&means, &self.q, width, &mut moved);
            (kernels.forms.product)(&moved, &columns, width, &mut pulls);
            pulls[..symbols].iter_mut().zip(&self.linear).for_each(|(p, l)| *p += 0.5 * l);
            lengths(&pulls, &mut weights);
            turn(&mut vectors, &pulls, &weights);
            for ((weight, matrix), scale) in self.blocks.iter().zip(&mut scales) {
                let mut own = vec![0.0; RANK * width];
                (kernels.forms.product)(&moved, matrix, width, &mut own);
                let trace: f64 = own.iter().zip(&moved).map(|(a, b)| a * b).sum();
                if *weight > 0.0 && trace > 0.0 {
                    *scale = (trace / weight).sqrt();
                }
            }
        }
        self.blended(&mut weights);
        Weights { symbols: weights, blocks: scales }
    }

    /// Leaves no weight at 0, and each a part that goes by the size of its row, column by column in
    /// units of the columns' radii.
    fn blended(&self, weights: &mut [f64]) {
        let mut radii = vec![0.0; self.width];
        for row in self.rows.chunks_exact(self.width) {
            radii.iter_mut().zip(row).for_each(|(sum, x)| *sum += x.abs());
        }
        let inverse: Vec<f64> =
            radii.iter().map(|&r| if r > 0.0 { 1.0 / r } else { 0.0 }).collect();
        let sizes: Vec<f64> = (self.rows.chunks_exact(self.width))
            .map(|row| row.iter().zip(&inverse).fold(0.0, |sum, (x, i)| sum + x * i * (x * i)))
            .map(f64::sqrt)
            .collect();
        let (all, of) = (weights.iter().sum::<f64>(), sizes.iter().sum::<f64>());
        let by_size = if of > 0.0 { BLEND * all / of } else { 0.0 };
        let least = 1e-6 * all / weights.len() as f64 + 1e-300;
        for (weight, size) in weights.iter_mut().zip(&sizes) {
            *weight = (1.0 - BLEND) * *weight + by_size * size + least;
        }
    }

    /// Unit vectors, component by component: mostly by the sign of L, and a part that differs from
    /// symbol to symbol.
    fn start(&self) -> Vec<f64> {
        let symbols = self.linear.len();
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut vectors: Vec<f64> = (0..RANK * symbols)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0
            })
            .collect();
        for (v, &linear) in vectors.iter_mut().zip(&self.linear) {
            *v = if linear > 0.0 { 2.0 } else { -2.0 };
        }
        normalise(&mut vectors, symbols);
        vectors
    }

    /// The Euclidean norm of each row.
    fn sizes(&self) -> Vec<f64> {
        self.rows.chunks_exact(self.width).map(length).collect()
    }

    /// The bound that weights give.
    fn bound(&self, kernels: &Kernels, mut d: Vec<f64>, mut scales: Vec<f64>) -> f64 {
        let (symbols, width) = (self.linear.len(), self.width);
        let mut c = vec![0.0; width * width];
        let inverse: Vec<f64> = d.iter().map(|d| 1.0 / d).collect();
        (kernels.forms.gram)(&self.rows, &inverse, width, &mut c);
        for i in 0..width {
            for j in 0..i {
                c[i * width + j] = c[j * width + i];
            }
        }
        for ((_, matrix), scale) in self.blocks.iter().zip(&scales) {
            c.iter_mut().zip(matrix).for_each(|(c, x)| *c += x / scale);
        }
        let Some(factor) = Factor::new(&c, width, 2 * symbols + 64) else {
            return f64::INFINITY;
        };
        let mut turned = factor.turned(&self.q);
        let mut rounding = factor.rounding(&self.q, self.error);
        let mut up = 1.0;
        while !lies_under(&turned, width, MOST) {
            up *= GROWTH;
            if up > LARGEST {
                return f64::INFINITY;
            }
            d.iter_mut().chain(&mut scales).for_each(|d| *d *= GROWTH);
            turned.iter_mut().for_each(|x| *x /= GROWTH);
            rounding /= GROWTH;
        }
        let eta = MOST + slack(&turned, width, MOST) + rounding * (1.0 + 1e-9);
        let blocks = self.blocks.iter().zip(&scales).map(|((weight, _), t)| weight * t);
        let total = d.iter().sum::<f64>() + blocks.sum::<f64>();
        let of = Bracket { factor: &factor, turned: &turned, d: &d, scales: &scales };
        let bracket = self.bracket(kernels, &of);
        let whole = total + bracket.0 + bracket.1 / (1.0 - eta);
        if eta < 1.0 && whole.is_finite() { whole + 1e-11 * whole.abs() } else { f64::INFINITY }
    }

    /// An upper bound of `L' K^-1 L / 4`, in two parts: the second is to be divided by `1 - eta`,
    /// where `K >= (1 - eta) diag(d)`.
    ///
    /// For every v, with `rho = L - K v`, it is `(2 L v - v' K v + rho' K^-1 rho) / 4`. A block is
    /// `x = B u`, `|u| <= 1`, `B B' = weight * matrix`, of which L knows nothing; its own weight is
    /// the scale t times `weight`, and its part of v is `B' p / (t weight)`.
    fn bracket(&self, kernels: &Kernels, of: &Bracket<'_>) -> (f64, f64) {
        let width = self.width;
        let through = |x: &[f64], matrix: &[f64]| {
            let mut out = vec![0.0; width];
            (kernels.forms.product)(x, matrix, x.len(), &mut out);
            out
        };
        let shares: Vec<f64> = self.linear.iter().zip(of.d).map(|(l, d)| l / d).collect();
        let first = through(&shares, &self.rows);
        // The factor is that of the weights before they were raised.
        let y = of.factor.resolved(of.turned, &first).unwrap_or(first);
        let pull = through(&y, &self.q);
        let mut by = vec![0.0; of.d.len()];
        (kernels.forms.dots)(&self.rows, &pull, &mut by);
        let v: Vec<f64> = shares.iter().zip(&by).zip(of.d).map(|((s, by), d)| s + by / d).collect();
        let mut image = through(&v, &self.rows);
        let (mut blocks, mut moved) = (0.0, 0.0);
        for ((_, matrix), t) in self.blocks.iter().zip(of.scales) {
            let own = through(&pull, matrix);
            blocks += own.iter().zip(&pull).map(|(a, b)| a * b).sum::<f64>() / t;
            image.iter_mut().zip(&own).for_each(|(sum, x)| *sum += x / t);
            moved += length(&own) / t;
        }
        let again = through(&image, &self.q);
        (kernels.forms.dots)(&self.rows, &again, &mut by);
        let quadratic: f64 = again.iter().zip(&image).map(|(a, b)| a * b).sum();
        // What f64 loses in sums over symbols is below this part of the magnitudes.
        let lost = 1e-16 * (of.d.len() + 1024) as f64;
        let sizes = self.sizes();
        let sum = sizes.iter().zip(&v).map(|(size, v)| size * v.abs()).sum::<f64>() + moved;
        let off = self.error * length(&image);
        let spread = lost * (length(&self.q) * sum + length(&again)) + off;
        let mut size = blocks + length(&again) * sum;
        let (mut value, mut rest) = (quadratic - blocks + off * length(&image), 0.0);
        for ((((l, v), by), d), row) in self.linear.iter().zip(&v).zip(&by).zip(of.d).zip(&sizes) {
            value += 2.0 * l * v - d * v * v;
            size += (l * v).abs() + d * v * v;
            let rho = (l - d * v + by).abs() + lost * (l.abs() + d * v.abs()) + row * spread;
            rest += rho * rho / d;
        }
        let value = value + lost * size;
        let off: Vec<f64> = again.iter().zip(&pull).map(|(a, b)| a - b).collect();
        for ((_, matrix), t) in self.blocks.iter().zip(of.scales) {
            let own = through(&off, matrix);
            rest += own.iter().zip(&off).map(|(a, b)| a * b).sum::<f64>().abs() / t;
        }
        (0.25 * value, 0.25 * rest * (1.0 + 1e-9))
    }
}

/// What the bracket is bounded with.
struct Bracket<'a> {
    factor: &'a Factor,
    turned: &'a [f64],
    d: &'a [f64],
    scales: &'a [f64],
}

fn length(x: &[f64]) -> f64 {
    x.iter().fold(0.0, |sum, x| sum + x * x).sqrt()
}

/// The lengths of vectors that lie component by component.
fn lengths(vectors: &[f64], out: &mut [f64]) {
    out.fill(0.0);
    for component in vectors.chunks_exact(out.len()) {
        out.iter_mut().zip(component).for_each(|(sum, x)| *sum += x * x);
    }
    out.iter_mut().for_each(|x| *x = x.sqrt());
}

fn normalise(vectors: &mut [f64], count: usize) {
    let mut sizes = vec![0.0; count];
    lengths(vectors, &mut sizes);
    for component in vectors.chunks_exact_mut(count) {
        for (x, &size) in component.iter_mut().zip(&sizes) {
            *x = if size > 0.0 { *x / size } else { 0.0 };
        }
    }
}

/// Turns unit vectors half of the way to where they are pulled.
fn turn(vectors: &mut [f64], pulls: &[f64], strengths: &[f64]) {
    let count = strengths.len();
    for (component, pull) in vectors.chunks_exact_mut(count).zip(pulls.chunks_exact(count)) {
        for ((x, pull), &strength) in component.iter_mut().zip(pull).zip(strengths) {
            *x += if strength > 0.0 { pull / strength } else { 0.0 };
        }
    }
    normalise(vectors, count);
}

/// The transpose of a matrix of so many columns.
fn transposed(matrix: &[f64], columns: usize) -> Vec<f64> {
    let rows = matrix.len() / columns;
    let mut out = vec![0.0; matrix.len()];
    for (i, row) in matrix.chunks_exact(columns).enumerate() {
        row.iter().enumerate().for_each(|(j, x)| out[j * rows + i] = *x);
    }
    out
}

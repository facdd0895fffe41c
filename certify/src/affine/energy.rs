//! Energies: how large several values can be together.
//!
//! For `x = sum of v_s e_s` with `|e_s| <= 1` and any weights `d_s > 0`, Cauchy's inequality gives
//! for every direction `a`: `(a x)^2 <= (sum of d_s e_s^2) (sum of (a v_s)^2 / d_s)`. So
//! `x x' <= D C` in the order of symmetric matrices, `D = sum d_s`, `C = sum v_s v_s' / d_s`. With
//! `d_s = |v_s|` this is far below what the box of x allows where many symbols mix in few values:
//! a box lets every value be extreme at once.
//!
//! Two such bounds give bilinear ones: `(x y)^2 <= Dx Dy lmax(Cx Cy)`. The largest eigenvalue of a
//! product of two positive semidefinite matrices is at most `|(Cx Cy)^p|^(1/p)`, since all its
//! eigenvalues are real and not negative.

use engine::kernels::Kernels;

/// `x x' <= weight * matrix` for all values that the symbols allow.
#[derive(Clone, Debug)]
pub(super) struct Energy {
    /// The sum of the weights.
    pub(super) weight: f64,
    /// The matrix, `[width, width]`, symmetric.
    pub(super) matrix: Vec<f64>,
    width: usize,
    /// Additions that went into an entry without [`Self::close`].
    open: usize,
}

impl Energy {
    /// The matrix `C`, `[width, width]`.
    pub(super) fn matrix(&self) -> &[f64] {
        &self.matrix
    }

    /// How many values.
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// Of nothing.
    pub(super) fn none(width: usize) -> Self {
        Self { weight: 0.0, matrix: vec![0.0; width * width], width, open: 0 }
    }

    /// Of independent values.
    pub(super) fn of_box(radii: &[f64]) -> Self {
        let mut energy = Self::none(radii.len());
        energy.add_box(radii, 1.0);
        energy
    }

    /// Adds independent symbols, one a value.
    pub(super) fn add_box(&mut self, radii: &[f64], factor: f64) {
        for (k, radius) in radii.iter().enumerate() {
            self.weight += radius * factor;
            self.matrix[k * self.width + k] += radius * factor;
        }
    }

    /// Adds symbols with their weights, whose total bounds the sum of `d_s e_s^2`; only the upper
    /// triangle until [`Self::close`].
    pub(super) fn add(&mut self, kernels: &Kernels, rows: &[f64], weights: &[f64], total: f64) {
        self.weight += total;
        let inverse: Vec<f64> =
            weights.iter().map(|&d| if d > 0.0 { 1.0 / d } else { 0.0 }).collect();
        (kernels.forms.gram)(rows, &inverse, self.width, &mut self.matrix);
    }

    /// Adds another energy times a factor that is not negative: the energy of `factor` times its
    /// values, added to these, whether or not they share symbols.
    pub(super) fn add_scaled(&mut self, other: &Self, factor: f64) {
        self.weight += factor * other.weight;
        self.open += other.open + 1;
        self.matrix.iter_mut().zip(&other.matrix).for_each(|(sum, x)| *sum += factor * x);
    }

    /// Adds one symbol whose coefficients are `factor` times a vector.
    pub(super) fn add_vector(&mut self, vector: &[f64], factor: f64) {
        let norm = vector.iter().fold(0.0, |sum, x| sum + x * x).sqrt();
        if norm > 0.0 && factor > 0.0 {
            self.weight += factor * norm;
            self.open += 1;
            for (row, &a) in self.matrix.chunks_exact_mut(self.width).zip(vector) {
                row.iter_mut().zip(vector).for_each(|(sum, b)| *sum += factor * (a * b / norm));
            }
        }
    }

    /// Mirrors the upper triangle, and covers the rounding of `rows` additions: an error matrix of
    /// norm `e` is below `e` times the identity.
    pub(super) fn close(&mut self, rows: usize) {
        let width = self.width;
        for i in 0..width {
            for j in 0..i {
                self.matrix[i * width + j] = self.matrix[j * width + i];
            }
        }
        let trace: f64 = (0..width).map(|k| self.matrix[k * width + k]).sum();
        let error = trace * (rows + width + 16) as f64 * f64::EPSILON;
        (0..width).for_each(|k| self.matrix[k * width + k] += error);
        self.weight *= 1.0 + (rows + 16) as f64 * f64::EPSILON;
    }

    /// An upper bound of the sum of squares of all values.
    pub(super) fn squares(&self, kernels: &Kernels) -> f64 {
        self.weight * largest_eigenvalue(kernels, self.matrix.clone(), self.width)
    }

    /// An upper bound of `|x . y|` for values `x` of this and `y` of the other energy.
    pub(super) fn bilinear(&self, kernels: &Kernels, other: &Self) -> f64 {
        if self.weight == 0.0 || other.weight == 0.0 {
            return 0.0;
        }
        let mut product = vec![0.0; self.matrix.len()];
        (kernels.forms.product)(&self.matrix, &other.matrix, self.width, &mut product);
        // Rounding of the product, and of what was added to matrices that were not closed.
        let terms = self.width + self.open + other.open + 8;
        let rounding = frobenius(&self.matrix) * frobenius(&other.matrix) * relative(terms);
        let lambda = largest_eigenvalue(kernels, product, self.width) + rounding;
        (self.weight * other.weight).sqrt() * lambda.sqrt() * (1.0 + 1e-12)
    }

    /// An upper bound of `|x' M x|` for values `x` of this energy and a symmetric `M` without
    /// negative eigenvalues, whose entries are sums of so many terms.
    pub(super) fn quadratic(&self, kernels: &Kernels, matrix: &[f64], terms: usize) -> f64 {
        let mut product = vec![0.0; self.matrix.len()];
        (kernels.forms.product)(&self.matrix, matrix, self.width, &mut product);
        let terms = self.width + self.open + terms + 8;
        let rounding = frobenius(&self.matrix) * frobenius(matrix) * relative(terms);
        self.weight * (largest_eigenvalue(kernels, product, self.width) + rounding)
    }
}

/// The relative error of a sum of products, with room.
fn relative(terms: usize) -> f64 {
    2.0 * terms as f64 * f64::EPSILON
}

fn frobenius(matrix: &[f64]) -> f64 {
    matrix.iter().fold(0.0, |sum, x| sum + x * x).sqrt()
}

/// An upper bound of the spectral radius of a matrix, by `|M^p|^(1/p)`, p a power of two.
///
/// Each power is scaled to a Frobenius norm of 1: `A_k^2 = n A_(k+1) + E`, `|E|` at most `width
/// 2^-52` by rounding. With `d = |E| / n` and `m` the power of `A_(k+1)` that is still to be taken,
/// `|A_k^(2m)| <= n^m (|A_(k+1)^m| + m d (1 + d)^m)`, and never above 1.
pub(super) fn largest_eigenvalue(kernels: &Kernels, mut matrix: Vec<f64>, width: usize) -> f64 {
    let squarings = if width <= 32 { 5 } else { 4 };
    let Some(norm) = scale_to_one(&mut matrix) else { return 0.0 };
    let mut norms = Vec::with_capacity(squarings);
    let mut next = vec![0.0; matrix.len()];
    for _ in 0..squarings {
        (kernels.forms.product)(&matrix, &matrix, width, &mut next);
        std::mem::swap(&mut matrix, &mut next);
        match scale_to_one(&mut matrix) {
            Some(norm) => norms.push(norm),
            None => break,
        }
    }
    // A square that vanished is all rounding.
    let rounding = (width + 8) as f64 * f64::EPSILON;
    let mut bound = if norms.len() == squarings { 1.0 } else { rounding };
    let mut power = 1 << (squarings - norms.len());
    for norm in norms.into_iter().rev() {
        let d = rounding / norm;
        let raised = |x: f64| (0..power).fold(1.0, |product, _| product * x);
        let error = f64::from(power) * d * raised(1.0 + d);
        bound = raised(norm) * (bound + error) * (1.0 + 1e-13);
        bound = if bound < 1.0 { bound } else { 1.0 };
        power *= 2;
    }
    for _ in 0..squarings {
        bound = bound.sqrt();
    }
    bound * norm * (1.0 + 1e-12)
}

/// Divides a matrix by its Frobenius norm; `None` if that is 0.
fn scale_to_one(matrix: &mut [f64]) -> Option<f64> {
    let norm = frobenius(matrix);
    if norm == 0.0 {
        return None;
    }
    matrix.iter_mut().for_each(|x| *x /= norm);
    Some(norm)
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::kernels;

    #[test]
    fn eigenvalues_are_bounded_from_above_and_not_far_off() {
        let scalar = kernels::scalar();
        let diagonal = |values: &[f64]| {
            let n = values.len();
            let mut m = vec![0.0; n * n];
            values.iter().enumerate().for_each(|(k, &x)| m[k * n + k] = x);
            m
        };
        for values in [vec![3.0], vec![1.0, 2.0, 5.0], vec![1.0; 16], vec![1e-8, 4.0]] {
            let most = values.iter().copied().fold(0.0, |a: f64, b| if b > a { b } else { a });
            let bound = largest_eigenvalue(scalar, diagonal(&values), values.len());
            assert!(most <= bound && bound <= most * 1.15, "{most} {bound}");
        }
    }
}

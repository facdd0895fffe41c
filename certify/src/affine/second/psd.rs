//! Signed quadratic forms of values whose energy is known.
//!
//! For `x x' <= D C` and a symmetric Q, `x' Q x <= D lmax(F' Q F)` for every F with `C <= F F'`, if
//! that is positive. F is a Cholesky factor; eigenvalues are found by trying, since a Cholesky
//! factorisation that completes proves that a matrix is not far from positive definite (Higham,
//! Accuracy and Stability of Numerical Algorithms, theorem 10.3: the computed factor is that of `A
//! + E`, `|E| <= (n + 2) 2^-52 tr A`).

/// A factor `F` with `C <= F F'`.
#[derive(Debug)]
pub(in crate::affine) struct Factor {
    lower: Vec<f64>,
    width: usize,
    /// The square of the Frobenius norm of `lower`, from above.
    squares: f64,
}

/// Relative precision of the eigenvalues that are tried.
const STEP: f64 = 1.01;

impl Factor {
    /// Of a symmetric matrix that is a sum of so many terms an entry; `None` where it has no factor
    /// in f64.
    pub(in crate::affine) fn new(matrix: &[f64], width: usize, terms: usize) -> Option<Self> {
        let trace: f64 = (0..width).map(|k| matrix[k * width + k]).sum();
        // What sums and factoring lose, below the diagonal that is added.
        let room = 16.0 * (width + terms + 8) as f64 * f64::EPSILON * trace;
        let mut lower = matrix.to_vec();
        (0..width).for_each(|k| lower[k * width + k] += room);
        if !(trace > 0.0 && cholesky(&mut lower, width)) {
            return None;
        }
        let squares: f64 = lower.iter().map(|x| x * x).sum();
        squares.is_finite().then_some(Self { lower, width, squares: squares * (1.0 + 1e-9) })
    }

    /// An upper bound, not negative, of `x' Q x / D`, where Q may be off by `error` in norm.
    pub(in crate::affine) fn most(&self, q: &[f64], error: f64) -> f64 {
        let turned = self.turned(q);
        (largest(&turned, self.width) + self.rounding(q, error)) * (1.0 + 1e-12)
    }

    /// How far `turned` may be off in norm.
    pub(in crate::affine) fn rounding(&self, q: &[f64], error: f64) -> f64 {
        let scale: f64 = q.iter().map(|x| x * x).sum::<f64>().sqrt();
        // Two products of n terms each, of magnitudes below the norms.
        self.squares * (scale * (4 * self.width + 16) as f64 * f64::EPSILON + error)
    }

    /// `F' Q F`.
    pub(in crate::affine) fn turned(&self, q: &[f64]) -> Vec<f64> {
        let n = self.width;
        let mut half = vec![0.0; n * n];
        for (q, half) in q.chunks_exact(n).zip(half.chunks_exact_mut(n)) {
            for (k, &x) in q.iter().enumerate() {
                let lower = &self.lower[k * n..k * n + k + 1];
                half.iter_mut().zip(lower).for_each(|(sum, l)| *sum += x * l);
            }
        }
        let mut whole = vec![0.0; n * n];
        for (k, half) in half.chunks_exact(n).enumerate() {
            for (row, &l) in whole.chunks_exact_mut(n).zip(&self.lower[k * n..k * n + k + 1]) {
                row.iter_mut().zip(half).for_each(|(sum, x)| *sum += l * x);
            }
        }
        whole
    }

    /// About `F (I - B)^-1 F^-1 x`, `B = F' Q F`; `None` where `I - B` is not positive definite.
    pub(in crate::affine) fn resolved(&self, turned: &[f64], x: &[f64]) -> Option<Vec<f64>> {
        let n = self.width;
        let mut matrix: Vec<f64> = turned.iter().map(|x| -x).collect();
        (0..n).for_each(|k| matrix[k * n + k] += 1.0);
        if !cholesky(&mut matrix, n) {
            return None;
        }
        let y = forward(&self.lower, x);
        let y = backward(&matrix, &forward(&matrix, &y));
        Some(
            (self.lower.chunks_exact(n).enumerate())
                .map(|(k, row)| row[..=k].iter().zip(&y).map(|(l, y)| l * y).sum())
                .collect(),
        )
    }
}

/// Solves `L y = x`.
fn forward(lower: &[f64], x: &[f64]) -> Vec<f64> {
    let mut y: Vec<f64> = Vec::with_capacity(x.len());
    for (k, row) in lower.chunks_exact(x.len()).enumerate() {
        let sum: f64 = row[..k].iter().zip(&y).map(|(l, y)| l * y).sum();
        y.push((x[k] - sum) / row[k]);
    }
    y
}

/// Solves `L' y = x`.
fn backward(lower: &[f64], x: &[f64]) -> Vec<f64> {
    let n = x.len();
    let mut y = x.to_vec();
    for k in (0..n).rev() {
        let row = &lower[k * n..k * n + k + 1];
        let value = y[k] / row[k];
        y[k] = value;
        y[..k].iter_mut().zip(row).for_each(|(y, l)| *y -= value * l);
    }
    y
}

/// Whether `limit I - matrix` is positive definite, up to [`slack`].
pub(in crate::affine) fn lies_under(matrix: &[f64], n: usize, limit: f64) -> bool {
    let mut shifted: Vec<f64> = matrix.iter().map(|x| -x).collect();
    (0..n).for_each(|k| shifted[k * n + k] += limit);
    cholesky(&mut shifted, n)
}

/// What an eigenvalue may lie above a limit that [`lies_under`] has accepted.
pub(in crate::affine) fn slack(matrix: &[f64], n: usize, limit: f64) -> f64 {
    let trace: f64 = (0..n).map(|k| (limit - matrix[k * n + k]).abs()).sum();
    (2 * n + 16) as f64 * f64::EPSILON * trace
}

/// An upper bound of the largest eigenvalue of a symmetric matrix, or 0 if that is negative.
fn largest(matrix: &[f64], n: usize) -> f64 {
    if !matrix.iter().all(|x| x.is_finite()) {
        return f64::INFINITY;
    }
    let row = |k: usize| matrix[k * n..(k + 1) * n].iter().map(|x| x.abs()).sum::<f64>();
    // By Gershgorin; and from below by the diagonal.
    let mut high = (0..n).map(row).fold(0.0, |a, b| if b > a { b } else { a });
    let below = (0..n).map(|k| matrix[k * n + k]).fold(0.0, |a, b| if b > a { b } else { a });
    let mut low = if below > 1e-3 * high { below } else { 1e-3 * high };
    while high > STEP * low {
        let middle = (high * low).sqrt();
        if lies_under(matrix, n, middle) { high = middle } else { low = middle }
    }
    high * (1.0 + 1e-12) + slack(matrix, n, high)
}

/// Replaces a symmetric matrix by its lower Cholesky factor; false where a pivot is not positive.
fn cholesky(matrix: &mut [f64], n: usize) -> bool {
    for i in 0..n {
        for j in 0..=i {
            let (above, own) = matrix.split_at_mut(i * n);
            let left = if j == i { &own[..j] } else { &above[j * n..j * n + j] };
            let rest = own[j] - dot(&own[..j], left);
            if i == j {
                if !(rest > 0.0 && rest.is_finite()) {
                    return false;
                }
                own[i] = rest.sqrt();
            } else {
                own[j] = rest / above[j * n + j];
            }
        }
        matrix[i * n + i + 1..(i + 1) * n].fill(0.0);
    }
    true
}

/// Eight sums side by side, which a compiler may put into lanes.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let (a, a_end) = a.as_chunks::<8>();
    let (b, b_end) = b.as_chunks::<8>();
    let mut lanes = [0.0; 8];
    for (a, b) in a.iter().zip(b) {
        for k in 0..8 {
            lanes[k] += a[k] * b[k];
        }
    }
    let end: f64 = a_end.iter().zip(b_end).map(|(a, b)| a * b).sum();
    lanes.iter().sum::<f64>() + end
}

//! Sums in one fixed order: 16 virtual lanes, then a fixed tree.
//!
//! Sixteen lanes are one AVX-512 register, two AVX2 and four NEON ones, so every kernel table can
//! keep this very order. The loops are written so that a compiler vectorises them when they are
//! inlined into a function that enables an instruction set; it may not reassociate them.

const LANES: usize = 16;

/// Adds the lanes as a tree of strides 8, 4, 2, 1.
#[inline(always)]
pub(super) fn tree<T: Copy + std::ops::Add<Output = T>>(mut lanes: [T; LANES]) -> T {
    let mut stride = LANES / 2;
    while stride > 0 {
        for j in 0..stride {
            lanes[j] = lanes[j] + lanes[j + stride];
        }
        stride /= 2;
    }
    lanes[0]
}

/// The sum of a slice in the order of the specification.
#[must_use]
#[inline(always)]
pub fn sum16(x: &[f32]) -> f32 {
    let mut lanes = [0f32; LANES];
    let mut chunks = x.chunks_exact(LANES);
    for chunk in &mut chunks {
        for j in 0..LANES {
            lanes[j] += chunk[j];
        }
    }
    for (lane, &value) in lanes.iter_mut().zip(chunks.remainder()) {
        *lane += value;
    }
    tree(lanes)
}

/// The dot product of two slices of one length in the order of the specification.
///
/// # Panics
/// If the lengths differ.
#[must_use]
#[inline(always)]
pub fn dot16(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let mut lanes = [0f32; LANES];
    let (mut left, mut right) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    for (x, y) in (&mut left).zip(&mut right) {
        for j in 0..LANES {
            lanes[j] += x[j] * y[j];
        }
    }
    let tail = left.remainder().iter().zip(right.remainder());
    for (lane, (&x, &y)) in lanes.iter_mut().zip(tail) {
        *lane += x * y;
    }
    tree(lanes)
}

/// The ends of `dot16(w, x)` over all `x` with `lo <= x <= hi`.
///
/// A rounded product is monotone in either factor and a rounded sum in either term, so taking the
/// lesser (greater) of the two rounded products at each place gives the very value that `dot16` has
/// at the least (greatest) corner.
///
/// # Panics
/// If the lengths differ.
#[must_use]
#[inline(always)]
pub fn dot_ends(w: &[f32], lo: &[f32], hi: &[f32]) -> (f32, f32) {
    assert!(w.len() == lo.len() && w.len() == hi.len(), "rows of one length");
    let (mut least, mut most) = ([0f32; LANES], [0f32; LANES]);
    let whole = w.len() / LANES * LANES;
    let mut k = 0;
    while k < whole {
        let (ws, ls, hs) = (&w[k..k + LANES], &lo[k..k + LANES], &hi[k..k + LANES]);
        for j in 0..LANES {
            let (a, b) = (ws[j] * ls[j], ws[j] * hs[j]);
            least[j] += if a < b { a } else { b };
            most[j] += if a > b { a } else { b };
        }
        k += LANES;
    }
    for j in 0..w.len() - whole {
        let (a, b) = (w[whole + j] * lo[whole + j], w[whole + j] * hi[whole + j]);
        least[j] += if a < b { a } else { b };
        most[j] += if a > b { a } else { b };
    }
    (tree(least), tree(most))
}

/// The sum of squares in f64 (each square is exact) in the order of the specification.
#[must_use]
#[inline(always)]
pub fn sum_squares(x: &[f32]) -> f64 {
    let mut lanes = [0f64; LANES];
    let mut chunks = x.chunks_exact(LANES);
    for chunk in &mut chunks {
        for j in 0..LANES {
            lanes[j] += f64::from(chunk[j]) * f64::from(chunk[j]);
        }
    }
    for (lane, &value) in lanes.iter_mut().zip(chunks.remainder()) {
        *lane += f64::from(value) * f64::from(value);
    }
    tree(lanes)
}

/// The sum of magnitudes in f64 in the order of the specification.
#[must_use]
pub fn sum_abs(x: &[f32]) -> f64 {
    let mut lanes = [0f64; LANES];
    let mut chunks = x.chunks_exact(LANES);
    for chunk in &mut chunks {
        for j in 0..LANES {
            lanes[j] += f64::from(chunk[j].abs());
        }
    }
    for (lane, &value) in lanes.iter_mut().zip(chunks.remainder()) {
        *lane += f64::from(value.abs());
    }
    tree(lanes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The specification, word for word: lane `k % 16`, then the tree.
    fn literal(x: &[f32]) -> f32 {
        let mut lanes = [0f32; 16];
        for (k, &value) in x.iter().enumerate() {
            lanes[k % 16] += value;
        }
        let eight: Vec<f32> = (0..8).map(|j| lanes[j] + lanes[j + 8]).collect();
        let four: Vec<f32> = (0..4).map(|j| eight[j] + eight[j + 4]).collect();
        (four[0] + four[2]) + (four[1] + four[3])
    }

    #[test]
    fn the_order_is_the_specified_one_at_every_length() {
        let x: Vec<f32> = (0..100).map(|k| 1.0 / (1.0 + ((k * 37) % 101) as f32)).collect();
        for n in 0..x.len() {
            assert_eq!(sum16(&x[..n]).to_bits(), literal(&x[..n]).to_bits(), "{n}");
            let ones = vec![1.0; n];
            assert_eq!(dot16(&x[..n], &ones).to_bits(), literal(&x[..n]).to_bits(), "{n}");
        }
    }

    #[test]
    fn the_ends_of_a_dot_product_are_its_values_at_the_extreme_corners() {
        for n in 0..40 {
            let w: Vec<f32> = (0..n).map(|k| ((k * 29) % 17) as f32 / 7.0 - 1.1).collect();
            let lo: Vec<f32> = (0..n).map(|k| ((k * 13) % 11) as f32 / 3.0 - 2.0).collect();
            let hi: Vec<f32> = lo.iter().map(|x| x + 0.37).collect();
            let corner = |up: bool| -> Vec<f32> {
                (0..n).map(|k| if (w[k] >= 0.0) == up { hi[k] } else { lo[k] }).collect()
            };
            let ends = dot_ends(&w, &lo, &hi);
            assert_eq!(ends.0.to_bits(), dot16(&w, &corner(false)).to_bits(), "{n}");
            assert_eq!(ends.1.to_bits(), dot16(&w, &corner(true)).to_bits(), "{n}");
            let point = dot_ends(&w, &lo, &lo);
            assert_eq!(point.0.to_bits(), dot16(&w, &lo).to_bits());
            assert_eq!(point.1.to_bits(), point.0.to_bits());
        }
    }

    #[test]
    fn a_sum_of_zeros_is_plus_zero() {
        assert_eq!(sum16(&[-0.0; 5]).to_bits(), 0);
        assert_eq!(sum16(&[]).to_bits(), 0);
    }
}

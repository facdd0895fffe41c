//! Sums in one fixed order: 16 virtual lanes, then a fixed tree.
//!
//! Sixteen lanes are one AVX-512 register, two AVX2 and four NEON ones, so every kernel table can
//! keep this very order. The loops are written so that a compiler vectorises them when they are
//! inlined into a function that enables an instruction set; it may not reassociate them.

const LANES: usize = 16;

/// Adds the lanes as a tree of strides 8, 4, 2, 1.
#[inline(always)]
fn tree<T: Copy + std::ops::Add<Output = T>>(mut lanes: [T; LANES]) -> T {
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
    fn a_sum_of_zeros_is_plus_zero() {
        assert_eq!(sum16(&[-0.0; 5]).to_bits(), 0);
        assert_eq!(sum16(&[]).to_bits(), 0);
    }
}

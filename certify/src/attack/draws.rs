//! Random directions from integers of ChaCha8, whose values no release of a crate changes.

use ndarray::Array2;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Seeded draws.
#[derive(Debug)]
pub(super) struct Draws(ChaCha8Rng);

impl Draws {
    pub(super) fn new(seed: u64, stream: u64) -> Self {
        let mut key = *b"bitnet-certify: attack, seed    ";
        key[24..].copy_from_slice(&seed.to_le_bytes());
        let mut draws = ChaCha8Rng::from_seed(key);
        draws.set_stream(stream);
        Self(draws)
    }

    /// A corner: -1 or 1 for every coordinate.
    pub(super) fn corner(&mut self, shape: (usize, usize)) -> Array2<f32> {
        let (mut bits, mut left) = (0, 0);
        Array2::from_shape_simple_fn(shape, || {
            if left == 0 {
                (bits, left) = (self.0.next_u64(), 64);
            }
            let sign = if bits & 1 == 0 { 1.0 } else { -1.0 };
            (bits, left) = (bits >> 1, left - 1);
            sign
        })
    }

    /// A point: multiples of 2^-23 in [-1, 1) for every coordinate.
    pub(super) fn point(&mut self, shape: (usize, usize)) -> Array2<f32> {
        Array2::from_shape_simple_fn(shape, || {
            (self.0.next_u32() >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
    }

    /// An integer below a bound, by the upper half of a product: the bias is below 2^-32 of it.
    fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.0.next_u64()) * bound as u128) >> 64) as usize
    }

    /// Puts indices in a random order (Fisher and Yates).
    pub(super) fn order(&mut self, count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..count).collect();
        for last in (1..count).rev() {
            order.swap(last, self.below(last + 1));
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Corner and point agree with an independent ChaCha8 (key as above, stream as nonce).
    #[test]
    fn the_draws_of_a_seed_and_a_stream_are_pinned() {
        let mut draws = Draws::new(7, 3);
        let corner = [[-1.0, 1.0, 1.0, 1.0, -1.0], [-1.0, -1.0, 1.0, -1.0, -1.0]];
        assert_eq!(draws.corner((2, 5)), ndarray::arr2(&corner));
        let units = ndarray::arr2(&[[2_768_203.0, -7_751_569.0, -4_844_081.0f32]]);
        assert_eq!(draws.point((1, 3)) * (1 << 23) as f32, units);
        assert_eq!(draws.order(8), [6, 7, 5, 2, 1, 0, 4, 3]);
    }

    #[test]
    fn seeds_and_streams_have_their_own_draws() {
        let corner = |seed, stream| Draws::new(seed, stream).corner((8, 8));
        assert_ne!(corner(1, 0), corner(2, 0));
        assert_ne!(corner(1, 0), corner(1, 1));
        assert_eq!(corner(1, 1), corner(1, 1));
    }

    #[test]
    fn an_order_is_a_permutation() {
        for count in 0..20 {
            let mut order = Draws::new(0, 0).order(count);
            order.sort_unstable();
            assert_eq!(order, (0..count).collect::<Vec<_>>());
        }
    }
}

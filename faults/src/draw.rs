//! Where chance comes from: one stream of ChaCha8 a trial, and integers only.
//!
//! The seed of a campaign is its [`Identity`]; the stream is the number of the trial. So a trial is
//! a pure function of (identity, number), whatever else ran before it or beside it.
//!
//! The distributions of `rand` may change between its versions, so the bounded draw is our own
//! (Lemire, "Fast random integer generation in an interval", 2019, algorithm 5: multiply, and
//! reject the part of the product that would favour some results). Invariant: the pinned vectors
//! below.
//!
//! The identity is a Merkle-Damgard chain whose compression function is one ChaCha8 block: the key
//! is the state (32 bytes, first `bitnet-certify fault campaign/1` and a zero), the nonce the next
//! 8 bytes of the message as a little-endian word, and the new state the first 32 bytes of the key
//! stream. Each field is absorbed as its length, then its bytes padded with zeros to whole words;
//! so no two lists of fields give one message.

use std::fmt;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Changes when the meaning of (identity, number) changes: draws, orders, round robin, numbers of
/// bits. 2: every kind of weight has numbers.
pub const FORMAT_VERSION: u64 = 2;

const START: [u8; 32] = *b"bitnet-certify fault campaign/1\0";

/// The seed of a campaign: what it depends on, mixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity([u8; 32]);

impl Identity {
    /// Mixes fields, in order. The format version is absorbed before them.
    #[must_use]
    pub fn of(fields: &[&str]) -> Self {
        let mut state = absorb(START, FORMAT_VERSION);
        for field in fields {
            state = absorb(state, field.len() as u64);
            for word in field.as_bytes().chunks(8) {
                let mut padded = [0u8; 8];
                padded[..word.len()].copy_from_slice(word);
                state = absorb(state, u64::from_le_bytes(padded));
            }
        }
        Self(state)
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

fn absorb(state: [u8; 32], word: u64) -> [u8; 32] {
    let mut rng = ChaCha8Rng::from_seed(state);
    rng.set_stream(word);
    let mut next = [0u8; 32];
    rng.fill_bytes(&mut next);
    next
}

/// The random numbers of one trial.
#[derive(Clone, Debug)]
pub struct TrialRng(ChaCha8Rng);

impl TrialRng {
    /// The numbers of trial `index`.
    #[must_use]
    pub fn new(identity: &Identity, index: u64) -> Self {
        let mut rng = ChaCha8Rng::from_seed(identity.0);
        rng.set_stream(index);
        Self(rng)
    }

    /// The next 64 bits.
    pub fn word(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number below `n`, each equally likely.
    ///
    /// # Panics
    /// If `n` is 0.
    pub fn below(&mut self, n: u64) -> u64 {
        assert!(n > 0, "a draw among nothing");
        // The low half of the product must not fall into the first 2^64 mod n values.
        let unfair = n.wrapping_neg() % n;
        loop {
            let product = u128::from(self.word()) * u128::from(n);
            if product as u64 >= unfair {
                return (product >> 64) as u64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity::of(&["model", "inputs", "plan"])
    }

    // The pinned values come from a second implementation of ChaCha8, of the chain and of the draw.

    #[test]
    fn the_identity_of_known_fields_is_pinned() {
        assert_eq!(
            identity().to_string(),
            "8ce34646d0b8ef5d8f8bc3a5173ab07e11d6510515b77e35ad3f4ada655d83ca"
        );
        assert_eq!(
            Identity::of(&[]).to_string(),
            "786b9846ea4f73f89d44f5f35309f2b1beaea4f3b91b6b34fad345605f54be54"
        );
    }

    #[test]
    fn every_part_of_the_fields_enters_the_identity() {
        let lists: [&[&str]; 9] = [
            &["model", "inputs", "plan"],
            &["model", "inputsplan"],
            &["model", "inputs", "plan", ""],
            &["modelinputs", "", "plan"],
            &["inputs", "model", "plan"],
            &["model", "inputs", "plam"],
            &["model", "inputs", "plan\0"],
            &[""],
            &[],
        ];
        for (i, a) in lists.iter().enumerate() {
            for b in &lists[i + 1..] {
                assert_ne!(Identity::of(a), Identity::of(b), "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn the_words_of_a_trial_are_pinned() {
        let words = |index| {
            let mut rng = TrialRng::new(&identity(), index);
            [rng.word(), rng.word(), rng.word()]
        };
        assert_eq!(words(0), [14844803630121169011, 17648346729159598428, 1956259501216420438]);
        assert_eq!(words(7), [17195313606356337835, 6256797128018371270, 3220630097662708234]);
        assert_eq!(
            words(u64::MAX),
            [3311627394593426080, 14455057351511653165, 13876348797989822651]
        );
    }

    #[test]
    fn bounded_draws_are_pinned() {
        let mut rng = TrialRng::new(&identity(), 3);
        let draws: Vec<u64> = [1, 2, 1000, 1 << 40, (1 << 63) + 1, u64::MAX]
            .into_iter()
            .map(|n| rng.below(n))
            .collect();
        assert_eq!(draws, [0, 1, 872, 58119347165, 8452152634424706988, 6201831911573895419]);
    }

    #[test]
    fn the_generator_is_the_chacha8_that_others_publish() {
        // The first key-stream bytes of ChaCha8 under a zero key and nonce (ECRYPT test vectors).
        let mut rng = ChaCha8Rng::from_seed([0; 32]);
        let mut bytes = [0u8; 16];
        rng.fill_bytes(&mut bytes);
        let known = [62, 0, 239, 47, 137, 95, 64, 214, 127, 91, 184, 232, 31, 9, 165, 161];
        assert_eq!(bytes, known);
    }

    #[test]
    fn draws_below_small_numbers_are_even() {
        let mut counts = [0u32; 7];
        let mut rng = TrialRng::new(&identity(), 11);
        for _ in 0..70_000 {
            counts[rng.below(7) as usize] += 1;
        }
        // Six standard deviations of a count are 555.
        assert!(counts.iter().all(|&count| count.abs_diff(10_000) < 555), "{counts:?}");
    }

    #[test]
    fn rejection_is_exact_where_two_words_in_three_are_unfair() {
        // n = 2^63 + 1 rejects almost half of all words; what remains stays below n.
        let mut rng = TrialRng::new(&identity(), 12);
        for _ in 0..1000 {
            assert!(rng.below((1 << 63) + 1) <= 1 << 63);
        }
    }
}

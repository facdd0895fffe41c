//! Five weights in a byte, as `TQ1_0` packs them: what single flips of such bytes do.
//!
//! A byte stands for the number of five trits between 0 and 1, so the higher a bit, the more
//! weights it moves: the highest always all five. 13 of the 256 bytes stand for no five trits as a
//! writer would write them; a reader that knows them sees a flip that lands there, for free, and
//! one that does not decodes them like any other.
//!
//! The figures are means over bytes whose trits are independent and have the shares of a tensor,
//! summed in the order of the bytes: unlike those of two-bit codes they depend on which weights
//! share a byte, which these shares leave open.

use engine::packing::{BlockType, weight_of};
use half::f16;

use crate::encoding::{Direction, Histogram};

/// What single flips of bytes of five trits do, in the mean.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TritExposure {
    /// Bits of a byte that can flip this way.
    pub bits: f64,
    /// Weights that a flip changes, by how many they are: shares that add up to 1.
    pub hit: [f64; 6],
    /// Weights that a flip changes.
    pub weights_hit: f64,
    /// The changes of these weights, in magnitude, added up.
    pub change: f64,
    /// The share of flips that land in one of the 13 bytes that no writer makes.
    pub unused_share: f64,
}

/// The five trits of each byte, and whether a writer makes it.
struct Bytes([([u8; 5], bool); 256]);

impl Bytes {
    fn new() -> Self {
        let kind = BlockType::Tq1;
        let one = |byte: usize| {
            let mut block = vec![0u8; kind.bytes()];
            block[0] = byte as u8;
            let mut codes = vec![0u8; kind.weights()];
            kind.codes(&block, &mut codes);
            // The first byte of a block holds the weights 0, 32, 64, 96 and 128.
            let trits = [0, 1, 2, 3, 4].map(|trit| codes[32 * trit]);
            (trits, kind.encode(&codes, f16::ZERO)[0] == byte as u8)
        };
        Self(std::array::from_fn(one))
    }
}

impl Histogram {
    /// What single flips in a direction do to the weights in bytes of five trits; `None` of no
    /// weights.
    #[must_use]
    pub fn trits(&self, direction: Direction) -> Option<TritExposure> {
        let counts = self.counts();
        let total = counts.iter().sum::<u64>() as f64;
        if total == 0.0 {
            return None;
        }
        let Bytes(bytes) = Bytes::new();
        let mut sum = TritExposure {
            bits: 0.0,
            hit: [0.0; 6],
            weights_hit: 0.0,
            change: 0.0,
            unused_share: 0.0,
        };
        for (byte, (trits, _)) in bytes.iter().enumerate().filter(|(_, (_, usual))| *usual) {
            let share = |share: f64, &trit: &u8| share * (counts[usize::from(trit)] as f64 / total);
            let share = trits.iter().fold(1.0, share);
            for bit in (0..8).filter(|bit| direction.flips(byte >> bit & 1 == 1)) {
                let (after, usual) = &bytes[byte ^ 1 << bit];
                let change = |(&a, &b): (&u8, &u8)| weight_of(a).abs_diff(weight_of(b));
                let changes = trits.iter().zip(after).map(change);
                let hit = changes.clone().filter(|&change| change > 0).count();
                sum.bits += share;
                sum.hit[hit] += share;
                sum.weights_hit += share * hit as f64;
                sum.change += share * f64::from(changes.sum::<u32>());
                sum.unused_share += if *usual { 0.0 } else { share };
            }
        }
        // Bytes of zero bits alone cannot lose one: then nothing is hit.
        let per = |part: f64| if sum.bits == 0.0 { 0.0 } else { part / sum.bits };
        Some(TritExposure {
            bits: sum.bits,
            hit: sum.hit.map(per),
            weights_hit: per(sum.weights_hit),
            change: per(sum.change),
            unused_share: per(sum.unused_share),
        })
    }
}

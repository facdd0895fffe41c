//! The block formats of GGUF files: some weights and their float scale side by side.
//!
//! | format | weights | bytes | holds, in this order |
//! |---|---|---|---|
//! | `TQ1_0` | 256 | 54 | 48 bytes of 5 trits, 4 bytes of 4 trits, f16 scale |
//! | `TQ2_0` | 256 | 66 | 64 bytes of 4 codes, f16 scale |
//! | `Q1_0` | 128 | 18 | f16 scale, 128 signs |
//! | `Q2_0` | 64 or 128 | 18 or 34 | f16 scale, codes |
//! | `Q8_0` | 32 | 34 | f16 scale, int8 |
//! | `Q4_0` | 32 | 18 | f16 scale, 4-bit values around 8 |
//! | `Q4_K` | 256 | 144 | f16 scale and minimum, 8 pairs of 6-bit factors, 4-bit values |
//! | `Q6_K` | 256 | 210 | low 4 bits, high 2 bits, 16 int8 factors, f16 scale |
//!
//! Values are widened by the float operations of ggml's own `dequantize_row_*`, in their order, so
//! each is the very f32 that llama.cpp reads. The first four also have codes (`weight + 1`).

use half::f16;

/// A block format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BlockType {
    /// Ternary, five to a byte.
    Tq1,
    /// Ternary, four to a byte.
    Tq2,
    /// Signs.
    Q1,
    /// Ternary, four to a byte, in groups of 64.
    Q2,
    /// The same in groups of 128: older files, under the same number.
    Q2Wide,
    /// int8.
    Q8,
    /// 4 bits, symmetric.
    Q4,
    /// 4 bits with minima.
    Q4K,
    /// 6 bits.
    Q6K,
}

/// The trits of a byte of `TQ1_0`: a power of three for each.
pub(super) const POWERS: [u8; 5] = [1, 3, 9, 27, 81];

impl BlockType {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Tq1,
        Self::Tq2,
        Self::Q1,
        Self::Q2,
        Self::Q2Wide,
        Self::Q8,
        Self::Q4,
        Self::Q4K,
        Self::Q6K,
    ];

    /// The name in files and reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tq1 => "TQ1_0",
            Self::Tq2 => "TQ2_0",
            Self::Q1 => "Q1_0",
            Self::Q2 => "Q2_0",
            Self::Q2Wide => "Q2_0 (groups of 128)",
            Self::Q8 => "Q8_0",
            Self::Q4 => "Q4_0",
            Self::Q4K => "Q4_K",
            Self::Q6K => "Q6_K",
        }
    }

    /// Weights of a block.
    #[must_use]
    pub fn weights(self) -> usize {
        match self {
            Self::Tq1 | Self::Tq2 | Self::Q4K | Self::Q6K => 256,
            Self::Q1 | Self::Q2Wide => 128,
            Self::Q2 => 64,
            Self::Q8 | Self::Q4 => 32,
        }
    }

    /// Bytes of a block.
    #[must_use]
    pub fn bytes(self) -> usize {
        match self {
            Self::Tq1 => 54,
            Self::Tq2 => 66,
            Self::Q1 | Self::Q2 | Self::Q4 => 18,
            Self::Q2Wide | Self::Q8 => 34,
            Self::Q4K => 144,
            Self::Q6K => 210,
        }
    }

    /// The byte of a block at which its f16 scale begins.
    #[must_use]
    pub fn scale_at(self) -> usize {
        match self {
            Self::Tq1 => 52,
            Self::Tq2 => 64,
            Self::Q6K => 208,
            _ => 0,
        }
    }

    /// Whether its weights are -1, 0, +1 (and +2) or signs, times the scale.
    #[must_use]
    pub fn has_codes(self) -> bool {
        matches!(self, Self::Tq1 | Self::Tq2 | Self::Q1 | Self::Q2 | Self::Q2Wide)
    }

    /// The scale of a block.
    #[must_use]
    pub fn scale(self, block: &[u8]) -> f32 {
        half_at(block, self.scale_at())
    }

    /// The codes of a block; a sign counts as the code 0 or 2.
    ///
    /// # Panics
    /// If the format has none, or the lengths are not those of a block.
    pub fn codes(self, block: &[u8], codes: &mut [u8]) {
        assert!(block.len() == self.bytes() && codes.len() == self.weights(), "a whole block");
        match self {
            Self::Tq1 => trits(block, codes),
            Self::Tq2 | Self::Q1 | Self::Q2 | Self::Q2Wide => {
                for (index, code) in codes.iter_mut().enumerate() {
                    let (byte, shift) = self.place(index).expect("a code of whole bits");
                    let bits = block[byte] >> shift;
                    *code = if self == Self::Q1 { 2 * (bits & 1) } else { bits & 3 };
                }
            }
            _ => panic!("{} has no codes", self.name()),
        }
    }

    /// Whether its weights are integers times the scale of the block.
    #[must_use]
    pub fn has_integers(self) -> bool {
        self.has_codes() || matches!(self, Self::Q8 | Self::Q4)
    }

    /// The integers of a block.
    ///
    /// # Panics
    /// If the format has none, or the lengths are not those of a block.
    pub fn integers(self, block: &[u8], out: &mut [i8]) {
        assert!(block.len() == self.bytes() && out.len() == self.weights(), "a whole block");
        match self {
            Self::Q8 => out.iter_mut().zip(&block[2..]).for_each(|(i, &byte)| *i = byte as i8),
            Self::Q4 => {
                for (index, &byte) in block[2..].iter().enumerate() {
                    out[index] = (byte & 15) as i8 - 8;
                    out[index + 16] = (byte >> 4) as i8 - 8;
                }
            }
            _ => {
                let mut codes = [0u8; 256];
                let codes = &mut codes[..self.weights()];
                self.codes(block, codes);
                out.iter_mut().zip(codes).for_each(|(i, &mut code)| *i = code as i8 - 1);
            }
        }
    }

    /// The byte of a block, and the shift in it, at which the code of a weight stands; `None` where
    /// a code has no bits of its own.
    #[must_use]
    pub fn place(self, index: usize) -> Option<(usize, u8)> {
        match self {
            Self::Tq2 => {
                let (half, within) = (index / 128, index % 128);
                Some((32 * half + within % 32, 2 * (within / 32) as u8))
            }
            Self::Q1 => Some((2 + index / 8, (index % 8) as u8)),
            Self::Q2 | Self::Q2Wide => Some((2 + index / 4, 2 * (index % 4) as u8)),
            _ => None,
        }
    }

    /// The block that holds these codes under a scale.
    ///
    /// # Panics
    /// If the format has no such codes, or there are not as many as a block has.
    #[must_use]
    pub fn encode(self, codes: &[u8], scale: f16) -> Vec<u8> {
        assert_eq!(codes.len(), self.weights(), "a whole block");
        let mut block = vec![0u8; self.bytes()];
        let at = self.scale_at();
        block[at..at + 2].copy_from_slice(&scale.to_le_bytes());
        if self == Self::Tq1 {
            assert!(codes.iter().all(|&code| code < 3), "TQ1_0 holds trits");
            put_trits(codes, &mut block);
            return block;
        }
        for (index, &code) in codes.iter().enumerate() {
            let (byte, shift) = self.place(index).expect("a format with codes");
            let bits = if self == Self::Q1 {
                assert!(code == 0 || code == 2, "Q1_0 holds signs");
                code >> 1
            } else {
                code & 3
            };
            block[byte] |= bits << shift;
        }
        block
    }

    /// The values of a block.
    ///
    /// # Panics
    /// If the lengths are not those of a block.
    pub fn values(self, block: &[u8], out: &mut [f32]) {
        assert!(block.len() == self.bytes() && out.len() == self.weights(), "a whole block");
        match self {
            Self::Q8 => {
                let d = self.scale(block);
                for (value, &byte) in out.iter_mut().zip(&block[2..]) {
                    *value = f32::from(byte as i8) * d;
                }
            }
            Self::Q4 => {
                let d = self.scale(block);
                for (index, &byte) in block[2..].iter().enumerate() {
                    out[index] = (f32::from(byte & 15) - 8.0) * d;
                    out[index + 16] = (f32::from(byte >> 4) - 8.0) * d;
                }
            }
            Self::Q4K => values_q4k(block, out),
            Self::Q6K => values_q6k(block, out),
            _ => {
                let d = self.scale(block);
                let mut codes = [0u8; 256];
                let codes = &mut codes[..self.weights()];
                self.codes(block, codes);
                for (value, &code) in out.iter_mut().zip(&*codes) {
                    *value = (f32::from(code) - 1.0) * d;
                }
            }
        }
    }
}

fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// Which byte of a block of `TQ1_0` holds the trit of a weight, and which of its trits it is.
fn trit_place(index: usize) -> (usize, usize) {
    match index {
        0..160 => (index % 32, index / 32),
        160..240 => (32 + (index - 160) % 16, (index - 160) / 16),
        _ => (48 + (index - 240) % 4, (index - 240) / 4),
    }
}

fn trits(block: &[u8], codes: &mut [u8]) {
    for (index, code) in codes.iter_mut().enumerate() {
        let (byte, trit) = trit_place(index);
        let shifted = block[byte].wrapping_mul(POWERS[trit]);
        *code = ((u16::from(shifted) * 3) >> 8) as u8;
    }
}

fn put_trits(codes: &[u8], block: &mut [u8]) {
    let mut numbers = [0u16; 52];
    for (index, &code) in codes.iter().enumerate() {
        let (byte, trit) = trit_place(index);
        // The first trit is the most significant; the last four bytes have one trit less.
        numbers[byte] += u16::from(code) * u16::from(POWERS[4 - trit]);
    }
    for (byte, number) in block.iter_mut().zip(numbers) {
        *byte = (number * 256).div_ceil(243) as u8;
    }
}

fn values_q4k(block: &[u8], out: &mut [f32]) {
    let (d, least) = (half_at(block, 0), half_at(block, 2));
    let (factors, values) = (&block[4..16], &block[16..]);
    let pair = |j: usize| {
        if j < 4 {
            (factors[j] & 63, factors[j + 4] & 63)
        } else {
            (
                (factors[j + 4] & 15) | (factors[j - 4] >> 6) << 4,
                (factors[j + 4] >> 4) | (factors[j] >> 6) << 4,
            )
        }
    };
    for (j, out) in out.chunks_exact_mut(32).enumerate() {
        let (factor, minimum) = pair(j);
        let (d, m) = (d * f32::from(factor), least * f32::from(minimum));
        for (value, &byte) in out.iter_mut().zip(&values[j / 2 * 32..]) {
            *value = d * f32::from((byte >> (4 * (j % 2))) & 15) - m;
        }
    }
}

fn values_q6k(block: &[u8], out: &mut [f32]) {
    let d = half_at(block, 208);
    for (index, value) in out.iter_mut().enumerate() {
        let (half, within) = (index / 128, index % 128);
        let (part, l) = (within / 32, within % 32);
        let low = block[64 * half + l + 32 * (part % 2)] >> (4 * (part / 2));
        let high = block[128 + 32 * half + l] >> (2 * part);
        let q = i32::from((low & 15) | (high & 3) << 4) - 32;
        let factor = block[192 + 8 * half + l / 16 + 2 * part] as i8;
        *value = d * f32::from(factor) * q as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_byte_of_trits_decodes_by_the_definition() {
        // Trit n of a byte is the n-th digit after the point of byte / 256 in base three.
        for byte in 0..=255u8 {
            let mut block = [0u8; 54];
            block[0] = byte;
            let mut codes = [0u8; 256];
            BlockType::Tq1.codes(&block, &mut codes);
            let mut rest = u32::from(byte);
            for n in 0..5 {
                rest *= 3;
                assert_eq!(u32::from(codes[32 * n]), rest / 256, "trit {n} of {byte}");
                rest %= 256;
            }
        }
    }

    #[test]
    fn places_are_those_of_the_codes_and_no_two_share_bits() {
        for kind in BlockType::ALL.into_iter().filter(|kind| kind.place(0).is_some()) {
            let width = if kind == BlockType::Q1 { 1 } else { 2 };
            let mut owned = vec![false; 8 * kind.bytes()];
            let scale = 8 * kind.scale_at();
            owned[scale..scale + 16].fill(true);
            for index in 0..kind.weights() {
                let (byte, shift) = kind.place(index).expect("a place");
                for bit in 0..width {
                    let at = 8 * byte + usize::from(shift) + bit;
                    assert!(!std::mem::replace(&mut owned[at], true), "{} {index}", kind.name());
                }
            }
            assert!(owned.into_iter().all(|owned| owned), "{}", kind.name());
        }
    }

    #[test]
    fn values_are_integers_times_the_scale() {
        for kind in BlockType::ALL.into_iter().filter(|kind| kind.has_integers()) {
            let byte = |at: usize| (at * 37 + at / 3) as u8;
            let mut block: Vec<u8> = (0..kind.bytes()).map(byte).collect();
            let at = kind.scale_at();
            block[at..at + 2].copy_from_slice(&f16::from_f32(-0.625).to_le_bytes());
            let (mut integers, mut values) = (vec![0; kind.weights()], vec![0.0; kind.weights()]);
            kind.integers(&block, &mut integers);
            kind.values(&block, &mut values);
            assert!(integers.iter().zip(values).all(|(&i, x)| f32::from(i) * -0.625 == x));
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(seed in any::<u64>(), scale in 0u16..0x7c00) {
            let scale = f16::from_bits(scale);
            for kind in BlockType::ALL.into_iter().filter(|kind| kind.has_codes()) {
                let mut state = seed | 1;
                let mut codes = vec![0u8; kind.weights()];
                for code in &mut codes {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    *code = if kind == BlockType::Q1 {
                        2 * (state >> 63) as u8
                    } else {
                        ((state >> 33) % 3) as u8
                    };
                }
                let block = kind.encode(&codes, scale);
                let mut read = vec![9u8; kind.weights()];
                kind.codes(&block, &mut read);
                prop_assert_eq!(&read, &codes);
                prop_assert_eq!(kind.scale(&block), scale.to_f32());
                let mut values = vec![0.0; kind.weights()];
                kind.values(&block, &mut values);
                for (value, code) in values.into_iter().zip(codes) {
                    prop_assert_eq!(value, f32::from(i16::from(code) - 1) * scale.to_f32());
                }
            }
        }
    }
}

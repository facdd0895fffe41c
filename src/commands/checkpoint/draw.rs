//! The values of random tensors, drawn row by row and written as they are drawn.

use std::io::{self, Write};

use engine::model::random::SplitMix;

use super::layout::{Content, Tensor};

/// Two ternary codes for each byte of randomness: of 16 patterns 5 are -1, 6 are 0 and 5 are +1.
const PAIRS: [u8; 256] = pairs();

const fn pairs() -> [u8; 256] {
    const CODES: [u8; 16] = [0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2];
    let mut pairs = [0; 256];
    let mut index = 0;
    while index < 256 {
        pairs[index] = CODES[index & 15] | CODES[index >> 4] << 2;
        index += 1;
    }
    pairs
}

/// Writes the values of a tensor.
pub(super) fn values(tensor: &Tensor, seed: u64, out: &mut dyn Write) -> io::Result<()> {
    let mut rng = SplitMix(seed);
    let width = tensor.shape.last().copied().unwrap_or(1);
    let rows = tensor.shape.iter().product::<usize>() / width;
    let mut row = Vec::new();
    for _ in 0..rows {
        row.clear();
        match tensor.content {
            Content::Packed => packed(&mut rng, width, &mut row),
            Content::Embedding => bf16(&mut row, width, || rng.unit()),
            // Multiples of 1/128 in [0.75, 1.25]: exact in bf16.
            Content::Gains => bf16(&mut row, width, || 1.0 + (rng.below(65) as f32 - 32.0) / 128.0),
            Content::Scale(scale) => bf16(&mut row, width, || scale),
        }
        out.write_all(&row)?;
    }
    Ok(())
}

fn packed(rng: &mut SplitMix, width: usize, row: &mut Vec<u8>) {
    while row.len() < width {
        for pair in rng.next_u64().to_le_bytes().chunks_exact(2) {
            row.push(PAIRS[usize::from(pair[0])] | PAIRS[usize::from(pair[1])] << 4);
        }
    }
    row.truncate(width);
}

/// Values cut to bf16.
fn bf16(row: &mut Vec<u8>, width: usize, mut value: impl FnMut() -> f32) {
    for _ in 0..width {
        row.extend_from_slice(&value().to_bits().to_le_bytes()[2..]);
    }
}

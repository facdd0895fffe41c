//! Codes under scales of groups, as blocks of another format that holds the very same.
//!
//! A group may be cut into blocks, which then have its scale; groups are joined only where their
//! scales are the same to the bit. Signs are the codes 0 and 2.

use half::f16;

use super::NoForm;
use super::gguf::Tensor;
use crate::model::{Float, FloatType, Linear, Weights};
use crate::packing::{BlockType, turned_row};

/// The number of a block format in files.
pub(super) fn number(kind: BlockType) -> u32 {
    match kind {
        BlockType::Q4 => 2,
        BlockType::Q8 => 8,
        BlockType::Q4K => 12,
        BlockType::Q6K => 14,
        BlockType::Tq1 => 34,
        BlockType::Tq2 => 35,
        BlockType::Q1 => 41,
        BlockType::Q2 | BlockType::Q2Wide => 42,
    }
}

/// Why no tensor of so many weights may be of a format: two formats share a number, and under 2048
/// weights their sizes, padded, do not tell which it is.
pub(super) fn tells(part: &str, kind: BlockType, weights: usize) -> Result<(), NoForm> {
    let either = matches!(kind, BlockType::Q2 | BlockType::Q2Wide) && weights.is_multiple_of(128);
    if !either || weights >= 2048 {
        return Ok(());
    }
    Err(NoForm {
        part: part.into(),
        expected: "2048 weights, from which on sizes tell groups of 64 from groups of 128".into(),
        got: weights.to_string(),
    })
}

/// The tensor of a linear layer whose groups have scales of their own, in blocks of a format.
pub(super) fn tensor(
    linear: &Linear,
    name: &str,
    turned: Option<usize>,
    block: BlockType,
) -> Result<Tensor, NoForm> {
    let wrong = |expected: String, got: String| NoForm { part: name.into(), expected, got };
    let what = match &linear.weights {
        Weights::Dense(float) => match &**float {
            Float::Blocks { factor: Some(_), .. } => "blocks beside a scale of the tensor",
            Float::Blocks { kind, data, columns, .. } if kind.has_codes() => {
                let groups = Groups { kind: *kind, data, columns: *columns };
                return groups.tensor(name, turned, block);
            }
            Float::Blocks { kind, .. } => kind.name(),
            float => float.stored().map_or("floats", FloatType::name),
        },
        Weights::Coded(coded) => coded.kind(),
        Weights::Ternary { .. } => "ternary weights under one scale",
    };
    Err(wrong(
        format!("-1, 0, +1 or signs under f16 scales, which {} holds", block.name()),
        what.into(),
    ))
}

/// A matrix of codes in blocks.
struct Groups<'a> {
    kind: BlockType,
    data: &'a [u8],
    columns: usize,
}

impl Groups<'_> {
    fn tensor(
        &self,
        name: &str,
        turned: Option<usize>,
        block: BlockType,
    ) -> Result<Tensor, NoForm> {
        let wrong = |expected: String, got: String| NoForm { part: name.into(), expected, got };
        let (columns, width) = (self.columns, block.weights());
        if !columns.is_multiple_of(width) {
            let expected = format!("rows in whole blocks of {width}");
            return Err(wrong(expected, format!("rows of {columns}")));
        }
        let count = self.data.len() / (columns / self.kind.weights() * self.kind.bytes());
        tells(name, block, count * columns)?;
        let mut order: Vec<usize> = (0..count).collect();
        order.sort_by_key(|&row| turned_row(row, turned));
        let mut data = Vec::with_capacity(count * columns / width * block.bytes());
        for row in order {
            let (codes, scales) = self.row(row);
            for (index, codes) in codes.chunks_exact(width).enumerate() {
                let (first, last) = (index * width, (index + 1) * width - 1);
                let scales = &scales[first / self.kind.weights()..=last / self.kind.weights()];
                if scales.iter().any(|scale| scale.to_bits() != scales[0].to_bits()) {
                    let expected = format!("one scale for {width} weights");
                    return Err(wrong(
                        expected,
                        format!("two in row {row}, from {first} to {last}"),
                    ));
                }
                let no_sign = codes.iter().position(|code| !matches!(code, 0 | 2));
                if let Some(at) = no_sign.filter(|_| block == BlockType::Q1) {
                    let (weight, column) = (i32::from(codes[at]) - 1, first + at);
                    let got = format!("{weight} times the scale at [{row},{column}]");
                    return Err(wrong("signs".into(), got));
                }
                data.extend(block.encode(codes, scales[0]));
            }
        }
        let shape = vec![columns as u64, count as u64];
        Ok(Tensor { name: format!("{name}.weight"), shape, kind: number(block), data })
    }

    /// The codes of a row, and the scales of its groups.
    fn row(&self, row: usize) -> (Vec<u8>, Vec<f16>) {
        let width = self.columns / self.kind.weights() * self.kind.bytes();
        let mut codes = vec![0; self.columns];
        let mut scales = Vec::new();
        let blocks = self.data[row * width..(row + 1) * width].chunks_exact(self.kind.bytes());
        for (block, codes) in blocks.zip(codes.chunks_exact_mut(self.kind.weights())) {
            self.kind.codes(block, codes);
            // It is read from an f16.
            scales.push(f16::from_f32(self.kind.scale(block)));
        }
        (codes, scales)
    }
}

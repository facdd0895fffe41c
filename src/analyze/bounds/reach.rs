//! What each flip of a tensor can add to the integer sums, on the codes of one sample.

use certify::interval::BoxPrepared;
use engine::model::{Linear, Weights};
use engine::packing::{UNUSED_CODE, weight_of};

use crate::cli::UnusedArg;

/// By how much a flip of a bit of a code changes the weight; `None` where a reader detects it.
pub(super) fn change(code: u8, bit: u8, unused: Option<UnusedArg>) -> Option<i32> {
    let flipped = code ^ 1 << bit;
    match (flipped == UNUSED_CODE, unused) {
        (true, Some(UnusedArg::Detect)) => None,
        (true, Some(UnusedArg::Zero)) => Some(-weight_of(code)),
        _ => Some(weight_of(flipped) - weight_of(code)),
    }
}

/// What each flip of a tensor can do to the integer sums, on the codes of one sample.
pub(in crate::analyze) struct Reach {
    pub(super) rows: usize,
    /// Flips `[row]`: the change of the weight, and the column.
    flips: Vec<Vec<(i32, u32)>>,
    /// Detected flips: never silent.
    detected: u64,
    /// Codes `[column][token]`.
    codes: Vec<Vec<i32>>,
}

impl Reach {
    pub(super) fn new(linear: &Linear, x: &BoxPrepared, unused: Option<UnusedArg>) -> Option<Self> {
        let (Weights::Ternary { rows, .. }, Some(codes)) = (&linear.weights, &x.codes) else {
            return None;
        };
        let tokens = codes.scales.len();
        let padded = codes.lo.len() / tokens;
        let by_column = (0..rows.columns())
            .map(|k| (0..tokens).map(|t| i32::from(codes.lo[t * padded + k])).collect())
            .collect();
        let mut detected = 0;
        let flips = (0..rows.rows())
            .map(|row| {
                let mut flips = Vec::with_capacity(2 * rows.columns());
                for (column, code) in rows.row(row).into_iter().enumerate() {
                    for bit in 0..2 {
                        match change(code, bit, unused) {
                            None => detected += 1,
                            Some(change) => flips.push((change, column as u32)),
                        }
                    }
                }
                flips
            })
            .collect();
        Some(Self { rows: rows.rows(), flips, detected, codes: by_column })
    }

    /// All bits of the tensor.
    pub(super) fn pairs(&self) -> u64 {
        self.silent() + self.detected
    }

    /// All flips that no detector sees.
    pub(super) fn silent(&self) -> u64 {
        self.flips.iter().map(|flips| flips.len() as u64).sum()
    }

    /// The largest change of a sum by one flip, over all tokens.
    pub(super) fn effect(&self, (change, column): (i32, u32)) -> i32 {
        let codes = &self.codes[column as usize];
        codes.iter().map(|q| (change * q).abs()).max().unwrap_or(0)
    }

    pub(super) fn most(&self, row: usize) -> i32 {
        self.flips[row].iter().map(|&flip| self.effect(flip)).max().unwrap_or(0)
    }

    /// The flips of a row whose effect is within a limit.
    fn within(&self, row: usize, limit: Option<i32>) -> impl Iterator<Item = (i32, u32)> {
        self.flips[row]
            .iter()
            .copied()
            .filter(move |&flip| limit.is_none_or(|limit| self.effect(flip) <= limit))
    }

    pub(super) fn count(&self, row: usize, limit: Option<i32>) -> u64 {
        self.within(row, limit).count() as u64
    }

    pub(super) fn without_effect(&self) -> u64 {
        (0..self.rows).map(|row| self.count(row, Some(0))).sum()
    }

    /// For each token the range by which any one of these flips, or none, moves the sum.
    pub(super) fn range(&self, row: usize, limit: Option<i32>) -> Vec<(i32, i32)> {
        let tokens = self.codes.first().map_or(0, Vec::len);
        let mut range = vec![(0, 0); tokens];
        for (change, column) in self.within(row, limit) {
            for (ends, q) in range.iter_mut().zip(&self.codes[column as usize]) {
                let moved = change * q;
                *ends = (ends.0.min(moved), ends.1.max(moved));
            }
        }
        range
    }
}

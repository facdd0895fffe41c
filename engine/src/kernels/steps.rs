//! Rows of widths of which few are not zero: only the steps of four columns that hold one.

use super::BLOCK_COLUMNS;

/// Columns that a kernel unpacks at a time: the steps of all rows within them lie together.
pub(super) const PIECE: usize = 1024;

/// The steps of four columns at which rows of widths are not all zero.
#[derive(Clone, Debug)]
pub struct Steps {
    rows: usize,
    /// Where the steps of each piece and row begin; one more at the end.
    starts: Vec<usize>,
    /// Each step within its piece, and its four widths.
    steps: Vec<(u32, i32)>,
}

impl Steps {
    /// The steps of rows of so many columns (whole blocks); `None` if they are more than a third of
    /// all: then it is faster to read every width.
    ///
    /// # Panics
    /// Unless there are whole rows of whole blocks.
    #[must_use]
    pub fn of(widths: &[u8], columns: usize) -> Option<Self> {
        assert!(columns.is_multiple_of(BLOCK_COLUMNS), "whole blocks");
        assert!(widths.len().is_multiple_of(columns), "whole rows");
        let most = widths.len() / 4 / 3;
        let (mut starts, mut steps) = (vec![0], Vec::new());
        for first in (0..columns).step_by(PIECE) {
            let last = (first + PIECE).min(columns);
            for row in widths.chunks_exact(columns) {
                let blocks = row[first..last].as_chunks::<BLOCK_COLUMNS>().0;
                for (index, block) in (0u32..).zip(blocks) {
                    if u128::from_le_bytes(*block) != 0 {
                        let fours = (4 * index..).zip(block.as_chunks::<4>().0);
                        let fours = fours.map(|(at, &four)| (at, i32::from_le_bytes(four)));
                        steps.extend(fours.filter(|&(_, four)| four != 0));
                    }
                }
                if steps.len() > most {
                    return None;
                }
                starts.push(steps.len());
            }
        }
        Some(Self { rows: widths.len() / columns, starts, steps })
    }

    /// How many rows there are.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// The steps of each row within a piece.
    pub(super) fn piece(&self, index: usize) -> impl Iterator<Item = &[(u32, i32)]> {
        let starts = &self.starts[index * self.rows..=(index + 1) * self.rows];
        starts.windows(2).map(|ends| &self.steps[ends[0]..ends[1]])
    }
}

//! Boxes of codes by their centres: how far they reach to either side, as bytes and as bits.
//!
//! A box from `l` to `l + w` has the centre `c = l + h`, `h` half of `w` rounded down, and goes
//! from `c - h` to `c + h + p`, `p` the lowest bit of `w`. So the greatest sum over boxes is the
//! sum of the centres, plus that of `|weight| h`, plus that of `p` under the positive weights; the
//! least one is the sum of the centres, less that of `|weight| h`, less that of `|weight| p` under
//! the negative ones.

use super::BLOCK_COLUMNS;

/// Rows whose words lie together.
pub(super) const TILE: usize = 8;
/// Columns of a word of bits: two blocks.
pub(super) const WORD: usize = 2 * BLOCK_COLUMNS;
/// Widths of up to so many bits are read as planes of bits.
const MOST_PLANES: u32 = 5;

/// Rows of boxes of codes by their centres; the rows of the last tile are filled up with points.
#[derive(Clone, Debug)]
pub struct Centred<'a> {
    widths: &'a [u8],
    columns: usize,
    centres: Vec<i8>,
    /// `h` of each box of all tiles, if that is read as bytes.
    halves: Option<Vec<i8>>,
    /// `[tile][plane][word][row of the tile]`: the lowest bits of the widths that are read as
    /// planes, the first of which is `p`, and the others make `h`.
    words: Vec<[u32; TILE]>,
    planes: usize,
}

impl<'a> Centred<'a> {
    /// Boxes of rows of so many columns (whole blocks) from lower codes to as much above them;
    /// `None` if a centre is no code.
    ///
    /// # Panics
    /// Unless there are whole rows of whole blocks, and a width for each code.
    #[must_use]
    pub fn of((lower, widths): (&[i8], &'a [u8]), columns: usize) -> Option<Self> {
        assert!(columns > 0 && columns.is_multiple_of(BLOCK_COLUMNS), "whole blocks");
        assert!(widths.len().is_multiple_of(columns), "whole rows");
        assert_eq!(lower.len(), widths.len(), "a width for each code");
        let beyond = |(&low, &width): (&i8, &u8)| i16::from(low) + i16::from(width >> 1) > 127;
        let boxes = lower.iter().zip(widths);
        if boxes.clone().fold(false, |any, ends| any | beyond(ends)) {
            return None;
        }
        let centres = boxes.map(|(&low, &width)| low + (width >> 1) as i8).collect();
        let most = widths.iter().fold(0, |all, width| all | width);
        let bits = u8::BITS - most.leading_zeros();
        let halves = (bits > MOST_PLANES).then(|| {
            let mut halves: Vec<i8> = widths.iter().map(|width| (width >> 1) as i8).collect();
            halves.resize((widths.len() / columns).next_multiple_of(TILE) * columns, 0);
            halves
        });
        let planes = if halves.is_some() { 1 } else { bits.max(1) as usize };
        let mut boxes = Self { widths, columns, centres, halves, words: Vec::new(), planes };
        boxes.fill_words();
        Some(boxes)
    }

    fn fill_words(&mut self) {
        let count = self.columns.div_ceil(WORD);
        self.words = vec![[0; TILE]; self.rows().div_ceil(TILE) * self.planes * count];
        let tiles = self.words.chunks_exact_mut(self.planes * count);
        for (words, rows) in tiles.zip(self.widths.chunks(TILE * self.columns)) {
            for (plane, words) in (0..).zip(words.chunks_exact_mut(count)) {
                for (row, widths) in rows.chunks_exact(self.columns).enumerate() {
                    pack(widths, plane, words.iter_mut().map(|word| &mut word[row]));
                }
            }
        }
    }

    /// The centres, row by row.
    #[must_use]
    pub fn centres(&self) -> &[i8] {
        &self.centres
    }

    /// How many rows there are.
    pub(super) fn rows(&self) -> usize {
        self.widths.len() / self.columns
    }

    /// The widths, row by row.
    pub(super) fn widths(&self) -> &[u8] {
        self.widths
    }

    /// The halves of the rows of all tiles, if they are read as bytes.
    pub(super) fn halves(&self) -> Option<&[i8]> {
        self.halves.as_deref()
    }

    /// The planes of each tile, plane behind plane, and how many words a plane has.
    pub(super) fn tiles(&self) -> (std::slice::ChunksExact<'_, [u32; TILE]>, usize) {
        let count = self.columns.div_ceil(WORD);
        (self.words.chunks_exact(self.planes * count), count)
    }
}

/// One bit of each width of a row as words: bit `8 j + 2 q + s` of a word is that of column
/// `4 q + j` of its block `s`, where packed rows have the code of that column.
fn pack<'a>(widths: &[u8], bit: u32, words: impl Iterator<Item = &'a mut u32>) {
    for (blocks, word) in widths.chunks(WORD).zip(words) {
        for (s, block) in blocks.chunks_exact(BLOCK_COLUMNS).enumerate() {
            for (q, four) in block.as_chunks::<4>().0.iter().enumerate() {
                let four = u32::from_le_bytes(*four);
                *word |= (four >> bit & 0x0101_0101) << (2 * q + s);
            }
        }
    }
}

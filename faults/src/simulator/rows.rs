//! Rows of trials: what is carried from step to step, sorted by trial and then by token.

use std::ops::Range;

/// Some tokens of some trials, one row of values each.
#[derive(Debug, Default)]
pub(super) struct Rows {
    /// The trial of each row, by its number within the tile.
    pub(super) owners: Vec<u32>,
    /// The token of each row.
    pub(super) tokens: Vec<u32>,
    /// The values, row by row; behind the last row may lie values of former rows.
    pub(super) data: Vec<f32>,
    /// Values in a row.
    pub(super) width: usize,
}

impl Rows {
    /// Forgets all rows and takes a width.
    pub(super) fn reset(&mut self, width: usize) {
        self.owners.clear();
        self.tokens.clear();
        self.width = width;
    }

    /// How many rows there are.
    pub(super) fn len(&self) -> usize {
        self.owners.len()
    }

    /// The trial and the token of a row.
    pub(super) fn place(&self, index: usize) -> (usize, usize) {
        (self.owners[index] as usize, self.tokens[index] as usize)
    }

    /// A row.
    pub(super) fn row(&self, index: usize) -> &[f32] {
        &self.data[index * self.width..(index + 1) * self.width]
    }

    /// A row, to change it.
    pub(super) fn row_mut(&mut self, index: usize) -> &mut [f32] {
        &mut self.data[index * self.width..(index + 1) * self.width]
    }

    /// Adds a row, whose values mean nothing yet.
    pub(super) fn push(&mut self, owner: usize, token: usize) -> &mut [f32] {
        self.owners.push(owner as u32);
        self.tokens.push(token as u32);
        let end = self.owners.len() * self.width;
        if self.data.len() < end {
            self.data.resize(end, 0.0);
        }
        &mut self.data[end - self.width..end]
    }

    /// Takes the last row back.
    pub(super) fn pop(&mut self) {
        self.owners.pop();
        self.tokens.pop();
    }

    /// The rows of a trial.
    pub(super) fn of(&self, owner: usize) -> Range<usize> {
        span(&self.owners, owner)
    }

    /// Keeps the rows of which `keep(rows, index)` says so.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&Self, usize) -> bool) {
        let mut kept = 0;
        for index in 0..self.len() {
            if !keep(self, index) {
                continue;
            }
            if kept < index {
                self.owners[kept] = self.owners[index];
                self.tokens[kept] = self.tokens[index];
                let width = self.width;
                self.data.copy_within(index * width..(index + 1) * width, kept * width);
            }
            kept += 1;
        }
        self.owners.truncate(kept);
        self.tokens.truncate(kept);
    }
}

/// The places of an owner among sorted owners.
pub(super) fn span(owners: &[u32], owner: usize) -> Range<usize> {
    let owner = owner as u32;
    owners.partition_point(|&o| o < owner)..owners.partition_point(|&o| o <= owner)
}

//! Rotary position embedding in the half-split convention: pairs `(j, j + d/2)` turn together.

use crate::numerics::{cos_sin, pow};

/// Positions whose tables are made at load; those beyond are made when they are asked for.
const READY: usize = 2048;

/// Cosines and sines by position.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    frequencies: Vec<f32>,
    table: Vec<(f32, f32)>,
}

impl Rope {
    /// The tables for heads of width `head_dim` with base `theta`.
    #[must_use]
    pub fn new(head_dim: usize, theta: f64, positions: usize) -> Self {
        let half = head_dim / 2;
        let frequencies: Vec<f32> = (0..half)
            .map(|j| 1.0 / (pow(theta, f64::from((2 * j) as f32 / head_dim as f32)) as f32))
            .collect();
        let table = (0..positions.min(READY))
            .flat_map(|position| turn(&frequencies, position).collect::<Vec<_>>())
            .collect();
        Self { frequencies, table }
    }

    /// The inverse frequencies.
    #[must_use]
    pub fn frequencies(&self) -> &[f32] {
        &self.frequencies
    }

    /// The `(cos, sin)` of each pair at a position.
    #[must_use]
    pub fn at(&self, position: usize) -> std::borrow::Cow<'_, [(f32, f32)]> {
        let half = self.frequencies.len();
        match self.table.get(position * half..(position + 1) * half) {
            Some(row) => row.into(),
            None => turn(&self.frequencies, position).collect::<Vec<_>>().into(),
        }
    }

    /// Turns every head of a row that stands at a position.
    pub fn turn_row(&self, row: &mut [f32], position: usize) {
        let table = self.at(position);
        for head in row.chunks_exact_mut(2 * table.len()) {
            let (left, right) = head.split_at_mut(table.len());
            for ((a, b), &(c, s)) in left.iter_mut().zip(right).zip(table.iter()) {
                (*a, *b) = (*a * c - *b * s, *b * c + *a * s);
            }
        }
    }
}

fn turn(frequencies: &[f32], position: usize) -> impl Iterator<Item = (f32, f32)> {
    frequencies.iter().map(move |&frequency| cos_sin(position as f32 * frequency))
}

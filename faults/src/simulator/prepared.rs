//! Rows as linear layers read them, and their products with the clean weights.
//!
//! Where few codes of a row differ from the clean ones of its token, its sums are the clean sums
//! plus the columns of weights whose codes moved, once for each step of a code (shortcut
//! `columns`). Integers, so exact in any order. Other rows are multiplied whole, many at once.

use engine::kernels::{GROUP_ROWS, LANES};
use engine::model::{Model, Slot, Weights};
use engine::packing::{TernaryRows, weight_of};
use engine::walk::{Codes, quantize_row};

use super::moves::{End, Moves};
use super::product::{Adjust, Clean, Scratch};

/// Groups of packed rows in a block of columns.
const GROUPS: usize = LANES / GROUP_ROWS;
/// Weights that are also held column by column, a byte each.
const MOST: usize = 1 << 28;

/// The weights of all linear layers, column by column, in blocks of 64 outputs; behind the last
/// column of a block stands one of zeros, with which lists of columns are filled up.
#[derive(Debug, Default)]
pub(super) struct Columns {
    /// By layer and slot; empty where the model is too large.
    blocks: Vec<[Vec<i8>; 7]>,
}

impl Columns {
    /// Lays out the weights of a ternary model.
    pub(super) fn new(model: &Model) -> Self {
        let linears = || model.layers.iter().flat_map(|layer| &layer.linears);
        let size: usize = linears().map(|linear| linear.outputs() * linear.inputs()).sum();
        if size > MOST {
            return Self::default();
        }
        let one = |weights: &Weights| match weights {
            Weights::Ternary { rows, .. } => blocks(rows),
            Weights::Coded(_) | Weights::Dense(_) => Vec::new(),
        };
        let layer = |layer: &engine::model::Layer| {
            std::array::from_fn(|slot| one(&layer.linears[slot].weights))
        };
        Self { blocks: model.layers.iter().map(layer).collect() }
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        self.blocks.iter().flatten().map(Vec::len).sum()
    }
}

fn blocks(rows: &TernaryRows) -> Vec<i8> {
    let columns = rows.columns();
    let size = (columns + 1) * LANES;
    let mut out = vec![0; rows.rows().div_ceil(LANES) * size];
    let mut codes = vec![0; columns];
    for row in 0..rows.rows() {
        rows.read_row(row, &mut codes);
        let block = &mut out[row / LANES * size..];
        for (column, &code) in codes.iter().enumerate() {
            block[column * LANES + row % LANES] = weight_of(code) as i8;
        }
    }
    out
}

/// Rows of codes, with what differs from the clean ones.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) codes: Codes,
    /// Rows that are multiplied whole.
    whole: Vec<u32>,
    /// Their codes, where they are not all rows.
    gathered: Vec<i8>,
    /// The other rows: their numbers and tokens, and where their moves end.
    partial: Vec<Partial>,
    moves: Moves,
}

#[derive(Clone, Copy, Debug)]
struct Partial {
    row: u32,
    token: u32,
    end: End,
}

impl Prepared {
    pub(super) fn new() -> Self {
        Self {
            codes: Codes { q: Vec::new(), scales: Vec::new() },
            whole: Vec::new(),
            gathered: Vec::new(),
            partial: Vec::new(),
            moves: Moves::default(),
        }
    }

    /// How many rows there are.
    pub(super) fn len(&self) -> usize {
        self.codes.scales.len()
    }

    /// Holds the last row against the clean one of its token.
    fn compare(&mut self, clean: &Clean, (layer, slot): (usize, Slot), token: usize) {
        let row = self.len() - 1;
        let padded = self.codes.q.len() / (row + 1);
        let q = &self.codes.q[row * padded..];
        let golden = &clean.layer(layer).codes(slot).q[token * padded..(token + 1) * padded];
        let known = !clean.trace.columns.blocks.is_empty() && clean.shortcuts.columns;
        let (kernels, most) = (clean.kernels, padded / 2);
        let zeros = clean.ternary(layer, slot).0.columns();
        let push = || self.moves.push(kernels, (q, golden), zeros, most);
        let near = known.then(push).flatten();
        match near {
            Some(end) => self.partial.push(Partial { row: row as u32, token: token as u32, end }),
            None => self.whole.push(row as u32),
        }
    }

    /// Gathers the codes of the rows that are multiplied whole, where others are not.
    fn gather(&mut self) {
        self.gathered.clear();
        if self.partial.is_empty() || self.whole.is_empty() {
            return;
        }
        let padded = self.codes.q.len() / self.len();
        for &row in &self.whole {
            let row = row as usize;
            self.gathered.extend_from_slice(&self.codes.q[row * padded..(row + 1) * padded]);
        }
    }
}

impl Clean<'_> {
    /// Rows, with their tokens, as a linear layer reads them.
    pub(super) fn prepare<'r>(
        &self,
        (layer, slot): (usize, Slot),
        rows: impl Iterator<Item = (usize, &'r [f32])>,
        scratch: &mut Scratch,
        prepared: &mut Prepared,
    ) {
        let padded = self.ternary(layer, slot).0.padded_columns();
        let levels = self.levels(layer, slot);
        let norms = self.norms(layer, slot);
        prepared.whole.clear();
        prepared.moves.clear();
        prepared.partial.clear();
        prepared.codes.q.clear();
        prepared.codes.scales.clear();
        for (token, row) in rows {
            let [one, two] = &mut scratch.normed;
            let mut x = row;
            for (norm, y) in norms.iter().zip([one, two]) {
                let Some(norm) = norm else { continue };
                y.resize(x.len(), 0.0);
                (self.kernels.rms_norm)(x, &norm.gains, norm.eps, y);
                x = y;
            }
            let start = prepared.codes.q.len();
            prepared.codes.q.resize(start + padded, 0);
            let t = quantize_row(self.kernels, levels, x, &mut prepared.codes.q[start..]);
            prepared.codes.scales.push(t);
            prepared.compare(self, (layer, slot), token);
        }
        prepared.gather();
    }

    /// The outputs of a linear layer for prepared rows, `[rows, outputs]`.
    pub(super) fn product(
        &self,
        (layer, slot): (usize, Slot),
        prepared: &Prepared,
        adjusts: &[Adjust],
        scratch: &mut Scratch,
        out: &mut Vec<f32>,
    ) {
        let (rows, scale) = self.ternary(layer, slot);
        let (count, width) = (prepared.len(), rows.rows());
        if out.len() < count * width {
            out.resize(count * width, 0.0);
        }
        if count == 0 {
            return;
        }
        let out = &mut out[..count * width];
        for block in 0..width.div_ceil(LANES) {
            self.block((layer, slot), block, prepared, adjusts, scratch);
            let out = &mut out[block * LANES..];
            self.values(scale, &scratch.sums, &prepared.codes.scales, out, width);
        }
    }

    /// The sums of a block of outputs in the scratch buffer, `[rows][64]`.
    pub(super) fn block(
        &self,
        (layer, slot): (usize, Slot),
        block: usize,
        prepared: &Prepared,
        adjusts: &[Adjust],
        scratch: &mut Scratch,
    ) {
        let rows = self.ternary(layer, slot).0;
        let Scratch { sums, some, .. } = scratch;
        sums.resize(prepared.len() * LANES, 0);
        if !prepared.whole.is_empty() {
            let all = prepared.partial.is_empty();
            let codes = if all { &prepared.codes.q } else { &prepared.gathered };
            some.resize(prepared.whole.len() * GROUP_ROWS, 0);
            let groups = rows.groups().skip(block * GROUPS).take(GROUPS);
            for (index, group) in groups.enumerate() {
                (self.kernels.ternary)(group, codes, some);
                let some = some.as_chunks::<GROUP_ROWS>().0;
                for (&row, some) in prepared.whole.iter().zip(some) {
                    let at = row as usize * LANES + index * GROUP_ROWS;
                    sums[at..at + GROUP_ROWS].copy_from_slice(some);
                }
            }
        }
        if !prepared.partial.is_empty() {
            self.partial((layer, slot), block, prepared, sums);
        }
        let from = adjusts.partition_point(|adjust| adjust.output / LANES < block);
        for adjust in adjusts[from..].iter().take_while(|a| a.output / LANES == block) {
            adjust.to(&mut sums[adjust.row * LANES..]);
        }
    }

    /// The sums of rows that differ little from the clean ones.
    fn partial(
        &self,
        (layer, slot): (usize, Slot),
        block: usize,
        prepared: &Prepared,
        sums: &mut [i32],
    ) {
        let columns = self.ternary(layer, slot).0.columns();
        let weights = &self.trace.columns.blocks[layer][slot as usize];
        let size = (columns + 1) * LANES;
        let weights = &weights[block * size..(block + 1) * size];
        let (trace, tokens) = (self.layer(layer), self.tokens());
        let mut from = End::default();
        for row in &prepared.partial {
            let base = trace.sums(slot, tokens, row.token as usize, block);
            let [up, down] = prepared.moves.between(from, row.end);
            let sums = &mut sums[row.row as usize * LANES..][..LANES];
            (self.kernels.columns)(weights, up, down, base, sums);
            from = row.end;
        }
    }
}

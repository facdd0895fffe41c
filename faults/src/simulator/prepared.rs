//! Rows as linear layers read them, and their products with the clean weights.
//!
//! Where few codes of a row differ from the clean ones of its token, its sums are the clean sums
//! plus the columns of weights whose codes moved, once for each step of a code (shortcut
//! `columns`). Integers, so exact in any order. Other rows are multiplied whole, many at once.

use engine::kernels::{self, End, GROUP_ROWS, LANES, Moves, Numbers, Quotient};
use engine::model::{Layer, Model, Scale, Slot, Weights};
use engine::packing::TernaryRows;
use engine::walk::{Codes, quantize_row, scaled};

use super::product::{Adjust, Clean, Scratch};

/// Groups of packed rows in a block of columns.
const GROUPS: usize = LANES / GROUP_ROWS;
/// Weights that are also held column by column, a byte each.
const MOST: usize = 1 << 28;

/// The weights of all linear layers, column by column: those of two blocks of 64 outputs together,
/// as [`engine::kernels::Columns`] reads them. Behind the last column of a pair stands one of
/// zeros, with which lists of columns are filled up.
#[derive(Debug, Default)]
pub(super) struct Columns {
    /// By layer and slot, blocks that stand side by side; empty where the model is too large. Gate
    /// and up are paired with one another where they read the same rows, at the slot of gate.
    pairs: Vec<[Vec<u8>; 7]>,
}

impl Columns {
    /// Lays out the weights of a ternary model whose gates and ups read the same rows, or not, by
    /// layer.
    pub(super) fn new(model: &Model, shared: impl Fn(usize) -> bool) -> Self {
        let linears = || model.layers.iter().flat_map(|layer| &layer.linears);
        let size: usize = linears().map(|linear| linear.outputs() * linear.inputs()).sum();
        if size > MOST {
            return Self::default();
        }
        let layer = |(index, layer): (usize, &Layer)| {
            let rows = |slot: Slot| match &layer.linear(slot).weights {
                Weights::Ternary { rows, .. } => rows,
                Weights::Coded(_) | Weights::Dense(_) => unreachable!("a traced model is ternary"),
            };
            Slot::ALL.map(|slot| match slot {
                Slot::Gate if shared(index) => {
                    let count = rows(slot).rows().div_ceil(LANES);
                    pairs(count, |pair| [Slot::Gate, Slot::Up].map(|slot| (&**rows(slot), pair)))
                }
                Slot::Up if shared(index) => Vec::new(),
                _ => {
                    let count = rows(slot).rows().div_ceil(2 * LANES);
                    pairs(count, |pair| [0, 1].map(|half| (&**rows(slot), 2 * pair + half)))
                }
            })
        };
        Self { pairs: model.layers.iter().enumerate().map(layer).collect() }
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        self.pairs.iter().flatten().map(Vec::len).sum()
    }

    /// So many bytes of columns of one or two blocks.
    fn of(&self, layer: usize, blocks: &[Block], size: usize) -> &[u8] {
        let all = &self.pairs[layer];
        let (slot, block, _) = blocks[0];
        let both = matches!(blocks, [_, (Slot::Up, ..)]) && slot == Slot::Gate;
        let pair = if both { block } else { block / 2 };
        &all[slot as usize][pair * size..(pair + 1) * size]
    }
}

/// Columns of pairs of blocks: a block of each half, by its matrix and its number.
fn pairs<'r>(count: usize, halves: impl Fn(usize) -> [(&'r TernaryRows, usize); 2]) -> Vec<u8> {
    let columns = halves(0)[0].0.columns();
    let size = (columns + 1) * LANES;
    // Weight 0 of both.
    let mut out = vec![0x11; count * size];
    let mut codes = vec![0; columns];
    for (pair, out) in out.chunks_exact_mut(size).enumerate() {
        for (half, (rows, block)) in halves(pair).into_iter().enumerate() {
            for row in (block * LANES..(block + 1) * LANES).take_while(|&row| row < rows.rows()) {
                rows.read_row(row, &mut codes);
                for (column, &code) in codes.iter().enumerate() {
                    let byte = &mut out[column * LANES + row % LANES];
                    *byte = *byte & (0xf0 >> (4 * half)) | code << (4 * half);
                }
            }
        }
    }
    out
}

/// Rows of codes, with what differs from the clean ones.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) codes: Codes,
    /// How the sums of each row come about.
    ways: Vec<Way>,
    /// How many rows are multiplied whole.
    wholes: usize,
    /// Their codes, where they are not all rows.
    gathered: Vec<i8>,
    moves: Moves,
}

/// How the sums of a row come about.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// The row is multiplied whole.
    Whole,
    /// From those of the clean row of a token, by the moves between two ends.
    Moved { token: u32, from: End, to: End },
}

/// A block of outputs: of which linear layer, and which of its blocks.
pub(super) type Block<'a> = (Slot, usize, &'a [Adjust]);

impl Prepared {
    pub(super) fn new() -> Self {
        Self {
            codes: Codes { q: Vec::new(), scales: Vec::new() },
            ways: Vec::new(),
            wholes: 0,
            gathered: Vec::new(),
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
        let known = !clean.trace.columns.pairs.is_empty() && clean.shortcuts.columns;
        let (kernels, most) = (clean.kernels, padded / 2);
        let from = self.moves.end();
        let token = token as u32;
        let near = known && self.moves.push(kernels, (q, golden), most);
        self.wholes += usize::from(!near);
        let to = self.moves.end();
        self.ways.push(if near { Way::Moved { token, from, to } } else { Way::Whole });
    }

    /// The codes of the rows that are multiplied whole.
    fn whole_codes(&self) -> &[i8] {
        if self.wholes == self.len() { &self.codes.q } else { &self.gathered }
    }

    /// Gathers the codes of the rows that are multiplied whole, where others are not.
    fn gather(&mut self) {
        self.gathered.clear();
        if self.wholes == 0 || self.wholes == self.len() {
            return;
        }
        let rows = self.codes.q.chunks_exact(self.codes.q.len() / self.len());
        for (row, _) in rows.zip(&self.ways).filter(|(_, way)| matches!(way, Way::Whole)) {
            self.gathered.extend_from_slice(row);
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
        let weights = self.ternary(layer, slot).0;
        let padded = weights.padded_columns();
        let levels = self.levels(layer, slot);
        let norms = self.norms(layer, slot);
        prepared.ways.clear();
        prepared.wholes = 0;
        prepared.moves.clear(weights.columns());
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
        let (count, width) = (prepared.len(), self.ternary(layer, slot).0.rows());
        if out.len() < count * width {
            out.resize(count * width, 0.0);
        }
        if count == 0 {
            return;
        }
        let out = &mut out[..count * width];
        let blocks: Vec<Block> = (0..width.div_ceil(LANES)).map(|b| (slot, b, adjusts)).collect();
        for pair in blocks.chunks(2) {
            let first = pair[0].1 * LANES;
            let wholes = self.wholes(layer, pair, prepared, &mut scratch.some);
            let mut rows = Places::default();
            for out in out.chunks_exact_mut(width) {
                let out = &mut out[first..];
                let (one, two) = out.split_at_mut(out.len().min(LANES));
                let end = two.len().min(LANES);
                let place = rows.next(prepared);
                self.values_of((layer, pair), prepared, &wholes, place, [one, &mut two[..end]]);
            }
        }
    }

    /// The sums of the rows that are multiplied whole, for up to two blocks of outputs.
    pub(super) fn wholes<'s>(
        &self,
        layer: usize,
        blocks: &[Block],
        prepared: &Prepared,
        some: &'s mut Vec<i32>,
    ) -> Wholes<'s> {
        let mut groups = [0; 2];
        let part = GROUPS * prepared.wholes * GROUP_ROWS;
        some.resize(2 * part, 0);
        for (index, &(slot, block, _)) in blocks.iter().enumerate().filter(|_| part > 0) {
            let rows = self.ternary(layer, slot).0;
            let end = rows.rows().div_ceil(GROUP_ROWS).min((block + 1) * GROUPS);
            let these = block * GROUPS..end;
            groups[index] = these.len();
            let some = &mut some[index * part..][..these.len() * prepared.wholes * GROUP_ROWS];
            rows.some(self.kernels, these, prepared.whole_codes(), some);
        }
        Wholes { rows: prepared.wholes, groups, sums: some.as_chunks::<GROUP_ROWS>().0 }
    }

    /// The values of a row in up to two blocks of outputs.
    pub(super) fn values_of(
        &self,
        (layer, blocks): (usize, &[Block]),
        prepared: &Prepared,
        wholes: &Wholes,
        place: Place,
        outs: [&mut [f32]; 2],
    ) {
        let t = prepared.codes.scales[place.row];
        match prepared.ways[place.row] {
            Way::Whole => {
                for (index, (&(slot, block, adjusts), out)) in blocks.iter().zip(outs).enumerate() {
                    let mut sums = wholes.read(index, place.whole);
                    for adjust in Adjust::among(adjusts, block, place.row) {
                        adjust.to(&mut sums[adjust.output % LANES]);
                    }
                    self.values(self.ternary(layer, slot).1, &sums, &[t], out, LANES);
                }
            }
            Way::Moved { token, from, to } => {
                let numbers = prepared.moves.between(from, to);
                self.moved((layer, blocks), (token as usize, t), &numbers, outs, place.row);
            }
        }
    }

    /// The values of a row that differs little from the clean one of its token.
    fn moved(
        &self,
        (layer, blocks): (usize, &[Block]),
        (token, t): (usize, f32),
        numbers: &Numbers,
        [one, two]: [&mut [f32]; 2],
        row: usize,
    ) {
        let (trace, tokens) = (self.layer(layer), self.tokens());
        let size = (self.ternary(layer, blocks[0].0).0.columns() + 1) * LANES;
        let weights = self.trace.columns.of(layer, blocks, size);
        let part = |&(slot, block, _): &Block, out| {
            let quotient = match self.ternary(layer, slot).1 {
                Scale::Multiply(ws) => Quotient::by(t, ws),
                Scale::Divide(ws) => Quotient::by(ws * t, 1.0),
            };
            kernels::Block { base: trace.sums(slot, tokens, token, block), quotient, out }
        };
        let second = blocks.get(1).unwrap_or(&blocks[0]);
        (self.kernels.columns)(
            weights,
            numbers,
            &mut [part(&blocks[0], &mut *one), part(second, &mut *two)],
        );
        for (half, (&(slot, block, adjusts), out)) in blocks.iter().zip([one, two]).enumerate() {
            for adjust in Adjust::among(adjusts, block, row) {
                let place = adjust.output % LANES;
                let weight = |&number: &u32| {
                    let byte = weights[number as usize * LANES + place];
                    i32::from(byte >> (4 * half) & 15) - 1
                };
                let sum = |numbers: &[u32]| numbers.iter().map(weight).sum::<i32>();
                let mut sum = trace.sum(slot, tokens, token, adjust.output) + sum(numbers.plus())
                    - sum(numbers.minus());
                adjust.to(&mut sum);
                out[place] = scaled(sum, t, self.ternary(layer, slot).1);
            }
        }
    }
}

/// A row, and its number among those that are multiplied whole, if it is one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    row: usize,
    whole: usize,
}

/// The places of rows in their order.
#[derive(Debug, Default)]
pub(super) struct Places {
    row: usize,
    whole: usize,
}

impl Places {
    /// The next one.
    pub(super) fn next(&mut self, prepared: &Prepared) -> Place {
        let place = Place { row: self.row, whole: self.whole };
        self.whole += usize::from(matches!(prepared.ways[self.row], Way::Whole));
        self.row += 1;
        place
    }
}

/// The sums of the rows that are multiplied whole: `[block][group][row][16]`.
pub(super) struct Wholes<'s> {
    rows: usize,
    /// Groups of each block.
    groups: [usize; 2],
    sums: &'s [[i32; GROUP_ROWS]],
}

impl Wholes<'_> {
    /// The sums of one of the rows in a block; zeros for outputs that there are not.
    fn read(&self, block: usize, row: usize) -> [i32; LANES] {
        let mut sums = [0; LANES];
        let groups = sums.as_chunks_mut::<GROUP_ROWS>().0.iter_mut().take(self.groups[block]);
        for (group, sums) in groups.enumerate() {
            *sums = self.sums[(block * GROUPS + group) * self.rows + row];
        }
        sums
    }
}

//! Which bits of which values flip, and the linear layers that come of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use engine::model::{
    Coded, Float, FloatType, Linear, Model, NormSlot, Scale, Scales, Slot, Struck, Weights,
};
use engine::packing::{BitPlace, CodedRows, TernaryRows, UNUSED_CODE, ZERO_CODE, weight_of};

use super::LinearPatch;
use crate::address::Address;
use crate::fault::UnusedCode;
use crate::matrix::{Grid, Matrix};
use crate::pattern::scale_of_row;

/// Where more than this share of the rows became others, all of them are packed anew.
const FEW_OF: usize = 8;

/// The bits to flip of each changed value, by tensor.
#[derive(Default)]
pub(super) struct Masks {
    /// By row and column.
    values: BTreeMap<(usize, Slot), BTreeMap<usize, BTreeMap<usize, u32>>>,
    /// Of elements, likewise.
    elements: BTreeMap<(usize, Slot), BTreeMap<usize, BTreeMap<usize, u32>>>,
    scales: BTreeMap<(usize, Slot), u32>,
    row_scales: BTreeMap<(usize, Slot), BTreeMap<usize, u32>>,
    /// Bits of rows of blocks.
    pub(super) blocks: BTreeMap<Matrix, BTreeMap<usize, Vec<BitPlace>>>,
    pub(super) gains: BTreeMap<(usize, NormSlot), BTreeMap<usize, u32>>,
    pub(super) embedding: BTreeMap<usize, BTreeMap<usize, u32>>,
    pub(super) head: BTreeMap<usize, BTreeMap<usize, u32>>,
}

impl Masks {
    pub(super) fn add(&mut self, model: &Model, flip: &Address) {
        if let Some(matrix) = flip.matrix()
            && let Grid::Blocks { shape } = matrix.grid(model)
        {
            let (row, place) = flip.in_row(&shape);
            let rows = self.blocks.entry(matrix).or_default();
            return rows.entry(row).or_default().push(place);
        }
        match *flip {
            Address::Code { layer, slot, row, column, bit } => {
                let rows = self.values.entry((layer, slot)).or_default();
                *rows.entry(row).or_default().entry(column).or_default() ^= 1 << bit;
            }
            Address::Element { layer, slot, row, column, bit } => {
                let rows = self.elements.entry((layer, slot)).or_default();
                *rows.entry(row).or_default().entry(column).or_default() ^= 1 << bit;
            }
            Address::GroupScale { matrix: Matrix::Linear { layer, slot }, row, bit, .. } => {
                let rows = self.row_scales.entry((layer, slot)).or_default();
                *rows.entry(row).or_default() ^= 1 << bit;
            }
            Address::Scale { layer, slot, bit } => {
                *self.scales.entry((layer, slot)).or_default() ^= 1 << bit;
            }
            Address::Norm { layer, slot, index, bit } => {
                let gains = self.gains.entry((layer, slot)).or_default();
                *gains.entry(index).or_default() ^= 1 << bit;
            }
            Address::FinalNorm { index, bit } => {
                let gains = self.gains.entry((model.layers.len(), NormSlot::Final)).or_default();
                *gains.entry(index).or_default() ^= 1 << bit;
            }
            Address::Embedding { row, column, bit } => {
                let tied = model.config.tied.then_some(&mut self.head);
                for rows in [Some(&mut self.embedding), tied].into_iter().flatten() {
                    *rows.entry(row).or_default().entry(column).or_default() ^= 1 << bit;
                }
            }
            Address::Head { row, column, bit } => {
                *self.head.entry(row).or_default().entry(column).or_default() ^= 1 << bit;
            }
            Address::GroupScale { .. } | Address::Byte { .. } => {
                panic!("the address of a scale, or of trits, was not checked")
            }
            Address::Kv { .. } | Address::KvScale { .. } => {
                unreachable!("strikes are kept apart")
            }
        }
    }

    /// The linear layers that are struck.
    pub(super) fn sites(&self) -> BTreeSet<(usize, Slot)> {
        let blocks = self.blocks.keys().filter_map(|&matrix| match matrix {
            Matrix::Linear { layer, slot } => Some((layer, slot)),
            Matrix::Embedding | Matrix::Head => None,
        });
        let values = self.values.keys().chain(self.row_scales.keys());
        values
            .chain(self.elements.keys())
            .chain(self.scales.keys())
            .copied()
            .chain(blocks)
            .collect()
    }

    pub(super) fn linear(
        &self,
        model: &Model,
        site: (usize, Slot),
        unused: UnusedCode,
    ) -> LinearPatch {
        let linear = model.layers[site.0].linear(site.1);
        let with = |weights| Linear { weights, norm: None, activations: linear.activations };
        if linear.weights.block_shape().is_some() {
            return self.in_blocks(linear, site, unused);
        }
        let values = self.values.get(&site);
        match &linear.weights {
            Weights::Ternary { rows, scale, .. } => {
                let made = self.made(model, site, |row| rows.row(row));
                self.under_one_scale((linear, site), (rows, *scale), &made, unused)
            }
            Weights::Coded(coded) => {
                let made = self.made(model, site, |row| {
                    coded.rows().row(row).into_iter().map(|weight| (weight + 1) as u8).collect()
                });
                let scales = self.row_scales.get(&site);
                let none = BTreeMap::new();
                let row = |row: usize| {
                    let codes = made.rows.get(&row).cloned();
                    let flips = values.and_then(|rows| rows.get(&row)).unwrap_or(&none);
                    let mask = scales.and_then(|rows| rows.get(&row)).copied().unwrap_or(0);
                    let bits = (flips, mask);
                    (row, with(packed_row(coded, (row, codes), bits, unused)))
                };
                let rows = values.into_iter().flat_map(BTreeMap::keys);
                let rows = rows.chain(scales.into_iter().flat_map(BTreeMap::keys));
                let rows: BTreeSet<usize> = rows.chain(made.rows.keys()).copied().collect();
                LinearPatch { whole: None, rows: rows.into_iter().map(row).collect() }
            }
            Weights::Dense(float) => {
                let row = |(&row, flips)| {
                    (row, with(Weights::Dense(Arc::new(flip_row(float, row, flips)))))
                };
                LinearPatch { whole: None, rows: values.into_iter().flatten().map(row).collect() }
            }
        }
    }

    /// What is made of the elements of a layer at load. Of elements that a load refuses nothing is;
    /// whoever runs a trial asks [`Fault::is_refused`](crate::Fault) first.
    fn made(
        &self,
        model: &Model,
        site: (usize, Slot),
        codes: impl Fn(usize) -> Vec<u8> + Sync,
    ) -> Struck {
        let flips = self.elements.get(&site);
        flips.and_then(|flips| model.elements[&site].struck(codes, flips)).unwrap_or_default()
    }

    /// A layer of codes under one scale, with what was made anew of its elements.
    fn under_one_scale(
        &self,
        (linear, site): (&Linear, (usize, Slot)),
        (rows, scale): (&Arc<TernaryRows>, Scale),
        made: &Struck,
        unused: UnusedCode,
    ) -> LinearPatch {
        let struck = match made.scale {
            None => self.struck_scale(&linear.weights, site),
            Some(made) => {
                let mask = self.scales.get(&site).copied().unwrap_or(0);
                Some(FloatType::F32.flip_mask(made.stored(), mask))
            }
        };
        let scale = struck.map_or(scale, |value| scale.with(value));
        let under = |rows| Linear {
            weights: ternary(rows, scale),
            norm: None,
            activations: linear.activations,
        };
        let read = |row: usize| made.rows.get(&row).cloned().unwrap_or_else(|| rows.row(row));
        let many = made.rows.len() > rows.rows() / FEW_OF;
        let whole = many.then(|| {
            let copy = |row: usize, out: &mut [u8]| out.copy_from_slice(&read(row));
            Arc::new(TernaryRows::pack(rows.rows(), rows.columns(), copy))
        });
        let whole = whole.or_else(|| struck.map(|_| Arc::clone(rows))).map(under);
        let values = self.values.get(&site);
        let alone = values.into_iter().flat_map(BTreeMap::keys);
        let alone: BTreeSet<usize> =
            alone.chain(made.rows.keys().filter(|_| !many)).copied().collect();
        let row = |row: usize| {
            let mut codes = read(row);
            for (&column, &mask) in values.and_then(|rows| rows.get(&row)).into_iter().flatten() {
                codes[column] = flipped(codes[column], mask as u8, unused);
            }
            (row, under(Arc::new(TernaryRows::single(&codes))))
        };
        LinearPatch { whole, rows: alone.into_iter().map(row).collect() }
    }

    /// The scale of a tensor of codes with its flipped bits: of its one number, or of the two whose
    /// product it is. `None` where none is flipped.
    fn struck_scale(&self, weights: &Weights, site: (usize, Slot)) -> Option<f32> {
        let mask = self.scales.get(&site).copied().unwrap_or(0);
        let behind = self.row_scales.get(&site).and_then(|rows| rows.get(&0)).copied().unwrap_or(0);
        if mask | behind == 0 {
            return None;
        }
        let flip = |value, kind: FloatType, mask| {
            if mask == 0 { value } else { kind.flip_mask(value, mask) }
        };
        let (scale, stored) = weights.tensor_scale().expect("a checked scale");
        let scale = flip(scale, stored, mask);
        let other = weights.scale_behind().map(|value| flip(value, FloatType::F32, behind));
        Some(other.map_or(scale, |other| other * scale))
    }

    /// A layer whose weights are blocks: read again from its flipped bytes.
    fn in_blocks(&self, linear: &Linear, site: (usize, Slot), unused: UnusedCode) -> LinearPatch {
        let with = |weights| Linear { weights, norm: None, activations: linear.activations };
        let weights = &linear.weights;
        let matrix = Matrix::Linear { layer: site.0, slot: site.1 };
        let struck = self.blocks.get(&matrix).into_iter().flatten();
        let changed = struck
            .map(|(&row, places)| (row, flip_bytes(weights.block_row(row), places)))
            .collect();
        let mask = self.scales.get(&site).copied().unwrap_or(0);
        let factor = weights.tensor_scale().map_or(1.0, |(factor, stored)| match mask {
            0 => factor,
            mask => stored.flip_mask(factor, mask),
        });
        let how = (linear.activations.levels().is_some(), unused == UnusedCode::Zero);
        let again = weights.rewritten(&changed, factor, how);
        let rows = again.rows.into_iter().map(|(row, weights)| (row, with(weights)));
        LinearPatch { whole: again.whole.map(with), rows: rows.collect() }
    }
}

fn ternary(rows: Arc<TernaryRows>, scale: Scale) -> Weights {
    Weights::Ternary { rows, scale, stored: None, layout: None, blocks: None }
}

/// A row of two-bit codes under a scale of its own, with bits of codes and of the scale flipped.
fn packed_row(
    coded: &Coded,
    (row, codes): (usize, Option<Vec<u8>>),
    (flips, mask): (&BTreeMap<usize, u32>, u32),
    unused: UnusedCode,
) -> Weights {
    let (scale, stored) = scale_of_row(coded, row).expect("a checked scale of a row");
    let Scales::Rows(scales) = coded.scales() else { unreachable!("scales of rows") };
    let scale =
        if mask == 0 { scales[row] } else { scales[row].with(stored.flip_mask(scale, mask)) };
    let columns = coded.rows().columns();
    let codes = CodedRows::pack((1, columns), columns, |_, out| {
        match &codes {
            Some(codes) => out.iter_mut().zip(codes).for_each(|(w, &c)| *w = weight_of(c) as i8),
            None => out.copy_from_slice(&coded.rows().row(row)),
        }
        for (&column, &mask) in flips {
            out[column] = weight_of(flipped((out[column] + 1) as u8, mask as u8, unused)) as i8;
        }
    });
    Weights::Coded(Arc::new(Coded::new(coded.kind(), codes, Scales::Rows(vec![scale]))))
}

pub(crate) fn flipped(code: u8, mask: u8, unused: UnusedCode) -> u8 {
    let after = code ^ mask;
    if after == UNUSED_CODE && code != UNUSED_CODE && unused == UnusedCode::Zero {
        ZERO_CODE
    } else {
        after
    }
}

pub(super) fn flip_bytes(mut bytes: Vec<u8>, places: &[BitPlace]) -> Vec<u8> {
    places.iter().for_each(|place| bytes[place.byte] ^= 1 << place.bit);
    bytes
}

/// One row of a matrix in its own type, with bits flipped.
pub(super) fn flip_row(matrix: &Float, row: usize, flips: &BTreeMap<usize, u32>) -> Float {
    let span = row * matrix.columns()..(row + 1) * matrix.columns();
    let halves = |data: &[u16]| {
        let mut data = data[span.clone()].to_vec();
        flips.iter().for_each(|(&column, &mask)| data[column] ^= mask as u16);
        data
    };
    match matrix {
        Float::F32 { data, columns } => {
            let mut data = data[span].to_vec();
            for (&column, &mask) in flips {
                data[column] = f32::from_bits(data[column].to_bits() ^ mask);
            }
            Float::F32 { data, columns: *columns }
        }
        Float::F16 { data, columns } => Float::F16 { data: halves(data), columns: *columns },
        Float::Bf16 { data, columns } => Float::Bf16 { data: halves(data), columns: *columns },
        Float::Blocks { .. } => unreachable!("blocks are flipped as bytes"),
    }
}

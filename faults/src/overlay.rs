//! The parts of a model that a fault changes, made once a trial.
//!
//! Invariant: the model itself is never touched, and what is here is exactly what a reader of the
//! flipped bytes would hold: changed rows of weights, a changed scale, changed gains, changed rows
//! of the embedding and of the head (their codes made anew where it is multiplied as codes), and
//! the strikes on the key-value store. Blocks are flipped as bytes and read again (see
//! [`Weights::rewritten`]), so that a byte of trits changes up to five weights, and a scale that
//! one block has alone makes a matrix of groups.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use engine::model::{
    Coded, Float, FloatType, KvPlace, Linear, Model, Norm, NormSlot, Scale, Scales, Side, Slot,
    Weights,
};
use engine::packing::{BitPlace, CodedRows, TernaryRows, UNUSED_CODE, ZERO_CODE, weight_of};

use crate::address::Address;
use crate::fault::{Fault, UnusedCode, two_bits};
use crate::matrix::{Grid, Matrix};
use crate::pattern::scale_of_row;

/// A changed linear layer.
#[derive(Clone, Debug)]
pub(crate) struct LinearPatch {
    /// The layer under its changed scale, or in its changed form, where more than rows is changed.
    pub(crate) whole: Option<Linear>,
    /// Changed outputs: each a layer of one row, under the scale that holds.
    pub(crate) rows: Vec<(usize, Linear)>,
}

/// A flip of a stored bit between two steps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StoreFlip {
    pub(crate) layer: usize,
    pub(crate) side: Side,
    pub(crate) place: KvPlace,
    /// Whether it is a bit of the scale of the token and head; the dimension means nothing then.
    pub(crate) scale: bool,
    pub(crate) bit: u8,
    pub(crate) step: usize,
}

/// What differs between a model and its faulty twin.
#[derive(Clone, Debug, Default)]
pub struct Overlay {
    pub(crate) linears: BTreeMap<(usize, Slot), LinearPatch>,
    pub(crate) norms: BTreeMap<(usize, NormSlot), Norm>,
    pub(crate) embedding: BTreeMap<usize, Vec<f32>>,
    pub(crate) head: Vec<(usize, Float)>,
    /// The same rows as they are multiplied, where the head is as codes made at load.
    pub(crate) coded_head: Vec<(usize, Linear)>,
    /// In the order of their steps.
    pub(crate) strikes: Vec<StoreFlip>,
    layers: usize,
}

/// The bits to flip of each changed value, by tensor.
#[derive(Default)]
struct Masks {
    /// By row and column.
    values: BTreeMap<(usize, Slot), BTreeMap<usize, BTreeMap<usize, u32>>>,
    scales: BTreeMap<(usize, Slot), u32>,
    row_scales: BTreeMap<(usize, Slot), BTreeMap<usize, u32>>,
    /// Bits of rows of blocks.
    blocks: BTreeMap<Matrix, BTreeMap<usize, Vec<BitPlace>>>,
    gains: BTreeMap<(usize, NormSlot), BTreeMap<usize, u32>>,
    embedding: BTreeMap<usize, BTreeMap<usize, u32>>,
    head: BTreeMap<usize, BTreeMap<usize, u32>>,
}

impl Overlay {
    /// What a fault changes in a model. [`UnusedCode::Detect`] computes like `Deployed` here;
    /// whoever runs a trial asks [`Fault::makes_unused_code`] first.
    ///
    /// # Panics
    /// If a bit does not exist; see [`Fault::check`].
    #[must_use]
    pub fn new(model: &Model, fault: &Fault, unused: UnusedCode) -> Self {
        let mut masks = Masks::default();
        let mut overlay = Self { layers: model.layers.len(), ..Self::default() };
        for flip in fault.flips() {
            match *flip {
                Address::Kv { layer, side, place, bit, step } => {
                    let scale = false;
                    overlay.strikes.push(StoreFlip { layer, side, place, scale, bit, step });
                }
                Address::KvScale { layer, side, token, head, bit, step } => {
                    let (place, scale) = (KvPlace { token, head, dim: 0 }, true);
                    overlay.strikes.push(StoreFlip { layer, side, place, scale, bit, step });
                }
                _ => masks.add(model, flip),
            }
        }
        overlay.strikes.sort_by_key(|strike| strike.step);
        for site in masks.sites() {
            overlay.linears.insert(site, masks.linear(model, site, unused));
        }
        for ((layer, slot), gains) in &masks.gains {
            let norm = match slot {
                NormSlot::Final => &model.final_norm,
                _ => model.layers[*layer].norm(*slot).expect("a checked norm"),
            };
            overlay.norms.insert((*layer, *slot), flip_gains(norm, gains));
        }
        for (&row, flips) in &masks.embedding {
            let mut values = vec![0.0; model.config.hidden];
            flip_row(&model.embedding, row, flips).read_row(0, &mut values);
            overlay.embedding.insert(row, values);
        }
        let head = masks.head.iter();
        overlay.head = head.map(|(&row, flips)| (row, flip_row(&model.head, row, flips))).collect();
        overlay.add_blocks(model, &masks);
        if let Some(head) = &model.coded_head {
            let activations = head.activations;
            let with = |weights| Linear { weights, norm: None, activations };
            let rows = overlay.head.iter().map(|(row, float)| (*row, with(codes_of(float))));
            overlay.coded_head = rows.collect();
        }
        overlay
    }

    /// Rows of the embedding and of the head that are stored in blocks.
    fn add_blocks(&mut self, model: &Model, masks: &Masks) {
        for (&matrix, rows) in &masks.blocks {
            let float = match matrix {
                Matrix::Linear { .. } => continue,
                Matrix::Embedding => &model.embedding,
                Matrix::Head => &model.head,
            };
            let shape = float.block_shape().expect("blocks were struck");
            for (&row, places) in rows {
                let data = flip_bytes(float.block_row(row).to_vec(), places);
                let (kind, columns) = (shape.kind, shape.columns);
                let flipped = Float::Blocks { kind, data, columns, turned: None, factor: None };
                if matrix == Matrix::Embedding {
                    let mut values = vec![0.0; columns];
                    flipped.read_row(0, &mut values);
                    self.embedding.insert(row, values);
                }
                if matrix == Matrix::Head || model.config.tied {
                    self.head.push((row, flipped));
                }
            }
        }
    }

    /// The first layer in which a block, or its store, is struck; the number of layers if only what
    /// stands behind the blocks is. The embedding is not counted.
    #[must_use]
    pub fn first_layer(&self) -> usize {
        self.struck_layers().min().unwrap_or(self.layers)
    }

    /// The last layer that is struck, likewise; `None` if no layer is, nor the final norm or the
    /// head.
    #[must_use]
    pub fn last_layer(&self) -> Option<usize> {
        let behind = (!self.head.is_empty()).then_some(self.layers);
        self.struck_layers().chain(behind).max()
    }

    fn struck_layers(&self) -> impl Iterator<Item = usize> {
        let linears = self.linears.keys().map(|&(layer, _)| layer);
        let norms = self.norms.keys().map(|&(layer, _)| layer);
        linears.chain(norms).chain(self.strikes.iter().map(|strike| strike.layer))
    }

    /// Whether the embedding of one of the tokens is struck.
    #[must_use]
    pub fn strikes_embedding_of(&self, ids: &[u32]) -> bool {
        ids.iter().any(|&id| self.embedding.contains_key(&(id as usize)))
    }
}

impl Masks {
    fn add(&mut self, model: &Model, flip: &Address) {
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
    fn sites(&self) -> BTreeSet<(usize, Slot)> {
        let blocks = self.blocks.keys().filter_map(|&matrix| match matrix {
            Matrix::Linear { layer, slot } => Some((layer, slot)),
            Matrix::Embedding | Matrix::Head => None,
        });
        let values = self.values.keys().chain(self.row_scales.keys());
        values.chain(self.scales.keys()).copied().chain(blocks).collect()
    }

    fn linear(&self, model: &Model, site: (usize, Slot), unused: UnusedCode) -> LinearPatch {
        let linear = model.layers[site.0].linear(site.1);
        let with = |weights| Linear { weights, norm: None, activations: linear.activations };
        if linear.weights.block_shape().is_some() {
            return self.in_blocks(linear, site, unused);
        }
        let values = self.values.get(&site);
        let changed = values.into_iter().flatten();
        match &linear.weights {
            Weights::Ternary { rows, scale, .. } => {
                let struck = self.struck_scale(&linear.weights, site);
                let scale = struck.map_or(*scale, |value| scale.with(value));
                let under = |rows| with(ternary(rows, scale));
                let whole = struck.map(|_| under(rows.clone()));
                let row = |(&row, flips): (&usize, &BTreeMap<usize, u32>)| {
                    let mut codes = rows.row(row);
                    for (&column, &mask) in flips {
                        codes[column] = flipped(codes[column], mask as u8, unused);
                    }
                    (row, under(Arc::new(TernaryRows::single(&codes))))
                };
                LinearPatch { whole, rows: changed.map(row).collect() }
            }
            Weights::Coded(coded) => {
                let scales = self.row_scales.get(&site);
                let rows = values.into_iter().flat_map(BTreeMap::keys);
                let rows: BTreeSet<usize> =
                    rows.chain(scales.into_iter().flat_map(BTreeMap::keys)).copied().collect();
                let none = BTreeMap::new();
                let row = |row: usize| {
                    let flips = values.and_then(|rows| rows.get(&row)).unwrap_or(&none);
                    let mask = scales.and_then(|rows| rows.get(&row)).copied().unwrap_or(0);
                    (row, with(packed_row(&linear.weights, coded, row, (flips, mask), unused)))
                };
                LinearPatch { whole: None, rows: rows.into_iter().map(row).collect() }
            }
            Weights::Dense(float) => {
                let row = |(&row, flips)| {
                    (row, with(Weights::Dense(Arc::new(flip_row(float, row, flips)))))
                };
                LinearPatch { whole: None, rows: changed.map(row).collect() }
            }
        }
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

/// The codes that are made of a row of the head. Of what is no number any cast may make any code,
/// so its scale is none either.
fn codes_of(row: &Float) -> Weights {
    let (mut coded, mut values) = (Coded::of_float(row), vec![0.0; row.columns()]);
    row.read_row(0, &mut values);
    if !values.iter().all(|value| value.is_finite()) {
        let scales = Scales::Rows(vec![Scale::Multiply(f32::NAN)]);
        coded = Coded::new(coded.kind(), coded.rows().clone(), scales);
    }
    Weights::Coded(Arc::new(coded))
}

fn ternary(rows: Arc<TernaryRows>, scale: Scale) -> Weights {
    Weights::Ternary { rows, scale, stored: None, layout: None, blocks: None }
}

/// A row of two-bit codes under a scale of its own, with bits of codes and of the scale flipped.
fn packed_row(
    weights: &Weights,
    coded: &Coded,
    row: usize,
    (flips, mask): (&BTreeMap<usize, u32>, u32),
    unused: UnusedCode,
) -> Weights {
    let (scale, stored) = scale_of_row(coded, row).expect("a checked scale of a row");
    let Scales::Rows(scales) = coded.scales() else { unreachable!("scales of rows") };
    let scale =
        if mask == 0 { scales[row] } else { scales[row].with(stored.flip_mask(scale, mask)) };
    let columns = coded.rows().columns();
    let codes = CodedRows::pack((1, columns), columns, |_, out| {
        out.copy_from_slice(&coded.rows().row(row));
        for (&column, &mask) in flips {
            let code = two_bits(weights, row, column).expect("a checked code");
            out[column] = weight_of(flipped(code, mask as u8, unused)) as i8;
        }
    });
    Weights::Coded(Arc::new(Coded::new(coded.kind(), codes, Scales::Rows(vec![scale]))))
}

fn flip_bytes(mut bytes: Vec<u8>, places: &[BitPlace]) -> Vec<u8> {
    places.iter().for_each(|place| bytes[place.byte] ^= 1 << place.bit);
    bytes
}

pub(crate) fn flipped(code: u8, mask: u8, unused: UnusedCode) -> u8 {
    let after = code ^ mask;
    if after == UNUSED_CODE && code != UNUSED_CODE && unused == UnusedCode::Zero {
        ZERO_CODE
    } else {
        after
    }
}

fn flip_gains(norm: &Norm, flips: &BTreeMap<usize, u32>) -> Norm {
    let mut gains = norm.gains.to_vec();
    for (&index, &mask) in flips {
        gains[index] = norm.stored.flip_mask(gains[index], mask);
    }
    Norm { gains: gains.into(), ..norm.clone() }
}

/// One row of a matrix in its own type, with bits flipped.
fn flip_row(matrix: &Float, row: usize, flips: &BTreeMap<usize, u32>) -> Float {
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

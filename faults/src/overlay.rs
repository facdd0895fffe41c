//! The parts of a model that a fault changes, made once a trial.
//!
//! Invariant: the model itself is never touched, and what is here is exactly what a reader of the
//! flipped bytes would hold: changed rows of codes, a changed scale, changed gains, changed rows of
//! the embedding and of the head, and the strikes on the key-value store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use engine::model::{
    Float, FloatType, KvPlace, Linear, Model, Norm, NormSlot, Scale, Side, Slot, Weights,
};
use engine::packing::{TernaryRows, UNUSED_CODE, ZERO_CODE};

use crate::address::Address;
use crate::fault::{Fault, UnusedCode, ternary};

/// A changed linear layer.
#[derive(Clone, Debug)]
pub(crate) struct LinearPatch {
    /// The layer under its changed scale, where the scale is changed.
    pub(crate) scaled: Option<Linear>,
    /// Changed outputs: each a layer of one row, under the scale that holds.
    pub(crate) rows: Vec<(usize, Linear)>,
}

/// A flip of a stored bit between two steps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StoreFlip {
    pub(crate) layer: usize,
    pub(crate) side: Side,
    pub(crate) place: KvPlace,
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
    /// In the order of their steps.
    pub(crate) strikes: Vec<StoreFlip>,
    layers: usize,
}

/// The bits to flip of each changed value, by tensor.
#[derive(Default)]
struct Masks {
    codes: BTreeMap<(usize, Slot), BTreeMap<usize, BTreeMap<usize, u8>>>,
    scales: BTreeMap<(usize, Slot), u32>,
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
                    overlay.strikes.push(StoreFlip { layer, side, place, bit, step });
                }
                _ => masks.add(model, flip),
            }
        }
        overlay.strikes.sort_by_key(|strike| strike.step);
        let sites: BTreeSet<_> = masks.codes.keys().chain(masks.scales.keys()).copied().collect();
        for site in sites {
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
        overlay
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
        match *flip {
            Address::Code { layer, slot, row, column, bit } => {
                let rows = self.codes.entry((layer, slot)).or_default();
                *rows.entry(row).or_default().entry(column).or_default() ^= 1 << bit;
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
            Address::Kv { .. } => unreachable!("strikes are kept apart"),
        }
    }

    fn linear(&self, model: &Model, site: (usize, Slot), unused: UnusedCode) -> LinearPatch {
        let linear = model.layers[site.0].linear(site.1);
        let Weights::Ternary { rows, scale, stored, layout } = &linear.weights else {
            panic!("the address of a code was not checked");
        };
        let mask = self.scales.get(&site).copied().unwrap_or(0);
        let struck = |stored: &FloatType| scale.with(stored.flip_mask(scale.stored(), mask));
        let scale = stored.as_ref().map_or(*scale, struck);
        let with = |rows: Arc<TernaryRows>, scale: Scale| Linear {
            weights: Weights::Ternary { rows, scale, stored: *stored, layout: *layout },
            norm: None,
            activations: linear.activations,
        };
        let scaled = (mask != 0).then(|| with(rows.clone(), scale));
        let changed = self.codes.get(&site).into_iter().flatten();
        let rows = changed
            .map(|(&row, flips)| {
                let mut codes = ternary(&linear.weights).row(row);
                for (&column, &mask) in flips {
                    codes[column] = flipped(codes[column], mask, unused);
                }
                (row, with(Arc::new(TernaryRows::single(&codes)), scale))
            })
            .collect();
        LinearPatch { scaled, rows }
    }
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
        Float::Blocks { .. } => unreachable!("a value of a block has no address"),
    }
}

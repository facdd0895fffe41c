//! The parts of a model that a fault changes, made once a trial.
//!
//! Invariant: the model itself is never touched, and what is here is exactly what a reader of the
//! flipped bytes would hold: changed rows of weights, a changed scale, changed gains, changed rows
//! of the embedding and of the head (their codes made anew where it is multiplied as codes), and
//! the strikes on the key-value store. Blocks are flipped as bytes and read again (see
//! [`Weights::rewritten`]), so that a byte of trits changes up to five weights, and a scale that
//! one block has alone makes a matrix of groups. A flipped master may change any code of its tensor
//! and their scale (see [`engine::model::Elements::struck`]).

mod masks;

use std::collections::BTreeMap;
use std::sync::Arc;

use engine::model::{
    Coded, Float, KvPlace, Linear, Model, Norm, NormSlot, Scale, Scales, Side, Slot, Weights,
};

pub(crate) use masks::flipped;
use masks::{Masks, flip_bytes, flip_row};

use crate::address::Address;
use crate::fault::{Fault, UnusedCode};
use crate::matrix::Matrix;

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

fn flip_gains(norm: &Norm, flips: &BTreeMap<usize, u32>) -> Norm {
    let mut gains = norm.gains.to_vec();
    for (&index, &mask) in flips {
        gains[index] = norm.stored.flip_mask(gains[index], mask);
    }
    Norm { gains: gains.into(), ..norm.clone() }
}

//! The weights of a model as a backward pass reads them: by output rows, in f32.
//!
//! The packed kernels do not multiply by a transpose. A dense copy, made once, serves any number of
//! passes and takes four bytes a weight; without it each pass unpacks a block of rows at a time,
//! which is slower and takes no memory to speak of. Invariant: both give the same bits.

use std::borrow::Cow;

use engine::model::{Float, Linear, Model, Scale, Slot, Weights};
use engine::packing::weight_of;
use rayon::prelude::*;

/// Rows that are unpacked at a time.
pub(super) const BLOCK_ROWS: usize = 32;
/// Below this many weights a block is unpacked on the calling thread.
const PARALLEL_WORK: usize = 1 << 14;

/// The weights that a backward pass multiplies by.
#[derive(Clone, Debug)]
pub struct BackwardWeights<'m> {
    model: &'m Model,
    dense: Option<Dense>,
}

/// f32 copies, `[outputs, inputs]` each, with their scales multiplied in.
#[derive(Clone, Debug)]
struct Dense {
    layers: Vec<[Vec<f32>; 7]>,
    head: Vec<f32>,
}

impl<'m> BackwardWeights<'m> {
    /// Copies all weights to f32; [`Self::dense_bytes`] says what that takes.
    #[must_use]
    pub fn dense(model: &'m Model) -> Self {
        let copy = |matrix: Stored<'_>| {
            let mut data = vec![0.0; matrix.outputs() * matrix.inputs()];
            matrix.read(0, &mut data);
            data
        };
        let layers = (model.layers.iter())
            .map(|layer| Slot::ALL.map(|slot| copy(Stored::Linear(layer.linear(slot)))))
            .collect();
        let dense = Dense { layers, head: copy(Stored::Float(&model.head)) };
        Self { model, dense: Some(dense) }
    }

    /// Copies nothing: each pass unpacks what it reads.
    #[must_use]
    pub fn packed(model: &'m Model) -> Self {
        Self { model, dense: None }
    }

    /// The bytes that [`Self::dense`] takes for a model.
    #[must_use]
    pub fn dense_bytes(model: &Model) -> usize {
        let linears = model.layers.iter().flat_map(|layer| &layer.linears);
        let weights: usize = linears.map(|l| l.inputs() * l.outputs()).sum();
        size_of::<f32>() * (weights + model.head.rows() * model.head.columns())
    }

    pub(super) fn model(&self) -> &'m Model {
        self.model
    }

    pub(super) fn linear(&self, layer: usize, slot: Slot) -> Matrix<'_> {
        Matrix {
            stored: Stored::Linear(self.model.layers[layer].linear(slot)),
            dense: self.dense.as_ref().map(|dense| &dense.layers[layer][slot as usize][..]),
        }
    }

    pub(super) fn head(&self) -> Matrix<'_> {
        Matrix {
            stored: Stored::Float(&self.model.head),
            dense: self.dense.as_ref().map(|dense| &dense.head[..]),
        }
    }
}

/// One `[outputs, inputs]` matrix.
pub(super) struct Matrix<'w> {
    stored: Stored<'w>,
    dense: Option<&'w [f32]>,
}

impl Matrix<'_> {
    pub(super) fn inputs(&self) -> usize {
        self.stored.inputs()
    }

    /// Rows `first..first + count`, behind one another.
    pub(super) fn rows(&self, first: usize, count: usize) -> Cow<'_, [f32]> {
        let width = self.inputs();
        if let Some(dense) = self.dense {
            return dense[first * width..(first + count) * width].into();
        }
        let mut data = vec![0.0; count * width];
        self.stored.read(first, &mut data);
        data.into()
    }
}

/// Weights as a model holds them.
#[derive(Clone, Copy)]
enum Stored<'w> {
    Linear(&'w Linear),
    Float(&'w Float),
}

impl Stored<'_> {
    fn outputs(self) -> usize {
        match self {
            Self::Linear(linear) => linear.outputs(),
            Self::Float(float) => float.rows(),
        }
    }

    fn inputs(self) -> usize {
        match self {
            Self::Linear(linear) => linear.inputs(),
            Self::Float(float) => float.columns(),
        }
    }

    /// Reads as many rows from `first` on as `out` has room for.
    fn read(self, first: usize, out: &mut [f32]) {
        let width = self.inputs();
        if out.len() < PARALLEL_WORK {
            let rows = out.chunks_exact_mut(width).enumerate();
            rows.for_each(|(index, out)| self.read_row(first + index, out));
        } else {
            let rows = out.par_chunks_exact_mut(width).enumerate();
            rows.for_each(|(index, out)| self.read_row(first + index, out));
        }
    }

    fn read_row(self, row: usize, out: &mut [f32]) {
        let (rows, scale) = match self {
            Self::Float(float) => return float.read_row(row, out),
            Self::Linear(linear) => match &linear.weights {
                Weights::Coded(coded) => {
                    let weights = out.iter_mut().zip(coded.weights(row));
                    return weights.for_each(|(value, weight)| *value = weight as f32);
                }
                Weights::Dense(float) => return float.read_row(row, out),
                Weights::Ternary { rows, scale, .. } => (rows, *scale),
            },
        };
        let factor = match scale {
            Scale::Multiply(stored) => stored,
            Scale::Divide(stored) => 1.0 / stored,
        };
        for (value, code) in out.iter_mut().zip(rows.row(row)) {
            *value = weight_of(code) as f32 * factor;
        }
    }
}

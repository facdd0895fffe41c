//! The weights of a model as plain f32 matrices, for backward passes.
//!
//! A backward pass multiplies by the transpose, which the packed kernels do not do; a dense copy made
//! once serves any number of passes. It takes four bytes a weight, so it is for small models, or for
//! those who have the memory.

use engine::model::{Float, Linear, Model, Scale, Slot, Weights};
use engine::packing::weight_of;

/// Dense f32 copies of all linear layers and of the head, with their scales multiplied in.
#[derive(Clone, Debug)]
pub struct DenseWeights {
    layers: Vec<[Dense; 7]>,
    head: Dense,
    pub(super) kv_heads: usize,
    pub(super) head_dim: usize,
}

/// One `[outputs, inputs]` matrix, row-major.
#[derive(Clone, Debug)]
pub(super) struct Dense {
    pub(super) data: Vec<f32>,
    pub(super) inputs: usize,
}

impl DenseWeights {
    /// Copies the weights of a model.
    #[must_use]
    pub fn of(model: &Model) -> Self {
        let layers = (model.layers.iter())
            .map(|layer| Slot::ALL.map(|slot| Dense::of_linear(layer.linear(slot))))
            .collect();
        let (kv_heads, head_dim) = (model.config.kv_heads, model.config.head_dim);
        Self { layers, head: Dense::of_float(&model.head), kv_heads, head_dim }
    }

    /// The bytes that [`Self::of`] would take for a model.
    #[must_use]
    pub fn bytes(model: &Model) -> usize {
        let linears = model.layers.iter().flat_map(|layer| &layer.linears);
        let weights: usize = linears.map(|l| l.inputs() * l.outputs()).sum();
        size_of::<f32>() * (weights + model.head.rows() * model.head.columns())
    }

    pub(super) fn linear(&self, layer: usize, slot: Slot) -> &Dense {
        &self.layers[layer][slot as usize]
    }

    pub(super) fn head(&self) -> &Dense {
        &self.head
    }
}

impl Dense {
    fn of_linear(linear: &Linear) -> Self {
        match &linear.weights {
            Weights::Dense(float) => Self::of_float(float),
            Weights::Ternary { rows, scale, .. } => {
                let factor = match *scale {
                    Scale::Multiply(stored) => stored,
                    Scale::Divide(stored) => 1.0 / stored,
                };
                let data = (0..rows.rows())
                    .flat_map(|row| rows.row(row))
                    .map(|code| weight_of(code) as f32 * factor)
                    .collect();
                Self { data, inputs: rows.columns() }
            }
        }
    }

    fn of_float(float: &Float) -> Self {
        let inputs = float.columns();
        let mut data = vec![0.0; float.rows() * inputs];
        for (index, row) in data.chunks_exact_mut(inputs).enumerate() {
            float.read_row(index, row);
        }
        Self { data, inputs }
    }
}

//! Small random models for tests: a shape and a seed give one model, on every machine.
//!
//! Integers of ChaCha only, so that a failing seed stays a failing seed.

#![allow(dead_code, reason = "each test binary uses its own part of this")]

use std::sync::Arc;

use engine::model::{
    Activations, Config, Float, FloatType, Gate, Layer, Linear, Model, Norm, Rope, Scale, Slot,
    StoredScale, Weights,
};
use engine::packing::{Layout, TernaryRows};
use ndarray::Array2;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// What a random model looks like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) hidden: usize,
    pub(crate) ffn: usize,
    pub(crate) layers: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_dim: usize,
    pub(crate) vocabulary: usize,
    pub(crate) gate: Gate,
    pub(crate) activations: Activations,
    pub(crate) sub_norms: bool,
    pub(crate) inner_norms: bool,
    pub(crate) dense: bool,
}

/// A digit classifier's shape: two ternary layers under int8 activations.
pub(crate) const DIGITS: Shape = Shape {
    hidden: 32,
    ffn: 64,
    layers: 2,
    heads: 4,
    kv_heads: 2,
    head_dim: 8,
    vocabulary: 10,
    gate: Gate::Relu2,
    activations: Activations::PerTokenInt8,
    sub_norms: true,
    inner_norms: false,
    dense: false,
};

/// Seeded integers, and what tests make of them.
pub(crate) struct Draws(ChaCha8Rng);

impl Draws {
    pub(crate) fn new(seed: u64) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        Self(ChaCha8Rng::from_seed(bytes))
    }

    /// A number in [-1, 1).
    pub(crate) fn unit(&mut self) -> f32 {
        (self.0.next_u32() >> 8) as f32 / (1 << 23) as f32 - 1.0
    }

    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        ((u64::from(self.0.next_u32()) * u64::from(bound)) >> 32) as u32
    }

    pub(crate) fn rows(&mut self, rows: usize, width: usize) -> Array2<f32> {
        Array2::from_shape_fn((rows, width), |_| self.unit())
    }

    fn float(&mut self, rows: usize, columns: usize, scale: f32) -> Arc<Float> {
        let data = (0..rows * columns).map(|_| self.unit() * scale).collect();
        Arc::new(Float::F32 { data, columns })
    }

    fn norm(&mut self, width: usize) -> Norm {
        let gains = (0..width).map(|_| 1.0 + 0.5 * self.unit()).collect();
        Norm { gains, eps: 1e-5, stored: FloatType::F32 }
    }

    fn ternary(&mut self, outputs: usize, inputs: usize) -> Weights {
        let codes: Vec<u8> = (0..outputs * inputs).map(|_| self.below(3) as u8).collect();
        let rows = TernaryRows::pack(outputs, inputs, |row, out| {
            out.copy_from_slice(&codes[row * inputs..(row + 1) * inputs]);
        });
        let size = 1.2 / (inputs as f32).sqrt();
        let scale =
            if self.below(2) == 0 { Scale::Multiply(size) } else { Scale::Divide(1.0 / size) };
        Weights::Ternary {
            rows: Arc::new(rows),
            scale,
            stored: Some(StoredScale::One(FloatType::F32)),
            layout: Layout::hf(outputs, inputs),
            blocks: None,
        }
    }

    fn linear(&mut self, shape: &Shape, outputs: usize, inputs: usize) -> Linear {
        let weights = if shape.dense {
            Weights::Dense(self.float(outputs, inputs, 1.7 / (inputs as f32).sqrt()))
        } else {
            self.ternary(outputs, inputs)
        };
        let norm = shape.inner_norms.then(|| self.norm(inputs));
        Linear { weights, norm, activations: shape.activations }
    }

    fn layer(&mut self, shape: &Shape) -> Layer {
        let (query, kv) = (shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim);
        let linears = Slot::ALL.map(|slot| match slot {
            Slot::Q => self.linear(shape, query, shape.hidden),
            Slot::K | Slot::V => self.linear(shape, kv, shape.hidden),
            Slot::O => self.linear(shape, shape.hidden, query),
            Slot::Gate | Slot::Up => self.linear(shape, shape.ffn, shape.hidden),
            Slot::Down => self.linear(shape, shape.hidden, shape.ffn),
        });
        Layer {
            query_norm: None,
            key_norm: None,
            input_norm: self.norm(shape.hidden),
            attention_sub_norm: shape.sub_norms.then(|| self.norm(query)),
            post_norm: self.norm(shape.hidden),
            ffn_sub_norm: shape.sub_norms.then(|| self.norm(shape.ffn)),
            linears,
        }
    }
}

/// The model of a shape and a seed.
pub(crate) fn model(shape: &Shape, seed: u64) -> Model {
    let mut draws = Draws::new(seed);
    let config = Config {
        architecture: "bitnet".into(),
        hidden: shape.hidden,
        ffn: shape.ffn,
        layers: shape.layers,
        heads: shape.heads,
        kv_heads: shape.kv_heads,
        head_dim: shape.head_dim,
        vocabulary: shape.vocabulary,
        max_positions: 64,
        eps: 1e-5,
        theta: 10_000.0,
        yarn: None,
        gate: shape.gate,
        activations: shape.activations,
        tied: true,
        end_tokens: Vec::new(),
    };
    config.check().expect("a possible shape");
    let layers = (0..shape.layers).map(|_| draws.layer(shape)).collect();
    let embedding = draws.float(shape.vocabulary, shape.hidden, 1.0);
    Model {
        coded_head: None,
        rope: Arc::new(Rope::new(config.head_dim, config.theta, config.max_positions)),
        config,
        layers,
        elements: Default::default(),
        final_norm: draws.norm(shape.hidden),
        head: embedding.clone(),
        embedding,
    }
}

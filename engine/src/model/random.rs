//! Models with random ternary weights: for benchmarks, scale tests and property tests.
//!
//! The draws are integers of SplitMix64 (Steele et al. 2014), so that a shape and a seed name the
//! same model on every machine.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{
    Activations, Coded, Config, Float, FloatType, Gate, Layer, Linear, Model, Norm, Rope, Scale,
    Scales, Slot, StoredScale, Weights,
};
use crate::packing::{CodedRows, Layout, TernaryRows};

/// What a configuration leaves open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Whether there are norms behind attention and behind the gate.
    pub sub_norms: bool,
    /// Whether each linear layer has a norm of its own.
    pub inner_norms: bool,
    /// Whether queries and keys are normed, head by head (Qwen 3).
    pub head_norms: bool,
    /// Whether scales divide (`bitlinear`) instead of multiplying.
    pub divide: bool,
    /// The type of embeddings, head and gains.
    pub stored: FloatType,
}

impl Style {
    /// The style of BitNet b1.58 2B-4T.
    pub const BITNET: Self = Self {
        sub_norms: true,
        inner_norms: false,
        head_norms: false,
        divide: false,
        stored: FloatType::Bf16,
    };
}

/// A stream of random integers.
#[derive(Clone, Debug)]
pub struct SplitMix(pub u64);

impl SplitMix {
    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, near enough to uniform for tests.
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next_u64()) * bound as u128) >> 64) as usize
    }

    /// A multiple of 2^-10 in [-1, 1], exact in every float type.
    pub fn unit(&mut self) -> f32 {
        (self.below(129) as f32 - 64.0) / 64.0
    }
}

/// A small configuration for tests: `layers` blocks of width `hidden`.
///
/// # Panics
/// If the heads do not divide the width.
#[must_use]
pub fn small_config(layers: usize, hidden: usize, heads: usize, kv_heads: usize) -> Config {
    let config = Config {
        architecture: "bitnet".into(),
        hidden,
        ffn: 2 * hidden,
        layers,
        heads,
        kv_heads,
        head_dim: hidden / heads,
        vocabulary: 24,
        max_positions: 64,
        eps: 1e-5,
        theta: 10_000.0,
        yarn: None,
        gate: Gate::Relu2,
        activations: Activations::PerTokenInt8,
        tied: false,
        end_tokens: Vec::new(),
    };
    config.check().expect("a valid small shape");
    config
}

fn float(rng: &mut SplitMix, rows: usize, columns: usize, stored: FloatType) -> Float {
    let mut next = || rng.unit();
    match stored {
        FloatType::F32 => {
            Float::F32 { data: (0..rows * columns).map(|_| next()).collect(), columns }
        }
        FloatType::F16 => {
            let bits = (0..rows * columns).map(|_| half::f16::from_f32(next()).to_bits());
            Float::F16 { data: bits.collect(), columns }
        }
        FloatType::Bf16 => {
            let bits = (0..rows * columns).map(|_| (next().to_bits() >> 16) as u16);
            Float::Bf16 { data: bits.collect(), columns }
        }
    }
}

fn norm(rng: &mut SplitMix, width: usize, eps: f32, stored: FloatType) -> Norm {
    let gains = (0..width).map(|_| 1.0 + rng.unit() / 4.0).collect();
    Norm { gains, eps, stored }
}

fn linear(
    rng: &mut SplitMix,
    (outputs, inputs): (usize, usize),
    config: &Config,
    style: Style,
) -> Linear {
    let seed = rng.next_u64();
    let rows = TernaryRows::pack(outputs, inputs, |row, codes| {
        let mut rng = SplitMix(seed ^ (row as u64).wrapping_mul(0xd134_2543_de82_ef95));
        for chunk in codes.chunks_mut(16) {
            let mut bits = rng.next_u64();
            for code in chunk {
                // Of 16 patterns 5 are -1, 6 are 0 and 5 are +1.
                *code = [0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2][(bits & 15) as usize];
                bits >>= 4;
            }
        }
    });
    let stored = (1.0 / (inputs as f64).sqrt()) as f32;
    let stored = f32::from_bits(stored.to_bits() & 0xffff_0000);
    let scale = if style.divide { Scale::Divide(1.0 / stored) } else { Scale::Multiply(stored) };
    let (stored, layout) = (Some(StoredScale::One(FloatType::F32)), Layout::hf(outputs, inputs));
    Linear {
        weights: Weights::Ternary { rows: Arc::new(rows), scale, stored, layout, blocks: None },
        norm: style.inner_norms.then(|| norm(rng, inputs, config.eps, style.stored)),
        activations: config.activations,
    }
}

/// A random model of a shape.
///
/// # Panics
/// If the configuration does not hold together.
#[must_use]
pub fn random_model(config: &Config, style: Style, seed: u64) -> Model {
    config.check().expect("a valid configuration");
    let rng = &mut SplitMix(seed);
    let (h, q, kv, f) = (config.hidden, config.query_width(), config.kv_width(), config.ffn);
    let shape = |slot| match slot {
        Slot::Q => (q, h),
        Slot::K | Slot::V => (kv, h),
        Slot::O => (h, q),
        Slot::Gate | Slot::Up => (f, h),
        Slot::Down => (h, f),
    };
    let embedding = Arc::new(float(rng, config.vocabulary, h, style.stored));
    let heads = |rng: &mut SplitMix| {
        style.head_norms.then(|| norm(rng, config.head_dim, config.eps, style.stored))
    };
    let layers = (0..config.layers)
        .map(|_| Layer {
            input_norm: norm(rng, h, config.eps, style.stored),
            attention_sub_norm: style.sub_norms.then(|| norm(rng, q, config.eps, style.stored)),
            query_norm: heads(rng),
            key_norm: heads(rng),
            post_norm: norm(rng, h, config.eps, style.stored),
            ffn_sub_norm: style.sub_norms.then(|| norm(rng, f, config.eps, style.stored)),
            linears: Slot::ALL.map(|slot| linear(rng, shape(slot), config, style)),
        })
        .collect();
    let final_norm = norm(rng, h, config.eps, style.stored);
    let head = if config.tied {
        embedding.clone()
    } else {
        Arc::new(float(rng, config.vocabulary, h, style.stored))
    };
    let rope = Arc::new(Rope::of(config));
    Model {
        config: config.clone(),
        embedding,
        layers,
        elements: BTreeMap::new(),
        final_norm,
        head,
        coded_head: None,
        rope,
    }
}

/// A random model whose linear layers take turns in the kinds of weights that there are: ternary
/// under one scale, and integers of 1, 2, 4 and 8 bits under scales of rows or groups.
///
/// # Panics
/// If the configuration does not hold together, or has float activations.
#[must_use]
pub fn mixed_model(config: &Config, style: Style, seed: u64) -> Model {
    let mut model = random_model(config, style, seed);
    let rng = &mut SplitMix(!seed);
    for (index, layer) in model.layers.iter_mut().enumerate() {
        for slot in Slot::ALL {
            let linear = layer.linear_mut(slot);
            let shape = (linear.outputs(), linear.inputs());
            if let Some(coded) = coded(rng, shape, slot as usize + 3 * index) {
                linear.weights = Weights::Coded(Arc::new(coded));
            }
        }
    }
    model
}

/// Integers of the `kind`-th kind; `None` where it is that of ternary weights under one scale.
fn coded(rng: &mut SplitMix, (outputs, inputs): (usize, usize), kind: usize) -> Option<Coded> {
    let (name, codes): (_, &[i8]) = match kind % 7 {
        0 => return None,
        1 | 2 => ("ternary", &[-1, 0, 1]),
        3 => ("binary", &[-1, 1]),
        4 => ("2 bits", &[-1, 0, 1, 2]),
        5 => ("4 bits", &[-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7]),
        _ => ("8 bits", &[-128, -101, -77, -60, -31, -9, -1, 0, 2, 13, 50, 76, 92, 110, 127]),
    };
    let by_rows = matches!(kind % 7, 1 | 2 | 6);
    let group = if by_rows || !inputs.is_multiple_of(8) { inputs } else { 8 };
    let seed = rng.next_u64();
    let rows = CodedRows::pack((outputs, inputs), group, |row, out| {
        let mut rng = SplitMix(seed ^ (row as u64).wrapping_mul(0xd134_2543_de82_ef95));
        out.iter_mut().for_each(|code| *code = codes[rng.below(codes.len())]);
    });
    let largest = codes.iter().map(|code| i32::from(*code).abs()).max().unwrap_or(1);
    let size = (1.0 / ((inputs as f64).sqrt() * f64::from(largest))) as f32;
    let mut scale = || size * (1.5 + rng.unit());
    let scales = if by_rows {
        let of = |scale: f32| match kind % 7 {
            2 => Scale::Divide(1.0 / scale),
            _ => Scale::Multiply(scale),
        };
        Scales::Rows((0..outputs).map(|_| of(scale())).collect())
    } else {
        // Of either sign, as nothing forbids it.
        let sign = |index: usize| if index % 5 == 3 { -1.0 } else { 1.0 };
        let count = outputs * (inputs / group);
        Scales::Groups((0..count).map(|index| sign(index) * scale()).collect())
    };
    Some(Coded::new(name, rows, scales))
}

/// Random embeddings of `tokens` tokens, as a front end might give them.
#[must_use]
pub fn random_rows(tokens: usize, width: usize, seed: u64) -> ndarray::Array2<f32> {
    let mut rng = SplitMix(seed);
    ndarray::Array2::from_shape_simple_fn((tokens, width), || rng.unit() * 2.0)
}

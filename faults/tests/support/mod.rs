//! Small random models, and their physically flipped twins: an independent second way to a fault.
//!
//! Every integration test includes this file, and none uses all of it.
#![allow(dead_code, reason = "each test binary uses its own part")]
#![allow(unreachable_pub, reason = "a module of test binaries has no outside")]

use std::sync::Arc;

use engine::model::{
    Activations, Config, Float, FloatType, Gate, KvKind, Layer, Linear, Model, Norm, Rope, Scale,
    StoredScale, Weights,
};
use engine::packing::{Layout, TernaryRows};
use engine::walk::Read;
use faults::{Address, Mix, Plan, PlanFile, Target, UnusedCode};

/// A linear congruential generator: enough to fill weights, and the same everywhere.
pub struct Lcg(pub u64);

impl Lcg {
    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % n as u64) as usize
    }

    /// A number in [-1, 1].
    pub fn signed(&mut self) -> f32 {
        self.below(2001) as f32 / 1000.0 - 1.0
    }
}

/// What differs between the small models.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub hidden: usize,
    pub ffn: usize,
    pub layers: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub vocabulary: usize,
    pub gate: Gate,
    pub activations: Activations,
    pub sub_norms: bool,
    pub inner_norms: bool,
    pub tied: bool,
    pub divide: bool,
    pub stored: FloatType,
}

/// A shape for each number; each feature has its own period, so that they mix.
pub fn shape(index: usize) -> Shape {
    let mut rest = index;
    let mut pick = |n: usize| {
        let part = rest % n;
        rest /= n;
        part
    };
    let (tied, sub_norms, gate) = (pick(2) == 1, pick(2) == 0, pick(2));
    let (heads, kv_heads, head_dim) = [(4, 2, 6), (3, 3, 4), (4, 1, 8)][pick(3)];
    let (inner_norms, float) = (pick(2) == 1, pick(4) == 3);
    Shape {
        hidden: [24, 20, 36][index / 7 % 3],
        ffn: [40, 28][index / 11 % 2],
        layers: 1 + index / 5 % 3,
        heads,
        kv_heads,
        head_dim,
        vocabulary: 19,
        gate: if gate == 0 { Gate::Relu2 } else { Gate::Silu },
        activations: match (float, index % 6) {
            (true, _) => Activations::None,
            (_, 4) => Activations::PerTokenInt4,
            _ => Activations::PerTokenInt8,
        },
        sub_norms,
        inner_norms,
        tied,
        divide: index % 5 < 2,
        stored: [FloatType::Bf16, FloatType::F32, FloatType::F16][index / 13 % 3],
    }
}

/// A value of the stored type.
fn round(stored: FloatType, value: f32) -> f32 {
    match stored {
        FloatType::F32 => value,
        FloatType::Bf16 => f32::from_bits(value.to_bits() & 0xffff_0000),
        // Eleven significant bits; the values here are far from the ends of the range.
        FloatType::F16 => f32::from_bits(value.to_bits() & 0xffff_e000),
    }
}

fn norm(width: usize, stored: FloatType, random: &mut Lcg) -> Norm {
    let gains: Vec<f32> = (0..width).map(|_| round(stored, 1.0 + 0.3 * random.signed())).collect();
    Norm { gains: gains.into(), eps: 1e-5, stored }
}

fn matrix(rows: usize, columns: usize, stored: FloatType, random: &mut Lcg) -> Float {
    let data: Vec<f32> = (0..rows * columns).map(|_| round(stored, random.signed())).collect();
    match stored {
        FloatType::F32 => Float::F32 { data, columns },
        FloatType::Bf16 => {
            let data = data.iter().map(|v| (v.to_bits() >> 16) as u16).collect();
            Float::Bf16 { data, columns }
        }
        FloatType::F16 => {
            let data = data.iter().map(|&v| f16_bits(v)).collect();
            Float::F16 { data, columns }
        }
    }
}

/// The bits of a small f16 value, by its definition.
fn f16_bits(value: f32) -> u16 {
    let sign = if value < 0.0 { 0x8000 } else { 0 };
    let bits = value.abs().to_bits();
    if bits == 0 {
        return sign;
    }
    let exponent = (bits >> 23) as i32 - 127 + 15;
    assert!(exponent > 0 && bits & 0x1fff == 0, "{value} is a normal f16");
    sign | (exponent as u16) << 10 | ((bits >> 13) & 0x3ff) as u16
}

fn linear(outputs: usize, inputs: usize, shape: &Shape, random: &mut Lcg) -> Linear {
    let codes: Vec<u8> = (0..outputs * inputs).map(|_| random.below(3) as u8).collect();
    let rows = TernaryRows::pack(outputs, inputs, |row, out| {
        out.copy_from_slice(&codes[row * inputs..(row + 1) * inputs]);
    });
    let size = round(shape.stored, 0.25 + 0.2 * random.signed());
    let scale = if shape.divide {
        Scale::Divide(round(shape.stored, 1.0 / size))
    } else {
        Scale::Multiply(size)
    };
    let norm = shape.inner_norms.then(|| norm(inputs, shape.stored, random));
    Linear {
        weights: Weights::Ternary {
            rows: Arc::new(rows),
            scale,
            stored: Some(StoredScale::One(shape.stored)),
            layout: Layout::hf(outputs, inputs),
            blocks: None,
        },
        norm,
        activations: shape.activations,
    }
}

fn block(shape: &Shape, random: &mut Lcg) -> Layer {
    let (hidden, ffn) = (shape.hidden, shape.ffn);
    let (query, kv) = (shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim);
    let sizes = [
        (query, hidden),
        (kv, hidden),
        (kv, hidden),
        (hidden, query),
        (ffn, hidden),
        (ffn, hidden),
        (hidden, ffn),
    ];
    Layer {
        query_norm: None,
        key_norm: None,
        input_norm: norm(hidden, shape.stored, random),
        attention_sub_norm: shape.sub_norms.then(|| norm(query, shape.stored, random)),
        post_norm: norm(hidden, shape.stored, random),
        ffn_sub_norm: shape.sub_norms.then(|| norm(ffn, shape.stored, random)),
        linears: sizes.map(|(outputs, inputs)| linear(outputs, inputs, shape, random)),
    }
}

/// A random model of a shape.
pub fn model(shape: &Shape, seed: u64) -> Model {
    let random = &mut Lcg(seed ^ 0x9e37_79b9_7f4a_7c15);
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
        tied: shape.tied,
        end_tokens: vec![],
    };
    config.check().expect("a sound shape");
    let embedding = Arc::new(matrix(shape.vocabulary, shape.hidden, shape.stored, random));
    let head = if shape.tied {
        embedding.clone()
    } else {
        Arc::new(matrix(shape.vocabulary, shape.hidden, shape.stored, random))
    };
    Model {
        coded_head: None,
        embedding,
        layers: (0..shape.layers).map(|_| block(shape, random)).collect(),
        elements: Default::default(),
        final_norm: norm(shape.hidden, shape.stored, random),
        head,
        rope: Arc::new(Rope::new(shape.head_dim, 10_000.0, 64)),
        config,
    }
}

/// A campaign of 400 trials over the faults of a plan.
pub fn mix(faults: &str) -> Mix {
    let strata = PlanFile::parse(faults).expect("TOML").strata().expect("a sound plan");
    let plan = Plan {
        seed: 3,
        trials: 400,
        flips: 1,
        targets: vec![Target::WeightCode],
        unused: UnusedCode::Deployed,
        kv: KvKind::F32,
        confidence: 0.95,
        positions: Read::All,
        worst: 4,
    };
    Mix { plan, strata }
}

/// Random token ids.
pub fn prompt(vocabulary: usize, tokens: usize, random: &mut Lcg) -> Vec<u32> {
    (0..tokens).map(|_| random.below(vocabulary) as u32).collect()
}

/// Flips one bit where it lies in the model itself. Store bits lie elsewhere and are not accepted.
pub fn flip(model: &mut Model, address: &Address) {
    match *address {
        Address::Code { layer, slot, row, column, bit } => {
            flip_code(model.layers[layer].linear_mut(slot), row, column, bit);
        }
        Address::Scale { layer, slot, bit } => {
            let Weights::Ternary { scale, stored, .. } =
                &mut model.layers[layer].linear_mut(slot).weights
            else {
                panic!("no scale")
            };
            let Some(StoredScale::One(stored)) = *stored else { panic!("one stored scale") };
            *scale = scale.with(stored.flip(scale.stored(), bit));
        }
        Address::Norm { layer, slot, index, bit } => {
            flip_gain(model.layers[layer].norm_mut(slot).expect("a norm"), index, bit);
        }
        Address::FinalNorm { index, bit } => flip_gain(&mut model.final_norm, index, bit),
        Address::Embedding { row, column, bit } => {
            flip_entry(Arc::make_mut(&mut model.embedding), row, column, bit);
            if model.config.tied {
                model.head = model.embedding.clone();
            }
        }
        Address::Head { row, column, bit } => {
            flip_entry(Arc::make_mut(&mut model.head), row, column, bit);
        }
        Address::GroupScale { .. } | Address::Byte { .. } | Address::Element { .. } => {
            panic!("rows of these models have no scales, and their codes bits of their own")
        }
        Address::Kv { .. } | Address::KvScale { .. } => {
            panic!("the store is no part of the model")
        }
    }
}

fn flip_code(linear: &mut Linear, row: usize, column: usize, bit: u8) {
    let Weights::Ternary { rows, .. } = &mut linear.weights else { panic!("no codes") };
    let old = rows.clone();
    *rows = Arc::new(TernaryRows::pack(old.rows(), old.columns(), |index, out| {
        for (at, code) in out.iter_mut().enumerate() {
            *code = old.code(index, at);
            if (index, at) == (row, column) {
                *code ^= 1 << bit;
            }
        }
    }));
}

fn flip_gain(norm: &mut Norm, index: usize, bit: u8) {
    let mut gains = norm.gains.to_vec();
    gains[index] = norm.stored.flip(gains[index], bit);
    norm.gains = gains.into();
}

fn flip_entry(matrix: &mut Float, row: usize, column: usize, bit: u8) {
    match matrix {
        Float::F32 { data, columns } => {
            let value = &mut data[row * *columns + column];
            *value = f32::from_bits(value.to_bits() ^ 1 << bit);
        }
        Float::F16 { data, columns } | Float::Bf16 { data, columns } => {
            data[row * *columns + column] ^= 1 << bit;
        }
        Float::Blocks { .. } => panic!("no value of a block has bits of its own"),
    }
}

/// Whether two rows of floats have the same bits; all NaN count as one.
pub fn same(a: &ndarray::Array2<f32>, b: &ndarray::Array2<f32>) -> bool {
    let equal = |(x, y): (&f32, &f32)| x.to_bits() == y.to_bits() || (x.is_nan() && y.is_nan());
    a.dim() == b.dim() && a.iter().zip(b).all(equal)
}

/// Binomial probabilities of 0..=n by products alone.
pub fn binomial(n: usize, p: f64) -> Vec<f64> {
    let mut row = vec![1.0];
    for _ in 0..n {
        let mut next = vec![0.0; row.len() + 1];
        for (k, value) in row.iter().enumerate() {
            next[k] += value * (1.0 - p);
            next[k + 1] += value * p;
        }
        row = next;
    }
    row
}

//! What can be struck: how many bits each target has, and which number is which bit.
//!
//! | target | numbers count | in the order |
//! |---|---|---|
//! | `weight_code` | bits of codes | layer, linear layer, row, column, bit |
//! | | bits of bytes of trits | layer, linear layer, byte, bit |
//! | `weight_float` | bits of floats, and of elements that codes are made of | layer, linear layer, row, column, bit |
//! | `weight_scale` | bits of stored scales | layer, linear layer: of the tensor first; then row, block, bit |
//! | `norm` | bits of gains | layer, place, feature, bit; the final norm last |
//! | `embedding`, `lm_head` | bits of entries | row, column, bit; of blocks their scales last |
//! | `kv_*` | pairs (stored bit, step) | layer, key or value, token, step, head, dimension, bit |
//! | `kv_*_scale` | the same of scales | layer, key or value, token, step, head, bit |
//!
//! A bit of the key-value store is exposed at each step from that of its token to the last, so the
//! pairs are what chance strikes evenly; their number depends on the length of the prompt.
//!
//! Invariant: number -> address and address -> number are inverse to each other.

use std::ops::Range;

use engine::model::{KvKind, Model, NormSlot, Slot};

use crate::address::Address;
use crate::matrix::{Grid, Matrix};
use crate::region::{Region, Regions};
use crate::stores::{Stores, steps};

/// The kinds of bits that a campaign strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// Bits of the codes of weights.
    WeightCode,
    /// Bits of the stored scales of weights: of tensors, rows and blocks.
    WeightScale,
    /// Bits of the gains of norms.
    Norm,
    /// Bits of the embedding; where it is tied, they are bits of the head too.
    Embedding,
    /// Bits of an untied head.
    LmHead,
    /// Bits of the weights of linear layers that are stored as floats, or one to an element of
    /// which a code is made at load.
    WeightFloat,
    /// Bits of keys and values stored as f32.
    KvF32,
    /// Bits of keys and values stored as f16.
    KvF16,
    /// Bits of keys and values stored as int8 codes.
    KvInt8,
    /// Bits of keys and values stored as signs.
    KvOneBit,
    /// Bits of the scales beside int8 codes.
    KvInt8Scale,
    /// Bits of the scales beside signs.
    KvOneBitScale,
}

impl Target {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::WeightCode,
        Self::WeightScale,
        Self::Norm,
        Self::Embedding,
        Self::LmHead,
        Self::WeightFloat,
        Self::KvF32,
        Self::KvF16,
        Self::KvInt8,
        Self::KvOneBit,
        Self::KvInt8Scale,
        Self::KvOneBitScale,
    ];

    /// The name on the command line and in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::WeightCode => "weight_code",
            Self::WeightScale => "weight_scale",
            Self::Norm => "norm",
            Self::Embedding => "embedding",
            Self::LmHead => "lm_head",
            Self::WeightFloat => "weight_float",
            Self::KvF32 => "kv_f32",
            Self::KvF16 => "kv_f16",
            Self::KvInt8 => "kv_int8",
            Self::KvOneBit => "kv_1bit",
            Self::KvInt8Scale => "kv_int8_scale",
            Self::KvOneBitScale => "kv_1bit_scale",
        }
    }

    /// The target of a name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|target| target.name() == name)
    }

    /// The key-value store that the target lies in, if it lies in one.
    #[must_use]
    pub fn kv(self) -> Option<KvKind> {
        match self {
            Self::KvF32 => Some(KvKind::F32),
            Self::KvF16 => Some(KvKind::F16),
            Self::KvInt8 | Self::KvInt8Scale => Some(KvKind::Int8),
            Self::KvOneBit | Self::KvOneBitScale => Some(KvKind::OneBit),
            _ => None,
        }
    }

    /// Whether it is the scales beside the entries of a key-value store.
    #[must_use]
    pub fn is_kv_scale(self) -> bool {
        matches!(self, Self::KvInt8Scale | Self::KvOneBitScale)
    }

    /// The target that the scales of a kind of store are, if it has scales.
    #[must_use]
    pub fn of_kv_scale(kind: KvKind) -> Option<Self> {
        match kind {
            KvKind::F32 | KvKind::F16 => None,
            KvKind::Int8 => Some(Self::KvInt8Scale),
            KvKind::OneBit => Some(Self::KvOneBitScale),
        }
    }

    /// The target that the entries of a kind of store are.
    #[must_use]
    pub fn of_kv(kind: KvKind) -> Self {
        match kind {
            KvKind::F32 => Self::KvF32,
            KvKind::F16 => Self::KvF16,
            KvKind::Int8 => Self::KvInt8,
            KvKind::OneBit => Self::KvOneBit,
        }
    }
}

/// Targets that lie in no store.
const TABLES: usize = Target::WeightFloat as usize + 1;

/// A tensor that can be struck, or the keys or values of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// Its block; `None` for the embedding, the final norm and the head.
    pub layer: Option<usize>,
    /// Its name within the block, such as `mlp.down_proj` or `input_layernorm`; else its own:
    /// `norm`, `embed_tokens` or `lm_head`.
    pub name: String,
    /// The numbers of its faults.
    pub numbers: Range<u64>,
}

/// All bits of a model and of its key-value stores of one kind.
#[derive(Clone, Debug)]
pub struct Space {
    /// By target, in the order of [`Target::ALL`]; empty for stores, which depend on the prompt.
    tables: [Regions; TABLES],
    stores: Stores,
}

impl Space {
    /// The space of a model whose keys and values are stored in one kind.
    #[must_use]
    pub fn new(model: &Model, kv: KvKind) -> Self {
        let mut tables: [Regions; TABLES] = Default::default();
        let mut push = |target: Target, region: Region, size: u64| {
            tables[target as usize].push(region, size);
        };
        for (layer, block) in model.layers.iter().enumerate() {
            for slot in Slot::ALL {
                let linear = block.linear(slot);
                push_matrix(model, Matrix::Linear { layer, slot }, &mut push);
                if let Some((_, stored)) = linear.weights.tensor_scale() {
                    push(Target::WeightScale, Region::Scale { layer, slot }, stored.bits().into());
                }
                push_scales(model, Matrix::Linear { layer, slot }, &mut push);
                if let Some(elements) = model.elements.get(&(layer, slot)) {
                    let (columns, bits) = (linear.inputs(), elements.bits().into());
                    let size = linear.outputs() as u64 * columns as u64 * bits;
                    let region = Region::Elements { layer, slot, columns, bits };
                    push(Target::WeightFloat, region, size);
                }
            }
            for slot in NormSlot::of_layer() {
                if let Some(norm) = block.norm(slot) {
                    let bits = norm.stored.bits().into();
                    let size = norm.gains.len() as u64 * bits;
                    push(Target::Norm, Region::Norm { layer, slot, bits }, size);
                }
            }
        }
        let (layer, slot) = (model.layers.len(), NormSlot::Final);
        let bits = model.final_norm.stored.bits().into();
        let size = model.final_norm.gains.len() as u64 * bits;
        push(Target::Norm, Region::Norm { layer, slot, bits }, size);
        let head = (!model.config.tied).then_some(Matrix::Head);
        for matrix in [Some(Matrix::Embedding), head].into_iter().flatten() {
            push_matrix(model, matrix, &mut push);
            push_scales(model, matrix, &mut push);
        }
        let stores = Stores {
            kind: kv,
            layers: model.layers.len() as u64,
            heads: model.config.kv_heads as u64,
            dims: model.config.head_dim as u64,
        };
        Self { tables, stores }
    }

    /// How many faults a target has on a prompt of `tokens` tokens: bits, or for a store pairs of a
    /// bit and a step. 0 where the model has no such bits, or another kind of store.
    #[must_use]
    pub fn count(&self, target: Target, tokens: usize) -> u64 {
        match target.kv() {
            None => self.tables[target as usize].count(),
            Some(kind) if kind == self.stores.kind => {
                let bits = self.stores.token_bits(target.is_kv_scale());
                2 * self.stores.layers * steps(tokens as u64) * bits
            }
            Some(_) => 0,
        }
    }

    /// How many bits a target has: the number of distinct bits that one trial can flip.
    #[must_use]
    pub fn bits(&self, target: Target, tokens: usize) -> u64 {
        match target.kv() {
            None => self.count(target, tokens),
            Some(kind) if kind == self.stores.kind => {
                let bits = self.stores.token_bits(target.is_kv_scale());
                2 * self.stores.layers * tokens as u64 * bits
            }
            Some(_) => 0,
        }
    }

    /// The tensors that the numbers of a target run through, in their order. Keys and values of a
    /// layer count as one tensor each.
    #[must_use]
    pub fn tensors(&self, target: Target, tokens: usize) -> Vec<Tensor> {
        if target.kv().is_some() {
            let size = self.count(target, tokens) / (2 * self.stores.layers);
            let tensor = |index: u64| Tensor {
                layer: Some((index / 2) as usize),
                name: ["key", "value"][(index % 2) as usize].into(),
                numbers: index * size..(index + 1) * size,
            };
            let all = if size == 0 { 0 } else { 2 * self.stores.layers };
            return (0..all).map(tensor).collect();
        }
        let named = |(region, numbers): (&Region, Range<u64>)| region.tensor(numbers);
        self.tables[target as usize].ranges().map(named).collect()
    }

    /// The address of a number.
    ///
    /// # Panics
    /// Unless the number is below [`Self::count`].
    #[must_use]
    pub fn address(&self, target: Target, tokens: usize, number: u64) -> Address {
        assert!(number < self.count(target, tokens), "{number} is not a fault of {target:?}");
        if target.kv().is_some() {
            return self.stores.address(target.is_kv_scale(), tokens as u64, number);
        }
        self.tables[target as usize].address(number)
    }

    /// The target and the number of an address; `None` if it does not lie in the space.
    #[must_use]
    pub fn number(&self, tokens: usize, address: &Address) -> Option<(Target, u64)> {
        address.targets(self.stores.kind).iter().find_map(|&target| {
            let number = if target.kv().is_some() {
                self.stores.number(tokens as u64, address)
            } else {
                self.tables[target as usize].number(address)
            };
            Some((target, number?))
        })
    }
}

/// The weights, or values, of a matrix: codes, floats, or bytes of trits.
fn push_matrix(model: &Model, matrix: Matrix, push: &mut impl FnMut(Target, Region, u64)) {
    let (rows, columns) = matrix.size(model);
    let grid = matrix.grid(model);
    let target = match (matrix, grid) {
        (Matrix::Embedding, _) => Target::Embedding,
        (Matrix::Head, _) => Target::LmHead,
        (Matrix::Linear { .. }, Grid::Floats(_)) => Target::WeightFloat,
        (Matrix::Linear { .. }, _) => Target::WeightCode,
    };
    let bits = grid.code_bits().into();
    if bits > 0 {
        let size = rows as u64 * columns as u64 * bits;
        push(target, Region::Values { matrix, columns, bits }, size);
    }
    if let Some(shape) = grid.trits() {
        let (trits, block) = (shape.kind.trit_bytes(), shape.kind.bytes());
        let size = 8 * (shape.bytes() / block * trits) as u64;
        push(target, Region::Trits { matrix, trits, block }, size);
    }
}

/// The scales of the rows or blocks of a matrix.
fn push_scales(model: &Model, matrix: Matrix, push: &mut impl FnMut(Target, Region, u64)) {
    let (rows, groups, bits) = matrix.grid(model).scales();
    if groups == 0 {
        return;
    }
    let target = match matrix {
        Matrix::Embedding => Target::Embedding,
        Matrix::Head => Target::LmHead,
        Matrix::Linear { .. } => Target::WeightScale,
    };
    let bits = bits.into();
    let size = rows as u64 * groups as u64 * bits;
    push(target, Region::Scales { matrix, groups, bits }, size);
}

//! What can be struck: how many bits each target has, and which number is which bit.
//!
//! | target | numbers count | in the order |
//! |---|---|---|
//! | `weight_code` | bits of 2-bit codes | layer, linear layer, row, column, bit |
//! | `weight_scale` | bits of stored scales | layer, linear layer, bit |
//! | `norm` | bits of gains | layer, place, feature, bit; the final norm last |
//! | `embedding`, `lm_head` | bits of entries | row, column, bit |
//! | `kv_*` | pairs (stored bit, step) | layer, key or value, token, step, head, dimension, bit |
//!
//! A bit of the key-value store is exposed at each step from that of its token to the last, so the
//! pairs are what chance strikes evenly; their number depends on the length of the prompt.
//!
//! Invariant: number -> address and address -> number are inverse to each other.

use std::ops::Range;

use engine::model::{Float, KvKind, Model, NormSlot, Slot, Weights};

use crate::address::{Address, has_codes};
use crate::print::norm_name;
use crate::stores::{Stores, steps};

/// The kinds of bits that a campaign strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// Bits of the 2-bit codes of ternary weights.
    WeightCode,
    /// Bits of the stored scales of ternary tensors.
    WeightScale,
    /// Bits of the gains of norms.
    Norm,
    /// Bits of the embedding; where it is tied, they are bits of the head too.
    Embedding,
    /// Bits of an untied head.
    LmHead,
    /// Bits of keys and values stored as f32.
    KvF32,
    /// Bits of keys and values stored as f16.
    KvF16,
    /// Bits of keys and values stored as int8 codes.
    KvInt8,
    /// Bits of keys and values stored as signs.
    KvOneBit,
}

impl Target {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::WeightCode,
        Self::WeightScale,
        Self::Norm,
        Self::Embedding,
        Self::LmHead,
        Self::KvF32,
        Self::KvF16,
        Self::KvInt8,
        Self::KvOneBit,
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
            Self::KvF32 => "kv_f32",
            Self::KvF16 => "kv_f16",
            Self::KvInt8 => "kv_int8",
            Self::KvOneBit => "kv_1bit",
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
            Self::KvInt8 => Some(KvKind::Int8),
            Self::KvOneBit => Some(KvKind::OneBit),
            _ => None,
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

/// A run of consecutive numbers that lie in one tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Region {
    Codes { layer: usize, slot: Slot, columns: usize },
    Scale { layer: usize, slot: Slot },
    Norm { layer: usize, slot: NormSlot, bits: u64 },
    Embedding { columns: usize, bits: u64 },
    Head { columns: usize, bits: u64 },
}

/// The regions of one target; the first number of each, and behind them the count of all.
#[derive(Clone, Debug, Default)]
struct Regions {
    starts: Vec<u64>,
    regions: Vec<Region>,
    end: u64,
}

impl Regions {
    fn push(&mut self, region: Region, size: u64) {
        self.starts.push(self.end);
        self.regions.push(region);
        self.end += size;
    }
}

/// All bits of a model and of its key-value stores of one kind.
#[derive(Clone, Debug)]
pub struct Space {
    /// By target, in the order of [`Target::ALL`]; empty for stores, which depend on the prompt.
    tables: [Regions; 5],
    stores: Stores,
}

impl Space {
    /// The space of a model whose keys and values are stored in one kind.
    #[must_use]
    pub fn new(model: &Model, kv: KvKind) -> Self {
        let mut tables: [Regions; 5] = Default::default();
        for (layer, block) in model.layers.iter().enumerate() {
            for slot in Slot::ALL {
                let linear = block.linear(slot);
                let Weights::Ternary { rows, stored, .. } = &linear.weights else { continue };
                let columns = rows.columns();
                if has_codes(&linear.weights) {
                    let size = 2 * rows.rows() as u64 * columns as u64;
                    tables[0].push(Region::Codes { layer, slot, columns }, size);
                }
                if let Some(stored) = stored {
                    tables[1].push(Region::Scale { layer, slot }, stored.bits().into());
                }
            }
            for slot in NormSlot::of_layer() {
                if let Some(norm) = block.norm(slot) {
                    push_norm(&mut tables[2], layer, slot, norm);
                }
            }
        }
        push_norm(&mut tables[2], model.layers.len(), NormSlot::Final, &model.final_norm);
        let size = |matrix: &Float, bits| matrix.rows() as u64 * matrix.columns() as u64 * bits;
        let floats = model.coded_head.is_none();
        let stored = model.embedding.stored();
        if let Some(stored) = stored.filter(|_| floats || !model.config.tied) {
            let (columns, bits) = (model.embedding.columns(), stored.bits().into());
            tables[3].push(Region::Embedding { columns, bits }, size(&model.embedding, bits));
        }
        if let Some(stored) = model.head.stored().filter(|_| floats && !model.config.tied) {
            let (columns, bits) = (model.head.columns(), stored.bits().into());
            tables[4].push(Region::Head { columns, bits }, size(&model.head, bits));
        }
        let stores = Stores {
            kind: kv,
            layers: model.layers.len() as u64,
            heads: model.config.kv_heads as u64,
            dims: model.config.head_dim as u64,
            bits: kv.entry_bits().into(),
        };
        Self { tables, stores }
    }

    /// How many faults a target has on a prompt of `tokens` tokens: bits, or for a store pairs of a
    /// bit and a step. 0 where the model has no such bits, or another kind of store.
    #[must_use]
    pub fn count(&self, target: Target, tokens: usize) -> u64 {
        match target.kv() {
            None => self.tables[target as usize].end,
            Some(kind) if kind == self.stores.kind => {
                2 * self.stores.layers * steps(tokens as u64) * self.stores.entry_bits()
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
                2 * self.stores.layers * tokens as u64 * self.stores.entry_bits()
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
        let table = &self.tables[target as usize];
        let ends = table.starts.iter().skip(1).chain([&table.end]);
        let ranges = table.starts.iter().zip(ends).map(|(&start, &end)| start..end);
        let tensors = table.regions.iter().zip(ranges);
        tensors.map(|(region, numbers)| region.tensor(numbers)).collect()
    }

    /// The address of a number.
    ///
    /// # Panics
    /// Unless the number is below [`Self::count`].
    #[must_use]
    pub fn address(&self, target: Target, tokens: usize, number: u64) -> Address {
        assert!(number < self.count(target, tokens), "{number} is not a fault of {target:?}");
        if target.kv().is_some() {
            return self.stores.address(tokens as u64, number);
        }
        let table = &self.tables[target as usize];
        let index = table.starts.partition_point(|&start| start <= number) - 1;
        table.regions[index].address(number - table.starts[index])
    }

    /// The target and the number of an address; `None` if it does not lie in the space.
    #[must_use]
    pub fn number(&self, tokens: usize, address: &Address) -> Option<(Target, u64)> {
        let target = address.target(self.stores.kind);
        if target.kv().is_some() {
            return self.stores.number(tokens as u64, address).map(|number| (target, number));
        }
        let table = &self.tables[target as usize];
        let ends = table.starts.iter().skip(1).chain([&table.end]);
        let mut regions = table.regions.iter().zip(table.starts.iter().zip(ends));
        regions.find_map(|(region, (start, end))| {
            let number = start.checked_add(region.offset(address)?)?;
            (number < *end).then_some((target, number))
        })
    }
}

fn push_norm(table: &mut Regions, layer: usize, slot: NormSlot, norm: &engine::model::Norm) {
    let bits = norm.stored.bits().into();
    table.push(Region::Norm { layer, slot, bits }, norm.gains.len() as u64 * bits);
}

/// `row * columns + column`, if the column lies in the row.
fn flat(row: usize, column: usize, columns: usize) -> Option<u64> {
    if column >= columns {
        return None;
    }
    (row as u64).checked_mul(columns as u64)?.checked_add(column as u64)
}

/// `index * bits + bit`, if the bit lies in the entry.
fn entry(index: u64, bit: u8, bits: u64) -> Option<u64> {
    (u64::from(bit) < bits).then(|| index.checked_mul(bits)?.checked_add(bit.into())).flatten()
}

impl Region {
    fn tensor(&self, numbers: Range<u64>) -> Tensor {
        let (layer, name) = match *self {
            Self::Codes { layer, slot, .. } | Self::Scale { layer, slot } => {
                (Some(layer), slot.name().into())
            }
            Self::Norm { slot: NormSlot::Final, .. } => (None, norm_name(NormSlot::Final)),
            Self::Norm { layer, slot, .. } => (Some(layer), norm_name(slot)),
            Self::Embedding { .. } => (None, "embed_tokens".into()),
            Self::Head { .. } => (None, "lm_head".into()),
        };
        Tensor { layer, name, numbers }
    }

    fn address(&self, offset: u64) -> Address {
        let split = |bits: u64| ((offset / bits) as usize, (offset % bits) as u8);
        match *self {
            Self::Codes { layer, slot, columns } => {
                let (index, bit) = split(2);
                Address::Code { layer, slot, row: index / columns, column: index % columns, bit }
            }
            Self::Scale { layer, slot } => Address::Scale { layer, slot, bit: offset as u8 },
            Self::Norm { slot: NormSlot::Final, bits, .. } => {
                let (index, bit) = split(bits);
                Address::FinalNorm { index, bit }
            }
            Self::Norm { layer, slot, bits } => {
                let (index, bit) = split(bits);
                Address::Norm { layer, slot, index, bit }
            }
            Self::Embedding { columns, bits } => {
                let (index, bit) = split(bits);
                Address::Embedding { row: index / columns, column: index % columns, bit }
            }
            Self::Head { columns, bits } => {
                let (index, bit) = split(bits);
                Address::Head { row: index / columns, column: index % columns, bit }
            }
        }
    }

    /// The offset of an address, if it is of this tensor; the caller compares it with the size.
    fn offset(&self, address: &Address) -> Option<u64> {
        match (*self, *address) {
            (
                Self::Codes { layer, slot, columns },
                Address::Code { layer: l, slot: s, row, column, bit },
            ) if (l, s) == (layer, slot) => entry(flat(row, column, columns)?, bit, 2),
            (Self::Scale { layer, slot }, Address::Scale { layer: l, slot: s, bit })
                if (l, s) == (layer, slot) =>
            {
                Some(bit.into())
            }
            (Self::Norm { slot: NormSlot::Final, bits, .. }, Address::FinalNorm { index, bit }) => {
                entry(index as u64, bit, bits)
            }
            (Self::Norm { layer, slot, bits }, Address::Norm { layer: l, slot: s, index, bit })
                if (l, s) == (layer, slot) && slot != NormSlot::Final =>
            {
                entry(index as u64, bit, bits)
            }
            (Self::Embedding { columns, bits }, Address::Embedding { row, column, bit })
            | (Self::Head { columns, bits }, Address::Head { row, column, bit }) => {
                entry(flat(row, column, columns)?, bit, bits)
            }
            _ => None,
        }
    }
}

//! Where bits lie: the stored bits of a tensor as one line, in the order of its bytes in the file,
//! the lowest bit of a byte first.
//!
//! | tensor | line |
//! |---|---|
//! | 2-bit codes | the layout of the file, such as four quarter planes of rows in one byte |
//! | blocks | block by block, the scales between the codes |
//! | scales, norms, floats, elements | value by value, little-endian |
//! | keys or values of a layer | token, head, dimension, bit; up to the token of the step |
//! | their scales | token, head, bit; likewise |
//!
//! Invariant: [`Image::place`] and [`Image::address`] are inverse to each other.

use std::cell::RefCell;

use engine::model::{KvKind, KvPlace, Model, NormSlot, Side, Slot};
use engine::packing::{BitPlace, BlockShape, Layout};

use super::holds;
use crate::address::Address;
use crate::matrix::{Grid, Matrix};

/// The stored bits of one tensor, or of the keys or values of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Image {
    kind: Kind,
    bits: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Codes { matrix: Matrix, layout: Layout },
    Blocks { matrix: Matrix, shape: BlockShape },
    Floats { matrix: Matrix, columns: u64, width: u64 },
    RowScales { matrix: Matrix, width: u64 },
    Scale { layer: usize, slot: Slot },
    Elements { layer: usize, slot: Slot, columns: u64, width: u64 },
    Norm { layer: usize, slot: NormSlot, width: u64 },
    FinalNorm { width: u64 },
    StoreScales { layer: usize, side: Side, heads: u64, width: u64, step: usize },
    Store { layer: usize, side: Side, heads: u64, dims: u64, width: u64, step: usize },
}

impl Image {
    /// The tensor that a bit lies in; `None` if its codes are not held in the layout of the file.
    ///
    /// # Panics
    /// If the bit does not exist; see [`Address::check`].
    #[must_use]
    pub fn of(model: &Model, kv: KvKind, address: &Address) -> Option<Self> {
        let (kind, bits) = match *address {
            Address::Code { .. }
            | Address::Embedding { .. }
            | Address::Head { .. }
            | Address::Byte { .. } => {
                return Self::of_matrix(model, address.matrix().expect("a bit of a matrix"));
            }
            Address::GroupScale { matrix, .. } => match matrix.grid(model) {
                Grid::Blocks { .. } => return Self::of_matrix(model, matrix),
                grid => {
                    let (rows, _, bits) = grid.scales();
                    let width = u64::from(bits);
                    (Kind::RowScales { matrix, width }, rows as u64 * width)
                }
            },
            Address::Scale { layer, slot, .. } => {
                let scale = model.layers[layer].linear(slot).weights.tensor_scale();
                let (_, stored) = scale.expect("the address of a scale was checked");
                (Kind::Scale { layer, slot }, stored.bits().into())
            }
            Address::Element { layer, slot, .. } => {
                let (rows, columns) = Matrix::Linear { layer, slot }.size(model);
                let width = u64::from(model.elements[&(layer, slot)].bits());
                let columns = columns as u64;
                (Kind::Elements { layer, slot, columns, width }, rows as u64 * columns * width)
            }
            Address::Norm { layer, slot, .. } => {
                let norm = model.layers[layer].norm(slot).expect("a checked norm");
                let width = u64::from(norm.stored.bits());
                (Kind::Norm { layer, slot, width }, norm.gains.len() as u64 * width)
            }
            Address::FinalNorm { .. } => {
                let width = u64::from(model.final_norm.stored.bits());
                (Kind::FinalNorm { width }, model.final_norm.gains.len() as u64 * width)
            }
            Address::Kv { layer, side, step, .. } => {
                let (heads, dims) = (model.config.kv_heads as u64, model.config.head_dim as u64);
                let width = u64::from(kv.entry_bits());
                let bits = (step as u64 + 1) * heads * dims * width;
                (Kind::Store { layer, side, heads, dims, width, step }, bits)
            }
            Address::KvScale { layer, side, step, .. } => {
                let (heads, width) = (model.config.kv_heads as u64, u64::from(kv.scale_bits()));
                let bits = (step as u64 + 1) * heads * width;
                (Kind::StoreScales { layer, side, heads, width, step }, bits)
            }
        };
        Some(Self { kind, bits })
    }

    /// The weights of a matrix; `None` if they are not held in the layout of a file.
    fn of_matrix(model: &Model, matrix: Matrix) -> Option<Self> {
        let (rows, columns) = matrix.size(model);
        match matrix.grid(model) {
            Grid::Codes { layout, .. } => {
                let layout = layout.filter(Layout::is_flat)?;
                let bits = 8 * layout.bytes() as u64;
                Some(Self { kind: Kind::Codes { matrix, layout }, bits })
            }
            Grid::Blocks { shape } => {
                let bits = 8 * shape.bytes() as u64;
                Some(Self { kind: Kind::Blocks { matrix, shape }, bits })
            }
            Grid::Floats(stored) => {
                let (columns, width) = (columns as u64, u64::from(stored.bits()));
                let bits = rows as u64 * columns * width;
                Some(Self { kind: Kind::Floats { matrix, columns, width }, bits })
            }
            Grid::Made => None,
        }
    }

    /// The bytes of a layer from which words of a memory code are cut: codes, or blocks with their
    /// scales. `None` if they are not held in the layout of a file, or are floats.
    pub(crate) fn of_words(model: &Model, layer: usize, slot: Slot) -> Option<Self> {
        let matrix = Matrix::Linear { layer, slot };
        match matrix.grid(model) {
            Grid::Codes { .. } | Grid::Blocks { .. } => Self::of_matrix(model, matrix),
            Grid::Floats(_) | Grid::Made => None,
        }
    }

    /// Whether bits are set before a fault. Of blocks it keeps the bytes of the last row, since the
    /// bits of a word lie behind one another.
    pub(crate) fn reader<'a>(&'a self, model: &'a Model) -> impl Fn(u64) -> bool + 'a {
        let last = RefCell::new((usize::MAX, Vec::new()));
        move |place| {
            let Kind::Blocks { matrix, shape } = self.kind else {
                return holds(model, &self.address(place));
            };
            let (byte, bit) = ((place / 8) as usize, (place % 8) as u8);
            let (row, at) = shape.in_row(BitPlace { byte, bit });
            let mut last = last.borrow_mut();
            if last.0 != row {
                *last = (row, matrix.block_row(model, row));
            }
            last.1[at.byte] >> at.bit & 1 == 1
        }
    }

    /// How many bits it has.
    #[must_use]
    pub fn bits(&self) -> u64 {
        self.bits
    }

    /// The place of a bit of this tensor.
    ///
    /// # Panics
    /// If the bit is of another kind of tensor.
    #[must_use]
    pub fn place(&self, address: &Address) -> u64 {
        match (self.kind, *address) {
            (Kind::Codes { layout, .. }, Address::Code { row, column, bit, .. }) => {
                let BitPlace { byte, bit } =
                    layout.locate(row, column, bit).expect("a code of its own bits");
                8 * byte as u64 + u64::from(bit)
            }
            (Kind::Scale { .. }, Address::Scale { bit, .. }) => bit.into(),
            (Kind::Norm { width, .. }, Address::Norm { index, bit, .. })
            | (Kind::FinalNorm { width }, Address::FinalNorm { index, bit }) => {
                index as u64 * width + u64::from(bit)
            }
            (
                Kind::Floats { columns, width, .. },
                Address::Code { row, column, bit, .. }
                | Address::Embedding { row, column, bit }
                | Address::Head { row, column, bit },
            ) => (row as u64 * columns + column as u64) * width + u64::from(bit),
            (Kind::Elements { columns, width, .. }, Address::Element { row, column, bit, .. }) => {
                (row as u64 * columns + column as u64) * width + u64::from(bit)
            }
            (
                Kind::Blocks { shape, .. },
                Address::Code { .. }
                | Address::Embedding { .. }
                | Address::Head { .. }
                | Address::GroupScale { .. }
                | Address::Byte { .. },
            ) => {
                let (row, place) = address.in_row(&shape);
                let place = shape.in_tensor(row, place);
                8 * place.byte as u64 + u64::from(place.bit)
            }
            (Kind::RowScales { width, .. }, Address::GroupScale { row, bit, .. }) => {
                row as u64 * width + u64::from(bit)
            }
            (Kind::StoreScales { heads, width, .. }, Address::KvScale { token, head, bit, .. }) => {
                (token as u64 * heads + head as u64) * width + u64::from(bit)
            }
            (Kind::Store { heads, dims, width, .. }, Address::Kv { place, bit, .. }) => {
                let entry = (place.token as u64 * heads + place.head as u64) * dims;
                (entry + place.dim as u64) * width + u64::from(bit)
            }
            _ => panic!("{address} does not lie in this tensor"),
        }
    }

    /// The bit at a place.
    ///
    /// # Panics
    /// Unless the place is below [`Self::bits`].
    #[must_use]
    pub fn address(&self, place: u64) -> Address {
        assert!(place < self.bits, "{place} is no place of this tensor");
        let split = |width: u64| ((place / width) as usize, (place % width) as u8);
        match self.kind {
            Kind::Codes { matrix, layout } => {
                let (byte, bit) = split(8);
                let (row, column, bit) =
                    layout.invert(BitPlace { byte, bit }).expect("only codes in a flat layout");
                Address::of_value(matrix, row, column, bit)
            }
            Kind::Blocks { matrix, shape } => {
                let (byte, bit) = split(8);
                Address::of_blocks(matrix, &shape, BitPlace { byte, bit })
            }
            Kind::Floats { matrix, columns, width } => {
                let ((index, bit), columns) = (split(width), columns as usize);
                Address::of_value(matrix, index / columns, index % columns, bit)
            }
            Kind::Elements { layer, slot, columns, width } => {
                let ((index, bit), columns) = (split(width), columns as usize);
                let (row, column) = (index / columns, index % columns);
                Address::Element { layer, slot, row, column, bit }
            }
            Kind::RowScales { matrix, width } => {
                let (row, bit) = split(width);
                Address::GroupScale { matrix, row, group: 0, bit }
            }
            Kind::StoreScales { layer, side, heads, width, step } => {
                let ((index, bit), heads) = (split(width), heads as usize);
                let (token, head) = (index / heads, index % heads);
                Address::KvScale { layer, side, token, head, bit, step }
            }
            Kind::Scale { layer, slot } => Address::Scale { layer, slot, bit: place as u8 },
            Kind::Norm { layer, slot, width } => {
                let (index, bit) = split(width);
                Address::Norm { layer, slot, index, bit }
            }
            Kind::FinalNorm { width } => {
                let (index, bit) = split(width);
                Address::FinalNorm { index, bit }
            }
            Kind::Store { layer, side, heads, dims, width, step } => {
                let (index, bit) = split(width);
                let (heads, dims) = (heads as usize, dims as usize);
                let place = KvPlace {
                    token: index / dims / heads,
                    head: index / dims % heads,
                    dim: index % dims,
                };
                Address::Kv { layer, side, place, bit, step }
            }
        }
    }
}

//! Whether a bit exists: in a model, in its store after some tokens, and at a place of its file.

use engine::model::{KvKind, Model, Norm, Weights};
use engine::packing::{BitPlace, BlockShape, Layout, Part};

use crate::address::{Address, AddressError, PhysicalAddress};
use crate::matrix::{Grid, Matrix};

const MADE: &str = "the weights of this layer are codes that are made at load, no bits of a file";
const TRITS: &str = "five trits share a byte here; name a bit of one, as in ...weight@0x1a.5";
const OWN: &str = "this bit has a name by its row, and needs no number of its byte";
const NO_TRITS: &str = "only bytes of trits are named so; these bits have rows and columns";
const NO_SCALE: &str = "the scale of this layer has no bits of its own in the file";
const NO_SCALES: &str = "the rows of this matrix have no scales of their own";
const NO_NORM: &str = "the model has no norm at this place";
const TIED: &str = "head and embedding are one tensor; name it model.embed_tokens.weight";
const NO_QUARTERS: &str = "the packed layout needs a number of rows that four divides";
const NO_KV_SCALE: &str = "keys and values are stored as floats, which have no scale";
const NO_ELEMENTS: &str =
    "its codes are those of the file, or what they were made of at load was not kept";
const NO_BYTES: &str = "the values of this tensor are named by their rows and columns";

impl Address {
    /// Checks that the bit exists in a model, and in its store after `tokens` tokens.
    ///
    /// # Errors
    /// What does not exist, and why.
    pub fn check(&self, model: &Model, kv: KvKind, tokens: usize) -> Result<(), AddressError> {
        match *self {
            Self::Code { layer, slot, row, column, bit } => {
                self.value(model, Matrix::Linear { layer, slot }, (row, column, bit))
            }
            Self::Embedding { row, column, bit } => {
                self.value(model, Matrix::Embedding, (row, column, bit))
            }
            Self::Head { row, column, bit } => self.value(model, Matrix::Head, (row, column, bit)),
            Self::Scale { layer, slot, bit } => {
                self.below("layer", layer, model.layers.len())?;
                let weights = &model.layers[layer].linear(slot).weights;
                let absent = || self.absent(why_no_scale(weights));
                let (_, stored) = weights.tensor_scale().ok_or_else(absent)?;
                self.below("bit", bit.into(), stored.bits().into())
            }
            Self::Element { layer, slot, row, column, bit } => {
                self.below("layer", layer, model.layers.len())?;
                let found = model.elements.get(&(layer, slot));
                let elements = found.ok_or_else(|| self.absent(NO_ELEMENTS))?;
                let (rows, columns) = Matrix::Linear { layer, slot }.size(model);
                self.below("row", row, rows)?;
                self.below("column", column, columns)?;
                self.below("bit", bit.into(), elements.bits().into())
            }
            Self::GroupScale { matrix, row, group, bit } => {
                let grid = self.grid(model, matrix)?;
                let (rows, groups, bits) = grid.scales();
                if groups == 0 {
                    return Err(self.absent(if grid == Grid::Made { MADE } else { NO_SCALES }));
                }
                self.below("row", row, rows)?;
                self.below("group", group, groups)?;
                self.below("bit", bit.into(), bits.into())
            }
            Self::Byte { matrix, byte, bit } => {
                let shape = self.grid(model, matrix)?.trits();
                let shape = shape.ok_or_else(|| self.absent(NO_TRITS))?;
                self.below("byte", byte, shape.bytes())?;
                self.below("bit", bit.into(), 8)?;
                let trits = byte % shape.kind.bytes() < shape.kind.trit_bytes();
                if trits { Ok(()) } else { Err(self.absent(OWN)) }
            }
            Self::Norm { layer, slot, index, bit } => {
                self.below("layer", layer, model.layers.len())?;
                let norm = model.layers[layer].norm(slot).ok_or_else(|| self.absent(NO_NORM))?;
                self.gain(norm, index, bit)
            }
            Self::FinalNorm { index, bit } => self.gain(&model.final_norm, index, bit),
            Self::Kv { layer, place, bit, step, .. } => {
                self.stored(model, (layer, place.head), (place.token, step, tokens))?;
                self.below("dim", place.dim, model.config.head_dim)?;
                self.below("bit", bit.into(), kv.entry_bits().into())
            }
            Self::KvScale { layer, token, head, bit, step, .. } => {
                if kv.scale_bits() == 0 {
                    return Err(self.absent(NO_KV_SCALE));
                }
                self.stored(model, (layer, head), (token, step, tokens))?;
                self.below("bit", bit.into(), kv.scale_bits().into())
            }
        }
    }

    fn stored(
        &self,
        model: &Model,
        (layer, head): (usize, usize),
        (token, step, tokens): (usize, usize, usize),
    ) -> Result<(), AddressError> {
        self.below("layer", layer, model.layers.len())?;
        self.below("head", head, model.config.kv_heads)?;
        self.below("step", step, tokens)?;
        self.below("token", token, step + 1)
    }

    /// How a matrix is stored that the model has, and reads as it is stored.
    fn grid(&self, model: &Model, matrix: Matrix) -> Result<Grid, AddressError> {
        match matrix {
            Matrix::Linear { layer, .. } => self.below("layer", layer, model.layers.len())?,
            Matrix::Head if model.config.tied => return Err(self.absent(TIED)),
            Matrix::Head | Matrix::Embedding => {}
        }
        Ok(matrix.grid(model))
    }

    fn value(
        &self,
        model: &Model,
        matrix: Matrix,
        (row, column, bit): (usize, usize, u8),
    ) -> Result<(), AddressError> {
        let grid = self.grid(model, matrix)?;
        match grid {
            Grid::Made => return Err(self.absent(MADE)),
            _ if grid.code_bits() == 0 => return Err(self.absent(TRITS)),
            _ => {}
        }
        let (rows, columns) = matrix.size(model);
        self.below("row", row, rows)?;
        self.below("column", column, columns)?;
        self.below("bit", bit.into(), grid.code_bits().into())
    }

    /// The byte and bit of the tensor at which it stands; `None` for bits that are named by their
    /// values alone.
    ///
    /// # Errors
    /// If the bit does not exist, or the layout does not hold such a shape.
    pub fn physical(&self, model: &Model) -> Result<Option<PhysicalAddress>, AddressError> {
        let Some(matrix) = self.matrix() else { return Ok(None) };
        self.check(model, KvKind::F32, 0)?;
        let at = |place| Ok(Some(PhysicalAddress { matrix, place }));
        match (matrix.grid(model), *self) {
            (Grid::Blocks { shape }, _) => {
                let (row, place) = self.in_row(&shape);
                at(shape.in_tensor(row, place))
            }
            (Grid::Codes { layout, .. }, Self::Code { row, column, bit, .. }) => {
                let layout: Layout = layout.ok_or_else(|| self.absent(NO_QUARTERS))?;
                at(layout.locate(row, column, bit).ok_or_else(|| self.absent(MADE))?)
            }
            _ => Ok(None),
        }
    }

    /// The matrix that the bit is of: of a weight or value, of trits, or of a scale of a row.
    pub(crate) fn matrix(&self) -> Option<Matrix> {
        match *self {
            Self::Code { layer, slot, .. } => Some(Matrix::Linear { layer, slot }),
            Self::Embedding { .. } => Some(Matrix::Embedding),
            Self::Head { .. } => Some(Matrix::Head),
            Self::GroupScale { matrix, .. } | Self::Byte { matrix, .. } => Some(matrix),
            _ => None,
        }
    }

    /// The row of blocks in which a bit stands, and where in it.
    ///
    /// # Panics
    /// If it is no bit of such a row.
    pub(crate) fn in_row(&self, shape: &BlockShape) -> (usize, BitPlace) {
        match *self {
            Self::Code { row, column, bit, .. }
            | Self::Embedding { row, column, bit, .. }
            | Self::Head { row, column, bit, .. } => (row, shape.code(column, bit)),
            Self::GroupScale { row, group, bit, .. } => (row, shape.scale(group, bit)),
            Self::Byte { byte, bit, .. } => shape.in_row(BitPlace { byte, bit }),
            _ => panic!("{self} is in no row of blocks"),
        }
    }

    /// The bit at a place of a matrix of blocks.
    pub(crate) fn of_blocks(matrix: Matrix, shape: &BlockShape, place: BitPlace) -> Self {
        let (row, within) = shape.in_row(place);
        match shape.part(within) {
            Part::Code { index: column, bit } => Self::of_value(matrix, row, column, bit),
            Part::Scale { group, bit } => Self::GroupScale { matrix, row, group, bit },
            Part::Trits => Self::Byte { matrix, byte: place.byte, bit: place.bit },
        }
    }

    /// The bit of an entry of a matrix.
    pub(crate) fn of_value(matrix: Matrix, row: usize, column: usize, bit: u8) -> Self {
        match matrix {
            Matrix::Linear { layer, slot } => Self::Code { layer, slot, row, column, bit },
            Matrix::Embedding => Self::Embedding { row, column, bit },
            Matrix::Head => Self::Head { row, column, bit },
        }
    }

    fn gain(&self, norm: &Norm, index: usize, bit: u8) -> Result<(), AddressError> {
        self.below("index", index, norm.gains.len())?;
        self.below("bit", bit.into(), norm.stored.bits().into())
    }

    fn below(&self, field: &'static str, got: usize, limit: usize) -> Result<(), AddressError> {
        if got < limit {
            return Ok(());
        }
        Err(AddressError::Outside { address: self.to_string(), field, got, limit })
    }

    /// The refusal of whole bytes of codes between which scales stand.
    pub(crate) fn between_scales(&self) -> AddressError {
        self.absent("these codes do not stand in bytes of nothing but codes under one scale")
    }

    fn absent(&self, why: &'static str) -> AddressError {
        AddressError::Absent { address: self.to_string(), why }
    }
}

fn why_no_scale(weights: &Weights) -> &'static str {
    if weights.block_shape().is_some() {
        return "its blocks have scales of their own; name one, as in ...weight_scale[3,0].14";
    }
    match weights {
        Weights::Coded(coded) if coded.file().is_some() => {
            "its rows have scales of their own; name one, as in ...weight_scale[3,0].14"
        }
        Weights::Coded(_) => MADE,
        Weights::Ternary { .. } | Weights::Dense(_) => NO_SCALE,
    }
}

impl PhysicalAddress {
    /// The bit that lies at this place.
    ///
    /// # Errors
    /// If the tensor has no such place, or its bits are named by their values.
    pub fn logical(&self, model: &Model) -> Result<Address, AddressError> {
        let Self { matrix, place } = *self;
        let outside = |field, got, limit| {
            Err(AddressError::Outside { address: self.to_string(), field, got, limit })
        };
        let absent = |why| AddressError::Absent { address: self.to_string(), why };
        if let Some(layer) = matrix.layer().filter(|&layer| layer >= model.layers.len()) {
            return outside("layer", layer, model.layers.len());
        }
        let grid = matrix.grid(model);
        let bytes = match grid {
            Grid::Blocks { shape } => shape.bytes(),
            Grid::Codes { layout: Some(layout), .. } => layout.bytes(),
            Grid::Codes { layout: None, .. } => return Err(absent(NO_QUARTERS)),
            Grid::Floats(_) => return Err(absent(NO_BYTES)),
            Grid::Made => return Err(absent(MADE)),
        };
        if place.byte >= bytes {
            return outside("byte", place.byte, bytes);
        }
        if place.bit >= 8 {
            return outside("bit", place.bit.into(), 8);
        }
        let address = match grid {
            Grid::Blocks { shape } => Address::of_blocks(matrix, &shape, place),
            Grid::Codes { layout: Some(layout), .. } => {
                let (row, column, bit) = layout.invert(place).ok_or_else(|| absent(MADE))?;
                Address::of_value(matrix, row, column, bit)
            }
            _ => unreachable!("a grid of bytes"),
        };
        address.check(model, KvKind::F32, 0).map(|()| address)
    }
}

/// Whether the weights of a layer are ternary codes of two bits each, in their file as here.
pub(crate) fn has_codes(weights: &Weights) -> bool {
    match weights {
        Weights::Ternary { layout, .. } => layout.is_none_or(|layout| layout.has_two_bits()),
        Weights::Coded(_) | Weights::Dense(_) => false,
    }
}

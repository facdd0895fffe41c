//! Runs of consecutive numbers that lie in one tensor.

use std::ops::Range;

use engine::model::{NormSlot, Slot};

use crate::address::Address;
use crate::matrix::Matrix;
use crate::print::norm_name;
use crate::space::Tensor;

/// A run of consecutive numbers that lie in one tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Region {
    /// Codes or floats, so many bits each.
    Values { matrix: Matrix, columns: usize, bits: u64 },
    /// Bytes of trits: so many, the first of each block.
    Trits { matrix: Matrix, trits: usize, block: usize },
    /// Scales of rows or blocks.
    Scales { matrix: Matrix, groups: usize, bits: u64 },
    /// The scale of a tensor.
    Scale { layer: usize, slot: Slot },
    /// Elements of which codes are made at load.
    Elements { layer: usize, slot: Slot, columns: usize, bits: u64 },
    /// Gains.
    Norm { layer: usize, slot: NormSlot, bits: u64 },
}

/// The regions of one target; the first number of each, and behind them the count of all.
#[derive(Clone, Debug, Default)]
pub(crate) struct Regions {
    starts: Vec<u64>,
    regions: Vec<Region>,
    end: u64,
}

impl Regions {
    pub(crate) fn push(&mut self, region: Region, size: u64) {
        self.starts.push(self.end);
        self.regions.push(region);
        self.end += size;
    }

    /// How many numbers there are.
    pub(crate) fn count(&self) -> u64 {
        self.end
    }

    /// The regions with their numbers.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = (&Region, Range<u64>)> {
        let ends = self.starts.iter().skip(1).chain([&self.end]);
        let ranges = self.starts.iter().zip(ends).map(|(&start, &end)| start..end);
        self.regions.iter().zip(ranges)
    }

    /// The address of a number below [`Self::count`].
    pub(crate) fn address(&self, number: u64) -> Address {
        let index = self.starts.partition_point(|&start| start <= number) - 1;
        self.regions[index].address(number - self.starts[index])
    }

    /// The number of an address, if it lies in one of them.
    pub(crate) fn number(&self, address: &Address) -> Option<u64> {
        self.ranges().find_map(|(region, range)| {
            let number = range.start.checked_add(region.offset(address)?)?;
            (number < range.end).then_some(number)
        })
    }
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

/// The place of a value: its matrix, row, column and bit.
fn value(address: &Address) -> Option<(Matrix, usize, usize, u8)> {
    match *address {
        Address::Code { layer, slot, row, column, bit } => {
            Some((Matrix::Linear { layer, slot }, row, column, bit))
        }
        Address::Embedding { row, column, bit } => Some((Matrix::Embedding, row, column, bit)),
        Address::Head { row, column, bit } => Some((Matrix::Head, row, column, bit)),
        _ => None,
    }
}

impl Region {
    /// The tensor, which has these numbers.
    pub(crate) fn tensor(&self, numbers: Range<u64>) -> Tensor {
        let (layer, name) = match *self {
            Self::Values { matrix, .. }
            | Self::Trits { matrix, .. }
            | Self::Scales { matrix, .. } => (matrix.layer(), matrix.tensor()),
            Self::Scale { layer, slot } | Self::Elements { layer, slot, .. } => {
                (Some(layer), slot.name().into())
            }
            Self::Norm { slot: NormSlot::Final, .. } => (None, norm_name(NormSlot::Final)),
            Self::Norm { layer, slot, .. } => (Some(layer), norm_name(slot)),
        };
        Tensor { layer, name, numbers }
    }

    fn address(&self, offset: u64) -> Address {
        let split = |bits: u64| ((offset / bits) as usize, (offset % bits) as u8);
        match *self {
            Self::Values { matrix, columns, bits } => {
                let (index, bit) = split(bits);
                Address::of_value(matrix, index / columns, index % columns, bit)
            }
            Self::Trits { matrix, trits, block } => {
                let (index, bit) = split(8);
                Address::Byte { matrix, byte: index / trits * block + index % trits, bit }
            }
            Self::Scales { matrix, groups, bits } => {
                let (index, bit) = split(bits);
                Address::GroupScale { matrix, row: index / groups, group: index % groups, bit }
            }
            Self::Scale { layer, slot } => Address::Scale { layer, slot, bit: offset as u8 },
            Self::Elements { layer, slot, columns, bits } => {
                let (index, bit) = split(bits);
                let (row, column) = (index / columns, index % columns);
                Address::Element { layer, slot, row, column, bit }
            }
            Self::Norm { slot: NormSlot::Final, bits, .. } => {
                let (index, bit) = split(bits);
                Address::FinalNorm { index, bit }
            }
            Self::Norm { layer, slot, bits } => {
                let (index, bit) = split(bits);
                Address::Norm { layer, slot, index, bit }
            }
        }
    }

    /// The offset of an address, if it is of this tensor; the caller compares it with the size.
    fn offset(&self, address: &Address) -> Option<u64> {
        match (*self, *address) {
            (Self::Values { matrix, columns, bits }, _) => {
                let (of, row, column, bit) = value(address)?;
                if of == matrix { entry(flat(row, column, columns)?, bit, bits) } else { None }
            }
            (Self::Trits { matrix, trits, block }, Address::Byte { matrix: of, byte, bit })
                if of == matrix && byte % block < trits =>
            {
                let index = (byte / block) as u64 * trits as u64 + (byte % block) as u64;
                entry(index, bit, 8)
            }
            (
                Self::Scales { matrix, groups, bits },
                Address::GroupScale { matrix: of, row, group, bit },
            ) if of == matrix => entry(flat(row, group, groups)?, bit, bits),
            (Self::Scale { layer, slot }, Address::Scale { layer: l, slot: s, bit })
                if (l, s) == (layer, slot) =>
            {
                Some(bit.into())
            }
            (
                Self::Elements { layer, slot, columns, bits },
                Address::Element { layer: l, slot: s, row, column, bit },
            ) if (l, s) == (layer, slot) => entry(flat(row, column, columns)?, bit, bits),
            (Self::Norm { slot: NormSlot::Final, bits, .. }, Address::FinalNorm { index, bit }) => {
                entry(index as u64, bit, bits)
            }
            (Self::Norm { layer, slot, bits }, Address::Norm { layer: l, slot: s, index, bit })
                if (l, s) == (layer, slot) && slot != NormSlot::Final =>
            {
                entry(index as u64, bit, bits)
            }
            _ => None,
        }
    }
}

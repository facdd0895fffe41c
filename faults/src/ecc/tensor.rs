//! Protected tensors: the stored bytes of packed weights, and residual flips as a fault.

use std::collections::BTreeSet;

use engine::model::{Model, Slot, Weights};
use engine::packing::BitPlace;

use crate::address::{Address, AddressError, PhysicalAddress};
use crate::fault::Fault;
use crate::matrix::{Grid, Matrix};

/// The stored bytes of a layer as its file has them: codes, or blocks with their scales.
///
/// # Errors
/// If the layer has neither, or codes that are not held in the layout of a file.
pub fn tensor_bytes(model: &Model, layer: usize, slot: Slot) -> Result<Vec<u8>, AddressError> {
    let (first, matrix) =
        (Address::Code { layer, slot, row: 0, column: 0, bit: 0 }, Matrix::Linear { layer, slot });
    let grid = (layer < model.layers.len()).then(|| matrix.grid(model));
    if let Some(Grid::Blocks { shape }) = grid {
        let mut bytes = vec![0; shape.bytes()];
        for row in 0..shape.rows {
            let stored = matrix.block_row(model, row);
            let at = shape.in_tensor(row, BitPlace { byte: 0, bit: 0 }).byte;
            bytes[at..at + stored.len()].copy_from_slice(&stored);
        }
        return Ok(bytes);
    }
    // The first code tells whether there are any.
    first.physical(model)?;
    let layout = grid.and_then(Grid::flat).ok_or_else(|| first.between_scales())?;
    let bytes = match &model.layers[layer].linear(slot).weights {
        Weights::Ternary { rows, .. } => layout.write(|row, codes| rows.read_row(row, codes)),
        Weights::Coded(coded) => layout.write(|row, codes| {
            let integers = coded.rows().row(row);
            codes.iter_mut().zip(integers).for_each(|(code, integer)| *code = (integer + 1) as u8);
        }),
        Weights::Dense(_) => None,
    };
    bytes.ok_or_else(|| first.between_scales())
}

/// The fault of data bits of a tensor, by their numbers: `8 byte + bit`.
///
/// # Errors
/// If a bit does not exist; see [`PhysicalAddress::logical`].
pub fn fault_of(
    model: &Model,
    layer: usize,
    slot: Slot,
    flips: &BTreeSet<u64>,
) -> Result<Fault, AddressError> {
    let logical = |&number: &u64| {
        let place = BitPlace { byte: (number / 8) as usize, bit: (number % 8) as u8 };
        PhysicalAddress { matrix: Matrix::Linear { layer, slot }, place }.logical(model)
    };
    Ok(Fault::new(flips.iter().map(logical).collect::<Result<Vec<_>, _>>()?))
}

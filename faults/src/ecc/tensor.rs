//! Protected tensors: the stored bytes of packed weights, and residual flips as a fault.

use std::collections::BTreeSet;

use engine::model::{Model, Slot, Weights};
use engine::packing::BitPlace;

use crate::address::{Address, AddressError, PhysicalAddress};
use crate::fault::Fault;
use crate::matrix::Matrix;

/// The stored bytes of the codes of a layer, as its file has them.
///
/// # Errors
/// If the layer has no such codes, or the layout does not hold their shape.
pub fn tensor_bytes(model: &Model, layer: usize, slot: Slot) -> Result<Vec<u8>, AddressError> {
    // The first code tells whether there are any.
    let first = Address::Code { layer, slot, row: 0, column: 0, bit: 0 };
    first.physical(model)?;
    let layout = (Matrix::Linear { layer, slot }).grid(model).flat();
    let (Some(layout), Weights::Ternary { rows, .. }) =
        (layout, &model.layers[layer].linear(slot).weights)
    else {
        return Err(first.between_scales());
    };
    let bytes = layout.write(|row, codes| rows.read_row(row, codes));
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

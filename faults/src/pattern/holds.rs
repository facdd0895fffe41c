//! What a stored bit is before a fault.

use engine::model::{Coded, CodedFile, FloatType, Model, Scales, Weights};

use crate::address::Address;
use crate::fault::two_bits;
use crate::matrix::{Grid, Matrix};

/// Whether a stored bit is set.
///
/// # Panics
/// For a bit of the key-value store, which holds nothing before it is run; or of a weight that does
/// not exist.
pub(crate) fn holds(model: &Model, address: &Address) -> bool {
    if let Some(matrix) = address.matrix()
        && let Grid::Blocks { shape } = matrix.grid(model)
    {
        let (row, place) = address.in_row(&shape);
        return matrix.block_row(model, row)[place.byte] >> place.bit & 1 == 1;
    }
    let stored = match *address {
        Address::Code { layer, slot, row, column, .. } => {
            match &model.layers[layer].linear(slot).weights {
                Weights::Dense(float) => float.bits_at(row, column),
                weights => two_bits(weights, row, column).expect("a checked code").into(),
            }
        }
        Address::Element { layer, slot, row, column, .. } => {
            model.elements[&(layer, slot)].stored(row, column)
        }
        Address::Scale { layer, slot, .. } => {
            let scale = model.layers[layer].linear(slot).weights.tensor_scale();
            let (scale, stored) = scale.expect("the address of a scale was checked");
            stored.stored_bits(scale)
        }
        Address::GroupScale { matrix, row, .. } => row_scale(model, matrix, row),
        Address::Norm { layer, slot, index, .. } => {
            let norm = model.layers[layer].norm(slot).expect("a checked norm");
            norm.stored.stored_bits(norm.gains[index])
        }
        Address::FinalNorm { index, .. } => {
            model.final_norm.stored.stored_bits(model.final_norm.gains[index])
        }
        Address::Embedding { row, column, .. } => model.embedding.bits_at(row, column),
        Address::Head { row, column, .. } => model.head.bits_at(row, column),
        Address::Byte { .. } => panic!("the address of trits was not checked"),
        Address::Kv { .. } | Address::KvScale { .. } => {
            panic!("a store holds nothing before it is run")
        }
    };
    stored >> address.bit() & 1 == 1
}

/// The bits of the stored scale of a row, or of that behind all codes.
fn row_scale(model: &Model, matrix: Matrix, row: usize) -> u32 {
    let Matrix::Linear { layer, slot } = matrix else { panic!("only linear layers have some") };
    let weights = &model.layers[layer].linear(slot).weights;
    if let Some(behind) = weights.scale_behind() {
        return behind.to_bits();
    }
    let Weights::Coded(coded) = weights else { panic!("the address of a scale was not checked") };
    let (scale, stored) = scale_of_row(coded, row).expect("a checked scale");
    stored.stored_bits(scale)
}

/// The stored scale of a row and its type, where a file has one for each.
pub(crate) fn scale_of_row(coded: &Coded, row: usize) -> Option<(f32, FloatType)> {
    match (coded.scales(), coded.file()) {
        (Scales::Rows(scales), Some(CodedFile::Packed { scales: stored, .. })) => {
            Some((scales[row].stored(), *stored))
        }
        _ => None,
    }
}

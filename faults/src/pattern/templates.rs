//! Which cells of a memory are weak, and which way: fixed for a campaign, different in each tensor.

use std::collections::BTreeSet;

use engine::model::Model;

use crate::address::Address;
use crate::draw::{Identity, TrialRng};
use crate::matrix::{Grid, Matrix};

/// The cells under one tensor.
pub(super) struct Templates(Identity);

impl Templates {
    /// Those of the tensor that a bit lies in.
    pub(super) fn new(model: &Model, identity: &Identity, address: &Address) -> Self {
        // Codes, trits and scales of blocks are one tensor.
        let blocks = |matrix: &Matrix| matches!(matrix.grid(model), Grid::Blocks { .. });
        let text = match address.matrix().filter(blocks) {
            Some(matrix) => format!("{}.weight[", matrix.name()),
            None => address.to_string(),
        };
        // Behind the last bracket, or the last dot, comes what tells bits of one tensor apart.
        let tensor = match text.find('[') {
            Some(end) => &text[..end],
            None => text.rsplit_once('.').map_or(text.as_str(), |(tensor, _)| tensor),
        };
        Self(Identity::of(&["cells", &identity.to_string(), tensor]))
    }

    /// Whether the cell at a place loses charge, rather than gains it.
    pub(super) fn is_true_cell(&self, place: u64) -> bool {
        TrialRng::new(&self.0, place / 64).word() >> (place % 64) & 1 == 1
    }

    /// The vulnerable cells of a page, in the order of their places, with their kind; in a page
    /// that is cut short by the tensor's end as many as its size asks for, rounded up.
    pub(super) fn page(&self, page: u64, page_bits: u64, end: u64, cells: u32) -> Vec<(u64, bool)> {
        let start = page * page_bits;
        let size = page_bits.min(end - start);
        let wanted = (u128::from(cells) * u128::from(size)).div_ceil(page_bits.into()) as u64;
        let mut rng = TrialRng::new(&self.0, u64::MAX - page);
        let mut places = BTreeSet::new();
        while (places.len() as u64) < wanted.min(size) {
            places.insert(start + rng.below(size));
        }
        places.into_iter().map(|place| (place, self.is_true_cell(place))).collect()
    }
}

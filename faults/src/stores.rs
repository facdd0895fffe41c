//! The numbers of the faults of a key-value store: pairs of a stored bit and a step.

use engine::model::{KvKind, KvPlace, Side};

use crate::address::Address;

/// The shape of the key-value stores.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stores {
    pub(crate) kind: KvKind,
    pub(crate) layers: u64,
    pub(crate) heads: u64,
    pub(crate) dims: u64,
}

/// How many (token, step) pairs there are: steps run from that of the token to the last.
pub(crate) fn steps(tokens: u64) -> u64 {
    tokens * (tokens + 1) / 2
}

impl Stores {
    /// Values of a head, and the bits of each: of its entries, or of the scale beside them.
    fn values(&self, scales: bool) -> (u64, u64) {
        if scales {
            (1, self.kind.scale_bits().into())
        } else {
            (self.dims, self.kind.entry_bits().into())
        }
    }

    /// Bits of one token's keys, or values, in one layer; or of their scales.
    pub(crate) fn token_bits(&self, scales: bool) -> u64 {
        let (dims, bits) = self.values(scales);
        self.heads * dims * bits
    }

    /// The address of a number, of entries or of scales.
    pub(crate) fn address(&self, scales: bool, tokens: u64, number: u64) -> Address {
        let (dims, bits) = self.values(scales);
        let (mut rest, bit) = (number / bits, (number % bits) as u8);
        let mut next = |size: u64| {
            let part = rest % size;
            rest /= size;
            part
        };
        let dim = next(dims) as usize;
        let head = next(self.heads) as usize;
        let mut pair = next(steps(tokens));
        let side = if next(2) == 0 { Side::Key } else { Side::Value };
        let layer = rest as usize;
        let mut token = 0;
        while pair >= tokens - token {
            pair -= tokens - token;
            token += 1;
        }
        let (token, step) = (token as usize, (token + pair) as usize);
        if scales {
            return Address::KvScale { layer, side, token, head, bit, step };
        }
        Address::Kv { layer, side, place: KvPlace { token, head, dim }, bit, step }
    }

    /// The number of an address, if it lies in the store.
    pub(crate) fn number(&self, tokens: u64, address: &Address) -> Option<u64> {
        let (scales, layer, side, place, bit, step) = match *address {
            Address::Kv { layer, side, place, bit, step } => (false, layer, side, place, bit, step),
            Address::KvScale { layer, side, token, head, bit, step } => {
                (true, layer, side, KvPlace { token, head, dim: 0 }, bit, step)
            }
            _ => return None,
        };
        let (dims, bits) = self.values(scales);
        let (token, step) = (place.token as u64, step as u64);
        let (head, dim) = (place.head as u64, place.dim as u64);
        let inside = (layer as u64) < self.layers
            && token <= step
            && step < tokens
            && head < self.heads
            && dim < dims
            && u64::from(bit) < bits;
        if !inside {
            return None;
        }
        let pair = steps(tokens) - steps(tokens - token) + (step - token);
        let store = 2 * layer as u64 + u64::from(side == Side::Value);
        let entry = ((store * steps(tokens) + pair) * self.heads + head) * dims + dim;
        Some(entry * bits + u64::from(bit))
    }
}

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
    pub(crate) bits: u64,
}

/// How many (token, step) pairs there are: steps run from that of the token to the last.
pub(crate) fn steps(tokens: u64) -> u64 {
    tokens * (tokens + 1) / 2
}

impl Stores {
    /// Bits of one token's keys, or values, in one layer.
    pub(crate) fn entry_bits(&self) -> u64 {
        self.heads * self.dims * self.bits
    }

    /// The address of a number.
    pub(crate) fn address(&self, tokens: u64, number: u64) -> Address {
        let (mut rest, bit) = (number / self.bits, (number % self.bits) as u8);
        let mut next = |size: u64| {
            let part = rest % size;
            rest /= size;
            part
        };
        let dim = next(self.dims) as usize;
        let head = next(self.heads) as usize;
        let mut pair = next(steps(tokens));
        let side = if next(2) == 0 { Side::Key } else { Side::Value };
        let layer = rest as usize;
        let mut token = 0;
        while pair >= tokens - token {
            pair -= tokens - token;
            token += 1;
        }
        let step = (token + pair) as usize;
        Address::Kv { layer, side, place: KvPlace { token: token as usize, head, dim }, bit, step }
    }

    /// The number of an address, if it lies in the store.
    pub(crate) fn number(&self, tokens: u64, address: &Address) -> Option<u64> {
        let Address::Kv { layer, side, place, bit, step } = *address else { return None };
        let (token, step) = (place.token as u64, step as u64);
        let (head, dim) = (place.head as u64, place.dim as u64);
        let inside = (layer as u64) < self.layers
            && token <= step
            && step < tokens
            && head < self.heads
            && dim < self.dims
            && u64::from(bit) < self.bits;
        if !inside {
            return None;
        }
        let pair = steps(tokens) - steps(tokens - token) + (step - token);
        let store = 2 * layer as u64 + u64::from(side == Side::Value);
        let entry = ((store * steps(tokens) + pair) * self.heads + head) * self.dims + dim;
        Some(entry * self.bits + u64::from(bit))
    }
}

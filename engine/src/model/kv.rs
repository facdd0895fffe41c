//! A real key-value store: typed, addressable, with the very bits that a fault can strike.
//!
//! | kind | an entry | beside it |
//! |---|---|---|
//! | `f32`, `f16` | the value, rounded once | - |
//! | `int8` | `clamp(rne(x t), -127, 127)`, `t = fl(fl(1/a) 127)` | f32 scale `fl(a / 127)` a token and head |
//! | `1bit` | 1 where `x >= 0` (either zero), else 0 | f32 scale `fl(sum16(abs x) / d)` a token and head |
//!
//! where `a = max(max abs x, 1e-5)`. Entries are read back as f32: the value, `fl(code scale)`, or
//! the scale with the sign of the bit. What is read depends on the stored bits alone.

use half::f16;

use crate::numerics::{ABSMAX_FLOOR, absmax, max, quantize_scale, sum16, widen_f16};

/// The storage type of keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KvKind {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
    /// 8-bit codes under an absmax scale.
    Int8,
    /// Signs under a mean-magnitude scale.
    OneBit,
}

impl KvKind {
    /// The name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Int8 => "int8",
            Self::OneBit => "1bit",
        }
    }

    /// Bits of the scale of the entries of a token and head; 0 where there is none.
    #[must_use]
    pub fn scale_bits(self) -> u8 {
        match self {
            Self::F32 | Self::F16 => 0,
            Self::Int8 | Self::OneBit => 32,
        }
    }

    /// Bits of one entry.
    #[must_use]
    pub fn entry_bits(self) -> u8 {
        match self {
            Self::F32 => 32,
            Self::F16 => 16,
            Self::Int8 => 8,
            Self::OneBit => 1,
        }
    }
}

/// Keys or values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// The keys.
    Key,
    /// The values.
    Value,
}

/// An entry of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KvPlace {
    /// The token.
    pub token: usize,
    /// The key-value head.
    pub head: usize,
    /// The dimension within the head.
    pub dim: usize,
}

/// The keys or the values of one layer.
#[derive(Clone, Debug, PartialEq)]
pub struct KvStore {
    kind: KvKind,
    head_dim: usize,
    heads: Vec<HeadStore>,
    tokens: usize,
}

/// The stored bits of one head: entries `[token][dim]`, scales `[token]`.
#[derive(Clone, Debug, Default, PartialEq)]
struct HeadStore {
    wide: Vec<f32>,
    halves: Vec<u16>,
    codes: Vec<i8>,
    signs: Vec<bool>,
    scales: Vec<f32>,
}

impl KvStore {
    /// An empty store.
    #[must_use]
    pub fn new(kind: KvKind, heads: usize, head_dim: usize) -> Self {
        Self { kind, head_dim, heads: vec![HeadStore::default(); heads], tokens: 0 }
    }

    /// The storage type.
    #[must_use]
    pub fn kind(&self) -> KvKind {
        self.kind
    }

    /// The number of tokens stored.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Forgets all tokens.
    pub fn clear(&mut self) {
        self.truncate(0);
    }

    /// Keeps the first tokens only.
    pub fn truncate(&mut self, tokens: usize) {
        self.tokens = self.tokens.min(tokens);
        let entries = self.tokens * self.head_dim;
        for head in &mut self.heads {
            head.wide.truncate(entries);
            head.halves.truncate(entries);
            head.codes.truncate(entries);
            head.signs.truncate(entries);
            head.scales.truncate(self.tokens);
        }
    }

    /// Stores one token's row, all heads behind one another.
    ///
    /// # Panics
    /// If the row is not as wide as all heads together.
    pub fn push(&mut self, row: &[f32]) {
        assert_eq!(row.len(), self.heads.len() * self.head_dim, "a row of all heads");
        for (head, x) in self.heads.iter_mut().zip(row.chunks_exact(self.head_dim)) {
            head.push(self.kind, x);
        }
        self.tokens += 1;
    }

    /// The first tokens of a head as f32, `[token][dim]`: as they are stored, or from a buffer.
    #[must_use]
    pub fn read<'a>(&'a self, head: usize, tokens: usize, buffer: &'a mut Vec<f32>) -> &'a [f32] {
        let store = &self.heads[head];
        let entries = tokens * self.head_dim;
        buffer.clear();
        match self.kind {
            KvKind::F32 => return &store.wide[..entries],
            KvKind::F16 => buffer.extend(store.halves[..entries].iter().map(|&h| widen_f16(h))),
            KvKind::Int8 => buffer.extend(
                (store.codes[..entries].iter().enumerate())
                    .map(|(i, &code)| f32::from(code) * store.scales[i / self.head_dim]),
            ),
            KvKind::OneBit => buffer.extend(
                (store.signs[..entries].iter().enumerate())
                    .map(|(i, &sign)| signed(sign, store.scales[i / self.head_dim])),
            ),
        }
        buffer
    }

    /// Flips one stored bit of an entry.
    ///
    /// # Panics
    /// If there is no such entry or no such bit.
    pub fn flip(&mut self, place: KvPlace, bit: u8) {
        assert!(bit < self.kind.entry_bits() && place.dim < self.head_dim, "no such bit");
        let at = place.token * self.head_dim + place.dim;
        let head = &mut self.heads[place.head];
        match self.kind {
            KvKind::F32 => head.wide[at] = f32::from_bits(head.wide[at].to_bits() ^ (1 << bit)),
            KvKind::F16 => head.halves[at] ^= 1 << bit,
            KvKind::Int8 => head.codes[at] ^= (1u8 << bit) as i8,
            KvKind::OneBit => head.signs[at] ^= true,
        }
    }
}

impl KvStore {
    /// Flips one bit of the scale of a token and head.
    ///
    /// # Panics
    /// If there is no such scale or no such bit.
    pub fn flip_scale(&mut self, token: usize, head: usize, bit: u8) {
        assert!(bit < self.kind.scale_bits(), "no such bit");
        let scale = &mut self.heads[head].scales[token];
        *scale = f32::from_bits(scale.to_bits() ^ 1 << bit);
    }
}

fn signed(sign: bool, scale: f32) -> f32 {
    if sign { scale } else { -scale }
}

impl HeadStore {
    fn push(&mut self, kind: KvKind, x: &[f32]) {
        match kind {
            KvKind::F32 => self.wide.extend_from_slice(x),
            KvKind::F16 => self.halves.extend(x.iter().map(|&v| f16::from_f32(v).to_bits())),
            KvKind::Int8 => {
                let (t, scale) = int8_scales(absmax(x));
                self.codes.extend(x.iter().map(|&v| int8_code(v, t)));
                self.scales.push(scale);
            }
            KvKind::OneBit => {
                let magnitudes: Vec<f32> = x.iter().map(|v| v.abs()).collect();
                self.signs.extend(x.iter().map(|&v| v >= 0.0));
                self.scales.push(sum16(&magnitudes) / x.len() as f32);
            }
        }
    }
}

/// The quantisation scale and the stored scale of an int8 row of absolute maximum `a`.
#[must_use]
pub fn int8_scales(a: f32) -> (f32, f32) {
    (quantize_scale(a), max(a, ABSMAX_FLOOR) / 127.0)
}

/// The int8 code of a value at a quantisation scale (NaN gives 0; its scale is NaN too).
#[must_use]
pub fn int8_code(value: f32, t: f32) -> i8 {
    (value * t).clamp(-127.0, 127.0).round_ties_even() as i8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(kind: KvKind) -> KvStore {
        let mut store = KvStore::new(kind, 2, 4);
        store.push(&[1.0, -2.0, 0.5, 0.0, 3.0, -0.25, 1.5, -1.5]);
        store.push(&[0.1, 0.2, -0.3, 0.4, -5.0, 6.0, 7.0, -8.0]);
        store
    }

    fn read(store: &KvStore, head: usize) -> Vec<f32> {
        store.read(head, 2, &mut Vec::new()).to_vec()
    }

    #[test]
    fn each_kind_reads_back_what_its_definition_says() {
        assert_eq!(read(&filled(KvKind::F32), 0)[..4], [1.0, -2.0, 0.5, 0.0]);
        assert_eq!(read(&filled(KvKind::F16), 1)[4..], [-5.0, 6.0, 7.0, -8.0]);
        let eight = read(&filled(KvKind::Int8), 0);
        assert_eq!(eight[1], -127.0 * (2.0f32 / 127.0));
        assert_eq!(read(&filled(KvKind::OneBit), 0)[..4], [0.875, -0.875, 0.875, 0.875]);
    }

    #[test]
    fn a_flip_changes_one_entry_and_a_second_flip_restores_it() {
        for kind in [KvKind::F32, KvKind::F16, KvKind::Int8, KvKind::OneBit] {
            for bit in 0..kind.entry_bits() {
                let clean = filled(kind);
                let mut store = clean.clone();
                let place = KvPlace { token: 1, head: 1, dim: 2 };
                store.flip(place, bit);
                let (before, after) = (read(&clean, 1), read(&store, 1));
                for i in 0..8 {
                    assert_eq!(before[i].to_bits() != after[i].to_bits(), i == 6, "{kind:?} {i}");
                }
                store.flip(place, bit);
                assert_eq!(store, clean);
            }
        }
    }
}

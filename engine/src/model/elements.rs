//! Weights that a file stores one to an element and a reader makes ternary codes of: masters, which
//! it rounds, and codes that are written as numbers.
//!
//! The kernels read the codes alone. The elements are kept beside them so that every bit of the
//! file can be flipped, and [`Elements::struck`] answers what a load of the flipped file gives.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::{Float, FloatType, Scale};
use crate::numerics::{max, sum_abs};
use crate::packing::{TernaryRows, ZERO_CODE};

/// The floor under the mean magnitude of masters.
const MEAN_FLOOR: f32 = 1e-5;

/// The elements of a linear layer, `[out, in]`, of which its codes were made.
#[derive(Clone, Debug, PartialEq)]
pub enum Elements {
    /// Floats that are rounded under their mean magnitude (`online`), and how.
    Masters(Float, Rounding),
    /// Floats, each -1, 0 or 1.
    Floats(Float),
    /// Bytes, each -1, 0 or 1.
    Bytes {
        /// Row-major values.
        data: Vec<i8>,
        /// Width of a row.
        columns: usize,
    },
}

/// How masters become codes: `s` multiplies them, and the scale of the codes is its reciprocal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rounding {
    s: f32,
    /// The scale by which outputs are multiplied; NaN or infinite where a master is.
    pub scale: f32,
}

/// What a reader makes of elements with flipped bits.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Struck {
    /// The rows that have other codes, by their number.
    pub rows: BTreeMap<usize, Vec<u8>>,
    /// The scale of the tensor, where it is another.
    pub scale: Option<Scale>,
}

impl Rounding {
    /// That of a tensor of masters.
    ///
    /// The mean magnitude is one sum over the whole tensor in the order of `sum16`, in f64: the
    /// order of other implementations changes with their vectors and threads, ours must not.
    /// torch's own f32 mean gives a scale one ulp away for about half of all tensors; no code of
    /// the reference models changes with it.
    #[must_use]
    pub fn of(masters: &[f32]) -> Self {
        let mean = (sum_abs(masters) / masters.len() as f64) as f32;
        let s = 1.0 / max(mean, MEAN_FLOOR);
        Self { s, scale: 1.0 / s }
    }

    /// Whether codes under it mean anything: its scale is finite and positive.
    #[must_use]
    pub fn is_sound(self) -> bool {
        self.scale.is_finite() && self.scale > 0.0
    }

    /// The code, `weight + 1`, of a master.
    #[must_use]
    pub fn code(self, master: f32) -> u8 {
        let rounded = (master * self.s).round_ties_even();
        if rounded >= 1.0 {
            2
        } else if rounded <= -1.0 {
            0
        } else {
            ZERO_CODE
        }
    }
}

impl Elements {
    /// The type of an element; `None` of bytes.
    #[must_use]
    pub fn float_type(&self) -> Option<FloatType> {
        match self {
            Self::Masters(float, _) | Self::Floats(float) => Some(type_of(float)),
            Self::Bytes { .. } => None,
        }
    }

    /// Bits of an element.
    #[must_use]
    pub fn bits(&self) -> u8 {
        self.float_type().map_or(8, FloatType::bits)
    }

    /// Whether an element must be -1, 0 or 1, and is refused otherwise.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        !matches!(self, Self::Masters(..))
    }

    /// The stored bits of an element, lowest first.
    ///
    /// # Panics
    /// If there is no such element.
    #[must_use]
    pub fn stored(&self, row: usize, column: usize) -> u32 {
        match self {
            Self::Masters(float, _) | Self::Floats(float) => float.bits_at(row, column),
            Self::Bytes { data, columns } => (data[row * columns + column] as u8).into(),
        }
    }

    /// The value of an element with the bits of a mask flipped.
    ///
    /// # Panics
    /// If there is no such element.
    #[must_use]
    pub fn value(&self, row: usize, column: usize, mask: u32) -> f32 {
        let bits = self.stored(row, column) ^ mask;
        match self {
            Self::Masters(float, _) | Self::Floats(float) => type_of(float).value(bits),
            Self::Bytes { .. } => f32::from(bits as u8 as i8),
        }
    }

    /// What becomes of the codes when bits of elements flip: by row and column a mask. `None`
    /// where a load refuses an element for what it is then. A master that is not finite, which a
    /// load refuses too, is computed with, as by a reader that was struck behind its load: it makes
    /// the scale NaN, and so every output.
    ///
    /// # Panics
    /// If the codes are not of this shape, or an element or bit does not exist.
    #[must_use]
    pub fn struck(
        &self,
        codes: impl Fn(usize) -> Vec<u8> + Sync,
        flips: &BTreeMap<usize, BTreeMap<usize, u32>>,
    ) -> Option<Struck> {
        if let Self::Masters(float, before) = self {
            return Some(struck_masters((float, *before), codes, flips));
        }
        let mut rows = BTreeMap::new();
        for (&row, flips) in flips {
            let before = codes(row);
            let mut after = before.clone();
            for (&column, &mask) in flips {
                after[column] = code_of(self.value(row, column, mask))?;
            }
            if after != before {
                rows.insert(row, after);
            }
        }
        Some(Struck { rows, scale: None })
    }
}

/// What is made of masters with flipped bits; all of them count in the mean magnitude, so any code
/// of the tensor may change.
fn struck_masters(
    (float, before): (&Float, Rounding),
    codes: impl Fn(usize) -> Vec<u8> + Sync,
    flips: &BTreeMap<usize, BTreeMap<usize, u32>>,
) -> Struck {
    let (columns, kind) = (float.columns(), type_of(float));
    let mut masters = float.widened();
    let mut finite = true;
    for (&row, flips) in flips {
        for (&column, &mask) in flips {
            let master = kind.value(float.bits_at(row, column) ^ mask);
            finite &= master.is_finite();
            masters[row * columns + column] = master;
        }
    }
    if !finite {
        return Struck { rows: BTreeMap::new(), scale: Some(Scale::Multiply(f32::NAN)) };
    }
    let now = Rounding::of(&masters);
    // Under the scale of before no other row rounds otherwise.
    let same = now == before;
    let changed = masters.par_chunks_exact(columns).enumerate().filter_map(|(row, masters)| {
        if same && !flips.contains_key(&row) {
            return None;
        }
        let after: Vec<u8> = masters.iter().map(|&master| now.code(master)).collect();
        (after != codes(row)).then_some((row, after))
    });
    Struck { rows: changed.collect(), scale: (!same).then_some(Scale::Multiply(now.scale)) }
}

fn type_of(float: &Float) -> FloatType {
    float.stored().expect("one value to an element")
}

/// The code of a ternary weight that is written as a number.
#[must_use]
pub fn code_of(value: f32) -> Option<u8> {
    match value {
        -1.0 => Some(0),
        0.0 => Some(1),
        1.0 => Some(2),
        _ => None,
    }
}

/// Ternary codes of masters, under the scale of their rounding.
#[must_use]
pub fn rounded(masters: &[f32], columns: usize, rounding: Rounding) -> TernaryRows {
    TernaryRows::pack(masters.len() / columns, columns, |row, codes| {
        for (code, &master) in codes.iter_mut().zip(&masters[row * columns..]) {
            *code = rounding.code(master);
        }
    })
}

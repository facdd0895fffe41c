//! Which 2-bit codes should the three weights have? What single flips do under each assignment.
//!
//! A flip of one bit moves a code along an edge of the square 00 - 01 - 11 - 10. Three corners are
//! weights, one is unused: a reader that checks codes sees a flip that lands there, for free. A
//! *sign flip* turns -1 into +1 or back; an assignment that puts them on opposite corners has none.
//!
//! Memory cells may fail in one direction more than in the other (RowHammer: a cell loses its
//! charge, and whether that is a 0 or a 1 is a matter of its row), so each direction has figures of
//! its own. Only set bits can fall and only clear bits can rise, so the *number* of possible flips
//! depends on the assignment too.
//!
//! Packings that are not two bits a weight are compared in [`crate::TritExposure`].
//!
//! All figures are whole numbers, exact for the tensor they were counted on. Exchanging the two
//! bits of a code changes none of them, so of 24 assignments 12 are listed.

use std::cmp::{Ordering, Reverse};
use std::fmt;

use engine::packing::TernaryRows;

use crate::fault::UnusedCode;

/// How often each weight occurs in a tensor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// Weights -1.
    pub minus: u64,
    /// Weights 0.
    pub zero: u64,
    /// Weights +1.
    pub plus: u64,
}

impl Histogram {
    /// The histogram of a tensor; `None` if it has unused codes, which no other assignment holds.
    #[must_use]
    pub fn of(rows: &TernaryRows) -> Option<Self> {
        let [minus, zero, plus, unused] = rows.census();
        (unused == 0).then_some(Self { minus, zero, plus })
    }

    pub(crate) fn counts(&self) -> [u64; 3] {
        [self.minus, self.zero, self.plus]
    }
}

/// An assignment of codes to weights; the fourth code is unused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Encoding {
    /// The codes of -1, 0 and +1; all different.
    codes: [u8; 3],
}

/// Which bits flip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// Any.
    Both,
    /// Set bits fall.
    OneToZero,
    /// Clear bits rise.
    ZeroToOne,
}

impl Direction {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Both, Self::OneToZero, Self::ZeroToOne];

    /// The name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Both => "both",
            Self::OneToZero => "1-to-0",
            Self::ZeroToOne => "0-to-1",
        }
    }

    pub(crate) fn flips(self, set: bool) -> bool {
        match self {
            Self::Both => true,
            Self::OneToZero => set,
            Self::ZeroToOne => !set,
        }
    }
}

/// What all single flips of a tensor do, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exposure {
    /// Flips that are possible.
    pub flips: u64,
    /// Those that land in the unused code.
    pub unused: u64,
    /// Those between -1 and +1.
    pub sign: u64,
    /// The sum of the changes of weights, in magnitude, over the flips that a reader computes with.
    pub change: u64,
}

impl Exposure {
    /// The share of the possible flips that land in the unused code; 0 of none.
    #[must_use]
    pub fn unused_share(&self) -> f64 {
        self.share(self.unused)
    }

    /// The share that are sign flips.
    #[must_use]
    pub fn sign_share(&self) -> f64 {
        self.share(self.sign)
    }

    /// The mean change of a weight, in magnitude.
    #[must_use]
    pub fn mean_change(&self) -> f64 {
        self.share(self.change)
    }

    fn share(&self, part: u64) -> f64 {
        if self.flips == 0 { 0.0 } else { part as f64 / self.flips as f64 }
    }
}

impl Encoding {
    /// Today's packings: weight plus one.
    pub const DEPLOYED: Self = Self { codes: [0, 1, 2] };

    /// The assignment of codes to -1, 0 and +1; `None` unless they are three different 2-bit codes.
    #[must_use]
    pub fn new(minus: u8, zero: u8, plus: u8) -> Option<Self> {
        let codes = [minus, zero, plus];
        let different = minus != zero && zero != plus && plus != minus;
        (different && codes.iter().all(|&code| code < 4)).then_some(Self { codes })
    }

    /// The assignments, one of each pair that differs by the order of the bits.
    #[must_use]
    pub fn distinct() -> Vec<Self> {
        let codes = (0..64).filter_map(|n| Self::new(n >> 4, n >> 2 & 3, n & 3));
        codes.filter(|encoding| *encoding <= encoding.exchanged()).collect()
    }

    /// The same with the two bits of every code exchanged.
    #[must_use]
    pub fn exchanged(self) -> Self {
        Self { codes: self.codes.map(|code| code >> 1 | (code & 1) << 1) }
    }

    /// The codes of -1, 0 and +1, and the unused one.
    #[must_use]
    pub fn codes(&self) -> [u8; 4] {
        let [minus, zero, plus] = self.codes;
        [minus, zero, plus, minus ^ zero ^ plus]
    }

    /// The weight of a code; `None` for the unused one.
    fn weight(&self, code: u8) -> Option<i64> {
        self.codes.iter().position(|&own| own == code).map(|index| index as i64 - 1)
    }

    /// What all single flips in a direction do to a tensor whose reader takes the unused code so.
    #[must_use]
    pub fn exposure(&self, of: &Histogram, direction: Direction, unused: UnusedCode) -> Exposure {
        let mut exposure = Exposure::default();
        for (index, (&code, count)) in self.codes.iter().zip(of.counts()).enumerate() {
            let before = index as i64 - 1;
            for bit in (0..2).filter(|bit| direction.flips(code >> bit & 1 == 1)) {
                exposure.flips += count;
                let after = self.weight(code ^ 1 << bit);
                let read = after.or(match unused {
                    UnusedCode::Deployed => Some(2),
                    UnusedCode::Zero => Some(0),
                    UnusedCode::Detect => None,
                });
                exposure.unused += if after.is_none() { count } else { 0 };
                exposure.sign += if after == Some(-before) && before != 0 { count } else { 0 };
                exposure.change += read.map_or(0, |read| count * read.abs_diff(before));
            }
        }
        exposure
    }
}

impl fmt::Display for Encoding {
    /// As in `-1=00 0=01 +1=10 unused=11`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [minus, zero, plus, unused] = self.codes();
        write!(f, "-1={minus:02b} 0={zero:02b} +1={plus:02b} unused={unused:02b}")
    }
}

/// What makes an assignment the best; ties are broken by the rest, then by the codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Criterion {
    /// Fewest sign flips, then least change.
    Sign,
    /// Largest share of flips in the unused code, then fewest sign flips, then least change.
    Detection,
    /// Least change, then fewest sign flips.
    Change,
}

/// One row of the table of assignments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncodingRow {
    /// The assignment.
    pub encoding: Encoding,
    /// What single flips do, by direction, in the order of [`Direction::ALL`].
    pub exposures: [Exposure; 3],
}

/// The table of all distinct assignments for a tensor, best first for a criterion and a direction.
///
/// Sign flips and changes are compared as totals: an assignment under which fewer bits can flip has
/// fewer faults.
#[must_use]
pub fn encodings(
    of: &Histogram,
    unused: UnusedCode,
    criterion: Criterion,
    direction: Direction,
) -> Vec<EncodingRow> {
    let row = |encoding: Encoding| EncodingRow {
        encoding,
        exposures: Direction::ALL.map(|direction| encoding.exposure(of, direction, unused)),
    };
    let mut rows: Vec<_> = Encoding::distinct().into_iter().map(row).collect();
    rows.sort_by(|a, b| {
        let (left, right) = (a.exposures[direction as usize], b.exposures[direction as usize]);
        let order = match criterion {
            Criterion::Sign => Ordering::Equal,
            Criterion::Detection => more_detected(&left, &right),
            Criterion::Change => left.change.cmp(&right.change),
        };
        let key = |e: Exposure| (e.sign, e.change, Reverse(e.unused));
        order.then(key(left).cmp(&key(right))).then(a.encoding.cmp(&b.encoding))
    });
    rows
}

/// `Less` if the first has the larger share in the unused code; of no flips, all count as detected.
fn more_detected(a: &Exposure, b: &Exposure) -> Ordering {
    let part = |e: &Exposure| if e.flips == 0 { (1, 1) } else { (e.unused, e.flips) };
    let ((x, m), (y, n)) = (part(a), part(b));
    (u128::from(y) * u128::from(m)).cmp(&(u128::from(x) * u128::from(n)))
}

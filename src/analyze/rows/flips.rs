//! How far any k flips of the codes of one row move its integer sums: exact, token by token.
//!
//! A flip changes one of the two bits of a code, so one flip leads to two other codes and two flips
//! to the third. The most that at most k flips add to a sum is a knapsack of k places: each column
//! takes none, one or two of them. All k up to the largest come from one pass.

use certify::interval::BoxPrepared;
use engine::packing::{UNUSED_CODE, weight_of};

use crate::cli::UnusedArg;

/// How many flips a proof speaks of; `None` is any code in every place of the row.
pub(super) const LEVELS: [Option<usize>; 5] = [Some(1), Some(2), Some(4), Some(8), None];
/// The most that are counted.
pub(super) const MOST: usize = 8;

/// A range of a sum.
pub(super) type Range = (i32, i32);

/// The changes of a weight by one flip, and by both; none where a detector sees it.
struct Changes {
    one: [Option<i32>; 2],
    both: Option<i32>,
}

impl Changes {
    fn of(code: u8, unused: Option<UnusedArg>) -> Self {
        let change = |mask: u8| {
            let after = code ^ mask;
            match (after == UNUSED_CODE, unused) {
                (true, Some(UnusedArg::Detect)) => None,
                (true, Some(UnusedArg::Zero)) => Some(-weight_of(code)),
                _ => Some(weight_of(after) - weight_of(code)),
            }
        };
        Self { one: [change(1), change(2)], both: change(3) }
    }

    /// The most that one flip adds under an activation in a range, and that two do; 0 where none
    /// adds.
    fn gains(&self, (lo, hi): Range) -> (i32, i32) {
        let gain = |change: i32| (change * lo).max(change * hi);
        let one = self.one.iter().flatten().map(|&change| gain(change));
        (one.fold(0, i32::max), self.both.map_or(0, gain).max(0))
    }
}

/// The most that flips add to one sum.
#[derive(Clone, Copy, Debug, Default)]
struct Most {
    /// At most so many flips.
    flips: [i32; MOST + 1],
    /// Any codes at all.
    any: i32,
}

impl Most {
    fn include(&mut self, (one, both): (i32, i32)) {
        for k in (1..=MOST).rev() {
            let with_one = self.flips[k - 1] + one;
            let with_both = if k > 1 { self.flips[k - 2] + both } else { 0 };
            self.flips[k] = self.flips[k].max(with_one).max(with_both);
        }
        self.any += one.max(both);
    }

    fn at(&self, level: Option<usize>) -> i32 {
        level.map_or(self.any, |flips| self.flips[flips])
    }
}

/// The codes of the activations, `[column][token]`, as ranges.
pub(super) fn columns(x: &BoxPrepared, columns: usize) -> Vec<Vec<Range>> {
    let codes = x.codes.as_ref().expect("integer sums are of codes");
    let tokens = codes.scales.len();
    let padded = codes.lo.len() / tokens;
    let range = |at: usize| {
        let lo = i32::from(codes.lo[at]);
        (lo, lo + i32::from(codes.width[at]))
    };
    (0..columns).map(|k| (0..tokens).map(|t| range(t * padded + k)).collect()).collect()
}

/// The most that flips of a row take from its sums and add to them, token by token.
fn ends(row: &[u8], activations: &[Vec<Range>], unused: Option<UnusedArg>) -> Vec<(Most, Most)> {
    let tokens = activations.first().map_or(0, Vec::len);
    let mut ends = vec![(Most::default(), Most::default()); tokens];
    for (&code, activations) in row.iter().zip(activations) {
        let changes = Changes::of(code, unused);
        for ((less, more), &(lo, hi)) in ends.iter_mut().zip(activations) {
            less.include(changes.gains((-hi, -lo)));
            more.include(changes.gains((lo, hi)));
        }
    }
    ends
}

/// The ranges `[level][token]` by which at most so many flips of a row move its sums, with codes
/// `[column][token]` of the activations.
pub(super) fn ranges(
    row: &[u8],
    activations: &[Vec<Range>],
    unused: Option<UnusedArg>,
) -> Vec<Vec<Range>> {
    let ends = ends(row, activations, unused);
    let level = |&level: &Option<usize>| {
        ends.iter().map(|(less, more)| (-less.at(level), more.at(level))).collect()
    };
    LEVELS.iter().map(level).collect()
}

/// The ranges `[token]` by which so many flips move the sums of a row, and `[token][flips - 1]`
/// how far one flip, two, ... up to all of them move them, either way.
pub(super) fn shared(
    row: &[u8],
    activations: &[Vec<Range>],
    unused: Option<UnusedArg>,
    flips: usize,
) -> (Vec<Range>, Vec<Vec<i32>>) {
    let ends = ends(row, activations, unused);
    let range = |(less, more): &(Most, Most)| (-less.flips[flips], more.flips[flips]);
    let most = |(less, more): &(Most, Most)| {
        (1..=flips).map(|k| less.flips[k].max(more.flips[k])).collect()
    };
    (ends.iter().map(range).collect(), ends.iter().map(most).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::model::random::SplitMix;

    /// Every code of three columns, with the number of flips it takes.
    fn by_hand(row: &[u8], q: &[i32], unused: Option<UnusedArg>, most: usize) -> Range {
        let mut range = (0, 0);
        for number in 0..64u8 {
            let masks = [number & 3, number >> 2 & 3, number >> 4];
            let flips: u32 = masks.iter().map(|mask| mask.count_ones()).sum();
            let mut sum = 0;
            let mut seen = false;
            for ((&code, mask), q) in row.iter().zip(masks).zip(q) {
                let made = mask != 0 && code ^ mask == UNUSED_CODE;
                seen |= made && unused == Some(UnusedArg::Detect);
                let zero = made && unused == Some(UnusedArg::Zero);
                let after = if zero { 0 } else { weight_of(code ^ mask) };
                sum += (after - weight_of(code)) * q;
            }
            if flips as usize <= most && !seen {
                range = (range.0.min(sum), range.1.max(sum));
            }
        }
        range
    }

    #[test]
    fn ranges_are_those_of_every_corruption_tried_one_by_one() {
        let mut rng = SplitMix(77);
        for unused in [None, Some(UnusedArg::Deployed), Some(UnusedArg::Zero)]
            .into_iter()
            .chain([Some(UnusedArg::Detect)])
        {
            for _ in 0..300 {
                let row: Vec<u8> = (0..3).map(|_| rng.below(4) as u8).collect();
                let q: Vec<i32> = (0..3).map(|_| rng.below(255) as i32 - 127).collect();
                let columns: Vec<Vec<Range>> = q.iter().map(|&q| vec![(q, q)]).collect();
                let found = ranges(&row, &columns, unused);
                for (level, found) in LEVELS.iter().zip(found) {
                    let expected = by_hand(&row, &q, unused, level.unwrap_or(6));
                    assert_eq!(found, [expected], "{row:?} {q:?} {unused:?} {level:?}");
                }
            }
        }
    }

    #[test]
    fn ranges_grow_with_the_number_of_flips() {
        let mut rng = SplitMix(5);
        let row: Vec<u8> = (0..40).map(|_| rng.below(3) as u8).collect();
        let mut code = || rng.below(255) as i32 - 127;
        let columns: Vec<Vec<Range>> =
            (0..40).map(|_| (0..3).map(|_| code()).map(|q| (q, q)).collect()).collect();
        let found = ranges(&row, &columns, None);
        for pair in found.windows(2) {
            for (fewer, more) in pair[0].iter().zip(&pair[1]) {
                assert!(more.0 <= fewer.0 && fewer.1 <= more.1, "{fewer:?} {more:?}");
            }
        }
    }
}

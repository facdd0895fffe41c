//! Which codes of rows differ from the clean ones, and by how many steps.

use super::{Kernels, SPARE_PLACES};

/// Numbers of columns to add and to subtract, all below a bound.
#[derive(Clone, Copy, Debug)]
pub struct Numbers<'a> {
    plus: &'a [u32],
    minus: &'a [u32],
    below: u32,
}

impl<'a> Numbers<'a> {
    /// Numbers that were looked at.
    ///
    /// # Panics
    /// Unless all of them are below the bound.
    #[must_use]
    pub fn new(plus: &'a [u32], minus: &'a [u32], below: u32) -> Self {
        assert!(all_below(plus, below) && all_below(minus, below), "numbers below {below}");
        Self { plus, minus, below }
    }

    /// Columns to add.
    #[must_use]
    pub fn plus(&self) -> &'a [u32] {
        self.plus
    }

    /// Columns to subtract.
    #[must_use]
    pub fn minus(&self) -> &'a [u32] {
        self.minus
    }

    /// Above every number.
    #[must_use]
    pub fn below(&self) -> usize {
        self.below as usize
    }
}

fn all_below(numbers: &[u32], below: u32) -> bool {
    // No number has a bit that their union lacks, so it is no smaller than any of them.
    let union = numbers.iter().fold(0, |union, &number| union | number);
    numbers.is_empty() || union < below || numbers.iter().all(|&number| number < below)
}

/// Columns whose codes moved, row behind row: once for each step up, and once for each step down.
/// The lists of a row are filled up to whole fours with a column of zeros.
///
/// Invariant: every number in a list is below `below`.
#[derive(Debug)]
pub struct Moves {
    below: u32,
    up: Columns,
    down: Columns,
    /// Those of the row at hand that moved by more than one step.
    far: Columns,
}

/// Where the columns of a row end in both lists.
#[derive(Clone, Copy, Debug, Default)]
pub struct End {
    up: usize,
    down: usize,
}

/// Numbers of columns; what lies behind `len` means nothing.
#[derive(Debug, Default)]
struct Columns {
    columns: Vec<u32>,
    len: usize,
}

impl Columns {
    /// Room for so many more.
    fn room(&mut self, more: usize) -> &mut [u32] {
        if self.columns.len() < self.len + more {
            self.columns.resize(2 * (self.len + more), 0);
        }
        &mut self.columns[self.len..]
    }

    /// Fills up to whole fours.
    fn fill_up(&mut self, column: u32) {
        self.room(3)[..3].fill(column);
        self.len = self.len.next_multiple_of(4);
    }
}

impl Default for Moves {
    fn default() -> Self {
        let [up, down, far] = Default::default();
        Self { below: 1, up, down, far }
    }
}

impl Moves {
    /// Forgets all rows; those that follow have so many columns, behind which stands one of zeros.
    ///
    /// # Panics
    /// If the numbers of columns do not fit 32 bits.
    pub fn clear(&mut self, columns: usize) {
        (self.up.len, self.down.len) = (0, 0);
        self.below = u32::try_from(columns + 1).expect("columns that 32 bits count");
    }

    /// The columns between two ends.
    #[must_use]
    pub fn between(&self, from: End, to: End) -> Numbers<'_> {
        assert!(to.up <= self.up.len && to.down <= self.down.len, "ends of rows that were added");
        let (plus, minus) =
            (&self.up.columns[from.up..to.up], &self.down.columns[from.down..to.down]);
        Numbers { plus, minus, below: self.below }
    }

    /// Where the columns of the last row end.
    #[must_use]
    pub fn end(&self) -> End {
        End { up: self.up.len, down: self.down.len }
    }

    /// Adds a row that differs from the clean one in at most so many steps; false, and nothing
    /// added, if there are more.
    ///
    /// # Panics
    /// If the rows are of different lengths, or differ behind the columns.
    pub fn push(&mut self, kernels: &Kernels, (codes, clean): (&[i8], &[i8]), most: usize) -> bool {
        let before = self.end();
        let room = codes.len() + SPARE_PLACES;
        self.far.len = 0;
        let lists = [&mut self.up, &mut self.down, &mut self.far].map(|list| list.room(room));
        let [up, down, far] = (kernels.differ)(codes, clean, lists);
        if up + down > most {
            return false;
        }
        let zeros = self.below - 1;
        for (list, count) in [(&self.up, up), (&self.down, down), (&self.far, far)] {
            assert!(all_below(&list.columns[list.len..list.len + count], zeros), "moved padding");
        }
        (self.up.len, self.down.len, self.far.len) = (before.up + up, before.down + down, far);
        if self.steps(codes, clean, most - up - down) {
            [&mut self.up, &mut self.down].into_iter().for_each(|list| list.fill_up(zeros));
            return true;
        }
        (self.up.len, self.down.len) = (before.up, before.down);
        false
    }

    /// The steps behind the first of columns that moved far; false if they are more than `most`.
    fn steps(&mut self, codes: &[i8], clean: &[i8], most: usize) -> bool {
        let mut left = most;
        for &column in &self.far.columns[..self.far.len] {
            let at = column as usize;
            let steps = i32::from(codes[at]) - i32::from(clean[at]);
            let more = steps.unsigned_abs() as usize - 1;
            if more > left {
                return false;
            }
            left -= more;
            let list = if steps > 0 { &mut self.up } else { &mut self.down };
            list.room(more)[..more].fill(column);
            list.len += more;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::best;
    use crate::model::random::SplitMix;

    /// Columns of the widest row.
    const WIDTH: usize = 192;

    #[test]
    fn every_step_of_every_code_is_a_column_and_rows_of_too_many_leave_nothing() {
        let mut rng = SplitMix(5);
        let (mut moves, mut from) = (Moves::default(), End::default());
        let mut refused = 0;
        for round in 0..2000 {
            if round % 50 == 0 {
                moves.clear(WIDTH);
                from = End::default();
            }
            let width = 16 * (1 + rng.below(12));
            let clean: Vec<i8> = (0..width).map(|_| rng.below(256) as u8 as i8).collect();
            let mut codes = clean.clone();
            for _ in 0..rng.below(width / 2) {
                let far = if rng.below(4) == 0 { 255 } else { 3 };
                let step = rng.below(far) as i32 - far as i32 / 2;
                let code = &mut codes[rng.below(width)];
                *code = (i32::from(*code) + step).clamp(-128, 127) as i8;
            }
            let steps = |k: usize| i32::from(codes[k]) - i32::from(clean[k]);
            let all: usize = (0..width).map(|k| steps(k).unsigned_abs() as usize).sum();
            // Just enough, or one too few.
            let most = if round % 3 == 0 { all.saturating_sub(1) } else { all };
            let near = moves.push(best(), (&codes, &clean), most);
            assert_eq!(near, all <= most, "round {round}");
            refused += usize::from(!near);
            let end = moves.end();
            let mut sums = vec![0; WIDTH + 1];
            let numbers = moves.between(from, end);
            assert_eq!(numbers.below(), WIDTH + 1);
            for (columns, sign) in [(numbers.plus(), 1), (numbers.minus(), -1)] {
                assert!(columns.len().is_multiple_of(4));
                columns.iter().for_each(|&column| sums[column as usize] += sign);
            }
            sums.truncate(width);
            let expected: Vec<i32> = (0..width).map(steps).collect();
            assert_eq!(sums, if all <= most { expected } else { vec![0; width] }, "round {round}");
            from = end;
        }
        assert!((300..1000).contains(&refused), "{refused} rows of too many steps");
    }

    #[test]
    #[should_panic(expected = "moved padding")]
    fn a_code_that_moved_behind_the_columns_is_refused() {
        let mut moves = Moves::default();
        moves.clear(17);
        let mut codes = [0i8; 32];
        codes[17] = 1;
        moves.push(best(), (&codes, &[0; 32]), 32);
    }

    #[test]
    #[should_panic(expected = "numbers below 3")]
    fn a_number_that_is_not_below_the_bound_is_refused() {
        let _ = Numbers::new(&[0, 2], &[1, 3], 3);
    }
}

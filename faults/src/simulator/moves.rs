//! Which codes of rows differ from the clean ones, and by how many steps.

use engine::kernels::{Kernels, SPARE_PLACES};

/// Columns whose codes moved, row behind row: once for each step up, and once for each step down.
/// The lists of a row are filled up to whole fours with a column of zeros.
#[derive(Debug, Default)]
pub(super) struct Moves {
    up: Columns,
    down: Columns,
    /// Those of the row at hand that moved by more than one step.
    far: Columns,
}

/// Where the columns of a row end in both lists.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct End {
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
    fn fill_up(&mut self, column: usize) {
        self.room(3)[..3].fill(column as u32);
        self.len = self.len.next_multiple_of(4);
    }
}

impl Moves {
    /// Forgets all rows.
    pub(super) fn clear(&mut self) {
        (self.up.len, self.down.len) = (0, 0);
    }

    /// The columns between two ends, up and down.
    pub(super) fn between(&self, from: End, to: End) -> [&[u32]; 2] {
        [&self.up.columns[from.up..to.up], &self.down.columns[from.down..to.down]]
    }

    /// Adds a row that differs from the clean one in at most so many steps; `None`, and nothing
    /// added, if there are more. `zeros` is the number of a column of zeros.
    pub(super) fn push(
        &mut self,
        kernels: &Kernels,
        (codes, clean): (&[i8], &[i8]),
        zeros: usize,
        most: usize,
    ) -> Option<End> {
        let before = self.end();
        let room = codes.len() + SPARE_PLACES;
        self.far.len = 0;
        let lists = [&mut self.up, &mut self.down, &mut self.far].map(|list| list.room(room));
        let [up, down, far] = (kernels.differ)(codes, clean, lists);
        if up + down > most {
            return None;
        }
        self.up.len += up;
        self.down.len += down;
        self.far.len = far;
        if self.steps(codes, clean, most - up - down) {
            [&mut self.up, &mut self.down].into_iter().for_each(|list| list.fill_up(zeros));
            return Some(self.end());
        }
        (self.up.len, self.down.len) = (before.up, before.down);
        None
    }

    fn end(&self) -> End {
        End { up: self.up.len, down: self.down.len }
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
    use engine::kernels::best;
    use engine::model::random::SplitMix;

    use super::*;

    #[test]
    fn every_step_of_every_code_is_a_column_and_rows_of_too_many_leave_nothing() {
        let mut rng = SplitMix(5);
        let (mut moves, mut from) = (Moves::default(), End::default());
        let mut refused = 0;
        for round in 0..2000 {
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
            let end = moves.push(best(), (&codes, &clean), width, most);
            assert_eq!(end.is_some(), all <= most, "round {round}");
            refused += usize::from(end.is_none());
            let end = end.unwrap_or(from);
            let mut sums = vec![0; width + 1];
            for (columns, sign) in moves.between(from, end).into_iter().zip([1, -1]) {
                assert!(columns.len().is_multiple_of(4));
                columns.iter().for_each(|&column| sums[column as usize] += sign);
            }
            sums.truncate(width);
            let expected: Vec<i32> = (0..width).map(steps).collect();
            assert_eq!(sums, if all <= most { expected } else { vec![0; width] }, "round {round}");
            from = end;
            if round % 50 == 0 {
                moves.clear();
                from = End::default();
            }
        }
        assert!((300..1000).contains(&refused), "{refused} rows of too many steps");
    }
}

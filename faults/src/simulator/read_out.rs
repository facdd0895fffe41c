//! The head on the rows that are left, and the verdicts.

use engine::numerics::argmax;
use engine::walk::Read;
use ndarray::ArrayView2;

use super::product::Clean;
use super::rows::{Rows, same};
use crate::trial::Trial;

/// Logits that are held at once.
const LOGITS: usize = 1 << 22;

/// Buffers of the read-out.
#[derive(Debug, Default)]
pub(super) struct ReadOuts {
    normed: Vec<f32>,
    columns: Vec<f32>,
    logits: Vec<f32>,
}

impl ReadOuts {
    /// The trials of a tile from the streams that leave the last layer.
    pub(super) fn judge(&mut self, clean: &Clean, trials: usize, stream: &Rows) -> Vec<Trial> {
        let vocabulary = clean.model.head.rows();
        let lot = (LOGITS / vocabulary).max(clean.tokens());
        let mut out = Vec::with_capacity(trials);
        let mut owner = 0;
        while owner < trials {
            let start = stream.of(owner).start;
            let mut end = owner + 1;
            while end < trials && stream.of(end).end - start <= lot {
                end += 1;
            }
            let rows = start..stream.of(end - 1).end;
            self.logits(clean, stream, rows.clone());
            for owner in owner..end {
                let of = stream.of(owner);
                let logits =
                    &self.logits[(of.start - start) * vocabulary..(of.end - start) * vocabulary];
                out.push(trial(clean, &stream.tokens[of], logits));
            }
            owner = end;
        }
        out
    }

    /// The logits of some rows, row by row.
    fn logits(&mut self, clean: &Clean, stream: &Rows, rows: std::ops::Range<usize>) {
        let (model, count) = (clean.model, rows.len());
        let (width, vocabulary) = (model.config.hidden, model.head.rows());
        self.normed.resize(count * width, 0.0);
        self.logits.resize(count * vocabulary, 0.0);
        if count == 0 {
            return;
        }
        let norm = &model.final_norm;
        for (y, index) in self.normed.chunks_exact_mut(width).zip(rows) {
            (clean.kernels.rms_norm)(stream.row(index), &norm.gains, norm.eps, y);
        }
        self.columns.resize(count * vocabulary, 0.0);
        let x = ArrayView2::from_shape((count, width), &self.normed).expect("rows of the stream");
        model.head.dots(clean.kernels, x, 0, &mut self.columns);
        for (index, row) in self.logits.chunks_exact_mut(vocabulary).enumerate() {
            let column = self.columns[index..].iter().step_by(count);
            row.iter_mut().zip(column).for_each(|(to, from)| *to = *from);
        }
    }
}

/// What a trial comes to whose rows at some tokens have these logits, the others the clean ones.
fn trial(clean: &Clean, tokens: &[u32], logits: &[f32]) -> Trial {
    let golden = clean.golden;
    if tokens.is_empty() {
        return Trial::identical(golden);
    }
    let vocabulary = clean.model.head.rows();
    let read = |token: u32| match golden.read {
        Read::All => token as usize,
        Read::Last => 0,
    };
    let before = golden.logits.as_slice().expect("standard rows");
    let row = |index: usize| &before[index * vocabulary..(index + 1) * vocabulary];
    let pairs = || tokens.iter().map(|&token| read(token)).zip(logits.chunks_exact(vocabulary));
    let identical = pairs().all(|(index, after)| same(after, row(index)));
    let last = golden.logits.nrows() - 1;
    let after = pairs().find(|(index, _)| *index == last).map_or(row(last), |(_, after)| after);
    let changed = || pairs().any(|(index, after)| argmax(after) != golden.tokens[index]);
    let all = golden.read == Read::All;
    Trial::judged(golden, after, identical, all.then(changed))
}

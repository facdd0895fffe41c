//! The head on the rows that are left, and the verdicts.
//!
//! The last position is read whole, for the decision and its shift. At the others only the best
//! token counts, and most rivals of the clean best are out of reach (shortcut `margins`):
//!
//! Let `y`, `y'` be the clean and the faulty normed row, `h_g` the head's row of the clean best
//! token and `h_j` that of a rival, and `l` the computed logits. `dot16` adds a product to a lane
//! at most `n / 16 + 1` times and then has four levels, so `|l_j(y) - h_j . y| <= c |h_j| |y|` with
//! `c = m u / (1 - m u)`, `m = n / 16 + 6`, `u = 2^-24`. Hence, with `d = |y' - y|`,
//!
//! `l_g(y') - l_j(y') >= l_g(y) - l_j(y) - |h_g - h_j| d - c (|h_g| + |h_j|) (2 |y| + d)`,
//!
//! which is above zero while `d` is below the *reach* of the rival. Reaches are computed in f64 and
//! taken a millionth smaller, and `d` a millionth larger, which covers their own rounding. Rivals
//! within reach are computed; if there are too many, the whole row is.

use std::ops::Range;

use engine::kernels::Kernels;
use engine::model::Model;
use engine::numerics::argmax;
use engine::numerics::special::smaller;
use engine::walk::Read;
use ndarray::ArrayView2;

use super::product::Clean;
use super::rows::Rows;
use crate::golden::Golden;
use crate::trial::Trial;

/// Values of a head that is held as f32.
const HEAD: usize = 1 << 24;
/// Products that may be spent on exact distances between rows of the head.
const DISTANCES: usize = 1 << 28;
/// Rivals that are kept for a position.
const RIVALS: usize = 96;
/// What covers the rounding of reaches and distances.
const SLACK: f64 = 1e-6;
/// More than all products of a row that underflow can come to.
const UNDERFLOW: f64 = 1e-30;
/// Less than any sum that overflows.
const OVERFLOW: f64 = 1e30;

/// What the clean read-out leaves for the trials.
#[derive(Debug)]
pub(super) struct CleanReads {
    /// The head as f32; empty where it is too large.
    head: Vec<f32>,
    /// The clean normed rows.
    normed: Vec<f32>,
    /// The nearest rivals of the best token at each position, by reach.
    rivals: Vec<Vec<(f64, u32)>>,
}

impl CleanReads {
    /// Prepares for trials that read logits as the clean run does.
    pub(super) fn new(model: &Model, kernels: &'static Kernels, golden: &Golden) -> Self {
        let (vocabulary, width) = (model.head.rows(), model.config.hidden);
        let mut reads = Self { head: Vec::new(), normed: Vec::new(), rivals: Vec::new() };
        if vocabulary * width > HEAD {
            return reads;
        }
        reads.head.resize(vocabulary * width, 0.0);
        for (index, row) in reads.head.chunks_exact_mut(width).enumerate() {
            model.head.read_row(index, row);
        }
        if golden.read == Read::Last {
            return reads;
        }
        let stream = &golden.streams[model.layers.len()];
        let norms: Vec<f64> = reads.head.chunks_exact(width).map(norm).collect();
        reads.normed.resize(stream.len(), 0.0);
        let final_norm = &model.final_norm;
        for (x, y) in stream.rows().into_iter().zip(reads.normed.chunks_exact_mut(width)) {
            let x = x.to_slice().expect("a standard row");
            (kernels.rms_norm)(x, &final_norm.gains, final_norm.eps, y);
        }
        let rivals = (0..stream.nrows()).map(|token| reads.rivals(golden, &norms, token));
        reads.rivals = rivals.collect();
        reads
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        let rivals: usize = self.rivals.iter().map(Vec::len).sum();
        4 * (self.head.len() + self.normed.len()) + 16 * rivals
    }

    /// The nearest rivals at a position, with their reaches.
    fn rivals(&self, golden: &Golden, norms: &[f64], token: usize) -> Vec<(f64, u32)> {
        let Some(best) = golden.tokens[token] else { return Vec::new() };
        let width = self.head.len() / norms.len();
        let row = |index: usize| &self.head[index * width..(index + 1) * width];
        let logits = golden.logits.row(token);
        let y = norm(&self.normed[token * width..(token + 1) * width]);
        let terms = (width as f64 / 16.0 + 6.0) / 16_777_216.0;
        let c = terms / (1.0 - terms);
        let exact = norms.len() * width * golden.tokens.len() <= DISTANCES;
        let reach = |rival: usize| {
            let gap = f64::from(logits[best]) - f64::from(logits[rival]) - UNDERFLOW;
            let both = norms[best] + norms[rival];
            let apart = if exact { distance(row(best), row(rival)) } else { both };
            let reach = (gap - 2.0 * c * both * y) / (apart + c * both);
            let reach = smaller(reach, OVERFLOW / both - y) * (1.0 - SLACK);
            // Of what is not finite nothing is claimed: such a rival is always computed.
            if reach.is_finite() { reach } else { f64::NEG_INFINITY }
        };
        let others = (0..norms.len()).filter(|&rival| rival != best);
        let mut rivals: Vec<_> = others.map(|rival| (reach(rival), rival as u32)).collect();
        rivals.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        // A row that moves less than the last one kept moves less than all that are cut off.
        rivals.truncate(RIVALS);
        rivals
    }
}

/// The length of a row.
fn norm(row: &[f32]) -> f64 {
    row.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt()
}

/// The distance of two rows.
fn distance(a: &[f32], b: &[f32]) -> f64 {
    let mut sums = [0f64; 8];
    let (a8, b8) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest = a8.remainder().iter().zip(b8.remainder());
    for (a, b) in a8.zip(b8) {
        for k in 0..8 {
            let difference = f64::from(a[k]) - f64::from(b[k]);
            sums[k] += difference * difference;
        }
    }
    let rest = rest.map(|(&a, &b)| (f64::from(a) - f64::from(b)) * (f64::from(a) - f64::from(b)));
    (sums.iter().sum::<f64>() + rest.sum::<f64>()).sqrt()
}

/// A row of the stream under the final norm.
fn normed(clean: &Clean, x: &[f32], y: &mut [f32]) {
    let norm = &clean.model.final_norm;
    (clean.kernels.rms_norm)(x, &norm.gains, norm.eps, y);
}

/// Buffers of the read-out.
#[derive(Debug, Default)]
pub(super) struct ReadOuts {
    normed: Vec<f32>,
    /// The logits of a row.
    row: Vec<f32>,
    /// Those at the last position.
    last: Vec<f32>,
    /// Those of all rows of a trial, `[token of the vocabulary][row]`, where the head is large.
    all: Vec<f32>,
}

impl ReadOuts {
    /// The trials of a tile from the streams that leave the last layer.
    pub(super) fn judge(&mut self, clean: &Clean, trials: usize, stream: &Rows) -> Vec<Trial> {
        self.row.resize(clean.model.head.rows(), 0.0);
        (0..trials).map(|owner| self.trial(clean, stream, owner)).collect()
    }

    /// The verdict on one trial; its rows that are not carried are clean.
    fn trial(&mut self, clean: &Clean, stream: &Rows, owner: usize) -> Trial {
        let (golden, rows) = (clean.golden, stream.of(owner));
        if rows.is_empty() {
            return Trial::identical(golden);
        }
        if clean.trace.reads.head.is_empty() {
            self.whole(clean, stream, rows.clone());
        }
        let token = |row: usize| stream.place(row).1;
        let before = |token: usize| {
            let read = token + golden.logits.nrows() - clean.tokens();
            golden.logits.row(read).to_slice().expect("a standard row")
        };
        let end = clean.tokens() - 1;
        let mut identical = true;
        self.last.clear();
        if token(rows.end - 1) == end {
            self.logits(clean, stream, rows.clone(), rows.end - 1);
            self.last.extend_from_slice(&self.row);
            identical = clean.same(&self.last, before(end));
        } else {
            self.last.extend_from_slice(before(end));
        }
        // Whether all logits are clean is asked row by row, until one is not.
        for row in rows.clone() {
            if identical {
                self.logits(clean, stream, rows.clone(), row);
                identical = clean.same(&self.row, before(token(row)));
            }
        }
        let all = golden.read == Read::All;
        // Backwards: late tokens have seen the fault most often.
        let changed = !identical
            && all
            && rows.clone().rev().any(|row| self.moves(clean, stream, rows.clone(), row));
        Trial::judged(golden, &self.last, identical, all.then_some(changed))
    }

    /// Whether the best token of a row is not the clean one.
    fn moves(&mut self, clean: &Clean, stream: &Rows, of: Range<usize>, row: usize) -> bool {
        let (reads, token) = (&clean.trace.reads, stream.place(row).1);
        let best = clean.golden.tokens[token];
        if let (Some(best), Some(rivals)) = (best, reads.rivals.get(token))
            && clean.shortcuts.margins
        {
            let width = stream.width;
            self.normed.resize(width, 0.0);
            normed(clean, stream.row(row), &mut self.normed);
            let clean_row = &reads.normed[token * width..(token + 1) * width];
            let moved = distance(&self.normed, clean_row) * (1.0 + SLACK);
            let complete = rivals.len() + 1 == clean.model.head.rows();
            let beyond = rivals.last().is_some_and(|&(reach, _)| moved < reach);
            if moved.is_finite() && (complete || beyond) {
                let logit = |token: usize| {
                    let row = &reads.head[token * width..(token + 1) * width];
                    (clean.kernels.dot)(row, &self.normed)
                };
                let top = logit(best);
                return rivals.iter().take_while(|&&(reach, _)| reach <= moved).any(
                    |&(_, rival)| {
                        let (rival, logit) = (rival as usize, logit(rival as usize));
                        !(logit < top || (logit == top && best < rival))
                    },
                );
            }
        }
        self.logits(clean, stream, of, row);
        argmax(&self.row) != best
    }

    /// The logits of one of the rows of a trial.
    fn logits(&mut self, clean: &Clean, stream: &Rows, of: Range<usize>, row: usize) {
        let head = &clean.trace.reads.head;
        if head.is_empty() {
            let column = self.all[row - of.start..].iter().step_by(of.len());
            self.row.iter_mut().zip(column).for_each(|(to, from)| *to = *from);
            return;
        }
        self.normed.resize(stream.width, 0.0);
        normed(clean, stream.row(row), &mut self.normed);
        (clean.kernels.dot_rows)(&self.normed, head, &mut self.row);
    }

    /// The logits of all rows of a trial, so that a large head is widened once for them.
    fn whole(&mut self, clean: &Clean, stream: &Rows, rows: Range<usize>) {
        let (count, width) = (rows.len(), stream.width);
        self.normed.resize(count * width, 0.0);
        for (y, row) in self.normed.chunks_exact_mut(width).zip(rows) {
            normed(clean, stream.row(row), y);
        }
        let head = &clean.model.head;
        self.all.resize(count * head.rows(), 0.0);
        let x = ArrayView2::from_shape((count, width), &self.normed[..count * width]);
        head.dots(clean.kernels, x.expect("rows of the stream"), 0, &mut self.all);
    }
}

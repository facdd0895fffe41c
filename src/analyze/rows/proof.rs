//! Which rows of one layer are proven harmless, under how many flips, on one sample.
//!
//! The flips of a row of the down projection move one feature of the stream that leaves the layer,
//! in every token, and nothing else of the layer: so the layer is walked once, with points before
//! the struck sums and the ranges of those behind, and each row is then a box about the clean
//! stream, one feature wide. A proof on that box proves every corruption in it.

use certify::affine::Matrices;
use certify::claim::Deployed;
use certify::interval::{BoxPrepared, Boxes, Interval, Margin};
use certify::ladder::{Aim, Ladder, Rung};
use certify::moved::{AnyFlip, Moved};
use certify::region::{Ball, Region};
use engine::model::{Linear, Slot, Weights};
use engine::packing::TernaryRows;
use engine::walk::{self, Read, Site, Step};
use ndarray::{Array2, Axis};
use rayon::prelude::*;

use super::super::bounds::speaks_of;
use super::flips::{LEVELS, Range, columns, ranges};
use crate::cli::UnusedArg;

/// A row, and by which rung it is proven under each number of flips.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ProvenRow {
    pub(super) row: usize,
    pub(super) by: [Option<Rung>; LEVELS.len()],
}

/// What proofs about rows need to know.
pub(super) struct Prover<'a> {
    pub(super) deployed: &'a Deployed<'a>,
    pub(super) matrices: &'a Matrices<'a>,
    pub(super) ladder: &'a Ladder,
    /// Whether rungs behind the first may be tried.
    pub(super) forms: bool,
    pub(super) unused: Option<UnusedArg>,
    /// Whether rows are proven side by side.
    pub(super) parallel: bool,
    /// Ternary weights of the model.
    pub(super) weights: u64,
}

impl Prover<'_> {
    /// Whether flips of a tensor can be bounded.
    pub(super) fn speaks_of(&self, layer: usize, slot: Slot) -> bool {
        speaks_of(self.deployed.model.layers[layer].linear(slot))
    }

    /// Tries rows of a layer, which `streams[layer]` enters and `streams[layer + 1]` leaves.
    pub(super) fn rows(
        &self,
        layer: usize,
        streams: &[Array2<f32>],
        rows: &[usize],
        claim: &Margin,
    ) -> Vec<ProvenRow> {
        let leaving = self.leaving(layer, &streams[layer], rows);
        let clean = &streams[layer + 1];
        let one = |&row: &usize| self.row(layer + 1, clean, row, &leaving, claim);
        if self.parallel {
            rows.par_iter().map(one).collect()
        } else {
            rows.iter().map(one).collect()
        }
    }

    /// The boxes behind the layer with all rows moved at once, for each number of flips; `None`
    /// where a bound is lost.
    fn leaving(&self, layer: usize, stream: &Array2<f32>, rows: &[usize]) -> Vec<Option<Boxes>> {
        let (_, activations) = self.walked(layer, stream, None);
        let codes = ternary(self.deployed.model.layers[layer].linear(Slot::Down));
        let none = Moved { ranges: vec![Vec::new(); codes.rows()], shared: None };
        let mut moved = vec![none; LEVELS.len()];
        let found: Vec<Vec<Vec<Range>>> = (rows.par_iter())
            .map(|&row| ranges(&codes.row(row), &activations, self.unused))
            .collect();
        for (&row, levels) in rows.iter().zip(found) {
            for (moved, range) in moved.iter_mut().zip(levels) {
                moved.ranges[row] = range;
            }
        }
        moved.into_iter().map(|moved| self.walked(layer, stream, Some(moved)).0).collect()
    }

    /// A layer with the sums of its down projection moved, and the codes that those are of.
    pub(super) fn walked(
        &self,
        layer: usize,
        stream: &Array2<f32>,
        mut moved: Option<Moved>,
    ) -> (Option<Boxes>, Vec<Vec<Range>>) {
        let Deployed { model, kernels, kv } = *self.deployed;
        let inner = Interval::new(kernels, model, kv, Vec::new());
        let site = Site { layer, step: Step::Linear(Slot::Down) };
        let mut activations = Vec::new();
        let strike = |at: Site, x: &BoxPrepared, linear: &Linear| {
            if at != site {
                return None;
            }
            activations = columns(x, linear.inputs());
            moved.take()
        };
        let mut domain = AnyFlip { inner, moved: strike };
        let boxes = walk::layer(&mut domain, model, layer, &Boxes::point(stream), 0, Read::All);
        (domain.inner.diverged().is_none().then_some(boxes), activations)
    }

    fn row(
        &self,
        from: usize,
        clean: &Array2<f32>,
        row: usize,
        leaving: &[Option<Boxes>],
        claim: &Margin,
    ) -> ProvenRow {
        let by = bisected(|level| {
            let boxes = leaving[level].as_ref();
            boxes.and_then(|boxes| self.prove(from, clean, row, boxes, claim))
        });
        ProvenRow { row, by }
    }

    fn prove(
        &self,
        from: usize,
        clean: &Array2<f32>,
        row: usize,
        boxes: &Boxes,
        claim: &Margin,
    ) -> Option<Rung> {
        let end = |of: &Array2<f32>| {
            let mut end = clean.clone();
            end.index_axis_mut(Axis(1), row).assign(&of.column(row));
            end
        };
        let ball = Ball::Boxes { lo: end(&boxes.lo), hi: end(&boxes.hi) };
        let region = Region { clean, moved: 0..clean.nrows(), ball };
        let Self { deployed, matrices, ladder, forms, .. } = *self;
        let claims = std::slice::from_ref(claim);
        let aim = Aim { deployed, matrices, from, read: Read::Last, claims };
        let may = |rung| forms || rung == ladder.rungs()[0];
        ladder.climb(&aim, &region, false, &may).decided()
    }
}

/// The rows of a layer that is spoken of.
pub(super) fn ternary(linear: &Linear) -> &TernaryRows {
    match &linear.weights {
        Weights::Ternary { rows, .. } => rows,
        Weights::Coded(_) | Weights::Dense(_) => {
            unreachable!("only ternary weights have flips of codes")
        }
    }
}

/// Numbers of flips, few first, by bisection: a proof for more is a proof for fewer.
pub(super) fn bisected<const N: usize>(prove: impl Fn(usize) -> Option<Rung>) -> [Option<Rung>; N] {
    let mut by = [None; N];
    let (mut proven, mut open) = (0, N);
    while proven < open {
        let middle = (proven + open) / 2;
        match prove(middle) {
            Some(rung) => {
                by[proven..=middle].fill(Some(rung));
                proven = middle + 1;
            }
            None => open = middle,
        }
    }
    by
}

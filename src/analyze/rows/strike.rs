//! Flips in any tensors of a layer, or of several: walked from the clean stream that enters the
//! first.
//!
//! Everything before the first struck tensor is a point. At each struck tensor the integer sums
//! move by what the flips can add on the codes that may then stand there; boxes or forms carry that
//! to the head.

use certify::affine::Affine;
use certify::claim::Proof;
use certify::interval::{BoxPrepared, Boxes, Interval, Margin};
use certify::ladder::Rung;
use certify::moved::{AnyFlip, Movable, Moved};
use certify::region::{Ball, Region};
use engine::model::{Linear, Slot};
use engine::walk::{self, Read, Site, Step};
use ndarray::Array2;
use rayon::prelude::*;

use super::flips::{LEVELS, columns, ranges, shared};
use super::proof::{Prover, ternary};

/// Which bits may be flipped.
#[derive(Clone, Copy, Debug)]
pub(super) enum Bits {
    /// Those of one row, at most as many as this entry of [`LEVELS`] says.
    Row(usize, usize),
    /// All, at most so many of them.
    Any(usize),
}

/// Which tensors of which layer are struck, and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct Strike<'a> {
    /// The first struck layer, and the first behind that is not.
    pub(super) layer: usize,
    pub(super) until: usize,
    pub(super) slots: &'a [Slot],
    pub(super) bits: Bits,
}

impl<'a> Strike<'a> {
    /// In tensors of one layer.
    pub(super) fn in_layer(layer: usize, slots: &'a [Slot], bits: Bits) -> Self {
        Self { layer, until: layer + 1, slots, bits }
    }
}

/// What one rung bounds.
pub(super) struct Passed {
    pub(super) proof: Proof,
    /// The logits at the read-out; none where a bound was lost.
    pub(super) logits: Option<Boxes>,
}

impl Prover<'_> {
    /// The rungs that may be tried.
    pub(super) fn rungs(&self) -> impl Iterator<Item = Rung> {
        let all = self.ladder.rungs();
        let count = if self.forms { all.len() } else { 1 };
        all[..count].iter().copied()
    }

    /// The rung that proves every such corruption harmless, if one does.
    pub(super) fn struck(
        &self,
        strike: Strike<'_>,
        stream: &Array2<f32>,
        claim: &Margin,
    ) -> Option<Rung> {
        self.rungs().find(|&rung| self.pass((rung, false), strike, stream, claim).proof.certifies())
    }

    /// What one rung bounds; `reads` asks forms for the logits too.
    pub(super) fn pass(
        &self,
        (rung, reads): (Rung, bool),
        strike: Strike<'_>,
        stream: &Array2<f32>,
        claim: &Margin,
    ) -> Passed {
        let deployed = self.deployed;
        let claims = vec![claim.clone()];
        let (proof, logits) = match rung {
            Rung::Interval => {
                let inner = Interval::new(deployed.kernels, deployed.model, deployed.kv, claims);
                let (domain, out) = self.walk_struck(inner, &Boxes::point(stream), strike);
                let margins = domain.margins().to_vec();
                (Proof { margins, diverged: domain.diverged() }, out)
            }
            Rung::Affine => {
                let region = Region { clean: stream, moved: 0..0, ball: Ball::Linf(0.0) };
                let (mut inner, rows) = Affine::new(deployed, self.matrices, &region, claims);
                self.share(&mut inner, strike, stream.nrows());
                if reads {
                    inner.read_logits();
                }
                let (domain, out) = self.walk_struck(inner, &rows, strike);
                let found = domain.proof();
                (Proof { margins: found.margins, diverged: found.diverged }, out.boxes)
            }
        };
        let logits = proof.diverged.is_none().then_some(logits);
        Passed { proof, logits }
    }

    /// Announces the symbols of flips that tensors share, if they do.
    pub(super) fn share(&self, inner: &mut Affine<'_>, strike: Strike<'_>, tokens: usize) {
        if let Bits::Any(flips) = strike.bits {
            inner.share_flips(flips, self.struck_rows(strike) * tokens);
        }
    }

    /// How many rows are struck.
    pub(super) fn struck_rows(&self, strike: Strike<'_>) -> usize {
        let tensors = (strike.layer..strike.until)
            .flat_map(|layer| strike.slots.iter().map(move |&slot| (layer, slot)));
        tensors.map(|(layer, slot)| self.rows_of(layer, slot)).sum()
    }

    /// A domain under the flips.
    pub(super) fn decorated<D: Movable>(
        &self,
        inner: D,
        strike: Strike<'_>,
    ) -> AnyFlip<D, impl FnMut(Site, &BoxPrepared, &Linear) -> Option<Moved>> {
        let moved = move |at: Site, x: &BoxPrepared, linear: &Linear| {
            let Step::Linear(slot) = at.step else { return None };
            let layers = strike.layer..strike.until;
            let struck = layers.contains(&at.layer) && strike.slots.contains(&slot);
            struck.then(|| self.moved(x, linear, strike.bits))
        };
        AnyFlip { inner, moved }
    }

    fn walk_struck<D: Movable>(
        &self,
        inner: D,
        stream: &D::Rows,
        strike: Strike<'_>,
    ) -> (D, D::Rows) {
        let mut domain = self.decorated(inner, strike);
        let model = self.deployed.model;
        let out = walk::run(&mut domain, model, stream, strike.layer, 0, Read::Last);
        (domain.inner, out)
    }

    /// What the flips do to the sums of one tensor.
    fn moved(&self, x: &BoxPrepared, linear: &Linear, bits: Bits) -> Moved {
        let codes = ternary(linear);
        let activations = columns(x, linear.inputs());
        match bits {
            Bits::Row(row, level) => {
                let mut moved = Moved { ranges: vec![Vec::new(); codes.rows()], shared: None };
                let levels = ranges(&codes.row(row), &activations, self.unused);
                moved.ranges[row] = levels.into_iter().nth(level).expect("one of LEVELS");
                moved
            }
            Bits::Any(flips) => {
                let of = |row: usize| shared(&codes.row(row), &activations, self.unused, flips);
                let (ranges, most) = (0..codes.rows()).into_par_iter().map(of).unzip();
                Moved { ranges, shared: Some(most) }
            }
        }
    }

    pub(super) fn rows_of(&self, layer: usize, slot: Slot) -> usize {
        self.deployed.model.layers[layer].linear(slot).outputs()
    }
}

/// The numbers of flips that are tried over whole tensors.
pub(super) const SHARED: [usize; LEVELS.len() - 1] = [1, 2, 4, 8];

//! Flips in any tensors of a layer: walked from the clean stream that enters it.
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
    pub(super) layer: usize,
    pub(super) slots: &'a [Slot],
    pub(super) bits: Bits,
}

impl Prover<'_> {
    /// The rung that proves every such corruption harmless, if one does.
    pub(super) fn struck(
        &self,
        strike: Strike<'_>,
        stream: &Array2<f32>,
        claim: &Margin,
    ) -> Option<Rung> {
        let rungs = self.ladder.rungs();
        let may = |rung: &&Rung| self.forms || **rung == rungs[0];
        let proves = |rung: &&Rung| self.proof(**rung, strike, stream, claim).certifies();
        rungs.iter().take_while(may).find(proves).copied()
    }

    /// What one rung bounds.
    pub(super) fn proof(
        &self,
        rung: Rung,
        strike: Strike<'_>,
        stream: &Array2<f32>,
        claim: &Margin,
    ) -> Proof {
        let deployed = self.deployed;
        let claims = vec![claim.clone()];
        match rung {
            Rung::Interval => {
                let inner = Interval::new(deployed.kernels, deployed.model, deployed.kv, claims);
                let domain = self.walk_struck(inner, &Boxes::point(stream), strike);
                Proof { margins: domain.margins().to_vec(), diverged: domain.diverged() }
            }
            Rung::Affine => {
                let region = Region { clean: stream, moved: 0..0, ball: Ball::Linf(0.0) };
                let (mut inner, rows) = Affine::new(deployed, self.matrices, &region, claims);
                self.share(&mut inner, strike, stream.nrows());
                let found = self.walk_struck(inner, &rows, strike).proof();
                Proof { margins: found.margins, diverged: found.diverged }
            }
        }
    }

    /// Announces the symbols of flips that tensors share, if they do.
    pub(super) fn share(&self, inner: &mut Affine<'_>, strike: Strike<'_>, tokens: usize) {
        if let Bits::Any(flips) = strike.bits {
            let rows = strike.slots.iter().map(|&slot| self.rows_of(strike.layer, slot));
            inner.share_flips(flips, rows.sum::<usize>() * tokens);
        }
    }

    /// A domain under the flips.
    pub(super) fn decorated<D: Movable>(
        &self,
        inner: D,
        strike: Strike<'_>,
    ) -> AnyFlip<D, impl FnMut(Site, &BoxPrepared, &Linear) -> Option<Moved>> {
        let moved = move |at: Site, x: &BoxPrepared, linear: &Linear| {
            let Step::Linear(slot) = at.step else { return None };
            let struck = at.layer == strike.layer && strike.slots.contains(&slot);
            struck.then(|| self.moved(x, linear, strike.bits))
        };
        AnyFlip { inner, moved }
    }

    fn walk_struck<D: Movable>(&self, inner: D, stream: &D::Rows, strike: Strike<'_>) -> D {
        let mut domain = self.decorated(inner, strike);
        let model = self.deployed.model;
        walk::run(&mut domain, model, stream, strike.layer, 0, Read::Last);
        domain.inner
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

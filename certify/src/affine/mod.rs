//! The affine domain: zonotopes made for ternary transformers with int8 activations.
//!
//! A row of values is a centre with generators over shared noise symbols (one for each cell of the
//! input that moves, each rounding to a code, each remainder), beside the boxes of
//! [`crate::interval`]. To first order everything that cancels in the real network cancels here;
//! second-order remainders are bounded step by step. Norm, rounding and the integer product are one
//! step: nothing is divided before the product is taken.
//!
//! Both bounds hold at every step, so their intersection does: forms are replaced by boxes where
//! those are clearly narrower, and boxes are cut to the forms.

mod attend;
mod budget;
pub mod change;
mod claims;
mod codes;
mod domain;
mod energy;
mod first;
mod form;
mod gate;
mod inputs;
mod linear;
mod margin;
mod mixture;
mod moved;
mod past;
mod quotient;
mod readings;
mod refine;
mod rows;
mod scores;
mod second;
mod sites;
mod state;
mod store;
#[cfg(test)]
mod tests;
mod undivided;

use engine::walk::{self, Read, Site};

pub use linear::Matrices;
pub use rows::Rows;
pub use state::{Affine, Prepared};

use crate::claim::Deployed;
use crate::interval::{Diverged, Margin};
use crate::region::Region;

/// How wide the forms behind a step are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Growth {
    /// The step.
    pub site: Site,
    /// The median over all values of the radius.
    pub median: f64,
    /// The symbols of the last row.
    pub symbols: usize,
}

/// Why noise symbols were made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The input moves.
    Input,
    /// A value is rounded to a code.
    Rounding,
    /// What a step is not linear in.
    Remainder,
}

/// From some number on, symbols were made at a step.
#[derive(Clone, Copy, Debug)]
struct Birth {
    first: usize,
    site: Site,
    kind: Kind,
}

/// What the symbols made at one step contribute to the radius of the worst margin.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share {
    /// The step; none for the input.
    pub site: Option<Site>,
    /// Why the symbols were made.
    pub kind: Kind,
    /// Their part of the radius, in the units of the undivided margin.
    pub radius: f64,
}

/// What a pass found.
#[derive(Clone, Debug, PartialEq)]
pub struct Proof {
    /// Lower bounds of the margins, one a claim; empty once the bound is lost.
    pub margins: Vec<f64>,
    /// Where the bound was lost, if it was.
    pub diverged: Option<Diverged>,
    /// The widths behind every step.
    pub growth: Vec<Growth>,
    /// Where the radius of the worst margin comes from, largest first.
    pub sources: Vec<Share>,
    /// The symbols that were given out.
    pub symbols: usize,
    /// The first step at which rows gave up symbols because the memory was too small for them.
    pub reduced: Option<Site>,
}

impl Proof {
    /// Positive proof for every claim: all bounds finite and every margin above zero.
    #[must_use]
    pub fn certifies(&self) -> bool {
        self.diverged.is_none()
            && !self.margins.is_empty()
            && self.margins.iter().all(|&margin| margin > 0.0 && margin.is_finite())
    }
}

/// Runs forms from layer `from` to the head and bounds the claimed margins.
#[must_use]
pub fn prove(
    deployed: &Deployed,
    matrices: &Matrices<'_>,
    region: &Region<'_>,
    from: usize,
    read: Read,
    claims: &[Margin],
) -> Proof {
    let (mut domain, rows) = Affine::new(deployed, matrices, region, claims.to_vec());
    walk::run(&mut domain, deployed.model, &rows, from, 0, read);
    domain.proof()
}

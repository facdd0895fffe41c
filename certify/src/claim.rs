//! What is claimed: who may move, how far, and which decision must stand.

use std::ops::Range;

use engine::kernels::Kernels;
use engine::model::{KvKind, Model};
use engine::numerics::argmax;
use engine::walk::{self, Exact, Read};
use ndarray::Array2;

use crate::interval::{Boxes, Diverged, Interval, Margin};

/// The deployed program: a model under a storage type of its cache, run by a kernel table.
#[derive(Clone, Copy, Debug)]
pub struct Deployed<'a> {
    /// The model.
    pub model: &'a Model,
    /// The kernel table.
    pub kernels: &'static Kernels,
    /// The storage type of keys and values.
    pub kv: KvKind,
}

impl Deployed<'_> {
    /// The logits of all positions, or of the last.
    #[must_use]
    pub fn logits(&self, stream: &Array2<f32>, from: usize, read: Read) -> Array2<f32> {
        let mut domain = Exact::new(self.kernels, self.model, self.kv);
        walk::run(&mut domain, self.model, stream, from, 0, read)
    }

    /// The streams that enter each layer, and the one that leaves the last.
    #[must_use]
    pub fn streams(&self, embedded: &Array2<f32>) -> Vec<Array2<f32>> {
        walk::streams(&mut Exact::new(self.kernels, self.model, self.kv), self.model, embedded)
    }
}

/// A decision that must stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The class that must win.
    pub winner: usize,
    /// The classes it is chosen from; empty = the whole vocabulary.
    pub classes: Vec<usize>,
}

impl Decision {
    /// The tokens that compete in a vocabulary, rising.
    pub fn candidates(&self, vocabulary: usize) -> impl Iterator<Item = usize> {
        let mut classes = self.classes.clone();
        classes.sort_unstable();
        let all = if classes.is_empty() { 0..vocabulary } else { 0..0 };
        all.chain(classes)
    }
}

/// The class that a row of logits decides for; ties go to the lowest index; `None` on NaN.
#[must_use]
pub fn decide(logits: &[f32], classes: &[usize]) -> Option<usize> {
    if classes.is_empty() {
        return argmax(logits);
    }
    let mut sorted = classes.to_vec();
    sorted.sort_unstable();
    let chosen: Vec<f32> = sorted.iter().map(|&class| logits[class]).collect();
    argmax(&chosen).map(|index| sorted[index])
}

/// The margin of a decision: the logit of the winner less the largest of the rivals.
#[must_use]
pub fn clean_margin(logits: &[f32], decision: &Decision) -> f64 {
    let rivals = decision.candidates(logits.len()).filter(|&class| class != decision.winner);
    let rivals = rivals.map(|class| f64::from(logits[class]));
    let most = rivals.fold(f64::NEG_INFINITY, |most, x| if x > most { x } else { most });
    f64::from(logits[decision.winner]) - most
}

/// What a pass over a box found.
#[derive(Clone, Debug, PartialEq)]
pub struct Proof {
    /// Lower bounds of the margins, one a claim; empty once the bound is lost.
    pub margins: Vec<f64>,
    /// Where the bound was lost, if it was.
    pub diverged: Option<Diverged>,
}

impl Proof {
    /// Positive proof for every claim: all bounds finite and every margin above zero.
    #[must_use]
    pub fn certifies(&self) -> bool {
        self.diverged.is_none()
            && !self.margins.is_empty()
            && self.margins.iter().all(|&margin| margin > 0.0 && !margin.is_nan())
    }
}

/// Runs boxes from layer `from` to the head and bounds the claimed margins.
#[must_use]
pub fn prove(
    deployed: &Deployed,
    stream: &Boxes,
    from: usize,
    read: Read,
    claims: &[Margin],
) -> Proof {
    let model = deployed.model;
    let mut domain = Interval::new(deployed.kernels, model, deployed.kv, claims.to_vec());
    walk::run(&mut domain, model, stream, from, 0, read);
    Proof { margins: domain.margins().to_vec(), diverged: domain.diverged() }
}

/// Who moves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Every embedding at once.
    All,
    /// Every position alone; the minimum counts.
    Each,
    /// One 0-based position.
    Position(usize),
}

impl Scope {
    /// The sets of rows that move together; `None` if a position lies behind the sample.
    #[must_use]
    pub fn moves(&self, tokens: usize) -> Option<Vec<Range<usize>>> {
        match *self {
            Self::All => Some(std::iter::once(0..tokens).collect()),
            Self::Each => Some((0..tokens).map(|row| row..row + 1).collect()),
            Self::Position(row) => (row < tokens).then(|| std::iter::once(row..row + 1).collect()),
        }
    }
}

//! The ladder of deterministic proofs: the cheapest rung that decides is the one that counts.
//!
//! Every rung bounds the same margins on the same set, each in its own way, and each bound is sound
//! alone: so the larger of two lower bounds is a lower bound, and a claim is proven as soon as one
//! rung proves it. Which rungs are tried depends on what they cost and never on what they would
//! say. A caller with a clock may refuse to begin a rung or a pass; nothing is then concluded from
//! what was not tried.

use std::time::Instant;

use engine::walk::{self, Read, Site};

use crate::affine::{self, Matrices, Share};
use crate::claim::{Deployed, Proof};
use crate::interval::{Interval, Margin};
use crate::radius::{Search, search};
use crate::region::Region;

/// A way to prove, cheap ones first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rung {
    /// Boxes through every step of the walk.
    Interval,
    /// Affine forms beside boxes.
    Affine,
}

/// What is to be proven, wherever the set lies.
#[derive(Clone, Copy, Debug)]
pub struct Aim<'a> {
    /// The deployed program.
    pub deployed: &'a Deployed<'a>,
    /// Its matrices, for affine forms.
    pub matrices: &'a Matrices<'a>,
    /// The layer that the stream enters.
    pub from: usize,
    /// Where decisions are read.
    pub read: Read,
    /// The margins that must be positive.
    pub claims: &'a [Margin],
}

/// How wide the bounds behind a step are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Growth {
    /// The step.
    pub site: Site,
    /// The largest width of boxes; of affine forms, the median.
    pub width: f64,
    /// The symbols of the last row of affine forms.
    pub symbols: Option<usize>,
}

/// What one rung found on one set.
#[derive(Clone, Debug)]
pub struct Pass {
    /// The rung.
    pub rung: Rung,
    /// Its bounds.
    pub proof: Proof,
    /// Widths behind every step, where they were asked for.
    pub growth: Vec<Growth>,
    /// Where the radius of the worst margin comes from, of affine forms: largest first.
    pub sources: Vec<Share>,
    /// The noise symbols of affine forms.
    pub symbols: Option<usize>,
    /// Whether they gave up symbols because the memory was too small.
    pub reduced: bool,
    /// What it took: never part of a result.
    pub seconds: f64,
}

impl Rung {
    /// Bounds the claimed margins on a set; `trace` also gives the widths behind every step.
    #[must_use]
    pub fn prove(self, aim: &Aim, region: &Region, trace: bool) -> Pass {
        let begun = Instant::now();
        let pass = match self {
            Self::Interval => interval(aim, region, trace),
            Self::Affine => affine(aim, region),
        };
        Pass { seconds: begun.elapsed().as_secs_f64(), ..pass }
    }
}

fn interval(aim: &Aim, region: &Region, trace: bool) -> Pass {
    let deployed = aim.deployed;
    let claims = aim.claims.to_vec();
    let mut domain = Interval::new(deployed.kernels, deployed.model, deployed.kv, claims);
    if trace {
        domain.trace();
    }
    walk::run(&mut domain, deployed.model, &region.boxes(), aim.from, 0, aim.read);
    let growth = domain.traced().iter();
    let growth = growth.map(|of| Growth { site: of.site, width: of.most.into(), symbols: None });
    Pass {
        rung: Rung::Interval,
        proof: Proof { margins: domain.margins().to_vec(), diverged: domain.diverged() },
        growth: growth.collect(),
        sources: Vec::new(),
        symbols: None,
        reduced: false,
        seconds: 0.0,
    }
}

fn affine(aim: &Aim, region: &Region) -> Pass {
    let Aim { deployed, matrices, from, read, claims } = *aim;
    let found = affine::prove(deployed, matrices, region, from, read, claims);
    let width = |of: &affine::Growth| Growth {
        site: of.site,
        width: 2.0 * of.median,
        symbols: Some(of.symbols),
    };
    Pass {
        rung: Rung::Affine,
        growth: found.growth.iter().map(width).collect(),
        proof: Proof { margins: found.margins, diverged: found.diverged },
        sources: found.sources,
        symbols: Some(found.symbols),
        reduced: found.reduced.is_some(),
        seconds: 0.0,
    }
}

/// The rungs that may be tried, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ladder {
    rungs: Vec<Rung>,
}

/// What climbing came to on one set.
#[derive(Clone, Debug, Default)]
pub struct Climb {
    /// The rungs that were tried, in order.
    pub passes: Vec<Pass>,
    /// Whether a rung was left out that could have been tried.
    pub cut: bool,
}

impl Climb {
    /// The best lower bound of each claimed margin; empty if every rung lost its bound.
    #[must_use]
    pub fn margins(&self) -> Vec<f64> {
        let mut best: Vec<f64> = Vec::new();
        for pass in &self.passes {
            let margins = &pass.proof.margins;
            if best.is_empty() {
                best.clone_from(margins);
            }
            for (best, &margin) in best.iter_mut().zip(margins) {
                // A bound that is no number bounds nothing.
                if margin > *best || best.is_nan() {
                    *best = margin;
                }
            }
        }
        best
    }

    /// Positive proof for every claim.
    #[must_use]
    pub fn certifies(&self) -> bool {
        Proof { margins: self.margins(), diverged: None }.certifies()
    }

    /// The rung behind which every claim was proven.
    #[must_use]
    pub fn decided(&self) -> Option<Rung> {
        self.passes.last().filter(|_| self.certifies()).map(|pass| pass.rung)
    }
}

impl Ladder {
    /// A ladder of these rungs, from cheap to dear.
    ///
    /// # Panics
    /// If there is none, or they are not in order.
    #[must_use]
    pub fn new(rungs: Vec<Rung>) -> Self {
        assert!(!rungs.is_empty() && rungs.is_sorted_by(|a, b| a < b), "rungs in order: {rungs:?}");
        Self { rungs }
    }

    /// The rungs, cheap ones first.
    #[must_use]
    pub fn rungs(&self) -> &[Rung] {
        &self.rungs
    }

    /// Tries rung after rung until all claims are proven, none is left, or `may` refuses one.
    #[must_use]
    pub fn climb(
        &self,
        aim: &Aim,
        region: &Region,
        trace: bool,
        may: &dyn Fn(Rung) -> bool,
    ) -> Climb {
        let mut climb = Climb::default();
        for &rung in &self.rungs {
            if !may(rung) {
                climb.cut = true;
                break;
            }
            climb.passes.push(rung.prove(aim, region, trace));
            if climb.certifies() {
                break;
            }
        }
        climb
    }

    /// The largest epsilon that each rung alone proves on every region, 0 where it proved none.
    ///
    /// A search that `may` cuts ends with what it had proven. That of forms begins no lower than a
    /// millionth of the largest epsilon: what they prove is often thousands of times what boxes do.
    pub fn radii<'a>(
        &self,
        aim: &Aim,
        settings: Search,
        regions: &dyn Fn(f64) -> Vec<Region<'a>>,
        may: &dyn Fn(Rung) -> bool,
    ) -> Vec<(Rung, f64)> {
        let mut found = Vec::with_capacity(self.rungs.len());
        for &rung in &self.rungs {
            let proves = |epsilon: f64| {
                let holds =
                    |region: &Region| may(rung) && rung.prove(aim, region, false).proof.certifies();
                regions(epsilon).iter().all(holds)
            };
            let floor = if rung == Rung::Affine { settings.most * 1e-6 } else { 0.0 };
            let start = if settings.start > floor { settings.start } else { floor };
            found.push((rung, search(Search { start, ..settings }, proves)));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(margins: &[f64]) -> Pass {
        let proof = Proof { margins: margins.to_vec(), diverged: None };
        Pass {
            rung: Rung::Interval,
            proof,
            growth: Vec::new(),
            sources: Vec::new(),
            symbols: None,
            reduced: false,
            seconds: 0.0,
        }
    }

    #[test]
    fn each_claim_may_be_proven_by_a_rung_of_its_own() {
        let climb = Climb { passes: vec![pass(&[1.0, -2.0]), pass(&[-5.0, 0.5])], cut: false };
        assert_eq!(climb.margins(), [1.0, 0.5]);
        assert_eq!(climb.decided(), Some(Rung::Interval));
    }

    #[test]
    fn nothing_is_concluded_from_bounds_that_are_lost_or_no_numbers() {
        for margins in [vec![], vec![f64::NAN], vec![0.0], vec![1.0, f64::NAN]] {
            let climb = Climb { passes: vec![pass(&margins)], cut: false };
            assert!(!climb.certifies(), "{margins:?}");
            assert_eq!(climb.decided(), None);
        }
        let climb = Climb { passes: vec![pass(&[]), pass(&[f64::NAN]), pass(&[0.5])], cut: false };
        assert_eq!(climb.margins(), [0.5]);
        assert!(!Climb::default().certifies());
    }
}

//! What a trial will do, and what it did.

use crate::ecc::{Behind, Decoded};
use crate::fault::Fault;
use crate::outcome::Outcome;
use crate::space::Target;
use crate::trial::Trial;

/// What a trial will do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draw {
    /// Which stratum of the plan it is of.
    pub stratum: usize,
    /// What is struck.
    pub target: Target,
    /// The sample, by its number.
    pub sample: usize,
    /// The bits that the model computes with.
    pub fault: Fault,
    /// What was struck, where a memory code stands before the model.
    pub behind: Option<Behind>,
}

impl Draw {
    /// How many bits were struck, check bits included.
    pub(crate) fn struck(&self) -> usize {
        struck(&self.fault, self.behind.as_ref())
    }

    /// What is run: behind a memory code the bits that were struck, as if there were none, and then
    /// what reached the model, where that is something else.
    pub(crate) fn runs(&self) -> Vec<&Fault> {
        match &self.behind {
            None => vec![&self.fault],
            Some(Behind { raw, decoded: Decoded::Wrong { .. }, .. }) if *raw != self.fault => {
                vec![raw, &self.fault]
            }
            Some(Behind { raw, .. }) => vec![raw],
        }
    }
}

fn struck(fault: &Fault, behind: Option<&Behind>) -> usize {
    behind.map_or(fault.flips().len(), |behind| behind.raw.flips().len() + behind.checks.len())
}

/// What a trial did.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The number of the trial.
    pub index: u64,
    /// Which stratum of the plan it is of.
    pub stratum: usize,
    /// What was struck.
    pub target: Target,
    /// The sample, by its number.
    pub sample: usize,
    /// The bits that the model computed with.
    pub fault: Fault,
    /// What was struck, where a memory code stands before the model.
    pub behind: Option<Behind>,
    /// What would have come of that without the code.
    pub raw: Option<Outcome>,
    /// The right decision, if it is known.
    pub label: Option<u32>,
    /// The clean decision.
    pub before: u32,
    /// What came of it.
    pub trial: Trial,
}

impl Record {
    /// How many bits were struck, check bits included.
    pub(crate) fn struck(&self) -> usize {
        struck(&self.fault, self.behind.as_ref())
    }

    /// The bits that were struck, but for check bits.
    pub(crate) fn data(&self) -> &Fault {
        self.behind.as_ref().map_or(&self.fault, |behind| &behind.raw)
    }
}

//! What a plan must be before anything is drawn.

use std::collections::BTreeSet;

use engine::model::{Model, Slot};
use engine::numerics::special::smaller;

use crate::campaign::Plan;
use crate::ecc::{Protection, Words};
use crate::golden::{Sample, SampleError};
use crate::matrix::{Grid, Matrix};
use crate::mix::{Mix, Within};
use crate::pattern::{Image, Pattern, Poisson};
use crate::space::{Space, Target};

/// Why a campaign cannot be run.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CampaignError {
    /// No samples.
    #[error("there are no samples to run under faults, expected one or more")]
    NoSamples,
    /// No targets, or one twice.
    #[error("the targets are '{targets}', expected one or more, each once")]
    Targets {
        /// Their names.
        targets: String,
    },
    /// A target has fewer bits than flip at once.
    #[error("{target} has {bits} bits for sample {sample}, expected {flips} or more")]
    Bits {
        /// The target.
        target: &'static str,
        /// Its bits.
        bits: u64,
        /// The sample, by its number.
        sample: usize,
        /// The flips of one trial.
        flips: usize,
    },
    /// No strata, or one without weight.
    #[error("the plan has no faults, or one of weight 0; expected one or more")]
    NoStrata,
    /// A stratum has fewer bits than a trial of it needs.
    #[error(
        "fault {number} of the plan: {target} has {bits} bits there, expected {wanted} or more"
    )]
    Stratum {
        /// Its number, from 0.
        number: usize,
        /// Its target.
        target: &'static str,
        /// Its bits.
        bits: u64,
        /// Bits that a trial needs.
        wanted: u64,
    },
    /// A rate that lets nothing fall, or too much to be drawn bit by bit.
    #[error(
        "fault {number} of the plan: {target} would have {mean:e} flips in a trial, expected more \
         than 0 and at most {most}"
    )]
    Rate {
        /// Its number, from 0.
        number: usize,
        /// Its target.
        target: &'static str,
        /// The expected flips.
        mean: f64,
        /// The most that there may be: an eighth of the bits, or 100,000.
        most: f64,
    },
    /// Codes that have no place in a file.
    #[error(
        "fault {number} of the plan asks where codes lie: {tensor} has {got}, expected {expected}"
    )]
    Layout {
        /// Its number, from 0.
        number: usize,
        /// The first tensor in its reach of which that cannot be said.
        tensor: String,
        /// What it has.
        got: String,
        /// What would do.
        expected: &'static str,
    },
    /// A memory code of what is not stored in words that have one.
    #[error("fault {number} of the plan: {target} has no memory code, only weight_code has")]
    Unguarded {
        /// Its number, from 0.
        number: usize,
        /// Its target.
        target: &'static str,
    },
    /// A trial without flips.
    #[error("a trial flips 0 bits, expected 1 or more")]
    NoFlips,
    /// A confidence that is none.
    #[error("the confidence is {got}, expected 1e-15 to 1 - 1e-15")]
    Confidence {
        /// What it is.
        got: f64,
    },
    /// A sample cannot be run.
    #[error("sample {sample}: {source}")]
    Sample {
        /// Its number.
        sample: usize,
        /// Why not.
        source: SampleError,
    },
}

impl Plan {
    /// Checks that trials can be drawn for a model and samples; runs nothing.
    ///
    /// # Errors
    /// What is wrong with the plan.
    pub fn check(&self, model: &Model, samples: &[Sample]) -> Result<(), CampaignError> {
        check(self, samples)?;
        for &target in &self.targets {
            let space = Space::new(model, target.kv().unwrap_or(self.kv));
            check_bits(self, target, &space, samples)?;
        }
        Ok(())
    }
}

impl Mix {
    /// Checks that trials of every stratum can be drawn for a model and samples; runs nothing.
    ///
    /// # Errors
    /// What is wrong with the plan.
    pub fn check(&self, model: &Model, samples: &[Sample]) -> Result<(), CampaignError> {
        check_shared(&self.plan, samples)?;
        if self.strata.is_empty() || self.strata.iter().any(|stratum| stratum.weight == 0) {
            return Err(CampaignError::NoStrata);
        }
        let lengths: BTreeSet<usize> = samples.iter().map(Sample::tokens).collect();
        for (number, stratum) in self.strata.iter().enumerate() {
            let target = stratum.target;
            let kv = target.kv().unwrap_or(self.plan.kv);
            let space = Space::new(model, kv);
            let guarded = stratum.protection != Protection::None;
            if target == Target::WeightCode && (guarded || stratum.pattern.is_physical()) {
                check_layouts(model, number, &stratum.within)?;
            }
            if guarded && target != Target::WeightCode {
                return Err(CampaignError::Unguarded { number, target: target.name() });
            }
            let words = Words::of(model, stratum.protection, &stratum.within);
            for &tokens in lengths.iter().filter(|&&tokens| tokens > 0) {
                let reach = stratum.within.reach((model, &space, kv), target, tokens);
                let bits = reach.bits;
                let (wanted, name) = (stratum.pattern.needs(), target.name());
                if bits < wanted {
                    return Err(CampaignError::Stratum { number, target: name, bits, wanted });
                }
                let Pattern::Poisson { rate } = stratum.pattern else { continue };
                let bits = stratum.stored_bits(&reach, words.as_ref());
                let (mean, most) = (rate.mean(bits), smaller(Poisson::MOST, bits as f64 / 8.0));
                if !(mean > 0.0 && mean <= most) {
                    return Err(CampaignError::Rate { number, target: name, mean, most });
                }
            }
        }
        Ok(())
    }
}

/// Checks that codes in reach have a place in the bytes of a file.
fn check_layouts(model: &Model, number: usize, within: &Within) -> Result<(), CampaignError> {
    for (layer, block) in model.layers.iter().enumerate() {
        for slot in Slot::ALL.into_iter().filter(|slot| within.has(layer, slot.name())) {
            let matrix = Matrix::Linear { layer, slot };
            let packed = matches!(matrix.grid(model), Grid::Codes { .. } | Grid::Blocks { .. });
            if packed && Image::of_words(model, layer, slot).is_none() {
                let got = format!("{} rows", block.linear(slot).outputs());
                let (tensor, expected) = (matrix.name(), "a multiple of 4 rows");
                return Err(CampaignError::Layout { number, tensor, got, expected });
            }
        }
    }
    Ok(())
}

fn check(plan: &Plan, samples: &[Sample]) -> Result<(), CampaignError> {
    check_shared(plan, samples)?;
    if plan.flips == 0 {
        return Err(CampaignError::NoFlips);
    }
    let distinct: BTreeSet<_> = plan.targets.iter().collect();
    if plan.targets.is_empty() || distinct.len() < plan.targets.len() {
        let targets: Vec<_> = plan.targets.iter().map(|target| target.name()).collect();
        return Err(CampaignError::Targets { targets: targets.join(",") });
    }
    Ok(())
}

fn check_shared(plan: &Plan, samples: &[Sample]) -> Result<(), CampaignError> {
    if samples.is_empty() {
        return Err(CampaignError::NoSamples);
    }
    if !(plan.confidence >= 1e-15 && 1.0 - plan.confidence >= 1e-15) {
        return Err(CampaignError::Confidence { got: plan.confidence });
    }
    Ok(())
}

fn check_bits(
    plan: &Plan,
    target: Target,
    space: &Space,
    samples: &[Sample],
) -> Result<(), CampaignError> {
    for (sample, given) in samples.iter().enumerate() {
        // A sample without tokens is refused by its clean run, with a better reason.
        let bits = space.bits(target, given.tokens());
        if given.tokens() > 0 && bits < plan.flips as u64 {
            return Err(CampaignError::Bits {
                target: target.name(),
                bits,
                sample,
                flips: plan.flips,
            });
        }
    }
    Ok(())
}

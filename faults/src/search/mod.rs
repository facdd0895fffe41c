//! Progressive bit search: few flips that, together, change the decisions of a model.
//!
//! Round by round one more bit is flipped and kept. A round screens its candidates on a few
//! samples, runs the best on all of them, and looks one flip ahead: of the best first flips that
//! one is kept whose best pair is best. Scores are exact: every candidate is run, and nothing is
//! linearised.
//!
//! What is found is an upper bound of the fewest flips that do it, never a lower one. Invariant:
//! the same search gives the same flips with any number of threads; a search that is cut short
//! gives a prefix of them.

mod candidates;
mod score;

use std::collections::BTreeSet;

use engine::kernels::Kernels;
use engine::model::Model;
use rayon::prelude::*;

use crate::address::Address;
use crate::draw::Identity;
use crate::fault::{Fault, UnusedCode};
use crate::golden::Golden;
use crate::space::{Space, Target};
use candidates::Candidates;
use score::{Score, Scorer};

/// What the flips are to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Goal {
    /// The decision of a sample becomes any other one.
    Untargeted,
    /// The decision of a sample becomes this one.
    Targeted(u32),
}

/// How flips are searched.
#[derive(Clone, Debug, PartialEq)]
pub struct Search {
    /// What they are to do.
    pub goal: Goal,
    /// Which bits may flip; none of a key-value store.
    pub targets: Vec<Target>,
    /// What a reader does with an unused code; what it detects is no success.
    pub unused: UnusedCode,
    /// The share of the samples whose decisions must be as wanted, above 0 and at most 1.
    pub share: f64,
    /// The most flips.
    pub most_flips: usize,
    /// The most runs of one sample under one fault.
    pub evaluations: u64,
    /// Candidates that a round runs on all samples, and pairs that it looks ahead.
    pub width: usize,
}

/// Why a search cannot begin.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SearchError {
    /// No samples.
    #[error("there are no samples to attack, expected one or more")]
    NoSamples,
    /// No targets, one twice, or stored keys and values.
    #[error("the targets are '{targets}', expected some, each once, none of a key-value store")]
    Targets {
        /// Their names.
        targets: String,
    },
    /// The model has none of the bits.
    #[error("the model has no bits of the targets '{targets}'")]
    NoBits {
        /// Their names.
        targets: String,
    },
    /// A share that is none.
    #[error("the share of samples is {got}, expected above 0 and at most 1")]
    Share {
        /// What it is.
        got: f64,
    },
    /// Nothing may flip, or nothing be tried.
    #[error("{what} is 0, expected 1 or more")]
    Nothing {
        /// Which setting.
        what: &'static str,
    },
    /// A target decision that a sample does not choose among.
    #[error("sample {sample} is not decided among tokens with {token}, the target")]
    TargetToken {
        /// The sample, by its number.
        sample: usize,
        /// The target.
        token: u32,
    },
}

/// One more flip.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The bit.
    pub flip: Address,
    /// Samples whose decisions are as wanted under this flip and those before.
    pub won: u64,
    /// Mean over the samples of what is left to overcome, in logits: the margin against the goal,
    /// 0 where it is reached.
    pub resistance: f64,
    /// Runs so far.
    pub evaluations: u64,
}

/// Why a search ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// The share of samples was reached.
    Reached,
    /// As many flips as were allowed are not enough.
    Flips,
    /// The runs are used up.
    Evaluations,
    /// No candidate makes it better.
    Stuck,
    /// Someone stopped it.
    Stopped,
}

/// What a search found.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The flips in the order in which they were found.
    pub steps: Vec<Step>,
    /// Why it ended.
    pub end: End,
    /// Samples.
    pub samples: u64,
    /// Runs of one sample under one fault.
    pub evaluations: u64,
    /// A lower bound of the fewest flips that reach the share: 2 where every single flip was run on
    /// all samples and none did, else what the samples themselves say.
    pub least: u64,
}

impl Found {
    /// All flips together.
    #[must_use]
    pub fn fault(&self) -> Fault {
        Fault::new(self.steps.iter().map(|step| step.flip))
    }
}

impl Search {
    /// Checks the settings against a model and clean runs.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn check(&self, goldens: &[Golden]) -> Result<(), SearchError> {
        let names: Vec<_> = self.targets.iter().map(|target| target.name()).collect();
        if goldens.is_empty() {
            return Err(SearchError::NoSamples);
        }
        let distinct: BTreeSet<_> = self.targets.iter().collect();
        let once = !names.is_empty() && distinct.len() == names.len();
        if !once || self.targets.iter().any(|target| target.kv().is_some()) {
            return Err(SearchError::Targets { targets: names.join(",") });
        }
        if !(self.share > 0.0 && self.share <= 1.0) {
            return Err(SearchError::Share { got: self.share });
        }
        let settings = [
            ("the number of flips", self.most_flips as u64),
            ("the number of evaluations", self.evaluations),
            ("the width", self.width as u64),
        ];
        if let Some(&(what, _)) = settings.iter().find(|setting| setting.1 == 0) {
            return Err(SearchError::Nothing { what });
        }
        if let Goal::Targeted(token) = self.goal {
            let decides = |golden: &Golden| golden.read_out.decides(token);
            if let Some(sample) = goldens.iter().position(|golden| !decides(golden)) {
                return Err(SearchError::TargetToken { sample, token });
            }
        }
        Ok(())
    }
}

/// Samples on which candidates are screened.
const SCREEN: usize = 4;
/// First flips that are looked ahead from.
const AHEAD: usize = 4;

/// Searches flips. `progress` is told the runs so far, `stop` is asked between runs.
///
/// # Errors
/// What is wrong with the settings; see [`Search::check`].
pub fn search(
    model: &Model,
    kernels: &'static Kernels,
    goldens: &[Golden],
    search: &Search,
    identity: &Identity,
    (progress, stop): (&(dyn Fn(u64) + Sync), &(dyn Fn() -> bool + Sync)),
) -> Result<Found, SearchError> {
    search.check(goldens)?;
    let space = Space::new(model, goldens[0].kv);
    let candidates = Candidates::new(&space, &search.targets);
    if candidates.count() == 0 {
        let names: Vec<_> = search.targets.iter().map(|target| target.name()).collect();
        return Err(SearchError::NoBits { targets: names.join(",") });
    }
    let scorer = Scorer { model, kernels, goldens, goal: search.goal, unused: search.unused };
    let hunt = Hunt { search, scorer, candidates, identity, progress, stop };
    Ok(hunt.run())
}

/// A search under way.
struct Hunt<'a> {
    search: &'a Search,
    scorer: Scorer<'a>,
    candidates: Candidates<'a>,
    identity: &'a Identity,
    progress: &'a (dyn Fn(u64) + Sync),
    stop: &'a (dyn Fn() -> bool + Sync),
}

/// A candidate with what it came to.
type Rated = (Address, Score);

impl Hunt<'_> {
    fn run(&self) -> Found {
        let samples = self.scorer.goldens.len();
        let wanted = (self.search.share * samples as f64).ceil() as u64;
        let mut found = Found {
            steps: Vec::new(),
            end: End::Flips,
            samples: samples as u64,
            evaluations: 0,
            least: 0,
        };
        let mut now = self.scorer.clean();
        let mut flips: Vec<Address> = Vec::new();
        if now.won >= wanted {
            found.end = End::Reached;
            return found;
        }
        found.least = 1;
        let whole = self.candidates.count() <= self.affordable(samples, 0);
        let alone = whole && samples <= SCREEN && now.won == 0;
        while flips.len() < self.search.most_flips {
            let (best, end) = self.round(&flips, &now, wanted, &mut found.evaluations);
            let ran = end.is_none_or(|end| end == End::Stuck);
            if flips.is_empty() && alone && ran && best.as_ref().is_none_or(|b| b.1.won < wanted) {
                found.least = 2;
            }
            let Some((flip, score)) = best else {
                found.end = end.unwrap_or(End::Stuck);
                return found;
            };
            flips.push(flip);
            now = score;
            let (won, resistance) = (now.won, now.resistance / samples as f64);
            found.steps.push(Step { flip, won, resistance, evaluations: found.evaluations });
            if now.won >= wanted {
                found.end = End::Reached;
                return found;
            }
        }
        found
    }

    /// The flip to keep in this round, better than what there is; or why there is none.
    fn round(
        &self,
        flips: &[Address],
        now: &Score,
        wanted: u64,
        used: &mut u64,
    ) -> (Option<Rated>, Option<End>) {
        let samples = self.scorer.nearest(now, SCREEN);
        let most = self.affordable(samples.len(), *used);
        let drawn = self.candidates.draw(self.identity, flips, most);
        let (screened, end) = self.rate(flips, &drawn, &samples, used);
        if end.is_some() || screened.is_empty() {
            return (None, end.or(Some(End::Evaluations)));
        }
        let few: Vec<Address> = best_of(screened, self.search.width);
        let all: Vec<usize> = (0..self.scorer.goldens.len()).collect();
        let (rated, end) = self.rate(flips, &few, &all, used);
        let Some(first) = rated.iter().min_by(|a, b| a.1.cmp(&b.1)).cloned() else {
            return (None, end.or(Some(End::Evaluations)));
        };
        let first = if end.is_none() && first.1.won < wanted {
            self.ahead(flips, rated, used).unwrap_or(first)
        } else {
            first
        };
        if first.1 < *now { (Some(first), None) } else { (None, Some(End::Stuck)) }
    }

    /// Candidates that a round may screen: half of what is left of the runs, the other half runs
    /// what is best.
    fn affordable(&self, samples: usize, used: u64) -> u64 {
        (self.search.evaluations - used) / (2 * samples as u64)
    }

    /// Of the best first flips, the one whose best pair is best; none if pairs cannot be run.
    fn ahead(&self, flips: &[Address], rated: Vec<Rated>, used: &mut u64) -> Option<Rated> {
        let mut sorted = rated;
        sorted.sort_by(|a, b| a.1.cmp(&b.1).then(a.0.cmp(&b.0)));
        let others: Vec<Address> = sorted.iter().map(|rated| rated.0).collect();
        let all: Vec<usize> = (0..self.scorer.goldens.len()).collect();
        let mut best: Option<(Score, Rated)> = None;
        for first in sorted.iter().take(AHEAD) {
            let with: Vec<Address> = flips.iter().copied().chain([first.0]).collect();
            let second: Vec<Address> =
                others.iter().copied().filter(|other| *other != first.0).collect();
            let (pairs, end) = self.rate(&with, &second, &all, used);
            if end.is_some() {
                return None;
            }
            let pair = pairs.into_iter().map(|pair| pair.1).min_by(Score::cmp)?;
            if best.as_ref().is_none_or(|(known, _)| pair < *known) {
                best = Some((pair, first.clone()));
            }
        }
        best.map(|(_, first)| first)
    }

    /// What some candidates come to, each with the flips before it, on some samples.
    fn rate(
        &self,
        flips: &[Address],
        candidates: &[Address],
        samples: &[usize],
        used: &mut u64,
    ) -> (Vec<Rated>, Option<End>) {
        let each = samples.len() as u64;
        let most = (self.search.evaluations - *used) / each;
        let run = (candidates.len() as u64).min(most) as usize;
        let rated: Vec<Option<Rated>> = (candidates[..run].par_iter())
            .map(|&candidate| {
                if (self.stop)() {
                    return None;
                }
                let fault = Fault::new(flips.iter().copied().chain([candidate]));
                Some((candidate, self.scorer.score(&fault, samples)))
            })
            .collect();
        *used += each * run as u64;
        (self.progress)(*used);
        let whole = rated.iter().all(Option::is_some);
        let end = if !whole {
            Some(End::Stopped)
        } else if run < candidates.len() {
            Some(End::Evaluations)
        } else {
            None
        };
        (rated.into_iter().flatten().collect(), end)
    }
}

/// The best of some candidates, best first.
fn best_of(mut rated: Vec<Rated>, count: usize) -> Vec<Address> {
    rated.sort_by(|a, b| a.1.cmp(&b.1).then(a.0.cmp(&b.0)));
    rated.into_iter().take(count).map(|rated| rated.0).collect()
}

//! What any k flips of codes can do: the share of rows, tensors, layers and models proven harmless.
//!
//! A single fault is as cheap to run as to prove; a proof pays where there are too many faults to
//! run: k flips anywhere in a row, in a tensor, in a layer or in the model at once, or arbitrary
//! codes in all of a row. A row of a down projection writes one feature of the stream that leaves
//! its layer, and is a box there; other rows, and whole tensors, are struck where they stand.
//!
//! What is spent is counted in operations, never in time. Of many rows every n-th is tried, in the
//! last layers first where not even one a layer can be afforded.

mod alone;
mod anywhere;
mod cache;
#[cfg(test)]
mod cache_tests;
mod flips;
mod proof;
mod strike;
#[cfg(test)]
mod struck_tests;
mod tensors;
#[cfg(test)]
mod tests;

use certify::claim::Decision;
use certify::ladder::Rung;
use engine::model::Slot;
use engine::walk::Read;

use super::context::Context;
use super::verdicts::{Clean, margin_of};
pub(crate) use alone::{flips_at, model_budget};
use anywhere::{FlipTarget, Spent, Subject};
pub use anywhere::{MOST_FLIPS, Place, PlaceFlips};
use cache::Entry;
pub use cache::{CacheBits, CacheFlips};
use flips::LEVELS;
use proof::{ProvenRow, Prover};
use tensors::RowTarget;

/// Operations that all proofs together may take.
const BUDGET: u64 = 4_000_000_000;
/// Passes of boxes through the whole model that may be spent even where they take more.
const FULL_PASSES: u64 = 10;
/// What a pass costs at least, small as the model may be.
const LEAST_PASS: u64 = 200_000;
/// Passes a row: a bisection of five numbers of flips.
const PASSES: u64 = 3;
/// Samples at most.
const MOST_SAMPLES: usize = 4;

/// What is proven under several flips at once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Proven {
    /// In one row: down projections first, layer by layer, then other tensors.
    pub rows: Vec<LayerRows>,
    /// In whole tensors and layers, and in the model.
    pub flips: Vec<PlaceFlips>,
    /// In stored keys and values, one at a time.
    pub cache: Vec<CacheFlips>,
}

/// What is proven about the rows of one tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerRows {
    /// The layer.
    pub layer: usize,
    /// The tensor.
    pub slot: Slot,
    /// Its rows, where flips of its codes can be bounded.
    pub rows: usize,
    /// Rows that were tried, on each sample.
    pub tried: usize,
    /// Pairs (row, sample) that were tried.
    pub pairs: u64,
    /// Under each number of flips, the pairs proven by each rung.
    pub proven: Vec<Level>,
}

/// What is proven under some number of flips.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Level {
    /// At most so many flips of a row; `None` = any codes in all of it.
    pub flips: Option<usize>,
    /// Pairs proven by boxes.
    pub interval: u64,
    /// Pairs proven by affine forms.
    pub affine: u64,
}

/// What is tried: on how many samples, which rows of each layer, and which whole tensors.
struct Agenda {
    samples: usize,
    /// Of the down projection, layer by layer.
    rows: Vec<Vec<usize>>,
    others: Vec<RowTarget>,
    flips: Vec<FlipTarget>,
    /// Layers whose stored keys and values are struck, on the first samples.
    cache: Vec<usize>,
}

/// What one sample gave, in the order of the agenda.
struct Sampled {
    rows: Vec<Vec<ProvenRow>>,
    others: Vec<Vec<ProvenRow>>,
    flips: Vec<Option<Spent>>,
    cache: Vec<Entry>,
}

/// What is proven; `None` if the time limit passed before the first sample.
pub(super) fn rows(context: &Context, clean: &[Clean]) -> Option<Proven> {
    let prover = prover(context);
    let agenda = agenda(context, &prover);
    let stage = context.clock.stage("rows under any flips", agenda.samples as u64);
    let results = context.each(&stage, |index, _| {
        (index < agenda.samples).then(|| sample_rows(context, &prover, &agenda, index, clean))
    });
    context.clock.count_missing("rows under any flips", &results[..agenda.samples]);
    let down = agenda.rows.iter().enumerate().map(|(layer, rows)| {
        LayerRows::untried((layer, Slot::Down), possible(&prover, layer, Slot::Down), rows.len())
    });
    let others = agenda.others.iter().map(|target| {
        LayerRows::untried((target.layer, target.slot), target.all, target.rows.len())
    });
    let mut proven = Proven {
        rows: down.chain(others).collect(),
        flips: agenda.flips.iter().map(PlaceFlips::untried).collect(),
        cache: CacheFlips::untried(context.deployed.kv, context.deployed.model.layers.len()),
    };
    let mut any = false;
    for sample in results.into_iter().flatten().flatten() {
        any = true;
        let rows = sample.rows.iter().chain(&sample.others);
        proven.rows.iter_mut().zip(rows).for_each(|(layer, rows)| layer.merge(rows));
        let flips = proven.flips.iter_mut().zip(sample.flips);
        flips.for_each(|(place, of)| place.merge(of));
        proven.cache.iter_mut().for_each(|layer| layer.merge(&sample.cache));
    }
    any.then_some(proven)
}

/// Passes through the whole model that the proofs come to, for the prediction of a run.
pub(super) fn passes(context: &Context) -> f64 {
    let agenda = agenda(context, &prover(context));
    let layers = agenda.rows.len();
    let share = |behind: usize| behind as f64 / layers as f64 + 0.1;
    let down = agenda.rows.iter().enumerate().map(|(layer, rows)| (layer + 1, rows.len()));
    let others = agenda.others.iter().map(|target| (target.layer, target.rows.len()));
    let flips = agenda.flips.iter().map(|target| (target.from(), usize::from(target.tried)));
    let rows = down.chain(others).map(|(from, tries)| (from, PASSES * tries as u64));
    let passes = rows.chain(flips.map(|(from, tries)| (from, anywhere::PASSES * tries as u64)));
    let passes = passes.map(|(from, passes)| passes as f64 * share(layers - from));
    passes.sum::<f64>() * agenda.samples as f64
}

impl LayerRows {
    fn untried((layer, slot): (usize, Slot), rows: usize, tried: usize) -> Self {
        let proven = LEVELS.map(|flips| Level { flips, ..Level::default() }).to_vec();
        Self { layer, slot, rows, tried, pairs: 0, proven }
    }

    fn merge(&mut self, rows: &[ProvenRow]) {
        self.pairs += rows.len() as u64;
        for row in rows {
            self.proven.iter_mut().zip(row.by).for_each(|(level, by)| level.count(by));
        }
    }
}

impl Level {
    fn count(&mut self, by: Option<Rung>) {
        match by {
            Some(Rung::Interval) => self.interval += 1,
            Some(Rung::Affine) => self.affine += 1,
            None => {}
        }
    }
}

fn prover<'a>(context: &'a Context<'a>) -> Prover<'a> {
    Prover {
        deployed: &context.deployed,
        matrices: &context.matrices,
        ladder: &context.plan.ladder,
        forms: context.forms_pay(tokens(context)),
        unused: context.plan.unused,
        parallel: !context.large(),
        weights: context.weights,
    }
}

fn tokens(context: &Context) -> usize {
    context.samples.iter().map(|sample| sample.tokens()).max().unwrap_or(1)
}

/// The rows of a tensor, where it can be spoken of.
fn possible(prover: &Prover, layer: usize, slot: Slot) -> usize {
    if prover.speaks_of(layer, slot) { prover.rows_of(layer, slot) } else { 0 }
}

/// Every layer may take the same part of the budget.
fn agenda(context: &Context, prover: &Prover) -> Agenda {
    let layers = context.deployed.model.layers.len();
    let most = if context.large() { 1 } else { MOST_SAMPLES };
    let samples = most.min(context.samples.len());
    let full = FULL_PASSES * 4 * context.weights * tokens(context) as u64;
    let budget = if full > BUDGET { full } else { BUDGET };
    let each = budget / (layers as u64 * samples as u64 * PASSES);
    let rows = (0..layers)
        .map(|layer| {
            let all = possible(prover, layer, Slot::Down);
            let afforded = each / pass_cost(prover, tokens(context), layers - 1 - layer, 1);
            let tried = usize::try_from(afforded).map_or(all, |afforded| afforded.min(all));
            (0..tried).map(|index| index * all / tried).collect()
        })
        .collect();
    let others = tensors::others(context, prover, samples);
    let left = tensors::budget(context, anywhere::BUDGET) / samples as u64;
    let flips = anywhere::targets(prover, tokens(context), left);
    let left = tensors::budget(context, cache::BUDGET) / cache::MOST_SAMPLES as u64;
    let cache = prover.cache_layers(tokens(context), left);
    Agenda { samples, rows, others, flips, cache }
}

/// Operations of one climb through the last so many layers to the head, with so many features or
/// sums of each token that move at its beginning.
fn pass_cost(prover: &Prover, tokens: usize, layers: usize, moving: usize) -> u64 {
    let config = &prover.deployed.model.config;
    let tokens = tokens as u64;
    let (hidden, ffn) = (config.hidden as u64, config.ffn as u64);
    let (behind, moving) = (layers as u64, moving as u64);
    let weights = prover.weights / config.layers as u64 * behind;
    let head = config.vocabulary as u64 * hidden;
    let boxes = 4 * (weights * tokens + head);
    let forms = prover.forms && prover.ladder.rungs().contains(&Rung::Affine);
    let symbols = tokens * (moving + behind * (3 * hidden + ffn));
    let affine = if forms { symbols * (weights + head) } else { 0 };
    let cost = boxes + affine;
    if cost > LEAST_PASS { cost } else { LEAST_PASS }
}

/// All of one sample.
fn sample_rows(
    context: &Context,
    prover: &Prover,
    agenda: &Agenda,
    index: usize,
    clean: &[Clean],
) -> Sampled {
    let x = context.samples[index].embedded(context.deployed.model);
    let streams = context.deployed.streams(&x);
    let clean = &clean[index];
    // Harmless means that the decision stays what it is, right or wrong.
    let decision = Decision { winner: clean.prediction, classes: clean.decision.classes.clone() };
    let claim = margin_of(&decision, 0);
    let rows = (agenda.rows.iter().enumerate())
        .map(|(layer, rows)| {
            let any = !rows.is_empty();
            if any { prover.rows(layer, &streams, rows, &claim) } else { Vec::new() }
        })
        .collect();
    let others = prover.others(&agenda.others, &streams, &claim);
    let logits = context.deployed.logits(&x, 0, Read::Last);
    let subject = Subject { streams: &streams, claim: &claim, logits: &logits };
    let flips = prover.flips(&agenda.flips, subject);
    let cache = if index < cache::MOST_SAMPLES { &agenda.cache[..] } else { &[] };
    let cache = cache.iter().flat_map(|&layer| prover.cache(layer, subject)).collect();
    Sampled { rows, others, flips, cache }
}

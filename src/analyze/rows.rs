//! What any k flips of the codes of one row can do: the share of rows proven harmless.
//!
//! A single fault is as cheap to run as to prove; a proof pays where there are too many faults to
//! run: k flips anywhere in a row at once, or arbitrary codes in all of it. The rows are those of
//! the down projections, which write one feature of the stream each. Rows of other tensors enter in
//! mid-layer, where a stream of boxes has no place: nothing is said of them.
//!
//! What is spent is counted in operations, never in time. Of many rows every n-th is tried, in the
//! last layers first where not even one a layer can be afforded.

mod flips;
mod proof;
#[cfg(test)]
mod tests;

use certify::claim::Decision;
use certify::ladder::Rung;

use super::context::Context;
use super::verdicts::{Clean, margin_of};
use flips::LEVELS;
use proof::{ProvenRow, Prover};

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

/// What is proven about the rows of one layer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LayerRows {
    /// Rows of the down projection, where flips of its codes can be bounded.
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

/// What is tried: on how many samples, and which rows of each layer.
struct Agenda {
    samples: usize,
    rows: Vec<Vec<usize>>,
}

/// The share of rows proven, layer by layer; `None` if the time limit passed before the first
/// sample.
pub(super) fn rows(context: &Context, clean: &[Clean]) -> Option<Vec<LayerRows>> {
    let prover = prover(context);
    let agenda = agenda(context, &prover);
    let stage = context.clock.stage("rows under any flips", agenda.samples as u64);
    let results = context.each(&stage, |index, _| {
        (index < agenda.samples).then(|| sample_rows(context, &prover, &agenda, index, clean))
    });
    context.clock.count_missing("rows under any flips", &results[..agenda.samples]);
    let mut layers: Vec<LayerRows> = (0..agenda.rows.len())
        .map(|layer| LayerRows {
            rows: possible(context, &prover, layer),
            tried: agenda.rows[layer].len(),
            pairs: 0,
            proven: LEVELS.map(|flips| Level { flips, ..Level::default() }).to_vec(),
        })
        .collect();
    let mut any = false;
    for sample in results.into_iter().flatten().flatten() {
        any = true;
        layers.iter_mut().zip(sample).for_each(|(layer, rows)| layer.merge(&rows));
    }
    any.then_some(layers)
}

/// Passes through the whole model that the proofs come to, for the prediction of a run.
pub(super) fn passes(context: &Context) -> f64 {
    let agenda = agenda(context, &prover(context));
    let layers = agenda.rows.len();
    let share = |layer: usize| (layers - 1 - layer) as f64 / layers as f64 + 0.1;
    let rows = agenda.rows.iter().enumerate();
    let passes = rows.map(|(layer, rows)| (PASSES * rows.len() as u64) as f64 * share(layer));
    passes.sum::<f64>() * agenda.samples as f64
}

impl LayerRows {
    fn merge(&mut self, rows: &[ProvenRow]) {
        self.pairs += rows.len() as u64;
        for row in rows {
            for (level, by) in self.proven.iter_mut().zip(row.by) {
                match by {
                    Some(Rung::Interval) => level.interval += 1,
                    Some(Rung::Affine) => level.affine += 1,
                    None => {}
                }
            }
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
    }
}

fn tokens(context: &Context) -> usize {
    context.samples.iter().map(|sample| sample.tokens()).max().unwrap_or(1)
}

/// The rows of a layer that can be spoken of.
fn possible(context: &Context, prover: &Prover, layer: usize) -> usize {
    if prover.speaks_of(layer) { context.deployed.model.config.hidden } else { 0 }
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
            let all = possible(context, prover, layer);
            let afforded = each / pass_cost(context, prover, layer);
            let tried = usize::try_from(afforded).map_or(all, |afforded| afforded.min(all));
            (0..tried).map(|index| index * all / tried).collect()
        })
        .collect();
    Agenda { samples, rows }
}

/// Operations of one climb from behind a layer to the head.
fn pass_cost(context: &Context, prover: &Prover, layer: usize) -> u64 {
    let config = &context.deployed.model.config;
    let tokens = tokens(context) as u64;
    let (hidden, ffn) = (config.hidden as u64, config.ffn as u64);
    let behind = (config.layers - 1 - layer) as u64;
    let weights = context.weights / config.layers as u64 * behind;
    let head = config.vocabulary as u64 * hidden;
    let boxes = 4 * (weights * tokens + head);
    let forms = prover.forms && prover.ladder.rungs().contains(&Rung::Affine);
    let symbols = tokens * (1 + behind * (3 * hidden + ffn));
    let affine = if forms { symbols * (weights + head) } else { 0 };
    let cost = boxes + affine;
    if cost > LEAST_PASS { cost } else { LEAST_PASS }
}

/// The layers of one sample.
fn sample_rows(
    context: &Context,
    prover: &Prover,
    agenda: &Agenda,
    index: usize,
    clean: &[Clean],
) -> Vec<Vec<ProvenRow>> {
    let x = context.samples[index].embedded(context.deployed.model);
    let streams = context.deployed.streams(&x);
    let clean = &clean[index];
    // Harmless means that the decision stays what it is, right or wrong.
    let decision = Decision { winner: clean.prediction, classes: clean.decision.classes.clone() };
    let claim = margin_of(&decision, 0);
    let layers = agenda.rows.iter().enumerate();
    layers
        .map(|(layer, rows)| {
            let any = !rows.is_empty();
            if any { prover.rows(layer, &streams, rows, &claim) } else { Vec::new() }
        })
        .collect()
}

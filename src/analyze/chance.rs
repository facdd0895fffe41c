//! Statements that hold with a confidence: trials under noise, sample by sample.
//!
//! What may fail is shared evenly by all statements of a run (Bonferroni): one for each set of rows
//! of each sample. A sample that the time limit cut has no statement; its share is not given to the
//! others.

use certify::attack::Stop;
use certify::chance::noise::{RoundedGaussian, STEPS, Source};
use certify::chance::smoothing::{Anchor, Smoothing, decides, poll};
use certify::chance::statistical::changes;
use certify::chance::{Around, deployed_decision};
use ndarray::Array2;
use reports::model::{Method, Norm};

use super::context::{Context, Stage};
use super::verdicts::Clean;
use crate::failure::Failure;
use crate::input::Sample;

/// What a method that draws found.
#[derive(Clone, Debug)]
pub enum Chances {
    /// The deployed engine under uniform noise.
    Statistical(Vec<Option<Changed>>),
    /// A smoothed classifier of this deviation.
    Smoothing(f64, Vec<Option<Kept>>),
}

/// A sample under uniform noise, over all sets of rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Changed {
    /// Radius of the box.
    pub epsilon: f64,
    /// Trials.
    pub trials: u64,
    /// Those that decided otherwise.
    pub changed: u64,
    /// Upper bound of the probability of a change, of the worst set.
    pub probability_high: f64,
}

/// A sample under the smoothed classifier, over all sets of rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Kept {
    /// The class; `None` where any set abstains, or two disagree.
    pub class: Option<usize>,
    /// Trials of the estimation.
    pub trials: u64,
    /// Those that decided for the class.
    pub votes: u64,
    /// Lower bound of its probability, of the worst set.
    pub probability_low: f64,
    /// Radius, of the worst set.
    pub radius: f64,
    /// The Euclidean radius that covers the ball asked for.
    pub wanted: f64,
}

/// Trials of a statement.
#[must_use]
pub(crate) fn trials(context: &Context) -> u64 {
    context.plan.noise.trials.unwrap_or(if context.large() { 100 } else { 2000 })
}

/// Trials that select a class before it is tested.
#[must_use]
pub(crate) fn selection_trials(context: &Context) -> u64 {
    trials(context).div_ceil(10)
}

/// How many statements share what may fail.
#[must_use]
pub(crate) fn statements(context: &Context) -> u64 {
    let sets = |sample: &Sample| {
        context.plan.scope.moves(sample.tokens()).map_or(0, |moves| moves.len() as u64)
    };
    context.samples.iter().map(sets).sum()
}

/// With which probability one statement may fail.
fn alpha(context: &Context) -> Result<f64, Failure> {
    let share = (1.0 - context.plan.confidence) / statements(context) as f64;
    if share < 1e-14 {
        let what = format!("--confidence {}: too close to 1", context.plan.confidence);
        return Err(Failure::usage(what).help("--confidence 0.99"));
    }
    // One half is where one-sided bounds end; less may fail than was allowed.
    Ok(if share < 0.49 { share } else { 0.49 })
}

/// Runs the method of the plan; `None` if it does not draw.
///
/// # Errors
/// If the noise is too small for the numbers that it moves, or the confidence too close to 1.
pub(super) fn chances(context: &Context, clean: &[Clean]) -> Result<Option<Chances>, Failure> {
    let stage = context.clock.stage("trials under noise", context.samples.len() as u64);
    match context.plan.method {
        Method::Statistical => statistical(context, clean, &stage).map(Some),
        Method::Smoothing => smoothing(context, clean, &stage).map(Some),
        _ => Ok(None),
    }
}

/// The sets of a sample: where they draw from, and around what.
fn sets<'x>(
    context: &Context,
    index: usize,
    clean: &'x Array2<f32>,
) -> impl Iterator<Item = (Source, Around<'x>)> {
    let (seed, sample) = (context.plan.seed, index as u64);
    let moves = context.plan.scope.moves(clean.nrows()).expect("the position was checked");
    (0u32..)
        .zip(moves)
        .map(move |(set, moved)| (Source { seed, sample, set }, Around { clean, moved }))
}

fn statistical(context: &Context, clean: &[Clean], stage: &Stage) -> Result<Chances, Failure> {
    let alpha = alpha(context)?;
    let over = || context.clock.over();
    let results = context.each(stage, |index, sample| {
        let x = context.entering(sample);
        let epsilon = context.plan.epsilon().at(clean[index].rms);
        let engine = deployed_decision(&context.deployed, context.from(), &sample.classes);
        let mut all = Changed { epsilon, trials: 0, changed: 0, probability_high: 0.0 };
        for (source, around) in sets(context, index, &x) {
            let numbers = (&source, trials(context));
            let kept = clean[index].prediction;
            let found = changes(&around, epsilon, numbers, kept, &engine, Stop(&over))?;
            let high = found.probability_high(alpha);
            all.trials += found.trials;
            all.changed += found.changed;
            all.probability_high =
                if high > all.probability_high { high } else { all.probability_high };
        }
        Some(all)
    });
    Ok(Chances::Statistical(whole(context, results)))
}

/// What was finished; what was not is recorded.
fn whole<T>(context: &Context, results: Vec<Option<Option<T>>>) -> Vec<Option<T>> {
    let results: Vec<Option<T>> = results.into_iter().map(Option::flatten).collect();
    context.clock.count_missing("trials under noise", &results);
    results
}

fn smoothing(context: &Context, clean: &[Clean], stage: &Stage) -> Result<Chances, Failure> {
    let (alpha, sigma) = (alpha(context)?, sigma(context, clean));
    let (table, over) = (RoundedGaussian::new(), || context.clock.over());
    let (selection, estimation) = (selection_trials(context), trials(context));
    let smoothing = Smoothing { sigma, selection, estimation };
    let results = context.each(stage, |index, sample| {
        let x = context.entering(sample);
        let engine = deployed_decision(&context.deployed, context.from(), &sample.classes);
        let mut all: Option<Kept> = None;
        for (source, around) in sets(context, index, &x) {
            let Some(anchor) = Anchor::of(&around, sigma) else {
                return Some(Err(too_fine(index, sigma)));
            };
            let noise = (&anchor, &table);
            let found = poll(&around, noise, &smoothing, &source, &engine, Stop(&over))?;
            let low = found.probability_low(alpha, around.dimensions());
            let one = Kept {
                class: found.class.filter(|_| decides(low)),
                trials: found.trials,
                votes: found.votes,
                probability_low: low,
                radius: anchor.radius(low),
                wanted: wanted(context, clean[index].rms, around.dimensions()),
            };
            all = Some(all.map_or(one, |all| worse(all, one)));
        }
        all.map(Ok)
    });
    let results: Result<Vec<Option<Kept>>, Failure> =
        whole(context, results).into_iter().map(Option::transpose).collect();
    Ok(Chances::Smoothing(sigma, results?))
}

fn too_fine(index: usize, sigma: f64) -> Failure {
    Failure::refused(format!(
        "sample {index}: noise of deviation {sigma} is too small for its numbers: below 2^-17 of \
         the largest"
    ))
    .help("a larger --sigma")
}

/// The deviation asked for, or a tenth of the median rms of the samples' rows.
fn sigma(context: &Context, clean: &[Clean]) -> f64 {
    let mut all: Vec<f64> = clean.iter().map(|clean| clean.rms).collect();
    all.sort_by(f64::total_cmp);
    let median = all.get(all.len().saturating_sub(1) / 2).copied().unwrap_or(0.0);
    let tenth = if median > 0.0 { 0.1 * median } else { 0.1 };
    // Two digits, so that it can be typed again.
    let round = || format!("{tenth:.1e}").parse().unwrap_or(tenth);
    context.plan.noise.sigma.unwrap_or_else(round)
}

/// The step of the lattice of a deviation.
#[must_use]
pub(crate) fn step(sigma: f64) -> f64 {
    sigma / f64::from(STEPS)
}

/// The Euclidean radius that covers the ball asked for, of so many numbers.
fn wanted(context: &Context, rms: f64, dimensions: usize) -> f64 {
    let epsilon = context.plan.epsilon().at(rms);
    match context.plan.norm {
        Norm::L2 => epsilon,
        Norm::Linf => (epsilon * (dimensions as f64).sqrt()).next_up().next_up(),
    }
}

/// What holds of two sets of rows.
fn worse(a: Kept, b: Kept) -> Kept {
    let least = |a: f64, b: f64| if b < a { b } else { a };
    Kept {
        class: a.class.filter(|_| a.class == b.class),
        trials: a.trials + b.trials,
        votes: a.votes + b.votes,
        probability_low: least(a.probability_low, b.probability_low),
        radius: least(a.radius, b.radius),
        wanted: if b.wanted > a.wanted { b.wanted } else { a.wanted },
    }
}

//! Sample by sample: the clean decision, the verdict at epsilon, the certified and the attack
//! radius.

use std::ops::Range;

use certify::attack::{self, Attack, Budget, Stop, Target, Witness, attack_radius};
use certify::claim::{Decision, Scope, clean_margin, decide, prove};
use certify::interval::{Boxes, Diverged, Margin};
use certify::radius::{Search, search};
use certify::tape::BackwardWeights;
use engine::numerics::argmax;
use engine::walk::Read;
use ndarray::Array2;

use super::context::{Context, decision};
use crate::failure::Failure;
use crate::input::Sample;

/// The clean run of a sample.
#[derive(Clone, Debug)]
pub struct Clean {
    /// The decision at the last position.
    pub prediction: usize,
    /// What must stand: the label, or the prediction without one.
    pub decision: Decision,
    /// The margin of that decision.
    pub margin: f64,
    /// Whether the prediction is the label, where there is one.
    pub correct: Option<bool>,
}

impl Clean {
    /// Whether the clean decision is the one that must stand.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.prediction == self.decision.winner
    }
}

/// What a pass at epsilon gave.
#[derive(Clone, Debug, Default)]
pub struct AtEpsilon {
    /// Positive proof on the whole ball.
    pub certified: bool,
    /// Lower bound of the margin, the least over all sets that move.
    pub margin: Option<f64>,
    /// Where the bound was lost.
    pub diverged: Option<Diverged>,
    /// Next-token positions that hold, and all of them, where asked for.
    pub positions: Option<(u64, u64)>,
}

/// An attack's result.
#[derive(Clone, Debug)]
pub struct Attacked {
    /// The distance of the witness.
    pub radius: f64,
    /// The witness.
    pub witness: Witness,
}

/// The clean decisions of all samples.
///
/// # Errors
/// If the model gives NaN on one, or the time limit passes before all are known.
pub(super) fn clean(context: &Context) -> Result<Vec<Clean>, Failure> {
    let stage = context.clock.stage("clean decisions", context.samples.len() as u64);
    let all = context.each(&stage, |index, sample| {
        let x = sample.embedded(context.deployed.model);
        let logits = context.deployed.logits(&x, 0, Read::Last);
        let row = logits.as_slice().expect("one row");
        let prediction = decide(row, &sample.classes).ok_or_else(|| {
            Failure::refused(format!("sample {index}: the model's logits are not numbers"))
                .help("another sample, or `bitnet-certify inspect` for suspicious tensors")
        })?;
        let decision = decision(sample, prediction);
        let margin = clean_margin(row, &decision);
        let correct = sample.label.map(|label| label as usize == prediction);
        Ok(Clean { prediction, margin, decision, correct })
    });
    let known: Option<Vec<_>> = all.into_iter().collect();
    let known = known.ok_or_else(|| {
        Failure::incomplete("the time limit passed before the clean decisions were known")
            .help("a longer --time-limit, or fewer samples with --limit")
    })?;
    known.into_iter().collect()
}

/// The claim of a decision at a row of the logits.
pub(super) fn margin_of(decision: &Decision, row: usize) -> Margin {
    Margin { row, winner: decision.winner, rivals: decision.classes.clone() }
}

/// The sets of rows that move together; positions were checked against every sample.
fn moves(context: &Context, sample: &Sample) -> Vec<Range<usize>> {
    context.plan.scope.moves(sample.tokens()).expect("the position was checked")
}

/// Bounds the margin of one sample when the rows of one set move by `epsilon`.
fn pass(
    context: &Context,
    x: &Array2<f32>,
    moved: &Range<usize>,
    epsilon: f64,
    claims: &[Margin],
    read: Read,
) -> certify::claim::Proof {
    prove(&context.deployed, &Boxes::ball(x, epsilon, moved), 0, read, claims)
}

/// The verdicts at epsilon.
pub(super) fn at_epsilon(context: &Context, clean: &[Clean]) -> Vec<Option<AtEpsilon>> {
    let stage = context.clock.stage("bounds at epsilon", context.samples.len() as u64);
    let results = context.each(&stage, |index, sample| {
        let x = sample.embedded(context.deployed.model);
        let claim = [margin_of(&clean[index].decision, 0)];
        let mut result = AtEpsilon { certified: clean[index].holds(), ..AtEpsilon::default() };
        for moved in moves(context, sample) {
            let proof = pass(context, &x, &moved, context.plan.epsilon, &claim, Read::Last);
            result.certified &= proof.certifies();
            result.diverged = result.diverged.or(proof.diverged);
            for margin in proof.margins.into_iter().filter(|margin| margin.is_finite()) {
                let least = result.margin.is_none_or(|least| margin < least);
                result.margin = if least { Some(margin) } else { result.margin };
            }
        }
        result.margin = result.margin.filter(|_| result.diverged.is_none());
        if context.plan.all_positions {
            result.positions = Some(positions(context, sample, &x));
        }
        result
    });
    context.clock.count_missing("bounds at epsilon", &results);
    results
}

/// How many next-token positions keep their clean decision on the whole ball.
fn positions(context: &Context, sample: &Sample, x: &Array2<f32>) -> (u64, u64) {
    let logits = context.deployed.logits(x, 0, Read::All);
    let claims: Option<Vec<Margin>> = (logits.rows().into_iter().enumerate())
        .map(|(row, logits)| {
            let winner = argmax(logits.as_slice().expect("a standard row"))?;
            Some(Margin { row, winner, rivals: Vec::new() })
        })
        .collect();
    let total = x.nrows() as u64;
    let Some(claims) = claims else { return (0, total) };
    let mut holds = vec![true; claims.len()];
    for moved in moves(context, sample) {
        let proof = pass(context, x, &moved, context.plan.epsilon, &claims, Read::All);
        for (row, hold) in holds.iter_mut().enumerate() {
            *hold &= proof.margins.get(row).is_some_and(|&margin| margin > 0.0);
        }
    }
    (holds.into_iter().filter(|&hold| hold).count() as u64, total)
}

/// The settings of a radius search that begins at `start`.
pub(super) fn settings(context: &Context, start: f64, rms: f64) -> Search {
    let scale = if rms > 1e-6 { rms } else { 1e-6 };
    let least = scale * 1e-9;
    let most = scale * 1e3;
    let start = start.clamp(least, most);
    Search { start, least, most, ratio: if context.large() { 1.3 } else { 1.01 } }
}

pub(super) fn rms(x: &Array2<f32>) -> f64 {
    let squares: f64 = x.iter().map(|&value| f64::from(value) * f64::from(value)).sum();
    (squares / x.len() as f64).sqrt()
}

/// The certified radii: the largest epsilon that was proven.
pub(super) fn radii(
    context: &Context,
    clean: &[Clean],
    verdicts: &[Option<AtEpsilon>],
) -> Vec<Option<f64>> {
    let stage = context.clock.stage("certified radii", context.samples.len() as u64);
    let results = context.each(&stage, |index, sample| {
        if !clean[index].holds() {
            return 0.0;
        }
        let x = sample.embedded(context.deployed.model);
        let claim = [margin_of(&clean[index].decision, 0)];
        let sets = moves(context, sample);
        let certified = verdicts[index].as_ref().is_some_and(|verdict| verdict.certified);
        let known = if certified { context.plan.epsilon } else { 0.0 };
        let start = if known > 0.0 { known } else { 1e-6 };
        let found = search(settings(context, start, rms(&x)), |epsilon| {
            !context.clock.cuts("certified radii: searches that had begun")
                && sets
                    .iter()
                    .all(|moved| pass(context, &x, moved, epsilon, &claim, Read::Last).certifies())
        });
        if found > known { found } else { known }
    });
    context.clock.count_missing("certified radii", &results);
    results
}

/// The smallest radii at which the attack finds a witness.
pub(super) fn attacks(context: &Context, clean: &[Clean]) -> Vec<Option<Option<Attacked>>> {
    let stage = context.clock.stage("attack radii", context.samples.len() as u64);
    let model = context.deployed.model;
    let weights = if context.large() {
        BackwardWeights::packed(model)
    } else {
        BackwardWeights::dense(model)
    };
    let results = context.each(&stage, |index, sample| {
        let x = sample.embedded(model);
        let scopes: Vec<attack::Scope> = match context.plan.scope {
            Scope::All => vec![attack::Scope::All],
            Scope::Each => (0..x.nrows()).map(attack::Scope::Position).collect(),
            Scope::Position(row) => vec![attack::Scope::Position(row)],
        };
        let budget = attack_budget(context) as usize;
        let stop = || context.clock.cuts("attack radii: some searches ended early");
        let best = scopes.into_iter().filter_map(|scope| {
            let target = Target {
                model,
                kernels: context.deployed.kernels,
                kv: context.deployed.kv,
                weights: Some(&weights),
                from: 0,
                clean: &x,
                scope,
                claim: &clean[index].decision,
                stop: Stop(&stop),
            };
            let attack = Attack {
                budget: Budget { forward_evaluations: budget },
                restarts: 4,
                seed: context.plan.seed,
                stream: index as u64,
            };
            let ball = |radius: f32| ends(&x, radius);
            let (radius, witness) = attack_radius(&attack, &target, &ball).found?;
            let at = ball(radius);
            witness.verify(&target, (&at.0, &at.1)).expect("a witness re-runs bit for bit");
            Some(Attacked { radius: f64::from(radius), witness })
        });
        best.reduce(|best, next| if next.radius < best.radius { next } else { best })
    });
    context.clock.count_missing("attack radii", &results);
    results
}

/// Evaluations that the attack may spend on a sample.
pub(crate) fn attack_budget(context: &Context) -> u32 {
    context.plan.attack_budget.unwrap_or(if context.large() { 10 } else { 300 })
}

/// All f32 within a radius of `x`: the ends rounded inward.
fn ends(x: &Array2<f32>, radius: f32) -> (Array2<f32>, Array2<f32>) {
    let end = |sign: f64| {
        x.mapv(|value| {
            let exact = f64::from(value) + sign * f64::from(radius);
            let near = exact as f32;
            let outside = sign * (f64::from(near) - exact) > 0.0;
            match (outside, sign > 0.0) {
                (false, _) => near,
                (true, true) => near.next_down(),
                (true, false) => near.next_up(),
            }
        })
    };
    (end(-1.0), end(1.0))
}

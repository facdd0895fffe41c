//! Sample by sample: the smallest radius at which an attack changes the decision.

use certify::attack::{
    self, Attack, Budget, Stop, Target, Witness, attack_radius, attack_radius_l2,
};
use certify::claim::Scope;
use certify::tape::BackwardWeights;
use ndarray::Array2;
use reports::model::Norm;

use super::context::Context;
use super::verdicts::Clean;

/// An attack's result.
#[derive(Clone, Debug)]
pub struct Attacked {
    /// The distance of the witness.
    pub radius: f64,
    /// The witness.
    pub witness: Witness,
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
        let x = context.entering(sample);
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
                from: context.from(),
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
            let (radius, witness) = nearest(context.plan.norm, &attack, &target)?;
            Some(Attacked { radius: f64::from(radius), witness })
        });
        best.reduce(|best, next| if next.radius < best.radius { next } else { best })
    });
    context.clock.count_missing("attack radii", &results);
    results
}

/// The nearest witness that the attack finds, verified from an empty state.
fn nearest(norm: Norm, attack: &Attack, target: &Target<'_>) -> Option<(f32, Witness)> {
    let (radius, witness) = match norm {
        Norm::Linf => attack_radius(attack, target, &|radius| ends(target.clean, radius)).found?,
        Norm::L2 => attack_radius_l2(attack, target).found?,
    };
    let verified = match norm {
        Norm::Linf => {
            let (lo, hi) = ends(target.clean, radius);
            witness.verify(target, (&lo, &hi))
        }
        Norm::L2 => witness.verify_l2(target, radius.into()),
    };
    verified.expect("a witness re-runs bit for bit");
    Some((radius, witness))
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

//! Sample by sample: the verdicts at every epsilon that was asked for, and the certified radii.
//!
//! Each set of rows that moves climbs the ladder on its own. The first rung is always tried; a
//! dearer one is not begun once the sample has spent its budget, and the report then says so.

use std::time::{Duration, Instant};

use certify::affine::Share;
use certify::interval::{Diverged, Margin};
use certify::ladder::{Climb, Growth, Pass, Rung};
use certify::radius::Search;
use engine::numerics::argmax;
use engine::walk::Read;
use ndarray::Array2;

use super::context::Context;
use super::verdicts::{Clean, margin_of};

/// What one rung found on a sample.
#[derive(Clone, Debug)]
pub struct Tried {
    /// The rung.
    pub rung: Rung,
    /// Whether it proved every set that it was tried on.
    pub proven: bool,
    /// How many sets that were.
    pub sets: usize,
    /// Its least margin over these; `None` where a bound was lost.
    pub margin: Option<f64>,
    /// Where a bound was lost.
    pub diverged: Option<Diverged>,
    /// Widths behind every step, of the set with the least margin.
    pub growth: Vec<Growth>,
    /// Where the radius of that margin comes from, of affine forms: largest first.
    pub sources: Vec<Share>,
    /// Noise symbols of affine forms, the most over all sets.
    pub symbols: Option<usize>,
    /// Whether forms gave up symbols because the memory was too small, on any set.
    pub reduced: bool,
    /// What it took.
    pub seconds: f64,
}

/// What climbing at one epsilon gave.
#[derive(Clone, Debug, Default)]
pub struct AtEpsilon {
    /// The absolute radius.
    pub epsilon: f64,
    /// Positive proof on the whole ball.
    pub certified: bool,
    /// The dearest rung that was needed for it.
    pub decided: Option<Rung>,
    /// Lower bound of the margin, the least over all sets that move.
    pub margin: Option<f64>,
    /// Where the bound was lost by the last rung tried.
    pub diverged: Option<Diverged>,
    /// The rungs that were tried, in order.
    pub tried: Vec<Tried>,
    /// Next-token positions that hold, and all of them, where asked for.
    pub positions: Option<(u64, u64)>,
}

/// What the search for a radius found.
#[derive(Clone, Debug, Default)]
pub struct Radii {
    /// The largest epsilon that was proven.
    pub best: f64,
    /// The same by each rung alone.
    pub by_rung: Vec<(Rung, f64)>,
}

/// How long a sample may go on beginning dearer rungs.
pub(super) struct Purse<'a> {
    context: &'a Context<'a>,
    what: &'static str,
    pays: bool,
    begun: Instant,
    limit: Duration,
}

impl<'a> Purse<'a> {
    /// A purse from which some time is gone already.
    pub(super) fn new(
        context: &'a Context<'a>,
        tokens: usize,
        what: &'static str,
        spent: f64,
    ) -> Self {
        let spent = Duration::try_from_secs_f64(spent).unwrap_or(Duration::MAX);
        let limit = context.plan.budget.saturating_sub(spent);
        let pays = context.forms_pay(tokens);
        Self { context, what, pays, begun: Instant::now(), limit }
    }

    /// Whether another pass of a rung may begin; if the budget forbids it, that is recorded.
    ///
    /// Where forms would clearly take longer no dearer rung is begun: that follows from the model,
    /// the sample and the plan alone, and is no limit that was hit.
    pub(super) fn may(&self, rung: Rung) -> bool {
        if rung == self.context.plan.ladder.rungs()[0] {
            return true;
        }
        if !self.pays {
            return false;
        }
        let may = self.begun.elapsed() < self.limit;
        if !may {
            self.context.clock.hit("budget", format!("{}: dearer methods", self.what));
        }
        may
    }
}

/// The verdicts at every epsilon, in the order typed.
pub(super) fn at_epsilons(context: &Context, clean: &[Clean]) -> Vec<Option<Vec<AtEpsilon>>> {
    let stage = context.clock.stage("bounds at epsilon", context.samples.len() as u64);
    let results = context.each(&stage, |index, sample| {
        let x = context.entering(sample);
        let mut spent = 0.0;
        let mut all = Vec::new();
        for (rank, epsilon) in context.plan.epsilons.iter().enumerate() {
            let purse = Purse::new(context, x.nrows(), "bounds at epsilon", spent);
            let radius = epsilon.at(clean[index].rms);
            let mut at = at_radius(context, &x, &clean[index], radius, &purse);
            spent += at.tried.iter().map(|tried| tried.seconds).sum::<f64>();
            if context.plan.all_positions && rank == 0 {
                at.positions = Some(positions(context, &x, radius, &purse));
            }
            all.push(at);
        }
        all
    });
    context.clock.count_missing("bounds at epsilon", &results);
    results
}

/// One sample at one radius.
fn at_radius(
    context: &Context,
    x: &Array2<f32>,
    clean: &Clean,
    radius: f64,
    purse: &Purse,
) -> AtEpsilon {
    let claims = [margin_of(&clean.decision, 0)];
    let aim = context.aim(context.from(), Read::Last, &claims);
    // Nothing can be proven of a decision that does not hold on the clean input.
    let first = context.plan.ladder.rungs()[0];
    let may = |rung| (clean.holds() || rung == first) && purse.may(rung);
    let mut at = AtEpsilon { epsilon: radius, certified: clean.holds(), ..AtEpsilon::default() };
    let mut lost = false;
    for region in context.regions(x, radius) {
        let climb = context.plan.ladder.climb(&aim, &region, true, &may);
        at.certified &= climb.certifies();
        at.decided = if climb.decided() > at.decided { climb.decided() } else { at.decided };
        let last = climb.passes.last().expect("the first rung is always tried");
        match climb.margins().first().copied().filter(|margin| margin.is_finite()) {
            Some(margin) => at.margin = least(at.margin, margin),
            None => (lost, at.diverged) = (true, at.diverged.or(last.proof.diverged)),
        }
        note(&mut at.tried, climb);
    }
    at.margin = at.margin.filter(|_| !lost);
    at.decided = at.decided.filter(|_| at.certified);
    at
}

fn least(known: Option<f64>, next: f64) -> Option<f64> {
    Some(known.filter(|&known| known <= next).unwrap_or(next))
}

/// Joins what the rungs found on one more set.
fn note(tried: &mut Vec<Tried>, climb: Climb) {
    for pass in climb.passes {
        match tried.iter_mut().find(|tried| tried.rung == pass.rung) {
            Some(tried) => tried.join(pass),
            None => tried.push(Tried::of(pass)),
        }
    }
}

impl Tried {
    fn of(pass: Pass) -> Self {
        let Pass { rung, proof, growth, sources, symbols, reduced, seconds } = pass;
        let margin = proof.margins.first().copied().filter(|margin| margin.is_finite());
        let proven = proof.certifies();
        let diverged = proof.diverged;
        Self { rung, proven, sets: 1, margin, diverged, growth, sources, symbols, reduced, seconds }
    }

    fn join(&mut self, pass: Pass) {
        let other = Self::of(pass);
        self.sets += 1;
        self.proven &= other.proven;
        self.seconds += other.seconds;
        self.reduced |= other.reduced;
        self.symbols = if other.symbols > self.symbols { other.symbols } else { self.symbols };
        self.diverged = self.diverged.or(other.diverged);
        let worse = match (self.margin, other.margin) {
            (Some(own), Some(margin)) => margin < own,
            (own, None) => own.is_some(),
            (None, Some(_)) => false,
        };
        if worse {
            (self.margin, self.growth, self.sources) = (other.margin, other.growth, other.sources);
        }
    }
}

/// How many next-token positions keep their clean decision on the whole ball.
fn positions(context: &Context, x: &Array2<f32>, radius: f64, purse: &Purse) -> (u64, u64) {
    let logits = context.deployed.logits(x, context.from(), Read::All);
    let claims: Option<Vec<Margin>> = (logits.rows().into_iter().enumerate())
        .map(|(row, logits)| {
            let winner = argmax(logits.as_slice().expect("a standard row"))?;
            Some(Margin { row, winner, rivals: Vec::new() })
        })
        .collect();
    let total = x.nrows() as u64;
    let Some(claims) = claims else { return (0, total) };
    let aim = context.aim(context.from(), Read::All, &claims);
    let mut holds = vec![true; claims.len()];
    for region in context.regions(x, radius) {
        let climb = context.plan.ladder.climb(&aim, &region, false, &|rung| purse.may(rung));
        let margins = climb.margins();
        for (row, hold) in holds.iter_mut().enumerate() {
            *hold &= margins.get(row).is_some_and(|&margin| margin > 0.0);
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
    // Forms cost a hundred times what boxes do, and nobody needs their radius to the per cent.
    let dear = context.plan.ladder.rungs().contains(&Rung::Affine);
    let ratio = if context.large() {
        1.3
    } else if dear {
        1.05
    } else {
        1.01
    };
    Search { start, least, most, ratio }
}

/// The certified radii: the largest epsilons that were proven.
pub(super) fn radii(
    context: &Context,
    clean: &[Clean],
    verdicts: &[Option<Vec<AtEpsilon>>],
) -> Vec<Option<Radii>> {
    let stage = context.clock.stage("certified radii", context.samples.len() as u64);
    let results = context.each(&stage, |index, sample| {
        let at = verdicts[index].as_deref().unwrap_or_default();
        radii_of(context, &context.entering(sample), &clean[index], at)
    });
    context.clock.count_missing("certified radii", &results);
    results
}

fn radii_of(context: &Context, x: &Array2<f32>, clean: &Clean, at: &[AtEpsilon]) -> Radii {
    if !clean.holds() {
        let none = context.plan.ladder.rungs().iter().map(|&rung| (rung, 0.0)).collect();
        return Radii { best: 0.0, by_rung: none };
    }
    let claims = [margin_of(&clean.decision, 0)];
    let aim = context.aim(context.from(), Read::Last, &claims);
    let certified = at.iter().filter(|at| at.certified).map(|at| at.epsilon);
    let known = certified.fold(0.0, |most, epsilon| if epsilon > most { epsilon } else { most });
    let start = if known > 0.0 { known } else { 1e-6 };
    let spent = at.iter().flat_map(|at| &at.tried).map(|tried| tried.seconds).sum();
    let purse = Purse::new(context, x.nrows(), "certified radii", spent);
    let may =
        |rung| !context.clock.cuts("certified radii: searches that had begun") && purse.may(rung);
    let regions = |epsilon| context.regions(x, epsilon);
    let settings = settings(context, start, clean.rms);
    let mut by_rung = context.plan.ladder.radii(&aim, settings, &regions, &may);
    let sets = regions(0.0).len();
    for (rung, radius) in &mut by_rung {
        // What a rung proved at an epsilon that was asked for is a radius of its own.
        let alone = |tried: &Tried| tried.rung == *rung && tried.proven && tried.sets == sets;
        for at in at.iter().filter(|at| at.tried.iter().any(alone)) {
            *radius = if at.epsilon > *radius { at.epsilon } else { *radius };
        }
    }
    let best = by_rung.iter().fold(known, |most, &(_, r)| if r > most { r } else { most });
    Radii { best, by_rung }
}

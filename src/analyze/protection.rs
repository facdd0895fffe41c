//! Raw faults of packed weights behind memory codes, and what other codes of weights would do.

use engine::model::{Model, Weights};
use faults::{
    Campaign, Criterion, Direction, EncodingRow, Histogram, Identity, Protection, Rate, RawFault,
    Shield, ShieldTally, Stratified, Stratum, Summary, Tally, Target, TritExposure, UnusedCode,
    encodings, stratified,
};

use super::context::Context;

/// One raw fault in so many trials of a campaign.
const PART: u64 = 16;
/// What is tried: codes, and how many bits of one word a raw fault strikes.
const TRIED: [(Protection, u32); 9] = [
    (Protection::None, 2),
    (Protection::Parity { bits: 64 }, 1),
    (Protection::Parity { bits: 64 }, 2),
    (Protection::Secded, 1),
    (Protection::Secded, 2),
    (Protection::Secded, 3),
    (Protection::OnDie, 1),
    (Protection::OnDie, 2),
    (Protection::Chipkill, 2),
];

/// Raw faults behind one code.
#[derive(Debug)]
pub struct Protected {
    /// The code.
    pub protection: Protection,
    /// Bits of one word that a raw fault strikes.
    pub flips: u32,
    /// Stored bits, check bits included.
    pub bits: u64,
    /// The share of them that reaches the model, where it is known exactly.
    pub exact: Option<Rate>,
    /// What came of them.
    pub tally: ShieldTally,
}

/// Raw faults behind each code; none of large models, of which every trial is dear, and of models
/// without codes or blocks.
pub(super) fn protected(context: &Context, campaign: &Campaign, found: &Tally) -> Vec<Protected> {
    let model = context.deployed.model;
    if context.large() || !is_packed(model) {
        return Vec::new();
    }
    let trials = campaign.plan().trials / PART;
    let stage = context.clock.stage("raw faults behind memory codes", TRIED.len() as u64);
    let mut rows: Vec<Protected> = single(context, campaign, found).into_iter().collect();
    for (done, (protection, flips)) in TRIED.into_iter().enumerate() {
        if context.clock.over() {
            let what = format!("memory codes: {} of {}", TRIED.len() - done, TRIED.len());
            context.clock.hit("time-limit", what);
            break;
        }
        let name = format!("{protection} in-word {flips}");
        let identity = Identity::of(&["protection", &campaign.identity().to_string(), &name]);
        let Some(shield) = shield(context, campaign, protection, flips) else { continue };
        let tally = shield.run(&identity, campaign.goldens(), trials);
        let exact = shield.exact_residual();
        rows.push(Protected { protection, flips, bits: shield.bits(), exact, tally });
        stage.at(done as u64 + 1);
    }
    rows
}

fn shield<'a>(
    context: &Context<'a>,
    campaign: &Campaign,
    protection: Protection,
    flips: u32,
) -> Option<Shield<'a>> {
    let (deployed, raw) = (&context.deployed, RawFault::InWord { flips });
    // A shape that the packed layout does not hold has no physical bits.
    Shield::new(deployed.model, deployed.kernels, protection, raw, campaign.plan().unused).ok()
}

/// Single flips without a code: what the campaign itself tried, where it struck the same bits.
fn single(context: &Context, campaign: &Campaign, found: &Tally) -> Option<Protected> {
    let summary = found.targets.get(&Target::WeightCode)?;
    let shield = shield(context, campaign, Protection::None, 1)?;
    let tally = ShieldTally {
        trials: summary.trials,
        residual: summary.trials,
        masked: summary.masked,
        sdc: summary.sdc,
        due: summary.due,
        ..ShieldTally::default()
    };
    let (protection, exact) = (Protection::None, shield.exact_residual());
    let row = Protected { protection, flips: 1, bits: shield.bits(), exact, tally };
    // Words of blocks hold their scales too, which are another target.
    let struck = campaign.space(Target::WeightCode).count(Target::WeightCode, 0);
    (campaign.plan().flips == 1 && row.bits == struck).then_some(row)
}

/// One flip of any stored bit of the parameters that were struck.
#[derive(Debug)]
pub struct StoredBits {
    /// Their bits.
    pub bits: u64,
    /// Trials that struck them.
    pub trials: u64,
    /// The share that changes a decision.
    pub sdc: Stratified,
}

/// The rate over all parameters, each target with the weight of its bits; `None` where a trial
/// flips several bits, or nothing but the store was struck.
pub(super) fn stored_bits(campaign: &Campaign, found: &Tally) -> Option<StoredBits> {
    let plan = campaign.plan();
    let alpha = 1.0 - plan.confidence;
    let untried = Summary::default();
    let (mut strata, mut bits, mut trials) = (Vec::new(), 0, 0);
    for &target in plan.targets.iter().filter(|target| target.kv().is_none()) {
        let size = campaign.space(target).count(target, 0);
        let summary = found.targets.get(&target).unwrap_or(&untried);
        strata.push(Stratum::repeated(size, summary.trials, summary.sdc));
        bits += size;
        trials += summary.trials;
    }
    // Below the last, the parts of alpha are smaller than intervals are made for.
    let asked = plan.flips == 1 && bits > 0 && alpha >= 1e-9;
    asked.then(|| StoredBits { bits, trials, sdc: stratified(&strata, alpha) })
}

/// What other codes of the weights of a model would do.
#[derive(Debug, Default)]
pub struct Assignments {
    /// All assignments of two-bit codes, fewest sign flips first.
    pub codes: Vec<EncodingRow>,
    /// Five weights in a byte, by direction.
    pub trits: Vec<(Direction, TritExposure)>,
}

/// What other codes would do; nothing where there are none, or an unused one is in use.
pub(crate) fn assignments(context: &Context, unused: UnusedCode) -> Assignments {
    let mut sum = Histogram::default();
    for rows in codes(context.deployed.model) {
        let Some(of) = Histogram::of(rows) else { return Assignments::default() };
        sum.minus += of.minus;
        sum.zero += of.zero;
        sum.plus += of.plus;
    }
    if sum == Histogram::default() {
        return Assignments::default();
    }
    let trits = Direction::ALL.map(|direction| Some((direction, sum.trits(direction)?)));
    Assignments {
        codes: encodings(&sum, unused, Criterion::Sign, Direction::Both),
        trits: trits.into_iter().flatten().collect(),
    }
}

fn codes(model: &Model) -> impl Iterator<Item = &engine::packing::TernaryRows> {
    let linears = model.layers.iter().flat_map(|layer| &layer.linears);
    linears.filter_map(|linear| match &linear.weights {
        Weights::Ternary { rows, .. } => Some(&**rows),
        Weights::Coded(_) | Weights::Dense(_) => None,
    })
}

fn is_packed(model: &Model) -> bool {
    let mut linears = model.layers.iter().flat_map(|layer| &layer.linears);
    codes(model).next().is_some() || linears.any(|linear| linear.weights.block_shape().is_some())
}

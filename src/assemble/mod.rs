//! Results to report: the way from what the rooms found to the words of the contract.
//!
//! Pure functions of their arguments: nothing here computes a bound, draws a bit, or asks the time.

mod behind;
mod cache;
mod certification;
mod chance;
mod curve;
mod exhaustive;
mod faults;
mod forms;
mod growth;
mod ladder;
mod memory;
mod substitutions;

use engine::formats::Loaded;
use engine::model::{Activations, Gate, HeadForm, Model, NormSlot, Weights};
use reports::model as out;

pub(crate) use faults::word as fault_target;
pub(crate) use ladder::costs;

use crate::analyze::{Context, Found};
use crate::cli::{KvArg, UnusedArg};
use crate::input::{Kind, Samples};
use crate::noise::draws;
use crate::plan::Plan;
use crate::substitution::Asked;

/// The report of a run, without its `run` object.
#[must_use]
pub(crate) fn report(
    context: &Context,
    loaded: &Loaded,
    samples: &Samples,
    found: &Found,
) -> out::Report {
    let plan = context.plan;
    let certification = found
        .certified
        .as_ref()
        .map(|certified| certification::certification(context, &found.clean, certified));
    let substitutions = (found.substitutions.as_deref())
        .map(|all| substitutions::substitutions(context, &found.clean, all));
    let faults = found.faults.as_ref().map(|campaigned| {
        faults::faults(plan, campaigned, found.bounds.as_deref(), found.rows.as_ref())
    });
    let faults = faults.or(found.map.as_ref().map(|map| exhaustive::faults(plan, map)));
    let (statistical, smoothed) = chance::chances(context, &found.clean, found.chances.as_ref());
    out::Report {
        schema_version: out::SCHEMA_VERSION.into(),
        tool: out::Tool {
            name: "bitnet-certify".into(),
            version: env!("CARGO_PKG_VERSION").into(),
        },
        engine: out::Engine {
            arithmetic: engine::ARITHMETIC.into(),
            description: "exact integer products, f32 in one documented order, no contraction"
                .into(),
        },
        model: model(loaded, samples),
        data: data(samples),
        request: request(context),
        assumptions: assumptions(context, found),
        limits_hit: context.clock.hits(),
        certification,
        substitutions,
        statistical,
        smoothed,
        faults,
        run: None,
    }
}

fn number(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

fn model(loaded: &Loaded, samples: &Samples) -> out::Model {
    let config = &loaded.model.config;
    out::Model {
        name: loaded.manifest.name.clone(),
        embedded: samples.embedded_model,
        digest: format!("blake3:{}", loaded.manifest.digest),
        architecture: config.architecture.clone(),
        layers: number(config.layers),
        hidden: number(config.hidden),
        ffn: number(config.ffn),
        heads: number(config.heads),
        kv_heads: number(config.kv_heads),
        head_dim: number(config.head_dim),
        vocabulary: number(config.vocabulary),
        activation_policy: match config.activations {
            Activations::PerTokenInt8 => out::ActivationPolicy::PerTokenInt8,
            Activations::PerTokenInt4 => out::ActivationPolicy::PerTokenInt4,
            Activations::None => out::ActivationPolicy::None,
        },
        head: match loaded.model.head_form() {
            HeadForm::AsStored => out::HeadForm::AsStored,
            HeadForm::Int8 => out::HeadForm::Int8,
        },
        gate: match config.gate {
            Gate::Relu2 => out::GateFunction::Relu2,
            Gate::Silu => out::GateFunction::Silu,
        },
        weights: weight_counts(&loaded.model),
        warnings: loaded.manifest.warnings.clone(),
    }
}

/// How many weights a model has, by kind.
#[must_use]
pub(crate) fn weight_counts(model: &Model) -> out::WeightCounts {
    let matrix = |rows: usize, columns: usize| rows as u64 * columns as u64;
    let mut counts = out::WeightCounts { ternary: 0, coded: 0, float: 0, bytes_packed: 0 };
    counts.float += matrix(model.embedding.rows(), model.embedding.columns());
    if !model.config.tied {
        counts.float += matrix(model.head.rows(), model.head.columns());
    }
    counts.float += model.final_norm.gains.len() as u64;
    for layer in &model.layers {
        let norms = NormSlot::of_layer().filter_map(|slot| layer.norm(slot));
        counts.float += norms.map(|norm| norm.gains.len() as u64).sum::<u64>();
        for linear in &layer.linears {
            match &linear.weights {
                Weights::Ternary { rows, .. } => {
                    counts.ternary += matrix(rows.rows(), rows.columns());
                    counts.float += 1;
                    counts.bytes_packed += matrix(rows.rows(), rows.columns()).div_ceil(4);
                }
                Weights::Coded(coded) => {
                    counts.coded += matrix(coded.rows().rows(), coded.rows().columns());
                    counts.float += matrix(coded.rows().rows(), coded.rows().groups());
                }
                Weights::Dense(float) => counts.float += matrix(float.rows(), float.columns()),
            }
        }
    }
    counts
}

fn data(samples: &Samples) -> out::Data {
    let labelled = samples.samples.iter().filter(|sample| sample.label.is_some()).count();
    out::Data {
        digest: format!("blake3:{}", samples.digest),
        samples: samples.samples.len() as u64,
        labelled: labelled as u64,
        source: if samples.embedded { out::DataSource::Embedded } else { out::DataSource::File },
        kind: match samples.kind {
            Kind::Ids => out::InputKind::InputIds,
            Kind::Text => out::InputKind::Text,
            Kind::Embeddings => out::InputKind::InputsEmbeds,
            Kind::Mixed => out::InputKind::Mixed,
        },
    }
}

/// The scope as it was typed.
pub(crate) fn scope(plan: &Plan) -> String {
    match plan.scope {
        certify::claim::Scope::All => "all".into(),
        certify::claim::Scope::Each => "each".into(),
        certify::claim::Scope::Position(row) => row.to_string(),
    }
}

fn unused(plan: &Plan) -> out::UnusedCode {
    match plan.unused {
        None | Some(UnusedArg::Deployed) => out::UnusedCode::Deployed,
        Some(UnusedArg::Zero) => out::UnusedCode::Zero,
        Some(UnusedArg::Detect) => out::UnusedCode::Detect,
    }
}

fn kv(plan: &Plan) -> out::KvStorage {
    match plan.kv_arg {
        KvArg::F32 => out::KvStorage::F32,
        KvArg::F16 => out::KvStorage::F16,
        KvArg::Int8 => out::KvStorage::Int8,
        KvArg::OneBit => out::KvStorage::OneBit,
    }
}

fn request(context: &Context) -> out::Request {
    let plan = context.plan;
    let draws = draws(plan.method);
    out::Request {
        epsilon: plan.epsilon().text.clone(),
        epsilon_value: plan.epsilon().value,
        epsilons: plan.epsilons.iter().map(|epsilon| epsilon.text.clone()).collect(),
        norm: plan.norm,
        suffix: plan.suffix.map(number),
        substitutions: plan.substitutions.as_ref().map(substituted),
        scope: scope(plan),
        positions: if plan.all_positions { out::Positions::All } else { out::Positions::Last },
        method: plan.method,
        budget_seconds: plan.budget.as_secs_f64(),
        classes: plan.classes.clone(),
        faults: crate::analyze::trials(context),
        flips: plan.flips,
        seed: plan.seed,
        confidence: plan.confidence,
        noise_trials: draws.then(|| crate::analyze::chance::trials(context)),
        sigma: plan.noise.sigma,
        stat_threshold: (plan.method == out::Method::Statistical).then(|| stat_threshold(plan)),
        unused_code: unused(plan),
        kv: kv(plan),
        limit: plan.limit.map(|limit| limit as u64),
        no_certify: !plan.certify,
        no_faults: !plan.inject,
        attack_steps: crate::analyze::attack_budget(context),
        time_limit_seconds: plan.time_limit.map(|limit| limit.as_secs_f64()),
        max_memory_bytes: plan.max_memory,
        gates: plan.gates.clone(),
    }
}

fn assumptions(context: &Context, found: &Found) -> Vec<String> {
    let plan = context.plan;
    let mut all = vec![
        format!(
            "Every statement speaks of the arithmetic {} of this program's engine, bit for bit; \
             another runtime may round, order or quantise otherwise.",
            engine::ARITHMETIC
        ),
        moved(plan),
        "Keys and values are stored as the report says; a fault strikes what is stored.".into(),
    ];
    if plan.certify && draws(plan.method) {
        all.push(chance::assumption());
    } else if plan.certify {
        all.push(
            "Certified means: bounds of the engine's own arithmetic prove the decision on the \
             whole ball. Unknown is not a proof of anything. A decision is read at the last \
             position; ties go to the lowest index."
                .into(),
        );
    }
    if found.map.is_some() {
        all.push(
            "Every single-bit fault of the packed weights that are named was decided on the given \
             samples, so shares are exact there; nothing is said of other samples, or of several \
             flips at once."
                .into(),
        );
    } else if found.faults.as_ref().is_some_and(|faults| faults.mix.is_some()) {
        all.push(
            "Fault rates are of faults drawn as the plan says, on the given samples; the rate of a \
             target is that of the plan's mix of faults of it, and the intervals are exact \
             (Clopper-Pearson) and hold one at a time."
                .into(),
        );
    } else if plan.inject {
        all.push(
            "Fault rates are of bits drawn uniformly within each target, on the given samples; \
             the intervals are exact (Clopper-Pearson) and hold one at a time."
                .into(),
        );
        all.push(
            "Fault bounds hold for every single flip of a weight code of a layer, on the given \
             samples; bits of scales, norms, embeddings, the head and the cache are sampled only."
                .into(),
        );
        all.push(
            "Proofs about rows, tensors and layers hold for every set of at most so many flips of \
             weight codes within the one that is named, on the samples that were tried."
                .into(),
        );
    }
    all
}

/// What the perturbation moves.
fn moved(plan: &Plan) -> String {
    let what = match plan.suffix {
        None => "The perturbation moves the embeddings that enter the first layer".to_owned(),
        Some(suffix) => format!(
            "The perturbation moves the residual stream that enters the last {suffix} layers, not \
             the embeddings; the layers before them see the clean input"
        ),
    };
    let tokens = match plan.substitutions {
        None => "token ids, text and a front end before them are not perturbed",
        Some(_) => "token ids change only where the report speaks of substitutions",
    };
    format!("{what}; {tokens}.")
}

/// What was asked about tokens; a file is not named, because no path enters a report.
fn substituted(asked: &Asked) -> String {
    match asked {
        Asked::Nearest(count) => format!("{count} nearest"),
        Asked::File(_) => "sets of a file".into(),
    }
}

/// What `stat_acc` asks of a bound.
fn stat_threshold(plan: &Plan) -> f64 {
    plan.noise.threshold.unwrap_or(0.01)
}

/// The middle of some numbers: the lower of the two in the middle.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len().checked_sub(1)? / 2;
    Some(values[middle])
}

/// The largest of some numbers.
fn largest(values: impl Iterator<Item = f64>) -> Option<f64> {
    values.fold(None, |most, value| match most {
        Some(most) if most >= value => Some(most),
        _ => Some(value),
    })
}

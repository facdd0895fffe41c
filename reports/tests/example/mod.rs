//! A made-up report of any size that keeps every rule of the contract: what the tests render.
//!
//! Its numbers are invented, smooth and deterministic; only their relations are real.

pub(crate) mod chance;
mod change;
pub(crate) mod exhaustive;
mod ladder;
mod memory;
mod rows;
mod sample;
pub(crate) mod texts;

use change::{forms, margin, part};
use ladder::{cost, epsilon_row, substitutions, summary};
use reports::model::*;
use rows::{cache_proven, flips_in_model, flips_proven, rows_proven, worst};
use sample::sample;

const EPSILON: f64 = 0.01;
const STEPS: [&str; 7] = ["input_norm", "qkv", "attention", "attn_out", "ffn_norm", "gate", "down"];

/// A small model with every part of the contract filled.
pub(crate) fn report() -> Report {
    sized(60, 4)
}

/// The same with many samples and layers.
pub(crate) fn sized(samples: u64, layers: u32) -> Report {
    let mut report = Report {
        schema_version: SCHEMA_VERSION.to_owned(),
        tool: Tool { name: "bitnet-certify".to_owned(), version: "0.1.0".to_owned() },
        engine: Engine {
            arithmetic: "bca-1".to_owned(),
            description: "f32 in one documented order, exact integer products".to_owned(),
        },
        model: model(layers),
        data: Data {
            digest: "blake3:5c1d0b6a9e2f47d38c6b1f0e9d8a7c6b".to_owned(),
            samples,
            labelled: samples,
            source: DataSource::Embedded,
            kind: InputKind::InputsEmbeds,
        },
        request: request(),
        assumptions: vec![
            "Statements hold for the arithmetic named above; another runtime may round otherwise."
                .to_owned(),
            "Only embeddings move; token ids, weights and positions do not.".to_owned(),
            "Faults are drawn uniformly over the bits of a target.".to_owned(),
        ],
        limits_hit: Vec::new(),
        certification: None,
        substitutions: Some(substitutions()),
        statistical: None,
        smoothed: None,
        faults: None,
        run: Some(Run {
            started: "2026-01-31T12:00:00Z".to_owned(),
            seconds_total: 41.7,
            seconds_load: Some(0.21),
            seconds_certify: Some(28.4),
            seconds_faults: Some(12.9),
            methods: vec![cost(Method::IntervalBoundPropagation), cost(Method::Zonotope)],
            threads: 2,
            kernels: "avx2".to_owned(),
            peak_memory_bytes: Some(212_000_000),
        }),
    };
    report.certification = Some(certification(samples, layers));
    report.faults = Some(faults(layers));
    report
}

fn model(layers: u32) -> Model {
    Model {
        name: "digits-ternary".to_owned(),
        embedded: true,
        digest: "blake3:9f3a6c52d1e84b07a5c2f1e0d9b8a7f6".to_owned(),
        architecture: "bitnet".to_owned(),
        layers,
        hidden: 64,
        ffn: 128,
        heads: 4,
        kv_heads: 2,
        head_dim: 16,
        vocabulary: 10,
        activation_policy: ActivationPolicy::PerTokenInt8,
        head: HeadForm::AsStored,
        gate: GateFunction::Relu2,
        weights: WeightCounts { ternary: 147_456, coded: 0, float: 5_834, bytes_packed: 36_864 },
        warnings: Vec::new(),
    }
}

fn request() -> Request {
    Request {
        epsilon: "0.01".to_owned(),
        epsilon_value: EPSILON,
        epsilons: vec!["0.01".to_owned(), "2%rms".to_owned()],
        norm: Norm::Linf,
        suffix: None,
        substitutions: Some("2 nearest".to_owned()),
        scope: "all".to_owned(),
        positions: Positions::Last,
        method: Method::Auto,
        budget_seconds: 10.0,
        classes: None,
        faults: 2_000,
        flips: 1,
        seed: 0,
        confidence: 0.99,
        noise_trials: None,
        sigma: None,
        stat_threshold: None,
        unused_code: UnusedCode::Deployed,
        kv: KvStorage::F32,
        limit: None,
        no_certify: false,
        no_faults: false,
        attack_steps: 64,
        time_limit_seconds: None,
        max_memory_bytes: None,
        gates: Vec::new(),
    }
}

/// A number in [0, 1) that looks random.
fn noise(i: u64) -> f64 {
    let mixed = (i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    ((mixed ^ (mixed >> 32)) >> 11) as f64 / (1_u64 << 53) as f64
}

fn certification(count: u64, layers: u32) -> Certification {
    let samples: Vec<Sample> = (0..count).map(sample).collect();
    let with = |verdict| samples.iter().filter(|sample| sample.verdict == verdict).count() as u64;
    let right = samples.iter().filter(|sample| sample.correct == Some(true)).count() as f64;
    let mut radii: Vec<f64> = samples.iter().map(|sample| sample.certified_radius).collect();
    radii.sort_by(f64::total_cmp);
    let mut attacks: Vec<f64> = samples.iter().filter_map(|sample| sample.attack_radius).collect();
    attacks.sort_by(f64::total_cmp);
    let certified = with(Verdict::Certified);
    Certification {
        epsilon: "0.01".to_owned(),
        epsilon_value: EPSILON,
        epsilon_unit: EpsilonUnit::Absolute,
        norm: Norm::Linf,
        suffix: None,
        scope: "all".to_owned(),
        method: Method::Auto,
        labelled: count,
        unlabelled: 0,
        clean_acc: Some(right / count as f64),
        cert_acc: Some(certified as f64 / count as f64),
        certified,
        falsified: with(Verdict::Falsified),
        unknown: with(Verdict::Unknown),
        largest_certified_epsilon: radii.last().copied().unwrap_or(0.0),
        median_certified_radius: radii.get(radii.len() / 2).copied().unwrap_or(0.0),
        median_certified_radius_rel: 0.5 * radii.get(radii.len() / 2).copied().unwrap_or(0.0),
        median_attack_ratio: Some(4.5),
        median_attack_radius: attacks.get(attacks.len() / 2).copied(),
        deepest_certified_suffix: Some(layers / 2),
        readout_certified_radius: Some(0.004),
        readout_certified_radius_median: Some(0.02),
        first_lost_layer: Some(FirstLost {
            layer: Some(layers / 2),
            step: "attention".to_owned(),
            why: "the hull of a softmax share is not finite".to_owned(),
        }),
        next_token: None,
        methods: vec![
            summary(Method::IntervalBoundPropagation, count, 0),
            summary(Method::Zonotope, count, certified),
        ],
        epsilons: vec![epsilon_row("0.01", &samples), epsilon_row("2%rms", &samples)],
        curve: curve(&samples),
        layers: (0..layers).map(|index| layer(index, layers)).collect(),
        growth: growth(layers),
        growth_of_forms: Some(forms(layers)),
        lipschitz_samples: 1,
        margin_lipschitz: Some(margin()),
        samples,
    }
}

fn curve(samples: &[Sample]) -> Vec<CurvePoint> {
    let all = samples.len() as f64;
    let share = |keep: &dyn Fn(&Sample) -> bool| {
        samples.iter().filter(|sample| keep(sample)).count() as f64 / all
    };
    let steps = [0.0, 1e-4, 3e-4, 1e-3, 2e-3, 4e-3, 7e-3, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.2];
    let point = |epsilon: f64| CurvePoint {
        epsilon,
        certified_acc: share(&|sample| {
            sample.correct == Some(true) && sample.certified_radius >= epsilon
        }),
        attacked_acc: Some(share(&|sample| {
            sample.attack_radius.is_none_or(|attack| attack > epsilon)
        })),
    };
    steps.into_iter().map(point).collect()
}

fn layer(index: u32, layers: u32) -> Layer {
    let depth = f64::from(index + 1) / f64::from(layers);
    let radius = if index == 0 { 0.0 } else { 0.002 * (1.0 + 30.0 * depth * depth * depth) };
    let lost = index > layers / 2;
    Layer {
        index,
        certified_radius: radius,
        certified_radius_median: 0.004 + 3.0 * radius,
        certified_radius_rel: radius / (1.0 + depth),
        stream_rms: 1.0 + depth,
        lipschitz_bound: (!lost).then_some(14.0 + 90.0 * depth),
        lipschitz_slack: (!lost).then_some(0.031 * depth),
        lipschitz_method: (!lost).then_some(Method::Zonotope),
        attention_lipschitz: (!lost).then_some(part(2.0 + depth)),
        ffn_lipschitz: (!lost).then_some(part(7.0 + 40.0 * depth)),
        width_in: (!lost).then_some(0.02 * (1.0 + 40.0 * depth)),
        width_out: (index < layers / 2).then_some(0.02 * (1.0 + 400.0 * depth)),
        reason: (index >= layers / 2).then(|| "the bound diverged in this layer".to_owned()),
    }
}

fn growth(layers: u32) -> Vec<Growth> {
    let mut width = 0.02;
    let mut steps = Vec::new();
    for layer in 0..layers {
        for (i, step) in STEPS.iter().enumerate() {
            width *= [1.1, 4.0, 1.7, 3.0, 0.4, 5.0, 2.5][i] / 1.5;
            let lost = layer > layers / 2 || (layer == layers / 2 && i >= 2);
            steps.push(Growth {
                layer: Some(layer),
                step: (*step).to_owned(),
                width_median: (!lost).then_some(width),
                width_max: (!lost).then_some(width * (3.0 + noise(u64::from(layer)))),
                diverged: lost,
            });
        }
    }
    let (step, diverged) = ("logits".to_owned(), true);
    steps.push(Growth { layer: None, step, width_median: None, width_max: None, diverged });
    steps
}

fn rate(hits: u64, trials: u64) -> (Option<f64>, f64, f64) {
    let (rate, room) = (hits as f64 / trials as f64, 5.0 / trials as f64);
    let high = (rate * 1.3 + room).clamp(0.0, 1.0);
    (Some(rate), (0.75 * rate - 0.2 * room).clamp(0.0, 1.0), high)
}

fn targets() -> [(FaultTarget, f64, f64, u32); 6] {
    [
        (FaultTarget::WeightCode, 0.004, 0.0, 2),
        (FaultTarget::WeightScale, 0.09, 0.02, 16),
        (FaultTarget::Norm, 0.06, 0.02, 16),
        (FaultTarget::Embedding, 0.03, 0.01, 16),
        (FaultTarget::LmHead, 0.05, 0.012, 16),
        (FaultTarget::KvF32, 0.02, 0.004, 32),
    ]
}

fn target((target, sdc, due, _): (FaultTarget, f64, f64, u32), trials: u64) -> Target {
    let (sdc, due) = ((sdc * trials as f64) as u64, (due * trials as f64) as u64);
    let masked = trials - sdc - due;
    let (sdc_rate, sdc_rate_low, sdc_rate_high) = rate(sdc, trials);
    let (due_rate, due_rate_low, due_rate_high) = rate(due, trials);
    Target {
        target,
        trials,
        masked,
        identical: masked / 3,
        sdc,
        due,
        sdc_rate,
        sdc_rate_low,
        sdc_rate_high,
        due_rate,
        due_rate_low,
        due_rate_high,
        any_token_changes: sdc + 3,
        mean_kl: Some(0.0123),
        max_kl: Some(7.31),
        mean_nll_change: Some(0.0041),
        mean_margin_loss: Some(0.087),
    }
}

fn faults(layers: u32) -> Faults {
    let trials = 2_000;
    let rows: Vec<Target> = targets().into_iter().map(|row| target(row, trials)).collect();
    Faults {
        seed: 0,
        trials: rows.iter().map(|row| row.trials).sum(),
        flips: 1,
        confidence: 0.99,
        unused_code: UnusedCode::Deployed,
        kv: KvStorage::F32,
        targets: rows,
        layers: layer_rates(layers),
        bits: bit_rates(),
        stored_bits: Some(memory::stored_bits()),
        encodings: memory::encodings(),
        trit_bytes: memory::trit_bytes(),
        protection: memory::protection(),
        worst: (1..=12).map(|rank| worst(rank, layers)).collect(),
        bounds: (0..layers).map(|layer| bound(layer, layers)).collect(),
        rows_proven: (0..layers).map(rows_proven).collect(),
        flips_proven: flips_proven(layers),
        flips_proven_in_model: Some(flips_in_model()),
        cache_proven: cache_proven(layers),
        plan: None,
        until_precision: None,
        exhaustive: None,
        generation: None,
        strata: Vec::new(),
    }
}

fn layer_rates(layers: u32) -> Vec<LayerRate> {
    let mut rows = Vec::new();
    for (target, share, _, _) in targets() {
        for layer in 0..layers {
            let inside = !matches!(target, FaultTarget::Embedding | FaultTarget::LmHead);
            let trials = 500;
            let lean = 0.4 + 1.5 * noise(u64::from(layer) + target as u64 * 31);
            let sdc = (share * lean * trials as f64) as u64;
            let (sdc_rate, sdc_rate_low, sdc_rate_high) = rate(sdc, trials);
            let (masked, due) = (trials - sdc, 0);
            let layer = inside.then_some(layer);
            rows.push(LayerRate {
                layer,
                target,
                trials,
                masked,
                sdc,
                due,
                sdc_rate,
                sdc_rate_low,
                sdc_rate_high,
            });
            if !inside {
                break;
            }
        }
    }
    rows
}

fn bit_rates() -> Vec<BitRate> {
    let mut rows = Vec::new();
    for (target, share, _, bits) in targets() {
        for bit in 0..bits {
            let trials = 2_000 / u64::from(bits);
            let height = f64::from(bit + 1) / f64::from(bits);
            let top = if height > 0.8 { 5.0 } else { height * height };
            let sdc = (share * top * trials as f64) as u64;
            let due = if bit + 2 == bits && bits > 2 { (trials - sdc) / 4 } else { 0 };
            let (sdc_rate, sdc_rate_low, sdc_rate_high) = rate(sdc, trials);
            let masked = trials - sdc - due;
            rows.push(BitRate {
                target,
                bit,
                trials,
                masked,
                sdc,
                due,
                sdc_rate,
                sdc_rate_low,
                sdc_rate_high,
            });
        }
    }
    rows
}

fn bound(layer: u32, layers: u32) -> Bound {
    let lost = layer == 0;
    Bound {
        layer,
        flips: 1,
        logit_change_bound: (!lost).then(|| 48.0 / f64::from(layer + 1)),
        proven_masked_share: if lost { 0.0 } else { f64::from(layer) / f64::from(layers) },
        pairs: 4_423_680,
        reason: lost.then(|| "the bound diverged behind this layer".to_owned()),
    }
}

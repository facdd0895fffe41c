//! Verdicts, radii and layers in the words of the contract.

use certify::lipschitz::Lipschitz;
use certify::lipschitz::global::power_of_margins;
use reports::model as out;
use reports::model::finite;

use super::curve::{curve, epsilons};
use super::forms::forms_growth;
use super::growth::{first_lost, growth, step_name};
use super::ladder::{summaries, tries, word};
use super::{largest, median, number, scope};
use crate::analyze::{
    AtEpsilon, Attacked, Certified, Change, Clean, Context, LayerPairs, Pairs, Radii, SampleLayers,
};

pub(super) fn certification(
    context: &Context,
    clean: &[Clean],
    found: &Certified,
) -> out::Certification {
    let plan = context.plan;
    let samples: Vec<out::Sample> =
        (0..clean.len()).map(|index| sample(context, index, &clean[index], found)).collect();
    let count = |verdict| samples.iter().filter(|s| s.verdict == verdict).count() as u64;
    let labelled = samples.iter().filter(|s| s.label.is_some()).count() as u64;
    let share = |holds: &dyn Fn(&&out::Sample) -> bool| {
        let hits = samples.iter().filter(|s| s.label.is_some()).filter(holds).count();
        (labelled > 0).then(|| hits as f64 / labelled as f64)
    };
    let layers = layers(context, &found.layers);
    let readouts: Vec<f64> = found.layers.iter().flatten().map(|sample| sample.readout).collect();
    let radii = || samples.iter().map(|s| s.certified_radius);
    let relative: Vec<f64> =
        samples.iter().map(|s| s.certified_radius_rel.unwrap_or(0.0)).collect();
    // Of samples with several absolute radii, the largest is the one that all sentences hold for.
    let epsilon = largest(samples.iter().map(|s| s.epsilon_value)).unwrap_or(0.0);
    out::Certification {
        epsilon: plan.epsilon().text.clone(),
        epsilon_value: plan.epsilon().value,
        epsilon_unit: plan.epsilon().unit,
        norm: plan.norm,
        suffix: plan.suffix.map(number),
        scope: scope(plan),
        method: plan.method,
        labelled,
        unlabelled: samples.len() as u64 - labelled,
        clean_acc: share(&|s| s.correct == Some(true)),
        cert_acc: share(&|s| s.verdict == out::Verdict::Certified),
        certified: count(out::Verdict::Certified),
        falsified: count(out::Verdict::Falsified),
        unknown: count(out::Verdict::Unknown),
        largest_certified_epsilon: largest(radii()).unwrap_or(0.0),
        median_certified_radius: median(radii().collect()).unwrap_or(0.0),
        median_certified_radius_rel: median(relative).unwrap_or(0.0),
        median_attack_radius: median(samples.iter().filter_map(|s| s.attack_radius).collect()),
        median_attack_ratio: median(samples.iter().filter_map(|s| s.attack_ratio).collect()),
        deepest_certified_suffix: deepest(&layers, epsilon),
        readout_certified_radius: largest(readouts.iter().map(|radius| -radius))
            .map(|least| -least),
        readout_certified_radius_median: median(readouts),
        first_lost_layer: first_lost(context.from(), epsilon, &found.layers),
        next_token: next_token(&samples),
        methods: summaries(plan, &samples),
        epsilons: epsilons(plan, &samples, found),
        curve: curve(plan, &samples, found),
        growth: growth(&found.layers),
        growth_of_forms: forms_growth(found),
        lipschitz_samples: changes(&found.layers).count() as u64,
        margin_lipschitz: margin_lipschitz(context, &found.layers),
        samples,
        layers,
    }
}

fn sample(context: &Context, index: usize, clean: &Clean, found: &Certified) -> out::Sample {
    let epsilon = context.plan.epsilon().at(clean.rms);
    let at = found.verdicts.get(index).and_then(Option::as_deref).and_then(|all| all.first());
    let attack = found.attacks.get(index).and_then(Option::as_ref).and_then(Option::as_ref);
    let radii = found.radii.get(index).and_then(Option::as_ref);
    let radius = if clean.holds() { radius(index, found) } else { 0.0 };
    let certified = clean.holds() && at.is_some_and(|at| at.certified);
    let fallen = attack.filter(|attack| attack.radius <= epsilon);
    assert!(!(certified && fallen.is_some()), "sample {index} is certified and has a witness");
    assert!(attack.is_none_or(|a| a.radius >= radius), "sample {index}: witness inside its radius");
    let verdict = match (clean.holds(), certified, fallen) {
        (false, _, _) | (_, _, Some(_)) => out::Verdict::Falsified,
        (true, true, None) => out::Verdict::Certified,
        (true, false, None) => out::Verdict::Unknown,
    };
    let margin = at.and_then(|at| at.margin);
    let attacked = if clean.holds() { attack.map(|a| a.radius) } else { Some(0.0) };
    let relative = |radius: f64| finite(radius / clean.rms);
    out::Sample {
        index: index as u64,
        label: context.samples[index].label,
        prediction: number(clean.prediction),
        correct: clean.correct,
        epsilon_value: epsilon,
        epsilon_rel: relative(epsilon),
        stream_rms: clean.rms,
        verdict,
        decided_by: at.and_then(|at| at.decided).filter(|_| certified).map(word),
        methods: at.map(tries).unwrap_or_default(),
        why: why(clean, at, verdict),
        margin: finite(clean.margin),
        margin_lower_bound: margin,
        certified_radius: radius,
        certified_radius_rel: relative(radius),
        radius_by_method: radii.map(by_method).unwrap_or_default(),
        attack_radius: attacked,
        attack_ratio: attacked.and_then(|attack| {
            (attack > 0.0 && radius > 0.0).then(|| finite(attack / radius)).flatten()
        }),
        runtime_slack: margin.filter(|_| certified).map(|margin| margin / 2.0),
        positions: at
            .and_then(|at| at.positions)
            .map(|(certified, total)| out::PositionCount { certified, total }),
        witness: witness(clean, fallen, verdict),
    }
}

/// The largest radius that anything proved: the search, or a verdict at an epsilon asked for.
fn radius(index: usize, found: &Certified) -> f64 {
    let searched = found.radii.get(index).and_then(Option::as_ref).map(|radii| radii.best);
    let verdicts = found.verdicts.get(index).and_then(Option::as_deref).unwrap_or_default();
    let proven = verdicts.iter().filter(|at| at.certified).map(|at| at.epsilon);
    largest(searched.into_iter().chain(proven)).unwrap_or(0.0)
}

fn by_method(radii: &Radii) -> Vec<out::MethodRadius> {
    let one = |&(rung, certified_radius): &(_, f64)| out::MethodRadius {
        method: word(rung),
        certified_radius,
    };
    radii.by_rung.iter().map(one).collect()
}

fn witness(
    clean: &Clean,
    fallen: Option<&Attacked>,
    verdict: out::Verdict,
) -> Option<out::Witness> {
    if verdict != out::Verdict::Falsified {
        return None;
    }
    if !clean.holds() {
        let prediction = number(clean.prediction);
        return Some(out::Witness { kind: out::WitnessKind::Clean, epsilon: 0.0, prediction });
    }
    fallen.map(|fallen| out::Witness {
        kind: match fallen.witness.kind {
            "random-point" => out::WitnessKind::Random,
            "random-corner" | "greedy-flips" | "mirrored-coordinates" => out::WitnessKind::Corner,
            _ => out::WitnessKind::Gradient,
        },
        epsilon: fallen.radius,
        prediction: number(fallen.witness.prediction.unwrap_or(0)),
    })
}

fn why(clean: &Clean, at: Option<&AtEpsilon>, verdict: out::Verdict) -> Option<String> {
    match verdict {
        out::Verdict::Certified => None,
        out::Verdict::Falsified if !clean.holds() => Some("wrong on the clean input".into()),
        out::Verdict::Falsified => Some("an attack inside the ball changes the decision".into()),
        out::Verdict::Unknown => Some(match at {
            None => "the time limit came first".into(),
            Some(AtEpsilon { diverged: Some(diverged), .. }) => format!(
                "the bound was lost at layer {}, step {}",
                diverged.site.layer,
                step_name(diverged.site.step)
            ),
            Some(_) => "the bounds of the two best logits overlap".into(),
        }),
    }
}

fn next_token(samples: &[out::Sample]) -> Option<out::NextToken> {
    let counts: Vec<out::PositionCount> = samples.iter().filter_map(|s| s.positions).collect();
    let positions: u64 = counts.iter().map(|count| count.total).sum();
    let certified: u64 = counts.iter().map(|count| count.certified).sum();
    (positions > 0)
        .then(|| out::NextToken { positions, certified_share: certified as f64 / positions as f64 })
}

/// How many of the last layers hold at epsilon on every sample that is right.
fn deepest(layers: &[out::Layer], epsilon: f64) -> Option<u32> {
    let holding = layers.iter().rev().take_while(|layer| layer.certified_radius >= epsilon);
    (!layers.is_empty()).then(|| number(holding.count()))
}

fn layers(context: &Context, found: &[Option<SampleLayers>]) -> Vec<out::Layer> {
    let known: Vec<&SampleLayers> = found.iter().flatten().collect();
    if known.is_empty() {
        return Vec::new();
    }
    (context.from()..context.deployed.model.layers.len())
        .map(|index| layer(index, &known, &changes(found).collect::<Vec<_>>()))
        .collect()
}

/// The pair that holds on the sets of all samples: each of its numbers is the largest.
fn lipschitz(of: impl Iterator<Item = Pairs>) -> Option<out::LipschitzBound> {
    let (rung, Lipschitz { bound, slack }) = of.reduce(Pairs::both)?.chosen()?;
    Some(out::LipschitzBound { bound, slack, method: word(rung) })
}

/// What is known of how far points part, sample by sample.
fn changes(found: &[Option<SampleLayers>]) -> impl Iterator<Item = &Change> {
    found.iter().flatten().filter_map(|sample| sample.change.as_ref())
}

/// The same of margins, beside constants that hold everywhere.
fn margin_lipschitz(
    context: &Context,
    found: &[Option<SampleLayers>],
) -> Option<out::MarginLipschitz> {
    let of = lipschitz(changes(found).map(|change| change.margins))?;
    Some(out::MarginLipschitz {
        bound: of.bound,
        slack: of.slack,
        method: of.method,
        global_product_power: power_of_margins(context.deployed.model, context.from()),
    })
}

fn layer(index: usize, known: &[&SampleLayers], changes: &[&Change]) -> out::Layer {
    let radii: Vec<f64> = known.iter().map(|sample| sample.radii[index]).collect();
    let least = radii.iter().copied().fold(f64::INFINITY, |a, b| if b < a { b } else { a });
    let stream_rms = median(known.iter().map(|sample| sample.rms[index]).collect());
    let stream_rms = stream_rms.unwrap_or(0.0);
    let all = |pick: &dyn Fn(&SampleLayers) -> Option<f64>| {
        let values: Option<Vec<f64>> = known.iter().map(|sample| pick(sample)).collect();
        values.and_then(|values| largest(values.into_iter())).and_then(finite)
    };
    let pairs = |pick: fn(&LayerPairs) -> Pairs| {
        lipschitz(changes.iter().map(|change| pick(&change.layers[index])))
    };
    let whole = pairs(|of| of.whole);
    let width_in = all(&|sample| sample.widths[index]);
    let width_out = all(&|sample| sample.widths[index + 1]);
    let lost = whole.is_none() || width_in.is_none() || width_out.is_none();
    out::Layer {
        index: number(index),
        certified_radius: least,
        certified_radius_median: median(radii).unwrap_or(0.0),
        certified_radius_rel: if stream_rms > 0.0 { least / stream_rms } else { 0.0 },
        stream_rms,
        lipschitz_bound: whole.map(|of| of.bound),
        lipschitz_slack: whole.map(|of| of.slack),
        lipschitz_method: whole.map(|of| of.method),
        attention_lipschitz: pairs(|of| of.attention),
        ffn_lipschitz: pairs(|of| of.ffn),
        width_in,
        width_out,
        reason: lost.then(|| "the bound at epsilon is lost before or in this layer".into()),
    }
}

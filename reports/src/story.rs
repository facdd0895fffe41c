//! The sentences and groupings that several faces share, so that they cannot tell different
//! stories.

use std::collections::BTreeMap;

use crate::escape::shown;
use crate::model::{
    CacheBits, Certification, Effort, EpsilonRow, Exhaustive, Faults, FirstLost, GateKind,
    GeneratedBehind, GeneratedTarget, Generation, KvStorage, MapTensor, MarginSource, Method,
    MethodSummary, Norm, Outcome, Positions, Report, SourceKind, Substitutions, Verdict,
    WitnessKind,
};
use crate::number::{Side, count, number, percent, plural};

/// The suffix of layers that holds, as a sentence without a full stop.
pub(crate) fn suffix(report: &Report, found: &Certification) -> Option<String> {
    let depth = found.deepest_certified_suffix?;
    let epsilon = shown(&found.epsilon);
    Some(match depth {
        0 => match found.readout_certified_radius_median {
            Some(radius) => format!(
                "not even the last layer; the read-out alone to {} (median)",
                number(radius, Side::Down)
            ),
            None => format!("not even the last layer holds at {epsilon}"),
        },
        _ if depth >= report.model.layers => {
            format!("all {} hold at {epsilon}", plural(u64::from(depth), "layer"))
        }
        1 => format!("the last layer holds at {epsilon}"),
        _ => format!("the last {depth} layers hold at {epsilon}"),
    })
}

/// Where the bound is first lost.
pub(crate) fn lost(place: &FirstLost) -> String {
    let layer = place.layer.map_or_else(|| "read-out".to_owned(), |layer| format!("layer {layer}"));
    format!("{layer}, {}: {}", shown(&place.step), shown(&place.why))
}

/// The reasons given for a verdict and how many samples give each, most frequent first.
pub(crate) fn reasons(found: &Certification, verdict: Verdict) -> Vec<(String, u64)> {
    let mut tally: BTreeMap<&str, u64> = BTreeMap::new();
    for sample in found.samples.iter().filter(|sample| sample.verdict == verdict) {
        *tally.entry(sample.why.as_deref().unwrap_or("no reason given")).or_default() += 1;
    }
    let mut tally: Vec<(String, u64)> =
        tally.into_iter().map(|(why, count)| (shown(why), count)).collect();
    tally.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    tally
}

/// What is claimed: by which method, in which ball, of which rows.
pub(crate) fn claim(found: &Certification) -> String {
    let suffix = found.suffix.map_or_else(String::new, |suffix| {
        format!(", in the stream that enters the last {}", plural(u64::from(suffix), "layer"))
    });
    format!(
        "{}, {} {}, {}{suffix}",
        method(found.method),
        norm(found.norm),
        shown(&found.epsilon),
        scope(&found.scope)
    )
}

/// Certified and attacked accuracy at each epsilon, where several were asked for.
pub(crate) fn epsilons(found: &Certification) -> Option<String> {
    let row = |row: &EpsilonRow| {
        let attacked = row.attacked_acc.map(|share| percent(share, Side::Up));
        format!(
            "{}: {} / {}",
            shown(&row.epsilon),
            percent(row.cert_acc, Side::Down),
            attacked.as_deref().unwrap_or("–")
        )
    };
    let rows: Vec<String> = found.epsilons.iter().map(row).collect();
    (rows.len() > 1).then(|| rows.join(", "))
}

/// How many samples each method decided, where there were several.
pub(crate) fn decided(found: &Certification) -> Option<String> {
    let one = |of: &MethodSummary| format!("{} {}", method(of.method), count(of.decided));
    let methods: Vec<String> = found.methods.iter().map(one).collect();
    (methods.len() > 1).then(|| methods.join(", "))
}

/// What came of substitutions, as a sentence without a full stop.
pub(crate) fn substitutions(found: &Substitutions) -> String {
    let sets = match found.subst_nearest {
        Some(1) => "the nearest token".to_owned(),
        Some(nearest) => format!("any of the {} nearest tokens", count(u64::from(nearest))),
        None => "the sets of a file".to_owned(),
    };
    let places = match found.subst_scope.as_str() {
        "all" => "all positions at once".to_owned(),
        "each" => "each position alone".to_owned(),
        position => format!("position {}", shown(position)),
    };
    format!(
        "{} certified, {} falsified, {} unknown; {sets}, {places}",
        count(found.subst_certified),
        count(found.subst_falsified),
        count(found.subst_unknown),
    )
}

/// A step of the walk.
pub(crate) fn step(layer: Option<u32>, step: &str) -> String {
    match layer {
        Some(layer) => format!("layer {layer}, {}", shown(step)),
        None => format!("read-out, {}", shown(step)),
    }
}

/// Where a part of a margin's radius was made.
pub(crate) fn source_place(source: &MarginSource) -> String {
    source.step.as_ref().map_or_else(|| "the input".to_owned(), |at| step(source.layer, at))
}

/// Why it was made.
pub(crate) fn source_kind(kind: SourceKind) -> &'static str {
    match kind {
        SourceKind::Input => "the change itself",
        SourceKind::Rounding => "rounding to codes",
        SourceKind::Remainder => "what is not linear",
    }
}

/// The largest parts of the radius of the worst margin, where forms bounded it.
pub(crate) fn sources(found: &Certification, most: usize) -> Option<String> {
    let forms = found.growth_of_forms.as_ref().filter(|forms| !forms.sources.is_empty())?;
    let one = |source: &MarginSource| {
        let share = percent(source.share, Side::Nearest);
        match source.kind {
            SourceKind::Input => format!("{share} the input"),
            SourceKind::Rounding => format!("{share} {}", source_place(source)),
            SourceKind::Remainder => format!("{share} not linear: {}", source_place(source)),
        }
    };
    let parts: Vec<String> = forms.sources.iter().take(most).map(one).collect();
    Some(parts.join(", "))
}

/// How far margins move with the input, as a sentence.
pub(crate) fn margin_lipschitz(found: &Certification) -> Option<String> {
    let margin = found.margin_lipschitz.as_ref()?;
    let contrast = margin.global_product_power.map_or_else(
        || "Constants that hold everywhere, multiplied, have no bound.".to_owned(),
        |power| format!("Constants that hold everywhere, multiplied, are of order 10^{power}."),
    );
    Some(format!(
        "Between any two inputs within {} of one of the first {} samples that are right, a margin \
         changes by at most {} times the change of the input ({}), plus {} ({}). {contrast}",
        shown(&found.epsilon),
        count(found.lipschitz_samples),
        number(margin.bound, Side::Up),
        norm(found.norm),
        number(margin.slack, Side::Up),
        method(margin.method),
    ))
}

/// Which embeddings move.
pub(crate) fn scope(scope: &str) -> String {
    match scope {
        "all" => "every embedding moving at once".to_owned(),
        "each" => "every embedding moving alone".to_owned(),
        position => format!("the embedding at position {} moving", shown(position)),
    }
}

/// A threshold, as in "at least 0.8".
pub(crate) fn threshold(gate: &crate::model::Gate) -> String {
    let words = match gate.kind {
        GateKind::FailUnder => "at least",
        GateKind::FailOver => "at most",
    };
    format!("{words} {}", shown(&gate.threshold.text))
}

/// The value that a gate compared.
pub(crate) fn compared(result: &crate::metrics::GateResult) -> String {
    let side = match result.gate.kind {
        GateKind::FailUnder => Side::Down,
        GateKind::FailOver => Side::Up,
    };
    result.value.map_or_else(|| "no value".to_owned(), |value| number(value, side))
}

/// "1 of 3 gates failed", or that all passed.
pub(crate) fn gates(results: &[crate::metrics::GateResult]) -> String {
    let failed = results.iter().filter(|result| !result.passed).count() as u64;
    let all = plural(results.len() as u64, "gate");
    if failed == 0 { format!("{all} passed") } else { format!("{failed} of {all} failed") }
}

/// The norm.
pub(crate) fn norm(norm: Norm) -> &'static str {
    match norm {
        Norm::Linf => "linf",
        Norm::L2 => "l2",
    }
}

/// The method.
pub(crate) fn method(method: Method) -> &'static str {
    match method {
        Method::IntervalBoundPropagation => "interval bound propagation",
        Method::Zonotope => "zonotope",
        Method::Auto => "cheapest method that decides",
        Method::Statistical => "statistics of the deployed engine",
        Method::Smoothing => "randomized smoothing",
    }
}

/// Where decisions are read.
pub(crate) fn positions(positions: Positions) -> &'static str {
    match positions {
        Positions::Last => "the last",
        Positions::All => "all",
    }
}

/// The verdict.
pub(crate) fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Certified => "certified",
        Verdict::Falsified => "falsified",
        Verdict::Unknown => "unknown",
    }
}

/// How a witness was found.
pub(crate) fn witness(kind: WitnessKind) -> &'static str {
    match kind {
        WitnessKind::Clean => "clean input",
        WitnessKind::Random => "random point",
        WitnessKind::Corner => "corner",
        WitnessKind::Gradient => "gradient",
    }
}

/// What became of a fault.
pub(crate) fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Masked => "masked",
        Outcome::Sdc => "sdc",
        Outcome::Due => "due",
    }
}

/// What bits of a stored key or value mean.
pub(crate) fn cache_bits(bits: CacheBits) -> &'static str {
    match bits {
        CacheBits::Code => "code",
        CacheBits::Mantissa => "mantissa",
        CacheBits::Exponent => "exponent",
        CacheBits::Sign => "sign",
    }
}

/// How many single flips of stored keys and values are proven masked, as a sentence without a full
/// stop.
pub(crate) fn cache_proven(faults: &Faults) -> Option<String> {
    let pairs: u64 = faults.cache_proven.iter().map(|row| row.pairs).sum();
    let proven: u64 = faults.cache_proven.iter().map(|row| row.proven_masked).sum();
    (pairs > 0).then(|| {
        let share = percent(proven as f64 / pairs as f64, Side::Down);
        format!("{share} of {} pairs of a stored bit and a sample", count(pairs))
    })
}

/// How the KV cache is stored.
pub(crate) fn kv(storage: KvStorage) -> &'static str {
    match storage {
        KvStorage::F32 => "f32",
        KvStorage::F16 => "f16",
        KvStorage::Int8 => "int8",
        KvStorage::OneBit => "1bit",
    }
}

/// What one trial flips, in words.
pub(crate) fn flipped(faults: &Faults) -> String {
    match faults.flips {
        0 => "bit flips by plan".to_owned(),
        flips => format!("{} each", plural(u64::from(flips), "bit flip")),
    }
}

/// The certified flip budgets of layers and model, as a sentence without a full stop.
pub(crate) fn flip_budgets(faults: &Faults) -> Option<String> {
    let layers = faults.flips_proven.iter().filter(|of| of.tensor == "layer");
    let budgets: Vec<u32> =
        layers.filter_map(|of| of.budget.as_ref()).map(|budget| budget.min).collect();
    let layers = budgets.iter().min().zip(budgets.iter().max()).map(|(least, most)| {
        let range = if least == most { least.to_string() } else { format!("{least} to {most}") };
        format!("layers {range}")
    });
    let model = faults.flips_proven_in_model.as_ref().and_then(|of| of.budget.as_ref());
    let model = model.map(|budget| {
        let share = percent(budget.share_at_least_one, Side::Down);
        let (min, median) = (budget.min, budget.median);
        format!("model {min} (median {median}), 1 or more for {share} of samples")
    });
    let parts: Vec<String> = model.into_iter().chain(layers).collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// What a campaign flipped, and how sure its rates are.
pub(crate) fn campaign(faults: &Faults) -> String {
    if let Some(map) = &faults.exhaustive {
        return self::map(map);
    }
    format!(
        "{}, {}, {} intervals",
        plural(faults.trials, "fault trial"),
        flipped(faults),
        percent(faults.confidence, Side::Down),
    )
}

/// What became of texts, as a sentence without a full stop.
pub(crate) fn texts(generation: &Generation) -> String {
    let sum = |of: fn(&GeneratedTarget) -> u64| generation.targets.iter().map(of).sum();
    let (all, diverged): (u64, u64) = (sum(|row| row.texts().texts), sum(|row| row.diverged));
    let highs = generation.targets.iter().map(|row| row.diverged_rate_high);
    let worst = highs.fold(0.0, |most, high| if high > most { high } else { most });
    format!(
        "{} of {} diverged, {} recovered; of any target <= {}",
        count(diverged),
        count(all),
        count(sum(|row| row.recovered)),
        percent(worst, Side::Up)
    )
}

/// What became of texts behind memory codes and of the same flips without, as a sentence without a
/// full stop; `None` without codes.
pub(crate) fn texts_behind(generation: &Generation) -> Option<String> {
    let rows = &generation.behind;
    let sum = |of: fn(&GeneratedBehind) -> u64| count(rows.iter().map(of).sum());
    (!rows.is_empty()).then(|| {
        format!(
            "{} detected; {} of {} texts diverged, raw {} of {}",
            sum(|row| row.detected),
            sum(|row| row.residual.diverged),
            sum(|row| row.residual.texts),
            sum(|row| row.raw.diverged),
            sum(|row| row.raw.texts),
        )
    })
}

/// What a map is of.
pub(crate) fn map(map: &Exhaustive) -> String {
    let what = format!(
        "all {} of packed weights on each of {}",
        plural(map.bits, "single-bit fault"),
        plural(map.samples, "sample")
    );
    match map.decided == map.pairs {
        true => what,
        false => format!("a part, {} of {}, of {what}", count(map.decided), count(map.pairs)),
    }
}

/// How the faults of a map were decided, a sentence without a full stop each.
pub(crate) fn map_lines(map: &Exhaustive) -> Vec<String> {
    let Effort { executed, early, collapsed, still, proven } = map.effort;
    let mut lines = vec![
        format!("{} run, {} of them to a clean state", count(executed), count(early)),
        format!("{} with the effect of another one, {} with none", count(collapsed), count(still)),
    ];
    if proven > 0 {
        lines.push(format!("{} proven masked by a bound", count(proven)));
    }
    lines
}

/// The tensors whose faults change decisions most often, those that never do left out.
pub(crate) fn worst_tensors(map: &Exhaustive, most: usize) -> Vec<&MapTensor> {
    let mut tensors: Vec<_> = map.tensors.iter().filter(|of| of.sdc > 0).collect();
    let share = |of: &MapTensor| of.sdc_share.unwrap_or(0.0);
    // A stable sort: equal ones stay in the order of the walk.
    tensors.sort_by(|a, b| share(b).total_cmp(&share(a)));
    tensors.truncate(most);
    tensors
}

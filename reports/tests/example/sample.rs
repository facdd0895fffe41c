//! One sample, made up: right or wrong, certified or not, attacked or not.

use super::ladder::tried;
use super::{EPSILON, noise};
use reports::model::*;

pub(super) fn sample(index: u64) -> Sample {
    let wrong = index % 17 == 5;
    let strength = noise(index);
    let radius = if wrong || strength < 0.12 { 0.0 } else { 0.05 * strength * strength };
    let attack = (!index.is_multiple_of(9)).then(|| 0.02 + 3.0 * radius + 0.03 * noise(index + 7));
    let verdict = match () {
        () if wrong => Verdict::Falsified,
        () if radius >= EPSILON => Verdict::Certified,
        () => Verdict::Unknown,
    };
    let certified = verdict == Verdict::Certified;
    let label = (index % 10) as u32;
    let why = match verdict {
        Verdict::Certified => None,
        Verdict::Falsified => Some("wrong on the clean input".to_owned()),
        Verdict::Unknown if radius == 0.0 => Some("the bound diverged at layer 2".to_owned()),
        Verdict::Unknown => Some("the margin is not bounded above 0".to_owned()),
    };
    let prediction = if wrong { (label + 3) % 10 } else { label };
    let witness = wrong.then_some(Witness { kind: WitnessKind::Clean, epsilon: 0.0, prediction });
    Sample {
        index,
        label: Some(label),
        prediction,
        correct: Some(!wrong),
        epsilon_value: EPSILON,
        epsilon_rel: Some(EPSILON / 0.8),
        stream_rms: 0.8,
        verdict,
        decided_by: certified.then_some(Method::Zonotope),
        methods: vec![
            tried(Method::IntervalBoundPropagation, None),
            tried(Method::Zonotope, (radius > 0.0).then_some(120.0 * (radius - EPSILON) + 1e-6)),
        ],
        why,
        margin: Some(0.3 + 9.0 * strength),
        margin_lower_bound: (radius > 0.0).then_some(120.0 * (radius - EPSILON)),
        certified_radius: radius,
        certified_radius_rel: Some(radius / 0.8),
        radius_by_method: vec![
            MethodRadius {
                method: Method::IntervalBoundPropagation,
                certified_radius: radius / 100.0,
            },
            MethodRadius { method: Method::Zonotope, certified_radius: radius },
        ],
        attack_radius: if wrong { Some(0.0) } else { attack },
        attack_ratio: attack.filter(|_| radius > 0.0).map(|attack| attack / radius),
        runtime_slack: certified.then_some(60.0 * (radius - EPSILON)),
        positions: None,
        witness,
    }
}

//! Rules of Lipschitz bounds and of what made forms wide.

use super::super::{Certification, FormsGrowth, LipschitzBound, SourceKind};
use super::Check;

/// How far shares may add up to something else than 1.
const ROUNDING: f64 = 1e-6;

pub(super) fn check_change(check: &mut Check, found: &Certification) {
    for (i, layer) in found.layers.iter().enumerate() {
        let key = |key: &str| format!("certification.layers[{i}].{key}");
        if layer.lipschitz_method.is_some() != layer.lipschitz_bound.is_some() {
            check.add(key("lipschitz_method"), "is known exactly where a bound is");
        }
        for (name, of) in [
            ("attention_lipschitz", &layer.attention_lipschitz),
            ("ffn_lipschitz", &layer.ffn_lipschitz),
        ] {
            let Some(LipschitzBound { bound, slack, .. }) = of else { continue };
            check.not_negative(&key(&format!("{name}.bound")), *bound);
            check.not_negative(&key(&format!("{name}.slack")), *slack);
        }
    }
    if let Some(margin) = &found.margin_lipschitz {
        let key = |key: &str| format!("certification.margin_lipschitz.{key}");
        check.not_negative(&key("bound"), margin.bound);
        check.not_negative(&key("slack"), margin.slack);
        let some = (1..=found.samples.len() as u64).contains(&found.lipschitz_samples);
        if !some {
            check.add("certification.lipschitz_samples", "a bound holds over some of the samples");
        }
    }
    if let Some(forms) = &found.growth_of_forms {
        check_forms(check, found.samples.len() as u64, forms);
    }
}

fn check_forms(check: &mut Check, samples: u64, forms: &FormsGrowth) {
    let path = |key: &str| format!("certification.growth_of_forms.{key}");
    if forms.samples > samples || forms.margins > forms.samples {
        check.add(path("margins"), "more margins than samples with forms, or more than there are");
    }
    for (i, step) in forms.steps.iter().enumerate() {
        check.not_negative(&path(&format!("steps[{i}].width_median")), step.width_median);
        check.not_negative(&path(&format!("steps[{i}].symbols_median")), step.symbols_median);
    }
    let mut sum = 0.0;
    for (i, source) in forms.sources.iter().enumerate() {
        let key = |key: &str| path(&format!("sources[{i}].{key}"));
        check.share(&key("share"), source.share);
        sum += source.share;
        let input = source.kind == SourceKind::Input;
        if source.layer.is_none() != input || source.step.is_none() != input {
            check.add(key("step"), "is null exactly for the input");
        }
    }
    if forms.sources.is_empty() == (forms.margins > 0) {
        check.add(path("sources"), "exist exactly where a margin was bounded by forms");
    }
    let whole = (sum - 1.0).abs() <= ROUNDING;
    if !forms.sources.is_empty() && !whole {
        check.add(path("sources"), format!("shares add up to {sum}"));
    }
    if !forms.sources.is_sorted_by(|a, b| a.share >= b.share) {
        check.add(path("sources"), "are not sorted by their share");
    }
}

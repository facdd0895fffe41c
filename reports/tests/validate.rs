//! Each invariant of the contract, broken once.

mod example;

use reports::Report;
use reports::model::{Method, Outcome, Stratum, Target, Verdict, finite};

fn certification(report: &mut Report) -> &mut reports::model::Certification {
    report.certification.as_mut().unwrap()
}

fn substitutions(report: &mut Report) -> &mut reports::model::Substitutions {
    report.substitutions.as_mut().unwrap()
}

fn faults(report: &mut Report) -> &mut reports::model::Faults {
    report.faults.as_mut().unwrap()
}

/// A path, and what breaks the invariant there.
type Break = (&'static str, fn(&mut Report));

fn each_is_named(breaks: &[Break]) {
    for (path, spoil) in breaks {
        let mut report = example::report();
        spoil(&mut report);
        let found = report.validate();
        assert!(found.iter().any(|violation| violation.path == *path), "{path}: {found:?}");
    }
}

#[test]
fn examples_of_every_size_are_sound() {
    for (samples, layers) in [(1, 1), (60, 4), (500, 30)] {
        assert_eq!(example::sized(samples, layers).validate(), []);
    }
}

#[test]
fn every_broken_invariant_is_named_by_its_path() {
    let breaks: [Break; 29] = [
        ("schema_version", |report| report.schema_version = "0.9".to_owned()),
        ("data.labelled", |report| report.data.labelled = 61),
        ("request.epsilon_value", |report| report.request.epsilon_value = f64::INFINITY),
        ("certification.clean_acc", |report| certification(report).clean_acc = Some(1.01)),
        ("certification.cert_acc", |report| certification(report).cert_acc = Some(0.99)),
        ("certification.labelled", |report| certification(report).labelled = 59),
        ("certification.certified", |report| certification(report).certified += 1),
        ("certification.samples[0].margin", |report| {
            certification(report).samples[0].margin = Some(f64::NAN);
        }),
        ("certification.samples[0].certified_radius", |report| {
            certification(report).samples[0].certified_radius = -0.1;
        }),
        ("certification.samples[2].attack_radius", |report| {
            let sample = &mut certification(report).samples[2];
            sample.attack_radius = Some(sample.certified_radius);
        }),
        ("certification.samples[5].witness", |report| {
            certification(report).samples[5].witness = None;
        }),
        ("certification.samples[5].verdict", |report| {
            certification(report).samples[5].certified_radius = 0.1;
        }),
        ("certification.samples[1].correct", |report| {
            certification(report).samples[1].correct = None;
        }),
        ("certification.layers[3].reason", |report| certification(report).layers[3].reason = None),
        ("certification.layers[1].certified_radius_median", |report| {
            certification(report).layers[1].certified_radius_median = 0.0;
        }),
        ("certification.curve", |report| certification(report).curve.swap(1, 2)),
        ("certification.growth_of_forms.sources[1].step", |report| {
            certification(report).growth_of_forms.as_mut().expect("forms").sources[1].layer =
                Some(0);
        }),
        ("certification.growth_of_forms.sources", |report| {
            certification(report).growth_of_forms.as_mut().expect("forms").sources[0].share = 0.75;
        }),
        ("certification.growth_of_forms.margins", |report| {
            certification(report).growth_of_forms.as_mut().expect("forms").margins = 21;
        }),
        ("certification.margin_lipschitz.slack", |report| {
            certification(report).margin_lipschitz.as_mut().expect("a bound").slack = -1.0;
        }),
        ("certification.lipschitz_samples", |report| certification(report).lipschitz_samples = 0),
        ("certification.layers[0].lipschitz_method", |report| {
            certification(report).layers[0].lipschitz_method = None;
        }),
        ("certification.growth[0].width_max", |report| {
            certification(report).growth[0].width_max = Some(f64::INFINITY);
        }),
        ("faults.trials", |report| faults(report).trials += 1),
        ("faults.targets[0].trials", |report| faults(report).targets[0].masked -= 1),
        ("faults.targets[0].sdc_rate", |report| faults(report).targets[0].sdc_rate_high = 0.0),
        ("faults.bits[3].sdc_rate_low", |report| faults(report).bits[3].sdc_rate_low = -0.5),
        ("faults.bounds[0].reason", |report| faults(report).bounds[0].reason = None),
        ("run.seconds_total", |report| {
            report.run.as_mut().unwrap().seconds_total = f64::NAN;
        }),
    ];
    each_is_named(&breaks);
}

/// A report whose faults are of a plan, one stratum a target.
fn planned() -> Report {
    let mut report = example::report();
    let found = faults(&mut report);
    found.plan = Some("seed = 0".to_owned());
    let stratum = |row: &Target| Stratum {
        fault: format!("{} random flips=1", row.target.name()),
        target: row.target,
        model: "random".to_owned(),
        trials: row.trials,
        masked: row.masked,
        identical: row.identical,
        sdc: row.sdc,
        due: row.due,
        sdc_rate: row.sdc_rate,
        sdc_rate_low: row.sdc_rate_low,
        sdc_rate_high: row.sdc_rate_high,
        due_rate: row.due_rate,
        due_rate_low: row.due_rate_low,
        due_rate_high: row.due_rate_high,
        flips: row.trials,
        bit_error_rate: None,
        labelled: 10,
        correct: 8,
        clean_correct: 9,
        accuracy: Some(0.8),
        accuracy_low: 0.4,
        accuracy_high: 1.0,
        mean_nll_change: row.mean_nll_change,
        perplexity_factor: Some(1.5),
        perplexity_factor_capped: Some(1.5),
        perplexity_factor_capped_low: Some(1.0),
        perplexity_factor_capped_high: Some(2.0),
        behind: None,
        critical_fit: None,
    };
    found.strata = found.targets.iter().map(stratum).collect();
    report
}

#[test]
fn strata_come_with_their_plan_and_have_every_trial() {
    let report = planned();
    assert_eq!(report.validate(), []);
    let text = reports::json::to_string(&report).expect("JSON");
    assert_eq!(serde_json::from_str::<Report>(&text).expect("a report"), report);
    let breaks: [Break; 9] = [
        ("faults.strata[0].labelled", |report| faults(report).strata[0].correct = 11),
        ("faults.strata[0].accuracy", |report| faults(report).strata[0].accuracy_low = 0.9),
        ("faults.strata[0].perplexity_factor_capped", |report| {
            faults(report).strata[0].perplexity_factor_capped = Some(2.5);
        }),
        ("faults.strata", |report| faults(report).plan = None),
        ("faults.strata", |report| faults(report).strata.clear()),
        ("faults.trials", |report| faults(report).strata.truncate(1)),
        ("faults.strata[0].trials", |report| faults(report).strata[0].masked -= 1),
        ("faults.strata[1].identical", |report| faults(report).strata[1].identical = u64::MAX),
        ("faults.strata[0].sdc_rate", |report| faults(report).strata[0].sdc_rate_high = 0.0),
    ];
    for (path, spoil) in breaks {
        let mut report = planned();
        spoil(&mut report);
        let found = report.validate();
        assert!(found.iter().any(|violation| violation.path == path), "{path}: {found:?}");
    }
}

#[test]
fn counts_that_overflow_are_a_violation_and_no_panic() {
    let mut report = example::report();
    certification(&mut report).certified = u64::MAX;
    faults(&mut report).targets[0].sdc = u64::MAX;
    assert!(report.validate().len() >= 2);
}

#[test]
fn certified_below_epsilon_is_a_contradiction() {
    let mut report = example::report();
    let samples = &mut certification(&mut report).samples;
    let sample = samples.iter_mut().find(|sample| sample.verdict == Verdict::Certified).unwrap();
    sample.certified_radius = 0.009_999;
    let path = format!("certification.samples[{}].certified_radius", sample.index);
    assert!(report.validate().iter().any(|violation| violation.path == *path));
}

#[test]
fn only_finite_numbers_pass_the_door() {
    assert_eq!(finite(1.5), Some(1.5));
    assert_eq!(finite(f64::NAN), None);
    assert_eq!(finite(f64::NEG_INFINITY), None);
}

#[test]
fn methods_epsilons_and_substitutions_that_contradict_themselves_are_named() {
    let breaks: [Break; 13] = [
        ("substitutions.subst_certified", |report| substitutions(report).subst_certified = 2),
        ("substitutions.subst_attacked_acc", |report| {
            substitutions(report).subst_attacked_acc = 0.0;
        }),
        ("substitutions.subst_samples[0].subst_changed", |report| {
            substitutions(report).subst_samples[0].subst_changed = 1;
        }),
        ("substitutions.subst_samples[1].subst_witness", |report| {
            substitutions(report).subst_samples[1].subst_witness = None;
        }),
        ("substitutions.subst_samples[2].subst_exhaustive", |report| {
            substitutions(report).subst_samples[2].subst_tried = 25;
        }),
        ("request.epsilons", |report| report.request.epsilons.reverse()),
        ("certification.epsilons", |report| certification(report).epsilons.clear()),
        ("certification.epsilons[0]", |report| certification(report).epsilons.reverse()),
        ("certification.epsilons[0].attacked_acc", |report| {
            certification(report).epsilons[0].attacked_acc = Some(0.0);
        }),
        ("certification.methods[1].decided", |report| certification(report).methods[1].tried = 0),
        ("certification.samples[1].decided_by", |report| {
            let sample = &mut certification(report).samples[1];
            sample.decided_by = match sample.decided_by {
                None => Some(Method::Zonotope),
                Some(_) => None,
            };
        }),
        ("certification.samples[0].methods[0].method", |report| {
            certification(report).samples[0].methods[0].method = Method::Auto;
        }),
        ("certification.samples[3].radius_by_method[0].certified_radius", |report| {
            certification(report).samples[3].radius_by_method[0].certified_radius = 1e6;
        }),
    ];
    each_is_named(&breaks);
}

#[test]
fn memory_codes_and_assignments_that_contradict_themselves_are_named() {
    each_is_named(&[
        ("faults.protection[2].trials", |report| faults(report).protection[2].harmless += 1),
        ("faults.protection[2].residual", |report| faults(report).protection[2].sdc += 1),
        ("faults.protection[2].pvf", |report| faults(report).protection[2].pvf = None),
        ("faults.protection[0].pvf", |report| faults(report).protection[0].pvf = Some(0.5)),
        ("faults.protection[2].residual_rate", |report| {
            faults(report).protection[2].residual_rate = Some(0.01);
        }),
        ("faults.protection[2].fit_critical_low", |report| {
            faults(report).protection[2].fit_critical_low = 1e9;
        }),
        ("faults.stored_bits.sdc_rate", |report| {
            faults(report).stored_bits.as_mut().unwrap().sdc_rate_low = 0.5;
        }),
        ("faults.encodings[0].unused", |report| {
            faults(report).encodings[0].zero = "01".to_owned();
        }),
        ("faults.encodings[1].directions[0].unused_share", |report| {
            faults(report).encodings[1].directions[0].unused_share = 1.5;
        }),
        ("faults.encodings", |report| faults(report).encodings[0].deployed = true),
        ("faults.trit_bytes[1].mean_weights_hit", |report| {
            faults(report).trit_bytes[1].mean_weights_hit = 5.5;
        }),
        ("faults.trit_bytes[2].unused_share", |report| {
            faults(report).trit_bytes[2].unused_share = -0.1;
        }),
    ]);
}

#[test]
fn a_budget_that_a_seen_fault_or_its_own_levels_contradict_is_named() {
    let breaks: [Break; 8] = [
        ("faults.flips_proven[2].budget.samples", |report| {
            budget(report).samples.push(1);
        }),
        ("faults.flips_proven[2].budget.min", |report| budget(report).min = 2),
        ("faults.flips_proven[2].budget.samples", |report| budget(report).flips_searched = 7),
        ("faults.flips_proven[2].budget.share_at_least_one", |report| {
            budget(report).share_at_least_one = 0.5;
        }),
        ("faults.flips_proven[2].levels[1].logit_change_bound", |report| {
            faults(report).flips_proven[2].levels[1].logit_change_bound = Some(0.1);
        }),
        // Sample 1 has a budget of 8 in this tensor and of 3 in the model.
        ("faults.flips_proven[2].budget.samples", |report| seen(report, Outcome::Sdc, 0.0)),
        ("faults.flips_proven_in_model.budget.samples", |report| seen(report, Outcome::Sdc, 0.0)),
        ("faults.flips_proven[2].levels", |report| seen(report, Outcome::Masked, 2.0)),
    ];
    each_is_named(&breaks);
}

fn budget(report: &mut Report) -> &mut reports::model::FlipBudget {
    faults(report).flips_proven[2].budget.as_mut().unwrap()
}

/// A fault that changes logits of sample 1, in the down projection of layer 1.
fn seen(report: &mut Report, outcome: Outcome, change: f64) {
    let worst = &mut faults(report).worst[0];
    worst.address = "model.layers.1.mlp.down_proj.weight[0,0].1".to_owned();
    (worst.sample, worst.outcome, worst.max_logit_change) = (1, outcome, Some(change));
}

#[test]
fn what_is_proven_of_the_cache_agrees_with_itself_and_with_what_was_seen() {
    fn last(report: &mut Report) -> &mut reports::model::CacheProven {
        faults(report).cache_proven.last_mut().unwrap()
    }
    fn struck(report: &mut Report, outcome: Outcome, change: f64) {
        last(report).proven_masked = last(report).pairs;
        last(report).proven_masked_share = Some(1.0);
        let worst = &mut faults(report).worst[0];
        worst.address = "kv.layers.3.key[token=0,head=0,dim=1].15@4".to_owned();
        worst.target = reports::model::FaultTarget::KvF16;
        (worst.sample, worst.outcome, worst.max_logit_change) = (1, outcome, Some(change));
    }
    let breaks: [Break; 5] = [
        ("faults.cache_proven[11].proven_masked", |report| last(report).unknown = 200),
        ("faults.cache_proven[11].proven_masked_share", |report| last(report).proven_masked = 3),
        ("faults.cache_proven[11].reason", |report| last(report).logit_change_bound = None),
        ("faults.cache_proven[11].proven_masked", |report| struck(report, Outcome::Sdc, 0.0)),
        ("faults.cache_proven[11].logit_change_bound", |report| {
            struck(report, Outcome::Masked, 3.5);
        }),
    ];
    each_is_named(&breaks);
}

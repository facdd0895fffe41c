//! What verdicts, radii and outcomes must be to one another.

use crate::terminal::{Desk, at, number, numbers, one};

#[test]
fn fewer_positions_that_move_never_shrink_a_certified_radius() {
    let desk = Desk::new();
    let radii = |scope: &str| {
        let report =
            desk.report(&format!("--no-faults --limit 6 --attack-budget 20 --scope {scope}"));
        assert_eq!(one(&report, "certification.scope"), scope);
        numbers(&report, "certification.samples[].certified_radius")
    };
    let (all, each, third) = (radii("all"), radii("each"), radii("3"));
    // The search ends within a factor of 1.01.
    let at_least = |more: &[f64], less: &[f64]| more.iter().zip(less).all(|(a, b)| a * 1.02 >= *b);
    assert!(at_least(&each, &all), "{each:?} {all:?}");
    assert!(at_least(&third, &each), "{third:?} {each:?}");
    assert!(each.iter().sum::<f64>() > 1.5 * all.iter().sum::<f64>(), "{each:?} {all:?}");
}

#[test]
fn at_epsilon_zero_whatever_is_right_is_certified_at_its_own_margin() {
    for model in ["@digits", "@digits-normal", "@digits-shallow", "@language"] {
        let desk = Desk::new();
        let report =
            desk.report(&format!("{model} --epsilon 0 --no-faults --limit 8 --attack-budget 10"));
        let mut right = 0;
        for sample in at(&report, "certification.samples[]") {
            if sample["correct"] == true {
                right += 1;
                assert_eq!(sample["verdict"], "certified", "{model}: {sample}");
                assert_eq!(sample["margin_lower_bound"], sample["margin"], "{model}: {sample}");
                let half = sample["margin"].as_f64().expect("a margin") / 2.0;
                assert_eq!(sample["runtime_slack"].as_f64(), Some(half));
            } else {
                assert_eq!(sample["verdict"], "falsified", "{model}: {sample}");
                assert_eq!(sample["certified_radius"], 0.0);
                assert_eq!(sample["witness"]["kind"], "clean");
            }
        }
        assert!(right > 0, "{model} is wrong on all samples");
        assert_eq!(report["certification"]["clean_acc"], report["certification"]["cert_acc"]);
    }
}

#[test]
fn no_attack_succeeds_within_a_certified_radius_and_small_balls_are_certified() {
    for model in ["@digits", "@digits-normal", "@digits-shallow"] {
        let desk = Desk::new();
        let report = desk.report(&format!("{model} --epsilon 1e-5 --no-faults --limit 12"));
        let mut both = 0;
        for sample in at(&report, "certification.samples[]") {
            let certified = sample["certified_radius"].as_f64().expect("a radius");
            if let Some(attacked) = sample["attack_radius"].as_f64() {
                assert!(certified < attacked || (certified, attacked) == (0.0, 0.0), "{sample}");
                both += u32::from(certified > 0.0);
            }
            assert_eq!(sample["verdict"] == "certified", certified >= 1e-5, "{sample}");
        }
        assert!(number(&report, "certification.certified") > 0.0, "{model}: nothing was certified");
        assert!(both > 0, "{model}: no sample has both radii");
        let curve = numbers(&report, "certification.curve[].certified_acc");
        assert!(curve.windows(2).all(|pair| pair[0] >= pair[1]), "{curve:?}");
        let pairs = curve.iter().zip(numbers(&report, "certification.curve[].attacked_acc"));
        assert!(pairs.into_iter().all(|(certified, attacked)| *certified <= attacked));
    }
}

#[test]
fn a_detector_of_the_unused_code_turns_flips_into_detected_ones() {
    let desk = Desk::new();
    let codes = |policy: &str| {
        let report =
            desk.report(&format!("--no-certify --limit 2 --faults 400 --unused-code {policy}"));
        let target = report["faults"]["targets"][0].clone();
        assert_eq!(target["target"], "weight_code");
        ["trials", "due"].map(|key| number(&target, key))
    };
    let ([trials, due], [_, deployed]) = (codes("detect"), codes("deployed"));
    assert_eq!(deployed, 0.0);
    // Of the two bits of each of the codes 1 and 2, one leads to 3.
    assert!(due > 0.15 * trials && due < 0.5 * trials, "{due} of {trials}");
}

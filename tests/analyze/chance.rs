//! Methods that draw at random: what they report, that it repeats, and what they refuse.

use serde_json::Value;

use crate::terminal::{Desk, at, number, numbers};

const STATISTICAL: &str = "--method statistical --epsilon 0.05 --no-faults --limit 12";
const SMOOTHING: &str = "--method smoothing --sigma 0.1 --no-faults --limit 12";

#[test]
fn statistics_bound_how_likely_the_engine_changes_its_decision() {
    let desk = Desk::new();
    let report = desk.report(&format!("{STATISTICAL} --noise-trials 400 --stat-threshold 0.05"));
    assert_eq!((&report["certification"], &report["smoothed"]), (&Value::Null, &Value::Null));
    let found = &report["statistical"];
    assert!(found["classifier"].as_str().is_some_and(|text| text.contains("deployed engine")));
    assert_eq!((number(found, "statements"), number(found, "stat_trials")), (12.0, 400.0));
    let highs = numbers(found, "samples[].stat_change_probability_high");
    let changed = numbers(found, "samples[].stat_changed");
    for (high, changed) in highs.iter().zip(&changed) {
        assert!(*high > changed / 400.0 && *high <= 1.0, "{high} {changed}");
    }
    // No change: 1 - (0.01 / 12)^(1 / 400), by twelve statements at 99 %.
    let none = highs.iter().zip(&changed).find(|(_, changed)| **changed == 0.0).expect("one");
    assert!((none.0 - 0.017_569_025).abs() < 1e-6, "{none:?}");
    assert!(number(found, "stat_acc") <= number(found, "clean_acc"));
    assert!(number(found, "stat_acc") > 0.5);
}

#[test]
fn a_smoothed_classifier_has_radii_and_abstains() {
    let desk = Desk::new();
    let report = desk.report(&format!("{SMOOTHING} --noise-trials 400"));
    assert_eq!((&report["certification"], &report["statistical"]), (&Value::Null, &Value::Null));
    let found = &report["smoothed"];
    let text = found["classifier"].as_str().expect("a text");
    assert!(text.contains("The smoothed classifier, not the deployed engine"), "{text}");
    assert_eq!(number(found, "smoothed_step"), 0.1 / 4096.0);
    // All 400 votes: the quantile of (0.01 / 12)^(1 / 400), times sigma, less half a cell's
    // diagonal and the way to the lattice.
    let largest = number(found, "smoothed_radius_largest");
    assert!((0.208..0.211).contains(&largest), "{largest}");
    let desk = Desk::new();
    let loud = desk.report("--method smoothing --sigma 30 --noise-trials 50 --no-faults --limit 6");
    let found = &loud["smoothed"];
    assert!(number(found, "smoothed_abstained") > 3.0, "noise drowns everything");
    for sample in at(found, "samples[]") {
        let abstained = sample["smoothed_abstained"] == true;
        assert_eq!(abstained, sample["smoothed_prediction"].is_null());
        assert!(!abstained || number(sample, "smoothed_radius") == 0.0);
    }
}

#[test]
fn fewer_layers_and_each_row_alone_are_statements_of_their_own() {
    let desk = Desk::new();
    let last = desk.report(&format!("{STATISTICAL} --noise-trials 50 --suffix 1"));
    assert_eq!(number(&last, "statistical.entering_layer"), 1.0);
    let each = desk.report(&format!("{SMOOTHING} --noise-trials 50 --scope each --suffix 1"));
    let found = &each["smoothed"];
    let tokens = number(found, "statements") / 12.0;
    assert!(tokens > 1.0 && tokens.fract() == 0.0);
    assert!(numbers(found, "samples[].smoothed_trials").iter().all(|&all| all == 50.0 * tokens));
    // In a box of one row, the radius that covers it is epsilon times the root of the width.
    let wanted = numbers(found, "samples[].smoothed_radius_wanted");
    assert!(wanted.iter().all(|&radius| (radius - 0.01 * 16f64.sqrt()).abs() < 1e-12));
}

#[test]
fn no_byte_depends_on_threads_or_kernels() {
    let desk = Desk::new();
    for request in [STATISTICAL, SMOOTHING] {
        let bytes = |how: &str| {
            let words = format!("analyze {request} --noise-trials 60 --reproducible {how}");
            (desk.run(&format!("{words} -o r.json -o r.html")).ends(0).out, desk.read("r.json"))
        };
        let one = bytes("--threads 1 --kernels scalar");
        assert!(one == bytes("--threads 4") && one == bytes("--threads 2 --kernels scalar"));
        assert!(one.1 != bytes("--seed 1").1, "the seed draws");
    }
}

#[test]
fn the_time_limit_leaves_samples_without_a_statement() {
    let desk = Desk::new();
    let words = format!("analyze {STATISTICAL} --noise-trials 1000000000 --time-limit 2s");
    desk.run(&format!("{words} -o r.json")).ends(4).says(&["a limit was hit: time-limit"]);
    let report = desk.json("r.json");
    let high = numbers(&report, "statistical.samples[].stat_change_probability_high");
    assert_eq!(high, [1.0; 12]);
    assert_eq!(number(&report, "statistical.stat_acc"), 0.0);
    assert!(report["limits_hit"].to_string().contains("trials under noise: 12 of 12 samples"));
}

#[test]
fn gates_and_predictions_know_the_methods() {
    let desk = Desk::new();
    let gate = |request: &str, gate: &str| {
        let words = format!("analyze {request} --noise-trials 400 {gate} --quiet -o g.json");
        desk.run(&words).code
    };
    assert_eq!(gate(STATISTICAL, "--fail-over stat_change_probability_high=1"), 0);
    assert_eq!(gate(STATISTICAL, "--fail-over stat_change_probability_high=0.001"), 1);
    assert_eq!(gate(STATISTICAL, "--fail-under cert_acc=0"), 1);
    assert_eq!(gate(SMOOTHING, "--fail-under smoothed_radius_median=0.2"), 0);
    assert_eq!(gate(SMOOTHING, "--fail-under smoothed_acc=1.1"), 1);
    let told = desk.run(&format!("analyze {SMOOTHING} --dry-run")).ends(0);
    assert!(told.out.contains("trials under noise") && !told.out.contains("attack radii"));
}

#[test]
fn options_that_no_method_reads_or_that_make_no_sense_are_refused() {
    let desk = Desk::new();
    for (words, code, says) in [
        ("--sigma 0.1", 2, "--sigma"),
        ("--noise-trials 5", 2, "--noise-trials"),
        ("--method smoothing --stat-threshold 0.1", 2, "--stat-threshold"),
        ("--method statistical --stat-threshold 0", 2, "--stat-threshold 0"),
        ("--method statistical --noise-trials 0", 2, "--noise-trials"),
        ("--method statistical --norm l2", 2, "--norm l2"),
        ("--method statistical --epsilon 0.1,0.2", 2, "one radius"),
        ("--method smoothing --substitutions 2", 2, "--substitutions"),
        ("--method smoothing --positions all", 2, "--positions all"),
        ("--method smoothing --sigma -1", 2, "--sigma"),
        ("--method smoothing --sigma nan", 2, "--sigma"),
        ("--method statistical --confidence 0.9999999999999999", 2, "too close to 1"),
        ("--method smoothing --sigma 1e-7", 3, "too small"),
    ] {
        let told = desk.run(&format!("analyze --limit 1 --no-faults {words} -o r.json"));
        told.ends(code).says(&[says]);
    }
    assert_eq!(desk.listing(), [""; 0]);
}

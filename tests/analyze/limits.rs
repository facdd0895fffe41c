//! Gates, limits and halves of the work: exit codes and what the report says of them.

use serde_json::Value;

use crate::terminal::{Desk, at, number, numbers};

#[test]
fn gates_decide_the_exit_code_and_the_report_is_written_all_the_same() {
    let desk = Desk::new();
    let gate = |gates: &str| {
        let words = format!("analyze --epsilon 0 --limit 3 --no-faults --attack-budget 10 {gates}");
        desk.run(&format!("{words} --quiet -o gate.json"))
    };
    gate("--fail-under clean_acc=0.5 --fail-under cert_acc=0.5").ends(0);
    gate("--fail-under certified_radius_median=1e9")
        .ends(1)
        .says(&["certified_radius_median", "1e9"]);
    assert_eq!(at(&desk.json("gate.json"), "request.gates[]").len(), 1);
    let both = gate("--fail-under clean_acc=0.5 --fail-over unknown_share=-1").ends(1);
    both.says(&["gate failed", "unknown_share is 0, threshold -1"]);
    gate("--fail-over sdc_rate=1").ends(1).says(&["sdc_rate", "no value"]);
    for wrong in ["certacc=1", "cert_acc", "cert_acc=nan", "cert_acc=x", "nosuch.sdc_rate=1"] {
        let told = gate(&format!("--fail-under {wrong}")).ends(2);
        told.says(&["--fail-under", wrong.split('=').next().expect("a name")]);
    }
}

#[test]
fn a_gate_on_a_rate_compares_the_upper_end_of_its_interval() {
    let desk = Desk::new();
    let campaign = "--no-certify --limit 3 --faults 240";
    let report = desk.report(campaign);
    let target = &report["faults"]["targets"][0];
    assert_eq!(target["target"], "weight_code");
    let (rate, high) = (number(target, "sdc_rate"), number(target, "sdc_rate_high"));
    assert!(rate < high && number(target, "sdc_rate_low") <= rate);
    let middle = f64::midpoint(rate, high);
    let gate = |rate: &str, value: f64| {
        let gate = format!("--fail-over weight_code.{rate}={value}");
        desk.run(&format!("analyze {campaign} --quiet -o gate.json {gate}")).code
    };
    assert_eq!((gate("sdc_rate", middle), gate("sdc_rate", high)), (1, 0));
    assert_eq!((gate("sdc_rate_high", middle), gate("sdc_rate_low", middle)), (1, 0));
}

#[test]
fn when_the_time_is_over_what_was_finished_is_reported() {
    let desk = Desk::new();
    let words = "analyze --limit 2 --no-certify --faults 1000000000 --time-limit 3s -o r.json";
    let told = desk.run(words).ends(4).says(&["a limit was hit: time-limit\n"]);
    assert!(told.out.contains("time"), "{}", told.out);
    let report = desk.json("r.json");
    let trials = number(&report, "faults.trials");
    assert!(trials > 0.0 && trials < 1e9, "{trials} trials");
    assert_eq!(trials, numbers(&report, "faults.targets[].trials").iter().sum::<f64>());
    let hits: Vec<String> = at(&report, "limits_hit[]").iter().map(|hit| hit.to_string()).collect();
    assert!(hits.iter().any(|hit| hit.contains("fault trials")), "{hits:?}");
    assert!(hits.iter().any(|hit| hit.contains("bounds under any flip")), "{hits:?}");
}

#[test]
fn an_attack_without_end_ends_with_the_time() {
    let desk = Desk::new();
    let words =
        "analyze --limit 1 --no-faults --attack-budget 4000000000 --time-limit 3s -o r.json";
    desk.run(words).ends(4).says(&["a limit was hit: time-limit\n"]);
    let report = desk.json("r.json");
    let cut = at(&report, "limits_hit[].what");
    assert!(cut.iter().any(|what| what.as_str().is_some_and(|w| w.contains("attack radii"))));
    assert_eq!(at(&report, "certification.samples[]").len(), 1);
}

#[test]
fn when_the_time_is_over_before_anything_is_known_the_run_says_so_and_writes_nothing() {
    let desk = Desk::new();
    let told = desk.run("analyze --limit 2 --time-limit 0s -o r.json").ends(4);
    told.says(&["time limit", "clean decisions", "--time-limit"]);
    assert_eq!(desk.listing(), [""; 0]);
}

#[test]
fn what_would_need_more_memory_than_allowed_is_left_out_and_named() {
    let desk = Desk::new();
    let words = "analyze --limit 2 --attack-budget 10 --max-memory 1MB -o r.json";
    desk.run(words).ends(4).says(&["max-memory"]);
    let report = desk.json("r.json");
    assert_eq!(report["faults"], Value::Null);
    assert_eq!(at(&report, "certification.samples[]").len(), 2);
    let hits = at(&report, "limits_hit[]");
    assert!(hits.iter().all(|hit| hit["limit"] == "max-memory"), "{hits:?}");
    assert!(hits.iter().any(|hit| hit.to_string().contains("bounds under any flip")), "{hits:?}");
    let told = desk.run("analyze --max-memory 1kB -o tiny.json").ends(4);
    told.says(&["bytes", "--max-memory allows 1024"]);
    assert_eq!(desk.listing(), ["r.json"]);
}

#[test]
fn a_dry_run_predicts_time_and_memory_and_writes_nothing() {
    let desk = Desk::new();
    let told = desk.run("analyze --limit 2 --dry-run -o r.json").ends(0);
    for word in ["fault trials", "bounds at epsilon", "memory", " MB", " s\n"] {
        assert!(told.out.contains(word), "{word}: {}", told.out);
    }
    assert_eq!(desk.listing(), [""; 0]);
}

#[test]
fn either_half_can_be_left_out_but_not_both() {
    let desk = Desk::new();
    let faults = desk.report("--limit 2 --faults 40 --no-certify");
    assert_eq!(faults["certification"], Value::Null);
    assert_eq!(number(&faults, "faults.trials"), 40.0);
    let certified = desk.report("--limit 2 --attack-budget 10 --no-faults");
    assert_eq!(certified["faults"], Value::Null);
    assert_eq!(at(&certified, "certification.samples[]").len(), 2);
    desk.run("analyze --no-faults --no-certify").ends(2).says(&["--no-certify", "--no-faults"]);
}

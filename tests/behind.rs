//! `faults` behind memory codes from outside: a plan's `protection`, in reports and journals.

mod terminal;

use terminal::{Desk, number};

const GUARDED: &str = "
trials = 400
[[fault]]
target = \"weight_code\"
model = \"word\"
bits = 64
flips = 3
protection = \"secded\"
[[fault]]
target = \"weight_code\"
model = \"poisson\"
fit_per_mbit = 5e8
hours = 8
protection = \"on-die\"
[[fault]]
target = \"weight_code\"
flips = 3
protection = \"none\"
[[fault]]
target = \"weight_code\"
flips = 1
protection = \"secded\"
";

fn report(desk: &Desk, words: &str) -> Vec<u8> {
    desk.run(&format!("{words} --quiet --reproducible -o told.json")).ends(0);
    desk.read("told.json")
}

#[test]
fn faults_behind_memory_codes_are_told_raw_and_residual() {
    let desk = Desk::new();
    desk.put("plan.toml", GUARDED);
    let run = "faults run @digits --plan plan.toml";
    let expected = report(&desk, run);
    let told = desk.json("told.json");
    let strata = told["faults"]["strata"].as_array().expect("strata");
    assert_eq!(strata[0]["fault"], "weight_code word bits=64 flips=3 protection=secded");
    let behind = |stratum: usize, key: &str| number(&strata[stratum]["behind"], key);
    for stratum in [0, 1, 3] {
        assert_eq!(
            behind(stratum, "harmless") + behind(stratum, "detected") + behind(stratum, "residual"),
            100.0
        );
    }
    assert!(behind(0, "detected") > 20.0 && behind(0, "miscorrected") > 20.0);
    assert_eq!((behind(0, "harmless"), behind(0, "stored_check_bits")), (0.0, 0.0));
    // The model has 2 bits a weight, and words of 128 bits have 8 more.
    let stored = behind(1, "stored_bits");
    assert_eq!(stored / 17.0, behind(1, "stored_check_bits"));
    assert!(strata[2].get("behind").is_none() && strata[0].get("critical_fit").is_none());
    assert_eq!((behind(3, "harmless"), number(&strata[3], "sdc")), (100.0, 0.0));
    let fit = &strata[1]["critical_fit"];
    let rate = number(&strata[1], "sdc_rate_high");
    assert!((number(fit, "high") / (rate * 1e9 / 8.0) - 1.0).abs() < 1e-12, "{fit}");
    assert!(number(&strata[1]["behind"]["raw_critical_fit"], "high") > 0.0);
    assert_eq!(report(&desk, &format!("{run} --threads 1")), expected);
    for shard in 0..2 {
        desk.run(&format!("{run} --shard {shard}/2 --journal s{shard} --quiet")).ends(0);
    }
    assert_eq!(report(&desk, "faults merge s0 s1"), expected);
    let mut bytes = desk.read("s0/journal");
    bytes.truncate(bytes.len() - 64 * 70);
    desk.put("s0/journal", &bytes);
    desk.run("faults resume s0 --quiet").ends(0);
    assert_eq!(report(&desk, "faults merge s0 s1"), expected, "resumed");
    assert!(desk.run("faults status s0").ends(0).out.contains("protection=on-die"));
    desk.run(&format!("{run} --quiet -o r.html -o r.md -o r.txt")).ends(0);
    assert!(desk.text("r.html").contains("behind memory codes, and the same flips without"));
    assert!(desk.text("r.md").contains("Behind a memory code"));
    assert!(desk.text("r.txt").contains(", raw "));
    desk.put("plan.toml", GUARDED.replace("\"on-die\"", "\"on-die:64\""));
    desk.run(run).ends(2).says(&["fault 1: protection = \"on-die:64\"", "secded, on-die"]);
    desk.put("plan.toml", "[[fault]]\ntarget = \"norm\"\nprotection = \"secded\"");
    desk.run(run).ends(2).says(&["fault 0: protection", "only words of weight_code"]);
}

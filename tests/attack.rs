//! `attack` from outside: flips that do what is said, written as a checkpoint that shows it.

mod terminal;

use serde_json::Value;
use terminal::{Desk, at};

/// A bit whose flip moves no logit: `flip` with it shows the clean decisions.
const HARMLESS: &str = "model.norm.weight[0].0";

fn json(desk: &Desk, words: &str) -> Value {
    serde_json::from_str(&desk.run(words).ends(0).out).expect("JSON")
}

fn decisions(desk: &Desk, model: &str, inputs: &str) -> Vec<u64> {
    let words = format!("flip {model} --limit 6 {inputs} --json --bit {HARMLESS}");
    let shown = json(desk, &words);
    let decided = at(&shown, "samples[].decision_before");
    decided.into_iter().map(|decision| decision.as_u64().expect("a token")).collect()
}

#[test]
fn a_broken_checkpoint_decides_as_the_search_said() {
    let desk = Desk::new();
    let few = "--limit 6 --evaluations 60000 --share 0.3 --unused-code deployed";
    let found = json(&desk, &format!("attack @digits {few} --json --write broken"));
    let search = &found["searches"][0];
    assert_eq!(search["reached"], true, "{found}");
    let steps = search["steps"].as_array().expect("steps");
    assert_eq!(search["flips"], steps.len());
    let won = steps.last().expect("a step")["won"].as_u64().expect("a count");
    let clean = decisions(&desk, "@digits", "");
    let inputs = "--inputs broken/inputs.safetensors --unused-code deployed";
    let broken = decisions(&desk, "broken", inputs);
    let changed = clean.iter().zip(&broken).filter(|(a, b)| a != b).count() as u64;
    assert_eq!(changed, won, "{clean:?} {broken:?} {found}");
    assert!(won >= 2);
    // Towards a token, the same by text.
    let told = desk.run(&format!("attack @digits {few} --toward 3")).ends(0);
    assert!(told.out.contains("2 of 6 samples wanted"), "{}", told.out);
}

#[test]
fn where_no_single_flip_is_enough_that_is_said() {
    let desk = Desk::new();
    let found = json(&desk, "attack @digits --each --limit 2 --flips 1 --evaluations 40000 --json");
    let searches = found["searches"].as_array().expect("searches");
    assert_eq!(searches.len(), 2);
    for search in searches {
        let alone = search["reached"] == true;
        assert_eq!(search["flips_at_least"], if alone { 1 } else { 2 }, "{search}");
        // What is certified lies below what the search needed.
        let flips = search["flips"].as_u64().expect("a count");
        let budget = search["certified_flip_budgets"][0].as_u64().expect("a budget");
        assert!(search["reached"] == false || budget < flips, "{search}");
        let gap = if alone { search["gap"].as_u64() } else { None };
        assert_eq!(gap, alone.then(|| flips - 1), "{search}");
    }
    let told = desk.run("attack @digits --each --limit 1 --evaluations 500").ends(0);
    assert!(told.out.contains(">= 1"), "too few runs to say more:\n{}", told.out);
    assert!(told.out.contains("certified flip budget: "), "{}", told.out);
    let norms = json(&desk, "attack @digits --limit 1 --evaluations 500 --targets norm --json");
    assert!(norms["searches"][0]["certified_flip_budgets"].is_null(), "{norms}");
}

#[test]
fn threads_change_no_byte_and_senseless_words_are_refused() {
    let desk = Desk::new();
    let few = "attack @digits --limit 4 --evaluations 3000 --seed 7 --json";
    let one = desk.run(&format!("{few} --threads 1")).ends(0).out;
    assert_eq!(one, desk.run(&format!("{few} --threads 3")).ends(0).out);
    desk.run("attack --share 1.5").ends(2).says(&["1.5", "at most 1", "--share"]);
    desk.run("attack --targets kv_f32")
        .ends(2)
        .says(&["kv_f32", "expected one or more of weight_code"]);
    desk.run("attack --targets weights").ends(2).says(&["weights", "weight_code"]);
    desk.run("attack --toward 99").ends(2).says(&["99", "--toward"]);
    desk.run("attack --flips 0").ends(2).says(&["flips", "1 or more"]);
    desk.run("attack --each --write out").ends(2).says(&["--write"]);
}

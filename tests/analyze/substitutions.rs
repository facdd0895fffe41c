//! Tokens that stand for others: proofs for hulls, beside what the engine says of all choices.

use fixtures::embedded;
use serde_json::{Value, json};

use crate::terminal::{Desk, at, extent, number, numbers, one};

const FEW: &str = "--no-faults --attack-budget 20 --epsilon 0";

/// A classifier in which token 8 is token 7 but for the last bit of every feature.
fn twins() -> Desk {
    let desk = Desk::new();
    desk.checkpoint("twins", embedded::digits());
    let mut file = desk.read("twins/model.safetensors");
    let table = extent(&file, "model.embed_tokens.weight");
    let row = table.len() / 10;
    let seven = file[table.start + 7 * row..table.start + 8 * row].to_vec();
    let eight = &mut file[table.start + 8 * row..table.start + 9 * row];
    for (to, from) in eight.iter_mut().zip(seven.iter().enumerate()) {
        *to = from.1 ^ u8::from(from.0 % 4 == 0);
    }
    desk.put("twins/model.safetensors", file);
    desk
}

fn substituted(desk: &Desk, ids: &Value, words: &str) -> Value {
    desk.put("x.jsonl", json!({ "input_ids": ids }).to_string());
    desk.report(&format!("twins --inputs x.jsonl {FEW} {words}"))
}

#[test]
fn a_twin_is_proven_to_change_nothing_and_every_choice_was_run() {
    let desk = twins();
    desk.put("sets.json", r#"{"7": [8], "samples": {"0": {"1": [3]}}}"#);
    for (scope, combinations) in [("all", 3.0), ("each", 2.0), ("2", 1.0), ("1", 0.0)] {
        let words = format!("--substitutions sets.json --scope {scope}");
        let report = substituted(&desk, &json!([7, 3, 7]), &words);
        let sample = one(&report, "substitutions.subst_samples[]");
        assert_eq!(sample["subst_verdict"], "certified", "{scope}: {sample}");
        assert_eq!(sample["subst_decided_by"], "interval-bound-propagation");
        assert_eq!(sample["subst_exhaustive"], true);
        assert_eq!(number(sample, "subst_combinations"), combinations);
        assert_eq!(number(sample, "subst_tried"), combinations);
        assert!(number(sample, "subst_margin_lower_bound") > 0.0);
    }
    let report = substituted(&desk, &json!([7, 7, 8]), "--substitutions 1");
    assert_eq!(number(&report, "substitutions.subst_nearest"), 1.0);
    let sample = one(&report, "substitutions.subst_samples[]");
    assert_eq!(sample["subst_verdict"], "certified", "{sample}");
    assert_eq!(number(sample, "subst_combinations"), 7.0);
}

#[test]
fn a_substitution_that_decides_otherwise_falsifies_and_runs_again_as_a_sample() {
    let desk = twins();
    let report = substituted(&desk, &json!([7, 1, 4]), "--substitutions 9");
    let sample = one(&report, "substitutions.subst_samples[]");
    assert_eq!(sample["subst_verdict"], "falsified", "{sample}");
    assert_eq!(number(sample, "subst_combinations"), 999.0);
    assert_eq!(number(sample, "subst_tried"), 999.0);
    let witness = &sample["subst_witness"];
    let clean = number(&report["certification"]["samples"][0], "prediction");
    assert_ne!(number(witness, "prediction"), clean);
    let again = substituted(&desk, &witness["input_ids"], "--substitutions 1");
    let now = number(&again["certification"]["samples"][0], "prediction");
    assert_eq!(now, number(witness, "prediction"));
    // How many of all decide otherwise, counted by a file with every sample in it.
    let all: Vec<String> = (0..1000)
        .map(|code| json!({ "input_ids": [code / 100, code / 10 % 10, code % 10] }).to_string())
        .collect();
    desk.put("all.jsonl", all.join("\n"));
    let few = "--no-faults --method interval-bound-propagation --epsilon 0 --attack-budget 1";
    let all = desk.report(&format!("twins --inputs all.jsonl {few}"));
    let predictions = numbers(&all, "certification.samples[].prediction");
    let changed = predictions.iter().filter(|&&prediction| prediction != clean).count();
    assert_eq!(number(sample, "subst_changed"), changed as f64);
}

#[test]
fn of_too_many_choices_some_are_drawn_and_the_draws_follow_from_the_seed() {
    let desk = twins();
    let ids = json!([7, 1, 4, 7, 0]);
    let words = "--substitutions 9 --reproducible --seed";
    let report = substituted(&desk, &ids, &format!("{words} 1"));
    let sample = one(&report, "substitutions.subst_samples[]");
    assert_eq!(number(sample, "subst_combinations"), 99_999.0);
    assert_eq!(number(sample, "subst_tried"), 512.0);
    assert_eq!(sample["subst_exhaustive"], false);
    assert_eq!(report, substituted(&desk, &ids, &format!("{words} 1 --threads 1")));
    let other = substituted(&desk, &ids, &format!("{words} 2"));
    assert_ne!(report["substitutions"], other["substitutions"]);
    assert_eq!(at(&report, "substitutions.subst_samples[]").len(), 1);
}

#[test]
fn substitutions_that_make_no_sense_are_refused_in_words() {
    let desk = twins();
    desk.put("x.jsonl", json!({ "input_ids": [7, 3, 7] }).to_string());
    let refused = |words: &str, code: i32, part: &str| {
        desk.run(&format!("analyze {words} -o r.json")).ends(code).says(&[part]);
    };
    refused("--substitutions 2", 3, "sample 0 has inputs_embeds");
    refused("--substitutions 0", 2, "--substitutions 0");
    refused("--substitutions 2 --suffix 1", 2, "--suffix");
    refused("--substitutions 2 --no-certify", 2, "--no-certify");
    let ids = "twins --inputs x.jsonl --substitutions";
    refused(&format!("{ids} 10"), 3, "a token has 9 others");
    refused(&format!("{ids} nosuch.json"), 3, "nosuch.json");
    for (sets, part) in [
        (r#"{"7": [10]}"#, "token 10 lies outside the vocabulary"),
        (r#"{"7": 8}"#, "list of token ids"),
        (r#"{"seven": [8]}"#, "seven"),
        (r#"{"samples": {"0": {"3": [8]}}}"#, "sample 0 has no position 3"),
        ("[", "sets.json"),
    ] {
        desk.put("sets.json", sets);
        refused(&format!("{ids} sets.json"), 3, part);
    }
}

//! Requests and samples at the edges of what is allowed: done, or refused in words.

use fixtures::embedded;
use serde_json::{Value, json};

use crate::terminal::{Desk, at, extent, number, one};

#[test]
fn the_largest_epsilon_certifies_nothing_and_breaks_nothing() {
    let desk = Desk::new();
    for epsilon in ["1", "1e10", "3.4e38"] {
        let few = "--limit 2 --faults 18 --attack-budget 20";
        desk.run(&format!("analyze --epsilon {epsilon} {few} -o r.json -o r.html -q")).ends(0);
        let report = desk.json("r.json");
        assert_eq!(one(&report, "certification.epsilon"), epsilon);
        assert_eq!(number(&report, "certification.certified"), 0.0, "{epsilon}");
    }
}

#[test]
fn embeddings_at_the_ends_of_f32_end_in_a_report_or_a_refusal() {
    let desk = Desk::new();
    for value in [3.4e38, 1e20, 1e-20, 1e-45, 0.0, -0.0] {
        let row =
            |sign: f64| (0..16).map(|i| if i % 3 == 0 { value } else { sign * value }).collect();
        let rows: [Vec<f64>; 2] = [row(-1.0), row(1.0)];
        desk.put("x.jsonl", json!({"inputs_embeds": rows}).to_string());
        let few = "--faults 18 --attack-budget 20 --epsilon 1e-6 -q";
        let told = desk.run(&format!("analyze --inputs x.jsonl {few} -o r.json -o r.html"));
        match told.code {
            0 => assert_eq!(at(&desk.json("r.json"), "certification.samples[]").len(), 1),
            _ => drop(told.ends(3).says(&["sample 0", "not"])),
        }
    }
}

#[test]
fn a_sample_of_one_token_is_a_sample() {
    let desk = Desk::new();
    desk.put("x.jsonl", "{\"input_ids\": [7]}");
    let few = "--attack-budget 20 --epsilon 1e-6";
    for scope in ["all", "each", "0"] {
        let words = format!("@language --inputs x.jsonl --no-faults {few} --scope {scope}");
        let report = desk.report(&format!("{words} --positions all"));
        assert_eq!(number(&report, "certification.next_token.positions"), 1.0);
    }
    let report = desk.report(&format!("@digits --inputs x.jsonl {few}"));
    assert_eq!(at(&report, "faults.bounds[]").len(), 2);
}

#[test]
fn fewer_trials_than_targets_leave_rates_unknown_and_gates_on_them_unpassed() {
    let desk = Desk::new();
    let report = desk.report("--no-certify --limit 1 --faults 1");
    assert_eq!(number(&report, "faults.trials"), 1.0);
    assert_eq!(at(&report, "faults.targets[]").len(), 8);
    let mut tried = 0;
    for target in at(&report, "faults.targets[]") {
        tried += u32::from(number(target, "trials") > 0.0);
        let known = number(target, "trials") > 0.0;
        assert_eq!(target["sdc_rate"].is_number(), known, "{target}");
        assert!(
            known
                || (number(target, "sdc_rate_low"), number(target, "sdc_rate_high")) == (0.0, 1.0)
        );
    }
    assert_eq!(tried, 1);
    let gate = "analyze --no-certify --limit 1 --faults 1 -q -o r.json --fail-over sdc_rate=1";
    desk.run(gate).ends(1).says(&["sdc_rate"]);
}

#[test]
fn several_flips_at_once_are_drawn_as_long_as_there_are_bits() {
    let desk = Desk::new();
    let report = desk.report("--no-certify --limit 1 --faults 18 --flips 5");
    assert_eq!(number(&report, "faults.flips"), 5.0);
    // A dry run shows that this is found before the work starts.
    for end in ["", "--dry-run"] {
        let told = desk.run(&format!("analyze --limit 1 --flips 1000000 {end}")).ends(2);
        told.says(&["weight_code has 9216 bits", "expected 1000000 or more"]);
    }
}

#[test]
fn names_from_outside_are_shown_and_never_obeyed() {
    let desk = Desk::new();
    let name = "<script>alert('x')<\u{1b}[2J&]]>\"";
    desk.checkpoint(name, embedded::digits());
    let inputs = format!("{name}/inputs.safetensors");
    let outputs = ["r.json", "r.html", "r.xml", "r.md", "r.txt"].map(|file| ["-o", file]).concat();
    let mut words = vec!["analyze", name, "--inputs", &inputs, "--limit", "1", "--faults", "9"];
    words.extend(["--attack-budget", "10"].iter().chain(&outputs));
    let told = desk.words(&words).ends(0);
    assert_eq!(desk.json("r.json")["model"]["name"], *name);
    for (face, text) in [
        ("stdout", told.out),
        ("stderr", told.err),
        ("html", desk.text("r.html")),
        ("xml", desk.text("r.xml")),
        ("md", desk.text("r.md")),
        ("txt", desk.text("r.txt")),
    ] {
        assert!(!text.contains('\u{1b}'), "{face} has an escape sequence");
        let page = ["html", "xml", "md"].contains(&face);
        assert!(!(page && text.contains("<script>alert")), "{face} has a script");
    }
}

#[test]
fn unlabelled_samples_are_counted_apart_and_judged_by_their_clean_decision() {
    let desk = Desk::new();
    let rows: Vec<Vec<f64>> = (0..9)
        .map(|row| (0..16).map(|i| f64::from((row * 5 + i * 3) % 11) / 5.0 - 1.0).collect())
        .collect();
    desk.put("x.jsonl", json!({"inputs_embeds": rows}).to_string());
    let report = desk.report("--inputs x.jsonl --epsilon 0 --faults 18 --attack-budget 20");
    let sample = one(&report, "certification.samples[]");
    assert_eq!((&sample["label"], &sample["correct"]), (&Value::Null, &Value::Null));
    assert_eq!(sample["verdict"], "certified");
    assert_eq!(report["certification"]["clean_acc"], Value::Null);
    assert_eq!(report["certification"]["cert_acc"], Value::Null);
    assert_eq!(number(&report, "certification.unlabelled"), 1.0);
    let label = (sample["prediction"].as_u64().expect("a class") + 1) % 10;
    desk.put("x.jsonl", json!({"inputs_embeds": rows, "label": label}).to_string());
    let wrong = desk.report("--inputs x.jsonl --epsilon 0 --faults 18 --attack-budget 20");
    let sample = one(&wrong, "certification.samples[]");
    assert_eq!((&sample["verdict"], &sample["correct"]), (&json!("falsified"), &json!(false)));
    assert_eq!((number(sample, "certified_radius"), number(sample, "attack_radius")), (0.0, 0.0));
}

/// A safetensors file whose scales in layer 1 are one a row, all as they were for the tensor.
fn with_scales_of_rows(file: &[u8]) -> Vec<u8> {
    let length = u64::from_le_bytes(file[..8].try_into().expect("eight bytes")) as usize;
    let header: Value = serde_json::from_slice(&file[8..8 + length]).expect("a header");
    let (mut tensors, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, of) in header.as_object().expect("tensors").iter().filter(|(_, of)| of.is_object()) {
        let Some(shape) = of["shape"].as_array() else { continue };
        let (mut shape, mut bytes) = (shape.clone(), file[extent(file, name)].to_vec());
        if name.contains("layers.1") && name.ends_with(".weight_scale") {
            let packed = header[name.trim_end_matches("_scale")]["shape"][0].as_u64();
            let rows = 4 * packed.expect("packed weights");
            (shape, bytes) = (vec![json!(rows)], bytes.repeat(rows as usize));
        }
        let begin = data.len();
        data.extend(bytes);
        let ends = [begin, data.len()];
        let entry = json!({"dtype": of["dtype"], "shape": shape, "data_offsets": ends});
        tensors.insert(name.clone(), entry);
    }
    let header = Value::Object(tensors).to_string();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat()
}

#[test]
fn codes_that_no_bound_speaks_of_count_among_the_pairs_and_behind_memory_codes() {
    let desk = Desk::new();
    desk.checkpoint("model", embedded::digits());
    let words = "model --inputs model/inputs.safetensors --limit 2 --no-certify --faults 80";
    let whole = desk.report(words);
    let file = with_scales_of_rows(&desk.read("model/model.safetensors"));
    desk.put("model/model.safetensors", file);
    let mixed = desk.report(words);
    let pairs = |report| at(report, "faults.bounds[].pairs");
    assert_eq!(pairs(&whole), pairs(&mixed));
    assert_eq!(at(&mixed, "faults.bounds[].proven_masked_share")[1], 0.0);
    let bits = |report| at(report, "faults.protection[]").into_iter().map(one_flip).collect();
    let (before, after): (Vec<bool>, Vec<bool>) = (bits(&whole), bits(&mixed));
    assert!(before.contains(&true), "what was tried stands there");
    assert_eq!(before, after);
}

/// Whether a row of memory codes is what the campaign itself tried.
fn one_flip(row: &Value) -> bool {
    row["code"] == "none" && row["raw_flips"] == 1
}

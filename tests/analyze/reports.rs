//! What a report looks like from outside: files, keys, types, schema.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::SMALL;
use crate::terminal::{Desk, at, one};

#[test]
fn the_first_run_uses_the_embedded_model_says_so_and_writes_two_reports() {
    let desk = Desk::new();
    let told = desk.run("analyze --epsilon 0.01 --limit 4 --faults 90").ends(0);
    let told = told.says(&["embedded", "@digits", "wrote bitnet-certify-report/report.json"]);
    let lines = told.out.lines().count();
    assert!((5..=25).contains(&lines), "{lines} lines:\n{}", told.out);
    assert!(told.out.contains("clean accuracy"), "{}", told.out);
    let files = ["report.html", "report.json"].map(|name| format!("bitnet-certify-report/{name}"));
    assert_eq!(
        desk.listing(),
        ["bitnet-certify-report/".to_owned()].into_iter().chain(files).collect::<Vec<_>>()
    );
    let report = desk.json("bitnet-certify-report/report.json");
    assert_eq!(*one(&report, "model.embedded"), json!(true));
    assert_eq!(at(&report, "certification.samples[]").len(), 4);
}

#[test]
fn every_face_is_written_by_its_extension_into_folders_that_it_makes() {
    let desk = Desk::new();
    let outputs = "-o new/deep/r.json -o r.html -o r.xml -o r.md -o r.txt";
    let told = desk.run(&format!("analyze {SMALL} --reproducible {outputs}")).ends(0);
    assert_eq!(
        desk.listing(),
        ["new/", "new/deep/", "new/deep/r.json", "r.html", "r.md", "r.txt", "r.xml"]
    );
    assert!(desk.text("r.html").to_lowercase().starts_with("<!doctype html>"));
    assert!(desk.text("r.xml").starts_with("<?xml"));
    assert!(desk.text("r.xml").contains("<testsuites"));
    assert!(desk.text("r.md").starts_with('#'));
    assert_eq!(desk.text("r.txt"), told.out);
    assert!(desk.json("new/deep/r.json").get("run").is_none());
}

/// The keys that others read, with the types of their values.
const KEYS: &[(&str, &[&str])] = &[
    ("text", &["schema_version", "tool.name", "tool.version", "engine.arithmetic", "model.digest"]),
    ("text", &["request.epsilon", "assumptions[]", "run.started", "run.kernels"]),
    ("number", &["run.seconds_total", "run.threads", "faults.confidence"]),
    ("text", &["certification.epsilon", "certification.norm", "certification.scope"]),
    ("text", &["certification.method", "certification.samples[].verdict"]),
    ("number", &["certification.clean_acc", "certification.cert_acc"]),
    ("integer", &["certification.samples[].index", "certification.samples[].prediction"]),
    ("integer", &["certification.samples[].label", "certification.layers[].index"]),
    ("bool", &["certification.samples[].correct", "model.embedded"]),
    ("number", &["certification.samples[].certified_radius"]),
    ("number or null", &["certification.samples[].margin_lower_bound"]),
    ("number or null", &["certification.samples[].attack_radius"]),
    ("number or null", &["certification.samples[].runtime_slack"]),
    ("number", &["certification.layers[].certified_radius"]),
    ("number", &["certification.layers[].certified_radius_rel"]),
    ("number or null", &["certification.layers[].lipschitz_bound"]),
    ("number or null", &["certification.layers[].lipschitz_slack"]),
    ("text", &["certification.layers[].lipschitz_method"]),
    ("text", &["certification.margin_lipschitz.method"]),
    ("number", &["certification.margin_lipschitz.bound", "certification.margin_lipschitz.slack"]),
    ("number", &["certification.layers[].attention_lipschitz.bound"]),
    ("number", &["certification.layers[].ffn_lipschitz.slack"]),
    ("number", &["certification.margin_lipschitz.global_product_power"]),
    (
        "integer",
        &["faults.seed", "faults.trials", "faults.targets[].trials", "faults.targets[].due"],
    ),
    ("integer", &["faults.targets[].masked", "faults.targets[].sdc", "faults.bounds[].flips"]),
    ("text", &["faults.unused_code", "faults.targets[].target", "faults.worst[].address"]),
    ("number", &["faults.targets[].sdc_rate", "faults.targets[].sdc_rate_low"]),
    ("number", &["faults.targets[].sdc_rate_high", "faults.layers[].sdc_rate_high"]),
    ("integer", &["faults.bits[].bit", "faults.bounds[].layer"]),
    ("number or null", &["faults.bounds[].logit_change_bound"]),
    ("number", &["faults.bounds[].proven_masked_share"]),
    ("text", &["faults.protection[].code", "faults.encodings[].unused"]),
    ("number", &["faults.trit_bytes[].mean_weights_hit", "faults.trit_bytes[].unused_share"]),
    ("number", &["faults.protection[].fit_critical_high", "faults.protection[].residual_rate"]),
    ("number or null", &["faults.protection[].pvf"]),
    ("number", &["faults.stored_bits.sdc_rate", "faults.stored_bits.sdc_rate_high"]),
];

fn is(value: &Value, kind: &str) -> bool {
    match kind {
        "text" => value.as_str().is_some_and(|text| !text.is_empty()),
        "number" => value.is_number(),
        "number or null" => value.is_number() || value.is_null(),
        "integer" => value.is_u64(),
        "bool" => value.is_boolean(),
        other => panic!("no such kind: {other}"),
    }
}

#[test]
fn a_report_has_every_documented_key_and_fits_the_schema_that_the_program_prints() {
    let desk = Desk::new();
    let report = desk.report(SMALL);
    for (kind, paths) in KEYS {
        for path in *paths {
            let values = at(&report, path);
            assert!(!values.is_empty(), "{path} is empty");
            values
                .iter()
                .for_each(|value| assert!(is(value, kind), "{path}: {value}, not a {kind}"));
        }
    }
    assert_eq!(*one(&report, "limits_hit"), json!([]));
    assert_eq!(one(&report, "certification.norm"), "linf");
    assert_eq!(one(&report, "certification.method"), "auto");
    let targets: Vec<&str> =
        at(&report, "faults.targets[].target").iter().filter_map(|name| name.as_str()).collect();
    let known = [
        "weight_code",
        "weight_scale",
        "norm",
        "lm_head",
        "kv_f32",
        "kv_f16",
        "kv_int8",
        "kv_1bit",
    ];
    assert_eq!(targets, known);
    let schema: Value = serde_json::from_str(&desk.run("schema").ends(0).out).expect("a schema");
    let validator = jsonschema::validator_for(&schema).expect("a valid schema");
    let mut errors = validator.iter_errors(&report).map(|error| error.to_string());
    assert_eq!(errors.next(), None);
    let mut other = report.clone();
    other["certification"]["samples"][0]["verdict"] = json!("probably");
    assert!(!validator.is_valid(&other), "the schema accepts any verdict");
}

#[test]
fn a_quiet_run_prints_nothing_at_all() {
    let desk = Desk::new();
    let told = desk.run("analyze --limit 1 --faults 16 --attack-budget 10 --quiet").ends(0);
    assert_eq!((told.out.as_str(), told.err.as_str()), ("", ""));
}

#[test]
fn a_reader_who_has_seen_enough_is_no_failure() {
    let desk = Desk::new();
    let mut child = Command::new(env!("CARGO_BIN_EXE_bitnet-certify"))
        .args(["analyze", "--limit", "1", "--faults", "16", "--attack-budget", "10"])
        .current_dir(desk.path(""))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program runs");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("the program ends");
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert!(!told.contains("panicked"), "{told}");
}

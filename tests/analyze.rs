//! `analyze` from outside: what it prints, what it writes, and that both follow from the request
//! alone.

mod terminal;

use std::collections::BTreeMap;
use std::env;
use std::process::{Command, Stdio};

use fixtures::embedded;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};
use terminal::{Desk, at, extent, number, numbers, one};

/// A run that takes a moment.
const SMALL: &str = "--limit 3 --faults 90 --attack-budget 60";

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
    assert_eq!(one(&report, "certification.method"), "interval-bound-propagation");
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

/// The kernel tables that this processor runs; those of the environment variable must be among them.
fn tables(desk: &Desk) -> Vec<&'static str> {
    let required = env::var("BITNET_REQUIRE_KERNELS").unwrap_or_default();
    let here = |name: &&'static str| {
        let told = desk.run(&format!("analyze --kernels {name} --dry-run --limit 1"));
        if told.code == 0 {
            return true;
        }
        assert!(!required.split(',').any(|must| must == *name), "{name} is required: {}", told.err);
        told.ends(2).says(&[name, "cannot run it", "scalar"]);
        false
    };
    ["scalar", "avx2", "avx512", "neon"].into_iter().filter(here).collect()
}

fn reproduces(request: &str) {
    let desk = Desk::new();
    let bytes = |how: &str| {
        let told = desk.run(&format!("analyze {request} --reproducible {how} -o r.json -o r.html"));
        (told.ends(0).out, desk.read("r.json"), desk.read("r.html"))
    };
    let expected = bytes("--threads 1 --kernels scalar");
    let tables = tables(&desk);
    assert!(tables.contains(&"scalar"));
    for table in &tables {
        assert!(bytes(&format!("--threads 2 --kernels {table}")) == expected, "{table}");
    }
    for threads in [1, 3, 7] {
        assert!(bytes(&format!("--threads {threads}")) == expected, "{threads} threads");
    }
    assert!(bytes("--mmap") == expected, "mapped files");
}

#[test]
fn no_byte_on_the_digits_depends_on_threads_or_kernels_or_the_day() {
    reproduces("@digits --limit 4 --faults 160 --positions all --kv int8 --scope each");
}

#[test]
fn no_byte_on_the_language_model_depends_on_threads_or_kernels_or_the_day() {
    let few = "--limit 1 --faults 36 --attack-budget 30 --epsilon 1e-6";
    reproduces(&format!("@language {few} --positions all --kv int8"));
}

/// A report without what tells where its parts came from.
fn findings(report: &Value) -> (Value, Value, Value) {
    (report["certification"].clone(), report["faults"].clone(), report["data"]["digest"].clone())
}

#[test]
fn a_checkpoint_folder_gives_what_the_embedded_model_gives() {
    let desk = Desk::new();
    desk.checkpoint("digits", embedded::digits());
    let report = desk.report(SMALL);
    let folder = desk.report(&format!("digits --inputs digits/inputs.safetensors {SMALL}"));
    assert_eq!(findings(&report), findings(&folder));
    assert_eq!(report["model"]["digest"], folder["model"]["digest"]);
    assert_eq!(folder["data"]["kind"], "inputs_embeds");
    let sources = [&report, &folder].map(|report| report["data"]["source"].clone());
    assert_eq!(sources, [json!("embedded"), json!("file")]);
}

#[test]
fn lines_of_ids_text_and_embeddings_are_analysed_side_by_side() {
    let desk = Desk::new();
    desk.checkpoint("model", embedded::language());
    let row = |seed: usize| {
        (0..128).map(|i| ((i * 7 + seed) % 13) as f32 / 6.0 - 1.0).collect::<Vec<_>>()
    };
    let lines = [
        json!({"input_ids": [436, 357, 287, 64], "label": 72, "classes": [72, 282, 5]}),
        json!({"text": "And God said", "label": null}),
        json!({"inputs_embeds": [row(1), row(2)], "classes": [9, 3]}),
        json!({"input_ids": [284, 263], "text": "the ids win"}),
    ];
    let text: Vec<String> = lines.iter().map(ToString::to_string).collect();
    desk.put("samples.jsonl", text.join("\n") + "\n\n");
    let report =
        desk.report("model --inputs samples.jsonl --faults 20 --attack-budget 20 --epsilon 1e-6");
    assert_eq!(report["data"]["kind"], "mixed");
    assert_eq!((number(&report, "data.samples"), number(&report, "data.labelled")), (4.0, 1.0));
    let samples = report["certification"]["samples"].as_array().expect("samples");
    let among = |sample: usize, classes: &[u64]| {
        let prediction = samples[sample]["prediction"].as_u64().expect("a token");
        assert!(classes.contains(&prediction), "sample {sample}: {prediction}");
    };
    among(0, &[72, 282, 5]);
    among(2, &[9, 3]);
    assert_eq!(samples[0]["label"], 72);
    assert_eq!(samples[1]["label"], Value::Null);
    assert_eq!(samples[1]["correct"], Value::Null);
    desk.put("ids.jsonl", json!({"input_ids": [284, 263]}).to_string());
    let ids = desk.report("model --inputs ids.jsonl --no-faults --attack-budget 20 --epsilon 1e-6");
    assert_eq!(ids["certification"]["samples"][0]["margin"], samples[3]["margin"]);
    assert_eq!(ids["certification"]["clean_acc"], Value::Null);
}

fn arrays(parts: &[(&str, Dtype, &[usize], &[u8])]) -> Vec<u8> {
    let views: BTreeMap<&str, TensorView> = parts
        .iter()
        .map(|&(name, dtype, shape, data)| {
            (name, TensorView::new(dtype, shape.to_vec(), data).expect("a sound array"))
        })
        .collect();
    safetensors::serialize(views, None).expect("arrays")
}

#[test]
fn arrays_of_ids_with_labels_are_analysed_like_lines() {
    let desk = Desk::new();
    desk.checkpoint("model", embedded::language());
    let ids: Vec<u8> =
        [436i32, 357, 287, 284, 263, 471].iter().flat_map(|id| id.to_le_bytes()).collect();
    let labels: Vec<u8> = [64i64, -1].iter().flat_map(|id| id.to_le_bytes()).collect();
    let classes: Vec<u8> = [64i64, 7, 9].iter().flat_map(|id| id.to_le_bytes()).collect();
    desk.put(
        "ids.safetensors",
        arrays(&[
            ("input_ids", Dtype::I32, &[2, 3], &ids),
            ("labels", Dtype::I64, &[2], &labels),
            ("classes", Dtype::I64, &[3], &classes),
        ]),
    );
    let line = |ids: [u32; 3], label: Value| json!({"input_ids": ids, "label": label, "classes": [64, 7, 9]});
    let lines = [line([436, 357, 287], json!(64)), line([284, 263, 471], Value::Null)];
    desk.put("ids.jsonl", lines.map(|line| line.to_string()).join("\n"));
    let few = "--faults 20 --attack-budget 20 --epsilon 1e-6";
    let [arrays, lines] = ["ids.safetensors", "ids.jsonl"]
        .map(|file| desk.report(&format!("model --inputs {file} {few}")));
    assert_eq!(findings(&arrays), findings(&lines));
    assert_eq!(arrays["data"]["kind"], "input_ids");
    assert_eq!(number(&arrays, "certification.labelled"), 1.0);
}

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
    let told = desk.run(words).ends(4).says(&["time-limit"]);
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

/// The digits with one byte of packed codes that are all the unused one.
fn with_unused_codes(desk: &Desk) {
    desk.checkpoint("model", embedded::digits());
    let mut file = desk.read("model/model.safetensors");
    let place = extent(&file, "model.layers.1.mlp.down_proj.weight").start + 5;
    file[place] = 0xff;
    desk.put("model/model.safetensors", file);
}

#[test]
fn a_checkpoint_with_the_unused_code_is_refused_unless_its_meaning_is_given() {
    let desk = Desk::new();
    with_unused_codes(&desk);
    let words = format!("model --inputs model/inputs.safetensors {SMALL}");
    for policy in ["", "--unused-code detect"] {
        let told = desk.run(&format!("analyze {words} {policy} -o refused.json")).ends(3);
        told.says(&[
            "model.layers.1.mlp.down_proj.weight",
            "unused code 3",
            "--unused-code deployed",
        ]);
    }
    let margins = |policy: &str| {
        let report = desk.report(&format!("{words} --unused-code {policy}"));
        assert_eq!(one(&report, "faults.unused_code"), policy);
        numbers(&report, "certification.samples[].margin")
    };
    assert_ne!(margins("deployed"), margins("zero"), "the meaning of the code changes nothing");
    assert!(desk.listing().iter().all(|name| !name.contains("refused")));
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

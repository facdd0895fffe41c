//! The verbs beside `analyze`, from where a user stands: words in, text and exit code out.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use assert_cmd::cargo::cargo_bin;
use serde_json::Value;

fn run(words: &[&str]) -> Output {
    Command::new(cargo_bin!("bitnet-certify")).args(words).output().unwrap()
}

fn stdout(words: &[&str]) -> String {
    let output = run(words);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{words:?}: {message}");
    String::from_utf8(output.stdout).unwrap()
}

/// The message of a run that must end with an exit code, with nothing on stdout.
fn refusal(words: &[&str], exit: i32) -> String {
    let output = run(words);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(exit), "{words:?}: {message}");
    assert!(output.stdout.is_empty(), "{words:?}: {}", String::from_utf8_lossy(&output.stdout));
    assert!(!message.contains("panicked"), "{words:?}: {message}");
    message
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn inspect_tells_the_same_as_a_table_and_as_json() {
    let table = stdout(&["inspect", "@language"]);
    let json: Value = serde_json::from_str(&stdout(&["inspect", "@language", "--json"])).unwrap();
    assert!(table.contains(json["digest"].as_str().unwrap()));
    assert!(table.contains(&json["totals"]["ternary_weights"].to_string()));
    assert_eq!(json["model"]["activations"], "per_token_int8");
    assert_eq!(json["tokenizer"], true);
    for tensor in json["tensors"].as_array().unwrap() {
        assert!(table.contains(tensor["name"].as_str().unwrap()), "{tensor}");
    }
}

#[test]
fn a_measurement_names_every_shortcut_and_is_one_object_a_line() {
    let words = ["bench", "faults", "--shape", "language", "--seconds", "0.01", "--json"];
    let text = stdout(&words);
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let named = |name: &str, kind: &str| {
        lines.iter().any(|line| line["method"] == name && line["kind"] == kind)
    };
    for name in ["clean_run", "single_trials", "none", "late_start", "rank_one", "batch", "all"] {
        assert!(named(name, "executed"), "{name}: {text}");
    }
    assert!(named("all", "effective") && named("collapse", "effective"), "{text}");
    for line in &lines {
        assert!(line["trials"].as_u64().unwrap() > 0, "{line}");
        assert!(line["cpu_seconds"].is_number() && line["trials_per_cpu_second"].is_number());
    }
    for by in ["layer", "tokens", "row"] {
        let words = ["bench", "faults", "--shape", "language", "--seconds", "0.01", "--by", by];
        assert!(stdout(&words).contains("all, "), "{by}");
    }
    assert!(refusal(&["bench", "faults", "--seconds", "0"], 2).contains("--seconds"));
}

#[test]
fn a_model_that_is_none_is_refused_by_every_verb_that_reads_one() {
    let place = tempfile::tempdir().unwrap();
    let empty = text(place.path());
    assert!(refusal(&["inspect", empty], 3).contains("config.json"));
    assert!(refusal(&["inspect", "no/such/folder"], 3).contains("no/such/folder"));
    assert!(refusal(&["inspect", "@nobody"], 2).contains("@digits"));
    refusal(&["generate", empty, "--input-ids", "1"], 3);
}

#[test]
fn generated_text_depends_on_no_thread_and_no_kernel_table() {
    let words = ["generate", "@language", "--prompt", "And God said", "--max-tokens", "16"];
    let expected = stdout(&words);
    assert!(expected.ends_with('\n') && expected.trim().len() > 8, "{expected:?}");
    for threads in ["1", "3"] {
        assert_eq!(stdout(&[&words[..], &["--threads", threads]].concat()), expected);
    }
    for table in engine::kernels::available() {
        assert_eq!(stdout(&[&words[..], &["--kernels", table.name]].concat()), expected);
    }
}

#[test]
fn generated_ids_are_greedy_so_a_longer_run_begins_with_a_shorter_one() {
    let ids = |count: &str| {
        let words = ["generate", "@language", "--input-ids", "5,6,7", "--ids", "--max-tokens"];
        stdout(&[&words[..], &[count]].concat())
    };
    let (short, long) = (ids("4"), ids("9"));
    assert_eq!(short.trim().split(',').count(), 4);
    assert!(long.starts_with(&format!("{},", short.trim())), "{short} {long}");
    assert_eq!(ids("0"), "\n");
}

#[test]
fn generation_ends_where_the_model_has_no_further_position() {
    let output =
        run(&["generate", "@language", "--input-ids", "5", "--ids", "--max-tokens", "999"]);
    assert!(output.status.success());
    let ids = String::from_utf8(output.stdout).unwrap();
    assert_eq!(ids.trim().split(',').count(), 127);
    assert!(String::from_utf8_lossy(&output.stderr).contains("128"));
}

#[test]
fn prompts_that_make_no_sense_are_refused() {
    refusal(&["generate", "@language", "--prompt", ""], 2);
    refusal(&["generate", "@language"], 2);
    assert!(refusal(&["generate", "@digits", "--prompt", "one"], 3).contains("tokenizer.json"));
    assert!(refusal(&["generate", "@digits", "--input-ids", "1"], 3).contains("--ids"));
    assert!(refusal(&["generate", "@language", "--input-ids", "512"], 3).contains("0 to 511"));
    let long = vec!["1"; 129].join(",");
    assert!(refusal(&["generate", "@language", "--input-ids", &long], 3).contains("128"));
}

#[test]
fn tables_and_threads_that_cannot_be_had_are_usage_errors() {
    let words = ["generate", "@language", "--prompt", "x"];
    let message = refusal(&[&words[..], &["--kernels", "sse9"]].concat(), 2);
    assert!(message.contains("scalar"), "{message}");
    refusal(&[&words[..], &["--threads", "0"]].concat(), 2);
}

#[test]
fn a_report_is_rendered_to_every_face_and_json_comes_back_as_it_was() {
    let place = tempfile::tempdir().unwrap();
    let report = place.path().join("report.json");
    let words = ["analyze", "--limit", "1", "--no-faults", "--reproducible", "--quiet", "-o"];
    stdout(&[&words[..], &[text(&report)]].concat());
    assert!(!stdout(&["render", text(&report)]).is_empty());
    let faces: Vec<_> = ["again.json", "a.html", "new/a.xml", "a.md", "a.txt"]
        .map(|name| place.path().join(name))
        .into();
    let mut words = vec!["render", text(&report)];
    faces.iter().for_each(|face| words.extend(["-o", text(face)]));
    assert_eq!(stdout(&words), "");
    for face in &faces {
        assert!(fs::metadata(face).unwrap().len() > 0, "{}", face.display());
    }
    assert_eq!(fs::read(&report).unwrap(), fs::read(&faces[0]).unwrap());
    let odd = place.path().join("a.pdf");
    assert!(refusal(&["render", text(&report), "-o", text(&odd)], 2).contains("pdf"));
    refusal(&["render", text(&report), "-o", "/dev/null/a.html"], 5);
}

#[test]
fn what_is_no_report_is_refused_and_nothing_is_written() {
    let place = tempfile::tempdir().unwrap();
    let (report, out) = (place.path().join("report.json"), place.path().join("a.html"));
    for odd in ["", "{", "[]", "{\"schema_version\": \"0.0\"}", "\u{1b}[2J"] {
        fs::write(&report, odd).unwrap();
        refusal(&["render", text(&report), "-o", text(&out)], 3);
    }
    fs::write(&report, [0xff, 0xfe]).unwrap();
    refusal(&["render", text(&report)], 3);
    refusal(&["render", text(place.path())], 3);
    refusal(&["render", "no-such-report.json"], 3);
    assert!(!out.exists());
}

#[test]
fn the_doctor_finds_this_machine_healthy() {
    let said = stdout(&["doctor"]);
    for table in engine::kernels::available() {
        assert!(said.contains(&format!("{} agrees", table.name)), "{said}");
    }
    assert!(said.contains("bca-1") && said.contains("subnormals"), "{said}");
}

#[test]
fn the_program_describes_itself() {
    let schema: Value = serde_json::from_str(&stdout(&["schema"])).unwrap();
    assert!(schema["properties"]["schema_version"].is_object());
    assert!(stdout(&["man"]).contains(".SH \"ANALYZE\""));
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        assert!(stdout(&["completions", shell]).contains("random-checkpoint"), "{shell}");
    }
}

#[test]
fn a_random_checkpoint_is_one_that_every_verb_reads() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("small");
    let words = ["random-checkpoint", "--shape", "small", "--seed", "3", "--out", text(&folder)];
    assert!(stdout(&words).contains("inputs.jsonl"));
    assert!(stdout(&["inspect", text(&folder)]).contains("ternary_packed"));
    let words_of = ["generate", text(&folder), "--input-ids", "1,2", "--ids", "--max-tokens", "3"];
    assert_eq!(stdout(&words_of).trim().split(',').count(), 3);
    assert!(refusal(&words, 5).contains("not empty"));
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
}

#[test]
fn a_reader_that_leaves_early_is_no_failure() {
    let mut child = Command::new(cargo_bin!("bitnet-certify"))
        .args(["schema"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

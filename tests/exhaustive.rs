//! `faults run --exhaustive` and `faults rank` from outside: maps and rankings that are killed,
//! interrupted, shared out, and told.

mod terminal;

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use terminal::{Desk, number, numbers, one};

/// A map that takes about a second.
const MAP: &str = "faults run @digits --exhaustive --limit 12";

fn report(desk: &Desk, words: &str) -> Vec<u8> {
    desk.run(&format!("{words} --quiet --reproducible -o told.json")).ends(0);
    desk.read("told.json")
}

fn rows(desk: &Desk, journal: &str) -> u64 {
    there(desk, journal, "rows")
}

/// How many pieces of a unit a journal has.
fn there(desk: &Desk, journal: &str, unit: &str) -> u64 {
    let told = desk.run(&format!("faults status {journal} --json")).ends(0);
    let status: Value = serde_json::from_str(&told.out).expect("JSON");
    number(&status, unit) as u64
}

/// Starts a map over a journal and ends it by a signal once it has so many bytes; what it said.
fn cut(desk: &Desk, words: &str, journal: &str, bytes: u64, signal: &str) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bitnet-certify"));
    command.current_dir(desk.path("")).args(words.split_whitespace());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    let (path, begun) = (desk.path(journal).join("journal"), Instant::now());
    while fs::metadata(&path).map_or(0, |data| data.len()) < bytes {
        assert!(begun.elapsed() < Duration::from_secs(120), "it does not get on");
        assert!(child.try_wait().expect("a child").is_none(), "it ended early");
        std::thread::sleep(Duration::from_millis(2));
    }
    let sent = Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status();
    assert!(sent.expect("kill runs").success());
    let output = child.wait_with_output().expect("a child that ends");
    (output.status.code(), String::from_utf8(output.stderr).expect("text"))
}

#[test]
#[cfg(unix)]
fn a_map_that_is_killed_or_interrupted_resumes_to_the_bytes_of_one_that_was_not() {
    let desk = Desk::new();
    let expected = report(&desk, MAP);
    assert_eq!(report(&desk, &format!("{MAP} --threads 1")), expected, "one thread");
    cut(&desk, &format!("{MAP} --journal night --quiet --threads 1"), "night", 60_000, "KILL");
    let killed = rows(&desk, "night");
    assert!(killed > 100 && killed < 3072, "killed at {killed}");
    let resume = "faults resume night --quiet --threads 1";
    let (code, said) = cut(&desk, resume, "night", 200_000, "INT");
    assert_eq!(code, Some(130), "{said}");
    assert!(said.contains("of 3072 rows") && said.contains("faults resume night"), "{said}");
    let mut bytes = desk.read("night/journal");
    bytes.truncate(bytes.len() - 17);
    desk.put("night/journal", &bytes);
    let told = desk.run("faults status night").ends(0).out;
    assert!(told.starts_with("not running: ") && told.contains("go on with"), "{told}");
    assert_eq!(report(&desk, "faults resume night"), expected);
    assert_eq!(report(&desk, "faults merge night"), expected, "merged alone");
    assert_eq!(report(&desk, &format!("{MAP} --journal night")), expected, "begun again");
    assert_eq!(rows(&desk, "night"), 3072);
    assert!(desk.run("faults status night").ends(0).out.starts_with("finished: 3072 of 3072 rows"));
}

#[test]
fn shards_of_a_map_merge_to_the_bytes_of_one_run() {
    let desk = Desk::new();
    let run = "faults run @digits --exhaustive --limit 3 --kv int8 --tensors mlp.down_proj";
    let expected = report(&desk, run);
    for shard in 0..3 {
        let words = format!("{run} --shard {shard}/3 --journal s{shard} --quiet -o s{shard}.json");
        desk.run(&words).ends(0);
        let part = desk.json(&format!("s{shard}.json"));
        assert_eq!(one(&part, "limits_hit[].limit"), "shard");
        // What a part says of the whole holds whatever the others find.
        let rate = |key: &str| number(&part, &format!("faults.targets[].sdc_rate{key}"));
        assert!(rate("_low") <= rate("") && rate("_high") > 0.6, "{}", rate("_high"));
    }
    assert_eq!(report(&desk, "faults merge s2 s0 s1"), expected);
    let partial = desk.run("faults merge s0 s2 --quiet -o part.json").ends(4);
    partial.says(&["of 96 rows", "the other shards"]);
    assert_eq!(one(&desk.json("part.json"), "limits_hit[].limit"), "merge");
    // A journal of one kind is never taken for one of the other.
    desk.run("faults run @digits --limit 3 --trials 50 --journal drawn --quiet").ends(0);
    let there = desk.read("s0/journal");
    desk.run("faults merge s0 drawn").ends(3).says(&["another plan"]);
    desk.run("faults merge drawn s0").ends(3).says(&["another plan"]);
    desk.run("faults run @digits --limit 3 --trials 50 --journal s0").ends(3).says(&["another"]);
    desk.run(&format!("{run} --journal drawn")).ends(3).says(&["another plan"]);
    assert_eq!(desk.read("s0/journal"), there, "nothing was cut off");
    desk.run(&format!("{run} --journal s0 --shard 1/3")).ends(3).says(&["another shard"]);
}

#[test]
fn a_report_has_the_map_and_every_face_tells_it() {
    let desk = Desk::new();
    let run = "faults run @digits --exhaustive --limit 10 -o m.json -o m.html -o m.md -o m.txt";
    let told = desk.run(run).ends(0);
    let told = told.says(&["on each of 10 of 10 samples: 92160 faults, 0 of 2560 rows"]);
    assert!(told.out.contains("exactly ("), "{}", told.out);
    let map = desk.json("m.json");
    let at = |key: &str| number(&map, &format!("faults.exhaustive.{key}"));
    assert_eq!((at("bits"), at("pairs"), at("decided")), (9216.0, 92160.0, 92160.0));
    let sdc: f64 = numbers(&map, "faults.exhaustive.tensors[].sdc").iter().sum();
    assert_eq!((sdc, at("sdc") > 0.0), (at("sdc"), true));
    let rate = number(&map, "faults.targets[].sdc_rate");
    assert_eq!(rate, number(&map, "faults.targets[].sdc_rate_high"), "it is exact");
    assert_eq!(rate, at("sdc_share"));
    for (face, word) in [("m.html", "svg class=\"heat\""), ("m.md", "SDC share")] {
        assert!(desk.text(face).contains(word), "{face}");
    }
    let gate = "faults run @digits --exhaustive --limit 10 --quiet --fail-over";
    desk.run(&format!("{gate} weight_code.sdc_rate_high=0.5")).ends(0);
    desk.run(&format!("{gate} weight_code.sdc_rate_high=0")).ends(1).says(&["gate failed"]);
    // A detecting reader: flips to the unused code are seen, and nothing else is.
    desk.run("faults run @digits --exhaustive --limit 1 --unused-code detect --quiet -o u.json")
        .ends(0);
    let seen = numbers(&desk.json("u.json"), "faults.exhaustive.bit_rows[].due");
    assert!(seen[0] > 0.0 && seen[1] == 0.0 && seen[2] > 0.0 && seen[3] == 0.0, "{seen:?}");
}

#[test]
fn a_small_sample_of_the_map_is_the_default_of_large_models() {
    let desk = Desk::new();
    let run = "faults run @language --exhaustive --layers 1 --tensors self_attn.k_proj";
    desk.run(&format!("{run} --limit 1 --quiet -o l.json --shard 0/40")).ends(0);
    let map = desk.json("l.json");
    assert_eq!(number(&map, "faults.exhaustive.samples"), 1.0);
    assert_eq!(number(&map, "faults.exhaustive.tensors[].layer"), 1.0);
}

#[test]
fn words_that_make_no_sense_beside_a_map_are_refused() {
    let desk = Desk::new();
    let refused = |words: &str, parts: &[&str]| {
        desk.run(&format!("faults run @digits {words}")).ends(2).says(parts);
    };
    for option in ["--trials 5", "--seed 1", "--flips 2", "--ber 1e-5", "--until-precision 1%"] {
        refused(&format!("--exhaustive {option}"), &["--exhaustive", "cannot be used with"]);
    }
    refused("--exhaustive --plan p.toml", &["cannot be used with"]);
    refused("--exhaustive --confidence 0.9", &["cannot be used with"]);
    refused("--exhaustive --targets norm", &["weight_code", "drawn"]);
    refused("--exhaustive --tensors down_proj", &["no tensor \"down_proj\""]);
    refused("--exhaustive --layers 2", &["no layer 2"]);
    refused("--tensors mlp.down_proj", &["--exhaustive"]);
    refused("--exhaustive --shard 3/3", &["--shard 3/3"]);
}

#[test]
fn bits_are_ranked_by_what_they_do_and_bounds_are_never_below_it() {
    let desk = Desk::new();
    let run = "faults rank @digits --limit 10 --top 0";
    desk.run(&format!("{run} --quiet -o bits.jsonl")).ends(0);
    let lines: Vec<Value> = (desk.text("bits.jsonl").lines())
        .map(|line| serde_json::from_str(line).expect("a line of JSON"))
        .collect();
    assert_eq!(lines.len(), 9216);
    let key = |line: &Value| {
        let loss = line["max_margin_loss"].as_f64().expect("a loss");
        (line["sdc"].as_u64().expect("a count"), loss)
    };
    assert!(lines.windows(2).all(|pair| key(&pair[0]) >= key(&pair[1])), "in order");
    let mut places: Vec<&str> =
        lines.iter().map(|line| line["physical"].as_str().expect("a place")).collect();
    places.sort_unstable();
    places.dedup();
    assert_eq!(places.len(), 9216, "every bit once");
    let changed: u64 = lines.iter().map(|line| key(line).0).sum();
    desk.run("faults run @digits --exhaustive --limit 10 --quiet -o map.json").ends(0);
    assert_eq!(changed as f64, number(&desk.json("map.json"), "faults.exhaustive.sdc"));
    let bounded: Vec<&Value> =
        lines.iter().filter(|line| line["row_logit_change_bound"].is_f64()).collect();
    assert!(bounded.len() >= 100, "those of the worst rows");
    for line in bounded {
        let value = |key: &str| line[key].as_f64().expect("a number");
        assert!(value("row_logit_change_bound") >= value("max_logit_change"), "{line}");
        let proven = line["row_proven_samples"].as_u64().expect("a count");
        assert!(proven + key(line).0 <= 10, "{line}");
    }
    desk.run(&format!("{run} --threads 1 --quiet -o one.jsonl")).ends(0);
    assert_eq!(desk.read("one.jsonl"), desk.read("bits.jsonl"), "one thread");

    let told = desk.run("faults rank @digits --limit 10 --top 3 -o top.csv").ends(0);
    assert_eq!(desk.text("top.csv").lines().count(), 4);
    let worst = lines[0]["address"].as_str().expect("an address");
    assert!(told.out.contains(worst) && told.out.lines().count() == 6, "{}", told.out);
    let others = "faults rank @digits --limit 2 --targets weight_scale,norm --top 0 -q";
    desk.run(&format!("{others} -o others.jsonl")).ends(0);
    let text = desk.text("others.jsonl");
    let lines = || text.lines().map(|line| serde_json::from_str::<Value>(line).expect("a bit"));
    // A scale of f32 in each of two layers; gains have tensors of their own.
    assert!(lines().filter(|line| line["tensor"] == "mlp.down_proj").count() == 2 * 32);
    assert!(lines().any(|line| line["tensor"] == "norm" && line["layer"].is_null()));
    assert!(lines().all(|line| line["file"] == "model.safetensors" && line["file_bit"].is_u64()));
    let told = desk.run(&others.replace("0 -q", "3")).ends(0);
    assert_eq!(told.out.matches(" in model.safetensors, byte ").count(), 3, "{}", told.out);
    let unknown = desk.run("faults rank @digits --targets kv_f32").ends(2);
    unknown.says(&["kv_f32", "weight_scale"]);
    desk.run("faults rank @digits --top 0").ends(2).says(&["--top 0", "file"]);
    desk.run("faults rank @digits -o bits.txt").ends(2).says(&[".jsonl or .csv"]);
}

#[test]
#[cfg(unix)]
fn a_ranking_that_is_killed_or_interrupted_resumes_to_the_bytes_of_one_that_was_not() {
    let desk = Desk::new();
    let run = "faults rank @digits --limit 12 --top 0";
    let told = |words: &str| {
        desk.run(&format!("{words} --quiet -o bits.jsonl -o bits.csv")).ends(0);
        (desk.read("bits.jsonl"), desk.read("bits.csv"))
    };
    desk.run(&format!("{run} --quiet -o whole.jsonl")).ends(0);
    desk.run(&format!("{run} --quiet -o whole.csv")).ends(0);
    let expected = (desk.read("whole.jsonl"), desk.read("whole.csv"));
    let begun = format!("{run} -o k.csv --journal night --quiet --threads 1");
    cut(&desk, &begun, "night", 300_000, "KILL");
    let killed = there(&desk, "night", "strips");
    assert!((200..3072).contains(&killed), "killed at {killed}");
    assert!(!desk.path("k.csv").exists());
    let resume = "faults resume night --quiet --threads 1";
    let (code, said) = cut(&desk, resume, "night", 1_000_000, "INT");
    assert_eq!(code, Some(130), "{said}");
    assert!(said.contains("of 3072 strips") && said.contains("faults resume night"), "{said}");
    let interrupted = there(&desk, "night", "strips");
    assert!((killed + 1..3072).contains(&interrupted), "{killed} {interrupted}");
    let mut bytes = desk.read("night/journal");
    bytes.truncate(bytes.len() - 17);
    desk.put("night/journal", &bytes);
    let status = desk.run("faults status night").ends(0).out;
    assert!(status.starts_with("not running: ") && status.contains("torn"), "{status}");
    assert!(status.contains("weight_code ranked: "), "{status}");
    assert!(status.contains("go on with: bitnet-certify faults resume night"), "{status}");
    assert_eq!(told("faults resume night"), expected, "resumed");
    assert_eq!(told("faults resume night --kernels scalar"), expected, "told again");
    assert_eq!(told("faults merge night"), expected, "merged alone");
    assert!(desk.run("faults status night").ends(0).out.starts_with("finished: 3072 of 3072"));
    // Another number of bits is no other ranking.
    let words = "faults rank @digits --limit 12 --top 2 -o few.csv --journal night";
    assert_eq!(desk.run(words).ends(0).out.lines().count(), 5);
    let few = desk.text("few.csv");
    assert_eq!(few.lines().count(), 3);
    assert!(String::from_utf8(expected.1).expect("text").starts_with(&few));
    let gone = "faults rank @digits --limit 11 --top 2 --journal night";
    desk.run(gone).ends(3).says(&["another"]);
}

#[test]
fn shards_of_a_ranking_merge_to_the_bytes_of_one_run() {
    let desk = Desk::new();
    let run = "faults rank @digits --limit 3 --layers 1 --tensors self_attn.k_proj,mlp.down_proj \
               --unused-code detect --top 40";
    let expected = desk.run(&format!("{run} -o whole.csv")).ends(0).out;
    for shard in 0..3 {
        let words = format!("{run} --shard {shard}/3 --journal s{shard}");
        assert_eq!(
            desk.run(&words).ends(0).says(&["faults merge"]).out,
            "",
            "a share ranks nothing"
        );
    }
    assert_eq!(desk.run("faults merge s2 s0 s1 -o merged.csv").ends(0).out, expected);
    assert_eq!(desk.read("merged.csv"), desk.read("whole.csv"));
    let partial = desk.run("faults merge s0 s2 -o part.csv").ends(4);
    assert!(partial.says(&["strips", "the other shards"]).out.is_empty());
    assert!(!desk.path("part.csv").exists(), "any bit may be worse than those that are there");
    // A journal of one kind is never taken for one of the other, and has no metrics.
    let map = run.replace("faults rank", "faults run").replace(" --top 40", " --exhaustive");
    desk.run(&format!("{map} --journal map --quiet --positions last")).ends(0);
    desk.run("faults merge s0 map").ends(3).says(&["another plan"]);
    desk.run("faults merge map s0").ends(3).says(&["another plan"]);
    desk.run(&format!("{map} --journal s0")).ends(3).says(&["another"]);
    desk.run(&format!("{run} --journal map")).ends(3).says(&["another plan"]);
    desk.run("faults resume s0 -o r.html").ends(2).says(&[".jsonl or .csv"]);
    let gate = "faults resume s0 --fail-over weight_code.sdc_rate_high=1";
    desk.run(gate).ends(2).says(&["no metrics"]);
    desk.run(&format!("{run} --shard 0/3")).ends(2).says(&["--journal"]);
    desk.run(&format!("{run} --shard 3/3 --journal x")).ends(2).says(&["--shard 3/3"]);
    let both = format!("{run} --shard 0/3 --journal x -o x.csv");
    desk.run(&both).ends(2).says(&["--output", "cannot be used with"]);
}

#[test]
fn what_bounds_prove_masked_is_counted_as_what_is_run() {
    let desk = Desk::new();
    for options in ["", "--unused-code detect", "--unused-code zero --kv int8"] {
        let run = format!("faults run @digits --exhaustive --limit 3 {options}");
        desk.run(&format!("{run} --quiet -o run.json")).ends(0);
        let proven = report(&desk, &format!("{run} --prove"));
        assert_eq!(report(&desk, &format!("{run} --prove --threads 1")), proven);
        let (run, proven) = (desk.json("run.json"), desk.json("told.json"));
        for key in ["tensors[].masked", "tensors[].sdc", "tensors[].due", "bit_rows[].sdc"] {
            let at = |map: &Value| numbers(map, &format!("faults.exhaustive.{key}"));
            assert_eq!(at(&run), at(&proven), "{key} {options}");
        }
        let share = number(&proven, "faults.exhaustive.effort.proven")
            / number(&proven, "faults.exhaustive.decided");
        assert!(share > 0.3, "{share} {options}");
        assert_eq!(number(&run, "faults.exhaustive.effort.proven"), 0.0);
    }
    let told = desk.run("faults run @digits --exhaustive --prove --positions all").ends(2);
    told.says(&["--prove", "--positions last"]);
}

//! `faults` from outside: campaigns that are killed, interrupted, shared out, and begun twice.

mod terminal;

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fixtures::embedded;
use terminal::{Desk, number, numbers, one};

/// Bytes of a record of a journal.
const RECORD: u64 = 64;
/// More bytes than a header here has.
const HEADER: u64 = 2048;
/// A campaign that takes about a second.
const LONG: &str = "faults run @digits --flips 2 --trials 6000";

/// A command that runs until it is stopped.
struct Running(Child);

impl Running {
    fn start(desk: &Desk, words: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bitnet-certify"));
        command.current_dir(desk.path("")).args(words.split_whitespace());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        Self(command.spawn().expect("the program starts"))
    }

    /// Waits until its journal has so many trials.
    fn wait_for(&mut self, desk: &Desk, journal: &str, trials: u64) {
        let path = desk.path(journal).join("journal");
        let begun = Instant::now();
        while fs::metadata(&path).map_or(0, |data| data.len()) < HEADER + trials * RECORD {
            assert!(begun.elapsed() < Duration::from_secs(120), "it does not get on");
            assert!(self.0.try_wait().expect("a child").is_none(), "it ended early");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn kill(mut self) {
        self.0.kill().expect("a child that runs");
        self.0.wait().expect("a child that was killed");
    }

    /// Asks it to end; its exit code and what it said.
    #[cfg(unix)]
    fn ask(self, signal: &str) -> (Option<i32>, String) {
        let id = self.0.id().to_string();
        let sent = Command::new("kill").args([&format!("-{signal}"), &id]).status();
        assert!(sent.expect("kill runs").success());
        let output = self.0.wait_with_output().expect("a child that ends");
        (output.status.code(), String::from_utf8(output.stderr).expect("text"))
    }
}

fn report(desk: &Desk, words: &str) -> Vec<u8> {
    desk.run(&format!("{words} --quiet --reproducible -o told.json")).ends(0);
    desk.read("told.json")
}

fn trials(desk: &Desk, journal: &str) -> u64 {
    let told = desk.run(&format!("faults status {journal} --json")).ends(0);
    let status: serde_json::Value = serde_json::from_str(&told.out).expect("JSON");
    number(&status, "trials") as u64
}

#[test]
fn a_killed_campaign_resumes_to_the_bytes_of_one_that_was_not() {
    let desk = Desk::new();
    let expected = report(&desk, LONG);
    assert_eq!(report(&desk, &format!("{LONG} --threads 1")), expected, "one thread");
    for (round, at) in [200, 1500, 3000].into_iter().enumerate() {
        let words = match round {
            0 => format!("{LONG} --journal night --quiet --threads 1"),
            _ => "faults resume night --quiet --threads 1".to_owned(),
        };
        let mut running = Running::start(&desk, &words);
        running.wait_for(&desk, "night", at);
        running.kill();
        let there = trials(&desk, "night");
        assert!(there >= at && there < 6_000, "killed at {there}");
    }
    // A torn record too, as a lost machine may leave one.
    let mut bytes = desk.read("night/journal");
    bytes.truncate(bytes.len() - 17);
    desk.put("night/journal", &bytes);
    desk.run("faults status night").ends(0);
    let told = desk.run("faults resume night --reproducible -o told.json").ends(0);
    told.says(&["the last 47 bytes of the journal are torn and do not count"]);
    assert_eq!(desk.read("told.json"), expected);
    assert_eq!(report(&desk, "faults resume night"), expected, "a finished one is told again");
    assert_eq!(report(&desk, "faults merge night"), expected, "and merged alone");
    assert_eq!(report(&desk, &format!("{LONG} --journal night")), expected, "and begun again");
    assert_eq!(trials(&desk, "night"), 6_000);
}

#[test]
#[cfg(unix)]
fn a_signal_lets_running_trials_finish_and_says_how_to_go_on() {
    let desk = Desk::new();
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let mut running = Running::start(&desk, &format!("{LONG}00 --journal {signal}"));
        running.wait_for(&desk, signal, 300);
        let (exit, said) = running.ask(signal);
        assert_eq!(exit, Some(code), "{said}");
        assert!(said.contains(&format!("bitnet-certify faults resume {signal}")), "{said}");
        let bytes = desk.read(&format!("{signal}/journal")).len() as u64;
        assert!(trials(&desk, signal) * RECORD <= bytes);
        let told = desk.run(&format!("faults status {signal}")).ends(0);
        assert!(
            told.out.contains("not running: ") && told.out.contains("go on with"),
            "{}",
            told.out
        );
    }
    let running = Running::start(&desk, &format!("{LONG}00"));
    std::thread::sleep(Duration::from_millis(500));
    let (exit, said) = running.ask("INT");
    assert_eq!(exit, Some(130), "{said}");
    assert!(said.contains("without one nothing is kept"), "{said}");
}

#[test]
fn shards_merge_to_the_bytes_of_one_run() {
    let desk = Desk::new();
    let run = "faults run @digits --trials 1000 --seed 5 --kv int8";
    let expected = report(&desk, run);
    for shard in 0..3 {
        let words = format!("{run} --shard {shard}/3 --journal s{shard} --quiet -o s{shard}.json");
        desk.run(&words).ends(0);
        let part = desk.json(&format!("s{shard}.json"));
        assert_eq!(one(&part, "limits_hit[].limit"), "shard");
        assert_eq!(number(&part, "faults.trials") as u64, trials(&desk, &format!("s{shard}")));
    }
    assert_eq!(report(&desk, "faults merge s2 s0 s1"), expected);
    assert_eq!(report(&desk, "faults merge s0 s1 s1 s2 s0"), expected, "twice counts once");
    let partial = desk.run("faults merge s0 s2 --quiet -o part.json").ends(4);
    partial.says(&["of 1000 trials", "the other shards"]);
    assert_eq!(one(&desk.json("part.json"), "limits_hit[].limit"), "merge");
    desk.run("faults run @digits --trials 1000 --seed 6 --journal other --shard 0/3 -q").ends(0);
    desk.run("faults merge s0 other").ends(3).says(&["another plan", "seed = 5"]);
}

#[test]
fn a_journal_of_something_else_is_refused_with_the_reason() {
    let desk = Desk::new();
    desk.run("faults run @digits --trials 90 --journal j --quiet").ends(0);
    let refused = |words: &str, parts: &[&str]| {
        desk.run(&format!("faults run {words} --journal j")).ends(3).says(parts);
    };
    refused("@digits-six --trials 90", &["another model"]);
    refused("@digits --trials 90 --limit 9", &["another samples"]);
    refused("@digits --trials 91", &["another plan", "trials = 90", "trials = 91"]);
    refused("@digits --trials 90 --flips 2", &["flips = 1", "flips = 2"]);
    refused("@digits --trials 90 --shard 0/2", &["another number of shards"]);
    desk.run("faults resume j --model @digits-six").ends(3).says(&["another model"]);
    desk.run("faults resume nothing").ends(3).says(&["nothing"]);
    desk.run("faults status nothing").ends(3).says(&["nothing"]);
    assert!(!desk.path("nothing").exists());
}

#[test]
fn a_checkpoint_that_moved_is_found_again_and_must_be_the_same() {
    let desk = Desk::new();
    let digits = embedded::all().iter().find(|c| c.name == "digits").copied().expect("digits");
    desk.checkpoint("here", digits);
    let run = "faults run here --inputs here/inputs.safetensors --trials 90 --journal j --quiet";
    desk.run(run).ends(0);
    fs::rename(desk.path("here"), desk.path("there")).expect("a rename");
    desk.run("faults resume j").ends(3).says(&["here"]);
    let moved = "faults resume j --model there --inputs there/inputs.safetensors --quiet";
    desk.run(moved).ends(0);
}

#[test]
fn two_writers_are_refused() {
    let desk = Desk::new();
    let mut running = Running::start(&desk, &format!("{LONG}00 --journal busy --quiet"));
    running.wait_for(&desk, "busy", 100);
    desk.run("faults resume busy").ends(5).says(&["another process writes this journal"]);
    desk.run(&format!("{LONG}00 --journal busy")).ends(5).says(&["another process"]);
    let told = desk.run("faults status busy").ends(0);
    assert!(told.out.starts_with("running: "), "{}", told.out);
    running.kill();
    let mut again = Running::start(&desk, "faults resume busy --quiet");
    let there = trials(&desk, "busy");
    again.wait_for(&desk, "busy", there + 200);
    again.kill();
}

#[test]
fn counts_are_those_of_analyze_where_the_plan_is_the_same() {
    let desk = Desk::new();
    let analyze = desk.report("@digits --limit 5 --faults 180 --no-certify --seed 3");
    desk.run("faults run @digits --limit 5 --trials 180 --seed 3 --quiet -o f.json").ends(0);
    let faults = desk.json("f.json");
    for key in ["targets", "layers", "bits", "worst", "trials", "flips"] {
        assert_eq!(analyze["faults"][key], faults["faults"][key], "{key}");
    }
    assert!(faults["certification"].is_null());
    let plan = one(&faults, "faults.plan").as_str().expect("a plan");
    desk.put("plan.toml", plan);
    desk.run("faults run @digits --limit 5 --plan plan.toml --quiet -o g.json").ends(0);
    assert_eq!(desk.json("g.json")["faults"], faults["faults"], "a report holds its plan");
}

/// A fault of every model.
const PLAN: &str = "\
seed = 4
trials = 480
kv = \"int8\"

[[fault]]
target = \"weight_code\"
model = \"adjacent\"
bits = 3
weight = 2
[[fault]]
target = \"weight_code\"
model = \"byte\"
layers = [1]
tensors = [\"mlp.down_proj\"]
[[fault]]
target = \"kv_int8\"
model = \"word\"
bits = 32
flips = 2
[[fault]]
target = \"weight_code\"
model = \"row\"
row_bits = 128
[[fault]]
target = \"weight_code\"
model = \"column\"
row_bits = 128
rows = 16
[[fault]]
target = \"norm\"
model = \"stuck-at-1\"
[[fault]]
target = \"lm_head\"
model = \"one-way\"
flips = 4
[[fault]]
target = \"weight_code\"
model = \"row-hammer\"
page_bytes = 256
[[fault]]
target = \"weight_code\"
model = \"poisson\"
ber = 1e-4
";

#[test]
fn a_plan_of_every_model_is_run_and_told() {
    let desk = Desk::new();
    desk.put("plan.toml", PLAN);
    let run = "faults run @digits --plan plan.toml";
    let expected = report(&desk, run);
    let told = desk.json("told.json");
    let strata = told["faults"]["strata"].as_array().expect("strata");
    let trials: Vec<u64> = strata.iter().map(|row| row["trials"].as_u64().unwrap()).collect();
    assert_eq!(trials, [96, 48, 48, 48, 48, 48, 48, 48, 48], "two turns of the first of ten");
    assert_eq!(strata[0]["fault"], "weight_code adjacent bits=3 weight=2");
    assert_eq!(number(&told, "faults.flips"), 0.0);
    for shard in 0..2 {
        desk.run(&format!("{run} --shard {shard}/2 --journal s{shard} --quiet")).ends(0);
    }
    assert_eq!(report(&desk, "faults merge s0 s1"), expected);
    assert_eq!(desk.run("faults status s0").ends(0).out.matches("24 trials").count(), 8);
    desk.run(&format!("{run} --trials 20 --seed 9 -o r.html -o r.md -o r.txt -o r.xml")).ends(0);
    for face in ["r.html", "r.md"] {
        assert!(desk.text(face).contains("adjacent bits"), "{face}");
    }
    desk.run(&format!("{run} --flips 2")).ends(2).says(&["--targets, --flips", "[[fault]]"]);
    desk.put("plan.toml", PLAN.replace("bits = 3", "bit = 3"));
    desk.run(run).ends(2).says(&["plan.toml", "line 8", "unknown field `bit`"]);
    desk.put("plan.toml", PLAN.replace("bits = 3", "bits = 9"));
    desk.run(run).ends(2).says(&["plan.toml", "fault 0: bits = 9: expected 2 to 8"]);
    desk.put("plan.toml", PLAN.replace("layers = [1]", "layers = [2]"));
    desk.run(run).ends(2).says(&["fault 1", "0 bits"]);
    desk.put("plan.toml", "kv = \"int4\"");
    desk.run(run).ends(2).says(&["kv = \"int4\"", "f32, f16, int8 or 1bit"]);
}

#[test]
fn a_sweep_of_bit_error_rates_is_a_curve_of_accuracy() {
    let desk = Desk::new();
    desk.run("faults run @digits --ber 1e-5..0.1 --trials 1300 --quiet -o b.json").ends(0);
    let told = desk.json("b.json");
    let rates = numbers(&told, "faults.strata[].bit_error_rate");
    let steps = [1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1];
    assert_eq!(rates, steps);
    let right = numbers(&told, "faults.strata[].accuracy");
    let clean = numbers(&told, "faults.strata[].clean_correct");
    assert!(clean.iter().all(|&clean| clean >= 85.0), "a trained model: {clean:?}");
    assert!(right[0] >= 0.85 && right[12] < 0.5, "it is lost on the way: {right:?}");
    let factor = numbers(&told, "faults.strata[].perplexity_factor");
    assert!(factor[0] < 1.2 && factor[12] > 2.0, "{factor:?}");
    let ends = ["low", "high"]
        .map(|end| numbers(&told, &format!("faults.strata[].perplexity_factor_capped_{end}")));
    let capped = numbers(&told, "faults.strata[].perplexity_factor_capped");
    for (low, (high, factor)) in ends[0].iter().zip(ends[1].iter().zip(&capped)) {
        assert!(low < factor && factor < high, "{low} {factor} {high}");
    }
    assert!(ends[1][0] < 2.0 && ends[0][12] > ends[0][0], "{ends:?}");
    // 9216 bits: the last rate alone lets 922 a trial fall, give or take three of a hundred.
    let flips = numbers(&told, "faults.strata[].flips");
    assert!((flips[12] / 92_160.0 - 1.0).abs() < 0.03, "{flips:?}");
    for words in ["1e-3..1e-6", "0", "0.2", "1e-3,1e-3", "-1e-3..1", "x", ""] {
        let told = desk.words(&["faults", "run", "@digits", &format!("--ber={words}")]);
        told.ends(2).says(&["--ber", "in order"]);
    }
}

#[test]
fn a_gate_holds_the_pessimistic_end_of_a_campaign() {
    let desk = Desk::new();
    let run = "faults run @digits --targets weight_code --trials 400 --journal j --quiet";
    desk.run(&format!("{run} --fail-over weight_code.sdc_rate_high=0.05")).ends(0);
    let resume = "faults resume j --quiet";
    let strict = format!("{resume} --fail-over weight_code.sdc_rate_high=1e-4");
    desk.run(&strict).ends(1).says(&["gate failed: weight_code.sdc_rate_high"]);
    desk.run(&format!("{resume} --fail-over sdc")).ends(2).says(&["--fail-over"]);
}

#[test]
fn a_campaign_ends_at_its_precision_wherever_it_was_interrupted() {
    let desk = Desk::new();
    let words =
        "faults run @digits --targets weight_code,norm --until-precision 2% --confidence 0.95";
    let expected = report(&desk, words);
    let told: serde_json::Value = serde_json::from_slice(&expected).expect("JSON");
    let until = &told["faults"]["until_precision"];
    assert_eq!(until["reached"], true, "{until}");
    assert_eq!(told["limits_hit"].as_array().map(Vec::len), Some(0));
    let trials = number(&told, "faults.trials") as u64;
    assert!((1024..20_000).contains(&trials) && trials.is_multiple_of(1024), "{trials}");
    for (rate, fixed) in numbers(until, "rates[].sdc_rate_high")
        .into_iter()
        .zip(numbers(&told, "faults.strata[].sdc_rate_high"))
    {
        assert!(rate > fixed, "what holds at all times is wider: {rate} {fixed}");
    }
    assert_eq!(report(&desk, &format!("{words} --threads 1")), expected, "one thread");
    // A journal that has more trials than are needed, out of a run to a finer precision.
    let finer = words.replace("2%", "1%");
    desk.run(&format!("{finer} --journal night --quiet")).ends(0);
    assert_eq!(report(&desk, &format!("{words} --journal night")), expected, "beyond the end");
    desk.run("faults merge night").ends(2).says(&["one journal", "resume"]);
    let few = report(&desk, &format!("{words} --trials 100"));
    let few: serde_json::Value = serde_json::from_slice(&few).expect("JSON");
    assert_eq!(few["faults"]["until_precision"]["reached"], false);
    let shown = desk.run(words).ends(0);
    assert!(shown.out.contains("2 % reached; whenever it ended"), "{}", shown.out);
    let gated = format!("{words} --fail-over weight_code.sdc_rate_high=0.5");
    desk.run(&gated).ends(2).says(&["--until-precision", "fixed number of trials"]);
    desk.run(&format!("{words} --shard 0/2")).ends(2).says(&["--shard"]);
    // One more nine than the faults can share.
    let sure = "faults run @digits --until-precision 1% --confidence 0.999999999999998";
    desk.run(&format!("{sure} --journal sure")).ends(2).says(&["confidence", "8 faults"]);
    assert!(!desk.path("sure").exists());
    desk.run("faults run @digits --until-precision 90%").ends(2).says(&["90%", "half-width"]);
}

#[test]
fn words_that_make_no_sense_are_refused() {
    let desk = Desk::new();
    let refused = |words: &str, parts: &[&str]| {
        desk.run(&format!("faults run @digits {words}")).ends(2).says(parts);
    };
    refused("--shard 3/3", &["--shard 3/3", "I below N"]);
    refused("--shard 1", &["--shard 1"]);
    refused("--trials 0", &["trials 0", "1 to"]);
    refused("--flips 0", &["--flips 0"]);
    refused("--confidence 1", &["confidence 1"]);
    refused("--targets weight_code,weights", &["weights", "weight_code"]);
    refused("--targets norm,norm", &["norm"]);
    refused("-o report.pdf", &["report.pdf"]);
    desk.run("faults run @nothing").ends(2).says(&["no embedded model"]);
    desk.run("faults run elsewhere --inputs x.jsonl").ends(3).says(&["elsewhere"]);
}

//! `faults run --generate` from outside: texts under faults, whoever tells them.

mod terminal;

use terminal::{Desk, at, number, numbers, one};

const RUN: &str = "faults run @language --limit 3 --trials 32 --generate 9";

fn report(desk: &Desk, words: &str) -> Vec<u8> {
    desk.run(&format!("{words} --quiet --reproducible -o told.json")).ends(0);
    desk.read("told.json")
}

#[test]
fn texts_are_the_same_on_any_threads_resumed_and_merged() {
    let desk = Desk::new();
    let expected = report(&desk, &format!("{RUN} --threads 2"));
    let told = desk.json("told.json");
    assert_eq!(number(&told, "faults.generation.tokens"), 9.0);
    let path = |key: &str| format!("faults.generation.targets[].{key}");
    let sum = |key: &str| numbers(&told, &path(key)).iter().sum::<f64>();
    assert_eq!((numbers(&told, &path("trials")).len(), sum("trials")), (8, 32.0));
    assert!(sum("diverged") >= 3.0 && sum("diverged") < 28.0, "{}", sum("diverged"));
    assert_eq!(report(&desk, &format!("{RUN} --threads 1 --kernels scalar")), expected);
    assert_eq!(report(&desk, &format!("{RUN} --journal night --threads 1")), expected);
    // A journal that lost its second half.
    let mut bytes = desk.read("night/journal");
    bytes.truncate(bytes.len() - 16 * 64);
    desk.put("night/journal", &bytes);
    assert_eq!(report(&desk, "faults resume night"), expected);
    for shard in 0..2 {
        let words = format!("{RUN} --shard {shard}/2 --journal s{shard} --quiet -o part.json");
        desk.run(&words).ends(0);
        assert_eq!(numbers(&desk.json("part.json"), &path("trials")), [2.0; 8]);
    }
    assert_eq!(report(&desk, "faults merge s1 s0"), expected);
    let other = RUN.replace("--generate 9", "--generate 8");
    desk.run(&format!("{other} --shard 1/2 --journal other --quiet")).ends(0);
    desk.run("faults merge s0 other").ends(3).says(&["texts of different lengths", "--generate"]);
}

#[test]
fn trials_are_what_they_are_without_texts_and_a_journal_takes_either() {
    let desk = Desk::new();
    let texts = report(&desk, RUN);
    let mut told = desk.json("told.json");
    let bare = RUN.replace(" --generate 9", "");
    report(&desk, &format!("{bare} --journal night"));
    let faults = told["faults"].as_object_mut().expect("faults");
    assert!(faults.remove("generation").is_some());
    assert_eq!(told, desk.json("told.json"));
    assert_eq!(report(&desk, &format!("{RUN} --journal night")), texts);
    desk.run(&format!("{RUN} --quiet -o t.txt -o t.md -o t.html")).ends(0);
    for (name, words) in [
        ("t.txt", "texts of 9 tokens"),
        ("t.md", "Texts of 9 tokens"),
        ("t.html", "continues its sample greedily by 9 tokens"),
    ] {
        assert!(desk.text(name).contains(words), "{name}");
    }
}

#[test]
fn a_first_token_that_differs_is_the_decision_that_differs() {
    let desk = Desk::new();
    // One token, decided over the whole vocabulary: its text is the decision itself.
    let words = "faults run @language --limit 4 --trials 120 --flips 3 --generate 1";
    report(&desk, words);
    let told = desk.json("told.json");
    let target = |key: &str| numbers(&told, &format!("faults.targets[].{key}"));
    let changed: Vec<f64> =
        target("sdc").iter().zip(target("due")).map(|(sdc, due)| sdc + due).collect();
    assert_eq!(numbers(&told, "faults.generation.targets[].diverged"), changed);
    assert_eq!(numbers(&told, "faults.generation.targets[].broken_off"), target("due"));
    assert!(changed.iter().sum::<f64>() > 0.0);
    assert_eq!(at(&told, "faults.generation.targets[].recovered").len(), 8);
    assert_eq!(one(&told, "faults.flips").as_u64(), Some(3));
}

#[test]
fn what_has_no_texts_is_refused_before_any_trial() {
    let desk = Desk::new();
    let refused = |words: &str, code, parts: &[&str]| {
        desk.run(&format!("faults run {words} --journal j")).ends(code).says(parts);
        assert!(!desk.path("j").exists());
    };
    refused("@digits --generate 4", 3, &["sample 0 is embedded rows", "input_ids or text"]);
    let beyond = ["97 more are beyond the 128 positions", "--generate 4", "shorter samples"];
    refused("@language --generate 97", 3, &beyond);
    refused("@language --generate 0", 2, &["--generate 0", "1 to 4096"]);
    refused("@language --generate 4097", 2, &["--generate 4097", "1 to 4096"]);
    refused("@language --generate 4 --exhaustive", 2, &["--generate", "--exhaustive"]);
}

/// Words of two codes, struck by more than they correct, and bits without a code.
const GUARDED: &str = "
trials = 240
[[fault]]
target = \"weight_code\"
model = \"word\"
bits = 64
flips = 17
protection = \"secded\"
[[fault]]
target = \"weight_code\"
flips = 8
[[fault]]
target = \"weight_code\"
model = \"word\"
bits = 64
flips = 1
protection = \"secded\"
";

#[test]
fn texts_behind_memory_codes_are_told_raw_and_residual() {
    let desk = Desk::new();
    desk.put("plan.toml", GUARDED);
    let run = "faults run @language --limit 6 --plan plan.toml --generate 40";
    let expected = report(&desk, &format!("{run} --threads 2"));
    let told = desk.json("told.json");
    let of = |path: &str| numbers(&told, &format!("faults.generation.behind[].{path}"));
    let strata = at(&told, "faults.strata[]");
    let flagged = [0, 2].map(|row| number(strata[row], "behind.detected"));
    assert_eq!(of("trials"), [80.0, 80.0]);
    assert_eq!(of("detected"), flagged, "a text for each that is not detected");
    assert_eq!(of("raw.texts"), [80.0, 80.0]);
    let residual = of("residual.texts");
    assert_eq!(residual, [80.0 - of("detected")[0], 80.0]);
    assert!(of("detected")[0] > 0.0 && of("residual.diverged")[0] > 0.0);
    // One flip of a word is corrected: with the code no text changes, without it some do.
    assert_eq!(of("residual.diverged")[1], 0.0);
    assert!(of("raw.diverged")[1] > 0.0);
    let target = |key: &str| number(&told, &format!("faults.generation.targets[].{key}"));
    assert_eq!((target("trials"), target("detected")), (240.0, of("detected")[0]));
    assert!(target("diverged") > of("residual.diverged")[0], "those without a code");
    let texts = 240.0 - target("detected");
    assert_eq!(target("diverged_rate"), target("diverged") / texts);
    assert_eq!(target("unrecovered_rate"), (target("diverged") - target("recovered")) / texts);
    let decisions = |desk: &Desk| {
        let mut told = desk.json("told.json");
        let faults = told["faults"].as_object_mut().expect("faults");
        faults.remove("generation");
        told
    };
    let with = decisions(&desk);
    report(&desk, &run.replace(" --generate 40", ""));
    assert_eq!(decisions(&desk), with, "trials are what they are without texts");
    assert_eq!(report(&desk, &format!("{run} --journal night --threads 1")), expected);
    let mut bytes = desk.read("night/journal");
    bytes.truncate(bytes.len() - 70 * 64);
    desk.put("night/journal", &bytes);
    assert_eq!(report(&desk, "faults resume night --kernels scalar"), expected);
    for shard in 0..2 {
        desk.run(&format!("{run} --shard {shard}/2 --journal s{shard} --quiet")).ends(0);
    }
    assert_eq!(report(&desk, "faults merge s1 s0"), expected);
    desk.run(&format!("{run} --quiet -o t.txt -o t.md -o t.html")).ends(0);
    for (name, words) in [
        ("t.txt", "texts behind codes"),
        ("t.md", "Texts behind memory codes: "),
        ("t.html", "Texts behind memory codes, and of the same flips without"),
    ] {
        assert!(desk.text(name).contains(words), "{name}");
    }
}

#[test]
fn gates_judge_texts_and_junit_says_which_target_broke_them() {
    let desk = Desk::new();
    let run = RUN.replace("--trials 32", "--trials 16 --flips 9 --targets weight_code,norm");
    report(&desk, &format!("{run} --journal night"));
    let told = desk.json("told.json");
    let of = |key: &str| numbers(&told, &format!("faults.generation.targets[].{key}"));
    let (rates, highs) = (of("diverged_rate"), of("diverged_rate_high"));
    let lasting = of("unrecovered_rate_high");
    let worst = |ends: &[f64]| ends.iter().copied().max_by(f64::total_cmp).expect("targets");
    let gate = |words: String| desk.run(&format!("faults resume night --quiet {words}"));
    gate(format!("--fail-over text_diverged_rate_high={}", worst(&highs))).ends(0);
    gate(format!("--fail-over text_unrecovered_rate={}", worst(&lasting))).ends(0);
    let (rate, high) = (rates[1], highs[1]);
    assert!(rate > 0.0 && rate < high, "{rates:?}");
    // The estimate itself is no pass: the upper end is compared.
    let failed = gate(format!("--fail-over norm.text_diverged_rate={rate} -o j.xml"));
    failed.ends(1).says(&["gate failed: norm.text_diverged_rate"]);
    let xml = desk.text("j.xml");
    assert_eq!(xml.matches("<failure").count(), 2, "the gate and its target: {xml}");
    gate(format!("--fail-under text_unrecovered_rate={}", 1.0)).ends(1);
    // Without texts there is nothing to judge, so nothing passes.
    let bare = run.replace(" --generate 9", "");
    let over = "--fail-over text_diverged_rate_high=1";
    desk.run(&format!("{bare} --quiet {over}")).ends(1).says(&["text_diverged_rate_high"]);
    desk.run(&format!("{run} --fail-over text_rate=1")).ends(2).says(&["text_diverged_rate"]);
    desk.run(&format!("{run} --fail-over norm.text_unrecovered=1")).ends(2);
}

//! Command lines that make no sense: exit 2, before anything is loaded.

use crate::terminal::Desk;
use crate::{refused, refused_words};

#[test]
fn an_epsilon_is_a_number_that_is_finite_in_f32_and_not_negative() {
    let desk = Desk::new();
    for (text, why) in [
        ("nan", "finite in f32"),
        ("inf", "finite in f32"),
        ("1e39", "finite in f32"),
        ("1e999", "finite in f32"),
        ("-inf", "finite in f32"),
        ("-1", "not negative"),
        ("-0", "not negative"),
        ("-0.01", "not negative"),
        ("", "a number"),
        ("1/255", "a number"),
        ("0,01", "a number"),
        ("--quiet", "a number"),
    ] {
        let quoted = format!("--epsilon {text:?}");
        refused_words(&desk, &["analyze", "--epsilon", text], 2, &[&quoted, why, "--epsilon 0.01"]);
    }
}

#[test]
fn options_with_values_that_make_no_sense_are_refused_with_what_was_expected() {
    let desk = Desk::new();
    for (words, parts) in [
        ("--scope some", ["--scope \"some\"", "all, each or a 0-based position"]),
        ("--scope -1", ["--scope \"-1\"", "all, each or a 0-based position"]),
        ("--threads 0", ["--threads 0", "expected 1 to"]),
        ("--threads 99999", ["--threads 99999", "expected 1 to"]),
        ("--kernels nosuch", ["--kernels \"nosuch\"", "one that this processor has: scalar"]),
        ("--faults 0", ["--faults 0", "at least 1"]),
        ("--flips 0", ["--flips 0", "at least 1"]),
        ("--confidence 1", ["--confidence 1", "between 0 and 1"]),
        ("--confidence 1e-300", ["confidence is", "expected 1e-15 to 1 - 1e-15"]),
        ("--confidence 0.9999999999999999", ["confidence is", "expected 1e-15 to 1 - 1e-15"]),
        ("--confidence nan", ["--confidence NaN", "between 0 and 1"]),
        ("--time-limit soon", ["--time-limit \"soon\"", "90s, 15m or 2h"]),
        ("--max-memory lots", ["--max-memory \"lots\"", "512MB or 6GB"]),
        ("--norm l1", ["'l1'", "[possible values: linf, l2]"]),
        ("--method magic", ["'magic'", "interval-bound-propagation"]),
        ("--kv int4", ["'int4'", "int8, 1bit"]),
        ("--positions some", ["'some'", "last, all"]),
        ("--unused-code maybe", ["'maybe'", "deployed, zero, detect"]),
        ("--seed x", ["'x'", "--seed"]),
        ("--classes 1,x", ["'x'", "--classes"]),
        ("--nosuch", ["--nosuch", "Usage"]),
        ("-o report.doc", ["report.doc", ".json"]),
        ("-o report", ["report", ".json"]),
        ("--fail-under cert_acc", ["--fail-under", "NAME=VALUE"]),
        ("--fail-over nosuch=1", ["unknown metric \"nosuch\"", "cert_acc"]),
    ] {
        refused(&desk, &format!("analyze {words}"), 2, &parts);
    }
}

#[test]
fn a_model_is_a_folder_or_one_of_the_embedded_names() {
    let desk = Desk::new();
    for verb in ["analyze", "inspect", "generate --prompt x", "flip --bit model.norm.weight[0].1"] {
        let parts = ["no embedded model \"@nosuch\"", "@digits", "@language"];
        refused(&desk, &format!("{verb} @nosuch"), 2, &parts);
        let missing = format!("{verb} nosuch");
        refused(&desk, &missing, 3, &["nosuch", "No such file"]);
    }
}

#[test]
fn words_behind_a_name_that_say_nothing_of_such_a_model_are_refused() {
    let desk = Desk::new();
    let says = ["digits/config.json: i2s is there", "only GGUF files have I2_S"];
    refused(&desk, "inspect @digits,i2s=64", 3, &says);
    refused(&desk, "inspect none.gguf,i2s=64", 3, &["there is no none.gguf"]);
    for word in ["i2s=32", "i2s", "", "activations=int2", "head=int4", "i2s=64,x"] {
        let last = word.rsplit(',').next().unwrap_or_default();
        let says = [&format!("none.gguf: {last:?} says nothing of a model"), "i2s=64"];
        refused(&desk, &format!("inspect none.gguf,{word}"), 2, &says);
    }
    desk.checkpoint("model", fixtures::embedded::digits());
    for (word, name) in [("activations=none", "activations"), ("i2s=64", "i2s")] {
        let says = [name, "expected", "only GGUF files"];
        refused(&desk, &format!("inspect model,{word}"), 3, &says);
    }
}

#[test]
fn a_checkpoint_without_samples_is_a_usage_error_that_shows_a_line() {
    let desk = Desk::new();
    desk.checkpoint("model", fixtures::embedded::digits());
    refused(&desk, "analyze model", 2, &["needs samples", "--inputs FILE.jsonl", "input_ids"]);
    refused(&desk, "flip model --bit model.norm.weight[0].1", 2, &["needs samples", "--inputs"]);
}

#[test]
fn a_position_behind_a_sample_is_refused_with_the_length_of_the_sample() {
    let desk = Desk::new();
    let parts = ["--scope 9:", "sample 0 has 9 tokens", "expected 0 to 8"];
    refused(&desk, "analyze --scope 9 --limit 2", 3, &parts);
}

#[test]
fn classes_outside_the_vocabulary_are_refused() {
    let desk = Desk::new();
    let parts = ["class 10 lies outside the vocabulary", "expected 0 to 9"];
    refused(&desk, "analyze --classes 1,10 --limit 2", 3, &parts);
    refused(&desk, "analyze --classes 1 --limit 2", 3, &["classes", "two or more different"]);
}

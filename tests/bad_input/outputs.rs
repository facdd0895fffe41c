//! Places that cannot be written: exit 5, found before the work starts.

use std::fs::OpenOptions;
use std::process::Command;

use fixtures::embedded;

use crate::refused;
use crate::terminal::Desk;

#[test]
fn a_report_that_cannot_be_written_is_found_before_the_model_is_read() {
    let desk = Desk::new();
    desk.put("file", "x");
    std::fs::create_dir_all(desk.path("folder.json")).expect("a folder");
    std::os::unix::fs::symlink("nowhere", desk.path("dangling")).expect("a link");
    for (place, why) in [
        ("file/r.json", "file is no folder"),
        ("file/deep/r.html", "file is no folder"),
        ("folder.json", "it is a folder"),
        ("dangling/r.json", "dangling is no folder"),
    ] {
        // There is no such model: had the work begun, the exit code would be 3.
        let words = format!("analyze nosuch -o fine.json -o {place}");
        refused(&desk, &words, 5, &[place, "cannot be written", why, "-o FILE"]);
    }
}

#[test]
fn the_folder_of_the_default_reports_is_not_made_for_a_run_that_fails() {
    let desk = Desk::new();
    refused(&desk, "analyze nosuch", 3, &["nosuch"]);
    desk.put("bitnet-certify-report", "in the way");
    refused(&desk, "analyze --limit 1", 5, &["bitnet-certify-report", "is no folder"]);
}

#[test]
fn a_run_that_fails_leaves_the_report_of_an_earlier_one_alone() {
    let desk = Desk::new();
    desk.put("r.json", "an earlier report");
    refused(&desk, "analyze nosuch -o r.json", 3, &["nosuch"]);
    refused(&desk, "analyze --limit 2 --time-limit 0s -o r.json", 4, &["time limit"]);
    assert_eq!(desk.text("r.json"), "an earlier report");
}

#[test]
fn a_patched_checkpoint_never_replaces_anything() {
    let desk = Desk::new();
    desk.checkpoint("model", embedded::digits());
    desk.put("file", "x");
    let flip = "flip model --bit model.norm.weight[0].1 --write";
    refused(&desk, &format!("{flip} model"), 5, &["model", "exists already", "a new folder"]);
    refused(&desk, &format!("{flip} file"), 5, &["file", "exists already"]);
    refused(&desk, &format!("{flip} file/out"), 5, &["file/out", "cannot be written"]);
}

#[test]
fn a_flip_that_fails_writes_no_checkpoint() {
    let desk = Desk::new();
    desk.put("bad.jsonl", "{\"input_ids\": [99]}");
    let bit = "model.layers.0.mlp.up_proj.weight[0,0].1";
    let words = format!("flip @digits --bit {bit} --inputs bad.jsonl --write out");
    refused(&desk, &words, 3, &["token 99"]);
    for (bit, part) in [
        ("model.norm.weight[16].0", "index = 16, expected less than 16"),
        ("model.layers.2.mlp.up_proj.weight_scale.0", "layer = 2"),
        ("lm_head.weight[10,0].0", "row = 10, expected less than 10"),
        ("kv.layers.0.key[token=0,head=0,dim=0].3", "cache is in no file"),
    ] {
        refused(&desk, &format!("flip @digits --bit {bit} --write out"), 2, &[part]);
        desk.checkpoint("model", embedded::digits());
        refused(&desk, &format!("flip model --bit {bit} --write out"), 2, &[part]);
    }
}

#[test]
fn a_full_device_behind_stdout_is_an_error_of_writing() {
    let desk = Desk::new();
    for words in [
        "analyze --limit 1 --faults 9 --attack-budget 10 -o r.json",
        "analyze --limit 1 --dry-run",
        "flip @digits --bit model.norm.weight[0].1",
    ] {
        let full = OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
        let output = Command::new(env!("CARGO_BIN_EXE_bitnet-certify"))
            .args(words.split_whitespace())
            .current_dir(desk.path(""))
            .stdout(full)
            .output()
            .expect("the program runs");
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(5), "{words}: {told}");
        assert!(told.contains("stdout: cannot be written"), "{words}: {told}");
        assert!(!told.contains("panicked"), "{words}: {told}");
    }
}

//! Plans, journals and data sets that are damaged, or none at all: refused with the file and why.

use std::process::Command;

use crate::refused;
use crate::terminal::Desk;

#[test]
fn plans_that_are_none_are_refused_with_the_file() {
    let desk = Desk::new();
    let lists = format!("a = {}", "[".repeat(10_000));
    let tables = format!("a = {}", "{ a = ".repeat(10_000));
    let dots = format!("{}a = 1", "a.".repeat(10_000));
    let headers = format!("[{}a]", "a.".repeat(10_000));
    for (text, part) in [
        ("[[fault]", "line 1"),
        ("fault = 3", "line 1"),
        ("nothing = 1", "nothing"),
        ("trials = 1\ntrials = 2", "trials"),
        ("trials = -1", "trials"),
        ("trials = 1.5", "trials"),
        ("trials = 99999999999999999999", "line 1"),
        ("[[fault]]\ntarget = \"norm\"\ntarget = \"norm\"", "target"),
        ("[[fault]]\ntarget = \"norm\"\nlayers = [18446744073709551616]", "line 3"),
        ("\u{0}", "line 1"),
        ("\u{1b}[2J = 1", "\\u{1b}[2J"),
        (&lists, "error"),
        (&tables, "error"),
        (&dots, "error"),
        (&headers, "error"),
    ] {
        desk.put("plan.toml", text);
        let words = "faults run @digits --plan plan.toml";
        refused(&desk, words, 2, &["plan.toml", part]);
    }
    for value in ["nan", "inf", "1e400", "-0.0"] {
        desk.put("plan.toml", format!("confidence = {value}"));
        refused(&desk, "faults run @digits --plan plan.toml", 2, &["confidence"]);
    }
    desk.put("plan.toml", [0xff, 0xfe]);
    refused(&desk, "faults run @digits --plan plan.toml", 2, &["plan.toml", "no text"]);
}

#[test]
fn what_is_no_regular_file_is_no_plan_journal_or_data_set_and_never_waited_for() {
    let desk = Desk::new();
    for name in ["plan", "j/journal", "k/lock", "d/dataset.json"] {
        let path = desk.path(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        let made = Command::new("mkfifo").arg(&path).status().expect("mkfifo runs");
        assert!(made.success());
    }
    let part = "expected a regular file";
    refused(&desk, "faults run @digits --plan plan", 3, &["plan", part]);
    refused(&desk, "faults status j", 3, &["journal", part]);
    refused(&desk, "faults resume j", 3, &["journal", part]);
    refused(&desk, "faults merge j", 3, &["journal", part]);
    refused(&desk, "faults run @digits --trials 9 --journal k", 5, &["lock", part]);
    refused(&desk, "dataset verify d", 3, &["dataset.json", part]);
    std::fs::remove_file(desk.path("j/journal")).expect("a pipe");
    std::os::unix::fs::symlink("/dev/zero", desk.path("j/journal")).expect("a link");
    refused(&desk, "faults status j", 3, &["journal", part]);
}

#[test]
fn a_journal_with_a_damaged_header_is_refused() {
    let desk = Desk::new();
    desk.run("faults run @digits --limit 1 --trials 9 --journal j --quiet").ends(0);
    let whole = desk.read("j/journal");
    let header = whole.len() - 9 * 64;
    for end in (0..header).step_by(37) {
        desk.put("j/journal", &whole[..end]);
        refused(&desk, "faults status j", 3, &["j/journal"]);
    }
    for bit in (0..8 * header).step_by(173) {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        desk.put("j/journal", bytes);
        refused(&desk, "faults status j", 3, &["j/journal"]);
    }
    for text in ["", "\n\n\n", "bitnet-certify journal 999\n", "{}"] {
        desk.put("j/journal", text);
        refused(&desk, "faults status j", 3, &["j/journal"]);
    }
    let lengths = ["0", "-1", "18446744073709551615", "1000000000000", "x"];
    let (line, _) = whole.split_at(whole.iter().position(|&b| b == b'\n').expect("a line") + 1);
    for length in lengths {
        let second = format!("{length} {}\n", "0".repeat(64));
        desk.put("j/journal", [line, second.as_bytes()].concat());
        refused(&desk, "faults status j", 3, &["j/journal", "damaged"]);
    }
}

#[test]
fn a_data_set_with_a_manifest_that_is_none_is_refused() {
    let desk = Desk::new();
    let deep = "[".repeat(10_000);
    std::fs::create_dir(desk.path("d")).expect("a folder");
    for text in ["", "null", "[]", "{}", "{\"files\": 3}", "\u{0}", deep.as_str()] {
        desk.put("d/dataset.json", text);
        refused(&desk, "dataset verify d", 3, &["dataset.json"]);
    }
    desk.put("d/dataset.json", [0xff; 16]);
    refused(&desk, "dataset verify d", 3, &["dataset.json"]);
    std::fs::create_dir(desk.path("e")).expect("a folder");
    refused(&desk, "dataset verify e", 3, &["dataset.json"]);
}

//! The program as a user meets it: a folder of one's own, a command line, an exit code, two texts.
//!
//! Whatever is run here must not panic: every run is checked for the marks that a panic leaves.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fixtures::embedded::Checkpoint;
use serde_json::Value;
use tempfile::TempDir;

/// A folder in which commands run.
pub(crate) struct Desk(TempDir);

/// How a command ended.
pub(crate) struct Told {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
    command: String,
}

impl Desk {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn put(&self, name: &str, contents: impl AsRef<[u8]>) {
        fs::write(self.path(name), contents).expect("a file in a temporary folder");
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub(crate) fn text(&self, name: &str) -> String {
        String::from_utf8(self.read(name)).expect("text")
    }

    pub(crate) fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&self.read(name)).expect("a JSON file")
    }

    pub(crate) fn checkpoint(&self, name: &str, checkpoint: Checkpoint) {
        checkpoint.write_to(&self.path(name)).expect("a checkpoint in a temporary folder");
    }

    /// Everything that lies in the folder, deep, in order; folders end in a slash.
    pub(crate) fn listing(&self) -> Vec<String> {
        let mut found = Vec::new();
        list(self.0.path(), "", &mut found);
        found.sort();
        found
    }

    /// Runs the program on words that are separated by spaces.
    pub(crate) fn run(&self, words: &str) -> Told {
        self.words(&words.split_whitespace().collect::<Vec<_>>())
    }

    /// Runs the program on words that may hold spaces.
    pub(crate) fn words(&self, words: &[&str]) -> Told {
        let mut command = assert_cmd::Command::new(env!("CARGO_BIN_EXE_bitnet-certify"));
        command.current_dir(self.0.path()).args(words).timeout(Duration::from_secs(300));
        let output = command.output().expect("the program runs");
        let text = |bytes| String::from_utf8(bytes).expect("the program prints text");
        let told = Told {
            code: output.status.code().unwrap_or(-1),
            out: text(output.stdout),
            err: text(output.stderr),
            command: words.join(" "),
        };
        let panicked = told.err.contains("panicked") || [-1, 70, 101].contains(&told.code);
        assert!(!panicked, "{}", told.shown());
        told
    }

    /// Runs `analyze` to exit 0 with a JSON report, and reads that.
    pub(crate) fn report(&self, words: &str) -> Value {
        self.run(&format!("analyze {words} --quiet -o told.json")).ends(0);
        self.json("told.json")
    }
}

fn list(folder: &Path, prefix: &str, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).expect("a readable folder") {
        let entry = entry.expect("an entry");
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            list(&entry.path(), &format!("{name}/"), found);
            found.push(format!("{name}/"));
        } else {
            found.push(name);
        }
    }
}

impl Told {
    fn shown(&self) -> String {
        let Self { code, out, err, command } = self;
        format!("{command}\nexit {code}\nstdout:\n{out}\nstderr:\n{err}")
    }

    /// Checks the exit code.
    pub(crate) fn ends(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}", self.shown());
        self
    }

    /// Checks that stderr has all of these parts.
    pub(crate) fn says(self, parts: &[&str]) -> Self {
        for part in parts {
            assert!(self.err.contains(part), "stderr without {part:?}: {}", self.shown());
        }
        self
    }
}

/// The values at a path of keys, `[]` for every item of a list.
pub(crate) fn at<'a>(value: &'a Value, path: &str) -> Vec<&'a Value> {
    path.split('.').fold(vec![value], |values, key| {
        let (key, every) = key.strip_suffix("[]").map_or((key, false), |key| (key, true));
        let step = |value: &'a Value| -> Vec<&'a Value> {
            let value = value.get(key).unwrap_or_else(|| panic!("{path}: no key {key}"));
            match every {
                true => {
                    value.as_array().unwrap_or_else(|| panic!("{path}: no list")).iter().collect()
                }
                false => vec![value],
            }
        };
        values.into_iter().flat_map(step).collect()
    })
}

/// The one value at a path.
pub(crate) fn one<'a>(value: &'a Value, path: &str) -> &'a Value {
    let found = at(value, path);
    assert_eq!(found.len(), 1, "{path}");
    found[0]
}

/// The numbers at a path.
pub(crate) fn numbers(value: &Value, path: &str) -> Vec<f64> {
    let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("{path}: {value}"));
    at(value, path).into_iter().map(number).collect()
}

/// The one number at a path.
pub(crate) fn number(value: &Value, path: &str) -> f64 {
    one(value, path).as_f64().unwrap_or_else(|| panic!("{path}: no number"))
}

/// Where the data of a tensor lies in a safetensors file.
pub(crate) fn extent(file: &[u8], tensor: &str) -> Range<usize> {
    let length = u64::from_le_bytes(file[..8].try_into().expect("eight bytes")) as usize;
    let header: Value = serde_json::from_slice(&file[8..8 + length]).expect("a header");
    let ends = header[tensor]["data_offsets"].as_array().expect("a tensor of the file");
    let end = |index: usize| 8 + length + ends[index].as_u64().expect("an offset") as usize;
    end(0)..end(1)
}

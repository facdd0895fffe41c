//! A copy of the tree to mutate, and its test binaries.
//!
//! The copy keeps its build between runs and only changed files are written, so that a mutant costs
//! the compilation of one crate and of the tests up to the first that fails. The tree itself is
//! never written to.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// A test binary that runs longer is taken to hang.
const LIMIT: Duration = Duration::from_secs(900);

/// What a test binary said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// All tests passed.
    Passed,
    /// A test failed.
    Failed,
    /// It was ended after the limit.
    Hung,
    /// It does not compile, so it says nothing.
    Broken,
}

/// The copy and its build folder.
#[derive(Debug)]
pub(crate) struct Scratch {
    tree: PathBuf,
    build: PathBuf,
}

impl Scratch {
    /// Copies the tree at `top`, or brings an older copy up to date.
    pub(crate) fn new(top: &Path) -> io::Result<Self> {
        let folder = top.join("target/mutants");
        let (tree, build) = (folder.join("tree"), folder.join("build"));
        let mut wanted = BTreeSet::new();
        files(top, Path::new(""), &mut wanted)?;
        for file in &wanted {
            write_new(&tree.join(file), &fs::read(top.join(file))?)?;
        }
        let mut present = BTreeSet::new();
        files(&tree, Path::new(""), &mut present)?;
        for stale in present.difference(&wanted) {
            fs::remove_file(tree.join(stale))?;
        }
        Ok(Self { tree, build })
    }

    /// Replaces a file of the copy.
    pub(crate) fn write(&self, file: &str, contents: &str) -> io::Result<()> {
        write_new(&self.tree.join(file), contents.as_bytes())
    }

    /// The test targets: the library's own tests, and one a file or folder under `certify/tests`.
    pub(crate) fn tests(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.tree.join("certify/tests"))? {
            let path = entry?.path();
            let is_test =
                path.extension().is_some_and(|e| e == "rs") || path.join("main.rs").exists();
            let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
            names.extend(stem.filter(|_| is_test));
        }
        names.sort();
        // The likely killers first.
        names.sort_by_key(|name| match name.as_str() {
            "soundness" => 0,
            "edges" => 1,
            "affine" => 2,
            "planted" => 3,
            _ => 4,
        });
        names.insert(0, "lib".into());
        Ok(names)
    }

    /// Builds and runs one test target.
    pub(crate) fn run(&self, test: &str) -> io::Result<Answer> {
        let mut command = Command::new("cargo");
        command.args(["test", "-q", "-p", "certify", "--no-run", "--message-format=json"]);
        if test == "lib" {
            command.arg("--lib");
        } else {
            command.args(["--test", test]);
        }
        command.current_dir(&self.tree).env("CARGO_TARGET_DIR", &self.build);
        command.env("CARGO_PROFILE_DEV_DEBUG", "0").stderr(Stdio::null());
        let output = command.output()?;
        let messages = String::from_utf8_lossy(&output.stdout);
        let Some(binary) = executable(&messages).filter(|_| output.status.success()) else {
            return Ok(Answer::Broken);
        };
        let mut run = Command::new(binary);
        run.current_dir(self.tree.join("certify")).env("RUST_BACKTRACE", "0");
        until(run.stderr(Stdio::null()), LIMIT)
    }
}

/// Runs a test binary to its first failure or its end, or ends it at the limit.
fn until(command: &mut Command, limit: Duration) -> io::Result<Answer> {
    let began = Instant::now();
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let (sender, failures) = mpsc::channel();
    if let Some(output) = child.stdout.take() {
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if line.ends_with("... FAILED") && sender.send(()).is_err() {
                    return;
                }
            }
        });
    }
    loop {
        let failed = failures.recv_timeout(Duration::from_millis(20)).is_ok();
        let status = child.try_wait()?;
        let hung = status.is_none() && began.elapsed() > limit;
        if failed || hung {
            child.kill()?;
            child.wait()?;
            return Ok(if failed { Answer::Failed } else { Answer::Hung });
        }
        if let Some(status) = status {
            return Ok(if status.success() { Answer::Passed } else { Answer::Failed });
        }
    }
}

/// The path of the test binary in cargo's messages.
fn executable(messages: &str) -> Option<&str> {
    let key = "\"executable\":\"";
    let at = messages.rfind(key)? + key.len();
    messages[at..].split('"').next()
}

/// Files that cargo may want, from the top.
fn files(top: &Path, below: &Path, found: &mut BTreeSet<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(top.join(below))? {
        let entry = entry?;
        let path = below.join(entry.file_name());
        if [".git", "target"].iter().any(|name| path.as_os_str() == *name) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            files(top, &path, found)?;
        } else {
            found.insert(path);
        }
    }
    Ok(())
}

/// Writes a file unless it holds this already, so that cargo sees only true changes.
fn write_new(path: &Path, contents: &[u8]) -> io::Result<()> {
    if fs::read(path).is_ok_and(|old| old == contents) {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, contents)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_executable_of_the_messages_is_run() {
        let messages =
            "{\"executable\":null}\n{\"executable\":\"a\"}\n{\"executable\":\"b\",\"x\":1}";
        assert_eq!(executable(messages), Some("b"));
        assert_eq!(executable("{\"executable\":null}"), None);
    }
}

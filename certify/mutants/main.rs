//! Plants unsound edits in the bound code, one at a time, and expects the tests to catch each.
//!
//! `cargo run -p certify --example mutants [--list] [NAME...]`: all mutants of the lists beside
//! this file, or those whose name contains one of the given texts. A test that catches nothing
//! proves nothing; this shows what the tests of the bounds can see. An edit that does not compile
//! is an error of the list, never a catch. Exit code 1 if one survives or does not compile.

mod list;
mod scratch;

use std::env;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use list::Mutant;
use scratch::{Answer, Scratch};

/// What became of a mutant.
enum Fate {
    /// The test binary that failed.
    Caught(String),
    /// The same, by not coming to an end.
    Hung(String),
    Survived,
    Broken,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    match run(&top, &arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every chosen mutant was caught.
fn run(top: &Path, arguments: &[String]) -> Result<bool, String> {
    let names: Vec<&String> = arguments.iter().filter(|a| !a.starts_with("--")).collect();
    let mut mutants = list::all(top)?;
    mutants.retain(|m| names.is_empty() || names.iter().any(|name| m.name.contains(*name)));
    if arguments.iter().any(|argument| argument == "--list") {
        mutants.iter().for_each(|m| println!("{:<34} {}: {}", m.name, m.file, m.idea));
        return Ok(true);
    }
    if mutants.is_empty() {
        return Err("no mutant has such a name (--list shows all)".into());
    }
    let say = |error: io::Error| error.to_string();
    let scratch = Scratch::new(top).map_err(say)?;
    let tests = scratch.tests().map_err(say)?;
    for test in &tests {
        if scratch.run(test).map_err(say)? != Answer::Passed {
            return Err(format!("{test} must pass on the unchanged tree"));
        }
    }
    let mut left = Vec::new();
    for mutant in &mutants {
        let began = Instant::now();
        let contents = fs::read_to_string(top.join(&mutant.file)).map_err(say)?;
        let fate = fate(&scratch, &tests, mutant, &contents)?;
        let (word, by) = match &fate {
            Fate::Caught(test) => ("caught by", test.as_str()),
            Fate::Hung(test) => ("hung in", test.as_str()),
            Fate::Survived => ("SURVIVED", ""),
            Fate::Broken => ("DOES NOT COMPILE", ""),
        };
        println!("{:<34} {word} {by} ({} s)", mutant.name, began.elapsed().as_secs());
        io::stdout().flush().map_err(say)?;
        if matches!(fate, Fate::Survived | Fate::Broken) {
            left.push(mutant.name.as_str());
        }
    }
    println!("{} of {} caught; left: {left:?}", mutants.len() - left.len(), mutants.len());
    Ok(left.is_empty())
}

/// Plants a mutant, runs the tests until one fails, and restores the file.
fn fate(
    scratch: &Scratch,
    tests: &[String],
    mutant: &Mutant,
    contents: &str,
) -> Result<Fate, String> {
    let say = |error: io::Error| error.to_string();
    scratch.write(&mutant.file, &mutant.apply(contents)?).map_err(say)?;
    let first = tests.iter().filter(|test| mutant.first.as_ref() == Some(test));
    let rest = tests.iter().filter(|test| mutant.first.as_ref() != Some(test));
    let mut fate = Fate::Survived;
    for test in first.chain(rest) {
        match scratch.run(test).map_err(say)? {
            Answer::Passed => continue,
            Answer::Failed => fate = Fate::Caught(test.clone()),
            Answer::Hung => fate = Fate::Hung(test.clone()),
            Answer::Broken => fate = Fate::Broken,
        }
        break;
    }
    scratch.write(&mutant.file, contents).map_err(say)?;
    Ok(fate)
}

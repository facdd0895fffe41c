//! The verbs beside `analyze`: each reads what was typed, does one thing, and tells it on stdout.
//!
//! Invariants: results go to stdout and everything else to stderr; a reader that has seen enough
//! and closes the pipe is no failure; nothing that came from a file reaches a terminal unescaped.

pub mod bench;
pub mod checkpoint;
pub mod convert;
pub mod doctor;
pub mod generate;
pub mod inspect;
pub mod manual;
pub mod render;

use std::io::{self, ErrorKind, Write};
use std::ops::ControlFlow;

use crate::cli::Command;
use crate::failure::Failure;

/// Runs a verb, except those that have a room of their own: `analyze`, `attack`, `dataset`,
/// `flip` and `faults`.
///
/// # Errors
/// Whatever ends the verb early; for the others, that they are no business of this function.
pub fn run(command: &Command) -> Result<(), Failure> {
    match command {
        Command::Inspect(args) => inspect::run(args),
        Command::Convert(args) => convert::run(args),
        Command::Generate(args) => generate::run(args),
        Command::Render(args) => render::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Doctor => doctor::run(),
        Command::Schema => manual::schema(),
        Command::Completions { shell } => manual::completions(*shell),
        Command::Man => manual::page(),
        Command::RandomCheckpoint(args) => checkpoint::run(args),
        Command::Analyze(_)
        | Command::Attack(_)
        | Command::Dataset(_)
        | Command::Flip(_)
        | Command::Faults(_) => Err(Failure::bug("this verb was sent to the wrong place")),
    }
}

/// Writes results to stdout, whole.
pub(crate) fn tell(results: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    told(out.write_all(results).and_then(|()| out.flush())).map(|_| ())
}

/// Whether to go on after a write of results: not once their reader has left.
pub(crate) fn told(result: io::Result<()>) -> Result<ControlFlow<()>, Failure> {
    match result {
        Ok(()) => Ok(ControlFlow::Continue(())),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(ControlFlow::Break(())),
        Err(error) => Err(Failure::output(format!("stdout: cannot be written: {error}"))),
    }
}

/// Text from a file or a model, for a terminal: whatever a terminal would obey instead of show is
/// escaped, line breaks and tabs included unless they are `kept`.
pub(crate) fn shown(text: &str, kept: &[char]) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\'' | '"' | '\\' => safe.push(c),
            c if kept.contains(&c) => safe.push(c),
            c => safe.extend(c.escape_debug()),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Exit;

    #[test]
    fn a_reader_that_left_ends_the_telling_and_is_no_failure() {
        assert_eq!(told(Ok(())).unwrap(), ControlFlow::Continue(()));
        let left = told(Err(ErrorKind::BrokenPipe.into()));
        assert_eq!(left.unwrap(), ControlFlow::Break(()));
        assert_eq!(told(Err(ErrorKind::StorageFull.into())).unwrap_err().exit, Exit::Output);
    }

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        let text = "a\u{1b}[2J\n\u{202e}\"b\\'\u{e9}";
        assert_eq!(shown(text, &[]), "a\\u{1b}[2J\\n\\u{202e}\"b\\'\u{e9}");
        assert_eq!(shown("a\nb\tc\r", &['\n', '\t']), "a\nb\tc\\r");
    }
}

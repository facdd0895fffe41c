//! What ends a run early: a message, one thing to try, and the documented exit code.

use std::fmt;

/// The exit codes, as the README documents them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// A gate failed.
    GateFailed = 1,
    /// A command line or policy that makes no sense.
    Usage = 2,
    /// A model or data that is refused.
    Refused = 3,
    /// The work is incomplete, or there was nothing to check.
    Incomplete = 4,
    /// Something could not be written.
    Output = 5,
    /// A bug of this program.
    Bug = 70,
    /// SIGINT; what was done is kept.
    Interrupted = 130,
    /// SIGTERM; likewise.
    Terminated = 143,
}

/// Why a run ended early.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What, where, expected and got.
    pub what: String,
    /// One thing to try.
    pub help: Option<String>,
}

impl Failure {
    fn new(exit: Exit, what: impl fmt::Display) -> Self {
        Self { exit, what: what.to_string(), help: None }
    }

    /// A command line that makes no sense.
    #[must_use]
    pub fn usage(what: impl fmt::Display) -> Self {
        Self::new(Exit::Usage, what)
    }

    /// A model or data that is refused.
    #[must_use]
    pub fn refused(what: impl fmt::Display) -> Self {
        Self::new(Exit::Refused, what)
    }

    /// Work that could not be finished, or of which there is none.
    #[must_use]
    pub fn incomplete(what: impl fmt::Display) -> Self {
        Self::new(Exit::Incomplete, what)
    }

    /// Something that could not be written.
    #[must_use]
    pub fn output(what: impl fmt::Display) -> Self {
        Self::new(Exit::Output, what)
    }

    /// A bug of this program.
    #[must_use]
    pub fn bug(what: impl fmt::Display) -> Self {
        Self::new(Exit::Bug, what)
    }

    /// The same failure with one thing to try.
    #[must_use]
    pub fn help(mut self, help: impl fmt::Display) -> Self {
        self.help = Some(help.to_string());
        self
    }
}

impl From<engine::formats::FormatError> for Failure {
    fn from(error: engine::formats::FormatError) -> Self {
        let help = error.help().map(str::to_owned);
        Self { help, ..Self::refused(error) }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        write!(out, "error: {}", plain(&self.what))?;
        match &self.help {
            Some(help) => write!(out, "\n  try: {}", plain(help)),
            None => Ok(()),
        }
    }
}

/// A text that drives no terminal: parsers quote files as they are.
fn plain(text: &str) -> String {
    let escaped = |c: char| c.is_control() && c != '\n';
    let shown = |c: char| if escaped(c) { c.escape_default().collect() } else { String::from(c) };
    text.chars().map(shown).collect()
}

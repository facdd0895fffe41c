//! Journals that cannot be used, and campaigns that end early, in words.

use std::path::{Path, PathBuf};

use faults::journal::{self, Found, JournalError};

use crate::failure::{Exit, Failure};

/// A campaign that a signal ended.
pub(super) fn interrupted(exit: Exit, done: &str, folder: Option<&Path>) -> Failure {
    let what = format!("interrupted after {done}");
    let help = match folder {
        Some(folder) => format!("bitnet-certify faults resume {}", folder.display()),
        None => "--journal FOLDER the next time: without one nothing is kept".into(),
    };
    Failure { exit, what, help: Some(help) }
}

/// Says that the end of a journal is torn.
pub(super) fn warn_of_torn<K>(found: &Found<K>, folder: &Path) {
    if found.torn > 0 {
        let (torn, folder) = (found.torn, folder.display());
        eprintln!("{folder}: the last {torn} bytes of the journal are torn and do not count");
    }
}

/// A journal that cannot be used, with the exit code of the reason.
pub(super) fn refused(error: JournalError) -> Failure {
    match error {
        JournalError::Write { .. } => Failure::output(error)
            .help("room on the disk, then bitnet-certify faults resume; what was written is good"),
        JournalError::Locked { .. } => Failure::output(error).help("to wait for it, or stop it"),
        JournalError::Another { .. } => Failure::refused(error).help("another --journal FOLDER"),
        JournalError::Damaged { at, .. } => Failure::refused(&error)
            .help(format!("the first {at} bytes of a copy of the file: they are good")),
        _ => Failure::refused(error),
    }
}

/// A journal of another campaign.
pub(super) fn another(folder: &Path) -> impl FnOnce(journal::Difference) -> Failure {
    let path: PathBuf = folder.join("journal");
    move |difference| {
        refused(JournalError::Another { path: path.display().to_string(), difference })
    }
}

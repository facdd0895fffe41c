//! Files that are written whole or not at all: aside first, then renamed.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// Where a file will be written; checked before the work starts, and nothing is made yet.
///
/// # Errors
/// If the folder is not there and cannot be made, cannot be written to, or something else stands in
/// the file's place.
pub fn check(path: &Path) -> Result<(), Failure> {
    let refuse = |why: String| {
        Failure::output(format!("{}: cannot be written: {why}", path.display()))
            .help("another place with -o FILE")
    };
    if path.is_dir() {
        return Err(refuse("it is a folder".into()));
    }
    let standing = standing(&folder_of(path));
    if !standing.is_dir() {
        return Err(refuse(format!("{} is no folder", standing.display())));
    }
    tempfile::NamedTempFile::new_in(&standing).map_err(|error| refuse(error.to_string()))?;
    Ok(())
}

/// The deepest part of a folder's path that is there already.
fn standing(folder: &Path) -> PathBuf {
    let there = |part: &&Path| fs::symlink_metadata(part).is_ok();
    match folder.ancestors().find(there) {
        Some(part) => part.to_path_buf(),
        None => PathBuf::from("."),
    }
}

/// Writes a file aside, then renames it into place.
///
/// # Errors
/// If any step of that fails; nothing is then left behind.
pub fn write(path: &Path, contents: &[u8]) -> Result<(), Failure> {
    let step = |error: std::io::Error| {
        Failure::output(format!("{}: cannot be written: {error}", path.display()))
    };
    let folder = folder_of(path);
    fs::create_dir_all(&folder).map_err(step)?;
    let mut aside = tempfile::NamedTempFile::new_in(&folder).map_err(step)?;
    aside.write_all(contents).map_err(step)?;
    aside.as_file().sync_all().map_err(step)?;
    readable(aside.as_file()).map_err(step)?;
    aside.persist(path).map_err(|error| step(error.error))?;
    Ok(())
}

/// Makes a folder aside, fills it, then renames it into place.
///
/// # Errors
/// If something stands in its place, or any step fails; nothing is then left behind.
pub fn new_folder(
    folder: &Path,
    fill: impl FnOnce(&Path) -> std::io::Result<()>,
) -> Result<(), Failure> {
    if folder.exists() {
        return Err(Failure::output(format!("{}: it exists already", folder.display()))
            .help("the name of a new folder"));
    }
    let step = |error: std::io::Error| {
        Failure::output(format!("{}: cannot be written: {error}", folder.display()))
    };
    let parent = folder_of(folder);
    fs::create_dir_all(&parent).map_err(step)?;
    let aside = tempfile::Builder::new().prefix(".aside-").tempdir_in(parent).map_err(step)?;
    fill(aside.path()).map_err(step)?;
    readable_folder(aside.path()).map_err(step)?;
    fs::rename(aside.path(), folder).map_err(step)
}

/// Temporary folders are private; what is written is for everybody whom the umask allows.
pub(crate) fn readable_folder(folder: &Path) -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    }
    let _ = folder;
    Ok(())
}

/// Temporary files are private; a report is for everybody whom the umask allows.
fn readable(file: &File) -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        file.set_permissions(fs::Permissions::from_mode(0o644))?;
    }
    let _ = file;
    Ok(())
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

//! Where the files of a checkpoint come from: a folder, a single file, or bytes in memory.
//!
//! Invariants: only regular files are read (a link is followed, as caches of checkpoints are made
//! of links, but must end at a regular file); never more is allocated than the file has; an
//! embedded checkpoint never touches the disk.

use std::borrow::Cow;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::ops::Deref;
use std::path::{Path, PathBuf};

use super::error::FormatError;
use super::map::Map;

/// The files of a checkpoint.
#[derive(Clone, Debug)]
pub struct Source<'a>(Place<'a>);

#[derive(Clone, Debug)]
enum Place<'a> {
    Folder(PathBuf),
    /// One file that is the whole checkpoint.
    File(PathBuf),
    Memory {
        name: String,
        files: Vec<(String, Cow<'a, [u8]>)>,
    },
}

/// The bytes of a file.
#[derive(Debug)]
pub(super) enum Bytes<'a> {
    Read(Vec<u8>),
    Mapped(Map),
    Lent(&'a [u8]),
}

/// So much of a mapped file is held while all of it is read in order.
const PART: usize = 16 << 20;

impl Bytes<'_> {
    /// Reads a part of the bytes in order, and lets go of what was read.
    pub(super) fn pass(&self, bytes: &[u8], mut read: impl FnMut(&[u8])) {
        for part in bytes.chunks(PART) {
            read(part);
            self.release(part);
        }
    }

    /// Lets go of the memory under a part that was read, where it can come back from the disk.
    pub(super) fn release(&self, part: &[u8]) {
        if let Self::Mapped(map) = self {
            map.release(part);
        }
    }
}

impl Deref for Bytes<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Read(bytes) => bytes,
            Self::Mapped(map) => map,
            Self::Lent(bytes) => bytes,
        }
    }
}

impl<'a> Source<'a> {
    /// A folder on disk.
    pub fn folder(path: impl Into<PathBuf>) -> Self {
        Self(Place::Folder(path.into()))
    }

    /// A folder on disk, or a GGUF file.
    pub fn path(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let file = is_gguf(&path.to_string_lossy());
        Self(if file { Place::File(path) } else { Place::Folder(path) })
    }

    /// Files in memory, owned or borrowed, by name.
    pub fn memory<N, B>(name: impl Into<String>, files: impl IntoIterator<Item = (N, B)>) -> Self
    where
        N: Into<String>,
        B: Into<Cow<'a, [u8]>>,
    {
        let files = files.into_iter().map(|(file, bytes)| (file.into(), bytes.into())).collect();
        Self(Place::Memory { name: name.into(), files })
    }

    /// The name of the checkpoint: that of the folder, or the one given.
    #[must_use]
    pub fn name(&self) -> String {
        match &self.0 {
            Place::Folder(path) | Place::File(path) => {
                let full = fs::canonicalize(path).unwrap_or_else(|_| path.clone());
                let last = full.file_name().map(|name| name.to_string_lossy().into_owned());
                last.unwrap_or_else(|| path.display().to_string())
            }
            Place::Memory { name, .. } => name.clone(),
        }
    }

    /// The bytes of all tensor files, where the sizes are to be had without reading them.
    #[must_use]
    pub fn tensor_bytes(&self) -> Option<u64> {
        const SUFFIX: &str = ".safetensors";
        match &self.0 {
            Place::File(path) => fs::metadata(path).ok().map(|m| m.len()),
            Place::Folder(path) => {
                let entries = fs::read_dir(path).ok()?.flatten();
                let files = entries.filter(|e| e.file_name().to_string_lossy().ends_with(SUFFIX));
                Some(files.filter_map(|e| fs::metadata(e.path()).ok()).map(|m| m.len()).sum())
            }
            Place::Memory { files, .. } => {
                let tensors = files.iter().filter(|(name, _)| name.ends_with(SUFFIX));
                Some(tensors.map(|(_, bytes)| bytes.len() as u64).sum())
            }
        }
    }

    /// The checkpoint as messages name it.
    pub(super) fn place(&self) -> String {
        match &self.0 {
            Place::Folder(path) | Place::File(path) => path.display().to_string(),
            Place::Memory { name, .. } => name.clone(),
        }
    }

    /// The name of the GGUF file that is the checkpoint, if there is one.
    pub(super) fn gguf(&self) -> Result<Option<String>, FormatError> {
        let mut names: Vec<String> = match &self.0 {
            Place::File(path) => return Ok(Some(file_name(path))),
            Place::Memory { files, .. } => files.iter().map(|(name, _)| name.clone()).collect(),
            Place::Folder(path) => {
                let entries = fs::read_dir(path).into_iter().flatten().flatten();
                entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
            }
        };
        if names.iter().any(|name| name == "config.json") {
            return Ok(None);
        }
        names.retain(|name| is_gguf(name));
        names.sort();
        if names.len() > 1 {
            let folder = self.place();
            return Err(FormatError::SeveralFiles { folder, files: names.join(", ") });
        }
        Ok(names.pop())
    }

    /// A file as messages name it.
    pub(super) fn label(&self, file: &str) -> String {
        match &self.0 {
            Place::Folder(path) => path.join(file).display().to_string(),
            Place::File(path) => path.display().to_string(),
            Place::Memory { name, .. } => format!("{name}/{file}"),
        }
    }

    /// Refuses a folder that is none.
    pub(super) fn check(&self) -> Result<(), FormatError> {
        let Place::Folder(path) = &self.0 else { return Ok(()) };
        let file = path.display().to_string();
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => Ok(()),
            Ok(metadata) => {
                Err(FormatError::NotRegular { file, expected: "a folder", got: kind(&metadata) })
            }
            Err(source) => Err(FormatError::Unreadable { file, source }),
        }
    }

    /// The bytes of a file, `None` where there is no such file.
    pub(super) fn read(
        &self,
        file: &str,
        limit: u64,
        mmap: bool,
    ) -> Result<Option<Bytes<'_>>, FormatError> {
        let bytes = match &self.0 {
            Place::Folder(path) => self.read_disk(path.join(file), file, limit, mmap)?,
            Place::File(path) if file_name(path) == file => {
                self.read_disk(path.clone(), file, limit, mmap)?
            }
            Place::File(_) => None,
            Place::Memory { files, .. } => {
                files.iter().find_map(|(name, bytes)| (name == file).then_some(Bytes::Lent(bytes)))
            }
        };
        if let Some(bytes) = &bytes {
            self.check_size(file, bytes.len() as u64, limit)?;
        }
        Ok(bytes)
    }

    /// Whether something of that name is there.
    pub(super) fn has(&self, file: &str) -> bool {
        match &self.0 {
            Place::Folder(path) => path.join(file).exists(),
            Place::File(path) => file_name(path) == file,
            Place::Memory { files, .. } => files.iter().any(|(name, _)| name == file),
        }
    }

    /// The bytes of a file that must be there.
    pub(super) fn need(
        &self,
        file: &str,
        limit: u64,
        mmap: bool,
    ) -> Result<Bytes<'_>, FormatError> {
        self.read(file, limit, mmap)?
            .ok_or_else(|| FormatError::MissingFile { file: file.into(), folder: self.place() })
    }

    fn check_size(&self, file: &str, got: u64, limit: u64) -> Result<(), FormatError> {
        if got <= limit {
            return Ok(());
        }
        Err(FormatError::TooLarge { file: self.label(file), what: "the file", limit, got })
    }

    fn read_disk(
        &self,
        path: PathBuf,
        name: &str,
        limit: u64,
        mmap: bool,
    ) -> Result<Option<Bytes<'_>>, FormatError> {
        let file = self.label(name);
        // Asked before opening: opening a pipe waits for a writer, opening a device may act.
        match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(FormatError::Unreadable { file, source }),
            Ok(metadata) => regular(&file, &metadata)?,
        }
        let unreadable = |source| FormatError::Unreadable { file: file.clone(), source };
        let open = File::open(&path).map_err(unreadable)?;
        let metadata = open.metadata().map_err(unreadable)?;
        regular(&file, &metadata)?;
        self.check_size(name, metadata.len(), limit)?;
        if mmap && metadata.len() > 0 {
            return Ok(Some(Bytes::Mapped(Map::of(&open).map_err(unreadable)?)));
        }
        let bytes = read_exactly(open, metadata.len()).map_err(unreadable)?;
        Ok(Some(Bytes::Read(bytes)))
    }
}

/// Reads as many bytes as the file said it has, and sees to it that there are no more.
fn read_exactly(mut file: File, length: u64) -> io::Result<Vec<u8>> {
    let changed = || io::Error::other("the file changed while it was read");
    let size = usize::try_from(length).map_err(|_| io::ErrorKind::OutOfMemory)?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(size).map_err(|_| io::ErrorKind::OutOfMemory)?;
    file.by_ref().take(length).read_to_end(&mut bytes)?;
    if bytes.len() != size || file.read(&mut [0])? != 0 {
        return Err(changed());
    }
    Ok(bytes)
}

fn is_gguf(name: &str) -> bool {
    name.len() > 5 && name.to_ascii_lowercase().ends_with(".gguf")
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn regular(file: &str, metadata: &Metadata) -> Result<(), FormatError> {
    if metadata.is_file() {
        return Ok(());
    }
    let (file, got) = (file.to_owned(), kind(metadata));
    Err(FormatError::NotRegular { file, expected: "a regular file", got })
}

fn kind(metadata: &Metadata) -> &'static str {
    if metadata.is_dir() {
        "a folder"
    } else if metadata.is_file() {
        "a file"
    } else {
        "a pipe, socket or device"
    }
}

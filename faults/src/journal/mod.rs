//! Journals: what a campaign has found so far, on disk, so that nothing has to be found twice.
//!
//! A journal is a folder with two files: `lock`, which the operating system locks for the one that
//! writes, until that process ends in whatever way; and `journal`, a [`Header`] and then a record
//! of fixed size ([`Kept`]) for each trial, or for each row of a map of all faults, in the order in
//! which they ended.
//!
//! Invariants: a trial is in it whole or not at all; what was written before a crash or a full disk
//! stays good; the header never changes. A record goes to the file as soon as its trial has ended,
//! so a killed process loses only what was running; the file is synced at most every second, so a
//! lost machine loses hardly more.

mod entry;
mod header;
mod kept;
mod medium;

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub use entry::Entry;
pub use header::{Difference, Header, Shard};
pub use kept::{Kept, merged};
use medium::Medium;

/// The file with the header and the records.
const FILE: &str = "journal";
/// The file that is locked.
const LOCK: &str = "lock";
/// How long a record may wait to be synced while others follow.
const SYNC: Duration = Duration::from_secs(1);

/// Why a journal cannot be read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// It cannot be read.
    #[error("{path}: {why}")]
    Read {
        /// The file.
        path: String,
        /// Why not.
        why: String,
    },
    /// It cannot be written; what stands before is good.
    #[error("{path}: cannot be written: {why}")]
    Write {
        /// The file.
        path: String,
        /// Why not.
        why: String,
    },
    /// It is no journal.
    #[error("{path}: this is no journal of a fault campaign: {why}")]
    NotOne {
        /// The file.
        path: String,
        /// Why not.
        why: String,
    },
    /// It is of another version of the format.
    #[error("{path}: the journal has version {found:?}, expected {expected:?}")]
    Version {
        /// The file.
        path: String,
        /// Its version.
        found: String,
        /// The one that is read here.
        expected: &'static str,
    },
    /// There are good records behind a bad one: no crash leaves that.
    #[error("{path}: the record at byte {at} is damaged, and records behind it are not")]
    Damaged {
        /// The file.
        path: String,
        /// Where.
        at: u64,
    },
    /// Two records of one trial differ, or a record is of no trial of the plan.
    #[error("{path}: trial {index}: {why}")]
    Contradicts {
        /// The file.
        path: String,
        /// The trial.
        index: u64,
        /// How.
        why: &'static str,
    },
    /// Somebody else writes it.
    #[error("{path}: another process writes this journal")]
    Locked {
        /// The lock.
        path: String,
    },
    /// It is of another campaign.
    #[error("{path}: this journal is of {difference}")]
    Another {
        /// The file.
        path: String,
        /// In what it differs.
        difference: Difference,
    },
}

impl JournalError {
    fn read(path: &str, error: &io::Error) -> Self {
        Self::Read { path: path.into(), why: error.to_string() }
    }

    fn write(path: &Path, error: &io::Error) -> Self {
        Self::Write { path: path.display().to_string(), why: error.to_string() }
    }
}

/// What is in a journal.
#[derive(Clone, Debug, PartialEq)]
pub struct Found<K = Entry> {
    /// What it is of.
    pub header: Header,
    /// Its trials, in the order of their numbers, each once.
    pub entries: Vec<K>,
    /// Bytes of a torn tail that do not count.
    pub torn: u64,
    /// Where the good records end.
    end: u64,
}

impl<K: Kept> Found<K> {
    /// Whether a trial is in it.
    #[must_use]
    pub fn has(&self, index: u64) -> bool {
        self.entries.binary_search_by_key(&index, Kept::number).is_ok()
    }
}

/// Whether a folder holds a journal.
#[must_use]
pub fn exists(folder: &Path) -> bool {
    folder.join(FILE).exists()
}

/// Whether some process writes the journal of a folder now.
#[must_use]
pub fn is_written(folder: &Path) -> bool {
    let path = folder.join(LOCK);
    let lock = regular(&path).and_then(|()| File::open(path));
    lock.is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// Reads what a journal is of.
///
/// # Errors
/// If it cannot be read, or is none.
pub fn header(folder: &Path) -> Result<Header, JournalError> {
    let (path, mut from) = open(folder)?;
    Ok(Header::decode(&path, &mut from)?.0)
}

/// Reads a journal, be it written or not at the same time.
///
/// # Errors
/// If it cannot be read, or is not whole up to its tail.
pub fn read<K: Kept>(folder: &Path) -> Result<Found<K>, JournalError> {
    let (path, from) = open(folder)?;
    parse(&path, from)
}

fn open(folder: &Path) -> Result<(String, BufReader<File>), JournalError> {
    let path = folder.join(FILE).display().to_string();
    let file = regular(path.as_ref()).and_then(|()| File::open(&path));
    let file = file.map_err(|error| JournalError::read(&path, &error))?;
    Ok((path, BufReader::with_capacity(1 << 16, file)))
}

/// Refuses what is no regular file: opening a pipe would wait for another process.
fn regular(path: &Path) -> io::Result<()> {
    match fs::metadata(path)?.is_file() {
        true => Ok(()),
        false => Err(io::Error::other("expected a regular file")),
    }
}

fn parse<K: Kept>(path: &str, mut from: impl io::BufRead) -> Result<Found<K>, JournalError> {
    let (header, begin) = Header::decode(path, &mut from)?;
    if !K::is_kept_by(&header) {
        // Read as what they are not, all records would look torn.
        let why = "its plan is of another kind".into();
        return Err(JournalError::NotOne { path: path.into(), why });
    }
    let key = header.key();
    let mut entries: Vec<K> = Vec::new();
    let (mut end, mut at, mut bad) = (begin, begin, None);
    let mut record = vec![0u8; K::BYTES + kept::SUM];
    loop {
        let got = fill(&mut from, &mut record).map_err(|e| JournalError::read(path, &e))?;
        let whole = (got == record.len()).then(|| kept::decode(&key, &record)).flatten();
        match (whole, bad) {
            (Some(entry), None) => {
                entries.push(entry);
                end += record.len() as u64;
            }
            (Some(_), Some(at)) => return Err(JournalError::Damaged { path: path.into(), at }),
            (None, _) if got > 0 => bad = bad.or(Some(at)),
            (None, _) => {}
        }
        at += got as u64;
        if got < record.len() {
            break;
        }
    }
    let entries = kept::sorted(path, entries)?;
    Ok(Found { header, entries, torn: at - end, end })
}

/// Reads until the buffer is full or there is no more.
fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut got = 0;
    while got < buffer.len() {
        match from.read(&mut buffer[got..]) {
            Ok(0) => break,
            Ok(more) => got += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(got)
}

/// A journal that is being written.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    medium: Box<dyn Medium>,
    /// Bytes of good records and what stands before them.
    length: u64,
    key: [u8; 32],
    synced: Instant,
    failed: Option<JournalError>,
    /// Held, never read: the system lets go of the lock when the process ends.
    _lock: Option<File>,
}

impl Writer {
    /// Begins a journal, or goes on with the one that is there; and what is in it so far.
    ///
    /// # Errors
    /// If it cannot be written, another process writes it, or it is of another campaign or shard.
    pub fn begin<K: Kept>(
        folder: &Path,
        header: &Header,
    ) -> Result<(Self, Found<K>), JournalError> {
        fs::create_dir_all(folder).map_err(|error| JournalError::write(folder, &error))?;
        let lock = lock(folder)?;
        let path = folder.join(FILE);
        if !path.exists() {
            create(folder, &path, header).map_err(|error| JournalError::write(&path, &error))?;
        }
        // Compared first: what another campaign's records look like is not known here.
        let there = self::header(folder)?;
        let same = there.same_campaign(header);
        let shard = (there.shard.index, header.shard.index);
        let same = same.and_then(|()| match shard.0 == shard.1 {
            true => Ok(()),
            false => Err(Difference {
                what: "shard",
                here: shard.0.to_string(),
                there: shard.1.to_string(),
            }),
        });
        let path = path.display().to_string();
        same.map_err(|difference| JournalError::Another { path, difference })?;
        Self::with(folder, lock)
    }

    /// Goes on with a journal; and what is in it so far.
    ///
    /// # Errors
    /// If there is none, it cannot be written, or another process writes it.
    pub fn resume<K: Kept>(folder: &Path) -> Result<(Self, Found<K>), JournalError> {
        // Asked first, so that a folder without a journal is left without a lock.
        header(folder)?;
        Self::with(folder, lock(folder)?)
    }

    fn with<K: Kept>(folder: &Path, lock: File) -> Result<(Self, Found<K>), JournalError> {
        let path = folder.join(FILE);
        let found = read(folder)?;
        let open = OpenOptions::new().append(true).open(&path);
        let mut file = open.map_err(|error| JournalError::write(&path, &error))?;
        if found.torn > 0 {
            let cut = Medium::truncate(&mut file, found.end);
            cut.map_err(|error| JournalError::write(&path, &error))?;
        }
        let key = found.header.key();
        Ok((Self::over(path, Box::new(file), found.end, key, Some(lock)), found))
    }

    fn over(
        path: PathBuf,
        medium: Box<dyn Medium>,
        length: u64,
        key: [u8; 32],
        lock: Option<File>,
    ) -> Self {
        Self { path, medium, length, key, synced: Instant::now(), failed: None, _lock: lock }
    }

    /// Appends trials.
    ///
    /// # Errors
    /// If they cannot be written; then none of them counts, nothing more is taken, and what was
    /// appended before stays good.
    pub fn append<K: Kept>(&mut self, entries: &[K]) -> Result<(), JournalError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let bytes: Vec<u8> =
            entries.iter().flat_map(|entry| kept::encode(entry, &self.key)).collect();
        let written = self.medium.write_all(&bytes).and_then(|()| {
            if self.synced.elapsed() >= SYNC {
                self.medium.sync()?;
                self.synced = Instant::now();
            }
            Ok(())
        });
        match written {
            Ok(()) => {
                self.length += bytes.len() as u64;
                Ok(())
            }
            Err(error) => Err(self.fail(&error)),
        }
    }

    /// Syncs what was appended.
    ///
    /// # Errors
    /// If that fails, or an append did.
    pub fn finish(&mut self) -> Result<(), JournalError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let synced = self.medium.sync();
        synced.map_err(|error| self.fail(&error))
    }

    fn fail(&mut self, error: &io::Error) -> JournalError {
        // If this fails too, the next reader drops the torn record.
        let _ = self.medium.truncate(self.length);
        let error = JournalError::write(&self.path, error);
        self.failed = Some(error.clone());
        error
    }
}

fn lock(folder: &Path) -> Result<File, JournalError> {
    let path = folder.join(LOCK);
    if path.exists() {
        regular(&path).map_err(|error| JournalError::write(&path, &error))?;
    }
    let open = OpenOptions::new().create(true).append(true).open(&path);
    let file = open.map_err(|error| JournalError::write(&path, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(JournalError::Locked { path: path.display().to_string() })
        }
        Err(TryLockError::Error(error)) => Err(JournalError::write(&path, &error)),
    }
}

/// Writes the header aside and renames it, so that a journal is never there without its header.
fn create(folder: &Path, path: &Path, header: &Header) -> io::Result<()> {
    let aside = folder.join("journal.new");
    let written = File::create(&aside).and_then(|mut file| {
        io::Write::write_all(&mut file, &header.encode())?;
        file.sync_all()
    });
    if let Err(error) = written.and_then(|()| fs::rename(&aside, path)) {
        // Half a header is of no use to anybody; if it stays, the next one takes its place.
        let _ = fs::remove_file(&aside);
        return Err(error);
    }
    #[cfg(unix)]
    File::open(folder)?.sync_all()?;
    Ok(())
}

#[cfg(test)]
mod tests;

//! Journals that are cut, damaged, taken for others, written twice at once, or out of room.

use std::sync::{Arc, Mutex};

use proptest::prelude::*;

use super::*;
use crate::outcome::{Outcome, Shift};
use crate::trial::Trial;

/// The bytes of a record.
const RECORD: usize = Entry::BYTES + kept::SUM;

/// A folder that goes with its test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("bitnet-certify-journal-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&folder);
        Self(folder)
    }

    fn bytes(&self) -> Vec<u8> {
        fs::read(self.0.join(FILE)).expect("a journal")
    }

    fn put(&self, bytes: &[u8]) {
        fs::write(self.0.join(FILE), bytes).expect("a journal");
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn header() -> Header {
    Header::new("model", "inputs", "seed = 1\nflips = 2\n", 100, Shard { index: 1, of: 3 })
}

fn entry(index: u64) -> Entry {
    let shift = Shift { kl_divergence: index as f64 / 3.0, ..Shift::default() };
    let trial = Trial {
        outcome: Outcome::Masked { identical: false },
        decision: Some(4),
        any_token_change: Some(false),
        shift: Some(shift),
    };
    Entry { index, stratum: 1, sample: 2, flips: 3, trial, raw: None }
}

fn entries(indices: &[u64]) -> Vec<Entry> {
    indices.iter().map(|&index| entry(index)).collect()
}

/// A journal with three trials, closed.
fn three(folder: &Folder) {
    let (mut writer, found) = Writer::begin::<Entry>(&folder.0, &header()).expect("a new journal");
    assert!(found.entries.is_empty() && found.torn == 0 && found.header == header());
    writer.append(&entries(&[7, 3])).expect("room");
    writer.append(&entries(&[5])).expect("room");
    writer.finish().expect("room");
}

#[test]
fn what_was_appended_is_found_in_the_order_of_the_trials() {
    let folder = Folder::new("found");
    three(&folder);
    let found = read::<Entry>(&folder.0).expect("a journal");
    assert_eq!(found.entries, entries(&[3, 5, 7]));
    assert!(found.has(5) && !found.has(4));
    let (mut writer, again) = Writer::resume::<Entry>(&folder.0).expect("a journal");
    assert_eq!(again, found);
    writer.append(&entries(&[4, 7])).expect("room");
    let found = read::<Entry>(&folder.0).expect("a journal that is written may be read");
    assert_eq!(found.entries, entries(&[3, 4, 5, 7]), "a trial that is there twice counts once");
}

#[test]
fn an_empty_journal_is_resumed() {
    let folder = Folder::new("empty");
    drop(Writer::begin::<Entry>(&folder.0, &header()).expect("a new journal"));
    let (mut writer, found) = Writer::resume::<Entry>(&folder.0).expect("a journal");
    assert!(found.entries.is_empty());
    writer.append(&entries(&[1])).expect("room");
    assert_eq!(read::<Entry>(&folder.0).expect("a journal").entries, entries(&[1]));
}

#[test]
fn a_journal_cut_at_any_byte_keeps_its_whole_records() {
    let folder = Folder::new("cut");
    three(&folder);
    let bytes = folder.bytes();
    let begin = bytes.len() - 3 * RECORD;
    for length in begin..bytes.len() {
        folder.put(&bytes[..length]);
        let found = read::<Entry>(&folder.0).expect("a torn tail is no damage");
        let whole = (length - begin) / RECORD;
        assert_eq!(found.entries.len(), whole, "cut at {length}");
        assert_eq!(found.torn as usize, (length - begin) % RECORD);
        let (mut writer, _) = Writer::resume::<Entry>(&folder.0).expect("a journal");
        writer.append(&entries(&[9])).expect("room");
        let found = read::<Entry>(&folder.0).expect("a journal");
        assert_eq!((found.entries.len(), found.torn), (whole + 1, 0));
    }
    for length in 0..begin {
        folder.put(&bytes[..length]);
        let error = read::<Entry>(&folder.0).expect_err("half a header");
        assert!(matches!(error, JournalError::NotOne { .. }), "{error}");
    }
}

#[test]
fn a_tail_of_zeros_is_torn_and_a_bad_record_in_the_middle_is_damage() {
    let folder = Folder::new("damage");
    three(&folder);
    let good = folder.bytes();
    let zeros = [good.clone(), vec![0; 4096]].concat();
    folder.put(&zeros);
    let found = read::<Entry>(&folder.0).expect("what a lost machine leaves");
    assert_eq!((found.entries.len(), found.torn), (3, 4096));
    let begin = good.len() - 3 * RECORD;
    for (record, damaged) in [(0, true), (1, true), (2, false)] {
        let mut bytes = good.clone();
        let at = begin + record * RECORD;
        bytes[at + 30] ^= 1;
        folder.put(&bytes);
        match read::<Entry>(&folder.0) {
            Err(JournalError::Damaged { at: place, .. }) => {
                assert!(damaged && place == at as u64);
            }
            Ok(found) => assert!(!damaged && found.entries.len() == 2),
            Err(other) => panic!("{other}"),
        }
    }
    for at in 0..begin {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        folder.put(&bytes);
        let error = read::<Entry>(&folder.0).expect_err("a damaged header");
        let known = matches!(error, JournalError::NotOne { .. } | JournalError::Version { .. });
        assert!(known, "byte {at}: {error}");
    }
}

#[test]
fn another_campaign_version_or_shard_is_refused_with_the_reason() {
    let folder = Folder::new("other");
    three(&folder);
    let refused = |change: &dyn Fn(&mut Header), word: &str| {
        let mut other = header();
        change(&mut other);
        let error = Writer::begin::<Entry>(&folder.0, &other).expect_err("another campaign");
        assert!(matches!(error, JournalError::Another { .. }), "{error}");
        assert!(error.to_string().contains(word), "{error}");
    };
    refused(&|h| h.model = "other".into(), "another model: it has \"model\", expected \"other\"");
    refused(&|h| h.inputs = "other".into(), "another samples");
    refused(&|h| h.plan = "seed = 1\nflips = 3\n".into(), "\"flips = 2\", expected \"flips = 3\"");
    refused(&|h| h.plan = "seed = 1\n".into(), "another plan");
    refused(&|h| h.trials = 7, "another trials");
    refused(&|h| h.draws += 1, "version of the draws");
    refused(&|h| h.arithmetic = "bca-0".into(), "arithmetic");
    refused(&|h| h.shard.of = 4, "number of shards");
    refused(&|h| h.shard.index = 2, "another shard");
    let mut elsewhere = header();
    elsewhere.request = "the same files at another place".into();
    let (_, found) = Writer::begin::<Entry>(&folder.0, &elsewhere).expect("the same campaign");
    assert_eq!(found.entries.len(), 3, "begun again is gone on with");
    assert_eq!(header().same_program(), Ok(()));
    let older = Header { draws: 0, ..header() };
    assert_eq!(older.same_program().expect_err("older").what, "version of the draws");
    let bytes = folder.bytes();
    let text = String::from_utf8_lossy(&bytes).replacen("journal 1", "journal 2", 1);
    folder.put(text.as_bytes());
    let error = read::<Entry>(&folder.0).expect_err("a later version");
    assert!(error.to_string().contains("version \"2\", expected \"1\""), "{error}");
}

#[test]
fn records_of_another_journal_are_none_here() {
    let (here, there) = (Folder::new("here"), Folder::new("there"));
    three(&here);
    drop(
        Writer::begin::<Entry>(&there.0, &Header { trials: 101, ..header() })
            .expect("a new journal"),
    );
    let stray = here.bytes().split_off(here.bytes().len() - RECORD);
    there.put(&[there.bytes(), stray].concat());
    let found = read::<Entry>(&there.0).expect("a journal");
    assert_eq!((found.entries.len(), found.torn), (0, 64));
}

#[test]
fn two_writers_are_refused_and_a_lock_ends_with_its_holder() {
    let folder = Folder::new("lock");
    let first = Writer::begin::<Entry>(&folder.0, &header()).expect("a new journal");
    assert!(is_written(&folder.0));
    let second = Writer::resume::<Entry>(&folder.0).expect_err("a second writer");
    assert!(matches!(second, JournalError::Locked { .. }), "{second}");
    let second = Writer::begin::<Entry>(&folder.0, &header()).expect_err("a second writer");
    assert!(matches!(second, JournalError::Locked { .. }), "{second}");
    drop(first);
    assert!(!is_written(&folder.0));
    Writer::resume::<Entry>(&folder.0).expect("the lock is free");
}

#[test]
fn one_trial_with_two_results_is_refused() {
    let folder = Folder::new("twice");
    three(&folder);
    let (mut writer, _) = Writer::resume::<Entry>(&folder.0).expect("a journal");
    let other = Entry { sample: 0, ..entry(5) };
    writer.append(&[other]).expect("room");
    let error = read::<Entry>(&folder.0).expect_err("a contradiction");
    assert!(matches!(error, JournalError::Contradicts { index: 5, .. }), "{error}");
}

#[test]
fn a_folder_without_a_journal_is_left_as_it_is() {
    let folder = Folder::new("none");
    assert!(!exists(&folder.0) && !is_written(&folder.0));
    assert!(matches!(Writer::resume::<Entry>(&folder.0), Err(JournalError::Read { .. })));
    assert!(!folder.0.exists());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_bytes_make_a_reader_panic_and_noise_is_no_record(
        noise in proptest::collection::vec(any::<u8>(), 0..400), cut in 0usize..400,
    ) {
        let mut bytes = header().encode();
        let begin = bytes.len();
        bytes.extend(&noise);
        let found = parse::<Entry>("noise", bytes.as_slice()).expect("a torn tail");
        prop_assert_eq!((found.entries.len(), found.torn as usize), (0, noise.len()));
        let cut = cut.min(begin - 1);
        let spliced = [&bytes[..cut], &noise].concat();
        let whole = spliced.starts_with(&bytes[..begin]);
        prop_assert_eq!(parse::<Entry>("noise", spliced.as_slice()).is_ok(), whole);
        prop_assert!(parse::<Entry>("noise", noise.as_slice()).is_err());
    }
}

/// A disk with little room.
#[derive(Clone, Debug)]
struct Small {
    held: Arc<Mutex<Vec<u8>>>,
    room: usize,
    cuts: bool,
}

impl io::Write for Small {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut held = self.held.lock().expect("no holder panics");
        let fits = bytes.len().min(self.room - held.len());
        held.extend(&bytes[..fits]);
        if fits == 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(fits) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Medium for Small {
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        if !self.cuts {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.held.lock().expect("no holder panics").truncate(length as usize);
        Ok(())
    }
}

#[test]
fn a_full_disk_keeps_the_good_prefix() {
    let start = header().encode();
    for (room, cuts) in (0..260).flat_map(|room| [(room, true), (room, false)]) {
        let held = Arc::new(Mutex::new(start.clone()));
        let small = Small { held: held.clone(), room: start.len() + room, cuts };
        let (length, key) = (start.len() as u64, header().key());
        let mut writer = Writer::over("a disk".into(), Box::new(small), length, key, None);
        let fits = room / RECORD;
        for index in 0..6 {
            let appended = writer.append(&entries(&[index]));
            assert_eq!(appended.is_ok(), (index as usize) < fits, "{room} bytes, trial {index}");
        }
        let error = writer.finish().expect_err("a failed journal stays failed");
        assert!(matches!(&error, JournalError::Write { .. }), "{error}");
        let bytes = held.lock().expect("no holder panics").clone();
        let found = parse::<Entry>("a disk", bytes.as_slice()).expect("a good prefix");
        assert_eq!(found.entries.len(), fits);
        assert_eq!(found.torn as usize, if cuts { 0 } else { room % RECORD });
    }
}

//! What the records of a journal have in common: a number, a fixed size, and a checksum.

use std::fmt::Debug;

use super::{Header, JournalError};

/// The bytes of a checksum.
pub(super) const SUM: usize = 8;

/// What a journal keeps of one piece of a campaign's work.
///
/// A record is what [`Kept::write`] makes of it, and then the first bytes of the BLAKE3 of that,
/// keyed by the hash of the journal's header: a record that strayed in from another journal is none
/// here.
pub trait Kept: Copy + Debug + PartialEq + Send + Sync {
    /// The bytes of a record, without its checksum.
    const BYTES: usize;

    /// The number of the piece.
    fn number(&self) -> u64;

    /// Appends the bytes of a record.
    fn write(&self, bytes: &mut Vec<u8>);

    /// The piece of a record, if it is of one.
    fn read(bytes: &[u8]) -> Option<Self>;

    /// Whether the records of a journal are such pieces.
    fn is_kept_by(header: &Header) -> bool;
}

/// The record of a piece.
pub(super) fn encode<K: Kept>(piece: &K, key: &[u8; 32]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(K::BYTES + SUM);
    piece.write(&mut bytes);
    let sum = checksum(key, &bytes);
    bytes.extend(sum);
    bytes
}

/// The piece of a record; `None` if the record is not whole.
pub(super) fn decode<K: Kept>(key: &[u8; 32], bytes: &[u8]) -> Option<K> {
    let (held, sum) = bytes.split_at_checked(K::BYTES)?;
    if checksum(key, held) != sum {
        return None;
    }
    K::read(held)
}

fn checksum(key: &[u8; 32], bytes: &[u8]) -> [u8; SUM] {
    let hash = blake3::keyed_hash(key, bytes);
    hash.as_bytes()[..SUM].try_into().expect("a hash is longer")
}

/// The entries of several journals in the order of their trials, each once.
///
/// # Errors
/// If two of them differ about a trial.
pub fn merged<K: Kept>(entries: Vec<K>) -> Result<Vec<K>, JournalError> {
    sorted("the journals", entries)
}

/// Entries in the order of their trials, each once.
pub(super) fn sorted<K: Kept>(path: &str, mut entries: Vec<K>) -> Result<Vec<K>, JournalError> {
    entries.sort_by_key(Kept::number);
    let differ =
        entries.windows(2).find(|pair| pair[0].number() == pair[1].number() && pair[0] != pair[1]);
    if let Some(pair) = differ {
        let (index, why) = (pair[0].number(), "it is there twice, with different results");
        return Err(JournalError::Contradicts { path: path.into(), index, why });
    }
    entries.dedup_by_key(|entry| entry.number());
    Ok(entries)
}

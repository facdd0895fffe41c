//! A campaign that goes on from what is there: runs the missing trials, and tells all of them.
//!
//! Invariant: what is told at the end follows from the set of trials alone, not from who ran which
//! of them when. So a run that was interrupted, shared out or resumed tells what a whole one does.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rayon::prelude::*;

use crate::campaign::Campaign;
use crate::ecc::Decoded;
use crate::journal::{self, Entry, JournalError, Shard, Writer};
use crate::outcome::{Cause, Outcome};
use crate::record::Record;
use crate::tally::Tally;

/// How long a batch should take at most: what it holds is lost with the process.
pub(crate) const BATCH: Duration = Duration::from_millis(200);
/// The most trials of a batch, where they are run one by one and where they are simulated: there
/// many on one sample share their work.
const MOST: (u64, u64) = (256, 1 << 14);
/// Trials that are told at once.
const BLOCK: usize = 4096;

/// Runs the trials of a shard that are not there yet, in parallel, and gives all of them in the
/// order of their numbers.
///
/// Every trial goes to the journal, if there is one, as soon as its batch has ended; `progress`
/// sees it then. `stop` is asked before each batch.
///
/// # Errors
/// If the journal cannot be written any more.
pub fn complete(
    campaign: &Campaign,
    shard: Shard,
    present: Vec<Entry>,
    journal: Option<&mut Writer>,
    progress: &(dyn Fn(&[Entry]) + Sync),
    stop: &(dyn Fn() -> bool + Sync),
) -> Result<Vec<Entry>, JournalError> {
    let below = campaign.plan().trials;
    fill(campaign, (shard, below), present, journal, progress, stop)
}

/// Like [`complete`], but looks now and then, and ends where it has seen enough: of the trials that
/// are then there it gives those below the look that decided, and whether one did.
///
/// It looks after every `look` trials, rounded up to whole rounds of all shards; `enough` sees
/// every trial of the shard below the look, and nothing else. So where a campaign ends depends
/// neither on threads nor on where it was interrupted, and what was run beyond that end does not
/// count.
///
/// # Errors
/// If the journal cannot be written any more.
pub fn complete_until(
    campaign: &Campaign,
    (shard, look): (Shard, u64),
    present: Vec<Entry>,
    mut journal: Option<&mut Writer>,
    enough: &mut dyn FnMut(&[Entry]) -> bool,
    progress: &(dyn Fn(&[Entry]) + Sync),
    stop: &(dyn Fn() -> bool + Sync),
) -> Result<(Vec<Entry>, bool), JournalError> {
    let (mix, trials) = (campaign.mix(), campaign.plan().trials);
    let rounds = mix.round() * shard.of;
    let look = look.max(1).div_ceil(rounds) * rounds;
    let (mut entries, mut below) = (present, 0);
    while below < trials {
        below = trials.min(below + look);
        let journal = journal.as_deref_mut();
        entries = fill(campaign, (shard, below), entries, journal, progress, stop)?;
        let seen = entries.partition_point(|entry| entry.index < below);
        if (seen as u64) < mix.trials_below(shard, below) {
            return Ok((entries, false));
        }
        if enough(&entries[..seen]) {
            entries.truncate(seen);
            return Ok((entries, true));
        }
    }
    Ok((entries, false))
}

/// Runs the trials of a shard below a number that are not there yet.
fn fill(
    campaign: &Campaign,
    (shard, below): (Shard, u64),
    present: Vec<Entry>,
    journal: Option<&mut Writer>,
    progress: &(dyn Fn(&[Entry]) + Sync),
    stop: &(dyn Fn() -> bool + Sync),
) -> Result<Vec<Entry>, JournalError> {
    let round = campaign.mix().round();
    let mut there = present.iter().map(|entry| entry.index).peekable();
    let mut missing = (0..below).filter(|index| shard.has_round(index / round)).filter(|index| {
        while there.next_if(|present| present < index).is_some() {}
        there.peek() != Some(index)
    });
    let most = if campaign.simulates { MOST.1 } else { MOST.0 };
    let size = AtomicU64::new(1);
    let next = || {
        let batch: Vec<u64> =
            missing.by_ref().take(size.load(Ordering::Relaxed) as usize).collect();
        (!batch.is_empty()).then_some(batch)
    };
    let shared = Mutex::new((journal, Vec::new(), None));
    let failed = || shared.lock().expect("no holder panics").2.is_some();
    std::iter::from_fn(next).par_bridge().for_each(|batch| {
        if stop() || failed() {
            return;
        }
        let begun = Instant::now();
        let entries: Vec<Entry> = campaign.batch(&batch).iter().map(Record::entry).collect();
        let spent = begun.elapsed();
        let fit = fitting(batch.len() as u64, spent).min(most);
        size.store(fit, Ordering::Relaxed);
        let mut shared = shared.lock().expect("no holder panics");
        let (journal, fresh, error) = &mut *shared;
        let appended = journal.as_mut().map_or(Ok(()), |journal| journal.append(&entries));
        match appended {
            Ok(()) => {
                progress(&entries);
                fresh.extend(entries);
            }
            Err(problem) => *error = Some(problem),
        }
    });
    let (journal, fresh, error) = shared.into_inner().expect("no holder panics");
    if let Some(error) = error {
        return Err(error);
    }
    journal.map_or(Ok(()), Writer::finish)?;
    let mut all = present;
    all.extend(fresh);
    journal::merged(all)
}

/// How many trials fit a batch, from what one took: one or more, at most twice as many as it had.
fn fitting(trials: u64, spent: Duration) -> u64 {
    let each = spent.as_nanos() / u128::from(trials.max(1));
    let fit = BATCH.as_nanos() / each.max(1);
    (fit.min(u128::from(2 * trials)) as u64).max(1)
}

/// Tells trials, in the order of their numbers: the bits they flipped are drawn once more.
///
/// # Errors
/// If an entry is not what the campaign draws under its number.
pub fn retold(campaign: &Campaign, entries: &[Entry]) -> Result<Tally, JournalError> {
    let mut tally = Tally::new(campaign.plan().worst);
    for block in entries.chunks(BLOCK) {
        let records: Result<Vec<Record>, JournalError> =
            block.par_iter().map(|entry| record(campaign, entry)).collect();
        tally.absorb(records?);
    }
    Ok(tally)
}

fn record(campaign: &Campaign, entry: &Entry) -> Result<Record, JournalError> {
    let index = entry.index;
    let contradicts = |why| JournalError::Contradicts { path: "a journal".into(), index, why };
    if index >= campaign.plan().trials {
        return Err(contradicts("the plan has fewer trials"));
    }
    let draw = campaign.draw(index);
    let flagged = |decoded| decoded == Decoded::Flagged;
    let behind = draw.behind.as_ref().map(|behind| flagged(behind.decoded));
    let told = entry.raw.map(|_| entry.trial.outcome == Outcome::Due(Cause::Flagged));
    if behind != told {
        return Err(contradicts("it is not what the plan's memory code makes of it"));
    }
    let drawn = (draw.stratum, draw.sample, draw.struck());
    let written = (entry.stratum.into(), entry.sample as usize, entry.flips as usize);
    if drawn != written {
        return Err(contradicts("it is not what the plan draws under this number"));
    }
    Ok(campaign.record(index, draw, entry.trial, entry.raw))
}

impl Record {
    /// What a journal keeps of it.
    #[must_use]
    pub fn entry(&self) -> Entry {
        let small = |number: usize| u32::try_from(number).expect("fewer than 2^32");
        Entry {
            index: self.index,
            stratum: u16::try_from(self.stratum).expect("fewer than 2^16 strata"),
            sample: small(self.sample),
            flips: small(self.struck()),
            trial: self.trial,
            raw: self.raw,
        }
    }
}

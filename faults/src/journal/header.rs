//! What a journal is of: written first, read before any model is loaded, and never changed.
//!
//! ```text
//! bitnet-certify journal 1
//! <length of the text in bytes> <BLAKE3 of the text, hexadecimal>
//! <the text: TOML>
//! ```
//!
//! The records follow directly. The first line is the format's version; a reader of another one
//! stops there.

use std::io::{self, BufRead, Read};

use engine::ARITHMETIC;
use serde::{Deserialize, Serialize};

use super::JournalError;
use crate::draw::FORMAT_VERSION;

/// How every journal begins; the number behind it is the version.
const OPENING: &str = "bitnet-certify journal ";
/// The version that this program writes and reads.
const VERSION: &str = "1";
/// The longest text that is believed.
const MOST_TEXT: usize = 16 << 20;

/// A share of the trials of a campaign: whole rounds of its plan, dealt in turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shard {
    /// Which share, from 0.
    pub index: u64,
    /// How many shares there are.
    pub of: u64,
}

impl Shard {
    /// The share that has all trials.
    pub const WHOLE: Self = Self { index: 0, of: 1 };

    /// How many of some rounds belong to the share.
    #[must_use]
    pub fn share_of(&self, rounds: u64) -> u64 {
        rounds / self.of + u64::from(self.index < rounds % self.of)
    }

    /// Whether a round of the plan belongs to the share.
    #[must_use]
    pub fn has_round(&self, round: u64) -> bool {
        round % self.of == self.index
    }
}

/// What a journal is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// The engine's arithmetic.
    pub arithmetic: String,
    /// The version of the draws.
    pub draws: u64,
    /// The digest of the model.
    pub model: String,
    /// The digest of the samples.
    pub inputs: String,
    /// How many trials the campaign has, over all shards.
    pub trials: u64,
    /// Which of them are this journal's.
    pub shard: Shard,
    /// The plan, in full and normalised.
    pub plan: String,
    /// Where the caller found model and samples, in words of its own; another place is no other
    /// campaign.
    pub request: String,
}

impl Header {
    /// The header of a campaign under this program's arithmetic and draws.
    #[must_use]
    pub fn new(model: &str, inputs: &str, plan: &str, trials: u64, shard: Shard) -> Self {
        Self {
            arithmetic: ARITHMETIC.into(),
            draws: FORMAT_VERSION,
            model: model.into(),
            inputs: inputs.into(),
            trials,
            shard,
            plan: plan.into(),
            request: String::new(),
        }
    }

    /// Whether two journals are of one campaign, be they of different shards of it.
    ///
    /// # Errors
    /// The first part in which they differ.
    pub fn same_campaign(&self, other: &Self) -> Result<(), Difference> {
        let part = |what, here: &str, there: &str| match here == there {
            true => Ok(()),
            false => Err(Difference { what, here: here.into(), there: there.into() }),
        };
        let number =
            |what, here: u64, there: u64| part(what, &here.to_string(), &there.to_string());
        part("arithmetic", &self.arithmetic, &other.arithmetic)?;
        number("version of the draws", self.draws, other.draws)?;
        part("model", &self.model, &other.model)?;
        part("samples", &self.inputs, &other.inputs)?;
        let lines = self.plan.lines().chain(std::iter::repeat(""));
        let others = other.plan.lines().chain(std::iter::repeat(""));
        let longer = self.plan.lines().count().max(other.plan.lines().count());
        for (here, there) in lines.zip(others).take(longer) {
            part("plan", here, there)?;
        }
        number("trials", self.trials, other.trials)?;
        number("number of shards", self.shard.of, other.shard.of)
    }

    /// Whether this program computes and draws as the one that began the journal.
    ///
    /// # Errors
    /// In what they differ.
    pub fn same_program(&self) -> Result<(), Difference> {
        let here = Self::new(&self.model, &self.inputs, &self.plan, self.trials, self.shard);
        self.same_campaign(&here)
    }

    /// The bytes that stand before the records.
    pub(super) fn encode(&self) -> Vec<u8> {
        let text = toml::to_string(self).expect("plain data");
        let hash = blake3::hash(text.as_bytes()).to_hex();
        format!("{OPENING}{VERSION}\n{} {hash}\n{text}", text.len()).into_bytes()
    }

    /// The key of the checksums of the records.
    pub(super) fn key(&self) -> [u8; 32] {
        *blake3::hash(&self.encode()).as_bytes()
    }

    /// Reads a header and says how many bytes it took.
    pub(super) fn decode(path: &str, from: &mut impl BufRead) -> Result<(Self, u64), JournalError> {
        let no = |why: &str| JournalError::NotOne { path: path.into(), why: why.into() };
        let io = |error: io::Error| JournalError::read(path, &error);
        let mut line = |most: u64| {
            let mut line = Vec::new();
            from.by_ref().take(most).read_until(b'\n', &mut line).map_err(io)?;
            Ok(String::from_utf8_lossy(&line).into_owned())
        };
        let first = line(100)?;
        let version = first.strip_prefix(OPENING).and_then(|rest| rest.strip_suffix('\n'));
        let version = version.ok_or_else(|| no("it does not begin like one"))?;
        if version != VERSION {
            let (found, expected) = (version.to_owned(), VERSION);
            return Err(JournalError::Version { path: path.into(), found, expected });
        }
        let second = line(100)?;
        let broken = || no("its header is damaged");
        let (length, hash) = second.trim_end().split_once(' ').ok_or_else(broken)?;
        let length: usize = length.parse().map_err(|_| broken())?;
        if length > MOST_TEXT {
            return Err(broken());
        }
        let mut text = vec![0u8; length];
        from.read_exact(&mut text).map_err(|_| broken())?;
        if blake3::hash(&text).to_hex().as_str() != hash {
            return Err(broken());
        }
        let taken = (first.len() + second.len() + length) as u64;
        let text = String::from_utf8(text).map_err(|_| broken())?;
        let header = toml::from_str(&text).map_err(|error| no(&error.to_string()))?;
        Ok((header, taken))
    }
}

/// In what a journal is of another campaign.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("another {what}: it has {here:?}, expected {there:?}")]
pub struct Difference {
    /// Which part.
    pub what: &'static str,
    /// What the journal has.
    pub here: String,
    /// What was expected.
    pub there: String,
}

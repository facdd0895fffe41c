//! Data sets of bit perturbations: one row a perturbation of one model under one sample.
//!
//! A folder holds `data/SPLIT-00000-of-00001.parquet` with a JSON Lines mirror beside it, a card
//! (`README.md`) and a manifest (`dataset.json`), laid out as the readers of such folders expect.
//! Rows are plain data and say enough to be replayed: which bits of which stored bytes, on what
//! input, in which arithmetic, and the digest of the logits that came out.

mod card;
mod columns;
mod parquet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{FaultTarget, Outcome, UnusedCode};

pub use self::card::card;
pub use self::columns::features;
pub use self::parquet::{ParquetError, write_parquet};

/// The version of rows and manifest that this crate writes and reads.
pub const DATASET_VERSION: &str = "1.2";

/// Why a row is in the set.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum RowKind {
    /// The decision changed, or the fault was detected.
    Hit,
    /// The decision stood, but most of its margin was lost.
    NearMiss,
    /// The decision stood.
    Benign,
    /// The decision stands, and provably so under every flip of the set that the row's bound is of.
    BenignProven,
}

impl RowKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Hit, Self::NearMiss, Self::Benign, Self::BenignProven];

    /// The word in the rows.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::NearMiss => "near-miss",
            Self::Benign => "benign",
            Self::BenignProven => "benign-proven",
        }
    }
}

/// The part of a set that a row is in; all rows of a tensor are in the same.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// For fitting.
    Train,
    /// For choosing.
    Validation,
    /// For figures.
    Test,
}

impl Split {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Train, Self::Validation, Self::Test];

    /// The word in file names and rows.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
        }
    }
}

/// One perturbation of one model, under one sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// Number of the row in the whole set, from 0.
    pub row: u64,
    /// Its part of the set, by tensor: a hash of the first struck tensor's name chooses it.
    pub split: Split,
    /// Its part of a set joined from many models: a hash of the model's digest chooses it, so all
    /// rows of a model are in the same.
    pub model_split: Split,
    /// Why it is in the set.
    pub kind: RowKind,
    /// Name or path of the model.
    pub model: String,
    /// Digest of the model's files.
    pub model_digest: String,
    /// How the first struck tensor is stored, such as `hf-packed` or `gguf-tq2_0`.
    pub format: String,
    /// What is struck.
    pub target: FaultTarget,
    /// How bits were chosen, such as `single` or `random-2`.
    pub fault_model: String,
    /// The bits by their logical names, in the order of their addresses.
    pub addresses: Vec<String>,
    /// The stored tensor of each struck byte.
    pub tensors: Vec<String>,
    /// Its offset in the tensor.
    pub byte_offsets: Vec<u64>,
    /// The bits of it that flip.
    pub xor_masks: Vec<u8>,
    /// The byte before.
    pub old_bytes: Vec<u8>,
    /// The byte after.
    pub new_bytes: Vec<u8>,
    /// The 2-bit code of each struck weight before, weight = code - 1; empty for other targets.
    pub old_codes: Vec<u8>,
    /// The code after; 3 is unused by writers.
    pub new_codes: Vec<u8>,
    /// What the unused code means.
    pub unused_code: UnusedCode,
    /// Digest of the inputs.
    pub inputs_digest: String,
    /// Number of the sample in them, from 0.
    pub sample: u64,
    /// Its tokens.
    pub tokens: u64,
    /// Positions whose best token changed.
    pub tokens_changed: u64,
    /// The first of them, from 0; null if none did.
    pub first_changed_token: Option<u64>,
    /// The clean decision at the last position.
    pub decision_before: u32,
    /// The decision under the fault; null if it was detected.
    pub decision_after: Option<u32>,
    /// The right decision, if it is known.
    pub label: Option<u32>,
    /// Margin of the clean decision over the best other candidate, in logits.
    pub margin_before: f64,
    /// The same under the fault, negative once the decision changed; null if it was detected.
    pub margin_after: Option<f64>,
    /// Largest change of a logit at the last position, in magnitude; null if it was detected.
    pub max_logit_change: Option<f64>,
    /// Kullback-Leibler divergence of the faulty from the clean distribution at the last position,
    /// in nats; null if it was detected.
    pub kl_divergence: Option<f64>,
    /// No flips of the set named below change any logit at the last position by more; null where
    /// that is not bounded, or the fault was detected.
    pub logit_change_bound: Option<f64>,
    /// The set that bound and proof speak of, such as `any 1 flip of the row`; null without one.
    pub bound_of: Option<String>,
    /// What became of the fault.
    pub outcome: Outcome,
    /// Whether every logit kept every bit.
    pub identical: bool,
    /// Seed of the draw.
    pub seed: u64,
    /// Number of the trial: the draw is a pure function of model, inputs, seed and it.
    pub trial: u64,
    /// The arithmetic that computed the row, such as `bca-1`.
    pub arithmetic: String,
    /// BLAKE3 of outcome and logits at all positions under the fault.
    pub replay_digest: String,
    /// Another model on which the same bits were flipped; null if there was none.
    pub transfer_model: Option<String>,
    /// What became of the fault there; null if there was none, or it has no such bits.
    pub transfer_outcome: Option<Outcome>,
}

/// What a folder of rows holds, and from what it was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of rows and manifest, `"1.2"`.
    pub dataset_version: String,
    /// The program that wrote it, with its version.
    pub tool: String,
    /// The arithmetic that computed the rows.
    pub arithmetic: String,
    /// The model as it was named.
    pub model: String,
    /// Digest of its files.
    pub model_digest: String,
    /// The inputs as they were named; null for those that come with the model.
    pub inputs: Option<String>,
    /// Digest of the inputs.
    pub inputs_digest: String,
    /// How many samples of them were used, from the first on.
    pub samples: u64,
    /// The second model as it was named; null if there was none.
    pub transfer: Option<String>,
    /// Trials that rows were chosen from.
    pub trials: u64,
    /// Seed of the draw.
    pub seed: u64,
    /// What was struck, in turn.
    pub targets: Vec<String>,
    /// Bits that flip together.
    pub flips: u32,
    /// What the unused code means.
    pub unused_code: UnusedCode,
    /// The files, by their paths in the folder.
    pub files: Vec<File>,
}

/// One file of a data set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Path in the folder.
    pub path: String,
    /// Rows in it.
    pub rows: u64,
    /// BLAKE3 of its bytes.
    pub digest: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A row with every field filled.
    pub(super) fn row(row: u64) -> Row {
        Row {
            row,
            split: Split::Train,
            model_split: Split::Test,
            kind: RowKind::Hit,
            model: "@digits".into(),
            model_digest: "blake3:00".into(),
            format: "hf-packed".into(),
            target: FaultTarget::WeightCode,
            fault_model: "random-2".into(),
            addresses: vec!["a.weight[1,2].0".into(), "b.weight[1,2].1".into()],
            tensors: vec!["a.weight".into(), "b.weight".into()],
            byte_offsets: vec![17, 400],
            xor_masks: vec![4, 128],
            old_bytes: vec![0, 255],
            new_bytes: vec![4, 127],
            old_codes: vec![0, 3],
            new_codes: vec![1, 1],
            unused_code: UnusedCode::Deployed,
            inputs_digest: "blake3:11".into(),
            sample: 3,
            tokens: 9,
            tokens_changed: 1,
            first_changed_token: Some(8),
            decision_before: 1,
            decision_after: Some(2),
            label: Some(1),
            margin_before: 0.1 + row as f64,
            margin_after: Some(-1.0 / 3.0),
            max_logit_change: Some(1.5),
            kl_divergence: Some(0.25),
            logit_change_bound: Some(2.5),
            bound_of: Some("any 2 flips of the model".into()),
            outcome: Outcome::Sdc,
            identical: false,
            seed: 5,
            trial: 99,
            arithmetic: "bca-1".into(),
            replay_digest: "22".into(),
            transfer_model: None,
            transfer_outcome: None,
        }
    }

    #[test]
    fn a_card_names_its_splits_columns_and_counts() {
        let file = File { path: "data/train.jsonl".into(), rows: 2, digest: "00".into() };
        let manifest = Manifest {
            dataset_version: DATASET_VERSION.into(),
            tool: "bitnet-certify 0.1.0".into(),
            arithmetic: "bca-1".into(),
            model: "@digits".into(),
            model_digest: "blake3:00".into(),
            inputs: None,
            inputs_digest: "blake3:11".into(),
            samples: 4,
            transfer: None,
            trials: 100,
            seed: 5,
            targets: vec!["weight_code".into()],
            flips: 1,
            unused_code: UnusedCode::Deployed,
            files: vec![file],
        };
        let text = card(&manifest, &|split, kind| {
            u64::from(split == Split::Train && kind == RowKind::Hit) * 2
        });
        assert!(text.contains("- split: train\n    path: data/train-*.parquet\n"), "{text}");
        assert!(!text.contains("split: test"), "{text}");
        assert!(text.contains("  - name: old_codes\n    sequence: int64\n"), "{text}");
        assert!(text.contains("| train | 2 | 0 | 0 | 0 |"), "{text}");
    }
}

//! What the memory does about bit flips: codes that correct or detect, and codes of weights.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A code that protects stored bytes; every word has its check bits, which faults strike too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MemoryCode {
    /// None.
    None,
    /// A parity bit a word: flags odd numbers of flips.
    Parity,
    /// Single error correction, double error detection: Hsiao's (72, 64).
    Secded,
    /// Single error correction within the memory, (136, 128): miscorrects most double errors.
    OnDie,
    /// Single chip correction, double and triple chip detection: Reed-Solomon (36, 32) over bytes.
    Chipkill,
    /// The sum of a group of 2-bit codes modulo 4: flags a changed sum.
    Checksum,
    /// A cyclic redundancy check of 8 bits for a group of 2-bit codes.
    Crc,
}

impl MemoryCode {
    /// The word in the JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Parity => "parity",
            Self::Secded => "secded",
            Self::OnDie => "on-die",
            Self::Chipkill => "chipkill",
            Self::Checksum => "checksum",
            Self::Crc => "crc",
        }
    }
}

/// What became of raw faults of all packed weights behind one memory code.
///
/// `trials = harmless + detected + residual` and `residual = masked + sdc + due`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Protected {
    /// The code.
    pub code: MemoryCode,
    /// Data bits of a word.
    pub word_bits: u64,
    /// Check bits of a word.
    pub check_bits: u64,
    /// Stored bits of all packed weights, check bits included: the population of raw faults.
    pub stored_bits: u64,
    /// Bits that a raw fault strikes, all of one word.
    pub raw_flips: u32,
    /// Number of raw faults.
    pub trials: u64,
    /// Those after which the data were right.
    pub harmless: u64,
    /// Those that the memory flagged, so that no model ran.
    pub detected: u64,
    /// Those that reached the model unnoticed.
    pub residual: u64,
    /// Residual ones with the same decision.
    pub masked: u64,
    /// Residual ones with another decision.
    pub sdc: u64,
    /// Residual ones that the reader of the weights, or the read-out, noticed.
    pub due: u64,
    /// Share of raw faults that reach the model: of all sets of bits in a word, where they were all
    /// enumerated, and else `residual / trials`; null where neither was.
    pub residual_rate: Option<f64>,
    /// Lower end of its interval: the share itself, or that of the exact interval of the sample.
    pub residual_rate_low: f64,
    /// Upper end, likewise.
    pub residual_rate_high: f64,
    /// Parameter vulnerability factor, `sdc / residual`; null where nothing was residual.
    pub pvf: Option<f64>,
    /// Lower end of its exact interval.
    pub pvf_low: f64,
    /// Upper end of its exact interval.
    pub pvf_high: f64,
    /// Assumed raw failures of the memory in 10^9 hours a Mbit of 2^20 bits, from.
    pub fit_per_mbit_low: f64,
    /// The same, to.
    pub fit_per_mbit_high: f64,
    /// Wrong decisions in 10^9 hours if every raw fault is of this kind: raw rate of all stored
    /// bits times residual rate times pvf, lower end.
    pub fit_critical_low: f64,
    /// The same, upper end.
    pub fit_critical_high: f64,
}

/// One flip of a stored bit, each bit as likely as any other: over all targets that are parameters
/// of the model, each a stratum with the weight of its bits.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StoredBits {
    /// Stored bits of these targets.
    pub bits: u64,
    /// Trials that struck them.
    pub trials: u64,
    /// Share of flips that change a decision; null where a target was not tried.
    pub sdc_rate: Option<f64>,
    /// Lower end of its interval.
    pub sdc_rate_low: f64,
    /// Upper end of its interval.
    pub sdc_rate_high: f64,
}

/// Which bits flip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FlipDirection {
    /// Any.
    Both,
    /// Set bits fall.
    OneToZero,
    /// Clear bits rise.
    ZeroToOne,
}

/// An assignment of 2-bit codes to the three weights, and what single flips of all packed weights
/// do under it. Of each pair that differs by the order of the two bits one is listed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Encoding {
    /// Code of -1, high bit first, such as `"00"`.
    pub minus_one: String,
    /// Code of 0.
    pub zero: String,
    /// Code of +1.
    pub plus_one: String,
    /// The unused code.
    pub unused: String,
    /// Whether it is the one of the packing.
    pub deployed: bool,
    /// What single flips do, by direction.
    pub directions: Vec<EncodingDirection>,
}

/// What single flips in one direction do.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EncodingDirection {
    /// The direction.
    pub direction: FlipDirection,
    /// Number of flips that are possible: of bits that can move this way.
    pub flips: u64,
    /// Share of them that land in the unused code, where a checking reader sees them for free.
    pub unused_share: f64,
    /// Share of them between -1 and +1.
    pub sign_flip_share: f64,
    /// Mean change of a weight, in magnitude, with the unused code read by the report's policy.
    pub mean_weight_change: f64,
}

/// What single flips do to weights that stand five in a byte, as `TQ1_0` packs them, in one
/// direction. Means over bytes whose weights are independent and have the shares of the model.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TritDirection {
    /// The direction.
    pub direction: FlipDirection,
    /// Bits of a byte that can move this way.
    pub bits_per_byte: f64,
    /// Mean number of weights that a flip changes; at most 5.
    pub mean_weights_hit: f64,
    /// Mean of the changes of the weights of a flip, in magnitude, added up.
    pub mean_weight_change: f64,
    /// Share of the flips that land in a byte which no writer makes: 13 of 256 are such.
    pub unused_share: f64,
}

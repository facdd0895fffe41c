//! Which bits flip together.

mod keys;

pub use keys::FaultFile;
pub(crate) use keys::MODELS;

/// A fault model: what one trial flips.
#[derive(Clone, Debug, PartialEq)]
pub enum Pattern {
    /// Distinct bits anywhere.
    Random {
        /// How many.
        flips: u32,
    },
}

impl Pattern {
    /// The fewest bits that it can be drawn among.
    #[must_use]
    pub fn needs(&self) -> u64 {
        match *self {
            Self::Random { flips } => flips.into(),
        }
    }
}

//! Fault models in the words of a plan.

use serde::Deserialize;

use super::Pattern;
use crate::space::Target;

/// The names of the models.
pub(crate) const MODELS: [&str; 1] = ["random"];

/// One `[[fault]]` of a plan file.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultFile {
    /// What is struck.
    pub target: String,
    /// Which bits flip together; `random` by default.
    pub model: Option<String>,
    /// Trials in a round; 1 by default.
    pub weight: Option<u32>,
    /// Only in these layers.
    pub layers: Option<Vec<usize>>,
    /// Only in tensors of these names.
    pub tensors: Option<Vec<String>>,
    /// How many bits flip.
    pub flips: Option<u32>,
}

/// A value that makes no sense.
pub(crate) struct Wrong {
    pub(crate) key: &'static str,
    pub(crate) got: String,
    pub(crate) expected: String,
}

impl FaultFile {
    /// A key of a model that has not been taken.
    pub(crate) fn left(&self) -> Option<&'static str> {
        [("flips", self.flips.is_some())].into_iter().find_map(|(key, left)| left.then_some(key))
    }
}

impl Pattern {
    /// The name of the model in plans.
    #[must_use]
    pub fn model(&self) -> &'static str {
        match self {
            Self::Random { .. } => "random",
        }
    }

    /// Its keys and their values, as TOML.
    #[must_use]
    pub fn keys(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Random { flips } => vec![("flips", flips.to_string())],
        }
    }

    /// The model of a name, from the keys that it takes.
    pub(crate) fn from_keys(model: &str, keys: &mut FaultFile, _: Target) -> Result<Self, Wrong> {
        let wrong =
            |key, got: String, expected: &str| Wrong { key, got, expected: expected.into() };
        match model {
            "random" => {
                let flips = keys.flips.take().unwrap_or(1);
                if flips == 0 {
                    return Err(wrong("flips", flips.to_string(), "1 or more"));
                }
                Ok(Self::Random { flips })
            }
            _ => unreachable!("a name of the list"),
        }
    }
}

//! Plans as TOML: what a user writes, what a journal begins with, and what a report shows.
//!
//! ```toml
//! seed = 0
//! trials = 8000
//! confidence = 0.99
//! unused_code = "deployed"
//! kv = "f32"
//! positions = "all"
//!
//! [[fault]]
//! target = "weight_code"
//! model = "random"
//! flips = 2
//! weight = 3
//! layers = [0, 1]
//! tensors = ["mlp.down_proj"]
//! ```
//!
//! Every key may be left out but the `target` of a fault; floats may be struck in one `part`
//! alone (`sign`, `exponent` or `mantissa`), and a weight code may lie behind a memory code
//! (`protection`, a word of [`Protection::named`]). Unknown keys are refused, and so are
//! those that the model of a fault has no use for. Invariant: the text of a [`Mix`] reads back as
//! the same mix, and one mix has one text.

use std::fmt::Write as _;

use engine::model::KvKind;
use engine::walk::Read;
use serde::Deserialize;

use crate::campaign::Plan;
use crate::ecc::Protection;
use crate::fault::UnusedCode;
use crate::mix::{FloatPart, Mix, Stratum, Within};
use crate::pattern::{FaultFile, MODELS, Pattern};
use crate::space::Target;

/// What a plan file says.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanFile {
    /// The seed.
    pub seed: Option<u64>,
    /// How many trials, over all faults.
    pub trials: Option<u64>,
    /// Of the intervals.
    pub confidence: Option<f64>,
    /// `deployed`, `zero` or `detect`.
    pub unused_code: Option<String>,
    /// `f32`, `f16`, `int8` or `1bit`.
    pub kv: Option<String>,
    /// `last` or `all`.
    pub positions: Option<String>,
    /// The faults that take turns.
    #[serde(default)]
    pub fault: Vec<FaultFile>,
}

/// Why a plan is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// It is not TOML, or has a key that no plan has.
    #[error("{0}")]
    Toml(String),
    /// A value is not one of those that there are.
    #[error("{place}{key} = {got}: expected {expected}")]
    Value {
        /// Which fault it is of, if any.
        place: String,
        /// The key.
        key: &'static str,
        /// Its value.
        got: String,
        /// What would do.
        expected: String,
    },
    /// A key that the model of the fault has no use for.
    #[error("{place}{key}: model {model:?} has no use for it")]
    Stray {
        /// Which fault it is of.
        place: String,
        /// The key.
        key: &'static str,
        /// The model.
        model: &'static str,
    },
}

impl PlanFile {
    /// The largest number that TOML holds.
    pub const MOST: u64 = i64::MAX as u64;

    /// Reads a plan.
    ///
    /// # Errors
    /// If it is not TOML, or has a key that no plan has.
    pub fn parse(text: &str) -> Result<Self, PlanError> {
        toml::from_str(text).map_err(|error| PlanError::Toml(error.to_string().trim_end().into()))
    }

    /// The strata of its faults, each checked.
    ///
    /// # Errors
    /// The first value that makes no sense, with its place.
    pub fn strata(&self) -> Result<Vec<Stratum>, PlanError> {
        self.fault.iter().enumerate().map(|(number, fault)| fault.stratum(number)).collect()
    }

    /// The mix of a plan that leaves nothing out, as [`Mix::to_toml`] writes it.
    ///
    /// # Errors
    /// The first value that is missing or makes no sense.
    pub fn mix(&self, worst: usize) -> Result<Mix, PlanError> {
        let strata = self.strata()?;
        let missing = |key, expected: &str| value("", key, "nothing", expected);
        let mut targets: Vec<Target> = Vec::new();
        for stratum in &strata {
            if !targets.contains(&stratum.target) {
                targets.push(stratum.target);
            }
        }
        let plan = Plan {
            seed: self.seed.ok_or_else(|| missing("seed", "a number"))?,
            trials: self.trials.ok_or_else(|| missing("trials", "a number"))?,
            flips: simple_flips(&strata).unwrap_or(1) as usize,
            targets,
            unused: self.unused_code()?.ok_or_else(|| missing("unused_code", "a word"))?,
            kv: self.kv()?.ok_or_else(|| missing("kv", "a word"))?,
            confidence: self.confidence.ok_or_else(|| missing("confidence", "a number"))?,
            positions: self.positions()?.ok_or_else(|| missing("positions", "a word"))?,
            worst,
        };
        Ok(Mix { plan, strata })
    }

    /// What it says of the unused code.
    ///
    /// # Errors
    /// If that is no policy.
    pub fn unused_code(&self) -> Result<Option<UnusedCode>, PlanError> {
        let expected = "deployed, zero or detect";
        word("unused_code", self.unused_code.as_deref(), UnusedCode::named, expected)
    }

    /// What it says of the store of keys and values.
    ///
    /// # Errors
    /// If that is no kind of store.
    pub fn kv(&self) -> Result<Option<KvKind>, PlanError> {
        let kinds = [KvKind::F32, KvKind::F16, KvKind::Int8, KvKind::OneBit];
        let named = |name: &str| kinds.into_iter().find(|kind| kind.name() == name);
        word("kv", self.kv.as_deref(), named, "f32, f16, int8 or 1bit")
    }

    /// What it says of positions.
    ///
    /// # Errors
    /// If that is neither of the two words.
    pub fn positions(&self) -> Result<Option<Read>, PlanError> {
        let named = |name: &str| match name {
            "all" => Some(Read::All),
            "last" => Some(Read::Last),
            _ => None,
        };
        word("positions", self.positions.as_deref(), named, "all or last")
    }
}

fn word<T>(
    key: &'static str,
    got: Option<&str>,
    named: impl Fn(&str) -> Option<T>,
    expected: &str,
) -> Result<Option<T>, PlanError> {
    got.map(|got| named(got).ok_or_else(|| value("", key, format!("{got:?}"), expected)))
        .transpose()
}

fn value(
    place: &str,
    key: &'static str,
    got: impl Into<String>,
    expected: impl Into<String>,
) -> PlanError {
    PlanError::Value { place: place.into(), key, got: got.into(), expected: expected.into() }
}

impl FaultFile {
    fn stratum(&self, number: usize) -> Result<Stratum, PlanError> {
        let place = format!("fault {number}: ");
        let target = Target::named(&self.target).ok_or_else(|| {
            let names = Target::ALL.map(Target::name).join(", ");
            value(&place, "target", format!("{:?}", self.target), format!("one of {names}"))
        })?;
        let model = self.model.as_deref().unwrap_or("random");
        let known = MODELS.iter().find(|&&name| name == model).ok_or_else(|| {
            let expected = format!("one of {}", MODELS.join(", "));
            value(&place, "model", format!("{model:?}"), expected)
        })?;
        let mut keys = self.clone();
        let pattern = Pattern::from_keys(known, &mut keys, target)
            .map_err(|wrong| value(&place, wrong.key, wrong.got, wrong.expected))?;
        if let Some(key) = keys.left() {
            return Err(PlanError::Stray { place, key, model: known });
        }
        let weight = self.weight.unwrap_or(1);
        if !(1..=1_000_000).contains(&weight) {
            return Err(value(&place, "weight", weight.to_string(), "1 to 1000000"));
        }
        let part = self.part(&place, &pattern, target)?;
        let within = Within { layers: self.layers.clone(), tensors: self.tensors.clone(), part };
        for (key, empty) in [
            ("layers", within.layers.as_ref().is_some_and(Vec::is_empty)),
            ("tensors", within.tensors.as_ref().is_some_and(Vec::is_empty)),
        ] {
            if empty {
                return Err(value(&place, key, "[]", "one or more, or no such key"));
            }
        }
        let protection = self.protection(&place, target)?;
        Ok(Stratum { target, pattern, weight, within, protection })
    }
}

impl FaultFile {
    /// The code of the memory; of what lies in none, only that it has none can be said.
    fn protection(&self, place: &str, target: Target) -> Result<Protection, PlanError> {
        let Some(name) = &self.protection else { return Ok(Protection::None) };
        let wrong = |expected: &str| value(place, "protection", format!("{name:?}"), expected);
        let found = Protection::named(name).ok_or_else(|| {
            wrong(
                "none, parity:BITS (1 to 256), secded, on-die, chipkill, checksum:WEIGHTS or \
                 crc:WEIGHTS (1 to 128)",
            )
        })?;
        if found != Protection::None && target != Target::WeightCode {
            return Err(wrong("none: only words of weight_code have a code"));
        }
        Ok(found)
    }

    /// The part of floats that is struck, where one is.
    fn part(
        &self,
        place: &str,
        pattern: &Pattern,
        target: Target,
    ) -> Result<Option<FloatPart>, PlanError> {
        let Some(name) = &self.part else { return Ok(None) };
        let wrong = |expected: &str| value(place, "part", format!("{name:?}"), expected);
        let named = FloatPart::ALL.iter().find(|(other, _)| other == name);
        let (_, part) = *named.ok_or_else(|| wrong("sign, exponent or mantissa"))?;
        if matches!(target, Target::WeightCode | Target::KvInt8 | Target::KvOneBit) {
            return Err(wrong("none: what is struck is stored as no float"));
        }
        if !pattern.is_scattered() {
            return Err(wrong("none: the model flips bits by their place"));
        }
        Ok(Some(part))
    }
}

/// The flips of strata that are those of a simple plan.
fn simple_flips(strata: &[Stratum]) -> Option<u32> {
    let flips = |stratum: &Stratum| match stratum.pattern {
        Pattern::Random { flips } if stratum.weight == 1 && stratum.within.is_all() => Some(flips),
        _ => None,
    };
    if strata.iter().any(|stratum| stratum.protection != Protection::None) {
        return None;
    }
    let first = flips(strata.first()?)?;
    strata.iter().all(|stratum| flips(stratum) == Some(first)).then_some(first)
}

impl Mix {
    /// The bits that every trial flips, if that is all that there is to say: every target in turn,
    /// any of its bits.
    #[must_use]
    pub fn simple_flips(&self) -> Option<u32> {
        let distinct: std::collections::BTreeSet<Target> =
            self.strata.iter().map(|stratum| stratum.target).collect();
        simple_flips(&self.strata).filter(|_| distinct.len() == self.strata.len())
    }

    /// Everything that a trial depends on, as text. Where the mix is simple, that of its plan.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = self.plan.text();
        if self.simple_flips().is_none() {
            for stratum in &self.strata {
                write!(text, " fault=({stratum})").expect("text takes all");
            }
        }
        text
    }

    /// The mix as a plan file that leaves nothing out.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let plan = &self.plan;
        let positions = match plan.positions {
            Read::All => "all",
            Read::Last => "last",
        };
        let mut text = format!(
            "seed = {}\ntrials = {}\nconfidence = {:?}\nunused_code = {:?}\nkv = {:?}\n\
             positions = {positions:?}\n",
            plan.seed,
            plan.trials,
            plan.confidence,
            plan.unused.name(),
            plan.kv.name(),
        );
        for stratum in &self.strata {
            let Stratum { target, pattern, weight, within, protection } = stratum;
            let (target, model) = (target.name(), pattern.model());
            write!(text, "\n[[fault]]\ntarget = {target:?}\nmodel = {model:?}\n")
                .expect("text takes all");
            for (key, value) in pattern.keys() {
                writeln!(text, "{key} = {value}").expect("text takes all");
            }
            writeln!(text, "weight = {weight}").expect("text takes all");
            if *protection != Protection::None {
                writeln!(text, "protection = \"{protection}\"").expect("text takes all");
            }
            if let Some(layers) = &within.layers {
                writeln!(text, "layers = {layers:?}").expect("text takes all");
            }
            if let Some(tensors) = &within.tensors {
                writeln!(text, "tensors = {tensors:?}").expect("text takes all");
            }
            if let Some(part) = within.part {
                writeln!(text, "part = {:?}", part.name()).expect("text takes all");
            }
        }
        text
    }
}

impl std::fmt::Display for Stratum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.target.name(), self.pattern.model())?;
        for (key, value) in self.pattern.keys() {
            write!(f, " {key}={value}")?;
        }
        if self.weight != 1 {
            write!(f, " weight={}", self.weight)?;
        }
        if self.protection != Protection::None {
            write!(f, " protection={}", self.protection)?;
        }
        if let Some(layers) = &self.within.layers {
            write!(f, " layers={layers:?}")?;
        }
        if let Some(tensors) = &self.within.tensors {
            write!(f, " tensors={tensors:?}")?;
        }
        if let Some(part) = self.within.part {
            write!(f, " part={}", part.name())?;
        }
        Ok(())
    }
}

//! What a map is of, as TOML: the plan of its journal.

use std::fmt::Write as _;

use engine::model::{KvKind, Model, Slot};
use engine::walk::Read;
use serde::Deserialize;

use crate::exists::has_codes;
use crate::fault::UnusedCode;
use crate::matrix::{Grid, Matrix};
use crate::mix::Within;
use crate::plan_file::{PlanError, PlanFile};
use crate::space::Target;

/// How the plan of every map begins, and no other.
const OPENING: &str = "exhaustive = \"weight_code\"\n";
/// What follows in the plan of a map of which every bit is kept: a ranking.
const EACH_BIT: &str = "keeps = \"bits\"\n";

/// What a ranking is of, if nothing else is said.
const USUAL: [Target; 1] = [Target::WeightCode];

/// What a map is of: every single-bit fault of packed weights, or for a ranking of any stored bits,
/// on the first so many samples.
#[derive(Clone, Debug, PartialEq)]
pub struct MapPlan {
    /// How many samples, at least 1.
    pub samples: u64,
    /// What a reader does with an unused code.
    pub unused: UnusedCode,
    /// How keys and values are stored.
    pub kv: KvKind,
    /// Whether all positions are read, which token changes need, or the last alone.
    pub positions: Read,
    /// Whether faults that a bound proves masked are counted without running.
    pub prove: bool,
    /// In which layers and tensors.
    pub within: Within,
    /// For a ranking what is struck, and what each bit did is kept; `None` for the map of packed
    /// weights, which keeps counts of their rows.
    pub ranked: Option<Vec<Target>>,
}

/// The keys behind the opening; the words that plans of drawn trials have too are read as there.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    #[serde(rename = "exhaustive")]
    _exhaustive: String,
    keeps: Option<String>,
    targets: Option<Vec<String>>,
    samples: u64,
    unused_code: String,
    kv: String,
    positions: String,
    prove: bool,
    layers: Option<Vec<usize>>,
    tensors: Option<Vec<String>>,
}

impl MapPlan {
    /// Whether a plan is one of a map.
    #[must_use]
    pub fn is_one(text: &str) -> bool {
        text.starts_with(OPENING)
    }

    /// Whether a plan is one of a map of which every bit is kept.
    #[must_use]
    pub fn ranks(text: &str) -> bool {
        text.strip_prefix(OPENING).is_some_and(|rest| rest.starts_with(EACH_BIT))
    }

    /// What is struck.
    pub(super) fn targets(&self) -> &[Target] {
        self.ranked.as_deref().unwrap_or(&USUAL)
    }

    /// The plan as text; one plan has one text.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let positions = match self.positions {
            Read::All => "all",
            Read::Last => "last",
        };
        let (unused, kv) = (self.unused.name(), self.kv.name());
        let mut text = format!(
            "{OPENING}{}samples = {}\nunused_code = {unused:?}\nkv = {kv:?}\n\
             positions = {positions:?}\nprove = {}\n",
            if self.ranked.is_some() { EACH_BIT } else { "" },
            self.samples,
            self.prove
        );
        if let Some(targets) = self.ranked.as_ref().filter(|targets| targets[..] != USUAL) {
            let names: Vec<_> = targets.iter().map(|target| target.name()).collect();
            writeln!(text, "targets = {names:?}").expect("text takes all");
        }
        if let Some(layers) = &self.within.layers {
            writeln!(text, "layers = {layers:?}").expect("text takes all");
        }
        if let Some(tensors) = &self.within.tensors {
            writeln!(text, "tensors = {tensors:?}").expect("text takes all");
        }
        text
    }

    /// Reads what [`Self::to_toml`] wrote.
    ///
    /// # Errors
    /// If it is no such text.
    pub fn parse(text: &str) -> Result<Self, PlanError> {
        let keys: Keys =
            toml::from_str(text).map_err(|error| PlanError::Toml(error.to_string()))?;
        let words = PlanFile {
            unused_code: Some(keys.unused_code),
            kv: Some(keys.kv),
            positions: Some(keys.positions),
            ..PlanFile::default()
        };
        let word = |key: &str| PlanError::Toml(format!("{key} is missing"));
        if let Some(got) = keys.keeps.as_deref().filter(|keeps| *keeps != "bits") {
            return Err(PlanError::Toml(format!("keeps = {got:?}, expected \"bits\"")));
        }
        let named = |name: String| {
            let wrong = || PlanError::Toml(format!("targets: {name:?} is none"));
            Target::named(&name).ok_or_else(wrong)
        };
        let targets = keys.targets.map(|names| names.into_iter().map(named).collect());
        let targets = targets.unwrap_or(Ok(USUAL.to_vec()))?;
        Ok(Self {
            samples: keys.samples,
            unused: words.unused_code()?.ok_or_else(|| word("unused_code"))?,
            kv: words.kv()?.ok_or_else(|| word("kv"))?,
            positions: words.positions()?.ok_or_else(|| word("positions"))?,
            prove: keys.prove,
            within: Within { layers: keys.layers, tensors: keys.tensors, part: None },
            ranked: keys.keeps.map(|_| targets),
        })
    }
}

/// The first tensor in a part of a model whose weights have codes that no map is of.
pub(super) fn others(model: &Model, within: &Within) -> Option<String> {
    let layers = model.layers.iter().enumerate();
    let mut all = layers.flat_map(|(layer, _)| Slot::ALL.map(|slot| (layer, slot)));
    let other = |&(layer, slot): &(usize, Slot)| {
        let coded = match (Matrix::Linear { layer, slot }).grid(model) {
            Grid::Codes { .. } | Grid::Blocks { .. } => true,
            Grid::Floats(_) | Grid::Made => false,
        };
        let mapped = has_codes(&model.layers[layer].linear(slot).weights);
        within.has(layer, slot.name()) && coded && !mapped
    };
    all.find(other).map(|(layer, slot)| Matrix::Linear { layer, slot }.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_reads_back_as_itself_and_as_no_other() {
        let whole = MapPlan {
            samples: 7,
            unused: UnusedCode::Detect,
            kv: KvKind::Int8,
            positions: Read::Last,
            prove: false,
            within: Within::default(),
            ranked: None,
        };
        let part = MapPlan {
            within: Within {
                layers: Some(vec![0, 3]),
                tensors: Some(vec!["mlp.down_proj".into()]),
                part: None,
            },
            positions: Read::All,
            prove: true,
            ..whole.clone()
        };
        let ranked = MapPlan { ranked: Some(USUAL.to_vec()), ..part.clone() };
        let scales = vec![Target::Norm, Target::WeightScale];
        let others = MapPlan { ranked: Some(scales), ..whole.clone() };
        let unknown = others.to_toml().replace("norm", "form");
        assert!(MapPlan::parse(&unknown).expect_err("no target").to_string().contains("form"));
        let other = ranked.to_toml().replace("\"bits\"", "\"words\"");
        assert!(MapPlan::parse(&other).expect_err("no such word").to_string().contains("words"));
        for plan in [whole, part, ranked, others] {
            let text = plan.to_toml();
            assert!(MapPlan::is_one(&text));
            assert_eq!(MapPlan::ranks(&text), plan.ranked.is_some());
            assert_eq!(MapPlan::parse(&text), Ok(plan));
            assert!(PlanFile::parse(&text).is_err(), "no plan of drawn trials");
        }
        assert!(!MapPlan::is_one("seed = 1\n") && MapPlan::parse("seed = 1\n").is_err());
    }
}

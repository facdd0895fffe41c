//! Which tokens may stand for which: the nearest ones, or sets from a file.
//!
//! A file is a JSON object. A key that is a token id gives the ids that may stand for it wherever
//! it occurs; `"samples"` gives sets by sample and position, which go first:
//!
//! ```json
//! {"17": [18, 19], "samples": {"0": {"3": [5, 6]}}}
//! ```
//!
//! A token may always stay what it is, so that it is no choice of its own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use engine::formats::json_object;
use engine::model::Model;
use serde_json::{Map, Value};

use crate::failure::Failure;
use crate::input::{self, Content, Sample};

const FLAG: &str = "--substitutions";
const EXAMPLE: &str = "{\"17\": [18, 19], \"samples\": {\"0\": {\"3\": [5, 6]}}}";

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// So many nearest tokens, by the Euclidean distance of their embeddings.
    Nearest(usize),
    /// The sets of a file.
    File(PathBuf),
}

/// What may stand at each position of a sample, besides what does: rising, each once.
pub type Choices = Vec<Vec<u32>>;

/// A number of tokens, or the name of a file.
///
/// # Errors
/// If the number is 0.
pub fn parse(text: &str) -> Result<Asked, Failure> {
    match text.parse() {
        Ok(0) => Err(Failure::usage(format!("{FLAG} 0: expected at least 1 token, or a file"))
            .help("--substitutions 2, or --substitutions sets.json")),
        Ok(count) => Ok(Asked::Nearest(count)),
        Err(_) => Ok(Asked::File(PathBuf::from(text))),
    }
}

/// The choices of every sample.
///
/// # Errors
/// If a sample has no tokens, or the file is refused (exit 3).
pub fn choices(asked: &Asked, samples: &[Sample], model: &Model) -> Result<Vec<Choices>, Failure> {
    let mut all_ids = Vec::with_capacity(samples.len());
    for (index, sample) in samples.iter().enumerate() {
        let Content::Ids(ids) = &sample.content else {
            let what = format!("{FLAG}: sample {index} has inputs_embeds and no tokens");
            return Err(Failure::refused(what).help("samples with input_ids or text"));
        };
        all_ids.push(ids);
    }
    match asked {
        Asked::Nearest(count) => {
            let vocabulary = model.config.vocabulary;
            if *count >= vocabulary {
                let most = vocabulary - 1;
                let what = format!("{FLAG} {count}: a token has {most} others");
                return Err(Failure::refused(what).help("a smaller number"));
            }
            let mut known: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
            for &id in all_ids.iter().copied().flatten() {
                known.entry(id).or_insert_with(|| nearest(model, id, *count));
            }
            let of = |ids: &&Vec<u32>| ids.iter().map(|id| known[id].clone()).collect();
            Ok(all_ids.iter().map(of).collect())
        }
        Asked::File(path) => {
            let sets = Sets::read(path, model.config.vocabulary)?;
            sets.check(path, &all_ids)?;
            let of = |(index, ids): (usize, &&Vec<u32>)| {
                let at = |(position, &id): (usize, &u32)| sets.at(index, position, id);
                ids.iter().enumerate().map(at).collect()
            };
            Ok(all_ids.iter().enumerate().map(of).collect())
        }
    }
}

/// The nearest tokens to one; of two at one distance the lower.
fn nearest(model: &Model, id: u32, count: usize) -> Vec<u32> {
    let row = |id: u32| model.embed(&[id]).expect("ids of the vocabulary").row(0).to_vec();
    let own = row(id);
    let distance = |other: u32| -> f64 {
        let gaps = own.iter().zip(row(other)).map(|(&a, b)| f64::from(a) - f64::from(b));
        gaps.map(|gap| gap * gap).sum()
    };
    let vocabulary = u32::try_from(model.config.vocabulary).expect("ids are 32 bits wide");
    let others = (0..vocabulary).filter(|&other| other != id);
    let mut others: Vec<(f64, u32)> = others.map(|other| (distance(other), other)).collect();
    others.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let mut nearest: Vec<u32> = others.into_iter().take(count).map(|(_, other)| other).collect();
    nearest.sort_unstable();
    nearest
}

/// The sets of a file.
#[derive(Debug, Default)]
struct Sets {
    tokens: BTreeMap<u32, Vec<u32>>,
    places: BTreeMap<(usize, usize), Vec<u32>>,
}

impl Sets {
    fn read(path: &Path, vocabulary: usize) -> Result<Self, Failure> {
        let name = path.display().to_string();
        let refuse = |why: String| Failure::refused(format!("{name}: {why}")).help(EXAMPLE);
        let object = json_object(&name, &input::read_file(path)?)
            .map_err(|error| Failure::refused(error.to_string()).help(EXAMPLE))?;
        Self::of(&object, vocabulary).map_err(refuse)
    }

    fn of(object: &Map<String, Value>, vocabulary: usize) -> Result<Self, String> {
        let mut sets = Self::default();
        for (key, value) in object {
            if key == "samples" {
                for (sample, places) in map(value, "samples")? {
                    for (position, ids) in map(places, "samples")? {
                        let place = (number(sample, "sample")?, number(position, "position")?);
                        sets.places.insert(place, tokens(ids, vocabulary)?);
                    }
                }
            } else {
                let id = token(number(key, "token")? as u64, vocabulary)?;
                sets.tokens.insert(id, tokens(value, vocabulary)?);
            }
        }
        Ok(sets)
    }

    /// Whether every place is one of a sample.
    fn check(&self, path: &Path, samples: &[&Vec<u32>]) -> Result<(), Failure> {
        for &(index, position) in self.places.keys() {
            let tokens = samples.get(index).map_or(0, |ids| ids.len());
            if position >= tokens {
                let (name, count) = (path.display(), samples.len());
                let what = format!("{name}: sample {index} has no position {position}");
                let what = format!("{what}; there are {count} samples");
                return Err(Failure::refused(what).help(EXAMPLE));
            }
        }
        Ok(())
    }

    fn at(&self, index: usize, position: usize, id: u32) -> Vec<u32> {
        let place = self.places.get(&(index, position));
        let mut set = place.or_else(|| self.tokens.get(&id)).cloned().unwrap_or_default();
        set.retain(|&other| other != id);
        set.sort_unstable();
        set.dedup();
        set
    }
}

fn map<'a>(value: &'a Value, what: &str) -> Result<&'a Map<String, Value>, String> {
    value.as_object().ok_or_else(|| format!("{what} is expected to be an object of objects"))
}

fn number(text: &str, what: &str) -> Result<usize, String> {
    text.parse().map_err(|_| format!("unknown key {text:?}, expected the number of a {what}"))
}

fn token(id: u64, vocabulary: usize) -> Result<u32, String> {
    let known = u32::try_from(id).ok().filter(|&id| (id as usize) < vocabulary);
    known.ok_or_else(|| {
        format!("token {id} lies outside the vocabulary, expected 0 to {}", vocabulary - 1)
    })
}

fn tokens(value: &Value, vocabulary: usize) -> Result<Vec<u32>, String> {
    let list = value.as_array().ok_or("a set is expected to be a list of token ids")?;
    let id = |value: &Value| {
        let id = value.as_u64().ok_or_else(|| format!("{value} is no token id"))?;
        token(id, vocabulary)
    };
    list.iter().map(id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn sets(value: &Value) -> Result<Sets, String> {
        Sets::of(value.as_object().expect("an object"), 20)
    }

    #[test]
    fn places_go_before_tokens_and_nothing_stands_for_itself() {
        let file = json!({"7": [9, 7, 8, 9], "samples": {"1": {"0": [3], "2": []}}});
        let sets = sets(&file).expect("sets");
        assert_eq!(sets.at(0, 0, 7), [8, 9]);
        assert_eq!(sets.at(1, 0, 7), [3]);
        assert_eq!(sets.at(1, 2, 7), [0u32; 0]);
        assert_eq!(sets.at(0, 1, 6), [0u32; 0]);
    }

    #[test]
    fn what_is_no_set_of_tokens_is_refused() {
        for file in [
            json!({"x": [1]}),
            json!({"1": 2}),
            json!({"1": [20]}),
            json!({"20": [1]}),
            json!({"1": [-1]}),
            json!({"1": [0.5]}),
            json!({"samples": [1]}),
            json!({"samples": {"0": [1]}}),
            json!({"samples": {"0": {"x": [1]}}}),
        ] {
            assert!(sets(&file).is_err(), "{file}");
        }
    }

    #[test]
    fn a_number_counts_tokens_and_anything_else_names_a_file() {
        assert_eq!(parse("3").expect("a number"), Asked::Nearest(3));
        assert_eq!(parse("sets.json").expect("a file"), Asked::File("sets.json".into()));
        assert!(parse("0").is_err());
    }
}

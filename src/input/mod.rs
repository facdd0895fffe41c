//! Samples: token ids, texts or embeddings, with an optional label and classes.
//!
//! Everything is checked before any work starts: a sample that the model cannot take is refused
//! with its place, what was expected and what is there.

mod arrays;
mod lines;

use std::path::Path;

use engine::formats::Loaded;
use engine::model::Model;
use ndarray::Array2;

use crate::failure::Failure;
use crate::source::Origin;

/// What a sample is made of.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// Token ids.
    Ids(Vec<u32>),
    /// Embeddings of a float front end, `[tokens, hidden]`.
    Embeddings(Array2<f32>),
}

/// One sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// What it is made of.
    pub content: Content,
    /// The right decision at the last position, where known.
    pub label: Option<u32>,
    /// The classes that the decision is taken from; empty = the whole vocabulary.
    pub classes: Vec<usize>,
}

impl Sample {
    /// Number of tokens.
    #[must_use]
    pub fn tokens(&self) -> usize {
        match &self.content {
            Content::Ids(ids) => ids.len(),
            Content::Embeddings(rows) => rows.nrows(),
        }
    }

    /// The rows that enter the first layer.
    ///
    /// # Panics
    /// Never for a checked sample of this model.
    #[must_use]
    pub fn embedded(&self, model: &Model) -> Array2<f32> {
        match &self.content {
            Content::Ids(ids) => model.embed(ids).expect("ids were checked"),
            Content::Embeddings(rows) => rows.clone(),
        }
    }
}

/// What the samples were called in their file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Token ids.
    Ids,
    /// Texts.
    Text,
    /// Embeddings.
    Embeddings,
    /// Several of these.
    Mixed,
}

/// The samples of a run.
#[derive(Clone, Debug)]
pub struct Samples {
    /// In the order of the file.
    pub samples: Vec<Sample>,
    /// What they were called.
    pub kind: Kind,
    /// Whether they come with the program.
    pub embedded: bool,
    /// Whether the model does.
    pub embedded_model: bool,
    /// Digest of the samples in their order, as hexadecimal digits.
    pub digest: String,
}

/// Reads the samples of a file, or those of an embedded model.
///
/// # Errors
/// If there are none (exit 4), or one is refused (exit 3).
pub fn read(
    origin: &Origin,
    loaded: &Loaded,
    file: Option<&Path>,
    classes: Option<&[u32]>,
    limit: Option<usize>,
) -> Result<Samples, Failure> {
    let (bytes, name) = match (file, &origin.embedded) {
        (Some(path), _) => (read_file(path)?, path.display().to_string()),
        (None, Some(checkpoint)) => {
            let name = ["inputs.safetensors", "inputs.jsonl"]
                .into_iter()
                .find(|name| checkpoint.file(name).is_some())
                .expect("every embedded model has samples");
            (checkpoint.file(name).expect("just found").to_vec(), name.to_owned())
        }
        (None, None) => {
            return Err(Failure::usage("a checkpoint needs samples to be analysed on")
                .help("--inputs FILE.jsonl with a line such as {\"input_ids\": [1, 2, 3]}"));
        }
    };
    let (mut samples, kind) = if name.ends_with(".safetensors") {
        (arrays::parse(&name, &bytes)?, Kind::Embeddings)
    } else {
        lines::parse(&name, &bytes, loaded.tokenizer.as_ref())?
    };
    samples.truncate(limit.unwrap_or(usize::MAX));
    for (index, (sample, place)) in samples.iter_mut().enumerate() {
        if sample.classes.is_empty() {
            sample.classes = classes.unwrap_or(&[]).iter().map(|&id| id as usize).collect();
        }
        check(sample, &loaded.model)
            .map_err(|why| Failure::refused(format!("{name}: {place}: sample {index}: {why}")))?;
    }
    if samples.is_empty() {
        return Err(Failure::incomplete(format!("{name}: there is no sample to analyse"))
            .help("at least one line such as {\"input_ids\": [1, 2, 3]}"));
    }
    let samples: Vec<Sample> = samples.into_iter().map(|(sample, _)| sample).collect();
    let kind = match &samples[0].content {
        Content::Ids(_) if kind == Kind::Embeddings => Kind::Ids,
        _ => kind,
    };
    let embedded = file.is_none();
    let embedded_model = origin.embedded.is_some();
    Ok(Samples { digest: digest(&samples), samples, kind, embedded, embedded_model })
}

/// A whole regular file.
///
/// # Errors
/// If it is none, or cannot be read (exit 3).
pub(crate) fn read_file(path: &Path) -> Result<Vec<u8>, Failure> {
    let refuse = |why: String| Failure::refused(format!("{}: {why}", path.display()));
    let data = std::fs::metadata(path).map_err(|error| refuse(error.to_string()))?;
    if !data.is_file() {
        return Err(refuse("expected a regular file".into()));
    }
    std::fs::read(path).map_err(|error| refuse(error.to_string()))
}

/// Whether a model can take a sample.
fn check(sample: &Sample, model: &Model) -> Result<(), String> {
    let config = &model.config;
    let tokens = sample.tokens();
    if tokens == 0 {
        return Err("it has no tokens".into());
    }
    if tokens > config.max_positions {
        return Err(format!(
            "it has {tokens} tokens, expected at most {} (max_position_embeddings)",
            config.max_positions
        ));
    }
    let vocabulary = config.vocabulary;
    let outside = |what: &str, id: u64| {
        format!("{what} {id} lies outside the vocabulary, expected 0 to {}", vocabulary - 1)
    };
    match &sample.content {
        Content::Ids(ids) => {
            if let Some(&id) = ids.iter().find(|&&id| id as usize >= vocabulary) {
                return Err(outside("token", id.into()));
            }
        }
        Content::Embeddings(rows) => {
            if rows.ncols() != config.hidden {
                return Err(format!(
                    "embeddings are {} wide, expected {} (hidden_size)",
                    rows.ncols(),
                    config.hidden
                ));
            }
            if let Some((at, value)) = rows.indexed_iter().find(|(_, value)| !value.is_finite()) {
                return Err(format!("embedding {at:?} is {value}, expected a finite number"));
            }
        }
    }
    if let Some(label) = sample.label.filter(|&label| label as usize >= vocabulary) {
        return Err(outside("label", label.into()));
    }
    if let Some(&class) = sample.classes.iter().find(|&&class| class >= vocabulary) {
        return Err(outside("class", class as u64));
    }
    check_classes(sample)
}

fn check_classes(sample: &Sample) -> Result<(), String> {
    if sample.classes.is_empty() {
        return Ok(());
    }
    let mut sorted = sample.classes.clone();
    sorted.sort_unstable();
    sorted.dedup();
    if sorted.len() != sample.classes.len() || sorted.len() < 2 {
        return Err("classes are expected to be two or more different token ids".into());
    }
    match sample.label {
        Some(label) if !sample.classes.contains(&(label as usize)) => {
            Err(format!("label {label} is not among the classes {:?}", sample.classes))
        }
        _ => Ok(()),
    }
}

/// A digest of everything that a sample says, with lengths before values.
fn digest(samples: &[Sample]) -> String {
    let mut hash = blake3::Hasher::new();
    let mut number = |value: u64| {
        hash.update(&value.to_le_bytes());
    };
    for sample in samples {
        match &sample.content {
            Content::Ids(ids) => {
                number(0);
                number(ids.len() as u64);
                ids.iter().for_each(|&id| number(id.into()));
            }
            Content::Embeddings(rows) => {
                number(1);
                number(rows.nrows() as u64);
                number(rows.ncols() as u64);
                rows.iter().for_each(|value| number(value.to_bits().into()));
            }
        }
        number(sample.label.map_or(0, |label| u64::from(label) + 1));
        number(sample.classes.len() as u64);
        sample.classes.iter().for_each(|&class| number(class as u64));
    }
    hash.finalize().to_hex().to_string()
}

//! Checkpoints: from the files of a model to a [`Model`], or a clear refusal.
//!
//! Files come from anywhere, so everything in them is hostile until checked: sizes before
//! allocations, names before paths, values before arithmetic. Invariants: a file that can be read
//! in two ways is refused; no input makes this code panic; what is loaded is what the file says, or
//! an error that names file, tensor and place.

mod config;
mod error;
mod gguf;
mod hugging_face;
mod json;
mod manifest;
mod map;
mod quantization;
mod rope;
mod safetensors_header;
mod shards;
mod source;
mod ternary;
mod tokenizer;
mod values;
pub mod write;

pub use error::FormatError;
pub use hugging_face::{EMBEDDING, HEAD, linear_name, norm_name};
pub use json::object as json_object;
pub use manifest::{Manifest, TensorEntry, TensorKind};
pub use source::Source;
pub use tokenizer::Tokenizer;

use crate::model::{Activations, HeadForm, Model};
use crate::packing::I2sRuns;

/// The longest `config.json` that is read.
const LONGEST_CONFIG: u64 = 16 << 20;

/// What the unused 2-bit code 3 of packed weights means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum UnusedCode {
    /// Nothing: a checkpoint that holds it is refused.
    #[default]
    Refuse,
    /// +2, as today's readers compute.
    Deployed,
    /// 0.
    Zero,
    /// A detected fault: a checkpoint that holds it is refused, as a detector would fire at once.
    Detect,
}

/// How a checkpoint is loaded.
#[derive(Clone, Copy, Debug, Default)]
pub struct LoadOptions {
    /// Map tensor files instead of reading them. Faster to start; but a file that another program
    /// cuts short meanwhile ends this one.
    pub mmap: bool,
    /// What the unused code means.
    pub unused: UnusedCode,
    /// What happens to the input of ternary layers: what a GGUF file leaves open; or int4 codes
    /// where the checkpoint says int8.
    pub activations: Option<Activations>,
    /// How `I2_S` tensors of a GGUF file are laid out, which the file does not say.
    pub i2s: I2sRuns,
    /// What the head is multiplied as.
    pub head: HeadForm,
    /// Keep what a file stores of layers whose codes are made at load, one element to a weight: as
    /// large as the file, and wanted by whoever flips its bits.
    pub elements: bool,
}

/// A loaded checkpoint.
#[derive(Debug)]
pub struct Loaded {
    /// The model.
    pub model: Model,
    /// Its tokenizer, if the checkpoint has one.
    pub tokenizer: Option<Tokenizer>,
    /// What the checkpoint holds.
    pub manifest: Manifest,
}

/// Checks that a safetensors file can be read in one way; `file` is its name in messages.
///
/// # Errors
/// What is ambiguous in its header.
pub fn check_safetensors(file: &str, bytes: &[u8]) -> Result<(), FormatError> {
    safetensors_header::scan(file, bytes).map(drop)
}

/// Loads a checkpoint.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn load(source: &Source, options: &LoadOptions) -> Result<Loaded, FormatError> {
    let mut loaded = as_stored(source, options)?;
    if options.head != HeadForm::AsStored {
        loaded.model = loaded.model.with_head(options.head);
        let said = format!("head {}", options.head.name());
        loaded.manifest.digest = manifest::said(&loaded.manifest.digest, &said);
    }
    Ok(loaded)
}

fn as_stored(source: &Source, options: &LoadOptions) -> Result<Loaded, FormatError> {
    source.check()?;
    if let Some(file) = source.gguf()? {
        return gguf::load(source, &file, options);
    }
    if options.i2s != I2sRuns::default() {
        return Err(FormatError::Config {
            file: source.label("config.json"),
            field: "i2s".into(),
            expected: "no such word; only GGUF files have I2_S".into(),
            got: "there".into(),
        });
    }
    let config_bytes = source.need("config.json", LONGEST_CONFIG, false)?;
    let mut plan = config::parse(&source.label("config.json"), &config_bytes)?;
    let usual = plan.config.activations;
    if let Some(policy) = options.activations {
        let fewer = (usual, policy) == (Activations::PerTokenInt8, Activations::PerTokenInt4);
        if policy != usual && !fewer {
            return Err(FormatError::Config {
                file: source.label("config.json"),
                field: "activations".into(),
                expected: "as the checkpoint says, or int4 codes instead of int8 ones; only GGUF \
                           files leave it open"
                    .into(),
                got: policy.name().into(),
            });
        }
        plan.config.activations = policy;
    }
    let (shards, mut warnings) = shards::open(source, options.mmap)?;
    let tensors = shards::tensors(source, &shards)?;
    let assembled = hugging_face::assemble(&source.place(), &plan, &tensors, options)?;
    warnings.extend(assembled.warnings);
    let mut entries = assembled.entries;
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    let manifest = Manifest {
        name: source.name(),
        digest: manifest::under(manifest::digest(&tensors, &config_bytes), &assembled.model, usual),
        tensors: entries,
        warnings,
        config_text: String::from_utf8_lossy(&config_bytes).into_owned(),
    };
    let tokenizer = source
        .read("tokenizer.json", tokenizer::LONGEST_FILE, false)?
        .map(|bytes| Tokenizer::from_bytes(&source.label("tokenizer.json"), &bytes))
        .transpose()?;
    Ok(Loaded { model: assembled.model, tokenizer, manifest })
}

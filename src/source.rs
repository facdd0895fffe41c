//! Where models come from: a checkpoint folder, a GGUF file, or a checkpoint that comes with the
//! program.
//!
//! What a GGUF file leaves open can be said behind its name, `model.gguf,activations=none,i2s=64`,
//! so that every command, journal and data set names the same model in the same words.

use std::path::{Path, PathBuf};

use engine::formats::{self, LoadOptions, Loaded, Source, UnusedCode};
use engine::model::{Activations, HeadForm};
use engine::packing::I2sRuns;
use fixtures::embedded::{self, Checkpoint};

use crate::cli::UnusedArg;
use crate::failure::Failure;

/// The embedded model that is analysed when none is named.
pub const DEFAULT: &str = "@digits";

/// A model's origin: the words typed, resolved.
#[derive(Debug)]
pub struct Origin {
    /// Set for a model that comes with the program.
    pub embedded: Option<Checkpoint>,
    /// Its folder, for any other.
    pub path: PathBuf,
    /// Its files.
    pub source: Source<'static>,
    /// What was said of it behind its name.
    options: LoadOptions,
}

/// Resolves `@name` or a folder.
///
/// # Errors
/// If there is no embedded model of that name.
pub fn resolve(text: &str) -> Result<Origin, Failure> {
    let (path, options) = split(text)?;
    let Some(name) = path.to_str().and_then(|path| path.strip_prefix('@')) else {
        return Ok(Origin { embedded: None, source: Source::path(&path), path, options });
    };
    let all = embedded::all();
    let found = all.iter().find(|checkpoint| checkpoint.name == name).copied();
    let checkpoint = found.ok_or_else(|| {
        let names: Vec<String> = all.iter().map(|c| format!("@{}", c.name)).collect();
        Failure::usage(format!("there is no embedded model \"@{name}\""))
            .help(format!("one of {}, a checkpoint folder or a GGUF file", names.join(", ")))
    })?;
    let files = checkpoint.files.iter().map(|&(name, bytes)| (name, bytes));
    let source = Source::memory(checkpoint.name, files);
    Ok(Origin { embedded: Some(checkpoint), source, path: PathBuf::new(), options })
}

/// What can be said behind the name of a model.
const WORDS: &str = "activations=int8, activations=int4, activations=none, head=int8, i2s=128, \
    i2s=64 or i2s=4";

/// The path of a model and what is said behind it.
fn split(text: &str) -> Result<(PathBuf, LoadOptions), Failure> {
    let mut options = LoadOptions::default();
    let whole = PathBuf::from(text);
    let Some((path, said)) = text.split_once(',').filter(|_| !whole.exists()) else {
        return Ok((whole, options));
    };
    for word in said.split(',') {
        match word {
            "activations=int8" | "activations=per_token_int8" => {
                options.activations = Some(Activations::PerTokenInt8);
            }
            "activations=int4" | "activations=per_token_int4" => {
                options.activations = Some(Activations::PerTokenInt4);
            }
            "activations=none" => options.activations = Some(Activations::None),
            "head=as_stored" => options.head = HeadForm::AsStored,
            "head=int8" => options.head = HeadForm::Int8,
            "i2s=128" => options.i2s = I2sRuns::Wide,
            "i2s=64" => options.i2s = I2sRuns::Narrow,
            "i2s=4" => options.i2s = I2sRuns::Rows,
            _ => {
                return Err(
                    Failure::usage(format!("{path}: {word:?} says nothing of a model")).help(WORDS)
                );
            }
        }
    }
    Ok((PathBuf::from(path), options))
}

impl Origin {
    /// The same words behind the name of a copy of its files in another folder.
    #[must_use]
    pub fn copied_to(&self, folder: &Path) -> Self {
        let file = self.path.file_name().filter(|_| self.path.is_file());
        let path = file.map_or_else(|| folder.to_path_buf(), |file| folder.join(file));
        Self { embedded: None, source: Source::path(&path), path, options: self.options }
    }
}

/// Loads a model.
///
/// # Errors
/// If the checkpoint is refused.
pub fn load(origin: &Origin, unused: Option<UnusedArg>, mmap: bool) -> Result<Loaded, Failure> {
    load_with(origin, unused, LoadOptions { mmap, ..origin.options })
}

/// Loads a model with every bit of its file that can be struck.
///
/// # Errors
/// Likewise.
pub fn load_to_strike(
    origin: &Origin,
    unused: Option<UnusedArg>,
    mmap: bool,
) -> Result<Loaded, Failure> {
    load_with(origin, unused, LoadOptions { mmap, elements: true, ..origin.options })
}

fn load_with(
    origin: &Origin,
    unused: Option<UnusedArg>,
    options: LoadOptions,
) -> Result<Loaded, Failure> {
    let unused = match unused {
        None => UnusedCode::Refuse,
        Some(UnusedArg::Deployed) => UnusedCode::Deployed,
        Some(UnusedArg::Zero) => UnusedCode::Zero,
        Some(UnusedArg::Detect) => UnusedCode::Detect,
    };
    Ok(formats::load(&origin.source, &LoadOptions { unused, ..options })?)
}

/// Refuses faults on a file whose unused codes are read as zero: a flip of such a stored bit would
/// have to start from the code that the file has, which the loaded weights no longer tell.
///
/// # Errors
/// If the policy is `zero` and the file holds an unused code (exit 2).
pub fn refuse_faults_on_zeroed(loaded: &Loaded, unused: Option<UnusedArg>) -> Result<(), Failure> {
    let held = |entry: &formats::TensorEntry| entry.census.map_or(0, |census| census[3]);
    let codes: u64 = loaded.manifest.tensors.iter().map(held).sum();
    if unused == Some(UnusedArg::Zero) && codes > 0 {
        let what = format!("--unused-code zero: flips of the {codes} unused codes of this file");
        return Err(Failure::usage(format!("{what} cannot be simulated, they were read as zero"))
            .help("--unused-code deployed, or --no-faults"));
    }
    Ok(())
}

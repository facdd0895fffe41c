//! What can be wrong with a checkpoint: one variant a kind of fact, with the facts in it.
//!
//! Whatever came from a file is shown quoted and cut short, so that a hostile name can neither hide
//! nor imitate a message. [`FormatError::help`] has one thing to try.

use crate::model::ConfigError;

/// A checkpoint that is not loaded, and why.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// The operating system does not give the file.
    #[error("{file}: cannot be read: {source}")]
    Unreadable {
        /// The file.
        file: String,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// Something else stands where a regular file or folder should.
    #[error("{file}: expected {expected}, got {got}")]
    NotRegular {
        /// The path.
        file: String,
        /// A regular file, or a folder.
        expected: &'static str,
        /// What it is.
        got: &'static str,
    },
    /// A file of the checkpoint is not there.
    #[error("{folder}: there is no {file}")]
    MissingFile {
        /// The file.
        file: String,
        /// Where it was looked for.
        folder: String,
    },
    /// A folder of several checkpoints.
    #[error("{folder}: expected one GGUF file, got {files}")]
    SeveralFiles {
        /// The folder.
        folder: String,
        /// The files.
        files: String,
    },
    /// A file, header or text exceeds what is accepted.
    #[error("{file}: {what} is {got} bytes long, expected at most {limit}")]
    TooLarge {
        /// The file.
        file: String,
        /// The part that is too long.
        what: &'static str,
        /// The most that is accepted.
        limit: u64,
        /// Its length.
        got: u64,
    },
    /// Text that is not the JSON it should be, duplicate keys included.
    #[error("{file}: at byte {offset}: {got}")]
    Json {
        /// The file.
        file: String,
        /// The byte, counted from the start of the file.
        offset: u64,
        /// What the parser says.
        got: String,
    },
    /// A safetensors file whose frame is wrong.
    #[error("{file}: at byte {offset}: expected {expected}, got {got}")]
    Container {
        /// The file.
        file: String,
        /// The byte, counted from the start of the file.
        offset: u64,
        /// What would do.
        expected: String,
        /// What is there.
        got: String,
    },
    /// An entry of a safetensors header, or of an index, that describes no tensor.
    #[error("{file}: entry {}: expected {expected}, got {got}", quoted(tensor))]
    Entry {
        /// The file.
        file: String,
        /// The name of the entry.
        tensor: String,
        /// What would do.
        expected: String,
        /// What it says.
        got: String,
    },
    /// A tensor that the model needs is in no file.
    #[error("{place}: tensor {tensor} is missing, expected {expected}")]
    MissingTensor {
        /// The tensor.
        tensor: String,
        /// Its type and shape.
        expected: String,
        /// The checkpoint.
        place: String,
    },
    /// A tensor of another type or shape than the configuration asks for.
    #[error("{file}: tensor {}: expected {expected}, got {got}", quoted(tensor))]
    Tensor {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// What would do.
        expected: String,
        /// What it is.
        got: String,
    },
    /// A value that no such tensor may hold.
    #[error("{file}: tensor {}: at byte {offset}: expected {expected}, got {got}", quoted(tensor))]
    Value {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// The byte of the value, counted from the start of the file.
        offset: u64,
        /// What would do.
        expected: &'static str,
        /// The value.
        got: String,
    },
    /// The unused 2-bit code 3 in packed weights.
    #[error(
        "{file}: tensor {}: row {row}, column {column} holds the unused code 3 \
         ({count} in the tensor)",
        quoted(tensor)
    )]
    UnusedCode {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// The first row that holds it, in the order of the bytes.
        row: usize,
        /// The column.
        column: usize,
        /// How many there are.
        count: u64,
    },
    /// A field of a configuration that this engine does not compute.
    #[error("{file}: {field} is {got}, expected {expected}")]
    Config {
        /// The file.
        file: String,
        /// The field.
        field: String,
        /// What would do.
        expected: String,
        /// What it says.
        got: String,
    },
    /// Fields of a configuration that do not fit one another.
    #[error("{file}: {source}")]
    Shape {
        /// The file.
        file: String,
        /// Which, and how.
        source: ConfigError,
    },
    /// The tokenizer cannot be read, or fails at a text.
    #[error("{file}: {doing}: {got}")]
    Tokenizer {
        /// The file.
        file: String,
        /// What it was doing.
        doing: &'static str,
        /// What went wrong.
        got: String,
    },
}

impl FormatError {
    /// One thing to try.
    #[must_use]
    pub fn help(&self) -> Option<&str> {
        match self {
            Self::MissingFile { .. } | Self::NotRegular { .. } => Some(
                "give a GGUF file, or the folder that has config.json and model.safetensors \
                 (or model.safetensors.index.json)",
            ),
            Self::UnusedCode { .. } => Some(
                "try --unused-code deployed (counts as +2, as today's readers compute), \
                 or --unused-code zero",
            ),
            Self::Container { .. } | Self::TooLarge { .. } | Self::Value { .. } => {
                Some("fetch or convert the checkpoint again and compare its checksum")
            }
            Self::Entry { .. } | Self::Json { .. } => {
                Some("write the checkpoint again with save_pretrained")
            }
            Self::MissingTensor { .. } | Self::Tensor { .. } | Self::Shape { .. } => {
                Some("compare config.json with the tensors: they are not of one model")
            }
            Self::Config { .. } => Some(
                "supported are model_type bitnet (and that of 1bitLLM), llama and qwen3, ternary \
                 (quant_method bitnet) or unquantized, without biases or sliding windows",
            ),
            Self::Tokenizer { .. } => {
                Some("token ids work without a tokenizer: take tokenizer.json away")
            }
            Self::SeveralFiles { .. } => Some("name the file"),
            Self::Unreadable { .. } => Some("check the path and whether you may read it"),
        }
    }
}

/// Text from a file for a message: quoted, control characters escaped, cut short.
pub(super) fn quoted(text: &str) -> String {
    const LONGEST: usize = 96;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{:?}... ({} bytes)", &text[..end], text.len()),
        None => format!("{text:?}"),
    }
}

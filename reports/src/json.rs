//! JSON, the source of every other face.
//!
//! Keys in the order of the contract, two spaces, one newline at the end, numbers in the shortest
//! form that reads back exactly: the same report is the same bytes.

use crate::model::{Report, SCHEMA_VERSION};

/// Why a text is not a report.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// It is not JSON, or not of this contract.
    #[error("not a report at line {line}, column {column}: {problem}")]
    Malformed {
        /// 1-based line.
        line: usize,
        /// 1-based column.
        column: usize,
        /// What was expected and found.
        problem: String,
    },
    /// It was written under another version of the contract.
    #[error(
        "the report has schema version {0:?}, this program reads {SCHEMA_VERSION:?}; \
         render it with the version of the program that wrote it"
    )]
    Version(String),
    /// It has no version at all.
    #[error("not a report: it is no JSON object with a text under \"schema_version\"")]
    NoVersion,
    /// A number could not be written; a report that passes `validate` never gets here.
    #[error("the report cannot be written as JSON: {0}")]
    Unwritable(String),
}

/// The report as JSON text.
///
/// # Errors
/// `Unwritable` if serialisation fails, which only a bug can cause.
pub fn to_string(report: &Report) -> Result<String, JsonError> {
    let mut text = serde_json::to_string_pretty(report)
        .map_err(|error| JsonError::Unwritable(error.to_string()))?;
    text.push('\n');
    Ok(text)
}

/// The report that a JSON text holds. The version is read first, so that a report of another
/// version is named as such and not as malformed.
///
/// # Errors
/// Says where the text departs from the contract.
pub fn from_str(text: &str) -> Result<Report, JsonError> {
    let value: serde_json::Value = serde_json::from_str(text).map_err(malformed)?;
    match value.get("schema_version").and_then(serde_json::Value::as_str) {
        Some(SCHEMA_VERSION) => serde_json::from_str(text).map_err(malformed),
        Some(version) => Err(JsonError::Version(version.to_owned())),
        None => Err(JsonError::NoVersion),
    }
}

fn malformed(error: serde_json::Error) -> JsonError {
    let full = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    let problem = full.strip_suffix(&place).unwrap_or(&full).to_owned();
    JsonError::Malformed { line: error.line(), column: error.column(), problem }
}

//! The faces of a report, chosen by the extension of a file.

use std::path::Path;

use crate::model::Report;
use crate::{html, json, junit, markdown, text};

/// A face of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The contract itself.
    Json,
    /// One file for a browser.
    Html,
    /// JUnit XML for a CI server.
    Junit,
    /// A CI job summary.
    Markdown,
    /// The terminal summary.
    Text,
}

/// No face has this extension.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no report format has the extension {0:?}; use .json, .html, .xml, .md or .txt")]
pub struct UnknownFormat(pub String);

/// A report could not be rendered; only a bug can cause it.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// As JSON.
    #[error(transparent)]
    Json(#[from] json::JsonError),
    /// As JUnit XML.
    #[error(transparent)]
    Junit(#[from] junit::JunitError),
    /// As HTML.
    #[error(transparent)]
    Html(#[from] html::PlotError),
}

impl Format {
    /// The format of an extension without its dot, in any case.
    ///
    /// # Errors
    /// If no format has it.
    pub fn from_extension(extension: &str) -> Result<Self, UnknownFormat> {
        match extension.to_ascii_lowercase().as_str() {
            "json" => Ok(Self::Json),
            "html" | "htm" => Ok(Self::Html),
            "xml" => Ok(Self::Junit),
            "md" | "markdown" => Ok(Self::Markdown),
            "txt" => Ok(Self::Text),
            _ => Err(UnknownFormat(extension.to_owned())),
        }
    }

    /// The format of a file, by its extension.
    ///
    /// # Errors
    /// If it has none, or one that no format has.
    pub fn from_path(path: &Path) -> Result<Self, UnknownFormat> {
        let extension = path.extension().unwrap_or_default();
        Self::from_extension(&extension.to_string_lossy())
    }
}

/// One face of a report. The same report gives the same bytes.
///
/// # Errors
/// Only where a writer fails on memory, which is a bug.
pub fn render(report: &Report, format: Format) -> Result<String, RenderError> {
    Ok(match format {
        Format::Json => json::to_string(report)?,
        Format::Html => html::to_string(report)?,
        Format::Junit => junit::to_string(report)?,
        Format::Markdown => markdown::to_string(report),
        Format::Text => text::summary(report),
    })
}

//! `render`: other faces of a report that was written before.
//!
//! Everything is checked before the first file is written: the report, the formats, the places.

use std::fs;
use std::path::Path;

use reports::{Format, Report};

use super::tell;
use crate::cli::RenderArgs;
use crate::failure::Failure;
use crate::output;

/// The longest report that is read.
const LONGEST: u64 = 1 << 30;

/// Renders a report to files, or as a summary on stdout.
///
/// # Errors
/// If the report is refused, a format is unknown, or a file cannot be written.
pub fn run(args: &RenderArgs) -> Result<(), Failure> {
    let formats = args.output.iter().map(|path| Format::from_path(path).map_err(Failure::usage));
    let formats: Vec<Format> = formats.collect::<Result<_, _>>()?;
    let report = read(&args.report)?;
    if formats.is_empty() {
        return tell(face(&report, Format::Text)?.as_bytes());
    }
    args.output.iter().try_for_each(|path| output::check(path))?;
    let faces: Vec<String> =
        formats.iter().map(|&format| face(&report, format)).collect::<Result<_, _>>()?;
    args.output.iter().zip(&faces).try_for_each(|(path, face)| output::write(path, face.as_bytes()))
}

fn face(report: &Report, format: Format) -> Result<String, Failure> {
    reports::render(report, format).map_err(|error| Failure::bug(format!("{format:?}: {error}")))
}

/// The report in a file: read whole, of this contract, and free of contradictions.
fn read(path: &Path) -> Result<Report, Failure> {
    let refuse = |why: String| {
        Failure::refused(format!("{}: {why}", path.display()))
            .help("a report.json that `bitnet-certify analyze` wrote")
    };
    let data = fs::metadata(path).map_err(|error| refuse(error.to_string()))?;
    if !data.is_file() {
        return Err(refuse("expected a regular file".into()));
    }
    if data.len() > LONGEST {
        let got = data.len();
        return Err(refuse(format!("it is {got} bytes long, expected at most {LONGEST}")));
    }
    let bytes = fs::read(path).map_err(|error| refuse(error.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        refuse(format!("at byte {at}: expected UTF-8 text"))
    })?;
    let report = reports::json::from_str(&text).map_err(|error| refuse(error.to_string()))?;
    match report.validate().first() {
        Some(violation) => Err(refuse(format!("it contradicts itself: {violation}"))),
        None => Ok(report),
    }
}

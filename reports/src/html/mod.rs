//! The report as one HTML file that needs nothing else: no network, no script, no font.
//!
//! A content security policy in the page forbids everything but its own styles, so even an escaping
//! mistake could run nothing. maud escapes whatever is put in; the plots are the only text taken as
//! markup, and their drawing library escapes too. Light, dark, print and phone are matters of
//! `style.css` alone.

mod axis;
mod chance;
mod change;
mod charts;
mod heat;
mod ladder;
mod memory;
mod plot;
mod rows;
mod sections;
mod substitutions;
mod sweep;
mod tables;
mod terms;

pub use plot::PlotError;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::escape::shown;
use crate::model::Report;

const STYLE: &str = include_str!("style.css");
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; \
                      base-uri 'none'; form-action 'none'";

/// The report as an HTML page.
///
/// # Errors
/// If a plot cannot be drawn, which only a bug can cause.
pub fn to_string(report: &Report) -> Result<String, PlotError> {
    let main = html! {
        (sections::head(report))
        (sections::gates(report))
        (sections::cards(report))
        (sections::certification(report)?)
        (substitutions::section(report))
        (chance::section(report)?)
        (sections::faults(report)?)
        (sections::request(report))
        (sections::assumptions(report))
        (sections::run(report))
    };
    Ok(page(report, &main).into_string())
}

fn page(report: &Report, main: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="referrer" content="no-referrer";
                title { (shown(&report.model.name)) " – bitnet-certify" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                a.skip href="#main" { "Skip to the results" }
                main #main { (main) }
                footer {
                    p {
                        (shown(&report.tool.name)) " " (shown(&report.tool.version))
                        " · contract " (shown(&report.schema_version))
                        " · every number on this page is in report.json"
                    }
                }
            }
        }
    }
}

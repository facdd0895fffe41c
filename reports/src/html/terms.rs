//! What the words of the fault page mean, in the terms of reliability engineering.

use maud::{Markup, html};

use crate::model::Faults;

/// Outcomes of every trial.
const OUTCOMES: [(&str, &str); 4] = [
    ("masked", "The decision stayed as it was without the fault."),
    ("identical", "Masked, and every logit that was read has the same bits too."),
    (
        "SDC",
        "Silent data corruption: another decision, and nothing noticed. With all positions read, \
         the decision is the last one.",
    ),
    (
        "DUE",
        "Detected unrecoverable error: a reader refused an unused code, a logit was not finite, or \
         a memory code flagged a word. Nothing wrong is used, and nothing at all.",
    ),
];

/// What is said behind memory codes.
const BEHIND: [(&str, &str); 4] = [
    (
        "PVF",
        "Parameter vulnerability factor: of the faults that reach the model, the share that are \
         SDC.",
    ),
    ("residual", "Faults that a memory code let through, corrected wrongly or not at all."),
    (
        "FIT",
        "Failures in 10\u{2079} hours. Critical FIT is the rate of raw faults, times the share \
         that is residual, times the PVF.",
    ),
    (
        "SECDED",
        "A code that corrects one flipped bit of a word and detects two: here Hsiao\u{2019}s, 8 \
         check bits for 64. Three flips it may correct to a wrong word.",
    ),
];

/// The words of this page.
pub(super) fn terms(faults: &Faults) -> Markup {
    let behind =
        !faults.protection.is_empty() || faults.strata.iter().any(|of| of.behind.is_some());
    let words = OUTCOMES.iter().chain(BEHIND.iter().filter(|_| behind));
    html! {
        details {
            summary { "What the words mean" }
            dl.facts { @for (word, meaning) in words { div { dt { (word) } dd { (meaning) } } } }
        }
    }
}

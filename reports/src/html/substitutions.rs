//! What cannot happen when other tokens stand there, and what the engine said of real ones.

use maud::{Markup, html};

use super::tables::{self, Table, maybe};
use crate::model::{Report, SubstSample, SubstWitness};
use crate::number::{Side, count, optional, percent};
use crate::story;

/// How many tokens of a witness are shown.
const MOST_TOKENS: usize = 64;

/// The section, where substitutions were asked for.
pub(super) fn section(report: &Report) -> Markup {
    let Some(found) = &report.substitutions else { return html! {} };
    html! {
        section aria-labelledby="substitutions" {
            h2 #substitutions { "When other tokens stand there" }
            p.lead { (story::substitutions(found)) "." }
            p.prose {
                "Certified accuracy " (percent(found.subst_cert_acc, Side::Down))
                "; what was run leaves " (percent(found.subst_attacked_acc, Side::Up))
                ". Proofs hold for every point of the hull of the embeddings, so for every choice "
                "of tokens; of " (count(found.subst_exhaustive)) " samples every choice was run."
            }
            (table(&found.subst_samples).render())
        }
    }
}

fn table(samples: &[SubstSample]) -> Table {
    let columns = [
        "#sample",
        "verdict",
        "decided by",
        "#margin at least",
        "#changing positions",
        "#substitutions",
        "#run",
        "#decide otherwise",
        "all run",
        "lost at",
        "first that decides otherwise",
    ];
    Table::of("Substitutions by sample", &columns, samples, |of| {
        vec![
            html! { (of.index) },
            tables::verdict(of.subst_verdict),
            maybe(of.subst_decided_by.map(story::method)),
            html! { (optional(of.subst_margin_lower_bound, Side::Down)) },
            html! { (count(of.subst_positions)) },
            html! { @match of.subst_combinations {
                Some(all) => (count(all)), None => "beyond 64 bits"
            } },
            html! { (count(of.subst_tried)) },
            html! { (count(of.subst_changed)) },
            html! { @if of.subst_exhaustive { "yes" } @else { "no" } },
            maybe(of.subst_lost_at.as_ref().map(|at| story::step(at.layer, &at.step))),
            html! { @if let Some(witness) = &of.subst_witness { (tokens(witness)) } },
        ]
    })
}

fn tokens(witness: &SubstWitness) -> String {
    let ids = &witness.input_ids;
    let shown: Vec<String> = ids.iter().take(MOST_TOKENS).map(u32::to_string).collect();
    let more = if ids.len() > MOST_TOKENS { ", …" } else { "" };
    let now = witness.prediction.map_or_else(|| "no number".to_owned(), |id| id.to_string());
    format!("[{}{more}] gives {now}", shown.join(", "))
}

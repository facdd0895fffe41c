//! The sections of the page, in the order of a reader's questions: what was analysed, what is the
//! answer, what cannot happen, what does happen, what was asked, under which assumptions.

use maud::{Markup, html};

use super::plot::PlotError;
use super::terms::terms;
use super::{change, charts, heat, ladder, memory, rows, sweep, tables};
use crate::arithmetic;
use crate::chance::draws;
use crate::escape::shown;
use crate::metrics::{evaluate_all, metric, proven_masked_share};
use crate::model::{Certification, Faults, Report, Verdict};
use crate::number::{Side, bytes, count, number, percent, plural, seconds};
use crate::story;

/// What was analysed.
pub(super) fn head(report: &Report) -> Markup {
    let model = &report.model;
    html! {
        header {
            p.eyebrow { "Robustness report" }
            h1 { (shown(&model.name)) }
            p.lead {
                @if model.embedded { "The model that comes with the program: " }
                (shown(&model.architecture)) ", " (plural(u64::from(model.layers), "layer"))
                ", hidden " (model.hidden) ", "
                (count(model.weights.ternary)) " ternary weights in "
                (bytes(model.weights.bytes_packed)) "; "
                (plural(report.data.samples, "sample")) ", " (count(report.data.labelled))
                " labelled."
            }
            dl.facts {
                div { dt { "Model digest" } dd { code { (shown(&model.digest)) } } }
                div { dt { "Data digest" } dd { code { (shown(&report.data.digest)) } } }
                div { dt { "Arithmetic" } dd {
                    code { (shown(&report.engine.arithmetic)) } " "
                    (shown(&report.engine.description))
                    "; activations " (arithmetic::activation(model.activation_policy))
                    ", head " (arithmetic::head(model.head)) "."
                } }
            }
        }
        @for warning in model.warnings.iter().take(MOST_NOTES) {
            p.callout { strong { "Warning: " } (shown(warning)) }
        }
        @for hit in report.limits_hit.iter().take(MOST_NOTES) {
            p.callout {
                strong { "Incomplete: " } (shown(&hit.limit)) ": " (shown(&hit.what))
            }
        }
    }
}

const MOST_NOTES: usize = 20;

/// The gates and whether they passed.
pub(super) fn gates(report: &Report) -> Markup {
    let results = evaluate_all(report);
    if results.is_empty() {
        return html! {};
    }
    html! {
        section aria-labelledby="gates" {
            h2 #gates { (story::gates(&results)) }
            ul.gates {
                @for result in &results {
                    li.failed[!result.passed] {
                        span aria-hidden="true" { @if result.passed { "✓ " } @else { "✕ " } }
                        strong { (if result.passed { "passed" } else { "failed" }) } " "
                        code { (shown(&result.gate.metric)) } " is " (story::compared(result))
                        ", wanted " (story::threshold(&result.gate))
                    }
                }
            }
        }
    }
}

fn card(name: &str, value: &str, note: &str) -> Markup {
    html! { div.card { dt { (name) } dd.value { (value) } dd.note { (note) } } }
}

/// The answer in a few numbers.
pub(super) fn cards(report: &Report) -> Markup {
    html! {
        section aria-labelledby="summary" {
            h2.aside #summary { "Summary" }
            dl.cards {
                @if let Some(found) = &report.certification { (certified_cards(found)) }
                @if let Some(faults) = &report.faults { (fault_cards(report, faults)) }
            }
        }
    }
}

fn certified_cards(found: &Certification) -> Markup {
    let epsilon = shown(&found.epsilon);
    let of = format!("of {}", plural(found.labelled, "labelled sample"));
    let median = number(found.median_certified_radius, Side::Down);
    let attack = found.median_attack_radius.map(|radius| number(radius, Side::Up));
    html! {
        @if let Some(clean) = found.clean_acc {
            (card("Clean accuracy", &percent(clean, Side::Down), &of))
        }
        @if let Some(certified) = found.cert_acc {
            (card(
                &format!("Certified accuracy at {epsilon}"),
                &percent(certified, Side::Down),
                "right on every input in the ball",
            ))
        } @else {
            (card(
                &format!("Certified at {epsilon}"),
                &count(found.certified),
                &format!("of {}", plural(found.unlabelled, "sample")),
            ))
        }
        (card(
            "Largest certified epsilon",
            &number(found.largest_certified_epsilon, Side::Down),
            &format!("median over samples {median}"),
        ))
        (card(
            "Attack radius",
            attack.as_deref().unwrap_or("none found"),
            "median where an attack succeeded",
        ))
    }
}

fn fault_cards(report: &Report, faults: &Faults) -> Markup {
    let worst = faults.targets.iter().max_by(|a, b| a.sdc_rate_high.total_cmp(&b.sdc_rate_high));
    let high = metric(report, "sdc_rate_high");
    html! {
        @if let (Some(worst), Some(high)) = (worst, high) {
            (card(
                "Silent corruption at most",
                &percent(high.high, Side::Up),
                &format!("of faults in {}, the worst target", worst.target.name()),
            ))
        }
        @if let Some(share) = proven_masked_share(faults) {
            (card(
                "Proven masked",
                &percent(share, Side::Down),
                "of pairs of a weight bit and a sample",
            ))
        }
    }
}

/// What cannot happen.
pub(super) fn certification(report: &Report) -> Result<Markup, PlotError> {
    let Some(found) = &report.certification else {
        let off = report.request.no_certify || draws(report.request.method);
        return Ok(absent("What can’t happen", off, "Certification"));
    };
    Ok(html! {
        section aria-labelledby="certification" {
            h2 #certification { "What can’t happen" }
            p.lead {
                (count(found.certified)) " of " (plural(found.samples.len() as u64, "answer"))
                " provably stay the same for every input within " (story::norm(found.norm)) " "
                (shown(&found.epsilon)) ", " (story::scope(&found.scope))
                @if let Some(suffix) = found.suffix {
                    ", in the stream that enters the last " (plural(u64::from(suffix), "layer"))
                } "."
            }
            (verdict_bar(found))
            (known(report, found))
            div.plots {
                (charts::accuracy(found)?)
                (charts::layer_radii(found)?)
                (charts::growth(found)?)
                (charts::margins(found)?)
            }
            @if found.epsilons.len() > 1 {
                h3 { "At every epsilon" }
                (ladder::epsilons(&found.epsilons).render())
            }
            h3 { "Method by method" }
            (ladder::methods(&found.methods).render())
            (ladder::tries(&found.samples).render())
            h3 { "Sample by sample" }
            (tables::samples(&found.samples).render())
            h3 { "Layer by layer" }
            (tables::layers(&found.layers).render())
            (change::lipschitz(found))
            (change::forms(found))
        }
    })
}

fn absent(title: &str, switched_off: bool, what: &str) -> Markup {
    html! {
        section {
            h2 { (title) }
            p.lead {
                (what)
                @if switched_off { " was switched off." } @else { " was not reached." }
            }
        }
    }
}

fn verdict_bar(found: &Certification) -> Markup {
    let parts = [
        ("certified", found.certified, Verdict::Certified),
        ("unknown", found.unknown, Verdict::Unknown),
        ("attack", found.falsified, Verdict::Falsified),
    ];
    let all = found.samples.len() as u64;
    let starts = [0, found.certified, found.certified + found.unknown];
    html! {
        @if all > 0 {
            svg.verdicts viewBox={ "0 0 " (all) " 1" } preserveAspectRatio="none"
                aria-hidden="true" {
                @for ((class, count, _), start) in parts.iter().zip(starts) {
                    rect class=(class) x=(start) y="0" width=(count) height="1" {}
                }
            }
        }
        ul.legend {
            @for (_, value, verdict) in parts {
                li { (tables::verdict(verdict)) " " (count(value)) }
            }
        }
    }
}

fn known(report: &Report, found: &Certification) -> Markup {
    let reasons = story::reasons(found, Verdict::Unknown);
    html! {
        dl.facts {
            div { dt { "Method" } dd { (story::method(found.method)) } }
            div { dt { "Bound first lost" } dd {
                @match &found.first_lost_layer {
                    Some(place) => (story::lost(place)),
                    None => { "nowhere at " (shown(&found.epsilon)) }
                }
            } }
            @if let Some(suffix) = story::suffix(report, found) {
                div { dt { "Deepest certified suffix" } dd { (suffix) } }
            }
            @if let Some(next) = found.next_token {
                div { dt { "Next-token decisions" } dd {
                    (percent(next.certified_share, Side::Down)) " of "
                    (plural(next.positions, "position")) " certified"
                } }
            }
            @if !reasons.is_empty() {
                div { dt { "Unknown because" } dd {
                    @for (i, (why, samples)) in reasons.iter().take(MOST_NOTES).enumerate() {
                        @if i > 0 { "; " }
                        (why) " (" (plural(*samples, "sample")) ")"
                    }
                } }
            }
        }
    }
}

/// What does happen.
pub(super) fn faults(report: &Report) -> Result<Markup, PlotError> {
    let Some(faults) = &report.faults else {
        return Ok(absent("What does happen", report.request.no_faults, "The fault campaign"));
    };
    Ok(html! {
        section aria-labelledby="faults" {
            h2 #faults { "What does happen" }
            (sweep::lead(faults))
            (tables::targets(&faults.targets).render())
            (terms(faults))
            @if !faults.strata.is_empty() {
                h3 { "By fault of the plan" }
                (rows::strata(&faults.strata).render())
                (memory::behind(&faults.strata))
                @if let Some(until) = &faults.until_precision {
                    (rows::anytime(until).render())
                    p {
                        "The campaign was to end at a half-width of "
                        (percent(until.half_width, Side::Up))
                        @if until.reached { ", which was reached." }
                        @else { ", which was not reached." }
                    }
                }
                (sweep::sweeps(faults)?)
            }
            @if let Some(generation) = &faults.generation {
                (rows::texts(generation))
            }
            @if let Some(map) = &faults.exhaustive {
                (heat::section(map))
            } @else {
                div.stack {
                    (charts::sdc_by_layer(faults)?)
                    (charts::sdc_by_bit(faults)?)
                }
            }
            @if !faults.worst.is_empty() {
                h3 { "The worst faults seen" }
                (tables::worst(&faults.worst).render())
            }
            (memory::tables(faults))
            (rows::proven(faults))
        }
    })
}

/// What was asked.
pub(super) fn request(report: &Report) -> Markup {
    let request = &report.request;
    let none = || "none".to_owned();
    let classes = request.classes.as_ref().map(|classes| {
        classes.iter().take(MOST_NOTES).map(u32::to_string).collect::<Vec<_>>().join(", ")
            + if classes.len() > MOST_NOTES { ", …" } else { "" }
    });
    let rows = [
        ("epsilon", shown(&request.epsilon)),
        ("every epsilon", shown(&request.epsilons.join(", "))),
        ("norm", story::norm(request.norm).to_owned()),
        ("scope", shown(&request.scope)),
        ("suffix", request.suffix.map_or_else(none, |layers| layers.to_string())),
        ("substitutions", request.substitutions.as_deref().map_or_else(none, shown)),
        ("positions", story::positions(request.positions).to_owned()),
        ("method", story::method(request.method).to_owned()),
        ("budget a sample", seconds(request.budget_seconds)),
        ("classes", classes.unwrap_or_else(|| "the whole vocabulary".to_owned())),
        ("attack steps", count(u64::from(request.attack_steps))),
        ("faults per target", count(request.faults)),
        ("flips per fault", request.flips.to_string()),
        ("seed", request.seed.to_string()),
        ("confidence", percent(request.confidence, Side::Nearest)),
        ("unused code", request.unused_code.name().to_owned()),
        ("KV storage", story::kv(request.kv).to_owned()),
        ("limit on samples", request.limit.map_or_else(none, count)),
        ("time limit", request.time_limit_seconds.map_or_else(none, seconds)),
        ("memory limit", request.max_memory_bytes.map_or_else(none, bytes)),
        ("activations", arithmetic::activation(report.model.activation_policy).to_owned()),
        ("head", arithmetic::head(report.model.head).to_owned()),
        ("gate of the feed-forward", arithmetic::gate_function(report.model.gate).to_owned()),
    ];
    html! {
        section aria-labelledby="request" {
            h2 #request { "What was asked" }
            dl.options { @for (name, value) in rows { div { dt { (name) } dd { (value) } } } }
        }
    }
}

/// Under which assumptions.
pub(super) fn assumptions(report: &Report) -> Markup {
    html! {
        section aria-labelledby="assumptions" {
            h2 #assumptions { "Assumptions and limits" }
            ul.prose {
                @for sentence in report.assumptions.iter().take(MOST_NOTES) {
                    li { (shown(sentence)) }
                }
                @if report.limits_hit.is_empty() {
                    li { "No limit was hit: the report is complete." }
                }
                @for hit in report.limits_hit.iter().take(MOST_NOTES) {
                    li { "Limit hit: " (shown(&hit.limit)) ": " (shown(&hit.what)) }
                }
            }
        }
    }
}

/// How the run went on the machine.
pub(super) fn run(report: &Report) -> Markup {
    let Some(run) = &report.run else { return html! {} };
    let unknown = || "–".to_owned();
    let rows = [
        ("started", shown(&run.started)),
        ("total", seconds(run.seconds_total)),
        ("loading", run.seconds_load.map_or_else(unknown, seconds)),
        ("certification", run.seconds_certify.map_or_else(unknown, seconds)),
        ("faults", run.seconds_faults.map_or_else(unknown, seconds)),
        ("threads", run.threads.to_string()),
        ("kernels", shown(&run.kernels)),
        ("peak memory", run.peak_memory_bytes.map_or_else(unknown, bytes)),
    ];
    html! {
        section aria-labelledby="run" {
            h2 #run { "How the run went" }
            dl.options { @for (name, value) in rows { div { dt { (name) } dd { (value) } } } }
            @if !run.methods.is_empty() { (ladder::costs(&run.methods).render()) }
        }
    }
}

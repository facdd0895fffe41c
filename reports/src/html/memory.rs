//! The tables of memory codes and of assignments of 2-bit codes to weights.

use maud::{Markup, html};

use super::tables::{Table, interval, text};
use crate::model::{
    Behind, CriticalFit, Encoding, EncodingDirection, Faults, FlipDirection, Protected, Stratum,
    TritDirection,
};
use crate::number::{Side, count, number, percent};

/// Both, where there is anything in them.
pub(super) fn tables(faults: &Faults) -> Markup {
    html! {
        @if let Some(of) = &faults.stored_bits {
            p.note {
                "Of the " (count(of.bits)) " stored bits of these parameters, each as likely to "
                "flip as any other, "
                @if let Some(rate) = of.sdc_rate { (percent(rate, Side::Nearest)) ", " }
                (interval(of.sdc_rate_low, of.sdc_rate_high)) ", change a decision."
            }
        }
        @if let Some(row) = faults.protection.first() {
            h3 { "Behind memory codes" }
            p.note {
                "A raw fault strikes bits of one stored word, check bits included. Critical "
                "failures in time take every raw fault to be of that kind, at "
                (number(row.fit_per_mbit_low, Side::Down)) " to "
                (number(row.fit_per_mbit_high, Side::Up)) " FIT a Mbit."
            }
            (protection(&faults.protection).render())
        }
        @if !faults.encodings.is_empty() {
            h3 { "Codes of weights" }
            (encodings(&faults.encodings).render())
            @if !faults.trit_bytes.is_empty() { (trits(&faults.trit_bytes).render()) }
        }
    }
}

/// One line a code and number of raw flips.
fn protection(rows: &[Protected]) -> Table {
    let columns = [
        "memory code",
        "#bits a raw fault strikes",
        "#raw faults",
        "#harmless",
        "#detected (DUE)",
        "#residual",
        "#residual, interval",
        "#SDC of them",
        "#PVF, interval",
        "#critical FIT",
    ];
    Table::of("Raw faults of packed weights behind memory codes", &columns, rows, |row| {
        vec![
            html! { (row.code.name()) " (" (row.word_bits) " + " (row.check_bits) ")" },
            html! { (row.raw_flips) },
            html! { (count(row.trials)) },
            html! { (count(row.harmless)) },
            html! { (count(row.detected)) },
            html! { (count(row.residual)) },
            interval(row.residual_rate_low, row.residual_rate_high),
            html! { (count(row.sdc)) },
            interval(row.pvf_low, row.pvf_high),
            html! {
                (number(row.fit_critical_low, Side::Down)) " to "
                (number(row.fit_critical_high, Side::Up))
            },
        ]
    })
}

/// One line a fault of the plan behind a memory code, where there is one.
pub(super) fn behind(strata: &[Stratum]) -> Markup {
    let rows: Vec<(&Stratum, &Behind)> =
        strata.iter().filter_map(|row| Some((row, row.behind.as_ref()?))).collect();
    let columns = [
        "fault",
        "memory code",
        "#trials",
        "#harmless",
        "#detected (DUE)",
        "#residual",
        "#miscorrected of them",
        "#residual, interval",
        "#PVF, interval",
        "#SDC rate, interval",
        "#SDC rate without the code",
        "#DUE rate without the code",
        "#critical FIT",
        "#without the code",
    ];
    let fit = |fit: Option<CriticalFit>| match fit {
        None => text("–"),
        Some(of) => {
            html! { (number(of.low, Side::Down)) " to " (number(of.high, Side::Up)) }
        }
    };
    let name = "Faults of the plan behind memory codes, and the same flips without";
    let table = Table::of(name, &columns, &rows, |(row, of)| {
        vec![
            html! { code { (row.fault) } },
            html! { (of.code.name()) " (" (of.word_bits) " + " (of.check_bits) ")" },
            html! { (count(row.trials)) },
            html! { (count(of.harmless)) },
            html! { (count(of.detected)) },
            html! { (count(of.residual)) },
            html! { (count(of.miscorrected)) },
            interval(of.residual_rate_low, of.residual_rate_high),
            interval(of.pvf_low, of.pvf_high),
            interval(row.sdc_rate_low, row.sdc_rate_high),
            interval(of.raw_sdc_rate_low, of.raw_sdc_rate_high),
            interval(of.raw_due_rate_low, of.raw_due_rate_high),
            fit(row.critical_fit),
            fit(of.raw_critical_fit),
        ]
    });
    html! {
        @if !rows.is_empty() {
            h3 { "Behind memory codes, and the same flips without" }
            (table.render())
        }
    }
}

/// One line a direction.
fn trits(rows: &[TritDirection]) -> Table {
    let columns = ["flips", "#bits of a byte", "#weights hit", "#summed change", "#unused bytes"];
    let title = "Five weights in a byte, as TQ1_0 packs them, under single flips";
    Table::of(title, &columns, rows, |row| {
        let direction = match row.direction {
            FlipDirection::Both => "any",
            FlipDirection::OneToZero => "1 to 0",
            FlipDirection::ZeroToOne => "0 to 1",
        };
        vec![
            text(direction),
            text(&number(row.bits_per_byte, Side::Nearest)),
            text(&number(row.mean_weights_hit, Side::Nearest)),
            text(&number(row.mean_weight_change, Side::Nearest)),
            text(&percent(row.unused_share, Side::Nearest)),
        ]
    })
}

/// One line an assignment.
fn encodings(rows: &[Encoding]) -> Table {
    let columns = [
        "code of \u{2212}1",
        "0",
        "+1",
        "unused",
        "",
        "#sign flips",
        "#unused",
        "#mean change",
        "#sign flips, 1 to 0",
        "#unused, 1 to 0",
        "#sign flips, 0 to 1",
        "#unused, 0 to 1",
    ];
    Table::of("Assignments of 2-bit codes to weights under single flips", &columns, rows, |row| {
        let of = |direction| row.directions.iter().find(|of| of.direction == direction);
        let share = |direction, part: fn(&EncodingDirection) -> f64| {
            of(direction).map_or_else(|| "–".to_owned(), |of| percent(part(of), Side::Nearest))
        };
        let sign = |direction| text(&share(direction, |of| of.sign_flip_share));
        let unused = |direction| text(&share(direction, |of| of.unused_share));
        let both = of(FlipDirection::Both);
        let change =
            both.map_or_else(|| "–".to_owned(), |of| number(of.mean_weight_change, Side::Nearest));
        vec![
            text(&row.minus_one),
            text(&row.zero),
            text(&row.plus_one),
            text(&row.unused),
            text(if row.deployed { "deployed" } else { "" }),
            sign(FlipDirection::Both),
            unused(FlipDirection::Both),
            text(&change),
            sign(FlipDirection::OneToZero),
            unused(FlipDirection::OneToZero),
            sign(FlipDirection::ZeroToOne),
            unused(FlipDirection::ZeroToOne),
        ]
    })
}

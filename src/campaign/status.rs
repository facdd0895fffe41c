//! `faults status`: what a journal holds, without its model.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use faults::journal::{self, Entry, Found, Header};
use faults::mix::Stratum;
use faults::{Cell, MapPlan, Outcome, PlanError, PlanFile, RowEntry, Strip};
use serde_json::{Value, json};

use super::ask;
use super::progress::said;
use super::trouble::refused;
use super::words::StatusArgs;
use crate::commands::tell;
use crate::failure::Failure;

/// Outcomes of a stratum.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    trials: u64,
    masked: u64,
    sdc: u64,
    due: u64,
}

/// Runs `faults status`.
///
/// # Errors
/// If there is no journal, or it is not whole.
pub(super) fn status(args: &StatusArgs) -> Result<(), Failure> {
    let header = journal::header(&args.journal).map_err(refused)?;
    let plan = &header.plan;
    let (table, wanted, there) = match (MapPlan::is_one(plan), MapPlan::ranks(plan)) {
        (true, true) => strips(args)?,
        (true, false) => rows(args)?,
        (false, _) => trials(args)?,
    };
    let written = journal::is_written(&args.journal);
    let text = if args.json {
        let json = as_json(&header, &table, (wanted, there), written);
        serde_json::to_string_pretty(&json).map_err(Failure::bug)? + "\n"
    } else {
        let mut text = as_text(&header, &table, (wanted, there), written);
        if !written && there < wanted {
            let folder = args.journal.display();
            writeln!(text, "go on with: bitnet-certify faults resume {folder}")
                .expect("text takes all");
        }
        text
    };
    tell(text.as_bytes())
}

/// What a journal holds, by kind of fault.
struct Table {
    /// A fault, its outcomes, and what is said of their rate.
    lines: Vec<(String, Counts, String)>,
    torn: u64,
    /// What the pieces of the journal are.
    unit: &'static str,
}

/// A journal of drawn trials: how many there are to be, and are.
fn trials(args: &StatusArgs) -> Result<(Table, u64, u64), Failure> {
    let found: Found = journal::read(&args.journal).map_err(refused)?;
    let mix = PlanFile::parse(&found.header.plan).and_then(|file| file.mix(ask::WORST));
    let mix = mix.map_err(no_plan)?;
    let counts = counts(&found.entries);
    let line = |(number, stratum): (usize, &Stratum)| {
        let of = counts.get(&(number as u16)).copied().unwrap_or_default();
        (stratum.to_string(), of, said(of.sdc, of.trials, mix.plan.confidence))
    };
    let lines = mix.strata.iter().enumerate().map(line).collect();
    let wanted = mix.trials_of(found.header.shard);
    let there = found.entries.len() as u64;
    Ok((Table { lines, torn: found.torn, unit: "trials" }, wanted, there))
}

/// A journal of a map, likewise.
fn rows(args: &StatusArgs) -> Result<(Table, u64, u64), Failure> {
    let found: Found<RowEntry> = journal::read(&args.journal).map_err(refused)?;
    MapPlan::parse(&found.header.plan).map_err(no_plan)?;
    let totals: Vec<Cell> = found.entries.iter().map(RowEntry::total).collect();
    let total = Cell::total(&totals);
    let Cell { masked, sdc, due, .. } = total;
    let counts = Counts { trials: total.faults(), masked, sdc, due };
    Ok(mapped(&found, "weight_code exhaustive", counts, "rows"))
}

/// A journal of a ranking, likewise.
fn strips(args: &StatusArgs) -> Result<(Table, u64, u64), Failure> {
    let found: Found<Strip> = journal::read(&args.journal).map_err(refused)?;
    MapPlan::parse(&found.header.plan).map_err(no_plan)?;
    let mut counts = Counts::default();
    for (faults, sdc, due) in found.entries.iter().map(Strip::counts) {
        counts.trials += faults;
        counts.sdc += sdc;
        counts.due += due;
        counts.masked += faults - sdc - due;
    }
    Ok(mapped(&found, "weight_code ranked", counts, "strips"))
}

fn mapped<K>(
    found: &Found<K>,
    what: &str,
    counts: Counts,
    unit: &'static str,
) -> (Table, u64, u64) {
    let share = 100.0 * counts.sdc as f64 / counts.trials.max(1) as f64;
    let line = (what.to_owned(), counts, format!("sdc {share:.3} % of these"));
    let (Header { trials, shard, .. }, there) = (&found.header, found.entries.len() as u64);
    let table = Table { lines: vec![line], torn: found.torn, unit };
    (table, shard.share_of(*trials), there)
}

fn no_plan(error: PlanError) -> Failure {
    Failure::refused(format!("the plan of the journal: {error}"))
}

fn counts(entries: &[Entry]) -> BTreeMap<u16, Counts> {
    let mut all: BTreeMap<u16, Counts> = BTreeMap::new();
    for entry in entries {
        let counts = all.entry(entry.stratum).or_default();
        counts.trials += 1;
        match entry.trial.outcome {
            Outcome::Masked { .. } => counts.masked += 1,
            Outcome::Sdc => counts.sdc += 1,
            Outcome::Due(_) => counts.due += 1,
        }
    }
    all
}

fn as_text(header: &Header, table: &Table, (wanted, there): (u64, u64), written: bool) -> String {
    let (shard, of) = (header.shard.index, header.shard.of);
    let state = match (written, there >= wanted) {
        (true, _) => "running",
        (false, true) => "finished",
        (false, false) => "not running",
    };
    let mut text = format!(
        "{state}: {there} of {wanted} {}, shard {shard}/{of} of {}\nmodel    {}\nsamples  {}\n",
        table.unit, header.trials, header.model, header.inputs,
    );
    if table.torn > 0 {
        writeln!(text, "torn     the last {} bytes do not count", table.torn)
            .expect("text takes all");
    }
    for (fault, Counts { trials, masked, due, .. }, said) in &table.lines {
        writeln!(text, "{fault}: {trials} trials, {masked} masked, {due} due, {said}")
            .expect("text takes all");
    }
    text
}

fn as_json(header: &Header, table: &Table, (wanted, there): (u64, u64), written: bool) -> Value {
    let strata = table.lines.iter().map(|(fault, of, _)| {
        let Counts { trials, masked, sdc, due } = *of;
        json!({
            "fault": fault, "trials": trials, "masked": masked, "sdc": sdc, "due": due,
        })
    });
    json!({
        "running": written,
        table.unit: there,
        "wanted": wanted,
        "campaign": header.trials,
        "shard": format!("{}/{}", header.shard.index, header.shard.of),
        "model": header.model,
        "samples": header.inputs,
        "torn_bytes": table.torn,
        "plan": header.plan,
        "strata": strata.collect::<Vec<_>>(),
    })
}

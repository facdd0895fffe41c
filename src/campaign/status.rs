//! `faults status`: what a journal holds, without its model.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use faults::journal::{self, Entry, Found};
use faults::{Mix, Outcome, PlanFile};
use serde_json::{Value, json};

use super::progress::said;
use super::words::StatusArgs;
use super::{ask, refused};
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
    let found = journal::read(&args.journal).map_err(refused)?;
    let mix = PlanFile::parse(&found.header.plan).and_then(|file| file.mix(ask::WORST));
    let mix = mix.map_err(|error| Failure::refused(format!("the plan of the journal: {error}")))?;
    let written = journal::is_written(&args.journal);
    let text = if args.json {
        let text = serde_json::to_string_pretty(&as_json(&found, &mix, written));
        text.map_err(Failure::bug)? + "\n"
    } else {
        let mut text = as_text(&found, &mix, written);
        if !written && (found.entries.len() as u64) < mix.trials_of(found.header.shard) {
            let folder = args.journal.display();
            writeln!(text, "go on with: bitnet-certify faults resume {folder}")
                .expect("text takes all");
        }
        text
    };
    tell(text.as_bytes())
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

fn as_text(found: &Found, mix: &Mix, written: bool) -> String {
    let header = &found.header;
    let wanted = mix.trials_of(header.shard);
    let (shard, of) = (header.shard.index, header.shard.of);
    let state = match (written, found.entries.len() as u64 >= wanted) {
        (true, _) => "running",
        (false, true) => "finished",
        (false, false) => "not running",
    };
    let mut text = format!(
        "{state}: {} of {wanted} trials, shard {shard}/{of} of {}\nmodel    {}\nsamples  {}\n",
        found.entries.len(),
        header.trials,
        header.model,
        header.inputs,
    );
    if found.torn > 0 {
        writeln!(text, "torn     the last {} bytes do not count", found.torn)
            .expect("text takes all");
    }
    let counts = counts(&found.entries);
    for (number, stratum) in mix.strata.iter().enumerate() {
        let of = counts.get(&(number as u16)).copied().unwrap_or_default();
        let said = said(of.sdc, of.trials, mix.plan.confidence);
        let Counts { trials, masked, due, .. } = of;
        writeln!(text, "{stratum}: {trials} trials, {masked} masked, {due} due, {said}")
            .expect("text takes all");
    }
    text
}

fn as_json(found: &Found, mix: &Mix, written: bool) -> Value {
    let header = &found.header;
    let counts = counts(&found.entries);
    let strata = mix.strata.iter().enumerate().map(|(number, stratum)| {
        let Counts { trials, masked, sdc, due } =
            counts.get(&(number as u16)).copied().unwrap_or_default();
        json!({
            "fault": stratum.to_string(),
            "trials": trials, "masked": masked, "sdc": sdc, "due": due,
        })
    });
    json!({
        "running": written,
        "trials": found.entries.len(),
        "wanted": mix.trials_of(header.shard),
        "campaign": header.trials,
        "shard": format!("{}/{}", header.shard.index, header.shard.of),
        "model": header.model,
        "samples": header.inputs,
        "torn_bytes": found.torn,
        "plan": header.plan,
        "strata": strata.collect::<Vec<_>>(),
    })
}

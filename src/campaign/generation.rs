//! `--generate`: what the faults of a campaign do to texts.
//!
//! A trial's text follows from its number, as its fault does, so no journal keeps it: texts are
//! generated when the report is told, of whatever trials it is told of.

use faults::journal::{Entry, Header};
use faults::{Campaign, Generated, GenerationError, Protection, Rate, check_generation, generated};
use reports::model as out;

use super::Subject;
use super::ask::Place;
use super::progress::Progress;
use super::signals::Signals;
use crate::analyze::fault_sample;
use crate::assemble::fault_target;
use crate::failure::Failure;

/// Refuses what has no texts to compare, before any work.
pub(super) fn check(subject: &Subject) -> Result<(), Failure> {
    let Some(tokens) = subject.place.generate else { return Ok(()) };
    let samples: Vec<_> = subject.samples.samples.iter().map(fault_sample).collect();
    check_generation(&subject.loaded.model, &samples, tokens as usize).map_err(|error| {
        let what = format!("--generate {tokens}: {error}");
        match error {
            GenerationError::Tokens { .. } => Failure::usage(what).help("--generate 32"),
            GenerationError::Positions { prompt, positions, .. } => {
                let fit = positions.saturating_sub(prompt);
                Failure::refused(what).help(match fit {
                    0 => "shorter samples".to_owned(),
                    _ => format!("--generate {fit}, or shorter samples"),
                })
            }
            _ => Failure::refused(what).help("a language model, with samples of input_ids or text"),
        }
    })
}

/// Refuses two journals whose campaigns were asked for other texts.
pub(super) fn same(one: &Header, other: &Header) -> Result<(), Failure> {
    if Place::read(one)?.generate == Place::read(other)?.generate {
        return Ok(());
    }
    let what = "the journals were asked for texts of different lengths, or not all for texts";
    Err(Failure::refused(what).help("the same --generate for every shard"))
}

impl Subject<'_> {
    /// The texts of some trials, where they were asked for. Signals stop them.
    pub(super) fn texts(
        &self,
        campaign: &Campaign,
        entries: &[Entry],
        signals: &Signals,
    ) -> Result<Option<out::Generation>, Failure> {
        let Some(tokens) = self.place.generate else { return Ok(None) };
        let trials: Vec<u64> = entries.iter().map(|entry| entry.index).collect();
        let say = Box::new(|diverged, texts| format!("{diverged} of {texts} texts diverged"));
        let progress = Progress::new(trials.len() as u64, (0, 0), !self.telling.quiet, say);
        let done = |diverged: bool| progress.add((1, u64::from(diverged)));
        let found = generated(campaign, &trials, tokens as usize, &done, &|| signals.stop());
        drop(progress);
        if let Some(exit) = signals.exit().filter(|_| found.is_none()) {
            let what = "interrupted after all trials, before their texts were there".to_owned();
            let help = "bitnet-certify faults resume FOLDER, where a journal keeps the trials";
            return Err(Failure { exit, what, help: Some(help.into()) });
        }
        let found = found.unwrap_or_default();
        let (mut targets, confidence) =
            (campaign.plan().targets.clone(), campaign.plan().confidence);
        targets.sort();
        targets.dedup();
        let none = Generated::default();
        let row = |target| row(target, found.targets.get(&target).unwrap_or(&none), confidence);
        let strata = campaign.mix().strata.iter().enumerate();
        let guarded = strata.filter(|(_, stratum)| stratum.protection != Protection::None);
        let behind = guarded.map(|(number, stratum)| {
            let of = found.guarded.get(&number).cloned().unwrap_or_default();
            out::GeneratedBehind {
                fault: stratum.to_string(),
                trials: of.left.trials,
                detected: of.left.flagged,
                residual: told(&of.left, confidence),
                raw: told(&of.raw, confidence),
            }
        });
        let (targets, behind) = (targets.into_iter().map(row).collect(), behind.collect());
        Ok(Some(out::Generation { tokens, targets, behind }))
    }
}

fn row(target: faults::Target, of: &Generated, confidence: f64) -> out::GeneratedTarget {
    let texts = told(of, confidence);
    out::GeneratedTarget {
        target: fault_target(target),
        trials: of.trials,
        detected: of.flagged,
        diverged: texts.diverged,
        broken_off: texts.broken_off,
        recovered: texts.recovered,
        diverged_rate: texts.diverged_rate,
        diverged_rate_low: texts.diverged_rate_low,
        diverged_rate_high: texts.diverged_rate_high,
        unrecovered_rate: texts.unrecovered_rate,
        unrecovered_rate_low: texts.unrecovered_rate_low,
        unrecovered_rate_high: texts.unrecovered_rate_high,
        median_first_divergence: texts.median_first_divergence,
        mean_different: texts.mean_different,
    }
}

fn told(of: &Generated, confidence: f64) -> out::Texts {
    let texts = of.texts();
    let diverged = Rate::of(of.diverged, texts, confidence);
    let unrecovered = Rate::of(of.diverged - of.recovered, texts, confidence);
    let place = |place| u32::try_from(place).expect("a place within a text");
    out::Texts {
        texts,
        diverged: of.diverged,
        broken_off: of.broken,
        recovered: of.recovered,
        diverged_rate: (texts > 0).then_some(diverged.share),
        diverged_rate_low: diverged.interval.low,
        diverged_rate_high: diverged.interval.high,
        unrecovered_rate: (texts > 0).then_some(unrecovered.share),
        unrecovered_rate_low: unrecovered.interval.low,
        unrecovered_rate_high: unrecovered.interval.high,
        median_first_divergence: of.median_first().map(place),
        mean_different: of.mean_different(),
    }
}

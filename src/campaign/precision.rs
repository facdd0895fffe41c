//! `--until-precision`: a campaign that ends once the silent-corruption rate of every fault of its
//! plan is known closely enough.
//!
//! Intervals for a fixed number of trials do not hold for one that ends when it likes what it sees.
//! These do: confidence sequences, whose coverage holds at all times at once, the faults of the
//! plan sharing the error evenly.

use faults::journal::Entry;
use faults::mix::Mix;
use faults::{Outcome, Sequential};
use reports::model::{AnytimeRate, UntilPrecision};

use super::words::TellingArgs;
use crate::failure::Failure;

/// Trials between two looks, at least.
pub(super) const LOOK: u64 = 1024;
/// Trials by default, where rates are not known closely before.
pub(super) const MOST: u64 = 1_000_000;

/// The half-width that was typed, such as `0.1%` or `0.001`.
pub(super) fn half_width(text: &str) -> Result<f64, Failure> {
    let number = match text.strip_suffix('%') {
        Some(percent) => percent.parse::<f64>().map(|percent| percent / 100.0),
        None => text.parse::<f64>(),
    };
    number.ok().filter(|width| (1e-6..=0.5).contains(width)).ok_or_else(|| {
        Failure::usage(format!("--until-precision {text}: expected a half-width of 1e-6 to 0.5"))
            .help("--until-precision 0.1%, or 0.001")
    })
}

/// Refuses gates on a campaign that ends when it likes what it sees: they compare intervals that
/// hold for a fixed number of trials.
pub(super) fn ungated(telling: &TellingArgs) -> Result<(), Failure> {
    match (&telling.fail_under[..], &telling.fail_over[..]) {
        ([], []) => Ok(()),
        _ => Err(Failure::usage(
            "--until-precision: gates compare intervals for a fixed number of trials",
        )
        .help("--trials N with the gate, or --until-precision without")),
    }
}

/// What each fault of a plan may be wrong with.
fn alpha(mix: &Mix) -> f64 {
    (1.0 - mix.plan.confidence) / mix.strata.len() as f64
}

/// Checks that there is enough to be wrong with for every fault of a plan.
pub(super) fn check(mix: &Mix) -> Result<(), Failure> {
    if alpha(mix) >= 1e-15 {
        return Ok(());
    }
    let (confidence, faults) = (mix.plan.confidence, mix.strata.len());
    let what = format!("confidence {confidence}: {faults} faults share what is left to 1");
    Err(Failure::usage(format!("{what}, expected 1e-15 or more for each"))
        .help("--confidence 0.99"))
}

/// What is certain of every fault of a plan after some trials.
fn sequences(mix: &Mix, entries: &[Entry], half_width: f64) -> Vec<Sequential> {
    let mut counts = vec![(0, 0); mix.strata.len()];
    for entry in entries {
        let (events, trials) = &mut counts[usize::from(entry.stratum)];
        *events += u64::from(entry.trial.outcome == Outcome::Sdc);
        *trials += 1;
    }
    let alpha = alpha(mix);
    let sequence = |(events, trials)| {
        let mut sequence = Sequential::new(alpha, half_width);
        sequence.update(events, trials);
        sequence
    };
    counts.into_iter().map(sequence).collect()
}

/// Whether every rate is known closely enough.
pub(super) fn enough(mix: &Mix, entries: &[Entry], half_width: f64) -> bool {
    sequences(mix, entries, half_width).iter().all(|sequence| sequence.is_within(half_width))
}

/// What the report says of it.
pub(super) fn told(mix: &Mix, entries: &[Entry], half_width: f64) -> UntilPrecision {
    let rate = |(sequence, stratum): (&Sequential, &faults::mix::Stratum)| {
        let interval = sequence.interval();
        let (sdc, trials) = (sequence.events(), sequence.trials());
        AnytimeRate {
            fault: stratum.to_string(),
            trials,
            sdc,
            sdc_rate: (trials > 0).then(|| sdc as f64 / trials as f64),
            sdc_rate_low: interval.low,
            sdc_rate_high: interval.high,
        }
    };
    let sequences = sequences(mix, entries, half_width);
    UntilPrecision {
        half_width,
        reached: sequences.iter().all(|sequence| sequence.is_within(half_width)),
        rates: sequences.iter().zip(&mix.strata).map(rate).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_widths_are_shares_or_per_cent() {
        assert_eq!(half_width("0.1%").expect("a width"), 0.001);
        assert_eq!(half_width("0.02").expect("a width"), 0.02);
        for text in ["", "0", "-1%", "60%", "1e-9", "NaN", "x"] {
            assert!(half_width(text).is_err(), "{text}");
        }
    }
}

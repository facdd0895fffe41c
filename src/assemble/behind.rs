//! Faults of a plan behind memory codes, in the words of the contract.

use faults::mix::Stratum;
use faults::{BehindTally, Drawn, Protection, Rate, Summary, fit_of_windows};
use reports::model as out;

use super::faults::rate;
use super::memory::code;

/// What the code of a fault made of its trials; `None` without a code.
pub(super) fn behind(
    stratum: &Stratum,
    tally: &BehindTally,
    drawn: Option<Drawn>,
    confidence: f64,
) -> Option<out::Behind> {
    let protection = stratum.protection;
    let drawn = drawn.filter(|_| protection != Protection::None)?;
    let shield = tally.shield;
    let trials = shield.trials;
    let (residual_rate, residual_rate_low, residual_rate_high) =
        rate(shield.residual_rate(confidence), trials);
    let (pvf, pvf_low, pvf_high) = rate(shield.vulnerability(confidence), shield.residual);
    let raw_sdc = Rate::of(tally.raw_sdc, trials, confidence);
    let (raw_sdc_rate, raw_sdc_rate_low, raw_sdc_rate_high) = rate(raw_sdc, trials);
    let (raw_due_rate, raw_due_rate_low, raw_due_rate_high) =
        rate(Rate::of(tally.raw_due, trials, confidence), trials);
    Some(out::Behind {
        code: code(protection),
        word_bits: protection.data_bits(),
        check_bits: protection.check_bits(),
        stored_bits: drawn.bits,
        stored_check_bits: drawn.checks,
        harmless: shield.harmless,
        detected: shield.detected,
        residual: shield.residual,
        miscorrected: tally.miscorrected,
        residual_rate,
        residual_rate_low,
        residual_rate_high,
        pvf,
        pvf_low,
        pvf_high,
        raw_masked: tally.raw_masked,
        raw_sdc: tally.raw_sdc,
        raw_due: tally.raw_due,
        raw_sdc_rate,
        raw_sdc_rate_low,
        raw_sdc_rate_high,
        raw_due_rate,
        raw_due_rate_low,
        raw_due_rate_high,
        raw_critical_fit: windows(stratum, raw_sdc),
    })
}

/// Wrong decisions in time, where a fault is drawn by failures in time.
pub(super) fn critical(
    stratum: &Stratum,
    summary: &Summary,
    confidence: f64,
) -> Option<out::CriticalFit> {
    windows(stratum, summary.sdc_rate(confidence))
}

fn windows(stratum: &Stratum, sdc: Rate) -> Option<out::CriticalFit> {
    let hours = stratum.pattern.hours()?;
    let fit = fit_of_windows(sdc.interval, hours)?;
    Some(out::CriticalFit { hours, low: fit.low, high: fit.high })
}

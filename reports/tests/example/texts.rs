//! Made-up texts under faults, with memory codes and without.

#![allow(dead_code, reason = "not every test binary needs it")]

use reports::model::*;

use super::rate;

/// Tokens of a text.
const TOKENS: u32 = 16;
/// Trials of the fault behind a memory code, and those of them that it flags.
const GUARDED: u64 = 40;
const FLAGGED: u64 = 8;

fn texts(texts: u64, diverged: u64) -> Texts {
    let recovered = diverged / 3;
    let (diverged_rate, diverged_rate_low, diverged_rate_high) = rate(diverged, texts);
    let (unrecovered_rate, unrecovered_rate_low, unrecovered_rate_high) =
        rate(diverged - recovered, texts);
    Texts {
        texts,
        diverged,
        broken_off: diverged / 4,
        recovered,
        diverged_rate,
        diverged_rate_low,
        diverged_rate_high,
        unrecovered_rate,
        unrecovered_rate_low,
        unrecovered_rate_high,
        median_first_divergence: (diverged > 0).then_some(5),
        mean_different: (diverged > 0).then_some(7.5),
    }
}

/// A report whose trials have texts, of which every fourth diverged.
pub(crate) fn generated() -> Report {
    let mut report = super::report();
    let found = report.faults.as_mut().expect("faults");
    let targets = found.targets.iter().map(|of| row(of, 0)).collect();
    found.generation = Some(Generation { tokens: TOKENS, targets, behind: Vec::new() });
    report
}

/// One whose first target is struck behind a memory code.
pub(crate) fn guarded() -> Report {
    let mut report = generated();
    let found = report.faults.as_mut().expect("faults");
    found.plan = Some("seed = 0".to_owned());
    found.flips = 0;
    found.strata = found.targets.iter().flat_map(strata).collect();
    let generation = found.generation.as_mut().expect("texts");
    generation.targets[0] = row(&found.targets[0], FLAGGED);
    let (trials, residual) = (GUARDED, texts(GUARDED - FLAGGED, 6));
    let fault = found.strata[0].fault.clone();
    let raw = texts(GUARDED, 18);
    generation.behind = vec![GeneratedBehind { fault, trials, detected: FLAGGED, residual, raw }];
    report
}

fn row(of: &Target, detected: u64) -> GeneratedTarget {
    let texts = texts(of.trials - detected, of.trials / 4);
    GeneratedTarget {
        target: of.target,
        trials: of.trials,
        detected,
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

/// One fault of a plan a target; of packed weights two, the first behind a memory code.
fn strata(of: &Target) -> Vec<Stratum> {
    if of.target != FaultTarget::WeightCode {
        return vec![stratum(of, "flips=1", [of.masked, of.sdc, of.due])];
    }
    let guarded = [GUARDED - FLAGGED, 0, FLAGGED];
    let rest = [of.masked - guarded[0], of.sdc, of.due.saturating_sub(FLAGGED)];
    let rest = [of.trials - GUARDED - rest[1] - rest[2], rest[1], rest[2]];
    let first =
        Stratum { behind: Some(behind()), ..stratum(of, "flips=2 protection=secded", guarded) };
    vec![first, stratum(of, "flips=1", rest)]
}

fn stratum(of: &Target, model: &str, [masked, sdc, due]: [u64; 3]) -> Stratum {
    let trials = masked + sdc + due;
    let (sdc_rate, sdc_rate_low, sdc_rate_high) = rate(sdc, trials);
    let (due_rate, due_rate_low, due_rate_high) = rate(due, trials);
    Stratum {
        fault: format!("{} random {model}", of.target.name()),
        target: of.target,
        model: "random".to_owned(),
        trials,
        masked,
        identical: 0,
        sdc,
        due,
        sdc_rate,
        sdc_rate_low,
        sdc_rate_high,
        due_rate,
        due_rate_low,
        due_rate_high,
        flips: trials,
        bit_error_rate: None,
        labelled: 10,
        correct: 8,
        clean_correct: 9,
        accuracy: Some(0.8),
        accuracy_low: 0.4,
        accuracy_high: 1.0,
        mean_nll_change: of.mean_nll_change,
        perplexity_factor: Some(1.5),
        perplexity_factor_capped: Some(1.5),
        perplexity_factor_capped_low: Some(1.0),
        perplexity_factor_capped_high: Some(2.0),
        behind: None,
        critical_fit: None,
    }
}

fn behind() -> Behind {
    let residual = GUARDED - FLAGGED;
    let (residual_rate, residual_rate_low, residual_rate_high) = rate(residual, GUARDED);
    let (pvf, pvf_low, pvf_high) = rate(0, residual);
    let (raw_sdc_rate, raw_sdc_rate_low, raw_sdc_rate_high) = rate(4, GUARDED);
    let (raw_due_rate, raw_due_rate_low, raw_due_rate_high) = rate(0, GUARDED);
    Behind {
        code: MemoryCode::Secded,
        word_bits: 64,
        check_bits: 8,
        stored_bits: 82_944,
        stored_check_bits: 9_216,
        harmless: 0,
        detected: FLAGGED,
        residual,
        miscorrected: 2,
        residual_rate,
        residual_rate_low,
        residual_rate_high,
        pvf,
        pvf_low,
        pvf_high,
        raw_masked: GUARDED - 4,
        raw_sdc: 4,
        raw_due: 0,
        raw_sdc_rate,
        raw_sdc_rate_low,
        raw_sdc_rate_high,
        raw_due_rate,
        raw_due_rate_low,
        raw_due_rate_high,
        raw_critical_fit: None,
    }
}

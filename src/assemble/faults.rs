//! Outcomes of faults, and bounds on them, in the words of the contract.

use certify::ladder::Rung;
use engine::numerics::special::exp;
use faults::mix::{Mix, Stratum};
use faults::{Outcome, Rate, Summary, Target};
use reports::model as out;
use reports::model::finite;

use super::{behind, cache, memory, number, unused};
use crate::analyze::{
    Campaigned, LayerBound, LayerRows, Level, MOST_FLIPS, Place, PlaceFlips, Proven,
};
use crate::plan::Plan;

pub(super) fn faults(
    plan: &Plan,
    campaigned: &Campaigned,
    bounds: Option<&[LayerBound]>,
    proven: Option<&Proven>,
) -> out::Faults {
    let tally = &campaigned.tally;
    let confidence = plan.confidence;
    out::Faults {
        seed: plan.seed,
        trials: tally.trials,
        flips: plan.flips,
        confidence,
        unused_code: unused(plan),
        kv: super::kv(plan),
        targets: targets(campaigned, confidence),
        layers: tally.layers.iter().map(|(&key, s)| layer(key, s, confidence)).collect(),
        bits: tally.bits.iter().map(|(&key, s)| bit(key, s, confidence)).collect(),
        stored_bits: campaigned.stored_bits.as_ref().map(memory::stored_bits),
        encodings: campaigned.assignments.codes.iter().map(memory::encoding).collect(),
        trit_bytes: campaigned.assignments.trits.iter().map(memory::trits).collect(),
        protection: (campaigned.protected.iter())
            .map(|row| memory::protected(row, confidence))
            .collect(),
        worst: worst(campaigned),
        bounds: bounds.unwrap_or_default().iter().enumerate().map(bound).collect(),
        rows_proven: proven.map_or_else(Vec::new, |of| of.rows.iter().map(proven_rows).collect()),
        flips_proven: proven
            .map_or_else(Vec::new, |of| of.flips.iter().filter_map(proven_flips).collect()),
        flips_proven_in_model: proven
            .and_then(|of| of.flips.iter().find(|of| of.place == Place::Model))
            .map(proven_in_model),
        cache_proven: proven.map_or_else(Vec::new, |of| {
            of.cache.iter().map(|row| cache::proven(row, plan.kv)).collect()
        }),
        until_precision: campaigned.until.clone(),
        exhaustive: None,
        generation: campaigned.generation.clone(),
        plan: campaigned.mix.as_ref().map(Mix::to_toml),
        strata: campaigned.mix.as_ref().map_or_else(Vec::new, |mix| strata(mix, campaigned)),
    }
}

/// Every fault of the plan, in its order.
fn strata(mix: &Mix, campaigned: &Campaigned) -> Vec<out::Stratum> {
    let row = |(number, stratum): (usize, &Stratum)| {
        let summary = campaigned.tally.strata.get(&number).copied().unwrap_or_default();
        let confidence = mix.plan.confidence;
        let of = target(stratum.target, &summary, confidence);
        let (accuracy, accuracy_low, accuracy_high) =
            rate(summary.accuracy(confidence), summary.labelled);
        let (change, [low, high]) = summary.nll_change(confidence);
        out::Stratum {
            fault: stratum.to_string(),
            target: of.target,
            model: stratum.pattern.model().into(),
            trials: of.trials,
            masked: of.masked,
            identical: of.identical,
            sdc: of.sdc,
            due: of.due,
            sdc_rate: of.sdc_rate,
            sdc_rate_low: of.sdc_rate_low,
            sdc_rate_high: of.sdc_rate_high,
            due_rate: of.due_rate,
            due_rate_low: of.due_rate_low,
            due_rate_high: of.due_rate_high,
            flips: summary.flips,
            bit_error_rate: stratum.pattern.bit_error_rate(),
            labelled: summary.labelled,
            correct: summary.correct,
            clean_correct: summary.clean_correct,
            accuracy,
            accuracy_low,
            accuracy_high,
            mean_nll_change: of.mean_nll_change,
            perplexity_factor: of.mean_nll_change.map(exp).and_then(finite),
            perplexity_factor_capped: change.map(exp),
            // The exponential is off by less than 8 units of 2^-53.
            perplexity_factor_capped_low: change.map(|_| exp(low) * (1.0 - 8.0 * f64::EPSILON)),
            perplexity_factor_capped_high: change.map(|_| exp(high) * (1.0 + 8.0 * f64::EPSILON)),
            behind: {
                let tally = campaigned.tally.behind.get(&number).copied().unwrap_or_default();
                let drawn = campaigned.drawn.get(number).copied().flatten();
                behind::behind(stratum, &tally, drawn, confidence)
            },
            critical_fit: behind::critical(stratum, &summary, confidence),
        }
    };
    mix.strata.iter().enumerate().map(row).collect()
}

/// Every target that was asked for, in the order of reports: one without trials has no rate, and
/// must not look like one that cannot fail.
fn targets(campaigned: &Campaigned, confidence: f64) -> Vec<out::Target> {
    let untried = Summary::default();
    let mut asked = campaigned.plan.targets.clone();
    asked.sort();
    asked.dedup();
    let summary = |of| campaigned.tally.targets.get(&of).unwrap_or(&untried);
    asked.into_iter().map(|of| target(of, summary(of), confidence)).collect()
}

pub(crate) fn word(target: Target) -> out::FaultTarget {
    match target {
        Target::WeightCode => out::FaultTarget::WeightCode,
        Target::WeightScale => out::FaultTarget::WeightScale,
        Target::Norm => out::FaultTarget::Norm,
        Target::Embedding => out::FaultTarget::Embedding,
        Target::LmHead => out::FaultTarget::LmHead,
        Target::WeightFloat => out::FaultTarget::WeightFloat,
        Target::KvF32 => out::FaultTarget::KvF32,
        Target::KvF16 => out::FaultTarget::KvF16,
        Target::KvInt8 => out::FaultTarget::KvInt8,
        Target::KvOneBit => out::FaultTarget::Kv1bit,
        Target::KvInt8Scale => out::FaultTarget::KvInt8Scale,
        Target::KvOneBitScale => out::FaultTarget::Kv1bitScale,
    }
}

/// The share, where anything was tried, and the ends of its interval.
pub(super) fn rate(rate: Rate, trials: u64) -> (Option<f64>, f64, f64) {
    ((trials > 0).then_some(rate.share), rate.interval.low, rate.interval.high)
}

fn target(target: Target, summary: &Summary, confidence: f64) -> out::Target {
    let (sdc_rate, sdc_rate_low, sdc_rate_high) =
        rate(summary.sdc_rate(confidence), summary.trials);
    let (due_rate, due_rate_low, due_rate_high) =
        rate(summary.due_rate(confidence), summary.trials);
    let mean = |sum| summary.mean(sum).and_then(finite);
    out::Target {
        target: word(target),
        trials: summary.trials,
        masked: summary.masked,
        identical: summary.identical,
        sdc: summary.sdc,
        due: summary.due,
        sdc_rate,
        sdc_rate_low,
        sdc_rate_high,
        due_rate,
        due_rate_low,
        due_rate_high,
        any_token_changes: summary.token_changes,
        mean_kl: mean(summary.kl_sum),
        max_kl: (summary.shifted > 0).then_some(summary.kl_max).and_then(finite),
        mean_nll_change: mean(summary.nll_change_sum),
        mean_margin_loss: mean(summary.margin_loss_sum),
    }
}

fn layer(
    (target, layer): (Target, Option<usize>),
    summary: &Summary,
    confidence: f64,
) -> out::LayerRate {
    let (sdc_rate, sdc_rate_low, sdc_rate_high) =
        rate(summary.sdc_rate(confidence), summary.trials);
    out::LayerRate {
        layer: layer.map(number),
        target: word(target),
        trials: summary.trials,
        masked: summary.masked,
        sdc: summary.sdc,
        due: summary.due,
        sdc_rate,
        sdc_rate_low,
        sdc_rate_high,
    }
}

fn bit((target, bit): (Target, u8), summary: &Summary, confidence: f64) -> out::BitRate {
    let (sdc_rate, sdc_rate_low, sdc_rate_high) =
        rate(summary.sdc_rate(confidence), summary.trials);
    out::BitRate {
        target: word(target),
        bit: bit.into(),
        trials: summary.trials,
        masked: summary.masked,
        sdc: summary.sdc,
        due: summary.due,
        sdc_rate,
        sdc_rate_low,
        sdc_rate_high,
    }
}

fn worst(campaigned: &Campaigned) -> Vec<out::Worst> {
    let records = campaigned.tally.worst.iter().zip(&campaigned.worst_before).enumerate();
    records
        .map(|(rank, (record, &before))| {
            let shift = record.trial.shift;
            let first = record.fault.flips().next().expect("a trial flips at least one bit");
            out::Worst {
                rank: number(rank + 1),
                address: first.to_string(),
                target: word(record.target),
                sample: record.sample as u64,
                outcome: match record.trial.outcome {
                    Outcome::Masked { .. } => out::Outcome::Masked,
                    Outcome::Sdc => out::Outcome::Sdc,
                    Outcome::Due(_) => out::Outcome::Due,
                },
                max_logit_change: shift.and_then(|shift| finite(shift.max_logit_change)),
                margin_loss: shift.and_then(|shift| finite(shift.margin_loss)),
                kl: shift.and_then(|shift| finite(shift.kl_divergence)),
                prediction_before: before,
                prediction_after: record.trial.decision,
            }
        })
        .collect()
}

fn bound((index, bound): (usize, &LayerBound)) -> out::Bound {
    let change = bound.change.and_then(finite);
    let missing = || "there are no codes of weights to flip in this layer".to_owned();
    out::Bound {
        layer: number(index),
        flips: 1,
        logit_change_bound: change,
        proven_masked_share: match bound.pairs {
            0 => 0.0,
            pairs => bound.proven as f64 / pairs as f64,
        },
        pairs: bound.pairs,
        reason: match change {
            Some(_) => None,
            None => Some(bound.reason.clone().unwrap_or_else(missing)),
        },
    }
}

/// Why nothing is said of flips.
const NO_CODES: &str = "not bounded: its weights are not all codes of two bits under one scale, \
                        or its sums are no integers";

fn proven_flips(of: &PlaceFlips) -> Option<out::FlipsProven> {
    let (layer, tensor) = match of.place {
        Place::Tensor(layer, slot) => (layer, slot.name()),
        Place::Layer(layer) => (layer, "layer"),
        Place::Model => return None,
    };
    Some(out::FlipsProven {
        layer: number(layer),
        tensor: tensor.to_owned(),
        pairs: of.budgets.len() as u64,
        levels: flip_levels(of),
        budget: flip_budget(&of.budgets),
        reason: untried(of),
    })
}

fn proven_in_model(of: &PlaceFlips) -> out::ModelFlips {
    out::ModelFlips {
        pairs: of.budgets.len() as u64,
        levels: flip_levels(of),
        budget: flip_budget(&of.budgets),
        reason: untried(of),
    }
}

fn untried(of: &PlaceFlips) -> Option<String> {
    match (of.possible, of.budgets.len()) {
        (false, _) => Some(NO_CODES.to_owned()),
        (true, 0) => Some("it costs more than the budget of these proofs".to_owned()),
        _ => None,
    }
}

fn flip_levels(of: &PlaceFlips) -> Vec<out::RowsLevel> {
    let levels = of.proven.iter().zip(&of.changes);
    let level = |(level, change): (&Level, &Option<f64>)| out::RowsLevel {
        logit_change_bound: change.and_then(finite),
        ..proven_level(level, of.budgets.len() as u64)
    };
    levels.map(level).collect()
}

/// The budgets of some samples in one; none of none.
fn flip_budget(budgets: &[usize]) -> Option<out::FlipBudget> {
    let mut sorted = budgets.to_vec();
    sorted.sort_unstable();
    let min = *sorted.first()?;
    let any = budgets.iter().filter(|&&flips| flips > 0).count();
    Some(out::FlipBudget {
        flips_searched: number(MOST_FLIPS),
        samples: budgets.iter().map(|&flips| number(flips)).collect(),
        min: number(min),
        median: number(sorted[(sorted.len() - 1) / 2]),
        share_at_least_one: any as f64 / budgets.len() as f64,
    })
}

fn proven_rows(rows: &LayerRows) -> out::RowsProven {
    let reason = match (rows.rows, rows.tried) {
        (0, _) => Some(NO_CODES.to_owned()),
        (_, 0) => Some("a row costs more than the budget of these proofs".to_owned()),
        _ => None,
    };
    out::RowsProven {
        layer: number(rows.layer),
        tensor: rows.slot.name().to_owned(),
        rows_total: rows.rows as u64,
        rows_tried: rows.tried as u64,
        pairs: rows.pairs,
        levels: rows.proven.iter().map(|level| proven_level(level, rows.pairs)).collect(),
        reason,
    }
}

fn proven_level(level: &Level, pairs: u64) -> out::RowsLevel {
    let by = [(Rung::Interval, level.interval), (Rung::Affine, level.affine)];
    let proven = level.interval + level.affine;
    out::RowsLevel {
        flips: level.flips.map(number),
        proven,
        proven_share: (pairs > 0).then(|| proven as f64 / pairs as f64),
        methods: (by.into_iter().filter(|&(_, proven)| proven > 0))
            .map(|(rung, proven)| out::RowsMethod { method: super::ladder::word(rung), proven })
            .collect(),
        logit_change_bound: None,
    }
}

//! A map of all single-bit faults in the words of the contract.

use std::collections::BTreeMap;

use faults::{Cell, Cells, Counts, Shifts, TensorMap};
use reports::model as out;
use reports::model::finite;

use super::{memory, number, unused};
use crate::analyze::Mapped;
use crate::plan::Plan;

/// The most bins of rows of a tensor.
const MOST_BINS: u64 = 64;

/// The faults of a report whose faults are a map.
pub(super) fn faults(plan: &Plan, mapped: &Mapped) -> out::Faults {
    let map = exhaustive(mapped);
    let mut layers: BTreeMap<u32, (Cell, u64)> = BTreeMap::new();
    for tensor in &mapped.map.tensors {
        let (sum, all) = layers.entry(number(tensor.layer)).or_default();
        sum.add(&tensor.total());
        *all += pairs(tensor, mapped.plan.samples);
    }
    let by_bit = mapped.map.tensors.iter().map(TensorMap::by_bit);
    let by_bit = by_bit.fold(Cells::default(), together);
    out::Faults {
        seed: plan.seed,
        trials: map.decided,
        flips: 1,
        confidence: plan.confidence,
        unused_code: unused(plan),
        kv: super::kv(plan),
        targets: vec![target(mapped)],
        layers: layers.into_iter().map(layer).collect(),
        bits: by_bit.iter().enumerate().map(|row| bit(row, map.pairs / 2)).collect(),
        stored_bits: None,
        encodings: mapped.assignments.codes.iter().map(memory::encoding).collect(),
        trit_bytes: mapped.assignments.trits.iter().map(memory::trits).collect(),
        protection: Vec::new(),
        worst: Vec::new(),
        bounds: Vec::new(),
        rows_proven: Vec::new(),
        cache_proven: Vec::new(),
        flips_proven: Vec::new(),
        flips_proven_in_model: None,
        until_precision: None,
        generation: None,
        exhaustive: Some(map),
        plan: None,
        strata: Vec::new(),
    }
}

fn exhaustive(mapped: &Mapped) -> out::Exhaustive {
    let (map, samples) = (&mapped.map, mapped.plan.samples);
    let Cell { masked, identical, sdc, due } = map.total();
    let by_bit = map.tensors.iter().map(TensorMap::by_bit).fold(Cells::default(), together);
    let decided = map.total().faults();
    out::Exhaustive {
        plan: mapped.plan.to_toml(),
        samples,
        bits: mapped.bits,
        pairs: mapped.bits * samples,
        decided,
        masked,
        identical,
        sdc,
        due,
        sdc_share: share(sdc, decided),
        effort: effort(&map.counts()),
        bit_rows: bit_rows(&by_bit),
        tensors: map.tensors.iter().map(tensor).collect(),
    }
}

fn together(mut sum: Cells, more: Cells) -> Cells {
    sum.iter_mut().flatten().zip(more.iter().flatten()).for_each(|(cell, more)| cell.add(more));
    sum
}

fn share(part: u64, of: u64) -> Option<f64> {
    (of > 0).then(|| part as f64 / of as f64)
}

/// A share of what was decided, between the shares of all that there are had none or every one of
/// the others counted: of a whole map three times the same.
fn exact(part: u64, of: u64, all: u64) -> (Option<f64>, f64, f64) {
    let end = |part| share(part, all);
    (share(part, of), end(part).unwrap_or(0.0), end(part + (all - of)).unwrap_or(1.0))
}

/// All faults of a tensor.
fn pairs(tensor: &TensorMap, samples: u64) -> u64 {
    2 * (tensor.rows.len() * tensor.columns) as u64 * samples
}

fn effort(counts: &Counts) -> out::Effort {
    out::Effort {
        // What goes to a single trial is run for itself too.
        executed: counts.executed + counts.alone,
        early: counts.early,
        collapsed: counts.collapsed,
        still: counts.still,
        proven: counts.proven,
    }
}

fn bit_rows(cells: &Cells) -> Vec<out::MapBit> {
    let row = |bit: usize, from: usize| {
        let cell = &cells[bit][from];
        let Cell { masked, identical, sdc, due } = *cell;
        let decided = cell.faults();
        let (bit, from) = (number(bit), number(from));
        let sdc_share = share(sdc, decided);
        out::MapBit { bit, from, decided, masked, identical, sdc, due, sdc_share }
    };
    [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(bit, from)| row(bit, from)).into()
}

fn tensor(tensor: &TensorMap) -> out::MapTensor {
    let total = tensor.total();
    let Cell { masked, identical, sdc, due } = total;
    let decided = total.faults();
    let largest =
        |value: f64| (decided > due + tensor.counts.proven).then_some(value).and_then(finite);
    let Shifts { margin_loss_max, logit_change_max, .. } = tensor.shifts;
    out::MapTensor {
        layer: number(tensor.layer),
        tensor: tensor.slot.name().to_owned(),
        rows: tensor.rows.len() as u64,
        columns: tensor.columns as u64,
        decided,
        masked,
        identical,
        sdc,
        due,
        sdc_share: share(sdc, decided),
        max_logit_change: largest(logit_change_max),
        max_margin_loss: largest(margin_loss_max),
        effort: effort(&tensor.counts),
        bit_rows: bit_rows(&tensor.by_bit()),
        bins: bins(&tensor.rows),
    }
}

fn bins(rows: &[Cells]) -> Vec<out::MapBin> {
    let each = (rows.len() as u64).div_ceil(MOST_BINS).max(1);
    let bin = |(index, rows): (usize, &[Cells])| {
        let by_bit = rows.iter().copied().fold(Cells::default(), together);
        let total = by_bit.map(|cells| Cell::total(&cells));
        out::MapBin {
            first_row: index as u64 * each,
            rows: rows.len() as u64,
            decided: total.map(|cell| cell.faults()),
            sdc: total.map(|cell| cell.sdc),
        }
    };
    rows.chunks(each as usize).enumerate().map(bin).collect()
}

fn target(mapped: &Mapped) -> out::Target {
    let total = mapped.map.total();
    let Cell { masked, identical, sdc, due } = total;
    let trials = total.faults();
    let mut shifts = Shifts::default();
    mapped.map.tensors.iter().for_each(|tensor| shifts.add(&tensor.shifts));
    let all = mapped.bits * mapped.plan.samples;
    let shifted = trials - due - mapped.map.counts().proven;
    let mean = |sum: f64| (shifted > 0).then(|| sum / shifted as f64).and_then(finite);
    let (sdc_rate, sdc_rate_low, sdc_rate_high) = exact(sdc, trials, all);
    let (due_rate, due_rate_low, due_rate_high) = exact(due, trials, all);
    out::Target {
        target: out::FaultTarget::WeightCode,
        trials,
        masked,
        identical,
        sdc,
        due,
        sdc_rate,
        sdc_rate_low,
        sdc_rate_high,
        due_rate,
        due_rate_low,
        due_rate_high,
        any_token_changes: mapped.map.tensors.iter().map(|tensor| tensor.token_changes).sum(),
        mean_kl: mean(shifts.kl_sum),
        max_kl: (shifted > 0).then_some(shifts.kl_max).and_then(finite),
        mean_nll_change: mean(shifts.nll_change_sum),
        mean_margin_loss: mean(shifts.margin_loss_sum),
    }
}

fn layer((layer, (cell, all)): (u32, (Cell, u64))) -> out::LayerRate {
    let (sdc_rate, sdc_rate_low, sdc_rate_high) = exact(cell.sdc, cell.faults(), all);
    out::LayerRate {
        layer: Some(layer),
        target: out::FaultTarget::WeightCode,
        trials: cell.faults(),
        masked: cell.masked,
        sdc: cell.sdc,
        due: cell.due,
        sdc_rate,
        sdc_rate_low,
        sdc_rate_high,
    }
}

fn bit((bit, cells): (usize, &[Cell; 2]), all: u64) -> out::BitRate {
    let cell = Cell::total(cells);
    let (sdc_rate, sdc_rate_low, sdc_rate_high) = exact(cell.sdc, cell.faults(), all);
    out::BitRate {
        target: out::FaultTarget::WeightCode,
        bit: number(bit),
        trials: cell.faults(),
        masked: cell.masked,
        sdc: cell.sdc,
        due: cell.due,
        sdc_rate,
        sdc_rate_low,
        sdc_rate_high,
    }
}

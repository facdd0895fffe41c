//! The rules of a map of all faults: every count is a sum of the counts below it.

use super::super::{Effort, Exhaustive, Faults, MapBit, MapTensor};
use super::Check;

const PATH: &str = "faults.exhaustive";

/// Outcomes of some faults: decided, masked, identical, sdc and due.
type Outcomes = [u64; 5];

pub(super) fn check_exhaustive(check: &mut Check, faults: &Faults) {
    let Some(map) = &faults.exhaustive else { return };
    let path = |key: &str| format!("{PATH}.{key}");
    let total = [map.decided, map.masked, map.identical, map.sdc, map.due];
    check_outcomes(check, PATH, total, map.sdc_share);
    check.sum(&path("pairs"), &[map.bits.saturating_mul(map.samples)], map.pairs);
    if map.decided > map.pairs {
        check.add(path("decided"), "is more than there are pairs");
    }
    check.sum("faults.trials", &[map.decided], faults.trials);
    if faults.plan.is_some() || !faults.bounds.is_empty() {
        check.add(PATH, "stands beside a plan of drawn faults");
    }
    check_effort(check, &path("effort"), &map.effort, map.decided);
    check_parts(check, PATH, total, &map.bit_rows, outcomes_of_bit);
    check_parts(check, PATH, total, &map.tensors, outcomes_of_tensor);
    let columns = |of: &MapTensor| of.rows.saturating_mul(of.columns).saturating_mul(2);
    let bits: Vec<u64> = map.tensors.iter().map(columns).collect();
    check.sum(&path("bits"), &bits, map.bits);
    for (i, tensor) in map.tensors.iter().enumerate() {
        check_tensor(check, map, &path(&format!("tensors[{i}]")), tensor);
    }
}

fn check_tensor(check: &mut Check, map: &Exhaustive, path: &str, tensor: &MapTensor) {
    let key = |key: &str| format!("{path}.{key}");
    let total = outcomes_of_tensor(tensor);
    check_outcomes(check, path, total, tensor.sdc_share);
    if u128::from(tensor.decided)
        > 2 * u128::from(tensor.rows) * u128::from(tensor.columns) * u128::from(map.samples)
    {
        check.add(key("decided"), "is more than there are pairs");
    }
    check_effort(check, &key("effort"), &tensor.effort, tensor.decided);
    check_parts(check, path, total, &tensor.bit_rows, outcomes_of_bit);
    check.not_negative(&key("max_logit_change"), tensor.max_logit_change);
    check.not_negative(&key("max_margin_loss"), tensor.max_margin_loss);
    let sum = |of: fn(&crate::model::MapBin) -> u64| tensor.bins.iter().map(of).collect::<Vec<_>>();
    check.sum(&key("bins"), &sum(|bin| bin.rows), tensor.rows);
    check.sum(&key("bins"), &sum(|bin| bin.decided.iter().sum()), tensor.decided);
    check.sum(&key("bins"), &sum(|bin| bin.sdc.iter().sum()), tensor.sdc);
    if tensor.bins.len() > 64 {
        check.add(key("bins"), "are more than 64");
    }
    let mut next = 0;
    for (k, bin) in tensor.bins.iter().enumerate() {
        if bin.first_row != next {
            check.add(key(&format!("bins[{k}].first_row")), "does not follow the bin before it");
        }
        next = bin.first_row.saturating_add(bin.rows);
        if bin.sdc.iter().zip(&bin.decided).any(|(sdc, decided)| sdc > decided) {
            check.add(key(&format!("bins[{k}].sdc")), "is above decided");
        }
    }
}

fn outcomes_of_bit(row: &MapBit) -> Outcomes {
    [row.decided, row.masked, row.identical, row.sdc, row.due]
}

fn outcomes_of_tensor(row: &MapTensor) -> Outcomes {
    [row.decided, row.masked, row.identical, row.sdc, row.due]
}

/// Whether parts add up to a total, outcome by outcome.
fn check_parts<T>(
    check: &mut Check,
    path: &str,
    total: Outcomes,
    parts: &[T],
    of: fn(&T) -> Outcomes,
) {
    let names = ["decided", "masked", "identical", "sdc", "due"];
    for (k, (name, total)) in names.into_iter().zip(total).enumerate() {
        let parts: Vec<u64> = parts.iter().map(|part| of(part)[k]).collect();
        check.sum(&format!("{path}.{name}"), &parts, total);
    }
}

fn check_outcomes(check: &mut Check, path: &str, of: Outcomes, share: Option<f64>) {
    let [decided, masked, identical, sdc, due] = of;
    check.sum(&format!("{path}.decided"), &[masked, sdc, due], decided);
    if identical > masked {
        check.add(format!("{path}.identical"), "is above masked");
    }
    let exact = (decided > 0).then(|| sdc as f64 / decided as f64);
    if share != exact {
        check.add(format!("{path}.sdc_share"), "is not sdc / decided");
    }
}

fn check_effort(check: &mut Check, path: &str, effort: &Effort, decided: u64) {
    let Effort { executed, early, collapsed, still, proven } = *effort;
    check.sum(path, &[executed, collapsed, still, proven], decided);
    if early > executed {
        check.add(format!("{path}.early"), "is above executed");
    }
}

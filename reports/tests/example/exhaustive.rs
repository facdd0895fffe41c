//! A made-up map of all single-bit faults.

#![allow(dead_code, reason = "not every test binary needs it")]

use reports::model::*;

use super::noise;

const TENSORS: [&str; 7] = [
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
];
const SAMPLES: u64 = 3;
const ROWS: u64 = 100;
const COLUMNS: u64 = 8;

/// Turns the faults of a report into a map.
pub(crate) fn mapped(report: &mut Report) {
    let layers = report.model.layers;
    let faults = report.faults.as_mut().expect("a report with faults");
    let map = map(layers);
    faults.trials = map.decided;
    faults.targets = vec![Target {
        target: FaultTarget::WeightCode,
        trials: map.decided,
        masked: map.masked,
        identical: map.identical,
        sdc: map.sdc,
        due: 0,
        sdc_rate: map.sdc_share,
        sdc_rate_low: map.sdc_share.unwrap_or(0.0),
        sdc_rate_high: map.sdc_share.unwrap_or(1.0),
        due_rate: Some(0.0),
        due_rate_low: 0.0,
        due_rate_high: 0.0,
        ..faults.targets[0].clone()
    }];
    faults.layers.clear();
    faults.bits.clear();
    faults.stored_bits = None;
    faults.protection.clear();
    faults.worst.clear();
    faults.bounds.clear();
    faults.rows_proven.clear();
    faults.flips_proven.clear();
    faults.exhaustive = Some(map);
    report.request.no_certify = true;
    report.certification = None;
    report.substitutions = None;
}

fn map(layers: u32) -> Exhaustive {
    let tensors: Vec<MapTensor> =
        (0..layers).flat_map(|layer| TENSORS.map(|name| tensor(layer, name))).collect();
    let sum = |of: fn(&MapTensor) -> u64| tensors.iter().map(of).sum();
    let (decided, sdc) = (sum(|of| of.decided), sum(|of| of.sdc));
    let bits = 2 * ROWS * COLUMNS * tensors.len() as u64;
    Exhaustive {
        plan: "exhaustive = \"weight_code\"\nsamples = 3\n".to_owned(),
        samples: SAMPLES,
        bits,
        pairs: bits * SAMPLES,
        decided,
        masked: sum(|of| of.masked),
        identical: sum(|of| of.identical),
        sdc,
        due: 0,
        sdc_share: Some(sdc as f64 / decided as f64),
        effort: Effort {
            executed: sum(|of| of.effort.executed),
            early: sum(|of| of.effort.early),
            collapsed: sum(|of| of.effort.collapsed),
            still: sum(|of| of.effort.still),
            proven: sum(|of| of.effort.proven),
        },
        bit_rows: bit_rows(decided, sdc, sum(|of| of.identical)),
        tensors,
    }
}

/// All of them in one row: the low bit, risen.
fn bit_rows(decided: u64, sdc: u64, identical: u64) -> Vec<MapBit> {
    let row = |(bit, from): (u32, u32)| {
        let here = u64::from(bit == 0 && from == 0);
        let (decided, sdc) = (here * decided, here * sdc);
        let sdc_share = (decided > 0).then(|| sdc as f64 / decided as f64);
        let identical = here * identical;
        let masked = decided - sdc;
        MapBit { bit, from, decided, masked, identical, sdc, due: 0, sdc_share }
    };
    [(0, 0), (0, 1), (1, 0), (1, 1)].map(row).into()
}

fn tensor(layer: u32, name: &str) -> MapTensor {
    let each = SAMPLES * COLUMNS;
    let bin = |first_row: u64| {
        let rows = 2.min(ROWS - first_row);
        let decided = [rows * each, rows * each];
        let lean = noise(first_row + 97 * u64::from(layer) + name.len() as u64);
        let sdc = decided.map(|all| (all as f64 * 0.2 * lean) as u64);
        MapBin { first_row, rows, decided, sdc }
    };
    let bins: Vec<MapBin> = (0..ROWS).step_by(2).map(bin).collect();
    let (decided, sdc) = (2 * ROWS * each, bins.iter().flat_map(|bin| bin.sdc).sum::<u64>());
    let (collapsed, still, proven) = (decided / 10, decided / 20, decided / 4);
    let executed = decided - collapsed - still - proven;
    let identical = decided / 5;
    MapTensor {
        layer,
        tensor: name.to_owned(),
        rows: ROWS,
        columns: COLUMNS,
        decided,
        masked: decided - sdc,
        identical,
        sdc,
        due: 0,
        sdc_share: Some(sdc as f64 / decided as f64),
        max_logit_change: Some(1.5 + f64::from(layer)),
        max_margin_loss: Some(0.5),
        effort: Effort { executed, early: executed / 3, collapsed, still, proven },
        bit_rows: bit_rows(decided, sdc, identical),
        bins,
    }
}

//! The worst faults, and rows of weights under several flips, of a made-up report.

use reports::model::*;

pub(super) fn worst(rank: u32, layers: u32) -> Worst {
    let outcome = if rank == 1 { Outcome::Due } else { Outcome::Sdc };
    let loss = 9.4 / f64::from(rank);
    let seen = rank > 1;
    Worst {
        rank,
        address: format!(
            "model.layers.{}.mlp.down_proj.weight[{},{}].1",
            rank % layers,
            rank * 13 % 64,
            rank * 29 % 128
        ),
        target: FaultTarget::WeightCode,
        // Behind those with proven budgets of flips.
        sample: u64::from(4 + rank * 7 % 56),
        outcome,
        max_logit_change: seen.then_some(1.2 * loss),
        margin_loss: seen.then_some(loss),
        kl: seen.then_some(0.7 * loss),
        prediction_before: rank % 10,
        prediction_after: seen.then_some((rank + 4) % 10),
    }
}

pub(super) fn rows_proven(layer: u32) -> RowsProven {
    let tried = layer > 0;
    let pairs = if tried { 128 } else { 0 };
    let level = |(rank, flips): (usize, Option<u32>)| {
        let boxes = [96u64, 64, 32, 8, 0][rank];
        let forms = [32u64, 48, 40, 24, 9][rank];
        let (boxes, forms) = if tried { (boxes, forms) } else { (0, 0) };
        let by = [(Method::IntervalBoundPropagation, boxes), (Method::Zonotope, forms)];
        RowsLevel {
            flips,
            proven: boxes + forms,
            proven_share: tried.then(|| (boxes + forms) as f64 / pairs as f64),
            methods: by.map(|(method, proven)| RowsMethod { method, proven }).to_vec(),
            logit_change_bound: None,
        }
    };
    RowsProven {
        layer,
        tensor: "mlp.down_proj".to_owned(),
        rows_total: 64,
        rows_tried: if tried { 32 } else { 0 },
        pairs,
        levels: [Some(1), Some(2), Some(4), Some(8), None]
            .into_iter()
            .enumerate()
            .map(level)
            .collect(),
        reason: (!tried).then(|| "a row costs more than the budget of these proofs".to_owned()),
    }
}

/// The last layer as a whole and one of its tensors, and a first layer that was not tried.
pub(super) fn flips_proven(layers: u32) -> Vec<FlipsProven> {
    let of = |layer: u32, tensor: &str| {
        let pairs = if layer > 0 { 4u64 } else { 0 };
        let level = |(rank, flips): (u64, u32)| {
            let proven = pairs.saturating_sub(rank);
            RowsLevel {
                flips: Some(flips),
                proven,
                proven_share: (pairs > 0).then(|| proven as f64 / pairs as f64),
                methods: vec![RowsMethod { method: Method::Zonotope, proven }],
                logit_change_bound: (rank < 3).then_some(1.5 * f64::from(flips)),
            }
        };
        FlipsProven {
            layer,
            tensor: tensor.to_owned(),
            pairs,
            levels: (0..).zip([1, 2, 4, 8]).map(level).collect(),
            budget: (pairs > 0).then(|| budget(vec![1, 8, 3, 5])),
            reason: (pairs == 0)
                .then(|| "it costs more than the budget of these proofs".to_owned()),
        }
    };
    let each = |layer: u32| ["mlp.down_proj", "layer"].map(|tensor| of(layer, tensor));
    (0..layers).flat_map(each).collect()
}

/// A budget of some samples, of at most 8 flips.
pub(super) fn budget(samples: Vec<u32>) -> FlipBudget {
    let mut sorted = samples.clone();
    sorted.sort_unstable();
    let any = samples.iter().filter(|&&flips| flips > 0).count();
    FlipBudget {
        flips_searched: 8,
        min: sorted[0],
        median: sorted[(sorted.len() - 1) / 2],
        share_at_least_one: any as f64 / samples.len() as f64,
        samples,
    }
}

/// The model, of which one flip is proven on half of the samples.
pub(super) fn flips_in_model() -> ModelFlips {
    let level = |(proven, flips)| RowsLevel {
        flips: Some(flips),
        proven,
        proven_share: Some(proven as f64 / 4.0),
        methods: vec![RowsMethod { method: Method::Zonotope, proven }],
        logit_change_bound: Some(12.5),
    };
    ModelFlips {
        pairs: 4,
        levels: [(2, 1), (1, 2), (0, 4), (0, 8)].map(level).to_vec(),
        budget: Some(budget(vec![0, 3, 1, 0])),
        reason: None,
    }
}

/// The cache of the last layer, of which exponents are unknown in part; and a layer not tried.
pub(super) fn cache_proven(layers: u32) -> Vec<CacheProven> {
    let of = |layer: u32, bits: CacheBits, pairs: u64| {
        let unknown = if bits == CacheBits::Exponent { pairs / 8 } else { 0 };
        let pairs = if layer + 1 == layers { pairs } else { 0 };
        let unknown = unknown.min(pairs);
        let bound = (pairs > 0 && unknown == 0).then_some(3.25);
        CacheProven {
            layer,
            target: FaultTarget::KvF16,
            bits,
            samples: 2 * u64::from(pairs > 0),
            pairs,
            proven_masked: pairs / 2,
            proven_masked_share: (pairs > 0).then_some((pairs / 2) as f64 / pairs as f64),
            unknown,
            logit_change_bound: bound,
            reason: bound.is_none().then(|| "it is not bounded".to_owned()),
        }
    };
    let bits = [(CacheBits::Mantissa, 2560), (CacheBits::Exponent, 1280), (CacheBits::Sign, 256)];
    (0..layers).flat_map(|layer| bits.map(|(bits, pairs)| of(layer, bits, pairs))).collect()
}

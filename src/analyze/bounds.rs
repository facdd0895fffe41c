//! What any single flip of a weight code can do: a sound bound a layer, and the share proven
//! masked.
//!
//! A fault is a decorator over any domain, so a *set* of faults is a decorator over boxes:
//! everything before the struck layer is a point, the struck sums may move by the range of what any
//! flip in a row can add, and boxes carry that to the logits. A row is tried with all its flips
//! first; where that proves nothing, with those whose effect is at most a half, a quarter, ... of
//! the largest. What is spent is counted in operations, never in time, so that results do not
//! depend on the machine.

mod masked;
mod reach;

use certify::claim::{Decision, decide};
use certify::interval::{BoxPrepared, Boxes, Interval, Margin};
use certify::moved::{AnyFlip, Moved};
use engine::model::{KvKind, Layer, Linear, Model, Slot};
use engine::walk::{self, Read, Site, Step};
use faults::{Space, Target};
use ndarray::Array2;
use rayon::prelude::*;

use super::context::Context;
use super::verdicts::{Clean, margin_of};
pub(crate) use masked::Masked;
use reach::Reach;

/// Operations that all bounds together may take.
const BUDGET: u64 = 40_000_000_000;
/// What a pass costs at least, small as the model may be.
const LEAST_PASS: u64 = 200_000;
/// Samples at most.
const MOST_SAMPLES: usize = 64;
/// How often a row's flips are halved when all of them together are too many.
const HALVINGS: u32 = 4;

/// Why nothing is said of some codes.
const OTHERS: &str = "not bounded: not all of its weights are codes of two bits under one scale \
                      with sums that are integers";

/// What is proven about any single flip in one layer.
#[derive(Clone, Debug, Default)]
pub struct LayerBound {
    /// Pairs (bit, sample).
    pub pairs: u64,
    /// Those proven masked.
    pub proven: u64,
    /// No such flip changes any logit by more; `None` where that was not bounded.
    pub change: Option<f64>,
    /// Why it was not bounded.
    pub reason: Option<String>,
}

/// The bounds of all layers, or `None` if the time limit passed before the first sample.
pub(super) fn bounds(context: &Context, clean: &[Clean]) -> Option<Vec<LayerBound>> {
    let model = context.deployed.model;
    let rows: usize = model.layers.iter().map(|layer| layer_rows(layer).sum::<usize>()).sum();
    let tokens = context.samples.iter().map(|sample| sample.tokens()).max().unwrap_or(1) as u64;
    let pass = (context.weights * tokens * 4).max(LEAST_PASS);
    let by_row = 2 * rows as u64 * pass;
    let by_tensor = 7 * model.layers.len() as u64 * pass;
    let left_out = left_out(model);
    if rows == 0 {
        let samples = context.samples.len().min(MOST_SAMPLES) as u64;
        return Some(left_out.into_iter().map(|bits| LayerBound::open(samples * bits)).collect());
    }
    let (grain, each) =
        if by_row <= BUDGET { (Grain::Row, by_row) } else { (Grain::Tensor, by_tensor) };
    let count = ((BUDGET / each) as usize).clamp(1, MOST_SAMPLES).min(context.samples.len());
    let stage = context.clock.stage("bounds under any flip", count as u64);
    let results = context.each(&stage, |index, _| {
        (index < count).then(|| {
            let mut bounds = sample_bounds(context, index, &clean[index], grain);
            let others = bounds.iter_mut().zip(&left_out).filter(|(_, bits)| **bits > 0);
            others.for_each(|(bound, &bits)| bound.merge(LayerBound::open(bits)));
            bounds
        })
    });
    context.clock.count_missing("bounds under any flip", &results[..count]);
    let mut layers = vec![LayerBound::default(); model.layers.len()];
    let mut any = false;
    for sample in results.into_iter().take(count).flatten().flatten() {
        any = true;
        for (sum, one) in layers.iter_mut().zip(sample) {
            sum.merge(one);
        }
    }
    any.then_some(layers)
}

impl LayerBound {
    /// What is said of flips that are not bounded.
    fn open(pairs: u64) -> Self {
        let reason = (pairs > 0).then(|| OTHERS.to_owned());
        Self { pairs, reason, ..Self::default() }
    }

    fn merge(&mut self, other: Self) {
        let first = self.pairs == 0;
        self.pairs += other.pairs;
        self.proven += other.proven;
        self.change = match (self.change, other.change) {
            (Some(a), Some(b)) => Some(if b > a { b } else { a }),
            (None, change) if first => change,
            _ => None,
        };
        if self.reason.is_none() {
            self.reason = other.reason;
        }
    }
}

/// Whether flips of the codes of a linear layer can be bounded: its sums are integers, under one
/// scale whatever its codes of two bits become.
pub(crate) fn speaks_of(linear: &Linear) -> bool {
    linear.weights.is_plain() && linear.activations.levels().is_some()
}

/// The bits of codes of each layer that no bound speaks of.
fn left_out(model: &Model) -> Vec<u64> {
    let mut bits = vec![0; model.layers.len()];
    for tensor in Space::new(model, KvKind::F32).tensors(Target::WeightCode, 0) {
        let slot = Slot::ALL.into_iter().find(|slot| slot.name() == tensor.name);
        let (layer, slot) = tensor.layer.zip(slot).expect("codes are those of linear layers");
        if !speaks_of(model.layers[layer].linear(slot)) {
            bits[layer] += tensor.numbers.end - tensor.numbers.start;
        }
    }
    bits
}

/// How finely flips are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Grain {
    Row,
    Tensor,
}

fn layer_rows(layer: &Layer) -> impl Iterator<Item = usize> {
    let bounded = layer.linears.iter().filter(|linear| speaks_of(linear));
    bounded.map(|linear| linear.outputs())
}

/// From the last layer to the first; once a layer proves nothing, only what costs nothing is said
/// of the layers before it.
fn sample_bounds(context: &Context, index: usize, clean: &Clean, grain: Grain) -> Vec<LayerBound> {
    let model = context.deployed.model;
    let x = context.samples[index].embedded(model);
    let streams = context.deployed.streams(&x);
    let logits = context.deployed.logits(&x, 0, Read::Last);
    // Masked means that the decision stays what it is, right or wrong.
    let decision = Decision { winner: clean.prediction, classes: clean.decision.classes.clone() };
    let mut layers = vec![LayerBound::default(); model.layers.len()];
    let mut hopeless = false;
    for layer in (0..model.layers.len()).rev() {
        let case = Case {
            context,
            layer,
            stream: Boxes::point(&streams[layer]),
            logits: &logits,
            claim: margin_of(&decision, 0),
        };
        let mut proven_more = false;
        for slot in Slot::ALL {
            if speaks_of(model.layers[layer].linear(slot)) {
                let (bound, more) = case.slot(slot, if hopeless { None } else { Some(grain) });
                layers[layer].merge(bound);
                proven_more |= more;
            }
        }
        hopeless |= grain == Grain::Tensor && !proven_more;
    }
    layers
}

/// What any one flip in a row can do, over some samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RowBound {
    /// No such flip changes any logit at the last position by more; `None` where not bounded.
    pub change: Option<f64>,
    /// Samples whose decision it provably keeps.
    pub proven: u64,
}

/// Bounds of rows (layer, place and row) on the first samples; `None` for those that the budget
/// leaves nothing for, and for those of tensors that no bound speaks of.
pub(crate) fn row_bounds(
    context: &Context,
    rows: &[(usize, Slot, usize)],
    samples: usize,
) -> Vec<Option<RowBound>> {
    let tokens = context.samples.iter().map(|sample| sample.tokens()).max().unwrap_or(1) as u64;
    let pass = (context.weights * tokens * 4).max(LEAST_PASS);
    let fits = (BUDGET / pass / (samples as u64).max(1)) as usize;
    let bound = |(index, &(layer, slot, row)): (usize, &(usize, Slot, usize))| {
        let spoken = speaks_of(context.deployed.model.layers[layer].linear(slot));
        (index < fits && spoken).then(|| {
            let mut sum = RowBound { change: Some(0.0), proven: 0 };
            for sample in 0..samples {
                let one = Case::with(context, sample, layer, |case| case.row(slot, row));
                sum.proven += u64::from(one.certified);
                let larger = |(a, b): (f64, f64)| if b > a { b } else { a };
                sum.change = sum.change.zip(one.change).map(larger);
            }
            sum
        })
    };
    rows.par_iter().enumerate().map(bound).collect()
}

/// One layer of one sample.
struct Case<'a> {
    context: &'a Context<'a>,
    layer: usize,
    stream: Boxes,
    logits: &'a Array2<f32>,
    claim: Margin,
}

/// What a pass over a set of flips found.
struct Passed {
    certified: bool,
    change: Option<f64>,
}

impl Case<'_> {
    /// Looks at one layer of one sample.
    fn with<T>(context: &Context, index: usize, layer: usize, look: impl FnOnce(&Case) -> T) -> T {
        let x = context.samples[index].embedded(context.deployed.model);
        let streams = context.deployed.streams(&x);
        let logits = context.deployed.logits(&x, 0, Read::Last);
        let classes = context.samples[index].classes.clone();
        let row = logits.as_slice().expect("one row");
        let winner = decide(row, &classes).expect("clean logits are numbers");
        look(&Case {
            context,
            layer,
            stream: Boxes::point(&streams[layer]),
            logits: &logits,
            claim: margin_of(&Decision { winner, classes }, 0),
        })
    }

    /// What any one flip in a row can do.
    fn row(&self, slot: Slot, row: usize) -> Passed {
        let reach = self.pass(slot, Moved::default()).1;
        let reach = reach.expect("the walk passes every slot of the layer");
        let mut moved = Moved { ranges: vec![Vec::new(); reach.rows], shared: None };
        moved.ranges[row] = reach.range(row, None);
        self.pass(slot, moved).0
    }

    /// The bound of one tensor, and whether a pass proved anything beyond flips without effect.
    fn slot(&self, slot: Slot, grain: Option<Grain>) -> (LayerBound, bool) {
        let probe = self.pass(slot, Moved::default());
        let reach = probe.1.expect("the walk passes every slot of the layer");
        let mut bound = LayerBound { pairs: reach.pairs(), ..LayerBound::default() };
        bound.proven = reach.without_effect();
        match grain {
            None => {
                bound.reason = Some("nothing was proven for the layer behind it".into());
                (bound, false)
            }
            Some(Grain::Tensor) => {
                let ranges = (0..reach.rows).map(|row| reach.range(row, None)).collect();
                let (passed, _) = self.pass(slot, Moved { ranges, shared: None });
                bound.take(&passed);
                if passed.certified {
                    bound.proven = reach.silent();
                }
                (bound, passed.certified)
            }
            Some(Grain::Row) => (self.rows(slot, &reach, bound), true),
        }
    }

    /// Row by row, halving the flips where all of a row are too many.
    fn rows(&self, slot: Slot, reach: &Reach, mut bound: LayerBound) -> LayerBound {
        bound.proven = 0;
        for row in 0..reach.rows {
            let (whole, limit) = self.harmless(slot, reach, row);
            bound.take(&whole);
            bound.proven += reach.count(row, limit);
        }
        bound
    }

    /// What all flips of a row can do, and up to which effect its flips are proven masked; `None`
    /// where all of them are.
    fn harmless(&self, slot: Slot, reach: &Reach, row: usize) -> (Passed, Option<i32>) {
        let pass = |limit| {
            let mut moved = Moved { ranges: vec![Vec::new(); reach.rows], shared: None };
            moved.ranges[row] = reach.range(row, limit);
            self.pass(slot, moved).0
        };
        let (whole, most) = (pass(None), reach.most(row));
        if whole.certified {
            return (whole, None);
        }
        let limits = (1..=HALVINGS).map(|halvings| most >> halvings).take_while(|&least| least > 0);
        let proven = limits.into_iter().find(|&limit| pass(Some(limit)).certified);
        (whole, Some(proven.unwrap_or(0)))
    }

    /// The logits with sums moved; with none moved the tensor is only looked at.
    fn pass(&self, slot: Slot, moved: Moved) -> (Passed, Option<Reach>) {
        let deployed = &self.context.deployed;
        let claims = vec![self.claim.clone()];
        let inner = Interval::new(deployed.kernels, deployed.model, deployed.kv, claims);
        let site = Site { layer: self.layer, step: Step::Linear(slot) };
        let unused = self.context.plan.unused;
        let (mut moved, mut reach) = (Some(moved).filter(|moved| !moved.ranges.is_empty()), None);
        let strike = |at: Site, x: &BoxPrepared, linear: &Linear| {
            if at == site && moved.is_none() {
                reach = Reach::new(linear, x, unused);
            }
            if at == site { moved.take() } else { None }
        };
        let mut domain = AnyFlip { inner, moved: strike };
        let out = walk::run(&mut domain, deployed.model, &self.stream, self.layer, 0, Read::Last);
        let finite = domain.inner.diverged().is_none();
        let margins = domain.inner.margins();
        let certified = finite && margins.len() == 1 && margins[0] > 0.0;
        let change = widest(&out, self.logits);
        (Passed { certified, change: finite.then_some(change) }, reach)
    }
}

/// How far boxes reach from the clean logits.
pub(super) fn widest(boxes: &Boxes, logits: &Array2<f32>) -> f64 {
    let ends = boxes.lo.iter().zip(&boxes.hi).zip(logits);
    let reach = ends.map(|((&lo, &hi), &at)| {
        let (below, above) = (f64::from(at) - f64::from(lo), f64::from(hi) - f64::from(at));
        if below > above { below } else { above }
    });
    reach.fold(0.0, |most, change| if change > most { change } else { most })
}

impl LayerBound {
    fn take(&mut self, passed: &Passed) {
        match passed.change {
            Some(change) => {
                let before = self.change.unwrap_or(0.0);
                if self.reason.is_none() {
                    self.change = Some(if change > before { change } else { before });
                }
            }
            None => {
                self.change = None;
                self.reason = Some("the bound is not finite".into());
            }
        }
    }
}

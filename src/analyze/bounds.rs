//! What any single flip of a weight code can do: a sound bound a layer, and the share proven masked.
//!
//! A fault is a decorator over any domain, so a *set* of faults is a decorator over boxes: everything
//! before the struck layer is a point, the struck sums may move by the range of what any flip in a
//! row can add, and boxes carry that to the logits. A row is tried with all its flips first; where
//! that proves nothing, with those whose effect is at most a half, a quarter, ... of the largest.
//! What is spent is counted in operations, never in time, so that results do not depend on the
//! machine.

use std::ops::Range;

use certify::claim::Decision;
use certify::interval::{BoxPrepared, Boxes, Interval, Margin};
use engine::model::{Activations, Float, Gate, Linear, Norm, Rope, Slot, Weights};
use engine::packing::{UNUSED_CODE, weight_of};
use engine::walk::{self, Domain, Read, Site, Step};
use ndarray::Array2;

use super::context::Context;
use super::verdicts::{Clean, margin_of};
use crate::cli::UnusedArg;

/// Operations that all bounds together may take.
const BUDGET: u64 = 40_000_000_000;
/// What a pass costs at least, small as the model may be.
const LEAST_PASS: u64 = 200_000;
/// Samples at most.
const MOST_SAMPLES: usize = 64;
/// How often a row's flips are halved when all of them together are too many.
const HALVINGS: u32 = 4;

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
    let (grain, each) =
        if by_row <= BUDGET { (Grain::Row, by_row) } else { (Grain::Tensor, by_tensor) };
    let count = ((BUDGET / each) as usize).clamp(1, MOST_SAMPLES).min(context.samples.len());
    let stage = context.clock.stage("bounds under any flip", count as u64);
    let results = context.each(&stage, |index, _| {
        (index < count).then(|| sample_bounds(context, index, &clean[index], grain))
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

/// How finely flips are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Grain {
    Row,
    Tensor,
}

fn layer_rows(layer: &engine::model::Layer) -> impl Iterator<Item = usize> {
    layer.linears.iter().filter_map(|linear| match &linear.weights {
        Weights::Ternary { rows, .. } => Some(rows.rows()),
        Weights::Dense(_) => None,
    })
}

/// From the last layer to the first; once a layer proves nothing, only what costs nothing is said of
/// the layers before it.
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
            if let Weights::Ternary { .. } = model.layers[layer].linear(slot).weights {
                let (bound, more) = case.slot(slot, if hopeless { None } else { Some(grain) });
                layers[layer].merge(bound);
                proven_more |= more;
            }
        }
        hopeless |= grain == Grain::Tensor && !proven_more;
    }
    layers
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
    /// The bound of one tensor, and whether a pass proved anything beyond flips without effect.
    fn slot(&self, slot: Slot, grain: Option<Grain>) -> (LayerBound, bool) {
        let probe = self.pass(slot, Moves::default());
        let reach = probe.1.expect("the walk passes every slot of the layer");
        let mut bound = LayerBound { pairs: reach.pairs(), ..LayerBound::default() };
        bound.proven = reach.without_effect();
        match grain {
            None => {
                bound.reason = Some("nothing was proven for the layer behind it".into());
                (bound, false)
            }
            Some(Grain::Tensor) => {
                let moves =
                    Moves { rows: (0..reach.rows).map(|row| reach.range(row, None)).collect() };
                let (passed, _) = self.pass(slot, moves);
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
            let most = reach.most(row);
            let mut limit = None;
            let mut halvings = 0;
            loop {
                let mut moves = Moves { rows: vec![Vec::new(); reach.rows] };
                moves.rows[row] = reach.range(row, limit);
                let (passed, _) = self.pass(slot, moves);
                if limit.is_none() {
                    bound.take(&passed);
                }
                if passed.certified {
                    bound.proven += reach.count(row, limit);
                    break;
                }
                halvings += 1;
                if halvings > HALVINGS || most >> halvings == 0 {
                    bound.proven += reach.count(row, Some(0));
                    break;
                }
                limit = Some(most >> halvings);
            }
        }
        bound
    }

    fn pass(&self, slot: Slot, moves: Moves) -> (Passed, Option<Reach>) {
        let deployed = &self.context.deployed;
        let claims = vec![self.claim.clone()];
        let inner = Interval::new(deployed.kernels, deployed.model, deployed.kv, claims);
        let site = Site { layer: self.layer, step: Step::Linear(slot) };
        let unused = self.context.plan.unused;
        let mut domain = AnyFlip { inner, site, moves, unused, reach: None };
        let out = walk::run(&mut domain, deployed.model, &self.stream, self.layer, 0, Read::Last);
        let finite = domain.inner.diverged().is_none();
        let margins = domain.inner.margins();
        let certified = finite && margins.len() == 1 && margins[0] > 0.0;
        let ends = out.lo.iter().zip(&out.hi).zip(self.logits);
        let change = ends
            .map(|((&lo, &hi), &at)| {
                let (below, above) = (f64::from(at) - f64::from(lo), f64::from(hi) - f64::from(at));
                if below > above { below } else { above }
            })
            .fold(0.0, |most, change| if change > most { change } else { most });
        (Passed { certified, change: finite.then_some(change) }, domain.reach)
    }
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

/// The ranges `[row][token]` by which integer sums may move; no entries = not at all.
#[derive(Clone, Debug, Default)]
struct Moves {
    rows: Vec<Vec<(i32, i32)>>,
}

/// What each flip of a tensor can do to the integer sums, on the codes of one sample.
struct Reach {
    rows: usize,
    /// Flips `[row]`: the change of the weight, and the column.
    flips: Vec<Vec<(i32, u32)>>,
    /// Detected flips: never silent.
    detected: u64,
    /// Codes `[column][token]`.
    codes: Vec<Vec<i32>>,
}

impl Reach {
    fn new(linear: &Linear, x: &BoxPrepared, unused: Option<UnusedArg>) -> Option<Self> {
        let (Weights::Ternary { rows, .. }, Some(codes)) = (&linear.weights, &x.codes) else {
            return None;
        };
        let tokens = codes.scales.len();
        let padded = codes.lo.len() / tokens;
        let by_column = (0..rows.columns())
            .map(|k| (0..tokens).map(|t| i32::from(codes.lo[t * padded + k])).collect())
            .collect();
        let mut detected = 0;
        let flips = (0..rows.rows())
            .map(|row| {
                let mut flips = Vec::with_capacity(2 * rows.columns());
                for (column, code) in rows.row(row).into_iter().enumerate() {
                    for flipped in [code ^ 1, code ^ 2] {
                        match (flipped == UNUSED_CODE, unused) {
                            (true, Some(UnusedArg::Detect)) => detected += 1,
                            (true, Some(UnusedArg::Zero)) => {
                                flips.push((-weight_of(code), column as u32));
                            }
                            _ => {
                                let change = weight_of(flipped) - weight_of(code);
                                flips.push((change, column as u32));
                            }
                        }
                    }
                }
                flips
            })
            .collect();
        Some(Self { rows: rows.rows(), flips, detected, codes: by_column })
    }

    /// All bits of the tensor.
    fn pairs(&self) -> u64 {
        self.silent() + self.detected
    }

    /// All flips that no detector sees.
    fn silent(&self) -> u64 {
        self.flips.iter().map(|flips| flips.len() as u64).sum()
    }

    /// The largest change of a sum by one flip, over all tokens.
    fn effect(&self, (change, column): (i32, u32)) -> i32 {
        let codes = &self.codes[column as usize];
        codes.iter().map(|q| (change * q).abs()).max().unwrap_or(0)
    }

    fn most(&self, row: usize) -> i32 {
        self.flips[row].iter().map(|&flip| self.effect(flip)).max().unwrap_or(0)
    }

    /// The flips of a row whose effect is within a limit.
    fn within(&self, row: usize, limit: Option<i32>) -> impl Iterator<Item = (i32, u32)> {
        self.flips[row]
            .iter()
            .copied()
            .filter(move |&flip| limit.is_none_or(|limit| self.effect(flip) <= limit))
    }

    fn count(&self, row: usize, limit: Option<i32>) -> u64 {
        self.within(row, limit).count() as u64
    }

    fn without_effect(&self) -> u64 {
        (0..self.rows).map(|row| self.count(row, Some(0))).sum()
    }

    /// For each token the range by which any one of these flips, or none, moves the sum.
    fn range(&self, row: usize, limit: Option<i32>) -> Vec<(i32, i32)> {
        let tokens = self.codes.first().map_or(0, Vec::len);
        let mut range = vec![(0, 0); tokens];
        for (change, column) in self.within(row, limit) {
            for (ends, q) in range.iter_mut().zip(&self.codes[column as usize]) {
                let moved = change * q;
                *ends = (ends.0.min(moved), ends.1.max(moved));
            }
        }
        range
    }
}

/// Boxes under any one of a set of flips in one tensor.
struct AnyFlip {
    inner: Interval,
    site: Site,
    moves: Moves,
    unused: Option<UnusedArg>,
    reach: Option<Reach>,
}

impl Domain for AnyFlip {
    type Rows = Boxes;
    type Prepared = BoxPrepared;

    fn linear(&mut self, at: Site, x: &BoxPrepared, linear: &Linear) -> Boxes {
        if at != self.site {
            return self.inner.linear(at, x, linear);
        }
        if self.moves.rows.is_empty() {
            self.reach = Reach::new(linear, x, self.unused);
            return self.inner.linear(at, x, linear);
        }
        let moves = std::mem::take(&mut self.moves);
        let moved =
            |token: usize, row: usize| moves.rows[row].get(token).copied().unwrap_or((0, 0));
        let boxes = self.inner.linear_moved(at, x, linear, moved);
        boxes.unwrap_or_else(|| self.inner.linear(at, x, linear))
    }

    fn norm(&mut self, at: Site, x: &Boxes, norm: &Norm) -> Boxes {
        self.inner.norm(at, x, norm)
    }

    fn prepare(&mut self, at: Site, x: &Boxes, policy: Activations) -> BoxPrepared {
        self.inner.prepare(at, x, policy)
    }

    fn rope(&mut self, at: Site, x: Boxes, rope: &Rope, first: usize) -> Boxes {
        self.inner.rope(at, x, rope, first)
    }

    fn store(&mut self, at: Site, keys: Boxes, values: Boxes) {
        self.inner.store(at, keys, values);
    }

    fn attend(&mut self, at: Site, queries: &Boxes, first: usize) -> Boxes {
        self.inner.attend(at, queries, first)
    }

    fn gate(&mut self, at: Site, gate: &Boxes, up: &Boxes, kind: Gate) -> Boxes {
        self.inner.gate(at, gate, up, kind)
    }

    fn add(&mut self, at: Site, stream: &Boxes, update: &Boxes) -> Boxes {
        self.inner.add(at, stream, update)
    }

    fn logits(&mut self, at: Site, x: &Boxes, head: &Float) -> Boxes {
        self.inner.logits(at, x, head)
    }

    fn count(&self, x: &Boxes) -> usize {
        self.inner.count(x)
    }

    fn select(&self, x: &Boxes, rows: Range<usize>) -> Boxes {
        self.inner.select(x, rows)
    }

    fn stack(&self, above: &Boxes, below: &Boxes) -> Boxes {
        self.inner.stack(above, below)
    }

    fn replace_column(&self, x: &mut Boxes, index: usize, column: &Boxes) {
        self.inner.replace_column(x, index, column);
    }
}

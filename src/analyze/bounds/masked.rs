//! Which single flips of a row are proven masked, for whoever runs all the others.

use std::sync::{Arc, Mutex, OnceLock};

use certify::claim::{Decision, decide};
use certify::interval::Boxes;
use certify::moved::Moved;
use engine::model::{Slot, Weights};
use engine::walk::Read;
use faults::Prover;
use ndarray::Array2;

use super::reach::{Reach, change};
use super::{Case, margin_of, speaks_of};
use crate::analyze::Context;

/// The clean run of a sample.
#[derive(Debug)]
struct Point {
    streams: Vec<Array2<f32>>,
    logits: Array2<f32>,
    decision: Decision,
}

/// The tensor that was looked at last, on a sample.
type Latest = Option<((usize, usize, Slot), Arc<Reach>)>;

/// Proofs by boxes, on the samples of a context.
pub(crate) struct Masked<'a> {
    context: &'a Context<'a>,
    points: Vec<OnceLock<Point>>,
    latest: Mutex<Latest>,
}

impl<'a> Masked<'a> {
    /// Nothing is computed before it is asked for.
    pub(crate) fn new(context: &'a Context<'a>) -> Self {
        let points = context.samples.iter().map(|_| OnceLock::new()).collect();
        Self { context, points, latest: Mutex::new(None) }
    }

    fn point(&self, sample: usize) -> &Point {
        self.points[sample].get_or_init(|| {
            let (deployed, of) = (&self.context.deployed, &self.context.samples[sample]);
            let x = of.embedded(deployed.model);
            let (streams, logits) = (deployed.streams(&x), deployed.logits(&x, 0, Read::Last));
            let row = logits.as_slice().expect("one row");
            let winner = decide(row, &of.classes).expect("clean logits are numbers");
            let decision = Decision { winner, classes: of.classes.clone() };
            Point { streams, logits, decision }
        })
    }

    fn reach(&self, sample: usize, case: &Case, slot: Slot) -> Arc<Reach> {
        let key = (sample, case.layer, slot);
        let latest = self.latest.lock().expect("no holder panics").clone();
        if let Some((_, reach)) = latest.filter(|(of, _)| *of == key) {
            return reach;
        }
        let reach = case.pass(slot, Moved::default()).1;
        let reach = Arc::new(reach.expect("the walk passes every slot of the layer"));
        *self.latest.lock().expect("no holder panics") = Some((key, reach.clone()));
        reach
    }
}

impl Prover for Masked<'_> {
    fn masked(&self, sample: usize, (layer, slot, row): (usize, Slot, usize)) -> Vec<bool> {
        let (context, point) = (self.context, self.point(sample));
        let linear = context.deployed.model.layers[layer].linear(slot);
        let Weights::Ternary { rows, .. } = &linear.weights else { return Vec::new() };
        if !speaks_of(linear) {
            return Vec::new();
        }
        let case = Case {
            context,
            layer,
            stream: Boxes::point(&point.streams[layer]),
            logits: &point.logits,
            claim: margin_of(&point.decision, 0),
        };
        let reach = self.reach(sample, &case, slot);
        let (_, limit) = case.harmless(slot, &reach, row);
        let bits = rows.row(row).into_iter().enumerate();
        let bits = bits.flat_map(|(column, code)| [(column, code, 0), (column, code, 1)]);
        let known = |(column, code, bit): (usize, u8, u8)| {
            // What a reader detects is not masked, and what moves no sum needs no run.
            let change = change(code, bit, context.plan.unused);
            change.is_some_and(|change| {
                let effect = reach.effect((change, column as u32));
                effect > 0 && limit.is_none_or(|limit| effect <= limit)
            })
        };
        bits.map(known).collect()
    }
}

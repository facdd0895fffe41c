//! Layer by layer: certified radii of the stream, local Lipschitz bounds, and where bounds grow.

use certify::claim::Scope;
use certify::interval::{Boxes, Diverged, Interval, Width};
use certify::radius::search;
use certify::region::{Ball, Region};
use engine::walk::{self, Read};
use ndarray::Array2;
use reports::model::Norm;

use super::change::{self, Change};
use super::climb::{Purse, Radii, settings};
use super::context::Context;
use super::verdicts::{Clean, margin_of, rms};

/// What one sample says of the layers.
#[derive(Clone, Debug)]
pub struct SampleLayers {
    /// Certified radius of the stream that enters each layer; 0 where none was proven.
    pub radii: Vec<f64>,
    /// The same for the stream that leaves the last layer: the read-out alone.
    pub readout: f64,
    /// Root mean square of the stream that enters each layer.
    pub rms: Vec<f64>,
    /// Largest width of the box at epsilon that enters each layer, and behind them the last.
    pub widths: Vec<Option<f64>>,
    /// Local Lipschitz bounds on what epsilon reaches, of the first samples.
    pub change: Option<Change>,
    /// Widths behind every step at epsilon.
    pub growth: Vec<Width>,
    /// Where the box at epsilon was lost.
    pub diverged: Option<Diverged>,
}

/// Layers of every sample whose clean decision holds.
///
/// The radius of the first stream is the certified one, where that spoke of all positions too.
pub(super) fn layers(
    context: &Context,
    clean: &[Clean],
    found: &[Option<Radii>],
) -> Vec<Option<SampleLayers>> {
    let plan = &context.plan;
    let same = plan.scope == Scope::All && plan.norm == Norm::Linf;
    let known = |index: usize| {
        found.get(index).and_then(Option::as_ref).filter(|_| same).map(|radii| radii.best)
    };
    let stage = context.clock.stage("layers", context.samples.len() as u64);
    let results = context.each(&stage, |index, sample| {
        if !clean[index].holds() {
            return None;
        }
        let embedded = sample.embedded(context.deployed.model);
        let streams = context.deployed.streams(&embedded);
        let from = context.from();
        let epsilon = context.plan.epsilon().at(clean[index].rms);
        let ball = Boxes::ball(&streams[from], epsilon, &(0..embedded.nrows()));
        let by_boxes = change::by_boxes(context, &ball);
        let first = clean[..index].iter().filter(|clean| clean.holds()).count() < change::SAMPLES;
        let change =
            first.then(|| Change::of(context, &clean[index], &streams[from], epsilon, &by_boxes));
        let (growth, diverged) = growth(context, &ball);
        let mut radii = radii(context, &streams, &clean[index], known(index));
        Some(SampleLayers {
            readout: radii.pop().expect("one radius a stream"),
            radii,
            rms: streams[..streams.len() - 1].iter().map(rms).collect(),
            widths: change::widths(context, &by_boxes),
            change,
            growth,
            diverged,
        })
    });
    context.clock.count_missing("layers", &results);
    results.into_iter().map(Option::flatten).collect()
}

/// From the read-out to the first layer: a radius a stream, searched from where the one behind
/// ended, as far as the claim reaches.
///
/// Once a layer has radius 0 the layers before it are not searched: 0 is what is proven for them.
///
/// `known` is the radius of the first of them, where that was searched already.
fn radii(
    context: &Context,
    streams: &[Array2<f32>],
    clean: &Clean,
    known: Option<f64>,
) -> Vec<f64> {
    let count = streams.len();
    let purse = Purse::new(context, streams[0].nrows(), "layers", 0.0);
    let claim = [margin_of(&clean.decision, 0)];
    let mut radii = vec![0.0; count];
    let mut start = 1e-2;
    for from in (context.from()..count).rev() {
        if let (true, Some(known)) = (from == context.from(), known) {
            radii[from] = known;
            break;
        }
        let stream = &streams[from];
        let aim = context.aim(from, Read::Last, &claim);
        let radius = search(settings(context, start, rms(stream)), |epsilon| {
            let ball = Ball::Linf(epsilon);
            let region = Region { clean: stream, moved: 0..stream.nrows(), ball };
            let may = |rung| purse.may(rung);
            !context.clock.cuts("layers: searches that had begun")
                && context.plan.ladder.climb(&aim, &region, false, &may).certifies()
        });
        radii[from] = radius;
        if radius == 0.0 {
            break;
        }
        start = radius / 8.0;
    }
    radii
}

/// The widths behind every step of the walk at epsilon.
fn growth(context: &Context, ball: &Boxes) -> (Vec<Width>, Option<Diverged>) {
    let deployed = &context.deployed;
    let mut domain = Interval::new(deployed.kernels, deployed.model, deployed.kv, Vec::new());
    domain.trace();
    walk::run(&mut domain, deployed.model, ball, context.from(), 0, Read::Last);
    (domain.traced().to_vec(), domain.diverged())
}

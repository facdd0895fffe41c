//! How far two points of a set part: local Lipschitz bounds with slack, by boxes and by forms.
//!
//! The streams that epsilon reaches lie in boxes; where forms pay, in narrower ones, and each bound
//! is then also taken by forms. Which of both is told is decided over all samples together.

use certify::affine::change;
use certify::interval::{Boxes, Interval};
use certify::ladder::Rung;
use certify::lipschitz::{Lipschitz, Part, of_margins, of_part};
use certify::region::{Ball, Region};
use engine::walk::{self, Read};
use ndarray::Array2;

use super::climb::Purse;
use super::context::Context;
use super::verdicts::{Clean, margin_of};

/// The same bound in two ways, and how far two points of its set are apart at most.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pairs {
    /// By responses beside boxes.
    pub boxes: Option<Lipschitz>,
    /// By the symbols of forms.
    pub forms: Option<Lipschitz>,
    /// The largest change of the input within the set.
    pub reach: f64,
}

/// The bounds of a layer, and of its halves.
#[derive(Clone, Copy, Debug, Default)]
pub struct LayerPairs {
    /// From the stream that enters to the stream that leaves.
    pub whole: Pairs,
    /// The half with attention; nothing for large models.
    pub attention: Pairs,
    /// The feed-forward half; likewise.
    pub ffn: Pairs,
}

/// So many samples are looked at, those that come first of the ones that are right: a bound by
/// forms takes as long as several proofs.
pub(super) const SAMPLES: usize = 16;

/// How far two points of the set of one sample part.
#[derive(Clone, Debug)]
pub struct Change {
    /// The bounds of every layer; nothing before the claim.
    pub layers: Vec<LayerPairs>,
    /// Those of the margins of the decision.
    pub margins: Pairs,
}

impl Change {
    /// On what a ball around a stream reaches, and on the balls that the claim speaks of.
    /// `by_boxes` are the boxes of the former, see [`by_boxes`].
    pub(super) fn of(
        context: &Context,
        clean: &Clean,
        stream: &Array2<f32>,
        epsilon: f64,
        by_boxes: &[Boxes],
    ) -> Self {
        Self {
            layers: layers(context, stream, epsilon, by_boxes),
            margins: margins(context, clean, stream, epsilon),
        }
    }
}

/// Largest width of the stream that enters each layer, and behind them the last.
pub(super) fn widths(context: &Context, by_boxes: &[Boxes]) -> Vec<Option<f64>> {
    let from = context.from();
    let mut widths = vec![None; context.deployed.model.layers.len() + 1];
    for (index, boxes) in by_boxes.iter().step_by(2).enumerate() {
        widths[from + index] = Some(widest(boxes));
    }
    widths
}

/// The bounds of all layers that the claim speaks of, on what the ball around a stream reaches.
fn layers(
    context: &Context,
    stream: &Array2<f32>,
    epsilon: f64,
    by_boxes: &[Boxes],
) -> Vec<LayerPairs> {
    let (deployed, from) = (&context.deployed, context.from());
    let count = deployed.model.layers.len();
    let region = Region { clean: stream, moved: 0..stream.nrows(), ball: Ball::Linf(epsilon) };
    let purse = Purse::new(context, stream.nrows(), "Lipschitz bounds", 0.0);
    let by_forms = if forms(context, &purse) {
        change::reached(deployed, &context.matrices, &region, from)
    } else {
        Vec::new()
    };
    let mut layers = vec![LayerPairs::default(); count];
    for (index, pairs) in layers.iter_mut().enumerate().skip(from) {
        let of = |part: Part, half: usize| {
            let at = 2 * (index - from) + half;
            let entering = by_forms.get(at).or(by_boxes.get(at));
            entering.map_or_else(Pairs::default, |boxes| {
                pairs_of(context, &purse, (index, part), boxes)
            })
        };
        pairs.whole = of(Part::Layer, 0);
        if !context.large() {
            pairs.attention = of(Part::Attention, 0);
            pairs.ffn = of(Part::FeedForward, 1);
        }
    }
    layers
}

/// The bounds of one part of the walk on a box.
fn pairs_of(
    context: &Context,
    purse: &Purse,
    (index, part): (usize, Part),
    boxes: &Boxes,
) -> Pairs {
    let by_boxes = of_part(&context.deployed, index, part, boxes).ok();
    let by_forms = forms(context, purse)
        .then(|| change::of_part(&context.deployed, &context.matrices, index, part, boxes));
    Pairs {
        boxes: by_boxes.map(|(bound, _)| bound),
        forms: by_forms.flatten(),
        reach: widest(boxes),
    }
}

/// The bounds of the margins of a sample's decision, on the balls of epsilon that a claim speaks
/// of: what holds on all of them.
fn margins(context: &Context, clean: &Clean, x: &Array2<f32>, radius: f64) -> Pairs {
    let claim = margin_of(&clean.decision, 0);
    let purse = Purse::new(context, x.nrows(), "Lipschitz bounds", 0.0);
    let regions = context.regions(x, radius).into_iter();
    let all = regions.map(|region| {
        let boxes = region.boxes();
        let by_forms = forms(context, &purse).then(|| {
            let matrices = &context.matrices;
            change::of_margins(&context.deployed, matrices, &region, context.from(), &claim)
        });
        Pairs {
            boxes: of_margins(&context.deployed, context.from(), &boxes, &claim).ok(),
            forms: by_forms.flatten(),
            reach: 2.0 * radius,
        }
    });
    all.reduce(Pairs::both).unwrap_or_default()
}

impl Pairs {
    /// What holds on two sets.
    #[must_use]
    pub fn both(self, other: Self) -> Self {
        let larger = |a: f64, b: f64| if b > a || b.is_nan() { b } else { a };
        let join = |a: Option<Lipschitz>, b: Option<Lipschitz>| {
            a.zip(b).map(|(a, b)| Lipschitz {
                bound: larger(a.bound, b.bound),
                slack: larger(a.slack, b.slack),
            })
        };
        Self {
            boxes: join(self.boxes, other.boxes),
            forms: join(self.forms, other.forms),
            reach: larger(self.reach, other.reach),
        }
    }

    /// The one that allows less over the whole set, and the rung that it comes from.
    #[must_use]
    pub fn chosen(&self) -> Option<(Rung, Lipschitz)> {
        let all = [(Rung::Interval, self.boxes), (Rung::Affine, self.forms)];
        let finite = |of: &(Rung, Lipschitz)| of.1.bound.is_finite() && of.1.slack.is_finite();
        let allows = |of: &Lipschitz| of.bound * self.reach + of.slack;
        (all.into_iter().filter_map(|(rung, of)| Some((rung, of?))).filter(finite))
            .reduce(|best, other| if allows(&other.1) < allows(&best.1) { other } else { best })
    }
}

/// Whether forms may be used for one more bound.
fn forms(context: &Context, purse: &Purse) -> bool {
    context.plan.ladder.rungs().contains(&Rung::Affine) && purse.may(Rung::Affine)
}

/// The boxes that enter each half of each layer, and leave the last; fewer once they are lost.
pub(super) fn by_boxes(context: &Context, ball: &Boxes) -> Vec<Boxes> {
    let deployed = &context.deployed;
    let model = deployed.model;
    let mut domain = Interval::new(deployed.kernels, model, deployed.kv, Vec::new());
    let mut all = vec![ball.clone()];
    for index in context.from()..model.layers.len() {
        let middle =
            walk::attention_block(&mut domain, model, index, &all[all.len() - 1], 0, Read::All);
        let leaving = walk::ffn_block(&mut domain, model, index, &middle);
        if domain.diverged().is_some() {
            return all;
        }
        all.extend([middle, leaving]);
    }
    all
}

/// The widest of all boxes.
fn widest(boxes: &Boxes) -> f64 {
    let widths = boxes.widths();
    f64::from(
        widths.iter().copied().fold(0.0, |most, width| if width > most { width } else { most }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn pair(bound: f64, slack: f64) -> Option<Lipschitz> {
        Some(Lipschitz { bound, slack })
    }

    #[test]
    fn the_pair_that_allows_less_over_the_whole_set_is_told() {
        let of = |reach| Pairs { boxes: pair(1.0, 5.0), forms: pair(10.0, 1.0), reach };
        assert_eq!(of(0.1).chosen().map(|of| of.0), Some(Rung::Affine));
        assert_eq!(of(1.0).chosen().map(|of| of.0), Some(Rung::Interval));
        let lost = Pairs { boxes: pair(f64::NAN, 0.0), forms: None, reach: 1.0 };
        assert_eq!(lost.chosen(), None);
    }

    #[test]
    fn what_holds_on_two_sets_has_the_larger_of_each_number_and_is_lost_with_either() {
        let one = Pairs { boxes: pair(1.0, 5.0), forms: pair(2.0, 2.0), reach: 0.5 };
        let two = Pairs { boxes: pair(3.0, 4.0), forms: None, reach: 0.25 };
        let both = one.both(two);
        assert_eq!((both.boxes, both.forms, both.reach), (pair(3.0, 5.0), None, 0.5));
    }
}

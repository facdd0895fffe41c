//! What the forms say of the claims: the least margin over all rivals, and what made it so small;
//! and, where that is asked for, of each logit alone.

use engine::model::{Coded, Float, Linear, Slot, Weights};
use engine::walk::{Site, Step};

use super::form::{Form, through_magnitudes};
use super::linear::outputs;
use super::margin::{Attended, Final, Stream, lower_ends, parts_of};
use super::past::Past;
use super::rows::{Normed, Rows, Shape};
use super::second::curved::Layers;
use super::state::{Affine, Prepared};
use super::{Kind, Share};
use crate::interval::{Boxes, Margin, UNIT, is_tame};

/// Rivals whose margins over a head of integers are taken together.
const RIVALS: usize = 64;
/// The most logits that are bounded one by one.
const MOST_LOGITS: usize = 4096;

/// The least margin of a claim over the rivals whom boxes beat, and the other rivals.
fn parted(claim: &Margin, logits: &Boxes) -> ((f64, Option<usize>), Vec<usize>) {
    let low = f64::from(logits.lo[[claim.row, claim.winner]]);
    let over = |rival: usize| low - f64::from(logits.hi[[claim.row, rival]]);
    let all: Vec<usize> = match claim.rivals.is_empty() {
        true => (0..logits.lo.ncols()).collect(),
        false => claim.rivals.clone(),
    };
    let rivals = all.into_iter().filter(|&rival| rival != claim.winner);
    let (clear, close): (Vec<usize>, Vec<usize>) = rivals.partition(|&rival| over(rival) > 0.0);
    let mut least = (f64::INFINITY, None);
    for rival in clear {
        least = if over(rival) < least.0 { (over(rival), None) } else { least };
    }
    (least, close)
}

/// The rows of weights of a winner less those of some rivals, `[inputs, rivals]`, and the sums of
/// their magnitudes.
fn differences(coded: &Coded, winner: usize, rivals: &[usize]) -> (Vec<f64>, Vec<f64>) {
    let size = coded.rows().columns() * rivals.len();
    let (mut w, mut magnitudes) = (vec![0.0; size], vec![0.0; size]);
    for (index, &rival) in rivals.iter().enumerate() {
        for (k, (a, b)) in coded.weights(winner).zip(coded.weights(rival)).enumerate() {
            let at = k * rivals.len() + index;
            (w[at], magnitudes[at]) = (a - b, a.abs() + b.abs());
        }
    }
    (w, magnitudes)
}

impl Affine<'_> {
    /// Lower bounds of the claimed margins, each the least over its rivals.
    pub(super) fn bound_margins(&mut self, x: &Rows, logits: &Boxes, head: &Float) -> Vec<f64> {
        let by_boxes = self.interval.margins().to_vec();
        let Shape::Normed(normed) = &x.shape else { return by_boxes };
        if normed.iter().any(|normed| !normed.regular) {
            return by_boxes;
        }
        let mut worst: Option<(f64, Vec<Share>)> = None;
        let claims = self.claims.clone();
        (claims.iter().zip(by_boxes))
            .map(|(claim, known)| {
                let (bound, rival) = self.bound_margin(claim, normed, logits, head);
                let bound = if bound > known { bound } else { known };
                if let Some(rival) = rival
                    && worst.as_ref().is_none_or(|(least, _)| bound < *least)
                {
                    let parts = self.final_of(&normed[claim.row], head).parts(claim.winner, rival);
                    let shares = self.sources_of(&parts);
                    self.sources.clone_from(&shares);
                    worst = Some((bound, shares));
                }
                bound
            })
            .collect()
    }

    /// Lower bounds of the claimed margins over a head of integers.
    pub(super) fn coded_margins(
        &mut self,
        x: &Prepared,
        logits: &Boxes,
        head: &Linear,
    ) -> Vec<f64> {
        let by_boxes = self.interval.margins().to_vec();
        let Weights::Coded(coded) = &head.weights else { return by_boxes };
        if !is_tame(&x.boxes, head) {
            return by_boxes;
        }
        let mut worst = f64::INFINITY;
        let claims = self.claims.clone();
        (claims.iter().zip(by_boxes))
            .map(|(claim, known)| {
                let (bound, rival) = self.coded_margin(claim, x, logits, coded);
                let bound = if bound > known { bound } else { known };
                if let Some(rival) = rival.filter(|_| bound < worst) {
                    worst = bound;
                    let best = self.best_over_codes(x, coded, (claim, rival));
                    self.sources = self.sources_of(&parts_of(self.kernels, &self.inputs, &best));
                }
                bound
            })
            .collect()
    }

    /// The least margin of a claim, and the rival it is over where forms were needed for it.
    fn coded_margin(
        &self,
        claim: &Margin,
        x: &Prepared,
        logits: &Boxes,
        coded: &Coded,
    ) -> (f64, Option<usize>) {
        let (mut least, close) = parted(claim, logits);
        for some in close.chunks(RIVALS) {
            let (w, magnitudes) = differences(coded, claim.winner, some);
            let mut best = vec![f64::NEG_INFINITY; some.len()];
            for way in &x.readings[claim.row] {
                let form = outputs(self.kernels, &self.inputs, way, (&w, 1.0), true);
                // Each logit is rounded on its own, three times.
                let errors = through_magnitudes(&way.most, &magnitudes);
                let bounds = lower_ends(self.kernels, &self.inputs, &form);
                for (best, (bound, error)) in best.iter_mut().zip(bounds.into_iter().zip(errors)) {
                    let bound = bound - error * 4.0 * UNIT - 1e-37;
                    *best = if bound > *best { bound } else { *best };
                }
            }
            for (bound, &rival) in best.into_iter().zip(some) {
                least = if bound < least.0 { (bound, Some(rival)) } else { least };
            }
        }
        least
    }

    /// The margin over one rival as a form, in the best way of reading the row.
    fn best_over_codes(
        &self,
        x: &Prepared,
        coded: &Coded,
        (claim, rival): (&Margin, usize),
    ) -> Form {
        let (w, _) = differences(coded, claim.winner, &[rival]);
        let all = x.readings[claim.row].iter().map(|way| {
            let form = outputs(self.kernels, &self.inputs, way, (&w, 1.0), true);
            (lower_ends(self.kernels, &self.inputs, &form)[0], form)
        });
        let best = all.reduce(|best, way| if way.0 > best.0 { way } else { best });
        best.expect("at least one way").1
    }

    /// The least margin of a claim, and the rival it is over where forms were needed for it.
    fn bound_margin(
        &self,
        claim: &Margin,
        normed: &[Normed],
        logits: &Boxes,
        head: &Float,
    ) -> (f64, Option<usize>) {
        let (mut least, close) = parted(claim, logits);
        let bounds = self.final_of(&normed[claim.row], head).decide(claim.winner, &close);
        for (bound, rival) in bounds.into_iter().zip(close) {
            let lower = bound < least.0 || bound.is_nan();
            least = if lower { (bound, Some(rival)) } else { least };
        }
        least
    }

    /// Cuts the boxes of logits to what the forms say of each.
    ///
    /// A logit is its margin over a row of zeros, and its opposite that of a head of opposites.
    pub(super) fn cut_logits(&self, x: &Rows, boxes: &mut Boxes, head: &Float) {
        let Shape::Normed(normed) = &x.shape else { return };
        if normed.iter().any(|normed| !normed.regular) || head.rows() > MOST_LOGITS {
            return;
        }
        let columns = head.columns();
        let signed = |sign: f32| {
            let mut row = vec![0f32; columns];
            let mut data = row.clone();
            for index in 0..head.rows() {
                head.read_row(index, &mut row);
                data.extend(row.iter().map(|w| sign * w));
            }
            Float::F32 { data, columns }
        };
        let (same, opposite) = (signed(1.0), signed(-1.0));
        let all: Vec<usize> = (1..=head.rows()).collect();
        for (row, normed) in normed.iter().enumerate() {
            let least = self.final_of(normed, &opposite).lower(0, &all);
            let most = self.final_of(normed, &same).lower(0, &all);
            for (column, (least, most)) in least.into_iter().zip(most).enumerate() {
                if least.is_finite() && most.is_finite() {
                    boxes.cut(row, column, least, -most);
                }
            }
        }
    }

    /// Where the radius of a margin comes from: for each place at which symbols were made, what
    /// they contribute together, largest first.
    pub(super) fn sources_of(&self, parts: &[(usize, f64)]) -> Vec<Share> {
        let mut shares: Vec<Share> = Vec::new();
        for &(first, radius) in parts {
            let place = self.births.partition_point(|birth| birth.first <= first);
            let last = self.model.layers.len().saturating_sub(1);
            let down = Site { layer: last, step: Step::Linear(Slot::Down) };
            let (site, kind) = match place.checked_sub(1) {
                _ if first < self.inputs.end || first == 0 => (None, Kind::Input),
                // The boxes of a margin are those of the layer that is taken with it.
                _ if first == usize::MAX => (Some(down), Kind::Remainder),
                Some(place) => (Some(self.births[place].site), self.births[place].kind),
                None => (None, Kind::Input),
            };
            match shares.iter_mut().find(|share| share.site == site && share.kind == kind) {
                Some(share) => share.radius += radius,
                None => shares.push(Share { site, kind, radius }),
            }
        }
        shares.retain(|share| share.radius > 0.0);
        shares.sort_by(|a, b| b.radius.total_cmp(&a.radius));
        shares
    }

    pub(super) fn final_of<'b>(&'b self, normed: &'b Normed, head: &'b Float) -> Final<'b> {
        let last = self.model.layers.len() - 1;
        let stream = match &normed.pending {
            None => Stream::Form(&normed.form),
            Some((pending, row)) => Stream::Sum(
                &normed.form,
                &pending.readings[*row],
                self.matrices.of(last, Slot::Down),
                pending.rounded,
            ),
        };
        Final {
            kernels: self.kernels,
            inputs: &self.inputs,
            stream,
            ends: (&normed.ends.0, &normed.ends.1),
            gains: &normed.gains,
            eps: normed.eps,
            head,
            layers: Some(Layers {
                gate: self.matrices.of(last, Slot::Gate),
                up: self.matrices.of(last, Slot::Up),
            }),
            behind: match &normed.past {
                Some(Past::Added(added)) => Some(Attended {
                    added,
                    output: self.matrices.of(last, Slot::O),
                    attention: self.attention(last),
                }),
                _ => None,
            },
        }
    }
}

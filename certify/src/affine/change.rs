//! What forms say of two points of a set: `|out - out'| <= bound |in - in'| + slack`.
//!
//! A symbol of the input is a function of the point, `e = (x - c) / radius` of its cell, so two
//! points part there by `|x - x'| / radius`. Every other symbol, and what is left in boxes, may be
//! anything in its range at either point: twice its coefficient. Changes of the input are measured
//! in the norm of the ball: the maximum norm, or the Euclidean over all rows that move.

use std::sync::Arc;

use engine::kernels::Kernels;
use engine::model::NormSlot;
use engine::walk::{self, Domain, Read, Site, Step};

use super::form::Form;
use super::inputs::{Bound, Inputs};
use super::linear::Matrices;
use super::quotient::Quotient;
use super::rows::{Normed, Rows, Shape, ends_of};
use super::state::Affine;
use crate::claim::Deployed;
use crate::interval::{Boxes, Margin};
use crate::lipschitz::{Lipschitz, Part};
use crate::region::{Ball, Region};

/// Room for the f64 sums of at most 2^20 terms here.
const ROOM: f64 = 1.0 + 1e-9;
/// Rivals that are looked at together.
const TOGETHER: usize = 64;

/// The boxes that enter each half of each layer from `from` on, and behind them those that leave
/// the last; fewer once the bound is lost.
#[must_use]
pub fn reached(
    deployed: &Deployed,
    matrices: &Matrices<'_>,
    region: &Region<'_>,
    from: usize,
) -> Vec<Boxes> {
    let (mut domain, rows) = Affine::new(deployed, matrices, region, Vec::new());
    domain.waits = false;
    let model = deployed.model;
    let mut all = vec![rows.boxes.clone()];
    let mut x = rows;
    for index in from..model.layers.len() {
        for part in [Part::Attention, Part::FeedForward] {
            x = part.walk(&mut domain, model, index, &x);
            if domain.diverged().is_some() {
                return all;
            }
            all.push(x.boxes.clone().plain());
        }
    }
    all
}

/// The bound of a layer or of half of one on a box of the stream that enters it; `None` where it
/// was lost.
#[must_use]
pub fn of_part(
    deployed: &Deployed,
    matrices: &Matrices<'_>,
    index: usize,
    part: Part,
    entering: &Boxes,
) -> Option<Lipschitz> {
    let (clean, moved) = (&entering.lo, 0..entering.lo.nrows());
    let ball = Ball::Boxes { lo: entering.lo.clone(), hi: entering.hi.clone() };
    let region = Region { clean, moved, ball };
    let (mut domain, rows) = Affine::new(deployed, matrices, &region, Vec::new());
    domain.waits = false;
    let reach = Reach::of(&domain.inputs, &domain.forms(&rows))?;
    let out = part.walk(&mut domain, deployed.model, index, &rows);
    if domain.diverged().is_some() {
        return None;
    }
    let forms = domain.forms(&out);
    let all = forms.iter().enumerate().flat_map(|(row, form)| {
        let widths = ends_of(&out.boxes, row).into_iter().map(|(lo, hi)| hi - lo);
        reach.pairs(&domain.inputs, form).into_iter().zip(widths).map(capped)
    });
    Some(largest(all))
}

/// The bound of every margin of a decision on a region; `None` where it was lost, or where the
/// region is no ball or the head is one of integers.
#[must_use]
pub fn of_margins(
    deployed: &Deployed,
    matrices: &Matrices<'_>,
    region: &Region<'_>,
    from: usize,
    claim: &Margin,
) -> Option<Lipschitz> {
    let model = deployed.model;
    if model.coded_head.is_some() {
        return None;
    }
    let (mut domain, rows) = Affine::new(deployed, matrices, region, Vec::new());
    domain.waits = false;
    let reach = Reach::of(&domain.inputs, &domain.forms(&rows))?;
    let mut x = rows;
    for index in from..model.layers.len() {
        let last = index + 1 == model.layers.len();
        let read = if last { Read::Last } else { Read::All };
        x = walk::layer(&mut domain, model, index, &x, 0, read);
    }
    let count = domain.count(&x);
    let x = domain.select(&x, count - 1..count);
    let at = Site { layer: model.layers.len(), step: Step::Norm(NormSlot::Final) };
    let normed = domain.norm(at, &x, &model.final_norm);
    let logits =
        domain.interval.logits(Site { step: Step::Logits, ..at }, &normed.boxes, &model.head);
    if domain.diverged().is_some() {
        return None;
    }
    domain.margin_pairs(&reach, &normed, &logits, claim)
}

impl Affine<'_> {
    /// The pair that holds for the margins of a claim over all its rivals.
    fn margin_pairs(
        &self,
        reach: &Reach,
        x: &Rows,
        logits: &Boxes,
        claim: &Margin,
    ) -> Option<Lipschitz> {
        let Shape::Normed(normed) = &x.shape else { return None };
        let normed = &normed[claim.row];
        let ends = ends_of(logits, claim.row);
        let width = |of: usize| ends[of].1 - ends[of].0;
        let all: Vec<usize> =
            if claim.rivals.is_empty() { (0..ends.len()).collect() } else { claim.rivals.clone() };
        let rivals: Vec<usize> = all.into_iter().filter(|&rival| rival != claim.winner).collect();
        let pairs = rivals.chunks(TOGETHER).flat_map(|some| {
            let pairs = match self.margins_as_forms(normed, claim.winner, some) {
                Some(form) => reach.pairs(&self.inputs, &form),
                None => vec![(0.0, f64::INFINITY); some.len()],
            };
            let widths = some.iter().map(|&rival| width(claim.winner) + width(rival));
            pairs.into_iter().zip(widths).map(capped).collect::<Vec<_>>()
        });
        Some(largest(pairs))
    }

    /// The margins of the winner over some rivals, behind the final norm, as the engine has them.
    fn margins_as_forms(&self, normed: &Normed, winner: usize, rivals: &[usize]) -> Option<Form> {
        if !normed.regular {
            return None;
        }
        let (kernels, inputs): (&Kernels, _) = (self.kernels, &self.inputs);
        let (lo, hi) = &normed.ends;
        let quotient = Quotient::new(kernels, inputs, &normed.form, (lo, hi), normed.eps)?;
        let last = self.final_of(normed, &self.model.head);
        let (w, error) = last.projected(winner, rivals);
        let mut margins = normed.form.product(kernels, &w);
        quotient.divide(kernels, inputs, &mut margins);
        for (rest, (divided, absolute)) in margins.rest.iter_mut().zip(error) {
            *rest += divided / quotient.least + absolute;
        }
        Some(margins)
    }
}

/// How far each symbol of the input moves its cell.
struct Reach {
    radii: Vec<f64>,
    /// Whether changes are measured in the Euclidean norm.
    euclid: bool,
}

impl Reach {
    /// Of the forms that enter; `None` where symbols stand for choices and not for cells.
    fn of(inputs: &Inputs, entering: &[Arc<Form>]) -> Option<Self> {
        let euclid = match inputs.bound {
            Bound::Each => false,
            Bound::Euclid => true,
            Bound::Simplex | Bound::Budget(_) => return None,
        };
        let mut radii = vec![0.0; inputs.end];
        for form in entering {
            let symbols = form.spans.iter().flat_map(|span| span.first..span.first + span.count);
            for (symbol, row) in symbols.zip(form.g.chunks_exact(form.width())) {
                // One cell a symbol: all others are 0.
                radii[symbol] = row.iter().map(|x| x.abs()).sum();
            }
        }
        Some(Self { radii, euclid })
    }

    /// The pair `(bound, slack)` of each value of a form.
    fn pairs(&self, inputs: &Inputs, form: &Form) -> Vec<(f64, f64)> {
        let width = form.width();
        let mut bounds = vec![0.0; width];
        let mut slack = form.rest.clone();
        let symbols = form.spans.iter().flat_map(|span| span.first..span.first + span.count);
        for (symbol, row) in symbols.zip(form.g.chunks_exact(width)) {
            if symbol >= inputs.end {
                slack.iter_mut().zip(row).for_each(|(slack, g)| *slack += g.abs());
                continue;
            }
            for (bound, g) in bounds.iter_mut().zip(row) {
                let rate = g.abs() / self.radii[symbol];
                *bound += if self.euclid { rate * rate } else { rate };
            }
        }
        let bounds = bounds.into_iter().map(|sum: f64| if self.euclid { sum.sqrt() } else { sum });
        // Either point may have any value of what is no symbol of the input.
        bounds.zip(slack).map(|(bound, slack)| (bound * ROOM, 2.0 * slack * ROOM)).collect()
    }
}

/// No two values are farther apart than their box is wide.
fn capped(((bound, slack), width): ((f64, f64), f64)) -> (f64, f64) {
    let width = width * ROOM;
    if slack <= width { (bound, slack) } else { (0.0, width) }
}

/// The pair that holds for all of them.
fn largest(pairs: impl Iterator<Item = (f64, f64)>) -> Lipschitz {
    let larger = |a: f64, b: f64| if b > a || b.is_nan() { b } else { a };
    let none = Lipschitz { bound: 0.0, slack: 0.0 };
    pairs.fold(none, |most, (bound, slack)| Lipschitz {
        bound: larger(most.bound, bound),
        slack: larger(most.slack, slack),
    })
}

#[cfg(test)]
mod tests {
    use super::super::form::Span;
    use super::*;
    use ndarray::arr2;

    /// Two cells of radii 0.5 and 4, a symbol of another kind, and a box.
    fn form() -> Form {
        let spans = vec![Span { first: 0, count: 2 }, Span { first: 2, count: 1 }];
        Form { c: vec![7.0], spans, g: vec![1.0, -2.0, 0.25], rest: vec![0.125] }
    }

    fn pair(bound: Bound) -> (f64, f64) {
        let reach = Reach { radii: vec![0.5, 4.0], euclid: bound == Bound::Euclid };
        let inputs = Inputs::new(2, bound);
        reach.pairs(&inputs, &form())[0]
    }

    #[test]
    fn each_cell_counts_by_its_own_radius_and_all_else_counts_twice() {
        let (bound, slack) = pair(Bound::Each);
        assert!((2.5..2.5 * (1.0 + 1e-8)).contains(&bound), "{bound}");
        assert!((0.75..0.75 * (1.0 + 1e-8)).contains(&slack), "{slack}");
        let (bound, slack) = pair(Bound::Euclid);
        let exact = 4.25f64.sqrt();
        assert!((exact..exact * (1.0 + 1e-8)).contains(&bound), "{bound}");
        assert!((0.75..0.75 * (1.0 + 1e-8)).contains(&slack), "{slack}");
    }

    #[test]
    fn radii_are_those_of_the_cells_that_move() {
        let (clean, lo) = (arr2(&[[9.0f32, 9.0, 1.0]]), arr2(&[[1.0f32, 2.0, -3.0]]));
        let ball = Ball::Boxes { lo, hi: arr2(&[[2.0, 2.0, 1.0]]) };
        let region = Region { clean: &clean, moved: 0..1, ball };
        let (inputs, forms) = Inputs::of(&region);
        let forms: Vec<Arc<Form>> = forms.into_iter().map(Arc::new).collect();
        let reach = Reach::of(&inputs, &forms).expect("cells");
        // A point of the box lies within: rounded up, and by no more than an ulp.
        assert_eq!(reach.radii, [0.5f64.next_up(), 2f64.next_up()]);
        let pairs = reach.pairs(&inputs, &forms[0]);
        let near = |(bound, slack): (f64, f64), one: f64| {
            assert!(slack == 0.0 && (one..=one * ROOM).contains(&bound), "{bound} {slack}");
        };
        near(pairs[0], 1.0);
        near(pairs[1], 0.0);
        near(pairs[2], 1.0);
    }

    #[test]
    fn symbols_that_are_choices_say_nothing_of_distances() {
        let inputs = Inputs::new(2, Bound::Simplex);
        assert!(Reach::of(&inputs, &[Arc::new(form())]).is_none());
    }

    #[test]
    fn the_width_of_a_box_is_taken_where_it_is_below_the_slack() {
        assert_eq!(capped(((3.0, 0.5), 0.25)), (0.0, 0.25 * ROOM));
        assert_eq!(capped(((3.0, 0.5), 0.75)), (3.0, 0.5));
        assert_eq!(capped(((f64::NAN, f64::NAN), 0.75)).1, 0.75 * ROOM);
    }
}

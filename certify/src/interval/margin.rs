//! Lower bounds of margins between two logits, better than the difference of their boxes.
//!
//! Three bounds, each sound, the best counts:
//! 1. the lower end of one logit less the upper end of the other;
//! 2. the projected row: the least of `sum (w_y - w_k) x` over the box, over the reals, less the
//!    engine's errors of both dot products, `(n / 16 + 6) u sum |w| |x|` each;
//! 3. the same through the final norm: `x = g z / r` with `r > 0`, so the least of
//!    `sum (w_y - w_k) g z` over the box of `z`, divided by the extreme `r`, keeps what the hull of
//!    the norm loses.

use engine::model::{Float, Linear, Weights};
use engine::numerics::boxes::SMALLEST_MEAN;
use ndarray::Array2;

use super::linear::PROJECTED_ERROR;
use super::norm::Normed;
use super::quantize::BoxCodes;
use super::round::{UNIT, least64, most64};
use super::{BoxPrepared, Boxes, Origin};

/// A margin to bound: at `row`, the logit of `winner` over those of all rivals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Margin {
    /// The row of the logits.
    pub row: usize,
    /// The class that must win.
    pub winner: usize,
    /// The classes that it must beat; empty = all others.
    pub rivals: Vec<usize>,
}

/// Lower bounds of the claimed margins: the least over all rivals.
#[derive(Clone, Debug, Default)]
pub struct Margins {
    /// One bound a claim, in its order.
    pub lower: Vec<f64>,
}

pub(super) fn margins(claims: &[Margin], x: &Boxes, logits: &Boxes, head: &Float) -> Margins {
    let lower = claims.iter().map(|claim| {
        let winner = Winner::new(claim, x, head);
        margin(claim, logits, |rival| winner.over(rival, head))
    });
    Margins { lower: lower.collect() }
}

/// The same for a head of integers on quantised rows: both logits read the same codes under the
/// same scale, so the difference of two rows of weights is taken over the box of codes.
pub(super) fn coded_margins(
    claims: &[Margin],
    x: &BoxPrepared,
    logits: &Boxes,
    head: &Linear,
) -> Margins {
    let lower = claims.iter().map(|claim| {
        let (Weights::Coded(coded), Some(codes)) = (&head.weights, &x.codes) else {
            return margin(claim, logits, |_| f64::NEG_INFINITY);
        };
        let own: Vec<f64> = coded.weights(claim.winner).collect();
        margin(claim, logits, |rival| over_codes(&own, coded.weights(rival), codes, claim.row))
    });
    Margins { lower: lower.collect() }
}

/// A lower bound of the engine's logit of weights `own` less that of weights `other`.
fn over_codes(own: &[f64], other: impl Iterator<Item = f64>, codes: &BoxCodes, row: usize) -> f64 {
    let (lower, widths, (t_lo, t_hi)) = codes.row(row);
    let (mut least, mut magnitudes) = (0f64, 0f64);
    for ((&a, b), (&lo, &width)) in own.iter().zip(other).zip(lower.iter().zip(widths)) {
        let (lo, hi) = (f64::from(lo), f64::from(lo) + f64::from(width));
        let w = a - b;
        let end = if w >= 0.0 { lo } else { hi };
        least += w * end;
        magnitudes += (a.abs() + b.abs()) * most64(lo, hi);
    }
    let least = least - magnitudes * own.len() as f64 * 4.0 * f64::EPSILON;
    let scaled = least / f64::from(if least >= 0.0 { t_hi } else { t_lo });
    // Each logit is within three roundings of its sum under both scales.
    scaled - magnitudes / f64::from(t_lo) * PROJECTED_ERROR - 1e-37
}

/// Rivals that are looked at closely before a margin that is already lost is given up.
const CLOSELY: usize = 512;

/// The least bound over all rivals: the worst by plain difference first, closely; who cannot be the
/// least any more is passed over, and once the margin is lost the plain differences of the rest do.
fn margin(claim: &Margin, logits: &Boxes, over: impl Fn(usize) -> f64) -> f64 {
    let low = f64::from(logits.lo[[claim.row, claim.winner]]);
    let plain = |rival: usize| (low - f64::from(logits.hi[[claim.row, rival]]), rival);
    let mut rivals: Vec<(f64, usize)> = if claim.rivals.is_empty() {
        (0..logits.lo.ncols()).filter(|&rival| rival != claim.winner).map(plain).collect()
    } else {
        claim.rivals.iter().filter(|&&rival| rival != claim.winner).map(|&r| plain(r)).collect()
    };
    rivals.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let mut least = f64::INFINITY;
    for (count, &(plain, rival)) in rivals.iter().enumerate() {
        let lost = count >= CLOSELY && least <= 0.0;
        if plain >= least || plain.is_nan() || lost {
            // The rest are no worse than this one by plain difference.
            return if plain < least || plain.is_nan() { plain } else { least };
        }
        let close = over(rival);
        let bound = if close > plain { close } else { plain };
        least = if bound < least { bound } else { least };
    }
    least
}

/// The row at which a margin is bounded, with the winner's weights.
struct Winner<'a> {
    lo: Vec<f64>,
    hi: Vec<f64>,
    weights: Vec<f32>,
    normed: Option<Projection<'a>>,
}

/// The row before the final norm.
struct Projection<'a> {
    source: &'a Normed,
    /// The ends of the row.
    ends: (Vec<f64>, Vec<f64>),
    /// The range of `1 / r`.
    inverse: (f64, f64),
}

impl<'a> Winner<'a> {
    fn new(claim: &Margin, x: &'a Boxes, head: &Float) -> Self {
        let mut weights = vec![0.0; head.columns()];
        head.read_row(claim.winner, &mut weights);
        let wide = |ends: &Array2<f32>| ends.row(claim.row).mapv(f64::from).to_vec();
        let normed = match &x.origin {
            Origin::Normed(source) => Projection::new(source, claim.row),
            _ => None,
        };
        Self { lo: wide(&x.lo), hi: wide(&x.hi), weights, normed }
    }

    /// A lower bound of the engine's logit of the winner less that of a rival.
    fn over(&self, rival: usize, head: &Float) -> f64 {
        let mut other = vec![0.0; head.columns()];
        head.read_row(rival, &mut other);
        let n = other.len() as f64;
        let (mut least, mut magnitudes) = (0f64, 0f64);
        for (k, (&a, &b)) in self.weights.iter().zip(&other).enumerate() {
            let (lo, hi) = (self.lo[k], self.hi[k]);
            let w = f64::from(a) - f64::from(b);
            least += w * if w >= 0.0 { lo } else { hi };
            magnitudes += (f64::from(a).abs() + f64::from(b).abs()) * most64(lo, hi);
        }
        // Engine: one unit a product, n / 16 + 4 additions a lane and tree; here: n f64 additions.
        let error = magnitudes * ((n / 16.0 + 6.0) * UNIT * 1.01 + n * 4.0 * f64::EPSILON) + 1e-37;
        let direct = least - error;
        let through = self.normed.as_ref().map_or(f64::NEG_INFINITY, |projection| {
            let difference = |k: usize| f64::from(self.weights[k]) - f64::from(other[k]);
            projection.least(difference) - error
        });
        if through > direct { through } else { direct }
    }
}

impl<'a> Projection<'a> {
    fn new(source: &'a Normed, row: usize) -> Option<Self> {
        let ends = source.z.row(row).to_wide();
        let n = ends.0.len() as f64;
        let sum = |pick: fn(f64, f64) -> f64| -> f64 {
            ends.0.iter().zip(&ends.1).map(|(&lo, &hi)| pick(lo, hi) * pick(lo, hi)).sum()
        };
        let slack = (n + 8.0) * f64::EPSILON;
        let least = sum(least64) * (1.0 - slack) / n + source.eps[row].0;
        let most = sum(most64) * (1.0 + slack) / n + source.eps[row].1;
        let inverse = (1.0 / most.sqrt(), 1.0 / least.sqrt());
        (least > SMALLEST_MEAN && inverse.1.is_finite()).then_some(Self { source, ends, inverse })
    }

    /// A lower bound of `sum difference(k) y_k` for the engine's normed values `y`.
    fn least(&self, difference: impl Fn(usize) -> f64) -> f64 {
        let (lo, hi) = &self.ends;
        let (mut least, mut magnitudes) = (0f64, 0f64);
        for (k, &gain) in self.source.gains.iter().enumerate() {
            let w = difference(k) * f64::from(gain);
            least += w * if w >= 0.0 { lo[k] } else { hi[k] };
            magnitudes += w.abs() * most64(lo[k], hi[k]);
        }
        let n = lo.len() as f64;
        let bound = least - magnitudes * n * 4.0 * f64::EPSILON;
        let scaled = bound * if bound >= 0.0 { self.inverse.0 } else { self.inverse.1 };
        // Each normed value is within the norm's error of g z / r.
        scaled - magnitudes * self.inverse.1 * (self.source.error + 1e-12) - 1e-37
    }
}

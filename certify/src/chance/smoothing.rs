//! Randomized smoothing (Cohen, Rosenfeld and Kolter 2019) with noise on a lattice.
//!
//! The *base* classifier `F` rounds every moved number to the lattice of step `h = sigma / 4096`
//! and asks the engine. The *smoothed* classifier rounds its input to the lattice too, and gives
//! the class that `F` takes with the largest probability under Gaussian noise of deviation
//! `sigma`. A Gaussian about a lattice point, rounded to the lattice, is an integer number of
//! steps with the law of [`RoundedGaussian`]: so trials are exact up to a total variation that is
//! known and subtracted, and Cohen's theorem, which holds for every measurable base classifier,
//! holds for `F` over the reals. The argument with its constants is in `SOUNDNESS.md`.

use engine::numerics::one_sided;
use ndarray::{Array2, s};

use super::noise::{Numbers, Phase, RoundedGaussian, STEPS, Source};
use super::normal::quantile_low;
use super::{Around, votes};
use crate::attack::Stop;

/// How a classifier is smoothed and how its class is estimated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Smoothing {
    /// Standard deviation of the noise.
    pub sigma: f64,
    /// Trials that select the class.
    pub selection: u64,
    /// Trials that bound its probability; none of the former.
    pub estimation: u64,
}

/// The lattice point that an input is rounded to.
#[derive(Clone, Debug)]
pub struct Anchor {
    step: f64,
    indices: Array2<i64>,
    loss: f64,
}

/// Inputs may lie this many steps from zero, half of what the argument allows.
const FARTHEST: f64 = 536_870_912.0;
/// Above every relative rounding of the few f64 operations behind a radius.
const ROUNDING: f64 = 1.0 / 1_048_576.0;

impl Anchor {
    /// Rounds the moved rows to the lattice of a smoothed classifier.
    ///
    /// `None` if `sigma` is below 2^-17 of the largest magnitude (or not positive and normal, or
    /// something is not a number): the lattice would be finer than the numbers themselves.
    #[must_use]
    pub fn of(around: &Around, sigma: f64) -> Option<Self> {
        let step = sigma / f64::from(STEPS);
        if !(step.is_normal() && step > 0.0) {
            return None;
        }
        let rows = around.clean.slice(s![around.moved.clone(), ..]);
        if !rows.iter().all(|&value| f64::from(value).abs() / step <= FARTHEST) {
            return None;
        }
        let indices = rows.mapv(|value| (f64::from(value) / step).round_ties_even() as i64);
        // A product of a step and an index below 2^30 is off by less than 2^-22 of a step.
        let squares = rows.iter().zip(&indices).map(|(&value, &index)| {
            let away = (f64::from(value) - step * index as f64).abs() + step / 4_194_304.0;
            away * away
        });
        let away = squares.sum::<f64>().sqrt();
        // Another input of the ball is rounded by half a step a number, and so is its quotient.
        let others = (around.dimensions() as f64).sqrt() * step * (0.5 + ROUNDING);
        Some(Self { step, indices, loss: (away + others) * (1.0 + ROUNDING) })
    }

    /// The certified radius about the input that was rounded, of the smoothed classifier that
    /// rounds its inputs: 0 if it is below what rounding may move.
    #[must_use]
    pub fn radius(&self, probability_low: f64) -> f64 {
        let left = lattice_radius(self.step * f64::from(STEPS), probability_low) - self.loss;
        if left > 0.0 { left * (1.0 - ROUNDING) } else { 0.0 }
    }

    /// Replaces moved rows by the lattice point and some steps of noise, rounded to f32.
    fn draw(&self, table: &RoundedGaussian, numbers: &mut Numbers, rows: &mut [f32]) {
        for (value, &index) in rows.iter_mut().zip(&self.indices) {
            *value = (self.step * (index + numbers.steps(table)) as f64) as f32;
        }
    }
}

/// Cohen's radius, `sigma` times the quantile of the probability, rounded down.
///
/// Within it every *lattice point* about the anchor has the same class.
#[must_use]
pub fn lattice_radius(sigma: f64, probability_low: f64) -> f64 {
    sigma * quantile_low(probability_low) * (1.0 - ROUNDING)
}

/// What trials found about the smoothed classifier at one input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Poll {
    /// The class that the selection chose; `None` if it saw no number.
    pub class: Option<usize>,
    /// Trials of the estimation.
    pub trials: u64,
    /// Those that decided for the class.
    pub votes: u64,
}

impl Poll {
    /// A lower bound of the probability of the class, which fails with probability `alpha` at most.
    ///
    /// The total variation between the noise drawn and the Gaussian, over all numbers that move, is
    /// taken off.
    #[must_use]
    pub fn probability_low(&self, alpha: f64, dimensions: usize) -> f64 {
        let drawn = one_sided(self.votes, self.trials, alpha).low;
        let low = (drawn - RoundedGaussian::DISTANCE * dimensions as f64).next_down();
        if low > 0.0 { low } else { 0.0 }
    }
}

/// Whether a bound of a probability decides for the class; if not, the classifier abstains.
#[must_use]
pub fn decides(probability_low: f64) -> bool {
    probability_low > 0.5
}

/// Selects a class and counts its votes; `None` if stopped before the last trial.
pub fn poll(
    around: &Around,
    (anchor, table): (&Anchor, &RoundedGaussian),
    smoothing: &Smoothing,
    source: &Source,
    classifier: &(impl Fn(&Array2<f32>) -> Option<usize> + Sync),
    stop: Stop,
) -> Option<Poll> {
    let width = around.clean.ncols();
    let point = |numbers: &mut Numbers, stream: &mut Array2<f32>| {
        let all = stream.as_slice_mut().expect("standard rows");
        anchor.draw(table, numbers, &mut all[around.moved.start * width..around.moved.end * width]);
    };
    let of = |phase, trials| votes(around, source, (phase, trials), classifier, point, stop);
    let first = of(Phase::Selection, smoothing.selection)?;
    // The most votes; the lowest class on ties.
    let most = first.iter().filter_map(|(class, &count)| class.map(|class| (class, count)));
    let most = most.reduce(|best, next| if next.1 > best.1 { next } else { best });
    let trials = smoothing.estimation;
    let Some((class, _)) = most else {
        return Some(Poll { class: None, trials, votes: 0 });
    };
    let second = of(Phase::Estimation, trials)?;
    let votes = second.get(&Some(class)).copied().unwrap_or(0);
    Some(Poll { class: Some(class), trials, votes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::arr2;

    const SOURCE: Source = Source { seed: 3, sample: 0, set: 0 };

    #[test]
    fn an_anchor_takes_rounding_off_the_radius() {
        let clean = arr2(&[[0.25f32, -1.0], [0.1, 0.2]]);
        let anchor = Anchor::of(&Around { clean: &clean, moved: 0..1 }, 0.5).expect("a lattice");
        assert_eq!(anchor.indices, arr2(&[[2048, -8192]]));
        // On the lattice: what is lost is half the diagonal of a cell, and next to nothing more.
        let diagonal = 0.5 * 2f64.sqrt() * 0.5 / 4096.0;
        assert!((diagonal..diagonal * 1.001).contains(&anchor.loss), "{anchor:?}");
        let (all, kept) = (lattice_radius(0.5, 0.99), anchor.radius(0.99));
        assert!(all <= 0.5 * 2.326_347_874_040_841 && all > 0.5 * 2.326_34);
        assert!(kept < all - diagonal && kept > all - 1.1 * diagonal);
        assert_eq!(anchor.radius(0.5), 0.0);
        let off = Anchor::of(&Around { clean: &clean, moved: 1..2 }, 0.5).expect("a lattice");
        assert!(off.loss > anchor.loss);
    }

    #[test]
    fn a_lattice_finer_than_the_numbers_is_refused() {
        let clean = arr2(&[[1.0f32]]);
        let around = Around { clean: &clean, moved: 0..1 };
        assert!(Anchor::of(&around, 1e-5).is_some());
        for sigma in [5e-6, 0.0, -1.0, f64::NAN, f64::INFINITY, 1e-310] {
            assert!(Anchor::of(&around, sigma).is_none(), "{sigma}");
        }
        let around = Around { clean: &arr2(&[[f32::NAN]]), moved: 0..1 };
        assert!(Anchor::of(&around, 1.0).is_none());
    }

    fn polled(threshold: f32) -> Poll {
        let clean = Array2::zeros((2, 3));
        let around = Around { clean: &clean, moved: 1..2 };
        let anchor = Anchor::of(&around, 0.5).expect("a lattice");
        let classifier = move |x: &Array2<f32>| {
            assert!(x.row(0).iter().all(|&value| value == 0.0));
            Some(usize::from(x[[1, 2]] > threshold))
        };
        let smoothing = Smoothing { sigma: 0.5, selection: 50, estimation: 4000 };
        let table = RoundedGaussian::new();
        let stop = Stop::NEVER;
        poll(&around, (&anchor, &table), &smoothing, &SOURCE, &classifier, stop).expect("all")
    }

    #[test]
    fn the_votes_of_a_half_space_are_those_of_the_gaussian() {
        // Phi(1) of 4000; four standard deviations are 93.
        for (threshold, class) in [(0.5, 0), (-0.5, 1)] {
            let found = polled(threshold);
            assert_eq!(found.class, Some(class));
            assert!(found.votes.abs_diff(3365) < 93, "{found:?}");
        }
    }

    #[test]
    fn an_even_vote_abstains_and_no_number_has_no_class() {
        let even = polled(0.0);
        assert!(!decides(even.probability_low(0.01, 3)), "{even:?}");
        assert!(decides(polled(0.5).probability_low(0.01, 3)));
        let nothing = Poll { class: None, trials: 100, votes: 0 };
        assert_eq!(nothing.probability_low(0.01, 3), 0.0);
    }

    #[test]
    fn the_distance_of_the_noise_is_taken_off() {
        let all = Poll { class: Some(0), trials: 1000, votes: 1000 };
        let (few, many) = (all.probability_low(0.01, 1), all.probability_low(0.01, 1 << 40));
        assert!((few - many - (1.0 - f64::EPSILON) / 32.0).abs() < 1e-12, "{few} {many}");
    }
}

//! How likely the deployed engine is to change its decision, when its input moves at random.
//!
//! The law of the noise is part of the statement: every moved number independently, evenly in its
//! interval of the box, by the program of [`super::noise::Numbers::uniform`]. Of `n` such trials
//! `k` decided otherwise; the upper Clopper-Pearson bound of the rate holds with the confidence
//! asked for, whatever the model. Zero changes bound the probability by about `ln(1 / alpha) / n`
//! (at 95 % the rule of three).

use engine::numerics::one_sided;
use ndarray::{Array2, s};

use super::noise::{Numbers, Phase, Source};
use super::{Around, votes};
use crate::attack::Stop;

/// How trials ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Changes {
    /// Trials.
    pub trials: u64,
    /// Those that decided otherwise, or whose logits were not numbers.
    pub changed: u64,
}

impl Changes {
    /// An upper bound of the probability of a change that fails with probability `alpha` at most.
    #[must_use]
    pub fn probability_high(&self, alpha: f64) -> f64 {
        one_sided(self.changed, self.trials, alpha).high
    }
}

/// Counts how often `classifier` leaves the decision `clean` in the box of radius `epsilon`; `None`
/// if stopped before the last trial.
pub fn changes(
    around: &Around,
    epsilon: f64,
    (source, trials): (&Source, u64),
    clean: usize,
    classifier: &(impl Fn(&Array2<f32>) -> Option<usize> + Sync),
    stop: Stop,
) -> Option<Changes> {
    let point = |numbers: &mut Numbers, stream: &mut Array2<f32>| {
        for value in stream.slice_mut(s![around.moved.clone(), ..]) {
            *value = numbers.uniform(*value, epsilon);
        }
    };
    let votes = votes(around, source, (Phase::Uniform, trials), classifier, point, stop)?;
    let kept = votes.get(&Some(clean)).copied().unwrap_or(0);
    Some(Changes { trials, changed: trials - kept })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: Source = Source { seed: 1, sample: 0, set: 0 };

    fn count(clean: &Array2<f32>, trials: u64, stop: Stop) -> Option<Changes> {
        let classifier = |x: &Array2<f32>| Some(usize::from(x[[1, 0]] > 0.02));
        let around = Around { clean, moved: 1..2 };
        changes(&around, 0.1, (&SOURCE, trials), 0, &classifier, stop)
    }

    #[test]
    fn only_the_moved_rows_move_and_each_change_is_counted() {
        let clean = Array2::zeros((3, 4));
        let found = count(&clean, 2000, Stop::NEVER).expect("all trials");
        // Four tenths of the interval decide otherwise; four standard deviations are 88.
        assert!(found.changed.abs_diff(800) < 88, "{found:?}");
        let moved = |x: &Array2<f32>| {
            let still = x.row(0).iter().chain(x.row(2)).all(|&value| value == 0.0);
            let free = x.row(1).iter().all(|&value| value != 0.0 && value.abs() <= 0.1);
            (still && free).then_some(0)
        };
        let around = Around { clean: &clean, moved: 1..2 };
        let found = changes(&around, 0.1, (&SOURCE, 100), 0, &moved, Stop::NEVER);
        assert_eq!(found, Some(Changes { trials: 100, changed: 0 }));
    }

    #[test]
    fn a_longer_run_begins_with_a_shorter_one_and_a_stopped_one_says_nothing() {
        let clean = Array2::zeros((2, 4));
        let (short, long) = (count(&clean, 100, Stop::NEVER), count(&clean, 101, Stop::NEVER));
        let more = long.expect("all trials").changed - short.expect("all trials").changed;
        assert!(more <= 1);
        assert_eq!(count(&clean, 100, Stop(&|| true)), None);
    }

    #[test]
    fn no_change_gives_the_rule_of_three() {
        let none = Changes { trials: 1000, changed: 0 };
        assert!((none.probability_high(0.05) - 3.0 / 1000.0).abs() < 1e-5);
        let all = Changes { trials: 1000, changed: 1000 };
        assert_eq!(all.probability_high(0.05), 1.0);
        assert_eq!(Changes { trials: 0, changed: 0 }.probability_high(0.05), 1.0);
    }
}

//! What the trials of a campaign come to, counted in the order of their numbers.
//!
//! Invariant: a tally is a pure function of the sequence of records. Sums of floats are taken in
//! that order and no other, so they do not depend on who computed which trial when.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use crate::ecc::BehindTally;
use crate::outcome::{Cause, Outcome};
use crate::record::Record;
use crate::space::Target;
use crate::stats::bounded_mean;
use engine::numerics::{RateInterval, clopper_pearson};

/// What a change of a negative log-likelihood counts at most where a mean has an interval, in nats:
/// of what may be arbitrarily large no number of trials bounds the mean.
pub const MOST_NLL_CHANGE: f64 = 8.0;

/// Outcomes and shifts of some trials.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Summary {
    /// Trials.
    pub trials: u64,
    /// Those whose decision did not change, the identical ones included.
    pub masked: u64,
    /// Those whose logits are all the same, bit for bit.
    pub identical: u64,
    /// Those whose decision changed.
    pub sdc: u64,
    /// Those that were detected.
    pub due: u64,
    /// Bits that were struck, over all trials.
    pub flips: u64,
    /// Trials on labelled samples.
    pub labelled: u64,
    /// Those of them whose decision was right under the fault; a detected fault gives none.
    pub correct: u64,
    /// Those of them whose clean decision was right.
    pub clean_correct: u64,
    /// Those that changed the best token at some position.
    pub token_changes: u64,
    /// Trials for which token changes were looked for.
    pub token_trials: u64,
    /// Trials with finite shifts: the divisor of the means of the sums below.
    pub shifted: u64,
    /// Sum of the divergences, in nats.
    pub kl_sum: f64,
    /// The largest divergence, in nats.
    pub kl_max: f64,
    /// Sum of the changes of the negative log-likelihood, in nats.
    pub nll_change_sum: f64,
    /// Sums of its rises and of its falls, each counted as at most 1 and in units of
    /// [`MOST_NLL_CHANGE`]: of what is bounded a mean has an interval.
    pub nll_sums: [f64; 2],
    /// Sum of the losses of margin, in logits.
    pub margin_loss_sum: f64,
    /// The largest loss of margin, in logits; 0 if no margin fell.
    pub margin_loss_max: f64,
    /// The largest change of a logit at a read-out.
    pub logit_change_max: f64,
}

impl Summary {
    fn add(&mut self, record: &Record) {
        let trial = &record.trial;
        self.trials += 1;
        self.flips += record.struck() as u64;
        if let Some(label) = record.label {
            self.labelled += 1;
            self.correct += u64::from(trial.decision == Some(label));
            self.clean_correct += u64::from(record.before == label);
        }
        match trial.outcome {
            Outcome::Masked { identical } => {
                self.masked += 1;
                self.identical += u64::from(identical);
            }
            Outcome::Due(_) => self.due += 1,
            Outcome::Sdc => self.sdc += 1,
        }
        if let Some(changed) = trial.any_token_change {
            self.token_trials += 1;
            self.token_changes += u64::from(changed);
        }
        if let Some(shift) = trial.shift {
            self.shifted += 1;
            self.kl_sum += shift.kl_divergence;
            self.nll_change_sum += shift.nll_change;
            for (sum, change) in self.nll_sums.iter_mut().zip([shift.nll_change, -shift.nll_change])
            {
                *sum += (change / MOST_NLL_CHANGE).clamp(0.0, 1.0);
            }
            self.margin_loss_sum += shift.margin_loss;
            raise(&mut self.kl_max, shift.kl_divergence);
            raise(&mut self.margin_loss_max, shift.margin_loss);
            raise(&mut self.logit_change_max, shift.max_logit_change);
        }
    }

    /// The share of silent corruptions, with its interval at a confidence.
    #[must_use]
    pub fn sdc_rate(&self, confidence: f64) -> Rate {
        Rate::of(self.sdc, self.trials, confidence)
    }

    /// The share of detected faults.
    #[must_use]
    pub fn due_rate(&self, confidence: f64) -> Rate {
        Rate::of(self.due, self.trials, confidence)
    }

    /// The share of masked faults.
    #[must_use]
    pub fn masked_rate(&self, confidence: f64) -> Rate {
        Rate::of(self.masked, self.trials, confidence)
    }

    /// The share of faults that changed a token somewhere.
    #[must_use]
    pub fn token_change_rate(&self, confidence: f64) -> Rate {
        Rate::of(self.token_changes, self.token_trials, confidence)
    }

    /// The share of right decisions among trials on labelled samples.
    #[must_use]
    pub fn accuracy(&self, confidence: f64) -> Rate {
        Rate::of(self.correct, self.labelled, confidence)
    }

    /// The mean change of the negative log-likelihood, each change counted as at most
    /// [`MOST_NLL_CHANGE`] up or down, in nats, and its ends at a confidence, from a number of
    /// trials fixed before. Without any no mean, and the widest ends.
    #[must_use]
    pub fn nll_change(&self, confidence: f64) -> (Option<f64>, [f64; 2]) {
        // Four ends, each of which may fail.
        let part = |sum| bounded_mean(sum, self.shifted, 0.5 * (1.0 - confidence));
        let [rise, fall] = self.nll_sums.map(part);
        // A difference and a product: two roundings.
        let wide = |end: f64| MOST_NLL_CHANGE * (end + 2.0 * f64::EPSILON * end.abs());
        let ends = [-wide(fall.high - rise.low), wide(rise.high - fall.low)];
        let mean = self.mean(self.nll_sums[0] - self.nll_sums[1]);
        (mean.map(|mean| mean * MOST_NLL_CHANGE), ends)
    }

    /// The mean of one of the sums; `None` if there is nothing to divide by.
    #[must_use]
    pub fn mean(&self, sum: f64) -> Option<f64> {
        (self.shifted > 0).then(|| sum / self.shifted as f64)
    }
}

fn raise(top: &mut f64, value: f64) {
    if value > *top {
        *top = value;
    }
}

/// A share of trials with its exact interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// The share; 0 of no trials, where the interval is [0, 1].
    pub share: f64,
    /// Its Clopper-Pearson interval.
    pub interval: RateInterval,
}

impl Rate {
    /// The rate of some events among trials.
    ///
    /// # Panics
    /// If the confidence is not between 0 and 1; see [`clopper_pearson`].
    #[must_use]
    pub fn of(events: u64, trials: u64, confidence: f64) -> Self {
        let share = if trials == 0 { 0.0 } else { events as f64 / trials as f64 };
        Self { share, interval: clopper_pearson(events, trials, 1.0 - confidence) }
    }
}

/// What a campaign, or a prefix of one, comes to.
///
/// A trial of several flips is counted once under each layer and each bit that it struck; check
/// bits of a memory code are of none.
#[derive(Clone, Debug, PartialEq)]
pub struct Tally {
    /// How many trials are in it.
    pub trials: u64,
    /// By stratum of the plan.
    pub strata: BTreeMap<usize, Summary>,
    /// By stratum of the plan, where it lies behind a memory code.
    pub behind: BTreeMap<usize, BehindTally>,
    /// By target.
    pub targets: BTreeMap<Target, Summary>,
    /// By target and layer; `None` stands for the embedding, the final norm and the head.
    pub layers: BTreeMap<(Target, Option<usize>), Summary>,
    /// By target and bit within the code or the stored value.
    pub bits: BTreeMap<(Target, u8), Summary>,
    /// The worst trials: most severe first, then by the largest change of a logit (what is not
    /// finite counts as infinite), then by number. Never here are identical ones, and those that a
    /// memory code flagged: no model ran.
    pub worst: Vec<Record>,
    /// The most bits that flipped in one trial.
    pub most_flips: usize,
    keep: usize,
    /// The least number that the next trial may have.
    next: u64,
}

impl Tally {
    /// An empty tally that keeps a number of worst trials.
    #[must_use]
    pub fn new(keep: usize) -> Self {
        Self {
            trials: 0,
            strata: BTreeMap::new(),
            behind: BTreeMap::new(),
            targets: BTreeMap::new(),
            layers: BTreeMap::new(),
            bits: BTreeMap::new(),
            worst: Vec::new(),
            most_flips: 0,
            keep,
            next: 0,
        }
    }

    /// Adds the records of further trials.
    ///
    /// # Panics
    /// If they do not come in the order of their numbers.
    pub fn absorb(&mut self, records: impl IntoIterator<Item = Record>) {
        for record in records {
            assert!(record.index >= self.next, "records in the order of their numbers");
            self.next = record.index + 1;
            self.trials += 1;
            self.most_flips = self.most_flips.max(record.struck());
            self.strata.entry(record.stratum).or_default().add(&record);
            if let (Some(behind), Some(raw)) = (&record.behind, record.raw) {
                let tally = self.behind.entry(record.stratum).or_default();
                tally.add(behind.decoded, raw, record.trial.outcome);
            }
            self.targets.entry(record.target).or_default().add(&record);
            let layers: BTreeSet<_> = record.data().flips().map(|flip| flip.layer()).collect();
            for layer in layers {
                self.layers.entry((record.target, layer)).or_default().add(&record);
            }
            let bits: BTreeSet<_> = record.data().flips().map(|flip| flip.bit()).collect();
            for bit in bits {
                self.bits.entry((record.target, bit)).or_default().add(&record);
            }
            self.consider(record);
        }
    }

    fn consider(&mut self, record: Record) {
        let outcome = record.trial.outcome;
        if outcome.severity() == 0 || outcome == Outcome::Due(Cause::Flagged) {
            return;
        }
        let at = self.worst.partition_point(|other| worse(other, &record) == Ordering::Less);
        if at < self.keep {
            self.worst.insert(at, record);
            self.worst.truncate(self.keep);
        }
    }
}

/// `Less` if `a` stands before `b` among the worst.
fn worse(a: &Record, b: &Record) -> Ordering {
    let change = |r: &Record| r.trial.shift.map_or(f64::INFINITY, |shift| shift.max_logit_change);
    (b.trial.outcome.severity().cmp(&a.trial.outcome.severity()))
        .then(change(b).total_cmp(&change(a)))
        .then(a.index.cmp(&b.index))
}

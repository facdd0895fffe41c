//! What a fault did: its outcome, and by how much the read-out moved.
//!
//! The decision is read at the last position, over the candidates of the sample (its classes, or
//! the whole vocabulary); ties go to the lowest token. Distributions are over the whole vocabulary.
//!
//! Invariant: exactly one outcome, in the order due, sdc, masked; and no figure that is not finite.

use engine::numerics::special::{exp, exp_each, ln};

use crate::search::Goal;

/// Why a fault counts as detected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// A logit at the read-out is NaN or infinite.
    NotFinite,
    /// A reader that checks codes found the unused one, or a load an element that is none of -1, 0
    /// and 1; nothing was computed.
    UnusedCode,
    /// The code of the memory flagged a word; nothing was computed.
    Flagged,
}

/// What became of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The decision is the same.
    Masked {
        /// Every logit that was computed is the same, bit for bit.
        identical: bool,
    },
    /// Detected, unrecoverable.
    Due(Cause),
    /// Silent data corruption: the decision changed.
    Sdc,
}

impl Outcome {
    /// The name in reports; identical masked faults are `masked` too.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Masked { .. } => "masked",
            Self::Due(_) => "due",
            Self::Sdc => "sdc",
        }
    }

    /// How bad it is: a silent change is worse than one that is noticed.
    #[must_use]
    pub fn severity(self) -> u8 {
        match self {
            Self::Masked { identical: true } => 0,
            Self::Masked { identical: false } => 1,
            Self::Due(_) => 2,
            Self::Sdc => 3,
        }
    }
}

/// By how much the read-out moved; all finite.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Shift {
    /// Kullback-Leibler divergence of the faulty from the clean next-token distribution, in nats.
    pub kl_divergence: f64,
    /// Rise of the negative log-likelihood of the label (unlabelled: of the clean decision), in
    /// nats.
    pub nll_change: f64,
    /// Fall of the margin of the clean decision over the best other candidate, in logits.
    pub margin_loss: f64,
    /// The largest change of a logit, in magnitude.
    pub max_logit_change: f64,
}

/// Logits at the read-out, with what is asked of them.
#[derive(Clone, Debug)]
pub(crate) struct ReadOut {
    logits: Vec<f32>,
    /// Sorted and distinct; `None` for the whole vocabulary.
    candidates: Option<Vec<u32>>,
    decision: u32,
    reference: u32,
    shares: Vec<f64>,
    log_total: f64,
    margin: f64,
}

impl ReadOut {
    /// The clean read-out; `None` if a logit is not finite.
    pub(crate) fn new(
        logits: &[f32],
        candidates: Option<Vec<u32>>,
        label: Option<u32>,
    ) -> Option<Self> {
        if !finite(logits) {
            return None;
        }
        let decision = decide(logits, candidates.as_deref());
        let log_total = log_total(logits);
        let shares = logits.iter().map(|&x| exp(f64::from(x) - log_total)).collect();
        let margin = margin(logits, candidates.as_deref(), decision);
        let logits = logits.to_vec();
        let reference = label.unwrap_or(decision);
        Some(Self { logits, candidates, decision, reference, shares, log_total, margin })
    }

    /// The clean decision.
    pub(crate) fn decision(&self) -> u32 {
        self.decision
    }

    /// The clean margin of the decision.
    pub(crate) fn margin(&self) -> f64 {
        self.margin
    }

    /// The outcome of faulty logits that are not all identical, and the shift where it is finite.
    pub(crate) fn judge(&self, after: &[f32], identical: bool) -> (Outcome, u32, Option<Shift>) {
        if !finite(after) {
            return (Outcome::Due(Cause::NotFinite), self.decision, None);
        }
        let decision = decide(after, self.candidates.as_deref());
        let outcome =
            if decision == self.decision { Outcome::Masked { identical } } else { Outcome::Sdc };
        (outcome, decision, Some(self.shift(after)))
    }

    /// Whether the sample is decided among tokens with this one.
    pub(crate) fn decides(&self, token: u32) -> bool {
        match &self.candidates {
            Some(tokens) => tokens.contains(&token),
            None => (token as usize) < self.logits.len(),
        }
    }

    /// By how many logits a goal is missed under finite logits (`None`: the clean ones); 0 exactly
    /// where the decision is as wanted, a tie that is decided the other way counts as a little.
    pub(crate) fn resistance(&self, after: Option<&[f32]>, goal: Goal) -> f64 {
        let after = after.unwrap_or(&self.logits);
        let decision = decide(after, self.candidates.as_deref());
        let (won, margin) = match goal {
            Goal::Untargeted => {
                let margin = margin(after, self.candidates.as_deref(), self.decision);
                (decision != self.decision, margin)
            }
            Goal::Targeted(token) => {
                (decision == token, -margin(after, self.candidates.as_deref(), token))
            }
        };
        match won {
            true => 0.0,
            false if margin > 0.0 => margin,
            false => f64::MIN_POSITIVE,
        }
    }

    fn shift(&self, after: &[f32]) -> Shift {
        let total = log_total(after);
        let (mut kl, mut change) = (0.0, 0.0);
        for ((&share, &before), &after) in self.shares.iter().zip(&self.logits).zip(after) {
            let (before, after) = (f64::from(before), f64::from(after));
            kl += share * ((before - self.log_total) - (after - total));
            let moved = (after - before).abs();
            change = if moved > change { moved } else { change };
        }
        let nll = |logits: &[f32], total| total - f64::from(logits[self.reference as usize]);
        let margin = margin(after, self.candidates.as_deref(), self.decision);
        Shift {
            // Mathematically not negative; the sum may round below zero.
            kl_divergence: if kl > 0.0 { kl } else { 0.0 },
            nll_change: nll(after, total) - nll(&self.logits, self.log_total),
            margin_loss: self.margin - margin,
            max_logit_change: change,
        }
    }
}

fn finite(logits: &[f32]) -> bool {
    logits.iter().all(|x| x.is_finite())
}

/// The best candidate; the lowest on ties.
fn decide(logits: &[f32], candidates: Option<&[u32]>) -> u32 {
    let better = |best: u32, token: u32| {
        if logits[token as usize] > logits[best as usize] { token } else { best }
    };
    match candidates {
        Some(tokens) => tokens.iter().copied().reduce(better).expect("two candidates or more"),
        None => (0..logits.len() as u32).reduce(better).expect("two candidates or more"),
    }
}

/// The logit of a decision minus that of the best other candidate.
fn margin(logits: &[f32], candidates: Option<&[u32]>, decision: u32) -> f64 {
    let best = |best: f32, token: u32| {
        let logit = logits[token as usize];
        if token != decision && logit > best { logit } else { best }
    };
    let other = match candidates {
        Some(tokens) => tokens.iter().copied().fold(f32::NEG_INFINITY, best),
        None => (0..logits.len() as u32).fold(f32::NEG_INFINITY, best),
    };
    f64::from(logits[decision as usize]) - f64::from(other)
}

/// `ln sum exp x`, shifted by the largest.
fn log_total(logits: &[f32]) -> f64 {
    let top = logits.iter().fold(f32::NEG_INFINITY, |top, &x| if x > top { x } else { top });
    let top = f64::from(top);
    let mut shares: Vec<f64> = logits.iter().map(|&x| f64::from(x) - top).collect();
    exp_each(&mut shares);
    top + ln(shares.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-14, "{a} is not {b}");
    }

    #[test]
    fn shifts_are_those_of_a_worked_example() {
        // Divergence and likelihood by mpmath at 40 digits.
        let clean = ReadOut::new(&[1.5, 0.25, -3.0], None, Some(2)).expect("finite");
        let (outcome, decision, shift) = clean.judge(&[-0.5, 2.25, 1.0], false);
        let shift = shift.expect("finite");
        assert_eq!((outcome, decision), (Outcome::Sdc, 1));
        close(shift.kl_divergence, 1.855_357_090_967_751_7);
        close(shift.nll_change, -3.210_102_005_691_324_3);
        assert_eq!((shift.margin_loss, shift.max_logit_change), (4.0, 4.0));
        // Unlabelled: the likelihood of the clean decision, token 0, whose logit fell by 2.
        let unlabelled = ReadOut::new(&[1.5, 0.25, -3.0], None, None).expect("finite");
        let (.., of_decision) = unlabelled.judge(&[-0.5, 2.25, 1.0], false);
        let rise = of_decision.expect("finite").nll_change - shift.nll_change;
        close(rise, 2.0 + 4.0);
    }

    #[test]
    fn the_decision_is_among_the_candidates_and_ties_go_to_the_lowest() {
        let logits = [5.0, 1.0, 2.0, 2.0];
        assert_eq!(decide(&logits, None), 0);
        assert_eq!(decide(&logits, Some(&[1, 2, 3])), 2);
        assert_eq!(margin(&logits, Some(&[1, 2, 3]), 2), 0.0);
        assert_eq!(margin(&logits, None, 0), 3.0);
        let clean = ReadOut::new(&logits, Some(vec![1, 3]), None).expect("finite");
        assert_eq!(clean.decision(), 3);
        let (outcome, ..) = clean.judge(&[-5.0, 2.0, 9.0, 2.0], false);
        assert_eq!(outcome, Outcome::Sdc, "a tie goes to token 1");
        let (outcome, ..) = clean.judge(&[9.0, 1.0, 9.0, 2.0], false);
        assert_eq!(outcome, Outcome::Masked { identical: false });
    }

    #[test]
    fn a_logit_that_is_not_finite_is_detected() {
        assert!(ReadOut::new(&[0.0, f32::NAN], None, None).is_none());
        let clean = ReadOut::new(&[0.0, 1.0], None, None).expect("finite");
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let (outcome, _, shift) = clean.judge(&[bad, 5.0], false);
            assert_eq!((outcome, shift), (Outcome::Due(Cause::NotFinite), None));
        }
        let (_, _, shift) = clean.judge(&[f32::MAX, -f32::MAX], false);
        let shift = shift.expect("finite");
        assert!(shift.kl_divergence.is_finite() && shift.max_logit_change.is_finite());
        assert!(shift.nll_change.is_finite() && shift.margin_loss.is_finite());
    }

    #[test]
    fn nothing_moves_where_nothing_changed() {
        let logits = [0.3, -1.7, 12.5, 4.0];
        let clean = ReadOut::new(&logits, None, Some(1)).expect("finite");
        let (outcome, _, shift) = clean.judge(&logits, true);
        assert_eq!((outcome, shift), (Outcome::Masked { identical: true }, Some(Shift::default())));
    }
}

//! Sequences: coverage at all times, gates that peek, and how soon they decide.

use engine::numerics::special::{ln, ln_1p};
use faults::{Decision, RateInterval, Sequential, TrialRng, clopper_pearson};

use super::{contains, hold, repetitions, stream, uniform};

/// Trials to the next event, itself included.
fn gap(rng: &mut TrialRng, rate: f64) -> u64 {
    // The uniform number is above 0, so that its log is finite.
    (ln(1.0 - uniform(rng)) / ln_1p(-rate)) as u64 + 1
}

/// Whether a sequence ever leaves its truth within a horizon. Between two events the interval moves
/// down alone, so it is looked at just before and just after each event.
fn ever_wrong(rng: &mut TrialRng, truth: f64, interest: f64, horizon: u64) -> bool {
    let mut sequence = Sequential::new(0.05, interest);
    loop {
        let left = horizon - sequence.trials();
        let gap = gap(rng, truth);
        if gap > left {
            sequence.update(0, left);
            return !contains(sequence.interval(), truth);
        }
        if gap > 1 {
            sequence.update(0, gap - 1);
            if sequence.interval().high < truth {
                return true;
            }
        }
        sequence.update(1, 1);
        if sequence.interval().low > truth {
            return true;
        }
    }
}

#[test]
fn an_interval_holds_at_all_times_together() {
    let cases = [
        (1e-5, 1e-5, 3_000_000),
        (1e-4, 1e-2, 300_000),
        (1e-3, 1e-3, 50_000),
        (0.01, 0.01, 10_000),
        (0.3, 0.01, 400),
        (0.9, 0.5, 300),
    ];
    for (truth, interest, horizon) in cases {
        let name = format!("sequence, rate {truth} at interest {interest} to {horizon}");
        let runs = repetitions(300);
        let misses =
            (0..runs).filter(|&run| ever_wrong(&mut stream(&name, run), truth, interest, horizon));
        hold(&name, misses.count() as u64, runs, 0.05);
    }
}

/// What becomes of a gate that looks every hundred trials up to 20,000, exactly.
struct Gate {
    below: f64,
    above: f64,
    /// Trials after which half of all runs have decided.
    median: Option<u64>,
}

/// Sums over every course of events, look by look. `ends` gives the most events with which a look
/// says below, and the least with which it says above, searched from those of the look before.
fn gate(truth: f64, ends: impl Fn(u64, (i64, i64)) -> (i64, i64)) -> Gate {
    let step = super::binomial(100, truth);
    let (mut open, mut last) = (vec![1.0], (-1, 0));
    let mut gate = Gate { below: 0.0, above: 0.0, median: None };
    for trials in (1..=200).map(|look| 100 * look) {
        let mut next = vec![0.0; open.len() + 100];
        for (x, alive) in open.iter().enumerate().filter(|(_, alive)| **alive > 1e-18) {
            for (more, probability) in step.iter().enumerate() {
                next[x + more] += alive * probability;
            }
        }
        last = ends(trials, last);
        for (x, alive) in next.iter_mut().enumerate() {
            let x = x as i64;
            if x <= last.0 {
                gate.below += std::mem::take(alive);
            } else if x >= last.1 {
                gate.above += std::mem::take(alive);
            }
        }
        if gate.below + gate.above >= 0.5 && gate.median.is_none() {
            gate.median = Some(trials);
        }
        let kept = next.iter().rposition(|&alive| alive > 1e-18).map_or(0, |at| at + 1);
        next.truncate(kept);
        open = next;
    }
    gate
}

/// The ends of a rule that says below for few events and above for many.
fn rule(decide: impl Fn(u64, u64) -> Decision) -> impl Fn(u64, (i64, i64)) -> (i64, i64) {
    move |trials, (mut below, mut above)| {
        while decide((below + 1) as u64, trials) == Decision::Below {
            below += 1;
        }
        above = above.max(below + 1);
        while above <= trials as i64 && decide(above as u64, trials) != Decision::Above {
            above += 1;
        }
        (below, above)
    }
}

fn sequential(events: u64, trials: u64) -> Sequential {
    let mut sequence = Sequential::new(0.05, 0.01);
    sequence.update(events, trials);
    sequence
}

fn decided(events: u64, trials: u64) -> Decision {
    sequential(events, trials).decide(0.01)
}

/// A rule by an upper end; it never says above, so that its search is short.
fn by_end(high: impl Fn(u64, u64) -> f64) -> impl Fn(u64, (i64, i64)) -> (i64, i64) {
    move |trials, (mut below, _)| {
        while high((below + 1) as u64, trials) < 0.01 {
            below += 1;
        }
        (below, i64::MAX)
    }
}

#[test]
fn peeking_passes_a_bad_model_no_more_often_than_alpha() {
    let ours = gate(0.01, rule(decided));
    let interval = gate(0.01, by_end(|x, n| sequential(x, n).interval().high));
    let fixed = gate(0.01, by_end(|x, n| clopper_pearson(x, n, 0.1).high));
    let percent = |share: f64| format!("{:.2} %", 100.0 * share);
    println!("at the limit, 200 looks: false pass {}", percent(ours.below));
    println!("at the limit, 200 looks: false fail {}", percent(ours.above));
    println!("false pass by the interval {}", percent(interval.below));
    println!("false pass by Clopper-Pearson {}", percent(fixed.below));
    assert!(ours.below <= 0.05 && ours.above <= 0.05 && interval.below <= 0.05);
    assert!(fixed.below > 0.25, "peeking is harmless?");
    let worse = gate(0.012, rule(decided));
    assert!(worse.below < ours.below && worse.above > ours.above);
}

#[test]
fn a_good_model_passes_soon_and_a_bad_one_fails_soon() {
    for (truth, most) in
        [(0.0, 400), (0.001, 400), (0.003, 1000), (0.005, 2400), (0.02, 1200), (0.05, 300)]
    {
        let gate = gate(truth, rule(decided));
        println!("truth {truth}: decided after {:?} trials (median)", gate.median);
        assert!(gate.median.is_some_and(|trials| trials <= most), "{truth}");
        let right = if truth < 0.01 { gate.below } else { gate.above };
        assert!(right > 0.99, "{truth}: {right}");
    }
}

#[test]
fn an_interval_is_a_function_of_its_counts_and_narrows() {
    assert_eq!(Sequential::new(0.05, 0.01).interval(), RateInterval { low: 0.0, high: 1.0 });
    let mut parts = Sequential::new(0.05, 0.01);
    (0..50).for_each(|_| parts.update(1, 20));
    let mut whole = Sequential::new(0.05, 0.01);
    whole.update(50, 1000);
    assert_eq!(parts, whole);
    let RateInterval { low, high } = whole.interval();
    let fixed = clopper_pearson(50, 1000, 0.05);
    assert!(low < fixed.low && fixed.high < high, "{low} {high}");
    assert!((high - low) < 2.2 * (fixed.high - fixed.low), "{low} {high}");
    assert!(whole.is_within(0.03) && !whole.is_within(0.02));
}

#[test]
fn intervals_are_those_of_their_definition() {
    // The log of the ratio at both ends is that of 1 / alpha; here by products of small counts.
    for (x, n) in [(0u64, 1u64), (1, 1), (0, 40), (3, 40), (17, 40), (39, 40), (40, 40)] {
        let mut sequence = Sequential::new(0.05, 0.02);
        sequence.update(x, n);
        // Q for Beta(1, b): b x! / ((b + n - x) ... (b + n)).
        let mixture = |b: f64| {
            let mut value = b;
            (1..=x).for_each(|i| value *= i as f64);
            (0..=x).for_each(|i| value /= b + (n - x + i) as f64);
            value
        };
        let q = 0.25 * mixture(1.0) + 0.75 * mixture(100.0);
        let ratio = |p: f64| {
            let mut value = q;
            (0..x).for_each(|_| value /= p);
            (x..n).for_each(|_| value /= 1.0 - p);
            value
        };
        let RateInterval { low, high } = sequence.interval();
        for end in [low, high] {
            if end > 0.0 && end < 1.0 {
                assert!((ratio(end) / 20.0 - 1.0).abs() < 1e-9, "{x} of {n}: {}", ratio(end));
            }
        }
        assert_eq!((low == 0.0, high == 1.0), (x == 0, x == n), "{x} of {n}");
    }
}

#[test]
fn large_counts_stay_bounded_and_ordered() {
    for n in [1_000_000u64, 1_000_000_000_000] {
        for x in [0, 1, n / 1000, n / 2, n - 1, n] {
            for interest in [1e-9, 1e-3, 1.0] {
                let mut sequence = Sequential::new(1e-9, interest);
                sequence.update(x, n);
                let RateInterval { low, high } = sequence.interval();
                let rate = x as f64 / n as f64;
                assert!(low <= rate && rate <= high && low < high, "{x} {n} {low} {high}");
                let fixed = clopper_pearson(x, n, 1e-9);
                // A narrow law that is far from the truth costs nothing beside the flat one.
                let wider = (high - low) / (fixed.high - fixed.low);
                assert!((0.9..3.0).contains(&wider), "{x} {n} {interest}: {wider}");
                let decision = sequence.decide(0.001);
                assert!(decision != Decision::Above || rate > 0.001, "{x} {n}");
                assert!(decision != Decision::Below || rate < 0.001, "{x} {n}");
            }
        }
    }
}

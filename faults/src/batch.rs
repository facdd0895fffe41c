//! Many trials of a campaign at once: those that strike codes of weights go through the simulator,
//! sample by sample; all others are run one by one.
//!
//! Invariant: every record is that of [`Campaign::trial`], bit for bit. What is simulated, which
//! trials stand together and which clean steps are kept decides only how long it takes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use crate::campaign::Campaign;
use crate::fault::Fault;
use crate::record::{Draw, Record};
use crate::simulator::{Shortcuts, Simulator, Trace};
use crate::space::Target;
use crate::trial::Trial;

/// Bytes of clean steps that a campaign keeps.
const KEPT: usize = 256 << 20;
/// Flips of a trial up to which changed weights are few beside a walk.
const FEW: usize = 8;
/// Trials on a sample from which on its clean steps are worth recording.
pub(crate) const WORTH: u64 = 8;

/// The clean steps of samples, for as long as there is room.
#[derive(Debug, Default)]
pub(crate) struct Traces(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    bytes: usize,
    by_sample: BTreeMap<usize, Arc<Trace>>,
}

impl Traces {
    fn get(&self, sample: usize) -> Option<Arc<Trace>> {
        self.0.lock().expect("no holder panics").by_sample.get(&sample).cloned()
    }

    fn keep(&self, sample: usize, trace: &Arc<Trace>, most: usize) {
        let mut held = self.0.lock().expect("no holder panics");
        let bytes = held.bytes + trace.bytes();
        if bytes <= most && !held.by_sample.contains_key(&sample) {
            held.bytes = bytes;
            held.by_sample.insert(sample, trace.clone());
        }
    }
}

impl Campaign<'_> {
    /// Runs the trials of some numbers, on this thread: the records in the order of the numbers.
    ///
    /// Every trial of a journalled campaign passes through here.
    #[must_use]
    pub fn batch(&self, indices: &[u64]) -> Vec<Record> {
        self.batch_within(indices, KEPT)
    }

    fn batch_within(&self, indices: &[u64], most: usize) -> Vec<Record> {
        let draws: Vec<Draw> = indices.iter().map(|&index| self.draw(index)).collect();
        let runs: Vec<(&Draw, &Fault)> =
            draws.iter().flat_map(|draw| draw.runs().into_iter().map(move |r| (draw, r))).collect();
        let mut trials: Vec<Option<Trial>> = vec![None; runs.len()];
        let mut by_sample: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (place, (draw, fault)) in runs.iter().enumerate() {
            let few = fault.flips().len() <= FEW;
            if self.simulates && draw.target == Target::WeightCode && few {
                by_sample.entry(draw.sample).or_default().push(place);
            }
        }
        for (sample, places) in by_sample {
            let faults: Vec<Fault> = places.iter().map(|&p| runs[p].1.clone()).collect();
            let Some(done) = self.simulated(sample, &faults, most) else { continue };
            for (place, trial) in places.into_iter().zip(done) {
                trials[place] = Some(trial);
            }
        }
        let done = runs.iter().zip(trials);
        let mut done = done
            .map(|(&(draw, fault), trial)| trial.unwrap_or_else(|| self.run(draw, fault)))
            .collect::<Vec<Trial>>()
            .into_iter();
        let record = |(draw, &index): (Draw, &u64)| {
            let its: Vec<Trial> = done.by_ref().take(draw.runs().len()).collect();
            self.told(index, draw, &its)
        };
        draws.into_iter().zip(indices).map(record).collect()
    }

    /// The verdicts on faults of codes under one sample; `None` where the model has steps that are
    /// not simulated.
    fn simulated(&self, sample: usize, faults: &[Fault], most: usize) -> Option<Vec<Trial>> {
        let golden = self.golden(Target::WeightCode, sample);
        let trace = match self.traces.get(sample) {
            Some(trace) => trace,
            None => {
                let trace = Arc::new(Trace::new(self.model, self.kernels, golden)?);
                self.traces.keep(sample, &trace, most);
                trace
            }
        };
        let mut simulator =
            Simulator::over(self.model, self.kernels, golden, Shortcuts::ALL, Some(trace));
        Some(simulator.run(faults, self.plan().unused))
    }
}

#[cfg(test)]
mod tests {
    use engine::kernels;
    use engine::model::KvKind;
    use engine::model::random::{Style, random_model, small_config};
    use engine::walk::Read;

    use super::*;
    use crate::campaign::Plan;
    use crate::fault::UnusedCode;
    use crate::golden::Sample;

    #[test]
    fn a_model_with_steps_that_are_not_simulated_is_run_trial_by_trial() {
        let config = small_config(2, 64, 4, 2);
        let style = Style { head_norms: true, ..Style::BITNET };
        let model = random_model(&config, style, 3);
        let samples = [Sample::of_ids((0..6).collect())];
        let plan = Plan {
            seed: 5,
            trials: 200,
            flips: 1,
            targets: vec![Target::WeightCode],
            unused: UnusedCode::Deployed,
            kv: KvKind::F32,
            confidence: 0.9,
            positions: Read::All,
            worst: 2,
        };
        let identity = plan.identity("model", "inputs");
        let campaign = Campaign::new(&model, kernels::best(), plan, identity, &samples);
        let campaign = campaign.expect("sound");
        let indices: Vec<u64> = (0..200).collect();
        let expected: Vec<Record> = indices.iter().map(|&i| campaign.trial(i)).collect();
        assert_eq!(format!("{:?}", campaign.batch(&indices)), format!("{expected:?}"));
    }

    #[test]
    fn batches_are_single_trials_whatever_is_kept() {
        let config = small_config(2, 64, 4, 2);
        let model = random_model(&config, Style::BITNET, 3);
        let vocabulary = config.vocabulary as u32;
        let samples: Vec<Sample> = (0..3)
            .map(|s| Sample::of_ids((0..5 + s).map(|t| (7 * t + 3 * s) % vocabulary).collect()))
            .collect();
        for (flips, positions, unused) in [
            (1, Read::All, UnusedCode::Deployed),
            (2, Read::Last, UnusedCode::Zero),
            (9, Read::All, UnusedCode::Detect),
        ] {
            let plan = Plan {
                seed: 5,
                trials: 120,
                flips,
                targets: vec![Target::WeightCode, Target::Norm, Target::KvInt8],
                unused,
                kv: KvKind::F16,
                confidence: 0.9,
                positions,
                worst: 2,
            };
            let identity = plan.identity("model", "inputs");
            let new = || {
                let plan = plan.clone();
                Campaign::new(&model, kernels::best(), plan, identity, &samples).expect("sound")
            };
            let campaign = new();
            assert!(campaign.simulates);
            let indices: Vec<u64> = (0..120).collect();
            let expected: Vec<Record> = indices.iter().map(|&i| campaign.trial(i)).collect();
            let shown = format!("{expected:?}");
            for most in [0, 1 << 14, KEPT] {
                let campaign = new();
                for size in [120, 7] {
                    let found = indices.chunks(size).flat_map(|c| campaign.batch_within(c, most));
                    assert_eq!(format!("{:?}", found.collect::<Vec<_>>()), shown, "{most} {size}");
                }
                let kept = campaign.traces.0.lock().unwrap().by_sample.len();
                assert_eq!(kept, if most == KEPT && flips < 9 { 3 } else { 0 }, "{most}");
            }
        }
    }
}

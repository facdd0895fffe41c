//! The simulator against single trials: every shortcut alone and all together, bit for bit.

mod support;

use engine::kernels;
use engine::model::{HeadForm, KvKind, Model};
use engine::walk::Read;
use faults::{
    Fault, Golden, Sample, Shortcuts, Simulator, Space, Target, Trial, UnusedCode, run_trial,
};
use proptest::prelude::*;
use support::{Lcg, model, prompt, shape};

const KINDS: [KvKind; 4] = [KvKind::F32, KvKind::F16, KvKind::Int8, KvKind::OneBit];

/// All combinations that are tried: each shortcut alone, each one left out, none, and all.
fn combinations() -> Vec<(String, Shortcuts)> {
    let mut all = vec![("none".into(), Shortcuts::NONE), ("all".into(), Shortcuts::ALL)];
    all.extend(Shortcuts::each().map(|(name, shortcuts)| (format!("{name} alone"), shortcuts)));
    let full = Shortcuts::ALL;
    for (name, shortcuts) in [
        ("late_start", Shortcuts { late_start: false, ..full }),
        ("rank_one", Shortcuts { rank_one: false, ..full }),
        ("batch", Shortcuts { batch: false, ..full }),
        ("columns", Shortcuts { columns: false, ..full }),
        ("rows", Shortcuts { rows: false, ..full }),
        ("drop", Shortcuts { drop: false, ..full }),
        ("margins", Shortcuts { margins: false, ..full }),
        ("collapse", Shortcuts { collapse: false, ..full }),
    ] {
        all.push((format!("all but {name}"), shortcuts));
    }
    all
}

fn expected(model: &Model, golden: &Golden, faults: &[Fault], unused: UnusedCode) -> Vec<String> {
    let one = |fault| run_trial(model, kernels::best(), golden, fault, unused);
    faults.iter().map(|fault| shown(&one(fault))).collect()
}

/// Every bit of a verdict: equal texts are equal floats, NaN included.
fn shown(trial: &Trial) -> String {
    format!("{trial:?}")
}

/// Faults of one to three weights; some of them close to one another, some of other targets.
fn faults(space: &Space, tokens: usize, count: usize, random: &mut Lcg) -> Vec<Fault> {
    let size = space.count(Target::WeightCode, tokens) as usize;
    let one = |random: &mut Lcg| {
        let first = random.below(size) as u64;
        let flips = 1 + random.below(8) / 6 + random.below(8) / 7;
        let next = |number: u64| space.address(Target::WeightCode, tokens, number);
        let near = random.below(2) == 0;
        let others = (1..flips as u64)
            .map(|k| if near { (first + k) % size as u64 } else { random.below(size) as u64 });
        let numbers: Vec<u64> = std::iter::once(first).chain(others).collect();
        Fault::new(numbers.into_iter().map(next))
    };
    let mut all: Vec<Fault> = (0..count).map(|_| one(random)).collect();
    for target in [Target::WeightScale, Target::Norm, Target::Embedding] {
        let size = space.count(target, tokens) as usize;
        let number = random.below(size) as u64;
        all.push(Fault::single(space.address(target, tokens, number)));
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn verdicts_are_those_of_single_trials_under_every_shortcut(
        index in 0usize..288, seed in any::<u64>(), tokens in 1usize..9,
    ) {
        let shape = shape(index);
        let mut model = model(&shape, seed);
        if seed % 9 == 4 && !shape.tied {
            // Not simulated: it must fall back to single trials.
            model = model.with_head(HeadForm::Int8);
        }
        let random = &mut Lcg(seed);
        let kind = KINDS[random.below(4)];
        let read = if random.below(2) == 0 { Read::Last } else { Read::All };
        let unused = [UnusedCode::Deployed, UnusedCode::Zero, UnusedCode::Detect][random.below(3)];
        let sample = Sample::of_ids(prompt(shape.vocabulary, tokens, random));
        let golden = Golden::new(&model, kernels::best(), kind, read, sample);
        let golden = golden.expect("a sound sample");
        let faults = faults(&Space::new(&model, kind), tokens, 24, random);
        let expected = expected(&model, &golden, &faults, unused);
        for (name, shortcuts) in combinations() {
            let mut simulator = Simulator::new(&model, kernels::best(), &golden, shortcuts);
            let found = simulator.run(&faults, unused);
            for ((fault, trial), expected) in faults.iter().zip(&found).zip(&expected) {
                let shown = shown(trial);
                let place = format!("{name} {fault} {read:?} {kind:?}");
                prop_assert_eq!(&shown, expected, "{}", place);
            }
            let again = simulator.run(&faults, unused);
            prop_assert_eq!(format!("{again:?}"), format!("{found:?}"), "buffers are clean");
        }
    }
}

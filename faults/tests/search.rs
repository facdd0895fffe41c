//! Progressive bit search, from outside: what it finds does what it says, whoever runs it.

mod support;

use engine::kernels;
use engine::model::{KvKind, Model};
use engine::walk::Read;
use faults::{
    End, Fault, Found, Goal, Golden, Identity, Outcome, Sample, Search, SearchError, Space, Target,
    UnusedCode, run_trial, search,
};
use support::{Lcg, model, prompt, shape};

fn settings() -> Search {
    Search {
        goal: Goal::Untargeted,
        targets: vec![Target::WeightCode],
        unused: UnusedCode::Deployed,
        share: 1.0,
        most_flips: 12,
        evaluations: 2_000_000,
        width: 6,
    }
}

fn goldens(model: &Model, count: usize) -> Vec<Golden> {
    let random = &mut Lcg(5);
    (0..count)
        .map(|index| {
            let ids = prompt(model.config.vocabulary, 3 + index % 3, random);
            let sample = Sample::of_ids(ids);
            Golden::new(model, kernels::best(), KvKind::F32, Read::Last, sample).expect("a run")
        })
        .collect()
}

fn hunt(model: &Model, goldens: &[Golden], settings: &Search) -> Found {
    let identity = Identity::of(&["model", "search"]);
    search(model, kernels::best(), goldens, settings, &identity, (&|_| (), &|| false))
        .expect("sound settings")
}

/// Samples whose decisions are as wanted under a fault, by single trials.
fn won(model: &Model, goldens: &[Golden], fault: &Fault, settings: &Search) -> u64 {
    let wins = |golden: &&Golden| {
        let trial = run_trial(model, kernels::best(), golden, fault, settings.unused);
        match settings.goal {
            Goal::Untargeted => trial.outcome == Outcome::Sdc,
            Goal::Targeted(token) => trial.decision == Some(token),
        }
    };
    goldens.iter().filter(wins).count() as u64
}

#[test]
fn a_search_finds_one_flip_exactly_where_one_is_enough() {
    let (mut one, mut more) = (0, 0);
    for index in 0..6 {
        let model = model(&shape(index), index as u64 + 1);
        let space = Space::new(&model, KvKind::F32);
        for golden in goldens(&model, 3) {
            let goldens = [golden];
            let alone = (0..space.count(Target::WeightCode, 0)).any(|number| {
                let flip = space.address(Target::WeightCode, 0, number);
                won(&model, &goldens, &Fault::single(flip), &settings()) == 1
            });
            let found = hunt(&model, &goldens, &settings());
            assert_eq!(found.steps.len() == 1, alone, "{found:?}");
            assert_eq!(found.least, if alone { 1 } else { 2 }, "{found:?}");
            if found.end == End::Reached {
                assert_eq!(won(&model, &goldens, &found.fault(), &settings()), 1);
            }
            one += u64::from(alone);
            more += u64::from(!alone && found.end == End::Reached);
        }
    }
    assert!(one > 0 && more > 0, "{one} samples by one flip, {more} by more");
}

#[test]
fn every_step_wins_what_it_says_and_all_samples_fall() {
    for goal in [Goal::Untargeted, Goal::Targeted(3)] {
        let model = model(&shape(3), 9);
        let goldens = goldens(&model, 5);
        let settings = Search { goal, share: 0.4, most_flips: 40, ..settings() };
        let found = hunt(&model, &goldens, &settings);
        assert_eq!(found.end, End::Reached, "{found:?}");
        for (last, step) in found.steps.iter().enumerate() {
            let fault = Fault::new(found.steps[..=last].iter().map(|step| step.flip));
            assert_eq!(won(&model, &goldens, &fault, &settings), step.won);
        }
        let steps = &found.steps;
        let better = |a: &faults::Step, b: &faults::Step| {
            (b.won, a.resistance) >= (a.won, b.resistance) || b.won > a.won
        };
        assert!(steps.windows(2).all(|pair| better(&pair[0], &pair[1])), "{steps:?}");
        assert!(steps.last().is_some_and(|step| step.won >= 2));
    }
}

#[test]
fn threads_change_nothing_and_a_smaller_budget_is_kept() {
    let model = model(&shape(1), 4);
    let goldens = goldens(&model, 4);
    let settings = Search { evaluations: 3000, ..settings() };
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        pool.install(|| hunt(&model, &goldens, &settings))
    };
    let found = with(1);
    assert_eq!(found, with(3));
    assert!(found.evaluations <= 3000, "{}", found.evaluations);
    let tiny = hunt(&model, &goldens, &Search { evaluations: 5, ..settings });
    assert!(tiny.evaluations <= 5 && tiny.end == End::Evaluations, "{tiny:?}");
}

#[test]
fn what_a_reader_detects_is_no_success() {
    let model = model(&shape(2), 7);
    let goldens = goldens(&model, 3);
    let settings = Search { unused: UnusedCode::Detect, ..settings() };
    let found = hunt(&model, &goldens, &settings);
    assert!(!found.steps.is_empty());
    assert!(!found.fault().makes_unused_code(&model), "{found:?}");
}

#[test]
fn a_search_that_is_stopped_says_so() {
    let model = model(&shape(0), 3);
    let goldens = goldens(&model, 2);
    let identity = Identity::of(&["stopped"]);
    let stopped =
        search(&model, kernels::best(), &goldens, &settings(), &identity, (&|_| (), &|| true));
    let stopped = stopped.expect("sound settings");
    assert_eq!((stopped.end, stopped.steps.len()), (End::Stopped, 0));
}

#[test]
fn senseless_settings_are_refused() {
    let model = model(&shape(0), 3);
    let goldens = goldens(&model, 2);
    let refused = |settings: Search| settings.check(&goldens).expect_err("senseless");
    let none = Search { targets: Vec::new(), ..settings() };
    assert_eq!(refused(none), SearchError::Targets { targets: String::new() });
    let stored = Search { targets: vec![Target::KvF32], ..settings() };
    assert_eq!(refused(stored), SearchError::Targets { targets: "kv_f32".into() });
    let twice = Search { targets: vec![Target::Norm; 2], ..settings() };
    assert_eq!(refused(twice), SearchError::Targets { targets: "norm,norm".into() });
    for got in [0.0, -1.0, 1.5] {
        assert_eq!(refused(Search { share: got, ..settings() }), SearchError::Share { got });
    }
    let what = "the number of flips";
    assert_eq!(refused(Search { most_flips: 0, ..settings() }), SearchError::Nothing { what });
    let token = u32::MAX;
    let beyond = Search { goal: Goal::Targeted(token), ..settings() };
    assert_eq!(refused(beyond), SearchError::TargetToken { sample: 0, token });
    assert_eq!(settings().check(&[]), Err(SearchError::NoSamples));
}

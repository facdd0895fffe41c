//! Campaigns that are interrupted, resumed and shared out tell what a whole one tells.

mod support;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use engine::kernels;
use engine::model::{KvKind, Model};
use engine::walk::Read;
use faults::journal::{self, Entry, Header, Shard, Writer};
use faults::mix::{Stratum, Within};
use faults::{
    Campaign, Mix, Outcome, Pattern, Plan, Protection, Sample, Space, Tally, Target, UnusedCode,
    complete, complete_until, retold, run,
};
use support::{Lcg, model, prompt, shape};

const TARGETS: [Target; 3] = [Target::WeightCode, Target::Norm, Target::KvInt8];

fn plan() -> Plan {
    Plan {
        seed: 9,
        trials: 500,
        flips: 2,
        targets: TARGETS.to_vec(),
        unused: UnusedCode::Deployed,
        kv: KvKind::F16,
        confidence: 0.95,
        positions: Read::All,
        worst: 8,
    }
}

fn samples(model: &Model) -> Vec<Sample> {
    let random = &mut Lcg(5);
    (0..4).map(|i| Sample::of_ids(prompt(model.config.vocabulary, 3 + i, random))).collect()
}

fn campaign(model: &Model) -> Campaign<'_> {
    let identity = plan().identity("model", "inputs");
    Campaign::new(model, kernels::best(), plan(), identity, &samples(model)).expect("a sound plan")
}

fn all(campaign: &Campaign, shard: Shard, present: Vec<Entry>) -> Vec<Entry> {
    complete(campaign, shard, present, None, &|_| (), &|| false).expect("no journal to fail")
}

fn told(campaign: &Campaign, entries: &[Entry]) -> Tally {
    retold(campaign, entries).expect("what the campaign drew")
}

fn folder(name: &str) -> PathBuf {
    let name = format!("bitnet-certify-resume-{name}-{}", std::process::id());
    let folder = std::env::temp_dir().join(name);
    let _ = std::fs::remove_dir_all(&folder);
    folder
}

#[test]
fn a_journalled_campaign_tells_what_a_plain_one_does_however_often_it_was_stopped() {
    let model = model(&shape(1), 5);
    let campaign = campaign(&model);
    let expected = run(&campaign, &|_| (), &|| false);
    assert_eq!(told(&campaign, &all(&campaign, Shard::WHOLE, Vec::new())), expected);

    let folder = folder("stopped");
    let header = Header::new("model", "inputs", &plan().text(), 500, Shard::WHOLE);
    drop(Writer::begin::<Entry>(&folder, &header).expect("a new journal"));
    let mut rounds = 0;
    loop {
        let (mut writer, found) = Writer::resume(&folder).expect("a journal");
        let before = found.entries.len();
        let seen = AtomicU64::new(0);
        let progress = |entries: &[Entry]| {
            seen.fetch_add(entries.len() as u64, Ordering::Relaxed);
        };
        let stop = || seen.load(Ordering::Relaxed) >= 90;
        let journal = Some(&mut writer);
        let entries =
            complete(&campaign, Shard::WHOLE, found.entries, journal, &progress, &stop).unwrap();
        let there = journal::read::<Entry>(&folder).expect("a journal");
        assert_eq!(there.entries, entries);
        assert_eq!(entries.len() as u64, before as u64 + seen.load(Ordering::Relaxed));
        let tally = told(&campaign, &entries);
        assert_eq!(tally.trials, entries.len() as u64);
        rounds += 1;
        if entries.len() == 500 {
            assert_eq!(tally, expected);
            break;
        }
    }
    assert!(rounds > 1, "it was stopped on the way");
    let found = journal::read::<Entry>(&folder).expect("a journal");
    let again = all(&campaign, Shard::WHOLE, found.entries.clone());
    assert_eq!(again, found.entries, "a finished one has nothing left to run");
    std::fs::remove_dir_all(&folder).expect("a folder of one's own");
}

#[test]
fn a_campaign_that_may_end_early_ends_at_the_same_trial_whoever_runs_it() {
    let model = model(&shape(1), 5);
    let campaign = campaign(&model);
    let every = all(&campaign, Shard::WHOLE, Vec::new());
    let sdc = |entries: &[Entry]| {
        entries.iter().filter(|entry| entry.trial.outcome == Outcome::Sdc).count()
    };
    let wanted = sdc(&every[..200]);
    let until = |present: Vec<Entry>, stop: &(dyn Fn() -> bool + Sync)| {
        let mut looks = Vec::new();
        let mut enough = |seen: &[Entry]| {
            looks.push(seen.len());
            sdc(seen) >= wanted
        };
        let how = (Shard::WHOLE, 20);
        let ended =
            complete_until(&campaign, how, present, None, &mut enough, &|_| (), stop).unwrap();
        (ended, looks)
    };
    let ((expected, decided), looks) = until(Vec::new(), &|| false);
    assert!(decided && expected.len() <= 210 && sdc(&expected) >= wanted);
    assert_eq!(expected, every[..expected.len()], "a prefix");
    assert!(looks.iter().all(|look| look % 21 == 0), "looks at whole rounds of three: {looks:?}");
    for threads in [1, 5] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        assert_eq!(pool.install(|| until(Vec::new(), &|| false)).0.0, expected);
    }
    // What was run before, in whatever order and however far, changes nothing.
    let scattered: Vec<Entry> = every.iter().copied().filter(|e| e.index % 7 < 3).collect();
    assert_eq!(until(scattered, &|| false).0, (expected.clone(), true));
    assert_eq!(until(every.clone(), &|| false).0, (expected, true));
    let ((stopped, decided), looks) = until(every[..30].to_vec(), &|| true);
    assert!(!decided && stopped.len() == 30 && looks == [21], "no look at half a look: {looks:?}");
}

#[test]
fn shards_have_every_trial_once_and_together_tell_what_one_run_does() {
    let model = model(&shape(1), 5);
    let campaign = campaign(&model);
    let expected = run(&campaign, &|_| (), &|| false);
    for of in [1, 2, 3, 7] {
        let shards = (0..of).map(|index| all(&campaign, Shard { index, of }, Vec::new()));
        let shards: Vec<Vec<Entry>> = shards.collect();
        let strata = |entries: &[Entry]| {
            (0..3).map(|s| entries.iter().filter(|e| e.stratum == s).count()).collect::<Vec<_>>()
        };
        for shard in &shards {
            let counts = strata(shard);
            let (least, most) = (counts.iter().min(), counts.iter().max());
            assert!(most.unwrap() - least.unwrap() <= 1, "whole rounds: {counts:?}");
        }
        let mut together = shards.concat();
        together.sort_by_key(|entry| entry.index);
        let indices: Vec<u64> = together.iter().map(|entry| entry.index).collect();
        assert_eq!(indices, (0..500).collect::<Vec<_>>());
        assert_eq!(told(&campaign, &together), expected, "{of} shards");
    }
    for threads in [1, 2, 5] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        let entries = pool.install(|| all(&campaign, Shard::WHOLE, Vec::new()));
        assert_eq!(told(&campaign, &entries), expected, "{threads} threads");
    }
}

#[test]
fn an_entry_that_the_plan_does_not_draw_is_refused() {
    let model = model(&shape(1), 5);
    let campaign = campaign(&model);
    let entry = campaign.trial(17).entry();
    assert!(retold(&campaign, &[entry]).is_ok());
    let wrong = [
        Entry { index: 500, ..entry },
        Entry { index: 18, ..entry },
        Entry { sample: entry.sample ^ 1, ..entry },
        Entry { flips: 1, ..entry },
        Entry { stratum: 9, ..entry },
    ];
    for entry in wrong {
        let error = retold(&campaign, &[entry]).expect_err("no trial of the plan");
        assert!(error.to_string().contains("trial"), "{error}");
    }
}

#[test]
fn strata_take_turns_by_weight_and_stay_within_their_part() {
    let model = model(&shape(71), 5);
    assert!(model.layers.len() > 1);
    let stratum = |target, weight, layers: Option<Vec<usize>>, tensors: &[&str]| Stratum {
        target,
        pattern: Pattern::Random { flips: 1 },
        weight,
        within: Within {
            layers,
            tensors: (!tensors.is_empty())
                .then(|| tensors.iter().map(|&name| name.to_owned()).collect()),
            part: None,
        },
        protection: Protection::None,
    };
    let strata = vec![
        stratum(Target::WeightCode, 3, Some(vec![1]), &["mlp.down_proj", "self_attn.v_proj"]),
        stratum(Target::KvInt8, 1, Some(vec![0]), &["value"]),
        stratum(Target::Norm, 2, None, &["norm"]),
    ];
    let mix = Mix { plan: plan(), strata };
    assert_eq!(mix.round(), 6);
    let turns: Vec<usize> = (0..12).map(|index| mix.turn(index)).collect();
    assert_eq!(turns, [0, 0, 0, 1, 2, 2, 0, 0, 0, 1, 2, 2]);
    let identity = plan().identity("model", "inputs");
    let campaign =
        Campaign::mixed(&model, kernels::best(), mix, identity, &samples(&model)).unwrap();
    let mut prefixes = std::collections::BTreeSet::new();
    for index in 0..500 {
        let text = campaign.draw(index).fault.to_string();
        prefixes.insert(text.split('[').next().expect("an address").to_owned());
    }
    let prefixes: Vec<String> = prefixes.into_iter().collect();
    let expected = [
        "kv.layers.0.value",
        "model.layers.1.mlp.down_proj.weight",
        "model.layers.1.self_attn.v_proj.weight",
        "model.norm.weight",
    ];
    assert_eq!(prefixes, expected);
}

#[test]
fn tensors_cover_the_numbers_of_a_target_and_name_what_lies_in_them() {
    for index in [0, 1, 4, 71] {
        let model = model(&shape(index), 5);
        let space = Space::new(&model, KvKind::F16);
        for target in Target::ALL {
            let mut end = 0;
            for tensor in space.tensors(target, 4) {
                assert_eq!(tensor.numbers.start, end, "{tensor:?}");
                end = tensor.numbers.end;
                for number in [tensor.numbers.start, end - 1] {
                    let address = space.address(target, 4, number);
                    assert_eq!(address.layer(), tensor.layer);
                    let name = format!(".{}", address).replace("weight_scale", "weight");
                    assert!(name.contains(&format!(".{}", tensor.name)), "{name}: {tensor:?}");
                }
            }
            assert_eq!(end, space.count(target, 4), "{target:?}");
        }
    }
}

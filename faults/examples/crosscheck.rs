//! The simulator against single trials on the trained models: every bit of every verdict.
//!
//! `cargo run --release -p faults --example crosscheck -- --trials 1000000`
//!
//! A round is a pure function of its number: it takes a model, a sample, a store, what is read and
//! a policy in turn, draws faults, runs each alone, and then all of them under every shortcut alone
//! and under all together.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use engine::formats::{LoadOptions, Source, UnusedCode as Codes, load};
use engine::kernels;
use engine::model::{KvKind, Model};
use engine::walk::Read;
use faults::{
    Fault, Golden, Identity, Input, Sample, Shortcuts, Simulator, Space, Target, TrialRng,
    UnusedCode, run_trial,
};
use fixtures::archive;
use fixtures::embedded::{self, Checkpoint};
use ndarray::Array2;
use rayon::prelude::*;

/// Faults of one round.
const ROUND: u64 = 250;

const KINDS: [KvKind; 4] = [KvKind::F32, KvKind::F16, KvKind::Int8, KvKind::OneBit];
const POLICIES: [UnusedCode; 3] = [UnusedCode::Deployed, UnusedCode::Zero, UnusedCode::Detect];

/// A trained model with its samples.
struct Trained {
    name: &'static str,
    model: Model,
    samples: Vec<Sample>,
}

fn trained(checkpoint: &Checkpoint) -> Trained {
    let files = checkpoint.files.iter().map(|&(name, bytes)| (name, bytes));
    let source = Source::memory(checkpoint.name, files);
    let options = LoadOptions { unused: Codes::Refuse, ..LoadOptions::default() };
    let model = load(&source, &options).expect("a sound checkpoint").model;
    let samples = match checkpoint.file("inputs.jsonl") {
        Some(lines) => lines.split(|&byte| byte == b'\n').filter_map(ids).collect(),
        None => rows(checkpoint.file("inputs.safetensors").expect("inputs")),
    };
    Trained { name: checkpoint.name, model, samples }
}

/// A line of token ids.
fn ids(line: &[u8]) -> Option<Sample> {
    let line: serde_json::Value = serde_json::from_slice(line).ok()?;
    let ids = line["input_ids"].as_array()?.iter().map(|id| Some(id.as_u64()? as u32));
    let label = line["label"].as_u64().map(|label| label as u32);
    Some(Sample { label, ..Sample::of_ids(ids.collect::<Option<_>>()?) })
}

/// Embedded rows with their labels.
fn rows(file: &[u8]) -> Vec<Sample> {
    let tensors = archive::read(file).expect("an archive");
    let (rows, labels) = (&tensors["inputs_embeds"], &tensors["labels"]);
    let [_, tokens, width] = rows.shape[..] else { panic!("three extents") };
    let (values, labels) = (rows.floats().expect("floats"), labels.integers().expect("integers"));
    let sample = |(values, &label): (&[f32], &i64)| {
        let rows = Array2::from_shape_vec((tokens, width), values.to_vec()).expect("rows");
        Sample { input: Input::Embedded(rows), label: Some(label as u32), classes: None }
    };
    values.chunks(tokens * width).zip(&labels).map(sample).collect()
}

/// The model of a round, and the how-manieth of its rounds it is: the two largest, on which a trial
/// takes a hundred times as long, come once in forty rounds each.
fn turn(number: u64) -> (usize, u64) {
    const SMALL: [usize; 6] = [0, 1, 2, 3, 4, 7];
    const LARGE: [usize; 2] = [5, 6];
    let (cycle, place) = (number / 40, number % 40);
    match LARGE.get(place as usize) {
        Some(&model) => (model, cycle),
        None => {
            let turn = 38 * cycle + place - 2;
            (SMALL[(turn % 6) as usize], turn / 6)
        }
    }
}

/// Runs a round and returns its faults, or what disagrees.
fn round(all: &[Trained], number: u64, faults: u64) -> Result<u64, String> {
    let (model, turn) = turn(number);
    let trained = &all[model];
    let mut rng = TrialRng::new(&Identity::of(&["crosscheck"]), number);
    let sample = &trained.samples[rng.below(trained.samples.len() as u64) as usize];
    let kind = KINDS[(turn / 2 % 4) as usize];
    let read = if turn.is_multiple_of(2) { Read::All } else { Read::Last };
    let unused = POLICIES[(turn / 8 % 3) as usize];
    let (model, kernels) = (&trained.model, kernels::best());
    let golden = Golden::new(model, kernels, kind, read, sample.clone()).map_err(|e| e.to_string());
    let golden = golden?;
    let space = Space::new(model, kind);
    let size = space.count(Target::WeightCode, sample.tokens());
    let fault = |rng: &mut TrialRng| {
        let flips = if rng.below(8) == 0 { 2 + rng.below(3) } else { 1 };
        let numbers: Vec<u64> = (0..flips).map(|_| rng.below(size)).collect();
        let address = |number| space.address(Target::WeightCode, sample.tokens(), number);
        Fault::new(numbers.into_iter().map(address))
    };
    let faults: Vec<Fault> = (0..faults).map(|_| fault(&mut rng)).collect();
    let alone = faults.iter().map(|fault| run_trial(model, kernels, &golden, fault, unused));
    let alone: Vec<String> = alone.map(|trial| format!("{trial:?}")).collect();
    for (name, shortcuts) in Shortcuts::each().into_iter().chain([("all", Shortcuts::ALL)]) {
        let mut simulator = Simulator::new(model, kernels, &golden, shortcuts);
        let together = simulator.run(&faults, unused);
        for ((fault, trial), expected) in faults.iter().zip(together).zip(&alone) {
            let got = format!("{trial:?}");
            if got != *expected {
                let place = format!("{} {read:?} {kind:?} {unused:?}", trained.name);
                return Err(format!("{place} {name}: {fault}\n  {got}\n  {expected}"));
            }
        }
    }
    Ok(faults.len() as u64)
}

/// Runs rounds until so many faults agree.
fn check(trials: u64, faults: u64, told: impl Fn(u64) + Sync) -> Result<u64, String> {
    let all: Vec<Trained> = embedded::all().iter().map(trained).collect();
    let done = AtomicU64::new(0);
    let run = |number| {
        let agreed = round(&all, number, faults)?;
        told(done.fetch_add(agreed, Ordering::Relaxed) + agreed);
        Ok(agreed)
    };
    (0..trials.div_ceil(faults)).into_par_iter().map(run).sum()
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let trials = match &words[..] {
        [] => Some(100_000),
        [flag, number] if flag == "--trials" => number.parse().ok(),
        _ => None,
    };
    let Some(trials) = trials else {
        eprintln!("usage: crosscheck [--trials N]");
        return ExitCode::from(2);
    };
    let told = |done: u64| {
        if done % 50_000 < ROUND {
            eprintln!("{done} of {trials} faults agree");
        }
    };
    match check(trials, ROUND, told) {
        Ok(agreed) => {
            println!("{agreed} faults: each of 8 shortcuts alone, and all together, agree");
            ExitCode::SUCCESS
        }
        Err(what) => {
            println!("{what}");
            ExitCode::FAILURE
        }
    }
}

#[test]
fn a_share_of_the_faults_agrees_under_every_shortcut() {
    let agreed = check(600, 10, |_| ()).expect("the verdicts of single trials");
    assert_eq!(agreed, 600);
}

//! Rows drawn, run, chosen, and written.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Instant;

use engine::model::{KvKind, Weights};
use engine::walk::Read;
use faults::{Address, Campaign, Plan, Record, Target};
use rayon::prelude::*;
use reports::dataset::{DATASET_VERSION, File, Manifest, Row, RowKind, Split, card, write_parquet};
use reports::model as out;

use super::replay::{Stage, changed_tokens, digest, outcome};
use super::{BuildArgs, files_of};
use crate::analyze::{Clock, fault_sample, refusal, unused_code};
use crate::failure::Failure;
use crate::flip::{place, readable};
use crate::input::Samples;
use crate::source::Origin;
use crate::{input, machine, source};

/// A near miss has lost this share of its margin.
const LOST: f64 = 0.5;
/// Trials whose records are held at once.
const BLOCK: u64 = 4096;

/// `dataset build`.
pub(super) fn build(args: &BuildArgs) -> Result<(), Failure> {
    if args.out.exists() {
        return Err(Failure::output(format!("{}: it exists already", args.out.display()))
            .help("--out with the name of a new folder"));
    }
    if args.trials == 0 || args.rows == 0 {
        return Err(Failure::usage("--trials and --rows: expected 1 or more of each"));
    }
    let targets = targets(args)?;
    machine::pool(args.threads)?.install(|| {
        let origin = source::resolve(&args.model)?;
        let loaded = source::load(&origin, args.unused_code, false)?;
        source::refuse_faults_on_zeroed(&loaded, args.unused_code)?;
        let file = args.inputs.as_deref();
        let samples = input::read(&origin, &loaded, file, None, Some(args.limit))?;
        let kernels = machine::kernels(None)?;
        let unused = unused_code(args.unused_code);
        let stage = Stage::new(&loaded, kernels, &samples, unused)?;
        let plan = Plan {
            seed: args.seed,
            trials: args.trials,
            flips: 1,
            targets,
            unused,
            kv: KvKind::F32,
            confidence: 0.99,
            positions: Read::All,
            worst: 0,
        };
        let identity = plan.identity(&loaded.manifest.digest, &samples.digest);
        let inputs: Vec<_> = samples.samples.iter().map(fault_sample).collect();
        let campaign =
            Campaign::new(&loaded.model, kernels, plan, identity, &inputs).map_err(refusal)?;
        let chosen = choose(args, &campaign);
        let maker = Maker { args, origin: &origin, stage: &stage, samples: &samples };
        let mut rows: Vec<Row> = (chosen.par_iter())
            .map(|(kind, record)| maker.row(*kind, record))
            .collect::<Vec<_>>()
            .into_iter()
            .collect::<Result<_, _>>()?;
        rows.iter_mut().enumerate().for_each(|(number, row)| row.row = number as u64);
        if let Some(other) = &args.transfer {
            transfer(other, &samples, &stage, &mut rows)?;
        }
        write(args, &maker, &rows)
    })
}

fn targets(args: &BuildArgs) -> Result<Vec<Target>, Failure> {
    let stored = || Target::ALL.into_iter().filter(|target| target.kv().is_none());
    let named = |name: &String| {
        stored().find(|target| target.name() == name.as_str()).ok_or_else(|| {
            let names: Vec<_> = stored().map(Target::name).collect();
            Failure::usage(format!(
                "--targets {name}: expected one or more of {}",
                names.join(", ")
            ))
        })
    };
    args.targets.iter().map(named).collect()
}

/// The first trials of each kind, in the order of their numbers.
fn choose(args: &BuildArgs, campaign: &Campaign) -> Vec<(RowKind, Record)> {
    let mut counts: BTreeMap<RowKind, usize> = BTreeMap::new();
    let mut chosen = Vec::new();
    let stage = Clock::start(Instant::now(), None, !args.quiet).stage("flips", args.trials);
    for begin in (0..args.trials).step_by(BLOCK as usize) {
        let end = args.trials.min(begin + BLOCK);
        for record in campaign.records(begin..end, &|| stage.step(), &|| false) {
            let kind = kind(campaign, &record);
            let count = counts.entry(kind).or_default();
            if *count < args.rows {
                *count += 1;
                chosen.push((kind, record));
            }
        }
    }
    chosen
}

fn kind(campaign: &Campaign, record: &Record) -> RowKind {
    let margin = campaign.golden(record.target, record.sample).margin();
    match outcome(record.trial.outcome) {
        out::Outcome::Sdc | out::Outcome::Due => RowKind::Hit,
        out::Outcome::Masked => match record.trial.shift {
            Some(shift) if shift.margin_loss >= LOST * margin => RowKind::NearMiss,
            _ => RowKind::Benign,
        },
    }
}

/// What rows are made from.
struct Maker<'a> {
    args: &'a BuildArgs,
    origin: &'a Origin,
    stage: &'a Stage<'a>,
    samples: &'a Samples,
}

impl Maker<'_> {
    fn row(&self, kind: RowKind, record: &Record) -> Result<Row, Failure> {
        let loaded = self.stage.loaded;
        let golden = &self.stage.goldens[record.sample];
        let effect = self.stage.effect(record.sample, &record.fault);
        let (tokens_changed, first_changed_token) = changed_tokens(&effect);
        let flip = record.fault.flips().next().expect("a single flip");
        let place = place(loaded, flip)?;
        let old = place.stored(self.origin)?;
        let codes = code(loaded, flip).map(|(code, bit)| (vec![code], vec![code ^ (1 << bit)]));
        let (old_codes, new_codes) = codes.unwrap_or_default();
        let shift = effect.trial.shift;
        let identical = effect
            .after
            .as_ref()
            .is_some_and(|_| effect.trial.outcome == faults::Outcome::Masked { identical: true });
        Ok(Row {
            row: 0,
            split: split(&place.tensor),
            kind,
            model: self.args.model.clone(),
            model_digest: loaded.manifest.digest.clone(),
            format: "hf-packed".into(),
            target: record.target.name().parse().map_err(Failure::bug)?,
            fault_model: "single".into(),
            addresses: vec![flip.to_string()],
            byte_offsets: vec![place.byte - place.start],
            xor_masks: vec![1 << place.bit],
            old_bytes: vec![old],
            new_bytes: vec![old ^ (1 << place.bit)],
            tensors: vec![place.tensor],
            old_codes,
            new_codes,
            unused_code: said(self.stage.unused),
            inputs_digest: self.samples.digest.clone(),
            sample: record.sample as u64,
            tokens: golden.sample.tokens() as u64,
            tokens_changed,
            first_changed_token,
            decision_before: effect.decision,
            decision_after: effect.trial.decision,
            label: golden.sample.label,
            margin_before: golden.margin(),
            margin_after: shift.map(|shift| golden.margin() - shift.margin_loss),
            max_logit_change: shift.map(|shift| shift.max_logit_change),
            kl_divergence: shift.map(|shift| shift.kl_divergence),
            outcome: outcome(effect.trial.outcome),
            identical,
            seed: self.args.seed,
            trial: record.index,
            arithmetic: engine::ARITHMETIC.into(),
            replay_digest: digest(&effect),
            transfer_model: None,
            transfer_outcome: None,
        })
    }
}

/// The stored code of a weight, and the bit of it that flips.
fn code(loaded: &engine::formats::Loaded, flip: &Address) -> Option<(u8, u8)> {
    let Address::Code { layer, slot, row, column, bit } = *flip else { return None };
    match &loaded.model.layers[layer].linear(slot).weights {
        Weights::Ternary { rows, .. } => Some((rows.code(row, column), bit)),
        Weights::Dense(_) => None,
    }
}

fn said(unused: faults::UnusedCode) -> out::UnusedCode {
    match unused {
        faults::UnusedCode::Deployed => out::UnusedCode::Deployed,
        faults::UnusedCode::Zero => out::UnusedCode::Zero,
        faults::UnusedCode::Detect => out::UnusedCode::Detect,
    }
}

/// All rows of a tensor are in one split: eight of ten tensors train, by a hash of their names.
fn split(tensor: &str) -> Split {
    match blake3::hash(tensor.as_bytes()).as_bytes()[0] % 10 {
        0 => Split::Validation,
        1 => Split::Test,
        _ => Split::Train,
    }
}

/// Tries every row on a second model.
fn transfer(
    other: &str,
    samples: &Samples,
    stage: &Stage,
    rows: &mut [Row],
) -> Result<(), Failure> {
    let origin = source::resolve(other)?;
    let loaded = source::load(&origin, None, false)?;
    let second = Stage::new(&loaded, stage.kernels, samples, stage.unused)
        .map_err(|failure| Failure { what: format!("{other}: {}", failure.what), ..failure })?;
    let tried: Vec<_> = (rows.par_iter())
        .map(|row| {
            let typed: faults::AnyAddress = row.addresses[0].parse().map_err(Failure::bug)?;
            let address = typed.resolve(&loaded.model).ok();
            let there = address.filter(|address| {
                address.check(&loaded.model, KvKind::F32, row.tokens as usize).is_ok()
            });
            let effect = |address| {
                let effect = second.effect(row.sample as usize, &faults::Fault::single(address));
                outcome(effect.trial.outcome)
            };
            Ok::<_, Failure>(there.map(effect))
        })
        .collect();
    for (row, tried) in rows.iter_mut().zip(tried) {
        row.transfer_model = Some(other.to_owned());
        row.transfer_outcome = tried?;
    }
    Ok(())
}

/// Writes the folder aside and renames it, so that it is whole or not there.
fn write(args: &BuildArgs, maker: &Maker, rows: &[Row]) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        Failure::output(format!("{}: cannot be written: {error}", args.out.display()))
    };
    let parent = match args.out.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(parent).map_err(failed)?;
    let aside = tempfile::Builder::new().prefix(".dataset-").tempdir_in(parent).map_err(failed)?;
    fs::create_dir(aside.path().join("data")).map_err(failed)?;
    let mut files = Vec::new();
    for split in Split::ALL {
        let part: Vec<Row> = rows.iter().filter(|row| row.split == split).cloned().collect();
        if part.is_empty() {
            continue;
        }
        let mut parquet = Vec::new();
        write_parquet(&part, &mut parquet).map_err(Failure::bug)?;
        let mut lines = Vec::new();
        for row in &part {
            serde_json::to_writer(&mut lines, row).map_err(Failure::bug)?;
            lines.push(b'\n');
        }
        for (path, bytes) in files_of(split).into_iter().zip([parquet, lines]) {
            fs::write(aside.path().join(&path), &bytes).map_err(failed)?;
            let digest = blake3::hash(&bytes).to_hex().to_string();
            files.push(File { path, rows: part.len() as u64, digest });
        }
    }
    let manifest = manifest(args, maker, files);
    let count = |split, kind| {
        rows.iter().filter(|row| (row.split, row.kind) == (split, kind)).count() as u64
    };
    let text = serde_json::to_string_pretty(&manifest).map_err(Failure::bug)?;
    fs::write(aside.path().join("dataset.json"), text + "\n").map_err(failed)?;
    fs::write(aside.path().join("README.md"), card(&manifest, &count)).map_err(failed)?;
    readable(aside.path()).map_err(failed)?;
    fs::rename(aside.path(), &args.out).map_err(failed)?;
    let kinds = RowKind::ALL.map(|kind| {
        format!("{} {}", Split::ALL.iter().map(|&s| count(s, kind)).sum::<u64>(), kind.name())
    });
    eprintln!("wrote {}: {} rows, {}", args.out.display(), rows.len(), kinds.join(", "));
    Ok(())
}

fn manifest(args: &BuildArgs, maker: &Maker, files: Vec<File>) -> Manifest {
    Manifest {
        dataset_version: DATASET_VERSION.into(),
        tool: concat!("bitnet-certify ", env!("CARGO_PKG_VERSION")).into(),
        arithmetic: engine::ARITHMETIC.into(),
        model: args.model.clone(),
        model_digest: maker.stage.loaded.manifest.digest.clone(),
        inputs: args.inputs.as_ref().map(|path| path.display().to_string()),
        inputs_digest: maker.samples.digest.clone(),
        samples: maker.samples.samples.len() as u64,
        transfer: args.transfer.clone(),
        trials: args.trials,
        seed: args.seed,
        flips: 1,
        unused_code: said(maker.stage.unused),
        files,
    }
}

//! Rows drawn, run, chosen, and written.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Instant;

use faults::Record;
use rayon::prelude::*;
use reports::dataset::{DATASET_VERSION, File, Manifest, Row, RowKind, Split, card, write_parquet};

use super::replay::{Scene, plan, said, transfer};
use super::{BuildArgs, files_of};
use crate::analyze::{Clock, targets_named, unused_code};
use crate::failure::Failure;
use crate::output::readable_folder;
use crate::{input, machine, source};

/// Trials whose records are held at once.
const BLOCK: u64 = 4096;

/// `dataset build`.
pub(super) fn build(args: &BuildArgs) -> Result<(), Failure> {
    if args.out.exists() {
        return Err(Failure::output(format!("{}: it exists already", args.out.display()))
            .help("--out with the name of a new folder"));
    }
    if args.trials == 0 || args.rows == 0 || args.flips == 0 {
        return Err(Failure::usage("--trials, --rows and --flips: expected 1 or more of each"));
    }
    let targets = targets_named(&args.targets, false)?;
    machine::pool(args.threads)?.install(|| {
        let origin = source::resolve(&args.model)?;
        let loaded = source::load_to_strike(&origin, args.unused_code, false)?;
        source::refuse_faults_on_zeroed(&loaded, args.unused_code)?;
        let file = args.inputs.as_deref();
        let samples = input::read(&origin, &loaded, file, None, Some(args.limit))?;
        let kernels = machine::kernels(None)?;
        let unused = unused_code(args.unused_code);
        let plan = plan((args.seed, args.trials), args.flips, targets, unused);
        let named = (&args.model[..], &origin);
        let scene = Scene::new(named, &loaded, kernels, &samples, plan)?;
        let chosen = choose(args, &scene);
        let rows = chosen.par_iter().map(|record| scene.row(record));
        let mut rows: Vec<Row> = rows.collect::<Result<_, _>>()?;
        rows.iter_mut().enumerate().for_each(|(number, row)| row.row = number as u64);
        if let Some(other) = &args.transfer {
            transfer(other, &scene, &mut rows)?;
        }
        write(args, &scene, &rows)
    })
}

/// The first trials of each kind, in the order of their numbers.
fn choose(args: &BuildArgs, scene: &Scene) -> Vec<Record> {
    let mut counts: BTreeMap<RowKind, usize> = BTreeMap::new();
    let mut chosen = Vec::new();
    let stage = Clock::start(Instant::now(), None, !args.quiet).stage("flips", args.trials);
    for begin in (0..args.trials).step_by(BLOCK as usize) {
        let end = args.trials.min(begin + BLOCK);
        for record in scene.campaign.records(begin..end, &|| stage.step(), &|| false) {
            let count = counts.entry(scene.kind(&record)).or_default();
            if *count < args.rows {
                *count += 1;
                chosen.push(record);
            }
        }
    }
    chosen
}

/// Writes the folder aside and renames it, so that it is whole or not there.
fn write(args: &BuildArgs, scene: &Scene, rows: &[Row]) -> Result<(), Failure> {
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
        for (path, bytes) in files_of(split).into_iter().zip(encoded(&part)?) {
            fs::write(aside.path().join(&path), &bytes).map_err(failed)?;
            let digest = blake3::hash(&bytes).to_hex().to_string();
            files.push(File { path, rows: part.len() as u64, digest });
        }
    }
    let manifest = manifest(args, scene, files);
    let count = |split, kind| {
        rows.iter().filter(|row| (row.split, row.kind) == (split, kind)).count() as u64
    };
    let text = serde_json::to_string_pretty(&manifest).map_err(Failure::bug)?;
    fs::write(aside.path().join("dataset.json"), text + "\n").map_err(failed)?;
    fs::write(aside.path().join("README.md"), card(&manifest, &count)).map_err(failed)?;
    readable_folder(aside.path()).map_err(failed)?;
    fs::rename(aside.path(), &args.out).map_err(failed)?;
    let kinds = RowKind::ALL.map(|kind| {
        format!("{} {}", Split::ALL.iter().map(|&s| count(s, kind)).sum::<u64>(), kind.name())
    });
    eprintln!("wrote {}: {} rows, {}", args.out.display(), rows.len(), kinds.join(", "));
    Ok(())
}

fn manifest(args: &BuildArgs, scene: &Scene, files: Vec<File>) -> Manifest {
    Manifest {
        dataset_version: DATASET_VERSION.into(),
        tool: concat!("bitnet-certify ", env!("CARGO_PKG_VERSION")).into(),
        arithmetic: engine::ARITHMETIC.into(),
        model: args.model.clone(),
        model_digest: scene.loaded.manifest.digest.clone(),
        inputs: args.inputs.as_ref().map(|path| path.display().to_string()),
        inputs_digest: scene.samples.digest.clone(),
        samples: scene.samples.samples.len() as u64,
        transfer: args.transfer.clone(),
        trials: args.trials,
        seed: args.seed,
        targets: scene.campaign.plan().targets.iter().map(|target| target.name().into()).collect(),
        flips: args.flips,
        unused_code: said(scene.campaign.plan().unused),
        files,
    }
}

/// Rows as Parquet, and as JSON Lines.
pub(super) fn encoded(rows: &[Row]) -> Result<[Vec<u8>; 2], Failure> {
    let mut parquet = Vec::new();
    write_parquet(rows, &mut parquet).map_err(Failure::bug)?;
    let mut lines = Vec::new();
    for row in rows {
        serde_json::to_writer(&mut lines, row).map_err(Failure::bug)?;
        lines.push(b'\n');
    }
    Ok([parquet, lines])
}

//! Rows that are run again, and rows that become checkpoints.

use std::path::Path;

use faults::{AnyAddress, Fault, Target, UnusedCode};
use rayon::prelude::*;
use reports::dataset::{DATASET_VERSION, Manifest, Row, Split};

use super::build::encoded;
use super::replay::{Scene, plan, transfer};
use super::{ApplyArgs, VerifyArgs, files_of};
use crate::cli::UnusedArg;
use crate::failure::Failure;
use crate::flip::write_patched;
use crate::input::read_file;
use crate::{commands, input, machine, source};

/// How many rows that differ are named.
const NAMED: usize = 5;

/// The manifest of a folder.
fn manifest(folder: &Path) -> Result<Manifest, Failure> {
    let path = folder.join("dataset.json");
    let bytes = read_file(&path)?;
    let refuse = |what: String| Failure::refused(format!("{}: {what}", path.display()));
    let manifest: Manifest =
        serde_json::from_slice(&bytes).map_err(|error| refuse(error.to_string()))?;
    if manifest.dataset_version != DATASET_VERSION {
        let got = &manifest.dataset_version;
        return Err(refuse(format!("version {got:?}, expected {DATASET_VERSION:?}")));
    }
    Ok(manifest)
}

/// Whether a data set has a file of this name.
fn written(path: &str) -> bool {
    Split::ALL.iter().any(|&split| files_of(split).iter().any(|file| file == path))
}

/// All rows of a folder, in the order of their numbers; every file is held to its digest.
fn rows(folder: &Path, manifest: &Manifest) -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    for file in &manifest.files {
        if !written(&file.path) {
            let path = &file.path;
            return Err(Failure::refused(format!(
                "dataset.json: {path:?} is no file of a data set"
            )));
        }
        let path = folder.join(&file.path);
        let bytes = read_file(&path)?;
        let got = blake3::hash(&bytes).to_hex().to_string();
        if got != file.digest {
            let (path, expected) = (path.display(), &file.digest);
            return Err(Failure::refused(format!(
                "{path}: its digest is {got}, expected {expected}: it was changed"
            )));
        }
        if !file.path.ends_with(".jsonl") {
            continue;
        }
        for (number, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
            if !line.is_empty() {
                rows.push(serde_json::from_slice(line).map_err(|error| {
                    let line = number + 1;
                    Failure::refused(format!("{}, line {line}: {error}", path.display()))
                })?);
            }
        }
    }
    rows.sort_by_key(|row: &Row| row.row);
    Ok(rows)
}

fn unused_arg(manifest: &Manifest) -> (Option<UnusedArg>, UnusedCode) {
    use reports::model::UnusedCode as Said;
    match manifest.unused_code {
        Said::Deployed => (Some(UnusedArg::Deployed), UnusedCode::Deployed),
        Said::Zero => (Some(UnusedArg::Zero), UnusedCode::Zero),
        Said::Detect => (Some(UnusedArg::Detect), UnusedCode::Detect),
    }
}

/// `dataset verify`.
pub(super) fn verify(args: &VerifyArgs) -> Result<(), Failure> {
    let manifest = manifest(&args.folder)?;
    if manifest.arithmetic != engine::ARITHMETIC {
        let (made, here) = (&manifest.arithmetic, engine::ARITHMETIC);
        return Err(Failure::refused(format!("the rows are of {made}, this program is {here}"))
            .help("the program that made them"));
    }
    let rows = rows(&args.folder, &manifest)?;
    if rows.is_empty() {
        return Err(Failure::incomplete("there is no row to verify").help("dataset build"));
    }
    machine::pool(args.threads)?.install(|| {
        let origin = source::resolve(args.model.as_ref().unwrap_or(&manifest.model))?;
        let (arg, unused) = unused_arg(&manifest);
        let loaded = source::load_to_strike(&origin, arg, false)?;
        same("model", &manifest.model_digest, &loaded.manifest.digest)?;
        let named = manifest.inputs.as_deref().map(Path::new);
        let file = args.inputs.as_deref().or(named);
        let limit = usize::try_from(manifest.samples).ok();
        let samples = input::read(&origin, &loaded, file, None, limit)?;
        same("inputs", &manifest.inputs_digest, &samples.digest)?;
        let targets = targets(&manifest)?;
        let plan = plan((manifest.seed, manifest.trials), manifest.flips, targets, unused);
        let (named, kernels) = ((&manifest.model[..], &origin), machine::kernels(None)?);
        let scene = Scene::new(named, &loaded, kernels, &samples, plan)?;
        let trials = rows.par_iter().map(|row| scene.row(&scene.campaign.trial(row.trial)));
        let mut again: Vec<Row> = trials.collect::<Result<_, _>>()?;
        again.iter_mut().enumerate().for_each(|(number, row)| row.row = number as u64);
        if let Some(other) = &manifest.transfer {
            transfer(other, &scene, &mut again)?;
        }
        let wrong: Vec<String> =
            rows.iter().zip(&again).filter_map(|(row, again)| differs(row, again)).collect();
        if !wrong.is_empty() {
            let named = wrong[..wrong.len().min(NAMED)].join("; ");
            let what = format!("{} of {} rows differ: {named}", wrong.len(), rows.len());
            return Err(Failure::refused(what));
        }
        for split in Split::ALL {
            let part: Vec<Row> = again.iter().filter(|row| row.split == split).cloned().collect();
            for (path, bytes) in files_of(split).into_iter().zip(encoded(&part)?) {
                let file = manifest.files.iter().find(|file| file.path == path);
                let same = file.is_some_and(|file| {
                    file.digest == blake3::hash(&bytes).to_hex().as_str()
                        && file.rows == part.len() as u64
                });
                if !same && (file.is_some() || !part.is_empty()) {
                    return Err(Failure::refused(format!("{path}: it does not hold the rows")));
                }
            }
        }
        commands::tell(format!("{} rows replay bit for bit\n", rows.len()).as_bytes())
    })
}

/// What was struck.
fn targets(manifest: &Manifest) -> Result<Vec<Target>, Failure> {
    let named = |name: &String| {
        Target::named(name)
            .ok_or_else(|| Failure::refused(format!("dataset.json: {name:?} is no target")))
    };
    manifest.targets.iter().map(named).collect()
}

fn same(what: &str, expected: &str, got: &str) -> Result<(), Failure> {
    if expected == got {
        return Ok(());
    }
    Err(Failure::refused(format!("the {what} have digest {got}, expected {expected}"))
        .help(format!("--{what} with those that the rows were made from")))
}

/// What of a row is not so; `None` if it is computed again as it stands.
fn differs(row: &Row, again: &Row) -> Option<String> {
    if row == again {
        return None;
    }
    let json = |row: &Row| serde_json::to_value(row).unwrap_or_default();
    let (told, found) = (json(row), json(again));
    let keys = told.as_object().into_iter().flat_map(|object| object.keys());
    let wrong: Vec<&str> =
        keys.filter(|key| told[*key] != found[*key]).map(String::as_str).collect();
    Some(format!("row {}: another {}", row.row, wrong.join(", ")))
}

/// The bits of a row.
fn fault(row: &Row, loaded: &engine::formats::Loaded) -> Result<Fault, Failure> {
    let mut flips = Vec::new();
    for name in &row.addresses {
        let typed: AnyAddress = name.parse().map_err(Failure::refused)?;
        let address = typed.resolve(&loaded.model).map_err(Failure::refused)?;
        address
            .check(&loaded.model, engine::model::KvKind::F32, row.tokens as usize)
            .map_err(Failure::refused)?;
        flips.push(address);
    }
    Ok(Fault::new(flips))
}

/// `dataset apply`.
pub(super) fn apply(args: &ApplyArgs) -> Result<(), Failure> {
    let manifest = manifest(&args.folder)?;
    let rows = rows(&args.folder, &manifest)?;
    let found = rows.iter().find(|row| row.row == args.row);
    let row = found.ok_or_else(|| {
        Failure::usage(format!("there is no row {}, expected 0 to {}", args.row, rows.len()))
    })?;
    let origin = source::resolve(&args.model)?;
    let loaded = source::load_to_strike(&origin, unused_arg(&manifest).0, false)?;
    same("model", &row.model_digest, &loaded.manifest.digest)?;
    let flips: Vec<_> = fault(row, &loaded)?.flips().copied().collect();
    write_patched(&origin, &loaded, &flips, &args.out)?;
    eprintln!("wrote {} with {} flipped", args.out.display(), row.addresses.join(" "));
    Ok(())
}

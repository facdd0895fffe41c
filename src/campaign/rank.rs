//! `faults rank`: the bits of packed weights, those first whose flips do most.
//!
//! Measured is what every flip did on the samples, one by one; proven is a sound bound on any one
//! flip in the row of the bit, so it is never below what was measured.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use engine::model::{Slot, Weights};
use engine::packing::weight_of;
use engine::walk::Read;
use faults::{Address, BitEffect, Ranking, Sweep, UnusedCode};
use serde_json::{Value, json};

use super::Subject;
use super::ask::{self, Place};
use super::map::{Seen, ask_of, default_samples, no_map};
use super::signals::Signals;
use super::words::TellingArgs;
use crate::analyze::{self, RowBound};
use crate::cli::{KvArg, UnusedArg};
use crate::failure::{Exit, Failure};
use crate::{commands, machine, output};

/// Bits whose rows are bounded, at most.
const BOUNDED: usize = 100;
/// Bits that are shown where a file has all of them.
const SHOWN: usize = 20;

/// Options of `faults rank`.
#[derive(Args, Debug)]
pub struct RankArgs {
    /// Checkpoint folder, or @name of an embedded model
    pub model: String,
    /// Samples: .jsonl with input_ids, text or inputs_embeds a line, or .safetensors
    #[arg(long, value_name = "FILE")]
    pub inputs: Option<PathBuf>,
    /// How many bits, the worst first; 0 for all of them, which only a file holds
    #[arg(long, default_value_t = SHOWN)]
    pub top: usize,
    /// Only tensors of these names in every layer, such as mlp.down_proj
    #[arg(long, value_delimiter = ',', value_name = "NAME,...")]
    pub tensors: Option<Vec<String>>,
    /// Only these layers, from 0
    #[arg(long, value_delimiter = ',', value_name = "N,...")]
    pub layers: Option<Vec<usize>>,
    /// What the unused code of 2-bit weights means [default: deployed]
    #[arg(long, value_enum)]
    pub unused_code: Option<UnusedArg>,
    /// How keys and values are stored
    #[arg(long, value_enum, default_value = "f32")]
    pub kv: KvArg,
    /// Token ids among which the decision is taken, for samples without classes of their own
    #[arg(long, value_delimiter = ',', value_name = "ID,ID,...")]
    pub classes: Option<Vec<u32>>,
    /// At most this many samples [default: as many as make up to 8388608 faults, one at least]
    #[arg(long)]
    pub limit: Option<usize>,
    /// Where to write them: .jsonl or .csv
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Worker threads [default: one a processor]
    #[arg(long)]
    pub threads: Option<usize>,
    /// Kernel table [default: the fastest; no bit depends on it]
    #[arg(long)]
    pub kernels: Option<String>,
    /// No progress and no table
    #[arg(short, long)]
    pub quiet: bool,
    /// Map weight files instead of reading them
    #[arg(long)]
    pub mmap: bool,
}

/// How a file is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Lines,
    Csv,
}

/// Runs `faults rank`.
///
/// # Errors
/// Whatever ended it early.
pub(super) fn rank(args: &RankArgs) -> Result<(), Failure> {
    let format = args.output.as_deref().map(format_of).transpose()?;
    if args.top == 0 && format.is_none() {
        let what = "--top 0: all bits are for a file";
        return Err(Failure::usage(what).help("-o bits.csv, or --top 20"));
    }
    let telling = TellingArgs {
        threads: args.threads,
        kernels: args.kernels.clone(),
        output: Vec::new(),
        fail_under: Vec::new(),
        fail_over: Vec::new(),
        reproducible: true,
        quiet: args.quiet,
        mmap: args.mmap,
    };
    let place = Place {
        model: ask::standing(&args.model)?,
        inputs: args.inputs.clone(),
        classes: args.classes.clone(),
        limit: args.limit,
        until_precision: None,
        generate: None,
        unused_code: args.unused_code.map(|arg| analyze::unused_code(Some(arg)).name().into()),
    };
    machine::pool(args.threads)?.install(|| {
        let subject = Subject::load(&telling, place)?;
        let samples = default_samples(&subject, args.limit, &args.layers, &args.tensors);
        let plan = faults::MapPlan {
            samples,
            unused: analyze::unused_code(args.unused_code),
            kv: args.kv.kind(),
            positions: Read::Last,
            prove: false,
            within: ask_of(&args.layers, &args.tensors),
        };
        let sweep = subject.sweep(plan)?;
        let ranking = measured(&sweep, args.quiet)?;
        let top = if args.top == 0 { ranking.len() } else { args.top.min(ranking.len()) };
        let bounds = bounds(&subject, &sweep, &ranking, top.min(BOUNDED))?;
        let bits = Bits { subject: &subject, sweep: &sweep, ranking: &ranking, bounds };
        if let (Some(path), Some(format)) = (&args.output, format) {
            output::write(path, bits.file(top, format)?.as_bytes())?;
        }
        if args.quiet {
            return Ok(());
        }
        commands::tell(bits.table(top.min(if args.top == 0 { SHOWN } else { top }))?.as_bytes())
    })
}

fn format_of(path: &Path) -> Result<Format, Failure> {
    output::check(path)?;
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("jsonl") => Ok(Format::Lines),
        Some("csv") => Ok(Format::Csv),
        _ => Err(Failure::usage(format!("{}: expected .jsonl or .csv", path.display()))),
    }
}

/// Runs every flip.
fn measured(sweep: &Sweep, quiet: bool) -> Result<Ranking, Failure> {
    let signals = Signals::listen()?;
    let pairs = sweep.bits() * sweep.samples() as u64;
    if !quiet {
        let (bits, samples) = (sweep.bits(), sweep.samples());
        eprintln!("{bits} single-bit faults on each of {samples} samples: {pairs} faults");
    }
    let seen = Seen::new(pairs, (0, 0), !quiet);
    let ranking = sweep.rank(&|faults, sdc| seen.add((faults, sdc)), &|| signals.stop());
    ranking.map_err(no_map)?.ok_or_else(|| {
        let exit = signals.exit().unwrap_or(Exit::Interrupted);
        Failure { exit, what: "interrupted; a ranking keeps nothing".into(), help: None }
    })
}

/// The row of a bit.
fn row_of(address: &Address) -> (usize, Slot, usize) {
    match *address {
        Address::Code { layer, slot, row, .. } => (layer, slot, row),
        _ => unreachable!("bits of packed weights are ranked"),
    }
}

type Bounds = BTreeMap<(usize, usize, usize), RowBound>;

fn key((layer, slot, row): (usize, Slot, usize)) -> (usize, usize, usize) {
    (layer, slot as usize, row)
}

/// Bounds of the rows of the first bits.
fn bounds(
    subject: &Subject,
    sweep: &Sweep,
    ranking: &Ranking,
    top: usize,
) -> Result<Bounds, Failure> {
    let mut rows: Vec<(usize, Slot, usize)> = Vec::new();
    for rank in 0..top {
        let row = row_of(&ranking.at(sweep, rank).0);
        if !rows.contains(&row) {
            rows.push(row);
        }
    }
    let request = subject.map_request(sweep)?;
    let context = subject.context(&request);
    let found = analyze::row_bounds(&context, &rows, sweep.samples());
    let of = rows.into_iter().zip(found);
    Ok(of.filter_map(|(row, bound)| Some((key(row), bound?))).collect())
}

/// The bits in order, with all that is told of them.
struct Bits<'a> {
    subject: &'a Subject<'a>,
    sweep: &'a Sweep<'a>,
    ranking: &'a Ranking,
    bounds: Bounds,
}

/// One bit.
struct Bit {
    address: Address,
    physical: String,
    /// The weight before and after; no weight where a reader detects the code.
    weights: (i32, Option<i32>),
    effect: BitEffect,
    bound: Option<RowBound>,
}

impl Bits<'_> {
    fn bit(&self, rank: usize) -> Result<Bit, Failure> {
        let (address, effect) = self.ranking.at(self.sweep, rank);
        let model = &self.subject.loaded.model;
        // A shape that the packed layout does not hold has no such place.
        let physical = address.physical(model).ok().flatten();
        let physical = physical.map_or_else(String::new, |place| place.to_string());
        let Address::Code { layer, slot, row, column, bit } = address else {
            return Err(Failure::bug("bits of packed weights are ranked"));
        };
        let Weights::Ternary { rows, .. } = &model.layers[layer].linear(slot).weights else {
            return Err(Failure::bug("the tensor is packed"));
        };
        let code = rows.code(row, column);
        let flipped = code ^ 1 << bit;
        let after = match (flipped == engine::packing::UNUSED_CODE, self.sweep.plan().unused) {
            (true, UnusedCode::Detect) => None,
            (true, UnusedCode::Zero) => Some(0),
            _ => Some(weight_of(flipped)),
        };
        let bound = self.bounds.get(&key((layer, slot, row))).copied();
        Ok(Bit { address, physical, weights: (weight_of(code), after), effect, bound })
    }

    fn table(&self, top: usize) -> Result<String, Failure> {
        let samples = self.sweep.samples();
        let mut text = format!(
            "{:>5}  {:>9}  {:>8}  {:>11}  {:>9}  {:>8}  bit\n",
            "rank", "changed", "weight", "margin loss", "logit", "proven"
        );
        for rank in 0..top {
            let Bit { address, physical, weights, effect, bound } = self.bit(rank)?;
            let after = weights.1.map_or_else(|| "due".to_owned(), |after| format!("{after:+}"));
            let proven = bound.and_then(|bound| bound.change);
            let proven = proven.map_or_else(|| "-".to_owned(), |change| format!("{change:.3}"));
            let value = |value: f64| if value.is_finite() { value } else { 0.0 };
            writeln!(
                text,
                "{:>5}  {:>9}  {:>8}  {:>11.3}  {:>9.3}  {proven:>8}  {address} {physical}",
                rank + 1,
                format!("{}/{samples}", effect.sdc),
                format!("{:+} to {after}", weights.0),
                value(effect.margin_loss),
                value(effect.logit_change),
            )
            .expect("text takes all");
        }
        text.push_str(
            "changed: samples whose decision the flip changes; logit: the largest change of one; \
             proven: no flip\nin the row of the bit changes a logit by more\n",
        );
        Ok(text)
    }

    fn file(&self, top: usize, format: Format) -> Result<String, Failure> {
        let mut text = String::new();
        for rank in 0..top {
            let fields = self.fields(rank)?;
            match format {
                Format::Lines => {
                    let fields: serde_json::Map<String, Value> =
                        fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
                    writeln!(text, "{}", Value::Object(fields)).expect("text takes all");
                }
                Format::Csv => {
                    if rank == 0 {
                        let names: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
                        writeln!(text, "{}", names.join(",")).expect("text takes all");
                    }
                    let values: Vec<String> = fields.iter().map(|(_, value)| cell(value)).collect();
                    writeln!(text, "{}", values.join(",")).expect("text takes all");
                }
            }
        }
        Ok(text)
    }

    fn fields(&self, rank: usize) -> Result<Vec<(&'static str, Value)>, Failure> {
        let Bit { address, physical, weights, effect, bound } = self.bit(rank)?;
        let (layer, slot, _) = row_of(&address);
        let finite = |value: f64| value.is_finite().then_some(value);
        Ok(vec![
            ("rank", json!(rank + 1)),
            ("address", json!(address.to_string())),
            ("physical", json!(physical)),
            ("layer", json!(layer)),
            ("tensor", json!(slot.name())),
            ("weight_before", json!(weights.0)),
            ("weight_after", json!(weights.1)),
            ("samples", json!(self.sweep.samples())),
            ("sdc", json!(effect.sdc)),
            ("due", json!(effect.due)),
            ("worst_sample", json!(effect.sample)),
            ("max_margin_loss", json!(finite(effect.margin_loss))),
            ("max_logit_change", json!(finite(effect.logit_change))),
            ("row_logit_change_bound", json!(bound.and_then(|bound| bound.change))),
            ("row_proven_samples", json!(bound.map(|bound| bound.proven))),
        ])
    }
}

/// A value in a line of CSV: addresses hold commas.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => format!("\"{text}\""),
        other => other.to_string(),
    }
}

//! `flip`: what one flipped bit does to the logits, and a checkpoint that has it flipped.

mod patch;

pub(crate) use patch::{Place, place, write_patched};

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use engine::formats::Loaded;
use engine::walk::Read;
use faults::{AddressError, AnyAddress, Effect, Fault, Outcome, effect};
use serde_json::{Value, json};

use crate::analyze::{fault_sample, unused_code};
use crate::cli::{KvArg, UnusedArg};
use crate::failure::Failure;
use crate::input::Sample;
use crate::source::Origin;
use crate::{commands, input, machine, source};

/// Options of `flip`.
#[derive(Args, Debug)]
pub struct FlipArgs {
    /// Checkpoint folder, GGUF file, or @name of an embedded model
    pub model: String,
    /// Logical or physical address of a bit
    #[arg(long, value_name = "ADDRESS")]
    pub bit: String,
    /// Samples to show the effect on [default: those of the embedded model]
    #[arg(long, value_name = "FILE")]
    pub inputs: Option<PathBuf>,
    /// How many samples to show
    #[arg(long, default_value_t = 3)]
    pub limit: usize,
    /// Write the checkpoint with this bit flipped to a new folder
    #[arg(long, value_name = "FOLDER")]
    pub write: Option<PathBuf>,
    /// What the unused code of 2-bit weights means
    #[arg(long, value_enum)]
    pub unused_code: Option<UnusedArg>,
    /// How keys and values are stored
    #[arg(long, value_enum, default_value = "f32")]
    pub kv: KvArg,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// How many of the largest logits the text shows.
const SHOWN: usize = 5;

/// Runs `flip`.
///
/// # Errors
/// If the model, the address or the samples are refused, or the patched checkpoint cannot be
/// written.
pub fn run(args: &FlipArgs) -> Result<(), Failure> {
    let typed: AnyAddress = args.bit.parse().map_err(|error| {
        Failure::usage(format!("--bit: {error}"))
            .help("--bit \"model.layers.0.mlp.down_proj.weight[3,7].1\"")
    })?;
    let origin = source::resolve(&args.model)?;
    let loaded = source::load_to_strike(&origin, args.unused_code, false)?;
    source::refuse_faults_on_zeroed(&loaded, args.unused_code)?;
    let address = typed.resolve(&loaded.model).map_err(absent)?;
    // Before any sample tells its length, a store may be as long as the model takes.
    let longest = loaded.model.config.max_positions;
    address.check(&loaded.model, args.kv.kind(), longest).map_err(absent)?;
    let write = || match &args.write {
        Some(folder) => {
            write_patched(&origin, &loaded, &[address], folder)?;
            eprintln!("wrote {} with {address} flipped", folder.display());
            if let Some(otherwise) = read_otherwise(&origin.copied_to(folder), &loaded) {
                eprintln!("note: {otherwise}");
            }
            Ok(())
        }
        None => Ok(()),
    };
    if args.inputs.is_none() && origin.embedded.is_none() {
        return match args.write {
            Some(_) => write(),
            None => Err(Failure::usage("a checkpoint needs samples to show an effect on")
                .help("--inputs FILE.jsonl, or --write FOLDER for a patched checkpoint alone")),
        };
    }
    let file = args.inputs.as_deref();
    let samples = input::read(&origin, &loaded, file, None, Some(args.limit))?;
    let fault = Fault::single(address);
    let mut all = Vec::new();
    for (index, sample) in samples.samples.iter().enumerate() {
        all.push((index, sample, shown_effect(args, &loaded, sample, &fault)?));
    }
    write()?;
    let physical = address.physical(&loaded.model).ok().flatten().map(|place| place.to_string());
    let place = place(&loaded, &address).ok();
    let text = if args.json {
        let object = json!({
            "address": address.to_string(),
            "physical": physical,
            "file": place.as_ref().map(|place| &place.file),
            "file_byte": place.as_ref().map(|place| place.byte),
            "file_bit": place.as_ref().map(|place| place.bit),
            "samples": all.iter().map(as_json).collect::<Vec<Value>>(),
        });
        format!("{object:#}\n")
    } else {
        let mut text = format!("{address}\n");
        if let Some(physical) = physical {
            writeln!(text, "  stored at {physical}").expect("a string takes all");
        }
        if let Some(Place { file, byte, bit, .. }) = place {
            let file = commands::shown(&file, &[]);
            writeln!(text, "  in {file}, byte {byte}, bit {bit}").expect("a string takes all");
        }
        all.iter().for_each(|one| tell(&mut text, one));
        text
    };
    commands::tell(text.as_bytes())
}

/// What a reader of a written copy does that a fault in loaded weights does not: it may refuse the
/// flipped bit, or take the activations of the whole model otherwise.
fn read_otherwise(written: &Origin, loaded: &Loaded) -> Option<String> {
    let again = match source::load(written, Some(UnusedArg::Deployed), false) {
        Ok(again) => again,
        Err(refusal) => return Some(format!("readers refuse the written checkpoint: {refusal}")),
    };
    let (before, after) = (loaded.model.config.activations, again.model.config.activations);
    (before != after).then(|| {
        format!(
            "read again its activations are {}, not {}; a word behind its name keeps them, as in \
             {},activations=int8",
            after.name(),
            before.name(),
            written.path.display()
        )
    })
}

fn absent(error: AddressError) -> Failure {
    Failure::usage(format!("--bit: {error}"))
        .help("`bitnet-certify inspect` for the tensors and their shapes")
}

fn shown_effect(
    args: &FlipArgs,
    loaded: &Loaded,
    sample: &Sample,
    fault: &Fault,
) -> Result<Effect, Failure> {
    let kernels = machine::kernels(None)?;
    let unused = unused_code(args.unused_code);
    let how = (args.kv.kind(), Read::Last);
    effect(&loaded.model, kernels, how, fault_sample(sample), fault, unused)
        .map_err(|error| Failure::usage(format!("--bit: {error}")))
}

/// One sample with its number and its effect.
type Shown<'a> = (usize, &'a Sample, Effect);

fn outcome(effect: &Effect) -> &'static str {
    match effect.trial.outcome {
        Outcome::Masked { identical: true } => "masked (no bit of the logits changed)",
        Outcome::Masked { identical: false } => "masked",
        Outcome::Sdc => "sdc (the decision changed in silence)",
        Outcome::Due(_) => "due (detected)",
    }
}

fn tell(text: &mut String, (index, sample, effect): &Shown) {
    let mut line = |line: String| writeln!(text, "{line}").expect("a string takes all");
    let label = sample.label.map_or(String::new(), |label| format!(", label {label}"));
    let after = effect.trial.decision.map_or("none".into(), |decision| decision.to_string());
    line(format!("sample {index}{label}: {}", outcome(effect)));
    line(format!("  decision {} -> {after}", effect.decision));
    if let Some(shift) = effect.trial.shift {
        line(format!(
            "  largest logit change {:.4e}, margin loss {:.4e}, KL {:.4e} nats",
            shift.max_logit_change, shift.margin_loss, shift.kl_divergence
        ));
    }
    let before: Vec<f32> = effect.before.iter().copied().collect();
    let mut order: Vec<usize> = (0..before.len()).collect();
    order.sort_by(|&a, &b| before[b].total_cmp(&before[a]));
    line("  token      before       after".into());
    for &token in order.iter().take(SHOWN) {
        let after = effect.after.as_ref().map(|after| after[[0, token]]);
        let after = after.map_or("-".into(), |after| format!("{after:.6}"));
        line(format!("  {token:<7} {:>11.6} {after:>11}", before[token]));
    }
}

fn as_json((index, sample, effect): &Shown) -> Value {
    let row = |logits: &ndarray::Array2<f32>| -> Vec<Option<f32>> {
        logits.iter().map(|&x| x.is_finite().then_some(x)).collect()
    };
    let shift = effect.trial.shift;
    json!({
        "index": index,
        "label": sample.label,
        "outcome": effect.trial.outcome.name(),
        "decision_before": effect.decision,
        "decision_after": effect.trial.decision,
        "max_logit_change": shift.map(|shift| shift.max_logit_change),
        "margin_loss": shift.map(|shift| shift.margin_loss),
        "kl": shift.map(|shift| shift.kl_divergence),
        "logits_before": row(&effect.before),
        "logits_after": effect.after.as_ref().map(row),
    })
}

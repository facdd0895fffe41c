//! `attack`: few flips of stored bits that change the decisions of a model, beside how many are
//! proven not to.

mod lower;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use engine::walk::Read;
use faults::{End, Goal, Golden, Identity, Search, SearchError, search};
use lower::Searched;
use serde_json::{Value, json};

use crate::analyze::{Clock, MOST_FLIPS, goldens, targets_named, unused_code};
use crate::cli::UnusedArg;
use crate::failure::Failure;
use crate::flip::write_patched;
use crate::input::Samples;
use crate::{commands, input, machine, source};

/// Options of `attack`.
#[derive(Args, Debug)]
pub struct AttackArgs {
    /// Checkpoint folder, GGUF file, or @name of an embedded model
    #[arg(default_value = source::DEFAULT)]
    pub model: String,
    /// Samples to attack [default: those of the embedded model]
    #[arg(long, value_name = "FILE")]
    pub inputs: Option<PathBuf>,
    /// At most this many samples
    #[arg(long, default_value_t = 16)]
    pub limit: usize,
    /// Tokens to decide among
    #[arg(long, value_delimiter = ',')]
    pub classes: Option<Vec<u32>>,
    /// Make decisions this token [default: any other]
    #[arg(long, value_name = "TOKEN")]
    pub toward: Option<u32>,
    /// Share of the samples whose decisions must change
    #[arg(long, default_value_t = 0.5)]
    pub share: f64,
    /// Attack every sample alone, with flips of its own
    #[arg(long)]
    pub each: bool,
    /// What may be flipped: weight_code, weight_scale, weight_float, norm, embedding, lm_head
    #[arg(long, value_delimiter = ',', default_value = "weight_code")]
    pub targets: Vec<String>,
    /// The most flips
    #[arg(long, default_value_t = 32)]
    pub flips: usize,
    /// The most runs of one sample under one fault, for each search
    #[arg(long, default_value_t = 2_000_000)]
    pub evaluations: u64,
    /// Candidates that a round runs on all samples, and pairs that it looks ahead
    #[arg(long, default_value_t = 16)]
    pub width: usize,
    /// Seed of the candidates, where not all can be tried
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// What the unused code of 2-bit weights means
    #[arg(long, value_enum)]
    pub unused_code: Option<UnusedArg>,
    /// Write the checkpoint with all flips to a new folder; not with --each
    #[arg(long, value_name = "FOLDER", conflicts_with = "each")]
    pub write: Option<PathBuf>,
    /// Worker threads [default: one a processor]
    #[arg(long)]
    pub threads: Option<usize>,
    /// No progress bar
    #[arg(long, short)]
    pub quiet: bool,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// Runs `attack`.
///
/// # Errors
/// If model, samples or settings are refused, or the patched checkpoint cannot be written.
pub fn run(args: &AttackArgs) -> Result<(), Failure> {
    let settings = settings(args)?;
    machine::pool(args.threads)?.install(|| {
        let origin = source::resolve(&args.model)?;
        let loaded = source::load_to_strike(&origin, args.unused_code, false)?;
        source::refuse_faults_on_zeroed(&loaded, args.unused_code)?;
        let (file, classes) = (args.inputs.as_deref(), args.classes.as_deref());
        let samples = input::read(&origin, &loaded, file, classes, Some(args.limit))?;
        let kernels = machine::kernels(None)?;
        let model = &loaded.model;
        let goldens = goldens(model, kernels, Read::Last, &samples)?;
        settings.check(&goldens).map_err(refused)?;
        let sets: Vec<&[Golden]> =
            if args.each { goldens.chunks(1).collect() } else { vec![&goldens[..]] };
        let seed = format!("attack seed={}", args.seed);
        let identity = Identity::of(&[&loaded.manifest.digest, &samples.digest, &seed]);
        let mut all = Vec::with_capacity(sets.len());
        let budgets = lower::budgets(args, model, &settings.targets, &samples)?;
        let clock = Clock::start(Instant::now(), None, !args.quiet);
        for (index, goldens) in sets.into_iter().enumerate() {
            let stage = clock.stage("evaluations", settings.evaluations);
            let progress = |used| stage.at(used);
            let found =
                search(model, kernels, goldens, &settings, &identity, (&progress, &|| false));
            let found = found.map_err(refused)?;
            let first = index * goldens.len();
            let budgets = budgets.as_ref().map(|all| &all[first..first + goldens.len()]);
            let goal = (settings.goal, settings.share);
            all.push(lower::beside(found, budgets, goldens, goal)?);
        }
        if let Some(folder) = &args.write {
            let flips: Vec<_> = all[0].found.steps.iter().map(|step| step.flip).collect();
            write_patched(&origin, &loaded, &flips, folder)?;
            eprintln!("wrote {} with {} flips", folder.display(), flips.len());
        }
        let text = if args.json {
            format!("{:#}\n", as_json(args, &loaded.manifest.digest, &samples, &all))
        } else if args.each {
            by_sample(args, &all)
        } else {
            step_by_step(args, &all[0])
        };
        commands::tell(text.as_bytes())
    })
}

fn settings(args: &AttackArgs) -> Result<Search, Failure> {
    Ok(Search {
        goal: args.toward.map_or(Goal::Untargeted, Goal::Targeted),
        targets: targets_named(&args.targets, false)?,
        unused: unused_code(args.unused_code),
        share: if args.each { 1.0 } else { args.share },
        most_flips: args.flips,
        evaluations: args.evaluations,
        width: args.width,
    })
}

fn refused(error: SearchError) -> Failure {
    let help = match &error {
        SearchError::Targets { .. } | SearchError::NoBits { .. } => "--targets weight_code",
        SearchError::Share { .. } => "--share 0.5",
        SearchError::TargetToken { .. } => "--toward with one of the classes",
        SearchError::Nothing { .. } => "the default, by leaving it out",
        SearchError::NoSamples => "--inputs FILE.jsonl with samples",
    };
    Failure::usage(error).help(help)
}

fn ended(end: End) -> &'static str {
    match end {
        End::Reached => "reached",
        End::Flips => "not reached: as many flips as were allowed",
        End::Evaluations => "not reached: the evaluations are used up",
        End::Stuck => "not reached: no further flip makes it better",
        End::Stopped => "stopped",
    }
}

/// What is shown of the fewest flips, from below.
fn least(of: &Searched) -> String {
    match of.at_least {
        0 => "no flip is needed: the decisions are as wanted".into(),
        1 => "at least 1 flip is needed".into(),
        least if least > of.found.least => format!("at least {least} flips are needed: proven"),
        least => format!("at least {least} flips are needed: every single one was run"),
    }
}

fn step_by_step(args: &AttackArgs, of: &Searched) -> String {
    let found = &of.found;
    let mut text = format!(
        "{}: {} of {} samples wanted\n  flip  won  resistance  bit\n",
        args.model,
        wanted(args.share, found.samples),
        found.samples
    );
    for (number, step) in found.steps.iter().enumerate() {
        writeln!(
            text,
            "  {:>4}  {:>3}  {:>10.4}  {}",
            number + 1,
            step.won,
            step.resistance,
            step.flip
        )
        .expect("a string takes all");
    }
    let (end, flips) = (ended(found.end), found.steps.len());
    writeln!(text, "{end}, {flips} flips, {} evaluations; {}", found.evaluations, least(of))
        .expect("a string takes all");
    writeln!(text, "{}", lower::told(of.budgets.as_deref())).expect("a string takes all");
    text
}

fn wanted(share: f64, samples: u64) -> u64 {
    (share * samples as f64).ceil() as u64
}

fn by_sample(args: &AttackArgs, all: &[Searched]) -> String {
    let columns = "  sample  flips  shown   budget  end";
    let mut text = format!("{}: every sample alone\n{columns}\n", args.model);
    for (number, of) in all.iter().enumerate() {
        let found = &of.found;
        let flips = match found.end {
            End::Reached => found.steps.len().to_string(),
            _ => "-".into(),
        };
        let least = format!(">= {}", of.at_least);
        let budget = of.budgets.as_ref().map_or_else(|| "-".into(), |of| of[0].to_string());
        let end = ended(found.end);
        writeln!(text, "  {number:>6}  {flips:>5}  {least:<6}  {budget:>6}  {end}")
            .expect("a string takes all");
    }
    let mut flips: Vec<usize> = (all.iter().map(|of| &of.found))
        .filter(|found| found.end == End::Reached)
        .map(|found| found.steps.len())
        .collect();
    flips.sort_unstable();
    if let Some(median) = flips.get(flips.len() / 2) {
        writeln!(text, "changed {} of {}, by a median of {median} flips", flips.len(), all.len())
            .expect("a string takes all");
    }
    let budgets: Option<Vec<usize>> = all.iter().map(|of| Some(of.budgets.as_ref()?[0])).collect();
    writeln!(text, "{}", lower::told(budgets.as_deref())).expect("a string takes all");
    text
}

fn as_json(args: &AttackArgs, digest: &str, samples: &Samples, all: &[Searched]) -> Value {
    let search = |of: &Searched| {
        let found = &of.found;
        let steps = found.steps.iter().map(|step| {
            json!({
                "address": step.flip.to_string(),
                "won": step.won,
                "resistance": step.resistance,
                "evaluations": step.evaluations,
            })
        });
        json!({
            "reached": found.end == End::Reached,
            "end": ended(found.end),
            "samples": found.samples,
            "flips": found.steps.len(),
            "flips_at_least": of.at_least,
            "certified_flip_budgets": of.budgets,
            "gap": of.gap(),
            "evaluations": found.evaluations,
            "steps": steps.collect::<Vec<Value>>(),
        })
    };
    json!({
        "model": args.model,
        "model_digest": digest,
        "inputs_digest": samples.digest,
        "arithmetic": engine::ARITHMETIC,
        "toward": args.toward,
        "share": if args.each { 1.0 } else { args.share },
        "each": args.each,
        "targets": args.targets,
        "unused_code": unused_code(args.unused_code).name(),
        "seed": args.seed,
        "flips_searched_by_proofs": MOST_FLIPS,
        "searches": all.iter().map(search).collect::<Vec<Value>>(),
    })
}

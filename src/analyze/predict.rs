//! What a run will take: from the size of the files, and from one timed pass of each kind.

use std::hint::black_box;
use std::time::Instant;

use engine::walk::Read;

use super::assault::attack_budget;
use super::context::Context;
use super::verdicts::rms;
use crate::failure::Failure;
use crate::plan::Plan;
use crate::source::Origin;

/// Refuses a model whose files alone exceed the memory that may be used.
///
/// # Errors
/// If they do (exit 4).
pub(super) fn refuse_by_size(origin: &Origin, plan: &Plan) -> Result<(), Failure> {
    let (Some(limit), Some(bytes)) = (plan.max_memory, origin.source.tensor_bytes()) else {
        return Ok(());
    };
    if bytes > limit {
        let what = format!("the weights take {bytes} bytes, --max-memory allows {limit}");
        return Err(Failure::incomplete(what).help("a larger --max-memory"));
    }
    Ok(())
}

/// The peak memory of this process in bytes, where the platform tells.
pub(super) fn peak_memory() -> Option<u64> {
    memory_line("VmHWM:")
}

/// The memory of this process now.
pub(super) fn current_memory() -> Option<u64> {
    memory_line("VmRSS:")
}

fn memory_line(key: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// What a stage is expected to take.
struct Expected {
    stage: &'static str,
    seconds: f64,
}

/// Prints what the run will take, and starts nothing.
///
/// # Errors
/// If stdout cannot be written.
pub(super) fn show(context: &Context) -> Result<(), Failure> {
    let stages = expected(context);
    let threads = rayon::current_num_threads();
    let mut text = format!("Expected on this machine with {threads} threads:\n");
    for Expected { stage, seconds } in &stages {
        text += &format!("  {stage:<26} {seconds:>10.1} s\n");
    }
    let total: f64 = stages.iter().map(|stage| stage.seconds).sum();
    text += &format!("  {:<26} {total:>10.1} s\n", "all");
    let held = peak_memory().unwrap_or(0) + extra_memory(context);
    text += &format!("  {:<26} {:>10.0} MB\n", "memory", held as f64 / 1e6);
    crate::commands::tell(text.as_bytes())
}

/// Bytes that the stages will hold beside the model: streams, logits and boxes of the samples.
pub(super) fn extra_memory(context: &Context) -> u64 {
    let config = &context.deployed.model.config;
    let tokens: u64 = context.samples.iter().map(|sample| sample.tokens() as u64).sum();
    let most = context.samples.iter().map(|sample| sample.tokens() as u64).max().unwrap_or(0);
    let streams = (config.layers as u64 + 1) * config.hidden as u64 * 4;
    let logits = config.vocabulary as u64 * 4;
    let alone = context.large() && !crate::noise::draws(context.plan.method);
    let at_once = if alone { 1 } else { rayon::current_num_threads() as u64 };
    // Faults keep streams and logits of every sample; a pass over boxes holds a few rows in f64.
    let kept = if context.plan.inject { tokens * (streams + logits) } else { 0 };
    kept + at_once * most * (streams + 3 * logits + 64 * config.ffn as u64)
}

/// The stages with their times, from one inference and one pass over boxes of the first sample.
fn expected(context: &Context) -> Vec<Expected> {
    let plan = context.plan;
    let model = context.deployed.model;
    let x = context.entering(&context.samples[0]);
    let begun = Instant::now();
    black_box(context.deployed.logits(&x, context.from(), Read::Last));
    let exact = begun.elapsed().as_secs_f64();
    let aim = context.aim(context.from(), Read::Last, &[]);
    let regions = context.regions(&x, plan.epsilon().at(rms(&x)));
    // As if every sample climbed to the last rung.
    let passes = plan.ladder.rungs().iter().map(|rung| rung.prove(&aim, &regions[0], false));
    let passes: Vec<f64> = passes.map(|pass| pass.seconds).collect();
    let set = passes.iter().sum::<f64>() * regions.len() as f64;
    // Rows under any flips take forms only where these fit.
    let rungs = if context.forms_pay(x.nrows()) { passes.len() } else { 1 };
    let climb: f64 = passes[..rungs].iter().sum();
    let spread = if context.large() { 1.0 } else { rayon::current_num_threads() as f64 };
    let samples = context.samples.len() as f64 / spread;
    let layers = model.layers.len() as f64;
    let (search, deep) = if context.large() { (8.0, 4.0) } else { (14.0, layers) };
    let bounded = if context.large() { 4.0 } else { layers };
    let mut stages = vec![Expected { stage: "clean decisions", seconds: samples * exact }];
    let mut add = |stage, seconds| stages.push(Expected { stage, seconds });
    if plan.certify && crate::noise::draws(plan.method) {
        let trials = super::chance::trials(context) + super::chance::selection_trials(context);
        add("trials under noise", samples * regions.len() as f64 * trials as f64 * exact);
    } else if plan.certify {
        add("bounds at epsilon", samples * set * plan.epsilons.len() as f64);
        add("certified radii", samples * search * set);
        let budget = f64::from(attack_budget(context));
        let backward = if context.large() { 20.0 * exact } else { 0.0 };
        add("attack radii", samples * (budget * exact + backward));
        add("layers", samples * (search * deep * set / 2.0 + 3.0 * set));
    }
    if let Some(choices) = &context.choices {
        let runs = super::substitutions::runs(context, choices) as f64 / spread;
        add("substitutions", samples * set + runs * exact);
    }
    if plan.inject {
        let trials = super::faults::trials(context) as f64 * 6.0 / spread;
        add("fault trials", trials * exact * 0.6 + samples * exact);
        add("bounds under any flip", samples * 14.0 * bounded * set);
        add("rows under any flips", super::rows::passes(context) * climb / spread);
    }
    stages
}

//! The order of the work: load, check, cheap results first, then the dear ones, then the report.
//!
//! Whatever the time limit or the memory limit leaves out is named in the report, and the exit code
//! says so; what was finished before stands.

mod assault;
mod bounds;
pub(crate) mod chance;
mod change;
mod climb;
mod context;
mod faults;
mod layers;
mod predict;
mod protection;
mod rows;
mod substitutions;
mod verdicts;

use std::collections::BTreeSet;
use std::time::{Instant, SystemTime};

use certify::affine::Matrices;
use certify::claim::Deployed;
use engine::formats::Loaded;
use engine::kernels::Kernels;
use reports::model::{Report, Run};

pub use assault::Attacked;
pub(crate) use assault::attack_budget;
pub use bounds::{LayerBound, RowBound};
pub(crate) use bounds::{Masked, row_bounds};
pub use change::{Change, LayerPairs, Pairs};
pub use climb::{AtEpsilon, Radii, Tried};
pub use context::{Clock, Context};
pub use faults::{Campaigned, Mapped};
pub(crate) use faults::{
    fault_sample, goldens, refusal, targets, targets_named, trials, unused_code,
};
pub use layers::SampleLayers;
pub(crate) use protection::assignments;
pub use protection::{Protected, StoredBits};
pub use rows::{CacheBits, CacheFlips, LayerRows, Level, MOST_FLIPS, Place, PlaceFlips, Proven};
pub(crate) use rows::{flips_at, model_budget};
pub use substitutions::Substituted;
pub use verdicts::Clean;

use crate::assemble;
use crate::cli::AnalyzeArgs;
use crate::failure::{Exit, Failure};
use crate::input::{self, Samples};
use crate::plan::{self, Plan};
use crate::{commands, machine, output, source, substitution};

/// All that the certification stages found.
#[derive(Debug, Default)]
pub struct Certified {
    /// Verdicts at every epsilon, in the order typed.
    pub verdicts: Vec<Option<Vec<AtEpsilon>>>,
    /// Certified radii.
    pub radii: Vec<Option<Radii>>,
    /// Attack radii: not reached, or reached without or with a witness.
    pub attacks: Vec<Option<Option<Attacked>>>,
    /// Layers, of the samples whose decision holds.
    pub layers: Vec<Option<SampleLayers>>,
}

/// All that was found.
#[derive(Debug, Default)]
pub struct Found {
    /// Clean runs, one a sample.
    pub clean: Vec<Clean>,
    /// Certificates and attacks, unless switched off.
    pub certified: Option<Certified>,
    /// Substitutions of tokens, where they were asked for.
    pub substitutions: Option<Vec<Option<Substituted>>>,
    /// What a method that draws found, in place of certificates.
    pub chances: Option<chance::Chances>,
    /// Faults, unless switched off or not reached.
    pub faults: Option<Campaigned>,
    /// The map of all faults, in place of drawn ones.
    pub map: Option<Mapped>,
    /// Bounds a layer, unless switched off or not reached.
    pub bounds: Option<Vec<LayerBound>>,
    /// Rows, tensors and layers proven under several flips, likewise.
    pub rows: Option<Proven>,
}

/// Runs `analyze`; gives the exit code if the run was complete as a run.
///
/// # Errors
/// Whatever ended the run before there was a report, or a gate that failed behind it.
pub fn run(args: &AnalyzeArgs) -> Result<(), Failure> {
    let begun = Instant::now();
    let started = SystemTime::now();
    let plan = Plan::resolve(args)?;
    let kernels = machine::kernels(args.kernels.as_deref())?;
    let pool = machine::pool(args.threads)?;
    for path in plan.outputs.iter().filter(|_| !args.dry_run) {
        output::check(path)?;
    }
    pool.install(|| {
        let name = args.model.as_deref().unwrap_or(source::DEFAULT);
        let origin = source::resolve(name)?;
        if args.model.is_none() && !plan.quiet {
            eprintln!("no model was named: analysing the embedded, trained one, {name}");
        }
        predict::refuse_by_size(&origin, &plan)?;
        let load = if plan.inject { source::load_to_strike } else { source::load };
        let loaded = load(&origin, plan.unused, args.mmap)?;
        if plan.inject {
            source::refuse_faults_on_zeroed(&loaded, plan.unused)?;
        }
        let classes = plan.classes.as_deref();
        let samples = input::read(&origin, &loaded, args.inputs.as_deref(), classes, plan.limit)?;
        check_scope(&plan, &samples)?;
        check_suffix(&plan, loaded.model.layers.len())?;
        let asked = plan.substitutions.as_ref();
        let choices = asked
            .map(|asked| substitution::choices(asked, &samples.samples, &loaded.model))
            .transpose()?;
        let context = Context {
            plan: &plan,
            choices,
            deployed: Deployed { model: &loaded.model, kernels, kv: plan.kv },
            matrices: Matrices::new(&loaded.model)
                .within(plan.max_memory.unwrap_or(plan::FORMS) / 4),
            samples: &samples.samples,
            weights: assemble::weight_counts(&loaded.model).ternary,
            clock: Clock::start(begun, plan.time_limit, !plan.quiet),
        };
        if plan.inject {
            faults::check(&context)?;
        }
        if args.dry_run {
            return predict::show(&context);
        }
        let (found, mut run) = work(&context, &loaded, &samples)?;
        run.started = rfc3339(started);
        run.seconds_total = begun.elapsed().as_secs_f64();
        judge(&tell(&context, &loaded, &samples, &found, run)?)
    })
}

fn check_scope(plan: &Plan, samples: &Samples) -> Result<(), Failure> {
    for (index, sample) in samples.samples.iter().enumerate() {
        if plan.scope.moves(sample.tokens()).is_none() {
            let (scope, tokens) = (assemble::scope(plan), sample.tokens());
            return Err(Failure::refused(format!(
                "--scope {scope}: sample {index} has {tokens} tokens, expected 0 to {}",
                tokens - 1
            ))
            .help("--scope all, or a smaller 0-based position"));
        }
    }
    Ok(())
}

fn check_suffix(plan: &Plan, layers: usize) -> Result<(), Failure> {
    match plan.suffix {
        Some(suffix) if suffix > layers => {
            let what = format!("--suffix {suffix}: the model has {layers} layers");
            Err(Failure::usage(what).help(format!("--suffix 1 to --suffix {layers}")))
        }
        _ => Ok(()),
    }
}

/// The stages, cheap ones first.
fn work(context: &Context, loaded: &Loaded, samples: &Samples) -> Result<(Found, Run), Failure> {
    let mut run = empty_run(context.deployed.kernels);
    run.seconds_load = Some(context.clock.elapsed().as_secs_f64());
    let clean = verdicts::clean(context)?;
    let begun = Instant::now();
    let draws = crate::noise::draws(context.plan.method);
    let chances =
        if draws && context.plan.certify { chance::chances(context, &clean)? } else { None };
    let certified = (context.plan.certify && !draws).then(|| {
        let verdicts = climb::at_epsilons(context, &clean);
        let radii = climb::radii(context, &clean, &verdicts);
        let attacks = assault::attacks(context, &clean);
        let layers = layers::layers(context, &clean, &radii);
        Certified { verdicts, radii, attacks, layers }
    });
    let choices = context.choices.as_deref();
    let substitutions =
        choices.map(|choices| substitutions::substitutions(context, &clean, choices));
    run.methods = assemble::costs(certified.as_ref());
    run.seconds_certify = context.plan.certify.then(|| begun.elapsed().as_secs_f64());
    let begun = Instant::now();
    let (mut faults, mut bounds, mut rows) = (None, None, None);
    if context.plan.inject {
        faults = faults::campaign(context, loaded, samples)?;
        // A report has bounds beside trials only, and what left no room for those leaves none here.
        bounds = faults.as_ref().and_then(|_| bounds::bounds(context, &clean));
        rows = faults.as_ref().and_then(|_| rows::rows(context, &clean));
        run.seconds_faults = Some(begun.elapsed().as_secs_f64());
    }
    Ok((Found { clean, certified, chances, substitutions, faults, map: None, bounds, rows }, run))
}

/// What a report says of its run, before it is known.
pub(crate) fn empty_run(kernels: &Kernels) -> Run {
    Run {
        started: String::new(),
        seconds_total: 0.0,
        seconds_load: None,
        seconds_certify: None,
        methods: Vec::new(),
        seconds_faults: None,
        threads: u32::try_from(rayon::current_num_threads()).unwrap_or(u32::MAX),
        kernels: kernels.name.into(),
        peak_memory_bytes: None,
    }
}

/// Assembles, checks, writes and tells the report.
pub(crate) fn tell(
    context: &Context,
    loaded: &Loaded,
    samples: &Samples,
    found: &Found,
    mut run: Run,
) -> Result<Report, Failure> {
    let plan = context.plan;
    run.peak_memory_bytes = predict::peak_memory();
    let mut report = assemble::report(context, loaded, samples, found);
    report.run = (!plan.reproducible).then_some(run);
    if let Some(violation) = report.validate().first() {
        return Err(Failure::bug(format!(
            "the report breaks its contract at {}: {}",
            violation.path, violation.problem
        )));
    }
    write(plan, &report)?;
    if !plan.quiet {
        commands::tell(reports::text::summary(&report).as_bytes())?;
        for path in &plan.outputs {
            eprintln!("wrote {}", path.display());
        }
    }
    Ok(report)
}

fn write(plan: &Plan, report: &Report) -> Result<(), Failure> {
    for path in &plan.outputs {
        let format = reports::Format::from_path(path).map_err(Failure::usage)?;
        let text = reports::render(report, format).map_err(Failure::bug)?;
        output::write(path, text.as_bytes())?;
    }
    Ok(())
}

/// A gate that failed decides the exit code.
pub(crate) fn gates_hold(report: &Report) -> Result<(), Failure> {
    let failed: Vec<String> = (reports::metrics::evaluate_all(report).into_iter())
        .filter(|result| !result.passed)
        .map(|result| {
            let value = result.value.map_or("no value".into(), |value| value.to_string());
            format!("{} is {value}, threshold {}", result.gate.metric, result.gate.threshold.text)
        })
        .collect();
    if !failed.is_empty() {
        let what = format!("gate failed: {}", failed.join("; "));
        return Err(Failure { exit: Exit::GateFailed, what, help: None });
    }
    Ok(())
}

/// A gate that failed, or a limit that was hit, decides the exit code.
fn judge(report: &Report) -> Result<(), Failure> {
    gates_hold(report)?;
    if !report.limits_hit.is_empty() {
        let limits: BTreeSet<&str> =
            report.limits_hit.iter().map(|hit| hit.limit.as_str()).collect();
        let limits: Vec<&str> = limits.into_iter().collect();
        return Err(Failure::incomplete(format!("a limit was hit: {}", limits.join(", ")))
            .help("the report says what was left out"));
    }
    Ok(())
}

/// A time as RFC 3339 text in UTC, from the civil calendar of Howard Hinnant's `days_from_civil`.
pub(crate) fn rfc3339(time: SystemTime) -> String {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let z = days + 719_468;
    let era = z / 146_097;
    let day_of_era = z % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn times_are_civil_dates() {
        let at = |seconds| rfc3339(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01T00:00:00Z");
        assert_eq!(at(951_827_696), "2000-02-29T12:34:56Z");
        assert_eq!(at(4_102_444_799), "2099-12-31T23:59:59Z");
    }
}

//! What the words typed about noise mean: options of the methods that draw at random.

use clap::Args;
use reports::model::{Method, Norm};

use crate::failure::Failure;
use crate::plan::Plan;

/// Options of the methods that draw at random.
#[derive(Args, Clone, Debug)]
pub struct NoiseArgs {
    /// Trials under noise for each sample, of --method statistical and smoothing [default: 2000;
    /// 100 for models above 100 million weights]
    #[arg(long, value_name = "N")]
    pub noise_trials: Option<u64>,
    /// Standard deviation of the noise of --method smoothing [default: a tenth of the median rms of
    /// the rows that move]
    #[arg(long, value_name = "S", allow_hyphen_values = true)]
    pub sigma: Option<f64>,
    /// What stat_acc asks of the probability of a change, of --method statistical [default: 0.01]
    #[arg(long, value_name = "P")]
    pub stat_threshold: Option<f64>,
}

/// The same, checked.
#[derive(Clone, Copy, Debug, Default)]
pub struct Noise {
    /// Trials; `None` = by model size.
    pub trials: Option<u64>,
    /// Standard deviation; `None` = by the samples.
    pub sigma: Option<f64>,
    /// What a bound of a probability is asked.
    pub threshold: Option<f64>,
}

/// Whether a method draws at random instead of proving.
#[must_use]
pub fn draws(method: Method) -> bool {
    matches!(method, Method::Statistical | Method::Smoothing)
}

/// No more trials than a bound was made for.
const MOST_TRIALS: u64 = engine::numerics::MOST_TRIALS;

impl Noise {
    /// Checks the options of a plan that is otherwise resolved.
    ///
    /// # Errors
    /// An option that makes no sense, or that the method of the plan does not read.
    pub fn resolve(args: &NoiseArgs, plan: &Plan) -> Result<Self, Failure> {
        let typed = [
            ("--noise-trials", args.noise_trials.is_some(), draws(plan.method)),
            ("--sigma", args.sigma.is_some(), plan.method == Method::Smoothing),
            ("--stat-threshold", args.stat_threshold.is_some(), plan.method == Method::Statistical),
        ];
        if let Some((flag, ..)) = typed.into_iter().find(|(_, given, read)| *given && !read) {
            return Err(Failure::usage(format!("{flag}: the method does not read it"))
                .help("--method statistical or --method smoothing"));
        }
        if draws(plan.method) {
            balls(plan)?;
        }
        if args.noise_trials.is_some_and(|trials| trials == 0 || trials > MOST_TRIALS) {
            return Err(Failure::usage(format!("--noise-trials: expected 1 to {MOST_TRIALS}")));
        }
        if let Some(sigma) = args.sigma.filter(|sigma| !(1e-30..1e30).contains(sigma)) {
            let what = format!("--sigma {sigma}: expected a number above 0");
            return Err(Failure::usage(what).help("--sigma 0.25"));
        }
        if let Some(p) = args.stat_threshold.filter(|p| !(*p > 0.0 && *p <= 1.0)) {
            let what = format!("--stat-threshold {p}: expected above 0 and at most 1");
            return Err(Failure::usage(what).help("--stat-threshold 0.01"));
        }
        Ok(Self { trials: args.noise_trials, sigma: args.sigma, threshold: args.stat_threshold })
    }
}

/// Refuses what a method that draws would have to leave out in silence.
fn balls(plan: &Plan) -> Result<(), Failure> {
    if plan.epsilons.len() > 1 {
        return Err(Failure::usage("--epsilon: methods that draw at random take one radius")
            .help("one run for each, or the curve of --method smoothing"));
    }
    if plan.substitutions.is_some() {
        return Err(Failure::usage("--substitutions: a hull is proven, not drawn from")
            .help("--method auto"));
    }
    if plan.all_positions {
        return Err(Failure::usage("--positions all: methods that draw read the last position")
            .help("--positions last"));
    }
    if plan.method == Method::Statistical && plan.norm != Norm::Linf {
        return Err(Failure::usage("--norm l2: --method statistical draws from a box")
            .help("--norm linf, or --method smoothing"));
    }
    Ok(())
}

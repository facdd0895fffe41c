//! What the words typed mean: every default resolved, every value checked once.
//!
//! A [`Plan`] is all that the work needs to know. Nothing behind it asks the command line again,
//! and what of it may change a result is written into the report.

use std::path::PathBuf;
use std::time::Duration;

use certify::claim::Scope;
use certify::ladder::{Ladder, Rung};
use engine::model::KvKind;
use reports::model::{Gate, GateKind, Method, Norm};

use crate::cli::{AnalyzeArgs, KvArg, MethodArg, NormArg, PositionsArg, UnusedArg};
use crate::epsilon::{self, Epsilon};
use crate::failure::Failure;
use crate::noise::Noise;
use crate::substitution::{self, Asked};

/// Models above this many ternary weights get smaller defaults.
pub const LARGE: u64 = 100_000_000;
/// Memory that affine forms go by where none is given; a quarter of it is for each pass.
///
/// More of it hardly proves more: on 65 tokens of width 64 a pass that may take 512 MiB instead of
/// 200 takes 1.5 times as long, to the same verdicts.
pub const FORMS: u64 = 800 << 20;

/// A resolved request.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The radii, at least one; the first is the one that most of the report speaks of.
    pub epsilons: Vec<Epsilon>,
    /// What measures them.
    pub norm: Norm,
    /// How many of the last layers; `None` = all, and the embeddings move.
    pub suffix: Option<usize>,
    /// Which tokens may stand for others, if any.
    pub substitutions: Option<Asked>,
    /// How bounds are computed, as typed.
    pub method: Method,
    /// The same as rungs.
    pub ladder: Ladder,
    /// After what time no dearer rung is begun on a sample.
    pub budget: Duration,
    /// What a method that draws at random draws.
    pub noise: Noise,
    /// Who moves.
    pub scope: Scope,
    /// Whether every next-token position is read too.
    pub all_positions: bool,
    /// Classes for samples without their own.
    pub classes: Option<Vec<u32>>,
    /// Trials over all targets; `None` = by model size.
    pub faults: Option<u64>,
    /// Bits flipped together.
    pub flips: u32,
    /// Seed of all draws.
    pub seed: u64,
    /// Confidence of intervals.
    pub confidence: f64,
    /// The unused code: what the user said, if anything.
    pub unused: Option<UnusedArg>,
    /// Storage of keys and values.
    pub kv: KvKind,
    /// The same, as typed.
    pub kv_arg: KvArg,
    /// Evaluations of the attack a sample; `None` = by model size.
    pub attack_budget: Option<u32>,
    /// At most this many samples.
    pub limit: Option<usize>,
    /// Whether to certify and attack.
    pub certify: bool,
    /// Whether to flip bits.
    pub inject: bool,
    /// When to stop.
    pub time_limit: Option<Duration>,
    /// Memory that may be used, in bytes.
    pub max_memory: Option<u64>,
    /// Thresholds.
    pub gates: Vec<Gate>,
    /// Files to write.
    pub outputs: Vec<PathBuf>,
    /// Whether to leave out what may differ between runs.
    pub reproducible: bool,
    /// Whether to keep silent.
    pub quiet: bool,
}

impl Plan {
    /// The radius that most of the report speaks of: the first.
    #[must_use]
    pub fn epsilon(&self) -> &Epsilon {
        &self.epsilons[0]
    }

    /// Resolves the options of `analyze`.
    ///
    /// # Errors
    /// The first option that makes no sense.
    pub fn resolve(args: &AnalyzeArgs) -> Result<Self, Failure> {
        let gates = gates(&args.fail_under, &args.fail_over)?;
        if args.no_certify && args.no_faults {
            return Err(Failure::usage("--no-certify and --no-faults leave nothing to do"));
        }
        if !(args.confidence > 0.0 && args.confidence < 1.0) {
            let got = args.confidence;
            return Err(Failure::usage(format!("--confidence {got}: expected between 0 and 1"))
                .help("--confidence 0.99"));
        }
        for (flag, value) in
            [("--flips", u64::from(args.flips)), ("--faults", args.faults.unwrap_or(1))]
        {
            if value == 0 {
                return Err(Failure::usage(format!("{flag} 0: expected at least 1"))
                    .help("--no-faults to leave faults out"));
            }
        }
        let mut plan = Self {
            noise: Noise::default(),
            epsilons: epsilon::parse(&args.epsilon)?,
            norm: match args.norm {
                NormArg::Linf => Norm::Linf,
                NormArg::L2 => Norm::L2,
            },
            suffix: suffix(args.suffix)?,
            substitutions: args.substitutions.as_deref().map(substitution::parse).transpose()?,
            method: method(args.method),
            ladder: ladder(args.method),
            budget: duration("--budget", &args.budget)?,
            scope: scope(&args.scope)?,
            all_positions: args.positions == PositionsArg::All,
            classes: args.classes.clone(),
            faults: args.faults,
            flips: args.flips,
            seed: args.seed,
            confidence: args.confidence,
            unused: args.unused_code,
            kv: args.kv.kind(),
            kv_arg: args.kv,
            attack_budget: args.attack_budget,
            limit: args.limit,
            certify: !args.no_certify,
            inject: !args.no_faults,
            time_limit: (args.time_limit.as_deref())
                .map(|text| duration("--time-limit", text))
                .transpose()?,
            max_memory: args.max_memory.as_deref().map(bytes).transpose()?,
            gates,
            outputs: outputs(args)?,
            reproducible: args.reproducible,
            quiet: args.quiet,
        };
        plan.noise = Noise::resolve(&args.noise, &plan)?;
        Ok(plan)
    }
}

/// The word of the contract.
fn method(asked: MethodArg) -> Method {
    match asked {
        MethodArg::IntervalBoundPropagation => Method::IntervalBoundPropagation,
        MethodArg::Zonotope => Method::Zonotope,
        MethodArg::Auto => Method::Auto,
        MethodArg::Statistical => Method::Statistical,
        MethodArg::Smoothing => Method::Smoothing,
    }
}

/// The rungs of a method.
fn ladder(asked: MethodArg) -> Ladder {
    Ladder::new(match asked {
        // Those that draw at random climb nothing; faults are bounded as by default.
        MethodArg::IntervalBoundPropagation | MethodArg::Statistical | MethodArg::Smoothing => {
            vec![Rung::Interval]
        }
        MethodArg::Zonotope => vec![Rung::Affine],
        MethodArg::Auto => vec![Rung::Interval, Rung::Affine],
    })
}

fn suffix(asked: Option<usize>) -> Result<Option<usize>, Failure> {
    if asked == Some(0) {
        let what = "--suffix 0: expected at least 1 layer";
        return Err(Failure::usage(what).help("--suffix 1 for the last layer alone"));
    }
    Ok(asked)
}

fn scope(text: &str) -> Result<Scope, Failure> {
    match text {
        "all" => Ok(Scope::All),
        "each" => Ok(Scope::Each),
        position => position.parse().map(Scope::Position).map_err(|_| {
            Failure::usage(format!(
                "--scope {position:?}: expected all, each or a 0-based position"
            ))
        }),
    }
}

/// Thresholds, as typed behind `--fail-under` and `--fail-over`.
pub(crate) fn gates(under: &[String], over: &[String]) -> Result<Vec<Gate>, Failure> {
    let under = under.iter().map(|text| (GateKind::FailUnder, "--fail-under", text));
    let over = over.iter().map(|text| (GateKind::FailOver, "--fail-over", text));
    under
        .chain(over)
        .map(|(kind, flag, text)| {
            reports::metrics::parse_gate(kind, text).map_err(|error| {
                Failure::usage(format!("{flag}: {error}"))
                    .help("--fail-under cert_acc=0.8 --fail-over weight_code.sdc_rate_high=1e-3")
            })
        })
        .collect()
}

fn outputs(args: &AnalyzeArgs) -> Result<Vec<PathBuf>, Failure> {
    if args.output.is_empty() {
        let folder = PathBuf::from("bitnet-certify-report");
        return Ok(vec![folder.join("report.json"), folder.join("report.html")]);
    }
    for path in &args.output {
        reports::Format::from_path(path)
            .map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
    }
    Ok(args.output.clone())
}

/// Splits a number and its unit.
fn split_unit(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    (&text[..end], text[end..].trim())
}

fn duration(flag: &str, text: &str) -> Result<Duration, Failure> {
    let refuse =
        || Failure::usage(format!("{flag} {text:?}: expected a time such as 90s, 15m or 2h"));
    let (number, unit) = split_unit(text);
    let number: f64 = number.parse().map_err(|_| refuse())?;
    let seconds = match unit {
        "" | "s" => number,
        "m" | "min" => number * 60.0,
        "h" => number * 3600.0,
        _ => return Err(refuse()),
    };
    Duration::try_from_secs_f64(seconds).map_err(|_| refuse())
}

fn bytes(text: &str) -> Result<u64, Failure> {
    let refuse =
        || Failure::usage(format!("--max-memory {text:?}: expected a size such as 512MB or 6GB"));
    let (number, unit) = split_unit(text);
    let number: f64 = number.parse().map_err(|_| refuse())?;
    let factor = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kb" | "kib" => 1024.0,
        "m" | "mb" | "mib" => 1024.0 * 1024.0,
        "g" | "gb" | "gib" => 1024.0 * 1024.0 * 1024.0,
        _ => return Err(refuse()),
    };
    let value = number * factor;
    if (1.0..1e18).contains(&value) { Ok(value as u64) } else { Err(refuse()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_have_units() {
        assert_eq!(duration("--budget", "90s").expect("a time"), Duration::from_secs(90));
        assert_eq!(duration("--budget", "1.5m").expect("a time"), Duration::from_secs(90));
        assert_eq!(bytes("6GB").expect("a size"), 6 << 30);
        assert_eq!(bytes("512").expect("a size"), 512);
        for text in ["", "s", "-3s", "3 days", "NaN"] {
            assert!(duration("--budget", text).is_err(), "{text}");
        }
        for text in ["", "0", "-1GB", "6XB", "inf"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn scopes_are_words_or_positions() {
        assert_eq!(scope("each").expect("a scope"), Scope::Each);
        assert_eq!(scope("3").expect("a scope"), Scope::Position(3));
        assert!(scope("-1").is_err() && scope("some").is_err());
    }
}

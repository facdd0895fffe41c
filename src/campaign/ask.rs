//! What a campaign is asked to do: plan file and flags resolved, and the same as the journal keeps
//! it.

use std::path::{Path, PathBuf};

use certify::claim::Scope;
use certify::ladder::{Ladder, Rung};
use engine::model::KvKind;
use engine::walk::Read;
use faults::journal::{Header, Shard};
use faults::mix::{Stratum, Within};
use faults::pattern::Rate;
use faults::{
    Mix, Pattern, Plan as FaultPlan, PlanError, PlanFile, Protection, Target, UnusedCode,
};
use reports::model::{Method, Norm};
use serde::{Deserialize, Serialize};

use super::words::{RunArgs, TellingArgs};
use crate::analyze;
use crate::cli::{KvArg, PositionsArg, UnusedArg};
use crate::epsilon;
use crate::failure::Failure;
use crate::input::read_file;
use crate::noise::Noise;
use crate::plan::{self, Plan};

/// How many of the worst trials are reported.
pub(super) const WORST: usize = 20;

/// Where model and samples are, and what of the request is in no plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Place {
    pub(super) model: String,
    pub(super) inputs: Option<PathBuf>,
    pub(super) classes: Option<Vec<u32>>,
    pub(super) limit: Option<usize>,
    /// The half-width that the campaign goes on to, as typed.
    #[serde(default)]
    pub(super) until_precision: Option<String>,
    /// Tokens of the text that each trial generates, if any.
    #[serde(default)]
    pub(super) generate: Option<u32>,
    /// What was said of the unused code, if anything: a file that holds one is else refused.
    pub(super) unused_code: Option<String>,
    /// How many bits a ranking tells; 0 for all.
    #[serde(default)]
    pub(super) top: Option<usize>,
}

impl Place {
    pub(super) fn of(args: &RunArgs, file: &PlanFile) -> Result<Self, Failure> {
        let unused = args.unused_code.map(|arg| unused_of(arg).name().to_owned());
        Ok(Self {
            model: standing(&args.model)?,
            inputs: args.inputs.as_deref().map(absolute).transpose()?,
            classes: args.classes.clone(),
            limit: args.limit,
            until_precision: args.until_precision.clone(),
            generate: args.generate,
            unused_code: unused.or_else(|| file.unused_code.clone()),
            top: None,
        })
    }

    pub(super) fn read(header: &Header) -> Result<Self, Failure> {
        serde_json::from_str(&header.request)
            .map_err(|error| Failure::refused(format!("the journal's request: {error}")))
    }

    pub(super) fn unused(&self) -> Option<UnusedArg> {
        match self.unused_code.as_deref().and_then(UnusedCode::named)? {
            UnusedCode::Deployed => Some(UnusedArg::Deployed),
            UnusedCode::Zero => Some(UnusedArg::Zero),
            UnusedCode::Detect => Some(UnusedArg::Detect),
        }
    }
}

/// The model's name as it is found from any folder.
pub(super) fn standing(model: &str) -> Result<String, Failure> {
    if model.starts_with('@') {
        return Ok(model.to_owned());
    }
    let path = absolute(Path::new(model))?;
    path.into_os_string()
        .into_string()
        .map_err(|_| Failure::usage(format!("{model}: a journal needs a path that is text")))
}

/// A path as it is found from any folder.
pub(super) fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path)
        .map_err(|error| Failure::refused(format!("{}: {error}", path.display())))
}

/// Reads the plan file, if there is one, and puts the flags over it.
pub(super) fn plan_file(args: &RunArgs) -> Result<PlanFile, Failure> {
    let mut file = match &args.plan {
        None => PlanFile::default(),
        Some(path) => {
            let text = String::from_utf8(read_file(path)?)
                .map_err(|_| Failure::usage(format!("{}: it is no text", path.display())))?;
            let refuse = |error| Failure::usage(format!("{}: {error}", path.display()));
            let file = PlanFile::parse(&text).map_err(refuse)?;
            file.strata().map_err(refuse)?;
            file
        }
    };
    let own = args.targets.is_some() || args.flips.is_some() || args.ber.is_some();
    if !file.fault.is_empty() && own {
        let what = "--targets, --flips and --ber are a plan of their own, and --plan has faults";
        return Err(Failure::usage(what).help("the [[fault]] of the plan alone"));
    }
    file.seed = args.seed.or(file.seed);
    file.trials = args.trials.or(file.trials);
    file.confidence = args.confidence.or(file.confidence);
    let word = |flag: Option<&str>, file: &mut Option<String>| {
        if let Some(flag) = flag {
            *file = Some(flag.to_owned());
        }
    };
    word(args.unused_code.map(|arg| unused_of(arg).name()), &mut file.unused_code);
    word(args.kv.map(|arg| arg.kind().name()), &mut file.kv);
    let positions = |arg| if arg == PositionsArg::All { "all" } else { "last" };
    word(args.positions.map(positions), &mut file.positions);
    check_numbers(args, &file)?;
    Ok(file)
}

fn check_numbers(args: &RunArgs, file: &PlanFile) -> Result<(), Failure> {
    for (name, value, least) in [("seed", file.seed, 0), ("trials", file.trials, 1)] {
        if value.is_some_and(|value| !(least..=PlanFile::MOST).contains(&value)) {
            let got = value.unwrap_or_default();
            return Err(Failure::usage(format!(
                "{name} {got}: expected {least} to {}",
                PlanFile::MOST
            )));
        }
    }
    if args.flips == Some(0) {
        return Err(Failure::usage("--flips 0: expected at least 1"));
    }
    match file.confidence {
        Some(got) if !(got > 0.0 && got < 1.0) => {
            Err(Failure::usage(format!("confidence {got}: expected between 0 and 1"))
                .help("--confidence 0.99"))
        }
        _ => Ok(()),
    }
}

/// The targets that were typed.
pub(super) fn targets(args: &RunArgs) -> Result<Option<Vec<Target>>, Failure> {
    args.targets.as_deref().map(|names| analyze::targets_named(names, true)).transpose()
}

/// Bit error rates, as typed: a list, or a range in steps of 1, 2 and 5.
pub(super) fn rates(text: Option<&str>) -> Result<Vec<f64>, Failure> {
    let Some(text) = text else { return Ok(Vec::new()) };
    let refuse = || {
        Failure::usage(format!("--ber {text}: expected rates above 0 and at most 0.125, in order"))
            .help("--ber 1e-6..1e-3, or --ber 1e-6,3e-6")
    };
    let rate = |text: &str| {
        let rate: f64 = text.trim().parse().map_err(|_| refuse())?;
        if rate > 0.0 && rate <= 0.125 { Ok(rate) } else { Err(refuse()) }
    };
    let rates: Vec<f64> = match text.split_once("..") {
        None => text.split(',').map(rate).collect::<Result<_, _>>()?,
        Some((low, high)) => {
            let (low, high) = (rate(low)?, rate(high)?);
            // Read from text, so that each is the number nearest to its decimal form.
            let steps =
                (-300..0).flat_map(|power| [1, 2, 5].map(|digit| format!("{digit}e{power}")));
            let steps = steps.map(|text| rate(&text).unwrap_or(1.0));
            steps.filter(|step| (low..=high).contains(step)).collect()
        }
    };
    let ordered = rates.windows(2).all(|pair| pair[0] < pair[1]);
    if ordered && !rates.is_empty() { Ok(rates) } else { Err(refuse()) }
}

/// The mix of a plan file and flags; targets and trials by default are those of `analyze`.
pub(super) fn mix(
    args: &RunArgs,
    file: &PlanFile,
    (targets, rates): (Vec<Target>, &[f64]),
    trials: u64,
) -> Result<Mix, PlanError> {
    let plan = FaultPlan {
        seed: file.seed.unwrap_or(0),
        trials: file.trials.unwrap_or(trials),
        flips: args.flips.unwrap_or(1) as usize,
        targets,
        unused: file.unused_code()?.unwrap_or(UnusedCode::Deployed),
        kv: file.kv()?.unwrap_or(KvKind::F32),
        confidence: file.confidence.unwrap_or(0.99),
        positions: file.positions()?.unwrap_or(Read::All),
        worst: WORST,
    };
    let mut mix = Mix::simple(plan);
    let mut strata = file.strata()?;
    for &target in &mix.plan.targets {
        strata.extend(rates.iter().map(|&rate| Stratum {
            target,
            pattern: Pattern::Poisson { rate: Rate::BitErrors(rate) },
            weight: 1,
            within: Within::default(),
            protection: Protection::None,
        }));
    }
    if !strata.is_empty() {
        mix.plan.targets.clear();
        for target in strata.iter().map(|stratum| stratum.target) {
            if !mix.plan.targets.contains(&target) {
                mix.plan.targets.push(target);
            }
        }
        mix.strata = strata;
    }
    Ok(mix)
}

/// What a plan file says, without its faults: enough to ask for defaults.
pub(super) fn bare(file: &PlanFile) -> Result<Mix, Failure> {
    let plan = FaultPlan {
        seed: 0,
        trials: 1,
        flips: 1,
        targets: Vec::new(),
        unused: UnusedCode::Deployed,
        kv: file.kv().map_err(Failure::usage)?.unwrap_or(KvKind::F32),
        confidence: 0.99,
        positions: Read::All,
        worst: WORST,
    };
    Ok(Mix::simple(plan))
}

/// A shard, as typed: `0/3`.
pub(super) fn shard(text: Option<&str>) -> Result<Shard, Failure> {
    let Some(text) = text else { return Ok(Shard::WHOLE) };
    let parts = text
        .split_once('/')
        .and_then(|(index, of)| Some(Shard { index: index.parse().ok()?, of: of.parse().ok()? }));
    parts.filter(|shard| shard.index < shard.of).ok_or_else(|| {
        Failure::usage(format!("--shard {text}: expected I/N with I below N"))
            .help("--shard 0/3, --shard 1/3 and --shard 2/3")
    })
}

fn unused_of(arg: UnusedArg) -> UnusedCode {
    crate::analyze::unused_code(Some(arg))
}

/// The request as a report shows it: one of `analyze` that certifies nothing.
pub(super) fn request(mix: &Mix, place: &Place, telling: &TellingArgs) -> Result<Plan, Failure> {
    let shared = &mix.plan;
    Ok(Plan {
        epsilons: epsilon::parse("0")?,
        norm: Norm::Linf,
        suffix: None,
        substitutions: None,
        method: Method::Auto,
        ladder: Ladder::new(vec![Rung::Interval]),
        budget: std::time::Duration::ZERO,
        noise: Noise::default(),
        scope: Scope::All,
        all_positions: shared.positions == Read::All,
        classes: place.classes.clone(),
        faults: Some(shared.trials),
        flips: mix.simple_flips().unwrap_or(0),
        seed: shared.seed,
        confidence: shared.confidence,
        unused: place.unused(),
        kv: shared.kv,
        kv_arg: match shared.kv {
            KvKind::F32 => KvArg::F32,
            KvKind::F16 => KvArg::F16,
            KvKind::Int8 => KvArg::Int8,
            KvKind::OneBit => KvArg::OneBit,
        },
        attack_budget: Some(0),
        limit: place.limit,
        certify: false,
        inject: true,
        time_limit: None,
        max_memory: None,
        gates: plan::gates(&telling.fail_under, &telling.fail_over)?,
        outputs: telling.output.clone(),
        reproducible: telling.reproducible,
        quiet: telling.quiet,
    })
}

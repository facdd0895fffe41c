//! `bench faults`: how fast fault trials run, on shapes that other tools are timed on.
//!
//! Every method runs on one thread, for so many seconds of its own processor time; the machine's
//! other work does not count. The first trials of every method are held to single trials, bit for
//! bit: a fast wrong verdict fails.

use std::fs;
use std::time::Instant;

use clap::{Args, ValueEnum};
use engine::kernels::Kernels;
use engine::model::random::{SplitMix, Style, random_model, small_config};
use engine::model::{Config, KvKind, Model};
use engine::walk::{self, Exact, Read};
use faults::{
    Address, Fault, Golden, Identity, Input, Sample, Shortcuts, Simulator, Space, Target, Trial,
    TrialRng, UnusedCode, run_trial,
};
use serde_json::json;

use crate::cli::PositionsArg;
use crate::commands::tell;
use crate::failure::Failure;
use crate::input::Content;
use crate::{input, machine, source};

/// Ticks of `/proc/self/stat` in a second, the same on every Linux.
const TICKS: f64 = 100.0;
/// Tokens of a prompt.
const TOKENS: usize = 64;
/// Trials that are given to a simulator at once.
const BLOCK: usize = 4096;
/// Trials that are held to single ones.
const CHECKED: usize = 16;

/// Options of `bench faults`.
#[derive(Args, Debug)]
pub struct BenchArgs {
    /// Shape of the model
    #[arg(long, value_enum, default_value = "small")]
    pub shape: BenchShape,
    /// Processor time for each method
    #[arg(long, default_value_t = 10.0)]
    pub seconds: f64,
    /// Where decisions are read: all positions, or the last alone
    #[arg(long, value_enum, default_value = "all")]
    pub positions: PositionsArg,
    /// Only methods whose name begins so
    #[arg(long)]
    pub only: Option<String>,
    /// Beside the methods: all shortcuts by the layer that is struck, by the length of the prompt,
    /// or on whole rows of weights, as an exhaustive map runs them
    #[arg(long, value_enum)]
    pub by: Option<By>,
    /// Kernel table [default: the fastest; no bit depends on it]
    #[arg(long)]
    pub kernels: Option<String>,
    /// One JSON object a line
    #[arg(long)]
    pub json: bool,
}

/// Shapes to measure on; prompts of 64 tokens, of the trained model one of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BenchShape {
    /// 4 layers of width 256: 4.2 million random weights
    Small,
    /// 8 layers of width 1024: 134 million random weights
    Large,
    /// The embedded language model
    Language,
}

/// What all shortcuts are measured by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum By {
    /// The layer that is struck
    Layer,
    /// Tokens of the prompt
    Tokens,
    /// Every bit of rows drawn at random
    Row,
}

/// What a method reached.
struct Measured {
    method: String,
    /// `executed`: trials that were run; `effective`: all that were decided.
    kind: &'static str,
    trials: u64,
    seconds: f64,
}

impl Measured {
    fn rate(&self) -> f64 {
        if self.seconds > 0.0 { self.trials as f64 / self.seconds } else { 0.0 }
    }

    fn line(&self, json: bool) -> String {
        let (rate, seconds) = (self.rate(), self.seconds);
        if json {
            let line = json!({
                "method": self.method,
                "kind": self.kind,
                "trials": self.trials,
                "cpu_seconds": seconds,
                "trials_per_cpu_second": rate,
            });
            return format!("{line}\n");
        }
        format!("{:<24} {:<9} {:>9} {seconds:>9.2} {rate:>14.2}\n", self.method, self.kind, {
            self.trials
        })
    }
}

/// Measures.
///
/// # Errors
/// If the words make no sense, or a verdict is not that of a single trial: a bug of this program.
pub fn run(args: &BenchArgs) -> Result<(), Failure> {
    if !(args.seconds > 0.0 && args.seconds <= 86_400.0) {
        return Err(Failure::usage(format!("--seconds {}: expected 0 to 86400", args.seconds))
            .help("--seconds 10"));
    }
    let kernels = machine::kernels(args.kernels.as_deref())?;
    // What a step does beside the simulator stays on one thread too.
    machine::pool(Some(1))?.install(|| faults(args, kernels))
}

fn faults(args: &BenchArgs, kernels: &'static Kernels) -> Result<(), Failure> {
    let (model, sample) = subject(args.shape)?;
    let read = match args.positions {
        PositionsArg::All => Read::All,
        PositionsArg::Last => Read::Last,
    };
    let clean = |sample: &Sample| {
        Golden::new(&model, kernels, KvKind::F32, read, sample.clone())
            .map_err(|error| Failure::refused(format!("the prompt of the measurement: {error}")))
    };
    let golden = clean(&sample)?;
    let seconds = args.seconds;
    let subject = Subject { model: &model, kernels, golden: &golden, seconds, drawn: Drawn::All };
    if !args.json {
        let head = format!(
            "{:<24} {:<9} {:>9} {:>9} {:>14}\n",
            "method", "kind", "trials", "cpu s", "trials/cpu s"
        );
        tell(head.as_bytes())?;
    }
    let wanted = |name: &str| args.only.as_deref().is_none_or(|only| name.starts_with(only));
    let told = |all: &[Measured]| {
        all.iter().try_for_each(|measured| tell(measured.line(args.json).as_bytes()))
    };
    match args.by {
        None => {}
        Some(By::Layer) => {
            for layer in 0..model.layers.len() {
                let subject = Subject { drawn: Drawn::Layer(layer), ..subject };
                told(&subject.simulated(&format!("all, layer {layer}"), Shortcuts::ALL)?)?;
            }
            return Ok(());
        }
        Some(By::Tokens) => {
            let Input::Ids(ids) = &sample.input else {
                return Err(Failure::bug("prompts of the measurement are ids"));
            };
            let lengths = [8, 16, 32, 64].into_iter().filter(|&length| length <= ids.len());
            for length in lengths {
                let golden = clean(&Sample::of_ids(ids[..length].to_vec()))?;
                let subject = Subject { golden: &golden, ..subject };
                told(&subject.simulated(&format!("all, {length} tokens"), Shortcuts::ALL)?)?;
            }
            return Ok(());
        }
        Some(By::Row) => {
            let subject = Subject { drawn: Drawn::Rows, ..subject };
            return told(&subject.simulated("all, whole rows", Shortcuts::ALL)?);
        }
    }
    if wanted("clean_run") {
        told(&[subject.clean_runs()])?;
    }
    if wanted("single_trials") {
        told(&[subject.single_trials()])?;
    }
    let methods = [("none", Shortcuts::NONE)].into_iter().chain(Shortcuts::each());
    for (name, shortcuts) in methods.chain([("all", Shortcuts::ALL)]) {
        if wanted(name) {
            told(&subject.simulated(name, shortcuts)?)?;
        }
    }
    Ok(())
}

/// A model and a prompt.
fn subject(shape: BenchShape) -> Result<(Model, Sample), Failure> {
    let (layers, hidden, heads) = match shape {
        BenchShape::Small => (4, 256, 4),
        BenchShape::Large => (8, 1024, 16),
        BenchShape::Language => {
            let origin = source::resolve("@language")?;
            let loaded = source::load(&origin, None, false)?;
            let samples = input::read(&origin, &loaded, None, None, Some(1))?.samples;
            let content = samples.into_iter().next().map(|sample| sample.content);
            let Some(Content::Ids(ids)) = content else {
                return Err(Failure::bug("the embedded language model has samples of ids"));
            };
            return Ok((loaded.model, Sample::of_ids(ids)));
        }
    };
    let config = Config {
        ffn: 4 * hidden,
        vocabulary: 512,
        max_positions: TOKENS,
        theta: 500_000.0,
        yarn: None,
        tied: true,
        ..small_config(layers, hidden, heads, heads)
    };
    let model = random_model(&config, Style::BITNET, 1);
    let mut rng = SplitMix(7);
    let ids = (0..TOKENS).map(|_| rng.below(config.vocabulary) as u32).collect();
    Ok((model, Sample::of_ids(ids)))
}

/// Which faults are drawn.
#[derive(Clone, Copy)]
enum Drawn {
    /// Any, alone.
    All,
    /// Those of a layer.
    Layer(usize),
    /// All bits of a row that is drawn by one of its bits.
    Rows,
}

/// What is measured.
#[derive(Clone, Copy)]
struct Subject<'a> {
    model: &'a Model,
    kernels: &'static Kernels,
    golden: &'a Golden,
    seconds: f64,
    drawn: Drawn,
}

impl Subject<'_> {
    /// So many faults from number `start` on of the stream that every method draws from, or all
    /// faults of the row that fault `start` lies in.
    fn faults(&self, start: u64, count: usize) -> Vec<Fault> {
        let space = Space::new(self.model, self.golden.kv);
        let tokens = self.golden.sample.tokens();
        let size = space.count(Target::WeightCode, tokens);
        let identity = Identity::of(&["bench faults"]);
        let draw = |index| {
            let mut rng = TrialRng::new(&identity, index);
            loop {
                let number = rng.below(size);
                let address = space.address(Target::WeightCode, tokens, number);
                match self.drawn {
                    Drawn::Layer(layer) if address.layer() != Some(layer) => {}
                    _ => return address,
                }
            }
        };
        if let (Drawn::Rows, Address::Code { layer, slot, row, .. }) = (self.drawn, draw(start)) {
            let columns = 0..self.model.layers[layer].linear(slot).inputs();
            let bits = columns.flat_map(|column| [(column, 0), (column, 1)]);
            let code = |(column, bit)| Address::Code { layer, slot, row, column, bit };
            return bits.map(|bit| Fault::single(code(bit))).collect();
        }
        (start..start + count as u64).map(|index| Fault::single(draw(index))).collect()
    }

    /// Runs `step(first fault)` until the time is up; it returns how many trials it decided.
    fn timed(&self, mut step: impl FnMut(u64) -> u64) -> (u64, f64) {
        let (clock, mut trials) = (Clock::start(), 0);
        loop {
            trials += step(trials);
            let seconds = clock.seconds();
            if seconds >= self.seconds {
                return (trials, seconds);
            }
        }
    }

    fn clean_runs(&self) -> Measured {
        let input = match &self.golden.sample.input {
            Input::Ids(ids) => self.model.embed(ids).expect("ids were checked"),
            Input::Embedded(rows) => rows.clone(),
        };
        let (trials, seconds) = self.timed(|_| {
            let mut exact = Exact::new(self.kernels, self.model, self.golden.kv);
            std::hint::black_box(walk::run(&mut exact, self.model, &input, 0, 0, self.golden.read));
            1
        });
        Measured { method: "clean_run".into(), kind: "executed", trials, seconds }
    }

    fn single(&self, fault: &Fault) -> Trial {
        run_trial(self.model, self.kernels, self.golden, fault, UnusedCode::Deployed)
    }

    fn single_trials(&self) -> Measured {
        let (trials, seconds) = self.timed(|start| {
            std::hint::black_box(self.single(&self.faults(start, 1)[0]));
            1
        });
        Measured { method: "single_trials".into(), kind: "executed", trials, seconds }
    }

    fn simulated(&self, name: &str, shortcuts: Shortcuts) -> Result<Vec<Measured>, Failure> {
        let mut simulator = Simulator::new(self.model, self.kernels, self.golden, shortcuts);
        let faults = self.faults(0, CHECKED);
        let verdicts = simulator.run(&faults, UnusedCode::Deployed);
        let alone: Vec<Trial> = faults.iter().map(|fault| self.single(fault)).collect();
        if format!("{verdicts:?}") != format!("{alone:?}") {
            return Err(Failure::bug(format!("{name}: verdicts are not those of single trials")));
        }
        let before = simulator.counts();
        // Few trials at first, to hear of the clock in time where they are slow.
        let mut block = 1;
        let (trials, seconds) = self.timed(|start| {
            let faults = self.faults(start, block);
            std::hint::black_box(simulator.run(&faults, UnusedCode::Deployed));
            let done = faults.len() as u64;
            block = (2 * block).min(if shortcuts.batch || shortcuts.collapse { BLOCK } else { 16 });
            done
        });
        let executed = simulator.counts().executed - before.executed;
        let measured = |kind, trials| Measured { method: name.into(), kind, trials, seconds };
        let mut all = vec![measured("executed", executed)];
        if shortcuts.collapse {
            all.push(measured("effective", trials));
        }
        Ok(all)
    }
}

/// Processor time of this process, or where the system does not tell it, time.
struct Clock {
    wall: Instant,
    spent: Option<f64>,
}

impl Clock {
    fn start() -> Self {
        Self { wall: Instant::now(), spent: spent() }
    }

    fn seconds(&self) -> f64 {
        match (self.spent, spent()) {
            (Some(before), Some(now)) => now - before,
            _ => self.wall.elapsed().as_secs_f64(),
        }
    }
}

/// User and system time of this process so far, in seconds.
fn spent() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The name of the program stands in brackets and may hold anything.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(11).map(str::parse::<f64>);
    Some((times.next()?.ok()? + times.next()?.ok()?) / TICKS)
}

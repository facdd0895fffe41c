//! `bench`: products, prefill and decoding of a random model of a shape, beside the limits of the
//! machine that small probes find in the same run.
//!
//! A figure is the best of many runs: the machine's other work can only make it worse. Before
//! anything is timed, products are held to those of the portable table, bit for bit.

use std::hint::black_box;
use std::time::Instant;

use clap::Args;
use engine::kernels::{self, Kernels, probe};
use engine::model::random::SplitMix;
use engine::packing::{RUN_ROWS, TernaryRows};
use rayon::ThreadPool;
use rayon::prelude::*;
use serde_json::json;

use crate::cli::ShapeArg;
use crate::commands::checkpoint::config;
use crate::commands::tell;
use crate::failure::Failure;
use crate::machine;

/// Matrices that take turns where weights come from memory: far more than any cache holds.
const TURNS: usize = 32;
/// Options of `bench`.
#[derive(Args, Debug)]
pub struct EngineArgs {
    /// Shape of the random model
    #[arg(long, value_enum, default_value = "small")]
    pub shape: ShapeArg,
    /// Time for each figure
    #[arg(long, default_value_t = 2.0)]
    pub seconds: f64,
    /// Only figures whose name begins so
    #[arg(long)]
    pub only: Option<String>,
    /// Kernel table [default: the fastest; no bit depends on it]
    #[arg(long)]
    pub kernels: Option<String>,
    /// One JSON object a line
    #[arg(long)]
    pub json: bool,
}

/// Runs the measurements.
///
/// # Errors
/// If the words make no sense, or a product is wrong: a bug of this program.
pub fn run(args: &EngineArgs) -> Result<(), Failure> {
    if !(args.seconds > 0.0 && args.seconds <= 3600.0) {
        return Err(Failure::usage(format!("--seconds {}: expected 0 to 3600", args.seconds))
            .help("--seconds 2"));
    }
    let kernels = machine::kernels(args.kernels.as_deref())?;
    let mut threads = vec![1];
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if cores > 1 {
        threads.push(2);
    }
    if !args.json {
        let (name, value, limit) = ("figure", "value", "limit");
        tell(format!("{name:<34} {value:>10} {:<8} {limit:>10}  kernels\n", "unit").as_bytes())?;
    }
    let mut told = Vec::new();
    for count in threads {
        let pool = machine::pool(Some(count))?;
        let bench = Bench { args, kernels, threads: count, pool: &pool };
        told.push(bench.products()?);
    }
    for (count, limits) in told {
        let pool = machine::pool(Some(count))?;
        let bench = Bench { args, kernels, threads: count, pool: &pool };
        super::model::figures(&bench, &limits)?;
    }
    Ok(())
}

/// What the machine can do with so many threads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Bytes a second out of memory.
    pub(super) memory: f64,
    /// Bytes a second out of the last cache.
    pub(super) cache: f64,
    /// Operations (two a product) a second.
    pub(super) products: Option<f64>,
}

pub(super) struct Bench<'a> {
    pub(super) args: &'a EngineArgs,
    pub(super) kernels: &'static Kernels,
    pub(super) threads: usize,
    pub(super) pool: &'a ThreadPool,
}

/// A figure.
pub(super) struct Figure<'a> {
    pub(super) name: &'a str,
    pub(super) value: f64,
    pub(super) unit: &'static str,
    pub(super) limit: Option<f64>,
    pub(super) kernels: &'static str,
}

impl Bench<'_> {
    pub(super) fn wanted(&self, name: &str) -> bool {
        self.args.only.as_deref().is_none_or(|only| name.starts_with(only))
    }

    pub(super) fn tell(&self, figure: &Figure) -> Result<(), Failure> {
        let Figure { name, value, unit, limit, kernels } = *figure;
        if !self.wanted(name) {
            return Ok(());
        }
        if self.args.json {
            let line = json!({"name": name, "value": value, "unit": unit, "limit": limit,
                "threads": self.threads, "kernels": kernels});
            return tell(format!("{line}\n").as_bytes());
        }
        let name =
            format!("{name}, {} thread{}", self.threads, ["", "s"][usize::from(self.threads > 1)]);
        let limit = limit.map_or(String::new(), |limit| format!("{limit:.1}"));
        tell(format!("{name:<34} {value:>10.1} {unit:<8} {limit:>10}  {kernels}\n").as_bytes())
    }

    /// The best time of many runs, in seconds.
    pub(super) fn best(&self, mut run: impl FnMut() + Send) -> f64 {
        self.pool.install(|| {
            let (start, mut best, mut runs) = (Instant::now(), f64::INFINITY, 0);
            while runs < 3 || start.elapsed().as_secs_f64() < self.args.seconds {
                let one = Instant::now();
                run();
                best = shorter(best, one.elapsed().as_secs_f64());
                runs += 1;
            }
            best
        })
    }

    fn limits(&self) -> Limits {
        let read = |bytes: usize| {
            let data: Vec<u64> = vec![1; bytes / 8];
            let share = data.len() / self.threads;
            let sum = || {
                let parts = data.par_chunks_exact(share);
                let sum: u64 = parts.map(|part| (probe::read)(self.kernels, part)).sum();
                black_box(sum);
            };
            bytes as f64 / self.best(sum)
        };
        let (memory, cache) = (read(512 << 20), read(12 << 20));
        let products = probe::products(self.kernels).map(|products| {
            let mut operations = 0;
            let best = self.best(|| {
                let each = (0..self.threads).into_par_iter().map(|_| products(1 << 14));
                operations = black_box(each.sum());
            });
            operations as f64 / best
        });
        Limits { memory, cache, products }
    }

    /// The limits, and products of one matrix of the shape with rows of codes.
    fn products(&self) -> Result<(usize, Limits), Failure> {
        let limits = self.limits();
        let config = config(self.args.shape);
        let (columns, rows) = (config.hidden, config.ffn);
        let matrices: Vec<_> = (0..TURNS as u64).map(|seed| matrix(rows, columns, seed)).collect();
        let name = self.kernels.name;
        for (label, value) in [("read_memory", limits.memory), ("read_cache", limits.cache)] {
            let (value, unit) = (value / 1e9, "GB/s");
            self.tell(&Figure { name: label, value, unit, limit: None, kernels: name })?;
        }
        if let Some(value) = limits.products {
            let (value, unit) = (value / 1e9, "GOP/s");
            self.tell(&Figure { name: "int8_products", value, unit, limit: None, kernels: name })?;
        }
        self.check(&matrices[0])?;
        let bytes = matrices[0].bytes() as f64;
        for (label, turns, limit) in
            [("gemv_cached", 1, limits.cache), ("gemv_memory", TURNS, limits.memory)]
        {
            if !self.wanted(label) {
                continue;
            }
            let codes = codes(&matrices[0], 1);
            let mut turn = 0;
            let best = self.best(|| {
                // One pass over all of them, so that none is still cached from the last.
                for _ in 0..turns {
                    turn = (turn + 1) % turns;
                    black_box(matrices[turn].product(self.kernels, black_box(&codes)));
                }
            });
            let (value, limit) = (best / turns as f64 * 1e6, Some(bytes / limit * 1e6));
            self.tell(&Figure { name: label, value, unit: "us", limit, kernels: name })?;
        }
        let avx2 = kernels::avx2().filter(|table| table.name != name);
        for table in [Some(self.kernels), avx2].into_iter().flatten() {
            for tokens in [8, 128] {
                self.gemm(&matrices[0], table, tokens)?;
            }
        }
        Ok((self.threads, limits))
    }

    fn gemm(
        &self,
        matrix: &TernaryRows,
        table: &'static Kernels,
        tokens: usize,
    ) -> Result<(), Failure> {
        let label = format!("gemm_{tokens}");
        if !self.wanted(&label) {
            return Ok(());
        }
        let codes = codes(matrix, tokens);
        // As a layer multiplies: sums are taken while a cache has them.
        let runs = matrix.rows().div_ceil(RUN_ROWS);
        let best = self.best(|| {
            let take = |sums: &[i32], ()| {
                black_box(sums);
            };
            matrix.product_by_run(table, black_box(&codes), vec![(); runs], take);
        });
        let peak = probe::products(table).map(|products| {
            let mut operations = 0;
            let best = self.best(|| {
                let each = (0..self.threads).into_par_iter().map(|_| products(1 << 12));
                operations = black_box(each.sum());
            });
            operations as f64 / best / 1e9
        });
        let value = 2.0 * (matrix.rows() * matrix.columns() * tokens) as f64 / best / 1e9;
        self.tell(&Figure { name: &label, value, unit: "GOP/s", limit: peak, kernels: table.name })
    }

    /// Holds a product to that of the portable table.
    fn check(&self, matrix: &TernaryRows) -> Result<(), Failure> {
        for tokens in [1, 9] {
            let codes = codes(matrix, tokens);
            let expected = matrix.product(kernels::scalar(), &codes);
            for table in kernels::available() {
                if matrix.product(table, &codes) != expected {
                    return Err(Failure::bug(format!("{} multiplies wrongly", table.name)));
                }
            }
        }
        Ok(())
    }
}

fn shorter(a: f64, b: f64) -> f64 {
    if b < a { b } else { a }
}

fn matrix(rows: usize, columns: usize, seed: u64) -> TernaryRows {
    TernaryRows::pack(rows, columns, |row, codes| {
        let mut rng = SplitMix(seed << 32 | row as u64);
        codes.iter_mut().for_each(|code| *code = rng.below(3) as u8);
    })
}

fn codes(matrix: &TernaryRows, tokens: usize) -> Vec<i8> {
    let mut rng = SplitMix(11);
    (0..tokens * matrix.padded_columns()).map(|_| rng.next_u64() as i8).collect()
}

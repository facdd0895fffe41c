//! The figures of a whole model: prompts, decoding, and the walk over boxes.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use certify::interval::{Boxes, Interval};
use engine::model::random::{SplitMix, Style, random_model};
use engine::model::{FloatType, HeadForm, KvKind, Model, Weights};
use engine::packing::TernaryRows;
use engine::walk::{self, Batch, Exact, Read};
use ndarray::Array2;

use super::engine::{Bench, Figure, Limits};
use crate::commands::checkpoint::config;
use crate::failure::Failure;

/// Tokens of a prompt.
const PROMPT: usize = 128;
/// Tokens before decoding is timed.
const CONTEXT: usize = 64;
/// A long context.
const LONG_CONTEXT: usize = 2048;
/// Sequences that decode together.
const TOGETHER: usize = 8;
/// The radius of the boxes: so small that no layer of a random model loses them.
const RADIUS: f64 = 1e-4;

const PREFILL: &str = "prefill";
const BUSY: &str = "prefill_beside_busy_thread";
const DECODE: &str = "decode_f16_head";
const DECODE_INT8: &str = "decode_int8_head";
const LONG: &str = "decode_f16_head_context_2048";
const BATCH: &str = "decode_f16_head_batch_8";
const BATCH_INT8: &str = "decode_int8_head_batch_8";
const BOXES: &str = "prefill_boxes_by_layer";

/// A random model of the shape, and what its figures are called by.
struct Subject<'a> {
    bench: &'a Bench<'a>,
    limits: &'a Limits,
    model: Model,
    /// Bytes of its packed weights, and of its head.
    bytes: (usize, usize),
}

/// Measures the figures of a model that are wanted.
///
/// # Errors
/// If a figure cannot be told, or a token is not in the vocabulary: a bug of this program.
pub(super) fn figures(bench: &Bench, limits: &Limits) -> Result<(), Failure> {
    if ![PREFILL, BUSY, DECODE, DECODE_INT8, LONG, BATCH, BATCH_INT8, BOXES]
        .iter()
        .any(|name| bench.wanted(name))
    {
        return Ok(());
    }
    let style = Style { stored: FloatType::F16, ..Style::BITNET };
    let model = random_model(&config(bench.args.shape), style, 7);
    let head = model.head.rows() * model.head.columns() * 2;
    let bytes = (linears(&model).map(TernaryRows::bytes).sum(), head);
    let mut subject = Subject { bench, limits, model, bytes };
    subject.prefill()?;
    subject.beside_busy()?;
    subject.boxes()?;
    subject.decode(DECODE, subject.short())?;
    subject.decode(LONG, LONG_CONTEXT)?;
    subject.batch(BATCH)?;
    if !bench.wanted(DECODE_INT8) && !bench.wanted(BATCH_INT8) {
        return Ok(());
    }
    subject.model = subject.model.with_head(HeadForm::Int8);
    subject.bytes.1 /= 2;
    subject.decode(DECODE_INT8, subject.short())?;
    subject.batch(BATCH_INT8)
}

impl Subject<'_> {
    fn embed(&self, tokens: usize) -> Result<Array2<f32>, Failure> {
        let vocabulary = self.model.config.vocabulary;
        let ids: Vec<u32> = (0..tokens).map(|at| (at * 37 % vocabulary) as u32).collect();
        self.model.embed(&ids).map_err(|id| Failure::bug(format!("no token {id}")))
    }

    /// The usual context, or what the shape has room for.
    fn short(&self) -> usize {
        CONTEXT.min(self.model.config.max_positions / 2)
    }

    fn tell(&self, name: &str, value: f64, limit: Option<f64>) -> Result<(), Failure> {
        let (unit, kernels) = ("tok/s", self.bench.kernels.name);
        self.bench.tell(&Figure { name, value, unit, limit, kernels })
    }

    fn empty(&self) -> Exact {
        Exact::new(self.bench.kernels, &self.model, KvKind::F32)
    }

    /// A state that holds so many tokens of random keys and values.
    fn filled(&self, tokens: usize) -> Exact {
        let (mut state, mut rng) = (self.empty(), SplitMix(5));
        let mut row = vec![0.0; self.model.config.kv_width()];
        for cache in &mut state.caches {
            for _ in 0..tokens {
                for store in [&mut cache.keys, &mut cache.values] {
                    row.fill_with(|| rng.unit());
                    store.push(&row);
                }
            }
        }
        state
    }

    fn prefill(&self) -> Result<(), Failure> {
        if !self.bench.wanted(PREFILL) {
            return Ok(());
        }
        let value = self.prompt()?;
        let weights: usize = linears(&self.model).map(|rows| rows.rows() * rows.columns()).sum();
        let limit = self.limits.products.map(|products| products / (2.0 * weights as f64));
        self.tell(PREFILL, value, limit)
    }

    /// Tokens of a prompt per second.
    fn prompt(&self) -> Result<f64, Failure> {
        let prompt = PROMPT.min(self.model.config.max_positions);
        let rows = self.embed(prompt)?;
        let best = self.bench.best(|| {
            black_box(walk::run(&mut self.empty(), &self.model, &rows, 0, 0, Read::Last));
        });
        Ok(prompt as f64 / best)
    }

    /// The same while another thread computes for itself all the time; the limit is the figure
    /// without it. A barrier that waits for a thread that has no processor shows here.
    fn beside_busy(&self) -> Result<(), Failure> {
        if !self.bench.wanted(BUSY) || self.bench.threads < 2 {
            return Ok(());
        }
        let (quiet, done) = (self.prompt()?, AtomicBool::new(false));
        let value = thread::scope(|scope| {
            scope.spawn(|| while !black_box(done.load(Ordering::Relaxed)) {});
            let value = self.prompt();
            done.store(true, Ordering::Relaxed);
            value
        })?;
        self.tell(BUSY, value, Some(quiet))
    }

    /// Boxes about the stream that enters each layer, through that layer; the limit is inference.
    fn boxes(&self) -> Result<(), Failure> {
        if !self.bench.wanted(BOXES) {
            return Ok(());
        }
        let (model, prompt) = (&self.model, PROMPT.min(self.model.config.max_positions));
        let streams = walk::streams(&mut self.empty(), model, &self.embed(prompt)?);
        let entering = &streams[..model.layers.len()];
        // One state for all layers, as a walk has: each layer has a store of its own.
        let inference = self.bench.best(|| {
            let mut state = self.empty();
            for (index, x) in entering.iter().enumerate() {
                black_box(walk::layer(&mut state, model, index, x, 0, Read::All));
            }
        });
        let mut lost = false;
        let best = self.bench.best(|| {
            let mut set = Interval::new(self.bench.kernels, model, KvKind::F32, Vec::new());
            for (index, x) in entering.iter().enumerate() {
                let ball = Boxes::ball(x, RADIUS, &(0..prompt));
                black_box(walk::layer(&mut set, model, index, &ball, 0, Read::All));
            }
            lost |= set.diverged().is_some();
        });
        if lost {
            return Err(Failure::bug("a layer lost boxes that are nearly points"));
        }
        self.tell(BOXES, prompt as f64 / best, Some(prompt as f64 / inference))
    }

    fn decode(&self, name: &str, context: usize) -> Result<(), Failure> {
        // A figure names its context; a shape without room for it has no such figure.
        if !self.bench.wanted(name) || context >= self.model.config.max_positions {
            return Ok(());
        }
        let (one, mut state) = (self.embed(1)?, self.filled(context));
        let best = self.bench.best(|| {
            black_box(walk::run(&mut state, &self.model, &one, 0, context, Read::Last));
            rewind(&mut state, context);
        });
        let (ternary, head) = self.bytes;
        let cache = 8 * self.model.layers.len() * self.model.config.kv_width() * context;
        let limit = self.limits.memory / (ternary + head + cache) as f64;
        self.tell(name, 1.0 / best, Some(limit))
    }

    fn batch(&self, name: &str) -> Result<(), Failure> {
        if !self.bench.wanted(name) {
            return Ok(());
        }
        let context = self.short();
        let rows = self.embed(TOGETHER)?;
        let state = self.filled(context);
        let mut sequences = vec![state; TOGETHER];
        let best = self.bench.best(|| {
            let mut batch = Batch::of(std::mem::take(&mut sequences));
            black_box(walk::run(&mut batch, &self.model, &rows, 0, 0, Read::All));
            sequences = batch.into_sequences();
            sequences.iter_mut().for_each(|state| rewind(state, context));
        });
        let (ternary, head) = self.bytes;
        let limit = TOGETHER as f64 * self.limits.memory / (ternary + head) as f64;
        self.tell(name, TOGETHER as f64 / best, Some(limit))
    }
}

/// Forgets what came behind the context, so that every step stands at the same position.
fn rewind(state: &mut Exact, context: usize) {
    for cache in &mut state.caches {
        cache.keys.truncate(context);
        cache.values.truncate(context);
    }
}

fn linears(model: &Model) -> impl Iterator<Item = &TernaryRows> {
    let weights = model.layers.iter().flat_map(|layer| &layer.linears);
    weights.filter_map(|linear| match &linear.weights {
        Weights::Ternary { rows, .. } => Some(&**rows),
        Weights::Coded(_) | Weights::Dense(_) => None,
    })
}

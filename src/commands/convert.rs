//! `convert`: a model in another packed form, so that a fault found in one can be replayed in
//! another.

use std::fs;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use engine::formats::write::{self, Form};
use engine::kernels;
use engine::model::{Config, Float, KvKind, Model, Scale, Weights};
use engine::walk::{self, Exact, Read};

use super::tell;
use crate::cli::UnusedArg;
use crate::failure::Failure;
use crate::{output, source};

/// What no written model is.
const CHANGED: &str = "what was written is not what was read";
/// Tokens of the prompt that both models answer.
const PROMPT: usize = 8;

/// Examples for `--help`.
pub const EXAMPLES: &str = "Examples:\n  bitnet-certify convert model.gguf --to hf-packed \
    --out folder\n  bitnet-certify convert @language --to gguf-i2_s --out language.gguf\n  \
    bitnet-certify convert signs.gguf --to gguf-q2_0 --out groups.gguf";

/// The forms of `--to`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum FormArg {
    /// A Hugging Face folder, four weights to a byte
    HfPacked,
    /// GGUF in blocks of 256 weights, four to a byte
    #[value(name = "gguf-tq2_0")]
    GgufTq2,
    /// GGUF in blocks of 256 weights, five to a byte
    #[value(name = "gguf-tq1_0")]
    GgufTq1,
    /// GGUF of bitnet.cpp, four weights to a byte
    #[value(name = "gguf-i2_s")]
    GgufI2s,
    /// GGUF in blocks of 128 signs under an f16 scale; of models with float activations
    #[value(name = "gguf-q1_0")]
    GgufQ1,
    /// GGUF in blocks of 64 weights under an f16 scale; of models with float activations
    #[value(name = "gguf-q2_0")]
    GgufQ2,
}

/// Options of `convert`.
#[derive(Args, Debug)]
pub struct ConvertArgs {
    /// Checkpoint folder, GGUF file, or @name of an embedded model
    pub model: String,
    /// The form
    #[arg(long, value_enum)]
    pub to: FormArg,
    /// A new folder, or a new file for the GGUF forms
    #[arg(long, value_name = "PATH")]
    pub out: PathBuf,
    /// What the unused code of 2-bit weights means
    #[arg(long, value_enum)]
    pub unused_code: Option<UnusedArg>,
}

/// Writes the model, loads it again, and compares every code, scale, embedding, the shape, and
/// logits of a prompt.
///
/// # Errors
/// If the model is refused, has no such form, or cannot be written.
pub fn run(args: &ConvertArgs) -> Result<(), Failure> {
    let origin = source::resolve(&args.model)?;
    let loaded = source::load(&origin, args.unused_code, false)?;
    let form = match args.to {
        FormArg::HfPacked => Form::HfPacked,
        FormArg::GgufTq2 => Form::GgufTq2,
        FormArg::GgufTq1 => Form::GgufTq1,
        FormArg::GgufI2s => Form::GgufI2s,
        FormArg::GgufQ1 => Form::GgufQ1,
        FormArg::GgufQ2 => Form::GgufQ2,
    };
    let out = args.out.display();
    if args.out.exists() {
        return Err(
            Failure::output(format!("{out}: it exists already")).help("--out with a new name")
        );
    }
    let named = args.out.extension().is_some_and(|extension| extension == "gguf");
    if form != Form::HfPacked && !named {
        return Err(Failure::usage(format!("--out {out}: a GGUF file ends in .gguf"))
            .help("--out model.gguf"));
    }
    let (files, warnings) = write::files(&loaded.model, loaded.tokenizer.as_ref(), form)
        .map_err(|why| Failure::refused(format!("no {} form: {why}", form.name())))?;
    for warning in &warnings {
        eprintln!("warning: {warning}");
    }
    match &files[..] {
        [file] => output::write(&args.out, &file.bytes)?,
        files => output::new_folder(&args.out, |aside| {
            files.iter().try_for_each(|file| fs::write(aside.join(file.name), &file.bytes))
        })?,
    }
    let written = source::resolve(&args.out.to_string_lossy())?;
    let unused = args.unused_code.or(Some(UnusedArg::Deployed));
    let again = source::load(&written, unused, false)?.model;
    let (count, scales) = same_codes(&loaded.model, &again)?;
    same_floats(&loaded.model, &again)?;
    same_shape(&loaded.model, &again)?;
    // A scale that divides is its reciprocal in GGUF, rounded once: the only step that is not kept.
    if form != Form::HfPacked && divides(&loaded.model) {
        return tell(format!("{out}: {count} codes, all the same\n").as_bytes());
    }
    if logits(&loaded.model)? != logits(&again)? {
        return Err(Failure::bug("what was written answers otherwise than what was read"));
    }
    if scales > 0 {
        let what = format!("{count} codes, {scales} scales and the logits of a prompt");
        return tell(format!("{out}: {what}, all the same\n").as_bytes());
    }
    tell(format!("{out}: {count} codes and the logits of a prompt, all the same\n").as_bytes())
}

/// Whether two models have one shape; a form may name it otherwise, and hold fewer end tokens.
fn same_shape(a: &Model, b: &Model) -> Result<(), Failure> {
    let (architecture, end_tokens) = (a.config.architecture.clone(), a.config.end_tokens.clone());
    if (Config { architecture, end_tokens, ..b.config.clone() }) == a.config {
        return Ok(());
    }
    Err(Failure::bug(format!("written as {:?}, read as {:?}", a.config, b.config)))
}

fn divides(model: &Model) -> bool {
    let mut linears = model.layers.iter().flat_map(|layer| &layer.linears);
    linears.any(|linear| matches!(linear.weights, Weights::Ternary { scale: Scale::Divide(_), .. }))
}

/// The bits of the logits of a short prompt.
fn logits(model: &Model) -> Result<Vec<u32>, Failure> {
    let tokens = PROMPT.min(model.config.vocabulary).min(model.config.max_positions) as u32;
    let ids: Vec<u32> = (0..tokens).collect();
    let rows = model.embed(&ids).map_err(|id| Failure::bug(format!("no token {id}")))?;
    let mut exact = Exact::new(kernels::best(), model, KvKind::F32);
    let logits = walk::run(&mut exact, model, &rows, 0, 0, Read::Last);
    Ok(logits.iter().map(|logit| logit.to_bits()).collect())
}

/// How many weights of codes two models have, and how many scales of groups, if they are the same
/// in both. The scale of a whole tensor is compared where the form keeps it: in the logits.
fn same_codes(a: &Model, b: &Model) -> Result<(u64, u64), Failure> {
    let (mut count, mut scales) = (0, 0);
    let layers = a.layers.iter().zip(&b.layers);
    for (a, b) in layers.flat_map(|(a, b)| a.linears.iter().zip(&b.linears)) {
        match (&a.weights, &b.weights) {
            (Weights::Ternary { rows: a, .. }, Weights::Ternary { rows: b, .. }) if a == b => {
                count += (a.rows() * a.columns()) as u64;
            }
            (Weights::Dense(a), Weights::Dense(b)) if a.rows() == b.rows() => {
                for row in 0..a.rows() {
                    let (ours, theirs) = (codes_of(a, row), codes_of(b, row));
                    let same = theirs.filter(|theirs| ours.as_ref() == Some(theirs));
                    count += same.ok_or_else(|| Failure::bug(CHANGED))?.len() as u64;
                }
                if let Float::Blocks { kind, data, .. } = &**b {
                    scales += (data.len() / kind.bytes()) as u64;
                }
            }
            _ => return Err(Failure::bug(CHANGED)),
        }
    }
    Ok((count, scales))
}

/// Of each weight of a row its code and the bits of its scale; `None` where it has none.
fn codes_of(float: &Float, row: usize) -> Option<Vec<(u8, u32)>> {
    let Float::Blocks { kind, data, columns, .. } = float else { return None };
    let kind = Some(*kind).filter(|kind| kind.has_codes())?;
    let width = columns / kind.weights() * kind.bytes();
    let mut codes = vec![0; kind.weights()];
    let mut all = Vec::with_capacity(*columns);
    for block in data[row * width..(row + 1) * width].chunks_exact(kind.bytes()) {
        kind.codes(block, &mut codes);
        let scale = kind.scale(block).to_bits();
        all.extend(codes.iter().map(|&code| (code, scale)));
    }
    Some(all)
}

/// Whether embeddings and head have the same values in two models, to the bit.
fn same_floats(a: &Model, b: &Model) -> Result<(), Failure> {
    for (a, b) in [(&a.embedding, &b.embedding), (&a.head, &b.head)] {
        if (a.rows(), a.columns()) != (b.rows(), b.columns()) {
            return Err(Failure::bug(CHANGED));
        }
        let read = |float: &Float, row: usize| {
            let mut values = vec![0.0f32; float.columns()];
            float.read_row(row, &mut values);
            values.into_iter().map(f32::to_bits).collect::<Vec<_>>()
        };
        if (0..a.rows()).any(|row| read(a, row) != read(b, row)) {
            return Err(Failure::bug(CHANGED));
        }
    }
    Ok(())
}

//! `doctor`: which kernels this processor has, and whether they agree bit for bit.
//!
//! The tests of the engine show that on the machines that ran them; this shows it on the user's. It
//! uses the public entries of the tables only, on painted inputs with shapes on both sides of every
//! boundary, and then a whole trained model.

mod paint;

use std::fmt::Write;
use std::hint::black_box;
use std::num::NonZero;

use engine::kernels::{self, Kernels};
use engine::model::KvKind;
use engine::walk::{self, Exact, Read};

use super::tell;
use crate::failure::Failure;
use crate::input::Content;
use crate::{input, machine, source};

/// How many samples of the embedded model are computed with every table.
const SAMPLES: usize = 8;

/// Examines this machine.
///
/// # Errors
/// If something disagrees: that is a bug of this program, or a broken machine.
pub fn run() -> Result<(), Failure> {
    let (text, wrong) = examine(&kernels::available())?;
    tell(text.as_bytes())?;
    if wrong.is_empty() {
        return Ok(());
    }
    Err(Failure::bug(format!("this machine does not compute {}: {}", engine::ARITHMETIC, {
        wrong.join("; ")
    }))
    .help("--kernels scalar, and a report of this bug with the output above"))
}

/// What there is to say, and what is wrong.
fn examine(tables: &[&'static Kernels]) -> Result<(String, Vec<String>), Failure> {
    let mut text = String::new();
    let mut wrong = Vec::new();
    line(&mut text, "arithmetic", engine::ARITHMETIC);
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    line(&mut text, "processors", &cores.to_string());
    for name in kernels::NAMES {
        let found = tables.iter().any(|table| table.name == name);
        line(&mut text, name, if found { "yes" } else { "not on this processor" });
    }
    line(&mut text, "in use", machine::kernels(None)?.name);
    let flushed = flushing_threads()?;
    line(&mut text, "subnormals", if flushed == 0 { "kept" } else { "FLUSHED TO ZERO" });
    if flushed > 0 {
        wrong.push(format!("{flushed} threads flush subnormal numbers to zero"));
    }
    for table in tables {
        let (entries, model) = (paint::differing(table), model_differs(table)?);
        let agrees = entries.is_empty() && !model;
        let says = if agrees { "agrees with scalar, bit for bit" } else { "DISAGREES" };
        line(&mut text, "self-check", &format!("{} {says}", table.name));
        if !entries.is_empty() {
            wrong.push(format!("table {} differs in {}", table.name, entries.join(", ")));
        }
        if model {
            wrong.push(format!("table {} gives other logits of @digits", table.name));
        }
    }
    Ok((text, wrong))
}

fn line(text: &mut String, name: &str, value: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{name:<14} {value}");
}

/// How many threads do not compute with subnormal numbers; the mode is one of each thread.
fn flushing_threads() -> Result<usize, Failure> {
    let threads = machine::pool(None)?.broadcast(|_| !keeps_subnormals());
    let here = !keeps_subnormals();
    Ok(threads.into_iter().chain([here]).filter(|&flushes| flushes).count())
}

/// Whether subnormal results are kept (FTZ off) and subnormal operands are read (DAZ off).
fn keeps_subnormals() -> bool {
    let result = black_box(f32::MIN_POSITIVE) * black_box(0.5);
    let operand = black_box(f32::from_bits(1)) * black_box(16_777_216.0f32);
    result.to_bits() == f32::MIN_POSITIVE.to_bits() >> 1 && operand > 0.0
}

/// Whether a table gives other logits of the embedded model than the portable one.
fn model_differs(table: &'static Kernels) -> Result<bool, Failure> {
    let origin = source::resolve(source::DEFAULT)?;
    let loaded = source::load(&origin, None, false)?;
    let samples = input::read(&origin, &loaded, None, None, Some(SAMPLES))?;
    let model = &loaded.model;
    Ok(samples.samples.iter().any(|sample| {
        let rows = match &sample.content {
            Content::Embeddings(rows) => rows.clone(),
            Content::Ids(_) => sample.embedded(model),
        };
        let logits = |kernels| -> Vec<u32> {
            let mut exact = Exact::new(kernels, model, KvKind::F32);
            let logits = walk::run(&mut exact, model, &rows, 0, 0, Read::All);
            logits.iter().map(|value| value.to_bits()).collect()
        };
        logits(table) != logits(kernels::scalar())
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_healthy() {
        let (text, wrong) = examine(&kernels::available()).unwrap();
        assert!(wrong.is_empty(), "{wrong:?}");
        assert!(text.contains("scalar agrees") && text.contains("kept"));
    }

    #[test]
    fn a_table_that_differs_in_one_entry_is_found_and_named() {
        fn sloppy(x: &[f32], y: &[f32]) -> f32 {
            x.iter().zip(y).map(|(x, y)| x * y).sum()
        }
        static SLOPPY: std::sync::OnceLock<Kernels> = std::sync::OnceLock::new();
        let table = SLOPPY.get_or_init(|| Kernels { dot: sloppy, ..*kernels::scalar() });
        let (text, wrong) = examine(&[table]).unwrap();
        assert!(text.contains("DISAGREES"));
        assert_eq!(wrong, ["table scalar differs in dot"]);
    }
}

//! `random-checkpoint`: a packed Hugging Face checkpoint with random ternary weights, of any shape.
//!
//! It is written as it is drawn, a row at a time, so that a model of gigabytes needs no memory; and
//! aside, so that the folder is there whole or not at all. A shape and a seed name the same bytes
//! on every machine.

mod draw;
mod layout;

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use engine::model::random::SplitMix;
use engine::model::{Activations, Config, Gate};
use serde_json::json;
use tempfile::TempDir;

use super::tell;
use crate::cli::{RandomArgs, ShapeArg};
use crate::failure::Failure;

/// How many samples come with a checkpoint.
const SAMPLES: usize = 4;
/// How many tokens a sample has.
const TOKENS: usize = 16;
/// How much is gathered before it goes to the disk.
const BUFFER: usize = 1 << 20;

/// Writes a random checkpoint to a new folder.
///
/// # Errors
/// If something is in the folder's place, or it cannot be written; nothing is then left behind.
pub fn run(args: &RandomArgs) -> Result<(), Failure> {
    let bytes = write(&config(args.shape), &args.out, args.seed)?;
    let out = args.out.display();
    let text = format!(
        "{out}: {bytes} bytes of tensors, {SAMPLES} samples\n\
         next: bitnet-certify analyze {out} --inputs {out}/inputs.jsonl\n"
    );
    tell(text.as_bytes())
}

/// Writes the checkpoint of a shape; the result is the size of its tensor file.
///
/// # Errors
/// If something is in the folder's place, or it cannot be written; nothing is then left behind.
pub fn write(config: &Config, folder: &Path, seed: u64) -> Result<u64, Failure> {
    let refuse = |why: String| {
        Failure::output(format!("{}: cannot be written: {why}", folder.display()))
            .help("another place with --out FOLDER")
    };
    check(folder).map_err(refuse)?;
    let failed = |error: std::io::Error| refuse(error.to_string());
    let parent = match folder.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    };
    fs::create_dir_all(&parent).map_err(failed)?;
    let aside = tempfile::Builder::new().prefix(".random-checkpoint-").tempdir_in(&parent);
    let aside = aside.map_err(failed)?;
    let bytes = fill(aside.path(), config, seed).map_err(failed)?;
    publish(aside, folder).map_err(failed)?;
    Ok(bytes)
}

/// Refuses a place that is taken.
fn check(folder: &Path) -> Result<(), String> {
    match fs::metadata(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error.to_string()),
        Ok(data) if !data.is_dir() => Err("it is no folder".into()),
        Ok(_) => match fs::read_dir(folder).map_err(|error| error.to_string())?.next() {
            None => Ok(()),
            Some(_) => Err("the folder is not empty".into()),
        },
    }
}

/// Writes the files of a checkpoint.
fn fill(folder: &Path, config: &Config, seed: u64) -> std::io::Result<u64> {
    let tensors = layout::tensors(config);
    let mut out = BufWriter::with_capacity(BUFFER, File::create(folder.join("model.safetensors"))?);
    let header = layout::header(&tensors);
    out.write_all(&header)?;
    let mut rng = SplitMix(seed);
    for tensor in &tensors {
        draw::values(tensor, rng.next_u64(), &mut out)?;
    }
    out.into_inner()?.sync_all()?;
    fs::write(folder.join("config.json"), format!("{:#}\n", config_json(config)))?;
    fs::write(folder.join("inputs.jsonl"), inputs(config, &mut rng))?;
    let data: u64 = tensors.iter().map(layout::Tensor::bytes).sum();
    Ok(header.len() as u64 + data)
}

/// Puts the folder into its place. Temporary folders are private; a checkpoint is not.
fn publish(aside: TempDir, folder: &Path) -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(aside.path(), fs::Permissions::from_mode(0o755))?;
    }
    if folder.exists() {
        fs::remove_dir(folder)?;
    }
    fs::rename(aside.path(), folder)?;
    // Nothing is at the old place any more that could be removed.
    let _ = aside.keep();
    Ok(())
}

/// Samples of random tokens, without labels.
fn inputs(config: &Config, rng: &mut SplitMix) -> String {
    let tokens = if config.max_positions < TOKENS { config.max_positions } else { TOKENS };
    let sample = |_| {
        let ids: Vec<usize> = (0..tokens).map(|_| rng.below(config.vocabulary)).collect();
        format!("{}\n", json!({ "input_ids": ids, "label": null }))
    };
    (0..SAMPLES).map(sample).collect()
}

fn config_json(config: &Config) -> serde_json::Value {
    json!({
        "architectures": ["BitNetForCausalLM"],
        "model_type": "bitnet",
        "vocab_size": config.vocabulary,
        "hidden_size": config.hidden,
        "intermediate_size": config.ffn,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "hidden_act": config.gate.name(),
        "max_position_embeddings": config.max_positions,
        // The decimal that was meant, not that of the f32 beside it.
        "rms_norm_eps": config.eps.to_string().parse::<f64>().unwrap_or(f64::from(config.eps)),
        "rope_theta": config.theta,
        "tie_word_embeddings": config.tied,
        "torch_dtype": "bfloat16",
        "quantization_config": {
            "quant_method": "bitnet",
            "linear_class": "autobitlinear",
            "quantization_mode": "offline",
        },
    })
}

/// The configuration of a shape.
fn config(shape: ShapeArg) -> Config {
    let base = Config {
        architecture: "bitnet".into(),
        hidden: 256,
        ffn: 1024,
        layers: 4,
        heads: 4,
        kv_heads: 2,
        head_dim: 64,
        vocabulary: 512,
        max_positions: 64,
        eps: 1e-5,
        theta: 500_000.0,
        yarn: None,
        gate: Gate::Relu2,
        activations: Activations::PerTokenInt8,
        tied: true,
        end_tokens: Vec::new(),
    };
    match shape {
        ShapeArg::Small => base,
        ShapeArg::Medium => Config {
            hidden: 768,
            ffn: 2048,
            layers: 12,
            heads: 12,
            kv_heads: 4,
            vocabulary: 32_000,
            max_positions: 2048,
            ..base
        },
        ShapeArg::Large => Config {
            hidden: 2560,
            ffn: 6912,
            layers: 30,
            heads: 20,
            kv_heads: 5,
            head_dim: 128,
            vocabulary: 128_256,
            max_positions: 4096,
            ..base
        },
    }
}

#[cfg(test)]
mod tests;

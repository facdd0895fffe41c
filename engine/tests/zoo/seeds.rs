//! The seeds of the fuzz targets: sound files, and small members of the zoo.

use std::fs;
use std::io;
use std::path::Path;

use crate::checkpoint::{sharded, tiny};
use crate::made_gguf::{BF16, BLOCKS, F16, F32, Gguf, I2S};
use crate::member::Zoo;

/// The targets, and the file of a checkpoint that each is about.
const TARGETS: [(&str, &str); 4] = [
    ("gguf", "model.gguf"),
    ("safetensors_header", "model.safetensors"),
    ("index", "model.safetensors.index.json"),
    ("config", "config.json"),
];
/// The longest member that is taken.
const LONGEST: usize = 2048;
/// How many members a target has.
const MEMBERS: usize = 24;

/// Writes all seeds into `corpus` and `shards` below a folder.
pub(crate) fn write(zoo: &Zoo, folder: &Path) -> io::Result<()> {
    for (target, file) in TARGETS {
        let corpus = folder.join("corpus").join(target);
        fs::create_dir_all(&corpus)?;
        let of_this = |name: &str| name.split([':', ' ']).next() == target.split('_').next();
        let members = zoo.members.iter().filter(|member| of_this(&member.name));
        let all = members.flat_map(|member| &member.files).filter(|(name, _)| name == file);
        let small: Vec<&[u8]> = all.map(|(_, b)| &b[..]).filter(|b| b.len() <= LONGEST).collect();
        let step = small.len().div_ceil(MEMBERS).max(1);
        for (index, bytes) in small.iter().step_by(step).enumerate() {
            fs::write(corpus.join(format!("zoo-{index:02}")), bytes)?;
        }
    }
    for kind in [F32, F16, BF16, I2S].into_iter().chain(BLOCKS.map(|(kind, _)| kind)) {
        let (file, bytes) = (format!("corpus/gguf/sound-{kind}"), Gguf::least(kind).bytes());
        if bytes.len() <= 2 * LONGEST {
            fs::write(folder.join(file), bytes)?;
        }
    }
    let mut whole = tiny();
    whole.config["max_position_embeddings"] = 8.into();
    let files = whole.files();
    fs::write(folder.join("corpus/config/sound"), &files[0].1)?;
    fs::write(folder.join("corpus/safetensors_header/sound"), &files[1].1)?;
    let shards = sharded(&whole);
    fs::write(folder.join("corpus/index/sound"), &shards[1].1)?;
    fs::create_dir_all(folder.join("shards"))?;
    for (name, bytes) in &shards[2..] {
        fs::write(folder.join("shards").join(name), bytes)?;
    }
    Ok(())
}

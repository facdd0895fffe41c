//! A member of the zoo: a checkpoint that must be refused, and what the refusal must say.

use engine::formats::{FormatError, LoadOptions, Loaded, Source, load};

use crate::checkpoint::{framed, tiny};
use crate::{config, gguf, gguf_lies, index, safetensors, tokenizers};

/// The files of a checkpoint by name.
pub(crate) type Files = Vec<(String, Vec<u8>)>;

/// A checkpoint in memory that must be refused.
pub(crate) struct Member {
    /// Its name, which no other has.
    pub(crate) name: String,
    /// Its files.
    pub(crate) files: Files,
    /// What the message must hold.
    pub(crate) says: Vec<String>,
}

impl Member {
    /// The bytes of all files.
    pub(crate) fn size(&self) -> usize {
        self.files.iter().map(|(_, bytes)| bytes.len()).sum()
    }

    /// Loads it; its bytes are lent.
    pub(crate) fn load(&self) -> Result<Loaded, FormatError> {
        let files = self.files.iter().map(|(name, bytes)| (name.clone(), bytes.as_slice()));
        load(&Source::memory("made", files), &LoadOptions::default())
    }
}

/// All members.
#[derive(Default)]
pub(crate) struct Zoo {
    pub(crate) members: Vec<Member>,
}

impl Zoo {
    /// The whole zoo.
    pub(crate) fn all() -> Self {
        let mut zoo = Self::default();
        gguf::fill(&mut zoo);
        gguf_lies::fill(&mut zoo);
        safetensors::fill(&mut zoo);
        index::fill(&mut zoo);
        config::fill(&mut zoo);
        tokenizers::fill(&mut zoo);
        zoo
    }

    /// A checkpoint of any files.
    pub(crate) fn add(&mut self, name: impl Into<String>, files: Files, says: &[&str]) {
        let says = says.iter().map(|&part| part.to_owned()).collect();
        self.members.push(Member { name: name.into(), files, says });
    }

    /// A GGUF file.
    pub(crate) fn gguf(&mut self, name: &str, bytes: Vec<u8>, says: &[&str]) {
        self.add(format!("gguf: {name}"), vec![("model.gguf".into(), bytes)], says);
    }

    /// Several GGUF files of one kind; what they must say tells them apart.
    pub(crate) fn ggufs(&mut self, kind: &str, all: Vec<(Vec<u8>, &[&str])>) {
        for (index, (bytes, says)) in all.into_iter().enumerate() {
            self.gguf(&format!("{kind} {index}: {}", says.join(", ")), bytes, says);
        }
    }

    /// A file of tensors beside a sound configuration.
    pub(crate) fn safetensors(&mut self, name: &str, bytes: Vec<u8>, says: &[&str]) {
        let mut files = tiny().files();
        files[1].1 = bytes;
        let says: Vec<&str> = says.iter().copied().chain(["made/model.safetensors"]).collect();
        self.add(format!("safetensors: {name}"), files, &says);
    }

    /// A file of tensors of a header and data.
    pub(crate) fn header(&mut self, header: &str, data: &[u8], says: &[&str]) {
        let name = format!("header {}: {}", self.members.len(), says.join(", "));
        self.safetensors(&name, framed(header, data), says);
    }

    /// A tokenizer beside a sound checkpoint.
    pub(crate) fn tokenizer(&mut self, name: &str, text: Vec<u8>, says: &str) {
        let mut files = tiny().files();
        files.push(("tokenizer.json".into(), text));
        self.add(format!("tokenizer: {name}"), files, &["made/tokenizer.json", says]);
    }

    /// A configuration beside sound tensors.
    pub(crate) fn config(&mut self, name: &str, text: impl Into<Vec<u8>>, says: &[&str]) {
        let mut files = tiny().files();
        files[0].1 = text.into();
        let says: Vec<&str> = says.iter().copied().chain(["made/config.json"]).collect();
        self.add(format!("config: {name}"), files, &says);
    }
}

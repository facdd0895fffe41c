//! The corpora of the fuzz targets, replayed: what once broke a reader never does again.

use std::fs;
use std::path::PathBuf;

use crate::bodies;
use crate::checkpoint::load_files;
use crate::made_gguf::read;

/// The files of a corpus, with their names.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let top = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    let entries = fs::read_dir(top.join(target)).expect("a corpus");
    let file = |entry: fs::DirEntry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        (name, fs::read(entry.path()).expect("a file"))
    };
    entries.map(|entry| file(entry.expect("an entry"))).collect()
}

#[test]
fn no_file_of_a_corpus_breaks_a_reader() {
    type Body = fn(&[u8]);
    let targets: [(&str, Body); 4] = [
        ("gguf", bodies::gguf),
        ("safetensors_header", bodies::safetensors_header),
        ("index", bodies::index),
        ("config", bodies::config),
    ];
    let mut bytes = 0;
    for (target, body) in targets {
        let files = corpus(target);
        assert!(files.len() >= 5, "{} files of {target}", files.len());
        for (name, file) in files {
            assert!(file.len() <= 4096, "{target}/{name} has {} bytes", file.len());
            bytes += file.len();
            body(&file);
        }
    }
    assert!(bytes <= 200_000, "{bytes} bytes of corpora");
}

#[test]
fn what_is_called_sound_in_a_corpus_is_sound() {
    for (name, bytes) in corpus("gguf").iter().filter(|(name, _)| name.starts_with("sound")) {
        read(bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    let own = |name: &str, bytes: &[u8]| (name.to_owned(), bytes.to_vec());
    let config = own("config.json", bodies::CONFIG);
    let whole = load_files(vec![config.clone(), own("model.safetensors", bodies::TENSORS)]);
    let digest = whole.expect("a sound checkpoint").manifest.digest;
    let index = corpus("index").into_iter().find(|(name, _)| name == "sound").expect("an index");
    let mut files = vec![config, own("model.safetensors.index.json", &index.1)];
    files.extend(bodies::SHARDS.map(|(name, bytes)| own(name, bytes)));
    assert_eq!(load_files(files).expect("sound shards").manifest.digest, digest);
}

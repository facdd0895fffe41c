//! The texts of the tree: every file that git does not ignore and that is UTF-8.

use std::fs;
use std::path::Path;

/// A text file.
pub(crate) struct Text {
    /// Its path from the top, with `/` between folders.
    pub(crate) path: String,
    pub(crate) content: String,
}

/// All text files, in the order of their paths.
pub(crate) fn texts() -> Vec<Text> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let ignored = fs::read_to_string(top.join(".gitignore")).expect("a .gitignore");
    let mut skipped: Vec<&str> = ignored.lines().map(|line| line.trim_matches('/')).collect();
    skipped.push(".git");
    let mut texts = Vec::new();
    collect(top, "", &skipped, &mut texts);
    texts.sort_by(|a, b| a.path.cmp(&b.path));
    texts
}

fn collect(folder: &Path, path: &str, skipped: &[&str], texts: &mut Vec<Text>) {
    for entry in fs::read_dir(folder).expect("a folder that can be read") {
        let entry = entry.expect("an entry that can be read");
        let name = entry.file_name().into_string().expect("a name in UTF-8");
        if skipped.contains(&name.as_str()) {
            continue;
        }
        let below = if path.is_empty() { name } else { format!("{path}/{name}") };
        if entry.file_type().expect("a type").is_dir() {
            collect(&entry.path(), &below, skipped, texts);
        } else if let Ok(content) = fs::read_to_string(entry.path()) {
            texts.push(Text { path: below, content });
        }
    }
}

#[test]
fn the_tree_is_read_without_what_git_ignores() {
    let texts = texts();
    let has = |path: &str| texts.iter().any(|text| text.path == path);
    assert!(has("Cargo.toml") && has("engine/src/lib.rs") && has("tests/tidy/tree.rs"));
    assert!(!texts.iter().any(|text| text.path.starts_with("target/")));
    assert!(!texts.iter().any(|text| text.path.starts_with(".git/")));
}

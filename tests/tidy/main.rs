//! The house rules as a test that reads the tree.
//!
//! A rule that nobody checks is a wish. Each rule is one test, and its failure lists every place
//! that breaks it; the scanners' own tests, beside them, show that each rule can fail.

mod features;
mod manifest;
mod scan;
mod tree;

use std::collections::BTreeSet;

use scan::Finding;
use tree::{Text, texts};

/// What may lie at the top of the tree: a file somewhere else has no home.
const HOMES: [&str; 19] = [
    ".ci",
    ".gitignore",
    "ARCHITECTURE.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "SOUNDNESS.md",
    "benches",
    "certify",
    "clippy.toml",
    "engine",
    "faults",
    "fixtures",
    "fuzz",
    "reports",
    "rustfmt.toml",
    "src",
];

/// A place that breaks a rule, as messages show it.
fn place(path: &str, finding: &Finding) -> String {
    format!("{path}:{}: {}", finding.line, finding.what)
}

/// Applies a scanner to texts and fails with all that it finds.
fn hold<'a>(
    rule: &str,
    texts: impl IntoIterator<Item = &'a Text>,
    scanner: impl Fn(&Text) -> Vec<Finding>,
) {
    let mut seen = 0;
    let mut broken = Vec::new();
    for text in texts {
        seen += 1;
        broken.extend(scanner(text).iter().map(|finding| place(&text.path, finding)));
    }
    assert!(seen > 0, "no file to hold to the rule: {rule}");
    assert!(broken.is_empty(), "{rule}:\n  {}\n", broken.join("\n  "));
}

fn rust(texts: &[Text]) -> impl Iterator<Item = &Text> {
    texts.iter().filter(|text| text.path.ends_with(".rs"))
}

#[test]
fn a_file_has_at_most_400_lines() {
    hold("a Rust file has at most 400 lines", rust(&texts()), |text| {
        scan::long_file(&text.content, 400)
    });
}

#[test]
fn a_function_has_at_most_70_lines() {
    hold("a function has at most 70 lines", rust(&texts()), |text| {
        scan::long_functions(&text.content, 70)
    });
}

#[test]
fn a_line_has_at_most_100_columns() {
    let rule = "a line has at most 100 columns, a table row of a module's head 130";
    hold(rule, rust(&texts()), |text| scan::long_lines(&text.content, 100, 130));
}

#[test]
fn a_file_opens_by_saying_what_it_is() {
    hold("a Rust file begins with //!", rust(&texts()), |text| scan::no_head(&text.content));
}

#[test]
fn only_kernels_and_the_memory_map_are_unsafe() {
    let rule = "unsafe code lives in engine/src/kernels/ and engine/src/formats/map.rs only";
    let allowed =
        |path: &str| path.starts_with("engine/src/kernels/") || path == "engine/src/formats/map.rs";
    let texts = texts();
    hold(rule, rust(&texts).filter(|text| !allowed(&text.path)), |text| {
        scan::words(&scan::code(&text.content), &["unsafe"])
    });
}

#[test]
fn a_table_detects_what_its_kernels_enable() {
    let texts = texts();
    let doors = texts.iter().find(|text| text.path == "engine/src/kernels/mod.rs");
    let doors = &doors.expect("the constructors of tables").content;
    for door in ["avx2", "avx512"] {
        let (file, folder) = (format!("kernels/{door}.rs"), format!("kernels/{door}/"));
        let own =
            rust(&texts).filter(|text| text.path.ends_with(&file) || text.path.contains(&folder));
        hold("what a kernel enables, the constructor of its table detects", own, |text| {
            features::undetected(&text.content, doors, door)
        });
    }
}

#[test]
fn nothing_is_left_for_later() {
    // In pieces, or this file would break its own rule.
    let later = [
        ["to", "do!"].concat(),
        ["unimpl", "emented!"].concat(),
        ["#[ig", "nore"].concat(),
        ["db", "g!"].concat(),
        ["FIX", "ME"].concat(),
        ["XX", "X"].concat(),
    ];
    hold("no stub, skipped test or note to oneself", rust(&texts()), |text| {
        later.iter().flat_map(|pattern| scan::pieces(&text.content, pattern)).collect()
    });
}

#[test]
fn what_is_proved_or_computed_uses_no_platform_mathematics() {
    let rule = "engine and certify call no transcendental function of the standard library";
    let texts = texts();
    let bound = |path: &str| path.starts_with("engine/") || path.starts_with("certify/");
    hold(rule, rust(&texts).filter(|text| bound(&text.path)), |text| {
        scan::transcendental(&scan::code(&text.content))
    });
}

#[test]
fn dependencies_point_down() {
    let rule = "a room depends on rooms below it only (fixtures serve any tests)";
    let texts = texts();
    let manifests = texts.iter().filter(|text| text.path.ends_with("Cargo.toml"));
    hold(rule, manifests, |text| manifest::arrows(&text.content));
}

#[test]
fn every_file_has_a_home() {
    let homes: BTreeSet<&str> = HOMES.into_iter().chain(["tests"]).collect();
    let texts = texts();
    hold("the top of the tree holds what ARCHITECTURE.md names", &texts, |text| {
        let top = text.path.split('/').next().unwrap_or_default();
        let known = homes.contains(top);
        if known { Vec::new() } else { vec![Finding::new(1, "has no home")] }
    });
}

#[test]
fn every_source_file_belongs_to_a_crate() {
    let texts = texts();
    let declared: BTreeSet<String> =
        rust(&texts).flat_map(|text| scan::modules(&scan::code(&text.content))).collect();
    hold("a source file is declared by a mod", rust(&texts), |text| {
        let Some((folder, file)) = text.path.rsplit_once('/') else { return Vec::new() };
        let stem = match file.trim_end_matches(".rs") {
            "mod" => folder.rsplit('/').next().unwrap_or_default(),
            stem => stem,
        };
        let root = matches!(stem, "lib" | "main") || !text.path.contains("src/");
        let lives = root || declared.contains(stem);
        if lives { Vec::new() } else { vec![Finding::new(1, "no mod declares this file")] }
    });
}

#[test]
fn no_path_of_a_machine_is_written_down() {
    let machine = ["work", "root", "tmp"].map(|folder| format!("/{folder}/"));
    hold("no text names a folder of one machine", &texts(), |text| {
        machine.iter().flat_map(|path| scan::absolute(&text.content, path)).collect()
    });
}

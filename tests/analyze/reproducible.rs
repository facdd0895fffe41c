//! `--reproducible` bytes follow from model, samples and request alone.

use std::env;

use crate::terminal::Desk;

/// The kernel tables that this processor runs; those of the environment variable must be there.
fn tables(desk: &Desk) -> Vec<&'static str> {
    let required = env::var("BITNET_REQUIRE_KERNELS").unwrap_or_default();
    let here = |name: &&'static str| {
        let told = desk.run(&format!("analyze --kernels {name} --dry-run --limit 1"));
        if told.code == 0 {
            return true;
        }
        assert!(!required.split(',').any(|must| must == *name), "{name} is required: {}", told.err);
        told.ends(2).says(&[name, "cannot run it", "scalar"]);
        false
    };
    ["scalar", "avx2", "avx512", "neon"].into_iter().filter(here).collect()
}

fn reproduces(request: &str) {
    let desk = Desk::new();
    let bytes = |how: &str| {
        let told = desk.run(&format!("analyze {request} --reproducible {how} -o r.json -o r.html"));
        (told.ends(0).out, desk.read("r.json"), desk.read("r.html"))
    };
    let expected = bytes("--threads 1 --kernels scalar");
    let tables = tables(&desk);
    assert!(tables.contains(&"scalar"));
    for table in &tables {
        assert!(bytes(&format!("--threads 2 --kernels {table}")) == expected, "{table}");
    }
    for threads in [1, 3, 7] {
        assert!(bytes(&format!("--threads {threads}")) == expected, "{threads} threads");
    }
    assert!(bytes("--mmap") == expected, "mapped files");
}

#[test]
fn no_byte_on_the_digits_depends_on_threads_or_kernels_or_the_day() {
    reproduces(
        "@digits --limit 3 --faults 120 --positions all --kv int8 --scope each --attack-budget 25",
    );
}

#[test]
fn no_byte_on_the_language_model_depends_on_threads_or_kernels_or_the_day() {
    let few = "--limit 1 --faults 18 --attack-budget 10 --epsilon 1e-6";
    reproduces(&format!("@language {few} --positions all --kv int8"));
}

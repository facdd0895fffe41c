//! The machine that the work runs on: a kernel table and worker threads, from the words typed.
//!
//! Neither may change a bit of any result; a wrong word is still refused, since whoever names a
//! table wants that one and no other.

use engine::kernels::{self, Kernels};

use crate::failure::Failure;

/// The most worker threads that are started.
const MOST_THREADS: usize = 4096;

/// The kernel table of a name, or the fastest.
///
/// # Errors
/// If there is no table of that name, or this processor cannot run it.
pub fn kernels(name: Option<&str>) -> Result<&'static Kernels, Failure> {
    let Some(name) = name else { return Ok(kernels::best()) };
    kernels::named(name).ok_or_else(|| {
        let here: Vec<&str> = kernels::available().iter().map(|table| table.name).collect();
        let what = if kernels::NAMES.contains(&name) {
            format!("--kernels {name}: this processor cannot run it")
        } else {
            format!("--kernels {name:?}: there is no such kernel table")
        };
        Failure::usage(what).help(format!("one that this processor has: {}", here.join(", ")))
    })
}

/// The worker threads: as many as asked for, or one a processor.
///
/// # Errors
/// If none are asked for, or more than can be started.
pub fn pool(threads: Option<usize>) -> Result<rayon::ThreadPool, Failure> {
    if let Some(threads) = threads.filter(|threads| !(1..=MOST_THREADS).contains(threads)) {
        return Err(Failure::usage(format!("--threads {threads}: expected 1 to {MOST_THREADS}"))
            .help("no --threads at all: one thread a processor"));
    }
    rayon::ThreadPoolBuilder::new().num_threads(threads.unwrap_or(0)).build().map_err(|error| {
        Failure::usage(format!("the worker threads cannot be started: {error}"))
            .help("fewer with --threads N")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Exit;

    #[test]
    fn every_available_table_is_found_by_its_name() {
        for table in kernels::available() {
            assert_eq!(kernels(Some(table.name)).unwrap().name, table.name);
        }
        assert_eq!(kernels(None).unwrap().name, kernels::best().name);
    }

    #[test]
    fn a_table_that_cannot_run_here_is_a_usage_error_that_names_those_that_can() {
        let lacking = kernels::NAMES.into_iter().filter(|name| kernels::named(name).is_none());
        for name in lacking.chain(["", "sse9"]) {
            let failure = kernels(Some(name)).unwrap_err();
            assert_eq!(failure.exit, Exit::Usage);
            assert!(failure.help.unwrap().contains("scalar"), "{name}");
        }
    }

    #[test]
    fn there_are_as_many_threads_as_asked_for_and_never_none() {
        assert_eq!(pool(Some(3)).unwrap().current_num_threads(), 3);
        assert_eq!(pool(Some(0)).unwrap_err().exit, Exit::Usage);
        assert_eq!(pool(Some(usize::MAX)).unwrap_err().exit, Exit::Usage);
    }
}

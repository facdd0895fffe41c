//! Entry point: the words typed, the verb, the exit code.

use std::panic;
use std::process::ExitCode;

use bitnet_certify::cli::{Cli, Command};
use bitnet_certify::failure::{Exit, Failure};
use bitnet_certify::{analyze, attack, campaign, commands, dataset, flip};
use clap::Parser;
use mimalloc::MiMalloc;

/// Bounds come and go by the thousand: what one lets go of is the next one's, and no page goes back
/// to the system between them.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = panic::catch_unwind(|| match &cli.command {
        Command::Analyze(args) => analyze::run(args),
        Command::Attack(args) => attack::run(args),
        Command::Dataset(args) => dataset::run(args),
        Command::Flip(args) => flip::run(args),
        Command::Faults(command) => campaign::run(command),
        other => commands::run(other),
    });
    match done {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(failure)) => ended(&failure),
        Err(_) => ended(&Failure::bug("this is a bug; the message above says where")),
    }
}

fn ended(failure: &Failure) -> ExitCode {
    eprintln!("{failure}");
    let exit: Exit = failure.exit;
    ExitCode::from(exit as u8)
}

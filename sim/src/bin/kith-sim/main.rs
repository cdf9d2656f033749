//! `kith-sim`: simulates networks of Kith nodes.

mod bar;
mod child;
mod cli;
mod diff;
mod list;
mod replay;
mod run;
mod shrink;
mod sweep;

use std::process::ExitCode;

use clap::Parser as _;

use cli::{Cli, Command};

/// Everything holds.
const GOOD: u8 = 0;
/// A promise was broken, an expectation missed, or two traces differ.
const BAD: u8 = 1;
/// The request or the scenario makes no sense.
const USAGE: u8 = 2;

/// What went wrong, and with which status the program ends.
struct Failure {
    status: u8,
    what: String,
}

impl Failure {
    fn usage(what: impl std::fmt::Display) -> Self {
        Self { status: USAGE, what: what.to_string() }
    }

    fn bad(what: impl std::fmt::Display) -> Self {
        Self { status: BAD, what: what.to_string() }
    }
}

impl From<kith_sim::RunError> for Failure {
    fn from(error: kith_sim::RunError) -> Self {
        match error {
            kith_sim::RunError::Scenario(error) => Self::usage(error),
            error => Self::bad(error),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::bad(error)
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    logging();
    let done = match cli.command {
        Command::Run(args) => run::run(&args),
        Command::Replay(args) => replay::replay(&args),
        Command::Diff(args) => diff::diff(&args),
        Command::Sweep(args) => sweep::sweep(&args),
        Command::Shrink(args) => shrink::shrink(&args),
        Command::List(args) => list::list(&args),
    };
    match done {
        Ok(true) => GOOD.into(),
        Ok(false) => BAD.into(),
        Err(Failure { status, what }) => {
            eprintln!("{}", what.trim_end());
            status.into()
        }
    }
}

/// What nodes log goes to standard error if `KITH_LOG` asks for it.
fn logging() {
    let Ok(filter) = std::env::var("KITH_LOG") else { return };
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(filter))
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .without_time()
        .init();
}

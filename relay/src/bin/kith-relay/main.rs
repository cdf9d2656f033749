//! `kith-relay`: keeps sealed envelopes for devices that are away.

mod backup;
mod check;
mod cli;
mod init;
mod orders;
mod out;
mod run;
mod store;

use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::{Cli, Command};
use crate::out::Out;

/// The exit code of wrong usage.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    kith_store::panics::keep_off_terminal();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { USAGE } else { 0 };
            // nobody is left to tell if standard error is closed
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            out::complain(&error.into());
            return ExitCode::FAILURE;
        }
    };
    let out = Out::new(cli.json);
    let done = runtime.block_on(perform(cli, &out));
    runtime.shutdown_background();
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            out::complain(&error);
            ExitCode::FAILURE
        }
    }
}

/// The exit code of a command that did what it should.
async fn perform(cli: Cli, out: &Out) -> anyhow::Result<u8> {
    let folder = cli.folder()?;
    match cli.command {
        Command::Init(args) => init::perform(&folder, out, &args)?,
        Command::Run(args) => Box::pin(run::perform(&folder, out, &args)).await?,
        Command::Check(args) => return Box::pin(check::perform(&folder, out, &args)).await,
        Command::Backup(args) => Box::pin(backup::backup(&folder, out, &args)).await?,
        Command::Restore(args) => Box::pin(backup::restore(&folder, out, &args)).await?,
        other => orders::perform(&folder, out, other).await?,
    }
    Ok(0)
}

//! `kith`: chat that tells the truth about delivery, from the command line.

mod app;
mod attach;
mod chat;
mod cli;
mod command;
mod failure;
mod out;
mod render;
mod terminal;
mod text;
mod tick;
mod when;

use std::process::ExitCode;

use clap::Parser;

use crate::app::App;
use crate::cli::Cli;

fn main() -> ExitCode {
    kith_node::panics::keep_off_terminal();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // help and version go to standard output and are no failure
            let code = if error.use_stderr() { failure::USAGE } else { 0 };
            // nobody is left to tell if standard error is closed
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let Some(command) = cli.command else {
        return failure::exit(cli::start_page(&cli.global));
    };
    let app = match App::new(cli.global) {
        Ok(app) => app,
        Err(error) => return failure::exit(Err(error)),
    };
    app.start_log(command.logs_to_people());
    // one thread for what waits for the network and for people; the store has threads of its own
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failure::exit(Err(error.into())),
    };
    let done = runtime.block_on(command.perform(&app));
    // a thread that still waits for standard input must not keep the program
    runtime.shutdown_background();
    failure::exit(done)
}

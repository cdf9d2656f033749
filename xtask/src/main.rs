//! Kith's chores. `cargo xtask help` lists them.
//!
//! Every chore installs what it needs, or says what to install. Cargo is always asked for the whole workspace: a
//! narrower selection would unify features differently and build the dependencies a second time.

mod bench;
mod run;
mod shell;
mod soak;
mod steps;
mod system;
mod test;
mod tools;

use std::process::ExitCode;

const HELP: &str = "\
Kith's chores

  cargo xtask run [ARGS]     build Kith for release and start it
                             (until the desktop app exists: `kith demo ARGS`, two nodes in one terminal)
  cargo xtask test           all that must pass before a change is merged; the same as CI
  cargo xtask bench [NAME]   run the bench programs whose name holds NAME, print medians, p99 and bars
  cargo xtask soak           the long tests of the stores, then each fuzz target for a minute

Options of `test`:
  --no-install               never install anything, leave out what cannot run
";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let chore = args.next().unwrap_or_else(|| "help".to_owned());
    let rest: Vec<String> = args.collect();
    let result = match chore.as_str() {
        "run" => run::run(&rest),
        "test" => test::test(&rest),
        "bench" => bench::bench(&rest),
        "soak" => soak::soak(&rest),
        "help" | "-h" | "--help" => {
            print!("{HELP}");
            Ok(())
        }
        other => {
            eprintln!("no chore is called '{other}'\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nxtask {chore}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

//! `kith-sim run`.

use std::sync::Arc;

use kith_sim::Options;

use crate::Failure;
use crate::bar::Watcher;
use crate::cli::RunArgs;

pub(crate) fn run(args: &RunArgs) -> Result<bool, Failure> {
    let scenario = args.subject.load()?;
    let options = Options {
        seed: args.subject.seed,
        trace: args.trace.clone(),
        until: args.until.map(|time| time.nanos()),
        without_overrides: args.without_overrides,
        ..Options::default()
    };
    let watcher = Watcher::new(Arc::clone(&options.progress));
    let run = scenario.run(&options);
    drop(watcher);
    let run = run?;
    eprint!("{}", run.complaint());
    if let Some(folder) = &args.report {
        kith_sim::report::write(&run, folder)
            .map_err(|error| Failure::bad(format!("{}: {error}", folder.display())))?;
        eprintln!("report: {}", folder.join("report.html").display());
    }
    println!("{}", run.summary.to_json());
    Ok(run.is_good())
}

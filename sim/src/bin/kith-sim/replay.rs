//! `kith-sim replay`.

use std::sync::Arc;

use kith_sim::Options;

use crate::Failure;
use crate::bar::Watcher;
use crate::cli::ReplayArgs;

/// Messages under way that are shown.
const SHOWN: usize = 10;

pub(crate) fn replay(args: &ReplayArgs) -> Result<bool, Failure> {
    let scenario = args.subject.load()?;
    let options = Options {
        seed: args.subject.seed,
        trace: args.trace.clone(),
        until: Some(args.until.nanos()),
        last: args.last,
        ..Options::default()
    };
    let watcher = Watcher::new(Arc::clone(&options.progress));
    let run = scenario.run(&options);
    drop(watcher);
    let run = run?;
    println!("the last events before {}:", args.until);
    for line in &run.last {
        println!("  {line}");
    }
    let open: Vec<_> = run.stories.iter().filter(|story| !story.has_arrived()).collect();
    println!("{} messages under way", open.len());
    for story in open.iter().take(SHOWN) {
        println!("message {} of node {} for {:?}:", story.entry.short(), story.author, story.to);
        for note in story.notes() {
            println!("  {note}");
        }
    }
    if open.len() > SHOWN {
        println!("and {} more", open.len() - SHOWN);
    }
    let down: Vec<u32> = run.nodes.iter().filter(|node| !node.up).map(|node| node.node).collect();
    println!("nodes down: {down:?}");
    eprint!("{}", run.complaint());
    println!("{}", run.summary.to_json());
    Ok(run.broken.is_empty())
}

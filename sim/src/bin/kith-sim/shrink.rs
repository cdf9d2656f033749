//! `kith-sim shrink`: leaves out what the failure does not need.

use kith_sim::Time;

use crate::Failure;
use crate::child::{self, Outcome};
use crate::cli::{ShrinkArgs, Subject};

pub(crate) fn shrink(args: &ShrinkArgs) -> Result<bool, Failure> {
    let mut best = args.subject.clone();
    let scenario = best.load()?;
    let first = child::run(&best)?;
    if first.good {
        println!("it does not fail with seed {}: nothing to shrink", best.seed);
        return Ok(true);
    }
    let kind = kind(&first);
    println!("fails: {}", first.reason());
    let mut tries = 0;
    let mut fails = |subject: &Subject| -> Result<bool, Failure> {
        tries += 1;
        // what cannot run at all does not fail in the same way
        if subject.load().is_err() {
            return Ok(false);
        }
        let outcome = child::run(subject)?;
        Ok(!outcome.good && self::kind(&outcome) == kind)
    };
    let all: Vec<usize> = (0..scenario.fault.len() + best.without.len()).collect();
    // all faults at once, then one by one
    let without_all = Subject { without: all.clone(), ..best.clone() };
    if !all.is_empty() && fails(&without_all)? {
        best = without_all;
    } else {
        for fault in all {
            if best.without.contains(&fault) {
                continue;
            }
            let mut fewer = best.clone();
            fewer.without.push(fault);
            if fails(&fewer)? {
                println!("without fault {fault} it still fails");
                best = fewer;
            }
        }
    }
    let (mut low, mut high) = (1, best.nodes.unwrap_or(scenario.nodes.count));
    while low < high {
        let nodes = u32::midpoint(low, high);
        let fewer = Subject { nodes: Some(nodes), ..best.clone() };
        if fails(&fewer)? {
            println!("with {nodes} nodes it still fails");
            (best, high) = (fewer, nodes);
        } else {
            low = nodes + 1;
        }
    }
    let (mut low, mut high) = (1, scenario.scenario.duration.nanos() / 1_000_000_000);
    while low < high {
        let middle = u64::midpoint(low, high);
        let shorter = Subject { duration: Some(Time::seconds(middle)), ..best.clone() };
        if fails(&shorter)? {
            println!("within {middle} s it still fails");
            (best, high) = (shorter, middle);
        } else {
            low = middle + 1;
        }
    }
    println!("smallest, after {tries} runs: kith-sim {}", child::command(&best).join(" "));
    if let Some(path) = &args.out {
        std::fs::write(path, best.load()?.to_toml())?;
        println!("written to {}", path.display());
    }
    Ok(true)
}

/// The failure without its numbers, so that another one is not taken for it.
fn kind(outcome: &Outcome) -> String {
    let reason = outcome.reason();
    reason
        .split_whitespace()
        .filter(|word| !word.contains(|c: char| c.is_ascii_digit()))
        .collect::<Vec<_>>()
        .join(" ")
}

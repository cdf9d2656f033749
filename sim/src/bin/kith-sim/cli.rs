//! The command line.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use kith_sim::{Scenario, Time};

use crate::Failure;

/// Simulates networks of whole Kith nodes in virtual time: one seed, one trace.
///
/// SCENARIO is a file, or the name of one that comes with the simulator (`kith-sim list`).
///
/// Status 0: everything holds. 1: a promise was broken, an expectation missed, or traces differ. 2: the request or the
/// scenario makes no sense. `KITH_LOG=kith=debug` shows what the nodes log.
#[derive(Debug, Parser)]
#[command(name = "kith-sim", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a scenario; the last line on standard output is its summary, one JSON object.
    Run(RunArgs),
    /// Run a scenario again up to a moment, and show what happened last and what was under way.
    Replay(ReplayArgs),
    /// Show the first event in which two traces differ.
    Diff(DiffArgs),
    /// Run scenarios with many seeds.
    Sweep(SweepArgs),
    /// Find the fewest nodes and faults with which a scenario still fails.
    Shrink(ShrinkArgs),
    /// Name the scenarios that come with the simulator.
    List(ListArgs),
}

/// A scenario, a seed, and what is changed in the scenario.
#[derive(Debug, Clone, Args)]
pub(crate) struct Subject {
    /// A file, or a name from `kith-sim list`.
    pub(crate) scenario: String,
    /// Everything random follows from this.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// So many nodes instead of the scenario's.
    #[arg(long)]
    pub(crate) nodes: Option<u32>,
    /// Leave out these faults (their numbers count from 0).
    #[arg(long = "without-fault", value_name = "N")]
    pub(crate) without: Vec<usize>,
    /// People write for so long instead of the scenario's time.
    #[arg(long, value_parser = time)]
    pub(crate) duration: Option<Time>,
}

impl Subject {
    /// The scenario as asked for.
    pub(crate) fn load(&self) -> Result<Scenario, Failure> {
        let mut scenario = kith_sim::scenario::find(&self.scenario).map_err(Failure::usage)?;
        if let Some(nodes) = self.nodes {
            scenario.nodes.count = nodes;
        }
        if let Some(duration) = self.duration {
            scenario.scenario.duration = duration;
        }
        let mut n = 0..;
        scenario.fault.retain(|_| n.next().is_none_or(|n| !self.without.contains(&n)));
        scenario.validate().map_err(Failure::usage)?;
        Ok(scenario)
    }
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) subject: Subject,
    /// Write report.html, report.json and messages.csv into this folder.
    #[arg(long, value_name = "DIR")]
    pub(crate) report: Option<PathBuf>,
    /// Write every event to this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) trace: Option<PathBuf>,
    /// End at this virtual time.
    #[arg(long, value_parser = time, value_name = "TIME")]
    pub(crate) until: Option<Time>,
    /// Leave time and chance to the system, to show what the simulator's overrides are for.
    #[arg(long, hide = true)]
    pub(crate) without_overrides: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    #[command(flatten)]
    pub(crate) subject: Subject,
    /// Up to this virtual time, like 83.5s.
    #[arg(long, value_parser = time, value_name = "TIME")]
    pub(crate) until: Time,
    /// Write every event to this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) trace: Option<PathBuf>,
    /// Show so many events.
    #[arg(long, default_value_t = 40)]
    pub(crate) last: usize,
}

#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// A trace,
    pub(crate) first: PathBuf,
    /// and another one.
    pub(crate) second: PathBuf,
    /// Events shown before and after.
    #[arg(long, default_value_t = 10)]
    pub(crate) context: usize,
}

#[derive(Debug, Args)]
pub(crate) struct SweepArgs {
    /// Files or names; without any, every scenario that comes with the simulator.
    pub(crate) scenarios: Vec<String>,
    /// Seeds from A to B, both included.
    #[arg(long, default_value = "1..10", value_parser = seeds, value_name = "A..B")]
    pub(crate) seeds: RangeInclusive<u64>,
    /// Runs at the same time.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) jobs: u16,
    /// Run each seed twice and compare the hashes.
    #[arg(long)]
    pub(crate) twice: bool,
    /// Write all summaries to this file, one JSON object a line.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ShrinkArgs {
    #[command(flatten)]
    pub(crate) subject: Subject,
    /// Write the smallest failing scenario here.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Name the figures that scenarios may expect something of.
    #[arg(long)]
    pub(crate) metrics: bool,
    /// Print the JSON schema of scenario files, for editors.
    #[arg(long)]
    pub(crate) schema: bool,
    /// Print the text of one scenario, to start one's own from.
    #[arg(long, value_name = "NAME")]
    pub(crate) show: Option<String>,
}

fn time(text: &str) -> Result<Time, String> {
    text.parse()
}

fn seeds(text: &str) -> Result<RangeInclusive<u64>, String> {
    let example = || format!("{text:?} is no range of seeds; write for example 1..50");
    let (first, last) = text.split_once("..").ok_or_else(example)?;
    let last = last.strip_prefix('=').unwrap_or(last);
    let (first, last) = (first.parse().map_err(|_| example())?, last.parse().map_err(|_| example())?);
    if first > last { Err(example()) } else { Ok(first..=last) }
}

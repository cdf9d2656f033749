//! `kith-sim sweep`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{IsTerminal as _, Write as _};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use indicatif::{ProgressBar, ProgressStyle};
use kith_sim::scenario::LIBRARY;

use crate::Failure;
use crate::child::{self, Outcome};
use crate::cli::{Subject, SweepArgs};

#[derive(Default)]
struct Row {
    runs: usize,
    failed: Vec<(u64, String)>,
    differ: Vec<u64>,
    virtual_s: f64,
    wall_s: f64,
    messages: f64,
    checks: f64,
}

pub(crate) fn sweep(args: &SweepArgs) -> Result<bool, Failure> {
    let names: Vec<String> = if args.scenarios.is_empty() {
        LIBRARY.iter().map(|(name, _)| (*name).to_owned()).collect()
    } else {
        args.scenarios.clone()
    };
    // a seed at a time over all scenarios, so that a sweep that is cut short has seen all of them
    let subjects: Vec<Subject> = args
        .seeds
        .clone()
        .flat_map(|seed| {
            names.iter().map(move |name| Subject {
                scenario: name.clone(),
                seed,
                nodes: None,
                without: Vec::new(),
                duration: None,
            })
        })
        .collect();
    for name in &names {
        kith_sim::scenario::find(name).map_err(Failure::usage)?;
    }
    let out = args.out.as_ref().map(File::create).transpose()?.map(Mutex::new);
    let rows: Mutex<BTreeMap<String, Row>> = Mutex::default();
    let next = AtomicUsize::new(0);
    let bar = bar(subjects.len());
    let work = || -> Result<(), Failure> {
        while let Some(subject) = subjects.get(next.fetch_add(1, Ordering::Relaxed)) {
            let outcome = child::run(subject)?;
            let same = !args.twice || child::run(subject)?.hash() == outcome.hash();
            if let (Some(out), Some(summary)) = (&out, &outcome.summary)
                && let Ok(mut out) = out.lock()
            {
                writeln!(out, "{summary}")?;
            }
            bar.inc(1);
            if !outcome.good {
                let line = format!("{} --seed {}: {}", subject.scenario, subject.seed, outcome.reason());
                bar.suspend(|| println!("{line}"));
            }
            if let Ok(mut rows) = rows.lock() {
                note(rows.entry(subject.scenario.clone()).or_default(), subject.seed, &outcome, same);
            }
        }
        Ok(())
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..args.jobs).map(|_| scope.spawn(work)).collect();
        let panicked = || Err(Failure::bad("a thread of the sweep panicked"));
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|_| panicked()))
    })?;
    bar.finish_and_clear();
    let rows = rows.into_inner().unwrap_or_default();
    Ok(show(&rows))
}

fn note(row: &mut Row, seed: u64, outcome: &Outcome, same: bool) {
    let number =
        |name: &str| outcome.summary.as_ref().and_then(|summary| summary[name].as_f64()).unwrap_or_default();
    row.runs += 1;
    row.virtual_s += number("virtual_s");
    row.wall_s += number("wall_s");
    row.messages += number("messages");
    row.checks += number("invariants_checked");
    if !outcome.good {
        row.failed.push((seed, outcome.reason()));
    }
    if !same {
        row.differ.push(seed);
    }
}

fn show(rows: &BTreeMap<String, Row>) -> bool {
    println!(
        "{:<20} {:>6} {:>7} {:>12} {:>10} {:>10} {:>12}",
        "scenario", "runs", "failed", "virtual", "real", "messages", "checks"
    );
    for (name, row) in rows {
        println!(
            "{name:<20} {:>6} {:>7} {:>10.0} s {:>8.0} s {:>10.0} {:>12.0}",
            row.runs,
            row.failed.len(),
            row.virtual_s,
            row.wall_s,
            row.messages,
            row.checks
        );
    }
    for (name, row) in rows {
        for (seed, reason) in &row.failed {
            println!("failed: kith-sim run {name} --seed {seed}   ({reason})");
        }
        for seed in &row.differ {
            println!("not the same trace twice: kith-sim run {name} --seed {seed}");
        }
    }
    rows.values().all(|row| row.failed.is_empty() && row.differ.is_empty())
}

fn bar(runs: usize) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(runs as u64);
    let style = ProgressStyle::with_template("{pos}/{len} runs {wide_bar} {elapsed}, {eta} left");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

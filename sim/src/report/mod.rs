//! Reports: one self-contained page, and the same data as JSON and CSV.

mod page;
mod plot;
mod spacetime;

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use serde_json::json;

use crate::judge::Story;
use crate::run::Run;

/// Writes `report.html`, `report.json` and `messages.csv` into a folder.
///
/// # Errors
/// If a file cannot be written.
pub fn write(run: &Run, folder: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    std::fs::write(folder.join("report.html"), page::html(run))?;
    std::fs::write(folder.join("report.json"), json(run))?;
    std::fs::write(folder.join("messages.csv"), csv(run))
}

fn json(run: &Run) -> String {
    let broken: Vec<_> = run
        .broken
        .iter()
        .map(|broken| json!({ "at_ns": broken.at, "node": broken.host, "what": broken.what }))
        .collect();
    let data = json!({
        "summary": run.summary,
        "scenario": run.scenario,
        "broken": broken,
        "work_begun_ns": run.begun,
        "faults": run.faults,
        "timeline": run.timeline,
        "latencies_ms": run.latencies,
        "arrivals_s_ms": run.arrivals,
        "nodes": run.nodes,
    });
    serde_json::to_string_pretty(&data).unwrap_or_default()
}

fn csv(run: &Run) -> String {
    let mut text = String::from("message,author,recipient,written_s,queued_s,shown_s,delivered_s,status\n");
    let seconds =
        |nanos: Option<u64>| nanos.map_or_else(String::new, |nanos| format!("{:.6}", nanos as f64 / 1e9));
    for story in &run.stories {
        for to in &story.to {
            let Story { author, written, accepted, ticked, rank, .. } = story;
            // writing to a string cannot fail
            let _ = writeln!(
                text,
                "{},{author},{to},{},{},{},{},{rank:?}",
                story.entry,
                seconds(Some(*written)),
                seconds(*accepted),
                seconds(story.shown.get(to).copied()),
                seconds(*ticked),
            );
        }
    }
    text
}

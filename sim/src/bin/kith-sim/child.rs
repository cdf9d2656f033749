//! Runs in processes of their own: only the first run of a process has the same trace everywhere.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::Failure;
use crate::cli::Subject;

/// What a run came to.
pub(crate) struct Outcome {
    pub(crate) good: bool,
    /// Its summary, if it came so far.
    pub(crate) summary: Option<Value>,
    /// What it complained of.
    pub(crate) complaint: String,
}

impl Outcome {
    pub(crate) fn hash(&self) -> &str {
        self.summary.as_ref().and_then(|summary| summary["trace_hash"].as_str()).unwrap_or_default()
    }

    /// What failed, in a line.
    pub(crate) fn reason(&self) -> String {
        let lines = self.complaint.lines().map(str::trim);
        let mut said =
            lines.clone().filter(|line| line.starts_with("broken:") || line.starts_with("missed:"));
        said.next().or_else(|| lines.clone().rfind(|line| !line.is_empty())).unwrap_or("no reason").to_owned()
    }
}

/// The command that runs a subject.
pub(crate) fn command(subject: &Subject) -> Vec<String> {
    let mut words =
        vec!["run".to_owned(), subject.scenario.clone(), "--seed".to_owned(), subject.seed.to_string()];
    if let Some(nodes) = subject.nodes {
        words.extend(["--nodes".to_owned(), nodes.to_string()]);
    }
    if let Some(duration) = subject.duration {
        words.extend(["--duration".to_owned(), duration.to_string()]);
    }
    for fault in &subject.without {
        words.extend(["--without-fault".to_owned(), fault.to_string()]);
    }
    words
}

/// Runs a subject.
pub(crate) fn run(subject: &Subject) -> Result<Outcome, Failure> {
    let own = std::env::current_exe()?;
    let output = Command::new(own).args(command(subject)).stdin(Stdio::null()).output()?;
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.code() == Some(2) {
        return Err(Failure::usage(complaint));
    }
    let summary = String::from_utf8_lossy(&output.stdout)
        .lines()
        .last()
        .and_then(|line| serde_json::from_str(line).ok());
    Ok(Outcome { good: output.status.success(), summary, complaint })
}

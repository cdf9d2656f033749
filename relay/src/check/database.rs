//! The database: whether it can be reached, keeps what it acknowledges, and lets this relay do its work.

use std::sync::Arc;

use super::{Finding, Subject};
use crate::config::RelayConfig;
use crate::postgres::{Inspection, PostgresConfig, inspect};

/// Clocks that differ by more are told, in milliseconds.
const CLOCKS: u64 = 30_000;
const WHAT: &str = "database";

pub(super) async fn check(subject: &Subject<'_>, config: &RelayConfig) -> Vec<Finding> {
    // what is wrong with the key is told with the folder
    let Ok(key) = subject.folder.read_key() else { return Vec::new() };
    let settings = match PostgresConfig::new(config, &key) {
        Ok(settings) => settings,
        Err(error) => return vec![Finding::wrong(WHAT, error, "correct [database] in relay.toml")],
    };
    match inspect(Arc::clone(subject.host) as _, &settings).await {
        Ok(inspection) => findings(inspection),
        Err(error) => vec![Finding::wrong(
            WHAT,
            error.to_string(),
            "start the server, or correct [database] in relay.toml; `psql` with the same address tries it by hand",
        )],
    }
}

fn findings(found: Inspection) -> Vec<Finding> {
    let mut findings = Vec::new();
    let tables = match found.schema {
        Some(version) => format!("tables of version {version}"),
        None => "no tables yet, `run` makes them".into(),
    };
    let how = if found.encrypted { "TLS" } else { "not encrypted" };
    findings
        .push(Finding::fit(WHAT, format!("{}: PostgreSQL {}, {how}, {tables}", found.shown, found.version)));
    findings.extend(found.wrong.into_iter().map(|(what, advice)| Finding::wrong(WHAT, what, advice)));
    findings.extend(found.advice.into_iter().map(|(what, advice)| Finding::advice(WHAT, what, advice)));
    if found.clock_ahead.unsigned_abs() > CLOCKS {
        findings.push(Finding::advice(
            WHAT,
            format!(
                "its clock differs from this machine's by {} s",
                found.clock_ahead.unsigned_abs() / 1_000
            ),
            "let both follow NTP",
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Level;

    #[test]
    fn what_must_be_changed_and_what_could_be_better_are_told_apart() {
        let found = Inspection {
            wrong: vec![("fsync is off".into(), "turn it on".into())],
            advice: vec![("no checksums".into(), "make them".into())],
            clock_ahead: -60_000,
            ..Inspection::default()
        };
        let levels: Vec<Level> = findings(found).iter().map(|finding| finding.level).collect();
        assert_eq!(levels, [Level::Fit, Level::Wrong, Level::Advice, Level::Advice]);
    }
}

//! Whether configuration and host are fit for a relay, and what to do where they are not.

mod certificate;
mod clock;
mod config;
#[cfg(feature = "postgres")]
mod database;
mod disk;
mod folder;
mod host;
mod ports;

use std::sync::Arc;

use kith_protocol::Wall;
use serde::Serialize;

#[cfg(feature = "postgres")]
use crate::config::StoreKind;
use crate::config::{ConfigFileError, RelayConfig};
use crate::folder::Folder;
use kith_network::ProductEnvironment;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// As it should be.
    Fit,
    /// It works; it would be better otherwise.
    Advice,
    /// It will not work, or not keep its promises.
    Wrong,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What.
    pub what: &'static str,
    /// How bad it is.
    pub level: Level,
    /// What was found.
    pub found: String,
    /// What to do, if anything.
    pub advice: Option<String>,
}

impl Finding {
    fn fit(what: &'static str, found: impl Into<String>) -> Self {
        Self { what, level: Level::Fit, found: found.into(), advice: None }
    }

    fn advice(what: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { what, level: Level::Advice, found: found.into(), advice: Some(advice.into()) }
    }

    fn wrong(what: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { what, level: Level::Wrong, found: found.into(), advice: Some(advice.into()) }
    }
}

/// What is known before anything is looked at.
#[derive(Debug)]
pub struct Subject<'a> {
    /// The relay's folder.
    pub folder: &'a Folder,
    /// Its configuration, or what is wrong with it.
    pub config: Result<&'a RelayConfig, &'a ConfigFileError>,
    /// The process of the relay, if it runs.
    pub running: Option<u32>,
    /// It runs, and does not believe the clock.
    pub doubts_clock: bool,
    /// The time.
    pub now: Wall,
    /// Where tasks run.
    pub host: &'a Arc<ProductEnvironment>,
}

/// Looks at everything.
pub async fn check(subject: &Subject<'_>) -> Vec<Finding> {
    let mut findings = vec![config::file(subject)];
    findings.extend(folder::check(subject));
    findings.extend(disk::check(subject));
    findings.push(clock::check(subject).await);
    if let Ok(config) = subject.config {
        findings.extend(config::values(config));
        findings.extend(host::check(subject, config));
        #[cfg(feature = "postgres")]
        if config.store.kind == StoreKind::Postgres {
            findings.extend(database::check(subject, config).await);
        }
        findings.extend(certificate::check(subject, config));
        findings.extend(ports::check(subject, config).await);
    }
    findings
}

//! Limits of the system: open files, memory.

use super::{Finding, Subject};
use crate::config::RelayConfig;

/// Files beside connections: store, log, listeners.
const FILES: u64 = 256;
/// Memory of an idle connection, and of the program itself without its cache, in bytes: what was measured, doubled.
const CONNECTION: u64 = 60 * 1024;
const PROGRAM: u64 = 64 * 1024 * 1024;

pub(super) fn check(subject: &Subject<'_>, config: &RelayConfig) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some((limit, whose)) = open_files(subject) {
        findings.push(files(limit, whose, config.connections.total, subject.running.is_some()));
    }
    if let Some(total) = memory() {
        findings.push(fits(total, config));
    }
    findings
}

/// The limit that counts: of the running relay, or what it will get when it starts from here.
fn open_files(subject: &Subject<'_>) -> Option<(u64, &'static str)> {
    if let Some(pid) = subject.running {
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
        return crate::web::max_open_files(&limits).map(|limit| (limit, "the running relay"));
    }
    #[cfg(unix)]
    {
        // the relay raises it as far as it may
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
        Some((limit.unwrap_or(u64::MAX), "a relay started from here"))
    }
    #[cfg(not(unix))]
    None
}

fn files(limit: u64, whose: &str, connections: usize, running: bool) -> Finding {
    let needed = (connections as u64).saturating_add(FILES);
    if limit >= needed {
        return Finding::fit("open files", format!("{limit} for {whose}, {needed} are needed"));
    }
    let found = format!("{limit} for {whose}, {needed} are needed for connections.total = {connections}");
    let advice = format!("set LimitNOFILE={needed} in the unit (or `ulimit -n`), or lower connections.total");
    // a unit may set another limit than there is here
    if running {
        Finding::wrong("open files", found, advice)
    } else {
        Finding::advice("open files", found, format!("{advice}; the packaged unit sets 65536"))
    }
}

fn memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

fn fits(total: u64, config: &RelayConfig) -> Finding {
    let mib = |bytes: u64| bytes / (1024 * 1024);
    let connections = config.connections.total as u64;
    let needed =
        connections.saturating_mul(CONNECTION).saturating_add(PROGRAM).saturating_add(config.store.cache.0);
    if config.connections.memory.0 > total {
        return Finding::advice(
            "memory",
            format!(
                "connections.memory is {} MiB, the machine has {} MiB",
                mib(config.connections.memory.0),
                mib(total)
            ),
            "set it to less than the machine has, or the system ends the relay before it can refuse connections",
        );
    }
    if needed > total {
        return Finding::advice(
            "memory",
            format!(
                "{connections} connections may take {} MiB, the machine has {} MiB",
                mib(needed),
                mib(total)
            ),
            "lower connections.total or store.cache",
        );
    }
    Finding::fit("memory", format!("{} MiB, of which up to {} MiB may be needed", mib(total), mib(needed)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Level;
    use crate::config::Bytes;

    #[test]
    fn too_few_files_and_too_little_memory_are_told_with_the_number_that_is_needed() {
        assert_eq!(files(1_024, "x", 20_000, false).level, Level::Advice);
        let finding = files(1_024, "x", 20_000, true);
        assert_eq!(finding.level, Level::Wrong);
        assert!(finding.advice.unwrap().contains("LimitNOFILE=20256"));
        assert_eq!(files(u64::MAX, "x", 20_000, true).level, Level::Fit);
        let mut config = RelayConfig::default();
        assert_eq!(fits(16 << 30, &config).level, Level::Fit);
        assert_eq!(fits(1 << 30, &config).level, Level::Advice);
        config.connections.memory = Bytes(512 << 20);
        assert_eq!(fits(1 << 30, &config).level, Level::Advice);
        config.connections.total = 5_000;
        assert_eq!(fits(1 << 30, &config).level, Level::Fit);
    }
}

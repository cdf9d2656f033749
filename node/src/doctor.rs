//! What a person would have to look at when something does not work.

use std::path::Path;

use kith_protocol::limits;
use kith_protocol::record::{Clock, Key, ReadError, Reader, Record};
use kith_store::{OpenError, StoreReader};
use serde::{Deserialize, Serialize};

use crate::api::{ClockView, NodeView, RelayStatus, RestoredView, Timestamp};
use crate::config::RunOptions;
use crate::folder::Folder;
use crate::keys::{self, KeyKind};
use crate::node::{Builder, StartError};
use crate::runtime::Shelf;

/// Less free space than this is worth a word.
const LOW_SPACE: u64 = 512 * 1024 * 1024;
/// No clock is right before this: 2026-01-01.
const EARLIEST: u64 = 1_767_225_600_000;

/// How bad something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Works, but look at it.
    Warning,
    /// Does not work.
    Problem,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// `account`, `key`, `config`, `store`, `space`, `clock`, `listen`, `reachability`, `directory`, `relays`.
    pub check: String,
    /// How it is.
    pub level: Level,
    /// What was found, and what to do about it.
    pub text: String,
}

impl Finding {
    fn new(check: &str, level: Level, text: impl Into<String>) -> Self {
        Self { check: check.to_owned(), level, text: text.into() }
    }
}

/// Looks at a data folder, and at the node on it if its state is given.
#[must_use]
pub fn examine(folder: &Folder, builder: &Builder, node: Option<&NodeView>) -> Vec<Finding> {
    let mut findings = vec![key(folder), config(folder)];
    match node {
        Some(node) => {
            findings.extend(network(node));
            findings.extend(clock(builder, None, node.clock));
        }
        None => findings.extend(store(builder)),
    }
    findings
}

fn key(folder: &Folder) -> Finding {
    if !folder.path().exists() {
        let text = format!("{} does not exist; run `kith init --name YOU` first", folder.path().display());
        return Finding::new("account", Level::Problem, text);
    }
    if let Some(text) = open_to_others(folder.path()) {
        return Finding::new("key", Level::Problem, text);
    }
    match keys::kind(folder.path()) {
        Ok(None) => Finding::new("account", Level::Problem, StartError::NoAccount.to_string()),
        Ok(Some(KeyKind::File)) => match open_to_others(&folder.path().join("key.json")) {
            Some(text) => Finding::new("key", Level::Problem, text),
            None => Finding::new("key", Level::Ok, "the store's key is in a file that only you can read"),
        },
        Ok(Some(KeyKind::Keyring)) => {
            Finding::new("key", Level::Ok, "the store's key is in this system's keyring")
        }
        Ok(Some(KeyKind::Passphrase | KeyKind::Auto)) => {
            Finding::new("key", Level::Ok, "the store's key opens with a passphrase")
        }
        Err(error) => Finding::new("key", Level::Problem, error.to_string()),
    }
}

#[cfg(unix)]
fn open_to_others(path: &Path) -> Option<String> {
    use std::os::unix::fs::PermissionsExt;
    let metadata = std::fs::metadata(path).ok()?;
    let mode = metadata.permissions().mode() & 0o777;
    let wanted = if metadata.is_dir() { 0o700 } else { 0o600 };
    (mode & 0o077 != 0).then(|| {
        let path = path.display();
        format!("others on this machine can read {path} (mode {mode:o}); run `chmod {wanted:o} {path}`")
    })
}

#[cfg(not(unix))]
fn open_to_others(_path: &Path) -> Option<String> {
    None
}

fn config(folder: &Folder) -> Finding {
    match RunOptions::read(folder) {
        Err(error) => Finding::new("config", Level::Problem, error.to_string()),
        Ok(options) if options.bootstrap.is_empty() => Finding::new(
            "config",
            Level::Warning,
            "no bootstrap node is set: contacts whose address has changed are found on the local network only; \
             run `kith run --bootstrap ADDR` once with the address of any node that stays up",
        ),
        Ok(options) => Finding::new(
            "config",
            Level::Ok,
            match options.bootstrap.len() {
                1 => "1 bootstrap node is set".to_owned(),
                count => format!("{count} bootstrap nodes are set"),
            },
        ),
    }
}

fn store(builder: &Builder) -> Vec<Finding> {
    let opened = builder.store_config().and_then(|config| {
        let host = builder.host_or_default()?;
        Ok(host.open_store(config)?)
    });
    let (store, report) = match opened {
        Ok(opened) => opened,
        Err(StartError::NoAccount) => return Vec::new(),
        Err(StartError::Store(OpenError::Locked(error))) => {
            return vec![Finding::new("store", Level::Warning, format!("not looked at: {error}"))];
        }
        Err(error) => return vec![Finding::new("store", Level::Problem, error.to_string())],
    };
    let mut findings = Vec::new();
    // what a restore lost is told below, with what has come back since
    if let Some(notice) = report.notice().filter(|_| !report.restored) {
        findings.push(Finding::new("store", Level::Warning, notice));
    }
    match crate::restored::read(&Shelf::new(store.reader())) {
        Ok(restored) => findings.extend(restored.as_ref().map(lost)),
        Err(error) => findings.push(Finding::new("store", Level::Problem, error.to_string())),
    }
    match store.stats() {
        Err(error) => findings.push(Finding::new("store", Level::Problem, error.to_string())),
        Ok(stats) => {
            let megabytes = (stats.engine_bytes + stats.log_bytes) / (1024 * 1024);
            let text = format!(
                "{} with {} rows in {megabytes} MB; `kith store check` reads all of it",
                stats.engine, stats.rows
            );
            let (level, text) = match (&stats.halted, stats.suspect) {
                (Some(error), _) => (Level::Problem, error.to_string()),
                (None, true) => (
                    Level::Problem,
                    "damage was seen; it is restored at the next start, see `kith store check`".to_owned(),
                ),
                (None, false) => (Level::Ok, text),
            };
            findings.push(Finding::new("store", level, text));
            findings.extend(stats.free_bytes.map(space));
        }
    }
    findings.extend(clock(builder, Some(&store), None));
    findings
}

/// What a restore lost.
fn lost(restored: &RestoredView) -> Finding {
    Finding::new("store", Level::Warning, restored.text.clone())
}

fn space(free: u64) -> Finding {
    let megabytes = free / (1024 * 1024);
    if free < LOW_SPACE {
        let text =
            format!("only {megabytes} MB are free where the store lies: free some, or messages are refused");
        return Finding::new("space", Level::Warning, text);
    }
    Finding::new("space", Level::Ok, format!("{megabytes} MB are free where the store lies"))
}

/// Compares the clock with what the store remembers of it, if it is open, and with others' as far as the node knows them.
fn clock(builder: &Builder, store: Option<&StoreReader>, others: Option<ClockView>) -> Option<Finding> {
    let now = builder.host_or_default().ok()?.wall();
    let shown = Timestamp::from(now);
    if now.0 < EARLIEST {
        let text = format!("this machine's clock says {shown}: set it right");
        return Some(Finding::new("clock", Level::Problem, text));
    }
    let believed = store.and_then(|store| believed(store).ok().flatten()).map(|clock| clock.believed);
    Some(match believed.filter(|believed| believed.since(now) > limits::CLOCK_JUMP) {
        Some(before) => {
            let before = Timestamp::from(before);
            let text = format!("the clock says {shown}, but was at {before} before: set it right");
            Finding::new("clock", Level::Problem, text)
        }
        None => compared(shown, others.unwrap_or_default()),
    })
}

/// What others' clocks say of this one.
fn compared(shown: Timestamp, others: ClockView) -> Finding {
    let ClockView { heard, differing, ahead_ms, doubted } = others;
    let agreeing = heard.saturating_sub(differing);
    let how = if ahead_ms < 0 { "behind" } else { "ahead of" };
    let much = span(ahead_ms.unsigned_abs());
    let (level, text) = match (heard, differing) {
        (0, _) if doubted => {
            let text = "it jumped by more than a day, and no other clock has confirmed it yet: until then no message expires";
            (Level::Warning, text.to_owned())
        }
        (0, _) => return Finding::new("clock", Level::Ok, format!("the clock says {shown}")),
        (1, 0) => (Level::Ok, "the one other clock heard of agrees".to_owned()),
        (_, 0) => (Level::Ok, format!("the {heard} other clocks heard of agree")),
        (1, _) => {
            let text =
                format!("the one other clock heard of is {much} {how} it: one of the two is to be set right");
            (Level::Warning, text)
        }
        _ if differing > agreeing => {
            let level = if doubted { Level::Problem } else { Level::Warning };
            let text = format!(
                "{differing} of the {heard} other clocks heard of differ, the middle one is {much} {how} it: set it right"
            );
            (level, text)
        }
        _ => (Level::Ok, format!("{agreeing} of the {heard} other clocks heard of agree")),
    };
    Finding::new("clock", level, format!("the clock says {shown}; {text}"))
}

/// `3 min`, `2 h 5 min`, `3 days`: what matters of it.
fn span(millis: u64) -> String {
    let minutes = millis.saturating_add(limits::MINUTE / 2) / limits::MINUTE;
    match (minutes / (24 * 60), minutes / 60, minutes % 60) {
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, 0) => format!("{hours} h"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (1, ..) => "1 day".to_owned(),
        (days, ..) => format!("{days} days"),
    }
}

fn believed(store: &StoreReader) -> Result<Option<Clock>, ReadError> {
    Ok(store.get(&Key::Clock)?.and_then(Clock::from_row))
}

fn network(node: &NodeView) -> Vec<Finding> {
    let mut findings = vec![Finding::new("store", Level::Ok, "the node has it open")];
    findings.extend(node.restored.as_ref().map(lost));
    findings.push(if node.addresses.is_empty() {
        let text = "the node listens nowhere; start it with --listen /ip4/0.0.0.0/tcp/0";
        Finding::new("listen", Level::Problem, text)
    } else {
        Finding::new(
            "listen",
            Level::Ok,
            match node.addresses.len() {
                1 => "listening at 1 address; `kith status` shows it".to_owned(),
                count => format!("listening at {count} addresses; `kith status` lists them"),
            },
        )
    });
    findings.push(match node.reachability.as_str() {
        "public" => Finding::new("reachability", Level::Ok, "others can reach this node from anywhere"),
        "private" => Finding::new(
            "reachability",
            Level::Warning,
            "others cannot reach this node from outside: forward a port and name it with --external, or meet on one network",
        ),
        _ => Finding::new("reachability", Level::Warning, "nobody has confirmed yet that this node can be reached"),
    });
    findings.push(match node.peers {
        0 => Finding::new("directory", Level::Warning, "no other node is connected"),
        1 => Finding::new("directory", Level::Ok, "1 other node is connected"),
        peers => Finding::new("directory", Level::Ok, format!("{peers} other nodes are connected")),
    });
    findings.extend(relays(node));
    findings
}

/// What our relays are worth.
fn relays(node: &NodeView) -> Vec<Finding> {
    let find = |level, text: String| Finding::new("relays", level, text);
    let named = node.relays.iter().filter(|relay| relay.named).count();
    let mut findings = vec![match named {
        0 => find(
            Level::Warning,
            "no relay keeps messages for you: what is sent while you are off-line waits on the sender's device until \
             you are both on-line; add two or three with `kith relay add ADDRESS`"
                .to_owned(),
        ),
        1 => find(
            Level::Warning,
            "one relay keeps messages for you: if it fails, what only it had must be sent again; add another with \
             `kith relay add ADDRESS`"
                .to_owned(),
        ),
        count => find(Level::Ok, format!("{count} relays keep messages for you")),
    }];
    if named > 0 && node.running && !node.relays.iter().any(|relay| relay.named && relay.connected) {
        findings.push(find(
            Level::Warning,
            "none of your relays is connected now: what they hold for you comes when one is again".to_owned(),
        ));
    }
    for relay in &node.relays {
        let name = relay.relay.short();
        if relay.broken > 0 {
            let all = relay.kept.saturating_add(relay.broken);
            let text = format!(
                "relay {name} signed for {all} test envelopes and did not keep {}: replace it",
                relay.broken
            );
            findings.push(find(Level::Problem, text));
        }
        match relay.state {
            RelayStatus::Refused => {
                let reason = relay.reason.as_deref().unwrap_or("it does not say why");
                findings
                    .push(find(Level::Problem, format!("relay {name} opens no mailbox for you: {reason}")));
            }
            RelayStatus::New | RelayStatus::Open if !relay.connected => {
                let text = format!("relay {name} at {} is not connected now", relay.address);
                findings.push(find(Level::Warning, text));
            }
            RelayStatus::New | RelayStatus::Open | RelayStatus::Leaving => {}
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(heard: usize, differing: usize, ahead_ms: i64, doubted: bool) -> (Level, String) {
        let finding = compared(Timestamp(0), ClockView { heard, differing, ahead_ms, doubted });
        assert!(finding.text.starts_with("the clock says 1970-01-01T00:00:00.000Z"), "{}", finding.text);
        (finding.level, finding.text)
    }

    #[test]
    fn a_clock_is_judged_by_what_most_others_say() {
        let hour = limits::HOUR as i64;
        let (level, text) = said(0, 0, 0, false);
        assert!(level == Level::Ok && !text.contains(';'), "{text}");
        let (level, text) = said(3, 0, 12, false);
        assert!(level == Level::Ok && text.contains("the 3 other clocks heard of agree"), "{text}");
        let (level, text) = said(3, 1, 40, false);
        assert!(level == Level::Ok && text.contains("2 of the 3 other clocks"), "{text}");
        let (level, text) = said(1, 1, -hour - 300_000, false);
        assert!(level == Level::Warning && text.contains("is 1 h 5 min behind it"), "{text}");
        let (level, text) = said(3, 2, 50 * hour, true);
        assert!(level == Level::Problem && text.contains("is 2 days ahead of it: set it right"), "{text}");
        let (level, text) = said(0, 0, 0, true);
        assert!(level == Level::Warning && text.contains("no message expires"), "{text}");
    }
}

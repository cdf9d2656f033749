//! The folder: whose it is, and who may read it.

use kith_protocol::limits;

use super::{Finding, Subject};

/// A backup should not be older.
const BACKUP: u64 = limits::WEEK;

pub(super) fn check(subject: &Subject<'_>) -> Vec<Finding> {
    let folder = subject.folder;
    let mut findings = Vec::new();
    match folder.read_key() {
        Ok(_) => findings.push(Finding::fit("key", folder.key().display().to_string())),
        Err(error) => findings.push(Finding::wrong(
            "key",
            error.to_string(),
            "put it back from a backup: without it every mailbox here is lost",
        )),
    }
    #[cfg(unix)]
    for (what, path) in
        [("folder", folder.path().to_owned()), ("key file", folder.key()), ("store", folder.store())]
    {
        findings.extend(permissions(what, &path));
    }
    #[cfg(unix)]
    if rustix::process::geteuid().is_root() {
        findings.push(Finding::advice(
            "user",
            "this is root",
            "run the relay as a user of its own, as the systemd unit does; run this check as that user, too",
        ));
    }
    match folder.last_backup() {
        Some(at) if subject.now.since(at) <= BACKUP => findings
            .push(Finding::fit("backup", format!("{} hours old", subject.now.since(at) / limits::HOUR))),
        Some(at) => findings.push(Finding::advice(
            "backup",
            format!("{} days old", subject.now.since(at) / limits::DAY),
            "make one a day: `kith-relay backup FILE`",
        )),
        None => findings.push(Finding::advice(
            "backup",
            "none was made yet",
            "keep at least a copy of relay.key, or make one a day: `kith-relay backup FILE`",
        )),
    }
    findings
}

/// The key and what is stored are for the relay's user alone.
#[cfg(unix)]
fn permissions(what: &'static str, path: &std::path::Path) -> Option<Finding> {
    use std::os::unix::fs::MetadataExt as _;
    let meta = path.metadata().ok()?;
    let mode = meta.mode() & 0o777;
    let shown = path.display();
    let me = rustix::process::geteuid();
    if meta.uid() != me.as_raw() && !me.is_root() {
        return Some(Finding::wrong(
            what,
            format!("{shown} belongs to user {}, this is user {}", meta.uid(), me.as_raw()),
            format!("run this as that user, or: chown -R {} {shown}", me.as_raw()),
        ));
    }
    if mode & 0o077 != 0 {
        // systemd's credentials may be readable for a group, in a folder that is not
        return Some(Finding::advice(
            what,
            format!("others may read {shown} (mode {mode:o})"),
            format!("chmod {} {shown}", if meta.is_dir() { "700" } else { "600" }),
        ));
    }
    None
}

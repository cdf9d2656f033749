//! The clock: receipts and lifetimes are told by it.

use std::time::Duration;

use kith_protocol::Wall;

use super::{Finding, Subject};

/// 2026: no relay is older.
const EARLIEST: Wall = Wall(1_767_225_600_000);
/// How long `timedatectl` may take.
const PATIENCE: Duration = Duration::from_secs(3);

pub(super) async fn check(subject: &Subject<'_>) -> Finding {
    if subject.now < EARLIEST {
        return Finding::wrong(
            "clock",
            "it is years behind",
            "set the time; receipts and lifetimes are told by it",
        );
    }
    if subject.doubts_clock {
        return Finding::wrong(
            "clock",
            "it has jumped by more than a day against what the relay remembers; nothing expires for now",
            "if the time is right, `kith-relay confirm-clock`; else set it right, and the relay notices",
        );
    }
    match synchronized().await {
        Some(true) => Finding::fit("clock", "kept right over the network"),
        Some(false) => Finding::advice(
            "clock",
            "not kept right over the network",
            "install and start chrony or systemd-timesyncd",
        ),
        None => Finding::advice(
            "clock",
            "nobody here says whether it is kept right",
            "make sure that something does: chrony, systemd-timesyncd, or the host of this container",
        ),
    }
}

async fn synchronized() -> Option<bool> {
    let asked = tokio::process::Command::new("timedatectl")
        .args(["show", "--property=NTPSynchronized", "--value"])
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(PATIENCE, asked).await.ok()?.ok()?;
    match String::from_utf8_lossy(&output.stdout).trim() {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

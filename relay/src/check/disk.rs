//! The disk: how much is free, what it is, and how fast it makes things durable.

use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use super::{Finding, Subject};
use crate::stopwatch::Stopwatch;

/// Writes that are measured.
const WRITES: usize = 32;
/// A write should be durable so fast: every deposit waits for one.
const SLOW: Duration = Duration::from_millis(25);
/// Faster than any disk can be.
const TOO_FAST: Duration = Duration::from_micros(20);

pub(super) fn check(subject: &Subject<'_>) -> Vec<Finding> {
    let path = subject.folder.path();
    if !path.is_dir() {
        return Vec::new();
    }
    let mut findings = Vec::new();
    #[cfg(unix)]
    findings.extend(free(subject, path));
    #[cfg(target_os = "linux")]
    findings.extend(file_system(path));
    findings.push(match sync_times(path) {
        Ok(mut times) => {
            times.sort_unstable();
            speed(
                times.get(times.len() / 2).copied().unwrap_or_default(),
                times.last().copied().unwrap_or_default(),
            )
        }
        Err(error) => Finding::wrong(
            "disk speed",
            format!("nothing can be written in {}: {error}", path.display()),
            "give the folder to the relay's user, on a disk that works",
        ),
    });
    findings
}

#[cfg(unix)]
fn free(subject: &Subject<'_>, path: &Path) -> Option<Finding> {
    let stat = rustix::fs::statvfs(path).ok()?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let mib = free / (1024 * 1024);
    let reserve = subject.config.map_or(0, |config| config.total.reserve.0);
    let promised = subject.config.map_or(0, |config| config.total.bytes.0);
    if stat.f_files > 0 && stat.f_favail < 1_000 {
        return Some(Finding::wrong(
            "disk",
            format!("only {} more files can be made", stat.f_favail),
            "remove files from this file system",
        ));
    }
    Some(if free < reserve {
        Finding::wrong(
            "disk",
            format!("{mib} MiB are free, less than total.reserve"),
            "nothing is taken until more is free: remove something, or lower total.reserve",
        )
    } else if free < reserve.saturating_mul(2) {
        Finding::advice(
            "disk",
            format!("{mib} MiB are free, less than twice total.reserve"),
            "new mailboxes are refused: free some space",
        )
    } else if promised > 0 && free < promised {
        Finding::advice(
            "disk",
            format!("{mib} MiB are free, less than total.bytes"),
            "lower total.bytes, or use a larger disk",
        )
    } else {
        Finding::fit("disk", format!("{mib} MiB are free"))
    })
}

#[cfg(target_os = "linux")]
fn file_system(path: &Path) -> Option<Finding> {
    // <linux/magic.h>
    const NFS: u32 = 0x6969;
    const CIFS: u32 = 0xff53_4d42;
    const SMB2: u32 = 0xfe53_4d42;
    const TMPFS: u32 = 0x0102_1994;
    const FUSE: u32 = 0x6573_5546;
    const OVERLAY: u32 = 0x794c_7630;
    let kind = rustix::fs::statfs(path).ok()?.f_type;
    // the type is as wide as a word, the number is not
    let kind = u32::try_from(i128::from(kind) & 0xffff_ffff).ok()?;
    match kind {
        NFS | CIFS | SMB2 => Some(Finding::wrong(
            "file system",
            "the folder lies on a network drive",
            "locks and durable writes cannot be relied on there: use a local disk",
        )),
        TMPFS => Some(Finding::wrong(
            "file system",
            "the folder lies in memory (tmpfs)",
            "receipts promise days: use a disk",
        )),
        FUSE => Some(Finding::advice(
            "file system",
            "the folder lies on a FUSE file system",
            "make sure that fsync reaches a disk there",
        )),
        OVERLAY => Some(Finding::advice(
            "file system",
            "the folder lies in a container's own layer",
            "use a volume: the layer goes with the container",
        )),
        _ => None,
    }
}

/// How long small writes take until they are durable.
fn sync_times(path: &Path) -> io::Result<Vec<Duration>> {
    let probe = path.join(format!("check-{}", std::process::id()));
    let mut file = std::fs::File::create(&probe)?;
    let mut measure = || {
        (0..WRITES)
            .map(|_| {
                let watch = Stopwatch::start();
                file.write_all(&[0x5a; 4096])?;
                file.sync_data()?;
                Ok(watch.elapsed())
            })
            .collect::<io::Result<Vec<_>>>()
    };
    let times = measure();
    drop(file);
    std::fs::remove_file(&probe)?;
    times
}

fn speed(median: Duration, worst: Duration) -> Finding {
    let found = format!("a write is durable after {median:.1?} (median), {worst:.1?} at worst");
    if median > SLOW {
        return Finding::advice(
            "disk speed",
            found,
            "every deposit waits for this: use an SSD with power-loss protection, and nothing else on it that writes much",
        );
    }
    if median < TOO_FAST {
        return Finding::advice(
            "disk speed",
            found,
            "no disk is that fast: make sure that it does not lose what it has acknowledged when power fails",
        );
    }
    Finding::fit("disk speed", found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Level;

    #[test]
    fn a_slow_disk_and_one_that_is_too_fast_are_told() {
        let level = |median: u64| speed(Duration::from_micros(median), Duration::from_millis(30)).level;
        assert_eq!([level(5), level(800), level(40_000)], [Level::Advice, Level::Fit, Level::Advice]);
    }

    #[test]
    fn the_disk_is_measured_and_nothing_is_left_behind() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(sync_times(dir.path()).unwrap().len(), WRITES);
        assert_eq!(dir.path().read_dir().unwrap().count(), 0);
        assert!(sync_times(&dir.path().join("nowhere")).is_err());
    }
}

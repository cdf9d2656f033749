//! Reading the export log: its end at every open, all of it for a restore.

use std::io;
use std::path::{Path, PathBuf};

use kith_protocol::record::{Change, Row};

use super::Listing;
use super::frame::{Frames, Kind};
use crate::codec::{Codec, CodecError, decode_changes, decode_rows};

/// A commit as the log holds it.
#[derive(Debug)]
pub(crate) struct Commit {
    pub(crate) number: u64,
    /// Commits written together share it.
    pub(crate) group: u64,
    pub(crate) changes: Vec<Change>,
}

/// What a walk through the log found.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Walk {
    /// Number of the newest commit, if there is any.
    pub(crate) last: Option<u64>,
    /// Commits whose numbers are passed over.
    pub(crate) missing: u64,
    /// Of those at or below what was asked for, as far as the files that were read tell: the number before and the one behind.
    pub(crate) holes: Vec<(u64, u64)>,
    /// Bytes that belong to no whole record.
    pub(crate) damaged_bytes: u64,
    /// The newest file ends with the mark of a close in order.
    pub(crate) closed: bool,
    /// Commits read.
    pub(crate) commits: u64,
    /// Newest commit the engine was said to have on disk by itself.
    pub(crate) synced: u64,
    /// Schema version of records that only a newer Kith can read.
    pub(crate) newer: Option<u16>,
}

/// Hands out the commits with numbers above `after`, in order. Files that hold only older ones are not read.
pub(crate) fn walk<E: From<io::Error>>(
    folder: &Path,
    codec: &Codec,
    after: u64,
    mut visit: impl FnMut(Commit) -> Result<(), E>,
) -> Result<Walk, E> {
    let segments = Listing::read(folder)?.segments;
    // the last file that starts at or below the first commit wanted, and everything behind it
    let wanted = after.saturating_add(1);
    let start = segments.iter().rposition(|segment| segment.first <= wanted).unwrap_or(0);
    let mut report = Walk::default();
    let mut expected = wanted;
    for segment in segments.iter().skip(start) {
        report.closed = false;
        let bytes = std::fs::read(&segment.path)?;
        let mut frames = Frames::new(&bytes);
        for (header, payload) in frames.by_ref() {
            report.closed = header.kind == Kind::Closed;
            if matches!(header.kind, Kind::Closed | Kind::Synced) {
                report.synced = report.synced.max(header.number);
            }
            if !matches!(header.kind, Kind::Durable | Kind::Lazy) {
                continue;
            }
            let opened = codec.open_log(&header.bytes(), payload).and_then(|plain| decode_changes(&plain));
            let changes = match opened {
                Ok(changes) => changes,
                Err(error) => {
                    tracing::error!(%error, number = header.number, "a record of the export log does not open");
                    if let CodecError::Schema(found) = error {
                        report.newer = report.newer.max(Some(found));
                    }
                    report.damaged_bytes = report.damaged_bytes.saturating_add(payload.len() as u64);
                    continue;
                }
            };
            if let Some(before) = report.last
                && header.number > before.saturating_add(1)
                && header.number <= wanted
            {
                report.holes.push((before, header.number));
            }
            report.last = report.last.max(Some(header.number));
            if header.number < expected {
                continue;
            }
            report.missing = report.missing.saturating_add(header.number - expected);
            expected = header.number.saturating_add(1);
            report.commits += 1;
            visit(Commit { number: header.number, group: header.group, changes })?;
        }
        report.damaged_bytes = report.damaged_bytes.saturating_add(frames.damaged);
        if frames.damaged > 0 {
            report.closed = false;
        }
    }
    Ok(report)
}

/// What reading a snapshot found.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SnapshotWalk {
    /// Bytes that could not be read, at least 1 if anything is missing.
    pub(crate) damaged: u64,
    /// Schema version of rows that only a newer Kith can read.
    pub(crate) newer: Option<u16>,
}

/// Hands out the rows of a snapshot.
pub(crate) fn snapshot_rows<E: From<io::Error>>(
    folder: &Path,
    codec: &Codec,
    mut visit: impl FnMut(Vec<Row>) -> Result<(), E>,
) -> Result<SnapshotWalk, E> {
    let mut parts: Vec<PathBuf> =
        std::fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    parts.sort();
    let mut found = SnapshotWalk::default();
    let (mut records, mut end) = (0_u64, None);
    for part in parts {
        let bytes = std::fs::read(&part)?;
        let mut frames = Frames::new(&bytes);
        for (header, payload) in frames.by_ref() {
            match header.kind {
                Kind::End => end = Some(header.number),
                Kind::Rows => {
                    match codec.open_log(&header.bytes(), payload).and_then(|plain| decode_rows(&plain)) {
                        Ok(rows) => {
                            records += 1;
                            visit(rows)?;
                        }
                        Err(error) => {
                            if let CodecError::Schema(schema) = error {
                                found.newer = found.newer.max(Some(schema));
                            }
                            found.damaged = found.damaged.saturating_add(payload.len() as u64);
                        }
                    }
                }
                Kind::Durable | Kind::Lazy | Kind::Closed | Kind::Synced => {}
            }
        }
        found.damaged = found.damaged.saturating_add(frames.damaged);
    }
    if found.damaged == 0 && end != Some(records) {
        found.damaged = 1;
    }
    Ok(found)
}

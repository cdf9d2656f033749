//! The export log: every commit, in files that can be read record by record whatever happens to them. A commit is
//! acknowledged when it is on disk here; the engine, which gets it at the same time, puts it on disk within a second
//! ([`Kind::Synced`] notes how far it has come), and takes from here what it lacks when it is opened.
//!
//! `log-…` files hold commits in order. A `snap-…` folder holds all rows as they were at some moment after a commit;
//! with the commits after that one they make the whole store again. Snapshots are written bit by bit between commits.

mod frame;
mod read;
mod write;

use std::io;
use std::path::{Path, PathBuf};

pub(crate) use frame::{Header, Kind, encode as encode_record, read_from as read_record};
pub(crate) use read::{Commit, SnapshotWalk, Walk, snapshot_rows, walk};
pub(crate) use write::{ExportLog, LogState};

/// The log's folder in the store's.
pub(crate) const FOLDER: &str = "export";

/// A file of commits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Segment {
    /// No commit in it has a lower number.
    pub(crate) first: u64,
    /// Tells files apart that start alike.
    pub(crate) seq: u32,
    pub(crate) path: PathBuf,
}

/// What lies in the log's folder, in order.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    pub(crate) segments: Vec<Segment>,
    /// By the commit they were begun at.
    pub(crate) snapshots: Vec<(u64, PathBuf)>,
    /// Snapshots that were not finished.
    pub(crate) drafts: Vec<PathBuf>,
}

impl Listing {
    pub(crate) fn read(folder: &Path) -> io::Result<Self> {
        let mut listing = Self::default();
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(listing),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let path = entry?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            if name.starts_with("snap-") && name.ends_with(".draft") {
                listing.drafts.push(path);
            } else if let Some(base) = name.strip_prefix("snap-").and_then(hex) {
                listing.snapshots.push((base, path));
            } else if let Some((first, seq)) = name.strip_prefix("log-").and_then(|rest| rest.split_once('-'))
                && let (Some(first), Ok(seq)) = (hex(first), u32::from_str_radix(seq, 16))
            {
                listing.segments.push(Segment { first, seq, path });
            }
        }
        listing.segments.sort();
        listing.snapshots.sort();
        Ok(listing)
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.segments.is_empty() && self.snapshots.is_empty()
    }
}

fn hex(text: &str) -> Option<u64> {
    (text.len() == 16).then(|| u64::from_str_radix(text, 16).ok()).flatten()
}

fn segment_name(first: u64, seq: u32) -> String {
    format!("log-{first:016x}-{seq:04x}")
}

fn snapshot_name(base: u64) -> String {
    format!("snap-{base:016x}")
}

#[cfg(test)]
mod tests;

//! Writing the export log, and keeping it short.

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};

use kith_protocol::record::{Change, Row};

use super::frame::{self, Frames, Header, Kind};
use super::{Listing, segment_name, snapshot_name};
use crate::codec::{Codec, FIRST_INDEX, FIRST_ROW, encode_changes, encode_rows};
use crate::disk;
use crate::engine::{Direction, Engine};
use crate::private;

/// A file of commits is followed by a new one at this size; also the size of a snapshot's parts.
const SEGMENT: u64 = 16 * 1024 * 1024;
/// Room made at a time in a file of commits: writing over zeros needs no new length on disk, which makes a sync cheaper.
/// More at a time would make the one commit wait that has to make it.
const ROOM: u64 = 64 * 1024;
/// Rows copied into a snapshot between two commits.
const ROWS_PER_STEP: usize = 256;

/// The log while the store is open. One thread writes it.
#[derive(Debug)]
pub(crate) struct ExportLog {
    folder: PathBuf,
    file: File,
    /// Records of the group being committed.
    buffer: Vec<u8>,
    segment_bytes: u64,
    /// Bytes of the file, zeros behind its records included.
    allocated: u64,
    /// Newest commit number the engine is known to have on disk, noted in the files.
    noted: u64,
    next_seq: u32,
    /// Bytes of all files of commits.
    log_bytes: u64,
    /// Bytes of the snapshot they go with.
    snapshot_bytes: u64,
    /// The log is rewritten when it has grown by the size of the snapshot, but at least by this.
    least: u64,
    unsynced: bool,
    /// Commits are among what is not on disk.
    uncommitted: bool,
    snapshot: Option<Snapshot>,
    /// Something is missing in the files: write all rows anew as soon as may be.
    incomplete: bool,
    /// Where files go that are no longer needed but damaged; without it they are deleted.
    keep_in: Option<PathBuf>,
}

/// A snapshot being written.
#[derive(Debug)]
struct Snapshot {
    base: u64,
    draft: PathBuf,
    part: File,
    part_number: u32,
    part_bytes: u64,
    bytes: u64,
    records: u64,
    /// Last key copied.
    cursor: Vec<u8>,
}

fn other(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::other(error)
}

/// How a log is opened.
#[derive(Debug)]
pub(crate) struct LogState {
    /// Number of the next commit.
    pub(crate) next: u64,
    /// The files do not make the whole store.
    pub(crate) incomplete: bool,
    /// Where damaged files go when they are replaced.
    pub(crate) keep_in: Option<PathBuf>,
    pub(crate) least: u64,
}

impl ExportLog {
    pub(crate) fn open(folder: &Path, state: LogState) -> io::Result<Self> {
        private::make_folder(folder)?;
        let listing = Listing::read(folder)?;
        for draft in &listing.drafts {
            std::fs::remove_dir_all(draft)?;
        }
        let mut log_bytes = 0_u64;
        for segment in &listing.segments {
            log_bytes = log_bytes.saturating_add(std::fs::metadata(&segment.path)?.len());
        }
        let snapshot_bytes = listing.snapshots.last().map_or(0, |(_, path)| disk::used_bytes(path));
        let next_seq = listing.segments.iter().map(|segment| segment.seq).max().map_or(0, |seq| seq + 1);
        // an intact last file is continued; behind a torn record nothing is written
        let continued = match listing.segments.last() {
            Some(segment) => {
                let bytes = std::fs::read(&segment.path)?;
                let mut frames = Frames::new(&bytes);
                let newest = frames.by_ref().map(|(header, _)| header.number).max();
                let intact = frames.damaged == 0 && newest.is_none_or(|newest| newest < state.next);
                let fits = (frames.end as u64) < SEGMENT && segment.first <= state.next;
                (intact && fits).then_some((&segment.path, frames.end as u64, bytes.len() as u64))
            }
            None => None,
        };
        let (file, segment_bytes, allocated, next_seq) = match continued {
            Some((path, end, len)) => {
                log_bytes = log_bytes.saturating_sub(len.saturating_sub(end));
                let mut file = File::options().write(true).open(path)?;
                file.seek(SeekFrom::Start(end))?;
                (file, end, len, next_seq)
            }
            None => (new_segment(folder, state.next, next_seq)?, 0, 0, next_seq + 1),
        };
        Ok(Self {
            folder: folder.to_owned(),
            file,
            buffer: Vec::new(),
            segment_bytes,
            allocated,
            noted: 0,
            next_seq,
            log_bytes,
            snapshot_bytes,
            least: state.least,
            unsynced: false,
            uncommitted: false,
            snapshot: None,
            incomplete: state.incomplete,
            keep_in: state.keep_in,
        })
    }

    /// Bytes of all its files.
    pub(crate) fn bytes(&self) -> u64 {
        let draft = self.snapshot.as_ref().map_or(0, |snapshot| snapshot.bytes);
        self.log_bytes.saturating_add(self.snapshot_bytes).saturating_add(draft)
    }

    /// Takes one commit into the group; [`ExportLog::write`] writes the group.
    pub(crate) fn append(
        &mut self,
        codec: &Codec,
        number: u64,
        group: u64,
        durable: bool,
        changes: &[Change],
    ) -> io::Result<()> {
        let header = Header { kind: if durable { Kind::Durable } else { Kind::Lazy }, number, group };
        let plain = encode_changes(changes).map_err(other)?;
        let payload = codec.seal_log(&header.bytes(), &plain).map_err(other)?;
        frame::encode(header, &payload, &mut self.buffer)
    }

    /// Bytes of the group's records.
    pub(crate) const fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// Gives up a group that is not going to be written.
    pub(crate) fn discard(&mut self) {
        self.buffer.clear();
    }

    /// Hands the group to the system, when the one before is on disk: a hole among older ones is damage, nothing else.
    pub(crate) fn write_group(&mut self) -> io::Result<()> {
        if self.uncommitted {
            self.sync()?;
        }
        self.write()
    }

    /// Hands what is buffered to the system.
    pub(crate) fn write(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let len = self.buffer.len() as u64;
        if self.segment_bytes.saturating_add(len) > self.allocated {
            self.make_room(len)?;
        }
        self.file.write_all(&self.buffer)?;
        self.segment_bytes = self.segment_bytes.saturating_add(len);
        self.log_bytes = self.log_bytes.saturating_add(len);
        self.buffer.clear();
        self.unsynced = true;
        self.uncommitted = true;
        Ok(())
    }

    /// Lengthens the file with zeros behind what it holds.
    fn make_room(&mut self, len: u64) -> io::Result<()> {
        static ZEROS: [u8; 16 * 1024] = [0; 16 * 1024];
        let until = self.segment_bytes.saturating_add(len).saturating_add(ROOM);
        self.file.seek(SeekFrom::Start(self.allocated))?;
        while self.allocated < until {
            self.file.write_all(&ZEROS)?;
            self.allocated = self.allocated.saturating_add(ZEROS.len() as u64);
        }
        self.file.seek(SeekFrom::Start(self.segment_bytes))?;
        Ok(())
    }

    /// Notes that the engine has everything up to this commit on disk by itself. The note need not be durable.
    pub(crate) fn note_synced(&mut self, number: u64) -> io::Result<()> {
        if number <= self.noted {
            return Ok(());
        }
        frame::encode(Header { kind: Kind::Synced, number, group: number }, &[], &mut self.buffer)?;
        let uncommitted = self.uncommitted;
        self.write()?;
        // a note may be lost
        self.uncommitted = uncommitted;
        self.noted = number;
        Ok(())
    }

    pub(crate) const fn is_unsynced(&self) -> bool {
        self.unsynced
    }

    /// Puts everything on disk.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        if self.unsynced {
            self.file.sync_data()?;
            self.unsynced = false;
            self.uncommitted = false;
        }
        Ok(())
    }

    fn rotate(&mut self, next: u64) -> io::Result<()> {
        self.sync()?;
        self.file.set_len(self.segment_bytes)?;
        self.file = new_segment(&self.folder, next, self.next_seq)?;
        self.next_seq += 1;
        self.segment_bytes = 0;
        self.allocated = 0;
        Ok(())
    }

    /// Writes the mark of a close in order and puts everything on disk.
    pub(crate) fn close(&mut self, last: u64) -> io::Result<()> {
        frame::encode(Header { kind: Kind::Closed, number: last, group: last }, &[], &mut self.buffer)?;
        self.write()?;
        self.file.set_len(self.segment_bytes)?;
        self.allocated = self.segment_bytes;
        self.sync()
    }

    /// Has everything written anew, unless that is under way.
    pub(crate) const fn rewrite(&mut self) {
        self.incomplete |= self.snapshot.is_none();
    }

    /// Whether that is still to be done.
    pub(crate) const fn is_rewriting(&self) -> bool {
        self.incomplete || self.snapshot.is_some()
    }

    /// Whether the next [`ExportLog::tend`] begins a snapshot: whatever is older than it may go when it is done, so
    /// the engine must have it on disk by itself.
    pub(crate) fn begins_snapshot(&self) -> bool {
        self.snapshot.is_none() && (self.incomplete || self.log_bytes > self.snapshot_bytes.max(self.least))
    }

    /// Whether [`ExportLog::tend`] has something to do.
    pub(crate) fn needs_tending(&self) -> bool {
        self.snapshot.is_some()
            || self.incomplete
            || self.segment_bytes > SEGMENT
            || self.log_bytes > self.snapshot_bytes.max(self.least)
    }

    /// A little housekeeping between two commits: a new file, or the next rows of a snapshot. `last` is the newest
    /// commit in the engine. A snapshot of a damaged engine is given up, so that the good records stay.
    pub(crate) fn tend(&mut self, engine: &dyn Engine, codec: &Codec, last: u64) -> io::Result<()> {
        if let Some(snapshot) = self.snapshot.take() {
            return self.continue_snapshot(snapshot, engine, codec);
        }
        if self.begins_snapshot() {
            self.rotate(last.saturating_add(1))?;
            self.snapshot = Some(Snapshot::begin(&self.folder, last)?);
        } else if self.segment_bytes > SEGMENT {
            self.rotate(last.saturating_add(1))?;
        }
        Ok(())
    }

    fn continue_snapshot(
        &mut self,
        mut snapshot: Snapshot,
        engine: &dyn Engine,
        codec: &Codec,
    ) -> io::Result<()> {
        if !snapshot.step(engine, codec)? {
            self.snapshot = Some(snapshot);
            return Ok(());
        }
        let (base, bytes) = (snapshot.base, snapshot.bytes);
        let draft = snapshot.finish()?;
        // the commits since must be as safe as the snapshot before anything older goes
        self.sync()?;
        let path = self.folder.join(snapshot_name(base));
        std::fs::rename(&draft, &path)?;
        disk::sync_folder(&self.folder)?;
        let listing = Listing::read(&self.folder)?;
        for (_, old) in listing.snapshots.iter().filter(|(other, _)| *other < base) {
            self.retire(old)?;
        }
        for segment in listing.segments.iter().filter(|segment| segment.first <= base) {
            self.retire(&segment.path)?;
        }
        disk::sync_folder(&self.folder)?;
        self.incomplete = false;
        self.keep_in = None;
        self.snapshot_bytes = bytes;
        self.log_bytes = 0;
        for segment in Listing::read(&self.folder)?.segments {
            self.log_bytes = self.log_bytes.saturating_add(std::fs::metadata(&segment.path)?.len());
        }
        self.log_bytes = self.log_bytes.saturating_sub(self.allocated.saturating_sub(self.segment_bytes));
        tracing::debug!(base, bytes, "the export log was rewritten");
        Ok(())
    }

    fn retire(&self, path: &Path) -> io::Result<()> {
        match &self.keep_in {
            Some(folder) => {
                private::make_folder(folder)?;
                std::fs::rename(path, folder.join(path.file_name().unwrap_or_default()))
            }
            None if path.is_dir() => std::fs::remove_dir_all(path),
            None => std::fs::remove_file(path),
        }
    }
}

fn new_segment(folder: &Path, first: u64, seq: u32) -> io::Result<File> {
    let file = private::make_file(&folder.join(segment_name(first, seq)))?;
    disk::sync_folder(folder)?;
    Ok(file)
}

impl Snapshot {
    fn begin(folder: &Path, base: u64) -> io::Result<Self> {
        let draft = folder.join(format!("{}.draft", snapshot_name(base)));
        if draft.exists() {
            std::fs::remove_dir_all(&draft)?;
        }
        private::make_folder(&draft)?;
        let part = private::make_file(&draft.join(part_name(0)))?;
        Ok(Self {
            base,
            draft,
            part,
            part_number: 0,
            part_bytes: 0,
            bytes: 0,
            records: 0,
            // just below the first row
            cursor: vec![FIRST_ROW - 1, u8::MAX],
        })
    }

    fn write(&mut self, header: Header, payload: &[u8]) -> io::Result<()> {
        let mut record = Vec::with_capacity(payload.len() + 64);
        frame::encode(header, payload, &mut record)?;
        self.part.write_all(&record)?;
        self.part_bytes = self.part_bytes.saturating_add(record.len() as u64);
        self.bytes = self.bytes.saturating_add(record.len() as u64);
        Ok(())
    }

    /// Copies the next rows; `true` at the end.
    fn step(&mut self, engine: &dyn Engine, codec: &Codec) -> io::Result<bool> {
        let page = engine.page(&[], Some(&self.cursor), Direction::Forward, ROWS_PER_STEP).map_err(other)?;
        let full = page.len() == ROWS_PER_STEP;
        let mut rows: Vec<Row> = Vec::with_capacity(page.len());
        let mut end = !full;
        for (key, value) in &page {
            if key.first().is_none_or(|space| *space >= FIRST_INDEX) {
                end = true;
                break;
            }
            rows.push(codec.open_row(key, value, |chunk| engine.get(chunk)).map_err(other)?);
            self.cursor.clone_from(key);
        }
        // one record stays salvageable alone and small
        for group in rows.chunks(32) {
            let header = Header { kind: Kind::Rows, number: self.records, group: self.base };
            let plain = encode_rows(group).map_err(other)?;
            let payload = codec.seal_log(&header.bytes(), &plain).map_err(other)?;
            self.write(header, &payload)?;
            self.records += 1;
        }
        if self.part_bytes > SEGMENT && !end {
            self.part.sync_all()?;
            self.part_number += 1;
            self.part = private::make_file(&self.draft.join(part_name(self.part_number)))?;
            self.part_bytes = 0;
        }
        Ok(end)
    }

    fn finish(mut self) -> io::Result<PathBuf> {
        self.write(Header { kind: Kind::End, number: self.records, group: self.base }, &[])?;
        self.part.sync_all()?;
        disk::sync_folder(&self.draft)?;
        Ok(self.draft)
    }
}

fn part_name(number: u32) -> String {
    format!("part-{number:06}")
}

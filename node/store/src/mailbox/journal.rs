//! What a relay acknowledged and its engine may not have on disk yet: every group of rows as one record, synced.
//!
//! A few files take turns. One is written until it is full; it is used again, in place, once the engine has all that is
//! in it: a sync then need not write a new length, which is what makes syncs slow where others write to the same disk.
//! Each use of a file draws a random *epoch* that stands in front of all its records, so that neither what was written
//! before, nor what a depositor wrote into an envelope, is ever taken for a record.
//!
//! ```text
//! file     header header record… (whatever was there before)
//! header   "kithredo" epoch(16) crc32(4)                   twice, since nothing can be found without it
//! record   epoch(16) length(4) number(8) crc32(4) rows     numbers little endian; the sum is of all behind the epoch
//! row      length of key(2) length of value(4) key value   a deleted row's value has the length 2^32 - 1
//! ```

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use crate::disk;
use crate::engine::Batch;
use crate::private;

/// A file is followed by another one at this size.
const FULL: u64 = 8 * 1024 * 1024;
/// Files with records the engine lacks; then writers wait for the engine.
const FILES: usize = 4;
/// A file that grew beyond this is cut when it is used again: one group may be as large.
const LONGEST: u64 = 2 * FULL;
/// Room made at a time in a new file.
const ROOM: u64 = 256 * 1024;

const MAGIC: [u8; 8] = *b"kithredo";
const HEADER: usize = 8 + 16 + 4;
/// Before a record's rows.
const HEAD: usize = 16 + 4 + 8 + 4;
const DELETED: u32 = u32::MAX;

type Epoch = [u8; 16];

/// The journal while the store is open. One thread writes it.
#[derive(Debug)]
pub(super) struct Journal {
    folder: PathBuf,
    current: Option<Segment>,
    /// Full ones, oldest first.
    full: Vec<Segment>,
    /// Those whose rows the engine has.
    free: Vec<Segment>,
    next: u64,
    next_name: u32,
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct Segment {
    file: File,
    /// Nothing was written in this use of the file.
    epoch: Epoch,
    end: u64,
    /// Its length: zeros or what was there before stand behind `end`.
    allocated: u64,
    /// Number of its newest record.
    last: u64,
}

/// What was found in a journal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Recovered {
    /// Groups handed out.
    pub(super) groups: u64,
    /// The newest number, `after` if there is none above.
    pub(super) last: u64,
    /// Groups whose numbers are passed over: damage.
    pub(super) missing: u64,
    /// Files that cannot be read at all.
    pub(super) unreadable: u64,
}

impl Journal {
    /// Begins a journal in a folder whose records the engine all has on disk; `last` is the newest of them.
    pub(super) fn begin(folder: &Path, last: u64) -> io::Result<Self> {
        private::make_folder(folder)?;
        if let Some(parent) = folder.parent() {
            disk::sync_folder(parent)?;
        }
        let (mut free, mut next_name) = (Vec::new(), 0);
        for (name, path) in files(folder)? {
            next_name = name.saturating_add(1).max(next_name);
            if free.len() < FILES {
                let file = File::options().read(true).write(true).open(path)?;
                let allocated = file.metadata()?.len();
                free.push(Segment { file, epoch: [0; 16], end: 0, allocated, last: 0 });
            } else {
                std::fs::remove_file(path)?;
            }
        }
        Ok(Self {
            folder: folder.to_owned(),
            current: None,
            full: Vec::new(),
            free,
            next: last.saturating_add(1),
            next_name,
            buffer: Vec::new(),
        })
    }

    /// The next group's number.
    pub(super) const fn next(&self) -> u64 {
        self.next
    }

    /// Whether the next group needs another file.
    pub(super) fn wants_file(&self) -> bool {
        self.current.as_ref().is_none_or(|segment| segment.end >= FULL)
    }

    /// Turns to another file; the engine has everything up to `delivered` on disk. `false` if it lacks too much: then
    /// nothing was done.
    pub(super) fn turn(&mut self, delivered: u64) -> io::Result<bool> {
        let (done, full) =
            std::mem::take(&mut self.full).into_iter().partition(|full| full.last <= delivered);
        self.full = full;
        self.free.extend::<Vec<_>>(done);
        if self.full.len() + 1 >= FILES {
            return Ok(false);
        }
        let mut segment = match self.free.pop() {
            Some(segment) => segment,
            None => self.new_segment()?,
        };
        if segment.allocated > LONGEST {
            segment.file.set_len(FULL)?;
            segment.allocated = FULL;
        }
        getrandom::fill(&mut segment.epoch).map_err(io::Error::other)?;
        segment.end = 0;
        segment.file.seek(SeekFrom::Start(0))?;
        self.full.extend(self.current.replace(segment));
        Ok(true)
    }

    fn new_segment(&mut self) -> io::Result<Segment> {
        let file = private::make_file(&self.folder.join(format!("redo-{:08x}", self.next_name)))?;
        disk::sync_folder(&self.folder)?;
        self.next_name = self.next_name.saturating_add(1);
        Ok(Segment { file, epoch: [0; 16], end: 0, allocated: 0, last: 0 })
    }

    /// Writes a group and puts it on disk. After an error it is unknown whether it is there, and the journal must not be
    /// used any more.
    pub(super) fn append(&mut self, batch: &Batch) -> io::Result<()> {
        let segment = self.current.as_mut().ok_or_else(|| io::Error::other("the journal has no file"))?;
        self.buffer.clear();
        if segment.end == 0 {
            header(segment.epoch, &mut self.buffer);
            header(segment.epoch, &mut self.buffer);
        }
        record(segment.epoch, self.next, batch, &mut self.buffer)?;
        segment.write(&self.buffer)?;
        segment.last = self.next;
        self.next = self.next.saturating_add(1);
        // one large group must not cost memory for ever
        self.buffer.shrink_to(1024 * 1024);
        Ok(())
    }

    /// Ends the journal of an engine that has everything on disk.
    pub(super) fn remove(self) -> io::Result<()> {
        drop((self.current, self.full, self.free));
        for (_, path) in files(&self.folder)? {
            std::fs::remove_file(path)?;
        }
        Ok(())
    }
}

impl Segment {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let end = self.end.saturating_add(bytes.len() as u64);
        if end > self.allocated {
            static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];
            self.file.seek(SeekFrom::Start(self.allocated))?;
            while self.allocated < end.saturating_add(ROOM) {
                self.file.write_all(&ZEROS)?;
                self.allocated = self.allocated.saturating_add(ZEROS.len() as u64);
            }
            self.file.seek(SeekFrom::Start(self.end))?;
        }
        self.file.write_all(bytes)?;
        self.file.sync_data()?;
        self.end = end;
        Ok(())
    }
}

fn header(epoch: Epoch, into: &mut Vec<u8>) {
    into.extend_from_slice(&MAGIC);
    into.extend_from_slice(&epoch);
    into.extend_from_slice(&crc32fast::hash(&epoch).to_le_bytes());
}

fn record(epoch: Epoch, number: u64, batch: &Batch, into: &mut Vec<u8>) -> io::Result<()> {
    let start = into.len();
    into.extend_from_slice(&epoch);
    into.extend_from_slice(&[0; HEAD - 16]);
    for (key, value) in &batch.rows {
        let length = match value {
            Some(value) => u32::try_from(value.len()).map_err(io::Error::other)?,
            None => DELETED,
        };
        into.extend_from_slice(&u16::try_from(key.len()).map_err(io::Error::other)?.to_le_bytes());
        into.extend_from_slice(&length.to_le_bytes());
        into.extend_from_slice(key);
        into.extend_from_slice(value.as_deref().unwrap_or_default());
    }
    let (head, rows) = into
        .get_mut(start..)
        .and_then(|record| record.split_at_mut_checked(HEAD))
        .ok_or_else(|| io::Error::other("a record has no head"))?;
    let length = u32::try_from(rows.len()).map_err(io::Error::other)?;
    let mut sum = crc32fast::Hasher::new();
    sum.update(&length.to_le_bytes());
    sum.update(&number.to_le_bytes());
    sum.update(rows);
    let fields =
        length.to_le_bytes().into_iter().chain(number.to_le_bytes()).chain(sum.finalize().to_le_bytes());
    for (byte, field) in head.iter_mut().skip(16).zip(fields) {
        *byte = field;
    }
    Ok(())
}

/// The journal's files with their numbers, by number.
fn files(folder: &Path) -> io::Result<Vec<(u32, PathBuf)>> {
    let mut found = Vec::new();
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let path = entry?.path();
        let name =
            path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_prefix("redo-"));
        if let Some(Ok(number)) = name.map(|name| u32::from_str_radix(name, 16)) {
            found.push((number, path));
        }
    }
    found.sort();
    Ok(found)
}

/// Hands out all groups with numbers above `after`, in order.
pub(super) fn recover<E: From<io::Error>>(
    folder: &Path,
    after: u64,
    mut visit: impl FnMut(u64, Batch) -> Result<(), E>,
) -> Result<Recovered, E> {
    let mut report = Recovered { last: after, ..Recovered::default() };
    // files do not overlap: the order of their first numbers is the order of all. One at a time is in memory
    let mut in_order = Vec::new();
    for (_, path) in files(folder)? {
        let bytes = std::fs::read(&path)?;
        match epoch(&bytes) {
            Some(epoch) => in_order.extend(records(&bytes, epoch).next().map(|(number, _)| (number, path))),
            None => report.unreadable += u64::from(bytes.iter().any(|byte| *byte != 0)),
        }
    }
    in_order.sort();
    for (_, path) in in_order {
        let bytes = std::fs::read(&path)?;
        let Some(epoch) = epoch(&bytes) else { continue };
        for (number, rows) in records(&bytes, epoch) {
            if number <= report.last {
                continue;
            }
            let Some(batch) = decode(rows) else { continue };
            report.missing = report.missing.saturating_add(number - report.last - 1);
            report.last = number;
            report.groups += 1;
            visit(number, batch)?;
        }
    }
    Ok(report)
}

/// The epoch of a file's last use.
fn epoch(bytes: &[u8]) -> Option<Epoch> {
    let one = |bytes: &[u8]| -> Option<Epoch> {
        let (epoch, rest) = bytes.strip_prefix(&MAGIC)?.split_first_chunk::<16>()?;
        (*rest.first_chunk::<4>()? == crc32fast::hash(epoch).to_le_bytes()).then_some(*epoch)
    };
    one(bytes).or_else(|| one(bytes.get(HEADER..)?))
}

/// All whole records of an epoch with their numbers; damaged stretches are stepped over.
fn records(bytes: &[u8], epoch: Epoch) -> impl Iterator<Item = (u64, &[u8])> {
    let mut rest = bytes.get(2 * HEADER..).unwrap_or_default();
    std::iter::from_fn(move || {
        loop {
            // where the record before ended, or anywhere behind damage
            if !rest.starts_with(&epoch) {
                rest = rest.get(rest.windows(epoch.len()).position(|window| window == epoch)?..)?;
            }
            if let Some((number, rows, behind)) = whole(rest.get(epoch.len()..)?) {
                rest = behind;
                return Some((number, rows));
            }
            rest = rest.get(1..)?;
        }
    })
}

/// Number and rows of the record whose epoch was read, if it is whole, and what is behind it.
fn whole(bytes: &[u8]) -> Option<(u64, &[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (number, rest) = rest.split_first_chunk::<8>()?;
    let (sum, rest) = rest.split_first_chunk::<4>()?;
    let (rows, behind) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
    let mut found = crc32fast::Hasher::new();
    found.update(length);
    found.update(number);
    found.update(rows);
    (found.finalize().to_le_bytes() == *sum).then_some((u64::from_le_bytes(*number), rows, behind))
}

fn decode(mut rows: &[u8]) -> Option<Batch> {
    let mut batch = Batch::default();
    while !rows.is_empty() {
        let (key_length, rest) = rows.split_first_chunk::<2>()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let (key, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*key_length)))?;
        let length = u32::from_le_bytes(*length);
        if length == DELETED {
            batch.delete(key.to_vec());
            rows = rest;
        } else {
            let (value, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
            batch.put(key.to_vec(), value.to_vec());
            rows = rest;
        }
    }
    Some(batch)
}

#[cfg(test)]
mod tests;

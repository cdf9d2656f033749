//! Writing a store anew from its export log and from what is readable of the damaged engine.

use std::path::Path;
use std::sync::Arc;

use kith_protocol::record::{Change, Key, Record as _, Restoration};

use super::current::{self, Current, folder_name};
use super::{Ready, row_error};
use crate::codec::{Codec, FIRST_INDEX, FIRST_ROW, OpenRowError, SCHEMA};
use crate::config::{EngineKind, OpenError, OpenReport, OpenStage, StoreConfig};
use crate::disk;
use crate::engine::{self, Direction, Durability, Engine};
use crate::log::{self, Listing, SnapshotWalk, Walk};
use crate::staging::{Meta, Staging};

/// Rows written together.
const ROWS: usize = 500;
/// A damaged sled folder larger than this is not copied for a second try.
const SALVAGE_BYTES: u64 = 1024 * 1024 * 1024;

/// The damaged engine.
pub(super) struct Old {
    /// Open, if it opened.
    pub(super) engine: Option<Arc<dyn Engine>>,
    /// Its commit number, if that is readable: every readable row is as new as that.
    pub(super) meta: Option<Meta>,
}

/// Writes rows into a fresh engine.
struct Rebuild<'a> {
    config: &'a StoreConfig,
    codec: &'a Codec,
    engine: Arc<dyn Engine>,
    meta: Meta,
    waiting: Vec<Change>,
    done: u64,
}

impl Rebuild<'_> {
    fn take(&mut self, changes: impl IntoIterator<Item = Change>) -> Result<(), OpenError> {
        self.waiting.extend(changes);
        if self.waiting.len() >= ROWS { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), OpenError> {
        let mut waiting = std::mem::take(&mut self.waiting).into_iter().peekable();
        while waiting.peek().is_some() {
            let mut staging = Staging::new(self.engine.as_ref(), self.codec, self.meta);
            while staging.rows() < 2 * ROWS
                && let Some(change) = waiting.next()
            {
                staging.apply(&change).map_err(row_error)?;
                self.done = self.done.saturating_add(1);
            }
            let (batch, meta) = staging.finish().map_err(row_error)?;
            self.engine.write(&batch, &[], Durability::Lazy)?;
            self.meta = meta;
        }
        self.config.tell(OpenStage::Restoring(self.done));
        Ok(())
    }
}

/// What the log gave.
#[derive(Default)]
struct FromLog {
    before: Walk,
    after: Walk,
    snapshot: SnapshotWalk,
    base: u64,
}

impl FromLog {
    /// Schema version of what only a newer Kith can read.
    fn newer(&self) -> Option<u16> {
        self.snapshot.newer.max(self.before.newer).max(self.after.newer)
    }
}

pub(super) fn restore(
    config: &StoreConfig,
    codec: &Codec,
    current: &Current,
    named: bool,
    mut old: Old,
    reason: String,
    report: &mut OpenReport,
) -> Result<Ready, OpenError> {
    let path = &config.path;
    tracing::warn!(%reason, store = %path.display(), "the store is being restored from its export log");
    // also beyond the current one, whose folder may be what is missing
    let number = current::next_number(path)?.max(current.number.saturating_add(1));
    let salvage = path.join(format!("salvage-{number}"));
    if old.engine.is_none() && current.engine == EngineKind::Sled {
        old = second_try(&current.folder(path), &salvage, codec, config.cache_bytes);
    }
    let draft = path.join(format!("new-{}", folder_name(current.engine, number)));
    let engine = engine::open(current.engine, &draft, config.cache_bytes)?;
    let mut rebuild = Rebuild { config, codec, engine, meta: Meta::default(), waiting: Vec::new(), done: 0 };
    let (log, unreadable) = fill(&mut rebuild, path, &old)?;

    if let Some(found) = log.newer() {
        drop((rebuild, old));
        remove(&draft)?;
        remove(&salvage)?;
        // what this Kith cannot read would be given up as damage
        return Err(OpenError::Newer { found, known: SCHEMA });
    }
    let log_last = log.before.last.max(log.after.last).unwrap_or(0).max(log.base);
    let known = old.meta.map(|meta| meta.commit);
    if log_last == 0 && known.is_none() {
        drop((rebuild, old));
        remove(&draft)?;
        remove(&salvage)?;
        if !named {
            // records that do not open, rows that do not open, and no file that names the key
            return Err(OpenError::WrongKey(path.clone()));
        }
        let folder = current.folder(path);
        // left where it is: another try, perhaps with a newer Kith, must find the same store
        return Err(OpenError::Damaged { reason, folder });
    }

    report.reason = Some(reason);
    report.replayed = log.before.commits.saturating_add(log.after.commits);
    report.unreadable_rows = unreadable;
    report.damaged_log_bytes =
        log.before.damaged_bytes.max(log.after.damaged_bytes).saturating_add(log.snapshot.damaged);
    // what the engine itself had up to its own commit, it gave; unless it was damaged there too
    let covered = known.is_some() && unreadable == 0;
    report.lost_commits = log.after.missing.saturating_add(if covered { 0 } else { log.before.missing });
    report.tail_uncertain = known.is_none() && !log.after.closed;
    report.rows_lost = !covered && log.snapshot.damaged > 0;

    rebuild.meta.commit = log_last.max(known.unwrap_or(0));
    let mut staging = Staging::new(rebuild.engine.as_ref(), codec, rebuild.meta);
    staging.state_schema().map_err(row_error)?;
    let aside = current.folder(path).exists().then(|| current::aside(path)).transpose()?;
    // with the restored rows: the loss is not forgotten when this process ends before it was told
    let row = restoration(rebuild.engine.as_ref(), codec, report, aside.as_deref());
    staging.put(&row.into()).map_err(row_error)?;
    let (batch, meta) = staging.finish().map_err(row_error)?;
    rebuild.engine.write(&batch, &[], Durability::Durable)?;
    drop((rebuild, old));
    remove(&salvage)?;

    let fresh = Current { engine: current.engine, number, key_check: codec.key_check() };
    let io = OpenError::io("cannot put the restored rows in place in", path);
    std::fs::rename(&draft, fresh.folder(path))
        .and_then(|()| disk::sync_folder(path))
        .and_then(|()| fresh.write(path))
        .map_err(io)?;
    report.set_aside = current::set_aside(path, &current.folder(path))?;
    report.restored = true;
    let log_incomplete = report.damaged_log_bytes > 0
        || log.before.missing > 0
        || log.after.missing > 0
        || log_last < meta.commit;
    let engine = engine::open(fresh.engine, &fresh.folder(path), config.cache_bytes)?;
    let keep_in = path.join(format!("damaged-{}", current::next_number(path)?)).join(log::FOLDER);
    Ok(Ready { engine, meta, log_incomplete, log_torn: false, keep_in: Some(keep_in) })
}

/// What the person is told until they have taken note, added to what they were told before.
fn restoration(engine: &dyn Engine, codec: &Codec, report: &OpenReport, aside: Option<&Path>) -> Restoration {
    let key = codec.key(&Key::Restoration);
    let before = engine.get(&key).ok().flatten().and_then(|value| {
        let row = codec.open_row(&key, &value, |chunk| engine.get(chunk)).ok()?;
        Restoration::from_row(row)
    });
    let before = before.filter(|before| !before.acknowledged).unwrap_or_default();
    Restoration {
        reason: report.reason.clone().unwrap_or_default(),
        lost_commits: before.lost_commits.saturating_add(report.lost_commits),
        tail_uncertain: before.tail_uncertain || report.tail_uncertain,
        rows_lost: before.rows_lost || report.rows_lost,
        set_aside: aside.map(|path| path.display().to_string()).unwrap_or_default(),
        ..Restoration::default()
    }
}

fn remove(folder: &Path) -> Result<(), OpenError> {
    if folder.exists() {
        std::fs::remove_dir_all(folder).map_err(OpenError::io("cannot remove", folder))?;
    }
    Ok(())
}

/// Opens a copy of a damaged sled folder without the files that sled can make again.
fn second_try(folder: &Path, copy: &Path, codec: &Codec, cache: u64) -> Old {
    let none = Old { engine: None, meta: None };
    if !folder.exists() || disk::used_bytes(folder) > SALVAGE_BYTES {
        return none;
    }
    let copied = engine::copy_sled_without_snapshots(folder, copy);
    if let Err(error) = copied {
        tracing::warn!(%error, "the damaged engine could not be copied for a second try");
        return none;
    }
    match engine::open(EngineKind::Sled, copy, cache) {
        Ok(engine) => match Meta::read(engine.as_ref(), codec) {
            Ok(Some(meta)) => Old { engine: Some(engine), meta: Some(meta) },
            _ => none,
        },
        Err(error) => {
            tracing::warn!(%error, "a copy of the damaged engine does not open either");
            none
        }
    }
}

/// Everything there is, oldest first: the log up to the engine's commit, then the engine's own rows, which are the
/// truth at that commit where they are readable, then the rest of the log.
fn fill(rebuild: &mut Rebuild<'_>, path: &Path, old: &Old) -> Result<(FromLog, u64), OpenError> {
    let folder = path.join(log::FOLDER);
    let listing = Listing::read(&folder).map_err(OpenError::io("cannot read", &folder))?;
    let mut found = FromLog::default();
    let codec = rebuild.codec;
    if let Some((base, snapshot)) = listing.snapshots.last() {
        found.base = *base;
        found.snapshot = log::snapshot_rows::<RestoreError>(snapshot, codec, |rows| {
            Ok(rebuild.take(rows.into_iter().map(Change::Put))?)
        })
        .map_err(|error| error.into_open(snapshot))?;
    }
    let known = old.meta.map(|meta| meta.commit);
    let until = known.unwrap_or(u64::MAX);
    if found.base < until {
        found.before = log::walk::<RestoreError>(&folder, codec, found.base, |commit| {
            if commit.number <= until { Ok(rebuild.take(commit.changes)?) } else { Ok(()) }
        })
        .map_err(|error| error.into_open(&folder))?;
    }
    let Some(known) = known else {
        rebuild.flush()?;
        // one walk did all of it
        found.after = std::mem::take(&mut found.before);
        return Ok((found, 0));
    };
    // gaps behind the engine's commit belong to the second walk
    let end = found.before.last.unwrap_or(found.base);
    let unreadable = match &old.engine {
        Some(engine) => copy_rows(rebuild, engine.as_ref())?,
        None => 0,
    };
    let after = known.max(found.base);
    found.after =
        log::walk::<RestoreError>(&folder, codec, after, |commit| Ok(rebuild.take(commit.changes)?))
            .map_err(|error| error.into_open(&folder))?;
    found.before.missing = found.before.missing.saturating_sub(found.after.missing);
    if end < known {
        found.before.missing = found.before.missing.saturating_add(known - end);
    }
    rebuild.flush()?;
    Ok((found, unreadable))
}

/// Copies the readable rows of an engine over those from the log; counts the others.
fn copy_rows(rebuild: &mut Rebuild<'_>, old: &dyn Engine) -> Result<u64, OpenError> {
    let mut unreadable = 0_u64;
    for space in FIRST_ROW..FIRST_INDEX {
        let mut from: Option<Vec<u8>> = None;
        loop {
            let page = match old.page(&[space], from.as_deref(), Direction::Forward, 256) {
                Ok(page) => page,
                Err(error) => {
                    // the rest of this keyspace cannot be reached; the log's rows stand
                    tracing::error!(%error, space, "a part of the damaged engine cannot be read");
                    unreadable = unreadable.saturating_add(1);
                    break;
                }
            };
            let Some((last, _)) = page.last() else { break };
            from = Some(last.clone());
            for (key, value) in &page {
                match rebuild.codec.open_row(key, value, |chunk| old.get(chunk)) {
                    Ok(row) => rebuild.take([Change::Put(row)])?,
                    Err(OpenRowError::Codec(error)) => {
                        tracing::error!(%error, space, "a row of the damaged engine cannot be read");
                        unreadable = unreadable.saturating_add(1);
                    }
                    Err(OpenRowError::Engine(_)) => unreadable = unreadable.saturating_add(1),
                }
            }
        }
    }
    Ok(unreadable)
}

/// Reading the log and writing the rows fail differently.
enum RestoreError {
    Read(std::io::Error),
    Write(OpenError),
}

impl From<std::io::Error> for RestoreError {
    fn from(error: std::io::Error) -> Self {
        Self::Read(error)
    }
}

impl From<OpenError> for RestoreError {
    fn from(error: OpenError) -> Self {
        Self::Write(error)
    }
}

impl RestoreError {
    fn into_open(self, path: &Path) -> OpenError {
        match self {
            Self::Read(error) => OpenError::io("cannot read", path)(error),
            Self::Write(error) => error,
        }
    }
}

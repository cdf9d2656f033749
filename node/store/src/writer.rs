//! The one writer: joins commits into groups, keeps the log, guards the disk.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use kith_protocol::record::Change;

use crate::codec::OpenRowError;
use crate::disk;
use crate::engine::Durability;
use crate::log::ExportLog;
use crate::reader::Core;
use crate::staging::{Meta, Staging};
use crate::ticket::{CommitError, Promise};

/// Rows after which a batch takes no further commit: sled's memory grows out of all proportion with its batches.
pub(crate) const GROUP_ROWS: usize = 1_000;
/// Changes after which a group takes no further commit. With their indexes they stay near that many rows.
const GROUP_CHANGES: usize = 400;
/// Bytes of a group's records up to which no commit in it can be too large.
const EARLY_BYTES: usize = 4 * 1024 * 1024;
/// Rows, chunks and index rows of one commit.
const COMMIT_ROWS: usize = 32 * 1024;
/// Bytes of one commit.
const COMMIT_BYTES: usize = 32 * 1024 * 1024;
/// Bytes the engine may have taken without putting them on disk; the log has them.
const UNSYNCED_BYTES: usize = 8 * 1024 * 1024;
/// The folder's size is measured anew after so many bytes.
const MEASURE_EVERY: u64 = 1024 * 1024;

/// Changes waiting to be written.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) changes: Vec<Change>,
    pub(crate) durable: bool,
    pub(crate) promise: Promise,
}

/// Commits written together.
#[derive(Debug, Default)]
struct Group {
    pending: Vec<Pending>,
    changes: usize,
    durable: bool,
}

/// Why a group was not written, and which of its commits is to blame.
struct Refused {
    at: usize,
    error: CommitError,
}

impl Refused {
    fn log(error: &io::Error) -> Self {
        Self { at: 0, error: CommitError::Failed(format!("the export log: {error}")) }
    }
}

/// Keeps writes from filling the disk or outgrowing the quota.
#[derive(Debug)]
pub(crate) struct SpaceGuard {
    pub(crate) folder: Option<PathBuf>,
    pub(crate) quota: Option<u64>,
    pub(crate) min_free: u64,
    used: u64,
    /// Bytes handed to the system since `used` was measured.
    since: u64,
    measured: bool,
}

impl SpaceGuard {
    pub(crate) const fn new(folder: Option<PathBuf>, quota: Option<u64>, min_free: u64) -> Self {
        Self { folder, quota, min_free, used: 0, since: 0, measured: false }
    }

    fn check(&mut self) -> Result<(), CommitError> {
        let Some(folder) = &self.folder else { return Ok(()) };
        if let Some(free) = disk::free_bytes(folder)
            && free < self.min_free
        {
            return Err(CommitError::NoSpace { free, needed: self.min_free });
        }
        if let Some(quota) = self.quota {
            if !self.measured || self.since > MEASURE_EVERY || self.used.saturating_add(self.since) > quota {
                self.used = disk::used_bytes(folder);
                self.since = 0;
                self.measured = true;
            }
            if self.used > quota {
                return Err(CommitError::Quota { used: self.used, quota });
            }
        }
        Ok(())
    }
}

/// Owns all writes of a store.
#[derive(Debug)]
pub(crate) struct Writer {
    core: Arc<Core>,
    meta: Meta,
    log: Option<ExportLog>,
    /// Housekeeping of the log failed: not tried again before the next open.
    log_untended: bool,
    space: SpaceGuard,
    halted: Option<CommitError>,
    /// Commits are in the engine that it has not put on disk yet.
    lazy: bool,
    /// Their bytes.
    unsynced: usize,
}

impl Writer {
    pub(crate) const fn new(core: Arc<Core>, meta: Meta, log: Option<ExportLog>, space: SpaceGuard) -> Self {
        Self { core, meta, log, log_untended: false, space, halted: None, lazy: false, unsynced: 0 }
    }

    pub(crate) const fn meta(&self) -> Meta {
        self.meta
    }

    pub(crate) fn log_bytes(&self) -> u64 {
        self.log.as_ref().map_or(0, ExportLog::bytes)
    }

    /// Why commits are refused, if they are.
    pub(crate) const fn halted(&self) -> Option<&CommitError> {
        self.halted.as_ref()
    }

    /// Takes commits again after the disk was full.
    pub(crate) fn resume(&mut self) -> Result<(), CommitError> {
        match &self.halted {
            None => Ok(()),
            Some(CommitError::NoSpace { .. } | CommitError::Quota { .. } | CommitError::TooLarge { .. }) => {
                self.space.check()?;
                self.halted = None;
                Ok(())
            }
            Some(error) => Err(error.clone()),
        }
    }

    fn halt(&mut self, error: CommitError) -> CommitError {
        tracing::error!(%error, "the store takes no more commits");
        self.halted = Some(error.clone());
        error
    }

    /// Writes commits in their order, each whole or not at all. Everything behind a refused one is refused.
    pub(crate) fn write(&mut self, waiting: impl IntoIterator<Item = Pending>) {
        let mut waiting = waiting.into_iter().peekable();
        while waiting.peek().is_some() {
            if let Some(error) = &self.halted {
                let halted = CommitError::Halted(error.to_string());
                for pending in waiting {
                    pending.promise.answer(Err(halted.clone()));
                }
                return;
            }
            self.write_group(&mut waiting);
        }
    }

    fn write_group(&mut self, waiting: &mut std::iter::Peekable<impl Iterator<Item = Pending>>) {
        if let Err(error) = self.space.check() {
            let error = self.halt(error);
            if let Some(first) = waiting.next() {
                first.promise.answer(Err(error));
            }
            return;
        }
        let mut group = Group::default();
        while group.changes < GROUP_CHANGES
            && let Some(pending) = waiting.next()
        {
            group.changes = group.changes.saturating_add(pending.changes.len());
            group.durable |= pending.durable;
            group.pending.push(pending);
        }
        let result = self.commit(&group);
        let mut pending = group.pending.into_iter();
        let result = result.map_err(|Refused { at, error }| {
            let error = self.halt(error);
            // what is not written was not refused for its own sake
            let halted = CommitError::Halted(error.to_string());
            for pending in pending.by_ref().take(at) {
                pending.promise.answer(Err(halted.clone()));
            }
            if let Some(refused) = pending.next() {
                refused.promise.answer(Err(error));
            }
            halted
        });
        for pending in pending {
            pending.promise.answer(result.clone());
        }
    }

    /// Writes a group: first to the log (what that has too much at a crash was never acknowledged, what it lacked could
    /// not be restored), then to the engine.
    fn commit(&mut self, group: &Group) -> Result<(), Refused> {
        let core = Arc::clone(&self.core);
        if let Some(log) = &mut self.log {
            let first = self.meta.commit.saturating_add(1);
            for (number, pending) in (first..).zip(&group.pending) {
                log.append(&core.codec, number, first, pending.durable, &pending.changes)
                    .map_err(|error| Refused::log(&error))?;
            }
        }
        // A commit that can be too large is refused before anything is written. With the others the engine and the
        // processor work while the disk does.
        let early = group.changes <= GROUP_CHANGES
            && self.log.as_ref().is_none_or(|log| log.buffered() <= EARLY_BYTES);
        if early {
            self.log_group(group.durable).map_err(|error| Refused::log(&error))?;
        }
        let mut staging = Staging::new(core.engine.as_ref(), &core.codec, self.meta);
        for (at, pending) in group.pending.iter().enumerate() {
            if let Err(error) = self.stage(&mut staging, pending) {
                if let Some(log) = &mut self.log {
                    log.discard();
                }
                return Err(Refused { at, error });
            }
        }
        if !early {
            self.log_group(group.durable).map_err(|error| Refused::log(&error))?;
        }
        let bytes = staging.bytes();
        self.space.since = self.space.since.saturating_add(bytes as u64 * 2);
        let durability =
            if self.log.is_none() && group.durable { Durability::Durable } else { Durability::Lazy };
        let written = staging.finish().and_then(|(batch, meta)| {
            core.engine.write(&batch, &[], durability)?;
            Ok(meta)
        });
        self.meta = written.map_err(|error| Refused { at: 0, error: self.failed(&error) })?;
        self.lazy = durability == Durability::Lazy;
        self.unsynced = self.unsynced.saturating_add(bytes);
        if group.durable
            && let Some(log) = &mut self.log
        {
            log.sync().map_err(|error| Refused::log(&error))?;
        }
        Ok(())
    }

    /// Hands the group's records to the system, and to the disk if need be.
    fn log_group(&mut self, durable: bool) -> io::Result<()> {
        let Some(log) = &mut self.log else { return Ok(()) };
        // a group is begun when the one before is on disk: a hole among older ones is damage, nothing else
        log.sync_others()?;
        log.write()?;
        if durable { log.begin_sync() } else { Ok(()) }
    }

    fn stage(&self, staging: &mut Staging<'_>, pending: &Pending) -> Result<(), CommitError> {
        let (rows, bytes) = (staging.rows(), staging.bytes());
        for change in &pending.changes {
            staging.apply(change).map_err(|error| self.failed(&error))?;
            let (rows, bytes) = (staging.rows().saturating_sub(rows), staging.bytes().saturating_sub(bytes));
            if rows > COMMIT_ROWS || bytes > COMMIT_BYTES {
                return Err(CommitError::TooLarge { rows, bytes });
            }
        }
        staging.meta.commit = staging.meta.commit.saturating_add(1);
        Ok(())
    }

    fn failed(&self, error: &OpenRowError) -> CommitError {
        if matches!(error, OpenRowError::Engine(error) if error.is_damage()) {
            self.core.suspect.raise(error);
        }
        CommitError::Failed(error.to_string())
    }

    /// Whether commits wait for the engine to put them on disk.
    pub(crate) const fn has_lazy(&self) -> bool {
        self.lazy && self.halted.is_none()
    }

    /// Whether they are so many that they should not wait any longer.
    pub(crate) const fn has_much_lazy(&self) -> bool {
        self.has_lazy() && self.unsynced > UNSYNCED_BYTES
    }

    /// Has the engine put on disk what it holds.
    pub(crate) fn sync_engine(&mut self) -> Result<(), CommitError> {
        if !self.has_lazy() {
            return Ok(());
        }
        let log_failed = |error: io::Error| CommitError::Failed(format!("the export log: {error}"));
        // the engine is never ahead of the log
        self.sync_log().map_err(log_failed)?;
        self.core.engine.sync().map_err(|error| self.failed(&OpenRowError::Engine(error)))?;
        self.lazy = false;
        self.unsynced = 0;
        match &mut self.log {
            Some(log) => log.note_synced(self.meta.commit).map_err(log_failed),
            None => Ok(()),
        }
    }

    /// Whether the log waits to be put on disk.
    pub(crate) fn log_is_unsynced(&self) -> bool {
        self.log.as_ref().is_some_and(ExportLog::is_unsynced)
    }

    /// Puts the log on disk.
    pub(crate) fn sync_log(&mut self) -> io::Result<()> {
        self.log.as_mut().map_or(Ok(()), ExportLog::sync)
    }

    /// Has the log written anew from the rows.
    pub(crate) fn rewrite_log(&mut self) {
        if let Some(log) = &mut self.log {
            log.rewrite();
        }
    }

    /// Whether [`Writer::tend`] has something to do.
    pub(crate) fn needs_tending(&self) -> bool {
        !self.log_untended && self.halted.is_none() && self.log.as_ref().is_some_and(ExportLog::needs_tending)
    }

    /// A little housekeeping between commits.
    pub(crate) fn tend(&mut self) {
        if !self.needs_tending() || self.space.check().is_err() {
            // a full disk is no reason to write everything anew
            self.log_untended |= self.halted.is_none() && self.needs_tending();
            return;
        }
        if self.log.as_ref().is_some_and(ExportLog::begins_snapshot)
            && let Err(error) = self.sync_engine()
        {
            tracing::error!(%error, "the engine could not put its commits on disk; the log is not rewritten");
            self.log_untended = true;
            return;
        }
        let Some(log) = &mut self.log else { return };
        if let Err(error) = log.tend(self.core.engine.as_ref(), &self.core.codec, self.meta.commit) {
            self.log_untended = true;
            if error.raw_os_error().is_some() {
                tracing::error!(%error, "the export log could not be rewritten; it is tried again at the next start");
            } else {
                self.core.suspect.raise(&error);
            }
        }
    }

    /// Makes everything durable and marks the log as closed in order.
    pub(crate) fn close(&mut self) -> Result<(), CommitError> {
        let engine = self.sync_engine();
        if let Some(log) = &mut self.log {
            log.discard();
            let closed = if engine.is_ok() && !self.lazy { log.close(self.meta.commit) } else { log.sync() };
            closed.map_err(|error| CommitError::Failed(format!("the export log: {error}")))?;
        }
        engine?;
        self.halted.clone().map_or(Ok(()), Err)
    }
}

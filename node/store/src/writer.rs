//! The one writer: joins commits into groups, keeps the log, guards the disk.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use kith_protocol::record::Change;

use crate::applier::{Applied, Applier, Refused, Rouser};
use crate::codec::OpenRowError;
use crate::disk;
use crate::engine::Durability;
use crate::log::ExportLog;
use crate::reader::Core;
use crate::staging::Meta;
use crate::ticket::{CommitError, Promise};

/// Rows after which a batch takes no further commit: sled's memory grows out of all proportion with its batches.
pub(crate) const GROUP_ROWS: usize = 1_000;
/// Changes after which a group takes no further commit. With their indexes they stay near that many rows.
const GROUP_CHANGES: usize = 400;
/// Bytes of a group's records up to which, with that many changes, no commit in it can be too large.
const SMALL_BYTES: usize = 4 * 1024 * 1024;
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
    commits: Vec<Vec<Change>>,
    /// Which of them are durable.
    kinds: Vec<bool>,
    promises: Vec<Promise>,
    changes: usize,
    /// One of them is durable.
    durable: bool,
}

#[allow(clippy::needless_pass_by_value, reason = "made for map_err")]
fn log_failed(error: io::Error) -> Refused {
    Refused { at: 0, error: CommitError::Failed(format!("the export log: {error}")) }
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
    /// Works while the log's disk does; without a log there is nothing to wait for.
    applier: Option<Applier>,
}

impl Writer {
    /// The writer of a store without a log: nothing in it starts a thread.
    pub(crate) const fn without_log(core: Arc<Core>, meta: Meta) -> Self {
        Self {
            core,
            meta,
            log: None,
            log_untended: false,
            space: SpaceGuard::new(None, None, 0),
            halted: None,
            lazy: false,
            unsynced: 0,
            applier: None,
        }
    }

    /// The writer of a store whose commits are acknowledged from its log.
    pub(crate) fn with_log(
        core: Arc<Core>,
        meta: Meta,
        log: ExportLog,
        space: SpaceGuard,
    ) -> io::Result<Self> {
        let applier = Some(Applier::start(Arc::clone(&core))?);
        Ok(Self { log: Some(log), space, applier, ..Self::without_log(core, meta) })
    }

    /// Wakes the thread that feeds the engine, if there is one, ahead of a commit.
    pub(crate) fn rouser(&self) -> Option<Rouser> {
        self.applier.as_ref().map(Applier::rouser)
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
            group.kinds.push(pending.durable);
            group.commits.push(pending.changes);
            group.promises.push(pending.promise);
        }
        let mut promises = std::mem::take(&mut group.promises).into_iter();
        let result = self.commit(group).map_err(|Refused { at, error }| {
            let error = self.halt(error);
            // what is not written was not refused for its own sake
            let halted = CommitError::Halted(error.to_string());
            for promise in promises.by_ref().take(at) {
                promise.answer(Err(halted.clone()));
            }
            if let Some(refused) = promises.next() {
                refused.answer(Err(error));
            }
            halted
        });
        for promise in promises {
            promise.answer(result.clone());
        }
    }

    /// Writes a group: first to the log (what that has too much at a crash was never acknowledged, what it lacked could
    /// not be restored), then to the engine.
    fn commit(&mut self, group: Group) -> Result<(), Refused> {
        let commits = || group.commits.iter().map(Vec::as_slice);
        let Some(log) = &mut self.log else {
            let durability = if group.durable { Durability::Durable } else { Durability::Lazy };
            let applied = self.core.apply(self.meta, commits(), durability)?;
            self.took(applied, durability);
            return Ok(());
        };
        let first = self.meta.commit.saturating_add(1);
        for ((number, changes), durable) in (first..).zip(commits()).zip(&group.kinds) {
            log.append(&self.core.codec, number, first, *durable, changes).map_err(log_failed)?;
        }
        let small = group.changes <= GROUP_CHANGES && log.buffered() <= SMALL_BYTES;
        let applied = match &self.applier {
            Some(applier) if small => {
                log.write_group().map_err(log_failed)?;
                applier.begin(self.meta, group.commits);
                let logged = if group.durable { log.sync() } else { Ok(()) };
                // it has begun: also if the disk failed it is waited for
                let applied = applier.finish()?;
                logged.map_err(log_failed)?;
                applied
            }
            // one that is too large is refused before anything of it is in the log
            _ => match self.core.apply(self.meta, commits(), Durability::Lazy) {
                Ok(applied) => {
                    log.write_group().map_err(log_failed)?;
                    if group.durable {
                        log.sync().map_err(log_failed)?;
                    }
                    applied
                }
                Err(refused) => {
                    log.discard();
                    return Err(refused);
                }
            },
        };
        self.took(applied, Durability::Lazy);
        Ok(())
    }

    /// Notes what the engine has.
    const fn took(&mut self, applied: Applied, durability: Durability) {
        self.space.since = self.space.since.saturating_add(applied.bytes as u64 * 2);
        self.meta = applied.meta;
        self.lazy = matches!(durability, Durability::Lazy);
        self.unsynced = self.unsynced.saturating_add(applied.bytes);
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
        // the engine is never ahead of the log
        self.sync_log().map_err(|error| log_failed(error).error)?;
        self.core.engine.sync().map_err(|error| self.core.failed(&OpenRowError::Engine(error)))?;
        self.lazy = false;
        self.unsynced = 0;
        match &mut self.log {
            Some(log) => log.note_synced(self.meta.commit).map_err(|error| log_failed(error).error),
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

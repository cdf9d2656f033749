//! What a store is opened with, and what opening it found.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

use crate::engine::EngineError;
use crate::engine::memory::MemoryDisk;
use crate::keys::MasterKey;
use crate::lock::LockError;

/// Which engine keeps the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EngineKind {
    /// sled 0.34.7 with its guards: the node's default.
    Sled,
    /// redb: opens large stores fastest, half the disk.
    Redb,
    /// Nothing on disk and no thread; loses what was not synced at a [`MemoryDisk::crash`].
    Memory,
}

impl EngineKind {
    /// The word for this engine in commands and file names.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sled => "sled",
            Self::Redb => "redb",
            Self::Memory => "memory",
        }
    }
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A word that names no engine.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("no engine is called {0:?}: take sled or redb")]
pub struct UnknownEngine(String);

impl FromStr for EngineKind {
    type Err = UnknownEngine;
    fn from_str(text: &str) -> Result<Self, UnknownEngine> {
        match text {
            "sled" => Ok(Self::Sled),
            "redb" => Ok(Self::Redb),
            "memory" => Ok(Self::Memory),
            other => Err(UnknownEngine(other.chars().take(32).collect())),
        }
    }
}

/// What takes long while a store opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenStage {
    /// The engine reads its own files.
    Engine,
    /// Every row is being read, since damage was seen before; so many so far.
    Verifying(u64),
    /// Rows are being written anew from the export log; so many so far.
    Restoring(u64),
    /// Rows are being brought to this version's schema; so many so far.
    Migrating(u64),
}

/// Told about long work while a store opens.
pub type Progress = Arc<dyn Fn(OpenStage) + Send + Sync>;

/// What a store is opened with.
#[derive(Clone)]
pub struct StoreConfig {
    /// The store's own folder; made if it does not exist.
    pub path: PathBuf,
    /// Engine of a new store. An existing one keeps the engine it has until it is migrated.
    pub engine: EngineKind,
    /// Seals every value.
    pub key: MasterKey,
    /// Memory the engine may use for its cache.
    pub cache_bytes: u64,
    /// Most bytes the store's folder may take; further writes are refused.
    pub quota_bytes: Option<u64>,
    /// Writes are refused while the disk has less than this free.
    pub min_free_bytes: u64,
    /// The export log is written anew when its commits outgrow its snapshot, but not below this size.
    pub export_min_bytes: u64,
    /// Read every row before the store is handed out.
    pub verify: bool,
    /// What [`EngineKind::Memory`] keeps its rows on.
    pub memory: MemoryDisk,
    /// Told about long work.
    pub progress: Option<Progress>,
}

impl StoreConfig {
    /// The defaults for a store in this folder.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, engine: EngineKind, key: MasterKey) -> Self {
        Self {
            path: path.into(),
            engine,
            key,
            cache_bytes: 64 * 1024 * 1024,
            quota_bytes: None,
            min_free_bytes: 64 * 1024 * 1024,
            export_min_bytes: 8 * 1024 * 1024,
            verify: false,
            memory: MemoryDisk::default(),
            progress: None,
        }
    }

    /// A store without files and threads, on a disk that outlives it.
    #[must_use]
    pub fn memory(disk: MemoryDisk, key: MasterKey) -> Self {
        Self { memory: disk, ..Self::new(PathBuf::new(), EngineKind::Memory, key) }
    }

    pub(crate) fn tell(&self, stage: OpenStage) {
        if let Some(progress) = &self.progress {
            progress(stage);
        }
    }
}

impl fmt::Debug for StoreConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreConfig")
            .field("path", &self.path)
            .field("engine", &self.engine)
            .field("cache_bytes", &self.cache_bytes)
            .field("quota_bytes", &self.quota_bytes)
            .field("min_free_bytes", &self.min_free_bytes)
            .field("verify", &self.verify)
            .finish_non_exhaustive()
    }
}

/// What opening a store found and did. All zero and false after an ordinary stop.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OpenReport {
    /// The engine in use.
    pub engine: Option<EngineKind>,
    /// The store was new.
    pub created: bool,
    /// The engine had lost or damaged rows and everything was written anew from the export log.
    pub restored: bool,
    /// Why that was needed, in a sentence.
    pub reason: Option<String>,
    /// Commits of the export log that the engine lacked and that were applied again.
    pub replayed: u64,
    /// Commits known to have been made and found nowhere.
    pub lost_commits: u64,
    /// The end of the log may be missing too: what was committed in its last five seconds.
    pub tail_uncertain: bool,
    /// A part of the export log's snapshot could not be read either, so rows older than its commits are lost.
    pub rows_lost: bool,
    /// Rows of the damaged engine that could not be read; the log's state of them was taken where it has one.
    pub unreadable_rows: u64,
    /// Bytes of the export log that could not be read.
    pub damaged_log_bytes: u64,
    /// Commits that the export log lacked although the engine had them, and for which it was written anew from the rows.
    pub log_missing: u64,
    /// Where the damaged original was put; nothing deletes it.
    pub set_aside: Option<PathBuf>,
    /// Schema version before, if rows were brought to a newer one.
    pub migrated_from: Option<u16>,
}

impl OpenReport {
    /// One sentence for people if something out of the ordinary happened.
    #[must_use]
    pub fn notice(&self) -> Option<String> {
        if !self.restored && self.lost_commits == 0 {
            return (self.log_missing > 0).then(|| {
                format!(
                    "the export log was damaged ({} unreadable in it); it was written anew from the store, and nothing was lost",
                    commits(self.log_missing)
                )
            });
        }
        let mut text = match &self.reason {
            Some(reason) => format!("the store was restored from its export log ({reason})"),
            None => "the store was restored from its export log".to_owned(),
        };
        match (self.lost_commits, self.tail_uncertain) {
            (0, false) if self.rows_lost => {}
            (0, false) => text.push_str("; nothing was lost"),
            (0, true) => text.push_str("; what was written in the last five seconds may be missing"),
            (n, false) => text.push_str(&format!("; {} lost", commits(n))),
            (n, true) => text.push_str(&format!(
                "; {} lost, and what was written in the last five seconds may be missing",
                commits(n)
            )),
        }
        if self.rows_lost {
            text.push_str("; some older rows could not be read anywhere and are lost");
        }
        if let Some(path) = &self.set_aside {
            text.push_str(&format!("; the damaged original is kept in {}", path.display()));
        }
        Some(text)
    }
}

/// A commit holds up to some hundred messages.
fn commits(n: u64) -> String {
    if n == 1 { "1 commit is".to_owned() } else { format!("{n} commits are") }
}

/// Why a store could not be opened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process uses it.
    #[error(transparent)]
    Locked(#[from] LockError),
    /// The master key is not the one this store was made with.
    #[error("the key does not fit the store in {0}: was key.json replaced? Put the original back")]
    WrongKey(PathBuf),
    /// Written by a newer Kith.
    #[error("the store has schema version {found}, this Kith knows {known}: install a newer Kith")]
    Newer {
        /// Version found.
        found: u16,
        /// Newest version known here.
        known: u16,
    },
    /// The disk is full.
    #[error("only {free} bytes are free where the store lies, {needed} are needed: free some space")]
    NoSpace {
        /// Bytes free.
        free: u64,
        /// Bytes needed.
        needed: u64,
    },
    /// A file could not be read or written.
    #[error("{what} {path}: {source}", path = path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The engine failed, and so did restoring from the export log.
    #[error("the store could not be opened: {0}")]
    Engine(#[from] EngineError),
    /// A row does not open.
    #[error("a row of the store is damaged: {0}; run `kith store check`")]
    Row(String),
    /// The engine is damaged and there is nothing to restore from.
    #[error(
        "the store is damaged ({reason}) and there is no export log to restore it from; \
         it is left as it is in {folder}",
        folder = folder.display()
    )]
    Damaged {
        /// What is wrong.
        reason: String,
        /// Where it is.
        folder: PathBuf,
    },
}

impl OpenError {
    pub(crate) fn io(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { what, path, source }
    }
}

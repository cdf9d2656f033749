//! The handle that the node holds.

use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use kith_protocol::record::{Change, ReadError};

use crate::actor::Queue;
use crate::check::{self, CheckReport};
use crate::config::{EngineKind, OpenError, OpenReport, StoreConfig};
use crate::engine::memory::MemoryDisk;
use crate::open;
use crate::reader::StoreReader;
use crate::ticket::{CommitError, CommitTicket, promise};
use crate::writer::{Pending, Writer};

/// What a store says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreStats {
    /// The engine in use.
    pub engine: EngineKind,
    /// Number of the newest commit.
    pub commits: u64,
    /// Number of rows.
    pub rows: u64,
    /// Bytes of the engine's files.
    pub engine_bytes: u64,
    /// Bytes of the export log.
    pub log_bytes: u64,
    /// Bytes free where the store lies, where that can be told.
    pub free_bytes: Option<u64>,
    /// Why commits are refused, if they are.
    pub halted: Option<CommitError>,
    /// Damage was seen; the next open restores what is damaged.
    pub suspect: bool,
}

#[derive(Debug)]
enum Mode {
    /// Memory: commits run in the caller's thread.
    Inline { writer: Box<Mutex<Writer>>, disk: MemoryDisk },
    /// Everything else: one thread owns all writes.
    Thread { queue: Arc<Queue>, thread: Mutex<Option<JoinHandle<()>>> },
}

#[derive(Debug)]
struct Inner {
    reader: StoreReader,
    mode: Mode,
    folder: Option<std::path::PathBuf>,
}

/// An open store. Clones are handles of the same one; the last to go closes it in order. Everything a
/// [`StoreReader`] can do, a store can.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

impl Deref for Store {
    type Target = StoreReader;
    fn deref(&self) -> &StoreReader {
        &self.inner.reader
    }
}

impl Store {
    /// Opens a store, or makes one. Blocks: sled reads its whole log, and a damaged store is restored from the
    /// export log.
    ///
    /// # Errors
    /// [`OpenError`] says what is wrong and what to do. Nothing is ever deleted.
    pub fn open(config: StoreConfig) -> Result<(Self, OpenReport), OpenError> {
        let opened = open::open(&config)?;
        let reader = StoreReader { core: opened.core };
        let (mode, folder) = if config.engine == EngineKind::Memory {
            (Mode::Inline { writer: Box::new(Mutex::new(opened.writer)), disk: config.memory }, None)
        } else {
            let queue = Arc::new(Queue::new(opened.writer));
            let theirs = Arc::clone(&queue);
            let thread = std::thread::Builder::new()
                .name("kith-store".to_owned())
                .spawn(move || theirs.run())
                .map_err(OpenError::io("cannot start the storage thread for", &config.path))?;
            (Mode::Thread { queue, thread: Mutex::new(Some(thread)) }, Some(config.path))
        };
        Ok((Self { inner: Arc::new(Inner { reader, mode, folder }) }, opened.report))
    }

    /// Writes changes: all or none, in the order of the calls, answered once they would survive a power cut.
    pub fn commit(&self, changes: Vec<Change>) -> CommitTicket {
        self.submit(changes, true)
    }

    /// Like [`Store::commit`], for a caller that has nothing else to do meanwhile: if no other commit is under way and the
    /// disk has been quick (half a millisecond for a commit), it is written in the caller's thread and the ticket comes
    /// answered. Handing it to the storage thread and being woken by it would take a third of that time.
    pub fn commit_here(&self, changes: Vec<Change>) -> CommitTicket {
        match &self.inner.mode {
            Mode::Inline { .. } => self.commit(changes),
            Mode::Thread { queue, .. } => {
                let (promise, ticket) = promise();
                queue.commit_here(Pending { changes, durable: true, promise });
                ticket
            }
        }
    }

    /// Like [`Store::commit`], but answered before it would survive a power cut, and durable within a second or with
    /// the next durable commit.
    pub fn commit_lazy(&self, changes: Vec<Change>) -> CommitTicket {
        self.submit(changes, false)
    }

    /// Makes everything committed so far durable.
    pub fn sync(&self) -> CommitTicket {
        self.submit(Vec::new(), true)
    }

    fn submit(&self, changes: Vec<Change>, durable: bool) -> CommitTicket {
        let (promise, ticket) = promise();
        match &self.inner.mode {
            Mode::Inline { writer, disk } if durable => {
                let (written, result) = crate::ticket::promise();
                let pending = Pending { changes, durable, promise: written };
                writer.lock().unwrap_or_else(PoisonError::into_inner).write([pending]);
                disk.answer(promise, result.try_result().unwrap_or(Err(CommitError::Closed)));
            }
            Mode::Inline { writer, .. } => {
                let pending = Pending { changes, durable, promise };
                writer.lock().unwrap_or_else(PoisonError::into_inner).write([pending]);
            }
            Mode::Thread { queue, .. } => queue.commit(Pending { changes, durable, promise }),
        }
        ticket
    }

    /// Takes commits again after one was refused for want of space. The first to be committed again is the one that
    /// was refused first.
    ///
    /// # Errors
    /// [`CommitError`] if there is still no space, or the store failed for another reason.
    pub fn resume(&self) -> Result<(), CommitError> {
        self.between(Writer::resume)?
    }

    /// Runs something in the writer's turn, when all that was committed before is written.
    pub(crate) fn between<T: Send + 'static>(
        &self,
        run: impl FnOnce(&mut Writer) -> T + Send + 'static,
    ) -> Result<T, CommitError> {
        match &self.inner.mode {
            Mode::Inline { writer, .. } => {
                Ok(run(&mut writer.lock().unwrap_or_else(PoisonError::into_inner)))
            }
            Mode::Thread { queue, .. } => {
                // dropped without an answer if the store is closed
                let (answer, wait) = std::sync::mpsc::sync_channel(1);
                queue.run_between(Box::new(move |writer| {
                    // nobody waits any more: then nobody misses it
                    let _ = answer.send(run(writer));
                }));
                wait.recv().map_err(|_| CommitError::Closed)
            }
        }
    }

    pub(crate) fn folder(&self) -> Option<std::path::PathBuf> {
        self.inner.folder.clone()
    }

    /// A handle for reading.
    #[must_use]
    pub fn reader(&self) -> StoreReader {
        self.inner.reader.clone()
    }

    /// How large the store is and how it does.
    ///
    /// # Errors
    /// [`ReadError`] if the engine does not answer or the store is closed.
    pub fn stats(&self) -> Result<StoreStats, ReadError> {
        let (meta, log_bytes, halted) = self
            .between(|writer| (writer.meta(), writer.log_bytes(), writer.halted().cloned()))
            .map_err(|error| ReadError::Store(error.to_string()))?;
        let engine = &self.inner.reader.core.engine;
        Ok(StoreStats {
            engine: engine.kind(),
            commits: meta.commit,
            rows: meta.rows,
            engine_bytes: engine.stats().map_err(|error| self.failed(&error))?.bytes,
            log_bytes,
            free_bytes: self.inner.folder.as_deref().and_then(crate::disk::free_bytes),
            halted,
            suspect: self.inner.reader.core.suspect.is_raised(),
        })
    }

    /// Reads everything: every row opens, decodes and stands where it belongs, every index is whole, every record of
    /// the export log is readable. If only the log is not whole, it is rewritten. What commits made meanwhile could have
    /// caused is looked at a second time while commits wait.
    ///
    /// # Errors
    /// [`ReadError`] if the engine does not answer.
    pub fn check(&self) -> Result<CheckReport, ReadError> {
        let closed = |error: CommitError| ReadError::Store(error.to_string());
        let log = self.inner.folder.as_ref().map(|folder| folder.join(crate::log::FOLDER));
        let mut report = check::check(&self.inner.reader.core, log.as_deref(), &mut |_| ())?;
        if !(report.is_sound() && report.is_log_whole()) {
            let core = Arc::clone(&self.inner.reader.core);
            let again = move |_: &mut Writer| check::check(&core, log.as_deref(), &mut |_| ());
            report = self.between(again).map_err(closed)??;
        }
        if !report.is_sound() {
            self.inner.reader.core.suspect.raise(&"a check found problems");
        } else if !report.is_log_whole() {
            // at once: nobody may write for a long time, and until then nothing could be restored
            let rewritten = |writer: &mut Writer| {
                writer.rewrite_log();
                while writer.needs_tending() {
                    writer.tend();
                }
            };
            self.between(rewritten).map_err(closed)?;
        }
        Ok(report)
    }

    /// Writes what waits, makes everything durable and stops the thread. Later commits are refused; readers go on
    /// until they are dropped, and hold the folder so long.
    ///
    /// # Errors
    /// [`CommitError`] if something could not be written.
    pub fn close(&self) -> Result<(), CommitError> {
        self.inner.close()
    }
}

impl Inner {
    fn close(&self) -> Result<(), CommitError> {
        match &self.mode {
            Mode::Inline { writer, .. } => writer.lock().unwrap_or_else(PoisonError::into_inner).close(),
            Mode::Thread { queue, thread } => {
                queue.close();
                let thread = thread.lock().unwrap_or_else(PoisonError::into_inner).take();
                if let Some(thread) = thread
                    && thread.join().is_err()
                {
                    tracing::error!("the storage thread ended by a panic");
                }
                queue.result()
            }
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // a crashed memory disk cannot be closed, and nothing is lost by that
        if matches!(self.mode, Mode::Thread { .. })
            && let Err(error) = self.close()
        {
            tracing::error!(%error, "the store did not close in order");
        }
    }
}

//! Giving commits to the engine, beside the thread that waits for the log's disk: the disk's time and the processor's are
//! spent at once.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::{JoinHandle, Thread, park, yield_now};

use kith_protocol::record::Change;

use crate::codec::OpenRowError;
use crate::engine::Durability;
use crate::reader::Core;
use crate::staging::{Meta, Staging};
use crate::ticket::CommitError;

/// Rows, chunks and index rows of one commit.
const COMMIT_ROWS: usize = 32 * 1024;
/// Bytes of one commit.
const COMMIT_BYTES: usize = 32 * 1024 * 1024;
/// How often a roused thread looks for its group before it sleeps again, giving its turn away between: some hundred
/// microseconds, longer than a record takes to its file.
const LOOKS: usize = 500;

/// Why a group was not written, and which of its commits is to blame.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) at: usize,
    pub(crate) error: CommitError,
}

/// What the engine has after a group.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Applied {
    pub(crate) meta: Meta,
    /// Bytes it was given.
    pub(crate) bytes: usize,
}

impl Core {
    /// An engine's failure as a commit's; damage is remembered.
    pub(crate) fn failed(&self, error: &OpenRowError) -> CommitError {
        if matches!(error, OpenRowError::Engine(error) if error.is_damage()) {
            self.suspect.raise(error);
        }
        CommitError::Failed(error.to_string())
    }

    /// Gives the engine all commits of a group, or none.
    pub(crate) fn apply<'a>(
        &self,
        meta: Meta,
        commits: impl Iterator<Item = &'a [Change]>,
        durability: Durability,
    ) -> Result<Applied, Refused> {
        let mut staging = Staging::new(self.engine.as_ref(), &self.codec, meta);
        for (at, changes) in commits.enumerate() {
            self.stage(&mut staging, changes).map_err(|error| Refused { at, error })?;
        }
        let bytes = staging.bytes();
        let written = staging.finish().and_then(|(batch, meta)| {
            self.engine.write(&batch, &[], durability)?;
            Ok(meta)
        });
        let meta = written.map_err(|error| Refused { at: 0, error: self.failed(&error) })?;
        Ok(Applied { meta, bytes })
    }

    fn stage(&self, staging: &mut Staging<'_>, changes: &[Change]) -> Result<(), CommitError> {
        let (rows, bytes) = (staging.rows(), staging.bytes());
        for change in changes {
            staging.apply(change).map_err(|error| self.failed(&error))?;
            let (rows, bytes) = (staging.rows().saturating_sub(rows), staging.bytes().saturating_sub(bytes));
            if rows > COMMIT_ROWS || bytes > COMMIT_BYTES {
                return Err(CommitError::TooLarge { rows, bytes });
            }
        }
        staging.meta.commit = staging.meta.commit.saturating_add(1);
        Ok(())
    }
}

type Group = (Meta, Vec<Vec<Change>>);

/// Wakes the thread: when its group is there, and before. A sleeping thread takes some 30 µs to wake, and whoever wakes it waits
/// as long: time that the disk should be working in.
#[derive(Debug, Clone)]
pub(crate) struct Rouser(Thread);

impl Rouser {
    /// A group is here or on its way, or none will come any more.
    pub(crate) fn rouse(&self) {
        self.0.unpark();
    }
}

/// A thread that does so, one group at a time.
#[derive(Debug)]
pub(crate) struct Applier {
    /// `None` only while dropping.
    groups: Option<SyncSender<Group>>,
    results: Receiver<Result<Applied, Refused>>,
    thread: Option<JoinHandle<()>>,
    rouser: Rouser,
}

impl Applier {
    /// Starts the thread; it ends with its owner.
    pub(crate) fn start(core: Arc<Core>) -> std::io::Result<Self> {
        let (groups, todo) = sync_channel::<Group>(1);
        let (done, results) = sync_channel(1);
        let thread = std::thread::Builder::new().name("kith-engine".into()).spawn(move || {
            while let Some((meta, commits)) = next(&todo) {
                let result = core.apply(meta, commits.iter().map(Vec::as_slice), Durability::Lazy);
                if done.send(result).is_err() {
                    return;
                }
            }
        })?;
        let rouser = Rouser(thread.thread().clone());
        Ok(Self { groups: Some(groups), results, thread: Some(thread), rouser })
    }

    /// Wakes its thread, also ahead of a group.
    pub(crate) fn rouser(&self) -> Rouser {
        self.rouser.clone()
    }

    /// Hands over a group whose size is known to be within bounds.
    pub(crate) fn begin(&self, meta: Meta, commits: Vec<Vec<Change>>) {
        if let Some(groups) = &self.groups {
            // a thread that is gone is noticed when its result is waited for
            let _ = groups.send((meta, commits));
        }
        self.rouser.rouse();
    }

    /// Waits for what became of it.
    pub(crate) fn finish(&self) -> Result<Applied, Refused> {
        self.results.recv().unwrap_or_else(|_| {
            let error = CommitError::Failed("the thread that feeds the engine is gone".to_owned());
            Err(Refused { at: 0, error })
        })
    }
}

impl Drop for Applier {
    fn drop(&mut self) {
        self.groups = None;
        self.rouser.rouse();
        // the engine is let go before anyone is told that the store is closed
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that feeds the engine ended with a panic");
        }
    }
}

/// The next group; `None` when there will be no more.
fn next(groups: &Receiver<Group>) -> Option<Group> {
    loop {
        match groups.try_recv() {
            Ok(group) => return Some(group),
            Err(TryRecvError::Disconnected) => return None,
            Err(TryRecvError::Empty) => park(),
        }
        for _ in 0..LOOKS {
            match groups.try_recv() {
                Ok(group) => return Some(group),
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) => yield_now(),
            }
        }
    }
}

//! The storage thread: takes what waits, writes it as one group, and keeps its timers.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::applier::Rouser;
use crate::ticket::CommitError;
use crate::writer::{Pending, Writer};

/// Commits that may wait; more make their callers wait.
const WAITING: usize = 4096;
/// The engine has put commits on disk by itself after this; the log had those that were durable at once.
const LAZY: Duration = Duration::from_secs(1);
/// The export log is on disk after this: under the five seconds promised.
const LOG: Duration = Duration::from_secs(4);
/// A write that takes longer is reported.
pub(crate) const STALLED: Duration = Duration::from_secs(30);

enum Request {
    Commit(Pending),
    /// Runs between two groups, when everything before it is written.
    Run(Job),
}

/// Something to do in the storage thread.
pub(crate) type Job = Box<dyn FnOnce(&mut Writer) + Send>;

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Commit(pending) => f.debug_tuple("Commit").field(pending).finish(),
            Self::Run(_) => f.write_str("Run"),
        }
    }
}

#[derive(Debug, Default)]
struct State {
    requests: VecDeque<Request>,
    closed: bool,
    /// The result of closing, once closed.
    result: Option<Result<(), CommitError>>,
}

/// What connects the store's handles with its thread.
#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<State>,
    /// Something to do.
    work: Condvar,
    /// Room to put more.
    room: Condvar,
    started: Instant,
    /// Milliseconds after `started` at which the write under way began, plus one; zero while idle.
    busy: AtomicU64,
    rouser: Option<Rouser>,
}

/// The store's own clock: it counts pauses between syncs and is part of no protocol.
#[allow(clippy::disallowed_methods, reason = "only the storage thread reads it, which no simulation runs")]
fn now() -> Instant {
    Instant::now()
}

impl Queue {
    pub(crate) fn new(rouser: Option<Rouser>) -> Self {
        Self {
            rouser,
            state: Mutex::default(),
            work: Condvar::new(),
            room: Condvar::new(),
            started: now(),
            busy: AtomicU64::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, request: Request) {
        let mut state = self.lock();
        while state.requests.len() >= WAITING && !state.closed {
            state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        // dropped unanswered, its ticket says that the store is closed
        if !state.closed {
            let idle = state.requests.is_empty() && self.busy_for().is_none();
            state.requests.push_back(request);
            self.work.notify_one();
            drop(state);
            // under load both threads are awake anyway
            if let Some(rouser) = &self.rouser
                && idle
            {
                rouser.rouse();
            }
        }
    }

    pub(crate) fn commit(&self, pending: Pending) {
        if let Some(busy) = self.busy_for()
            && busy > STALLED
        {
            tracing::error!(?busy, "the store has been writing for long; the disk or the engine hangs");
        }
        self.push(Request::Commit(pending));
    }

    pub(crate) fn run_between(&self, job: Job) {
        self.push(Request::Run(job));
    }

    /// How long the write under way has taken so far.
    pub(crate) fn busy_for(&self) -> Option<Duration> {
        let since = self.busy.load(Ordering::Relaxed).checked_sub(1)?;
        Some(now().saturating_duration_since(self.started).saturating_sub(Duration::from_millis(since)))
    }

    /// Takes no more; what waits is still written.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.work.notify_all();
        self.room.notify_all();
    }

    /// What closing came to.
    pub(crate) fn result(&self) -> Result<(), CommitError> {
        self.lock().result.clone().unwrap_or_else(|| {
            Err(CommitError::Failed("the storage thread ended before its work was done".to_owned()))
        })
    }

    /// The thread's whole life.
    pub(crate) fn run(&self, mut writer: Writer) {
        let (mut lazy_due, mut log_due) = (None, None);
        loop {
            let due = [lazy_due, log_due].into_iter().flatten().min();
            let (requests, closed) = self.take(due, writer.needs_tending());
            let worked = !requests.is_empty();
            if worked {
                self.mark(true);
                Self::serve(&mut writer, requests);
                self.mark(false);
            }
            if closed {
                break;
            }
            let time = now();
            if writer.has_lazy() {
                let due = *lazy_due.get_or_insert(time + LAZY);
                if due <= time || writer.has_much_lazy() {
                    if let Err(error) = writer.sync_engine() {
                        tracing::error!(%error, "the engine could not put its commits on disk");
                    }
                    lazy_due = None;
                }
            } else {
                lazy_due = None;
            }
            if writer.log_is_unsynced() {
                let due = *log_due.get_or_insert(time + LOG);
                if due <= time {
                    if let Err(error) = writer.sync_log() {
                        tracing::error!(%error, "the export log could not be put on disk");
                    }
                    log_due = None;
                }
            } else {
                log_due = None;
            }
            writer.tend();
        }
        let result = writer.close();
        // the engine is let go before anyone is told that the store is closed
        drop(writer);
        self.lock().result = Some(result);
    }

    fn mark(&self, busy: bool) {
        let at = now().saturating_duration_since(self.started).as_millis();
        let at = u64::try_from(at).unwrap_or(u64::MAX - 1).saturating_add(1);
        self.busy.store(if busy { at } else { 0 }, Ordering::Relaxed);
    }

    /// All that waits; waits for something unless there is housekeeping to do.
    fn take(&self, due: Option<Instant>, tending: bool) -> (VecDeque<Request>, bool) {
        let mut state = self.lock();
        while state.requests.is_empty() && !state.closed && !tending {
            match due.map(|due| due.saturating_duration_since(now())) {
                None => state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(left) if left.is_zero() => break,
                Some(left) => {
                    state = self.work.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        }
        self.room.notify_all();
        (std::mem::take(&mut state.requests), state.closed)
    }

    fn serve(writer: &mut Writer, requests: VecDeque<Request>) {
        let mut commits = Vec::new();
        for request in requests {
            match request {
                Request::Commit(pending) => commits.push(pending),
                Request::Run(job) => {
                    writer.write(commits.drain(..));
                    job(writer);
                }
            }
        }
        writer.write(commits);
    }
}

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
/// Microseconds up to which a small commit is written by its caller: less than a person or a connection would notice.
const QUICK: u64 = 500;
/// Microseconds a single slow commit counts at most: the disk of a moment is not the disk.
const FORGIVEN: u64 = 4 * QUICK;
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

/// The writer, and when it has something to do by itself. Whoever holds it writes.
#[derive(Debug)]
struct Desk {
    writer: Writer,
    /// When the engine has to put on disk what it took.
    lazy_due: Option<Instant>,
    /// When the log has to be put on disk.
    log_due: Option<Instant>,
}

impl Desk {
    fn due(&self) -> Option<Instant> {
        [self.lazy_due, self.log_due].into_iter().flatten().min()
    }

    /// Sets the times after something was written.
    fn plan(&mut self, time: Instant) {
        self.lazy_due = if self.writer.has_lazy() { self.lazy_due.or(Some(time + LAZY)) } else { None };
        self.log_due = if self.writer.log_is_unsynced() { self.log_due.or(Some(time + LOG)) } else { None };
    }

    /// Whether there is something to do although nobody asks.
    fn has_chores(&self) -> bool {
        self.writer.needs_tending() || self.writer.has_much_lazy()
    }

    /// Does what is due.
    fn do_chores(&mut self, time: Instant) {
        if self.lazy_due.is_some_and(|due| due <= time) || self.writer.has_much_lazy() {
            if let Err(error) = self.writer.sync_engine() {
                tracing::error!(%error, "the engine could not put its commits on disk");
            }
            self.lazy_due = None;
        }
        if self.log_due.is_some_and(|due| due <= time) {
            if let Err(error) = self.writer.sync_log() {
                tracing::error!(%error, "the export log could not be put on disk");
            }
            self.log_due = None;
        }
        self.writer.tend();
        self.plan(time);
    }
}

#[derive(Debug, Default)]
struct State {
    requests: VecDeque<Request>,
    closed: bool,
    /// Absent while somebody writes.
    desk: Option<Box<Desk>>,
    /// Whoever had the writer did not bring it back.
    lost: bool,
    /// When the storage thread wakes by itself.
    wakes: Option<Instant>,
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
    /// What commits that were written alone took lately, in microseconds.
    took: AtomicU64,
    rouser: Option<Rouser>,
}

/// The store's own clock: it counts pauses between syncs and is part of no protocol.
#[allow(clippy::disallowed_methods, reason = "only threads that write read it, which no simulation runs")]
fn now() -> Instant {
    Instant::now()
}

/// Brings the writer back, also when writing panics: then it is lost, and everybody is told instead of waiting for it.
struct Holding<'a> {
    queue: &'a Queue,
    desk: Option<Box<Desk>>,
}

impl Drop for Holding<'_> {
    fn drop(&mut self) {
        self.queue.mark(false);
        let desk = self.desk.take();
        let mut state = self.queue.lock();
        match desk {
            Some(desk) if !std::thread::panicking() => {
                let sooner = desk.due().is_some_and(|due| state.wakes.is_none_or(|wakes| due < wakes));
                if sooner || desk.has_chores() || !state.requests.is_empty() || state.closed {
                    self.queue.work.notify_one();
                }
                state.desk = Some(desk);
            }
            _ => {
                state.lost = true;
                state.closed = true;
                let unanswered = std::mem::take(&mut state.requests);
                drop(state);
                self.queue.work.notify_all();
                self.queue.room.notify_all();
                drop(unanswered);
            }
        }
    }
}

impl Queue {
    pub(crate) fn new(writer: Writer) -> Self {
        let rouser = writer.rouser();
        let mut desk = Desk { writer, lazy_due: None, log_due: None };
        desk.plan(now());
        Self {
            rouser,
            state: Mutex::new(State { desk: Some(Box::new(desk)), ..State::default() }),
            work: Condvar::new(),
            room: Condvar::new(),
            started: now(),
            busy: AtomicU64::new(0),
            took: AtomicU64::new(0),
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
            let idle = state.requests.is_empty() && state.desk.is_some();
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

    /// Commits in this thread if the writer is free and the disk has been quick; otherwise like [`Queue::commit`].
    pub(crate) fn commit_here(&self, pending: Pending) {
        let Some(mut holding) = self.hold_if_idle() else { return self.commit(pending) };
        if let Some(rouser) = &self.rouser {
            rouser.rouse();
        }
        if let Some(desk) = &mut holding.desk {
            let start = now();
            desk.writer.write([pending]);
            let end = now();
            self.note(end.saturating_duration_since(start));
            desk.plan(end);
        }
    }

    /// The writer, if nobody has it, nothing waits for it and a commit would not keep its caller for long.
    fn hold_if_idle(&self) -> Option<Holding<'_>> {
        if self.took.load(Ordering::Relaxed) > QUICK {
            return None;
        }
        let mut state = self.lock();
        if state.closed
            || !state.requests.is_empty()
            || state.desk.as_ref().is_none_or(|desk| desk.has_chores())
        {
            return None;
        }
        let desk = state.desk.take();
        drop(state);
        self.mark(true);
        Some(Holding { queue: self, desk })
    }

    /// Notes what a small commit took: an eighth of each counts, so that one slow one among many quick ones is forgiven.
    fn note(&self, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).min(FORGIVEN);
        let before = self.took.load(Ordering::Relaxed);
        self.took.store((before * 7 + took) / 8, Ordering::Relaxed);
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
    pub(crate) fn run(&self) {
        while let Some((mut holding, requests, closed)) = self.take() {
            let Some(desk) = &mut holding.desk else { return };
            if !requests.is_empty() {
                self.mark(true);
                let alone = requests.len() == 1 && matches!(requests.front(), Some(Request::Commit(_)));
                let start = now();
                Self::serve(&mut desk.writer, requests);
                if alone {
                    self.note(now().saturating_duration_since(start));
                }
                self.mark(false);
            }
            if closed {
                let desk = holding.desk.take();
                let result = desk.map_or_else(|| self.result(), |mut desk| desk.writer.close());
                // the engine was let go before anyone is told that the store is closed
                self.lock().result = Some(result);
                return;
            }
            let time = now();
            desk.plan(time);
            desk.do_chores(time);
        }
    }

    fn mark(&self, busy: bool) {
        let at = now().saturating_duration_since(self.started).as_millis();
        let at = u64::try_from(at).unwrap_or(u64::MAX - 1).saturating_add(1);
        self.busy.store(if busy { at } else { 0 }, Ordering::Relaxed);
    }

    /// The writer with all that waits; waits for something to do. `None` if the writer is lost.
    fn take(&self) -> Option<(Holding<'_>, VecDeque<Request>, bool)> {
        let mut state = self.lock();
        loop {
            if state.lost {
                return None;
            }
            let mut left = None;
            if let Some(desk) = &state.desk {
                let due = desk.due();
                left = due.map(|due| due.saturating_duration_since(now()));
                let idle = state.requests.is_empty() && !state.closed && !desk.has_chores();
                if !idle || left.is_some_and(|left| left.is_zero()) {
                    break;
                }
                state.wakes = due;
            } else {
                state.wakes = None;
            }
            state = match left {
                None => self.work.wait(state),
                Some(left) => self
                    .work
                    .wait_timeout(state, left)
                    .map(|(state, _)| state)
                    .map_err(|error| PoisonError::new(error.into_inner().0)),
            }
            .unwrap_or_else(PoisonError::into_inner);
        }
        self.room.notify_all();
        let holding = Holding { queue: self, desk: state.desk.take() };
        Some((holding, std::mem::take(&mut state.requests), state.closed))
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

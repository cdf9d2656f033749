//! A store that is watched: how long it takes, and what is changed while a backup is made.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use kith_protocol::mailbox::{Batch, RowKey};
use kith_protocol::{MailboxId, Wall};
use kith_store::mailbox::{
    Doing, Found, MailboxSnapshot, MailboxStore, MailboxStoreStats, Read, ScanPage, StoredState, Written,
};
use tokio::sync::{Mutex as Gate, MutexGuard};

use crate::stopwatch::Stopwatch;
use crate::web::histogram::Histogram;

/// Changed rows remembered while a backup is made; about 100 bytes each.
const CHANGED: usize = 500_000;

/// How long the store took.
#[derive(Debug, Default)]
pub struct Latencies {
    /// Reads.
    pub reads: Histogram,
    /// Writes, until they were durable.
    pub writes: Histogram,
}

/// What was written since somebody began to look.
#[derive(Debug, Default)]
enum Changes {
    #[default]
    NotLookedAt,
    Keys(HashSet<RowKey>),
    TooMany,
}

/// A store with somebody looking over its shoulder.
#[derive(Debug)]
pub struct ObservedStore {
    inner: Arc<dyn MailboxStore>,
    latencies: Arc<Latencies>,
    changes: Mutex<Changes>,
    /// Held by each write, and by a reader that wants a moment without any.
    gate: Gate<()>,
}

impl ObservedStore {
    /// Watches this store.
    #[must_use]
    pub fn new(inner: Arc<dyn MailboxStore>) -> Self {
        Self { inner, latencies: Arc::default(), changes: Mutex::default(), gate: Gate::new(()) }
    }

    /// How long it took.
    #[must_use]
    pub fn latencies(&self) -> Arc<Latencies> {
        Arc::clone(&self.latencies)
    }

    /// No write is made while the guard lives.
    pub(crate) async fn quiet(&self) -> MutexGuard<'_, ()> {
        self.gate.lock().await
    }

    /// Begins to remember what is changed; `false` if somebody looks already.
    pub(crate) fn look(&self) -> bool {
        let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let free = matches!(*changes, Changes::NotLookedAt);
        if free {
            *changes = Changes::Keys(HashSet::new());
        }
        free
    }

    /// Forgets and remembers no more.
    pub(crate) fn look_away(&self) {
        *self.changes.lock().unwrap_or_else(PoisonError::into_inner) = Changes::NotLookedAt;
    }

    /// The keys of rows written, or perhaps written, since the last call; `None` if they were too many.
    pub(crate) fn changed(&self) -> Option<Vec<RowKey>> {
        match &mut *self.changes.lock().unwrap_or_else(PoisonError::into_inner) {
            Changes::Keys(keys) => Some(std::mem::take(keys).into_iter().collect()),
            Changes::NotLookedAt | Changes::TooMany => None,
        }
    }

    fn remember(&self, batch: &Batch) {
        let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Changes::Keys(keys) = &mut *changes {
            keys.extend(batch.changes.iter().map(|(key, _)| *key));
            if keys.len() > CHANGED {
                *changes = Changes::TooMany;
            }
        }
    }
}

impl MailboxStore for ObservedStore {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn is_shared(&self) -> bool {
        self.inner.is_shared()
    }

    fn batch_rows(&self) -> usize {
        self.inner.batch_rows()
    }

    fn state(&self) -> Doing<'_, StoredState> {
        self.inner.state()
    }

    fn read(&self, reads: Vec<Read>) -> Doing<'_, Vec<Found>> {
        Box::pin(async move {
            let watch = Stopwatch::start();
            let found = self.inner.read(reads).await;
            self.latencies.reads.observe(watch.elapsed());
            found
        })
    }

    fn write(&self, batches: Vec<Batch>, now: Wall) -> Doing<'_, Written> {
        Box::pin(async move {
            let _quiet = self.gate.lock().await;
            // before: a write that fails may have been made all the same
            batches.iter().for_each(|batch| self.remember(batch));
            let watch = Stopwatch::start();
            let written = self.inner.write(batches, now).await;
            self.latencies.writes.observe(watch.elapsed());
            written
        })
    }

    fn stats(&self) -> Doing<'_, MailboxStoreStats> {
        self.inner.stats()
    }

    fn scan(&self, after: Vec<u8>, max: usize) -> Doing<'_, ScanPage> {
        self.inner.scan(after, max)
    }

    fn arrivals(&self) -> Doing<'_, Vec<MailboxId>> {
        self.inner.arrivals()
    }

    fn snapshot(&self) -> Doing<'_, Option<Box<dyn MailboxSnapshot>>> {
        self.inner.snapshot()
    }

    fn close(&self) -> Doing<'_, ()> {
        self.inner.close()
    }
}

//! A relay's rows, behind a seam that an external database can implement, too.
//!
//! The driver reads many rows at once and writes many decisions together, so each is one round trip. A [`Batch`] counts
//! only if every version it expects still stands: several relays may then share one store.

mod backed;
mod codec;
mod journal;
mod kv;
mod query;

use std::future::Future;
use std::pin::Pin;

use kith_protocol::mailbox::{Batch, Row, RowKey, Totals};
use kith_protocol::wire::relay::Listed;
use kith_protocol::{MailboxId, Wall};
use thiserror::Error;

pub use kv::{KvConfig, KvStore};

/// What a store promises to do.
pub type Doing<'a, T> = Pin<Box<dyn Future<Output = Result<T, MailboxStoreError>> + Send + 'a>>;

/// Something to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// One row.
    Row(RowKey),
    /// Envelopes of a mailbox beyond a cursor, oldest first, without their bodies.
    List {
        /// The mailbox.
        mailbox: MailboxId,
        /// The cursor.
        after: u64,
        /// At most so many.
        max: usize,
    },
    /// [`RowKey::Due`] up to an hour, oldest first.
    Due {
        /// The hour.
        up_to: u32,
        /// At most so many.
        max: usize,
    },
    /// [`RowKey::Visit`] up to a day, oldest first.
    Visits {
        /// The day.
        up_to: u32,
        /// At most so many.
        max: usize,
    },
    /// [`RowKey::Work`] with their rows.
    Work {
        /// At most so many.
        max: usize,
    },
    /// Keys of a mailbox's rows, without its own, its envelopes, and what is kept by time.
    Rest {
        /// The mailbox.
        mailbox: MailboxId,
        /// At most so many.
        max: usize,
    },
    /// [`RowKey::Mailbox`] with their rows, by id.
    Mailboxes {
        /// Beyond this one.
        after: Option<MailboxId>,
        /// At most so many.
        max: usize,
    },
    /// [`RowKey::Token`] with their rows.
    Tokens {
        /// At most so many.
        max: usize,
    },
}

/// What was found.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// For [`Read::Row`].
    Row(Option<Row>),
    /// For [`Read::List`].
    List(Vec<Listed>),
    /// For reads of keys.
    Keys(Vec<RowKey>),
    /// For reads of keys with their rows.
    Rows(Vec<(RowKey, Row)>),
    /// What was to be read is damaged. The other reads are answered.
    Damaged(String),
}

/// A part of the whole store.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ScanPage {
    /// Its rows.
    pub rows: Vec<(RowKey, Row)>,
    /// Rows that are damaged, one sentence each.
    pub damaged: Vec<String>,
    /// Where the next part begins; `None` after the last.
    pub next: Option<Vec<u8>>,
}

/// What became of a write.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    /// The sums as they are now. `None`: nothing was written, everything is to be decided again.
    pub totals: Option<Totals>,
    /// What the batches that were not written expected something of. Empty after a write that did everything.
    pub conflicts: Vec<RowKey>,
}

impl Written {
    /// Whether every batch was written.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.totals.is_some() && self.conflicts.is_empty()
    }
}

/// What is known at the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoredState {
    /// The sums.
    pub totals: Totals,
    /// The instant given with the last write.
    pub last: Option<Wall>,
}

/// How much there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MailboxStoreStats {
    /// Bytes the store takes.
    pub bytes: u64,
    /// Bytes free where it lies, if that can be told.
    pub free: Option<u64>,
}

/// A store that failed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MailboxStoreError {
    /// The disk is nearly full: nothing is written.
    #[error("only {free} bytes are free where the store lies, {needed} must stay free: free some space")]
    NoSpace {
        /// Bytes free.
        free: u64,
        /// Bytes that must stay free.
        needed: u64,
    },
    /// The store does not answer or cannot be opened now; it is tried again.
    #[error("the store cannot be used now: {0}")]
    Unavailable(String),
    /// It would be the same the next time: somebody has to change something.
    #[error("the store refuses this relay: {0}")]
    Refused(String),
    /// A row or the store itself is damaged.
    #[error("the store is damaged: {0}")]
    Damaged(String),
    /// Written by a newer relay.
    #[error("the store has schema version {found}, this relay knows {known}: install a newer one")]
    Newer {
        /// Version found.
        found: u16,
        /// Version known.
        known: u16,
    },
    /// It was closed.
    #[error("the store is closed")]
    Closed,
}

/// A whole store as it was at one moment, while it goes on being changed.
pub trait MailboxSnapshot: std::fmt::Debug + Send + Sync {
    /// [`MailboxStore::state`] at that moment.
    ///
    /// # Errors
    /// [`MailboxStoreError`].
    fn state(&self) -> Doing<'_, StoredState>;

    /// [`MailboxStore::read`] at that moment.
    ///
    /// # Errors
    /// [`MailboxStoreError`].
    fn read(&self, reads: Vec<Read>) -> Doing<'_, Vec<Found>>;

    /// [`MailboxStore::scan`] at that moment.
    ///
    /// # Errors
    /// [`MailboxStoreError`].
    fn scan(&self, after: Vec<u8>, max: usize) -> Doing<'_, ScanPage>;
}

/// Where a relay keeps its rows.
pub trait MailboxStore: std::fmt::Debug + Send + Sync + 'static {
    /// Its name, for people.
    fn name(&self) -> &str;

    /// Whether other processes change the same rows: the relay then looks for arrivals it did not cause.
    fn is_shared(&self) -> bool;

    /// Rows changed by one batch at most, if the store is to stay within its memory.
    fn batch_rows(&self) -> usize;

    /// The sums and the last instant, as they are now.
    ///
    /// # Errors
    /// [`MailboxStoreError`].
    fn state(&self) -> Doing<'_, StoredState>;

    /// Answers all reads, in their order, from one state of the store, or the mailboxes' own rows from no later state than
    /// the rest.
    ///
    /// # Errors
    /// [`MailboxStoreError`]; none of the reads is answered then.
    fn read(&self, reads: Vec<Read>) -> Doing<'_, Vec<Found>>;

    /// Writes each batch as a whole, if what it expects holds, adds its sums, and notes the instant; no row is in two of
    /// them. What it says is written would survive a power cut. All that it writes becomes visible at once.
    ///
    /// # Errors
    /// [`MailboxStoreError`]. After [`MailboxStoreError::Unavailable`] it is unknown whether it was written.
    fn write(&self, batches: Vec<Batch>, now: Wall) -> Doing<'_, Written>;

    /// How much there is.
    ///
    /// # Errors
    /// [`MailboxStoreError`].
    fn stats(&self) -> Doing<'_, MailboxStoreStats>;

    /// Every row that is counted, a page at a time: all rows of one mailbox that lie together come together, the
    /// mailbox's own first. `after` is what the page before returned, empty at first.
    ///
    /// # Errors
    /// [`MailboxStoreError`].
    fn scan(&self, after: Vec<u8>, max: usize) -> Doing<'_, ScanPage>;

    /// Waits until another process may have stored something in these mailboxes. It is told soon, but not surely: where it
    /// matters, the relay looks for itself, too. Ends never where no other process changes anything, and only with an
    /// error once closed.
    ///
    /// # Errors
    /// [`MailboxStoreError::Closed`].
    fn arrivals(&self) -> Doing<'_, Vec<MailboxId>> {
        Box::pin(std::future::pending())
    }

    /// The store as it is now; `None` where only this process changes it, so that it can be kept still instead.
    ///
    /// # Errors
    /// [`MailboxStoreError`].
    fn snapshot(&self) -> Doing<'_, Option<Box<dyn MailboxSnapshot>>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    /// Ends in order.
    ///
    /// # Errors
    /// [`MailboxStoreError`].
    fn close(&self) -> Doing<'_, ()>;
}

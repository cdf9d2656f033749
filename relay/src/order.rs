//! What the operator orders, and what the operator is shown.

use kith_protocol::MailboxId;
use kith_protocol::mailbox::{MailboxRow, Policy, RowKey, TokenRow, WriteKind};
use kith_store::mailbox::{Found, MailboxStoreError, Read};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::oneshot;

use crate::counters::Snapshot;
use crate::rate::Rates;

/// Why an order was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OrderError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] MailboxStoreError),
    /// The relay is stopping.
    #[error("the relay is stopping")]
    Stopping,
    /// Too much happened at once.
    #[error("the relay is too busy; try again")]
    Busy,
}

/// Answers an order.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, OrderError>>;

/// What the relay's task can be told.
#[derive(Debug)]
pub(crate) enum Order {
    Write(WriteKind, Reply<bool>),
    Read(Read, Reply<Found>),
    Status(Reply<Status>),
    Settings(Box<Policy>, Rates),
    ConfirmClock,
    Shutdown(oneshot::Sender<()>),
}

/// How a relay does.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Its libp2p name.
    pub peer_id: String,
    /// Where it is, each with its name.
    pub addresses: Vec<String>,
    /// Who may open a mailbox: `open`, `token`, `allow-list` or `closed`.
    pub mode: String,
    /// Mailboxes.
    pub mailboxes: i64,
    /// Envelopes in them.
    pub envelopes: i64,
    /// Bytes of these.
    pub bytes: i64,
    /// Ids of collected envelopes that are remembered.
    pub tombstones: i64,
    /// Rights in force.
    pub rights: i64,
    /// Connected nodes.
    pub connections: usize,
    /// Links on which requests may come.
    pub links: usize,
    /// Waiting owners.
    pub waits: usize,
    /// Requests not begun yet.
    pub queued: usize,
    /// What is refused: `normal`, `high` (new mailboxes), `heavy` (large envelopes, too), `critical` (all deposits).
    pub load: String,
    /// The wall clock has jumped: nothing expires until it is confirmed, or for 24 hours.
    pub clock_in_doubt: bool,
    /// Since the start.
    pub uptime_s: u64,
    /// Which store.
    pub store: String,
    /// Bytes it takes.
    pub store_bytes: u64,
    /// Bytes free where it lies.
    pub free_bytes: Option<u64>,
    /// When the certificate of secure WebSocket addresses expires, in milliseconds since the epoch.
    pub certificate_expires: Option<u64>,
    /// Of this program.
    pub version: String,
    /// What was done since the start.
    pub counters: Snapshot,
}

/// A mailbox as the operator sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailboxView {
    /// Its id.
    pub mailbox: String,
    /// Envelopes stored.
    pub envelopes: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Rights in force.
    pub rights: u64,
    /// Remembered ids of collected envelopes.
    pub tombstones: u64,
    /// One-time keys left.
    pub one_time_keys: u64,
    /// When it was made, in milliseconds since the epoch.
    pub created: u64,
    /// When its owner was last here, to the day.
    pub visited: u64,
    /// Nobody may use it.
    pub blocked: bool,
    /// It is being removed.
    pub evicting: bool,
}

impl MailboxView {
    /// Of a row.
    #[must_use]
    pub fn new(id: MailboxId, row: &MailboxRow) -> Self {
        Self {
            mailbox: id.to_string(),
            envelopes: row.usage.items,
            bytes: row.usage.bytes,
            rights: row.rights,
            tombstones: row.tombstones,
            one_time_keys: row.next_key.saturating_sub(row.first_key),
            created: row.created.0,
            visited: row.visited.0,
            blocked: row.blocked,
            evicting: row.evicting,
        }
    }
}

/// A token as the operator sees it: the token itself is shown once, when it is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenView {
    /// Names it, for revoking.
    pub id: String,
    /// What the operator calls it.
    pub label: String,
    /// Mailboxes it still opens.
    pub uses_left: u64,
    /// Mailboxes it opened.
    pub used: u64,
    /// When it ends, in milliseconds since the epoch.
    pub expires: Option<u64>,
    /// It was taken back.
    pub revoked: bool,
}

impl TokenView {
    /// Of a row.
    #[must_use]
    pub fn new(key: &RowKey, row: &TokenRow) -> Option<Self> {
        let RowKey::Token(key) = key else { return None };
        Some(Self {
            id: data_encoding::HEXLOWER.encode(key),
            label: row.label.clone(),
            uses_left: row.uses_left,
            used: row.used,
            expires: row.expires.map(|expires| expires.0),
            revoked: row.revoked,
        })
    }
}

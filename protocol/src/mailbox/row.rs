//! What a relay keeps.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::crypto::envelope::SIZE_KINDS;
use crate::id::{EnvelopeId, MailboxId, RightId};
use crate::identity::hash;
use crate::secret::Secret32;
use crate::time::Wall;

/// Names a row. All rows of one mailbox but those kept by time lie together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RowKey {
    /// The mailbox itself.
    Mailbox(MailboxId),
    /// A right.
    Right(MailboxId, RightId),
    /// An envelope by its cursor.
    Envelope(MailboxId, u64),
    /// What is known of an envelope by its id: it is here, or was collected.
    Known(MailboxId, EnvelopeId),
    /// A one-time key by its number.
    OneTimeKey(MailboxId, u64),
    /// The bundle.
    Bundle(MailboxId),
    /// Something ends in this hour since the epoch.
    Due(u32, MailboxId, super::Due),
    /// The owner's last visit was on this day since the epoch.
    Visit(u32, MailboxId),
    /// Work that goes on over several batches.
    Work(MailboxId, Work),
    /// A token by its hash.
    Token([u8; 16]),
}

/// Work that goes on over several batches, also after a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Work {
    /// Remove what is stored under a revoked right.
    Purge(RightId),
    /// Remove the mailbox.
    Evict,
}

impl RowKey {
    /// The mailbox it belongs to.
    #[must_use]
    pub const fn mailbox(&self) -> Option<MailboxId> {
        match *self {
            Self::Mailbox(id)
            | Self::Right(id, _)
            | Self::Envelope(id, _)
            | Self::Known(id, _)
            | Self::OneTimeKey(id, _)
            | Self::Bundle(id)
            | Self::Due(_, id, _)
            | Self::Visit(_, id)
            | Self::Work(id, _) => Some(id),
            Self::Token(_) => None,
        }
    }

    /// The row whose version stands for this one: that of its mailbox, or the token's own.
    #[must_use]
    pub const fn head(&self) -> Self {
        match (self.mailbox(), *self) {
            (Some(id), _) => Self::Mailbox(id),
            (None, own) => own,
        }
    }
}

/// A row.
#[derive(Debug, Clone, PartialEq)]
pub enum Row {
    /// Of [`RowKey::Mailbox`].
    Mailbox(Box<MailboxRow>),
    /// Of [`RowKey::Right`].
    Right(RightRow),
    /// Of [`RowKey::Envelope`].
    Envelope(EnvelopeRow),
    /// Of [`RowKey::Known`].
    Known(KnownRow),
    /// Of [`RowKey::OneTimeKey`].
    OneTimeKey([u8; 32]),
    /// Of [`RowKey::Bundle`].
    Bundle(Bytes),
    /// Of [`RowKey::Due`] and [`RowKey::Visit`]: that it is there says all.
    Mark,
    /// Of [`RowKey::Work`]: the cursor up to which it is done.
    Work(u64),
    /// Of [`RowKey::Token`].
    Token(TokenRow),
}

/// Bytes and items.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Bytes of envelopes, nothing else.
    pub bytes: u64,
    /// Envelopes.
    pub items: u64,
}

impl Usage {
    /// One envelope more.
    pub const fn add(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
        self.items = self.items.saturating_add(1);
    }

    /// One envelope less.
    pub const fn remove(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_sub(bytes);
        self.items = self.items.saturating_sub(1);
    }

    /// Whether another envelope of this size stays within `max`, in which 0 is no bound.
    #[must_use]
    pub const fn has_room(&self, bytes: u64, max: Self) -> bool {
        (max.bytes == 0 || self.bytes.saturating_add(bytes) <= max.bytes)
            && (max.items == 0 || self.items < max.items)
    }
}

/// A mailbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailboxRow {
    /// Raised by each change of anything in the mailbox.
    pub version: u64,
    /// Its owner proves this Ed25519 key.
    pub read_key: [u8; 32],
    /// When it was made.
    pub created: Wall,
    /// When its owner was last here, to the day.
    pub visited: Wall,
    /// The operator lets nobody use it.
    pub blocked: bool,
    /// It is being removed.
    pub evicting: bool,
    /// What is stored.
    pub usage: Usage,
    /// The same by [kind of size](crate::crypto::envelope::size_kind).
    pub kinds: [Usage; SIZE_KINDS],
    /// Ids of collected envelopes whose time is not over.
    pub tombstones: u64,
    /// Rights in force.
    pub rights: u64,
    /// Revoked rights that are still remembered.
    pub revoked: u64,
    /// Cursor of the newest envelope there ever was.
    pub cursor: u64,
    /// Number of the next one-time key to give,
    pub first_key: u64,
    /// and to store.
    pub next_key: u64,
    /// The bundle is given out until then; `None` if there is none.
    pub bundle_until: Option<Wall>,
    /// The operator's bound for this mailbox; `None`: the one for all.
    pub quota: Option<Usage>,
}

/// A right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RightRow {
    /// Its key.
    pub key: Secret32,
    /// What may be stored under it at a time; 0: no bound of its own.
    pub max: Usage,
    /// Deposits it allows in all; 0: any number.
    pub deposits_max: u64,
    /// When it ends; `None`: so long after the owner's last visit.
    pub expires: Option<Wall>,
    /// What is stored under it.
    pub usage: Usage,
    /// Deposits made.
    pub deposits: u64,
    /// The day since the epoch on which it last took a one-time key,
    pub keys_day: u32,
    /// and how many on that day.
    pub keys_taken: u32,
    /// When it was revoked.
    pub revoked: Option<Wall>,
}

/// An envelope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvelopeRow {
    /// Its id.
    pub id: EnvelopeId,
    /// Deposited under this right.
    pub right: RightId,
    /// When it came.
    pub stored_at: Wall,
    /// The envelope.
    pub body: Bytes,
}

/// What is known of an envelope id until the envelope's time is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum KnownRow {
    /// It is here.
    Stored {
        /// Its cursor.
        cursor: u64,
        /// Deposited under this right.
        right: RightId,
        /// Its length.
        size: u32,
        /// When it came, or was last asked to be kept longer.
        stored_at: Wall,
        /// When its time is over.
        expires_at: Wall,
    },
    /// Its owner has it.
    Collected {
        /// When its time would have been over.
        expires_at: Wall,
    },
}

/// What an operator gives to those who may open a mailbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRow {
    /// Raised by each change.
    pub version: u64,
    /// What the operator calls it.
    pub label: String,
    /// When it was made.
    pub created: Wall,
    /// Mailboxes it still opens.
    pub uses_left: u64,
    /// Mailboxes it opened.
    pub used: u64,
    /// When it ends; `None`: never.
    pub expires: Option<Wall>,
    /// It was taken back.
    pub revoked: bool,
}

/// The key of a token's row.
#[must_use]
pub fn token_key(token: &[u8]) -> [u8; 16] {
    let mut key = [0; 16];
    key.iter_mut().zip(hash("kith/relay/token/1", &[token])).for_each(|(to, from)| *to = from);
    key
}

/// Sums over all mailboxes; or, in a [`Batch`](super::Batch), how they change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Mailboxes.
    pub mailboxes: i64,
    /// Envelopes.
    pub envelopes: i64,
    /// Their bytes.
    pub bytes: i64,
    /// Remembered ids of collected envelopes.
    pub tombstones: i64,
    /// Rights in force.
    pub rights: i64,
}

impl Totals {
    /// With a change made.
    #[must_use]
    pub const fn plus(self, change: Self) -> Self {
        Self {
            mailboxes: self.mailboxes.saturating_add(change.mailboxes),
            envelopes: self.envelopes.saturating_add(change.envelopes),
            bytes: self.bytes.saturating_add(change.bytes),
            tombstones: self.tombstones.saturating_add(change.tombstones),
            rights: self.rights.saturating_add(change.rights),
        }
    }
}

/// As a signed number, for sums.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

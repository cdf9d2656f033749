//! What a device remembers: typed rows under typed keys.
//!
//! The Engine says *what* changes ([`Change`]) and asks by key or short range ([`Reader`]); a store alone decides how
//! rows become bytes, which indexes serve people's queries, and how values are sealed. A row carries its own key.

mod contact;
mod conversation;
mod delivery;
mod event;
mod own;
mod reader;
mod relay;
mod restoration;
mod session;
mod weight;

use serde::{Deserialize, Serialize};

pub use contact::{
    Contact, ContactState, Invite, InviteState, Owner, Peer, PeerDeviceList, PendingAccept, RelayRef,
};
pub use conversation::{
    Annotation, ClientEntry, Conversation, Entry, EntryKind, Head, Reaction, Stream, StreamEntry,
};
pub use delivery::{
    Custody, Delivery, Job, JobBody, Outbox, Proof, Rank, ReceivedFrontier, Sealed, Step, StepKind,
};
pub use event::{Event, EventBody};
pub use own::{Clock, Counters, Own, Settings, Telling};
pub use reader::{Overlay, ReadError, Reader};
pub use relay::{
    Canary, Carriage, Custodian, Grant, GrantOf, GrantState, MailboxFigures, OneTimeKey, Relay, RelayFigures,
    RelayState, SessionCopy,
};
pub use restoration::{Lost, Restoration};
pub use session::{Prekey, Replay, Seen, Session};

use crate::id::{
    AccountId, ClientId, ConversationId, DeviceId, EntryId, EnvelopeId, InviteId, RightId, SessionId,
    StreamId,
};

/// Names one row. The order of variants and parts is the order of ranges in memory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Key {
    /// [`Own`]: one row.
    Own,
    /// [`Settings`]: one row.
    Settings,
    /// [`Clock`]: one row.
    Clock,
    /// [`Counters`]: one row.
    Counters,
    /// [`Contact`].
    Contact(AccountId),
    /// [`Owner`]: which account a device belongs to.
    Owner(DeviceId),
    /// [`PeerDeviceList`].
    DeviceList(AccountId),
    /// [`Peer`]: one device of a contact.
    Peer(DeviceId),
    /// [`Invite`]: one of our own.
    Invite(InviteId),
    /// [`Session`].
    Session(DeviceId, SessionId),
    /// [`Prekey`]: one of our own.
    Prekey(u32),
    /// [`Replay`]: a base key already used with one of our prekeys.
    Replay([u8; 32]),
    /// [`Seen`]: an envelope already taken.
    Seen(EnvelopeId),
    /// [`Conversation`].
    Conversation(ConversationId),
    /// [`Entry`].
    Entry(EntryId),
    /// [`Stream`].
    Stream(StreamId),
    /// [`StreamEntry`]: the entry (two after a fork) with this number in a stream.
    StreamEntry(StreamId, u64, EntryId),
    /// [`Annotation`]: the second edits, deletes or reacts to the first.
    Annotation(EntryId, EntryId),
    /// [`ClientEntry`].
    Client(ClientId),
    /// [`Delivery`].
    Delivery(EntryId, DeviceId),
    /// [`Outbox`]: a device's queue.
    Outbox(DeviceId),
    /// [`Job`]: one place in a device's queue.
    Job(DeviceId, u64),
    /// [`ReceivedFrontier`]: what a device says it has of one of our streams.
    Frontier(DeviceId, StreamId),
    /// [`Event`], by its cursor.
    Event(u64),
    /// [`Relay`]: one of our own.
    Relay(DeviceId),
    /// [`Grant`]: a right at one of our own relays.
    Grant(DeviceId, RightId),
    /// [`OneTimeKey`], by its public key.
    OneTimeKey([u8; 32]),
    /// [`SessionCopy`], by the first number of its hole.
    SessionCopy(DeviceId, SessionId, u64),
    /// [`Carriage`]: what relays said of one job.
    Carriage(DeviceId, u64),
    /// [`Restoration`]: one row.
    Restoration,
    /// [`Telling`]: one row.
    Telling,
}

/// Rows read together, in key order where the last part is a number, otherwise in no promised order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum KeyRange {
    /// All [`Contact`]s.
    Contacts,
    /// All [`PeerDeviceList`]s.
    DeviceLists,
    /// All own [`Invite`]s.
    Invites,
    /// The [`Session`]s with one device.
    Sessions(DeviceId),
    /// All own [`Prekey`]s, by id.
    Prekeys,
    /// All [`Replay`] rows.
    Replays,
    /// All [`Seen`] rows.
    Seen,
    /// All [`Conversation`]s.
    Conversations,
    /// All [`Stream`]s.
    Streams,
    /// All [`Entry`] rows: for whole-store checks only, never for a page of history.
    Entries,
    /// The [`StreamEntry`] rows of one stream, by number.
    StreamEntries(StreamId),
    /// The [`StreamEntry`] rows with one number.
    StreamNumber(StreamId, u64),
    /// The [`Annotation`]s of one entry.
    Annotations(EntryId),
    /// The [`Delivery`] rows of one entry.
    Deliveries(EntryId),
    /// All [`Outbox`]es.
    Outboxes,
    /// One device's [`Job`]s, oldest first.
    Jobs(DeviceId),
    /// [`Event`]s by cursor.
    Events,
    /// All own [`Relay`]s.
    Relays,
    /// The [`Grant`]s at one relay.
    Grants(DeviceId),
    /// All [`OneTimeKey`]s.
    OneTimeKeys,
    /// The [`SessionCopy`] rows of all sessions with one device.
    SessionCopies(DeviceId),
    /// All [`SessionCopy`] rows.
    AllSessionCopies,
    /// The [`Carriage`] rows of one device's jobs, oldest first.
    Carriages(DeviceId),
}

macro_rules! rows {
    ($($variant:ident),* $(,)?) => {
        /// One row of any kind.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        pub enum Row {
            $(
                #[doc = concat!("A [`", stringify!($variant), "`] row.")]
                $variant(Box<$variant>)
            ),*
        }

        impl Row {
            /// The key this row stands under.
            #[must_use]
            pub fn key(&self) -> Key {
                match self {
                    $(Self::$variant(row) => row.key()),*
                }
            }
        }

        $(
            impl From<$variant> for Row {
                fn from(row: $variant) -> Self {
                    Self::$variant(Box::new(row))
                }
            }

            impl Record for $variant {
                fn from_row(row: Row) -> Option<Self> {
                    #[allow(clippy::wildcard_enum_match_arm, reason = "the macro names the one variant wanted")]
                    match row {
                        Row::$variant(row) => Some(*row),
                        _ => None,
                    }
                }
            }
        )*
    };
}

rows!(
    Own,
    Settings,
    Clock,
    Counters,
    Contact,
    Owner,
    PeerDeviceList,
    Peer,
    Invite,
    Session,
    Prekey,
    Replay,
    Seen,
    Conversation,
    Entry,
    Stream,
    StreamEntry,
    Annotation,
    ClientEntry,
    Delivery,
    Outbox,
    Job,
    ReceivedFrontier,
    Event,
    Relay,
    Grant,
    OneTimeKey,
    SessionCopy,
    Carriage,
    Restoration,
    Telling,
);

/// A kind of row, for typed reads.
pub trait Record: Into<Row> + Sized {
    /// The row as this kind, if it is one.
    fn from_row(row: Row) -> Option<Self>;
}

/// One step of a batch. Later steps win over earlier ones under the same key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Change {
    /// Writes a row over whatever stood under its key.
    Put(Row),
    /// Removes a row, if there is one.
    Delete(Key),
}

impl Change {
    /// The key this change touches.
    #[must_use]
    pub fn key(&self) -> Key {
        match self {
            Self::Put(row) => row.key(),
            Self::Delete(key) => key.clone(),
        }
    }
}

impl KeyRange {
    /// Whether a key lies in this range.
    #[must_use]
    pub fn contains(&self, key: &Key) -> bool {
        match (self, key) {
            (Self::Contacts, Key::Contact(_))
            | (Self::DeviceLists, Key::DeviceList(_))
            | (Self::Invites, Key::Invite(_))
            | (Self::Prekeys, Key::Prekey(_))
            | (Self::Replays, Key::Replay(_))
            | (Self::Seen, Key::Seen(_))
            | (Self::Conversations, Key::Conversation(_))
            | (Self::Streams, Key::Stream(_))
            | (Self::Entries, Key::Entry(_))
            | (Self::Outboxes, Key::Outbox(_))
            | (Self::Events, Key::Event(_))
            | (Self::Relays, Key::Relay(_))
            | (Self::OneTimeKeys, Key::OneTimeKey(_))
            | (Self::AllSessionCopies, Key::SessionCopy(..)) => true,
            (Self::Sessions(a), Key::Session(b, _))
            | (Self::Jobs(a), Key::Job(b, _))
            | (Self::Grants(a), Key::Grant(b, _))
            | (Self::SessionCopies(a), Key::SessionCopy(b, _, _))
            | (Self::Carriages(a), Key::Carriage(b, _)) => a == b,
            (Self::StreamEntries(a), Key::StreamEntry(b, _, _)) => a == b,
            (Self::StreamNumber(a, n), Key::StreamEntry(b, m, _)) => a == b && n == m,
            (Self::Annotations(a), Key::Annotation(b, _)) | (Self::Deliveries(a), Key::Delivery(b, _)) => {
                a == b
            }
            _ => false,
        }
    }

    /// The first and the last key that can lie in the range.
    #[must_use]
    pub(crate) fn bounds(&self) -> (Key, Key) {
        const LOW: [u8; 32] = [0; 32];
        const HIGH: [u8; 32] = [0xff; 32];
        match self {
            Self::Contacts => (Key::Contact(AccountId(LOW)), Key::Contact(AccountId(HIGH))),
            Self::DeviceLists => (Key::DeviceList(AccountId(LOW)), Key::DeviceList(AccountId(HIGH))),
            Self::Invites => (Key::Invite(InviteId([0; 8])), Key::Invite(InviteId([0xff; 8]))),
            Self::Sessions(device) => {
                (Key::Session(*device, SessionId([0; 16])), Key::Session(*device, SessionId([0xff; 16])))
            }
            Self::Prekeys => (Key::Prekey(0), Key::Prekey(u32::MAX)),
            Self::Replays => (Key::Replay(LOW), Key::Replay(HIGH)),
            Self::Seen => (Key::Seen(EnvelopeId([0; 16])), Key::Seen(EnvelopeId([0xff; 16]))),
            Self::Conversations => {
                (Key::Conversation(ConversationId(LOW)), Key::Conversation(ConversationId(HIGH)))
            }
            Self::Streams => (Key::Stream(StreamId([0; 16])), Key::Stream(StreamId([0xff; 16]))),
            Self::Entries => (Key::Entry(EntryId(LOW)), Key::Entry(EntryId(HIGH))),
            Self::StreamEntries(stream) => (
                Key::StreamEntry(*stream, 0, EntryId(LOW)),
                Key::StreamEntry(*stream, u64::MAX, EntryId(HIGH)),
            ),
            Self::StreamNumber(stream, number) => (
                Key::StreamEntry(*stream, *number, EntryId(LOW)),
                Key::StreamEntry(*stream, *number, EntryId(HIGH)),
            ),
            Self::Annotations(entry) => {
                (Key::Annotation(*entry, EntryId(LOW)), Key::Annotation(*entry, EntryId(HIGH)))
            }
            Self::Deliveries(entry) => {
                (Key::Delivery(*entry, DeviceId(LOW)), Key::Delivery(*entry, DeviceId(HIGH)))
            }
            Self::Outboxes => (Key::Outbox(DeviceId(LOW)), Key::Outbox(DeviceId(HIGH))),
            Self::Jobs(device) => (Key::Job(*device, 0), Key::Job(*device, u64::MAX)),
            Self::Events => (Key::Event(0), Key::Event(u64::MAX)),
            Self::Relays => (Key::Relay(DeviceId(LOW)), Key::Relay(DeviceId(HIGH))),
            Self::Grants(relay) => {
                (Key::Grant(*relay, RightId([0; 16])), Key::Grant(*relay, RightId([0xff; 16])))
            }
            Self::OneTimeKeys => (Key::OneTimeKey(LOW), Key::OneTimeKey(HIGH)),
            Self::SessionCopies(device) => copies(*device, *device),
            Self::AllSessionCopies => copies(DeviceId(LOW), DeviceId(HIGH)),
            Self::Carriages(device) => (Key::Carriage(*device, 0), Key::Carriage(*device, u64::MAX)),
        }
    }
}

/// All keys of session copies from one device to another.
const fn copies(first: DeviceId, last: DeviceId) -> (Key, Key) {
    (Key::SessionCopy(first, SessionId([0; 16]), 0), Key::SessionCopy(last, SessionId([0xff; 16]), u64::MAX))
}

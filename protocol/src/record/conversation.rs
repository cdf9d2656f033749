//! Rows of conversations: entries, the streams they are numbered in, and what points at them.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Custody, Key, Rank};
use crate::id::{AccountId, ClientId, ConversationId, DeviceId, EntryId, StreamId};
use crate::time::Wall;

/// A conversation as this device sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Conversation {
    /// Its id.
    pub id: ConversationId,
    /// The other person of a direct conversation (our own account: notes).
    pub with: AccountId,
    /// Our own stream in it, once we wrote.
    pub own_stream: Option<StreamId>,
    /// All streams seen in it, oldest first.
    pub streams: Vec<StreamId>,
    /// Newest entries that no known entry names as parent.
    pub heads: Vec<Head>,
    /// Order of the newest visible entry.
    pub last_order: u64,
    /// When that entry came or was written here.
    pub last_activity: Wall,
    /// Incoming visible entries not yet read.
    pub unread: u64,
    /// Everything up to this place was displayed.
    pub read_up_to: u64,
}

/// An entry without known children.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Head {
    /// Its order.
    pub order: u64,
    /// The entry.
    pub entry: EntryId,
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EntryKind {
    /// A message.
    Text,
    /// Changes the text of one of the author's messages.
    Edit,
    /// Takes one of the author's messages back, for everyone.
    Delete,
    /// A reaction to a message.
    Reaction,
    /// Made by a newer Kith: kept whole, shown as such.
    Unknown,
}

/// One entry of a conversation's log, with what later entries made of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Hash of `bytes`.
    pub id: EntryId,
    /// Its conversation.
    pub conversation: ConversationId,
    /// Who wrote it.
    pub author: AccountId,
    /// On which device.
    pub device: DeviceId,
    /// In which of the device's streams.
    pub stream: StreamId,
    /// With which number.
    pub number: u64,
    /// The place in the conversation: (order, device, id), equal on all devices.
    pub order: u64,
    /// The author's wall clock.
    pub time: Wall,
    /// When it was written or stored here.
    pub stored: Wall,
    /// Canonical bytes, as the author encoded them; emptied when deleted.
    pub bytes: Bytes,
    /// What it is.
    pub kind: EntryKind,
    /// Shown in the conversation (a message), not merely applied to another entry.
    pub visible: bool,
    /// Current text: after edits, empty after a delete.
    pub text: String,
    /// The message this one answers.
    pub reply_to: Option<EntryId>,
    /// Place and id of the edit in force.
    pub edited: Option<(u64, EntryId)>,
    /// Taken back by its author.
    pub deleted: bool,
    /// Reactions in force.
    pub reactions: Vec<Reaction>,
    /// Came after later entries were already shown.
    pub late: bool,
    /// Our own entry, given back by the other side after this device lost it.
    pub recovered: bool,
    /// Own: the shown rank, never lowered. Incoming: Delivered or Read.
    pub rank: Rank,
    /// Own: custody of the least advanced recipient device.
    pub custody: Custody,
}

/// One account's reaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reaction {
    /// Who reacted.
    pub account: AccountId,
    /// With what; empty when taken back (kept so that the newest wins).
    pub emoji: String,
    /// Place and id of the reaction in force.
    pub at: (u64, EntryId),
}

/// One device's numbered sequence of entries in one conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stream {
    /// The stream.
    pub id: StreamId,
    /// The device that writes it.
    pub device: DeviceId,
    /// That device's account.
    pub account: AccountId,
    /// The conversation.
    pub conversation: ConversationId,
    /// Highest number with no gap below it (own stream: the last written).
    pub gapless: u64,
    /// Id of the entry with that number; zero bytes if that number is void or none.
    pub gapless_id: EntryId,
    /// Held beyond a gap: (first, count), ascending, apart.
    pub beyond: Vec<(u64, u64)>,
    /// Highest gapless number whose entries were all displayed.
    pub read: u64,
    /// Two entries with one number were seen.
    pub forked: bool,
    /// Own stream that must not be written any more (this device was rolled back).
    pub closed: bool,
}

/// Which entry has a number in a stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StreamEntry {
    /// The stream.
    pub stream: StreamId,
    /// The number.
    pub number: u64,
    /// The entry; zero bytes say that its author declared the number void.
    pub entry: EntryId,
}

/// An entry that edits, deletes or reacts to another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Annotation {
    /// The entry spoken of, which may not have come yet.
    pub target: EntryId,
    /// The entry that speaks.
    pub by: EntryId,
}

/// The entry a program's own id already stands for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClientEntry {
    /// The program's id.
    pub client: ClientId,
    /// The entry.
    pub entry: EntryId,
}

impl Conversation {
    pub(super) fn key(&self) -> Key {
        Key::Conversation(self.id)
    }
}

impl Entry {
    pub(super) fn key(&self) -> Key {
        Key::Entry(self.id)
    }

    /// The place in its conversation.
    #[must_use]
    pub fn place(&self) -> (u64, DeviceId, EntryId) {
        (self.order, self.device, self.id)
    }
}

impl Stream {
    pub(super) fn key(&self) -> Key {
        Key::Stream(self.id)
    }
}

impl StreamEntry {
    pub(super) fn key(&self) -> Key {
        Key::StreamEntry(self.stream, self.number, self.entry)
    }
}

impl Annotation {
    pub(super) fn key(&self) -> Key {
        Key::Annotation(self.target, self.by)
    }
}

impl ClientEntry {
    pub(super) fn key(&self) -> Key {
        Key::Client(self.client)
    }
}

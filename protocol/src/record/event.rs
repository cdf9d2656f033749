//! Rows of the event log that programs follow.

use serde::{Deserialize, Serialize};

use super::{ContactState, Custody, Key, Rank};
use crate::id::{AccountId, ConversationId, DeviceId, EntryId};
use crate::time::Wall;

/// Something that happened, numbered, stored in the batch that causes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Its number; a program resumes after it.
    pub cursor: u64,
    /// When.
    pub at: Wall,
    /// What.
    pub body: EventBody,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum EventBody {
    /// A message was written or came in.
    Message {
        /// Where.
        conversation: ConversationId,
        /// The message.
        entry: EntryId,
        /// Who wrote it.
        author: AccountId,
    },
    /// A message's text, reactions or existence changed.
    Changed {
        /// Where.
        conversation: ConversationId,
        /// The message.
        entry: EntryId,
    },
    /// A message's shown rank rose.
    Status {
        /// Where.
        conversation: ConversationId,
        /// The message.
        entry: EntryId,
        /// Its rank now.
        rank: Rank,
        /// Its custody now.
        custody: Custody,
    },
    /// Incoming messages were displayed here.
    Read {
        /// Where.
        conversation: ConversationId,
        /// Unread ones left.
        unread: u64,
    },
    /// A contact appeared, changed its state, name or devices.
    Contact {
        /// Who.
        account: AccountId,
        /// Where the contact stands.
        state: ContactState,
    },
    /// Something a person should know.
    Notice {
        /// Whom it concerns.
        account: Option<AccountId>,
        /// Which device it concerns.
        device: Option<DeviceId>,
        /// Which message it concerns.
        entry: Option<EntryId>,
        /// A stable word for programs: `repair`, `rolled-back`, `new-device`, `expired`, `rejected`, `fork`, `unreadable`, `refused`, `invite-refused`, `restored`.
        code: String,
        /// One sentence for people.
        text: String,
    },
}

impl Event {
    pub(super) fn key(&self) -> Key {
        Key::Event(self.cursor)
    }
}

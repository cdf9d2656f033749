//! Messages, where they stand, and their journeys.

use std::fmt;

use kith_protocol::record::{Custody, EntryKind, Rank, StepKind};
use kith_protocol::{AccountId, ClientId, ConversationId, DeviceId, EntryId};
use serde::{Deserialize, Serialize};

use super::text::{Timestamp, hex, hex_option};

/// Where a message stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// On this device's disk, with a job.
    Queued,
    /// In custody of fewer relays than *Sent* needs.
    Carried,
    /// In signed custody of enough relays.
    Sent,
    /// On the recipient's disk.
    Delivered,
    /// Displayed there.
    Read,
    /// Nobody confirmed it within its time to live.
    Expired,
    /// The recipient does not take it.
    Rejected,
}

impl Status {
    /// The word scripts see.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Carried => "carried",
            Self::Sent => "sent",
            Self::Delivered => "delivered",
            Self::Read => "read",
            Self::Expired => "expired",
            Self::Rejected => "rejected",
        }
    }

    /// Whether this meets a wish for `wanted`: a success status at or above it.
    #[must_use]
    pub fn meets(self, wanted: Self) -> bool {
        match (self.success(), wanted.success()) {
            (Some(have), Some(want)) => have >= want,
            _ => self == wanted,
        }
    }

    /// Nothing more will happen by itself, and it did not arrive.
    #[must_use]
    pub const fn failed(self) -> bool {
        matches!(self, Self::Expired | Self::Rejected)
    }

    const fn success(self) -> Option<u8> {
        match self {
            Self::Queued => Some(0),
            Self::Carried => Some(1),
            Self::Sent => Some(2),
            Self::Delivered => Some(3),
            Self::Read => Some(4),
            Self::Expired | Self::Rejected => None,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl From<Rank> for Status {
    fn from(rank: Rank) -> Self {
        match rank {
            Rank::Queued => Self::Queued,
            Rank::Carried => Self::Carried,
            Rank::Sent => Self::Sent,
            Rank::Expired => Self::Expired,
            Rank::Rejected => Self::Rejected,
            Rank::Delivered => Self::Delivered,
            Rank::Read => Self::Read,
        }
    }
}

/// Which way a message went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// To us.
    In,
    /// From us (from any of our devices).
    Out,
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A message.
    Text,
    /// A changed text.
    Edit,
    /// A message taken back.
    Delete,
    /// A reaction.
    Reaction,
    /// Made by a newer Kith.
    Unknown,
}

impl From<EntryKind> for Kind {
    fn from(kind: EntryKind) -> Self {
        match kind {
            EntryKind::Text => Self::Text,
            EntryKind::Edit => Self::Edit,
            EntryKind::Delete => Self::Delete,
            EntryKind::Reaction => Self::Reaction,
            EntryKind::Unknown => Self::Unknown,
        }
    }
}

/// Relays that signed for a message, out of those asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CustodyView {
    /// Have signed.
    pub have: u32,
    /// Were asked.
    pub of: u32,
}

impl From<Custody> for CustodyView {
    fn from(custody: Custody) -> Self {
        Self { have: custody.have, of: custody.of }
    }
}

/// One reaction in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReactionView {
    /// Who reacted.
    #[serde(with = "hex")]
    pub account: AccountId,
    /// With what.
    pub emoji: String,
}

/// The newest edit or deletion of one's own message: it travels by itself, after the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeView {
    /// The entry that changes the message; its journey is that of any message.
    #[serde(with = "hex")]
    pub id: EntryId,
    /// Where it stands. Until it is delivered the other side sees what was there before.
    pub status: Status,
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageView {
    /// The message.
    #[serde(with = "hex")]
    pub id: EntryId,
    /// Its conversation.
    #[serde(with = "hex")]
    pub conversation: ConversationId,
    /// The other person of the conversation.
    #[serde(with = "hex")]
    pub with: AccountId,
    /// Who wrote it.
    #[serde(with = "hex")]
    pub author: AccountId,
    /// The author's name as shown here.
    pub author_name: String,
    /// Which way it went.
    pub direction: Direction,
    /// What it is.
    pub kind: Kind,
    /// Its text after edits; empty once deleted.
    pub text: String,
    /// The author's clock.
    pub time: Timestamp,
    /// When it was stored here.
    pub stored: Timestamp,
    /// Where it stands; an incoming one is delivered or read.
    pub status: Status,
    /// Custody of the least advanced recipient device.
    pub custody: CustodyView,
    /// Came after later messages were already shown.
    pub late: bool,
    /// Our own, given back by the other side after this device lost it.
    pub recovered: bool,
    /// The message it answers.
    #[serde(with = "hex_option")]
    pub reply_to: Option<EntryId>,
    /// The text was changed by its author.
    pub edited: bool,
    /// Taken back by its author.
    pub deleted: bool,
    /// Own: where the edit or the deletion in force stands; `status` is that of the message as it was first written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<ChangeView>,
    /// Reactions in force.
    pub reactions: Vec<ReactionView>,
}

/// A conversation in the list, newest activity first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConversationView {
    /// The conversation.
    #[serde(with = "hex")]
    pub id: ConversationId,
    /// The other person.
    #[serde(with = "hex")]
    pub with: AccountId,
    /// The name to show.
    pub name: String,
    /// Incoming messages not yet read.
    pub unread: u64,
    /// When something last came or was written.
    pub last_activity: Timestamp,
    /// The newest message, if any.
    pub last: Option<MessageView>,
}

/// One of several messages to write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Draft {
    /// What it says.
    pub text: String,
    /// Makes submitting again harmless.
    #[serde(with = "hex_option", default)]
    pub client: Option<ClientId>,
}

/// A message was accepted: it is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentView {
    /// The message.
    #[serde(with = "hex")]
    pub id: EntryId,
    /// Its conversation.
    #[serde(with = "hex")]
    pub conversation: ConversationId,
    /// Where it stands.
    pub status: Status,
    /// The client id was used before: this is the message it stands for.
    pub repeated: bool,
}

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitView {
    /// The message.
    #[serde(with = "hex")]
    pub id: EntryId,
    /// Where it stands now.
    pub status: Status,
    /// The status waited for, or a success above it, was reached.
    pub reached: bool,
}

/// The story of a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JourneyView {
    /// The message.
    #[serde(with = "hex")]
    pub id: EntryId,
    /// Its conversation.
    #[serde(with = "hex")]
    pub conversation: ConversationId,
    /// Which way it went.
    pub direction: Direction,
    /// Where it stands.
    pub status: Status,
    /// Custody of the least advanced recipient device.
    pub custody: CustodyView,
    /// The story towards each recipient device.
    pub devices: Vec<DeviceJourneyView>,
}

/// The story of a message towards one device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceJourneyView {
    /// Whose device.
    #[serde(with = "hex")]
    pub account: AccountId,
    /// The name of that person as shown here.
    pub name: String,
    /// The device.
    #[serde(with = "hex")]
    pub device: DeviceId,
    /// How far it has come.
    pub status: Status,
    /// What happened, oldest first.
    pub steps: Vec<StepView>,
}

/// One step of a journey.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepView {
    /// When.
    pub at: Timestamp,
    /// What happened: `queued`, `sealed`, `sent-direct`, `link-lost`, `delivered`, `read`, `repair-asked`,
    /// `resealed`, `rejected`, `expired`, `custody`, `relay-refused`, `relay-unreachable`, `collected`.
    pub what: String,
    /// More, for people; may be empty.
    pub detail: String,
}

/// The stable word of a step.
pub(crate) const fn step_word(kind: StepKind) -> &'static str {
    match kind {
        StepKind::Queued => "queued",
        StepKind::Sealed => "sealed",
        StepKind::SentDirect => "sent-direct",
        StepKind::LinkLost => "link-lost",
        StepKind::Delivered => "delivered",
        StepKind::Read => "read",
        StepKind::RepairAsked => "repair-asked",
        StepKind::Resealed => "resealed",
        StepKind::Rejected => "rejected",
        StepKind::Expired => "expired",
        StepKind::Custody => "custody",
        StepKind::RelayRefused => "relay-refused",
        StepKind::RelayUnreachable => "relay-unreachable",
        StepKind::Collected => "collected",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_never_meets_a_wish_for_success() {
        assert!(Status::Read.meets(Status::Delivered));
        assert!(Status::Delivered.meets(Status::Sent));
        assert!(!Status::Sent.meets(Status::Delivered));
        assert!(!Status::Rejected.meets(Status::Queued));
        assert!(!Status::Expired.meets(Status::Delivered));
    }
}

//! What programs see: plain values with the field names that scripts rely on.

use std::fmt;
use std::str::FromStr;

use kith_protocol::record::{ContactState, Custody, EntryKind, InviteState, Rank, StepKind};
use kith_protocol::{AccountId, ConversationId, DeviceId, EntryId, InviteId, Wall};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;

/// Ids as lower-case hex.
pub(crate) mod hex {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<T: Display, S: Serializer>(id: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(id)
    }

    pub(crate) fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        T: FromStr,
        T::Err: Display,
        D: Deserializer<'de>,
    {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Optional ids as lower-case hex or null.
pub(crate) mod hex_option {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<T: Display, S: Serializer>(
        id: &Option<T>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match id {
            Some(id) => serializer.collect_str(id),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
    where
        T: FromStr,
        T::Err: Display,
        D: Deserializer<'de>,
    {
        Option::<String>::deserialize(deserializer)?
            .map(|text| text.parse().map_err(serde::de::Error::custom))
            .transpose()
    }
}

/// An instant; shown and serialised as RFC 3339 UTC with milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(
    /// Milliseconds since the Unix epoch.
    pub u64,
);

const FORMAT: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

impl From<Wall> for Timestamp {
    fn from(wall: Wall) -> Self {
        Self(wall.0)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // a far-future instant of a careless author is shown as the last one that has a name
        let text = OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000_000)
            .ok()
            .and_then(|at| at.format(FORMAT).ok());
        f.write_str(text.as_deref().unwrap_or("9999-12-31T23:59:59.999Z"))
    }
}

impl FromStr for Timestamp {
    type Err = time::error::Parse;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let at = OffsetDateTime::parse(text, &Rfc3339)?;
        Ok(Self(u64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or(0)))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

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
    /// Reactions in force.
    pub reactions: Vec<ReactionView>,
}

/// Where a contact stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ContactStatus {
    /// We accepted their invite; their answer has not come yet.
    Waiting,
    /// Both sides know each other.
    Accepted,
    /// They refused: the invite was used up, expired or revoked.
    Refused,
    /// The invite expired before our acceptance reached them.
    Expired,
    /// We blocked them.
    Blocked,
    /// We removed them.
    Removed,
}

impl ContactStatus {
    /// The word scripts see.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Accepted => "accepted",
            Self::Refused => "refused",
            Self::Expired => "expired",
            Self::Blocked => "blocked",
            Self::Removed => "removed",
        }
    }
}

impl fmt::Display for ContactStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl From<ContactState> for ContactStatus {
    fn from(state: ContactState) -> Self {
        match state {
            ContactState::Waiting => Self::Waiting,
            ContactState::Accepted => Self::Accepted,
            ContactState::Refused => Self::Refused,
            ContactState::Expired => Self::Expired,
            ContactState::Blocked => Self::Blocked,
            ContactState::Removed => Self::Removed,
        }
    }
}

/// A person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContactView {
    /// The person's account.
    #[serde(with = "hex")]
    pub account: AccountId,
    /// The name shown here: ours for them, else theirs, else the start of the account id.
    pub name: String,
    /// The name they gave themselves.
    pub profile_name: String,
    /// The name we gave them.
    pub own_name: Option<String>,
    /// Their line about themselves.
    pub about: String,
    /// Where the contact stands.
    pub state: ContactStatus,
    /// Connected now.
    pub online: bool,
    /// Safety numbers were compared.
    pub verified: bool,
    /// Read receipts to this person; null follows the general setting.
    pub read_receipts: Option<bool>,
    /// When the contact was made.
    pub since: Timestamp,
    /// Last time any of their devices was connected.
    pub last_seen: Option<Timestamp>,
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

/// Who can use an invite, judged by the addresses it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reach {
    /// It holds a global address.
    Internet,
    /// Addresses of a local network only.
    Network,
    /// Addresses of this machine only.
    Machine,
    /// No address: both need the same local network or a common bootstrap node.
    Nowhere,
}

/// A new invite.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InviteView {
    /// Its id, for revoking.
    #[serde(with = "hex")]
    pub id: InviteId,
    /// `KITH:…`
    pub uri: String,
    /// When it ends.
    pub expires: Timestamp,
    /// How many people may use it.
    pub uses: u32,
    /// Who can use it.
    pub reach: Reach,
}

/// Where one of our invites stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InviteStatus {
    /// Can be used.
    Live,
    /// All uses are spent.
    Used,
    /// Its time is over.
    Expired,
    /// We took it back.
    Revoked,
}

impl From<InviteState> for InviteStatus {
    fn from(state: InviteState) -> Self {
        match state {
            InviteState::Live => Self::Live,
            InviteState::Used => Self::Used,
            InviteState::Expired => Self::Expired,
            InviteState::Revoked => Self::Revoked,
        }
    }
}

/// One of our invites in the list; the link itself is not shown again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InviteListView {
    /// Its id.
    #[serde(with = "hex")]
    pub id: InviteId,
    /// Where it stands.
    pub state: InviteStatus,
    /// When it was made.
    pub created: Timestamp,
    /// When it ends.
    pub expires: Timestamp,
    /// Uses left.
    pub uses: u32,
    /// Uses at the start.
    pub uses_total: u32,
    /// Names of the people who used it.
    pub used_by: Vec<String>,
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
    /// `resealed`, `rejected`, `expired`.
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
    }
}

/// This device and its person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfileView {
    /// The account.
    #[serde(with = "hex")]
    pub account: AccountId,
    /// This device.
    #[serde(with = "hex")]
    pub device: DeviceId,
    /// This device's libp2p name.
    pub peer_id: String,
    /// The name contacts see.
    pub name: String,
    /// The line contacts see.
    pub about: String,
}

/// What the person chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingsView {
    /// Authors are told that their messages were read.
    pub read_receipts: bool,
    /// Contacts are told while we type.
    pub typing: bool,
}

/// How the running node stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeView {
    /// The account.
    #[serde(with = "hex")]
    pub account: AccountId,
    /// This device.
    #[serde(with = "hex")]
    pub device: DeviceId,
    /// This device's libp2p name.
    pub peer_id: String,
    /// The name contacts see.
    pub name: String,
    /// Addresses the node listens on, each ending in its `/p2p` part.
    pub addresses: Vec<String>,
    /// Where this device's directory record stands, in hex.
    pub directory_key: String,
    /// Connected libp2p peers.
    pub peers: usize,
    /// Contacts with a connected device.
    pub contacts_online: usize,
    /// Relays that hold our mailboxes.
    pub relays: Vec<String>,
    /// `public`, `private` or `unknown`.
    pub reachability: String,
    /// Messages still on their way from here.
    pub queued: u64,
    /// A node runs. False when the data folder was only read.
    pub running: bool,
}

/// The safety number with a contact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SafetyView {
    /// The contact.
    #[serde(with = "hex")]
    pub account: AccountId,
    /// The contact's name as shown here.
    pub name: String,
    /// Sixty digits, in groups of five.
    pub number: String,
    /// It was compared before.
    pub verified: bool,
}

/// One event of the log, or a happening that is told and forgotten.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventView {
    /// Resume after this number. Happenings that are not stored carry that of the stored event before them.
    pub cursor: u64,
    /// When.
    pub time: Timestamp,
    /// What.
    #[serde(flatten)]
    pub body: EventBodyView,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
#[non_exhaustive]
pub enum EventBodyView {
    /// A message was written or came in.
    Message {
        /// As it stands now.
        message: Box<MessageView>,
    },
    /// A message's text, reactions or existence changed.
    Changed {
        /// As it stands now.
        message: Box<MessageView>,
    },
    /// A message's status rose.
    Status {
        /// The message.
        #[serde(with = "hex")]
        id: EntryId,
        /// Where.
        #[serde(with = "hex")]
        conversation: ConversationId,
        /// Its status.
        status: Status,
        /// Its custody.
        custody: CustodyView,
    },
    /// Incoming messages were displayed here.
    Read {
        /// Where.
        #[serde(with = "hex")]
        conversation: ConversationId,
        /// Unread ones left.
        unread: u64,
    },
    /// A contact appeared or changed.
    Contact {
        /// As it stands now.
        contact: Box<ContactView>,
    },
    /// A contact came on-line or went.
    Online {
        /// Who.
        #[serde(with = "hex")]
        account: AccountId,
        /// The name shown here.
        name: String,
        /// Connected now.
        online: bool,
    },
    /// A contact is typing, or stopped.
    Typing {
        /// Where.
        #[serde(with = "hex")]
        conversation: ConversationId,
        /// Who.
        #[serde(with = "hex")]
        account: AccountId,
        /// Typing now.
        active: bool,
    },
    /// Something a person should know.
    Notice {
        /// A stable word for programs.
        code: String,
        /// One sentence for people.
        text: String,
        /// Whom it concerns.
        #[serde(with = "hex_option", default)]
        account: Option<AccountId>,
        /// Which device it concerns.
        #[serde(with = "hex_option", default)]
        device: Option<DeviceId>,
        /// Which message it concerns.
        #[serde(with = "hex_option", default)]
        id: Option<EntryId>,
    },
    /// The cursor asked for is older than what is kept, or from another life of this store: fetch lists and history
    /// anew, then go on after this cursor.
    Resync {},
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_rfc3339_utc_with_milliseconds() {
        assert_eq!(Timestamp(0).to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!(Timestamp(1_700_000_000_123).to_string(), "2023-11-14T22:13:20.123Z");
        assert_eq!("2023-11-14T22:13:20.123Z".parse::<Timestamp>().unwrap(), Timestamp(1_700_000_000_123));
        assert_eq!(Timestamp(u64::MAX).to_string(), "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn a_failure_never_meets_a_wish_for_success() {
        assert!(Status::Read.meets(Status::Delivered));
        assert!(Status::Delivered.meets(Status::Sent));
        assert!(!Status::Sent.meets(Status::Delivered));
        assert!(!Status::Rejected.meets(Status::Queued));
        assert!(!Status::Expired.meets(Status::Delivered));
    }

    #[test]
    fn an_event_is_one_flat_object() {
        let id = EntryId([7; 32]);
        let view = EventView {
            cursor: 3,
            time: Timestamp(0),
            body: EventBodyView::Status {
                id,
                conversation: ConversationId([1; 32]),
                status: Status::Delivered,
                custody: CustodyView::default(),
            },
        };
        let json = serde_json::to_value(&view).unwrap();
        assert_eq!(json["type"], "status");
        assert_eq!(json["status"], "delivered");
        assert_eq!(json["id"], id.to_string());
        assert_eq!(json["custody"]["of"], 0);
        assert_eq!(serde_json::from_value::<EventView>(json).unwrap(), view);
        let resync = EventView { cursor: 9, time: Timestamp(0), body: EventBodyView::Resync {} };
        assert_eq!(serde_json::to_value(&resync).unwrap()["type"], "resync");
    }
}

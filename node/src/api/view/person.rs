//! Contacts, invites, oneself and one's node.

use std::fmt;

use kith_protocol::engine::ClockReport;
use kith_protocol::record::{ContactState, InviteState};
use kith_protocol::{AccountId, DeviceId, InviteId};
use serde::{Deserialize, Serialize};

use super::relay::RelayView;
use super::restored::RestoredView;
use super::text::{Timestamp, hex};

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
    /// Why they did not take our acceptance of their invite, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// When the contact was made.
    pub since: Timestamp,
    /// Last time any of their devices was connected.
    pub last_seen: Option<Timestamp>,
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
    /// How many relays it names: with one or more, the two need not be on-line at the same time.
    pub relays: usize,
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

/// What the clocks of other devices, contacts' and relays', say of this machine's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockView {
    /// Devices that told their time since the start; at most 16 are counted.
    pub heard: usize,
    /// Those of them whose clock is more than two minutes off this machine's.
    pub differing: usize,
    /// The middle one of all, milliseconds ahead of this machine's; negative if it is behind.
    pub ahead_ms: i64,
    /// This machine's clock jumped by more than a day and not enough others agree with it yet: nothing expires meanwhile.
    pub doubted: bool,
}

impl From<ClockReport> for ClockView {
    fn from(report: ClockReport) -> Self {
        let ClockReport { heard, differing, ahead, doubted } = report;
        Self { heard, differing, ahead_ms: ahead, doubted }
    }
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
    /// Our relays: they keep what is sent to us while we are off-line.
    pub relays: Vec<RelayView>,
    /// `public`, `private` or `unknown`.
    pub reachability: String,
    /// Messages still on their way from here.
    pub queued: u64,
    /// A node runs. False when the data folder was only read.
    pub running: bool,
    /// What others' clocks say of this machine's, while the node runs.
    #[serde(default)]
    pub clock: Option<ClockView>,
    /// What a restore of the damaged store lost, until the person takes note of it or 30 days are over.
    #[serde(default)]
    pub restored: Option<RestoredView>,
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

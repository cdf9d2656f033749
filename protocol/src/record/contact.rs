//! Rows about other people, their devices, and invites.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Key;
use crate::id::{AccountId, Address, DeviceId, InviteId, MailboxId};
use crate::secret::Secret32;
use crate::time::Wall;

/// Where a contact stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ContactState {
    /// We accepted their invite; their welcome has not come yet.
    Waiting,
    /// Both sides know each other.
    Accepted,
    /// They refused our acceptance: the invite was used up, expired or revoked.
    Refused,
    /// Our acceptance did not reach them before the invite expired.
    Expired,
    /// We blocked them.
    Blocked,
    /// We removed them; kept so that their devices get an honest refusal.
    Removed,
}

/// A person.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Contact {
    /// The person's account.
    pub account: AccountId,
    /// The name they gave themselves (unverified until a welcome came).
    pub name: String,
    /// Their line about themselves.
    pub about: String,
    /// The name we gave them.
    pub own_name: Option<String>,
    /// Where the contact stands.
    pub state: ContactState,
    /// We compared safety numbers.
    pub verified: bool,
    /// Read receipts to this person: `None` follows the general setting.
    pub read_receipts: Option<bool>,
    /// When the row was made.
    pub since: Wall,
    /// Last time any of their devices was connected.
    pub last_seen: Option<Wall>,
    /// Their key that opens their directory records.
    pub contact_key: Option<Secret32>,
    /// Our acceptance on its way, while waiting.
    pub pending: Option<PendingAccept>,
    /// State to go back to when unblocked.
    pub before_block: Option<ContactState>,
    /// The devices messages are meant for: those of the newest list, or the inviting device while waiting.
    pub devices: Vec<DeviceId>,
}

/// What an acceptance needs until the welcome comes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PendingAccept {
    /// The invite, in its binary form.
    pub invite: Bytes,
    /// Why it was refused, once it was: the wire's reason number.
    pub refused: Option<u32>,
}

/// Which account a device belongs to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Owner {
    /// The device.
    pub device: DeviceId,
    /// Its account.
    pub account: AccountId,
}

/// An account's newest device list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PeerDeviceList {
    /// The account.
    pub account: AccountId,
    /// Its version.
    pub version: u64,
    /// As signed.
    pub list: Bytes,
    /// A list with the same version but another content was seen: two lists signed by one account.
    pub forked: bool,
}

/// One device of a contact.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Peer {
    /// The device.
    pub device: DeviceId,
    /// Its account.
    pub account: AccountId,
    /// The right we gave it: it seals headers to us with this.
    pub right_given: Secret32,
    /// The right it gave us: we seal headers to it with this.
    pub right_received: Option<Secret32>,
    /// Where it was reached or said it can be reached, best first.
    pub addresses: Vec<Address>,
    /// Relays that hold its mailbox.
    pub relays: Vec<RelayRef>,
    /// Week number of `week_keys[0]`.
    pub first_week: u64,
    /// Public keys under which its weekly directory records stand.
    pub week_keys: Vec<[u8; 32]>,
    /// Highest directory sequence number accepted.
    pub directory_seq: u64,
    /// It was given our weekly directory keys up to this week (exclusive).
    pub weeks_given_until: u64,
    /// When we last asked it for a repair.
    pub repair_asked: Option<Wall>,
    /// When we last served it a repair.
    pub repair_served: Option<Wall>,
    /// When it was first seen.
    pub first_seen: Wall,
}

/// A relay that holds a mailbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayRef {
    /// The relay's Ed25519 key.
    pub relay: DeviceId,
    /// The mailbox at that relay.
    pub mailbox: MailboxId,
    /// Where it is.
    pub address: Address,
}

/// Where one of our invites stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum InviteState {
    /// Can be used.
    Live,
    /// All uses are spent.
    Used,
    /// Its time is over.
    Expired,
    /// We took it back.
    Revoked,
}

/// One of our own invites.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Invite {
    /// Its id.
    pub id: InviteId,
    /// Its 16-byte secret, padded with zeros to 32.
    pub secret: Secret32,
    /// Seed of its own directory key pair.
    pub directory_seed: Secret32,
    /// When it was made.
    pub created: Wall,
    /// When it ends.
    pub expires: Wall,
    /// Uses left.
    pub uses: u32,
    /// Uses at the start.
    pub uses_total: u32,
    /// Where it stands; time is judged when read.
    pub state: InviteState,
    /// Accounts that used it, so that a repeated acceptance is answered again.
    pub used_by: Vec<AccountId>,
}

impl Contact {
    pub(super) fn key(&self) -> Key {
        Key::Contact(self.account)
    }

    /// The name to show: ours, else theirs, else the start of the account id.
    #[must_use]
    pub fn display_name(&self) -> String {
        match &self.own_name {
            Some(name) => name.clone(),
            None if !self.name.is_empty() => self.name.clone(),
            None => self.account.short(),
        }
    }
}

impl Owner {
    pub(super) fn key(&self) -> Key {
        Key::Owner(self.device)
    }
}

impl PeerDeviceList {
    pub(super) fn key(&self) -> Key {
        Key::DeviceList(self.account)
    }
}

impl Peer {
    pub(super) fn key(&self) -> Key {
        Key::Peer(self.device)
    }
}

impl Invite {
    pub(super) fn key(&self) -> Key {
        Key::Invite(self.id)
    }
}

//! Rows about relays: our own, what they were given, and what others' relays keep for us.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Key;
use crate::id::{Address, DeviceId, EnvelopeId, InviteId, MailboxId, RightId, SessionId};
use crate::secret::Secret32;
use crate::time::Wall;

/// Where one of our own relays stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RelayState {
    /// Configured; no mailbox was opened there yet.
    New,
    /// It keeps a mailbox for us.
    Open,
    /// It does not open a mailbox for us: the wire's reason number.
    Refused(u32),
    /// We gave it up: still emptied for a while, named to nobody.
    Leaving(Wall),
}

/// One of our own relays.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Relay {
    /// Its Ed25519 key.
    pub relay: DeviceId,
    /// Where it is.
    pub address: Address,
    /// Our mailbox there.
    pub mailbox: MailboxId,
    /// Which of this device's mailboxes at that relay it is.
    pub epoch: u32,
    /// The operator's token for a new mailbox; may be empty.
    pub token: Bytes,
    /// Where it stands.
    pub state: RelayState,
    /// When it was configured.
    pub added: Wall,
    /// Contacts and invites are told of it.
    pub named: bool,
    /// Id of the bundle it gives out.
    pub bundle: Option<u32>,
    /// What it holds for us, as it last said.
    pub holds: MailboxFigures,
    /// How it did.
    pub figures: RelayFigures,
    /// The right our canaries are deposited under.
    pub canary_right: Secret32,
    /// The canary out now.
    pub canary: Option<Canary>,
}

/// A mailbox as its relay last described it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailboxFigures {
    /// Envelopes stored.
    pub items: u64,
    /// Bytes stored.
    pub bytes: u64,
    /// Envelopes that may be stored.
    pub quota_items: u64,
    /// Bytes that may be stored.
    pub quota_bytes: u64,
    /// One-time keys left.
    pub one_time_keys: u64,
}

/// What was measured of a relay by this device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayFigures {
    /// Minutes it was connected while this device was up,
    pub up: u64,
    /// and minutes it was not.
    pub down: u64,
    /// Since when it has not been connected, if so.
    pub down_since: Option<Wall>,
    /// Milliseconds from deposit to signed custody, smoothed over the last canaries.
    pub latency: u32,
    /// Canaries it signed for and kept as promised.
    pub kept: u32,
    /// Envelopes it signed for and did not keep.
    pub broken: u32,
    /// When it last broke its word.
    pub broken_at: Option<Wall>,
}

/// An envelope of our own in our own mailbox, to see whether the relay keeps what it signs for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Canary {
    /// The envelope.
    pub envelope: EnvelopeId,
    /// When it was deposited.
    pub sent: Wall,
    /// The relay's receipt, once it is here.
    pub receipt: Option<Bytes>,
    /// It was found in the mailbox so often.
    pub seen: u32,
    /// When it is looked for next.
    pub due: Wall,
}

/// Whom a right is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum GrantOf {
    /// A contact's device.
    Peer(DeviceId),
    /// Whoever holds one of our invites.
    Invite(InviteId),
    /// Our own canaries.
    Canary,
}

/// How far a right has come to its relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum GrantState {
    /// To be registered.
    Wanted,
    /// The relay confirmed it.
    Registered,
    /// To be revoked; the row goes when the relay has confirmed that.
    Revoking,
}

/// A right at one of our own relays: the durable job of registering and revoking it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Grant {
    /// The relay.
    pub relay: DeviceId,
    /// The right, as the relay knows it.
    pub right: RightId,
    /// Its key there; needed until it is registered.
    pub key: Secret32,
    /// Whom it is for.
    pub of: GrantOf,
    /// How far it has come.
    pub state: GrantState,
    /// When it ends; `None`: it renews itself with each of our visits.
    pub expires: Option<Wall>,
}

/// The secret of a key that starts one session and no other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OneTimeKey {
    /// The X25519 public key, as relays give it out.
    pub public: [u8; 32],
    /// Its secret.
    pub secret: Secret32,
    /// The relay that gives it out.
    pub relay: DeviceId,
    /// When it was made.
    pub made: Wall,
}

/// A session as it was before a hole was stepped past, kept for what comes late.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionCopy {
    /// The other device.
    pub device: DeviceId,
    /// The session.
    pub session: SessionId,
    /// The first number of the hole.
    pub first: u64,
    /// Numbers still missing in it: (first, count), ascending, apart.
    pub missing: Vec<(u64, u64)>,
    /// The ratchet, in the crypto module's own saved form.
    pub state: Bytes,
    /// When the hole was stepped past.
    pub made: Wall,
}

/// Which relays keep the envelope of one job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Carriage {
    /// The recipient device.
    pub device: DeviceId,
    /// Place of the job in its queue.
    pub seq: u64,
    /// Relays the device named when the job was first handed to one; fixes how many make *Sent*.
    pub of: u32,
    /// What each relay said.
    pub custodians: Vec<Custodian>,
}

/// What one relay said of an envelope.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Custodian {
    /// The relay.
    pub relay: DeviceId,
    /// The envelope it spoke of.
    pub envelope: EnvelopeId,
    /// The right it was deposited under.
    pub right: RightId,
    /// Its signed receipt; empty if it only said that the owner collected the envelope.
    pub receipt: Bytes,
    /// When its custody ends, by our own clock.
    pub until: Wall,
}

impl Relay {
    pub(super) fn key(&self) -> Key {
        Key::Relay(self.relay)
    }
}

impl RelayFigures {
    /// Of 1,000 minutes, so many connected; `None` before there is anything to say.
    #[must_use]
    pub const fn uptime(&self) -> Option<u64> {
        self.up.saturating_mul(1000).checked_div(self.up.saturating_add(self.down))
    }
}

impl Grant {
    pub(super) fn key(&self) -> Key {
        Key::Grant(self.relay, self.right)
    }
}

impl OneTimeKey {
    pub(super) fn key(&self) -> Key {
        Key::OneTimeKey(self.public)
    }
}

impl SessionCopy {
    pub(super) fn key(&self) -> Key {
        Key::SessionCopy(self.device, self.session, self.first)
    }
}

impl Carriage {
    pub(super) fn key(&self) -> Key {
        Key::Carriage(self.device, self.seq)
    }

    /// Relays that signed for the envelope.
    #[must_use]
    pub fn have(&self) -> u32 {
        let signed = self.custodians.iter().filter(|custodian| !custodian.receipt.is_empty());
        u32::try_from(signed.count()).unwrap_or(u32::MAX)
    }

    /// Relays that must sign before the message counts as *Sent*: two, or one if the device names one only.
    #[must_use]
    pub fn needed(&self) -> u32 {
        self.of.clamp(1, 2)
    }
}

//! Rows about this device itself.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Key;
use crate::id::{AccountId, DeviceId};
use crate::secret::Secret32;
use crate::time::Wall;

/// This device and its account.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Own {
    /// The account.
    pub account: AccountId,
    /// The account's signing seed: on the first device only.
    pub account_seed: Option<Secret32>,
    /// This device.
    pub device: DeviceId,
    /// The device's signing seed; also its libp2p key.
    pub device_seed: Secret32,
    /// The secret of the device's X25519 identity key.
    pub identity_secret: Secret32,
    /// The device's certificate, as signed.
    pub certificate: Bytes,
    /// The account's newest device list, as signed.
    pub device_list: Bytes,
    /// Name shown to contacts.
    pub name: String,
    /// A line about the person, may be empty.
    pub about: String,
    /// Weekly directory key pairs are derived from it; known to own devices only.
    pub directory_seed: Secret32,
    /// Seals this account's directory records; contacts hold it.
    pub contact_key: Secret32,
    /// When the account was made here.
    pub created: Wall,
}

/// What the person chose.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Tell authors that their messages were read.
    pub read_receipts: bool,
    /// Tell contacts while typing.
    pub typing: bool,
}

/// The last instants seen, to notice a wall clock that jumped.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Clock {
    /// Latest wall clock that was believed.
    pub believed: Wall,
}

/// Numbers that only grow.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Counters {
    /// Cursor of the next API event.
    pub next_event: u64,
    /// Cursor of the oldest stored API event.
    pub first_event: u64,
    /// Id of the next prekey.
    pub next_prekey: u32,
    /// Sequence number of the next directory record.
    pub directory_seq: u64,
}

/// All contacts are being told anew about us, a stretch at a time, in the order of their accounts. The row is there while
/// that is so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Telling {
    /// Up to this account it is done.
    pub after: Option<AccountId>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { read_receipts: true, typing: true }
    }
}

impl Own {
    pub(super) fn key(&self) -> Key {
        Key::Own
    }
}

impl Settings {
    pub(super) fn key(&self) -> Key {
        Key::Settings
    }
}

impl Clock {
    pub(super) fn key(&self) -> Key {
        Key::Clock
    }
}

impl Counters {
    pub(super) fn key(&self) -> Key {
        Key::Counters
    }
}

impl Telling {
    pub(super) fn key(&self) -> Key {
        Key::Telling
    }
}

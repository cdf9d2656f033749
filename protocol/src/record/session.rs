//! Rows of the end-to-end encryption.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Key;
use crate::id::{DeviceId, EnvelopeId, SessionId};
use crate::secret::Secret32;
use crate::time::Wall;

/// A session with one device: the ratchet's saved state and our own counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// The other device.
    pub device: DeviceId,
    /// The session.
    pub id: SessionId,
    /// When it was started.
    pub started: Wall,
    /// We started it.
    pub initiator: bool,
    /// The ratchet, in the crypto module's own saved form.
    pub state: Bytes,
    /// Number of the next message we send in it.
    pub next_sent: u64,
    /// Number of the next message we expect in it; lower ones came or were stepped past.
    pub next_received: u64,
    /// The start, repeated on each message until the first answer.
    pub start: Option<Bytes>,
    /// A newer session has replaced it: receive only.
    pub retired: bool,
    /// The other side cannot open what was sealed in it: seal such envelopes anew.
    pub broken: bool,
}

/// One of our own prekey bundles with its secrets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prekey {
    /// The bundle's id.
    pub id: u32,
    /// The bundle, as signed.
    pub bundle: Bytes,
    /// The X25519 secret.
    pub secret: Secret32,
    /// The seed of the X-Wing key pair.
    pub kem_seed: Secret32,
    /// When the bundle was signed.
    pub issued: Wall,
    /// When senders stop using the bundle.
    pub expires: Wall,
}

/// A base key that has started a session with us: the same start is refused a second time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Replay {
    /// The initiator's base key.
    pub base_key: [u8; 32],
    /// When the prekey's secret is gone and with it the danger.
    pub until: Wall,
}

/// An envelope that was taken: a copy of it is dropped before it touches a ratchet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    /// The envelope.
    pub envelope: EnvelopeId,
    /// When this row may go.
    pub until: Wall,
}

impl Session {
    pub(super) fn key(&self) -> Key {
        Key::Session(self.device, self.id)
    }
}

impl Prekey {
    pub(super) fn key(&self) -> Key {
        Key::Prekey(self.id)
    }
}

impl Replay {
    pub(super) fn key(&self) -> Key {
        Key::Replay(self.base_key)
    }
}

impl Seen {
    pub(super) fn key(&self) -> Key {
        Key::Seen(self.envelope)
    }
}

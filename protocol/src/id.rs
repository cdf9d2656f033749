//! Identifiers: fixed-size, comparable, shown as lower-case hex.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Text or bytes that are not the identifier they should be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("this is no {what}: expected {expected} bytes, as {0} lower-case hex digits", expected * 2)]
pub struct ParseIdError {
    what: &'static str,
    expected: usize,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $len:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;

            /// The bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }

            /// The first eight hex digits, for people and logs.
            #[must_use]
            pub fn short(&self) -> String {
                data_encoding::HEXLOWER.encode(self.0.get(..4).unwrap_or_default())
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = ParseIdError;
            fn try_from(bytes: &[u8]) -> Result<Self, ParseIdError> {
                let bytes = bytes.try_into().map_err(|_| ParseIdError { what: $what, expected: $len })?;
                Ok(Self(bytes))
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                let error = ParseIdError { what: $what, expected: $len };
                if text.len() != $len * 2 {
                    return Err(error);
                }
                let bytes = data_encoding::HEXLOWER_PERMISSIVE.decode(text.as_bytes()).map_err(|_| error.clone())?;
                Ok(Self(bytes.try_into().map_err(|_| error)?))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.short())
            }
        }
    };
}

id!(
    /// A person: the account's Ed25519 public key.
    AccountId, 32, "account id"
);
id!(
    /// A device: its Ed25519 public key, which is also its libp2p identity.
    DeviceId, 32, "device id"
);
id!(
    /// A conversation. Direct: derived from both account keys; group: the hash of its create operation.
    ConversationId, 32, "conversation id"
);
id!(
    /// An entry: the BLAKE3 hash of its canonical bytes.
    EntryId, 32, "message id"
);
id!(
    /// One device's numbered sequence of entries in one conversation; random.
    StreamId, 16, "stream id"
);
id!(
    /// A session between two devices, derived from its start.
    SessionId, 16, "session id"
);
id!(
    /// The first 16 bytes of an envelope's BLAKE3 hash: what acknowledgements and duplicate checks name.
    EnvelopeId, 16, "envelope id"
);
id!(
    /// An invite, derived from its secret.
    InviteId, 8, "invite id"
);
id!(
    /// Chosen by the program that submits a message, so that submitting it again is harmless.
    ClientId, 16, "client id"
);
id!(
    /// Where a directory record is found: the SHA-256 hash of the record's public key.
    DirectoryKey, 32, "directory key"
);

id!(
    /// A mailbox at one relay: derived from the key it is read with, so that mailboxes of one device at two relays have
    /// nothing in common.
    MailboxId, 16, "mailbox id"
);
id!(
    /// A right to deposit in one mailbox, as the relay knows it.
    RightId, 16, "right id"
);

impl DeviceId {
    /// The libp2p name of this device, or `None` if the bytes are no Ed25519 point.
    #[must_use]
    pub fn peer_id(&self) -> Option<libp2p_identity::PeerId> {
        let key = libp2p_identity::ed25519::PublicKey::try_from_bytes(&self.0).ok()?;
        Some(libp2p_identity::PublicKey::from(key).to_peer_id())
    }

    /// The device behind a libp2p public key, if that is an Ed25519 key.
    #[must_use]
    pub fn from_public_key(key: &libp2p_identity::PublicKey) -> Option<Self> {
        key.clone().try_into_ed25519().ok().map(|key| Self(key.to_bytes()))
    }

    /// The device behind an Ed25519 `PeerId` (an identity multihash holds the key itself).
    #[must_use]
    pub fn from_peer_id(peer: &libp2p_identity::PeerId) -> Option<Self> {
        // identity multihash: 0x00, length 36, then the protobuf of the key: 08 01 12 20 ‖ 32 bytes
        let bytes = peer.to_bytes();
        let key = bytes.strip_prefix(&[0x00, 0x24, 0x08, 0x01, 0x12, 0x20])?;
        Self::try_from(key).ok()
    }
}

/// A network address: a binary multiaddr without its `/p2p` part. The network layer gives it meaning.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Address(Vec<u8>);

impl Address {
    /// Takes a binary multiaddr of at most [`limits::ADDRESS`](crate::limits::ADDRESS) bytes.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Option<Self> {
        (!bytes.is_empty() && bytes.len() <= crate::limits::ADDRESS).then_some(Self(bytes))
    }

    /// The binary multiaddr.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({})", data_encoding::HEXLOWER.encode(&self.0))
    }
}

//! A relay's first word.

use super::copy;
use crate::time::Wall;
use crate::wire::{WireError, exact, proto};

/// Who may open a mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AccessMode {
    /// Everybody.
    Open,
    /// Whoever brings a token of the operator.
    Token,
    /// Whom the operator has listed.
    AllowList,
    /// Nobody; mailboxes that are there can be emptied.
    Closed,
    /// A mode this version does not know.
    Other(u32),
}

impl AccessMode {
    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::Open => 1,
            Self::Token => 2,
            Self::AllowList => 3,
            Self::Closed => 4,
            Self::Other(number) => number,
        }
    }

    /// The mode behind a number.
    #[must_use]
    pub const fn from_number(number: u32) -> Self {
        match number {
            1 => Self::Open,
            2 => Self::Token,
            3 => Self::AllowList,
            4 => Self::Closed,
            other => Self::Other(other),
        }
    }
}

/// What a relay allows. An owner may set less for a right, never more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelayLimits {
    /// Bytes in one mailbox.
    pub mailbox_bytes: u64,
    /// Envelopes in one mailbox.
    pub mailbox_items: u64,
    /// Rights in one mailbox.
    pub rights: u64,
    /// Longest time an envelope is kept, in seconds.
    pub ttl: u64,
    /// Largest envelope, in bytes.
    pub envelope: u64,
}

/// The first frame of a relay on each link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelayHello {
    /// Highest protocol version the relay speaks.
    pub version: u32,
    /// Fresh for this link: what opens a mailbox is signed over it.
    pub nonce: [u8; 32],
    /// Who may open a mailbox.
    pub mode: AccessMode,
    /// The relay's wall clock.
    pub time: Wall,
    /// What it allows.
    pub limits: RelayLimits,
}

impl RelayHello {
    pub(in crate::wire) fn from_proto(hello: proto::RelayHello) -> Result<Self, WireError> {
        if hello.version == 0 {
            return Err(WireError::Field("the relay's protocol version"));
        }
        let limits = hello.limits.ok_or(WireError::Field("the relay's limits"))?;
        Ok(Self {
            version: hello.version,
            nonce: exact("the relay's nonce", &hello.nonce)?,
            mode: AccessMode::from_number(hello.mode),
            time: Wall(hello.time),
            limits: RelayLimits {
                mailbox_bytes: limits.mailbox_bytes,
                mailbox_items: limits.mailbox_items,
                rights: limits.rights,
                ttl: limits.ttl,
                envelope: limits.envelope,
            },
        })
    }

    pub(in crate::wire) fn to_proto(self) -> proto::RelayHello {
        proto::RelayHello {
            version: self.version,
            nonce: copy(&self.nonce),
            mode: self.mode.number(),
            time: self.time.0,
            limits: Some(proto::RelayLimits {
                mailbox_bytes: self.limits.mailbox_bytes,
                mailbox_items: self.limits.mailbox_items,
                rights: self.limits.rights,
                ttl: self.limits.ttl,
                envelope: self.limits.envelope,
            }),
        }
    }
}

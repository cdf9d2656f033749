//! What the operator has set.

use std::collections::BTreeSet;

use super::row::Usage;
use crate::crypto::envelope::SIZE_KINDS;
use crate::id::DeviceId;
use crate::limits;
use crate::wire::relay::{AccessMode, RelayLimits};

/// What a relay allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Who may open a mailbox.
    pub mode: AccessMode,
    /// Devices that may, in [`AccessMode::AllowList`].
    pub allowed: BTreeSet<DeviceId>,
    /// One mailbox's bound.
    pub mailbox: Usage,
    /// One right's bound, if its owner sets none or more; 0: no bound.
    pub right: Usage,
    /// One mailbox's bound by [kind of size](crate::crypto::envelope::size_kind); 0: no bound.
    pub kinds: [Usage; SIZE_KINDS],
    /// Rights of one mailbox, revoked ones that are remembered included.
    pub rights: u64,
    /// Remembered ids of one mailbox.
    pub tombstones: u64,
    /// Longest time an envelope is kept, in seconds.
    pub ttl: u64,
    /// Largest envelope, in bytes.
    pub envelope: u64,
    /// All envelopes of all mailboxes, in bytes; 0: no bound but the disk's.
    pub total_bytes: u64,
    /// All mailboxes; 0: no bound.
    pub mailboxes: u64,
    /// Mailboxes opened on one link.
    pub opened_per_link: usize,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            mode: AccessMode::Open,
            allowed: BTreeSet::new(),
            mailbox: Usage { bytes: 64 * 1024 * 1024, items: 50_000 },
            right: Usage::default(),
            kinds: [Usage::default(); SIZE_KINDS],
            rights: limits::MAILBOX_RIGHTS as u64,
            tombstones: 200_000,
            ttl: limits::MESSAGE_TTL / limits::SECOND,
            envelope: limits::ENVELOPE as u64,
            total_bytes: 0,
            mailboxes: 0,
            opened_per_link: 8,
        }
    }
}

impl Policy {
    /// What is told in the hello.
    #[must_use]
    pub const fn limits(&self) -> RelayLimits {
        RelayLimits {
            mailbox_bytes: self.mailbox.bytes,
            mailbox_items: self.mailbox.items,
            rights: self.rights,
            ttl: self.ttl,
            envelope: self.envelope,
        }
    }
}

/// How much the relay can still take; each level refuses what the one before refuses, and more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Load {
    /// Everything.
    #[default]
    Normal,
    /// No new mailboxes.
    High,
    /// No envelopes above 4 KiB, either.
    Heavy,
    /// No deposits, rights or bundles. Owners can empty their mailboxes.
    Critical,
}

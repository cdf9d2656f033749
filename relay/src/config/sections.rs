//! The sections of the file, with their defaults.

use kith_network::Circuits;
use kith_protocol::crypto::envelope::SIZE_KINDS;
use kith_protocol::limits;
use kith_protocol::mailbox::Policy;
use serde::{Deserialize, Serialize};

use super::{Bytes, StoreKind};

/// Circuits: connections between two others through this relay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CircuitsSection {
    /// Nodes that may be reached through this relay at a time; 0: no circuits at all.
    pub reservations: usize,
    /// Circuits at a time,
    pub total: usize,
    /// and of one node.
    pub per_peer: usize,
    /// Longest life of a circuit.
    pub minutes: u64,
    /// Most bytes in each direction of a circuit.
    pub bytes: Bytes,
}

/// Secure WebSocket.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebsocketSection {
    /// The certificate chain in PEM form; empty: no `/wss` addresses.
    pub certificate: String,
    /// Its key in PEM form.
    pub key: String,
}

/// Bounds of one mailbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MailboxSection {
    /// Bytes of envelopes.
    pub bytes: Bytes,
    /// Envelopes.
    pub items: u64,
    /// Bytes under one right; 0: no bound of its own.
    pub right_bytes: Bytes,
    /// Envelopes under one right; 0: no bound of its own.
    pub right_items: u64,
    /// Rights.
    pub rights: u64,
    /// Largest envelope.
    pub envelope: Bytes,
    /// Days an envelope is kept at most.
    pub days: u64,
    /// Ids of collected envelopes that are remembered.
    pub tombstones: u64,
    /// Envelopes by size: of 256, 512, 1024, 2048, 4096 B, up to 16 KiB, up to 64 KiB; 0: no bound of its own.
    pub items_by_size: [u64; SIZE_KINDS],
}

/// Bounds of all mailboxes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TotalSection {
    /// Bytes of envelopes; 0: no bound but the disk's.
    pub bytes: Bytes,
    /// Mailboxes; 0: no bound.
    pub mailboxes: u64,
    /// Free disk below which nothing new is taken.
    pub reserve: Bytes,
}

/// Where they are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreSection {
    /// Which store.
    pub kind: StoreKind,
    /// Memory it may use to cache.
    pub cache: Bytes,
}

/// Connections.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConnectionsSection {
    /// In all.
    pub total: usize,
    /// From one network (/24 or /48).
    pub per_network: usize,
    /// Of one peer.
    pub per_peer: usize,
    /// Memory of the process above which no new ones are let in.
    pub memory: Bytes,
}

impl Default for MailboxSection {
    fn default() -> Self {
        let policy = Policy::default();
        Self {
            bytes: Bytes(policy.mailbox.bytes),
            items: policy.mailbox.items,
            right_bytes: Bytes(policy.right.bytes),
            right_items: policy.right.items,
            rights: policy.rights,
            envelope: Bytes(policy.envelope),
            days: policy.ttl * limits::SECOND / limits::DAY,
            tombstones: policy.tombstones,
            items_by_size: [0; SIZE_KINDS],
        }
    }
}

impl Default for TotalSection {
    fn default() -> Self {
        Self { bytes: Bytes(0), mailboxes: 0, reserve: Bytes(512 * 1024 * 1024) }
    }
}

impl Default for StoreSection {
    fn default() -> Self {
        Self { kind: StoreKind::Redb, cache: Bytes(128 * 1024 * 1024) }
    }
}

impl Default for ConnectionsSection {
    fn default() -> Self {
        Self { total: 20_000, per_network: 2_000, per_peer: 4, memory: Bytes(4 * 1024 * 1024 * 1024) }
    }
}

impl Default for CircuitsSection {
    fn default() -> Self {
        let circuits = Circuits::default();
        Self {
            reservations: circuits.reservations,
            total: circuits.circuits,
            per_peer: circuits.per_peer,
            minutes: circuits.seconds / 60,
            bytes: Bytes(circuits.bytes),
        }
    }
}

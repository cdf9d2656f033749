//! What the network tells its owner.

use bytes::Bytes;
use kith_protocol::engine::LinkId;
use kith_protocol::{Address, DeviceId, DirectoryKey};

pub use crate::gate::Network as Origin;

/// Something that happened. `Connected`, the link's `Frame`s and `Disconnected` come in that order for each link, and
/// a device never has two links at once.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A link to a device is usable in both directions.
    Connected {
        /// The device, proven by the handshake.
        peer: DeviceId,
        /// The link, never used before in this process.
        link: LinkId,
        /// Where we reached it, if we dialled.
        address: Option<Address>,
        /// The network it comes from.
        origin: Origin,
    },
    /// A link is gone; what was not acknowledged may be lost.
    Disconnected {
        /// The device.
        peer: DeviceId,
        /// The link.
        link: LinkId,
    },
    /// A frame arrived.
    Frame {
        /// From this device,
        peer: DeviceId,
        /// over this link.
        link: LinkId,
        /// 1 to [`limits::FRAME`](kith_protocol::limits::FRAME) bytes.
        bytes: Bytes,
    },
    /// What [`Network::dial`](crate::Network::dial) asked for did not come about. Once for all calls that were joined.
    DialFailed {
        /// The device.
        peer: DeviceId,
    },
    /// A device announced itself on the local network.
    Discovered {
        /// The device.
        peer: DeviceId,
        /// Where, at most [`limits::ADDRESSES`](kith_protocol::limits::ADDRESSES).
        addresses: Vec<Address>,
    },
    /// The addresses to give to contacts, widest reach first; replaces the earlier ones.
    Addresses(Vec<Address>),
    /// A valid directory record; a newer one may follow before the search ends.
    Found {
        /// Asked for under this key.
        key: DirectoryKey,
        /// The record.
        record: Bytes,
    },
    /// A search is over, whatever it found.
    FindEnded {
        /// The key.
        key: DirectoryKey,
    },
    /// A publication was read back from another node, or was not.
    Provided {
        /// The key.
        key: DirectoryKey,
        /// It was read back.
        stored: bool,
    },
    /// A first directory node answered: publishing and searching make sense now.
    DirectoryReady,
    /// The addresses we listen on, with the ports the system chose; replaces the earlier ones.
    Listening(Vec<String>),
}

/// Whether others can reach this node from anywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reachability {
    /// Nobody has tried yet.
    #[default]
    Unknown,
    /// Those who tried could not.
    Private,
    /// Another node dialled back, or the configuration says so.
    Public,
}

/// How the node does, as of now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// The libp2p name of this device.
    pub peer_id: String,
    /// The addresses we listen on.
    pub listening: Vec<String>,
    /// Each listener has said where it listens, or has given up.
    pub listening_everywhere: bool,
    /// What to give as [`Options::listen`](crate::Options::listen) next time to get the same ports.
    pub listen_again: Vec<String>,
    /// The addresses given to contacts.
    pub external: Vec<String>,
    /// Connected nodes.
    pub peers: usize,
    /// Held links.
    pub links: usize,
    /// Whether others can reach this node.
    pub reachability: Reachability,
    /// Whether this node stores directory records for others.
    pub directory_server: bool,
    /// Directory nodes known.
    pub directory_peers: usize,
    /// Directory records stored here.
    pub directory_records: usize,
    /// Bytes of frames that peers have not taken yet.
    pub queued_bytes: usize,
    /// Bytes received in streams, before encryption.
    pub bytes_in: u64,
    /// Bytes sent in streams, before encryption.
    pub bytes_out: u64,
    /// What was turned away.
    pub counters: Counters,
}

/// What was turned away since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Handshakes that failed or took too long.
    pub handshakes_failed: u64,
    /// Handshakes dropped because too many from one place were under way.
    pub handshakes_evicted: u64,
    /// Connections refused or closed for a refused or banned device, or over a limit.
    pub connections_refused: u64,
    /// Idle strangers closed to make room.
    pub connections_evicted: u64,
    /// Violations of the link protocol.
    pub violations: u64,
    /// Directory records not stored.
    pub records_rejected: u64,
    /// Dials to addresses out of scope.
    pub dials_filtered: u64,
    /// Nodes that made themselves reachable through this one.
    pub reservations: u64,
    /// Circuits between two others that came about.
    pub circuits: u64,
    /// Reservations and circuits refused or failed.
    pub circuits_refused: u64,
}
